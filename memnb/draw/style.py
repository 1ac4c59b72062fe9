"""One look for every picture: a fixed colour, marker and label per family of models.

The colours keep a contrast of at least 4.5 : 1 on white (so they also serve for text) and stay
apart under protanopia, deuteranopia and tritanopia; the markers tell the families apart where
colour is lost, as in a grey print.
"""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation, Transform

from memnb import naming

PAGE_WIDTH = 7.2
"""Width of a figure in inches: a printed page between its margins."""

INK = "#222222"
QUIET = "#5F6368"
"""Second voice: subtitles, reference levels, notes (6 : 1 on white)."""
RULE = "#D5D8DC"
"""Hairlines: grid and frames. Carries no information, so it may be faint."""
MISSING = "no run yet"
NOT_PLANNED = "not planned"
NOT_PLANNED_CELL = "–"
"""The same in a table."""
Planned = Collection[tuple[str, str]]
"""(model, task) of planned runs: of the others a figure or table says that they are not planned."""
PlannedParts = Collection[tuple[str | int, ...]]
"""As :data:`Planned`, of a model taken apart: (filter, its width, its stride, pack temperature,
task, reading)."""


def without_run(
    kind: tuple[str | int, ...], planned: PlannedParts | None, otherwise: str = NOT_PLANNED
) -> str:
    """What stands in the place of a ``kind`` of which there is no run: that there is none yet, or
    ``otherwise`` where others are planned."""
    return MISSING if planned is None or kind in planned else otherwise


Dash = Literal["-"] | tuple[float, tuple[float, ...]]
"""A line style: solid, or lengths of strokes and gaps in points."""
DOTTED: Dash = (0, (1, 2))
DASHED: Dash = (0, (4, 2))
DASH_DOTTED: Dash = (0, (6, 2, 1, 2))


@dataclass(frozen=True)
class Family:
    """How the models of one family look, whatever their memory size."""

    name: str
    colour: str
    marker: str
    dash: Dash

    @property
    def label(self) -> str:
        return naming.family_label(self.name)

    @property
    def points(self) -> dict[str, Any]:
        """What pyplot needs to know of points that no line joins."""
        return {"linestyle": "none", "marker": self.marker, "color": self.colour}


FAMILY: dict[str, Family] = {
    "transformer": Family("transformer", "#333333", "s", (0, (4, 2))),
    "luna": Family("luna", "#1F77C9", "o", "-"),
    "convluna": Family("convluna", "#C4480A", "D", "-"),
    "poolluna": Family("poolluna", "#8A1C7C", "^", (0, (6, 1))),
}


#: Those that are shown beside them: memory between chunks, and the controls. ChunkMem, ConvChunkMem
#: and PoolChunkMem have dark shades of Luna's, ConvLuna's and PoolLuna's colours.
OTHERS: dict[str, Family] = {
    "chunkmem": Family("chunkmem", "#332288", "v", (0, (5, 1))),
    "convchunkmem": Family("convchunkmem", "#662506", "P", (0, (5, 1))),
    "poolchunkmem": Family("poolchunkmem", "#40004B", "H", (0, (5, 1))),
    "rmt": Family("rmt", "#5B3FB5", "<", (0, (3, 1))),
    "convrmt": Family("convrmt", "#B3206E", ">", (0, (3, 1))),
    "poolrmt": Family("poolrmt", "#006A8E", "8", (0, (3, 1))),
    "officialluna": Family("officialluna", "#00707A", "p", (0, (1, 1))),
    "perceiver": Family("perceiver", "#3F7D20", "h", (0, (1, 1))),
    "linformer": Family("linformer", "#7A5230", "X", (0, (1, 1))),
    "localconv": Family("localconv", "#6B6B00", "d", (0, (4, 1, 1, 1))),
    "memoryless": Family("memoryless", "#A3333D", "*", (0, (4, 1, 1, 1))),
}
#: PoolLuna where a window of positions leaves one, shown beside the one that leaves them all.
STRIDED_POOL = Family("poolluna", "#7A5230", "v", (0, (2, 2)))
# What a block of one's own may look like: which, follows from its name.
_OWN_COLOURS = ("#0B6E4F", "#7B2D8B", "#8A5A00", "#1B4F9C", "#9C1B4F", "#4A6B00", "#006A8E")
_OWN_MARKERS = ("H", "8", "p", "X", "d")
_OWN_DASHES: tuple[Dash, ...] = ((0, (7, 1)), (0, (3, 1, 1, 1)), (0, (2, 1)))


