"""A pytest plugin: run the tests of the guarantees and keep how they end (``make guarantees``)."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import pytest

from memnb.evidence import guarantees

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--guarantees",
        metavar="FILE",
        help="run only the tests that data/reference/guarantees.toml names; keep outcomes in FILE",
    )


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--guarantees")
    if file:
        config.pluginmanager.register(Recorder(Path(file), config))


class Recorder:
    """Deselects all other tests, and writes the outcomes when the session ends."""

    def __init__(self, file: Path, config: pytest.Config) -> None:
        self.file = file
        # With pytest-xdist every worker selects, and only their controller hears of all outcomes.
        self.writes = not hasattr(config, "workerinput")
        self.tests = {test for tests in guarantees.promises().values() for test in tests}
        # Of the code and the tests as they are now: a file may be changed while they run.
        self.commit = _commit() if self.writes else None
        self.digests = {test: guarantees.digest_of_test(ROOT, test) for test in self.tests}
        self.reports: dict[str, list[pytest.TestReport]] = {}

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        chosen = [item for item in items if _test(item.nodeid) in self.tests]
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.setdefault(report.nodeid, []).append(report)

    def pytest_sessionfinish(self) -> None:
        if not self.writes:
            return
        outcomes = guarantees.record(self.file)
        for test in self.tests:
            cases = [each for nodeid, each in self.reports.items() if _test(nodeid) == test]
            new = summary(self.digests[test], cases, self.commit)
            # Where a test cannot run, the outcome that it had elsewhere stays.
            if new is not None and (new.outcome != "skipped" or test not in outcomes):
                outcomes[test] = new
        self.file.write_text(guarantees.as_text(outcomes), encoding="utf-8")


def _test(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def _commit() -> str | None:
    from memnb.train.record import commit_of_checkout

    return os.environ.get("MEMNB_COMMIT") or commit_of_checkout()


def summary(
    digest: str | None, cases: list[list[pytest.TestReport]], commit: str | None = None
) -> guarantees.Outcome | None:
    """The outcome of all cases of a test; each case has a report for its setup, call, teardown."""
    if not cases or digest is None:
        return None
    import torch

    from memnb import __version__
    from memnb.train.device import processor_name

    failed = any(report.failed for case in cases for report in case)
    skips = [report for case in cases for report in case if report.skipped]
    everything = len(skips) == len(cases)
    reason = ""
    if skips and isinstance(skips[0].longrepr, tuple):
        reason = str(skips[0].longrepr[2]).removeprefix("Skipped: ")
    cuda = torch.cuda.is_available()
    return guarantees.Outcome(
        outcome="failed" if failed else "skipped" if everything else "passed",
        cases=len(cases),
        skipped=len(skips),
        reason=reason,
        seconds=round(sum(report.duration for case in cases for report in case), 1),
        digest=digest,
        when=datetime.now(UTC).strftime("%Y-%m-%d"),
        version=__version__,
        commit=commit,
        python=platform.python_version(),
        torch=str(torch.__version__),
        device=torch.cuda.get_device_name() if cuda else processor_name(),
    )
