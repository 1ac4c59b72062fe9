"""On a Ray cluster: each run is a task with its share of a graphics card.

A task that loses its machine is started again by Ray on another one, where it goes on from the
newest checkpoint in the store. What a run's progress is, and whether to stop, passes through one
small actor on the caller's machine.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memnb.errors import RunError, first_line
from memnb.reproduce import workers
from memnb.reproduce.trainer import Watch
from memnb.reproduce.workers import Ended
from memnb.sweep import remote
from memnb.sweep.local import RUNS_PER_CARD
from memnb.sweep.work import Work

_ASK_EVERY = 1.0  # seconds between two looks of a machine at whether to stop
_LISTEN_EVERY = 0.5
_GRACE = 60.0  # seconds between asking a run to stop and killing it


@dataclass(frozen=True)
class Cluster:
    """How runs are spread over a Ray cluster.

    Attributes:
        address: of the cluster, as ``ray.init`` takes it; None for the one that RAY_ADDRESS names,
            else one on this machine.
        gpus, cpus: of each run; None: half a card if the cluster has any, else none.
        retries: how often a run may lose its machine before it is given up.
    """

    address: str | None = None
    gpus: float | None = None
    cpus: int = 1
    retries: int = 3


def train(work: Work, cluster: Cluster) -> dict[str, Ended]:
    """Train on a cluster, and say how each run ended.

    Raises:
        RunError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = _ray()
    _connect(ray, cluster.address)
    gpus = cluster.gpus
    if gpus is None:
        gpus = 1 / RUNS_PER_CARD if ray.cluster_resources().get("GPU") else 0
    settings = {
        "device": "cuda" if gpus else "cpu",
        "threads": cluster.cpus,
        "side_by_side": max(1, int(1 / gpus + 1e-6)) if gpus else 1,
    }
    here = ray.get_runtime_context().get_node_id()
    pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=pin).remote()
    # One run to a process: it starts clean, and its peak of memory is its own.
    task = ray.remote(
        num_gpus=gpus, num_cpus=cluster.cpus, max_retries=cluster.retries, max_calls=1
    )(on_machine)
    waiting = {
        task.remote(remote.payload(work, run, **settings), board): run.run_id for run in work.runs
    }
    capacity = _capacity(ray.cluster_resources(), gpus, cluster.cpus)
    if not capacity:
        work.display.note(
            f"No machine of the cluster has {cluster.cpus} CPUs and {gpus:.2g} graphics cards for "
            "a run now; waiting for one."
        )
    watch = Watch(work.runs, max(1, capacity), work.display)
    ended: dict[str, Ended] = {}
    stopping: float | None = None
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=_LISTEN_EVERY)
        for name, message in ray.get(board.take.remote()):
            if name in waiting.values():
                watch.message(name, message)
        for reference in ready:
            end = _end(ray, reference, waiting.pop(reference), cluster.retries, work.folder)
            ended[end.name] = end
            if not end.stopped:
                watch.end(end)
        watch.show()
        if work.should_stop() and stopping is None:
            stopping = time.monotonic()
            begun = ray.get(board.stop.remote())
            for reference in [r for r, name in waiting.items() if name not in begun]:
                ray.cancel(reference)
        if stopping is not None and time.monotonic() - stopping > _GRACE:
            for reference in waiting:
                ray.cancel(reference, force=True)
    return ended


def _end(ray: Any, reference: Any, name: str, retries: int, folder: Path) -> Ended:
    try:
        result = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Ended(name, stopped=True, error="It was stopped before its end.")
    except ray.exceptions.RayError as error:
        lost = f"It lost its machine or process {retries + 1} times and was given up"
        return Ended(name, error=f"{lost}: {first_line(error)}", details=str(error))
    return remote.ended(name, result, folder)


def _capacity(resources: dict[str, float], gpus: float, cpus: int) -> int:
    by_cpu = resources.get("CPU", 1) / cpus
    by_gpu = resources.get("GPU", 0) / gpus if gpus else by_cpu
    return int(min(by_cpu, by_gpu) + 1e-6)


def _ray() -> Any:
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise RunError(
            "'--on ray' needs Ray, which is not installed; install memnb with its extra, as in "
            "pip install -e '.[ray]', or use --on local."
        ) from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    if ray.is_initialized():
        return
    # Nothing is to be told to Ray's makers, and nobody looks at a dashboard.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = signal.getsignal(signal.SIGTERM)
    try:
        _knock(address or os.environ.get("RAY_ADDRESS"))
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as error:  # a ConnectionError is an OSError
        raise RunError(
            f"There is no Ray cluster to use ({first_line(error)}); start one with 'ray start "
            "--head', or give the right --address."
        ) from None
    # Ray would leave at once; runs are asked to save first (memnb.reproduce.workers).
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _knock(address: str | None) -> None:
    """Ray waits for minutes where nobody listens, and does not hear Ctrl-C meanwhile.

    Raises:
        OSError: nobody answers at ``host:port`` (other forms of address are Ray's to judge).
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


class Board:
    """An actor: what the runs have to say, until the caller takes it, and whether to stop."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any]] = []
        self.begun: dict[str, int] = {}
        self.is_over = False

    def begin(self, name: str) -> int | None:
        """A run is about to begin: how often it has begun before, None if it is not to."""
        if self.is_over:
            return None
        before = self.begun.get(name, 0)
        self.begun[name] = before + 1
        return before

    def say(self, name: str, message: Any) -> None:
        """A run says something."""
        self.messages.append((name, message))

    def take(self) -> list[tuple[str, Any]]:
        """What was said since the last call."""
        taken, self.messages = self.messages, []
        return taken

    def stop(self) -> list[str]:
        """All runs are to save and stop; returns those that have begun."""
        self.is_over = True
        return list(self.begun)

    def stopping(self) -> bool:
        """Whether they are."""
        return self.is_over


def on_machine(payload: dict[str, Any], board: Any) -> dict[str, Any]:
    """The task: one run, on whatever machine Ray chose. Returns what :class:`Ended` is made of."""
    import ray

    name = Path(payload["folder"]).name
    before = ray.get(board.begin.remote(name))
    if before is None:
        return {"stopped": True, "error": "It was not started."}
    if before:
        lost = workers.Died(f"Its machine or process was lost; taken up on {socket.gethostname()}.")
        board.say.remote(name, lost)
    over = threading.Event()

    def listen() -> None:
        while not over.wait(_ASK_EVERY):
            try:
                if ray.get(board.stopping.remote()):
                    over.set()
            except ray.exceptions.RayError:
                over.set()  # the caller is gone

    threading.Thread(target=listen, daemon=True).start()
    try:
        return remote.timed(payload, lambda message: board.say.remote(name, message), over.is_set)
    finally:
        over.set()
