"""Pictures of the data themselves: what the tasks look like, and Pathfinder's solutions."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from memnb.draw import panels, style
from memnb.errors import MemnbError
from memnb.tasks import listops
from memnb.tasks.pathfinder import Drawn
from memnb.tasks.portraits import LABELS, Expression, Passages, Pictures, Portrait
from memnb.words import counted

FIRST, SECOND = "#F2A900", "#4FB3FF"
"""The two contours on black: orange and blue stay apart in every kind of colour vision."""

_BAR, _BEYOND = "#6B7F92", "#C9D1D8"
_CODE = {"family": "monospace", "fontsize": 5.8, "linespacing": 1.35}
_COLUMNS = 48  # characters of that size in the panel of an example
_ENDS = 14  # nodes that fit side by side in a tree


# --- all data sets ---------------------------------------------------------------------------


def datasets(portraits: Sequence[Portrait]) -> Figure:
    """A row per data set: an example, the lengths, the balance of the labels.

    Data that are not on this machine have no example; the row then says what to do.
    """
    heights = [_height(one) for one in portraits]
    figure, axes = style.canvas(
        len(portraits), 3, sum(heights) + 0.4, gap=0.07,
        gridspec_kw={"width_ratios": [3.3, 1.75, 1.5], "height_ratios": heights},
    )  # fmt: skip
    for (example, length, label), one in zip(axes, portraits, strict=True):
        card = one.status.card
        example.set_title(card.title, fontsize=8.5)
        _beside_title(example, card.contents)
        _example(example, one)
        _lengths(length, one)
        _labels(label, one)
    style.heading(
        figure,
        "The tasks: an example, the lengths, the labels",
        "Above each row: the number of examples for train / validation / test. Dotted: where a "
        "text is cut, and equal shares of the labels.",
    )
    return figure


def _height(one: Portrait) -> float:
    """Of a row, in inches: a list of ten labels needs room, a sentence does not."""
    if one.counts is None and one.example is None:
        return 1.1
    return 2.0 if isinstance(one.example, Expression) else 1.5


def _write(axis: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Text at parts of a panel, printed as it is (a review may hold ``$``).

    The layout ignores it: a panel keeps its width, whatever is written in it.
    """
    look = {"transform": axis.transAxes, "parse_math": False, "fontsize": 7, **look}
    axis.text(x, y, text, **look).set_in_layout(False)


def _beside_title(axis: Axes, text: str) -> None:
    _write(axis, 1, 1, text, ha="right", va="baseline", color=style.QUIET, fontsize=6.5,
           transform=style.shifted(axis, axis.transAxes, 0, 6))  # fmt: skip


def _said(axis: Axes, text: str, columns: int) -> None:
    """Words in the place of a picture."""
    style.bare(axis, visible=True, color=style.RULE, linestyle=(0, (4, 3)))
    # An address is longer than a line: it may be broken, but a command only at its spaces.
    text = textwrap.fill(text, columns, break_on_hyphens=False)
    _write(axis, 0.5, 0.5, text, ha="center", va="center", color=style.QUIET, fontsize=6.5,
           linespacing=1.3)  # fmt: skip


def _example(axis: Axes, one: Portrait) -> None:
    if isinstance(one.example, Expression):
        _expression(axis, one.example)
    elif isinstance(one.example, Passages):
        _passages(axis, one.example)
    elif isinstance(one.example, Pictures):
        _pictures(axis, one.example)
    else:
        problem = one.problem.replace("`", "").replace("https://", "")
        _said(axis, f"No example: {problem}", 50)


def _passages(axis: Axes, example: Passages) -> None:
    style.bare(axis, visible=True, color=style.RULE)
    count = len(example.texts)
    columns = _COLUMNS // count - 3  # with room for the mark at the end
    for number, text in enumerate(example.texts):
        lines = textwrap.wrap(text, columns)[:7]
        _write(axis, 0.015 + number / count, 0.96, "\n".join(lines) + " …", va="top", **_CODE)
        if number:
            axis.axvline(number / count, color=style.RULE, linewidth=0.7)
    _answer(axis, example.word)


def _answer(axis: Axes, word: str) -> None:
    """The label of the example, in the lower right corner."""
    _write(axis, 0.985, 0.03, f"→ {word}", ha="right", va="bottom", fontsize=8, fontweight="bold")


def _pictures(axis: Axes, example: Pictures) -> None:
    axis.set_axis_off()
    count = len(example.images)
    for number, (image, word) in enumerate(zip(example.images, example.words, strict=True)):
        _picture(axis, (number / count, 0.0, 1 / count - 0.015, 0.98), image, word, -0.04)


def _picture(
    axis: Axes, box: tuple[float, float, float, float], image: np.ndarray, word: str, below: float
) -> None:
    """An image (side, side) in a part of a panel, ``word`` below it."""
    inner = axis.inset_axes(box)
    _grey(inner, image)
    inner.set_anchor("N")
    inner.set_in_layout(False)
    _write(inner, 0.5, below, word, ha="center", va="top")


