"""What a sweep hands to whoever trains it: this machine, a Ray cluster or a Slurm queue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from memnb.config import Run
from memnb.reproduce.progress import Display


@dataclass(frozen=True)
class Work:
    """The runs to train, and what holds for all of them wherever that happens.

    Attributes:
        runs: in the order in which to start.
        folder: of the run folders on this machine, which receives the files of those that end.
        store: where the machines of a cluster meet (:class:`memnb.sweep.store.Store`).
        deadline: the time (:func:`time.time`) at which all save and stop, or None.
        display: shows how far things are.
        should_stop: once true, also at the deadline, running ones save and stop.
        function: ``module:name`` of the training function.
    """

    runs: tuple[Run, ...]
    folder: Path
    store: str
    deadline: float | None
    display: Display
    should_stop: Callable[[], bool]
    function: str
