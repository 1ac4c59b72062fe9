"""Files that are written whole or not at all, and locks of files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import filelock


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which takes the place of ``path`` in one step when it is whole and on disk.

    Where that fails, ``path`` is as it was, and nothing is left beside it.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def lock(path: Path, timeout: float = -1) -> filelock.BaseFileLock:
    """The lock file ``path``, held; who calls releases it.

    Args:
        path: in a folder that is there.
        timeout: seconds to wait for another process that holds it; -1 for as long as it takes.

    Raises:
        filelock.Timeout: another process holds it.
        OSError: it cannot be made, or its file system has no locks (ENOLCK).
    """
    held = filelock.FileLock(path)
    try:
        held.acquire(timeout=timeout)
    except NotImplementedError:  # how filelock says it
        raise OSError(errno.ENOLCK, "its file system cannot lock files", str(path)) from None
    return held
