"""Files of the output: how a failed write is told, and how a file is recognised."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memnb.errors import RunError
from memnb.files import replacing


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder.

    Raises:
        RunError: the disk is full or the folder is read-only; the old file, if any, stands.
    """
    with telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            os.fchmod(file.fileno(), 0o644)  # a report is for reading
            file.write(content)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """What is tried inside writes ``path``, a file or a folder.

    Raises:
        RunError: it failed.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Cannot write {path}: {(error.strerror or str(error)).lower()}; free some space or "
            "choose another folder with --out."
        ) from error


def content_hash(path: Path) -> str:
    """SHA-256 of a file's content; empty if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
