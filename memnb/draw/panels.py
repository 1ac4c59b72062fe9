"""What the figures share: how seeds, names of lines, levels and axes are drawn in a panel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    LogFormatterSciNotation,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from memnb import config, naming
from memnb.draw import style
from memnb.evidence.levels import MARGIN, Levels, Which, first_operator, learned_above
from memnb.evidence.rows import KEYS
from memnb.tasks import rules
from memnb.tasks.base import Dataset
from memnb.words import counted, listed

Ends = list[tuple[float, str, str]]
"""The lines of a panel: height of the right end in data units, name, colour."""


def panel_grid(
    count: int, most: int, above: float, line: float, *, alone: float = 5.2, **options: Any
) -> tuple[Figure, np.ndarray]:
    """:func:`memnb.draw.style.canvas` for ``count`` panels, at most ``most`` of them side by side.

    Lines of panels are as full as each other, as far as the count allows; places that are left over
    in the last one stay blank.

    Args:
        count: how many panels.
        most: how many fit side by side.
        above: height of what stands above and below the panels, in inches.
        line: height of a line of panels.
        alone: width of a single column.
        options: handed on.
    """
    lines = -(-count // most)
    columns = -(-count // lines)
    figure, axes = style.canvas(lines, columns, above + line * lines, alone=alone, **options)
    for axis in axes.flat[count:]:
        axis.axis("off")
    return figure, axes


def legend_below(figure: Figure, marks: Mapping[str, Artist], columns: int, **look: Any) -> None:
    """Name ``marks`` in a legend below the panels."""
    figure.legend([*marks.values()], [*marks], loc="outside lower center", ncols=columns, **look)


def name_rows(
    line: Sequence[Axes] | np.ndarray, names: Sequence[str], margin: float = 0.55, **look: Any
) -> None:
    """Rows with ``names``, from the top down, in place of the y scale that panels share."""
    for axis in line:
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
    line[0].set_yticks(range(len(names)), names, **look)
    line[0].set_ylim(len(names) - 1 + margin, -margin)


def curves(
    axis: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    scale: float = 1.0,
    *,
    marks: bool = False,
    geometric: bool = False,
) -> Ends:
    """Per model, every seed as a thin line and their mean as a thick one, column y against x.

    ``scale`` multiplies y; ``marks`` puts the family's marker on the mean; ``geometric`` is for a
    logarithmic axis: the mean is that of the logarithms. What has a single point has the marker in
    any case, since a line through it cannot be seen.
    """
    ends = []
    for name in naming.model_order(rows["model"]):
        look, own = look_of(name), rows[rows["model"] == name].sort_values(x, kind="stable")
        for _, seed in own.groupby("run_id", sort=False):
            axis.plot(
                seed[x], scale * seed[y], color=look.colour, linewidth=0.8, alpha=0.4, zorder=2,
                marker=look.marker if len(seed) == 1 else None, markersize=3,
            )  # fmt: skip
        values = own.assign(**{y: np.log(own[y])}) if geometric else own
        mean = mean_of_seeds(values, x, y)
        mean = scale * (mean.map(math.exp) if geometric else mean)
        axis.plot(
            mean.index, mean, color=look.colour, linestyle=look.dash, linewidth=1.9, zorder=3,
            marker=look.marker if marks or len(mean) == 1 else None, clip_on=len(mean) > 1,
        )  # fmt: skip
        ends.append((float(mean.iloc[-1]), look.label, look.colour))
    return ends


def mean_of_seeds(rows: pd.DataFrame, x: str, y: str) -> pd.Series[float]:
    """The mean of column y over the runs that are there, by x; NaN, which breaks a line, between
    two places where a run begins or ends.

    One that stops before the others, or was first looked at after them, moves the mean of the rest
    by its own distance from it. Joined up, that would look like a change in training.
    """
    mean = rows.groupby(x)[y].mean()
    spans = rows.groupby("run_id")[x].agg(["min", "max"]).to_numpy()
    places = mean.index.to_numpy()
    there = (spans[:, :1] <= places) & (places <= spans[:, 1:])
    changes = (there[:, 1:] != there[:, :-1]).any(axis=0)
    between = (places[1:] + places[:-1])[changes] / 2
    if not len(between):
        return mean
    return pd.concat([mean, pd.Series(np.nan, between)]).sort_index()


def against_rows_left(axis: Axes, rows: pd.DataFrame) -> Ends:
    """Accuracy against ``kept``, fewer and fewer rows from left to right."""
    curves(axis, rows, "kept", "accuracy", 100.0, marks=True)
    kept = sorted({int(k) for k in rows["kept"]})
    axis.set_xscale("log", base=2)
    # Rows are taken away from left to right: a line ends where the fewest are left.
    axis.set_xlim(max(kept) * 1.15, min(kept) / 1.15)
    ticks_at(axis.xaxis, _spaced(kept))
    means = 100 * rows.groupby(["model", "kept"])["accuracy"].mean()
    looks = {name: look_of(name) for name in naming.model_order(rows["model"])}
    return [(float(means[name].iloc[0]), look.label, look.colour) for name, look in looks.items()]


def random_choices(rows: pd.DataFrame) -> str:
    """In a sentence without its stop, whether the random rows that ``rows`` tell of were the same
    for all examples of a run."""
    own = rows["orders"] > 1
    if own.all():
        return "Every example keeps random rows of its own"
    if own.any():
        return "Random rows: one choice per run, in newer runs one per example"
    return "One random choice of rows per run"


def _spaced(numbers: Sequence[int]) -> list[int]:
    """Of ascending numbers the ends, and those between whose names have room on a log axis."""
    low, high = numbers[0], numbers[-1]
    room = math.log2(high / low) / 6
    found = [low]
    for number in numbers[1:-1]:
        if min(math.log2(number / found[-1]), math.log2(high / number)) >= room:
            found.append(number)
    return [*found, high] if high > low else found


def finish(
    figure: Figure,
    title: str,
    subtitle: str,
    rows: pd.DataFrame,
    axes: np.ndarray | None = None,
    named: Sequence[tuple[Axes, Ends]] = (),
) -> Figure:
    """The last steps of a figure: heading, names of lines, and the rows that it was drawn from.

    Args:
        figure: made by :func:`memnb.draw.style.canvas`; it is returned.
        title, subtitle: of the heading.
        rows: see :func:`memnb.draw.style.attach`.
        axes: the grid of panels, where lines are to be named.
        named: the panels that have lines, with these.
    """
    style.heading(figure, title, subtitle)
    if axes is not None:
        _name_lines(figure, axes, named)
    return style.attach(figure, rows)


def _name_lines(figure: Figure, axes: np.ndarray, named: Sequence[tuple[Axes, Ends]]) -> None:
    """Name the lines at the right edge of the last panel of each row.

    Where another panel of the row shows a family that its last panel lacks, or where there are more
    names than fit beside a panel, a legend below the panels takes the names' place.
    """
    shown = dict(named)
    lines = [[axis for axis in line if axis in shown] for line in axes]
    last = [line[-1] for line in lines if line]
    alike = all(
        _labels(shown[axis] for axis in line) == _labels([shown[line[-1]]])
        for line in lines
        if line
    )
    if alike and _laid_out_for_names(figure, {axis: len(shown[axis]) for axis in last}):
        for axis in last:
            style.label_lines(axis, shown[axis])
    else:
        _family_legend(figure, _labels(shown.values()))
        style.settle(figure)


def _laid_out_for_names(figure: Figure, counts: Mapping[Axes, int]) -> bool:
    """Lay a figure out for good with room for names at the right: so many beside each panel.

    Where they do not fit, False; it is then as it was.
    """
    engine = style.layout_of(figure)
    left, bottom, width, height = rect = engine.get()["rect"]
    engine.set(rect=(left, bottom, width - 0.85 / figure.get_size_inches()[0], height))
    engine.execute(figure)
    if not all(style.names_fit(axis, count) for axis, count in counts.items()):
        engine.set(rect=rect)
        return False
    figure.set_layout_engine("none")
    return True


def _labels(panels: Iterable[Ends]) -> set[str]:
    return {label for ends in panels for _, label, _ in ends}


def _family_legend(figure: Figure, labels: set[str]) -> None:
    known = {look.label: look for look in (*style.FAMILY.values(), *style.OTHERS.values())}
    looks = [look for label, look in known.items() if label in labels]
    looks += [style.family(label) for label in sorted(labels - known.keys())]
    marks = {
        look.label: Line2D([], [], color=look.colour, linestyle=look.dash, linewidth=1.9)
        for look in looks
    }
    columns = min(len(looks), 5)  # more would be wider than a page
    legend_below(figure, marks, columns, labelcolor="linecolor", handlelength=3)


def plain_models(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of models as their names define them: no ablated settings."""
    return frame[frame["changes"] == ""]


