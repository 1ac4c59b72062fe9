"""What the causal tests of the memory say, in sentences with their numbers."""

from __future__ import annotations

import pandas as pd

from memnb import naming
from memnb.draw import tables
from memnb.draw.panels import plain_models
from memnb.evidence.levels import MARGIN


def without_the_stream(causal: pd.DataFrame) -> str:
    """Points lost where every block starts from the initial memory, a line per task.

    Means over seeds; models as their names define them, with several rows.

    Args:
        causal: long frame of :func:`memnb.evidence.rows.load_causal`.
    """
    rows = _plain(causal)
    accuracy = rows.pivot_table("accuracy", ["task", "model", "run_id"], "test", observed=True)
    if not {"intact", "freeze"} <= set(accuracy.columns):
        return "No run has been asked yet with the initial memory in every block."
    lost = 100 * (accuracy["intact"] - accuracy["freeze"]).dropna()
    if lost.empty:
        return "No run has been asked yet with the initial memory in every block."
    means = lost.groupby(["task", "model"]).mean()
    said = ["Points lost with the initial memory in every block, means over seeds:"]
    for task in naming.task_order(means.index.unique("task")):
        own = means[task]
        each = (f"{naming.model_label(m)} {_points(own[m])}" for m in naming.model_order(own.index))
        said.append(f"  {naming.task_label(task)}: {', '.join(each)}")
    return "\n".join(said)


def order_by_use(causal: pd.DataFrame) -> str:
    """Where losing the least used rows first costs more than losing the most used first.

    Of every task and model the mean over seeds, with the most rows left at which both were asked;
    differences up to 2 points (:data:`memnb.evidence.levels.MARGIN`) are not named.

    Args:
        causal: long frame of :func:`memnb.evidence.rows.load_causal`.
    """
    rows = _plain(causal)
    # Only removal has a rule.
    by_rule = 100 * rows.pivot_table("accuracy", ["task", "model", "kept"], "rule", observed=True)
    rules = ["least used", "most used"]
    if not set(rules) <= set(by_rule.columns):
        return "No run has lost its rows by use yet."
    by_rule = by_rule[rules].dropna()
    found = []
    for task in naming.task_order(by_rule.index.unique("task")):
        there = by_rule.loc[task]
        for model in naming.model_order(there.index.unique("model")):
            own = there.loc[model]
            kept = int(own.index.max())
            least, most = (float(own[rule][kept]) for rule in rules)
            if most - least > 100 * MARGIN:
                found.append(
                    f"{naming.model_label(model)} on {naming.task_label(task)} ({kept} rows left: "
                    f"{least:.1f} % without the least used, {most:.1f} % without the most used)"
                )
    if by_rule.empty:
        return "No run has lost its rows by use yet."
    if not found:
        return (
            "Nowhere are the least used rows missed more than the most used ones, by more than "
            f"{100 * MARGIN:g} points."
        )
    return f"The least used rows are missed more than the most used ones: {'; '.join(found)}."


def not_asked(runs: pd.DataFrame, causal: pd.DataFrame) -> str:
    """Which finished runs have no causal rows though others of their family do.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
        causal: long frame of :func:`memnb.evidence.rows.load_causal` of the same runs.
    """
    if causal.empty:
        return "No run has been asked yet."
    rows = plain_models(runs[(runs["outcome"] == "finished") & (runs["memory"] > 1)])
    rows = rows[rows["family"].isin(causal["family"].unique())]
    rows = rows[~rows["run_id"].isin(causal["run_id"])]
    found = []
    for task in naming.task_order(rows["task"]):
        there = rows[rows["task"] == task]
        for model in naming.model_order(there["model"]):
            seeds = sorted(there.loc[there["model"] == model, "seed"])
            found.append(
                f"{naming.model_label(model)} on {naming.task_label(task)} "
                f"(seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})"
            )
    return f"Runs without causal rows: {'; '.join(found)}." if found else "Every run was asked."


def _plain(causal: pd.DataFrame) -> pd.DataFrame:
    rows = plain_models(causal)
    return rows[rows["memory"] > 1]


def _points(lost: float) -> str:
    return tables.signed(lost).removeprefix("+")
