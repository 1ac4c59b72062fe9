"""Full disks, torn files, stale locks, wrong clocks, signals, little memory: nothing is lost."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import killed
import pytest
import torch
from test_kills import differences, finished, tiny

from memnb.config import Run, run_config
from memnb.errors import RunError
from memnb.evidence import rows
from memnb.models.out_of_memory import out_of_memory
from memnb.train import checkpoint, files, loop
from memnb.train.loop import train

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def wait_for(condition: Any, seconds: float = 60) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.005)


def lines(folder: Path, name: str = "metrics.jsonl") -> int:
    path = folder / name
    return path.read_bytes().count(b"\n") if path.exists() else 0


Whole = Callable[[Run], Path]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The folder of a run that was left alone, to be read only: each is trained once."""
    folders: dict[str, Path] = {}

    def trained(run: Run) -> Path:
        if run.run_id not in folders:
            folder = tmp_path_factory.mktemp("whole") / run.run_id
            child = killed.start(killed.train, run, folder)
            assert child.end() == 0, child.said
            assert finished(folder)
            folders[run.run_id] = folder
        return folders[run.run_id]

    return trained


# --- disks -----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system; the quota's test has no need")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(
    small_disk: Path, whole: Whole
) -> None:
    run = tiny("luna-4")
    expected = whole(run)
    ballast = small_disk / "ballast"
    # Room for two checkpoints or so, where two are kept and the next is written beside them.
    room = int(2.5 * (expected / "final.pt").stat().st_size)
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    folder = small_disk / "cut"
    child = killed.start(killed.train, run, folder)
    assert child.end() == 1
    assert "The disk is full" in child.said
    kept = list(folder.glob("checkpoint-*.pt"))
    assert kept, "the checkpoint before the one that did not fit"
    assert checkpoint.read_whole(kept[0]) is not None
    assert not list(folder.glob(".*.tmp"))
    ballast.unlink()
    assert killed.start(killed.train, run, folder).end() == 0
    assert json.loads((folder / "run.json").read_text())["resumed"] == 1
    assert differences(expected, folder) == []


def many_rows() -> Run:
    """A run that writes more bytes of metrics than of anything else but checkpoints."""
    return tiny("transformer").but(
        training={**tiny("transformer").training.model_dump(), "steps": 40, "evaluate_every": 1}
    )


@pytest.mark.parametrize(
    ("run", "limit", "save"), [(tiny("luna-4"), 60_000, True), (many_rows(), 3_030, False)]
)
def test_beyond_a_quota_a_run_stops_and_goes_on_later(
    run: Run, limit: int, save: bool, tmp_path: Path, whole: Whole
) -> None:
    """A write of a checkpoint, or of a row, really fails half-way."""
    expected = whole(run)
    folder = tmp_path / "cut"
    child = killed.start(killed.train_in_little_space, run, folder, limit, False, save)
    assert child.end() == 1
    assert "could not be written (File too large)" in child.said
    assert (lines(folder) > 0) is not save
    assert not list(folder.glob(".*.tmp"))
    assert all(checkpoint.read_whole(path) for path in folder.glob("checkpoint-*.pt"))
    assert killed.start(killed.train, run, folder).end() == 0
    assert differences(expected, folder) == []


