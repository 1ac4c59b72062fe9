"""Do alike rows go with low accuracy? Luna, and ConvLuna taken apart: accuracy beside cosine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memnb import naming
from memnb.draw import filter_tables, panels, style, tables
from memnb.evidence import statistics
from memnb.evidence.claims import ABLATION_MEMORY
from memnb.evidence.levels import levels_of
from memnb.evidence.rows import looks
from memnb.words import span

LOST = "Lost with rows = mean"
"""The last column of :func:`table`."""
_COSINE, _RANK = "packed_cosine", "packed_rank"
_MARKERS = {"unit": "s", "sqrt": "^", "learn": "o"}
#: How large the mark of a mean is: where two meet, the smaller stands inside the larger.
_MEAN_SIZES = {"unit": 11.0, "sqrt": 9.0, "learn": 6.8}


def alike_and_accurate(runs: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """Runs of Luna and of ConvLuna taken apart, with how alike their packed rows are.

    Finished runs, as coded, on tasks where something was taken from ConvLuna; M is
    :data:`memnb.evidence.claims.ABLATION_MEMORY`.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
        probes: long frame of :func:`memnb.evidence.rows.load_probes`.

    Returns:
        The columns of ``runs``, and means over all blocks at the first look of training and at the
        last: ``packed_cosine_first`` and ``_last``, ``packed_rank_first`` and ``_last``.
    """
    apart = filter_tables.ablated(runs)
    apart = apart[apart["reading"] == "as_coded"]
    tasks = apart.loc[apart["changes"] != "", "task"]
    luna = runs[(runs["family"] == "luna") & (runs["memory"] == ABLATION_MEMORY)]
    rows = pd.concat([panels.plain_models(luna), apart])
    rows = rows[(rows["outcome"] == "finished") & rows["task"].isin(tasks)]
    probes = probes[probes["run_id"].isin(rows["run_id"])]
    for measure in (_COSINE, _RANK):
        ends = looks(probes, measure)[["first", "last"]].add_prefix(f"{measure}_")
        rows = rows.join(ends, on="run_id")
    return rows.dropna(subset=f"{_COSINE}_last")


def table(runs: pd.DataFrame, probes: pd.DataFrame, causal: pd.DataFrame) -> pd.DataFrame:
    """What :func:`alike_and_accurate` finds, means over seeds, and whether rows are needed apart.

    Args:
        runs, probes: as there.
        causal: long frame of :func:`memnb.evidence.rows.load_causal`.

    Returns:
        Columns ``Task``, ``Model``, ``Seeds``, ``Accuracy`` (percent); each as ``first → last``,
        ``Cosine`` and ``Effective rank`` over all blocks; and :data:`LOST`, the points of accuracy
        that go where every row is the mean of all, on the examples of the causal tests; behind
        it the number of seeds that were asked so, if they are fewer than all.
    """
    asked = 100 * causal.pivot_table(index="run_id", columns="test", values="accuracy")
    asked = asked.reindex(columns=["intact", "mean"])
    lost = asked["intact"] - asked["mean"]
    found = [
        [
            naming.task_label(task),
            name,
            str(len(own)),
            f"{_accuracy(own):.1f}",
            _first_to_last(own, _COSINE, 2),
            _first_to_last(own, _RANK, 1),
            _mean_of(lost.reindex(own["run_id"])),
        ]
        for task, name, own in _variants(alike_and_accurate(runs, probes))
    ]
    columns = ["Task", "Model", "Seeds", "Accuracy", "Cosine", "Effective rank", LOST]
    return tables.table(found, columns)


def in_words(runs: pd.DataFrame, probes: pd.DataFrame) -> str:
    """The same in a sentence per task: cosine by temperature, accuracy by filter, each as a range
    of the models' means; empty where nothing was taken away yet."""
    models: dict[str, list[_Means]] = {}
    for task, _, own in _variants(alike_and_accurate(runs, probes)):
        temperature, filtered = own["pack_temperature"].iloc[0], own["filter"].iloc[0] != "none"
        cosine = own[f"{_COSINE}_last"].mean()
        models.setdefault(task, []).append(_Means(temperature, filtered, cosine, _accuracy(own)))
    return " ".join(
        f"On {naming.task_label(task)}, as the authors' code runs, {_said(own)}"
        for task, own in models.items()
    )


class _Means(NamedTuple):
    """A model's means over its seeds, and what it has: accuracy in percent."""

    temperature: str
    filtered: bool
    cosine: float
    accuracy: float


def _said(models: Sequence[_Means]) -> str:
    cosines, accuracies = [], []
    for which in (("sqrt",), ("unit", "learn")):
        own = [one for one in models if one.temperature in which]
        there = [words for kind, words in filter_tables.TEMPERATURES.items()
                 if kind in {one.temperature for one in own}]  # fmt: skip
        if own:
            found = span((one.cosine for one in own), "{:.2f}".format)
            cosines.append(f"{found} with T = {' or '.join(there)}")
    for filtered, words in ((False, "without a filter, as in Luna"), (True, "with one")):
        own = [one for one in models if one.filtered == filtered]
        if own:
            found = span((one.accuracy for one in own), "{:.1f}".format)
            accuracies.append(f"{found} {words}")
    return (
        f"the mean cosine of the {ABLATION_MEMORY} rows at the end is "
        f"{', '.join(cosines)}; accuracy is {', '.join(accuracies)}."
    )


def _accuracy(own: pd.DataFrame) -> float:
    return statistics.mean(100 * own["test_accuracy"]).mean


