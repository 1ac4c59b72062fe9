"""How long a training step takes, where its time goes and how much memory it needs.

Measurements run in a process of their own, on made-up inputs of the task's shape: nothing is
downloaded, and neither memory nor compiled code is left over from the one before. Only the lengths
of one model share a process, since a start takes longer than a measurement there. Compilation takes
longest; several processes may do it side by side, and are then timed one after another.
"""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import gc
import json
import logging
import multiprocessing
import signal
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from pathlib import Path
from typing import Any, TypeVar

import torch

from memnb import __version__
from memnb.config import Run, run_config
from memnb.errors import OUT_OF_MEMORY, MemnbError, RunError, died_at_start, unknown
from memnb.files import lock
from memnb.models.network import Network
from memnb.models.out_of_memory import out_of_memory
from memnb.models.registry import raised
from memnb.operations import evaluations, examples_scored, step_bytes, step_operations
from memnb.probes.degradation import measure as measure_memory
from memnb.tasks.base import made_up
from memnb.train import checkpoint
from memnb.train.cuda_graph import make_engine
from memnb.train.device import Device, choose_device, peak_memory
from memnb.train.engine import Engine
from memnb.train.examination import look_closely
from memnb.train.files import explain, write_atomically
from memnb.train.loop import PROBE_SAMPLES, SAVE_EVERY, SAVE_SHARE, looks
from memnb.train.record import commit_of_code
from memnb.train.sampler import EpochSampler

log = logging.getLogger(__name__)
Result = TypeVar("Result")
FORMAT = 1
SUITES = ("step", "length", "run")
LENGTHS = (1_000, 4_000, 16_000, 64_000, 256_000, 1_048_576)
LONGEST = {"cuda": 1_048_576, "cpu": 16_000}  # what one has the patience for
LENGTH_MODELS = ("transformer", "luna-1", "luna-16", "luna-256", "convluna-1", "convluna-256")
EXAMPLES = 512  # in the made-up data set
WARM_UP = 5  # steps after the first one, not counted
REPEATS = 7  # timings, whose median and quartiles are kept
SECONDS = 1.0  # that one timing should last; then it holds as many steps as fit
PROFILED = 4  # steps whose kernels are timed one by one
KERNELS = 40  # of a profile, the longest; the others are one row
RUN_MODELS = ("luna-256",)


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
        side_by_side: how many measurements were compiled at a time, which ``first_step`` feels.
        scored_per_second: examples per second in evaluation.
        operations: floating-point operations of a step, counted from the plain formulas.
        bytes: the least that a step must move (:func:`memnb.operations.step_bytes`).
        kernels: on CUDA, of the step suite: the longest kernels of a step, each with its name, how
            often it runs and its milliseconds; the last one is all others together.
        run: of the run suite: seconds of a whole run, put together from parts that were timed once
            each: ``start`` (to the end of the first step, compilation included), ``training`` (all
            steps, at the median time of one), ``evaluation`` (all of them, and the compilation of
            the first), ``probes`` (all looks at the memory), ``examination`` (what the trained
            network is asked at the end, the validation set standing for the test set), ``saves``
            (all checkpoints, as rare as training makes them) and ``whole``, the sum.
        threads: of the processor, that PyTorch may use.
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
    side_by_side: int = 1
    scored_per_second: float | None = None
    operations: float | None = None
    bytes: float | None = None
    kernels: list[dict[str, Any]] | None = None
    run: dict[str, float] | None = None
    device: str = ""
    device_name: str = ""
    precision: str = ""
    engine: str = ""
    threads: int | None = None
    torch: str = ""
    version: str = __version__
    commit: str | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class Ceilings:
    """What the device reaches at its best; the row of ``bench.jsonl`` whose suite is ``ceilings``.

    Attributes:
        bandwidth: bytes per second, read and written, when copying memory.
        matrix_rate: operations per second of a product of large matrices, in the precision used.
    """

    bandwidth: float
    matrix_rate: float
    device: str
    device_name: str
    precision: str
    torch: str
    suite: str = "ceilings"
    version: str = __version__
    commit: str | None = None
    format: int = FORMAT