def test_killed_in_the_middle_of_a_row_its_torn_line_is_reported_and_repaired(
    tmp_path: Path, whole: Whole
) -> None:
    run = many_rows()
    expected = whole(run)
    folder = tmp_path / "runs" / run.run_id
    child = killed.start(killed.train_in_little_space, run, folder, 3_030, True, False)
    assert child.end() == -signal.SIGXFSZ
    torn = (folder / "metrics.jsonl").read_bytes()
    assert len(torn) == 3_030
    assert not torn.endswith(b"\n")
    frame = rows.load_metrics(rows.load_runs(folder.parent))
    assert len(frame) == torn.count(b"\n") > 10
    assert "ends in a torn line" in frame.attrs["problems"][0]
    child = killed.start(killed.train, run, folder)
    assert child.end() == 0
    assert "metrics.jsonl ends in a torn line; it is written anew" in child.said
    assert differences(expected, folder) == []


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "sum flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_says_so(
    damage: str, tmp_path: Path, whole: Whole
) -> None:
    run = tiny("convluna-4")
    expected = whole(run)
    folder = tmp_path / "cut"
    assert killed.start(killed.train, run, folder, "epoch", 8).end() == -signal.SIGKILL
    older, newest = sorted(folder.glob("checkpoint-*.pt"))
    target = newest.with_suffix(".sha256") if damage == "sum flipped" else newest
    content = bytearray(target.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "empty":
        content.clear()
    else:
        content[len(content) // 2] ^= 0x10
    target.write_bytes(content)
    child = killed.start(killed.train, run, folder)
    assert child.end() == 0
    assert f"{newest} is damaged and removed; {older.name} is used instead." in child.said
    assert differences(expected, folder) == []


def test_with_every_checkpoint_damaged_a_run_starts_again_and_is_resumable_again(
    tmp_path: Path, whole: Whole
) -> None:
    run = tiny("convluna-4")
    expected = whole(run)
    folder = tmp_path / "cut"
    assert killed.start(killed.train, run, folder, "epoch", 14).end() == -signal.SIGKILL
    for path in folder.glob("checkpoint-*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    child = killed.start(killed.train, run, folder, "epoch", 8)
    assert child.end() == -signal.SIGKILL
    assert "so the run starts again" in child.said
    # What was saved since is not taken for older than the damaged ones.
    assert all(checkpoint.read_whole(path) for path in folder.glob("checkpoint-*.pt"))
    assert killed.start(killed.train, run, folder).end() == 0
    assert json.loads((folder / "run.json").read_text())["resumed"] == 1
    assert differences(expected, folder) == []


@pytest.mark.parametrize("version", range(1, checkpoint.FORMAT + 1))
def test_a_run_goes_on_from_a_checkpoint_of_each_format(version: int, tmp_path: Path) -> None:
    """The committed files were saved at step 4 of 6 by the memnb of that time."""
    shutil.copytree(CHECKPOINTS / f"format-{version}", tmp_path / "cut")
    run = run_config(
        "convluna-2",
        "listops-short",
        task_changes={"min_length": 4, "max_length": 12, "train": 32, "validation": 8, "test": 8},
        training_changes={"steps": 6, "batch": 8, "evaluate_every": 2, "warmup": 2},
        model_changes={"width": 8, "heads": 2, "mlp": 8, "blocks": 1},
    )
    state = checkpoint.load_newest(tmp_path / "cut")
    assert state is not None
    assert state["format"] == version
    assert state["engine"]["step"] == 4
    record = train(run, tmp_path / "cut", device="cpu")
    assert (record["outcome"], record["resumed"], record["step"]) == ("finished", 1, 6)
    again = train(run, tmp_path / "whole", device="cpu")
    assert record["test_accuracy"] == again["test_accuracy"]
    mine, other = (
        torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("cut", "whole")
    )
    # Other machines round otherwise.
    for name, value in mine.items():
        torch.testing.assert_close(value, other[name], msg=name)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("engine"),
        lambda state: state.update(sampler=3),
        lambda state: state["engine"].update(network={}),
        lambda state: state["engine"].update(rng_cpu=torch.zeros(3)),
        lambda state: state.update(seconds=None),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(change: Any, tmp_path: Path) -> None:
    run = tiny("luna-4")
    train(run, tmp_path, device="cpu", budget=0.0)
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    change(state)
    checkpoint.save(tmp_path, 0, state)
    with pytest.raises(RunError, match="does not fit this run") as caught:
        train(run, tmp_path, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"PK\x03\x04", b"\x80\x02cos\nsystem\n.", bytes(500)]
)
def test_foreign_bytes_with_a_matching_sum_are_no_checkpoint(
    content: bytes, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path, 1, {})
    (path,) = tmp_path.glob("*.pt")
    files.write_atomically(path, content)
    path.with_suffix(".sha256").write_text(hashlib.sha256(content).hexdigest())
    with pytest.raises(RunError, match="is not a checkpoint of memnb"):
        checkpoint.load_newest(tmp_path)


@pytest.mark.parametrize("state", [[1, 2], {"format": None}, {"format": "1"}])
def test_a_checkpoint_without_a_format_is_none(state: Any, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-00000001.pt"
    content = checkpoint.to_bytes(state)
    with pytest.raises(RunError, match="it says no format"):
        checkpoint._state(path, content)


# --- one config, one run ---------------------------------------------------------------------


def test_the_lock_of_a_process_that_died_does_not_stop_the_next(tmp_path: Path) -> None:
    run = tiny("luna-4")
    assert killed.start(killed.train, run, tmp_path, "rows", 3).end() == -signal.SIGKILL
    assert (tmp_path / "run.lock").exists()
    for moment in (0.0, 4e9):  # whenever the lock was made, or a wrong clock says it was
        os.utime(tmp_path / "run.lock", (moment, moment))
        record = train(run, tmp_path, device="cpu", budget=0.0)
        assert record["outcome"] == "interrupted"
    assert train(run, tmp_path, device="cpu")["outcome"] == "finished"


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = iter([0.0, 4e9, -4e9] * 100_000)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: max(0.0, now() + next(jumps)))
    saves: list[int] = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint,
        "save",
        lambda folder, step, state: saves.append(step) or save(folder, step, state),
    )
    record = train(tiny("luna-4"), tmp_path, device="cpu", budget=600.0)
    assert record["outcome"] == "finished"
    assert saves == []  # a year has not passed, so no checkpoint was due
    assert 0 < record["seconds"] < 600


def test_a_file_system_without_locks_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(self: Any) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "_acquire", cannot)
    with pytest.raises(RunError, match="cannot lock files"):
        train(tiny("luna-4"), tmp_path, device="cpu")


