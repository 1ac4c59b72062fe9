"""The run folders of this machine: what is there, whether it is sound, what newer tests say of it,
and how one goes away."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import filelock

from memnb import paths
from memnb.config import Run
from memnb.errors import DataError, MemnbError, RunError, unknown
from memnb.evidence import known_data, rows
from memnb.evidence.rows import Record
from memnb.files import lock
from memnb.train.files import checkpoints, explain, read_whole, step_of, write_atomically

if TYPE_CHECKING:
    from memnb.models.network import Network

_REMOVED = ".removed-"


def folders(out: str | None = None) -> list[Path]:
    """Every run folder of this machine, by name, whatever state it is in."""
    return list(rows.run_folders([paths.runs(out)]))


def some(out: str | None = None) -> list[Path]:
    """:func:`folders`, of which there has to be one.

    Raises:
        RunError: there is none.
    """
    found = folders(out)
    if not found:
        raise RunError(
            f"There are no runs in {paths.runs(out)}; is --out the folder that holds runs/?"
        )
    return found


def find(name: str, out: str | None = None) -> Path:
    """The folder of the run called ``name``.

    Raises:
        MemnbError: there is none. A path is no name: nothing outside of ``runs/`` is ever found.
    """
    there = {folder.name: folder for folder in some(out)}
    if name not in there:
        raise unknown("run", name, there)
    return there[name]


def describe(folder: Path) -> Iterator[tuple[str, str]]:
    """What is known of a run, as pairs of a word and a text.

    Raises:
        DataError: its ``run.json``, or the list of the study's data, is missing or damaged.
    """
    record, run = rows.read_run(folder)
    yield "run", record.run_id
    yield "outcome", state(folder, record) + (f": {record.reason}" if record.reason else "")
    changes = rows.describe_changes(run)
    yield "model", run.model.name + (f" ({changes})" if changes else "")
    yield "task", f"{run.task.title} ({run.task.name}), preset {run.preset}, seed {run.seed}"
    if record.data is not None:
        (other,) = known_data.other_data([(run, record.data)])
        yield "data", f"{record.data}, other than the study's" if other else record.data
    yield (
        "step",
        f"{reached(folder, record):,} of {run.training.steps:,}, resumed {record.resumed} times",
    )
    for word, value in (
        ("validation", record.validation_accuracy),
        ("test", record.test_accuracy),
    ):
        if value is not None:
            yield word, f"accuracy {value:.2%}"
    yield "time", f"{record.seconds or 0:,.1f} s from {record.started}"
    for one in record.machines_in_turn():
        since = f" from step {one.from_step:,}" if one.from_step else ""
        yield "machine", f"{one.device_name}, {one.precision}, engine {one.engine}{since}"
        yield "made by", f"memnb {one.version} ({one.commit}), torch {one.torch}{since}"
    for again in record.examined_again:
        yield "asked again", f"{', '.join(again.files)} ({again.weights})"
    yield "folder", str(folder)
    for name, size in sizes(folder).items():
        yield "file", f"{name}, {size:,} bytes"


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file of a run folder, by name; without what went away while this looked, as
    files of a run that is being trained do, and a run that somebody removes."""
    found = {}
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(FileNotFoundError):
                found[path.name] = path.lstat().st_size
    return found


def state(folder: Path, record: Record) -> str:
    """The outcome in a record; of a run whose process was killed, that nobody trains it."""
    if record.outcome == "running" and not is_trained(folder):
        return "stopped"
    return record.outcome


def reached(folder: Path, record: Record) -> int:
    """The step that a run has come to. The record of one that is trained, or whose process was
    killed, says where it began: the newest checkpoint knows more."""
    saved = (step_of(name) or 0 for name in sizes(folder) if name.endswith(".pt"))
    return max([record.step or 0, *saved])


class Verified(NamedTuple):
    """What is wrong with a run folder, and what of it could not be checked: a sentence each."""

    damage: tuple[str, ...]
    unchecked: tuple[str, ...] = ()


def verify(folder: Path) -> Verified:
    """Whether all of a run folder is sound.

    Every row is read, the record is compared with its own hash and with the rows, weights are
    loaded into a model of the record's config, and checkpoints are compared with their sums. Where
    that model cannot be made, its block being known to another process only, weights are read.
    """
    try:
        record, run = rows.read_run(folder)
    except MemnbError as error:
        return Verified((str(error),))
    found, unchecked = [*rows.damage(folder), *_mismatches(folder, record)], []
    if (folder / "best.pt").exists():
        from memnb.weights import best_network

        try:
            best_network(folder, run)
        except (RunError, DataError) as error:
            found.append(str(error))
        except MemnbError as error:
            unchecked.append(f"best.pt was read, but not compared with its model: {error}")
    return Verified((*found, *_checkpoints(folder)), tuple(unchecked))


def _mismatches(folder: Path, record: Record) -> Iterator[str]:
    if folder.name != record.run_id:
        yield f"{folder} holds the run {record.run_id}; the folder was renamed."
    if record.outcome == "finished":
        tested = rows.tested(folder)
        if tested != [record.test_accuracy]:
            yield (
                f"{folder / 'metrics.jsonl'} has the test accuracy {tested}, but run.json says "
                f"{record.test_accuracy}."
            )


