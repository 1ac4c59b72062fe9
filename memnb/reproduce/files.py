"""Files of the report: written whole or not at all, and recognised by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from memnb.errors import RunError


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder.

    Raises:
        RunError: the disk is full or the folder is read-only; the old file, if any, stands.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes files private; a report is for reading.
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
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
