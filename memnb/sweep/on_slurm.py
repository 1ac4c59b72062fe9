"""Through Slurm, by submitit: each run is a job, which may be preempted and requeued.

The machines of a Slurm cluster share a file system, so the caller's folder of runs is the store
unless another one is named. A file beside the jobs' logs tells them to save and stop.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memnb.errors import RunError, first_line
from memnb.reproduce.progress import describe
from memnb.reproduce.trainer import Watch
from memnb.reproduce.workers import Ended
from memnb.sweep import remote
from memnb.sweep.work import Work
from memnb.words import counted

_POLL = 1.0  # seconds between two looks at the jobs
_ASK_EVERY = 5.0  # seconds between two looks of a job at whether to stop
_GRACE = 120.0  # seconds between asking the jobs to stop and cancelling them


@dataclass(frozen=True)
class Queue:
    """How runs are queued.

    Attributes:
        partition: of the cluster; empty for its default.
        gpus, cpus: of each run.
        minutes: that one job may take; a run that needs longer is requeued and goes on.
        jobs: how many may run at a time.
        retries: how often a job may run out of its time before it is given up; a preempted one is
            requeued as often as it takes.
        cluster: ``slurm``, or ``local`` for processes on this machine.
    """

    partition: str = ""
    gpus: int = 1
    cpus: int = 1
    minutes: int = 240
    jobs: int = 16
    retries: int = 3
    cluster: str = "slurm"


def train(work: Work, queue: Queue, logs: Path) -> dict[str, Ended]:
    """Train through a queue, and say how each run ended; once it is to stop, what waits is
    cancelled.

    Args:
        work: what to train.
        queue: which queue, and what each run gets.
        logs: a folder that all machines see, for submitit's files and the jobs' output.

    Raises:
        RunError: submitit is not installed, or there is no Slurm here.
    """
    executor = _executor(queue, logs)
    # A name of its own: another sweep into the same folder is not told to stop by it.
    stop_file = logs / f"stop-{os.urandom(4).hex()}"
    settings = {
        "device": "cuda" if queue.gpus else "cpu",
        "threads": queue.cpus,
        "side_by_side": 1,
        "stop_file": str(stop_file),
    }
    jobs = executor.map_array(Job(), [remote.payload(work, run, **settings) for run in work.runs])
    waiting = dict(zip((run.run_id for run in work.runs), jobs, strict=True))
    work.display.note(f"{counted(len(jobs), 'job')} queued; what they print is in {logs}.")
    watch = Watch(work.runs, queue.jobs, work.display)
    ended: dict[str, Ended] = {}
    stopping: float | None = None
    try:
        while waiting:
            for name in [name for name, job in waiting.items() if job.done()]:
                end = _end(waiting.pop(name), name, work.folder, stopping is not None)
                ended[name] = end
                if not end.stopped:
                    watch.end(end)
            watch.show()
            if work.should_stop() and stopping is None:
                stopping = time.monotonic()
                stop_file.touch()
                _cancel(job for job in waiting.values() if job.state == "PENDING")
            if stopping is not None and time.monotonic() - stopping > _GRACE:
                _cancel(waiting.values())
            time.sleep(_POLL)
    finally:
        _cancel(waiting.values())  # nobody is left to take their results home
        stop_file.unlink(missing_ok=True)
    return ended


def _cancel(jobs: Iterable[Any]) -> None:
    for job in jobs:
        job.cancel()


class Job:
    """What a job does: one run. submitit calls :meth:`checkpoint` where a job is to be requeued."""

    def __call__(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Returns what :func:`memnb.sweep.remote.timed` does."""
        stop_file = Path(payload["stop_file"])
        looked, over = 0.0, False

        def stop() -> bool:
            nonlocal looked, over
            if time.monotonic() - looked >= _ASK_EVERY:
                looked, over = time.monotonic(), stop_file.exists()
            return over

        def report(message: Any) -> None:
            print(describe(*message), flush=True)

        return remote.timed(payload, report, stop)

    def checkpoint(self, payload: dict[str, Any]) -> Any:
        """The same again: the run's own checkpoints are in the store."""
        import submitit

        return submitit.helpers.DelayedSubmission(Job(), payload)


def _end(job: Any, name: str, folder: Path, stopping: bool) -> Ended:
    error = job.exception()
    if error is None:
        return remote.ended(name, job.result(), folder)
    if stopping:
        return Ended(name, stopped=True, error="It was stopped before its end.")
    return Ended(name, error=f"Its job was lost: {first_line(error)}", details=str(error))


def _executor(queue: Queue, logs: Path) -> Any:
    try:
        import submitit
    except ImportError:
        raise RunError(
            "'--on slurm' needs submitit, which is not installed; install memnb with its extra, as "
            "in pip install -e '.[slurm]', or use --on local."
        ) from None
    logs.mkdir(parents=True, exist_ok=True)
    try:
        executor = submitit.AutoExecutor(
            logs, cluster=queue.cluster, slurm_max_num_timeout=queue.retries
        )
    except RuntimeError:
        raise RunError(
            "There is no Slurm on this machine (no srun); log in to a machine of the cluster, or "
            "use --on local."
        ) from None
    executor.update_parameters(
        name="memnb",
        timeout_min=queue.minutes,
        gpus_per_node=queue.gpus,
        cpus_per_task=queue.cpus,
        slurm_array_parallelism=queue.jobs,
        **({"slurm_partition": queue.partition} if queue.partition else {}),
    )
    return executor