def plan(
    suite: str, models: Sequence[str], tasks: Sequence[str], longest: int = max(LENGTHS)
) -> Iterator[Run]:
    """The runs whose steps a suite measures.

    ``step`` and ``run``: each model on each task, in the task's own shape and batch. ``length``:
    Text's shape at batch 1, from 1,000 to ``longest`` tokens.

    Raises:
        MemnbError: no such suite, model or task.
    """
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    if suite != "length":
        for task, model in product(tasks, models):
            yield run_config(model, task)
        return
    for model, length in product(models, [each for each in LENGTHS if each <= longest]):
        yield run_config(
            model, "text", task_changes={"max_length": length}, training_changes={"batch": 1}
        )


def apart(action: Callable[..., Result], *given: Any) -> Result:
    """Call ``action`` in a process of its own.

    Raises:
        RunError: the process died.
        Exception: whatever ``action`` raises.
    """
    with _process() as pool:
        try:
            return pool.submit(action, *given).result()
        except concurrent.futures.process.BrokenProcessPool:
            raise died_at_start("A process of the benchmark") from None


def _process() -> concurrent.futures.ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    # A terminal's Ctrl-C reaches every process of the group: this one ends without a word.
    at_once = (signal.SIGINT, signal.SIG_DFL)
    return concurrent.futures.ProcessPoolExecutor(1, context, signal.signal, at_once)


def isolated(
    suite: str,
    runs: Sequence[Run],
    device: str = "auto",
    repeats: int = REPEATS,
    seconds: float | None = None,
    jobs: int = 1,
) -> Iterator[Measurement]:
    """:func:`measure` each run in a new process, those of the length suite in one per model.

    ``jobs`` processes at a time build and compile side by side; all of them wait while one is
    timed. A process that dies, or whose model raises an exception, is a row that says so.

    Raises:
        MemnbError: the device is not available.
    """
    seconds = seconds or (SECONDS / 4 if suite == "length" else SECONDS)
    if suite == "length":
        for _, group in groupby(runs, key=lambda run: run.model.name):
            yield from _lengths(list(group), device, repeats, seconds)
        return
    for start in range(0, len(runs), jobs):
        part = runs[start : start + jobs]
        with contextlib.ExitStack() as stack:
            pools = [stack.enter_context(_process()) for _ in part]
            begun = [
                pool.submit(_prepare_here, suite, run, device)
                for pool, run in zip(pools, part, strict=True)
            ]
            concurrent.futures.wait(begun)
            for pool, run, ready in zip(pools, part, begun, strict=True):
                try:
                    ready.result()
                    row = pool.submit(_finish_here, repeats, seconds).result()
                    yield replace(row, side_by_side=len(part))
                except Exception as error:  # of a process that dies, or of a user's block
                    yield _failed(suite, run, device, error)
                pool.shutdown()  # what it holds of the device is free for the next


def _lengths(
    waiting: list[Run], device: str, repeats: int, seconds: float
) -> Iterator[Measurement]:
    while waiting:
        with _process() as pool:
            try:
                while waiting:
                    yield pool.submit(
                        measure, "length", waiting[0], device, repeats, seconds
                    ).result()
                    waiting.pop(0)
            except Exception as error:  # the next length has a new process
                yield _failed("length", waiting.pop(0), device, error)


def _failed(suite: str, run: Run, device: str, error: Exception) -> Measurement:
    log.info("%s on %s failed", run.model.name, run.task.name, exc_info=error)
    if isinstance(error, concurrent.futures.process.BrokenProcessPool):
        why = "the process died"
    else:
        why = str(error) if isinstance(error, MemnbError) else raised(error)
    # Where the device is not available, this says so again, and no row is made.
    return Measurement(**apart(_where, suite, run, device), outcome=f"failed: {why}")


def _where(suite: str, run: Run, device: str) -> dict[str, Any]:
    chosen = choose_device(device)
    return {
        "suite": suite,
        "task": run.task.name,
        "model": run.model.name,
        "length": run.task.max_length,
        "batch": run.training.batch,
        "operations": step_operations(run),
        "bytes": step_bytes(run),
        "device": chosen.kind,
        "device_name": chosen.name,
        "precision": chosen.precision,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "commit": commit_of_code(),
    }


