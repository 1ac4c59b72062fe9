"""Training in a process that is going to be killed, and the server that such processes come from.

Importing PyTorch takes a second or two, so the processes are forked from one that has imported it
and has done nothing else: it has no threads yet, and what a SIGKILL does to its children is what it
does to any other process.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch._dynamo  # which the first optimizer loads: a second for each child otherwise

from memnb import cli, evidence
from memnb.config import Run
from memnb.reproduce import progress
from memnb.train import checkpoint, files, folder, loop
from memnb.train.engine import Engine
from memnb.train.sampler import EpochSampler

#: Commands load them when they need them: another second for each child, if they were not here.
LOADED = (evidence, progress)

#: Where a process may be told to die: the function whose events are counted, by its owner and name.
PLACES: dict[str, tuple[Any, str]] = {
    "save": (checkpoint, "save"),
    "write": (checkpoint, "write_atomically"),
    "rows": (folder.Journal, "add"),
    "evaluation": (Engine, "evaluate"),
    "epoch": (EpochSampler, "_shuffle"),
    "finish": (loop._Trainer, "_finish"),
}


class Child:
    """A process that was forked from the server.

    Attributes:
        process: the process itself.
        said: all that it has printed, once it has ended.
    """

    def __init__(self, function: Any, arguments: tuple[Any, ...]) -> None:
        handle, name = tempfile.mkstemp(prefix="memnb-child-")
        os.close(handle)
        os.chmod(name, 0o666)
        self.output = Path(name)
        self.said = ""
        self.process = server().Process(
            target=_in_child, args=(dict(os.environ), name, function, arguments)
        )
        self.process.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            os.kill(self.process.pid, number)

    def end(self) -> int:
        """Wait for its end; the exit code."""
        self.process.join(150)
        assert self.process.exitcode is not None, "it hangs"
        if self.output.exists():
            self.said = self.output.read_text()
            self.output.unlink()
        return self.process.exitcode


def start(function: Any, *arguments: Any) -> Child:
    """``function(*arguments)`` in a child that has this process's environment."""
    return Child(function, arguments)


def server() -> ForkServerContext:
    """The context whose processes are forked from a warm and clean parent."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    here = Path(__file__).parent
    before = os.environ.get("PYTHONPATH")
    # The server does not look where this process does: without this it would preload nothing.
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (here, here.parent)))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    return context


def _in_child(environment: dict[str, str], output: str, function: Any, arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    function(*arguments)


def train(run: Run, folder: Path, place: str | None = None, event: int = 0) -> None:
    """Train, saving after every step; keep the state at the very end in ``final.pt``.

    With a ``place`` the process kills itself there, at the ``event``-th call or return of any
    function, of C or of Python: before, between and after everything that the place does.
    """
    loop.SAVE_EVERY = 0.0
    loop.SAVE_SHARE = float("inf")
    loop.RESPOND_WITHIN = 0.0
    engines: list[Engine] = []
    make = loop.make_engine

    def kept(*arguments: Any) -> Engine:
        engines.append(make(*arguments))
        return engines[-1]

    loop.make_engine = kept
    if place is not None:
        _watch([Events(place)], fatal=event)
    record = loop.train(run, folder, device="cpu")
    if engines and record["outcome"] == "finished":
        state = engines[-1].state()
        del state["rng_cpu"]  # train() has put back the one that it found
        files.write_atomically(folder / "final.pt", checkpoint.to_bytes(state))


def count(run: Run, folder: Path) -> None:
    """As :func:`train`, and count the events of each place into ``events.json``."""
    counters = [Events(place) for place in PLACES]
    _watch(counters, fatal=None)
    train(run, folder)
    counts = {counter.place: counter.seen for counter in counters}
    (folder / "events.json").write_text(json.dumps(counts))


@dataclass
class Events:
    """How deep in a place the process is, and how many events it has seen there."""

    place: str
    depth: int = 0
    seen: int = 0


def _watch(counters: list[Events], fatal: int | None) -> None:
    """Count the events of some places, and die at the one numbered ``fatal``.

    Outside of them nothing is looked at: that would make a run twice as long.
    """

    def profile(_frame: FrameType, _kind: str, _: object) -> None:
        for counter in counters:
            if counter.depth:
                if counter.seen == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                counter.seen += 1

    def watched(function: Any, counter: Events) -> Any:
        @functools.wraps(function)
        def within(*arguments: Any, **named: Any) -> Any:
            sys.setprofile(profile)
            counter.depth += 1
            try:
                return function(*arguments, **named)
            finally:
                counter.depth -= 1
                if not any(each.depth for each in counters):
                    sys.setprofile(None)

        return within

    for counter in counters:
        owner, name = PLACES[counter.place]
        setattr(owner, name, watched(getattr(owner, name), counter))


def train_forgetting_the_sampler(run: Run, folder: Path, place: str, event: int) -> None:
    """As :func:`train`, but a resumed run begins its epoch again: what the tests have to notice."""
    EpochSampler.restore = lambda self, state: None  # type: ignore[method-assign]
    train(run, folder, place, event)


def train_in_little_space(
    run: Run, folder: Path, file_size: int, kill: bool = False, save: bool = True
) -> None:
    """Train where no file may grow past ``file_size`` bytes, with checkpoints or without.

    The write that crosses the limit is cut off there. Then the process is killed in the middle of
    it (``kill``), or the write fails, as on a full disk or beyond a quota.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kill else signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    (train if save else train_without_saving)(run, folder)


def train_without_saving(run: Run, folder: Path) -> None:
    """Train with no checkpoint but those that are asked for."""
    loop.train(run, folder, device="cpu")


def train_in_little_memory(run: Run, folder: Path, spare: int) -> None:
    """Train where at most ``spare`` bytes more than now may be allocated."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + spare, taken + spare))
    loop.train(run, folder, device="cpu")


def command(*arguments: str) -> None:
    """``memnb`` with these arguments; the exit code is the command's."""
    sys.exit(cli.main(arguments))


def as_user(user: int, function: Any, *arguments: Any) -> None:
    """``function(*arguments)`` as the user with this number."""
    _load_all()
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    function(*arguments)


#: A real training of a moment.
MOMENT = (
    "train", "luna-2", "listops-short", "--device=cpu", "--set=task.train=64",
    "--set=task.validation=32", "--set=task.test=32", "--set=training.steps=4",
    "--set=training.evaluate_every=2", "--set=training.batch=8", "--set=model.width=8",
)  # fmt: skip


def _load_all() -> None:
    """Import all that a command needs: another user may not be able to read this Python's files."""
    before = os.environ.get("MEMNB_DATA")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        os.environ["MEMNB_DATA"] = folder
        with contextlib.redirect_stdout(io.StringIO()):
            cli.main([*MOMENT, f"--out={folder}"])
            cli.main(["results", f"--out={folder}"])
    os.environ.pop("MEMNB_DATA")
    if before is not None:
        os.environ["MEMNB_DATA"] = before
