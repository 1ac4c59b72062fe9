"""Do alike rows go with low accuracy? Luna, and ConvLuna taken apart: accuracy beside cosine."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memnb import naming
from memnb.draw import style, tables
from memnb.draw.panels import (
    draw_levels,
    level_marks,
    name_x,
    of_runs,
    plain_models,
)
from memnb.evidence.levels import levels_of
from memnb.evidence.rows import looks

#: Colour of a filter: that of the family that has it; no filter takes Luna's.
_FAMILY = {"none": "luna", "conv": "convluna", "pool": "poolluna"}
_MARKERS = {"unit": "s", "sqrt": "^", "learn": "o"}
_COSINE, _RANK = "packed_cosine", "packed_rank"
LOST = "Lost with rows = mean"


def alike_and_accurate(runs: pd.DataFrame, probes: pd.DataFrame, memory: int = 16) -> pd.DataFrame:
    """Runs of Luna and of ConvLuna taken apart, with how alike their packed rows are.

    Finished runs, as coded, on tasks where something was taken from ConvLuna.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
        probes: long frame of :func:`memnb.evidence.rows.load_probes`.
        memory: M of both.

    Returns:
        The columns of ``runs``, and means over all blocks at the first look of training and at the
        last: ``packed_cosine_first`` and ``_last``, ``packed_rank_first`` and ``_last``.
    """
    apart = tables.ablated(runs, memory)
    apart = apart[apart["reading"] == "as_coded"]
    tasks = apart.loc[apart["changes"] != "", "task"]
    luna = plain_models(runs[(runs["family"] == "luna") & (runs["memory"] == memory)])
    rows = pd.concat([luna, apart])
    rows = rows[(rows["outcome"] == "finished") & rows["task"].isin(tasks)]
    probes = probes[probes["run_id"].isin(rows["run_id"])]
    for measure in (_COSINE, _RANK):
        ends = looks(probes, measure)[["first", "last"]].add_prefix(f"{measure}_")
        rows = rows.join(ends, on="run_id")
    return rows.dropna(subset=f"{_COSINE}_last")


def table(
    runs: pd.DataFrame, probes: pd.DataFrame, causal: pd.DataFrame, memory: int = 16
) -> pd.DataFrame:
    """What :func:`alike_and_accurate` finds, means over seeds, and whether rows are needed apart.

    Args:
        runs, probes, memory: as there.
        causal: long frame of :func:`memnb.evidence.rows.load_causal`.

    Returns:
        Columns ``Task``, ``Model``, ``Seeds``, ``Accuracy`` (percent); each as ``first → last``,
        ``Cosine`` and ``Effective rank`` over all blocks; and ``Lost with rows = mean``, the points
        of accuracy that go where every row is the mean of all, on the examples of the causal tests.
    """
    columns = ["Task", "Model", "Seeds", "Accuracy", "Cosine", "Effective rank", LOST]
    asked = 100 * causal.pivot_table(index="run_id", columns="test", values="accuracy")
    asked = asked.reindex(columns=["intact", "mean"])
    lost = asked["intact"] - asked["mean"]
    found = [
        [
            naming.task_label(task),
            name,
            str(len(own)),
            f"{100 * own['test_accuracy'].mean():.1f}",
            _first_to_last(own, _COSINE, 2),
            _first_to_last(own, _RANK, 1),
            _mean_of(lost.reindex(own["run_id"])),
        ]
        for task, name, own in _variants(alike_and_accurate(runs, probes, memory))
    ]
    return pd.DataFrame(found, columns=columns) if found else tables.no_rows(columns)


def in_words(runs: pd.DataFrame, probes: pd.DataFrame, memory: int = 16) -> str:
    """The same in a sentence per task; empty where nothing was taken away yet."""
    said: dict[str, list[str]] = {}
    for task, name, own in _variants(alike_and_accurate(runs, probes, memory)):
        accuracy, cosine = 100 * own["test_accuracy"].mean(), own[f"{_COSINE}_last"].mean()
        said.setdefault(task, []).append(f"{name} ({accuracy:.1f}, {cosine:.2f})")
    return " ".join(
        f"On {naming.task_label(task)} with M = {memory} (accuracy, mean cosine of the rows at the "
        f"end): {'; '.join(numbers)}."
        for task, numbers in said.items()
    )


def figure(
    runs: pd.DataFrame, probes: pd.DataFrame, subtitle: str = "", *, memory: int = 16
) -> Figure:
    """Accuracy against the cosine of packed rows at the end, every run, a panel per task.

    Colours tell filters apart, markers temperatures. If alike rows were what makes a memory poor,
    the points would fall from left to right whatever their colour.
    """
    title = "Do alike rows go with low accuracy?"
    rows = alike_and_accurate(runs, probes, memory)
    tasks = naming.task_order(rows["task"])
    if not tasks:
        return style.empty(title, subtitle)
    sheet, axes = style.canvas(
        1, len(tasks), 3.5, sharex=True, width=style.PAGE_WIDTH if len(tasks) > 1 else 5.6
    )
    for axis, task in zip(axes[0], tasks, strict=True):
        _panel(axis, rows[rows["task"] == task])
        axis.set_title(naming.task_label(task))
        draw_levels([axis], levels_of(task))
    axes[0, 0].set_ylabel("test accuracy (%)")
    name_x(axes, "mean cosine of packed rows at the end (1: all alike)")
    _legend(sheet, rows, tasks, memory)
    where = f"M = {memory}; small: one seed, large: the mean. {subtitle}".strip()
    style.heading(sheet, title, where)
    ends = rows[[f"{measure}_{end}" for measure in (_COSINE, _RANK) for end in ("first", "last")]]
    return style.attach(sheet, pd.concat([of_runs(rows), ends], axis=1))


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    for _, _, own in _variants(rows):
        one = own.iloc[0]
        colour = style.FAMILY[_FAMILY[one["filter"]]].colour
        fill = "white" if one["family"] == "luna" else colour
        x, y = own[f"{_COSINE}_last"], 100 * own["test_accuracy"]
        mark: dict[str, Any] = {
            "marker": _MARKERS[one["pack_temperature"]], "linestyle": "none", "color": colour,
            "markerfacecolor": fill,
        }  # fmt: skip
        axis.plot(x, y, markersize=3.5, alpha=0.5, zorder=2, **mark)
        axis.plot([x.mean()], [y.mean()], markersize=8, alpha=0.85, zorder=3, **mark)
    axis.set_xlim(0, 1.03)
    axis.margins(y=0.12)


def _legend(sheet: Figure, rows: pd.DataFrame, tasks: list[str], memory: int) -> None:
    apart = rows[rows["family"] != "luna"]
    marks = {
        tables.filter_label(kind, width, stride): Line2D(
            [], [], marker="s", linestyle="none", markersize=7,
            color=style.FAMILY[_FAMILY[kind]].colour,
        )
        for kind, width, stride in tables.filters_of(apart)
        if kind in set(apart["filter"])
    }  # fmt: skip
    marks |= {
        f"T = {tables.TEMPERATURES[kind]}": Line2D(
            [], [], marker=marker, linestyle="none", markersize=6, color=style.QUIET
        )
        for kind, marker in _MARKERS.items()
        if kind in set(rows["pack_temperature"])
    }
    if len(apart) < len(rows):
        marks[naming.model_label(f"luna-{memory}")] = Line2D(
            [], [], marker=_MARKERS["sqrt"], linestyle="none", markersize=6,
            color=style.FAMILY["luna"].colour, markerfacecolor="white",
        )  # fmt: skip
    marks |= level_marks(tasks)
    sheet.legend([*marks.values()], [*marks], loc="outside lower center", ncols=4)


def _variants(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Task, name and runs of Luna, then of each way to put ConvLuna together, task by task."""
    found = []
    for task in naming.task_order(rows["task"]):
        there = rows[rows["task"] == task]
        luna = there[there["family"] == "luna"]
        if len(luna):
            found.append((task, naming.model_label(luna["model"].iloc[0]), luna))
        apart = there[there["family"] != "luna"]
        for kind, width, stride in tables.filters_of(apart):
            of_filter = apart[
                (apart["filter"] == kind)
                & (apart["filter_width"] == width)
                & (apart["filter_stride"] == stride)
            ]
            for temperature, words in tables.TEMPERATURES.items():
                own = of_filter[of_filter["pack_temperature"] == temperature]
                if len(own):
                    name = f"{tables.filter_label(kind, width, stride)}, T = {words}"
                    found.append((task, name, own))
    return found


def _first_to_last(own: pd.DataFrame, measure: str, digits: int) -> str:
    first, last = (own[f"{measure}_{end}"].mean() for end in ("first", "last"))
    return f"{first:.{digits}f} → {last:.{digits}f}"


def _mean_of(lost: pd.Series[float]) -> str:
    return tables.signed(lost.mean()).removeprefix("+") if lost.notna().any() else style.MISSING
