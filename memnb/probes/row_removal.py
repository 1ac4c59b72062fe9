"""What a trained model loses when rows of its memory are taken away at test time.

A memory whose rows are all alike loses nothing (claim C3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from memnb.models.blocks import SharedMemoryAttention
from memnb.models.network import Network


@contextmanager
def keeping_rows(network: Network, keep: Tensor) -> Iterator[None]:
    """While open, unpack reads only the rows where ``keep`` (M,) is True, in every block."""
    attentions = [m for m in network.modules() if isinstance(m, SharedMemoryAttention)]
    for attention in attentions:
        attention.keep_rows = keep
    try:
        yield
    finally:
        for attention in attentions:
            attention.keep_rows = None


def rows_left(memory: int) -> list[int]:
    """How many rows are kept in turn: all, a half, a quarter, a sixteenth, one."""
    return sorted({memory, memory // 2, memory // 4, memory // 16, 1} - {0}, reverse=True)


def accuracy_by_rows_left(
    network: Network, accuracy: Callable[[], float], seed: int
) -> list[dict[str, Any]]:
    """Accuracy with fewer and fewer rows; which ones stay is drawn once from ``seed``.

    Args:
        network: a trained model with M > 1 (others give an empty list).
        accuracy: scores the network as it stands on a test set, 0 to 1.
        seed: of the random order in which rows are removed, the same in all blocks.

    Returns:
        One dict per number of rows: ``rule``, ``kept``, ``memory``, ``accuracy``.
    """
    memory = network.model.memory
    if memory < 2:
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
