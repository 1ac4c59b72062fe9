"""Figures of filters: kernels, their responses, how they move in training, others in their place.

Frames and ``subtitle`` are as in :mod:`memnb.draw.figures`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from memnb import config, naming
from memnb.draw import panels, style
from memnb.evidence.claims import ABLATION_MEMORY
from memnb.evidence.filters import CONTROLS, KERNELS, distances, kinds_of_kernel, taps_of
from memnb.evidence.levels import levels_of

HEADS = ("#0072B2", "#C4480A", "#00795A", "#8A1C7C", "#6B5B00", "#333333", "#B0306A", "#4B5FB5")
"""Colours of heads: at least 4.5 : 1 on white."""


def kernels(filters: pd.DataFrame, model: str, seed: int = 0, subtitle: str = "") -> Figure:
    """One model's kernels, a row of panels per block, a column per head: before and after training.

    The bar at 0 is the position itself, those left of it are before it. Where several tasks have a
    run, the first one of the benchmark is shown.
    """
    title = f"{naming.model_label(model)}: each head's filter before and after training"
    rows = _of_run(filters, model, seed)
    if rows.empty:
        return style.empty(title, subtitle, _no_filter(filters, model, seed))
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
        return style.empty(title, subtitle, _no_filter(filters, model, seed))
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
                mean = panels.mean_of_seeds(some, "step", value)
                axis.plot(mean.index, mean, color=colour, linestyle=dash, linewidth=1.9)
            panels.count_along(axis, 4 if len(blocks) < 4 else 2)
        column[0].set_title(f"block {block}")
    axes[0, 0].set_ylim(0, 1.06 * max(rows["moved"].max(), 0.01))
    axes[0, 0].set_ylabel("kernel: distance\nfrom start / norm", fontsize=8)
    axes[1, 0].set_ylabel("pack temperature", fontsize=8)
    panels.name_axes(axes, "training step")
    marks = {
        naming.model_label(f"convluna-{size}"): Line2D(
            [], [], color=colour, linestyle=dash, linewidth=1.9
        )
        for size, (colour, dash) in looks.items()
    }
    panels.legend_below(figure, marks, len(marks), handlelength=3)
    words = f"{naming.task_label(task)}; {panels.lines_of_seeds(rows, 'model')}. {subtitle}"
    return panels.finish(figure, title, words, rows)


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

    Hollow marks: a kernel that is not trained, or none.
    """
    title = f"What another kernel does in the filter's place (ConvLuna-{ABLATION_MEMORY})"
    rows = kinds_of_kernel(runs)
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
    words = f"{panels.seeds_each(rows, ['task', 'kind_of_kernel'])}{subtitle}"
    return panels.finish(figure, title, words, panels.of_runs(rows))


def _name_fillings(figure: Figure, rows: pd.DataFrame) -> None:
    """What filled and hollow diamonds mean, of those that are there, the bars and the lines."""
    look = style.FAMILY["convluna"]
    there = set(rows.loc[(rows["outcome"] == "finished"), "kind_of_kernel"]) - {"luna"}
    filled = {KERNELS[kind][1] for kind in there}
    names = {True: "kernel trained", False: "kernel fixed, or none"}
    marks = {
        name: Line2D([], [], **_mark_of_kernel(look, trained))
        for trained, name in names.items()
        if trained in filled
    }
    marks["mean"] = Line2D(
        [], [], color=look.colour, marker="|", linestyle="none", markersize=9, markeredgewidth=2.2
    )
    panels.legend_below(figure, marks | panels.level_marks(rows["task"]), 3, handletextpad=0.5)


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
        failed = int((own["outcome"] == "failed").sum())
        if failed:
            style.note(axis, f"{failed} failed", (1, place), (-2, 0), ha="right", va="center")
        elif not len(values):
            style.note(axis, style.MISSING, (1, place), (-2, 0), ha="right", va="center",
                       fontsize=6.5, fontstyle="italic")  # fmt: skip
    known = panels.draw_levels_across(axis, levels_of(task))
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, min(known) - 1.5), max(high, min(known) + 5))
    axis.set_title(naming.task_label(task), loc="center")
    axis.set_xlabel("test accuracy (%)")
    axis.xaxis.set_major_locator(panels.ticks(4))


def _no_filter(filters: pd.DataFrame, model: str, seed: int) -> str:
    """Why a model has no kernels to draw."""
    if config.model_config(model, "listops-short").filter == "conv":
        return panels.nothing_of(filters, model=model, seed=seed)
    return f"{naming.model_label(model)} has no filter whose kernel could be shown."


def _of_run(filters: pd.DataFrame, model: str, seed: int) -> pd.DataFrame:
    rows = panels.plain_models(filters)
    rows = rows[(rows["model"] == model) & (rows["seed"] == seed)]
    return rows if rows.empty else rows[rows["task"] == naming.task_order(rows["task"])[0]]


def _where(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    steps: Any = rows["step"].max()
    return f"{naming.task_label(first['task'])}, seed {first['seed']}, {steps:,} steps"