def _checkpoints(folder: Path) -> Iterator[str]:
    for path in checkpoints(folder):
        try:
            # One that is gone by now gave way to a newer one: the run is being trained.
            if read_whole(path) is None and path.exists():
                yield f"{path} is damaged; the one before it is used."
        except RunError as error:
            yield str(error)


def examine(folder: Path, device: str = "auto") -> list[str]:
    """Ask a finished run's best weights what it was not asked when it ended.

    Newer versions of memnb ask more at the end of a run (:func:`memnb.probes.causal.examine`).
    This adds the files of answers that a folder lacks; what is there stays as it is, and
    ``examined_again`` in ``run.json`` says what was added, by which code and where. A folder
    without ``best.pt`` gets the weights that come with memnb, in half precision, where they are of
    this very training. ``removal.jsonl`` and ``attention.npz`` are not made anew.

    Returns:
        The names of the files that were added.

    Raises:
        RunInUse: another process trains or examines the run.
        RunError: the run has not finished, was of another version of a user's block, or
            there are no weights of it; or the folder cannot be written.
        DataError: ``run.json`` or the weights are damaged, or the data of the task are missing.
        MemnbError: the device is not available.
    """
    from memnb.train.folder import locked

    held = locked(rows.read_run(folder)[1], folder)
    try:
        return _ask(folder, device)
    except OSError as error:
        raise RunError(explain(folder, error)) from None
    finally:
        held.release()


def _ask(folder: Path, device: str) -> list[str]:
    """:func:`examine`, while nobody else changes the folder."""
    import torch

    from memnb import tasks
    from memnb.train.device import choose_device
    from memnb.train.engine import DeviceSplit
    from memnb.train.examination import examination
    from memnb.train.folder import refuse_another_block, refuse_other_data
    from memnb.train.record import commit_of_code

    record, run = rows.read_run(folder)
    if record.outcome != "finished":
        raise RunError(
            f"{record.run_id} is {state(folder, record)}: only a finished run can be examined; let "
            "it finish first."
        )
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    refuse_another_block(run, folder, told)
    chosen = choose_device(device)
    network, source = _best(folder, record, run)
    network.to(chosen.kind).eval()
    data = tasks.load(run.task)
    refuse_other_data(run, folder, told, data.digest())
    test = DeviceSplit(data.test, chosen.kind)
    there = [path.name for path in folder.iterdir()]
    found = examination(network, test, run.seed, without=there)
    if found:
        said = {"files": [*found], "weights": source, "commit": commit_of_code()}
        said |= {"torch": str(torch.__version__), "device_name": chosen.name}
        before = told.get("examined_again", [])
        # The note first: a file without one would never be explained, one that is missing is asked
        # for again.
        if said not in before:
            text = json.dumps({**told, "examined_again": [*before, said]}, indent=1) + "\n"
            write_atomically(folder / "run.json", text.encode())
    for name, lines in found.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_atomically(folder / name, text.encode())
    return [*found]


def _best(folder: Path, record: Record, run: Run) -> tuple[Network, str]:
    """The network of a finished run, and where its weights are from."""
    from memnb import weights

    path = folder / "best.pt"
    if not path.exists():
        file = paths.weights() / f"{run.run_id}.safetensors"
        shipped = weights.load(file) if file.exists() else None
        facts = {} if shipped is None else shipped.facts
        if shipped is None or any(
            facts[name] != getattr(record, name) for name in ("test_accuracy", "best_step")
        ):
            raise RunError(
                f"{folder} holds no best.pt, and no weights of this training come with memnb; "
                "train the run again."
            )
        return shipped.network, "data/weights, half precision"
    return weights.best_network(folder, run), "best.pt"


def is_trained(folder: Path) -> bool:
    """Whether a process trains in this folder at the moment; also where that cannot be told."""
    try:
        lock(folder / "run.lock", timeout=0).release()
    except (filelock.Timeout, OSError):
        return True
    return False


def remove(folder: Path, even_finished: bool = False) -> None:
    """Remove a run folder; it disappears in one step.

    Raises:
        RunError: the run has finished (unless ``even_finished``), it is being trained, or the
            folder cannot be changed.
    """
    if not even_finished and _has_finished(folder):
        raise RunError(
            f"{folder.name} has finished, and its result would be lost; repeat the command with "
            "--yes if that is meant."
        )
    gone = folder.with_name(f"{_REMOVED}{folder.name}-{os.getpid()}")
    try:
        held = lock(folder / "run.lock", timeout=0)
        try:
            folder.rename(gone)
        finally:
            held.release()
        # Whatever an earlier call was killed over goes as well.
        for left in folder.parent.glob(f"{_REMOVED}*"):
            with contextlib.suppress(FileNotFoundError):  # another call removes it as well
                if left.is_symlink():
                    left.unlink()
                else:
                    shutil.rmtree(left)
    except filelock.Timeout:
        raise RunError(f"{folder.name} is being trained; stop that process first.") from None
    except OSError as error:
        raise RunError(
            f"{folder} cannot be removed ({error.strerror}); see who owns it, and try again."
        ) from None


def _has_finished(folder: Path) -> bool:
    try:
        return rows.read_run(folder)[0].outcome == "finished"
    except MemnbError:
        return False  # damaged: there is no result to lose
