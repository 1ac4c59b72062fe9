"""Tidy frames to figures. Every function returns a matplotlib figure and draws every seed.

``runs`` is a frame of :func:`memnb.evidence.rows.load_runs`; ``metrics``, ``probes`` and
``removal`` are the long frames made from it. Accuracies come in as shares and are drawn in
percent. ``subtitle`` is printed under the title: a page passes the layer's title, which says
which scale is shown and where its rows come from. A frame without a row gives an empty panel that
says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator

from memnb import config, naming
from memnb.draw import filter_tables, panels, style
from memnb.draw.panels import Ends
from memnb.evidence import rows as evidence
from memnb.evidence import statistics
from memnb.evidence.claims import ABLATION_MEMORY, ACCURACY, UNJUDGED, Verdict
from memnb.evidence.levels import Levels, levels_of

_NORM = "of one sample's loss, mean over rows"
#: What the probes measure: the name on the axis, and what the two ends of the scale mean.
MEASURES: dict[str, tuple[str, str]] = {
    "packed_cosine": ("packed rows:\ncosine similarity", "1 = all rows point the same way"),
    "packed_rank": ("packed rows:\neffective rank", "1 = one direction left"),
    "memory_cosine": ("memory rows $m'$:\ncosine similarity", "1 = all rows point the same way"),
    "memory_rank": ("memory rows $m'$:\neffective rank", "1 = one direction left"),
    "pack_entropy": ("pack attention:\nentropy", "1 = looks everywhere alike"),
    "unpack_entropy": ("unpack attention:\nentropy", "1 = reads all rows alike"),
    "dominant_rows": ("dominant rows:\nshare of all rows", "1/2 = no row dominates"),
    "packed_gradient": ("packed rows:\ngradient norm", _NORM),
    "memory_gradient": ("memory rows $m'$:\ngradient norm", _NORM),
    "gradient_spread": ("gradient norms:\nspread over rows", "0 = every row matters alike"),
}
STREAMS = ("packed_cosine", "packed_rank", "memory_cosine", "memory_rank")
ATTENTION = ("pack_entropy", "unpack_entropy", "dominant_rows")
GRADIENTS = ("packed_gradient", "gradient_spread")
_LOGARITHMIC = ("packed_gradient", "memory_gradient")


# --- accuracy --------------------------------------------------------------------------------


def accuracy(
    runs: pd.DataFrame,
    published: pd.DataFrame | None = None,
    subtitle: str = "",
    planned: style.Planned | None = None,
) -> Figure:
    """Test accuracy per model (rows) and task (columns): every seed, mean, interval, references.

    Args:
        runs: rows of any models; those whose settings were changed (ablations) are left out.
        published: rows of :func:`memnb.evidence.published.load`; those of models shown here are
            drawn as hollow marks in the model's row.
        subtitle: where the rows come from.
        planned: of the models without a run only these say *no run yet*, the others *not planned*;
            without it, all say the former.
    """
    title = "Test accuracy: every seed, and the mean"
    plain = panels.plain_models(runs)
    if plain.empty:
        return style.empty(title, subtitle)
    tasks = naming.task_order(plain["task"])
    references = _references(published, tasks)
    models = naming.model_order([*plain["model"], *references["name"]])
    sources = list(dict.fromkeys(references["source"]))
    height = 1.5 + 0.27 * len(models) + 0.17 * bool(sources)
    figure, axes = style.canvas(1, len(tasks), height, alone=6.4, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        own, there = plain[plain["task"] == task], references[references["task"] == task]
        rows = [
            _Row(
                own[own["model"] == name],
                panels.look_of(name),
                there.loc[there["name"] == name, "accuracy"],
                style.without_run((name, task), planned),
            )
            for name in models
        ]
        _accuracy_panel(axis, task, rows)
        for source, theirs in there.groupby("source", sort=False):
            mark = _published_mark(sources.index(source))
            mark.set_data(theirs["accuracy"], [models.index(name) for name in theirs["name"]])
            axis.add_line(mark)
    panels.name_rows(axes[0], [naming.model_label(name) for name in models])
    for tick, name in zip(axes[0, 0].get_yticklabels(), models, strict=True):
        tick.set(color=panels.look_of(name).colour, fontweight="bold")
    marks = _marks_of_levels(axes[0], tasks)
    marks |= {f"published: {source}": _published_mark(i) for i, source in enumerate(sources)}
    _explain(figure, marks)
    words = f"{panels.seeds_each(plain, ['task', 'model'])}{subtitle}"
    return panels.finish(figure, title, words, panels.of_runs(plain))


#: The labels of what rows of accuracies are made of.
_SEED, _MEAN, _CUT = "one seed", "mean", "interval goes on"
_INTERVAL = f"95 % interval, of {statistics.ENOUGH} seeds or more"


def _explain(figure: Figure, more: Mapping[str, Line2D]) -> None:
    """A legend of what the rows of accuracies in a figure are made of, and of ``more``."""
    parts = {
        _SEED: Line2D([], [], color=style.INK, marker="o", linestyle="none", alpha=0.55,
                      markersize=4.5),
        _MEAN: Line2D([], [], color=style.INK, marker="|", linestyle="none", markersize=10,
                      markeredgewidth=2.2),
        _INTERVAL: Line2D([], [], color=style.INK, linewidth=1.2),
        _CUT: _cut_mark(),
    }  # fmt: skip
    marks = {name: mark for name, mark in parts.items() if name in _drawn(figure)}
    panels.legend_below(figure, {**marks, **more}, 3, handletextpad=0.5, columnspacing=1.6)


def _drawn(figure: Figure) -> set[str]:
    """The labels of what is drawn in any panel."""
    return {str(line.get_label()) for axis in figure.axes for line in axis.lines}


def _cut_mark() -> Line2D:
    """The caret of an interval that leaves its panel, for a legend."""
    return Line2D([], [], color=style.INK, marker=">", markersize=4, linestyle="none")


def _published_mark(number: int) -> Line2D:
    """The hollow mark of the ``number``-th published source."""
    return Line2D(
        [], [], linestyle="none", marker=_HOLLOW[number % len(_HOLLOW)], markersize=6,
        markerfacecolor="none", markeredgecolor=style.QUIET, markeredgewidth=1.1, zorder=2,
    )  # fmt: skip


_HOLLOW = ("o", "s", "^", "v", "P", "X")


class _Row(NamedTuple):
    """A row of accuracies: its runs and their look, other marks in it, what it says if empty."""

    runs: pd.DataFrame
    look: style.Family
    others: Iterable[float] = ()
    none: str = style.MISSING


def _accuracy_panel(axis: Axes, task: str, rows: Sequence[_Row]) -> None:
    finished = [row.runs[row.runs["outcome"] == "finished"] for row in rows]
    values = [100 * runs["test_accuracy"] for runs in finished]
    marks = [[*own, *row.others] for own, row in zip(values, rows, strict=True)]
    _accuracy_axis(axis, task, [mark for own in marks for mark in own])
    for position, row in enumerate(rows):
        if len(values[position]):
            _accuracy_row(axis, position, values[position], row.look)
        failed = int((row.runs["outcome"] == "failed").sum())
        if failed or values[position].empty:
            text = f"{failed} failed" if failed else row.none
            _remark(axis, position, text, marks[position], task)


def _accuracy_axis(axis: Axes, task: str, shown: list[float]) -> None:
    """Title, levels that take no memory, and an x axis in percent that holds them and ``shown``.

    What one answer gives is said in words where it would press what is shown together.
    """
    axis.set_title(naming.task_label(task), loc="center")
    name = "test accuracy (%)" if len(axis.figure.axes) == 1 else "accuracy (%)"
    constant, *others = panels.draw_levels_across(axis, levels_of(task))
    shown = [*shown, *others] or [constant]
    near = panels.is_near(constant, shown)
    axis.set_xlabel(name if near else f"{name}\none answer always: {constant:.0f}")
    shown += [constant] * near
    # An interval of three seeds can be wider than the scale: the dots set the limits.
    low, high = min(shown), max(shown)
    margin = max(0.12 * (high - low), 1.5)
    axis.set_xlim(max(low - margin, 0), min(high + margin, 100))
    axis.xaxis.set_major_locator(panels.ticks(4))


def _marks_of_levels(axes: Iterable[Axes], tasks: Sequence[str]) -> dict[str, Line2D]:
    """For a legend, without what one answer gives where no panel draws it."""
    limits = ((*axis.get_xlim(), task) for axis, task in zip(axes, tasks, strict=True))
    near = any(low <= 100 * levels_of(task).constant <= high for low, high, task in limits)
    return panels.level_marks(tasks, near)


def _remark(axis: Axes, position: int, text: str, marks: Sequence[float], task: str) -> None:
    """Say in a row what its marks cannot: that runs have failed, or that there are none.

    At the right end of the row; if a mark stands in the way, beside the dotted line, or at the
    left end where that is not drawn.
    """
    low, high = axis.get_xlim()
    level = max(100 * levels_of(task).constant, low)
    left = any(mark > low + 0.6 * (high - low) for mark in marks)
    style.note(
        axis, text, ((level - low) / (high - low) if left else 1, position), (4 if left else -2, 0),
        ha="left" if left else "right", va="center", fontsize=6.5, fontstyle="italic",
    )  # fmt: skip


def _accuracy_row(axis: Axes, position: int, values: pd.Series[float], look: style.Family) -> None:
    """One model's seeds, mean and, where there are enough of them, interval.

    A single seed is its mark alone: the bar of a mean would hide it and promise more.
    """
    summary = statistics.mean(values)
    axis.plot(
        values, np.full(len(values), position), **look.points, alpha=0.55, markersize=4.5,
        markeredgewidth=0, zorder=3, label=_SEED,
    )  # fmt: skip
    if summary.n > 1:
        axis.plot(
            [summary.mean] * 2, [position - 0.27, position + 0.27], color=look.colour,
            linewidth=2.2, zorder=4, label=_MEAN,
        )  # fmt: skip
        _interval(axis, position, summary.low, summary.high, look.colour)


def _interval(axis: Axes, position: int, low: float, high: float, colour: str) -> None:
    """A line from ``low`` to ``high``, where there are; an end outside the panel is a caret."""
    if np.isnan(low):
        return
    left, right = axis.get_xlim()
    axis.plot([max(low, left), min(high, right)], [position] * 2, color=colour, linewidth=1.2,
              zorder=2, label=_INTERVAL)  # fmt: skip
    for end, outside, marker, inwards in (
        (left, low < left, "<", 2.4),
        (right, high > right, ">", -2.4),
    ):
        if outside:  # the tip of the caret on the edge: beyond stand the names of the rows
            axis.plot(
                [end], [position], marker=marker, color=colour, markersize=4, clip_on=False,
                zorder=2, transform=style.shifted(axis, axis.transData, inwards, 0), label=_CUT,
            )  # fmt: skip


def _references(published: pd.DataFrame | None, tasks: Sequence[str]) -> pd.DataFrame:
    """Published rows of the tasks shown and of models of ours, with our name as ``name``."""
    columns = ["source", "task", "model", "accuracy", "name"]
    if published is None or published.empty:
        return pd.DataFrame(columns=columns)
    rows = published.assign(name=published["model"].str.lower()).dropna(subset=["accuracy"])
    ours = rows["name"].str.partition("-")[0].isin(style.FAMILY)
    return rows[rows["task"].isin(tasks) & ours]


# --- ablation --------------------------------------------------------------------------------


def ablation(
    runs: pd.DataFrame, subtitle: str = "", planned: style.PlannedParts | None = None
) -> Figure:
    """ConvLuna taken apart, as coded: every seed of filter by pack temperature, a panel per task.

    The dashed line is the whole ConvLuna (convolution, learned temperature). Of what has no run
    only ``planned`` parts say *no run yet*, the others *not planned*; without it, all do.
    """
    name = naming.model_label(f"convluna-{ABLATION_MEMORY}")
    title = f"{name} taken apart: filter and pack temperature"
    rows = filter_tables.ablated(runs)
    rows = rows[rows["reading"] == "as_coded"]
    tasks = naming.task_order(rows.loc[rows["changes"] != "", "task"])
    if not tasks:
        note = "only whole models have run yet: nothing to compare them with"
        if set(rows["family"]) == {"convluna"}:
            note = "only the whole ConvLuna has run yet: nothing to compare it with"
        return style.empty(title, subtitle, note if len(rows) else style.MISSING)
    looks = {
        (kind, width, stride): panels.look_of_filter(kind, stride)
        for kind, width, stride in filter_tables.filters_of(rows)
    }
    variants = [
        (*kind, temperature) for kind in looks for temperature in filter_tables.TEMPERATURES
    ]
    whole: dict[str, Any] = {
        "color": style.FAMILY["convluna"].colour, "linewidth": 0.9, "linestyle": style.DASHED
    }  # fmt: skip
    figure, axes = style.canvas(1, len(tasks), 1.5 + 0.24 * len(variants), alone=6.4, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        own = rows[rows["task"] == task]
        groups = {key: group for key, group in own.groupby([*filter_tables.EXCHANGED], sort=False)}
        standard = panels.finished(own[own["filter"] == "conv"])
        # The dashed line, too, is a mark that a remark keeps clear of.
        levels = [100 * standard["test_accuracy"].mean()] if len(standard) else []
        shown = [
            _Row(
                groups.get((*kind, temperature), own.iloc[:0]),
                look,
                levels,
                style.without_run((*kind, temperature, task, "as_coded"), planned),
            )
            for kind, look in looks.items()
            for temperature in filter_tables.TEMPERATURES
        ]
        _accuracy_panel(axis, task, shown)
        for level in levels:
            axis.axvline(level, zorder=1, **whole)
    panels.name_rows(axes[0], [filter_tables.parts_label(*variant) for variant in variants])
    more = _marks_of_levels(axes[0], tasks)
    _explain(figure, {**more, f"mean of {name}": Line2D([], [], **whole)})
    rows = rows[rows["task"].isin(tasks)]
    words = f"{panels.seeds_each(rows, ['task', *filter_tables.EXCHANGED])}{subtitle}"
    return panels.finish(figure, title, words, panels.of_runs(rows))


# --- learning curves -------------------------------------------------------------------------


def learning_curves(
    metrics: pd.DataFrame,
    subtitle: str = "",
    planned: style.Planned | None = None,
    *,
    label: str = "",
    known: Levels | None = None,
) -> Figure:
    """Validation accuracy against step: a row of panels per task, a column per memory size.

    Every seed is a thin line, a thick one their mean (:func:`memnb.draw.panels.mean_of_seeds`). The
    Transformer, which has no memory, stands for comparison in every panel of a size that has run.

    Args:
        metrics: long frame of :func:`memnb.evidence.rows.load_metrics`.
        subtitle: where the rows come from.
        planned: a panel of a size of which none of these is on the task is left out; without it,
            such a panel says *no run yet*.
        label: what the task is called, where its data are of one's own.
        known: what takes no memory on the validation set of these.
    """
    title = "Learning curves: accuracy on the validation set"
    rows = panels.plain_models(metrics)
    rows = rows[rows["split"] == "validation"]
    if rows.empty:
        return style.empty(title, subtitle)
    tasks = naming.task_order(rows["task"])
    sizes = sorted({int(size) for size in rows["memory"] if size > 0}) or [0]
    figure, axes = style.canvas(
        len(tasks), len(sizes), 0.75 + 1.9 * len(tasks), sharex="row", sharey="row"
    )
    named = []
    for line, task in zip(axes, tasks, strict=True):
        there = set(rows.loc[rows["task"] == task, "memory"]) - {0}
        for axis, size in zip(line, sizes, strict=True):
            own = rows[(rows["task"] == task) & rows["memory"].isin([0, size])]
            if there and size not in there:
                own = own.iloc[:0]  # alone, the Transformer would pass for a model of this size
            ends = panels.curves(axis, own, "step", "accuracy", 100.0)
            if own.empty:
                panels.nothing_here(axis, planned, task, size)
            if task == tasks[0]:
                axis.set_title(panels.rows_of_memory(size))
            panels.count_along(axis)
            named.append((axis, ends))
        drawn = [axis for axis in line if axis.lines]
        panels.draw_levels(drawn, known or levels_of(task, "validation"))
        line[0].set_ylabel(f"{label or naming.task_label(task)}\nvalidation accuracy (%)")
    panels.name_axes(axes, "training step")
    words = f"{panels.SEEDS.capitalize()}; {panels.level_words(tasks)}."
    words += f" {_validated_on_test(rows)}{subtitle}"
    shown = rows[[*evidence.KEYS, "step", "accuracy", "loss"]]
    return panels.finish(figure, title, words, shown, axes, named)


def _validated_on_test(rows: pd.DataFrame) -> str:
    """A sentence on the tasks whose validation set is the test set; of runs of a task with changed
    settings (preset ``custom``) the rows do not say."""
    plain = naming.task_order(rows.loc[rows["preset"] != "custom", "task"])
    paper = [name for name in plain if getattr(config.TASKS[name], "validation", "") == "paper"]
    names = " and ".join(map(naming.task_label, paper))
    return f"{names}: validation set = test set. " if paper else ""


# --- degradation -----------------------------------------------------------------------------


def degradation(
    probes: pd.DataFrame,
    subtitle: str = "",
    *,
    measures: Sequence[str] = STREAMS,
    memory: int | None = None,
    task: str | None = None,
    label: str = "",
    apart: Sequence[Sequence[str]] = (),
    title: str = "",
) -> Figure:
    """Small multiples: one row of panels per measure, one column per block, families overlaid.

    Every seed is a thin line, the mean of the seeds a thick one. ``packed`` is what every position
    reads; ``m'`` is the memory stream that goes on to the next block.

    Args:
        probes: long frame of :func:`memnb.evidence.rows.load_probes`.
        subtitle: where the rows come from.
        measures: columns of the frame, keys of :data:`MEASURES`.
        memory: memory size to show; the largest one that most families have if not given.
        task: task to show; the one that most families have if not given.
        label: what the task is called, where its data are of one's own.
        apart: groups of families, and no others, that have rows of panels of their own for every
            measure, on the same scale.
        title: another than that of the measures.
    """
    fitting = [words for group, words in _DEGRADATION_TITLES.items() if {*measures} <= {*group}]
    title = title or (fitting or ["Memory over training and depth"])[0]
    rows = panels.plain_models(probes)
    if apart:
        rows = rows[rows["family"].isin([name for group in apart for name in group])]
    known, rows = rows, rows[rows["memory"] > 1]
    if task is not None:
        rows = rows[rows["task"] == task]
    if memory is not None:
        rows = rows[rows["memory"] == memory]
    if rows.empty:
        return style.empty(title, subtitle, _no_degradation(known, task, memory))
    task = panels.common_task(rows)
    rows = rows[rows["task"] == task]
    size = panels.common_memory(rows)
    rows = rows[rows["memory"] == size]
    blocks = sorted({int(block) for block in rows["block"]})
    families = list(rows["family"].unique())
    groups = [some for group in apart or [families] if (some := {*group} & {*families})]
    lines = [(measure, group) for measure in measures for group in groups]
    figure, axes = style.canvas(
        len(lines), len(blocks), 0.85 + 1.2 * len(lines), sharex=True, sharey="row", gap=0.1
    )
    named = []
    for line, (measure, group) in zip(axes, lines, strict=True):
        for axis, block in zip(line, blocks, strict=True):
            own = rows[(rows["block"] == block) & rows["family"].isin(group)]
            named.append((axis, _measure_panel(axis, own, measure)))
            panels.count_along(axis, 4 if len(blocks) < 4 else 2)
    for measure in measures:
        firsts = [line[0] for line, (of, _) in zip(axes, lines, strict=True) if of == measure]
        _one_scale(firsts, measure, size)
    for axis, block in zip(axes[0], blocks, strict=True):
        axis.set_title(f"block {block}", pad=14)
    panels.name_axes(axes, "training step")
    figure.align_ylabels(axes[:, 0])
    of_task = f"{label or naming.task_label(task)}, {panels.rows_of_memory(size)}"
    thick = f" ({panels.GEOMETRIC})" if {*_LOGARITHMIC} & {*measures} else ""
    drawn = rows.dropna(subset=[*measures], how="all")
    words = f"{of_task}; {panels.lines_of_seeds(drawn, 'family', thick)}"
    words += f". {subtitle}" if subtitle else ""
    shown = rows[[*evidence.KEYS, "step", "block", *measures]]
    return panels.finish(figure, title, words, shown, axes, named)


def _measure_panel(axis: Axes, rows: pd.DataFrame, measure: str) -> Ends:
    """A measure over training in one block; an empty panel says so."""
    rows = rows.dropna(subset=[measure])
    if measure in _LOGARITHMIC:
        axis.set_yscale("log")  # from block to block a norm can change by powers of ten
        rows = rows.assign(**{measure: rows[measure].clip(lower=1e-12)})
    ends = panels.curves(axis, rows, "step", measure, geometric=measure in _LOGARITHMIC)
    if rows.empty:
        panels.missing(axis)
    return ends


def _one_scale(firsts: Sequence[Axes], measure: str, memory: int) -> None:
    """The same limits and names for all rows of panels of a measure, by the first panel of each;
    above the topmost what its scale means."""
    name, meaning = MEASURES[measure]
    low, high = zip(*(axis.get_ylim() for axis in firsts), strict=True)
    for axis in firsts:
        axis.set_ylim(min(low), max(high))
        _scale(axis, measure, memory)
        axis.set_ylabel(name, fontsize=8)
    if meaning:
        style.note(firsts[0], meaning, (0, firsts[0].get_ylim()[1]), (2, 2), va="bottom")


def not_learned(runs: pd.DataFrame, known: Levels | None = None) -> str:
    """Which of a few runs of one task have learned nothing, a sentence each; empty if none.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
        known: what takes no memory on the test set, where the data are of one's own.
    """
    ended = runs[runs["outcome"] == "finished"]
    return " ".join(
        f"{naming.model_label(run['model'])} has not learned this task "
        f"({100 * run['test_accuracy']:.1f} %)."
        for _, run in ended.iterrows()
        if panels.has_not_learned(run["task"], run["test_accuracy"], known)
    )


def _no_degradation(known: pd.DataFrame, task: str | None, memory: int | None) -> str:
    """Why nothing of these rows can be drawn: none of the task, of the size, or of several rows."""
    sizes = set(known["memory"] if task is None else known.loc[known["task"] == task, "memory"])
    if sizes == {1} or (memory == 1 and 1 in sizes):
        return "One memory row: there are no pairs to compare."
    return panels.nothing_of(known[known["memory"] > 1], task=task, memory=memory)


_DEGRADATION_TITLES = {
    STREAMS: "Memory degradation: how alike the rows are, per block",
    ATTENTION: "How evenly pack and unpack look, per block",
    GRADIENTS: "How the loss depends on the packed rows, per block",
}


def _scale(axis: Axes, measure: str, size: int) -> None:
    if measure.endswith("rank"):
        axis.set_ylim(0, None)
        low, high = axis.get_ylim()
        axis.set_ylim(0, max(high, 1.5))
        if size <= 1.6 * high:
            axis.set_ylim(0, 1.12 * size)
        axis.yaxis.set_major_locator(panels.ticks(4))
    elif measure in _LOGARITHMIC:
        panels.name_powers(axis)
    elif "gradient" in measure:
        axis.set_ylim(0, None)
    elif measure in ATTENTION:
        # All that training changes can be a few parts of a hundred below the even level.
        even = 0.5 if measure == "dominant_rows" else 1.0
        low, high = axis.get_ylim()
        low, high = min(low, even - 0.05), max(high, even)
        axis.set_ylim(low, high + 0.05 * (high - low))
        axis.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    else:
        low, _ = axis.get_ylim()
        axis.set_ylim(min(low, -0.05) if low < 0 else -0.05, 1.08)
        axis.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))


# --- memory size -----------------------------------------------------------------------------


def memory_size(runs: pd.DataFrame, subtitle: str = "") -> Figure:
    """Test accuracy against memory size (log2), a panel per task, the Transformer as a level."""
    title = "Does more memory help? Accuracy against the number of memory rows"
    plain = panels.plain_models(runs)
    rows = plain[(plain["outcome"] == "finished") & (plain["memory"] > 0)]
    if rows.empty:
        return style.empty(title, subtitle)
    tasks = naming.task_order(rows["task"])
    figure, axes = panels.panel_grid(len(tasks), 3, 0.7, 2.3)
    sizes = sorted({int(size) for size in rows["memory"]})
    margin = 1.25 * max(_sideways(rows).values())
    named, titles = [], []
    for axis, task in zip(axes.flat, tasks, strict=False):
        named.append((axis, _size_panel(axis, plain[plain["task"] == task])))
        far = panels.draw_near_levels(axis, levels_of(task))
        titles.append((axis, naming.task_label(task), far))
        axis.set_xscale("log", base=2)
        panels.ticks_at(axis.xaxis, sizes)
        axis.set_xlim(min(sizes) / margin, max(sizes) * margin)
    panels.name_axes(axes, "memory rows", "test accuracy (%)")
    panels.entitle(titles)
    near = not all(far for _, _, far in titles)
    parts = [panels.MARKS.capitalize()]
    if (plain["model"] == "transformer").any():
        parts.append("grey: span of the Transformer's seeds")
    parts += filter(None, [panels.level_words(tasks, near)])
    words = f"{'; '.join(parts)}. {subtitle}"
    return panels.finish(figure, title, words, panels.of_runs(plain), axes, named)


def _size_panel(axis: Axes, plain: pd.DataFrame) -> Ends:
    ends = []
    rows = plain[plain["outcome"] == "finished"]
    beside = _sideways(rows)
    for name in naming.family_order(rows["family"]):
        look, own = style.family(name), rows[rows["family"] == name]
        values = 100 * own["test_accuracy"]
        if name == "transformer":
            axis.axhspan(values.min(), values.max(), color=look.colour, alpha=0.1, linewidth=0)
            axis.axhline(values.mean(), color=look.colour, linestyle=look.dash, linewidth=1.3)
            ends.append((float(values.mean()), look.label, look.colour))
            continue
        mean = values.groupby(own["memory"]).mean()
        axis.plot(mean.index, mean, color=look.colour, linestyle=look.dash, linewidth=1.7, zorder=2)
        axis.plot(
            beside[name] * own["memory"], values, **look.points, markersize=4.5, alpha=0.6,
            markeredgewidth=0, zorder=3,
        )  # fmt: skip
        ends.append((float(mean.iloc[-1]), look.label, look.colour))
    return ends


def _sideways(rows: pd.DataFrame) -> dict[str, float]:
    """By family, by what its marks' places on a logarithmic axis are multiplied, so that none
    hides another's of the same size."""
    families = naming.family_order(rows.loc[rows["memory"] > 0, "family"])
    octaves = np.log2(rows["memory"].max() / rows.loc[rows["memory"] > 0, "memory"].min())
    step = 0.035 * max(float(octaves), 1.0)
    middle = (len(families) - 1) / 2
    return {name: 2 ** (step * (place - middle)) for place, name in enumerate(families)}


