"""What filters learn, from their rows: how far kernels move, and runs that differ in the kernel."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memnb.evidence.claims import ABLATION_MEMORY

#: Kinds of kernel: in words, and whether the taps are trained.
KERNELS = {
    "learned": ("learned (ConvLuna)", True),
    "shuffled": ("learned, taps at shuffled places", True),
    "random": ("random, not trained", False),
    "smooth": ("fixed mean", False),
    "difference": ("fixed difference", False),
    "none": ("no filter, learned temperature", False),
    "luna": ("Luna", True),
}
#: Kinds that are run as controls of learning; a task without them is not shown.
CONTROLS = ("smooth", "random")


def distances(filters: pd.DataFrame) -> pd.DataFrame:
    """``filters`` by step, with ``moved``: distance of a kernel from its start over its norm there.

    Args:
        filters: long frame of :func:`memnb.evidence.rows.load_filters`; rows without a kernel are
            left out.
    """
    taps = taps_of(filters)
    ordered = filters.dropna(subset=taps[:1]).sort_values("step", kind="stable")
    kernels = ordered[taps].fillna(0.0)  # a tap that a shorter kernel lacks adds nothing
    keys = [ordered[name] for name in ("run_id", "block", "head")]
    first = kernels.groupby(keys).transform("first").to_numpy()
    distance = np.linalg.norm(kernels.to_numpy() - first, axis=1)
    return ordered.assign(moved=distance / np.linalg.norm(first, axis=1))


def taps_of(filters: pd.DataFrame) -> list[str]:
    """The columns of the taps that any kernel in ``filters`` has, in the order of the sequence."""
    names = [name for name in filters.columns if name.startswith("tap_")]
    return [name for name in names if filters[name].notna().any()]


def kinds_of_kernel(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the ablation's memory size that differ in the kernel only; ``kind_of_kernel`` is
    a key of :data:`KERNELS`."""
    names = {
        "": "learned",
        "filter=none": "none",
        **{f"filter_kernel={kind}": kind for kind in KERNELS},
    }
    rows = runs[runs["memory"] == ABLATION_MEMORY]
    kinds = rows["changes"].map(names)
    kinds = kinds.where(rows["family"] != "luna", "luna")
    standard = (rows["family"] == "convluna") | (
        (rows["family"] == "luna") & (rows["changes"] == "")
    )
    return rows.assign(kind_of_kernel=kinds)[standard & kinds.notna()]
