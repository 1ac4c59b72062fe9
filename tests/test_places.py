"""Any place and any user: read-only checkouts, odd paths, no home, two users, hostile files."""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import killed
import pytest
from made_up_runs import amend, write_run
from test_kills import tiny

import memnb
from memnb import cli, logs, paths, runs
from memnb.errors import DataError, MemnbError, RunError
from memnb.train import loop
from memnb.train.checkpoint import to_bytes

ROOT = Path(__file__).parents[1]
NOBODY = 65_534


def somebody() -> int:
    """The number of a user without special rights: this one, or for root somebody else."""
    return NOBODY if os.getuid() == 0 else os.getuid()


@pytest.fixture
def for_all() -> Iterator[Path]:
    """A folder that every user can reach and write to; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="memnb-test-") as folder:
        os.chmod(folder, 0o755)
        shared = Path(folder) / "for all"
        shared.mkdir()
        shared.chmod(0o777)
        yield shared


def run_here(folder: Path, variables: dict[str, str | None], *words: str) -> None:
    """In a child: ``memnb`` with other environment variables, in another working directory."""
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    os.chdir(folder)
    killed.command(*words)


def as_checkout(checkout: Path, *arguments: Any) -> None:
    """In a child: as if memnb had been imported from ``checkout``."""
    paths._PACKAGE = checkout / "memnb"
    run_here(*arguments)


# --- places ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["with space", "ünï-çødé-日本", 'quote\'s "and" $HOME `id`', "{braces} %s", "-dash"]
)
def test_odd_paths(name: str, for_all: Path) -> None:
    out = for_all / name
    variables: dict[str, str | None] = {"MEMNB_DATA": str(for_all / f"{name} data")}
    child = killed.start(run_here, for_all, variables, *killed.MOMENT, f"--out={out}")
    assert child.end() == 0, child.said
    (folder,) = (out / "runs").iterdir()
    assert json.loads((folder / "run.json").read_text())["outcome"] == "finished"
    # Nothing was written but the two folders that were named.
    assert {path.name for path in for_all.iterdir()} == {name, f"{name} data"}


def test_a_path_that_is_no_utf8(for_all: Path) -> None:
    out = for_all / os.fsdecode(b"latin-\xe9")
    child = killed.start(run_here, for_all, {}, *killed.MOMENT, f"--out={out}")
    assert child.end() == 0, child.said
    assert list((out / "runs").iterdir())


def test_links_to_folders(for_all: Path) -> None:
    (for_all / "real").mkdir()
    (for_all / "link").symlink_to(for_all / "real")
    (for_all / "loop").symlink_to(for_all / "loop")
    child = killed.start(run_here, for_all, {}, *killed.MOMENT, "--out=link")
    assert child.end() == 0, child.said
    assert list((for_all / "real" / "runs").iterdir())
    child = killed.start(run_here, for_all, {}, *killed.MOMENT, "--out=loop")
    assert child.end() == 1
    assert child.said.splitlines()[-1].startswith("memnb: ")
    assert "Traceback" not in child.said


def test_a_read_only_checkout_runs_with_another_output_folder(for_all: Path) -> None:
    checkout = for_all / "checkout"
    for name in ("memnb", "notebooks", "data/results", "data/reference"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    for path in [checkout, *checkout.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        variables = {"MEMNB_OUT": None, "MEMNB_DATA": None, "HOME": None}
        common = (killed.as_user, somebody(), as_checkout, checkout, for_all)
        child = killed.start(*common, variables, *killed.MOMENT)
        assert child.end() == 1
        assert child.said.splitlines()[-1].startswith(f"memnb: {checkout}")
        assert "choose another folder with --out" in child.said
        assert "Traceback" not in child.said
        variables["MEMNB_DATA"] = str(for_all / "data")
        child = killed.start(*common, variables, *killed.MOMENT, "--out=elsewhere")
        assert child.end() == 0, child.said
        child = killed.start(*common, variables, "results", "--out=elsewhere")
        assert child.end() == 0, child.said
    finally:
        for path in [checkout, *checkout.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)


def test_a_working_directory_that_was_removed(for_all: Path) -> None:
    gone = for_all / "gone"
    gone.mkdir()

    child = killed.start(_from_nowhere, gone, *killed.MOMENT, f"--out={for_all / 'out'}")
    assert child.end() == 0, child.said
    gone.mkdir()
    child = killed.start(_from_nowhere, gone, *killed.MOMENT, "--out=here")
    assert child.end() == 2
    assert child.said.count("\n") == 1
    assert "The working directory was removed" in child.said


def _from_nowhere(folder: Path, *words: str) -> None:
    os.chdir(folder)
    folder.rmdir()
    killed.command(*words)


def _without_home(folder: Path, *words: str) -> None:
    """As an installed package, for a user who is in no list of users."""
    paths.checkout = lambda: None
    run_here(folder, {"HOME": None, "MEMNB_DATA": None, "XDG_CACHE_HOME": None}, *words)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become a user without a home")
def test_without_a_home_the_data_folder_has_to_be_named(for_all: Path) -> None:
    stranger = 1_234_567
    child = killed.start(
        killed.as_user, stranger, _without_home, for_all, *killed.MOMENT, "--out=out"
    )
    assert child.end() == 2
    assert "There is no home folder" in child.said
    assert "let MEMNB_DATA name a folder" in child.said
    assert "Traceback" not in child.said
    variables = {"HOME": None, "MEMNB_DATA": str(for_all / "data")}
    child = killed.start(
        killed.as_user, stranger, run_here, for_all, variables, *killed.MOMENT, "--out=out"
    )
    assert child.end() == 0, child.said


def test_a_home_that_nobody_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["results", "--out=~nobody-of-that-name/x"]) == 2
    assert "There is no home folder" in capsys.readouterr().err


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize("name", ["a\0b", "half \ud83d"])
def test_a_folder_that_no_file_system_can_have_is_one_sentence(name: str) -> None:
    for place in (paths.runs, paths.pages):
        with pytest.raises(MemnbError, match="no file name can") as caught:
            place(name)
        assert str(caught.value).isprintable()


def test_two_users_share_a_data_folder_and_cannot_spoil_each_others_runs(for_all: Path) -> None:
    variables: dict[str, str | None] = {"MEMNB_DATA": str(for_all / "data")}

    def call(user: int, out: str) -> killed.Child:
        child = killed.start(
            killed.as_user, user, run_here, for_all, variables, *killed.MOMENT, f"--out={out}"
        )
        child.end()
        return child

    assert call(10_001, "first").process.exitcode == 0
    made = {path: path.stat().st_mtime_ns for path in (for_all / "data").rglob("*.npz")}
    assert made
    second = call(10_002, "second")
    assert second.process.exitcode == 0, second.said
    assert {path: path.stat().st_mtime_ns for path in made} == made, "made once, read by both"
    (folder,) = (for_all / "first" / "runs").iterdir()
    before = (folder / "run.json").read_bytes()
    (folder / "run.json").unlink()
    third = call(10_002, "first")
    assert third.process.exitcode == 1
    assert "Permission denied" in third.said
    assert "Traceback" not in third.said
    (folder / "run.json").write_bytes(before)


# --- files that lie --------------------------------------------------------------------------

DANGEROUS = {"eval", "exec", "compile", "__import__"}
DANGEROUS_MODULES = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml"}


def dangers(source: str) -> list[str]:
    """What could run code that comes out of a file, by name and line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            names = {module.split(".")[0], *(alias.name.split(".")[0] for alias in node.names)}
            found += [f"{node.lineno}: {name}" for name in sorted(names & DANGEROUS_MODULES)]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            risky = (
                name in DANGEROUS
                or name in ("os.system", "os.popen")
                or given.get("shell") == "True"
                or given.get("allow_pickle", "False") != "False"
                or (name == "torch.load" and given.get("weights_only") != "True")
                or (name == "np.load" and given.get("allow_pickle") != "False")
                or given.get("autoescape", "True") != "True"
            )
            found += [f"{node.lineno}: {name}"] if risky else []
    return found


