"""One call from missing runs to a report: what is kept, what fails, what is said, exit codes."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_run
from tiny_notebooks import DRAW, write_notebook

from memnb import paths
from memnb.config import run_config
from memnb.errors import MemnbError, RunError
from memnb.evidence import benchmarks
from memnb.operations import forward_operations
from memnb.reproduce import cost, manifest, plan, workflow
from memnb.reproduce.progress import Display
from memnb.reproduce.workers import Ended, Stop
from memnb.reproduce.workflow import Result, reproduce
from memnb.tasks import catalogue, prepared

ENTRY = """
[[artefact]]
id = "{id}"
title = "About {id}"
see = "See {id}."
notebook = "{id}.ipynb"
sets = ["table"]
outputs = ["{id}.csv"]
timeout = 30
"""
COUNT = """
with (Path(out) / "executions.txt").open("a") as file:
    file.write("{id}\\n")
"""


class Project:
    """A manifest of tiny notebooks, two quick runs, and a pretended training."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "notebooks"
        self.out = folder / "out {put} ü"
        self.stored = folder / "assets" / "data" / "results"
        self.monkeypatch = monkeypatch
        self.shown = io.StringIO()
        self.ids: list[str] = []
        self.stored.mkdir(parents=True)
        monkeypatch.setattr(paths, "assets", lambda: folder / "assets")
        # Otherwise what other tests put into the data folder would make notebooks stale.
        monkeypatch.setenv("MEMNB_DATA", str(folder / "memnb data"))
        # Otherwise an edit of the code while the tests run would make notebooks stale.
        self.code = "as it is"
        monkeypatch.setattr(workflow, "_digest_of_code", lambda: self.code)
        monkeypatch.setattr(plan, "QUICK_MODELS", ("luna-1", "convluna-1"))
        monkeypatch.setattr(plan, "QUICK_SEEDS", (0,))

    def add(self, id_: str, *cells: str) -> None:
        """An artefact whose notebook writes its table, then runs ``cells``."""
        self.ids.append(id_)
        draw = DRAW.replace("tiny", id_) + COUNT.format(id=id_)
        write_notebook(self.folder / f"{id_}.ipynb", draw, *cells)
        text = "".join(ENTRY.format(id=each) for each in self.ids)
        (self.folder / "manifest.toml").write_text(text)

    def __call__(
        self, preset: str = "quick", *only: str, what: dict[str, str] | None = None, **more: Any
    ) -> Result:
        self.monkeypatch.setenv("PRETEND", json.dumps(what or {}))
        self.shown = io.StringIO()
        return reproduce(
            preset,
            only,
            self.out,
            # One worker at a time, unless a test asks for more: each takes a second to start.
            jobs=more.pop("jobs", 1),
            display=Display(self.shown),
            source=manifest.load(self.folder / "manifest.toml"),
            function="pretend_training:train",
            **more,
        )

    def stale(self, preset: str = "quick") -> bool:
        """Whether the first artefact would be executed again."""
        source = manifest.load(self.folder / "manifest.toml")
        call = workflow._Call(source, preset, self.out, Display(self.shown), Stop())
        return bool(call.stale(source.artefacts))

    def executions(self) -> list[str]:
        path = self.out / "executions.txt"
        return sorted(path.read_text().split()) if path.exists() else []

    def html(self) -> str:
        return (self.out / "report" / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_everything_is_done_once_and_the_report_shows_it(project: Project) -> None:
    project.add("first")
    project.add("second")
    result = project(jobs=2)
    assert result.exit_code == 0
    assert result.report == project.out / "report" / "index.html"
    assert project.executions() == ["first", "second"]
    assert len(list((project.out / "runs").glob("*/run.json"))) == 2
    html = project.html()
    assert "About first" in html
    assert "About second" in html
    assert "<td>luna</td><td>1.0</td>" in html
    assert (project.out / "report" / "notebooks" / "first.ipynb").is_file()

    again = project()
    assert again.exit_code == 0
    assert project.executions() == ["first", "second"]
    assert all(
        len(path.read_text().splitlines()) == 1
        for path in (project.out / "runs").glob("*/calls.txt")
    )
    assert "2 of 2 are up to date and kept" in project.shown.getvalue()
    assert "<td>luna</td><td>1.0</td>" in project.html()


def test_whatever_changes_what_a_notebook_shows_makes_it_stale(project: Project) -> None:
    project.add("first")
    data = prepared.file("text")
    data.parent.mkdir(parents=True)
    data.write_bytes(b"reviews")
    project("quick")
    runs, report = project.out / "runs", project.out / "report"
    assert not project.stale()
    write_run(runs, "luna-16", training_changes={"steps": 7})  # a custom run: on no page
    write_run(runs, "luna-256", outcome="running")
    assert not project.stale()

    write_run(runs, "luna-4")
    assert project.stale()
    project("quick")
    assert project.executions() == ["first", "first"]
    assert not project.stale()

    for changed in (
        next(runs.glob("*-luna-4-*/metrics.jsonl")),
        project.folder / "first.ipynb",
        report / "tables" / "first.md",
        report / "notebooks" / "first.ipynb",
        report / "steps" / "first.json",
    ):
        before = changed.read_bytes()
        changed.write_bytes(before.replace(b"1", b"2") + b"\n")
        assert project.stale(), changed
        changed.write_bytes(before)
        assert not project.stale(), changed
    for needed in (report / "notebooks" / "first.ipynb", report / "tables" / "first.csv"):
        before = needed.read_bytes()
        needed.unlink()
        assert project.stale(), needed
        needed.write_bytes(before)
    for added in (
        benchmarks.stored(),
        benchmarks.file(project.out),
        prepared.file("image"),
        catalogue.status("listops").path,
        paths.notebooks() / "manifest.toml",
    ):
        added.parent.mkdir(parents=True, exist_ok=True)
        added.write_bytes(b"more")
        assert project.stale(), added
        added.unlink()
        assert not project.stale(), added
    imported = data.stat().st_mtime_ns
    os.utime(data, ns=(0, 0))  # other data of the same size
    assert project.stale()
    os.utime(data, ns=(imported, imported))
    (data.parent.parent / "listops-short-0123456789.npz").touch()  # made while a notebook runs
    assert not project.stale()
    assert project.stale("stored")  # other parameters
    project.code = "edited"
    assert project.stale()


def test_the_tests_of_a_checkout_count_as_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    (tmp_path / "tests").mkdir()
    found = [workflow._digest_of_code()]
    for source in ("assert True", "assert 1"):
        (tmp_path / "tests" / "test_it.py").write_text(source)
        found.append(workflow._digest_of_code())
    assert len(set(found)) == 3
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert workflow._digest_of_code() == found[0]


@pytest.mark.parametrize("content", ["", "[]", "[" * 10**5, '{"outcome": 1}'], ids=len)
def test_damaged_records_and_steps_stop_no_call(project: Project, content: str) -> None:
    project.add("first")
    before = workflow._digest_of_inputs("quick", project.out)
    for path in ("runs/luna-1/run.json", "report/steps/first.json"):
        (project.out / path).parent.mkdir(parents=True)
        (project.out / path).write_text(content)
    assert project.stale()
    assert workflow._digest_of_inputs("quick", project.out) != before, "a page names the damage"


def test_data_that_nobody_can_find_stop_no_call(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> Path:
        raise MemnbError("There is no home folder.")

    monkeypatch.setattr(paths, "data_cache", refused)
    project.add("first")
    assert project("stored").exit_code == 0
    assert not project.stale("stored")


def test_a_failing_notebook_is_named_and_the_others_are_executed(project: Project) -> None:
    project.add("first", "raise ValueError('<b>no</b>')")
    project.add("second")
    project.add("third", "import sys; sys.exit(0)")
    result = project(jobs=2)
    assert result.exit_code == 1
    assert "first.ipynb: cell [4] raised ValueError: <b>no</b>" in result.failures
    assert any("third.ipynb ended early" in failure for failure in result.failures)
    html = project.html()
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in html
    assert "<b>no</b>" not in html
    assert html.count("<td>luna</td>") == 1  # second's table, none of the failed ones
    # A failure is tried again, what went well is kept.
    project()
    assert project.executions() == ["first", "first", "second", "third", "third"]


def test_a_run_that_another_process_trains_is_named_as_such(project: Project) -> None:
    project.add("first")
    result = project(what={"luna-1 s0": "in use"})
    assert result.exit_code == 1
    assert any("Another process trains this run" in failure for failure in result.failures)
    assert project(what={}).exit_code == 0


def test_a_failing_run_is_named_and_everything_else_is_done(project: Project) -> None:
    project.add("first")
    result = project(what={"luna-1 s0": "nan"})
    assert result.exit_code == 1
    assert any("The loss is not a number." in failure for failure in result.failures)
    assert "The loss is not a number." in project.html()
    assert project.executions() == ["first"]
    # It is a result, and stays one: neither trained again nor forgotten.
    assert project().exit_code == 1
    calls = [len(path.read_text().splitlines()) for path in project.out.glob("runs/*/calls.txt")]
    assert calls == [1, 1]


def test_only_some_artefacts(project: Project) -> None:
    project.add("first", "1 / 0")
    project.add("second")
    assert project("stored", "second").exit_code == 0
    assert project.executions() == ["second"]
    assert "memnb reproduce --preset stored --only first" in project.html()
    assert project("stored", "first").exit_code == 1
    # The failure of another call's artefact stands in the report, but is not this call's.
    assert project("stored", "second").exit_code == 0
    assert "ZeroDivisionError" in project.html()
    # What somebody removed since is not shown, and not missed.
    (project.out / "report" / "tables" / "second.md").unlink()
    project("stored", "first")
    assert "--only second" in project.html()


def test_what_no_notebook_makes_any_more_leaves_the_report_and_nothing_else_does(
    project: Project,
) -> None:
    project.add("first")
    project.add("second")
    assert project("stored").exit_code == 0
    report = project.out / "report"
    (report / "tables" / "mine.csv").write_text("a file of somebody's own")
    (report / "tables" / "first.md").write_text("changed by somebody")
    # The notebook of the first artefact writes a table of another name, the second is given up.
    write_notebook(project.folder / "first.ipynb", DRAW.replace("tiny", "other"))
    entry = ENTRY.format(id="first").replace("first.csv", "other.csv")
    (project.folder / "manifest.toml").write_text(entry)
    assert project("stored").exit_code == 0
    gone = {"tables/first.csv", "tables/second.csv", "tables/second.md", "notebooks/second.ipynb"}
    (said,) = (line for line in project.shown.getvalue().splitlines() if "Removed" in line)
    assert {word.strip(",.") for word in said.split() if "/" in word} == gone
    there = {path.name for path in (report / "tables").iterdir()}
    assert there == {"other.csv", "other.md", "mine.csv", "first.md"}
    assert [path.name for path in (report / "notebooks").iterdir()] == ["first.ipynb"]
    assert [path.name for path in (report / "steps").iterdir()] == ["first.json"]
    assert project("stored").exit_code == 0
    assert "Removed" not in project.shown.getvalue()


def test_stored_trains_nothing(project: Project) -> None:
    project.add("first")
    assert project("stored").exit_code == 0
    assert not (project.out / "runs").exists()
    assert "Training" not in project.shown.getvalue()


def test_mistakes_are_refused_before_anything_is_written(project: Project) -> None:
    project.add("first")
    with pytest.raises(MemnbError, match="preset named 'quik'; did you mean 'quick'"):
        project("quik")
    with pytest.raises(MemnbError, match="artefact named 'frst'; did you mean 'first'"):
        project("quick", "frst")
    assert not project.out.exists()


def test_an_output_folder_that_cannot_be_written_is_one_sentence(project: Project) -> None:
    project.add("first")
    project.out.write_text("a file where a folder should be")
    with pytest.raises(RunError, match=r"Cannot write .*choose another folder with --out"):
        project("stored")


def test_two_calls_on_one_report(project: Project) -> None:
    import filelock

    project.add("first")
    report = project.out / "report"
    report.mkdir(parents=True)
    with (
        filelock.FileLock(report / "reproduce.lock"),
        pytest.raises(RunError, match="Another 'memnb reproduce' is at work"),
    ):
        project("stored")
    assert project("stored").exit_code == 0


def test_a_folder_that_cannot_be_locked_is_one_sentence(project: Project) -> None:
    import filelock

    def refused(*_: Any, **__: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    project.add("first")
    project.monkeypatch.setattr(filelock.FileLock, "_acquire", refused)
    with pytest.raises(RunError, match=r"cannot lock files.*another folder with --out"):
        project("stored")


def test_a_stop_while_training_executes_nothing_and_can_go_on(project: Project) -> None:
    project.add("first")
    stop = Stop()

    class Watch(Display):
        def update(self, text: str, fraction: float) -> None:
            if list(project.out.glob("runs/*/waiting")):
                stop.signal = signal.SIGINT

    source = manifest.load(project.folder / "manifest.toml")
    project.monkeypatch.setenv("PRETEND", json.dumps({"luna-1 s0": "wait"}))
    result = reproduce(
        "quick",
        out=project.out,
        jobs=2,
        display=Watch(project.shown),
        stop=stop,
        source=source,
        function="pretend_training:train",
    )
    assert result.exit_code == 130
    assert result.report is None
    assert project.executions() == []
    assert "the same command goes on" in project.shown.getvalue()
    assert project().exit_code == 0


def test_paper_says_what_it_will_do_and_what_it_costs_before_it_starts(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PAPER_MODELS", ("luna-1", "transformer"))
    monkeypatch.setattr(plan, "PAPER_TASKS", ("text", "listops"))
    monkeypatch.setattr(plan, "SEEDS", (0,))
    project.add("first")
    write_run(project.stored, "luna-1", "text")
    assert project("paper").exit_code == 0
    shown = project.shown.getvalue()
    begin = shown[: shown.index("[1/4]")]
    assert "4 runs, 0 of them ended before, 4 to do" in begin
    assert "Text: 2 runs under the full protocol" in begin
    assert "Cost: 4 runs, one after the other" in begin
    assert "on one CPU core (1 measured, 3 scaled)" in begin
    assert "Ctrl-C" in begin


def test_cost_is_counted_from_the_matrix_products() -> None:
    run = run_config("transformer", "listops")
    model, length = run.model, 2000
    by_hand = model.blocks * (
        2 * 4 * length * model.width**2  # q, k, v, output
        + 2 * 2 * length**2 * model.width  # scores, weighted sum
        + 2 * 2 * length * model.width * model.mlp
    )
    assert forward_operations(model, length) == by_hand
    assert cost.operations_of(run) == by_hand * (3 * 50_000 * 32 + 250 * 2_000)
    small, large = (run_config(f"luna-{m}", "text") for m in (1, 256))
    assert cost.operations_of(small) < cost.operations_of(large)


# Its workers import this file too, as they do the command's: they need none of this.
MAIN = """
import sys
from pathlib import Path

if __name__ == "__main__":
    from memnb import paths
    from memnb.reproduce import manifest, plan, workflow
    from memnb.reproduce.workers import stop_on_signals
    from memnb.reproduce.workflow import reproduce

    folder, out = map(Path, sys.argv[1:])
    paths.assets = lambda: folder.parent / "assets"
    plan.QUICK_MODELS, plan.QUICK_SEEDS = ("luna-1", "convluna-1"), (0,)
    workflow._digest_of_code = lambda: "as it is"
    with stop_on_signals() as stop:
        result = reproduce(
            "quick", out=out, jobs=1, stop=stop,
            source=manifest.load(folder / "manifest.toml"), function="pretend_training:train",
        )
    sys.exit(result.exit_code)
"""


@pytest.fixture
def call(project: Project, tmp_path: Path) -> Any:
    """Start the reproduction in a process of its own, to be hit by signals."""
    script = tmp_path / "call.py"
    script.write_text(MAIN)
    root = Path(__file__).parents[1]

    def start(**what: str) -> subprocess.Popen[str]:
        pretend = {
            name.replace("_", "-", 1).replace("_", " "): value for name, value in what.items()
        }
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
            "PRETEND": json.dumps(pretend),
            "CI": "1",
        }
        return subprocess.Popen(
            [sys.executable, script, project.folder, project.out],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def wait_for(pattern: str, folder: Path, seconds: float = 60) -> None:
    start = time.monotonic()
    while not list(folder.glob(pattern)):
        assert time.monotonic() - start < seconds, f"no {pattern}"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_leaves_everything_resumable(
    project: Project, call: Any, number: int, code: int
) -> None:
    project.add("first")
    process = call(luna_1_s0="wait")
    wait_for("runs/*/waiting", project.out)
    os.killpg(process.pid, number)  # as a terminal's Ctrl-C, or Slurm, does
    _, shown = process.communicate(timeout=30)
    assert process.returncode == code, shown
    assert "Traceback" not in shown
    assert "the same command goes on" in shown
    assert project().exit_code == 0


def test_a_script_without_a_guard_is_told_of_it(
    project: Project, call: Any, tmp_path: Path
) -> None:
    project.add("first")
    (tmp_path / "call.py").write_text(MAIN.replace('if __name__ == "__main__":', "if True:"))
    process = call()
    _, shown = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "below 'if __name__ == \"__main__\":'" in shown.splitlines()[-1]


def test_the_time_left_counts_what_is_being_executed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "third", "fourth"):
        project.add(name)
    source = manifest.load(project.folder / "manifest.toml")
    now, shown = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    display = Display(project.shown)
    monkeypatch.setattr(display, "update", lambda text, fraction: shown.append((text, fraction)))
    watch = workflow._NotebookWatch(source.artefacts, 2, display)
    watch.show()
    for name, seconds in (("first", 10.0), ("second", 12.0)):  # both began at once
        now[0] = seconds
        watch.end(Ended(name, seconds=seconds))
        watch.show()
    now[0] = 30.0
    watch.show()
    assert shown == [
        ("notebooks, 0 of 4 done", 0.0),
        ("notebooks, 1 of 4 done, about 10 s left", 0.25),
        ("notebooks, 2 of 4 done, about 10 s left", 0.5),
        ("notebooks, 2 of 4 done, about 0 s left", 0.5),
    ]


def test_ctrl_c_while_a_notebook_runs(
    project: Project, call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    project.add(
        "first", "import os; Path(out, 'kernel.txt').write_text(str(os.getpid()))\nwhile True: pass"
    )
    process = call()
    wait_for("kernel.txt", project.out)
    os.killpg(process.pid, signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    assert list((tmp_path / "temporary").iterdir()) == []
    kernel = int((project.out / "kernel.txt").read_text())
    start = time.monotonic()
    while Path(f"/proc/{kernel}").exists():
        assert time.monotonic() - start < 20
        time.sleep(0.1)


def test_killed_outright_the_next_call_repeats_nothing_that_was_finished(
    project: Project, call: Any
) -> None:
    project.add("first")
    project.add("second", "import time; Path(out, 'second.txt').touch(); time.sleep(1)")
    process = call()
    wait_for("second.txt", project.out)
    process.kill()
    process.communicate()
    assert project().exit_code == 0
    # One job at a time, in order: the first notebook was finished, the second cut off.
    assert project.executions().count("first") == 1
    assert all(
        len(path.read_text().splitlines()) == 1
        for path in (project.out / "runs").glob("*/calls.txt")
    )
