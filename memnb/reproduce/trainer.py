"""Train the runs that are missing, several at a time, and say how long it still takes.

PyTorch is imported in the worker processes only.
"""

from __future__ import annotations

import heapq
import importlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memnb.config import Run
from memnb.errors import RunInUse
from memnb.reproduce.progress import Display, describe
from memnb.reproduce.workers import Died, Ended, JobError, cores, run_jobs
from memnb.train.record import has_ended, record_of
from memnb.words import duration

#: Where the training function is imported from, inside a worker.
TRAIN = "memnb.train.loop:train"
#: What the record of a run says that another process trains, in place of how it ended.
IN_USE = "in use"
#: Seconds that a run has to save and stop; killed then, it goes on from its last checkpoint.
GRACE = 4.5


def missing(runs: Iterable[Run], folder: Path) -> list[Run]:
    """The runs that have not ended in ``folder``, in the same order.

    A run that failed by itself (NaN, divergence) has ended: its failure is a result, and it would
    fail again. Running out of memory says something of the machine: such a run is tried again.
    """
    return [run for run in runs if not has_ended(record_of(folder / run.run_id))]


def train_missing(
    runs: Iterable[Run],
    folder: Path,
    *,
    jobs: int,
    device: str = "auto",
    cards: Sequence[str] = (),
    display: Display,
    should_stop: Callable[[], bool] = lambda: False,
    grace: float | None = None,
    function: str = TRAIN,
) -> dict[str, Ended]:
    """Train every run that has not ended, each in its folder ``folder / run_id``.

    Args:
        runs: what is wanted, in the order in which to start.
        folder: the folder of run folders.
        jobs: runs at a time; the cores are shared out among them.
        device: ``auto``, ``cpu`` or ``cuda``.
        cards: graphics cards, as CUDA_VISIBLE_DEVICES names them; the jobs are dealt out to them.
            By default every job sees all that the process sees.
        display: shows how far things are.
        should_stop: once true, running ones save and stop; all of it can be resumed.
        grace: seconds that they have for it before they are killed; by default :data:`GRACE`.
        function: ``module:name`` of the training function.

    Returns:
        How each run that was started or waiting ended, by run id. A run that ended as a recorded
        failure has its reason as the error.
    """
    todo = missing(runs, folder)
    if not todo:
        return {}
    jobs = min(jobs, len(todo))
    settings = {
        "device": device,
        "threads": max(1, cores() // jobs),
        "side_by_side": -(-jobs // max(1, len(cards))),
        "function": function,
    }
    payloads = {run.run_id: payload(run, folder / run.run_id, **settings) for run in todo}
    environments = [{"CUDA_VISIBLE_DEVICES": cards[i % len(cards)]} for i in range(jobs) if cards]
    watch = Watch(todo, jobs, display)
    return run_jobs(
        job,
        payloads,
        processes=jobs,
        environments=environments,
        should_stop=should_stop,
        on_message=watch.message,
        on_end=watch.end,
        on_tick=watch.show,
        grace=GRACE if grace is None else grace,
    )


def payload(run: Run, folder: Path, **settings: Any) -> dict[str, Any]:
    """What :func:`job` is told, as plain values that any kind of worker can be sent."""
    return {"config": run.model_dump(), "folder": str(folder), **settings}


def job(
    payload: dict[str, Any], report: Callable[[Any], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """One run, in a worker process. Returns the content of its ``run.json``.

    Of a run that another process trains it is ``outcome`` (:data:`IN_USE`) and ``reason`` alone.

    Raises:
        JobError: the run failed.
    """
    # Before PyTorch is imported, so that its thread pools have this size from the start.
    os.environ["OMP_NUM_THREADS"] = str(payload["threads"])
    module, _, name = payload["function"].partition(":")
    train = getattr(importlib.import_module(module), name)
    try:
        record: dict[str, Any] = train(
            Run.of(payload["config"]),
            Path(payload["folder"]),
            device=payload["device"],
            side_by_side=payload["side_by_side"],
            progress=lambda now: report((now.step, now.steps, now.loss, now.accuracy)),
            should_stop=should_stop,
        )
    except RunInUse as error:
        return {"outcome": IN_USE, "reason": str(error)}
    if record["outcome"] == "failed":
        raise JobError(f"The run failed: {record.get('reason') or 'no reason was recorded'}")
    return record


@dataclass
class Clock:
    """Estimates the time left from the speed of the runs seen so far.

    Runs of different models and tasks differ in speed, so each pair is timed by itself; one that
    has not been seen yet is taken to be as fast as the average of the others.

    Attributes:
        steps: of each run, in the order in which they start.
        kinds: what a run's speed depends on.
        jobs: runs at a time.
    """

    steps: dict[str, int]
    kinds: dict[str, str]
    jobs: int
    now: Callable[[], float] = time.monotonic
    done: dict[str, int] = field(default_factory=dict)
    began: dict[str, tuple[float, int]] = field(default_factory=dict)
    speed: dict[str, float] = field(default_factory=dict)

    def saw(self, run: str, step: int) -> None:
        """A run is at ``step``."""
        self.done[run] = step
        if run not in self.began:
            self.began[run] = (self.now(), step)
            return
        start, first = self.began[run]
        if step > first:
            self.speed[run] = (self.now() - start) / (step - first)

    def lost(self, run: str) -> None:
        """A run will go on in another process: what passes until then is no time of its steps."""
        self.began.pop(run, None)

    def over(self, run: str) -> None:
        """A run has ended, at whatever step (it may have stopped early)."""
        self.done[run] = self.steps[run]

    @property
    def fraction(self) -> float:
        """The share of all steps that is done, 0 to 1."""
        total = sum(self.steps.values())
        return sum(self.done.get(run, 0) for run in self.steps) / total if total else 1.0

    @property
    def left(self) -> float | None:
        """Seconds left; None while nothing has been timed."""
        if not self.speed:
            return None
        average = sum(self.speed.values()) / len(self.speed)
        by_kind: dict[str, list[float]] = {}
        for run, seconds in self.speed.items():
            by_kind.setdefault(self.kinds[run], []).append(seconds)
        # Each run goes to the worker that is free first; those that have begun have theirs.
        free = [0.0] * self.jobs
        for run in sorted(self.steps, key=lambda run: run not in self.began):
            known = by_kind.get(self.kinds[run])
            seconds = sum(known) / len(known) if known else average
            left = seconds * max(0, self.steps[run] - self.done.get(run, 0))
            heapq.heapreplace(free, free[0] + left)
        return max(free)


class Watch:
    """What the person in front of the screen sees of the training, wherever it happens."""

    def __init__(self, runs: Sequence[Run], jobs: int, display: Display) -> None:
        self.runs = {run.run_id: run for run in runs}
        self.display = display
        self.current: dict[str, str] = {}
        self.finished = 0
        steps = {name: run.training.steps for name, run in self.runs.items()}
        kinds = {name: f"{run.model.name} {run.task.name}" for name, run in self.runs.items()}
        self.clock = Clock(steps, kinds, jobs)

    def message(self, name: str, message: Any) -> None:
        """A run says how far it is (as :func:`job` reports it), or that its worker has died."""
        if isinstance(message, Died):
            self.current.pop(name, None)
            self.clock.lost(name)
            self.display.note(f"{short(self.runs[name])}: {message.sentence}")
            return
        self.clock.saw(name, message[0])
        self.current[name] = describe(*message)

    def end(self, ended: Ended) -> None:
        """A run has ended, or was given up."""
        self.current.pop(ended.name, None)
        self.clock.over(ended.name)
        self.finished += 1
        name = short(self.runs[ended.name])
        self.display.note(f"[{self.finished}/{len(self.runs)}] {name}: {_result(ended)}")

    def show(self) -> None:
        """Bring the display up to date."""
        left = self.clock.left
        time_left = "" if left is None else f", about {duration(left)} left"
        running = "; ".join(f"{short(self.runs[name])}: {at}" for name, at in self.current.items())
        text = f"training, {self.finished} of {len(self.runs)} runs done{time_left}"
        self.display.update(text + (f" · {running}" if running else ""), self.clock.fraction)


def why_no_result(ended: Ended) -> str | None:
    """Why a run was not trained here: it failed, or another process trains it; None if it was."""
    if ended.error is None and ended.value and ended.value.get("outcome") == IN_USE:
        return str(ended.value["reason"])
    return ended.error


def _result(ended: Ended) -> str:
    if why := why_no_result(ended):
        if ended.stopped:
            return f"{why} It goes on from its last checkpoint, if it has one."
        return why
    if ended.value["outcome"] != "finished":
        return f"{ended.value['outcome']} at step {ended.value['step']:,}; it can be resumed"
    accuracy = ended.value["test_accuracy"]
    return f"test accuracy {accuracy:.1%}, {duration(ended.seconds)}"


def short(run: Run) -> str:
    """A run in a few words, for people."""
    from memnb.evidence.rows import describe_changes  # pandas, which a worker does without

    changes = describe_changes(run)
    name = f"{run.task.name} {run.model.name} seed {run.seed}"
    return name + (f" ({changes})" if changes else "")
