"""Take in rows from elsewhere: verified, all of them or none.

A source is a run folder, a folder that holds run folders (such as ``runs/`` or an output folder),
or a tar archive of these. Nothing in it is trusted: links, devices, absurd sizes and paths that
lead outside are refused, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memnb import __version__, paths
from memnb.config import BUILT_IN, Model
from memnb.errors import DataError, MemnbError, RunError
from memnb.evidence import known_data, results, rows
from memnb.tasks import archives
from memnb.train.record import was_out_of_memory

#: A full-scale row has about 2 MB.
MOST_BYTES = 16 * 2**20
_FORMAT = 1
_NAMES = "|".join(re.escape(name) for name in rows.RESULT_FILES)
_VERSION = re.compile(r"\d{1,6}(?:\.\d{1,6})*")
_FILE = re.compile(rf"(?:^|/)([A-Za-z0-9][A-Za-z0-9-]*)/({_NAMES})$")


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        folder: where the rows are now.
        added: ids of the new rows.
        known: ids of rows that were there, the same to the byte, or asked more since.
        completed: ids of rows that were there and got the files that they have been given since.
        left_out: a sentence for each run that is no result (it has not ended, say), and for each
            of which another result is there.
        notes: a sentence for each new row that other code than this memnb's has made.
    """

    folder: Path
    added: tuple[str, ...]
    known: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()


def destination() -> Path:
    """The committed rows of the checkout.

    Raises:
        RunError: memnb is installed from a wheel, whose rows are not to be changed.
    """
    if paths.checkout() is None:
        raise RunError(
            "Rows are merged into data/results/ of a checkout, but memnb is installed from a "
            "wheel; clone the repository and install it with pip install -e ."
        )
    return paths.stored_results()


def merge(sources: Sequence[Path], folder: Path) -> Merged:
    """Verify every run in ``sources`` and add those that are new to ``folder``.

    Verified are: the format version; that no newer memnb made it; that the run's id is the hash of
    its config; that its files are whole, and those of a finished run all there; that its test
    accuracy is the one in its metrics; that no other result of the same run is among the sources.
    Where ``folder`` holds another one, that one stays: nobody may choose between two.

    Raises:
        MemnbError: a source is missing or holds no run.
        DataError: a damaged or suspicious file. Nothing was added.
        RunError: two results of one run among the sources. Nothing was added.
    """
    with tempfile.TemporaryDirectory(prefix="memnb-merge-") as scratch:
        found: dict[str, Path] = {}
        left_out: list[str] = []
        for number, source in enumerate(sources):
            runs = list(_runs(source, Path(scratch) / str(number)))
            if not runs:
                raise MemnbError(
                    f"{source} holds no run: expected a folder with a run.json, a folder of such "
                    "folders, or a tar archive of them."
                )
            for run in runs:
                reason = _verify(run)
                if reason is None:
                    _add(found, run)
                else:
                    left_out.append(f"{run.name}: {reason}")
        new = {run_id: run for run_id, run in found.items() if not (folder / run_id).exists()}
        since: dict[str, list[str]] = {}
        for run_id, run in found.items():
            if run_id in new:
                continue
            names = _given_since(run, folder / run_id)
            if names is None:  # 'memnb reproduce' trains some of the committed runs again
                left_out.append(f"{run_id}: {_another(run, folder / run_id)}")
            else:
                since[run_id] = names
        known = [run_id for run_id, names in since.items() if not names]
        completed = [run_id for run_id, names in since.items() if names]
        notes = [f"{run_id} {note}" for run_id, run in new.items() for note in _origin(run)]
        _commit(new, {run_id: (found[run_id], since[run_id]) for run_id in completed}, folder)
    return Merged(folder, tuple(new), tuple(known), tuple(left_out), tuple(notes), tuple(completed))


def _commit(new: dict[str, Path], more: dict[str, tuple[Path, list[str]]], folder: Path) -> None:
    """Copy the ``new`` runs, and the files in ``more`` to runs that are there; all or nothing."""
    with contextlib.ExitStack() as undo:
        for run_id, (run, names) in more.items():
            target = folder / run_id
            before = (target / "run.json").read_bytes()
            results.complete(run, target, names)
            undo.callback(results.take_back, target, names, before)
        for run_id, run in new.items():
            is_ours = not (folder / run_id).exists()  # else another merge has added it since
            target = results.commit(run, folder)
            if is_ours:
                undo.callback(shutil.rmtree, target, ignore_errors=True)
        undo.pop_all()


# --- finding ---------------------------------------------------------------------------------


def _runs(source: Path, scratch: Path) -> Iterator[Path]:
    """The run folders of a source; those of an archive are unpacked into ``scratch``."""
    if source.is_dir():
        yield from _below(source)
    elif source.is_file():
        _unpack(source, scratch)
        yield from _below(scratch)
    else:
        raise MemnbError(f"There is no file or folder {source}; check the path.")


def _below(folder: Path) -> Iterator[Path]:
    if os.path.lexists(folder / "run.json"):
        yield folder
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        # A name with a dot is an unfinished copy.
        if entry.is_symlink() and entry.is_dir():
            yield Path(entry)
        elif entry.is_dir() and not entry.name.startswith("."):
            yield from _below(Path(entry))


def _unpack(archive: Path, scratch: Path) -> None:
    """Only files of results, under names that this code has chosen to know."""
    scratch.mkdir()
    for match, file in archives.files(archive, _FILE):
        path = scratch / match[1] / match[2]
        if path.exists():
            raise DataError(f"{archive} holds {match[1]}/{match[2]} twice; it is refused.")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(archives.whole(file, MOST_BYTES, f"{match[2]} in {archive}"))


