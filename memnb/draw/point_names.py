"""Names beside points: every point of a panel is named where its name covers least.

Rectangles in here are rows of left, bottom, right and top, in points of 1/72 inch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text
from matplotlib.transforms import BboxBase

#: How far around its point a name may stand, and how far without a line to its point.
_REACH, _NEAR = 44.0, 9.0


def name_points(axis: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Name the points of a panel whose layout is settled; call it last.

    Left free are the panel's lines and marks, what is written over the figure and the other names;
    of free places the nearest is taken. A name that had to move away, or nearer to another point,
    is tied to its own by a thin line. Names are placed one by one, then each again among the
    others, for as long as one moves.

    The panel's lines have to be level, upright or points: a slanted one would keep its whole
    rectangle free.

    Args:
        axis: the panel, drawn at least once with its final limits.
        points: (x and y in data units, text, colour) per point.
    """
    figure = axis.get_figure(root=True)
    assert figure is not None
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
    # What a place costs wherever the other names are.
    alone = [
        6 * _covered(boxes, fixed)
        + 3 * _outside(boxes, frame)
        + _distance(boxes, marks[one], np.delete(marks, one, axis=0))
        for one, boxes in enumerate(places)
    ]
    chosen: dict[int, np.ndarray] = {}
    for _ in range(10):
        before = dict(chosen)
        for one, boxes in enumerate(places):
            others = np.array([box for other, box in chosen.items() if other != one])
            costs = alone[one] + 3 * _covered(boxes, _wider(others.reshape(-1, 4), 2.0, 0.6))
            # Rounded, so that what is equal is equal on every machine: the first place is taken.
            chosen[one] = boxes[np.argmin(np.round(costs, 3))]
        if before and all((chosen[one] == before[one]).all() for one in before):
            break
    for one, label in enumerate(labels):
        middle = (chosen[one][:2] + chosen[one][2:]) / 2
        label.set_position(tuple(middle - marks[one]))
        gaps = [_gap(chosen[one][None], mark)[0] for mark in marks]
        assert label.arrow_patch is not None
        label.arrow_patch.set_visible(bool(gaps[one] > min(_NEAR, *gaps)))


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


def _covered(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area that each of ``boxes`` shares with ``others``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)


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
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2 - mark).T
    # A name is read most easily level with its mark, and to the right rather than to the left.
    cost = own + 0.4 * np.abs(y) + 0.02 * np.abs(x) + np.where(x < 0, 0.5, 0)
    for other in others:
        cost += 2 * np.clip(own + 2 - _gap(boxes, other), 0, None)
    return cost
