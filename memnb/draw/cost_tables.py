"""What the study costs: hours spent, hours left, and hours of a rerun, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from memnb.draw.tables import number, table

#: How a time is marked that rests on steps or on other runs, or on a data sheet.
SCALED, ASSUMED = "~", "≈"


def spent(costs: pd.DataFrame) -> pd.DataFrame:
    """Planned and ended runs per artefact, and the GPU hours that were spent and are left.

    Args:
        costs: of ``memnb.reproduce.cost.by_artefact``.

    Returns:
        Columns ``Artefact``, ``Runs planned``, ``Ended``, ``Left``, ``GPU hours spent`` and
        ``Left, hours on one H100``.
    """
    columns = ["Artefact", "Runs planned", "Ended", "Left", "GPU hours spent",
               "Left, hours on one H100"]  # fmt: skip
    rows = [
        [
            line["artefact"],
            *(number(line[key]) for key in ("planned", "ended", "left")),
            _hours(line["spent"]),
            _mark(line["H100 basis"]) + _hours(line["left_seconds"]) if line["left"] else "–",
        ]
        for line in costs.to_dict("records")
    ]
    return table(rows, columns)


def rerun(costs: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """What all runs of an artefact take from the start, in hours of one device of each kind.

    Args:
        costs: of ``memnb.reproduce.cost.by_artefact``.
        kinds: of devices, as the columns of ``costs`` name them.

    Returns:
        Columns ``Artefact``, ``Runs``, one per kind, and ``Rests on (H100)``. A number without a
        mark was measured; :data:`SCALED` and :data:`ASSUMED` mark those that were not, by the
        weakest of what they rest on.
    """
    columns = ["Artefact", "Runs", *kinds, "Rests on (H100)"]
    rows = [
        [
            line["artefact"],
            number(line["planned"]),
            *(_mark(line[f"{kind} basis"]) + _hours(line[kind]) for kind in kinds),
            line["H100 basis"],
        ]
        for line in costs.to_dict("records")
    ]
    return table(rows, columns)


def _mark(basis: str) -> str:
    """Of the weakest thing that an estimate rests on, such as ``3 measured, 5 scaled``."""
    if "assumed" in basis:
        return ASSUMED
    return SCALED if "scaled" in basis or "timed" in basis else ""


def _hours(seconds: float) -> str:
    hours = float(f"{seconds / 3600:.3g}")  # an estimate deserves no more digits
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}"