def _grey(axis: Axes, image: np.ndarray) -> None:
    """An image (side, side) of 0..255."""
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    style.bare(axis, visible=False)


def _expression(axis: Axes, example: Expression) -> None:
    """The top of the tree, with folded parts as their value and size; below, the first tokens."""
    style.bare(axis, visible=True, color=style.RULE)
    depth = 1
    while depth < 10 and example.tree.ends(depth + 1) <= _ENDS:
        depth += 1
    axis.set(xlim=(0, example.tree.ends(depth)), ylim=(0, 1))
    top, bottom = 0.93, 0.52
    _branch(axis, example.tree, depth, 0.0, top, (top - bottom) / depth)
    lines = textwrap.wrap(" ".join(example.tokens), _COLUMNS - 1)[:2]
    _write(axis, 0.015, 0.3, "\n".join(lines) + " …", va="top", **_CODE)
    _write(axis, 0.015, 0.05, "boxes: folded parts, and their tokens", va="bottom", fontsize=6,
           color=style.QUIET)  # fmt: skip
    _answer(axis, f"{example.tree.value}  ({len(example.tokens)} tokens)")


def _branch(
    axis: Axes, node: listops.Node, depth: int, left: float, y: float, drop: float
) -> float:
    """Draw ``node`` above its arguments, from ``left`` on; where it stands."""
    x = left + node.ends(depth) / 2
    folded = bool(node.arguments) and depth == 0
    if node.arguments and not folded:
        for one in node.arguments:
            below = _branch(axis, one, depth - 1, left, y - drop, drop)
            axis.plot([x, below], [y, y - drop], color="#9AA0A6", linewidth=0.6, zorder=1)
            left += one.ends(depth - 1)
    name = node.token.removeprefix("[")
    if folded:
        axis.annotate(
            f"{node.length}", (x, y), (0, -13), textcoords="offset points", ha="center",
            va="center", fontsize=5.2, color=style.QUIET,
        ).set_in_layout(False)  # fmt: skip
        name += "\n"
    _write(
        axis, x, y, f"{name}={node.value}" if node.arguments else name, ha="center", va="center",
        transform=axis.transData, fontsize=5.6 if folded else 6.5, zorder=2, linespacing=1.0,
        fontweight="normal" if folded else "bold",
        bbox={"facecolor": "white", "edgecolor": "#9AA0A6" if folded else "none",
              "pad": 1.2, "linewidth": 0.5},
    )  # fmt: skip
    return x


def _lengths(axis: Axes, one: Portrait) -> None:
    if one.counts is None:
        _said(axis, "lengths not counted", 30)
        return
    counts = one.counts
    if counts.shortest == counts.longest:
        side = int(counts.longest**0.5)
        of_images = f"every image has {side} × {side} = {counts.longest:,} pixels"
        _said(axis, of_images if one.is_of_pixels else f"all of {counts.longest:,} tokens", 24)
        return
    first, last, number = counts.bins.T
    # The few longest would press all others together; what is left out is said.
    shown = int(np.searchsorted(np.cumsum(number), 0.99 * number.sum())) + 1
    colours = [_BAR if low <= one.max_length else _BEYOND for low in first[:shown]]
    axis.bar(
        first[:shown] - 0.5, 100 * number[:shown] / number.sum(), last[:shown] - first[:shown] + 1,
        align="edge", color=colours, edgecolor="white", linewidth=0.3,
    )  # fmt: skip
    axis.grid(visible=False, axis="x")
    axis.xaxis.set_major_locator(MaxNLocator(3))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.yaxis.set_major_locator(MaxNLocator(2))
    axis.yaxis.set_major_formatter("{x:g} %")
    axis.tick_params(labelsize=7)
    unit = "tokens" if one.name == "listops" else "bytes"
    axis.set_title(
        f"length in {unit}, median {counts.median:,.0f}", fontsize=7.5, fontweight="normal"
    )
    remarks = [f"longest {counts.longest:,}"]
    share = counts.beyond(one.max_length)
    if share:
        axis.axvline(one.max_length, color=style.INK, linewidth=0.9, linestyle=style.DOTTED)
        remarks += [f"cut at {one.max_length:,}:", f"{100 * share:.1f} % are longer"]
    axis.set_ylim(top=1.25 * axis.get_ylim()[1])
    _write(
        axis, 0.99, 0.98, "\n".join(remarks), ha="right", va="top", fontsize=6.5,
        color=style.QUIET, linespacing=1.25,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )  # fmt: skip


def _labels(axis: Axes, one: Portrait) -> None:
    if one.counts is None:
        _said(axis, "labels not counted", 30)
        return
    shares = 100 * one.counts.balance
    places = np.arange(len(shares))
    axis.barh(places, shares, color=_BAR, height=0.7)
    panels.name_rows([axis], LABELS[one.name][: len(shares)], 0.6)
    axis.tick_params(axis="y", labelsize=7 if len(shares) < 5 else 6, pad=2)
    axis.tick_params(axis="x", labelsize=7)
    even = 100 / len(shares)
    axis.axvline(even, color=style.INK, linewidth=0.9, linestyle=style.DOTTED)
    axis.set_xlim(0, max(1.25 * even, 1.1 * shares.max()))
    axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axis.xaxis.set_major_formatter("{x:g} %")
    which = "first" if one.status.card.kind == "generated" else "all"
    title = f"labels ({which} {one.counts.examples:,})"
    axis.set_title(title, fontsize=7.5, fontweight="normal")