# --- row removal -----------------------------------------------------------------------------


def row_removal(removal: pd.DataFrame, subtitle: str = "") -> Figure:
    """Test accuracy with only some memory rows left, a panel per task and memory size.

    A flat line means that the removed rows were not needed. Every seed is a thin line, the mean
    a thick one.
    """
    title = "How many memory rows does a trained model need?"
    rows = panels.plain_models(removal)
    if rows.empty:
        return style.empty(title, subtitle)
    # By size first: where all tasks have the same sizes, a line of panels has one.
    shown = [
        (task, size)
        for size in sorted({int(size) for size in rows["memory"]})
        for task in naming.task_order(rows.loc[rows["memory"] == size, "task"])
    ]
    figure, axes = panels.panel_grid(len(shown), 3, 0.75, 2.1)
    named = []
    for axis, (task, size) in zip(axes.flat, shown, strict=False):
        own = rows[(rows["task"] == task) & (rows["memory"] == size)]
        axis.set_title(f"{naming.task_label(task)}, {size} rows", fontsize=8.5)
        named.append((axis, panels.against_rows_left(axis, own)))
        panels.draw_levels([axis], levels_of(task))
    panels.name_axes(axes, "rows left (the others\nremoved at random)", "test accuracy (%)")
    words = f"Whole test set; {panels.SEEDS}; {panels.level_words(task for task, _ in shown)}."
    words += f" {panels.random_choices(rows)}. {subtitle}"
    return panels.finish(figure, title, words, rows, axes, named)


