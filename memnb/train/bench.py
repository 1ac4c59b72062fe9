"""How long a training step takes and how much memory it needs, per model, task and length.

Every measurement runs in a process of its own, on made-up inputs of the task's shape: nothing is
downloaded, and neither memory nor compiled code is left over from the one before.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memnb import __version__
from memnb.config import Run, Task, run_config
from memnb.errors import unknown
from memnb.models.network import Network
from memnb.operations import step_operations
from memnb.tasks.base import Dataset, Split
from memnb.train.checkpoint import write_atomically
from memnb.train.cuda_graph import make_engine
from memnb.train.device import choose_device
from memnb.train.loop import commit_of_checkout, peak_memory
from memnb.train.sampler import EpochSampler

FORMAT = 1
SUITES = ("step", "length")
LENGTHS = (1_000, 4_000, 16_000, 64_000, 256_000, 1_048_576)
LONGEST = {"cuda": 1_048_576, "cpu": 16_000}  # what one has the patience for
LENGTH_MODELS = ("transformer", "luna-1", "luna-16", "luna-256", "convluna-1", "convluna-256")
EXAMPLES = 512  # in the made-up data set
WARM_UP = 5  # steps after the first one, not counted
REPEATS = 7  # timings, whose median and quartiles are kept
SECONDS = 1.0  # that one timing should last; then it holds as many steps as fit


@dataclass(frozen=True)
class Measurement:
    """One row of ``bench.jsonl``.

    Attributes:
        suite, task, model, length, batch: what was measured; ``length`` is that of one sequence.
        outcome: ``measured``, ``out of memory`` or ``failed: ...``; the numbers are then None.
        milliseconds, lower, upper: median and quartiles of the time of a training step.
        steps: how many steps were timed.
        peak_memory: bytes, of the device on CUDA, else of the process.
        first_step: seconds from the start to the end of the first step, compilation included.
        scored_per_second: examples per second in evaluation.
        operations: floating-point operations of a step, counted from the plain formulas.
    """

    suite: str
    task: str
    model: str
    length: int
    batch: int
    outcome: str
    milliseconds: float | None = None
    lower: float | None = None
    upper: float | None = None
    steps: int | None = None
    peak_memory: int | None = None
    first_step: float | None = None
    scored_per_second: float | None = None
    operations: float | None = None
    device: str = ""
    device_name: str = ""
    precision: str = ""
    engine: str = ""
    torch: str = ""
    version: str = __version__
    commit: str | None = None
    format: int = FORMAT


def plan(
    suite: str, models: Sequence[str], tasks: Sequence[str], longest: int = max(LENGTHS)
) -> Iterator[Run]:
    """The runs whose steps a suite measures.

    ``step``: each model on each task, in the task's own shape and batch. ``length``: Text's shape
    at batch 1, from 1,000 to ``longest`` tokens.

    Raises:
        MemnbError: no such suite, model or task.
    """
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    if suite == "step":
        for task, model in product(tasks, models):
            yield run_config(model, task)
        return
    for model, length in product(models, [each for each in LENGTHS if each <= longest]):
        yield run_config(
            model, "text", task_changes={"max_length": length}, training_changes={"batch": 1}
        )


def isolated(
    suite: str, run: Run, device: str = "auto", repeats: int = REPEATS, seconds: float = SECONDS
) -> Measurement:
    """:func:`measure` in a new process; one that dies is a row that says so.

    Raises:
        MemnbError: the device is not available.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(measure, suite, run, device, repeats, seconds).result()
        except concurrent.futures.process.BrokenProcessPool:
            return Measurement(**_where(suite, run, device), outcome="failed: the process died")


def _where(suite: str, run: Run, device: str) -> dict[str, Any]:
    chosen = choose_device(device)
    return {
        "suite": suite,
        "task": run.task.name,
        "model": run.model.name,
        "length": run.task.max_length,
        "batch": run.training.batch,
        "operations": step_operations(run),
        "device": chosen.kind,
        "device_name": chosen.name,
        "precision": chosen.precision,
        "torch": str(torch.__version__),
        "commit": commit_of_checkout(),
    }


def measure(
    suite: str, run: Run, device: str = "auto", repeats: int = REPEATS, seconds: float = SECONDS
) -> Measurement:
    """Time training steps and evaluation of ``run``, in this process.

    The length suite takes the plain loop: compiling anew for each length says nothing of length.

    Raises:
        MemnbError: the device is not available.
    """
    chosen = choose_device(device)
    begun = time.monotonic()
    kind = "eager" if suite == "length" else "auto"
    where = _where(suite, run, device)
    try:
        torch.manual_seed(run.seed)
        data = made_up(run.task, max(run.training.batch, EXAMPLES if suite == "step" else 1))
        engine = make_engine(kind, Network(run.model, run.task), data, run.training, chosen)
        sampler = EpochSampler(len(data.train), run.training.batch, run.seed)

        def timed(steps: int) -> float:
            batches = sampler.take(steps)
            engine.wait()
            start = time.perf_counter()
            engine.train(batches)
            engine.wait()
            return time.perf_counter() - start

        timed(1)
        first = time.monotonic() - begun
        once = timed(WARM_UP) / WARM_UP
        steps = max(1, min(200, round(seconds / once)))
        times = [1000 * timed(steps) / steps for _ in range(repeats)]
        peak = peak_memory(chosen)
        engine.evaluate(engine.validation)
        start = time.perf_counter()
        engine.evaluate(engine.validation)
        scored = len(engine.validation) / (time.perf_counter() - start)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        return Measurement(**where, outcome="out of memory")
    lower, middle, upper = statistics.quantiles(times, n=4)
    return Measurement(
        **where,
        outcome="measured",
        milliseconds=middle,
        lower=lower,
        upper=upper,
        steps=steps * repeats,
        peak_memory=peak,
        first_step=first,
        scored_per_second=scored,
        engine=engine.kind,
    )


def made_up(task: Task, examples: int) -> Dataset:
    """Random inputs of the task's shape and vocabulary, the same in every split."""
    random = np.random.default_rng(0)
    rows = (examples, 2) if task.layout == "pair" else (examples,)
    highest = min(task.vocabulary or 256, 256)
    inputs = random.integers(1, highest, (*rows, task.max_length), dtype=np.uint8)
    labels = random.integers(0, task.classes, examples)
    split = Split(inputs, np.full(rows, task.max_length, np.int32), labels)
    return Dataset(split, split, split)


def append(path: Path, row: Measurement) -> None:
    """Add a row to ``bench.jsonl``, whole or not at all.

    Raises:
        RunError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    write_atomically(path, before + json.dumps(asdict(row)).encode() + b"\n")
