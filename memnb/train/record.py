"""``run.json``, the record of a run: what it says, and whether its run has ended. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def outcome(folder: Path) -> dict[str, Any] | None:
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
    return record is not None and str(record.get("reason")).startswith("out of memory")
