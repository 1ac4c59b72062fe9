"""What training costs on a device: measured where there are rows, else scaled or assumed.

The unit is the *device second*: one second of a whole graphics card, or of one CPU core. Runs that
shared a card share its seconds. Every estimate says what it rests on:

* ``measured``: runs of the same model, settings and task on the same kind of device, each as if
  it had not stopped early;
* ``timed``: steps and evaluations of the same model and task there (``memnb bench``);
* ``scaled``: other runs or steps there, by the number of floating-point operations;
* ``assumed``: runs on another kind of device, by data sheet, or a guessed speed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import pandas as pd

from memnb.config import BUILT_IN, Model, Run, Task, Training, run_config
from memnb.errors import MemnbError
from memnb.evidence.rows import ENDED, describe_changes
from memnb.operations import (
    evaluations,
    example_operations,
    examples_scored,
    step_operations,
)
from memnb.reproduce import plan
from memnb.reproduce.manifest import Artefact
from memnb.words import counted, duration

Basis = Literal["measured", "timed", "scaled", "assumed"]
BASES: tuple[Basis, ...] = get_args(Basis)

H100, H200, A100, T4, CORE = "H100", "H200", "A100", "T4", "CPU core"
#: Kinds of device, by a word of their name; any other card is a kind of its own.
DEVICES = (H100, H200, A100, T4, CORE)

#: How many times as long as on an H100, from data sheets: models as narrow as these are bound by
#: the memory's bandwidth (H100 3.35 TB/s, H200 4.8 TB/s, A100 2.04 TB/s, T4 0.32 TB/s), and a T4
#: has no bf16, so that it moves twice the bytes.
SLOWER_THAN_H100 = {H200: 3.35 / 4.8, A100: 3.35 / 2.04, T4: 2 * 3.35 / 0.32}

#: Operations per second where nothing was measured at all, rounded from ListOps runs.
ASSUMED = {H100: 50e12, CORE: 25e9}


@dataclass(frozen=True)
class Estimate:
    """Device seconds of one run, and what the number rests on."""

    seconds: float
    basis: Basis


@dataclass(frozen=True)
class _Known:
    """A run whose device seconds per counted operation are known."""

    run: Run
    key: tuple[str, str, str]
    basis: Basis
    per_operation: float


class Speeds:
    """How long runs take.

    Args:
        frames: finished runs (:func:`memnb.evidence.rows.load_runs`).
        timings: rows of ``memnb bench`` (:func:`memnb.evidence.benchmarks.load`).
    """

    def __init__(self, *frames: pd.DataFrame, timings: pd.DataFrame | None = None) -> None:
        self._known: dict[str, list[_Known]] = {}
        self._estimates: dict[tuple[str, Task, Model, Training], Estimate] = {}
        for row in _records(frames):
            timed = row["outcome"] == "finished" and row["seconds"] == row["seconds"]
            timed = timed and len(row["devices"]) == 1  # else its time says nothing of either
            # A block of one's own is known only where it is registered.
            if not timed or row["preset"] == "custom" or row["kind"] not in BUILT_IN:
                continue
            run = _run_of(row)
            seconds = device_seconds(row)
            steps = row["step"] if row["step"] > 0 else run.training.steps
            self._learn(row, run, "measured", seconds, steps / run.training.steps)
        for row in [] if timings is None else _records([timings]):
            if (found := _timed(row)) is not None:
                self._learn(row, found[0], "timed", found[1])

    def _learn(
        self, row: Mapping[Any, Any], run: Run, basis: Basis, seconds: float, share: float = 1.0
    ) -> None:
        known = _Known(run, _key(run), basis, seconds / (operations_of(run) * share))
        self._known.setdefault(kind_of(row["device"], row["device_name"]), []).append(known)

    def estimate(self, run: Run, kind: str) -> Estimate:
        """Device seconds of ``run``, from start to end, on a device of that ``kind``."""
        place = kind, run.task, run.model, run.training  # its seed changes nothing
        if place not in self._estimates:
            self._estimates[place] = self._estimate(run, kind)
        return self._estimates[place]

    def _estimate(self, run: Run, kind: str) -> Estimate:
        known, key = self._known.get(kind, []), _key(run)
        for basis in BASES[:2]:
            same = [row.per_operation for row in known if row.key == key and row.basis == basis]
            if same:
                return Estimate(operations_of(run) * sum(same) / len(same), basis)
        if known:
            likeness = [_likeness(run, row.run) for row in known]
            closest = max(likeness)
            pairs = zip(known, likeness, strict=True)
            rates = [row.per_operation for row, how in pairs if how == closest]
            return Estimate(operations_of(run) * sum(rates) / len(rates), "scaled")
        if kind in ASSUMED:
            return Estimate(operations_of(run) / ASSUMED[kind], "assumed")
        there = self.estimate(run, H100)
        return Estimate(there.seconds * SLOWER_THAN_H100.get(kind, 1.0), "assumed")

    def total(self, runs: Iterable[Run], kind: str) -> tuple[float, str]:
        """Device seconds of all ``runs``, and how many of the estimates rest on what."""
        estimates = [self.estimate(run, kind) for run in runs]
        return sum(estimate.seconds for estimate in estimates), describe_bases(estimates)


def sentence(runs: Sequence[Run], speeds: Speeds) -> str:
    """The cost of ``runs`` on each kind of device, in one sentence."""
    times = []
    for kind in DEVICES:
        seconds, basis = speeds.total(runs, kind)
        times.append(f"{duration(seconds)} on one {kind} ({basis})")
    start = f"{counted(len(runs), 'run')}, one after the other and none stopped early"
    return f"{start}: {', '.join(times)}."


def describe_bases(estimates: Iterable[Estimate]) -> str:
    """How many of the estimates rest on what, such as ``3 measured, 5 scaled``."""
    bases = Counter(estimate.basis for estimate in estimates)
    return ", ".join(f"{bases[basis]} {basis}" for basis in BASES if bases[basis])


def kind_of(device: Any, name: Any) -> str:
    """The kind of a device (``cpu`` or ``cuda``) with that name: one of DEVICES, or the name."""
    if device == "cpu":
        return CORE
    words = re.findall(r"\w+", str(name))  # a GH200 is not an H200
    return next((kind for kind in DEVICES if kind in words), str(name))


def device_seconds(row: Mapping[Any, Any]) -> float:
    """What a run took of its device; NaN where its row does not say how long it took.

    Rows from before runs reckoned it are taken to have had the same share of it all the time, and
    those from before they said how many shared a card as if each had it alone.
    """
    if row["device_seconds"] == row["device_seconds"]:
        return float(row["device_seconds"])

    def number(key: str) -> float:
        value = row[key]
        return float(value) if value == value and value else 1.0

    if row["device"] == "cpu":
        return float(row["seconds"]) * number("threads")
    return float(row["seconds"]) / number("side_by_side")


def operations_of(run: Run) -> float:
    """Floating-point operations of a run that is not stopped early, evaluations included."""
    return run.training.steps * step_operations(run) + _scored(run) * example_operations(run)


def _scored(run: Run) -> int:
    """Examples that all evaluations of a run score together."""
    return evaluations(run) * examples_scored(run.task)


def by_artefact(
    artefacts: Sequence[Artefact], frames: Sequence[pd.DataFrame], timings: pd.DataFrame
) -> pd.DataFrame:
    """Planned and spent device time of each artefact that needs full-scale runs, and of them all.

    Artefacts share runs, so the last line is less than the sum of those above it.

    Args:
        artefacts: of the manifest.
        frames: rows of any scale (:func:`memnb.evidence.rows.load_runs`).
        timings: rows of ``memnb bench`` (:func:`memnb.evidence.benchmarks.load`).

    Returns:
        A line per artefact and one, ``All together``, in which each run counts once. ``artefact``;
        ``planned``, ``ended`` (finished or failed) and ``left``: numbers of runs; ``spent``: device
        seconds on graphics cards of the ended ones; ``left_seconds``: estimated for the others on
        one H100; and for each kind of device in :data:`DEVICES` a column of that name, the
        estimated device seconds of all planned runs, and ``<kind> basis``, what these rest on.
    """
    speeds = Speeds(*frames, timings=timings)
    rows = [row for row in _records(frames) if row["outcome"] in ENDED]
    ended = {row["run_id"]: row for row in rows}
    needs = {artefact.title: plan.together(artefact.sets, "paper") for artefact in artefacts}
    everything = {run.run_id: run for runs in needs.values() for run in runs}
    needs["All together"] = list(everything.values())
    lines = []
    for title, runs in needs.items():
        if not runs:
            continue
        there = [ended[run.run_id] for run in runs if run.run_id in ended]
        left = [run for run in runs if run.run_id not in ended]
        spent = [device_seconds(row) for row in there if row["device"] == "cuda"]
        line: dict[str, Any] = {
            "artefact": title,
            "planned": len(runs),
            "ended": len(there),
            "left": len(left),
            "spent": sum(seconds for seconds in spent if seconds == seconds),
            "left_seconds": speeds.total(left, H100)[0],
        }
        for kind in DEVICES:
            line[kind], line[f"{kind} basis"] = speeds.total(runs, kind)
        lines.append(line)
    return pd.DataFrame(lines)


def _records(frames: Iterable[pd.DataFrame]) -> list[dict[Hashable, Any]]:
    return [row for frame in frames for row in frame.to_dict("records")]


def _key(run: Run) -> tuple[str, str, str]:
    return run.task.name, run.model.name, describe_changes(run)


def _timed(row: Mapping[Any, Any]) -> tuple[Run, float] | None:
    """The run that a row of ``memnb bench`` tells of, and its device seconds; None for no run."""
    if row["suite"] not in ("step", "run") or row["outcome"] != "measured":
        return None
    try:
        run = run_config(row["model"], row["task"])
    except MemnbError:
        return None  # a block of one's own that is not registered here
    if (row["length"], row["batch"]) != (run.task.max_length, run.training.batch):
        return None
    if row["run"] is not None:
        seconds = row["run"]["whole"]
    else:
        training = run.training.steps * row["milliseconds"] / 1000
        seconds = row["first_step"] + training + _scored(run) / row["scored_per_second"]
    # The unit of a processor is one core; rows of before do not say how many were at work.
    cores = row["threads"] if row["device"] == "cpu" else 1
    # Of what a row does not say, the time is not known either.
    return None if pd.isna(cores) or pd.isna(seconds) else (run, cores * seconds)


def _likeness(run: Run, other: Run) -> tuple[bool, bool, bool, float]:
    """How much ``other`` says about the speed of ``run``: the larger, the more."""
    sizes = run.model.memory + 1, other.model.memory + 1
    return (
        run.task.name == other.task.name,
        run.preset == other.preset,
        run.model.family == other.model.family,
        -abs(math.log2(sizes[0] / sizes[1])),
    )


def _run_of(row: Mapping[Any, Any]) -> Run:
    # Numbers of a frame are NumPy's; the configs are strict.
    values = ((key, row[key]) for key in Model.model_fields)
    settings = {key: value.item() if hasattr(value, "item") else value for key, value in values}
    return run_config(row["model"], row["task"], int(row["seed"]), model_changes=settings)