# --- verifying -------------------------------------------------------------------------------


def _verify(run: Path) -> str | None:
    """None for a sound result, or why the run is none yet.

    Raises:
        DataError: it is not to be trusted.
    """
    if run.is_symlink():
        return "it is a link; name the folder that it leads to."
    for name in rows.RESULT_FILES:
        _refuse_special(run / name)
    raw = _record(run)
    if raw.get("format") != _FORMAT:
        raise DataError(
            f"{run / 'run.json'} has format {raw.get('format')!r}, but this memnb reads format "
            f"{_FORMAT}; update memnb, or train the run again."
        )
    _refuse_newer(run, raw)
    try:
        record, config = rows.read_run(run)
    except DataError as error:
        raise DataError(f"{str(error).removesuffix('.')}; nothing was added.") from None
    if record.outcome not in rows.ENDED:
        return f"it is {record.outcome}; let it finish first."
    if was_out_of_memory(raw):
        return "it ran out of memory, which says something of a machine and not of the run."
    if config.preset == "custom":
        return "its task or training is not that of the study, so no page would show it."
    (other,) = known_data.other_data([(config, record.data)])
    if other:
        return f"it {other}, so no page would show it."
    for problem in rows.damage(run):
        raise DataError(f"{problem.removesuffix('.')}; nothing was added.")
    if record.outcome == "finished":
        _refuse_incomplete(run, config.model)
        _compare_accuracy(run, record)
    return None


def _refuse_special(path: Path) -> None:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(state.st_mode):
        raise DataError(f"{path} is a link or device and not a plain file; it is refused.")
    if state.st_size > MOST_BYTES:
        raise DataError(
            f"{path} has {state.st_size / 1e6:.0f} MB, but a result has at most "
            f"{MOST_BYTES / 1e6:.0f} MB; it is refused."
        )


def _record(run: Path) -> dict[str, Any]:
    path = run / "run.json"
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} could not be read ({error}); it is refused.") from None
    if not isinstance(record, dict):
        raise DataError(f"{path} is no record of a run; it is refused.")
    return record


def _refuse_newer(run: Path, record: dict[str, Any]) -> None:
    version = record.get("version")
    if _numbers(version) > _numbers(__version__):
        raise DataError(
            f"{run / 'run.json'} was made by memnb {str(version)[:40]!a}, but this is the older "
            f"{__version__}, which may misread it; update memnb, nothing was added."
        )


def _numbers(version: object) -> tuple[int, ...]:
    """``(0, 1)`` of ``"0.1.0"``, to be compared; nothing of what is no version."""
    match = _VERSION.match(version) if isinstance(version, str) else None
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:  # 1.0 is not newer than 1
        numbers.pop()
    return tuple(numbers)


def _origin(run: Path) -> Iterator[str]:
    """What is to be known of a row that this memnb's code, as it was committed, has not made."""
    record = _record(run)
    version = record.get("version")
    if version != __version__:
        yield f"was made by memnb {version!a}, but this is {__version__}."
    if str(record.get("commit")).endswith("+"):
        yield f"was made by code with uncommitted changes ({record['commit']!a})."


def _refuse_incomplete(run: Path, model: Model) -> None:
    """What every version of the trainer has written has to be there.

    So causal tests, usage, lengths, kernels and attention maps are not asked for: older results
    lack them, and so do some models.
    """
    needed = ["metrics.jsonl"]
    needed += ["probes.jsonl"] if model.memory > 0 else []
    needed += ["removal.jsonl"] if model.memory > 1 else []
    for name in needed:
        path = run / name
        # A block of one's own need not have what is measured; then the file has no line.
        if not path.is_file() or (model.kind in BUILT_IN and path.stat().st_size == 0):
            raise DataError(
                f"{path} is missing or empty, but every finished run of {model.name} has it; copy "
                "the run again as a whole, nothing was added."
            )


def _compare_accuracy(run: Path, record: rows.Record) -> None:
    """The number that counts stands in two files, which have to agree."""
    tested = rows.tested(run)
    if tested != [record.test_accuracy]:
        raise DataError(
            f"{run / 'run.json'} says a test accuracy of {record.test_accuracy}, but "
            f"metrics.jsonl says {tested}; it is refused."
        )


def _add(found: dict[str, Path], run: Path) -> None:
    """Of several copies of one result, the one that was asked last is taken.

    Raises:
        RunError: they are two results of one run.
    """
    run_id = rows.read_run(run)[0].run_id
    other = found.setdefault(run_id, run)
    if (names := _given_since(run, other)) is None:
        raise RunError(
            f"{other} and {run} are two results of one run ({results.difference(run, other)} "
            "differs); keep one of them, nothing was added."
        )
    if names:
        found[run_id] = run


def _given_since(run: Path, other: Path) -> list[str] | None:
    """The files that the result in ``run`` has been given since the copy of it in ``other``; none
    where the two are the same, or ``other`` is the later copy. None if they are two results.
    """
    if results.difference(run, other) is None or results.asked_since(other, run) is not None:
        return []
    return results.asked_since(run, other)


def _another(run: Path, there: Path) -> str:
    """That another result is ``there`` and stays, and how each of the two has ended."""
    ended = [_ended(rows.read_run(folder)[0]) for folder in (there, run)]
    differs = f"{results.difference(run, there)} differs"
    return f"another result is there ({ended[0]}, here {ended[1]}; {differs}), and stays."


def _ended(record: rows.Record) -> str:
    accuracy = record.test_accuracy
    return record.outcome if accuracy is None else f"test accuracy {accuracy:.2%}"
