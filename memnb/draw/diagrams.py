"""Block diagrams of Luna and ConvLuna, drawn from the formulas of :mod:`memnb.models.blocks`.

Everything is placed in inches on one full-size axis, so that text and boxes keep their
proportions; the sequence flows up the left track, the memory up the right one.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon

from memnb.draw import style

Point = tuple[float, float]

_SEQUENCE = "#333333"
_MEMORY = "#1F6F5C"
_PLAIN = ("#F3F4F6", "#8A9099")
_ATTENTION = ("#E4EEF9", style.FAMILY["luna"].colour)
_FILTER = ("#FBE3D3", style.FAMILY["convluna"].colour)
_STREAM = ("#FFFFFF", _SEQUENCE)
_STORE = ("#E2F1EC", _MEMORY)

_LUNA_FORMULAS = (
    r"packed $= \mathrm{softmax}(m W_q \, (x W_k)^\top / \sqrt{d}\,) \; x W_v \, W_o$",
    r"unpacked $= \mathrm{softmax}(x W_q \, (\mathrm{packed}\, W_k)^\top / \sqrt{d}\,) "
    r"\; \mathrm{packed}\, W_v \, W_o$",
    r"$W_q, W_k, W_v, W_o$: one set, shared by both attentions",
)
_CONVLUNA_FORMULAS = (
    r"packed $= \mathrm{softmax}(m W_q \, F(x W_k)^\top / T\,) \; F(x) \, W_o$",
    r"unpacked $= \mathrm{softmax}(x W_q \, (\mathrm{packed}\, W_k)^\top / T\,) "
    r"\; \mathrm{packed}\, W_o$",
    r"$W_q, W_k, W_o$: one set, shared by both attentions; no $W_v$",
)


class _Sheet:
    """An axis in inches, and the few shapes a block diagram is made of."""

    def __init__(self, axis: Axes, origin: Point = (0.0, 0.0)) -> None:
        self.axis, self.origin = axis, np.array(origin)

    def at(self, left: float, bottom: float) -> _Sheet:
        """The same axis with another origin."""
        return _Sheet(self.axis, (left, bottom))

    def box(
        self,
        centre: Point,
        size: Point,
        lines: str,
        look: tuple[str, str] = _PLAIN,
        *,
        bold: bool = False,
        fontsize: float = 8,
        weight: float = 1.0,
    ) -> None:
        """A rounded box with text in it."""
        face, edge = look
        (x, y), (width, height) = self.origin + centre, size
        self.axis.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - height / 2), width, height, linewidth=weight, facecolor=face,
                edgecolor=edge, boxstyle="round,pad=0,rounding_size=0.06", zorder=3,
            )
        )  # fmt: skip
        self.axis.text(
            x, y, lines, ha="center", va="center", fontsize=fontsize, zorder=4,
            fontweight="bold" if bold else "normal", linespacing=1.3,
        )  # fmt: skip

    def wire(
        self, points: Sequence[Point], colour: str = _SEQUENCE, *, head: bool = True,
        weight: float = 1.1,
    ) -> None:  # fmt: skip
        """A line through ``points`` with an arrow head at its end."""
        path = self.origin + np.array(points)
        if head:
            tip, along = path[-1], path[-1] - path[-2]
            along = along / np.hypot(*along)
            base, half = tip - 0.085 * along, 0.038 * np.array([-along[1], along[0]])
            self.axis.add_patch(
                Polygon([tip, base + half, base - half], color=colour, linewidth=0, zorder=5)
            )
            path = np.array([*path[:-1], base])
        self.axis.plot(
            *path.T, color=colour, linewidth=weight, zorder=2,
            solid_joinstyle="round", solid_capstyle="butt",
        )  # fmt: skip

    def dot(self, point: Point, colour: str = _SEQUENCE) -> None:
        """Where a wire splits."""
        x, y = self.origin + point
        self.axis.add_patch(Circle((x, y), 0.028, color=colour, zorder=5))

    def plus(self, point: Point, colour: str = _SEQUENCE) -> None:
        """Where two wires are added."""
        x, y = self.origin + point
        self.axis.add_patch(
            Circle((x, y), 0.085, facecolor="white", edgecolor=colour, linewidth=1.1, zorder=4)
        )
        for dx, dy in ((0.05, 0), (0, 0.05)):
            self.axis.plot(
                [x - dx, x + dx], [y - dy, y + dy], color=colour, linewidth=1.1, zorder=5
            )

    def text(
        self, point: Point, text: str, *, ha: str = "center", va: str = "center",
        colour: str = style.QUIET, fontsize: float = 7.5, bold: bool = False,
    ) -> None:  # fmt: skip
        """A label."""
        x, y = self.origin + point
        self.axis.text(
            x, y, text, ha=ha, va=va, fontsize=fontsize, color=colour, zorder=6, linespacing=1.3,
            fontweight="bold" if bold else "normal",
        )  # fmt: skip


def _sheet(height: float, title: str, subtitle: str) -> tuple[Figure, _Sheet]:
    """An empty sheet as wide as a page, and what stands at its top."""
    style.apply()
    figure = plt.figure(figsize=(style.PAGE_WIDTH, height))
    plt.close(figure)  # see style.canvas
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, style.PAGE_WIDTH), ylim=(0, height), aspect="equal")
    axis.axis("off")
    sheet = _Sheet(axis)
    sheet.text((0.1, height - 0.17), title, ha="left", colour=style.INK, fontsize=10.5, bold=True)
    sheet.text((0.1, height - 0.42), subtitle, ha="left", fontsize=8.5)
    return figure, sheet


def blocks() -> Figure:
    """Luna and ConvLuna side by side, with shapes on the wires and the formulas below.

    What ConvLuna changes is set off in orange: the filter F between the sequence and the memory,
    the temperatures, and the missing value projection.
    """
    height = 6.95
    figure, sheet = _sheet(
        height,
        "One block: the memory packs the sequence, every position reads it back",
        "$L$ positions, $M$ memory rows, width $H$, $d$ channels per head. Orange: what ConvLuna "
        "changes.",
    )
    _block(sheet.at(0.0, 0.75), filtered=False)
    sheet.wire([(3.6, 0.15), (3.6, height - 0.65)], style.RULE, head=False, weight=0.8)
    _block(sheet.at(3.6, 0.75), filtered=True)
    return figure


def _block(sheet: _Sheet, *, filtered: bool) -> None:
    """One block, 3.6 inches wide and 5.4 high, its formulas below it."""
    x, m = 1.1, 2.72  # the two tracks
    family = style.FAMILY["convluna" if filtered else "luna"]
    sheet.text((0.12, 5.42), family.label, ha="left", colour=family.colour, fontsize=12, bold=True)

    # The sequence track: in, unpack, add and norm, feed forward, add and norm, out.
    y_in, y_pack, y_unpack, y_add = 0.4, 1.3, 2.35, 2.95
    sheet.box((x, y_in), (0.95, 0.38), "sequence  $x$\n$L \\times H$", _STREAM, fontsize=7.5)
    sheet.wire([(x, y_in + 0.19), (x, y_unpack - 0.26)])
    sheet.text((x - 0.06, y_unpack - 0.42), "$q$", ha="right", colour=style.INK, fontsize=8.5)
    _attention(sheet, (x, y_unpack), 1.3, "unpack attention", filtered, unpack=True)
    sheet.wire([(x, y_unpack + 0.26), (x, y_add - 0.085)])
    sheet.text((x + 0.07, y_add - 0.2), "unpacked  $L \\times H$", ha="left", fontsize=7)
    # The residual leaves below the query and walks round the attention.
    fork = 1.78
    sheet.dot((x, fork))
    sheet.wire([(x, fork), (0.22, fork), (0.22, y_add), (x - 0.085, y_add)])
    sheet.plus((x, y_add))
    sheet.wire([(x, y_add + 0.085), (x, 3.2)])
    sheet.box((x, 3.31), (1.0, 0.22), "LayerNorm", fontsize=7.5)
    sheet.wire([(x, 3.42), (x, 3.75)])
    sheet.text((x + 0.07, 3.6), "$x_1$", ha="left", colour=style.INK, fontsize=8.5)
    sheet.dot((x, 3.53))
    sheet.box((x, 3.9), (1.0, 0.3), "feed forward", fontsize=7.5)
    sheet.wire([(x, 4.05), (x, 4.235)])
    sheet.wire([(x, 3.53), (0.36, 3.53), (0.36, 4.32), (x - 0.085, 4.32)])
    sheet.plus((x, 4.32))
    sheet.wire([(x, 4.405), (x, 4.56)])
    sheet.box((x, 4.67), (1.0, 0.22), "LayerNorm", fontsize=7.5)
    sheet.wire([(x, 4.78), (x, 5.0)])
    sheet.text((x, 5.1), "$x'$   $L \\times H$", colour=style.INK, fontsize=8.5)

    # The memory track: in, pack, and from there to unpack and to the residual.
    sheet.box((m, y_in), (0.95, 0.38), "memory  $m$\n$M \\times H$", _STORE, fontsize=7.5)
    sheet.wire([(m, y_in + 0.19), (m, y_pack - 0.26)], _MEMORY)
    sheet.text((m - 0.06, y_pack - 0.4), "$q$", ha="right", colour=style.INK, fontsize=8.5)
    _attention(sheet, (m, y_pack), 1.12, "pack attention", filtered, unpack=False)
    sheet.dot((x, y_pack))
    if filtered:
        sheet.wire([(x, y_pack), (1.31, y_pack)], head=False)
        sheet.box((1.57, y_pack), (0.52, 0.46), "filter\n$F$", _FILTER, bold=True, weight=1.8)
        sheet.wire([(1.83, y_pack), (m - 0.56, y_pack)], _FILTER[1])
        sheet.text((1.99, y_pack + 0.06), "$k, v$", va="bottom", colour=style.INK, fontsize=8.5)
        sheet.text(
            (1.62, y_pack - 0.3), "one per head,\nalong the sequence", va="top", fontsize=7,
            colour=_FILTER[1],
        )  # fmt: skip
    else:
        sheet.wire([(x, y_pack), (m - 0.56, y_pack)])
        sheet.text((1.6, y_pack + 0.04), "$k, v$", va="bottom", colour=style.INK, fontsize=8.5)
        sheet.text((1.6, y_pack - 0.05), "$L \\times H$", va="top", fontsize=7.5)
    sheet.wire([(m, y_pack + 0.26), (m, y_add - 0.085)], _MEMORY)
    sheet.dot((m, y_unpack), _MEMORY)
    sheet.wire([(m, y_unpack), (x + 0.65, y_unpack)], _MEMORY)
    sheet.text((2.25, y_unpack + 0.04), "$k, v$", va="bottom", colour=style.INK, fontsize=8.5)
    sheet.text((2.25, y_unpack - 0.05), "$M \\times H$", va="top", fontsize=7.5)
    sheet.text(
        (m - 0.07, y_pack + 0.52), "packed", ha="right", colour=_MEMORY, fontsize=8.5, bold=True
    )
    sheet.dot((m, 0.8), _MEMORY)
    sheet.wire([(m, 0.8), (3.42, 0.8), (3.42, y_add), (m + 0.085, y_add)], _MEMORY)
    sheet.plus((m, y_add), _MEMORY)
    sheet.wire([(m, y_add + 0.085), (m, 3.2)], _MEMORY)
    sheet.box((m, 3.31), (1.0, 0.22), "LayerNorm", fontsize=7.5)
    sheet.wire([(m, 3.42), (m, 5.0)], _MEMORY)
    sheet.text((m, 5.1), "$m'$   $M \\times H$", colour=style.INK, fontsize=8.5)

    _formulas(sheet, filtered)


def _attention(
    sheet: _Sheet, centre: Point, width: float, name: str, filtered: bool, *, unpack: bool
) -> None:
    """An attention with its temperature; ConvLuna's temperature is set off."""
    x, y = centre
    sheet.box(centre, (width, 0.52), "", _ATTENTION)
    sheet.text((x, y + 0.11), name, colour=style.INK, fontsize=8)
    if not filtered:
        sheet.text((x, y - 0.11), "$T = \\sqrt{d}$", colour=style.INK, fontsize=8)
        return
    words = "$T = 1$, or learned" if unpack else "$T$ learned"
    sheet.box((x, y - 0.115), (width - 0.14, 0.2), "", _FILTER)
    sheet.text((x, y - 0.115), words, colour=style.INK, fontsize=7.5)


