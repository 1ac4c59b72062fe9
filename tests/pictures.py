"""What is written in a figure, and whether its parts keep apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def words(figure: Figure) -> str:
    """Everything that is written in a figure, line by line."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def flat(figure: Figure) -> str:
    """The same on one line."""
    return words(figure).replace("\n", " ")


def assert_apart(boxes: Iterable[Bbox]) -> None:
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
