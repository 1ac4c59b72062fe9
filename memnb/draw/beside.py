"""What stands beside the paper's own figures: recall against facts, few or more than training
showed, and rows of the controls.

As in :mod:`memnb.draw.figures`, ``subtitle`` says where the rows come from, every seed is drawn,
and a frame without a row gives an empty panel that says so.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from memnb import config, naming
from memnb.draw import figures, panels, style
from memnb.draw.panels import Ends

_SHADES = {1: 0.35, 4: 0.6, 16: 1.0}
"""Opacity of a line by its number of memory rows: more rows, more ink."""
_MARKERS = {1: "o", 4: "s", 16: "D"}
POSITIONS = {"none": "without positions", "learned": "learned positions"}
#: Families that share a panel of :func:`longer`: a memory without and with the filter; controls.
_PAIRS = {
    "ChunkMem": ("chunkmem", "convchunkmem"),
    "RMT": ("rmt", "convrmt"),
    "Luna": ("luna", "convluna"),
    "no memory": config.FILTER_ALONE,
}


def recall(runs: pd.DataFrame, subtitle: str = "") -> Figure:
    """Recall against the number of facts, a column per family, a line per number of memory rows.

    Above the accuracy; below the facts held (:func:`held`), dotted: all of them.

    Args:
        runs: rows of the recall task (:func:`memnb.evidence.rows.of_study`).
        subtitle: where the rows come from.
    """
    title = "How many facts fit into M rows of memory?"
    rows = with_facts(runs)
    if rows.empty:
        return style.empty(title, subtitle)
    families, counts = naming.family_order(rows["family"]), sorted(rows["facts"].unique())
    figure, axes = style.canvas(2, len(families), 5.0, alone=5.2, sharex=True, sharey="row")
    named = []
    for (above, below), family in zip(axes.T, families, strict=True):
        own = rows[rows["family"] == family]
        above.set_title(style.family(family).label)
        named += [
            (above, _by_memory(above, own, "recall")),
            (below, _by_memory(below, own, "held")),
        ]
        below.plot(counts, counts, color=style.QUIET, linewidth=0.9, linestyle=style.DOTTED)
        below.set_xscale("log", base=2)
        panels.ticks_at(below.xaxis, counts)
        below.set_xlabel("facts before the question")
    axes[0, 0].set(ylim=(0, 102), ylabel="test accuracy (%)")
    axes[1, 0].set(ylim=(0, 1.06 * max(counts)), ylabel="facts held\n(dotted: all)")
    axes[1, 0].yaxis.set_major_locator(FixedLocator(range(0, max(counts) + 1, 4)))
    for above in axes[0]:
        style.reference_line(above, 100 / config.Recall.classes, "chance")
    style.heading(figure, title, f"{panels.MARKS.capitalize()}. {subtitle}")
    style.layout_of(figure).set(w_pad=0.3)  # room for the names of the lines
    style.settle(figure)
    for axis, ends in named:
        style.label_lines(axis, ends)
    return style.attach(figure, pd.concat([panels.of_runs(rows), rows[["facts", "held"]]], axis=1))


def with_facts(runs: pd.DataFrame) -> pd.DataFrame:
    """Finished runs of models with a memory on the recall task, with their number of ``facts``, the
    accuracy in percent as ``recall``, and the facts ``held``."""
    rows = panels.finished(runs)
    rows = rows[rows["task"].isin(_EACH_TRAINED) & (rows["memory"] > 0)]
    facts = rows["task"].map(lambda task: _recall(task).facts)
    rows = rows.assign(facts=facts, recall=100 * rows["test_accuracy"])
    return rows.assign(held=held(rows["test_accuracy"], rows["facts"]))


def _by_memory(axis: Axes, rows: pd.DataFrame, value: str) -> Ends:
    """A line per number of memory rows: every seed a mark, the mean a line."""
    ends = []
    for memory in sorted({int(size) for size in rows["memory"]}):
        group = rows[rows["memory"] == memory]
        look, ink = style.family(group["family"].iloc[0]), _SHADES.get(memory, 0.8)
        axis.plot(
            group["facts"], group[value], linestyle="none", marker=_MARKERS.get(memory, "^"),
            color=look.colour, alpha=ink, markersize=4, markeredgewidth=0,
        )  # fmt: skip
        mean = group.groupby("facts")[value].mean()
        axis.plot(mean.index, mean, color=look.colour, alpha=ink, linewidth=1.7)
        ends.append((float(mean.iloc[-1]), f"M = {memory}", look.colour))
    return ends


def _recall(task: str) -> config.Recall:
    known = config.task_config(task)
    assert isinstance(known, config.Recall)
    return known


_EACH_TRAINED = [name for name in config.EXTRA_TASKS if name not in config.LONGER_TASKS]


def by_facts(runs: pd.DataFrame, lengths: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each run at each number of facts, of recall of more facts than training showed.

    Args:
        runs: rows of the study ``longer`` (:func:`memnb.evidence.rows.of_study`).
        lengths: of the same runs (:func:`memnb.evidence.rows.load_lengths`).

    Returns:
        ``lengths`` with ``positions``, and with ``facts``: a sequence has one token more.
    """
    rows = lengths.merge(runs[["run_id", "positions"]], on="run_id")
    return rows.assign(facts=rows["high"] - 1)