def family(name: str) -> Family:
    """The look of a family; that of a block of one's own follows from its name alone."""
    known = FAMILY.get(name) or OTHERS.get(name)
    if known is not None:
        return known
    number = zlib.crc32(name.encode())
    colour = _OWN_COLOURS[number % len(_OWN_COLOURS)]
    marker = _OWN_MARKERS[number // 7 % len(_OWN_MARKERS)]
    return Family(name, colour, marker, _OWN_DASHES[number // 35 % len(_OWN_DASHES)])


def apply() -> None:
    """Set the style for this process. Every figure function calls it; calling twice is harmless."""
    sns.set_theme(
        context="paper",
        style="white",
        rc={
            "figure.dpi": 120,
            "savefig.dpi": 220,
            "savefig.bbox": "tight",
            "savefig.pad_inches": 0.08,
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 8.5,
            "axes.titlesize": 9,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 8.5,
            "axes.labelcolor": INK,
            "axes.edgecolor": "#9AA0A6",
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#ECEEF0",
            "grid.linewidth": 0.7,
            "xtick.major.pad": 3,
            "ytick.major.pad": 3,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "xtick.color": INK,
            "ytick.color": INK,
            "text.color": INK,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            # Text stays text in SVG: it can be searched, copied and read aloud.
            "svg.fonttype": "none",
            # Same rows, same bytes: the committed SVG changes only when the picture does.
            "svg.hashsalt": "memnb",
        },
    )


def notebook() -> None:
    """Set the style, and let a notebook print tables whole: every row, every word of a cell."""
    apply()
    pd.set_option(
        "display.max_colwidth", None, "display.max_rows", None, "display.max_columns", None
    )


def heading(figure: Figure, title: str, subtitle: str = "") -> None:
    """Write a left-aligned title and, below it, where the rows come from.

    Blanks around the subtitle are dropped, so that its last part may be empty.
    Reserves its own height through the layout engine, so call it once, on a figure made by
    :func:`canvas`.
    """
    width, height = figure.get_size_inches()
    columns = int(width * 13.2)
    title = textwrap.fill(title, columns)
    # Neither "dash-dotted" nor a model's name is broken, nor is a number parted from its percent.
    joined = subtitle.strip().replace(" %", _HARD_BLANK + "%")
    subtitle = textwrap.fill(joined, int(columns * 1.2), break_on_hyphens=False)
    subtitle = subtitle.replace(_HARD_BLANK, " ")
    title_height = 0.19 * (title.count("\n") + 1)
    used = 0.08 + title_height + (0.165 * (subtitle.count("\n") + 1) + 0.05 if subtitle else 0.03)
    figure.text(
        0.08 / width, 1 - 0.06 / height, title, ha="left", va="top", fontsize=10.5,
        fontweight="bold", linespacing=1.2, gid="title",
    )  # fmt: skip
    if subtitle:
        figure.text(
            0.08 / width, 1 - (0.09 + title_height) / height, subtitle, ha="left", va="top",
            fontsize=8.5, color=QUIET, linespacing=1.2, gid="subtitle",
        )  # fmt: skip
    layout_of(figure).set(rect=(0.0, 0.0, 1.0, 1 - used / height))


_HARD_BLANK = "\u00a0"


def canvas(
    rows: int,
    columns: int,
    height: float,
    *,
    width: float = PAGE_WIDTH,
    alone: float | None = None,
    gap: float = 0.06,
    **options: Any,
) -> tuple[Figure, np.ndarray]:
    """A styled figure that pyplot does not hold on to, and its (rows, columns) array of axes.

    ``height``, ``width`` and ``gap`` (the white around a panel, above and below) are in inches;
    ``alone`` is the width of a single column, where a page's would draw it out.
    """
    apply()
    if alone and columns == 1:
        width = alone
    # Made by pyplot, so that a notebook's backend is loaded and can show it; closed at once, so
    # that the notebook shows it as the value of its cell and not a second time by itself.
    figure = plt.figure(figsize=(width, height), layout="constrained")
    plt.close(figure)
    layout_of(figure).set(w_pad=0.06, h_pad=gap)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def layout_of(figure: Figure) -> ConstrainedLayoutEngine:
    """The layout engine of a figure made by :func:`canvas` that is not settled yet."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    return engine


def settle(figure: Figure) -> None:
    """Lay a figure out for good: what is then written beside a line or a point stays beside it.

    Called again it changes nothing and costs nothing, where a layout takes as long as a drawing.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")


_ROWS: WeakKeyDictionary[Figure, pd.DataFrame] = WeakKeyDictionary()


def attach(figure: Figure, rows: pd.DataFrame) -> Figure:
    """Remember the rows that a figure was drawn from, and return the figure."""
    _ROWS[figure] = rows
    return figure


def attached(figure: Figure) -> pd.DataFrame | None:
    """The rows that a figure was drawn from; None where nobody said."""
    return _ROWS.get(figure)


def empty(title: str, subtitle: str = "", note: str = MISSING) -> Figure:
    """A figure that says honestly that there is nothing to draw."""
    figure, axes = canvas(1, 1, 1.5)
    axis = axes[0, 0]
    bare(axis, visible=True, linestyle=(0, (4, 3)), color="#9AA0A6")
    axis.text(
        0.5, 0.5, textwrap.fill(note, 90), ha="center", va="center", color=QUIET, fontsize=10,
        transform=axis.transAxes,
    )  # fmt: skip
    heading(figure, title, subtitle)
    return figure


def bare(axis: Axes, **frame: Any) -> None:
    """Take away a panel's scales and grid; ``frame`` says how its spines look."""
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set(**frame)


def reference_line(axis: Axes, level: float, text: str = "", *, dash: Dash = DOTTED) -> None:
    """A quiet line at ``level`` of a panel in percent, named below its right end.

    The panel then holds it, and spans at least 5 points, so that noise does not fill it.
    """
    low, high = axis.get_ylim()
    low, high = min(low, level), max(high, level, low + 5)
    low = min(low, level - 0.14 * (high - low))
    # The margin was one of the data alone; the panel may now span several times as much, and half
    # a mark at its top would be cut off.
    axis.set_ylim(low, max(high, axis.dataLim.y1 + 0.05 * (high - low)))
    axis.axhline(level, color=QUIET, linewidth=0.9, linestyle=dash, zorder=1)
    if text:
        note(axis, text, (1, level), (-1, -2), ha="right", va="top")


def figure_of(axis: Axes) -> Figure:
    """The figure that a panel belongs to."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    return figure


def shifted(axis: Axes, units: Transform, right: float, up: float) -> Transform:
    """``units`` of a panel, such as its data's, moved by points."""
    return units + ScaledTranslation(right / 72, up / 72, figure_of(axis).dpi_scale_trans)


def note(
    axis: Axes, text: str, at: tuple[float, float], offset: tuple[float, float] = (0, 0),
    **look: Any,
) -> Text:  # fmt: skip
    """Small quiet text at ``at`` (x in parts of the axis, y in data units), moved by points."""
    # A text of the figure, not of the axis: the layout then ignores it, so that a note never
    # pushes panels apart, while a tight bounding box still holds it. The thin white rim keeps it
    # readable where a line passes.
    return figure_of(axis).text(
        *at, text, transform=shifted(axis, axis.get_yaxis_transform(), *offset),
        path_effects=[withStroke(linewidth=1.4, foreground="white")],
        **{"fontsize": 7, "color": QUIET, **look},
    )  # fmt: skip


_APART, _BEYOND = 9.5, 2.0
"""Least distance in points of two names at the ends of lines, and how far the middle of one may
stand above or below its panel."""


def names_fit(axis: Axes, count: int) -> bool:
    """Whether :func:`label_lines` has room for ``count`` names beside a panel that is laid out."""
    return (count - 1) * _APART <= _height(axis) + 2 * _BEYOND


def _height(axis: Axes) -> float:
    """Of a panel in points."""
    return axis.get_window_extent().height * 72 / figure_of(axis).dpi


def label_lines(axis: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Name lines at the right edge of a panel, moved apart so that no two names overlap.

    Where they fit they stay beside their panel, clear of the names of those above and below it.

    Args:
        axis: the panel, with its final limits.
        labels: (y of the line's end in data units, text, colour) per line.
    """
    height = _height(axis)
    ordered = sorted(labels)
    # Through the panel's own transform: its scale may be logarithmic.
    at = axis.get_yaxis_transform().transform([(1, y) for y, _, _ in ordered])[:, 1]
    wanted = (at - axis.bbox.y0) * 72 / figure_of(axis).dpi
    placed = _spread(wanted, _APART)
    if names_fit(axis, len(ordered)):
        placed = _within(placed, _APART, -_BEYOND, height + _BEYOND)
    for (y, text, colour), offset in zip(ordered, placed - wanted, strict=True):
        note(axis, text, (1, y), (4, offset), ha="left", va="center", fontsize=8, color=colour,
             fontweight="bold")  # fmt: skip


def _within(placed: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Ascending positions moved into a range that has room for them, still ``gap`` apart."""
    steps = gap * np.arange(len(placed))  # positions less these ascend where they are apart
    raised = np.maximum.accumulate(np.maximum(placed, low) - steps) + steps
    return np.minimum.accumulate((np.minimum(raised, high) - steps)[::-1])[::-1] + steps


def _spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Ascending positions, at least ``gap`` apart, as near to ``wanted`` as a sweep gets."""
    placed = wanted.astype(float).copy()
    for _ in range(200):
        short = gap - np.diff(placed)
        if (short <= 1e-9).all():
            break
        push = np.clip(short, 0, None) / 2
        placed[:-1] -= push
        placed[1:] += push
    return placed
