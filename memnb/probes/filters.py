"""What the filter is at one moment of training: the kernel and the temperatures of every block."""

from __future__ import annotations

import torch

from memnb.models.blocks import SharedMemoryAttention
from memnb.models.filters import ConvFilter
from memnb.models.network import Network
from memnb.probes.answers import Rows


@torch.no_grad()
def filter_state(network: Network) -> Rows:
    """One dict per block and head: ``block`` and ``head`` (from 1), the kernel's taps ``tap_1`` ...
    in the order of the sequence, and the block's ``pack_temperature`` and ``unpack_temperature``.

    Only ConvLuna's blocks are looked at, and only those with a convolution have a kernel; any
    other model gives an empty list.
    """
    attentions = [m for m in network.modules() if isinstance(m, SharedMemoryAttention)]
    return [
        {
            "block": block,
            "head": head,
            **{f"tap_{number}": rounded(tap) for number, tap in enumerate(taps, start=1)},
            "pack_temperature": rounded(float(attention.pack_temperature())),
            "unpack_temperature": rounded(float(attention.unpack_temperature())),
        }
        for block, attention in enumerate(attentions, start=1)
        if isinstance(attention.filter, ConvFilter)
        for head, taps in enumerate(attention.filter.kernel().tolist(), start=1)
    ]


def rounded(value: float) -> float:
    """Five digits, which are plenty for a row."""
    return float(f"{value:.5g}")
