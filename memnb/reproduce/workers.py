"""Jobs in worker processes: one failing, hanging or killed job never stops the others.

Workers are spawned, not forked, so that each starts clean and PyTorch is imported only there.
Parent and worker talk through one pipe each. A shared queue would be shorter, but a worker killed
while it holds the queue's lock would freeze all the others.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

from memnb import logs
from memnb.errors import MemnbError, died_at_start

#: What a worker runs: (payload, report progress, was a stop asked for?) -> result.
Function = Callable[[Any, Callable[[Any], None], Callable[[], bool]], Any]

_POLL = 0.2
_ORPHAN_GRACE = 30.0


class JobError(MemnbError):
    """A job's failure in one sentence, with a longer text for whoever looks into it."""

    exit_code = 1

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.details = details


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        name: the job's name.
        value: what the function returned; None if it failed or was stopped.
        error: one sentence, or None if it went well.
        details: a traceback, where there is one.
        seconds: wall-clock time in the worker, its failed first try not included.
        stopped: the job was given up because a stop was asked for.
    """

    name: str
    value: Any = None
    error: str | None = None
    details: str = ""
    seconds: float = 0.0
    stopped: bool = False


class Stop:
    """A request to stop, made by Ctrl-C (SIGINT) or SIGTERM; calling it asks."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The shell's convention: 128 + signal, so 130 for Ctrl-C and 143 for SIGTERM."""
        return 128 + (self.signal or 0)


@contextlib.contextmanager
def stop_on_signals(patience: float | None = None) -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a polite request; a second one acts at once.

    Args:
        patience: seconds after which the first one acts at once as well, whatever is going on.

    Raises:
        KeyboardInterrupt: to act at once; its argument is the exit code.
    """
    stop = Stop()
    asked: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def ask(number: int, _frame: object) -> None:
        if stop():
            raise KeyboardInterrupt(stop.exit_code)
        stop.signal = number
        asked.put(True)  # a SimpleQueue may be used in a signal handler

    def insist() -> None:
        if not asked.get():
            return
        try:
            asked.get(timeout=patience)
        except queue.Empty:
            # To the main thread, so that whatever it waits for is interrupted.
            signal.pthread_kill(threading.main_thread().ident or 0, stop.signal or signal.SIGINT)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    if patience is not None:
        threading.Thread(target=insist, daemon=True).start()
    try:
        yield stop
    finally:
        asked.put(False)
        for number, handler in before.items():
            signal.signal(number, handler)


def cores() -> int:
    """CPU cores this process may use: affinity and a container's quota are respected."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        count = min(count, max(1, int(int(quota) / int(period) + 0.5)))
    except (OSError, ValueError):
        pass  # no cgroup v2, or no quota ("max")
    return count


def run_jobs(
    function: Function,
    jobs: Mapping[str, Any],
    *,
    processes: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_message: Callable[[str, Any], None] = lambda name, message: None,
    on_end: Callable[[Ended], None] = lambda ended: None,
    on_tick: Callable[[], None] = lambda: None,
    grace: float = 60.0,
    environments: Sequence[Mapping[str, str]] = (),
) -> dict[str, Ended]:
    """Run ``function`` once for every job, several at a time.

    Args:
        function: a module-level function; see :data:`Function`.
        jobs: payload by name, picklable, in the order in which they start.
        processes: workers at a time, at least 1.
        should_stop: polled several times a second; once true, no job starts, running ones are
            asked to stop, and after ``grace`` seconds they are killed.
        on_message: receives (job name, what the function reported).
        on_end: receives each job's end, as it happens.
        on_tick: called several times a second.
        grace: seconds between asking a worker to stop and killing it.
        environments: variables that the first, the second, ... worker gets, one entry per worker;
            by default none gets any.

    Returns:
        The end of every job, by name. A worker that dies is reported and its job tried once more.

    Raises:
        RunError: no worker came as far as its first job.
    """
    pool = _Pool(function, jobs, processes, on_message, on_end, environments, deque(jobs))
    return pool.run(should_stop, on_tick, grace)


@dataclass
class _Worker:
    process: multiprocessing.process.BaseProcess
    pipe: connection.Connection
    place: int
    job: str | None = None
    started: float = field(default_factory=time.monotonic)


