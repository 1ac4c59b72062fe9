"""On this machine: its graphics cards, several runs on each, or its cores."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from memnb.config import Run
from memnb.errors import died_at_start
from memnb.reproduce.trainer import train_missing
from memnb.reproduce.workers import Ended, cores
from memnb.sweep.work import Work
from memnb.train.record import record_of, was_out_of_memory
from memnb.words import counted

#: Runs on one graphics card at a time. Most captured steps leave an H100 no gaps, so that more runs
#: get no more done: three Text runs took 500 s for what would take 478 s in turn. The second one
#: trains while the first compiles or is examined at its end.
RUNS_PER_CARD = 2
#: The same where NVIDIA's MPS runs: three get 1.3 times as much done as two without it.
RUNS_PER_CARD_WITH_MPS = 3
# Seconds that runs have to save and stop when a budget ends: while a model is compiled or its
# memory is looked at, they do not hear, and nobody waits for them as after Ctrl-C.
_GRACE = 30.0


@dataclass(frozen=True)
class Machine:
    """What there is to train on.

    Attributes:
        device: ``cpu`` or ``cuda``.
        name: the model of the processor or of the first graphics card.
        cards: graphics cards, as CUDA_VISIBLE_DEVICES names them; none on the CPU.
        cores: of the processor, as many as may be used.
        wanted: runs at a time; None for as many as are likely to be the fastest.
        mps: whether NVIDIA's MPS runs, under which runs on one card train at once.
    """

    device: str
    name: str
    cards: tuple[str, ...]
    cores: int
    wanted: int | None = None
    mps: bool = False

    @property
    def jobs(self) -> int:
        """Runs at a time."""
        on_each = RUNS_PER_CARD_WITH_MPS if self.mps else RUNS_PER_CARD
        return self.wanted or on_each * len(self.cards) or self.cores

    @property
    def places(self) -> int:
        """Devices that device seconds are shared out to (:mod:`memnb.reproduce.cost`)."""
        return min(self.jobs, len(self.cards)) or self.cores


def look(device: str = "auto", jobs: int | None = None) -> Machine:
    """The machine this is, asked in a process of its own: this one shall not load PyTorch.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: runs at a time; by default as many as are likely to be the fastest.

    Raises:
        MemnbError: ``cuda`` where PyTorch sees no CUDA device, or one that cannot be loaded.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            kind, name, count, mps = pool.submit(_look, device).result()
        except BrokenProcessPool:
            raise died_at_start("The process that looks for graphics cards") from None
    named = [card.strip() for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    cards = [card for card in named if card][:count] or [str(number) for number in range(count)]
    return Machine(kind, name, tuple(cards), cores(), jobs, mps)


def _look(device: str) -> tuple[str, str, int, bool]:
    import torch

    from memnb.train.device import choose_device, runs_mps

    chosen = choose_device(device)
    if chosen.kind == "cpu":
        return chosen.kind, chosen.name, 0, False
    return chosen.kind, chosen.name, torch.cuda.device_count(), runs_mps()


def train(work: Work, machine: Machine) -> dict[str, Ended]:
    """Train what has not ended, several at a time, and say how each run ended.

    Runs that had too little memory beside others are tried once more, one to a card.
    """

    def go(runs: Sequence[Run], at_a_time: int) -> dict[str, Ended]:
        return train_missing(
            runs,
            work.folder,
            jobs=at_a_time,
            device=machine.device,
            cards=machine.cards,
            display=work.display,
            should_stop=work.should_stop,
            grace=None if work.deadline is None else _GRACE,
            function=work.function,
        )

    ended = go(work.runs, machine.jobs)
    tried = [run for run in work.runs if run.run_id in ended]
    crowded = [run for run in tried if was_out_of_memory(record_of(work.folder / run.run_id))]
    alone = len(machine.cards) or 1
    if crowded and machine.jobs > alone and not work.should_stop():
        work.display.note(
            f"{counted(len(crowded), 'run')} had too little memory beside others; once more, with "
            "fewer at a time."
        )
        ended |= go(crowded, alone)
    return ended