def longer(facts: pd.DataFrame, subtitle: str = "") -> Figure:
    """Accuracy against the number of facts at test, beyond those that training showed.

    A row of panels without positions, one with learned ones; a column per memory, without and with
    the filter. Thin: a seed; thick: their mean. Grey: what a memory would reach that holds as many
    facts as training showed, and guesses where it is asked for another.

    Args:
        facts: of :func:`by_facts`.
        subtitle: where the rows come from.
    """
    title = "Recall of more facts than training showed"
    kinds = [kind for kind in POSITIONS if (facts["positions"] == kind).any()]
    pairs = {name: pair for name, pair in _PAIRS.items() if facts["family"].isin(pair).any()}
    if not kinds or not pairs:
        return style.empty(title, subtitle)
    size = panels.common_memory(facts[facts["memory"] > 0]) if (facts["memory"] > 0).any() else 0
    facts = facts[facts["memory"].isin([0, size])]
    figure, axes = style.canvas(
        len(kinds), len(pairs), 1.2 + 1.75 * len(kinds), alone=5.2, sharex=True, sharey=True
    )
    task = _recall(facts["task"].iloc[0])
    most = most_trained(facts)
    beyond = range(most, task.facts + 1)
    for line, kind in zip(axes, kinds, strict=True):
        for axis, pair in zip(line, pairs.values(), strict=True):
            own = facts[(facts["positions"] == kind) & facts["family"].isin(pair)]
            if own.empty:
                panels.missing(axis)
                continue
            panels.curves(axis, own, "facts", "accuracy", 100.0, marks=True)
            axis.plot(
                beyond, [100 * holding(most, count) for count in beyond], color=style.QUIET,
                linewidth=1.1, linestyle=(0, (2, 1.5)), zorder=1,
            )  # fmt: skip
        line[0].set_ylabel(f"{POSITIONS[kind]}\ntest accuracy (%)")
    axes[0, 0].set(ylim=(0, 104), xlim=(0, task.facts + 1))
    axes[0, 0].xaxis.set_major_locator(FixedLocator(range(4, task.facts + 1, 4)))
    for axis in axes.flat:
        axis.axvspan(0, most, color="#E6EAEE", zorder=0, linewidth=0)
        style.reference_line(axis, 100 / task.classes, "chance")
    for axis, name in zip(axes[0], pairs, strict=True):
        axis.set_title(name)
    for axis in axes[-1]:
        axis.set_xlabel("facts before the question", fontsize=7.5)
    where = (
        f"{panels.rows_of_memory(size)}. Grey ground: as many facts as training showed, up to "
        f"{most}; grey curve: a memory that holds {most} facts and guesses at the others. "
        f"{panels.SEEDS.capitalize()}."
    )
    style.heading(figure, title, f"{where} {subtitle}")
    looks = [style.family(family) for pair in pairs.values() for family in pair]
    marks = {
        look.label: Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash)
        for look in looks
    }
    # Two names per column: those of a panel.
    panels.legend_below(
        figure, marks, len(pairs), labelcolor="linecolor", fontsize=7.5, columnspacing=1.0
    )
    return style.attach(figure, facts)


def holding(some: int, count: int) -> float:
    """Accuracy (0..1) at ``count`` facts of a memory that holds ``some`` and guesses otherwise."""
    return (some + (count - some) / config.Recall.classes) / count


def held(accuracy: pd.Series[float], count: pd.Series[int]) -> pd.Series[float]:
    """The other way round: how many of ``count`` facts a memory holds that guesses at the others,
    if it is right in a share ``accuracy`` (0..1) of the cases. Below 0 where it does worse than
    guessing."""
    chance = 1 / config.Recall.classes
    return count * (accuracy - chance) / (1 - chance)


def most_trained(facts: pd.DataFrame) -> int:
    """The greatest number of facts in training."""
    tasks = facts["task"] if len(facts) else config.LONGER_TASKS
    return max(_recall(task).train_facts or _recall(task).facts for task in set(tasks))


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows on tasks that a model beside the paper's has a run on."""
    tasks = runs.loc[runs["family"].isin(config.BESIDE), "task"].unique()
    return runs[runs["task"].isin(tasks)]


def degradation(probes: pd.DataFrame, subtitle: str = "", task: str | None = None) -> Figure:
    """How alike the rows are that are written to a memory between chunks, on one task.

    A column per block; a row of panels per measure and memory, without and with the filter. The
    size is the one that most families have on it.

    Args:
        probes: rows of :func:`memnb.evidence.rows.load_probes`.
        subtitle: where they come from.
        task: the task; the one that most families have if not given.
    """
    return figures.degradation(
        probes,
        subtitle,
        measures=("packed_cosine", "packed_rank"),
        task=task,
        apart=[_PAIRS["ChunkMem"], _PAIRS["RMT"]],
        title="Memory between chunks: how alike the rows are, per block",
    )
