"""The table of memory between chunks and the controls, beside the paper's models."""

from __future__ import annotations

import pandas as pd

from memnb import config
from memnb.draw import style, tables


def controls(runs: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of all models, those that were changed in what the head reads included.

    Args:
        runs: rows of the study ``chunks`` (:func:`memnb.evidence.rows.of_study`).

    Returns:
        Columns ``Model``, ``Head reads``, ``Parameters`` and one per task that a model beside the
        paper's has a run on. A cell is as in :func:`memnb.draw.tables.accuracy`.
    """
    tasks = style.task_order(runs.loc[runs["family"].isin(config.BESIDE), "task"])
    columns = ["Model", "Head reads", "Parameters", *map(style.task_label, tasks)]
    allowed = runs["changes"].isin(["", *(f"representation={r}" for r in ("cls", "mean"))])
    some = runs[runs["task"].isin(tasks) & allowed]
    if some.empty:
        return tables._nothing(columns)
    table = []
    for name in style.model_order(some["model"]):
        for reads, group in some[some["model"] == name].groupby("representation", sort=True):
            cells = [
                tables._cell(own) if len(own := group[group["task"] == task]) else style.MISSING
                for task in tasks
            ]
            sizes = tables._listed(f"{count:,.0f}" for count in group["parameters"].dropna())
            label = {"cls": "CLS", "mean": "mean of positions", "memory": "memory rows"}[str(reads)]
            table.append([style.model_label(name), label, sizes, *cells])
    return pd.DataFrame(table, columns=columns)
