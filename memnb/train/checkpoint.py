"""Checkpoints: whole or absent, and never code.

A checkpoint is a file ``checkpoint-<step>.pt`` and its SHA-256 beside it. Both are written under a
temporary name, flushed to disk and renamed, the sum last; a file without a matching sum does not
count. The newest two are kept. They hold tensors and plain Python only (``weights_only=True``).
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

from memnb.errors import RunError
from memnb.files import replacing
from memnb.models.out_of_memory import out_of_memory

log = logging.getLogger(__name__)

FORMAT = 1
KEPT = 2


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``state`` as the checkpoint of ``step`` and drop all but the newest two.

    Raises:
        RunError: the folder cannot be written or the disk is full; earlier checkpoints stay.
    """
    path = folder / f"checkpoint-{step:08d}.pt"
    content = to_bytes({"format": FORMAT, **state})
    write_atomically(path, content)
    write_atomically(_sum_file(path), hashlib.sha256(content).hexdigest().encode())
    for old in _checkpoints(folder)[KEPT:]:
        _drop(old)
    return path


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole, or None if there is none.

    A damaged one is removed, because it would stand in the way of newer ones; the log warns of it
    and says what is used in its place.

    Raises:
        RunError: the checkpoint was written by a newer memnb, is no checkpoint at all, or cannot
            be read.
    """
    damaged = []
    state, instead = None, "there is none before it, so the run starts again"
    for path in _checkpoints(folder):
        content = read_whole(path)
        if content is not None:
            state, instead = _state(path, content), f"{path.name} is used instead"
            break
        damaged.append(path)
    for path in damaged:
        log.warning("%s is damaged and removed; %s.", path, instead)
        _drop(path)
    return state


def read_whole(path: Path) -> bytes | None:
    """The content of a checkpoint file if it has the sum that was written beside it, else None.

    Raises:
        RunError: it is there and cannot be read, which does not mean that it is damaged.
    """
    try:
        content, expected = path.read_bytes(), _sum_file(path).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(
            f"{path} cannot be read ({error.strerror}); make it readable and start the same "
            "command again, or remove it to do without it."
        ) from None
    return content if hashlib.sha256(content).hexdigest().encode() == expected else None


def _state(path: Path, content: bytes) -> dict[str, Any]:
    """What a checkpoint of any format up to this one holds."""
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # foreign bytes fail in pickle, zipfile, struct or PyTorch
        if out_of_memory(error):  # says nothing of the file
            raise
        log.debug("%s: %s", path, error)
        raise RunError(
            f"{path} is not a checkpoint of memnb (it holds more than tensors and plain values, "
            "which is never loaded); remove the file to start the run again."
        ) from None
    found = state.get("format") if isinstance(state, dict) else None
    if not isinstance(found, int):
        raise RunError(
            f"{path} is not a checkpoint of memnb (it says no format); remove the file to start "
            "the run again."
        )
    if found > FORMAT:
        raise RunError(
            f"{path} has checkpoint format {found}, but this memnb reads up to {FORMAT}; update "
            "memnb or remove the file to start the run again."
        )
    return dict(state)


def remove(folder: Path) -> None:
    """Drop all checkpoints of a run that has ended, also one that a kill left without its sum."""
    for path in folder.glob("checkpoint-*.pt"):
        _drop(path)


def remove_unfinished(folder: Path) -> None:
    """Drop what a process that was killed while it wrote or dropped a checkpoint left behind."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in folder.glob("checkpoint-*.pt"):
        if not _sum_file(path).is_file():
            path.unlink(missing_ok=True)


def _drop(path: Path) -> None:
    # The sum goes first: a checkpoint without one does not count.
    _sum_file(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def to_bytes(state: Any) -> bytes:
    """``torch.save`` into memory."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``, or leave it as it was.

    Raises:
        RunError: no space, no permission, or another trouble of the file system.
    """
    try:
        with replacing(path) as file:
            file.write(content)
    except OSError as error:
        raise RunError(explain(path, error)) from None


def explain(path: Path, error: OSError) -> str:
    """One sentence on a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"The disk is full: {path} could not be written; free some space and start the same "
            "command again, it goes on from the last checkpoint."
        )
    reason = error.strerror or str(error)
    return (
        f"{path} could not be written ({reason}); choose another folder with --out, or make this "
        "one writable, and start the same command again."
    )


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first; only those whose sum was written."""
    return sorted(
        (path for path in folder.glob("checkpoint-*.pt") if _sum_file(path).is_file()),
        reverse=True,
    )


def _sum_file(path: Path) -> Path:
    return path.with_suffix(".sha256")
