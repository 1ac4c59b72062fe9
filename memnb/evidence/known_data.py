"""Which data the study's rows were trained on: a digest per task, ``data/reference/splits.csv``.

Two data sets can have the same form, and runs on them the same name: what is imported need not be
what everybody else has. Results on different data are not compared.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
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


def other_data(runs: Sequence[tuple[Run, str | None]]) -> list[str | None]:
    """What is wrong with the data of each run, to stand behind its name; None if nothing is, as far
    as is known: older rows do not say what they were trained on, and a task of one's own is free.

    Args:
        runs: each with the digest that its ``run.json`` gives as ``data``.

    Raises:
        DataError: a run is to be compared, and the committed digests are missing or damaged.
    """
    told = [None if run.preset == "custom" else digest for run, digest in runs]
    known = load() if any(told) else {}
    found: list[str | None] = []
    for (run, _), digest in zip(runs, told, strict=True):
        wanted = known.get(run.task.name)
        if None in (digest, wanted) or digest == wanted:
            found.append(None)
        else:
            found.append(
                f"was trained on other data than the study's ({digest}, where '{run.task.name}' "
                f"has {wanted}; 'memnb data check' says more)"
            )
    return found