def test_a_block_without_its_work_is_not_taken_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfinished(*_: Any) -> None:
        raise NotImplementedError("this block has no forward")

    monkeypatch.setattr("memnb.models.network.Network.forward", unfinished)
    with pytest.raises(NotImplementedError, match="no forward"):
        train(tiny("luna-4"), tmp_path, device="cpu")
    monkeypatch.undo()
    assert train(tiny("luna-4"), tmp_path, device="cpu")["outcome"] == "finished", "lock is free"


# --- signals and budgets ---------------------------------------------------------------------


def long_run(model: str = "luna-4") -> tuple[Any, list[str]]:
    """A run of some seconds, and the words that train it on the command line."""
    settings = {
        "task.min_length": 4, "task.max_length": 20, "task.train": 64, "task.validation": 40,
        "task.test": 40, "training.steps": 3000, "training.batch": 16,
        "training.evaluate_every": 100, "model.width": 16, "model.mlp": 16,
    }  # fmt: skip
    changes: dict[str, dict[str, int]] = {"task": {}, "training": {}, "model": {}}
    for name, value in settings.items():
        section, key = name.split(".")
        changes[section][key] = value
    run = run_config(
        model,
        "listops-short",
        task_changes=changes["task"],
        training_changes=changes["training"],
        model_changes=changes["model"],
    )
    words = [f"--set={name}={value}" for name, value in settings.items()]
    return run, ["train", model, "listops-short", "--device=cpu", *words]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_within_five_seconds_and_the_same_command_goes_on(
    number: int, code: int, tmp_path: Path
) -> None:
    run, words = long_run()
    folder = tmp_path / "runs" / run.run_id
    call = [*words, f"--out={tmp_path}"]
    child = killed.start(killed.command, *call)
    wait_for(lambda: lines(folder) >= 2)
    began = time.monotonic()
    child.kill(number)
    assert child.end() == code, child.said
    assert time.monotonic() - began < 5
    assert "the same command goes on from there" in child.said
    assert "Traceback" not in child.said
    record = json.loads((folder / "run.json").read_text())
    assert record["outcome"] == "interrupted"
    saved = checkpoint.load_newest(folder)
    assert saved is not None
    assert saved["engine"]["step"] == record["step"] > 0
    child = killed.start(killed.command, *call)
    wait_for(lambda: json.loads((folder / "run.json").read_text())["resumed"] == 1)
    child.kill()
    assert child.end() == -signal.SIGKILL


