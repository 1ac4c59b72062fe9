"""What training will cost: from measured runs where there are any, else counted and guessed.

The count is that of floating-point operations of the matrix products; what a device makes of them
is measured (a committed run of the same task and model) or, marked as such, assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from memnb.config import Run
from memnb.operations import example_operations, step_operations
from memnb.reproduce.progress import duration

#: Operations per second that models as narrow as these reach, rounded from ListOps runs: a guess
#: for any other task and model.
ASSUMED = {"one H100": 50e12, "one CPU core": 25e9}

# Examples scored at each evaluation; the paper's Text is validated on the whole test set.
_VALIDATION = {
    "text": 25_000,
    "listops": 2_000,
    "retrieval": 18_090,
    "image": 5_000,
    "pathfinder": 20_000,
}


@dataclass(frozen=True)
class Cost:
    """The cost of some runs.

    Attributes:
        measured: device name -> seconds of the runs whose like has been measured there.
        measured_runs: how many runs that is.
        operations: floating-point operations of the other runs, at most (no early stop).
        counted_runs: how many those are.
    """

    measured: dict[str, float]
    measured_runs: int
    operations: float
    counted_runs: int

    def sentences(self) -> list[str]:
        """The cost in words, one sentence a line."""
        lines = []
        if self.measured_runs:
            times = " + ".join(
                f"{duration(seconds)} on {device}" for device, seconds in self.measured.items()
            )
            lines.append(
                f"{self.measured_runs} runs: {times}, one after the other, as committed runs of "
                "the same model took."
            )
        if self.counted_runs:
            times = ", ".join(
                f"{duration(self.operations / speed)} on {device}"
                for device, speed in ASSUMED.items()
            )
            lines.append(
                f"{self.counted_runs} runs have not been measured: at most "
                f"{self.operations:.1e} operations, roughly {times} (a guess from assumed speeds)."
            )
        return lines


def estimate(runs: Sequence[Run], measured: pd.DataFrame) -> Cost:
    """The cost of ``runs``; ``measured`` holds finished ones (evidence.rows.load_runs)."""
    finished = measured[(measured["outcome"] == "finished") & measured["seconds"].notna()]
    groups = finished.groupby(["task", "model"])
    seconds: dict[tuple[str, str], float] = dict(groups["seconds"].mean().items())  # type: ignore[arg-type]
    device: dict[tuple[str, str], str] = dict(groups["device_name"].first().items())  # type: ignore[arg-type]
    times: dict[str, float] = {}
    counted: list[Run] = []
    for run in runs:
        key = (run.task.name, run.model.name)
        if key in seconds:
            name = device.get(key) or "an unnamed device"
            times[name] = times.get(name, 0.0) + seconds[key]
        else:
            counted.append(run)
    operations = sum(operations_of(run) for run in counted)
    return Cost(times, len(runs) - len(counted), operations, len(counted))


def operations_of(run: Run) -> float:
    """Floating-point operations of a run that is not stopped early, evaluations included."""
    training = run.training
    evaluations = training.steps // training.evaluate_every
    scored = evaluations * _VALIDATION.get(run.task.name, 1_000)
    return training.steps * step_operations(run) + scored * example_operations(run)