def short_tasks(expression: Expression, drawn: Drawn, each: int = 3) -> Figure:
    """Examples of the two generated tasks at laptop scale: an expression, and images of each label.

    The first images of each label are taken, none is picked by hand.

    Args:
        expression: of short ListOps.
        drawn: images of short Pathfinder, at least ``each`` of each label.
        each: how many of each label.

    Raises:
        MemnbError: fewer than ``each`` of a label were drawn.
    """
    _enough(drawn, each)
    side = int(drawn.images.shape[1] ** 0.5)
    figure, axes = style.canvas(1, 2, 3.0, gap=0.05, gridspec_kw={"width_ratios": [1.35, 1]})
    top, images = axes[0]
    top.set_title("ListOps short", fontsize=8.5)
    _expression(top, expression)
    images.set_title(f"Pathfinder short, {side} × {side} pixels", fontsize=8.5)
    images.set(xticks=[], yticks=[])
    images.set_axis_off()
    for line, label in enumerate((1, 0)):
        word = "one contour" if label else "two contours"
        for column, row in enumerate(np.flatnonzero(drawn.labels == label)[:each].tolist()):
            box = (column / each, 0.53 - 0.53 * line, 1 / each - 0.03, 0.46)
            _picture(images, box, drawn.images[row].reshape(side, side), word, -0.05)
    style.heading(
        figure,
        "The generated tasks at laptop scale",
        f"An expression, and the first {counted(each, 'image')} of each label: a disc marks the "
        "start of a contour, another the end of the same contour or of the other one.",
    )
    return figure


def _enough(drawn: Drawn, each: int) -> None:
    """Refuse to show ``each`` images of each label where there are fewer."""
    fewest = min(int((drawn.labels == label).sum()) for label in (0, 1))
    if fewest < each:
        raise MemnbError(
            f"The gallery shows {counted(each, 'image')} of each label, but one label has only "
            f"{fewest} among the {len(drawn.labels):,} that were drawn; draw more or show fewer "
            "(on the page: 'sample', 'each')."
        )


# --- Pathfinder ------------------------------------------------------------------------------


def pathfinder_gallery(drawn: Drawn, each: int = 4) -> Figure:
    """Images of one contour (left) and of two (right), each beside its solution.

    The first ones of each label are taken, none is picked by hand.

    Args:
        drawn: images with their contours, at least ``each`` of each label.
        each: how many of each label.

    Raises:
        MemnbError: fewer than ``each`` of a label were drawn.
    """
    _enough(drawn, each)
    side = int(drawn.images.shape[1] ** 0.5)
    figure, axes = style.canvas(each, 4, 0.95 + 1.83 * each, gap=0.03)
    for label, columns in ((1, axes[:, :2]), (0, axes[:, 2:])):
        rows = np.flatnonzero(drawn.labels == label)[:each]
        for (plain, solved), row in zip(columns, rows.tolist(), strict=True):
            image = drawn.images[row].reshape(side, side)
            _grey(plain, image)
            # Darker, so that the lines stand out and the dashes below them can still be seen.
            _grey(solved, image // 2)
            _solution(solved, drawn.contours[row], drawn.marked[row])
            word = "one contour" if label else "two contours"
            plain.set_title(word, fontsize=8)
            solved.set_title(f"label {label}", fontsize=8, fontweight="normal", loc="right")
    figure.legend(
        handles=[
            Line2D([], [], color=FIRST, label="contour that starts at a disc"),
            Line2D([], [], color=SECOND, label="the other contour"),
            Line2D([], [], color="none", marker="o", markeredgecolor=style.INK, markersize=8,
                   markerfacecolor="none", label="disc"),
        ],
        loc="outside lower center", ncols=3,
    )  # fmt: skip
    style.heading(
        figure,
        "Pathfinder: do the two discs mark the ends of one contour?",
        f"The first {counted(each, 'image')} of each label; beside each, solved. What no line "
        "covers is a distractor.",
    )
    return figure


def _solution(axis: Axes, contours: np.ndarray, marked: np.ndarray) -> None:
    """The contours (2, dashes, 2) from start to end, and rings around the two discs."""
    limits = axis.axis()
    start, end = (int(which) for which in marked)
    for which, contour in enumerate(contours):
        y, x = contour.T
        colour = FIRST if which == start else SECOND
        axis.plot(x, y, color=colour, linewidth=1.5, solid_joinstyle="round")
    for which, place in ((start, 0), (end, -1)):
        y, x = contours[which, place]
        colour = FIRST if which == start else SECOND
        ring = Circle((x, y), 2.6, fill=False, edgecolor=colour, linewidth=1.5)
        axis.add_patch(ring).set_in_layout(False)
    axis.axis(limits)  # a ring at the border is cut off rather than the image made smaller
