"""The files of a run's folder: written whole or not at all, and what checkpoints are called.

No torch here: who lists runs, or carries them from machine to machine, does without it.
"""

from __future__ import annotations

import errno
import hashlib
import re
from pathlib import Path

from memnb.errors import RunError
from memnb.files import replacing

#: So many checkpoints are kept, the newest.
CHECKPOINTS_KEPT = 2
_CHECKPOINT = re.compile(r"checkpoint-(\d+)\.(?:pt|sha256)")


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


# --- checkpoints -----------------------------------------------------------------------------


def checkpoint_file(folder: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return folder / f"checkpoint-{step:08d}.pt"


def sum_file(checkpoint: Path) -> Path:
    """The SHA-256 of a checkpoint, which is written after it and dropped before it: without one it
    does not count."""
    return checkpoint.with_suffix(".sha256")


def step_of(name: str) -> int | None:
    """The step of a checkpoint or of its sum; None for any other file."""
    found = _CHECKPOINT.fullmatch(name)
    return int(found[1]) if found else None


def checkpoints(folder: Path) -> list[Path]:
    """All of a folder, oldest first, those without a sum among them."""
    return sorted(folder.glob("checkpoint-*.pt"))


def counting(folder: Path) -> list[Path]:
    """Those with a sum, newest first."""
    return [path for path in reversed(checkpoints(folder)) if sum_file(path).is_file()]


def read_whole(checkpoint: Path) -> bytes | None:
    """The content of a checkpoint if it has the sum that was written beside it, else None.

    Raises:
        RunError: it is there and cannot be read, which does not mean that it is damaged.
    """
    try:
        content, expected = checkpoint.read_bytes(), sum_file(checkpoint).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(
            f"{checkpoint} cannot be read ({error.strerror}); make it readable and start the same "
            "command again, or remove it to do without it."
        ) from None
    return content if hashlib.sha256(content).hexdigest().encode() == expected else None


def drop(checkpoint: Path) -> None:
    """Remove a checkpoint and its sum."""
    sum_file(checkpoint).unlink(missing_ok=True)
    checkpoint.unlink(missing_ok=True)


def drop_checkpoints(folder: Path) -> None:
    """Drop all checkpoints of a run that has ended, also one that a kill left without its sum."""
    for path in checkpoints(folder):
        drop(path)


def drop_unfinished(folder: Path) -> None:
    """Drop what a process that was killed while it wrote or dropped a checkpoint left behind."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in checkpoints(folder):
        if not sum_file(path).is_file():
            path.unlink(missing_ok=True)
