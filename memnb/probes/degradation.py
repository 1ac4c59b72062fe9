"""Memory degradation: how alike the memory rows are, per block, in both streams.

Unpack reads ``packed``, the rows before the residual; the memory stream m' keeps its N(0, 1)
start through the residual, so it shows the degradation late, in the last blocks, or not at all.
Both are measured. The choice of measures is ours; the authors only logged pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memnb.models.blocks import Trace
from memnb.models.network import Network

# Attention weights are written out here, which is heavy at full length: a few samples at a time.
CHUNK = 2
# A GPU launches this work more slowly than it does it, so there it is as many samples as keep the
# written-out weights of one attention within so many numbers.
WEIGHTS_ON_GPU = 2**24


def pairwise_cosine(rows: Tensor) -> Tensor:
    """Mean cosine of all pairs of different rows: (..., M, H) -> (...); NaN for M = 1."""
    count = rows.shape[-2]
    unit = functional.normalize(rows, dim=-1)
    total = unit.sum(dim=-2).pow(2).sum(dim=-1)
    return (total - count) / (count * (count - 1)) if count > 1 else total * math.nan


def effective_rank(rows: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values: (..., M, H) -> (...).

    1 when all rows are multiples of one vector, min(M, H) when all directions weigh the same.
    """
    # Singular values through the small Gram matrix: far faster in batches than an SVD.
    gram = rows @ rows.mT if rows.shape[-2] <= rows.shape[-1] else rows.mT @ rows
    singular = torch.linalg.eigvalsh(gram.double()).clamp(min=0).sqrt()
    share = singular / singular.sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp().to(rows.dtype)


def normalised_entropy(weights: Tensor) -> Tensor:
    """Entropy of attention weights over log of the number of keys: (..., K) -> (...), 0 to 1.

    NaN for a single key.
    """
    keys = weights.shape[-1]
    entropy = torch.special.entr(weights).sum(dim=-1)
    return entropy / math.log(keys) if keys > 1 else entropy * math.nan


def dominant_rows(unpack: Tensor) -> Tensor:
    """The smallest share of rows that together receive over half of the unpack weight.

    (B, n, L, M) -> (B,). 1/M when one row takes over half; about 1/2 when all are read alike.
    """
    rows = unpack.shape[-1]
    received = unpack.mean(dim=(1, 2)).sort(dim=-1, descending=True).values
    needed = (received.cumsum(dim=-1) <= 0.5).sum(dim=-1) + 1
    return needed / rows


def measure(
    network: Network, inputs: Tensor, lengths: Tensor, labels: Tensor
) -> list[dict[str, Any]]:
    """All measures of every block, averaged over a batch: one dict per block, first block first.

    Keys: ``block``; ``packed_cosine``, ``packed_rank``, ``memory_cosine``, ``memory_rank``;
    ``pack_entropy``, ``unpack_entropy`` (0 to 1); ``dominant_rows``; ``packed_gradient``,
    ``memory_gradient`` (mean norm per row of the loss gradient of one sample) and
    ``gradient_spread`` (deviation over mean of that norm over packed rows). What has no meaning
    (pairs of rows for M = 1, the gradient of a memory that nothing reads) is None. A model without
    memory gives an empty list.
    """
    if not network.model.memory:
        return []
    training = network.training
    network.eval()
    size = _samples_at_a_time(network, inputs)
    parts: list[list[dict[str, Tensor]]] = []  # of each part of the batch, a dict per block
    rows: list[tuple[Tensor, Tensor]] = []  # packed and memory, each (blocks, B, M, H)
    try:
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            trace: list[Trace] = []
            with torch.enable_grad():
                scores = network(inputs[part], lengths[part], trace)
                if not trace:  # a block of its own that does not show its memory
                    return []
                loss = functional.cross_entropy(scores, labels[part], reduction="sum")
                streams = [t for block in trace for t in (block.packed, block.memory)]
                gradients = torch.autograd.grad(loss, streams, allow_unused=True)
            of_blocks = zip(trace, gradients[0::2], gradients[1::2], strict=True)
            parts.append([_measures(*of_block) for of_block in of_blocks])
            packed, memory = (torch.stack(streams[which::2]).detach() for which in (0, 1))
            rows.append((packed, memory))
    finally:
        network.train(training)
    if rows[0][0].shape[-2] > 1:
        _add_ranks(parts, rows)
    samples = len(inputs) * (2 if network.task.layout == "pair" else 1)
    return [
        {"block": number, **{key: _mean(of_block, key, samples) for key in of_block[0]}}
        for number, of_block in enumerate(zip(*parts, strict=True), 1)
    ]


def _samples_at_a_time(network: Network, inputs: Tensor) -> int:
    if not inputs.is_cuda:
        return CHUNK
    model = network.model
    weights = model.heads * inputs[0].numel() * max(model.memory, model.chunk)
    return max(1, WEIGHTS_ON_GPU // weights)


def _add_ranks(parts: list[list[dict[str, Tensor]]], rows: list[tuple[Tensor, Tensor]]) -> None:
    """All eigenvalues in one call: a GPU solves many in about the time of a few."""
    for which, key in enumerate(("packed_rank", "memory_rank")):
        ranks = effective_rank(torch.cat([part[which] for part in rows], dim=1))
        sizes = [part[which].shape[1] for part in rows]
        for part, of_part in zip(parts, ranks.split(sizes, dim=1), strict=True):
            for block, rank in zip(part, of_part, strict=True):
                block[key] = rank


def _measures(
    block: Trace, packed_gradient: Tensor | None, memory_gradient: Tensor | None
) -> dict[str, Tensor]:
    """One block's measures, each (B,); the ranks are filled in by :func:`_add_ranks`."""
    packed, memory = block.packed.detach(), block.memory.detach()
    nothing = packed.new_full((len(packed),), math.nan)
    one_row = packed.shape[1] == 1
    norms = None if packed_gradient is None else packed_gradient.norm(dim=-1)
    return {
        "packed_cosine": pairwise_cosine(packed),
        "packed_rank": nothing,
        "memory_cosine": pairwise_cosine(memory),
        "memory_rank": nothing,
        "pack_entropy": nothing if block.pack is None else _entropy(block.pack),
        "unpack_entropy": nothing if block.unpack is None else _entropy(block.unpack),
        "dominant_rows": (
            nothing if one_row or block.unpack is None else dominant_rows(block.unpack.detach())
        ),
        "packed_gradient": nothing if norms is None else norms.mean(dim=-1),
        "memory_gradient": (
            nothing if memory_gradient is None else memory_gradient.norm(dim=-1).mean(dim=-1)
        ),
        "gradient_spread": (
            nothing if norms is None or one_row else norms.std(dim=-1) / norms.mean(dim=-1)
        ),
    }


def _entropy(weights: Tensor) -> Tensor:
    return normalised_entropy(weights.detach()).mean(dim=(1, 2))


def _mean(parts: Sequence[dict[str, Tensor]], key: str, samples: int) -> float | None:
    total = float(sum(part[key].sum() for part in parts) / samples)
    return total if math.isfinite(total) else None
