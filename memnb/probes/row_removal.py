"""What a trained model loses when rows of its memory are taken away at test time.

A memory whose rows are all alike loses nothing (claim C3). Rows are hidden from the blocks that
read them: a classifier that reads the memory itself (``representation="memory"``, Perceiver) still
takes the mean of all rows, so that there a small loss does not say that rows are unused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memnb.models.network import Network
from memnb.probes.answers import Rows

#: So many random orders of removal there are; examples take them in turn.
ORDERS = 500


@contextmanager
def keeping_random_rows(network: Network, kept: int, seed: int) -> Iterator[None]:
    """While open, every example has ``kept`` random rows of its own left, the same in all blocks.

    One choice for all examples would be a toss-up where an answer hangs on a single row; a mean
    over choices is what can be compared from run to run. The i-th example that the network is
    given from here on loses rows in the i-th of :data:`ORDERS` orders, so that where fewer are
    kept they are some of the same. The i-th example need not be the i-th of a test set: on CUDA,
    scoring may go by length.
    """
    memory = network.model.memory
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(ORDERS, memory, generator=generator).argsort(dim=1)
    keep = (places < kept).to(device)
    asked = 0

    def choose(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        nonlocal asked
        examples = len(given[0])
        turns = torch.arange(asked, asked + examples, device=device) % ORDERS
        asked += examples
        # The two documents of a pair stand side by side in a batch.
        _keep(network, keep[turns].repeat_interleave(network.task.sequences, dim=0))

    handle = network.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()
        _keep(network, None)


def _keep(network: Network, keep: Tensor | None) -> None:
    for reader in readers(network):
        reader.keep_rows = keep


def readers(network: Network) -> list[Any]:
    """What reads memory rows and can be told which: it has an attribute ``keep_rows``."""
    return [module for module in network.modules() if hasattr(module, "keep_rows")]


def rows_left(memory: int) -> list[int]:
    """How many rows are kept in turn: all, a half, a quarter, a sixteenth, one."""
    return sorted({memory, memory // 2, memory // 4, memory // 16, 1} - {0}, reverse=True)


def accuracy_by_rows_left(network: Network, accuracy: Callable[[], float], seed: int) -> Rows:
    """Accuracy with fewer and fewer rows; which ones stay is random, another choice per example.

    Args:
        network: a trained model with M > 1 whose blocks can leave rows out (others give an empty
            list).
        accuracy: scores the network as it stands on a test set, 0 to 1.
        seed: of the random orders of removal (:func:`keeping_random_rows`).

    Returns:
        One dict per number of rows: ``rule``, ``kept``, ``memory``, ``accuracy``, and ``orders``,
        how many orders of removal there are. Older runs had one, and do not say so.
    """
    memory = network.model.memory
    if memory < 2 or not readers(network):
        return []
    found = []
    for kept in rows_left(memory):
        with keeping_random_rows(network, kept, seed):
            row = {"rule": "random", "kept": kept, "memory": memory, "accuracy": accuracy()}
            found.append({**row, "orders": ORDERS})
    return found