# --- claims ----------------------------------------------------------------------------------

_LOST = "lost"  # what must stay near zero: beside large effects its target could not be seen
_UNITS = {
    "points": "effect in points of accuracy",
    _LOST: "points of accuracy lost",
    "cosine": "mean pairwise cosine of the packed rows",
    "of the rank range": "effective rank of the packed rows: 0 is one direction, 1 all that "
    "are possible",
}


def claims(verdicts: Sequence[Verdict], subtitle: str = "") -> Figure:
    """Forest plot: every comparison behind the verdicts, with its 95 % interval and its target.

    Tasks side by side; a row of panels per unit, and one for what must stay near zero. The band is
    where the whole interval has to lie for the comparison to hold; right of its row stands how many
    seeds it rests on, of how many where some are left out, and how many have failed. One without an
    effect has no mark. A comparison that a task does not have leaves its place empty there.

    Args:
        verdicts: those of one preset (:func:`memnb.evidence.claims.check`).
        subtitle: where the rows come from.
    """
    title = "The claims: every comparison with its 95 % interval"
    frames = [
        verdict.evidence.assign(claim=verdict.claim)
        for verdict in verdicts
        if not verdict.evidence.empty
    ]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if len(rows):
        rows = rows[rows["effect"].notna() | (rows[[*_LEFT_OUT, *_FAILED]] > 0).any(axis=1)]
    if rows.empty:
        return style.empty(title, subtitle, "No run yet: there is nothing to compare.")
    panel = rows["unit"].mask(rows["target"].str.startswith("within"), _LOST)
    units = [unit for unit in _UNITS if unit in set(panel)]
    lines = [row for _, row in rows.iterrows()]
    rows = rows.assign(label=[*map(_comparison_label, lines)], seeds=[*map(_seeds, lines)])
    order = ["claim", "memory"]  # the same on every task, whichever sizes the first one has
    parts = {unit: rows[panel == unit].sort_values(order, kind="stable") for unit in units}
    places = {unit: list(dict.fromkeys(part["label"])) for unit, part in parts.items()}
    tasks = naming.task_order(rows["task"])
    room = max(0.3, 0.055 * rows["seeds"].str.len().max())  # for the numbers of seeds, in inches
    # A panel gives way where there are many, so that a page need not shrink the whole figure.
    each = max(0.7, min(1.15, 5.4 / len(tasks) - room))
    figure, axes = style.canvas(
        len(units), len(tasks), 0.85 + sum(0.55 + 0.17 * len(labels) for labels in places.values()),
        width=max(6.0, 2.6 + (each + room) * len(tasks)), sharex="row", sharey="row",
        height_ratios=[len(labels) + 1.4 for labels in places.values()],
    )  # fmt: skip
    style.layout_of(figure).set(w_pad=room / 2)
    for line, unit in zip(axes, units, strict=True):
        _forest(line, tasks, parts[unit], places[unit], unit)
    for axis, task in zip(axes[0], tasks, strict=True):
        axis.set_title(naming.task_label(task), fontsize=9)
    drawn = rows[rows["effect"].notna()]
    there = set(drawn["result"])
    shown = {result: result for result in _RESULTS if result in there - {*UNJUDGED}}
    if there & {*UNJUDGED}:
        shown[UNJUDGED[0]] = "not judged"
    marks: dict[str, Artist] = {name: _result_mark(result) for result, name in shown.items()}
    if _CUT in _drawn(figure):
        marks[_CUT] = _cut_mark()
    marks["where the whole interval must lie"] = Patch(facecolor=_TARGET)
    panels.legend_below(figure, marks, len(marks), handletextpad=0.4, columnspacing=1.4)
    few = f"; fewer than {statistics.ENOUGH} have no interval" if drawn["low"].isna().any() else ""
    words = "Right of each row: number of seeds, a/b where the two sides differ"
    if (rows[_LEFT_OUT] > 0).any(axis=None):
        words += "; n of m: m counts those at the majority level as well, which are left out"
    return panels.finish(
        figure, title, f"{words}{few}. {subtitle}", rows.drop(columns=["label", "seeds"])
    )


