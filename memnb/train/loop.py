"""From a config to a finished run folder, however often it is cut off.

The folder receives ``run.json`` (what was run, where, how it ended), ``metrics.jsonl``,
``probes.jsonl``, ``filters.jsonl``, ``removal.jsonl``, ``causal.jsonl``, ``usage.jsonl``,
``lengths.jsonl``, ``beginning.jsonl``, ``attention.npz`` and ``best.pt``; while it lasts also
checkpoints and a lock. A finished run is never run again; an interrupted one goes on by itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memnb import __version__, tasks
from memnb.config import Run, Training
from memnb.errors import OUT_OF_MEMORY, MemnbError, RunError, check_budget
from memnb.models.network import Network
from memnb.models.out_of_memory import out_of_memory
from memnb.models.registry import fingerprint
from memnb.probes.attention_maps import attention_maps
from memnb.probes.degradation import measure
from memnb.probes.filters import filter_state
from memnb.tasks import shown
from memnb.train import checkpoint, files
from memnb.train.cuda_graph import make_engine
from memnb.train.device import Device, choose_device, deterministic_sums, peak_memory
from memnb.train.engine import DeviceSplit, Engine, Interrupted, Stop
from memnb.train.examination import asked_of, look_closely
from memnb.train.folder import (
    Journal,
    locked,
    put_aside,
    refuse_another,
    refuse_another_block,
    refuse_other_data,
    remove_if_nothing_began,
)
from memnb.train.record import commit_of_code, has_ended, record_of
from memnb.train.sampler import EpochSampler

log = logging.getLogger(__name__)

RECORD_FORMAT = 1
SAVE_EVERY = 30.0  # seconds between checkpoints: what a power cut can cost
SAVE_SHARE = 0.004  # of a run's time may go into saving: a slow disk makes saves rarer
RESPOND_WITHIN = 0.5  # seconds of training between two looks at the clock and at should_stop
PROBES = 50  # how often, about, the memory is measured during a run
PROBE_SAMPLES = 8
LEAVING = 1.0  # seconds of a budget that are kept for what cannot be measured beforehand
DIVERGED = 10.0  # training loss, in units of the loss of a uniform guess


@dataclass(frozen=True)
class Progress:
    """How far a run is; ``accuracy`` is the last validation accuracy, None before the first."""

    step: int
    steps: int
    loss: float | None
    accuracy: float | None


class _Failure(Exception):
    """The run cannot give a result; the message is the reason that its row will carry."""


def train(
    run: Run,
    folder: str | Path,
    *,
    device: str = "auto",
    engine: str = "auto",
    deterministic: bool = False,
    side_by_side: int = 1,
    accumulate: int = 1,
    budget: float | None = None,
    progress: Callable[[Progress], None] | None = None,
    should_stop: Stop | None = None,
) -> dict[str, Any]:
    """Train ``run`` in ``folder``, or go on with it, and return the content of its ``run.json``.

    Args:
        run: what to train.
        folder: the run's own folder; made if missing.
        device: ``auto``, ``cpu`` or ``cuda``.
        engine: ``auto`` (the fastest that the device allows), ``eager``, ``captured`` (not
            compiled) or ``graph``.
        deterministic: use only kernels whose sums have a fixed order, which on CUDA may be slower;
            the CPU always does.
        side_by_side: how many runs share the device; recorded, and reckoned in ``device_seconds``.
        accumulate: work each batch through in so many equal parts, adding their gradients: the same
            batch in less memory.
        budget: seconds that the call may take: the run saves and stops before they are over, as
            soon as one more look at the clock could be too late; it goes on at the next call.
        progress: called about twice a second.
        should_stop: asked about twice a second; once true, the run saves and stops.

    Returns:
        The record; ``outcome`` is ``finished``, ``failed`` (with a ``reason``: NaN, divergence, or
        out of memory) or ``interrupted``.

    Raises:
        RunInUse: another process trains this run.
        RunError: the folder cannot be written, cannot be locked, or holds another run or one of
            another version of a user's block.
        DataError: the task's data are missing or damaged.
        MemnbError: the device is not available, ``accumulate`` does not divide the batch, another
            number is none that can be meant, or a block of a user's raised an exception.
    """
    _check_numbers(side_by_side, accumulate, budget)
    folder = Path(folder)
    deadline = None if budget is None else time.monotonic() + budget
    made = not folder.exists()
    held = locked(run, folder)
    try:
        record = record_of(folder)
        if record is None:
            put_aside(folder / "run.json")
        refuse_another(run, folder, record)
        refuse_another_block(run, folder, record)
        if record is not None and has_ended(record):
            return record
        devices = range(torch.cuda.device_count())
        with deterministic_sums(deterministic), torch.random.fork_rng(devices=devices):
            chosen = choose_device(device)
            if chosen.kind == "cuda":
                torch.cuda.reset_peak_memory_stats()  # a process may train several runs
            trainer = _Trainer(
                run, folder, chosen, engine, accumulate, progress, should_stop, deadline, record
            )
            trainer.record["side_by_side"] = side_by_side
            return trainer.go()
    except OSError as error:
        raise RunError(files.explain(folder, error)) from None
    finally:
        if made:  # under the lock: afterwards another process may have begun in it
            remove_if_nothing_began(folder)
        held.release()


def _check_numbers(side_by_side: object, accumulate: object, budget: object) -> None:
    """What would otherwise be found out in the middle of a run, or by who reads its record."""
    for name, value in (("side_by_side", side_by_side), ("accumulate", accumulate)):
        if type(value) is not int or value < 1:
            raise MemnbError(f"{name} is a whole number from 1 on, but got {value!r}; give one.")
    check_budget(budget)


def looks(training: Training) -> list[int]:
    """Steps at which the memory is measured: before the first one, after the first evaluation, then
    evenly spaced, after the last one."""
    every = training.evaluate_every
    stride = every * -(-training.steps // (every * PROBES))
    steps = {0, min(every, training.steps), *range(stride, training.steps, stride), training.steps}
    return sorted(steps)


class _Trainer:
    """One call of :func:`train`, after the lock is held."""

    def __init__(
        self,
        run: Run,
        folder: Path,
        device: Device,
        engine: str,
        parts: int,
        progress: Callable[[Progress], None] | None,
        should_stop: Stop | None,
        deadline: float | None,
        record: dict[str, Any] | None,
    ) -> None:
        self.run, self.folder, self.device = run, folder, device
        self.progress, self.should_stop, self.deadline = progress, should_stop, deadline
        self.started = time.monotonic()
        self.kind, self.parts = engine, parts
        self._engine: Engine | None = None
        self.parameters: int | None = None
        self.metrics = Journal(folder / "metrics.jsonl")
        self.probes = Journal(folder / "probes.jsonl")
        self.filters = Journal(folder / "filters.jsonl")
        self.best: dict[str, Any] = {"step": 0, "accuracy": -1.0, "loss": None, "network": None}
        self.evaluated = 0  # step of the last evaluation
        # Of earlier calls; ``device`` is what _device_seconds counts.
        self.seconds = dict.fromkeys(("total", "device", "training", "evaluation", "saving"), 0.0)
        self.resumed = 0
        self.machines: list[dict[str, Any]] = []  # where it was trained, from which step
        self.begun = False  # whether run.json says that it runs
        self.saved = time.monotonic()  # when the last checkpoint was written
        self.save_cost = 0.0  # seconds that it took
        self.lap = RESPOND_WITHIN  # seconds that training took between the last two looks
        self.record = self._new_record(record)
        self.earlier = record

    @property
    def engine(self) -> Engine:
        """The engine; there is one as soon as :meth:`_start` is done."""
        assert self._engine is not None
        return self._engine

    def _start(self) -> None:
        data = tasks.load(self.run.task)
        digest = data.digest()
        refuse_other_data(self.run, self.folder, self.earlier, digest)
        self.record["data"] = digest
        torch.manual_seed(self.run.seed)
        network = Network(self.run.model, self.run.task)
        self.parameters = network.parameter_count()
        training = self.run.training
        self.sampler = EpochSampler(len(data.train), training.batch, self.run.seed)
        self._engine = make_engine(self.kind, network, data, training, self.device, self.parts)
        # When the memory is measured, and on which examples: of every label.
        self.looks = frozenset(looks(training))
        self.looked_at = asked_of(self._engine.validation, PROBE_SAMPLES, PROBE_SAMPLES)

    def go(self) -> dict[str, Any]:
        """Resume if there is something to resume, train, test, and write the record."""
        try:
            self._start()
            self._resume()
            self._say_where()
            self._write_record(outcome="running")
            self.begun = True
            log.info("%s: %s", self.run.run_id, self.device.reason)
            begun = self.engine.step
            stopped = self._train()
            if stopped is None or not self._finish(stopped):
                if self.deadline is not None and self.engine.step == begun and not self._asked():
                    log.warning("The budget was too short to get any further; give more time.")
                return self._write_record(outcome="interrupted")
        except _Failure as failure:
            log.warning("%s failed: %s", self.run.run_id, failure)
            self._write_record(outcome="failed", reason=str(failure))
        except (Exception, KeyboardInterrupt) as error:
            if not out_of_memory(error):
                if self.begun:  # nobody must take it for a run that is being trained
                    with contextlib.suppress(RunError):  # what went wrong first is what is told
                        self._write_record(outcome="interrupted")
                raise
            log.warning("%s: %s", self.run.run_id, error)
            self._write_record(outcome="failed", reason=self._want_of_memory())
        # No checkpoint of a run that has ended, failed or not, is ever read again. One that ran out
        # of memory has not: it goes on from its last.
        if has_ended(self.record):
            files.drop_checkpoints(self.folder)
        return self.record

    def _want_of_memory(self) -> str:
        """Why a run that ran out of memory failed, and what may help."""
        if self.parameters is None:  # the data or the network alone were too much
            return f"{OUT_OF_MEMORY} before the first batch; use a device with more memory"
        batch = self.run.training.batch
        more = [parts for parts in range(self.parts + 1, batch + 1) if batch % parts == 0]
        if not more:
            return f"{OUT_OF_MEMORY}; use a device with more memory"
        return (
            f"{OUT_OF_MEMORY}; the same batch fits in parts (memnb train --accumulate {more[0]}), "
            "or use a device with more memory"
        )

    # --- the loop ----------------------------------------------------------------------------

    def _train(self) -> str | None:
        """Train to the end; why it ended (``steps`` or ``patience``), None if interrupted."""
        training = self.run.training
        if self.engine.step == 0 and not self.probes.rows:
            begun = time.monotonic()
            self._look(0)
            self.seconds["evaluation"] += time.monotonic() - begun
        while True:
            step = self.engine.step
            due = step % training.evaluate_every == 0 or step == training.steps
            if due and step > self.evaluated:
                try:
                    self._evaluate()
                except Interrupted:
                    self._save()
                    return None
            if self.evaluated - self.best["step"] >= training.patience * training.evaluate_every:
                return "patience"
            if step == training.steps:
                return "steps"
            if self._stop():
                self._save()
                return None
            if time.monotonic() - self.saved > max(SAVE_EVERY, self.save_cost / SAVE_SHARE):
                self._save()
            self._advance(training.steps)

    def _asked(self) -> bool:
        return self.should_stop is not None and self.should_stop()

    def _stop(self) -> bool:
        """Whether to save and stop: somebody asks for it, or the next look could be too late."""
        if self._asked():
            return True
        # Twice, because what was measured last is only a guess at what comes next.
        needed = 2 * (self.lap + self.save_cost) + LEAVING
        return self.deadline is not None and time.monotonic() + needed >= self.deadline

    def _advance(self, steps: int) -> None:
        """Some steps, at most to the next evaluation, for about ``RESPOND_WITHIN`` seconds."""
        every = self.run.training.evaluate_every
        begun, first = time.monotonic(), self.engine.step
        target = min(steps, (first // every + 1) * every)
        while self.engine.step < target:
            chunk = min(self.engine.chunk, target - self.engine.step)
            self.engine.train(self.sampler.take(chunk))
            if time.monotonic() - begun > RESPOND_WITHIN:
                break
        self.engine.wait()
        self.lap = time.monotonic() - begun
        self.seconds["training"] += self.lap
        self._tell(None)

    def _evaluate(self) -> None:
        begun = time.monotonic()
        step = self.engine.step
        loss, accuracy = self.engine.evaluate(self.engine.validation, self._stop)
        train_loss, train_accuracy = self.engine.report()
        now = self._total_seconds()
        self.metrics.add(
            {"step": step, "split": "train", "loss": _finite(train_loss),
             "accuracy": train_accuracy, "lr": self.engine.learning_rate, "seconds": now}
        )  # fmt: skip
        self._check(train_loss, loss)
        self.metrics.add(
            {"step": step, "split": "validation", "loss": loss, "accuracy": accuracy,
             "seconds": now}
        )  # fmt: skip
        self.evaluated = step
        if accuracy > self.best["accuracy"]:
            weights = {k: v.clone() for k, v in self.engine.network.state_dict().items()}
            self.best = {"step": step, "accuracy": accuracy, "loss": loss, "network": weights}
        if step in self.looks:
            self._look(step)
            self._watch_filters(step)
        self.seconds["evaluation"] += time.monotonic() - begun
        self._tell(train_loss)

    def _check(self, train_loss: float, validation_loss: float) -> None:
        """Raises _Failure on a loss that no longer means anything."""
        if not (math.isfinite(train_loss) and math.isfinite(validation_loss)):
            raise _Failure(f"the loss is not a finite number at step {self.engine.step}")
        if train_loss > DIVERGED * math.log(self.run.task.classes):
            raise _Failure(
                f"the training loss diverged to {train_loss:.3g} at step {self.engine.step}"
            )

    def _look(self, step: int) -> None:
        """Measure the memory, if there is one, on a few examples of the validation set."""
        split, some = self.engine.validation, self.looked_at
        network = self.engine.network
        for row in measure(network, split.inputs[some], split.lengths[some], split.labels[some]):
            self.probes.add({"step": step, **row})

    def _watch_filters(self, step: int) -> None:
        for row in filter_state(self.engine.network):
            self.filters.add({"step": step, **row})

    def _finish(self, stopped: str) -> bool:
        """Score the best weights on the test set and look at their memory.

        Returns:
            False if it was to stop before the end; then nothing has changed but the checkpoint.
        """
        begun = time.monotonic()
        network, test = self.engine.network, self.engine.test
        last = {k: v.clone() for k, v in network.state_dict().items()}
        network.load_state_dict(self.best["network"])
        try:
            loss, accuracy = self.engine.evaluate(test, self._stop)
            found = look_closely(self.engine, test, self.run.seed, self._stop)
            self._keep_attention(network)
        except Interrupted:
            network.load_state_dict(last)
            self._save()
            return False
        if not math.isfinite(loss):
            raise _Failure("the loss on the test set is not a finite number")
        self.metrics.add(
            {"step": self.best["step"], "split": "test", "loss": loss, "accuracy": accuracy,
             "seconds": self._total_seconds()}
        )  # fmt: skip
        for name, rows in found.items():
            Journal(self.folder / name).restore(rows)
        weights = {name: value.cpu() for name, value in network.state_dict().items()}
        files.write_atomically(self.folder / "best.pt", checkpoint.to_bytes(weights))
        network.load_state_dict(last)  # the engine's state is again that of one step, the last
        self.seconds["evaluation"] += time.monotonic() - begun
        self._write_record(
            outcome="finished", stopped=stopped, test_loss=loss, test_accuracy=accuracy
        )
        return True

    def _keep_attention(self, network: Network) -> None:
        own = shown.own(self.run.task)
        split = self.engine.validation if own is None else DeviceSplit(own, self.device.kind)
        arrays = attention_maps(network, split.inputs[0], split.lengths[0], split.labels[0])
        if arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
            files.write_atomically(self.folder / "attention.npz", buffer.getvalue())

    # --- saving and resuming -----------------------------------------------------------------

    def _save(self) -> None:
        begun = time.monotonic()
        state = {
            "run_id": self.run.run_id,
            "engine": self.engine.state(),
            "sampler": self.sampler.state(),
            "best": self.best,
            "evaluated": self.evaluated,
            "metrics": self.metrics.rows,
            "probes": self.probes.rows,
            "filters": self.filters.rows,
            "seconds": {
                **self.seconds,
                "total": self._total_seconds(),
                "device": self._device_seconds(),
            },
            "resumed": self.resumed,
            "machines": self.machines,
        }
        checkpoint.save(self.folder, self.engine.step, state)
        self.saved = time.monotonic()
        self.save_cost = self.saved - begun
        self.seconds["saving"] += self.save_cost
        log.info("%s: step %d saved in %.3f s.", self.run.run_id, self.engine.step, self.save_cost)

    def _resume(self) -> None:
        files.drop_unfinished(self.folder)
        state = checkpoint.load_newest(self.folder)
        if state is None:
            self.metrics.restore([])
            self.probes.restore([])
            if filter_state(self.engine.network):
                self.filters.restore([])
                self._watch_filters(0)
            return
        if state.get("run_id") != self.run.run_id:
            raise RunError(
                f"{self.folder} holds a checkpoint of {state.get('run_id')}, but the run is "
                f"{self.run.run_id}; choose another folder with --out."
            )
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            log.debug("the checkpoint does not fit", exc_info=True)
            raise RunError(
                f"The newest checkpoint in {self.folder} does not fit this run "
                f"({type(error).__name__}); remove the checkpoint files to start it again."
            ) from None
        log.info("%s goes on from step %d.", self.run.run_id, self.engine.step)

    def _restore(self, state: dict[str, Any]) -> None:
        self.engine.restore(state["engine"])
        self.sampler.restore(state["sampler"])
        self.best = state["best"]
        self.evaluated = state["evaluated"]
        self.metrics.restore(state["metrics"])
        self.probes.restore(state["probes"])
        if state.get("filters"):  # a checkpoint from before they were watched has none
            self.filters.restore(state["filters"])
        # Older checkpoints know fewer kinds; how the device was shared, they do not say.
        before = {"device": state["seconds"]["total"] * self._share()}
        self.seconds |= {**before, **state["seconds"]}
        self.resumed = state["resumed"] + 1
        # A checkpoint from before they were listed: the record that lies beside it knows the last.
        self.machines = state.get("machines") or [_machine(self.earlier or {}, 0)]

    # --- the record --------------------------------------------------------------------------

    def _say_where(self) -> None:
        """List this machine, unless the run goes on where it was; drop those that did no step, and
        leave out one that only tests."""
        step = self.engine.step
        here = _machine({**self.record, "engine": self.engine.kind}, step)
        self.machines = [one for one in self.machines if one["from_step"] < step]
        if not self.machines or (
            here != {**self.machines[-1], "from_step": step} and step < self.run.training.steps
        ):
            self.machines.append(here)

    def _new_record(self, earlier: dict[str, Any] | None) -> dict[str, Any]:
        block = fingerprint(self.run.model.kind)
        return {
            "format": RECORD_FORMAT,
            "run_id": self.run.run_id,
            "config": self.run.model_dump(),
            "preset": self.run.preset,
            "version": __version__,
            "commit": commit_of_code(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "device": self.device.kind,
            "device_name": self.device.name,
            "precision": self.device.precision,
            "deterministic": (
                self.device.kind == "cpu" or torch.are_deterministic_algorithms_enabled()
            ),
            "accumulate": self.parts,
            "threads": torch.get_num_threads(),
            "started": (earlier or {}).get("started") or _now(),
            **({} if block is None else {"block": block}),
        }

    def _write_record(self, **changes: Any) -> dict[str, Any]:
        reached = self.best["step"] > 0
        ended = changes["outcome"] in ("finished", "failed")
        if ended and self.begun:
            for journal in (self.metrics, self.probes, self.filters):
                if journal.path.exists():
                    journal.write()
        state = {
            "outcome": "running",
            "reason": None,
            "stopped": None,
            "parameters": self.parameters,
            "engine": None if self._engine is None else self._engine.kind,
            "step": 0 if self._engine is None else self._engine.step,
            "best_step": self.best["step"] if reached else None,
            "validation_accuracy": self.best["accuracy"] if reached else None,
            "validation_loss": self.best["loss"],
            "test_accuracy": None,
            "test_loss": None,
            "finished": _now() if ended else None,
            "seconds": self._total_seconds(),
            "device_seconds": self._device_seconds(),
            "seconds_training": self.seconds["training"],
            "seconds_evaluation": self.seconds["evaluation"],
            "seconds_saving": self.seconds["saving"],
            "peak_memory": peak_memory(self.device),
            "resumed": self.resumed,
            "machines": self.machines,
        }
        self.record = {**self.record, **state, **changes}
        text = json.dumps(self.record, indent=1) + "\n"
        files.write_atomically(self.folder / "run.json", text.encode())
        return self.record

    def _total_seconds(self) -> float:
        return self.seconds["total"] + time.monotonic() - self.started

    def _device_seconds(self) -> float:
        """Seconds of a whole card, or of one core: each call had its own share of a device."""
        return self.seconds["device"] + (time.monotonic() - self.started) * self._share()

    def _share(self) -> float:
        """Of this call: cores at work, or the part of a card."""
        if self.device.kind == "cpu":
            return float(self.record["threads"])
        return 1 / float(self.record["side_by_side"])

    def _tell(self, loss: float | None) -> None:
        if self.progress is not None:
            accuracy = self.metrics.rows[-1]["accuracy"] if self.metrics.rows else None
            self.progress(Progress(self.engine.step, self.run.training.steps, loss, accuracy))


def _machine(record: dict[str, Any], step: int) -> dict[str, Any]:
    """What a record says of the machine and the code, for the steps from ``step`` on."""
    of_it = ("device_name", "precision", "engine", "version", "commit", "torch")
    return {"from_step": step, **{key: record.get(key) for key in of_it}}


def _finite(value: float) -> float | None:
    """JSON has no NaN: a loss that is none becomes null."""
    return value if math.isfinite(value) else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
