"""Means, spreads and differences over seeds.

Every seed counts: a failed run has no value, so it cannot enter a mean, but it is counted beside
it. Intervals are 95 % Student t intervals over seeds; the test set is held fixed, so they say
nothing about other test sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

LEVEL = 0.95
#: Values that an interval takes, on each side of a difference; so many finished runs a comparison
#: needs before it is judged. The interval of two would be 12.7 times as wide as they are apart.
ENOUGH = 3


class Effect(NamedTuple):
    """A difference of two means with its confidence interval and the runs on each side."""

    effect: float
    low: float
    high: float
    n_a: int
    n_b: int


class Mean(NamedTuple):
    """A mean with its confidence interval; NaN where there are too few values to say."""

    mean: float
    sd: float
    low: float
    high: float
    n: int


def mean(values: Iterable[float], level: float = LEVEL) -> Mean:
    """Mean, sample deviation (ddof 1) and t interval; NaN values are left out.

    The deviation is NaN for fewer than two values, the interval for fewer than :data:`ENOUGH`.
    """
    sample = _finite(values)
    n = len(sample)
    # Summed exactly: runs in another order must not round to another number in another table.
    centre = math.fsum(sample) / n if n else math.nan
    if n < 2:
        return Mean(centre, math.nan, math.nan, math.nan, n)
    sd = float(sample.std(ddof=1))
    if n < ENOUGH:
        return Mean(centre, sd, math.nan, math.nan, n)
    half = _quantile(n - 1, level) * sd / math.sqrt(n)
    return Mean(centre, sd, centre - half, centre + half, n)


def difference(a: Iterable[float], b: Iterable[float], level: float = LEVEL) -> Effect:
    """mean(a) − mean(b) with Welch's interval (unequal variances, Satterthwaite's degrees).

    The interval is NaN when either side has fewer than :data:`ENOUGH` values, the effect when
    either side has none.
    """
    left, right = mean(a), mean(b)
    effect = left.mean - right.mean
    if min(left.n, right.n) < ENOUGH:
        return Effect(effect, math.nan, math.nan, left.n, right.n)
    u, v = left.sd**2 / left.n, right.sd**2 / right.n
    if u + v == 0:
        # All seeds of each side agree to the last digit, as at the majority class.
        return Effect(effect, effect, effect, left.n, right.n)
    degrees = (u + v) ** 2 / (u**2 / (left.n - 1) + v**2 / (right.n - 1))
    half = _quantile(degrees, level) * math.sqrt(u + v)
    return Effect(effect, effect - half, effect + half, left.n, right.n)


def summarise(runs: pd.DataFrame, by: Sequence[str], value: str = "test_accuracy") -> pd.DataFrame:
    """One row per group of ``by``, in order of first appearance.

    Columns: ``by``, then mean, sd, n, failed, low, high. ``n`` counts the runs that have a value,
    ``failed`` the failed ones, whose value is never used; runs still under way are neither. A
    frame without an ``outcome`` column (learning curves, probes) has no failed rows.

    Raises:
        ValueError: a group holds several rows of one run, which would pass for several seeds.
    """
    if "run_id" in runs and runs.duplicated([*by, "run_id"]).any():
        raise ValueError(
            f"summarise(by={list(by)}) found several rows of one run in a group; average them "
            "within the run first, or add the column that tells them apart."
        )
    records = []
    for key, group in runs.groupby(list(by), sort=False, dropna=False, observed=True):
        outcome = group["outcome"] if "outcome" in group else pd.Series("finished", group.index)
        found = mean(group.loc[outcome == "finished", value])
        failed = int((outcome == "failed").sum())
        records.append((*key, found.mean, found.sd, found.n, failed, found.low, found.high))
    return pd.DataFrame(records, columns=[*by, "mean", "sd", "n", "failed", "low", "high"])


def _finite(values: Iterable[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    sample = np.asarray(list(values), dtype=np.float64)
    return sample[~np.isnan(sample)]


def _quantile(degrees: float, level: float) -> float:
    # The t quantile; scipy.stats costs half a second to import. Only here, so that a machine that
    # trains does without scipy.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))
