"""What stands beside the paper's own figures: recall against facts, and the table with controls.

As in :mod:`memnb.draw.figures`, ``subtitle`` says where the rows come from, every seed is drawn,
and a frame without a row gives an empty panel that says so.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from memnb import config
from memnb.draw import style, tables

_SHADES = {1: 0.35, 4: 0.6, 16: 1.0}
"""Opacity of a line by its number of memory rows: more rows, more ink."""
_MARKERS = {1: "o", 4: "s", 16: "D"}


def recall(runs: pd.DataFrame, subtitle: str = "") -> Figure:
    """Recall against the number of facts, a panel per family, a line per number of memory rows.

    Args:
        runs: rows of the recall task (:func:`memnb.evidence.rows.of_study`).
        subtitle: where the rows come from.
    """
    title = "How many facts fit into M rows of memory?"
    rows = runs[(runs["outcome"] == "finished") & (runs["changes"] == "")]
    rows = rows[rows["task"].isin(config.EXTRA_TASKS) & (rows["memory"] > 0)]
    if rows.empty:
        return style.empty(title, subtitle)
    rows = rows.assign(facts=rows["task"].map(_facts), recall=100 * rows["test_accuracy"])
    families = style.family_order(rows["family"])
    figure, axes = style.canvas(
        1, len(families), 3.1, sharey=True,
        width=style.PAGE_WIDTH if len(families) > 1 else 5.2,
    )  # fmt: skip
    named = []
    for axis, family in zip(axes[0], families, strict=True):
        look, own = style.family(family), rows[rows["family"] == family]
        axis.set_title(look.label)
        ends = []
        for memory, group in own.groupby("memory"):
            ink, marker = _SHADES.get(int(memory), 0.8), _MARKERS.get(int(memory), "^")
            axis.plot(
                group["facts"], group["recall"], linestyle="none", marker=marker,
                color=look.colour, alpha=ink, markersize=4, markeredgewidth=0,
            )  # fmt: skip
            mean = group.groupby("facts")["recall"].mean()
            axis.plot(mean.index, mean, color=look.colour, alpha=ink, linewidth=1.7)
            ends.append((float(mean.iloc[-1]), f"M = {memory}", look.colour))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(sorted(rows["facts"].unique())))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_xlabel("facts before the question")
        named.append((axis, ends))
    axes[0, 0].set_ylim(0, 102)
    axes[0, 0].set_ylabel("test accuracy (%)")
    for axis, _ in named:
        style.reference_line(axis, 100 / config.Recall.classes, "chance")
    style.heading(figure, title, subtitle)
    figure.get_layout_engine().set(w_pad=0.3)  # type: ignore[union-attr]  # room for the names
    figure.draw_without_rendering()
    for axis, ends in named:
        style.label_lines(axis, ends)
    return figure


def _facts(task: str) -> int:
    known = config.task_config(task)
    assert isinstance(known, config.Recall)
    return known.facts


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


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows on tasks that a model beside the paper's has a run on."""
    tasks = runs.loc[runs["family"].isin(config.BESIDE), "task"].unique()
    return runs[runs["task"].isin(tasks)]


def between_chunks(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of memory between chunks, filtered or not, as their names define them."""
    return runs[runs["model"].isin(config.CHUNK_MODELS) & (runs["changes"] == "")]
