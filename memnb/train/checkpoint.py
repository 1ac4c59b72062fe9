"""Checkpoints: whole or absent, and never code.

A checkpoint is a file ``checkpoint-<step>.pt`` and its SHA-256 beside it. Both are written under a
temporary name, flushed to disk and renamed, the sum last; a file without a matching sum does not
count. The newest two are kept. They hold tensors and plain Python only (``weights_only=True``).
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any

import torch

from memnb.errors import RunError
from memnb.models.out_of_memory import out_of_memory
from memnb.train import files
from memnb.train.files import read_whole, write_atomically

log = logging.getLogger(__name__)

FORMAT = 1


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write ``state`` as the checkpoint of ``step`` and drop all but the newest two.

    Raises:
        RunError: the folder cannot be written or the disk is full; earlier checkpoints stay.
    """
    path = files.checkpoint_file(folder, step)
    content = to_bytes({"format": FORMAT, **state})
    write_atomically(path, content)
    write_atomically(files.sum_file(path), hashlib.sha256(content).hexdigest().encode())
    for old in files.counting(folder)[files.CHECKPOINTS_KEPT :]:
        files.drop(old)
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
    for path in files.counting(folder):
        content = read_whole(path)
        if content is not None:
            state, instead = _state(path, content), f"{path.name} is used instead"
            break
        damaged.append(path)
    for path in damaged:
        log.warning("%s is damaged and removed; %s.", path, instead)
        files.drop(path)
    return state


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


def to_bytes(state: Any) -> bytes:
    """``torch.save`` into memory."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