def finished(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of :func:`plain_models` that have finished."""
    plain = plain_models(runs)
    return plain[plain["outcome"] == "finished"]


def nothing_of(rows: pd.DataFrame, what: str = "run", **asked: Any) -> str:
    """Why none of these rows is what was asked for: the first choice that leaves none, and those
    that would leave some.

    Args:
        rows: a frame with the columns that are named in ``asked``.
        what: what a row stands for; one word that takes an s.
        asked: a value, or None for any, of ``model``, ``task``, ``memory`` or ``seed``.
    """
    rows = plain_models(rows)
    for column, value in asked.items():
        if rows.empty or value is None:
            continue
        chosen = rows[rows[column] == value]
        if chosen.empty:
            several, any_of = f"there are {what}s", partial(listed, before_last="or")
            if column == "model":
                names = map(naming.model_label, naming.model_order(rows["model"]))
                return f"No {what} of {naming.model_label(value)}; {several} of {any_of(names)}."
            if column == "task":
                names = map(naming.task_label, naming.task_order(rows["task"]))
                return f"No {what} on {naming.task_label(value)}; {several} on {any_of(names)}."
            numbers = any_of(f"{number:,}" for number in sorted({*rows[column]}))
            if column == "memory":
                return f"No {what} with {rows_of_memory(value)}; {several} with {numbers}."
            return f"No {what} with {column} {value}; {several} with {column} {numbers}."
        rows = chosen
    return style.MISSING


def look_of(model: str) -> style.Family:
    return style.family(model.partition("-")[0])


def look_of_filter(kind: str, stride: int = 1) -> style.Family:
    """That of the family which has the filter; no filter takes Luna's, a stride has its own."""
    if stride > 1:
        return style.STRIDED_POOL
    return style.FAMILY[{"none": "luna", "conv": "convluna", "pool": "poolluna"}[kind]]


def name_powers(axis: Axes) -> None:
    """Two to four names along a logarithmic y axis whose limits are settled: powers of ten, or what
    lies between them where there are too few."""
    low, high = axis.get_ylim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), tuple(range(1, 10))):
        marks = [digit * 10.0**power for power in powers for digit in digits]
        marks = [mark for mark in marks if low <= mark <= high]
        if len(marks) > 1:
            break
    else:  # a scale shorter than from one digit to the next
        marks = [mark for mark in MaxNLocator(4).tick_values(low, high) if low <= mark <= high]
    axis.yaxis.set_major_locator(FixedLocator(marks[:: -(-len(marks) // 4)]))
    axis.yaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
    axis.yaxis.set_minor_formatter(NullFormatter())


def draw_levels(panels: Iterable[Axes], known: Levels) -> None:
    """What takes no memory (:mod:`memnb.evidence.levels`), once the panels' limits are settled.

    The accuracy of always giving one answer (dotted) and, on ListOps, that of reading the first
    operator alone (dash-dotted), on the set of examples that the panels show. A heading or a
    legend names them: a name beside a line could cover a point.
    """
    for axis in panels:
        for dash, level in lines_of(known).items():
            style.reference_line(axis, level, dash=dash)


def draw_near_levels(axis: Axes, known: Levels) -> str:
    """The same on a panel whose marks one answer's level may press together, were it drawn.

    Returns:
        The words that say this level where it is far from all marks and therefore not drawn, for
        :func:`entitle`; empty where it is drawn.
    """
    constant, *others = lines_of(known).items()
    shown = [*axis.dataLim.intervaly, *(level for _, level in others)]
    near = is_near(constant[1], shown)
    for dash, level in [constant, *others] if near else others:
        style.reference_line(axis, level, dash=dash)
    return "" if near else f"{MAJORITY_NAME}: {constant[1]:.0f}"


def entitle(panels: Iterable[tuple[Axes, str, str]]) -> None:
    """Titles, and quiet words below those of panels that have some, once limits are settled.

    Args:
        panels: (panel, title, words) of each; all titles stand equally high.
    """
    panels = list(panels)
    lines = max((words.count("\n") + 1 for _, _, words in panels if words), default=0)
    for axis, title, words in panels:
        axis.set_title(title, pad=6 + 9 * lines)
        if words:
            style.note(axis, words, (0, axis.get_ylim()[1]), (0, 3), va="bottom")


def lines_of(known: Levels) -> dict[style.Dash, float]:
    """By the dashes of its line, each level that there is; that of one answer first."""
    levels = {style.DOTTED: known.constant, style.DASH_DOTTED: known.first_operator}
    return {dash: 100 * level for dash, level in levels.items() if level is not None}


def draw_levels_along(axis: Axes, x: Sequence[float], known: Sequence[Levels]) -> None:
    """The same where each ``x`` has levels of its own: two lines with bends.

    They lie above the curves, which may run along them.
    """
    for dash, levels in (
        (style.DOTTED, [one.constant for one in known]),
        (style.DASH_DOTTED, [one.first_operator for one in known]),
    ):
        if None not in levels:
            axis.plot(x, 100 * np.array(levels, float), color=style.QUIET, linewidth=0.9,
                      linestyle=dash, zorder=5)  # fmt: skip


def levels_in(data: Dataset, which: Which = "test") -> Levels:
    """The levels on a set of ``data`` of one's own: sequences, counted here and now."""
    shown = data.test if which == "test" else data.validation
    return Levels(
        rules.constant_answer(shown, data.validation), rules.first_token_on(shown, data.train)
    )


MAJORITY_NAME, FIRST_OPERATOR_NAME = "one answer always", "first operator alone"
"""The names of the two levels."""


#: Points within which one answer's level is drawn, however close together the marks are.
_REACH = 10.0


def is_near(level: float, shown: Sequence[float]) -> bool:
    """Whether a panel of the percentages ``shown`` can hold ``level`` without pressing them
    together; else it is to be said in words."""
    reach = max(max(shown) - min(shown), _REACH)
    return bool(min(shown) - reach <= level <= max(shown) + reach)


#: What :func:`curves` draws, and what marks and a line through their means are, for a subtitle.
SEEDS = "thin: a seed; thick: the mean"
GEOMETRIC = "geometric on a logarithmic scale"
"""What more to say of a mean that is one of logarithms."""
MARKS = "mark: a seed; line: the mean"


def seeds_of(rows: pd.DataFrame, by: Literal["family", "model"]) -> str:
    """How many seeds each of these has: what its mean rests on."""
    counts = rows.groupby(by, sort=False)["seed"].nunique()
    if counts.nunique() == 1:
        return counted(int(counts.iloc[0]), "seed") + (" each" if len(counts) > 1 else "")
    order, label = {
        "family": (naming.family_order, naming.family_label),
        "model": (naming.model_order, naming.model_label),
    }[by]
    return f"seeds: {', '.join(f'{label(name)} ({counts[name]})' for name in order(counts.index))}"


def lines_of_seeds(rows: pd.DataFrame, by: Literal["family", "model"], of_mean: str = "") -> str:
    """What the thin and the thick lines are, and how many seeds each of these has; where all have
    one, no line is a mean of others.

    Args:
        rows: what is drawn.
        by: what has lines of its own.
        of_mean: to stand behind the mean.
    """
    counts, most = seeds_of(rows, by), rows.groupby(by)["seed"].nunique().max()
    return counts if most == 1 else f"{SEEDS}{of_mean}; {counts}"


def seeds_each(runs: pd.DataFrame, by: Sequence[str]) -> str:
    """How many finished seeds what ``by`` tells apart has: a number, or the least and the most."""
    counts = runs[runs["outcome"] == "finished"].groupby([*by])["seed"].nunique()
    if counts.empty:
        return ""
    low, high = int(counts.min()), int(counts.max())
    return f"{counted(low, 'seed') if low == high else f'{low} to {high} seeds'} each. "


def level_marks(tasks: Iterable[str], majority: bool = True) -> dict[str, Line2D]:
    """The lines of :func:`draw_levels` on any of the ``tasks``, for a legend that names them;
    ``majority``: whether a panel draws that of one answer."""
    dashes = {MAJORITY_NAME: style.DOTTED} if majority else {}
    if any(first_operator(task) is not None for task in tasks):
        dashes[FIRST_OPERATOR_NAME] = style.DASH_DOTTED
    return {
        name: Line2D([], [], color=style.QUIET, linewidth=0.9, linestyle=dash)
        for name, dash in dashes.items()
    }


def level_words(tasks: Iterable[str], majority: bool = True) -> str:
    """The same in words, for a subtitle or a name of an axis; empty where no line is drawn."""
    dashes = {MAJORITY_NAME: "dotted", FIRST_OPERATOR_NAME: "dash-dotted"}
    return "; ".join(f"{dashes[name]}: {name}" for name in level_marks(tasks, majority))


def draw_levels_across(axis: Axes, known: Levels) -> list[float]:
    """:func:`draw_levels` where accuracy runs along x; returns the levels in percent.

    The limits stay as they are, and the legend or the axis names the lines.
    """
    found = lines_of(known)
    for dash, level in found.items():
        axis.axvline(level, linestyle=dash, color=style.QUIET, linewidth=0.9, zorder=1)
    return [*found.values()]


def has_not_learned(task: str, accuracy: float, known: Levels | None = None) -> bool:
    """Whether a test accuracy (0..1) is no more than the commonest label gives, as C3 judges; on
    data of one's own, whose levels are ``known``, no more than one answer gives there."""
    return accuracy <= (learned_above(task) if known is None else known.constant + MARGIN)


def unit_of(task: config.Task) -> str:
    """What a sequence of a task is made of."""
    if task.layout == "pixels":
        return "pixels"
    written = isinstance(task, config.Text | config.Retrieval | config.RetrievalACL)
    return "characters" if written else "tokens"


def name_axes(axes: np.ndarray, x: str, y: str = "") -> None:
    """Name the x axis below the lowest panel of each column, or of the middle one of many, and, if
    it is the same in all of them, the y axis beside the first panel of each row."""
    columns = axes.T if axes.shape[1] <= 3 else axes.T[axes.shape[1] // 2 :][:1]
    for column in columns:
        [axis for axis in column if axis.axison and axis.get_frame_on()][-1].set_xlabel(x)
    if y:
        for line in axes:
            line[0].set_ylabel(y)


def rows_of_memory(size: int) -> str:
    return {0: "no memory", 1: "1 memory row"}.get(size, f"{size} memory rows")


def nothing_here(
    axis: Axes, planned: style.Planned | None, task: str, memory: int, text: str = style.MISSING
) -> None:
    """Say in a panel without a run why: no model with ``memory`` rows is planned on ``task``, whose
    panel is taken away; otherwise, and if nobody says what is planned, ``text``."""
    sizes = {model.partition("-")[2] or "0" for model, there in planned or () if there == task}
    if planned is None or str(memory) in sizes:
        missing(axis, text)
        return
    axis.set_frame_on(False)  # not axis("off"), which would take the name of its row along
    axis.grid(visible=False)
    axis.tick_params(length=0, labelbottom=False, labelleft=False)
    missing(axis, style.NOT_PLANNED)


def missing(axis: Axes, text: str = style.MISSING) -> None:
    axis.text(
        0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=7,
        color=style.QUIET, fontstyle="italic",
    )  # fmt: skip


def ticks(count: int, least: int = 2) -> MaxNLocator:
    """About ``count`` whole numbers at most that read well; ``least`` in any case."""
    return MaxNLocator(count, integer=True, steps=[1, 2, 2.5, 5, 10], min_n_ticks=least)


def ticks_at(axis: Axis, places: Sequence[float]) -> None:
    """A logarithmic axis with a name at these places alone."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")


def count_along(axis: Axes, ticks_at_most: int = 4) -> None:
    """An x axis of steps or tokens, with few ticks and thousands as ``k``."""
    axis.xaxis.set_major_locator(ticks(ticks_at_most, least=1))  # one where there is one step
    axis.xaxis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:,.0f}"
    )


def common_memory(rows: pd.DataFrame) -> int:
    """The memory size that most families have; the larger one where several tie."""
    families = rows.groupby("memory")["family"].nunique()
    return int(families[families == families.max()].index.max())


def common_task(rows: pd.DataFrame, column: str = "family") -> str:
    """The task with most families, or with most values of another ``column``; the first of the
    benchmark where several tie."""
    counts = rows.groupby("task")[column].nunique()
    return naming.task_order(counts[counts == counts.max()].index)[0]


def of_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The columns of a frame of runs that belong beside a figure of accuracies."""
    return runs[[*KEYS, "outcome", "test_accuracy", "parameters", "step", "seconds", "device_name"]]
