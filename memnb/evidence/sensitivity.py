"""How the verdicts would come out under other choices than those of :mod:`memnb.evidence.claims`.

A verdict that hangs on a choice of ours is worth less than one that does not, so each choice that
somebody may doubt is turned here, one at a time, and everything is judged again.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from memnb.evidence.claims import Verdict, check
from memnb.evidence.statistics import ENOUGH

#: The verdicts themselves.
AS_JUDGED = "as judged"
#: Every run of the first seeds, and no other: more seeds of some models were trained after the
#: first had been looked at.
FIRST_SEEDS = f"seeds 0 to {ENOUGH - 1} only"
#: No choice of weights: validation accuracy, mean of the last fifth of a run's evaluations, where
#: the rule has the test accuracy of the weights with the best validation accuracy.
AT_THE_END = "accuracy at the end"
#: What has learned nothing, or no more than one token, is not left out.
ALL_COUNT = "all runs count"
#: Two models that were trained with one seed saw the same batches, and where they have the same
#: parameters began with the same weights. The rule takes them for independent: so seeds that only
#: one side has count too, and three runs of each have up to four degrees of freedom, not two.
PAIRED = "seed by seed"

#: What is turned, in a sentence each, in the order of a table.
CHOICES: Mapping[str, str] = {
    AS_JUDGED: "the rules of this page",
    FIRST_SEEDS: f"only the {ENOUGH} seeds that were planned first, where some models have more",
    AT_THE_END: "validation accuracy, mean of the last fifth of the evaluations, instead of the "
    "test accuracy of the best weights",
    ALL_COUNT: "runs and comparisons count even where nothing was learned, or one token would do",
    PAIRED: "differences of two models from seed to seed (paired intervals), instead of Welch's "
    "intervals for independent runs",
}

#: The share of a run's evaluations, from the last one back, that :data:`AT_THE_END` takes.
_LAST = 0.2


def verdicts(
    runs: pd.DataFrame, removal: pd.DataFrame, probes: pd.DataFrame, metrics: pd.DataFrame
) -> dict[str, list[Verdict]]:
    """The verdicts under each of :data:`CHOICES`, in the order of :func:`check`.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
        removal: rows of :func:`memnb.evidence.rows.load_removal`.
        probes: rows of :func:`memnb.evidence.rows.load_probes`.
        metrics: rows of :func:`memnb.evidence.rows.load_metrics`.
    """
    judged = check(runs, removal, probes)
    # C3 rests on no accuracy of a whole model, but for which runs have learned.
    other_accuracies = check(_at_the_end(runs, metrics), removal, probes, which="validation")
    at_the_end = [
        rule if rule.claim == "C3" else other
        for rule, other in zip(judged, other_accuracies, strict=True)
    ]
    return {
        AS_JUDGED: judged,
        FIRST_SEEDS: check(runs[runs["seed"] < ENOUGH], removal, probes),
        AT_THE_END: at_the_end,
        ALL_COUNT: check(runs, removal, probes, count_all=True),
        PAIRED: check(runs, removal, probes, paired=True),
    }


def _at_the_end(runs: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """``runs`` with the validation accuracy at the end for the test accuracy; NaN without any."""
    looked = metrics[metrics["split"] == "validation"].sort_values("step", kind="stable")
    by_run = looked.groupby("run_id")["accuracy"]
    number = by_run.transform("size")
    left = by_run.cumcount(ascending=False)  # evaluations after this one
    last = looked[left < (_LAST * number).round().clip(lower=1)]
    accuracy = last.groupby("run_id")["accuracy"].mean()
    return runs.assign(test_accuracy=runs["run_id"].map(accuracy).astype("float64"))
