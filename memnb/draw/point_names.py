"""Names beside points: every point of a panel is named where its name covers least.

Rectangles in here are rows of left, bottom, right and top, in points of 1/72 inch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import BboxBase

from memnb.draw.style import figure_of

#: How far around its point a name may stand, and how far without a line to its point.
_REACH, _NEAR = 44.0, 9.0
#: What it costs that such a line runs through another name or mark, or that a name touches a mark,
#: and that a line crosses a bar.
_STRUCK, _CROSSED = 40.0, 2.0
#: What it costs to leave the panel, however little.
_BEYOND = 200.0


def name_points(axis: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Name the points of a panel whose layout is settled; call it last.

    Left free are the panel's lines and marks, what is written over the figure and the other names;
    of free places the nearest is taken. A name that had to move away, or nearer to another point,
    is tied to its own by a thin line, which keeps off other names and marks. Names are placed one
    by one, then each again among the others, for as long as one moves.

    The panel's lines have to be level, upright or points: a slanted one would keep its whole
    rectangle free.

    Args:
        axis: the panel, drawn at least once with its final limits.
        points: (x and y in data units, text, colour) per point.
    """
    if not points:
        return
    figure = figure_of(axis)
    scale = 72 / figure.dpi
    frame = _in_points(axis.bbox, scale)
    drawn = [_in_points(thing.get_window_extent(), scale) for thing in (*axis.lines, *figure.texts)]
    # The extent of a line is without its width, and a name that touches one is hard to read.
    fixed = _wider(np.array(drawn).reshape(-1, 4), 1.2, 1.2)
    marks = scale * axis.transData.transform(np.array([(x, y) for x, y, _, _ in points]))
    labels = [_label(axis, *point) for point in points]
    places = [
        _places(mark, scale * np.array(Text.get_window_extent(label).size))
        for mark, label in zip(marks, labels, strict=True)
    ]
    tied = [_tied(boxes, marks, one) for one, boxes in enumerate(places)]
    # What a place costs wherever the other names are.
    alone = [
        6 * _covered(boxes, fixed)
        + _STRUCK * _touching(boxes, _around(np.delete(marks, one, axis=0)))
        + _BEYOND * (_outside(boxes, frame) > 0.01)
        + _distance(boxes, marks[one], np.delete(marks, one, axis=0))
        + tied[one] * _in_the_way(boxes, marks, one, fixed)
        for one, boxes in enumerate(places)
    ]

    def costs(one: int, chosen: dict[int, int]) -> np.ndarray:
        boxes, there = places[one], [other for other in chosen if other != one]
        others = np.array([places[other][chosen[other]] for other in there]).reshape(-1, 4)
        lines = [other for other in there if tied[other][chosen[other]]]
        ends = np.array([places[other][chosen[other]] for other in lines]).reshape(-1, 4)
        struck = tied[one] * _through(marks[one], _middle(boxes), others).sum(axis=1)
        struck += _through(marks[lines], _middle(ends), boxes).sum(axis=0)
        covered = _covered(boxes, _wider(others, 4.0, 0.6))
        # Rounded, so that what is equal is equal on every machine: the first place is taken.
        return np.round(alone[one] + 3 * covered + _STRUCK * struck, 3)

    found = []
    # Who comes first decides where all of them end: from left and from right, from below and above.
    across, up = (np.argsort(marks[:, side], kind="stable") for side in (0, 1))
    for order in (across, across[::-1], up, up[::-1]):
        chosen: dict[int, int] = {}
        for _ in range(10):
            before = dict(chosen)
            for one in order:
                chosen[one] = int(np.argmin(costs(one, chosen)))
            if chosen == before:
                break
        found.append((sum(costs(one, chosen)[place] for one, place in chosen.items()), chosen))
    _, chosen = min(found, key=lambda end: round(end[0], 3))
    for one, label in enumerate(labels):
        label.set_position(tuple(_middle(places[one])[chosen[one]] - marks[one]))
        assert label.arrow_patch is not None
        label.arrow_patch.set_visible(bool(tied[one][chosen[one]]))


def _label(axis: Axes, x: float, y: float, text: str, colour: str) -> Annotation:
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    label = axis.annotate(
        text, (x, y), (0, 0), textcoords="offset points", fontsize=6.5, color=colour,
        ha="center", va="center", annotation_clip=False, arrowprops=line,
    )  # fmt: skip
    label.set_in_layout(False)
    return label


