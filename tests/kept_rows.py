"""Rows of a memory taken away by hand, to see what a network does without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from memnb.models.network import Network
from memnb.probes import row_removal


@contextmanager
def keeping_rows(network: Network, keep: Tensor) -> Iterator[None]:
    """While open, only the memory rows where ``keep`` is True are read, in every block.

    Args:
        network: a model with a memory.
        keep: (M,), or (B, M) for the B sequences of every batch.
    """
    row_removal._keep(network, keep)
    yield
    row_removal._keep(network, None)
