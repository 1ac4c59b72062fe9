"""``run.json``, the record of a run: of which code, and whether it has ended. No torch here."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from memnb import paths
from memnb.errors import OUT_OF_MEMORY


def record_of(folder: Path) -> dict[str, Any] | None:
    """The content of a run's ``run.json``; None if the run has none that can be read."""
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def has_ended(record: dict[str, Any] | None) -> bool:
    """Whether a ``run.json`` is that of a run that need not be trained again."""
    if record is None:
        return False
    failed = record.get("outcome") == "failed" and not was_out_of_memory(record)
    return record.get("outcome") == "finished" or failed


def was_out_of_memory(record: dict[str, Any] | None) -> bool:
    """Whether a run failed for want of memory: that says something of the machine, not of it."""
    return record is not None and str(record.get("reason")).startswith(OUT_OF_MEMORY)


def commit_of_code() -> str | None:
    """The commit of the package that is running, with a + if a module was changed or added; None if
    unknown.

    Rows, notebooks and tests train nothing: that they differ says nothing of a run.
    """
    return _commit("--", "memnb")


def commit_of_checkout() -> str | None:
    """The commit of the checkout or wheel that is running, with a + if a file of the checkout was
    changed; None if unknown.

    Files that git does not know, such as what ``--out`` has put there, are no part of it.
    """
    return _commit("--untracked-files=no")


def _commit(*asked: str) -> str | None:
    """The commit, with a + if ``git status``, ``asked`` so, names a file.

    Where the code travels without its history (a container, a cluster), MEMNB_COMMIT says it.
    """
    root = paths.checkout()
    if root is None or not (root / ".git").exists():
        return os.environ.get("MEMNB_COMMIT")

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "--short=12", "HEAD")
        return commit + "+" if git("status", "--porcelain", *asked) else commit
    except (OSError, subprocess.SubprocessError):
        return None
