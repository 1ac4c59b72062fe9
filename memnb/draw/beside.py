"""What stands beside the paper's own figures: recall against facts, and rows of the controls.

As in :mod:`memnb.draw.figures`, ``subtitle`` says where the rows come from, every seed is drawn,
and a frame without a row gives an empty panel that says so.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from memnb import config
from memnb.draw import style

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
        for memory in sorted(own["memory"].unique()):
            group = own[own["memory"] == memory]
            ink, marker = _SHADES.get(memory, 0.8), _MARKERS.get(memory, "^")
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
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(w_pad=0.3)  # room for the names of the lines
    figure.draw_without_rendering()
    for axis, ends in named:
        style.label_lines(axis, ends)
    return figure


def _facts(task: str) -> int:
    known = config.task_config(task)
    assert isinstance(known, config.Recall)
    return known.facts


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows on tasks that a model beside the paper's has a run on."""
    tasks = runs.loc[runs["family"].isin(config.BESIDE), "task"].unique()
    return runs[runs["task"].isin(tasks)]


def between_chunks(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of memory between chunks, filtered or not, as their names define them."""
    return runs[runs["model"].isin(config.CHUNK_MODELS) & (runs["changes"] == "")]
