"""Figures of what memories do: causal tests, use of rows, lengths, cost.

Frames and ``subtitle`` are as in :mod:`memnb.draw.figures`: every seed is drawn, a frame without a
row gives an empty panel that says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from memnb import naming
from memnb.draw import panels, style
from memnb.draw.panels import Ends
from memnb.draw.point_names import name_points
from memnb.evidence.levels import levels_by_length, levels_of

RULES = {
    "random": "random rows go first",
    "most used": "most used rows go first",
    "least used": "least used rows go first",
}
#: Tests that change what the rows hold: name, and what it does.
EXCHANGES = {
    "intact": "as trained",
    "mean": "all rows = their mean",
    "shuffle": "each row of another input",
    "swap": "all rows of another input",
    "freeze": "initial memory in every block",
}


# --- causal tests ----------------------------------------------------------------------------


def removal_rules(causal: pd.DataFrame, subtitle: str = "", memory: int | None = None) -> Figure:
    """Accuracy against rows left: a row of panels per task, a column per rule of removal.

    Args:
        causal: long frame of :func:`memnb.evidence.rows.load_causal`.
        subtitle: where the rows come from.
        memory: memory size to show; the one that most families have if not given.
    """
    title = "Accuracy with fewer and fewer memory rows"
    rows = _of_one_size(causal, memory)
    rows = rows[rows["test"].isin(["intact", "remove"])]
    if rows.empty:
        return style.empty(title, subtitle, _no_size(causal, memory))
    size, tasks = int(rows["memory"].iloc[0]), naming.task_order(rows["task"])
    figure, axes = style.canvas(
        len(tasks), len(RULES), 0.8 + 1.9 * len(tasks), sharex=True, sharey="row"
    )
    named: list[tuple[Axes, Ends]] = []
    for line, task in zip(axes, tasks, strict=True):
        for axis, (rule, words) in zip(line, RULES.items(), strict=True):
            own = rows[(rows["task"] == task) & rows["rule"].isin(["", rule])]
            named.append((axis, panels.against_rows_left(axis, own)))
            if task == tasks[0]:
                axis.set_title(words)
        # A name at the line would stand on curves, which begin at it.
        panels.draw_levels(line, levels_of(task, examples=_asked(rows, task)))
        line[0].set_ylabel(f"{naming.task_label(task)}\ntest accuracy (%)")
    panels.name_axes(axes, "rows left")
    words = f"{panels.rows_of_memory(size)}, the same {_examples(rows)} test examples throughout"
    words += f"; {panels.SEEDS}; {panels.level_words(tasks)}."
    words += f" {panels.random_choices(rows[rows['rule'] == 'random'])}. {subtitle}"
    return panels.finish(figure, title, words, rows, axes, named)


def exchanges(causal: pd.DataFrame, subtitle: str = "", memory: int | None = None) -> Figure:
    """What changing the rows' content does: accuracy (above) and changed answers (below).

    A column of panels per task, in each a row per test. A model that reads nothing from its memory
    is indifferent to all tests; one whose rows all say the same to every position is indifferent to
    their mean.
    """
    title = "Does the content of the memory matter?"
    rows = _of_one_size(causal, memory)
    rows = rows[rows["test"].isin(list(EXCHANGES))]
    if rows.empty:
        return style.empty(title, subtitle, _no_size(causal, memory))
    size, tasks = int(rows["memory"].iloc[0]), naming.task_order(rows["task"])
    tests = [test for test in EXCHANGES if test in set(rows["test"])]
    figure, axes = style.canvas(2, len(tasks), 4.6, alone=6.4, sharey=True)
    for column, task in zip(axes.T, tasks, strict=True):
        own = rows[rows["task"] == task]
        models = naming.model_order(own["model"])
        for axis, value in zip(column, ("accuracy", "changed"), strict=True):
            for place, name in enumerate(models):
                shift = (place - (len(models) - 1) / 2) * 0.22
                _dots(axis, own[own["model"] == name], tests, value, shift, panels.look_of(name))
            axis.xaxis.set_major_locator(panels.ticks(4))
        column[0].set_title(naming.task_label(task))
        known = panels.draw_levels_across(column[0], levels_of(task, examples=_asked(own, task)))
        column[0].margins(x=0.12)
        low, high = column[0].get_xlim()
        column[0].set_xlim(min(low, min(known) - 1), max(high, min(known) + 5))
        column[0].set_xlabel("test accuracy (%)")
        column[1].set_xlim(-4, 104)
        column[1].set_xlabel("answers changed (%)")
    # Names of tests are long: as ticks of the shared y axis they never meet.
    panels.name_rows([*axes.flat], [EXCHANGES[test] for test in tests], 0.5)
    marks = {
        naming.model_label(name): Line2D([], [], **panels.look_of(name).points)
        for name in naming.model_order(rows["model"])
    }
    panels.legend_below(figure, marks, len(marks), labelcolor="linecolor")
    where = f"{panels.rows_of_memory(size)}, {_examples(rows)} test examples"
    words = f"{where}; mark: a seed; bar: the mean; {panels.level_words(tasks)}. {subtitle}"
    return panels.finish(figure, title, words, rows)


def _dots(
    axis: Axes, rows: pd.DataFrame, tests: Sequence[str], value: str, shift: float,
    look: style.Family,
) -> None:  # fmt: skip
    for place, test in enumerate(tests):
        values = 100 * rows.loc[rows["test"] == test, value]
        axis.plot(values, np.full(len(values), place + shift), **look.points, alpha=0.55,
                  markeredgewidth=0)  # fmt: skip
        if len(values):
            axis.plot([values.mean()] * 2, [place + shift - 0.11, place + shift + 0.11],
                      color=look.colour, linewidth=2)  # fmt: skip


def usage(rows: pd.DataFrame, subtitle: str = "", memory: int | None = None) -> Figure:
    """Unpack weight and loss gradient of each row, rows sorted by use, a column per block.

    Args:
        rows: long frame of :func:`memnb.evidence.rows.load_usage`; the task that most families
            have is shown.
        subtitle: where the rows come from.
        memory: memory size to show; the one that most families have if not given.
    """
    title = "Which rows are read, and on which the loss depends"
    known, rows = rows, _of_one_size(rows, memory)
    if rows.empty:
        return style.empty(title, subtitle, _no_size(known, memory))
    task = panels.common_task(rows)
    rows = rows[rows["task"] == task]
    size = int(rows["memory"].iloc[0])
    blocks = sorted({int(block) for block in rows["block"]})
    figure, axes = style.canvas(2, len(blocks), 3.9, sharex=True, sharey="row")
    named: list[tuple[Axes, Ends]] = []
    for column, block in zip(axes.T, blocks, strict=True):
        own = rows[rows["block"] == block]
        for axis, value in zip(column, ("usage", "gradient"), strict=True):
            named.append((axis, _ranked(axis, own, value)))
        column[0].set_title(f"block {block}")
        column[0].axhline(1, color=style.QUIET, linewidth=0.9, linestyle=style.DOTTED, zorder=1)
    axes[0, 0].set_ylabel("unpack weight\n(1 = even share)", fontsize=8)
    axes[1, 0].set_ylabel("gradient norm\nof the loss", fontsize=8)
    axes[0, 0].set_ylim(0, 1.06 * rows["usage"].max())
    axes[1, 0].set_yscale("log")
    panels.name_powers(axes[1, 0])
    for axis in axes.flat:
        axis.xaxis.set_major_locator(panels.ticks(4))
    panels.name_axes(axes, "memory row, most read first")
    where = f"{naming.task_label(task)}, {panels.rows_of_memory(size)}"
    seeds = panels.lines_of_seeds(rows, "family", f" ({panels.GEOMETRIC})")
    return panels.finish(figure, title, f"{where}; {seeds}. {subtitle}", rows, axes, named)


def _ranked(axis: Axes, rows: pd.DataFrame, value: str) -> Ends:
    ends = []
    for name in naming.model_order(rows["model"]):
        look, lines = panels.look_of(name), []
        for _, seed in rows[rows["model"] == name].groupby("run_id", sort=False):
            ordered = seed.sort_values("usage", ascending=False)[value].clip(lower=1e-12)
            lines.append(ordered.to_numpy())
            axis.plot(range(1, len(ordered) + 1), lines[-1], color=look.colour, linewidth=0.8,
                      alpha=0.4)  # fmt: skip
        # A mean on the scale that is drawn.
        stack = np.stack(lines)
        mean = stack.mean(0) if value == "usage" else np.exp(np.log(stack).mean(0))
        axis.plot(range(1, len(mean) + 1), mean, color=look.colour, linestyle=look.dash)
        ends.append((float(mean[-1]), look.label, look.colour))
    return ends


# --- length and cost -------------------------------------------------------------------------


def by_length(
    lengths: pd.DataFrame, subtitle: str = "", planned: style.Planned | None = None
) -> Figure:
    """Test accuracy against the length of the input, fifths of the test set, a panel per task.

    Labels and first operators are not spread alike over the fifths; where these have been counted,
    the levels that take no memory bend with them.

    Args:
        lengths: rows of :func:`memnb.evidence.rows.load_lengths`.
        subtitle: where they come from.
        planned: a panel of a size of which none of these is on the task is left out.
    """
    title = "Accuracy against the length of the input"
    rows = panels.plain_models(lengths)
    if rows.empty:
        return style.empty(title, subtitle)
    rows = rows.assign(middle=(rows["low"] + rows["high"]) / 2)

    def panel(axis: Axes, own: pd.DataFrame) -> Ends:
        panels.count_along(axis)
        return panels.curves(axis, _one_per_length(own), "middle", "accuracy", 100.0, marks=True)

    def levels(drawn: list[Axes], task: str) -> None:
        fifths, own = levels_by_length(task), rows[rows["task"] == task]
        asked = {*zip(own["low"], own["high"], strict=True)}
        if not fifths or not {(low, high) for low, high, _ in fifths} <= asked:
            # Not counted, or on other examples than those asked.
            panels.draw_levels(drawn, levels_of(task))
            return
        for axis in drawn:
            middles = [(low + high) / 2 for low, high, _ in fifths]
            panels.draw_levels_along(axis, middles, [known for _, _, known in fifths])

    counts = _examples(rows.groupby("run_id")[["examples"]].sum())
    where = f"Fifths of {counts} test examples. {subtitle}"
    return _by_task_and_size(rows, title, where, "tokens of the input", panel, levels, planned)


def by_beginning(
    beginning: pd.DataFrame, subtitle: str = "", planned: style.Planned | None = None
) -> Figure:
    """Test accuracy where only the first tokens of an input are its own, a panel per task and M.

    Where a line is level, what follows made the answers no more accurate (though it may have
    changed some); every seed is a thin line. A panel is empty where no run was asked: those there
    are may be older than the test.

    Args:
        beginning: rows of :func:`memnb.evidence.rows.load_beginning`.
        subtitle: where they come from.
        planned: a panel of a size of which none of these is on the task is left out.
    """
    title = "How much of an input does an answer need?"
    rows = panels.plain_models(beginning)
    if rows.empty:
        return style.empty(title, subtitle)

    def panel(axis: Axes, own: pd.DataFrame) -> Ends:
        ends = panels.curves(axis, own, "kept", "accuracy", 100.0, marks=True)
        axis.set_xscale("log", base=4)
        *kept, whole = sorted({int(number) for number in own["kept"]})
        shown = [number for number in kept if 4 * number <= whole]
        axis.set_xticks([*shown, whole], [*map(str, shown), "all"])
        axis.xaxis.set_minor_locator(NullLocator())
        return ends

    where = f"{_examples(rows)} test examples; what follows the first tokens is another input's."

    def levels(drawn: list[Axes], task: str) -> None:
        panels.draw_levels(drawn, levels_of(task, examples=_asked(rows, task)))

    return _by_task_and_size(
        rows, title, f"{where} {subtitle}", "first tokens that stay", panel, levels, planned
    )


def _by_task_and_size(
    rows: pd.DataFrame, title: str, subtitle: str, x: str,
    panel: Callable[[Axes, pd.DataFrame], Ends], levels: Callable[[list[Axes], str], None],
    planned: style.Planned | None,
) -> Figure:  # fmt: skip
    """Test accuracy in a grid of panels: a row per task, a column per memory size.

    ``levels`` draws into the panels of a task what takes no memory there.
    """
    tasks, sizes = naming.task_order(rows["task"]), sorted({int(m) for m in rows["memory"]})
    figure, axes = style.canvas(
        len(tasks), len(sizes), 0.75 + 2.0 * len(tasks), alone=5.2, sharex="row", sharey="row"
    )
    named: list[tuple[Axes, Ends]] = []
    for line, task in zip(axes, tasks, strict=True):
        for axis, size in zip(line, sizes, strict=True):
            own = rows[(rows["task"] == task) & (rows["memory"] == size)]
            if task == tasks[0]:
                axis.set_title(panels.rows_of_memory(size))
            if own.empty:  # runs that are older than the test may be there
                panels.nothing_here(axis, planned, task, size, "not measured")
            else:
                named.append((axis, panel(axis, own)))
        # A name at the line would stand on curves, which mostly run along it.
        levels([axis for axis in line if axis.lines], task)
        line[0].set_ylabel(f"{naming.task_label(task)}\ntest accuracy (%)")
    panels.name_axes(axes, x)
    words = f"{panels.SEEDS.capitalize()}; {panels.level_words(tasks)}. {subtitle}"
    return panels.finish(figure, title, words, rows, axes, named)


def _one_per_length(rows: pd.DataFrame) -> pd.DataFrame:
    """One accuracy per run and ``middle``: inputs cut at the task's limit can fill several fifths.

    Fifths count by their examples. The n-th part of one run is the n-th of the others too, at the
    mean of their middles: runs may have been asked on more or fewer examples, whose fifths end a
    few tokens apart.
    """
    keys = ["model", "run_id", "middle"]
    summed = rows.assign(right=rows["accuracy"] * rows["examples"]).groupby(keys)
    both = summed[["right", "examples"]].sum().reset_index()
    runs = both.groupby("run_id")["middle"]
    parts = both.assign(part=runs.rank(), parts=runs.transform("size"))
    middle = parts.groupby(["parts", "part"])["middle"].transform("mean")
    return parts.assign(accuracy=both["right"] / both["examples"], middle=middle)


UNTIMED = "no step was timed on one device"


def cost_accuracy(
    runs: pd.DataFrame, subtitle: str = "", timings: pd.DataFrame | None = None
) -> Figure:
    """Every model as a point: time of a training step against test accuracy, a panel per task.

    The time is that of ``memnb bench`` for the same model, task and device where there is one, its
    bar the quartiles, and the mark is filled. Otherwise it is the run's training time over its
    steps, which other runs on the device may have drawn out, its bar spans the seeds, and the mark
    is hollow. Upright bars span the seeds. Times of different kinds of device are never in one
    panel: it shows the kind on which most models were timed, and names those that were not. A
    seed that ran on another device counts for the accuracy alone.

    Args:
        runs: rows of runs.
        subtitle: where they come from.
        timings: rows of :func:`memnb.evidence.benchmarks.load`.
    """
    title = "What accuracy costs: every model as a point"
    rows = panels.finished(runs)
    rows = rows[(rows["step"] > 0) & (rows["seconds_training"] > 0)]
    if rows.empty:
        return style.empty(title, subtitle)
    tasks = naming.task_order(rows["task"])
    timed = {task: _on_one_device(rows[rows["task"] == task], timings) for task in tasks}
    every = pd.concat([found for _, found in timed.values()], ignore_index=True)
    if every.empty:
        return style.empty(title, subtitle, UNTIMED)
    # At most two side by side: names need all the width there is.
    columns = min(len(tasks), 2)
    figure, axes = panels.panel_grid(len(tasks), columns, 0.9, 3.4, alone=5.6)
    letters = {1: 80, 2: 60}[columns]  # that a panel has room for
    named, titles, near = [], [], False
    for axis, (task, (device, own)) in zip(axes.flat, timed.items(), strict=False):
        words = ""
        if own.empty:
            panels.missing(axis, UNTIMED)
        else:
            named.append((axis, _points(axis, own)))
            axis.margins(y=0.15)
            far = panels.draw_near_levels(axis, levels_of(task))
            near |= not far
            words = _timed_on(device, rows[rows["task"] == task], own)
            words = textwrap.fill("; ".join([words, far] if far else [words]), letters)
        titles.append((axis, naming.task_label(task), words))
    panels.entitle(titles)
    panels.name_axes(axes, "time of a training step (ms)", "test accuracy (%)")
    _name_timings(figure, every, near)
    style.heading(figure, title, subtitle)
    style.settle(figure)
    for axis, points in named:
        name_points(axis, points)
    times = every[["milliseconds", "lower", "upper", "alone"]]
    return style.attach(figure, pd.concat([panels.of_runs(every), times], axis=1))


def _timed_on(device: str, rows: pd.DataFrame, timed: pd.DataFrame) -> str:
    """The device of a panel, and the models of ``rows`` that are not among its ``timed`` ones."""
    left_out = naming.model_order(set(rows["model"]) - set(timed["model"]))
    names = ", ".join(map(naming.model_label, left_out))
    return f"{device} (not timed on it: {names})" if left_out else device


def _on_one_device(rows: pd.DataFrame, timings: pd.DataFrame | None) -> tuple[str, pd.DataFrame]:
    """A kind of device and :func:`_with_milliseconds` on it: the one on which most models were
    timed; of several the one that trained most of the ``rows``."""
    devices = map(str, rows["device_name"].fillna("unknown").value_counts().index)
    every = [(device, _with_milliseconds(rows, device, timings)) for device in devices]
    return max(every, key=lambda found: found[1]["model"].nunique())  # the first of equals


def _with_milliseconds(
    rows: pd.DataFrame, device: str, timings: pd.DataFrame | None
) -> pd.DataFrame:
    """Adds ``milliseconds`` of a step on the ``device``, its ``lower`` and ``upper`` quartile, and
    ``alone``: whether ``memnb bench`` timed it there. Without quartiles all three are the same, and
    NaN for a run from elsewhere of a model that was not timed alone. A model of which no run was
    timed there is left out."""
    columns = ["milliseconds", "lower", "upper"]
    on_it = rows["devices"].map(lambda names: [name or "unknown" for name in names] == [device])
    as_run = (1000 * rows["seconds_training"] / rows["step"]).where(on_it)
    rows = rows.assign(**dict.fromkeys(columns, as_run), alone=False)
    if timings is not None:
        chosen = timings["suite"].isin(["step", "run"]) & (timings["outcome"] == "measured")
        timed = timings[chosen & (timings["device_name"] == device)]
        timed = timed.drop_duplicates(["task", "model"], keep="last").set_index(["task", "model"])
        own = timed.reindex(pd.MultiIndex.from_frame(rows[["task", "model"]]))
        own = own[columns].set_index(rows.index)
        rows["alone"] = own["milliseconds"].notna()
        rows[columns] = own.fillna(rows[columns])
    return rows[(rows["milliseconds"] > 0).groupby(rows["model"]).transform("any")]


def _name_timings(figure: Figure, rows: pd.DataFrame, majority: bool) -> None:
    """What filled and hollow marks mean, and bars and levels, of those that are there."""
    names = {
        True: "step timed alone",
        False: "step as its runs took it, on a device that others may have shared",
    }
    there = [is_alone for is_alone in names if (rows["alone"] == is_alone).any()]
    point: dict[str, Any] = {"color": style.QUIET, "linestyle": "none"}
    marks = {
        names[is_alone]: Line2D(
            [], [], **point, marker="o", fillstyle="full" if is_alone else "none"
        )
        for is_alone in there
    } | panels.level_marks(rows["task"], majority)
    several = rows.groupby(["task", "model"])["alone"].agg(["size", "all"]).query("size > 1")
    level = ["quartiles of the timings"] if True in there else []
    level += [] if several["all"].all() else ["range of the seeds (hollow)"]
    words = ["vertical, range of the seeds"] if len(several) else []
    words += [f"horizontal, {' or '.join(level)}"] if level else []
    if words:
        marks[f"bars: {'; '.join(words)}"] = Line2D([], [], **point, marker="+", markersize=10)
    panels.legend_below(figure, marks, 3 if len(there) == 1 else 1)


def _points(axis: Axes, rows: pd.DataFrame) -> list[tuple[float, float, str, str]]:
    """A point per model, with its bars; returns time, accuracy, name and colour of each."""
    axis.set_xscale("log")
    points = []
    for name in naming.model_order(rows["model"]):
        look, own = panels.look_of(name), rows[rows["model"] == name]
        time, accuracy = own["milliseconds"].mean(), 100 * own["test_accuracy"]
        span = [own["lower"].min(), own["upper"].max()]
        axis.plot(span, [accuracy.mean()] * 2, color=look.colour, linewidth=0.9)
        seeds = [accuracy.min(), accuracy.max()]
        axis.plot([time] * 2, seeds, color=look.colour, linewidth=0.9)
        face = look.colour if own["alone"].all() else "white"
        axis.plot([time], [accuracy.mean()], **look.points, markerfacecolor=face, alpha=0.75)
        label = naming.model_label(name).replace(" without", "\nwithout")  # too long for one line
        points.append((float(time), 100 * float(own["test_accuracy"].mean()), label, look.colour))
    low, high = rows["lower"].min(), rows["upper"].max()
    axis.set_xlim(low / 2.2, high * 2.8)  # room for names
    ends = np.log10(axis.get_xlim())
    decades = 10.0 ** np.arange(np.floor(ends[0]), np.ceil(ends[1]))
    panels.ticks_at(axis.xaxis, [*np.outer(decades, [1, 2, 5]).ravel()])
    return points


# --- shared ----------------------------------------------------------------------------------


def _of_one_size(rows: pd.DataFrame, memory: int | None) -> pd.DataFrame:
    """Named models with at least two rows, all of one memory size."""
    rows = panels.plain_models(rows)
    rows = rows[rows["memory"] > 1]
    if rows.empty:
        return rows
    return rows[rows["memory"] == (memory or panels.common_memory(rows))]


def _no_size(rows: pd.DataFrame, memory: int | None) -> str:
    """Why no rows are of this size."""
    if memory == 1 and len(rows):
        return "One memory row: there is no other to compare it with."
    return panels.nothing_of(rows[rows["memory"] > 1], memory=memory)


def _asked(rows: pd.DataFrame, task: str) -> int:
    """On how many test examples runs on a task were asked again."""
    return int(rows.loc[rows["task"] == task, "examples"].max())


def _examples(rows: pd.DataFrame) -> str:
    counts = sorted({int(count) for count in rows["examples"]})
    return " or ".join(f"{count:,}" for count in counts)