_TARGET = "#DCEBE3"
_LEFT_OUT, _FAILED = ["left_out_a", "left_out_b"], ["failed_a", "failed_b"]
#: Result of a comparison: marker, filled or hollow.
_RESULTS = {
    "holds": ("o", True),
    "not shown": ("o", False),
    "ruled out": ("X", True),
    **dict.fromkeys(UNJUDGED, (".", False)),
}
#: Those whose interval shows something: it lies inside the target, or outside.
_SETTLED = ("holds", "ruled out")


def _result_mark(result: str) -> Line2D:
    marker, filled = _RESULTS[result]
    quiet = result in UNJUDGED
    colour = style.QUIET if quiet else style.INK
    return Line2D(
        [], [], linestyle="none", marker=marker, color=colour, markersize=5.5,
        markerfacecolor=colour if filled or quiet else "white", markeredgewidth=1.2,
    )  # fmt: skip


def _forest(
    line: np.ndarray, tasks: Sequence[str], rows: pd.DataFrame, labels: Sequence[str], unit: str
) -> None:
    """The comparisons of one unit: a panel per task, in each of them a row per label.

    Only an interval that shows nothing may be cut: it can be wider than all the others together,
    and how wide makes no difference.
    """
    settled = rows["result"].isin(_SETTLED)
    targets = [_target_value(target) for target in rows["target"]]
    near = [-target for target in targets] if unit == _LOST else []
    ends = rows.loc[settled, ["low", "high"]].to_numpy(dtype=float).ravel()
    shown = [*rows["effect"], *ends, 0.0, *targets]
    low, high = np.nanmin([*shown, *near]), np.nanmax(shown)
    margin = 0.14 * (high - low or 1)
    line[0].set_xlim(low - margin, high + margin)
    panels.name_rows(line, labels, 0.6, fontsize=7.5)
    for axis, task in zip(line, tasks, strict=True):
        own = rows[rows["task"] == task]
        axis.spines["left"].set_visible(False)
        if own.empty:
            axis.grid(visible=False)
            axis.tick_params(axis="x", length=0, labelbottom=False)
            axis.spines["bottom"].set_visible(False)
            continue
        axis.axvline(0, color=style.INK, linewidth=0.9, zorder=1)
        axis.xaxis.set_major_locator(
            MaxNLocator(3 if len(tasks) < 4 else 2, steps=[1, 2, 3, 5, 10])
        )
        for _, row in own.iterrows():
            position = labels.index(row["label"])
            _target(axis, position, row["target"])
            style.note(axis, row["seeds"], (1, position), (3, 0), va="center", fontsize=6.5)
            if np.isnan(row["effect"]):
                continue
            mark = _result_mark(row["result"])
            colour = style.QUIET if row["result"] in UNJUDGED else style.INK
            _interval(axis, position, row["low"], row["high"], colour)
            mark.set_data([row["effect"]], [position])
            mark.set_zorder(4)
            axis.add_line(mark)
    filled = [axis for axis, task in zip(line, tasks, strict=True) if task in set(rows["task"])]
    filled[(len(filled) - 1) // 2].set_xlabel(_UNITS[unit], fontsize=8)


def _comparison_label(row: pd.Series[Any]) -> str:
    """``C1  ConvLuna-16 − Luna-16``; of a measure what its axis does not say already."""
    measure = row["measure"]
    for said in (ACCURACY, "packed cosine", "packed rank share", "accuracy lost with "):
        measure = measure.removeprefix(said)
    measure = measure.removeprefix(", ") or ("" if row["b"] else "all blocks")
    name = f"{row['claim']}  {naming.comparison_label(row['a'], row['b'])}"
    return f"{name}, {measure}" if measure else name


def _seeds(row: pd.Series[Any]) -> str:
    """``3``, or ``10/3`` where the sides of a comparison have so many seeds; ``3/7 of 10`` where
    some are left out, ``3/2, 1 failed`` where some have failed."""
    sides = "ab" if row["b"] else "a"
    counts = [row[f"n_{side}"] for side in sides]
    every = [row[f"n_{side}"] + row[f"left_out_{side}"] for side in sides]
    text = "/".join(map(str, dict.fromkeys(counts)))
    if every != counts:
        text += f" of {'/'.join(map(str, dict.fromkeys(every)))}"
    failed = row[_FAILED].sum()
    return f"{text}, {failed} failed" if failed else text


def _target_value(target: str) -> float:
    """The number in a target: 0.9 of ``> 0.9``, 1 of ``within ±1``."""
    return float(target.rpartition(" ")[2].lstrip("±"))


def _target(axis: Axes, position: float, target: str) -> None:
    """A band where the interval has to lie: ``> x``, ``< x`` or ``within ±x``."""
    low, high = axis.get_xlim()
    sign, value = target.partition(" ")[0], _target_value(target)
    if sign == ">":
        low = max(low, value)
    elif sign == "<":
        high = min(high, value)
    else:
        low, high = -value, value
    axis.fill_between(
        [low, high], position - 0.4, position + 0.4, color=_TARGET, linewidth=0, zorder=0
    )


# --- cost ------------------------------------------------------------------------------------


def cost(costs: pd.DataFrame, subtitle: str = "") -> Figure:
    """Hours of one graphics card per artefact: spent so far, and estimated for what is left.

    Args:
        costs: of ``memnb.reproduce.cost.by_artefact``.
        subtitle: where the rows come from.
    """
    title = "GPU hours: spent, and left on one H100 (estimated)"
    if costs.empty:
        return style.empty(title, subtitle)
    figure, axes = style.canvas(1, 1, 0.9 + 0.3 * len(costs))
    axis = axes[0, 0]
    places = np.arange(len(costs))
    spent, left = costs["spent"] / 3600, costs["left_seconds"] / 3600
    axis.barh(places, spent, color=style.INK, height=0.62, label="spent, measured")
    axis.barh(
        places, left, left=spent, color="white", edgecolor=style.QUIET, hatch="////", height=0.62,
        linewidth=0.8, label="left, estimated",
    )  # fmt: skip
    for place, line in zip(places, costs.to_dict("records"), strict=True):
        axis.annotate(
            f"{line['ended']} of {line['planned']} runs ended",
            xy=(spent[place] + left[place], place), xytext=(5, 0), textcoords="offset points",
            va="center", fontsize=7.5, color=style.QUIET,
        )  # fmt: skip
    panels.name_rows(axes[0], list(costs["artefact"]), 0.6)
    axis.set_xlim(0, 1.4 * max((spent + left).max(), 0.1))
    axis.set_xlabel("hours of one card")
    figure.legend(loc="outside lower center", ncols=2)
    return panels.finish(figure, title, subtitle, costs)