def test_a_signal_in_the_last_evaluation_is_heard_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU the test of a full-scale model takes minutes."""
    run = tiny("luna-4")
    train(run, tmp_path / "whole", device="cpu")
    finishing: list[bool] = []
    finish = loop._Trainer._finish
    monkeypatch.setattr(
        loop._Trainer, "_finish", lambda self, why: finishing.append(True) or finish(self, why)
    )
    record = train(run, tmp_path / "cut", device="cpu", should_stop=lambda: bool(finishing))
    assert (record["outcome"], record["step"]) == ("interrupted", run.training.steps)
    assert lines(tmp_path / "cut") == 8  # four evaluations, no test
    record = train(run, tmp_path / "cut", device="cpu")
    assert record["outcome"] == "finished"
    for name in ("metrics.jsonl", "removal.jsonl"):
        assert lines(tmp_path / "cut", name) == lines(tmp_path / "whole", name)
    best = [torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("cut", "whole")]
    assert all(torch.equal(best[0][name], best[1][name]) for name in best[0])


def _deaf(busy: Path, *arguments: str) -> None:
    """A command whose data take for ever to make: it looks at no clock and at no request."""

    def load(task: Any) -> None:
        busy.touch()
        time.sleep(60)

    loop.tasks.load = load
    killed.command(*arguments)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_is_not_looked_at_acts_within_five_seconds(
    number: int, code: int, tmp_path: Path
) -> None:
    _, words = long_run()
    busy = tmp_path / "busy"
    child = killed.start(_deaf, busy, *words, f"--out={tmp_path}")
    wait_for(busy.exists)
    began = time.monotonic()
    child.kill(number)
    assert child.end() == code, child.said
    assert time.monotonic() - began < 5
    assert "interrupted; what was finished is kept" in child.said


def test_a_budget_ends_at_a_checkpoint_before_its_limit_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = long_run()
    save = checkpoint.save

    def slow(*arguments: Any) -> Path:
        time.sleep(0.4)  # a disk far away
        return save(*arguments)

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.5)
    monkeypatch.setattr(loop, "SAVE_SHARE", 1.0)
    began = time.monotonic()
    record = train(run, tmp_path, device="cpu", budget=5.0)
    assert time.monotonic() - began < 5.0
    assert record["outcome"] == "interrupted"
    first = record["step"]
    assert first > 0
    saved = checkpoint.load_newest(tmp_path)
    assert saved is not None
    assert saved["engine"]["step"] == first
    record = train(run, tmp_path, device="cpu", budget=5.0)
    assert record["resumed"] == 1
    assert record["step"] > first


def test_a_budget_that_leaves_no_time_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tiny("luna-4"), tmp_path, device="cpu", budget=0.5)
    assert "The budget was too short" in caplog.text


def test_saving_takes_a_small_share_of_the_time_however_slow_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = long_run()
    save = checkpoint.save

    def slow(*arguments: Any) -> Path:
        time.sleep(0.1)
        return save(*arguments)

    monkeypatch.setattr(checkpoint, "save", slow)
    monkeypatch.setattr(loop, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(loop, "RESPOND_WITHIN", 0.01)
    record = train(run, tmp_path, device="cpu", budget=6.0)
    # The first save, and the one at the end; between them there have to be 25 seconds.
    assert record["seconds_saving"] < 0.1 * 2 + 0.5
    saved = checkpoint.load_newest(tmp_path)
    assert saved is not None


# --- memory ----------------------------------------------------------------------------------


def test_a_cpu_without_memory_is_a_failed_row_that_says_what_to_do(tmp_path: Path) -> None:
    run = run_config(
        "transformer",
        "listops-short",
        task_changes={"min_length": 4, "max_length": 1900, "train": 64, "validation": 8, "test": 8},
        training_changes={"steps": 2, "batch": 64, "evaluate_every": 1, "warmup": 2},
    )
    folder = tmp_path / "runs" / run.run_id
    child = killed.start(killed.train_in_little_memory, run, folder, 200 * 2**20)
    assert child.end() == 0
    record = json.loads((folder / "run.json").read_text())
    assert record["outcome"] == "failed"
    assert re.match(r"out of memory; .*--accumulate 2", record["reason"])
    frame = rows.load_runs(folder.parent)
    assert frame["outcome"].tolist() == ["failed"]
    assert frame["reason"].tolist() == [record["reason"]]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("DefaultCPUAllocator"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: Exception, expected: bool) -> None:
    assert out_of_memory(error) is expected