@dataclass
class _Pool:
    function: Function
    jobs: Mapping[str, Any]
    processes: int
    on_message: Callable[[str, Any], None]
    on_end: Callable[[Ended], None]
    environments: Sequence[Mapping[str, str]]
    waiting: deque[str]
    died: set[str] = field(default_factory=set)
    begun: bool = False  # a worker has come as far as its first job
    workers: list[_Worker] = field(default_factory=list)
    ended: dict[str, Ended] = field(default_factory=dict)
    stopping: float | None = None

    def run(
        self, should_stop: Callable[[], bool], on_tick: Callable[[], None], grace: float
    ) -> dict[str, Ended]:
        try:
            while self.waiting or self.busy():
                if should_stop() and self.stopping is None:
                    self.ask_to_stop()
                if self.stopping is not None and time.monotonic() - self.stopping > grace:
                    self.kill()
                self.hand_out()
                self.listen()
                on_tick()
        finally:
            self.kill()
        return self.ended

    def busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.job is not None]

    def hand_out(self) -> None:
        idle = [worker for worker in self.workers if worker.job is None]
        while self.waiting and (idle or len(self.workers) < self.processes):
            worker = idle.pop() if idle else self.hire()
            worker.job, worker.started = self.waiting.popleft(), time.monotonic()
            try:
                worker.pipe.send(("job", self.jobs[worker.job]))
            except OSError:
                self.bury(worker)

    def hire(self) -> _Worker:
        # Read by glibc when a process starts: freed memory is kept for the next step, instead of
        # being handed back and paged in anew (a tenth of the time of a step on a CPU).
        for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
            os.environ.setdefault(name, str(2**30))
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        # Whoever takes the place of a dead worker has its environment.
        taken = {worker.place for worker in self.workers}
        place = next(number for number in range(self.processes) if number not in taken)
        environment = dict(self.environments[place]) if self.environments else {}
        arguments = (self.function, theirs, environment)
        process = context.Process(target=_serve, args=arguments, daemon=False)
        process.start()
        # Only the worker may hold its end: then the pipe closes when either side dies.
        theirs.close()
        worker = _Worker(process, ours, place)
        self.workers.append(worker)
        return worker

    def listen(self) -> None:
        pipes = {worker.pipe: worker for worker in self.workers}
        for pipe in connection.wait(list(pipes), timeout=_POLL):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, OSError):
                self.bury(worker)
                continue
            if kind == "ready":
                self.begun = True
            elif kind == "message":
                self.on_message(str(worker.job), value)
            else:
                self.end(worker, value)

    def end(self, worker: _Worker, result: dict[str, Any]) -> None:
        name, worker.job = str(worker.job), None
        ended = Ended(name, seconds=time.monotonic() - worker.started, **result)
        self.ended[name] = ended
        self.on_end(ended)

    def bury(self, worker: _Worker) -> None:
        """A worker has died: say so, and try its job once more.

        Raises:
            RunError: that was the second time, and no worker has come as far as its first job.
        """
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        name = worker.job
        if name is None:
            return
        if self.stopping is not None:
            self.end(worker, {"stopped": True, "error": "It was stopped before its end."})
            return
        how = _cause(worker.process.exitcode)
        if name not in self.died:
            self.died.add(name)
            self.on_message(name, Died(f"Its process {how}; it is tried once more."))
            self.waiting.appendleft(name)
        elif not self.begun and (worker.process.exitcode or 0) >= 0:
            raise died_at_start("A worker process", "what the worker wrote may tell why") from None
        else:
            self.end(worker, {"error": f"Its process {how}, twice; it was given up."})

    def ask_to_stop(self) -> None:
        self.stopping = time.monotonic()
        for name in self.waiting:
            self.ended[name] = Ended(name, stopped=True, error="It was not started.")
        self.waiting.clear()
        for worker in self.workers:
            try:
                worker.pipe.send(("stop", None))
            except OSError:
                continue  # already dead: its closed pipe is noticed by listen()

    def kill(self) -> None:
        for worker in self.workers:
            if worker.job is None:
                worker.pipe.close()  # an idle worker leaves by itself
            else:
                worker.process.kill()
        for worker in self.workers:
            worker.process.join()
        if self.stopping is not None:
            for worker in self.busy():
                self.end(worker, {"stopped": True, "error": "It did not stop in time: killed."})
        self.workers.clear()


@dataclass(frozen=True)
class Died:
    """The message that a job's worker has died and the job is tried again."""

    sentence: str


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        out_of_memory = " (perhaps out of memory)" if -exit_code == signal.SIGKILL else ""
        return f"was killed by signal {-exit_code}{out_of_memory}"
    return f"ended with exit code {exit_code}"


# --- the worker's side -----------------------------------------------------------------------


def _serve(function: Function, pipe: connection.Connection, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    logs.start()
    stop = threading.Event()
    # A terminal's Ctrl-C reaches every process of the group: only the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def leave(_number: int, _frame: object) -> None:
        stop.set()
        jobs.put(None)  # a SimpleQueue may be used in a signal handler

    signal.signal(signal.SIGTERM, leave)
    threading.Thread(target=_listen, args=(pipe, jobs, stop), daemon=True).start()
    with contextlib.suppress(OSError):  # nobody listens any more: the thread hears of it
        pipe.send(("ready", None))

    def report(message: Any) -> None:
        try:
            pipe.send(("message", message))
        except OSError:
            stop.set()  # nobody listens any more

    while (job := jobs.get()) is not None:
        result = attempt(function, job[0], report, stop.is_set)
        try:
            pipe.send(("end", result))
        except OSError:
            return


def _listen(
    pipe: connection.Connection, jobs: queue.SimpleQueue[Any], stop: threading.Event
) -> None:
    while True:
        try:
            kind, payload = pipe.recv()
        except (EOFError, OSError):  # the parent is gone or has no more work
            stop.set()
            jobs.put(None)
            time.sleep(_ORPHAN_GRACE)
            os._exit(1)  # the job ignores the request: nobody is left to kill it
        if kind == "stop":
            stop.set()
        else:
            jobs.put((payload,))


def attempt(
    function: Function, payload: Any, report: Callable[[Any], None], stop: Callable[[], bool]
) -> dict[str, Any]:
    """Call a :data:`Function`; what came of it, as keyword arguments of :class:`Ended`."""
    try:
        return {"value": function(payload, report, stop)}
    except JobError as error:
        return {"error": str(error), "details": error.details}
    except MemnbError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "It ran out of memory.", "details": traceback.format_exc()}
    except Exception as error:
        # The boundary of the process: whatever went wrong is carried to the report.
        text = str(error).strip().splitlines()
        sentence = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
        return {"error": sentence, "details": traceback.format_exc()}