def test_nothing_in_memnb_can_run_what_a_file_holds() -> None:
    for path in sorted(Path(memnb.__file__).parent.rglob("*.py")):
        found = dangers(path.read_text(encoding="utf-8"))
        # The one reader of pickles takes names and numbers, and looks up no class or function.
        if path.name == "image.py":
            found = [each for each in found if not each.endswith(": pickle")]
        assert found == [], path


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from yaml import load", "eval('1')", "torch.load(f)", "np.load(f)",
     "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "os.system('ls')",
     "subprocess.run('ls', shell=True)", "jinja2.Environment(autoescape=False)"],
)  # fmt: skip
def test_the_search_for_dangers_finds_them(line: str) -> None:
    assert dangers(line) != []


# --- memnb runs ------------------------------------------------------------------------------


@pytest.fixture
def some_runs(tmp_path: Path) -> Path:
    """A finished, a failed and an interrupted run, the last with a checkpoint, all real."""
    for seed, settings in ((0, {}), (1, {"lr": 1e38, "warmup": 1}), (2, {})):
        run = tiny("luna-2")
        run = run.but(seed=seed, training={**run.training.model_dump(), "steps": 3, **settings})
        budget = 0.0 if seed == 2 else None
        loop.train(run, tmp_path / "runs" / run.run_id, device="cpu", budget=budget)
    return tmp_path


