"""Results of runs in ``data/results/``: committed once, completed later, never overwritten."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from memnb.errors import DataError, RunError
from memnb.evidence import rows
from memnb.files import replacing

#: The seed whose attention maps are committed: one picture of each model is enough, and a file of
#: a full-scale run has a megabyte.
ATTENTION_SEED = 0


def commit(run_folder: str | os.PathLike[str], destination: str | os.PathLike[str]) -> Path:
    """Copy the results of one run (not its weights) to ``destination/<run_id>``; all or nothing.

    Attention maps are copied for seed :data:`ATTENTION_SEED` only.

    Returns:
        The new folder. The same result committed a second time is left as it is.

    Raises:
        DataError: the folder holds no sound run: a damaged file, or an id that is not the hash
            of its config.
        RunError: the run has neither finished nor failed, another result of the same run stands
            there already, or the copy could not be written.
    """
    source, parent = Path(run_folder), Path(destination)
    record, _ = rows.read_run(source)
    if record.outcome not in rows.ENDED:
        raise RunError(
            f"{record.run_id} is {record.outcome}: only a finished or failed run can be committed; "
            "let it finish first."
        )
    for problem in rows.damage(source):
        raise DataError(f"{problem} A damaged result is not committed.")
    target = parent / record.run_id
    if target.exists():
        name = difference(source, target)
        if name is None:
            return target
        raise RunError(
            f"{target} already holds another result of this run ({name} differs); remove that "
            "folder first if the new one is to replace it."
        )
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".commit-", suffix=".tmp", dir=parent) as temporary:
            copy = Path(temporary) / record.run_id
            copy.mkdir()
            for name in rows.RESULT_FILES:
                if name == "attention.npz" and record.config["seed"] != ATTENTION_SEED:
                    continue
                if (source / name).exists():
                    shutil.copyfile(source / name, copy / name)
            copy.rename(target)
    except OSError as error:
        raise _unwritten(record.run_id, parent, error) from error
    return target


def asked_since(run: Path, other: Path) -> list[str] | None:
    """The files that the result in ``run`` has been given since the copy of it in ``other``
    (``memnb runs examine``); None if it is another result, or not the later copy.

    The records then differ in ``examined_again`` only, which names these files; all others are the
    same in both.

    Raises:
        DataError: a record is missing or damaged.
    """
    (record, _), _ = rows.read_run(run), rows.read_run(other)
    if _told(run) != _told(other):
        return None
    named = {name for again in record.examined_again for name in again.files}
    new = [name for name in _differing(run, other) if name != "run.json"]
    later = all(name in named and not (other / name).exists() for name in new)
    return new if later else None


def _told(folder: Path) -> dict[str, Any]:
    """A record without what was noted after the run had ended."""
    record: dict[str, Any] = json.loads((folder / "run.json").read_bytes())
    return {key: value for key, value in record.items() if key != "examined_again"}


def complete(run: Path, target: Path, names: Sequence[str]) -> None:
    """Add files of ``run`` (:func:`asked_since`), and its record, to the same result in ``target``;
    all or nothing.

    Who is killed over it leaves a record that names files which are not there yet: they are added
    the next time.

    Raises:
        RunError: they could not be written; ``target`` is as it was.
    """
    before = (target / "run.json").read_bytes()
    try:
        for name in ("run.json", *names):
            with replacing(target / name) as file:
                file.write((run / name).read_bytes())
    except BaseException as error:
        take_back(target, names, before)
        if not isinstance(error, OSError):
            raise
        raise _unwritten(target.name, target, error) from error


def _unwritten(run_id: str, folder: Path, error: OSError) -> RunError:
    return RunError(
        f"The results of {run_id} could not be written to {folder} ({error.strerror or error}); "
        "nothing was changed there."
    )


def take_back(target: Path, names: Sequence[str], record: bytes) -> None:
    """Undo :func:`complete`: without these files, and with the ``run.json`` from before."""
    for name in names:
        (target / name).unlink(missing_ok=True)
    if (target / "run.json").read_bytes() != record:
        with replacing(target / "run.json") as file:
            file.write(record)


def difference(run: Path, other: Path) -> str | None:
    """The first file in which two results of one run differ; None where all are the same.

    Raises:
        DataError: the record of ``run`` is missing or damaged.
    """
    return next(_differing(run, other), None)


def _differing(run: Path, other: Path) -> Iterator[str]:
    """The files in which two results of one run differ.

    Attention maps that :func:`commit` leaves out may be missing from one of the two.
    """
    seed = rows.read_run(run)[1].seed
    for name in rows.RESULT_FILES:
        here, there = _content(run / name), _content(other / name)
        one_is_missing = here is None or there is None
        if name == "attention.npz" and seed != ATTENTION_SEED and one_is_missing:
            continue
        if here != there:
            yield name


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
