"""Which data the study's rows were trained on: a digest per task, ``data/reference/splits.csv``.

Two data sets can have the same form, and runs on them the same name: what is imported need not be
what everybody else has. Results on different data are not compared.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from memnb import paths
from memnb.config import Run
from memnb.errors import DataError

COLUMNS = ["task", "digest"]


def file() -> Path:
    """The committed digests."""
    return paths.reference() / "splits.csv"


def load() -> dict[str, str]:
    """Task -> digest of its three splits (:meth:`memnb.tasks.base.Dataset.digest`). A task that is
    not here has data that nobody in this project has had.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = file()
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            header, *rows = csv.reader(lines)
        if header != COLUMNS:
            raise ValueError(f"its header should be {','.join(COLUMNS)}")
        return {task: digest for task, digest in rows}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); restore it, or make it with tools/datasets.py."
        ) from None


def other_data(run: Run, digest: str | None, known: Mapping[str, str]) -> str | None:
    """What is wrong with a run's data, to stand behind its name; None if nothing is, as far as
    is known: older rows do not say what they were trained on, and a task of one's own is free.

    Args:
        run: of the study, or not.
        digest: ``data`` of its ``run.json``.
        known: what :func:`load` gives.
    """
    wanted = known.get(run.task.name)
    if run.preset == "custom" or None in (digest, wanted) or digest == wanted:
        return None
    return (
        f"was trained on other data than the study's ({digest}, where '{run.task.name}' has "
        f"{wanted}; 'memnb data check' says more)"
    )
