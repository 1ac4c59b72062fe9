"""Train what is missing of a selection, within a time, here or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from memnb import paths
from memnb.config import Run
from memnb.errors import DataError, check_budget
from memnb.evidence import benchmarks, rows
from memnb.reproduce import cost, trainer
from memnb.reproduce.cost import Estimate, Speeds
from memnb.reproduce.progress import Display, Until
from memnb.reproduce.workers import Ended
from memnb.sweep import local, on_ray, on_slurm, planning
from memnb.sweep.local import Machine
from memnb.sweep.on_ray import Cluster
from memnb.sweep.on_slurm import Queue
from memnb.sweep.planning import Selection
from memnb.sweep.work import Work
from memnb.train.record import has_ended
from memnb.words import counted, duration

#: Where a sweep runs.
Where = Machine | Cluster | Queue
MissingData = Literal["refuse", "leave out", "keep"]


@dataclass(frozen=True)
class Plan:
    """What a sweep is about to do.

    Attributes:
        todo: the runs that are missing, in their order.
        selected: how many runs were selected.
        ended: how many of these have ended before, here or among the committed rows.
        lacking: tasks whose data are not here, each with what to do about it.
        estimates: device seconds by run id (:mod:`memnb.reproduce.cost`).
        kind: of the devices that the estimates are for.
        places: how many of these there are here; 1 for a cluster.
    """

    todo: tuple[Run, ...]
    selected: int
    ended: int
    lacking: dict[str, str]
    estimates: dict[str, Estimate]
    kind: str
    places: int

    @property
    def seconds(self) -> float:
        """Estimated wall-clock seconds on this machine; on one device for a cluster."""
        each = [estimate.seconds for estimate in self.estimates.values()]
        # A run may have all cores, but it has one card at most.
        longest = max(each, default=0.0) if self.kind != cost.CORE else 0.0
        return max(sum(each) / self.places, longest)

    def sentences(self) -> list[str]:
        """What is to do, what it takes, and what is left out."""
        left_out = self.selected - self.ended - len(self.todo)
        parts = [counted(self.selected, "run")]
        parts += [f"{self.ended} of them ended before"] if self.ended else []
        parts += [f"{left_out} left out"] if left_out else []
        lines = [f"{', '.join(parts)}, {len(self.todo)} to do."]
        if self.todo:
            some = counted(self.places, self.kind)
            basis = cost.describe_bases(self.estimates.values())
            lines.append(f"About {duration(self.seconds)} on {some} ({basis}), early stops aside.")
        what = "Left out, no data" if left_out else "No data yet"
        return lines + [f"{what}: {name}; {step}." for name, step in self.lacking.items()]

    def table(self) -> pd.DataFrame:
        """A line per run to do: its place in the order, what it is, the estimate and its basis."""
        return pd.DataFrame(
            [
                [number, *_name(run), duration(estimate.seconds), estimate.basis]
                for number, run in enumerate(self.todo, start=1)
                for estimate in [self.estimates[run.run_id]]
            ],
            columns=["", *_NAMES, f"on one {self.kind}", "basis"],
        )


def make_plan(
    selection: Selection,
    out: str | Path | None = None,
    *,
    where: Where,
    missing_data: MissingData = "refuse",
) -> Plan:
    """Find what is missing of a selection, and what it will take.

    Args:
        selection: which of the planned runs.
        out: the output folder (:func:`memnb.paths.output`).
        where: a cluster is taken to have H100 cards, unless runs are to have none, and the data
            that this machine may lack.
        missing_data: what becomes of tasks whose data are not here: ``refuse`` to plan them,
            ``leave out``, or ``keep`` (to look at a plan).

    Raises:
        MemnbError: a selection that means nothing.
        DataError: the data of a task are not here, and that is refused.
    """
    chosen = planning.select(selection)
    here = trainer.missing(chosen, paths.runs(out))
    todo = trainer.missing(here, paths.stored_results())
    ended = len(chosen) - len(todo)
    if isinstance(where, Machine):
        kind, places = cost.kind_of(where.device, where.name), where.places
        lacking = planning.without_data(run.task for run in todo)
    else:
        kind, places = cost.CORE if where.gpus == 0 else cost.H100, 1
        lacking = {}
    if lacking and missing_data == "refuse":
        steps = "; ".join(f"{name}: {step}" for name, step in lacking.items())
        raise DataError(
            f"Some data are not here ({steps}). Get them, or leave these tasks out with "
            "--skip-missing-data."
        )
    if missing_data == "leave out":
        todo = [run for run in todo if run.task.name not in lacking]
    measured = rows.load_runs(paths.runs(out), paths.stored_results())
    timings = benchmarks.load(benchmarks.stored(), benchmarks.file(out))
    speeds = Speeds(measured, timings=timings)
    return Plan(
        tuple(todo),
        len(chosen),
        ended,
        lacking,
        {run.run_id: speeds.estimate(run, kind) for run in todo},
        kind,
        places,
    )


@dataclass(frozen=True)
class Result:
    """How a sweep ended.

    Attributes:
        plan: what was to do.
        ended: how each run that was begun or waiting ended, by run id.
        seconds: wall-clock time of it all.
    """

    plan: Plan
    ended: dict[str, Ended] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        """Runs that failed or could not be trained."""
        return sum(end.error is not None and not end.stopped for end in self.ended.values())

    @property
    def left(self) -> int:
        """Runs that are still to do."""
        records = [end.value for end in self.ended.values() if end.error is None]
        finished = sum(record is not None and has_ended(record) for record in records)
        return len(self.plan.todo) - finished - self.failures

    def table(self) -> pd.DataFrame:
        """A line per run that was begun: what it is, how it ended, its test accuracy and time."""
        lines = []
        for run in self.plan.todo:
            end = self.ended.get(run.run_id)
            if end is None or end.stopped:
                continue
            record = end.value or {}
            accuracy = record.get("test_accuracy")
            shown = "" if accuracy is None else f"{accuracy:.1%}"
            outcome = record.get("outcome", "failed") if end.error is None else "failed"
            reason = trainer.why_no_result(end) or ""
            lines.append([*_name(run), outcome, shown, duration(end.seconds), reason])
        columns = [*_NAMES, "outcome", "test accuracy", "time", "reason"]
        return pd.DataFrame(lines, columns=columns)


_NAMES = ("task", "model", "changes", "seed")


def _name(run: Run) -> tuple[str, str, str, int]:
    return run.task.name, run.model.name, rows.describe_changes(run), run.seed


def run(
    plan: Plan,
    out: str | Path | None = None,
    *,
    where: Where,
    store: str | None = None,
    budget: float | None = None,
    display: Display,
    should_stop: Callable[[], bool] = lambda: False,
    function: str = trainer.TRAIN,
) -> Result:
    """Train what a plan says is to do. Whatever stops it, the next sweep goes on from there.

    Args:
        plan: of :func:`make_plan`.
        out: the output folder; its ``runs/`` receives the run folders.
        where: this machine, a Ray cluster or a Slurm queue.
        store: where the machines of a cluster meet; by default ``runs/`` of the output folder,
            which they must then all see. A path is taken from the working directory of this
            process, whatever that of the others is.
        budget: seconds after which all runs save and stop.
        display: shows how far things are.
        should_stop: once true, running ones save and stop.
        function: ``module:name`` of the training function.

    Raises:
        MemnbError: the budget is no number.
        RunError: the cluster cannot be used, or nothing can be written.
    """
    check_budget(budget)
    begun = time.monotonic()
    folder = paths.runs(out)
    folder.mkdir(parents=True, exist_ok=True)
    latest = None if budget is None else time.time() + budget

    def stop() -> bool:
        return should_stop() or (latest is not None and time.time() >= latest)

    shown = display if latest is None else Until(display, latest)
    meeting = store or str(folder)
    if "://" not in meeting:
        meeting = str(paths.absolute(meeting))
    work = Work(plan.todo, folder, meeting, latest, shown, stop, function)
    with closing(display):
        if isinstance(where, Cluster):
            ended = on_ray.train(work, where)
        elif isinstance(where, Queue):
            ended = on_slurm.train(work, where, paths.output(out) / "slurm")
        else:
            ended = local.train(work, where)
    return Result(plan, ended, time.monotonic() - begun)
