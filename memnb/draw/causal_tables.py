"""What the causal tests of the memory say: a table, and sentences with their numbers."""

from __future__ import annotations

import pandas as pd

from memnb import naming
from memnb.draw import tables
from memnb.draw.memory_figures import EXCHANGES
from memnb.draw.panels import finished, plain_models
from memnb.evidence.levels import MARGIN

#: The tests whose price is said: those that leave no row as it was.
_MEDDLED = ("mean", "swap", "freeze")


def points_lost(causal: pd.DataFrame) -> pd.DataFrame:
    """Points of accuracy lost with the memory levelled, exchanged and cut off from block to block:
    a line for each of these and task that a run was asked on, a column for each model, ready to
    print.

    Means over seeds; models as their names define them, with several rows.

    Args:
        causal: long frame of :func:`memnb.evidence.rows.load_causal`.
    """
    rows = _plain(causal)
    accuracy = rows.pivot_table("accuracy", ["task", "model", "run_id"], "test", observed=True)
    accuracy = accuracy.reindex(columns=["intact", *_MEDDLED])
    lost = 100 * accuracy[[*_MEDDLED]].rsub(accuracy["intact"], axis="index")
    means = lost.groupby(["task", "model"]).mean().dropna(how="all")
    models = naming.model_order(means.index.unique("model"))
    lines = []
    for test in _MEDDLED:
        of_test = means[test].dropna()
        for task in naming.task_order(of_test.index.unique("task")):
            own = of_test[task]
            each = [tables.unsigned(own[model]) if model in own else "–" for model in models]
            lines.append([EXCHANGES[test], naming.task_label(task), *each])
    labels = [naming.model_label(model) for model in models]
    return tables.table(lines, ["The memory is", "Task", *labels])


def order_by_use(causal: pd.DataFrame) -> str:
    """Where losing the least used rows first costs more than losing the most used first.

    Of every task and model the mean over seeds, with the most rows left at which both were asked;
    differences up to 2 points (:data:`memnb.evidence.levels.MARGIN`) are not named.

    Args:
        causal: long frame of :func:`memnb.evidence.rows.load_causal`.
    """
    rows = _plain(causal)
    # Only removal has a rule.
    by_rule = rows.pivot_table("accuracy", ["task", "model", "kept"], "rule", observed=True)
    by_rule = by_rule.reindex(columns=["least used", "most used"]).dropna().reset_index()
    if by_rule.empty:
        return "No run has lost its rows by use yet."
    found = []
    for task, model, own in tables.by_task_and_model(by_rule):
        last = own.sort_values("kept").iloc[-1]
        kept, least, most = last["kept"], 100 * last["least used"], 100 * last["most used"]
        if most - least > 100 * MARGIN:
            found.append(
                f"{naming.model_label(model)} on {naming.task_label(task)} ({kept:.0f} rows left: "
                f"{least:.1f} % without the least used, {most:.1f} % without the most used)"
            )
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
    rows = finished(runs[runs["memory"] > 1])
    rows = rows[rows["family"].isin(causal["family"].unique())]
    rows = rows[~rows["run_id"].isin(causal["run_id"])]
    found = [
        f"{naming.model_label(model)} on {naming.task_label(task)} "
        f"(seed{'s' * (len(own) > 1)} {', '.join(map(str, sorted(own['seed'])))})"
        for task, model, own in tables.by_task_and_model(rows)
    ]
    return f"Runs without causal rows: {'; '.join(found)}." if found else "Every run was asked."


def _plain(causal: pd.DataFrame) -> pd.DataFrame:
    rows = plain_models(causal)
    return rows[rows["memory"] > 1]
