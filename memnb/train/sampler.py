"""The order in which training examples are seen."""

from __future__ import annotations

import torch
from torch import Tensor

from memnb.errors import MemnbError


class EpochSampler:
    """A new seeded order every epoch; the state is (epoch, index) and nothing else.

    The last batch of an epoch, if it is not full, is left out, so that every step has one shape.
    (The authors' text tasks repeat the first epoch's order; that is not copied.)

    Attributes:
        epoch: the epoch of the next batch, from 0.
        index: how many batches of that epoch are already taken.
    """

    def __init__(self, examples: int, batch: int, seed: int) -> None:
        if examples < batch:
            raise MemnbError(
                f"A batch needs {batch} training examples, but the task has {examples}; "
                "lower training.batch."
            )
        self.examples, self.batch, self.seed = examples, batch, seed
        self.epoch = self.index = 0
        self._order = self._shuffle()

    def take(self, batches: int) -> Tensor:
        """Example numbers of the next batches, int64 (batches, batch)."""
        rows: list[Tensor] = []
        while len(rows) < batches:
            if self.index == self.examples // self.batch:
                self.epoch, self.index = self.epoch + 1, 0
                self._order = self._shuffle()
            start = self.index * self.batch
            rows.append(self._order[start : start + self.batch])
            self.index += 1
        return torch.stack(rows)

    def state(self) -> dict[str, int]:
        """What :meth:`restore` needs to go on with the very next batch."""
        return {"epoch": self.epoch, "index": self.index}

    def restore(self, state: dict[str, int]) -> None:
        """Go to the place that :meth:`state` described."""
        self.epoch, self.index = state["epoch"], state["index"]
        self._order = self._shuffle()

    def _shuffle(self) -> Tensor:
        # Epochs of different seeds must not share an order, so the two numbers are kept apart.
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return torch.randperm(self.examples, generator=generator)
