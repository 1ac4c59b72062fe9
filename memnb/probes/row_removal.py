"""What a trained model loses when rows of its memory are taken away at test time.

A memory whose rows are all alike loses nothing (claim C3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from memnb.models.network import Network


@contextmanager
def keeping_rows(network: Network, keep: Tensor) -> Iterator[None]:
    """While open, only the memory rows where ``keep`` (M,) is True are read, in every block."""
    for reader in _readers(network):
        reader.keep_rows = keep
    try:
        yield
    finally:
        for reader in _readers(network):
            reader.keep_rows = None


def _readers(network: Network) -> list[Any]:
    """What reads memory rows and can be told which: it has an attribute ``keep_rows``."""
    return [module for module in network.modules() if hasattr(module, "keep_rows")]


def rows_left(memory: int) -> list[int]:
    """How many rows are kept in turn: all, a half, a quarter, a sixteenth, one."""
    return sorted({memory, memory // 2, memory // 4, memory // 16, 1} - {0}, reverse=True)


def accuracy_by_rows_left(
    network: Network, accuracy: Callable[[], float], seed: int
) -> list[dict[str, Any]]:
    """Accuracy with fewer and fewer rows; which ones stay is drawn once from ``seed``.

    Args:
        network: a trained model with M > 1 whose blocks can leave rows out (others give an empty
            list).
        accuracy: scores the network as it stands on a test set, 0 to 1.
        seed: of the random order in which rows are removed, the same in all blocks.

    Returns:
        One dict per number of rows: ``rule``, ``kept``, ``memory``, ``accuracy``.
    """
    memory = network.model.memory
    if memory < 2 or not _readers(network):
        return []
    device = next(network.parameters()).device
    order = torch.randperm(memory, generator=torch.Generator().manual_seed(seed))
    found = []
    for kept in rows_left(memory):
        keep = torch.zeros(memory, dtype=torch.bool)
        keep[order[:kept]] = True
        with keeping_rows(network, keep.to(device)):
            found.append({"rule": "random", "kept": kept, "memory": memory, "accuracy": accuracy()})
    return found
