"""A run's folder: who is at work in it, whose it is, and its rows, which are never torn."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import filelock

from memnb.config import Run
from memnb.errors import RunError, RunInUse
from memnb.files import lock
from memnb.models.registry import fingerprint
from memnb.probes.answers import Rows
from memnb.train import files

log = logging.getLogger(__name__)


def locked(run: Run, folder: Path) -> filelock.BaseFileLock:
    """The lock of a run's folder, held; the folder is made if missing.

    Raises:
        RunInUse: another process holds it.
        RunError: the folder cannot be written or locked.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock(folder / "run.lock", timeout=0.5)  # who lists runs holds it for a moment
    except filelock.Timeout:
        raise RunInUse(
            f"Another process is training or examining {run.run_id}; wait for it, or choose "
            "another folder with --out."
        ) from None
    except OSError as error:
        raise RunError(files.explain(folder, error)) from None


def put_aside(record: Path) -> None:
    """Keep a damaged ``run.json``, since another one is about to take its place.

    Raises:
        OSError: it cannot be read at all, which says nothing of what it holds.
    """
    if record.exists():
        record.read_bytes()
        kept = record.with_name("run.json.damaged")
        record.replace(kept)
        log.warning(
            "%s cannot be read, so that nobody knows how the run ended: it is kept as %s, and the "
            "run goes on from its last checkpoint, or from the beginning where none is left.",
            record,
            kept.name,
        )


def refuse_another(run: Run, folder: Path, record: dict[str, Any] | None) -> None:
    held = None if record is None else record.get("run_id")
    if isinstance(held, str) and held != run.run_id:
        raise RunError(
            f"{folder} holds the run {held}, but the run to train is {run.run_id}; choose another "
            "folder with --out."
        )


def refuse_another_block(run: Run, folder: Path, record: dict[str, Any] | None) -> None:
    """A run of a user's block is of one version of it: neither its result nor its checkpoint is
    that of another.

    Raises:
        RunError: ``record``, the content of a ``run.json``, is of another version.
    """
    before = (record or {}).get("block")
    if before is not None and before != fingerprint(run.model.kind):
        raise RunError(
            f"{folder} holds a run of another version of the block '{run.model.kind}', whose "
            f"source has changed since; remove it with 'memnb runs remove {run.run_id} --yes', or "
            "give the new block another name."
        )


def refuse_other_data(run: Run, folder: Path, record: dict[str, Any] | None, digest: str) -> None:
    """Half of a run on one data set and half on another is a result on neither.

    Raises:
        RunError: ``record``, the content of a ``run.json``, is of data with another digest.
    """
    before = (record or {}).get("data")
    if before is not None and before != digest:
        raise RunError(
            f"{folder} holds a run on other data of '{run.task.name}' ({before}) than those that "
            f"are here now ({digest}); import the former again ('memnb data check' says "
            f"what is here), or remove the run with 'memnb runs remove {run.run_id} --yes'."
        )


def remove_if_nothing_began(folder: Path) -> None:
    """Remove a folder that holds nothing but its lock, as after a mistake in the call."""
    with contextlib.suppress(OSError):
        if [path.name for path in folder.iterdir()] in ([], ["run.lock"]):
            (folder / "run.lock").unlink(missing_ok=True)
            folder.rmdir()


class Journal:
    """Rows of one ``.jsonl`` file: appended as they come, and carried by every checkpoint.

    So a resumed run rewrites the file as it was at the checkpoint; nothing is torn or doubled.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: Rows = []

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def restore(self, rows: Rows) -> None:
        content = self.path.read_bytes() if self.path.exists() else b""
        if content and not content.endswith(b"\n"):  # by a kill or a full disk
            log.warning(
                "%s ends in a torn line; it is written anew, as it was at the last checkpoint.",
                self.path,
            )
        self.rows = list(rows)
        self.write()

    def write(self) -> None:
        """All rows, on disk: those that were added may be in the memory of the system only."""
        text = "".join(json.dumps(row) + "\n" for row in self.rows)
        files.write_atomically(self.path, text.encode())
