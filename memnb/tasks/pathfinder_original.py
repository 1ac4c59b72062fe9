"""Our Pathfinder images against the original program's, in numbers.

The images themselves cannot be compared, since the original's seeds are unknown. So 2,000 images
of the original program (github.com/drewlinsley/pathfinder, run with LRA's parameters and the
libraries of its time) were measured once; what they gave is written here.
"""

from __future__ import annotations

from dataclasses import dataclass

from memnb.tasks.pathfinder import Drawn

IMAGES = 2_000
"""How many images of the original program were measured."""


@dataclass(frozen=True)
class Statistic:
    """A number of a sample.

    Attributes:
        name: what was measured.
        original: in the original's sample.
        tolerance: how far chance may move a sample of ours away from it.
        ours: in our sample.
        share: whether it is a share, printed in percent.
    """

    name: str
    original: float
    tolerance: float
    ours: float
    share: bool

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than the tolerance."""
        return abs(self.ours - self.original) <= self.tolerance


def statistics(drawn: Drawn) -> list[Statistic]:
    """What was measured on the original, measured on ``drawn``; thousands of images, please."""
    images = drawn.images
    means = images.mean(axis=1) / 255
    return [
        Statistic("mean pixel (black 0, white 1)", 0.0794, 0.0006, float(means.mean()), False),
        Statistic("spread of the images' means (SD)", 0.0079, 0.0004, float(means.std()), False),
        Statistic("pixels above 0", 0.342, 0.004, float((images > 0).mean()), True),
        Statistic("pixels above 127", 0.085, 0.0015, float((images > 127).mean()), True),
        Statistic("images of one contour (label 1)", 0.51, 0.03, float(drawn.labels.mean()), True),
    ]