def memnb_runs(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["runs", *words])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def ids(out: Path) -> list[str]:
    return sorted((path.name for path in (out / "runs").iterdir()), key=lambda name: name[21:])


def test_runs_are_listed_and_shown(some_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"--out={some_runs}"
    code, text = memnb_runs(capsys, "list", out)
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == sorted(ids(some_runs))
    for outcome in ("finished ", "failed ", "interrupted "):
        assert text.count(outcome) == 1
    assert "not a finite number" in text
    for name in ids(some_runs):
        code, text = memnb_runs(capsys, "show", name, out)
        assert code == 0
        assert name in text
        assert "run.json" in text
    path = some_runs / "runs" / name / "run.json"
    record = json.loads(path.read_text())
    second = {**record["machines"][0], "from_step": 1000, "device_name": "another card"}
    path.write_text(json.dumps({**record, "machines": [*record["machines"], second]}))
    text = memnb_runs(capsys, "show", name, out)[1]
    assert text.count("\nmachine") == text.count("\nmade by") == 2
    assert f"another card, {record['precision']}, engine {record['engine']} from step 1,000" in text
    (some_runs / "runs" / "broken").mkdir()
    assert "damaged: " in memnb_runs(capsys, "list", out)[1]
    (some_runs / "runs" / "broken" / "dangling").symlink_to("nowhere")
    assert "damaged: " in memnb_runs(capsys, "list", out)[1]
    assert "There are no runs" in memnb_runs(capsys, "list", f"--out={some_runs / 'new'}")[1]
    code, text = memnb_runs(capsys, "verify", f"--out={some_runs / 'new'}")
    assert (code, "There are no runs" in text) == (1, True), "nothing is not all sound"


def test_a_run_under_way_is_listed_with_the_step_that_it_has_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its record is of its beginning: of a run that takes an hour it said step 0 all the time."""
    folder = write_run(tmp_path / "runs", "luna-4", outcome="interrupted")
    amend(folder, outcome="running", step=0)
    for name in ("checkpoint-00000331.pt", "checkpoint-00000099.pt", "checkpoint-00000500.sha256"):
        (folder / name).write_bytes(b"")
    out = f"--out={tmp_path}"
    assert "stopped      step 331 of 700" in memnb_runs(capsys, "list", out)[1]
    assert "331 of 700" in memnb_runs(capsys, "show", folder.name, out)[1]


def test_whatever_is_damaged_is_found(some_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"--out={some_runs}"
    finished, _, interrupted = ids(some_runs)
    code, text = memnb_runs(capsys, "verify", out)
    assert (code, text.count("sound")) == (0, 3)

    def damaged(path: Path, content: bytes, says: str) -> None:
        before = path.read_bytes()
        path.write_bytes(content)
        code, text = memnb_runs(capsys, "verify", path.parent.name, out)
        assert (code, text.count("sound")) == (1, 0), path
        assert says in text, text
        path.write_bytes(before)

    folder = some_runs / "runs" / finished
    record = json.loads((folder / "run.json").read_text())
    damaged(folder / "run.json", b"{", "could not be read")
    wrong = json.dumps({**record, "test_accuracy": 0.123456}).encode()
    damaged(folder / "run.json", wrong, "but run.json says 0.123456")
    damaged(folder / "metrics.jsonl", b'{"step": 1', "torn line")
    damaged(folder / "attention.npz", b"PK", "is damaged")
    weights = (folder / "best.pt").read_bytes()
    damaged(folder / "best.pt", weights[:-30], "is damaged, or holds more")
    damaged(folder / "best.pt", to_bytes({"other": 1}), "the weights of another model")
    checkpoint = next((some_runs / "runs" / interrupted).glob("*.pt"))
    damaged(checkpoint, checkpoint.read_bytes()[:-1], "the one before it is used")
    assert memnb_runs(capsys, "verify", out)[0] == 0
    folder.rename(folder.with_name("renamed"))
    assert "the folder was renamed" in memnb_runs(capsys, "verify", out)[1]


def test_a_finished_run_is_asked_what_it_was_not_asked(
    some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"--out={some_runs}"
    finished, failed, interrupted = ids(some_runs)
    folder = some_runs / "runs" / finished
    asked = ("beginning.jsonl", "causal.jsonl")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert memnb_runs(capsys, "examine", finished, out) == (0, f"{finished:<50}lacks no answer\n")
    for name in asked:
        (folder / name).unlink()
    code, text = memnb_runs(capsys, "examine", out)
    assert code == 0, "nobody has asked for the two that have not finished"
    assert f"{finished:<50}added {', '.join(asked)}" in text
    for name, state in ((failed, "failed"), (interrupted, "interrupted")):
        assert f"{name:<50}{state}: nothing to ask" in text
        code, text_of_one = memnb_runs(capsys, "examine", name, out)
        assert (code, f"{name} is {state}: only a finished run" in text_of_one) == (1, True)
    for name in before.keys() - {"run.json"}:
        assert (folder / name).read_bytes() == before[name], name
    record = json.loads((folder / "run.json").read_text())
    (again,) = record.pop("examined_again")
    assert record == json.loads(before["run.json"])
    assert (again["files"], again["weights"]) == (list(asked), "best.pt")
    assert (
        "asked again beginning.jsonl, causal.jsonl" in memnb_runs(capsys, "show", finished, out)[1]
    )
    assert memnb_runs(capsys, "verify", finished, out)[0] == 0

    # A second time it is added to what was noted; nothing is asked of damaged or missing weights.
    (folder / "lengths.jsonl").unlink()
    assert memnb_runs(capsys, "examine", finished, out)[0] == 0
    assert len(json.loads((folder / "run.json").read_text())["examined_again"]) == 2
    (folder / "best.pt").write_bytes(before["best.pt"][:-30])
    assert "damaged" in memnb_runs(capsys, "examine", finished, out)[1]
    (folder / "best.pt").unlink()
    code, text = memnb_runs(capsys, "examine", finished, out)
    assert code == 1
    assert "train the run again" in text
    lock = filelock.FileLock(folder / "run.lock")
    (folder / "best.pt").write_bytes(before["best.pt"])
    with lock.acquire():
        assert (
            "Another process is training or examining"
            in memnb_runs(capsys, "examine", finished, out)[1]
        )


def test_a_folder_that_cannot_be_written_keeps_no_other_run_from_being_asked(
    some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = ids(some_runs)[0]
    (some_runs / "runs" / finished / "lengths.jsonl").unlink()

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(runs, "write_atomically", full)
    code, text = memnb_runs(capsys, "examine", f"--out={some_runs}")
    assert code == 1
    assert text.count("not examined") == 1
    assert f"{finished:<50}not examined: " in text
    assert "space" in text


def test_a_committed_run_is_asked_with_the_weights_that_are_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stored,) = paths.stored_results().glob("listops-short-convluna-16-s0-99ff0aab5e")
    folder = tmp_path / "runs" / stored.name
    shutil.copytree(stored, folder)
    (folder / "lengths.jsonl").unlink()
    assert runs.examine(folder, "cpu")[0] == "lengths.jsonl"
    record = json.loads((folder / "run.json").read_text())
    assert record["examined_again"][-1]["weights"] == "data/weights, half precision"
    again, before = (
        [json.loads(line) for line in (where / "lengths.jsonl").read_text().splitlines()]
        for where in (folder, stored)
    )
    for one, other in zip(again, before, strict=True):
        assert one["accuracy"] == pytest.approx(other["accuracy"], abs=0.02)

    # Not those of another training of the same run, and not damaged ones.
    (folder / "lengths.jsonl").unlink()
    record["test_accuracy"] += 0.1
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="no weights of this training come with memnb"):
        runs.examine(folder, "cpu")
    shutil.copy(stored / "run.json", folder)
    shutil.copytree(paths.weights(), tmp_path / "weights")
    file = tmp_path / "weights" / f"{stored.name}.safetensors"
    file.write_bytes(file.read_bytes()[:-30])
    monkeypatch.setattr(paths, "weights", lambda: tmp_path / "weights")
    with pytest.raises(DataError, match="damaged"):
        runs.examine(folder, "cpu")
    assert not (folder / "lengths.jsonl").exists()


def test_a_run_is_removed_only_if_that_is_meant(
    some_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"--out={some_runs}"
    finished, failed, interrupted = ids(some_runs)
    code, text = memnb_runs(capsys, "remove", finished, out)
    assert code == 1
    assert "its result would be lost" in text
    assert memnb_runs(capsys, "remove", failed, out)[0] == 0
    assert ids(some_runs) == [finished, interrupted]
    # While it is trained it stays, whatever is asked for.
    child = killed.start(_hold, some_runs / "runs" / interrupted / "run.lock", tmp_path / "held")
    while not (tmp_path / "held").exists():
        assert child.process.is_alive()
    code, text = memnb_runs(capsys, "remove", interrupted, "--yes", out)
    assert (code, "is being trained" in text) == (1, True)
    child.kill()
    child.end()
    assert memnb_runs(capsys, "remove", interrupted, out)[0] == 0
    assert memnb_runs(capsys, "remove", finished, "--yes", out)[0] == 0
    assert list((some_runs / "runs").iterdir()) == []


def _hold(lock: Path, held: Path) -> None:
    with filelock.FileLock(lock):
        held.touch()
        time.sleep(60)


def test_where_nothing_can_be_locked_a_run_is_not_removed(
    some_runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(self: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "_acquire", cannot)
    _, failed, _ = there = ids(some_runs)
    code, text = memnb_runs(capsys, "remove", failed, f"--out={some_runs}")
    assert (code, "cannot lock files" in text) == (1, True)
    assert ids(some_runs) == there


def test_nothing_outside_of_the_runs_is_found_or_removed(
    some_runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"--out={some_runs}"
    precious = write_run(tmp_path / "elsewhere", "luna-1")
    for name in ("../elsewhere/" + precious.name, str(precious), "..", "."):
        code, text = memnb_runs(capsys, "remove", name, "--yes", out)
        assert (code, "There is no run named" in text) == (2, True), text
    (some_runs / "runs" / "link").symlink_to(precious)
    assert memnb_runs(capsys, "remove", "link", "--yes", out)[0] == 0
    assert (precious / "run.json").exists()
    assert not (some_runs / "runs" / "link").is_symlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lst"], "did you mean 'list'"),
        (["show"], "takes the id of a run"),
        (["list", "x"], "takes no run"),
        (["show", "x"], "There are no runs in"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = memnb_runs(capsys, *words)
    assert code in (1, 2)
    assert message in text
    assert text.count("\n") == 1


# --- memnb doctor --bundle and the log -------------------------------------------------------


def test_a_bug_report_says_all_that_is_needed_and_nothing_of_the_person(
    some_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    home = tmp_path / "home" / "Jane Doe"
    home.mkdir(parents=True)
    out = home / "study of jdoe77"
    (some_runs / "runs").rename(some_runs / "moved")
    out.mkdir()
    (some_runs / "moved").rename(out / "runs")
    steps = out / "report" / "steps"
    steps.mkdir(parents=True)
    trace = (
        f'File "{home}/secret project/run.py", line 3\nat /srv/clinic-x/jdoe77/a.py, '
        "mail jane.doe@example.org, host lab-pc-7.example.org, 192.168.7.31, Jdoe77"
    )
    step = {"error": "ZeroDivisionError", "details": trace}
    (steps / "accuracy.json").write_text(json.dumps(step))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "jdoe77")
    monkeypatch.setenv("SECRET_TOKEN", "hf_abcdefg")
    monkeypatch.setattr("platform.node", lambda: "lab-pc-7.example.org")
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    assert cli.main(["doctor", f"--out={out}", "--bundle"]) == 0
    shown = capsys.readouterr().out
    assert "memnb-bug-report.zip; look into it before you send it" in shown
    with zipfile.ZipFile(out / "memnb-bug-report.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    everything = "\n".join([*texts, *texts.values()])
    for personal in ("Jane", "jdoe77", "Jdoe77", "secret project", "clinic", "example.org",
                     "lab-pc", "192.168", "hf_abcdefg", "study of", str(tmp_path)):  # fmt: skip
        assert personal not in everything, personal
    for needed in ("torch: ", "memnb: ", "Python: ", "ok Python", "ZeroDivisionError", "line 3",
                   "not a finite number", "interrupted", "a.py"):  # fmt: skip
        assert needed in everything, needed
    assert sum(name.startswith("runs/") for name in texts) == 2  # the finished one needs no more


def test_a_bundle_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["doctor", f"--bundle={tmp_path / 'file' / 'b.zip'}"]) == 1
    assert "Cannot write" in capsys.readouterr().err
    assert cli.main(["doctor", f"--bundle={tmp_path / 'file'}"]) == 2
    assert "must have a name that ends in .zip" in capsys.readouterr().err


def test_the_log_is_quiet_unless_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {}
    for number, flags in enumerate(([], ["-v"], ["-vv"])):
        child = killed.start(
            killed.command, *killed.MOMENT, *flags, f"--out={tmp_path / str(number)}"
        )
        assert child.end() == 0, child.said
        said[number] = child.said
    assert "memnb.train" not in said[0]
    assert "CPU, fp32" not in said[0]
    assert "memnb.train.loop: " in said[1]
    assert "CPU, fp32 (asked for)" in said[1]
    child = killed.start(killed.command, "-v", *killed.MOMENT, f"--out={tmp_path / 'first'}")
    assert child.end() == 0
    assert "CPU, fp32 (asked for)" in child.said


def test_a_worker_takes_over_how_much_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "")
    logs.start(1)
    assert os.environ[logs.VARIABLE] == "1"
    logs.start()
    assert logging.getLogger("memnb").level == logging.INFO
    monkeypatch.setenv(logs.VARIABLE, "")
    logs.start(0)
    assert logging.getLogger("memnb").level == logging.WARNING
