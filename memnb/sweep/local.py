"""On this machine: its graphics cards, several runs on each, or its cores."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from memnb.config import Run
from memnb.reproduce.progress import Display
from memnb.reproduce.trainer import train_missing
from memnb.reproduce.workers import Ended, cores
from memnb.train.record import outcome, was_out_of_memory
from memnb.words import counted

#: Runs on one graphics card at a time. Most captured steps leave an H100 no gaps, so that more runs
#: get no more done: three Text runs took 500 s for what would take 478 s in turn. The second one
#: trains while the first compiles or is examined at its end. Memories between chunks do leave room:
#: page 11 says what MPS gives them.
RUNS_PER_CARD = 2


@dataclass(frozen=True)
class Machine:
    """What there is to train on.

    Attributes:
        device: ``cpu`` or ``cuda``.
        name: the model of the processor or of the first graphics card.
        cards: graphics cards, as CUDA_VISIBLE_DEVICES names them; none on the CPU.
        cores: of the processor, as many as may be used.
    """

    device: str
    name: str
    cards: tuple[str, ...]
    cores: int

    @property
    def places(self) -> int:
        """Devices that device seconds are shared out to (:mod:`memnb.reproduce.cost`)."""
        return len(self.cards) or self.cores

    @property
    def jobs(self) -> int:
        """How many runs at a time are likely to be the fastest."""
        return RUNS_PER_CARD * len(self.cards) or self.cores


def look(device: str = "auto") -> Machine:
    """The machine this is, asked in a process of its own: this one shall not load PyTorch.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        MemnbError: ``cuda`` where PyTorch sees no CUDA device.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        kind, name, count = pool.submit(_look, device).result()
    named = [card.strip() for card in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    cards = [card for card in named if card][:count] or [str(number) for number in range(count)]
    return Machine(kind, name, tuple(cards), cores())


def _look(device: str) -> tuple[str, str, int]:
    import torch

    from memnb.train.device import choose_device

    chosen = choose_device(device)
    return chosen.kind, chosen.name, torch.cuda.device_count() if chosen.kind == "cuda" else 0


def train(
    runs: Sequence[Run],
    folder: Path,
    machine: Machine,
    *,
    jobs: int | None,
    display: Display,
    should_stop: Callable[[], bool],
    function: str,
) -> dict[str, Ended]:
    """Train what has not ended in ``folder``, ``jobs`` at a time, and say how each run ended.

    Runs that had too little memory beside others are tried once more, one to a card.
    """

    def go(some: Sequence[Run], at_a_time: int) -> dict[str, Ended]:
        return train_missing(
            some,
            folder,
            jobs=at_a_time,
            device=machine.device,
            cards=machine.cards,
            display=display,
            should_stop=should_stop,
            function=function,
        )

    jobs = jobs or machine.jobs
    ended = go(runs, jobs)
    crowded = [
        run
        for run in runs
        if run.run_id in ended and was_out_of_memory(outcome(folder / run.run_id))
    ]
    alone = len(machine.cards) or 1
    if crowded and jobs > alone and not should_stop():
        display.note(
            f"{counted(len(crowded), 'run')} had too little memory beside others; once more, with "
            "fewer at a time."
        )
        ended |= go(crowded, alone)
    return ended
