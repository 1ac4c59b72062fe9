"""Pack and unpack attention of one input, small enough to keep with a run's rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memnb.models.blocks import Trace
from memnb.models.network import Network, evaluating

ROWS = 16  # of a larger memory the first rows are kept


@torch.no_grad()
def attention_maps(
    network: Network, inputs: Tensor, length: Tensor, label: Tensor
) -> dict[str, NDArray[Any]]:
    """Attention weights of one example: arrays ready for ``numpy.savez``.

    Args:
        network: a model with memory whose blocks show both attentions (others give an empty dict).
        inputs: (L,), or (2, L) for a pair, of which the first document is kept.
        length: () or (2,) true length.
        label: () class.

    Returns:
        ``pack`` float16 (blocks, n, M', L'), ``unpack`` float16 (blocks, n, L, M') with
        M' = min(M, 16), cut to the CLS position and the true length; ``tokens`` as
        in ``inputs``, ``length``, ``label``, ``prediction``.
    """
    if not network.model.memory:
        return {}
    trace: list[Trace] = []
    with evaluating(network):
        scores = network(inputs[None], length[None], trace)
    first_length = int(length.flatten()[0])
    positions = first_length + int(network.model.representation == "cls")
    stride = network.model.filter_stride
    packs = [block.pack for block in trace if block.pack is not None]
    unpacks = [block.unpack for block in trace if block.unpack is not None]
    if not trace or len(packs) < len(trace) or len(unpacks) < len(trace):
        return {}
    pack = torch.stack([weights[0, :, :ROWS, : -(-positions // stride)] for weights in packs])
    unpack = torch.stack([weights[0, :, :positions, :ROWS] for weights in unpacks])
    tokens = inputs if inputs.dim() == 1 else inputs[0]
    return {
        "pack": pack.half().cpu().numpy(),
        "unpack": unpack.half().cpu().numpy(),
        "tokens": tokens[:first_length].cpu().numpy(),
        "length": np.array(first_length),
        "label": np.array(int(label)),
        "prediction": np.array(int(scores.argmax())),
    }
