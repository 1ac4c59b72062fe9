"""All that is to be seen of one input in one trained model, as arrays that need no PyTorch."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from memnb.models.blocks import Trace
from memnb.models.network import Network, evaluating
from memnb.probes.attention_maps import attention_maps
from memnb.probes.attribution import attribution

POINTS = 12


def view(
    network: Network, inputs: Tensor, length: Tensor, label: Tensor, points: int = POINTS
) -> dict[str, NDArray[Any]]:
    """Attention, attribution and the filling of the memory for one example.

    Args:
        network: a model with memory (others give an empty dict).
        inputs: (L,), or (2, L) for a pair, of which the first document is looked at.
        length: () or (2,) true length.
        label: () class; negative where it is not known.
        points: how many beginnings of the input are read; with 0 the filling is left out.

    Returns:
        The arrays of :func:`memnb.probes.attention_maps.attention_maps`; ``attribution`` float16
        (length,); ``prefixes`` (points,) and ``filled`` float16 (points, blocks, M'), see
        :func:`filling`.
    """
    found = attention_maps(network, inputs, length, label)
    if not found:
        return {}
    count, rows = int(found["length"]), found["unpack"].shape[-1]
    shares = attribution(network, inputs, length)[:count]
    found["attribution"] = shares.half().numpy()
    if not points:
        return found
    prefixes, filled = filling(network, inputs, length, points)
    return {
        **found,
        "prefixes": prefixes.numpy(),
        "filled": filled[..., :rows].half().numpy(),
    }


@torch.no_grad()
def filling(
    network: Network, inputs: Tensor, length: Tensor, points: int = POINTS
) -> tuple[Tensor, Tensor]:
    """How near each packed row is to its final value when only the input's beginning was read.

    1 - |packed(t) - packed(L)| / |packed(0) - packed(L)|, with padding in the place of what was not
    read yet: 0 for the empty input, 1 for the whole one, negative where a row is led astray.

    Returns:
        Prefix lengths (points,) from 0 to the true length, and (points, blocks, M).
    """
    first = int(length.flatten()[0])
    prefixes = torch.linspace(0, first, points).round().long()
    packed = []
    with evaluating(network):
        for count in prefixes.tolist():
            beginning = inputs.clone()
            beginning[..., count:] = 0
            trace: list[Trace] = []
            network(beginning[None], length.clamp(max=count)[None], trace)
            packed.append(torch.stack([block.packed[0] for block in trace]))
    values = torch.stack(packed)
    distance = (values - values[-1]).norm(dim=-1)
    return prefixes, (1 - distance / distance[0].clamp(min=1e-12)).float().cpu()
