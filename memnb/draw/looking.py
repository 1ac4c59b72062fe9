"""Where a trained model looks, drawn over the input itself: words, brackets or pixels.

A *view* is what :func:`memnb.evidence.views.load_views` or :func:`memnb.probes.views.view` gives.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from memnb import config, naming
from memnb.draw import style
from memnb.draw.attention_figures import (
    HEAT,
    even_on_padding,
    name_weights,
    relative_to,
    relative_weights,
)
from memnb.draw.panels import finish, has_not_learned, panel_grid, unit_of
from memnb.errors import MemnbError
from memnb.evidence.views import Shipped, View, best_of
from memnb.tasks import tokens as readable
from memnb.tasks.portraits import LABELS

_COLUMNS = 76  # cells of a line: characters, or tokens of an expression
_MOST = 900  # cells of a panel; what comes after is cut off, and said
_SIGNS = {"[MAX": "▲", "[MIN": "▼", "[MED": "◆", "[SM": "Σ", "]": "]"}
_DIVERGING = LinearSegmentedColormap.from_list(
    "memnb-signed", ["#123F73", "#7FB2DF", "#FFFFFF", "#F0A878", "#8A2E00"]
).with_extremes(bad="#EDEDED")


def looking(
    view: View | None,
    task: config.Task,
    memory: int,
    *,
    block: int = 1,
    head: int = 1,
    row: int = 1,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """One input with three colourings: pack and unpack weight of one memory row, and attribution.

    * **pack**: how much this row takes from each position, relative to an even spread.
    * **unpack**: how much each position reads this row, relative to reading all rows alike.
    * **attribution**: how much the position speaks for (warm) or against (cold) the answer given.

    Text is written out character by character, lines broken between words; an expression token by
    token, with its brackets as bars below; of an image the outlines are drawn over the colours.

    Args:
        view: None gives an empty panel that says so.
        task: of the model.
        memory: M of the model (a view may hold its first rows only).
        block, head, row: which one to look at, from 1.
        title: such as the model's name.
        subtitle: where the view comes from.
    """
    heading = f"{title}: where it looks" if title else "Where it looks"
    if view is None:
        return style.empty(heading, subtitle, "No trained weights are shipped for this yet.")
    if note := _not_there(view, memory, block, head, row):
        return style.empty(heading, subtitle, note)
    names = readable(task, np.asarray(view["tokens"]), int(view["length"]))
    layers = _layers(view, task, memory, (block, head, row), len(names))
    if task.layout == "pixels":
        figure = _over_pixels(view, layers)
    else:
        figure = _over_tokens(names, layers, brackets=isinstance(task, config.ListOps))
    where = f"Block {block}, head {head}, memory row {row} of {memory}. {_answer(view, task)}"
    rows = pd.DataFrame({"position": range(1, len(names) + 1), "input": names})
    rows = rows.assign(**{name: values for name, (values, _) in layers.items()})
    return finish(figure, heading, f"{where} {subtitle}", rows)


def of_shipped(
    found: Sequence[Shipped], task: str, family: str, example: int = 1, **at: Any
) -> Figure:
    """:func:`looking` at the shipped weights of a task's title and a family; honest if none are.

    ``at`` is handed on: ``block``, ``head``, ``row``.

    Raises:
        MemnbError: there is no such example.
        DataError: the views beside the weights are damaged.
    """
    return looking(**_shipped(found, task, family, example), **at)


def filling_of_shipped(
    found: Sequence[Shipped], task: str, family: str, example: int = 1
) -> Figure:
    """:func:`filling` of the shipped weights of a task's title and a family; honest if none are.

    Raises:
        MemnbError, DataError: as :func:`of_shipped`.
    """
    return filling(**_shipped(found, task, family, example))


def _shipped(found: Sequence[Shipped], task: str, family: str, number: int) -> dict[str, Any]:
    """What :func:`looking` and :func:`filling` need of an example; no view where there is none."""
    one = best_of(found, task, family)
    if one is None:
        title = f"{style.family(family).label} on {task}"
        return {"view": None, "task": config.task_config("listops"), "memory": 0, "title": title}
    views = one.views()
    if views and not 1 <= number <= len(views):
        raise MemnbError(
            f"{len(views)} examples are shipped with {one.path.stem}, but number {number} was "
            f"asked for; choose one of 1 to {len(views)}."
        )
    return {
        "view": views[number - 1] if views else None,
        "task": one.run.task,
        "memory": one.run.model.memory,
        "title": one.label,
        "subtitle": origin(one),
    }


def origin(one: Shipped) -> str:
    """Where weights come from, as a figure says it: task, scale, seed, accuracy."""
    accuracy, name = one.facts["test_accuracy"], one.run.task.name
    tested = "" if accuracy is None else f", test accuracy {100 * accuracy:.1f} %"
    if accuracy is not None and has_not_learned(name, accuracy):
        tested += ": it has not learned the task"
    where = f"{naming.task_label(name)}, {naming.scale_label(name)}"
    return f"Shipped weights, {where}, seed {one.run.seed}{tested}."


def _not_there(view: View, memory: int, block: int, head: int, row: int) -> str:
    """Which of block, head and row, counted from 1, this model does not have; empty: none."""
    blocks, heads, rows = np.asarray(view["pack"]).shape[:3]
    asked = (("block", block, blocks), ("head", head, heads), ("memory row", row, rows))
    for what, number, _ in asked:
        if number < 1:
            raise MemnbError(f"A {what} is counted from 1, but got {number}; choose one from 1 on.")
    parts = [
        f"{what} {number} was asked for, and the model has {count}"
        + (f" shown of {memory}" if what == "memory row" and count < memory else "")
        for what, number, count in asked
        if number > count
    ]
    return f"Nothing to show: {'; '.join(parts)}." if parts else ""


Layers = dict[str, tuple[NDArray[np.float64], str]]
"""Name -> a value per token, NaN where there is none, and a remark."""


def _layers(
    view: View, task: config.Task, memory: int, place: tuple[int, int, int], count: int
) -> Layers:
    """Of the block, head and memory row in ``place``, from 1, for ``count`` tokens."""
    found: Layers = {}
    block, head, row = place
    for stream in ("pack", "unpack"):
        weights, padding, _ = relative_weights(view, stream, memory, None)
        line = weights[block - 1, head - 1, row - 1]
        positions = int(np.asarray(view["unpack"]).shape[-2])
        # A stride leaves one weight for several positions; a pool has none for the last ones.
        line = np.repeat(line, max(round(positions / len(line)), 1))[:positions]
        line = np.pad(line, (0, positions - len(line)), constant_values=np.nan)
        remark = ""
        if stream == "unpack" and memory == 1:
            remark = "one row: every position reads it alike"
        elif padding[block - 1, head - 1] > 0.02:
            share, even = padding[block - 1, head - 1], even_on_padding(view, task.max_length)
            remark = (
                f"{100 * share:.0f} % of the head's weight on padding (even: {100 * even:.0f} %)"
            )
        found[stream] = (line[positions - count :], remark)
    shares = np.asarray(view["attribution"], dtype=np.float64)
    found["attribution"] = (shares[:count], "")
    return found


_SAYS = {
    "pack": "pack: what this row takes",
    "unpack": "unpack: who reads this row",
    "attribution": "attribution: what speaks for the answer",
}


def _scale(name: str, values: NDArray[np.float64]) -> ScalarMappable:
    if name == "attribution":
        high = float(np.nanquantile(np.abs(values), 0.99)) or 1.0
        return ScalarMappable(Normalize(-high, high), _DIVERGING)
    high = max(float(np.nanquantile(values, 0.995)), 2.0) if np.isfinite(values).any() else 2.0
    return ScalarMappable(LogNorm(1 / high, high), HEAT)


def _colours(scale: ScalarMappable, values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = scale.get_clim()
    return np.asarray(scale.to_rgba(np.clip(values, low, high)))


def _answer(view: View, task: config.Task) -> str:
    label, prediction = int(view["label"]), int(view["prediction"])
    names = LABELS.get(task.name.removesuffix("-short"), ())

    def word(number: int) -> str:
        return names[number] if number < len(names) else str(number)

    if label < 0:
        return f"Answer: {word(prediction)}."
    verdict = "right" if label == prediction else f"wrong, the label is {word(label)}"
    return f"Answer: {word(prediction)} ({verdict})."


def _over_pixels(view: View, layers: Layers) -> Figure:
    side = round(len(layers["pack"][0]) ** 0.5)
    image = np.asarray(view["tokens"]).reshape(side, side)
    figure, axes = style.canvas(1, 4, 2.75)
    axes[0, 0].imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes[0, 0].set_title("the input", fontsize=8)
    # The same room below as the others have.
    _bar(figure, axes[0, 0], ScalarMappable(Normalize(0, 1), "gray"), "pack").set_visible(False)
    for axis, (name, (values, remark)) in zip(axes[0, 1:], layers.items(), strict=True):
        scale = _scale(name, values)
        axis.imshow(_colours(scale, values).reshape(side, side, -1), interpolation="nearest")
        if image.min() < image.max():
            level = (int(image.min()) + int(image.max())) / 2
            axis.contour(image, [level], colors=[style.INK], linewidths=0.6)
        axis.set_title(name, fontsize=8)
        if remark:
            axis.set_xlabel(_wrapped(remark), fontsize=6.5, color=style.QUIET)
        _bar(figure, axis, scale, name)
    for axis in axes.flat:
        style.bare(axis)
    return figure


def _wrapped(text: str) -> str:
    first, _, rest = text.partition(": ") if ": " in text else text.partition(" of ")
    return f"{first}\n{rest}"


def _bar(figure: Figure, axis: Axes, scale: ScalarMappable, name: str) -> Axes:
    bar = figure.colorbar(scale, ax=axis, fraction=0.045, pad=0.02, location="bottom", aspect=22)
    _name_scale(bar, name, letters=30, padded=False)
    return bar.ax


def _over_tokens(names: Sequence[str], layers: Layers, brackets: bool) -> Figure:
    shown = list(names[:_MOST])
    places = _grid(len(shown)) if brackets else _words(shown)
    lines = max((line for _, line in places), default=0) + 1
    spans = _spans(shown) if brackets else []
    deepest = max((depth for _, _, depth in spans), default=0)
    pitch = 1.0 + (0.16 * deepest + 0.25 if spans else 0.18)
    # Beside a single line the names of the scales have no room.
    tall = max(lines * pitch, 2.6)
    figure, axes = style.canvas(3, 1, 1.2 + 3 * (0.3 + 0.135 * tall) + 0.25 * brackets, gap=0.05)
    for axis, (name, (values, remark)) in zip(axes[:, 0], layers.items(), strict=True):
        scale = _scale(name, values)
        axis.set_title(_SAYS[name], fontsize=8, pad=3)
        axis.set(xlim=(0, _COLUMNS), ylim=(tall, 0))
        style.bare(axis, visible=False)
        colours = _colours(scale, values)[: len(shown)]
        # In one piece: a thousand rectangles by themselves take longer to draw than all the rest.
        cells = [Rectangle((x, line * pitch), 1, 1) for x, line in places]
        axis.add_collection(PatchCollection(cells, facecolors=colours, linewidths=0), autolim=False)
        for (x, line), token, colour in zip(places, shown, colours, strict=True):
            _token(axis, x, line * pitch, token, colour)
        for first, last, depth in spans:
            _bracket(axis, first, last, depth, pitch)
        if remark:
            style.note(axis, remark, (1, 0), (0, 3), ha="right", va="bottom")
        bar = figure.colorbar(scale, ax=axis, fraction=0.018, pad=0.01, aspect=12)
        letters = max(int(3 * tall), 16)
        _name_scale(bar, name, letters=letters, padded="padding" in remark)
    if brackets:
        style.note(
            axes[-1, 0], "▲ MAX   ▼ MIN   ◆ MED   Σ SM (sum mod 10); bars: from an operator to its "
            "bracket", (0, tall), (0, -9), va="top",
        )  # fmt: skip
    elif len(names) > len(shown):
        style.note(axes[-1, 0], f"the first {_MOST} of {len(names):,}", (0, tall),
                   (0, -9), va="top")  # fmt: skip
    return figure


def _grid(count: int) -> list[tuple[int, int]]:
    """Column and line of each token, every line full."""
    return [(place % _COLUMNS, place // _COLUMNS) for place in range(count)]


def _words(characters: Sequence[str]) -> list[tuple[int, int]]:
    """Column and line of each character; a word that does not fit on a line begins the next.

    The last column is kept for the blank behind a word, so that none stands in front of one.
    """
    found: list[tuple[int, int]] = []
    column = line = 0
    for word in re.findall(r" +|[^ ]+", "".join(c if len(c) == 1 else "·" for c in characters)):
        if word[0] != " " and column and column + len(word) >= _COLUMNS:
            column, line = 0, line + 1
        for _ in word:
            if column == _COLUMNS:
                column, line = 0, line + 1
            found.append((column, line))
            column += 1
    return found


def _name_scale(bar: Colorbar, name: str, *, letters: int, padded: bool) -> None:
    """Ticks and, of as many letters a line as fit, the meaning of a scale beside its panel."""
    if name == "attribution":
        low, high = bar.mappable.get_clim()
        bar.set_ticks([low, 0, high], labels=["against", "0", "for"])
    else:
        name_weights(bar, textwrap.fill(relative_to(name, padded=padded), letters), 6)
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=6)
    bar.outline.set_visible(False)


def _token(axis: Axes, x: float, y: float, token: str, colour: NDArray[np.float64]) -> None:
    light = float(np.dot(to_rgb(tuple(colour)), [0.299, 0.587, 0.114]))
    text = _SIGNS.get(token, token if len(token) == 1 else "·")
    axis.text(
        x + 0.5, y + 0.54, text, ha="center", va="center", fontsize=8, parse_math=False,
        color="white" if light < 0.55 else style.INK, family=["DejaVu Sans Mono"],
    ).set_in_layout(False)  # fmt: skip


def _spans(names: Sequence[str]) -> list[tuple[int, int, int]]:
    """First and last token and depth (from 1) of every operator with its arguments."""
    found, waiting = [], []
    for place, token in enumerate(names):
        if token.startswith("["):
            waiting.append(place)
        elif token == "]" and waiting:
            found.append((waiting.pop(), place, len(waiting) + 1))
    found += [(place, len(names) - 1, depth) for depth, place in enumerate(waiting, start=1)]
    return found


def _bracket(axis: Axes, first: int, last: int, depth: int, pitch: float) -> None:
    """A bar below the tokens, broken at the ends of lines."""
    for line in range(first // _COLUMNS, last // _COLUMNS + 1):
        left = max(first - line * _COLUMNS, 0)
        right = min(last - line * _COLUMNS + 1, _COLUMNS)
        y = line * pitch + 1.02 + 0.16 * depth
        axis.plot([left + 0.15, right - 0.15], [y, y], color="#8C96A0", linewidth=0.9,
                  solid_capstyle="butt")  # fmt: skip


# --- filling ---------------------------------------------------------------------------------


def filling(
    view: View | None, task: config.Task, memory: int, title: str = "", subtitle: str = ""
) -> Figure:
    """How the memory fills while the input is read: a panel per block, memory rows down.

    The colour says how near a packed row is to its final value when the model has seen only the
    input's beginning: 0 as for an empty input, 1 as for the whole one. Rows that are all alike fill
    alike.
    """
    heading = f"{title}: the memory fills" if title else "The memory fills"
    if view is None:
        return style.empty(heading, subtitle, "No trained weights are shipped for this yet.")
    filled = np.asarray(view["filled"], dtype=np.float64)
    prefixes = np.asarray(view["prefixes"])
    _, blocks, rows = filled.shape
    columns = blocks if blocks <= 4 else 3
    height = 0.5 + 0.09 * max(rows, 6)
    figure, axes = panel_grid(blocks, columns, 0.95, height, sharex=True, sharey=True)
    for axis, block in zip(axes.flat, range(blocks), strict=False):
        image = axis.imshow(
            np.clip(filled[:, block].T, 0, 1), aspect="auto", cmap=HEAT, vmin=0, vmax=1,
            interpolation="nearest", extent=(-0.5, len(prefixes) - 0.5, rows + 0.5, 0.5),
        )  # fmt: skip
        axis.set_title(f"block {block + 1}")
        axis.grid(visible=False)
        # What was read at each column is no round number, but what stands between them is.
        round_ones = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, prefixes[-1])
        shown = [count for count in round_ones if 0 <= count <= prefixes[-1]]
        places = np.interp(shown, prefixes, np.arange(len(prefixes)))
        axis.set_xticks(places, [f"{count:,.0f}" for count in shown])
        axis.set_yticks(sorted({1, rows}))
    for line in axes:
        line[0].set_ylabel("memory row")
        for axis in line:
            axis.tick_params(labelbottom=True)
    for column in axes.T:
        lowest = [axis for axis in column if axis.axison][-1]
        lowest.set_xlabel(f"{unit_of(task)} read")
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.015, aspect=25)
    bar.set_ticks([0, 0.5, 1], labels=["empty", "half", "full"])
    bar.outline.set_visible(False)
    where = f"{rows} of {memory} rows. {_answer(view, task)}"
    index = pd.MultiIndex.from_product(
        [prefixes.tolist(), range(1, blocks + 1), range(1, rows + 1)],
        names=["read", "block", "row"],
    )
    long = pd.DataFrame({"filled": filled.ravel()}, index=index).reset_index()
    return finish(figure, heading, f"{where} {subtitle}", long)