def _formulas(sheet: _Sheet, filtered: bool) -> None:
    lines = _CONVLUNA_FORMULAS if filtered else _LUNA_FORMULAS
    colours = (style.INK, style.INK, _FILTER[1] if filtered else style.QUIET)
    for number, (line, colour) in enumerate(zip(lines, colours, strict=True)):
        sheet.text((0.12, -0.03 - 0.24 * number), line, ha="left", colour=colour, fontsize=7.6)


def single_row() -> Figure:
    """What either block becomes when the memory has one row: a global pooling and an FFN."""
    figure, sheet = _sheet(
        2.35,
        "With one memory row the block is a global pooling plus a feed-forward network",
        "$M = 1$: the unpack softmax has one entry, so it is 1 whatever the query. Every position "
        "gets the same vector.",
    )
    y, low = 1.15, 0.42
    sheet.box((0.6, y), (0.92, 0.44), "sequence  $x$\n$L \\times H$", _STREAM, fontsize=7.5)
    sheet.wire([(1.06, y), (1.4, y)])
    sheet.box((1.69, y), (0.58, 0.46), "filter\n$F$", _FILTER, bold=True, weight=1.8)
    sheet.text((1.69, y + 0.3), "ConvLuna only", va="bottom", fontsize=7, colour=_FILTER[1])
    sheet.wire([(1.98, y), (2.24, y)])
    sheet.box(
        (2.88, y), (1.28, 0.6), "pack attention\nweighted mean over\n$L$ positions", _ATTENTION,
        fontsize=7.5,
    )  # fmt: skip
    sheet.wire([(3.52, y), (3.92, y)], _MEMORY)
    sheet.text((3.71, y + 0.05), "$1 \\times H$", va="bottom", fontsize=7.5)
    sheet.box((4.42, y), (1.0, 0.44), "one vector\nfor all positions", _STORE, fontsize=7.5)
    sheet.wire([(4.92, y), (5.245, y)], _MEMORY)
    sheet.plus((5.33, y))
    sheet.dot((1.2, y))
    sheet.wire([(1.2, y), (1.2, low), (5.33, low), (5.33, y - 0.085)])
    sheet.text((3.3, low - 0.04), "$L \\times H$, untouched", va="top", fontsize=7.5)
    sheet.wire([(5.415, y), (5.62, y)])
    sheet.box((6.02, y), (0.8, 0.44), "LayerNorm,\nfeed forward", fontsize=7.5)
    sheet.wire([(6.42, y), (6.66, y)])
    sheet.text((6.9, y), "$x'$\n$L \\times H$", colour=style.INK, fontsize=8)
    return figure