def _in_points(box: BboxBase, scale: float) -> np.ndarray:
    return np.array(box.extents) * scale


def _wider(boxes: np.ndarray, x: float, y: float) -> np.ndarray:
    return boxes + np.array([-x, -y, x, y])


def _places(mark: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where a name of that size may stand around its mark, the nearest ones first."""
    clear = size / 2 + (5.5, 4.5)
    across, up = (
        np.append(np.arange(0, edge, 2.0), edge + np.arange(0, _REACH, 2)) for edge in clear
    )
    x, y = (grid.ravel() for grid in np.meshgrid([*across, *-across], [*up, *-up]))
    free = (np.abs(x) >= clear[0]) | (np.abs(y) >= clear[1])
    middles = mark + np.column_stack([x, y])[free]
    return np.hstack([middles - size / 2, middles + size / 2])


def _middle(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _tied(boxes: np.ndarray, marks: np.ndarray, one: int) -> np.ndarray:
    """Whether a name in each of ``boxes`` needs a line to its mark, the ``one``-th."""
    gaps = np.array([_gap(boxes, mark) for mark in marks])
    return np.asarray(gaps[one] > np.minimum(_NEAR, gaps.min(axis=0)))


def _in_the_way(boxes: np.ndarray, marks: np.ndarray, one: int, fixed: np.ndarray) -> np.ndarray:
    """What a line to each of ``boxes`` costs, from the ``one``-th mark over others and bars."""
    others = _around(np.delete(marks, one, axis=0))
    struck = _through(marks[one], _middle(boxes), others)
    # What covers the mark itself no line can avoid.
    bars = fixed[~_through(marks[one], marks[one] + 0.01, fixed)[0]]
    crossed = _through(marks[one], _middle(boxes), bars)
    return np.asarray(_STRUCK * struck.sum(axis=1) + _CROSSED * crossed.sum(axis=1))


def _through(starts: np.ndarray, ends: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which straight lines (rows) run through which boxes (columns)."""
    starts, ends = np.atleast_2d(starts), np.atleast_2d(ends)
    way = ends - starts
    way = np.where(way == 0, 1e-9, way)
    enters, leaves = 0.0, 1.0
    for side in (0, 1):
        one, other = (
            (boxes[:, edge] - starts[:, side, None]) / way[:, side, None]
            for edge in (side, side + 2)
        )
        enters = np.maximum(enters, np.minimum(one, other))
        leaves = np.minimum(leaves, np.maximum(one, other))
    return np.asarray(enters < leaves)


def _around(marks: np.ndarray) -> np.ndarray:
    """The rectangles that marks at these places fill."""
    return np.hstack([marks - 3.5, marks + 3.5])


def _touching(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of ``others`` each of ``boxes`` touches."""
    return sum((_covered(boxes, other[None]) > 0 for other in others), np.zeros(len(boxes), int))


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area that each of ``boxes`` shares with ``others``."""
    # Side by side rather than as one array of pairs: thousands of boxes are looked at.
    width, height = (
        np.minimum(boxes[:, None, side + 2], others[:, side + 2])
        - np.maximum(boxes[:, None, side], others[:, side])
        for side in (0, 1)
    )
    return (np.maximum(width, 0) * np.maximum(height, 0)).sum(axis=1)


def _outside(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """The area of each box beyond the panel."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - _covered(boxes, frame[None])


def _gap(boxes: np.ndarray, mark: np.ndarray) -> np.ndarray:
    """How far the nearest point of each box is from a mark."""
    away = np.maximum(boxes[:, :2] - mark, mark - boxes[:, 2:])
    return np.hypot(*np.clip(away, 0, None).T)


def _distance(boxes: np.ndarray, mark: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What it costs to stand away from one's mark, and more so where another mark is nearer."""
    own = _gap(boxes, mark)
    x, y = (_middle(boxes) - mark).T
    # A name is read most easily level with its mark, and to the right rather than to the left.
    cost = own + 0.4 * np.abs(y) + 0.02 * np.abs(x) + np.where(x < 0, 0.5, 0)
    for other in others:
        cost += 2 * np.clip(own + 2 - _gap(boxes, other), 0, None)
    return cost
