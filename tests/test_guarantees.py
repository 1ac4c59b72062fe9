"""The page of guarantees names real tests, and an outcome is never invented."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import guarantee_record
import pytest

from memnb import paths
from memnb.draw import tables
from memnb.errors import DataError
from memnb.evidence import guarantees

ROOT = Path(__file__).parents[1]
TEST = "tests/test_guarantees.py::test_every_promise_is_held_by_a_test_that_is_there"


def test_every_promise_is_held_by_a_test_that_is_there() -> None:
    promises = guarantees.promises()
    assert len(promises) >= 15
    for promise, tests in promises.items():
        assert tests, promise
        for test in tests:
            assert guarantees.digest_of_test(ROOT, test) is not None, test


def test_the_committed_outcomes_are_of_tests_that_are_promised() -> None:
    named = {test for tests in guarantees.promises().values() for test in tests}
    assert set(guarantees.record()) <= named


def outcome(**changes: Any) -> guarantees.Outcome:
    values = {
        "outcome": "passed", "cases": 1, "seconds": 1.0, "when": "2026-01-01", "version": "0.1.0",
        "digest": guarantees.digest_of_test(ROOT, TEST), "commit": "abc", "python": "3.11",
        "torch": "2.13.0", "device": "a processor",
    }  # fmt: skip
    return guarantees.Outcome.model_validate(values | changes)


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reference folder with one promise, of one test, and no outcome."""
    folder = tmp_path / "data" / "reference"
    folder.mkdir(parents=True)
    text = f'[[guarantee]]\npromise = "It is so."\ntests = ["{TEST}"]\n'
    (folder / "guarantees.toml").write_text(text)
    monkeypatch.setattr(paths, "assets", lambda: tmp_path)
    return folder


def test_without_a_record_the_page_says_so(reference: Path) -> None:
    frame = guarantees.load()
    assert frame["outcome"].tolist() == [guarantees.NO_OUTCOME]
    shown = tables.guarantees(frame)
    assert shown.iloc[0].tolist() == [
        "It is so.", TEST.removeprefix("tests/"), guarantees.NO_OUTCOME, "–",
    ]  # fmt: skip


def test_an_outcome_counts_for_the_test_as_it_is(reference: Path) -> None:
    file = reference / "guarantees.json"
    file.write_text(guarantees.as_text({TEST: outcome(cases=3, skipped=1)}))
    frame = guarantees.load()
    assert frame["outcome"].tolist() == ["passed (3 cases, 1 of them skipped)"]
    assert "2026-01-01, abc, torch 2.13.0, a processor" in tables.guarantees(frame).to_string()
    file.write_text(guarantees.as_text({TEST: outcome(digest="of another form")}))
    assert guarantees.load()["outcome"].tolist() == [guarantees.CHANGED]
    assert guarantees.load()["when"].isna().all()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 2}', '{"format": 1, "tests": {"a": {}}}']
)
def test_a_damaged_record_is_one_sentence(reference: Path, content: str) -> None:
    (reference / "guarantees.json").write_text(content)
    with pytest.raises(DataError, match=r"guarantees\.json is damaged") as caught:
        guarantees.load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[", "guarantee = 3", "[[guarantee]]\npromise = 'x'"])
def test_damaged_promises_are_one_sentence(reference: Path, content: str) -> None:
    (reference / "guarantees.toml").write_text(content)
    with pytest.raises(DataError, match=r"guarantees\.toml is damaged"):
        guarantees.load()


def report(outcome: str, when: str = "call", longrepr: Any = None) -> Any:
    return SimpleNamespace(
        failed=outcome == "failed", skipped=outcome == "skipped", duration=0.5, longrepr=longrepr
    )


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ([["passed"] * 3], "passed"),
        ([["passed"] * 3, ["passed", "failed", "passed"]], "failed (2 cases)"),
        ([["passed", "passed", "failed"]], "failed"),  # in its teardown
        ([["skipped", "passed"]], "skipped: needs a CUDA device"),
        ([["skipped", "passed"], ["passed"] * 3], "passed (2 cases, 1 of them skipped)"),
        ([], None),
    ],
)
def test_one_failing_case_is_a_failure(cases: list[list[str]], expected: str | None) -> None:
    why = ("file", 3, "Skipped: needs a CUDA device")
    reports = [[report(each, longrepr=why) for each in case] for case in cases]
    found = guarantee_record.summary("a digest", reports)
    assert (None if found is None else str(found)) == expected


def test_a_skip_does_not_take_the_place_of_an_outcome_from_elsewhere(
    reference: Path, tmp_path: Path
) -> None:
    file = tmp_path / "outcomes.json"
    config: Any = SimpleNamespace()
    why = ("file", 3, "Skipped: needs a CUDA device")

    def ends(outcome: str) -> str:
        recorder = guarantee_record.Recorder(file, config)
        recorder.reports = {TEST: [report(outcome, longrepr=why)]}
        recorder.pytest_sessionfinish()
        return str(guarantees.record(file)[TEST])

    assert ends("skipped") == "skipped: needs a CUDA device"
    assert ends("passed") == "passed"
    assert ends("skipped") == "passed"
    assert ends("failed") == "failed"
    assert json.loads(file.read_text())["format"] == guarantees.FORMAT
