"""Figures of what memories and filters do: causal tests, use of rows, kernels, lengths, cost.

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

from memnb import config, naming
from memnb.draw import panels, style
from memnb.draw.filter_tables import TAKEN_APART
from memnb.draw.panels import Ends
from memnb.draw.point_names import name_points
from memnb.evidence.filters import CONTROLS, KERNELS, distances, kinds_of_kernel, taps_of
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
HEADS = ("#0072B2", "#C4480A", "#00795A", "#8A1C7C", "#6B5B00", "#333333", "#B0306A", "#4B5FB5")
"""Colours of heads: at least 4.5 : 1 on white."""


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
        return style.empty(title, subtitle)
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
    words += f"; {panels.level_words(tasks)}."
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
        return style.empty(title, subtitle)
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
        naming.model_label(name): Line2D(
            [], [], color=panels.look_of(name).colour, marker=panels.look_of(name).marker
        )
        for name in naming.model_order(rows["model"])
    }
    panels.legend_below(figure, marks, len(marks), labelcolor="linecolor")
    where = f"{panels.rows_of_memory(size)}, {_examples(rows)} test examples"
    words = f"{where}; {panels.level_words(tasks)}. {subtitle}"
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
    rows = _of_one_size(rows, memory)
    if rows.empty:
        return style.empty(title, subtitle)
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
    axes[1, 0].set_ylabel("gradient norm of the loss\n(thick: geometric mean)", fontsize=7.5)
    axes[0, 0].set_ylim(0, 1.06 * rows["usage"].max())
    axes[1, 0].set_yscale("log")
    panels.name_powers(axes[1, 0])
    for axis in axes.flat:
        axis.xaxis.set_major_locator(panels.ticks(4))
    panels.name_axes(axes, "memory row, most read first")
    words = f"{naming.task_label(task)}, {panels.rows_of_memory(size)}. {subtitle}"
    return panels.finish(figure, title, words, rows, axes, named)


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


# --- filters ---------------------------------------------------------------------------------


def kernels(filters: pd.DataFrame, model: str, seed: int = 0, subtitle: str = "") -> Figure:
    """One model's kernels, a row of panels per block, a column per head: before and after training.

    The bar at 0 is the position itself, those left of it are before it. Where several tasks have a
    run, the first one of the benchmark is shown.
    """
    title = f"{naming.model_label(model)}: each head's filter before and after training"
    rows = _of_run(filters, model, seed)
    if rows.empty:
        return style.empty(title, subtitle, _no_filter(model))
    blocks = sorted({int(b) for b in rows["block"]})
    heads = sorted({int(h) for h in rows["head"]})
    figure, axes = style.canvas(
        len(blocks), len(heads), 0.95 + 0.95 * len(blocks), sharex=True, sharey=True, gap=0.04
    )
    for line, block in zip(axes, blocks, strict=True):
        for axis, head in zip(line, heads, strict=True):
            kernel = _kernel(rows, block, head)
            axis.bar(kernel.columns, kernel.iloc[-1], width=0.62,
                     color=style.FAMILY["convluna"].colour, zorder=2)  # fmt: skip
            axis.plot(kernel.columns, kernel.iloc[0], linestyle="none", marker="_", markersize=11,
                      color=style.INK, markeredgewidth=1.4, zorder=3)  # fmt: skip
            axis.axhline(0, color=style.QUIET, linewidth=0.7)
            axis.set_xticks(kernel.columns)
            axis.grid(visible=False, axis="x")
            if block == blocks[0]:
                axis.set_title(f"head {head}", fontsize=8.5)
        line[0].set_ylabel(f"block {block}", fontsize=8)
    panels.name_axes(axes, "position, relative")
    marks = {
        "before training": Line2D([], [], color=style.INK, marker="_", linestyle="none",
                                  markersize=9),
        "after training": Line2D([], [], color=style.FAMILY["convluna"].colour, linewidth=5),
    }  # fmt: skip
    panels.legend_below(figure, marks, 2)
    moved = distances(rows)
    far = 100 * moved.loc[moved["step"] == moved["step"].max(), "moved"].median()
    where = f"{_where(rows)}. Median distance from the start: {far:.0f} % of its norm."
    return panels.finish(figure, title, f"{where} {subtitle}", rows)


def _kernel(rows: pd.DataFrame, block: int, head: int) -> pd.DataFrame:
    """One head's kernel in training: a row per step, a column per place, 0 the position itself."""
    own = rows[(rows["block"] == block) & (rows["head"] == head)].set_index("step").sort_index()
    taps = own[taps_of(rows)].astype(float)
    return taps.set_axis(np.arange(taps.shape[1]) - (taps.shape[1] - 1) // 2, axis=1)


def responses(filters: pd.DataFrame, model: str, seed: int = 0, subtitle: str = "") -> Figure:
    """Gain of each head's filter against frequency, a panel per block; thin: before training.

    At frequency 0 stands what a constant sequence keeps, at 1/2 what two alternating tokens do: a
    line that falls smooths, one that rises takes differences.
    """
    title = f"{naming.model_label(model)}: frequency response of the filters"
    rows = _of_run(filters, model, seed)
    if rows.empty:
        return style.empty(title, subtitle, _no_filter(model))
    blocks = sorted({int(b) for b in rows["block"]})
    figure, axes = panels.panel_grid(len(blocks), 4, 0.95, 1.75, sharex=True, sharey=True)
    frequency = np.linspace(0, 0.5, 65)
    heads = sorted({int(h) for h in rows["head"]})
    colours = {head: HEADS[(head - 1) % len(HEADS)] for head in heads}
    for axis, block in zip(axes.flat, blocks, strict=False):
        for head, colour in colours.items():
            kernel = _kernel(rows, block, head)
            for time, width, alpha in ((0, 0.8, 0.5), (-1, 1.8, 1.0)):
                gain = response(kernel.iloc[time].to_numpy(), frequency)
                axis.plot(frequency, gain, color=colour, linewidth=width, alpha=alpha)
        axis.set_title(f"block {block}")
        axis.set_xticks([0, 0.25, 0.5], ["0", "1/4", "1/2"])
    highest = max(float(np.max(line.get_ydata())) for axis in axes.flat for line in axis.lines)
    axes[0, 0].set_ylim(0, 1.06 * highest)
    panels.name_axes(axes, "frequency (cycles per token)", "gain")
    marks = {
        f"head {head}": Line2D([], [], color=colour, linewidth=1.8)
        for head, colour in colours.items()
    }
    panels.legend_below(figure, marks, min(len(heads), 8))
    return panels.finish(figure, title, f"{_where(rows)}. Thin: before training. {subtitle}", rows)


def response(kernel: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """|sum_k w_k exp(2 pi i f k)| of a kernel (taps,) at frequencies in cycles per position."""
    places = np.arange(len(kernel))
    return np.abs(np.exp(2j * np.pi * np.outer(frequency, places)) @ kernel)


def kernel_movement(filters: pd.DataFrame, subtitle: str = "") -> Figure:
    """How far kernels have moved, and the pack temperature, over training, a column per block.

    Movement is the distance from the start over the start's norm, the mean over heads. Every run
    of ConvLuna as its name defines it on one task, the one with most memory sizes, a colour and a
    kind of line per size.
    """
    title = "How the filters and the temperature move in training"
    rows = panels.plain_models(filters)
    if rows.empty:
        return style.empty(title, subtitle)
    task = panels.common_task(rows, "memory")
    rows = _moved(rows[rows["task"] == task])
    blocks = sorted({int(b) for b in rows["block"]})
    looks = {size: _SIZES.get(size, _SIZES[4]) for size in sorted({int(m) for m in rows["memory"]})}
    figure, axes = style.canvas(2, len(blocks), 3.7, sharex=True, sharey="row")
    for column, block in zip(axes.T, blocks, strict=True):
        own = rows[rows["block"] == block]
        for axis, value in zip(column, ("moved", "pack_temperature"), strict=True):
            for size, (colour, dash) in looks.items():
                some = own[own["memory"] == size]
                for _, seed in some.groupby("run_id", sort=False):
                    axis.plot(seed["step"], seed[value], color=colour, linewidth=0.8, alpha=0.45)
                mean = some.groupby("step")[value].mean()
                axis.plot(mean.index, mean, color=colour, linestyle=dash, linewidth=1.9)
            panels.count_along(axis, 4 if len(blocks) < 4 else 2)
        column[0].set_title(f"block {block}")
    axes[0, 0].set_ylim(0, 1.06 * max(rows["moved"].max(), 0.01))
    axes[0, 0].set_ylabel("kernel: distance from\nits start / its norm", fontsize=8)
    axes[1, 0].set_ylabel("pack temperature", fontsize=8)
    panels.name_axes(axes, "training step")
    marks = {
        naming.model_label(f"convluna-{size}"): Line2D(
            [], [], color=colour, linestyle=dash, linewidth=1.9
        )
        for size, (colour, dash) in looks.items()
    }
    panels.legend_below(figure, marks, len(marks), handlelength=3)
    return panels.finish(figure, title, f"{naming.task_label(task)}. {subtitle}", rows)


_SIZES: dict[int, tuple[str, style.Dash]] = {
    1: ("#4B5FB5", (0, (5, 1, 1, 1))),
    4: ("#333333", (0, (4, 2))),
    16: (style.FAMILY["convluna"].colour, "-"),
    256: ("#00795A", (0, (1, 1))),
}
"""Colour and dashes of ConvLuna's memory sizes where it is alone; others are drawn like 4."""


def _moved(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run, step and block: ``moved`` and ``pack_temperature``, means over heads."""
    groups = ["run_id", "task", "model", "memory", "seed", "step", "block"]
    both = ["moved", "pack_temperature"]
    return distances(rows).groupby(groups, as_index=False)[both].mean()


def watched(filters: pd.DataFrame) -> list[str]:
    """The ids of the runs in ``filters``, those first that show most of what a filter learns.

    Models as their names define them before ablated ones, several memory rows before one (whose
    row has no cosine), full-scale tasks before small ones.
    """
    runs = filters.drop_duplicates("run_id")
    place = naming.task_order(runs["task"]).index
    keys = {
        "changed": runs["changes"] != "",
        "one": runs["memory"] < 2,
        "task": runs["task"].map(place),
    }
    return list(runs.assign(**keys).sort_values([*keys], kind="stable")["run_id"])


def moment(
    filters: pd.DataFrame,
    probes: pd.DataFrame,
    *,
    run_id: str = "",
    step: int | None = None,
    block: int = 1,
    head: int = 1,
    subtitle: str = "",
) -> Figure:
    """One run at one step of training: a head's kernel, its frequency response, its block's memory.

    Args:
        filters: frame of :func:`memnb.evidence.rows.load_filters`.
        probes: frame of :func:`memnb.evidence.rows.load_probes`.
        run_id: the run; the first of :func:`watched` if not given.
        step: of those at which the filters were watched; the last one if not given.
        block, head: from 1.
        subtitle: where the rows come from.
    """
    title = "A filter and its memory at one step of training"
    rows = filters[filters["run_id"].isin([run_id] if run_id else watched(filters)[:1])]
    rows = rows[(rows["block"] == block) & (rows["head"] == head)]
    if rows.empty:
        return style.empty(title, subtitle)
    own = _kernel(rows, block, head)
    now = int(own.index.max()) if step is None else step
    start, kernel = own.iloc[0].to_numpy(), own.loc[now].to_numpy()
    colour = style.FAMILY["convluna"].colour
    figure, axes = style.canvas(1, 3, 2.5, gridspec_kw={"width_ratios": [1, 1, 1.4]})
    taps_axis, gain, memory = axes[0]
    taps_axis.bar(own.columns, kernel, width=0.62, color=colour)
    taps_axis.plot(own.columns, start, linestyle="none", marker="_", markersize=14, color=style.INK)
    limit = 1.1 * float(own.abs().to_numpy().max())
    taps_axis.set(xlabel="position, relative", ylim=(-limit, limit))
    taps_axis.set_title("kernel", fontsize=8.5)
    taps_axis.axhline(0, color=style.QUIET, linewidth=0.7)
    frequency = np.linspace(0, 0.5, 65)
    gain.plot(frequency, response(start, frequency), color=style.INK, linewidth=0.8)
    gain.plot(frequency, response(kernel, frequency), color=colour)
    gain.set(xlabel="frequency (cycles/token)", ylim=(0, None), xticks=[0, 0.25, 0.5])
    gain.set_title("gain", fontsize=8.5)
    _at_step(memory, probes[(probes["run_id"] == rows["run_id"].iloc[0])
                            & (probes["block"] == block)], now)  # fmt: skip
    first = rows.iloc[0]
    where = (
        f"{naming.model_label(first['model'])} on {naming.task_label(first['task'])}, "
        f"{naming.scale_label(first['task'])}, seed {first['seed']}; "
        f"step {now:,}, block {block}, head {head}; black: before training."
    )
    return panels.finish(figure, title, f"{where} {subtitle}", rows)


def _at_step(axis: Axes, probes: pd.DataFrame, step: int) -> None:
    """Cosine and entropies of one block over training, with the step marked."""
    measures = {
        "packed_cosine": "cosine of packed rows",
        "pack_entropy": "pack entropy",
        "unpack_entropy": "unpack entropy",
    }
    for (value, words), colour in zip(measures.items(), HEADS, strict=False):
        some = probes.dropna(subset=[value])
        axis.plot(some["step"], some[value], color=colour, label=words)
    axis.axvline(step, color=style.QUIET, linewidth=1.2, zorder=1)
    axis.set(xlabel="training step", ylim=(-0.05, 1.75), yticks=[0, 0.5, 1])
    axis.set_title("memory of the block", fontsize=8.5)
    panels.count_along(axis)
    legend = axis.legend(fontsize=6.5, loc="upper left", borderaxespad=0.1, frameon=True)
    legend.get_frame().set(linewidth=0, alpha=0.9)


def kernel_kinds(runs: pd.DataFrame, subtitle: str = "") -> Figure:
    """Accuracy of ConvLuna with other kernels, beside Luna: every seed, a panel per task.

    Hollow marks: nothing in the filter's place is trained.
    """
    title = f"What another kernel does in the filter's place (ConvLuna-{TAKEN_APART})"
    rows = kinds_of_kernel(runs, TAKEN_APART)
    tasks = naming.task_order(rows.loc[rows["kind_of_kernel"].isin(CONTROLS), "task"])
    if not tasks:
        note = "no run with another kernel yet: nothing to compare the learned one with"
        return style.empty(title, subtitle, note if len(rows) else style.MISSING)
    rows = rows[rows["task"].isin(tasks)]
    figure, axes = style.canvas(1, len(tasks), 1.4 + 0.3 * len(KERNELS), alone=6.4, sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        _kinds_panel(axis, rows[rows["task"] == task], task)
    panels.name_rows(axes[0], [words for words, _ in KERNELS.values()])
    _name_fillings(figure, rows)
    return panels.finish(figure, title, subtitle, panels.of_runs(rows))


def _name_fillings(figure: Figure, rows: pd.DataFrame) -> None:
    """What filled and hollow diamonds mean, of those that are there, and the lines."""
    look = style.FAMILY["convluna"]
    there = set(rows.loc[(rows["outcome"] == "finished"), "kind_of_kernel"]) - {"luna"}
    filled = {KERNELS[kind][1] for kind in there}
    names = {True: "kernel trained", False: "nothing in the filter's place trained"}
    marks = {
        name: Line2D([], [], **_mark_of_kernel(look, trained))
        for trained, name in names.items()
        if trained in filled
    }
    panels.legend_below(figure, marks | panels.level_marks(rows["task"]), 2, handletextpad=0.5)


def _mark_of_kernel(look: style.Family, trained: bool) -> dict[str, Any]:
    face = look.colour if trained else "none"
    return {**look.points, "alpha": 0.7, "markeredgewidth": 0.9, "markerfacecolor": face}


def _kinds_panel(axis: Axes, rows: pd.DataFrame, task: str) -> None:
    for place, (kind, (_, trained)) in enumerate(KERNELS.items()):
        own = rows[rows["kind_of_kernel"] == kind]
        values = 100 * own.loc[own["outcome"] == "finished", "test_accuracy"]
        look = style.FAMILY["luna" if kind == "luna" else "convluna"]
        axis.plot(values, np.full(len(values), place), **_mark_of_kernel(look, trained), zorder=3)
        if len(values):
            axis.plot([values.mean()] * 2, [place - 0.27, place + 0.27], color=look.colour,
                      linewidth=2.2, zorder=4)  # fmt: skip
        else:
            style.note(axis, style.MISSING, (1, place), (-2, 0), ha="right", va="center",
                       fontsize=6.5, fontstyle="italic")  # fmt: skip
        failed = int((own["outcome"] == "failed").sum())
        if failed:
            style.note(axis, f"{failed} failed", (1, place), (-2, 0), ha="right", va="center")
    known = panels.draw_levels_across(axis, levels_of(task))
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, min(known) - 1.5), max(high, min(known) + 5))
    axis.set_title(naming.task_label(task), loc="center")
    axis.set_xlabel("test accuracy (%)")
    axis.xaxis.set_major_locator(panels.ticks(4))


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

    return _by_task_and_size(rows, title, subtitle, "tokens of the input", panel, levels, planned)


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
    words = f"{panels.level_words(tasks).capitalize()}. {subtitle}"
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
    panel: it shows the kind on which most models were timed, and names those that were not.

    Args:
        runs: rows of runs.
        subtitle: where they come from.
        timings: rows of :func:`memnb.evidence.benchmarks.load`.
    """
    title = "What accuracy costs: every model as a point"
    rows = panels.plain_models(runs)
    rows = rows[(rows["outcome"] == "finished") & (rows["step"] > 0)]
    rows = rows[rows["seconds_training"] > 0]
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
    words: dict[str, str] = {}
    named, near = [], False
    for axis, (task, (device, own)) in zip(axes.flat, timed.items(), strict=False):
        said = _timed_on(device, rows[rows["task"] == task], own)
        if own.empty:
            panels.missing(axis, UNTIMED)
        else:
            named.append((axis, _points(axis, own)))
            axis.margins(y=0.15)
            far = panels.draw_near_levels(axis, levels_of(task))
            said += f"; {far}" if far else ""
            near |= not far
        words[task] = textwrap.fill(said, letters)
    pad = 6 + 9 * max(1 + said.count("\n") for said in words.values())
    for axis, (task, said) in zip(axes.flat, words.items(), strict=False):
        axis.set_title(naming.task_label(task), pad=pad)
        if len(timed[task][1]):
            style.note(axis, said, (0, axis.get_ylim()[1]), (0, 3), va="bottom")
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
    ``alone``: whether ``memnb bench`` timed it there. Without quartiles all three are the same. A
    model that was not timed there, and a run from elsewhere of a model that was not timed alone, is
    left out."""
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
    return rows[rows["milliseconds"] > 0]


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


def _no_filter(model: str) -> str:
    """Why a model has no kernels to draw."""
    if config.model_config(model, "listops-short").filter == "conv":
        return style.MISSING
    return f"{naming.model_label(model)} has no filter whose kernel could be shown."


def _of_run(filters: pd.DataFrame, model: str, seed: int) -> pd.DataFrame:
    rows = panels.plain_models(filters)
    rows = rows[(rows["model"] == model) & (rows["seed"] == seed)]
    return rows if rows.empty else rows[rows["task"] == naming.task_order(rows["task"])[0]]


def _asked(rows: pd.DataFrame, task: str) -> int:
    """On how many test examples runs on a task were asked again."""
    return int(rows.loc[rows["task"] == task, "examples"].max())


def _examples(rows: pd.DataFrame) -> str:
    counts = sorted({int(count) for count in rows["examples"]})
    return " or ".join(f"{count:,}" for count in counts)


def _where(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    steps: Any = rows["step"].max()
    return f"{naming.task_label(first['task'])}, seed {first['seed']}, {steps:,} steps"