@dataclass(frozen=True)
class _Prepared:
    """A measurement whose engine has made its first step and its first evaluation."""

    suite: str
    run: Run
    device: Device
    engine: Engine
    sampler: EpochSampler
    first_step: float
    first_evaluation: float
    peak_memory: int

    def train(self, steps: int) -> float:
        """Seconds of ``steps`` steps."""
        batches = self.sampler.take(steps)
        self.engine.wait()
        start = time.perf_counter()
        self.engine.train(batches)
        self.engine.wait()
        return time.perf_counter() - start


# In a process of its own, between its two calls.
_prepared: _Prepared | Measurement | None = None


def _prepare_here(suite: str, run: Run, device: str) -> None:
    global _prepared
    _prepared = _prepare(suite, run, device)


def _finish_here(repeats: int, seconds: float) -> Measurement:
    assert _prepared is not None
    return _finish(_prepared, repeats, seconds)


def measure(
    suite: str, run: Run, device: str = "auto", repeats: int = REPEATS, seconds: float = SECONDS
) -> Measurement:
    """Time training steps and evaluation of ``run``, in this process.

    The length suite does not compile, which would be done anew for each length and says nothing of
    length; on CUDA its steps are captured all the same, or short ones would measure Python.

    Raises:
        MemnbError: the device is not available.
    """
    return _finish(_prepare(suite, run, device), repeats, seconds)


def _prepare(suite: str, run: Run, device: str) -> _Prepared | Measurement:
    """All that takes time once; the row itself if it needs more memory than there is."""
    chosen = choose_device(device)
    begun = time.monotonic()
    kind = "auto"
    if suite == "length":
        kind = "captured" if chosen.kind == "cuda" else "eager"
    if chosen.kind == "cuda":  # what the length before this one held
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    examples = max(run.training.batch, 1 if suite == "length" else EXAMPLES)
    scored = examples_scored(run.task) if suite == "run" else examples
    try:
        torch.manual_seed(run.seed)
        data = made_up(run.task, examples, scored)
        engine = make_engine(kind, Network(run.model, run.task), data, run.training, chosen)
        sampler = EpochSampler(len(data.train), run.training.batch, run.seed)
        engine.train(sampler.take(1))
        engine.wait()
        first = time.monotonic() - begun
        peak = peak_memory(chosen)  # of training: evaluation comes next
        evaluation = _seconds(engine.evaluate, engine.validation)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return Measurement(**_where(suite, run, device), outcome=OUT_OF_MEMORY)
    return _Prepared(suite, run, chosen, engine, sampler, first, evaluation, peak)


def _finish(prepared: _Prepared | Measurement, repeats: int, seconds: float) -> Measurement:
    """What is timed, which wants the device to itself."""
    if isinstance(prepared, Measurement):
        return prepared
    suite, run, engine = prepared.suite, prepared.run, prepared.engine
    where = _where(suite, run, prepared.device.kind)
    try:
        once = prepared.train(1)
        if once < seconds:
            once = prepared.train(WARM_UP) / WARM_UP
        steps = max(1, min(200, round(seconds / once)))
        times = [1000 * prepared.train(steps) / steps for _ in range(repeats)]
        lower, middle, upper = statistics.quantiles(times, n=4)
        evaluation = _seconds(engine.evaluate, engine.validation)
        kernels = whole = None
        if suite == "step" and prepared.device.kind == "cuda":
            kernels = _profile(lambda: engine.train(prepared.sampler.take(PROFILED)))
        if suite == "run":
            whole = _whole_run(prepared, middle, evaluation)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return Measurement(**where, outcome=OUT_OF_MEMORY)
    return Measurement(
        **where,
        outcome="measured",
        milliseconds=middle,
        lower=lower,
        upper=upper,
        steps=steps * repeats,
        peak_memory=prepared.peak_memory,
        first_step=prepared.first_step,
        scored_per_second=len(engine.validation) / evaluation,
        kernels=kernels,
        run=whole,
        engine=engine.kind,
    )


