"""The command line: what it prints, what it refuses, its exit codes, what it never imports."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import made_up_data
import pytest
import torch
from made_up_runs import write_run, write_runs

from memnb import cli, config, paths
from memnb.cli.common import seconds
from memnb.errors import MemnbError, RunError
from memnb.reproduce import manifest
from memnb.reproduce.progress import Terminal
from memnb.sweep.local import Machine
from memnb.train import checkpoint

ROOT = Path(__file__).parents[1]


def memnb(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a call in this process."""
    try:
        code = cli.main(arguments)
    except SystemExit as leave:  # argparse's --help and --version
        code = int(leave.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("reprodce", "no command named 'reprodce'; did you mean 'reproduce'?"),
        ("--versio", "no option named '--versio'; did you mean '--version'?"),
        ("reproduce --preset quik", "no preset named 'quik'; did you mean 'quick'?"),
        ("reproduce --prset=quick", "no option named '--prset'; did you mean '--preset'?"),
        ("reproduce --pre quick", "no option named '--pre'; did you mean '--preset'?"),
        ("reproduce --only acuracy", "no artefact named 'acuracy'; did you mean 'accuracy'?"),
        ("reproduce --jobs 0", "--jobs: expected a whole number from 1, but got '0'"),
        ("sweep --dry-run --jobs 0000000000", "--jobs: expected a whole number from 1, but got"),
        ("reproduce --jobs two", "--jobs: expected a whole number from 1, but got 'two'"),
        ("reproduce --device cudda", "no device named 'cudda'; did you mean 'cuda'?"),
        ("runs examine --device gpu", "no device named 'gpu'; did you mean 'cpu'?"),
        ("reproduce --out=", "--out: expected the name of a folder"),
        ("train luna-16", "arguments are required: task; see 'memnb train --help'"),
        ("train lunar-16 text", "no model named 'lunar-16'; did you mean 'luna-16'?"),
        ("train luna-16 txt", "no task named 'txt'; did you mean 'text'?"),
        ("train luna-16 text more", "'more' is one word too many; see 'memnb train --help'"),
        ("train luna-16 text --seed -1", "--seed: expected a whole number from 0, but got '-1'"),
        ("train luna-16 text --set memory=4", "SECTION.KEY=VALUE, such as model.memory=4"),
        ("train luna-16 text --set modl.memory=4", "no section named 'modl'; did you mean 'model'"),
        ("train luna-16 text --set model.memry=4", "setting named 'memry'; did you mean 'memory'"),
        ("train luna-16 text --set model.memory=0", "at least one memory row, but got memory=0"),
        ("train luna-16 text --set model.memory=x", "Model.memory"),
        ("train luna-16 text --budget soon", "A time is written 90s, 9m or 1h30m"),
        ("train luna-16 text --budget 0m", "must be longer than nothing"),
        ("results --format cvs", "no format named 'cvs'; did you mean 'csv'?"),
        ("models extra", "'extra' is one word too many"),
    ],
)
def test_a_mistake_is_one_sentence_with_what_was_meant(
    call: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = memnb(capsys, *call.split())
    assert code == 2
    assert out == ""
    assert err.startswith("memnb: ")
    assert err.count("\n") == 1
    assert message in err


def test_options_may_stand_between_the_words_of_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_VERBOSE", "")  # which -v sets for processes started later
    out = str(tmp_path)
    (tmp_path / "runs" / "a-run").mkdir(parents=True)
    for call in (
        ["runs", "show", "--out", out, "no-run"],
        ["runs", "--out", out, "show", "no-run"],
        ["weights", "export", "--out", out, "no-run", "another"],
        ["results", "merge", "-v", "no-run"],
    ):
        _, _, err = memnb(capsys, *call)
        assert "no-run" in err
        assert "too many" not in err


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = memnb(capsys, "--help")
    assert code == 0
    for name, command in cli.COMMANDS.items():
        assert name in out
        code, more, _ = memnb(capsys, name, "--help")
        assert code == 0
        assert more.startswith(f"usage: memnb {name}")
        assert command.more.strip() in more
    assert memnb(capsys)[1] == out
    assert memnb(capsys, "--version")[1].startswith("memnb 0.")


def test_models_and_tasks_are_those_that_config_knows(capsys: pytest.CaptureFixture[str]) -> None:
    _, models, _ = memnb(capsys, "models")
    assert [line.split()[0] for line in models.splitlines()[:-1]] == config.list_models()
    _, tasks, _ = memnb(capsys, "tasks")
    assert [line.split()[0] for line in tasks.splitlines()] == config.list_tasks()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("45", 45), ("90s", 90), ("9m", 540), ("1h30m", 5400), ("2.5h", 9000), ("1m1s", 61)],
)
def test_lengths_of_time(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "m", "9 m", "-9m", "9d", "1e3", "0", "0s", "9m30"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(MemnbError):
        seconds(text)


# --- train -----------------------------------------------------------------------------------

TINY = [
    f"--set={setting}"
    for setting in (
        "task.train=64",
        "task.validation=32",
        "task.test=32",
        "training.steps=4",
        "training.evaluate_every=2",
        "training.batch=8",
        "model.width=8",
    )
]


def test_train_for_real_once_and_then_from_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["train", "luna-2", "listops-short", *TINY, "--seed", "3", f"--out={tmp_path}"]
    code, out, err = memnb(capsys, *call)
    assert code == 0, err
    assert out.startswith("Test accuracy ")
    assert "fp32" in out
    folder = next((tmp_path / "runs").iterdir())
    assert folder.name.startswith("listops-short-luna-2-s3-")
    assert (folder / "run.json").is_file()
    before = (folder / "run.json").read_bytes()
    assert memnb(capsys, *call)[1] == out
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        ("failed", 1, "Failed at step 7: the loss is not a number"),
        ("interrupted", 0, "Stopped at step 7 and saved; the same command goes on"),
    ],
)
def test_what_train_says_of_a_run_without_a_result(
    outcome: str,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: dict[str, Any] = {}

    def pretend(run: config.Run, folder: Path, **settings: Any) -> dict[str, Any]:
        given.update(settings, run=run, folder=folder)
        return {"outcome": outcome, "step": 7, "reason": "the loss is not a number"}

    monkeypatch.setattr("memnb.train.loop.train", pretend)
    arguments = ["--set", "model.filter=pool", "--set", "training.lr=0.25", "--budget", "9m"]
    found = memnb(capsys, "train", "convluna-4", "text", "--device", "cpu", *arguments)
    assert found[0] == code
    assert message in found[1]
    assert given["run"].model.filter == "pool"
    assert given["run"].training.lr == 0.25
    assert 500 < given["budget"] < 540  # importing PyTorch has taken some of it
    assert given["device"] == "cpu"
    assert given["folder"] == paths.runs() / given["run"].run_id


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_training(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pretend(run: config.Run, folder: Path, *, should_stop: Any, **_: Any) -> dict[str, Any]:
        assert not should_stop()
        signal.raise_signal(number)
        assert should_stop()
        return {"outcome": "interrupted", "step": 7}

    monkeypatch.setattr("memnb.train.loop.train", pretend)
    before = signal.getsignal(number)
    found = memnb(capsys, "train", "luna-4", "text")
    assert found[0] == code
    assert "goes on from there" in found[1]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["reproduce", "sweep", "train"])
def test_a_second_signal_acts_at_once(
    command: str,
    number: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def deaf(*_: Any, **__: Any) -> None:
        signal.raise_signal(number)
        signal.raise_signal(number)
        raise AssertionError("the second signal was not heard")

    machine = Machine("cpu", "a processor", (), 2)
    monkeypatch.setattr("memnb.sweep.local.look", lambda *_: machine)
    monkeypatch.setattr("memnb.train.loop.train", deaf)
    monkeypatch.setattr("memnb.sweep.sweep.run", deaf)
    monkeypatch.setattr("memnb.reproduce.workflow.reproduce", deaf)
    words = {"sweep": "--preset quick --seeds 77 --set table", "train": "luna-4 listops-short"}
    found = memnb(capsys, command, *words.get(command, "").split(), f"--out={tmp_path}")
    assert found[0] == code
    assert "interrupted; what was finished is kept" in found[2]


def test_a_missing_device_is_the_users_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, _, err = memnb(capsys, "train", "luna-2", "listops-short", *TINY, "--device=cuda")
    assert code == 2
    assert "use --device cpu" in err


# --- results and claims ----------------------------------------------------------------------


@pytest.fixture
def some_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five runs of this machine and one committed one."""
    write_runs(tmp_path / "runs", "luna-16", [0.30, 0.34, None])
    write_runs(tmp_path / "runs", "convluna-16", [0.50, 0.52])
    write_run(tmp_path / "assets" / "data" / "results", "luna-1", "text", accuracy=0.6)
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    return tmp_path


def test_a_run_whose_process_was_killed_is_not_said_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "runs", "luna-16", outcome="running")
    assert " stopped " in memnb(capsys, "runs", "list", f"--out={tmp_path}")[1]
    with filelock.FileLock(folder / "run.lock"):
        assert " running " in memnb(capsys, "runs", "list", f"--out={tmp_path}")[1]


def test_a_file_that_goes_away_while_runs_are_listed_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "runs", "luna-16", outcome="running")
    there = [*folder.iterdir(), folder / "checkpoint-00000001.pt"]  # a newer one took its place
    monkeypatch.setattr(Path, "iterdir", lambda _: iter(there))
    for words in (["list"], ["show", folder.name]):
        code, out, err = memnb(capsys, "runs", *words, f"--out={tmp_path}")
        assert (code, err) == (0, "")
        assert folder.name in out
        assert "checkpoint" not in out


def test_a_run_that_goes_away_while_runs_are_listed_keeps_no_other_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "runs", "luna-16")
    there = [tmp_path / "runs" / "gone", folder]  # another call has removed it since
    monkeypatch.setattr("memnb.runs.folders", lambda _: there)
    code, out, _ = memnb(capsys, "runs", "list", f"--out={tmp_path}")
    assert code == 0
    assert folder.name in out


def test_two_calls_may_remove_runs_at_the_same_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "runs", "luna-16", outcome="interrupted")
    (tmp_path / "runs" / ".removed-by-another-call").mkdir()
    rmtree = shutil.rmtree

    def another_was_quicker(path: Path) -> None:
        rmtree(path)
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(shutil, "rmtree", another_was_quicker)
    found = memnb(capsys, "runs", "remove", folder.name, f"--out={tmp_path}")
    assert found == (0, f"{folder.name} is removed.\n", "")
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        "train luna-1 listops-short",
        "sweep --preset quick --set table --models luna-1 --seeds 99",
        "reproduce --preset quick --only accuracy",
    ],
)
def test_an_error_in_the_middle_stands_on_a_line_of_its_own(
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = io.StringIO()
    for name in ("progress.choose", "workflow.choose"):
        monkeypatch.setattr(f"memnb.reproduce.{name}", lambda: Terminal(screen))

    def train(*_: Any, progress: Any, **__: Any) -> None:
        progress(SimpleNamespace(step=1, steps=2, loss=1.5, accuracy=None))
        raise RunError("The disk is full.")

    def run_jobs(*_: Any, on_tick: Any, **__: Any) -> None:
        on_tick()
        raise RunError("The disk is full.")

    monkeypatch.setattr("memnb.train.loop.train", train)
    monkeypatch.setattr("memnb.reproduce.trainer.run_jobs", run_jobs)
    code, _, err = memnb(capsys, *words.split(), "--device=cpu", f"--out={tmp_path}")
    assert (code, err) == (1, "memnb: The disk is full.\n")
    assert re.search(r"%  .*\r\x1b\[2K$", screen.getvalue()), "the line of progress is cleared"


def test_a_run_of_a_block_that_is_not_here_is_not_called_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config.add_family("elsewhere")  # as the page that writes a block leaves one in runs/
    folder = write_run(tmp_path / "runs", "elsewhere-4")
    (folder / "best.pt").write_bytes(checkpoint.to_bytes({"weight": torch.zeros(2)}))
    write_run(tmp_path / "runs", "luna-16")
    monkeypatch.setattr(config.names, "_OWN", set())
    code, out, _ = memnb(capsys, "runs", "verify", f"--out={tmp_path}")
    assert code == 0
    assert "sound as far as checked\n  best.pt was read, but not compared with its model" in out
    assert "no block named 'elsewhere'; name its file (MEMNB_BLOCKS=elsewhere=my_memory.py)" in out
    assert "luna-16" in out
    (folder / "best.pt").write_bytes(b"weights")
    code, out, _ = memnb(capsys, "runs", "verify", f"--out={tmp_path}")
    assert code == 1
    assert "best.pt is damaged, or holds more than weights" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train luna-1 recall-4 --set task.name=recall-8", "cannot change a task's name"),
        ("train luna-1 recall-4 --seed 4294967296", "expected a number below 2147483648"),
        ("train luna-1 recall-4 --set training.steps=99999999999999999999", "steps"),
    ],
)
def test_values_that_no_row_could_hold_are_refused(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = memnb(capsys, *words.split(), f"--out={tmp_path}")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_other_settings_are_no_seeds_of_one_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    for seed in range(2):
        for steps, accuracy in ((10, 0.2), (20, 0.6)):
            write_run(
                tmp_path / "runs", "luna-1", seed=seed, accuracy=accuracy,
                training_changes={"steps": steps},
            )  # fmt: skip
    write_run(tmp_path / "runs", "luna-1", accuracy=0.4)
    _, out, _ = memnb(capsys, "results", f"--out={tmp_path}", "--format=csv")
    lines = [line.split(",") for line in out.splitlines()]
    accuracies = sorted(line[lines[0].index("accuracy (%)")] for line in lines[1:])
    assert accuracies == ["20.00", "40.00", "60.00"]
    assert len({line[lines[0].index("settings")] for line in lines[1:]}) == 3


def test_results_in_each_format(some_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"--out={some_runs}"
    code, text, err = memnb(capsys, "results", out)
    assert (code, err) == (0, "")
    first = ["quick", "listops-short", "luna-16", "32.00", "2.83", "2", "1"]
    assert any(line.split()[:7] == first for line in text.splitlines())
    _, table, _ = memnb(capsys, "results", out, "--format", "csv")
    assert (
        table.splitlines()[0]
        == "preset,task,model,changes,accuracy (%),sd,n,failed,low (95 %),high (95 %)"
    )
    assert "paper,text,luna-1,,60.00,,1,0,," in table.splitlines()
    _, markdown, _ = memnb(capsys, "results", out, "--format", "md")
    assert "| quick | listops-short | convluna-16 |  | 51.00 |" in markdown
    _, runs, _ = memnb(capsys, "results", out, "--runs", "--format=csv")
    assert len(runs.splitlines()) == 1 + 6


def test_results_of_some_tasks_and_models(
    some_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(*options: str) -> list[list[str]]:
        code, text, _ = memnb(capsys, "results", f"--out={some_runs}", "--format=csv", *options)
        assert code == 0
        return [line.split(",")[:3] for line in text.splitlines()[1:]]

    committed = ["paper", "text", "luna-1"]
    assert committed in lines()
    assert committed not in lines("--here")
    assert {tuple(line) for line in lines("--here")} == {tuple(line) for line in lines()} - {
        tuple(committed)
    }
    assert lines("--tasks", "text") == [committed]
    of_luna = lines("--models=luna-16,luna-1")
    assert committed in of_luna
    assert {line[2] for line in of_luna} == {"luna-16", "luna-1"}
    assert lines("--models=luna-16", "--runs") != lines("--models=luna-16")
    for option, name, there in (("--tasks", "txet", "text"), ("--models", "luna-2", "luna-16")):
        code, out, err = memnb(capsys, "results", f"--out={some_runs}", option, name)
        assert (code, out) == (2, "")
        assert f"'{name}'" in err
        assert there in err
    code, _, err = memnb(capsys, "results", f"--out={some_runs}", "--here", "--tasks=text")
    assert code == 2  # that row is a committed one
    assert "listops-short" in err


def test_damaged_rows_are_named(some_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = next((some_runs / "runs").glob("*convluna*/run.json"))
    record.write_text("{")
    code, text, err = memnb(capsys, "results", f"--out={some_runs}")
    assert code == 0
    assert str(record) in err
    assert "luna-16" in text


def test_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(paths, "assets", lambda: tmp_path)
    assert "There are no rows yet" in memnb(capsys, "results")[1]
    assert len(memnb(capsys, "results", "--format=csv")[1].splitlines()) == 1
    code, _, err = memnb(capsys, "results", f"--out={tmp_path / 'nowhere'}")
    assert code == 1
    assert "There are no runs in" in err


def test_check_names_every_claim_at_both_scales(
    some_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = f"--out={some_runs}"
    write_run(some_runs / "runs", "convluna-16", seed=2, accuracy=0.51)
    write_run(some_runs / "runs", "luna-16", seed=3, accuracy=0.32)
    code, text, _ = memnb(capsys, "check", out)
    assert code == 0
    for claim in ("C1", "C2", "C3", "C4", "C5"):
        assert f"\n{claim}: " in f"\n{text}"
    assert "Laptop scale: SUPPORTED: +19.0 points (95 % interval" in text
    assert "Full scale: NOT ENOUGH RUNS" in text
    first = text[: text.index("C2: ")]
    assert "  What the filter does without a memory, at full scale:\n    " in first
    _, more, _ = memnb(capsys, "check", out, "--evidence")
    assert more.startswith(text)
    assert len(more) > len(text)


# --- the machine's own errors ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
    ],
)
def test_an_error_of_the_disk_is_one_sentence(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("memnb.reproduce.workflow.reproduce", full)
    code, _, err = memnb(capsys, "reproduce")
    assert code == 1
    assert message in err
    assert "/some/file" in err
    assert err.count("\n") == 1


def test_an_unforeseen_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any, **__: Any) -> None:
        raise OSError(errno.EBADF, "a mistake of ours")

    monkeypatch.setattr("memnb.reproduce.workflow.reproduce", wrong)
    with pytest.raises(OSError, match="a mistake of ours"):
        cli.main(["reproduce"])


def test_a_second_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def impatient(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("memnb.reproduce.workflow.reproduce", impatient)
    code, _, err = memnb(capsys, "reproduce")
    assert code == 130
    assert "interrupted" in err


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m memnb`` in another working directory."""
    more = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(
        [sys.executable, "-m", "memnb", *arguments],
        env=more,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_reader_that_leaves_early_is_no_error() -> None:
    line = f"'{sys.executable}' -m memnb tasks | true"
    done = subprocess.run(
        ["sh", "-c", line],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "option",
    ["--format=csv", "--runs", "--out=elsewhere", "--here", "--tasks=text", "--models=luna-1"],
)
def test_merging_ignores_no_option(capsys: pytest.CaptureFixture[str], option: str) -> None:
    code, _, err = memnb(capsys, "results", "merge", "runs", option)
    assert code == 2
    assert err.startswith(f"memnb: {option.partition('=')[0]} means nothing to")


#: The pages that could load PyTorch, and go on in another way where there is none. The others
#: cannot (tests/test_notebooks_content.py).
WITHOUT_TORCH = ("start-here", "explore", "your-memory")


@pytest.mark.timeout(420)
def test_the_stored_report_of_the_committed_rows_is_drawn_without_torch(tmp_path: Path) -> None:
    """Committed notebooks, from another folder, with a torch that nobody may import."""
    forbidden = tmp_path / "forbidden" / "torch"
    forbidden.mkdir(parents=True)
    (forbidden / "__init__.py").write_text("raise ImportError('torch was imported')\n")
    search = os.pathsep.join([str(ROOT), str(forbidden.parent)])
    out = tmp_path / "out with space"
    chosen = [word for name in WITHOUT_TORCH for word in ("--only", name)]
    words = ("reproduce", "--preset", "stored", *chosen, "--out", str(out))
    done = process(*words, PYTHONPATH=search, CI="1")
    assert done.returncode == 0, done.stderr
    page = (out / "report" / "index.html").read_text(encoding="utf-8")
    for artefact in manifest.load().select(WITHOUT_TORCH):
        assert artefact.title in page
        for file in artefact.files(out / "report"):
            assert file.stat().st_size > 0
    for path in (out / "report" / "figures").glob("*.png"):
        assert f'href="figures/{path.name}"' in page
    for path in (out / "report" / "notebooks").glob("*.ipynb"):
        assert "Warning" not in path.read_text(encoding="utf-8"), path.name


class TestData:
    def test_list_names_every_data_set_and_what_to_do(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MEMNB_DATA", str(tmp_path))
        code, out, _ = memnb(capsys, "data", "list")
        assert code == 0
        for name in ("listops", "text", "retrieval", "retrieval-acl", "image", "pathfinder"):
            assert any(line.startswith(f"{name} ") for line in out.splitlines())
        assert out.count("not here, ") == out.count("licence: ") == 6

    def test_what_is_imported_is_listed_and_checked(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "cache"))
        monkeypatch.setattr("memnb.tasks.text.REVIEWS", 3)
        folder = made_up_data.unpacked(tmp_path / "reviews", made_up_data.reviews())
        code, out, err = memnb(capsys, "data", "import", "text", str(folder))
        assert code == 0, err
        assert out.startswith("text is at ")
        assert err.startswith("memnb: text is sound, but its content "), "three reviews, not IMDb"
        assert err.endswith(", or no page shows runs on it.\n")
        code, out, _ = memnb(capsys, "data", "check", "text")
        assert out.split()[0] == "text"
        assert memnb(capsys, "data", "list")[1].count("not here, ") == 5

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["lost"], "did you mean 'list'"),
            (["get"], "takes 1 word, but got 0"),
            (["get", "txt"], "did you mean 'text'"),
            (["import", "text", "/nowhere"], "There is no file or folder /nowhere"),
            (["get", "retrieval-acl"], "cannot be downloaded"),
        ],
    )
    def test_mistakes_are_one_sentence(
        self, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, out, err = memnb(capsys, "data", *words)
        assert (code, out) in ((1, ""), (2, ""))
        assert message in err
        assert err.count("\n") == 1