def figure(runs: pd.DataFrame, probes: pd.DataFrame, subtitle: str = "") -> Figure:
    """Accuracy against the cosine of packed rows at the end, every run, a panel per task.

    Colours tell filters apart, markers temperatures. If alike rows were what makes a memory poor,
    the points would fall from left to right whatever their colour.
    """
    title = "Do alike rows go with low accuracy?"
    rows = alike_and_accurate(runs, probes)
    tasks = naming.task_order(rows["task"])
    if not tasks:
        return style.empty(title, subtitle)
    sheet, axes = style.canvas(1, len(tasks), 3.5, alone=5.6, sharex=True)
    far = {
        task: _panel(axis, rows[rows["task"] == task], task)
        for axis, task in zip(axes[0], tasks, strict=True)
    }
    panels.entitle(
        (axis, naming.task_label(task), words)
        for axis, (task, words) in zip(axes[0], far.items(), strict=True)
    )
    panels.name_axes(
        axes, "mean cosine of packed rows at the end (1: all alike)", "test accuracy (%)"
    )
    columns = [*_marks(rows), panels.level_marks(tasks, not all(far.values()))]
    columns = [column for column in columns if column]
    panels.legend_below(sheet, _in_columns(columns), len(columns))
    where = (
        f"M = {ABLATION_MEMORY}; small: one seed; large: the mean, one inside the other "
        f"where two meet. {subtitle}"
    )
    ends = rows[[f"{measure}_{end}" for measure in (_COSINE, _RANK) for end in ("first", "last")]]
    return panels.finish(sheet, title, where, pd.concat([panels.of_runs(rows), ends], axis=1))


def _panel(axis: Axes, rows: pd.DataFrame, task: str) -> str:
    """Draw the models of a task; what one answer gives in words, where it is too far to draw."""
    for _, _, own in _variants(rows):
        look = _look(own.iloc[0])
        x, y = own[f"{_COSINE}_last"], 100 * own["test_accuracy"]
        axis.plot(x, y, markersize=3, alpha=0.5, zorder=2, **look)
        size = _MEAN_SIZES[own["pack_temperature"].iloc[0]]
        # A white rim parts marks that meet; Luna's, which is hollow, has its colour there.
        rim = look["color"] if own["family"].iloc[0] == "luna" else "white"
        axis.plot(
            [x.mean()], [y.mean()], markersize=size, markeredgecolor=rim, zorder=4 - size / 20,
            **look,
        )  # fmt: skip
    axis.set_xlim(0, 1.03)
    axis.margins(y=0.12)
    return panels.draw_near_levels(axis, levels_of(task))


def _look(run: pd.Series[Any]) -> dict[str, Any]:
    """Colour by filter, marker by temperature; Luna, which differs in more, is hollow."""
    colour = panels.look_of_filter(run["filter"], run["filter_stride"]).colour
    return {
        "linestyle": "none", "marker": _MARKERS[run["pack_temperature"]], "color": colour,
        "markerfacecolor": "white" if run["family"] == "luna" else colour,
    }  # fmt: skip


def _in_columns(columns: Sequence[dict[str, Line2D]]) -> dict[str, Line2D]:
    """Marks for a legend in which each of ``columns`` has one of its own: the shorter ones end in
    blanks."""
    most = max(map(len, columns))
    blanks = (" " * (number + 1) for number in range(most * len(columns)))
    return {
        name: mark
        for column in columns
        for name, mark in [
            *column.items(),
            *((next(blanks), Line2D([], [], linestyle="none")) for _ in range(most - len(column))),
        ]
    }


def _marks(rows: pd.DataFrame) -> list[dict[str, Line2D]]:
    """For a legend, column by column: the filters, and the temperatures and models that have
    runs."""
    luna, apart = rows[rows["family"] == "luna"], rows[rows["family"] != "luna"]
    blank: dict[str, Any] = {"linestyle": "none", "markersize": 6}
    filters = {
        filter_tables.filter_label(kind, width, stride): panels.look_of_filter(kind, stride).colour
        for kind, width, stride in filter_tables.filters_of(apart)
        if kind in set(apart["filter"])
    }
    temperatures = {
        f"T = {words}": _MARKERS[kind]
        for kind, words in filter_tables.TEMPERATURES.items()
        if kind in set(rows["pack_temperature"])
    }
    return [
        {name: Line2D([], [], marker="s", color=c, **blank) for name, c in filters.items()},
        {
            name: Line2D([], [], marker=marker, color=style.QUIET, **blank)
            for name, marker in temperatures.items()
        }
        | {
            naming.model_label(run["model"]): Line2D([], [], markersize=6, **_look(run))
            for _, run in luna.head(1).iterrows()
        },
    ]


def _variants(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, name and runs of Luna, then of each way to put ConvLuna together, task by task."""
    for task in naming.task_order(rows["task"]):
        there = rows[rows["task"] == task]
        luna, apart = there[there["family"] == "luna"], there[there["family"] != "luna"]
        if len(luna):
            yield task, naming.model_label(luna["model"].iloc[0]), luna
        groups = {key: own for key, own in apart.groupby([*filter_tables.EXCHANGED], sort=False)}
        for kind in filter_tables.filters_of(apart):
            for temperature in filter_tables.TEMPERATURES:
                parts = (*kind, temperature)
                if parts in groups:
                    yield task, filter_tables.parts_label(*parts), groups[parts]


def _first_to_last(own: pd.DataFrame, measure: str, digits: int) -> str:
    first, last = (own[f"{measure}_{end}"].mean() for end in ("first", "last"))
    return f"{first:.{digits}f} → {last:.{digits}f}"


def _mean_of(lost: pd.Series[float]) -> str:
    asked = int(lost.notna().sum())
    if not asked:
        return style.MISSING
    return tables.unsigned(lost.mean()) + (f" ({asked})" if asked < len(lost) else "")