def _seconds(action: Callable[..., Any], *given: Any) -> float:
    start = time.perf_counter()
    action(*given)
    return time.perf_counter() - start


def _whole_run(prepared: _Prepared, milliseconds: float, evaluation: float) -> dict[str, float]:
    run, engine, first = prepared.run, prepared.engine, prepared.first_step
    training = run.training
    split, part = engine.validation, slice(0, PROBE_SAMPLES)

    def probe() -> None:
        measure_memory(engine.network, split.inputs[part], split.lengths[part], split.labels[part])

    with tempfile.TemporaryDirectory() as folder:
        save = _seconds(lambda: checkpoint.save(Path(folder), 1, {"engine": engine.state()}))
    probes = len(looks(training)) if run.model.memory else 0
    if probes:
        probe()  # the first one loads what the others find loaded
    each = _seconds(probe) if probes else 0.0
    steps = training.steps * milliseconds / 1000
    scoring = prepared.first_evaluation + evaluations(run) * evaluation  # the test set once more
    examination = _seconds(look_closely, engine, split, run.seed)
    parts = {
        "start": first,
        "training": steps,
        "evaluation": scoring,
        "probes": probes * each,
        "examination": examination,
        "saves": save * (first + steps + scoring) / max(SAVE_EVERY, save / SAVE_SHARE),
    }
    return {**parts, "whole": sum(parts.values())}


def _profile(steps: Callable[[], None]) -> list[dict[str, Any]]:
    """The kernels of ``PROFILED`` steps, per step, the longest first, the rest as one."""
    from torch.profiler import ProfilerActivity, profile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler warns of its own coming changes
        with profile(activities=[ProfilerActivity.CUDA]) as trace:
            steps()
            torch.cuda.synchronize()
        found = [
            {
                "name": event.key[:200],
                "calls": event.count / PROFILED,
                "milliseconds": event.device_time_total / 1000 / PROFILED,
            }
            for event in trace.key_averages()
        ]
    found.sort(key=lambda kernel: -kernel["milliseconds"])
    rest = found[KERNELS:]
    others = {key: sum(kernel[key] for kernel in rest) for key in ("calls", "milliseconds")}
    return [*found[:KERNELS], {"name": "all others", **others}]


def ceilings(device: str = "auto", size: int | None = None) -> Ceilings:
    """Copy memory and multiply matrices, the two things a step is made of, as fast as it goes.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        size: rows of the matrices (default: 8192 on CUDA, 1024 elsewhere), whose square in KiB is
            what is copied.

    Raises:
        MemnbError: the device is not available.
    """
    chosen = choose_device(device)
    cuda = chosen.kind == "cuda"
    size = size or (8192 if cuda else 1024)
    kind = torch.bfloat16 if chosen.precision == "bf16" else torch.float32
    matrix = torch.randn(size, size, device=chosen.kind, dtype=kind)
    source = torch.zeros(16 * size**2, device=chosen.kind, dtype=torch.uint8)
    target = torch.empty_like(source)

    def fastest(action: Callable[[], object]) -> float:
        times = []
        for _ in range(10):
            start = time.perf_counter()
            action()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    return Ceilings(
        bandwidth=2 * source.nbytes / fastest(lambda: target.copy_(source)),
        matrix_rate=2 * size**3 / fastest(lambda: matrix @ matrix),
        device=chosen.kind,
        device_name=chosen.name,
        precision=chosen.precision,
        torch=str(torch.__version__),
        commit=commit_of_code(),
    )


def append(path: Path, row: Measurement | Ceilings) -> None:
    """Add a row to ``bench.jsonl``, whole or not at all; of several processes, one at a time.

    Raises:
        RunError: the file cannot be written or locked.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = lock(path.with_name(path.name + ".lock"))
    except OSError as error:
        raise RunError(explain(path, error)) from None
    try:
        before = path.read_bytes() if path.exists() else b""
        if before and not before.endswith(b"\n"):  # by an editor, or put together by hand
            before += b"\n"
        write_atomically(path, before + json.dumps(asdict(row)).encode() + b"\n")
    finally:
        held.release()
