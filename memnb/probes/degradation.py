"""Memory degradation: how alike the memory rows are, per block, in both streams.

Unpack reads ``packed``, the rows before the residual; the memory stream m' keeps its N(0, 1)
start through the residual, so it shows the degradation late, in the last blocks, or not at all.
Both are measured. The choice of measures is ours; the authors only logged pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from memnb.models.blocks import Trace
from memnb.models.filters import ConvFilter, PoolFilter
from memnb.models.network import Network, evaluating
from memnb.probes.answers import Rows

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

    1 when all rows are multiples of one vector, min(M, H) when all directions weigh the same; NaN
    where a row is not finite, or all are zero.
    """
    # Singular values through the small Gram matrix: far faster in batches than an SVD. They are
    # roots of its eigenvalues, so that single precision would make directions out of rounding.
    exact = rows.double()
    gram = exact @ exact.mT if rows.shape[-2] <= rows.shape[-1] else exact.mT @ exact
    # The solver raises where one matrix of a batch is not finite; of zeros it makes 0 / 0.
    finite = gram.isfinite().all(dim=-1).all(dim=-1)[..., None, None]
    singular = torch.linalg.eigvalsh(gram.where(finite, 0.0)).clamp(min=0).sqrt()
    share = singular / singular.sum(dim=-1, keepdim=True)
    return torch.special.entr(share).sum(dim=-1).exp().to(rows.dtype)


def normalised_entropy(weights: Tensor, real: Tensor | None = None) -> Tensor:
    """Entropy of attention weights over log of the number of keys: (..., K) -> (...), 0 to 1.

    NaN for a single key. ``real``, broadcastable to (...), is how many keys there are, where a mask
    hides the others.
    """
    entropy = torch.special.entr(weights).sum(dim=-1)
    if real is not None:
        return entropy / real.to(entropy.dtype).log()
    keys = weights.shape[-1]
    return entropy / math.log(keys) if keys > 1 else entropy * math.nan


def received(unpack: Tensor, real: Tensor | None = None) -> Tensor:
    """The mean unpack weight of each row: (B, n, L, M) -> (B, M), over ``real`` (B, L) if given."""
    if real is None:
        return unpack.mean(dim=(1, 2))
    return _mean_of_real(unpack.mean(dim=1), real)


def dominant_rows(unpack: Tensor, real: Tensor | None = None) -> Tensor:
    """The smallest share of rows that together receive over half of the unpack weight.

    (B, n, L, M) -> (B,). 1/M when one row takes over half; about 1/2 when all are read alike.
    """
    rows = unpack.shape[-1]
    most = received(unpack, real).sort(dim=-1, descending=True).values
    needed = (most.cumsum(dim=-1) <= 0.5).sum(dim=-1) + 1
    return needed / rows


def real_positions(network: Network, inputs: Tensor, lengths: Tensor) -> Tensor | None:
    """(B, L) True at CLS and tokens; None where the model does not mask padding.

    Of pairs (B, 2, L) it is (2B, L), as in a trace.
    """
    if network.model.reading == "as_coded":
        return None
    front = _front(network)
    places = torch.arange(inputs.shape[-1] + front, device=inputs.device)
    return places < _known(lengths)[:, None] + front


def measure(network: Network, inputs: Tensor, lengths: Tensor, labels: Tensor) -> Rows:
    """All measures of every block, averaged over a batch: one dict per block, first block first.

    Keys: ``block``; ``packed_cosine``, ``packed_rank``, ``memory_cosine``, ``memory_rank``;
    ``pack_entropy``, ``unpack_entropy`` (0 to 1); ``dominant_rows``; ``packed_gradient``,
    ``memory_gradient`` (mean norm per row of the loss gradient of one sample) and
    ``gradient_spread`` (deviation over mean of that norm over packed rows). What has no meaning
    (pairs of rows for M = 1, the gradient of a memory that nothing reads) is None. A model without
    memory gives an empty list.

    Where the model masks padding, it has no part in any measure. ``pack_entropy`` is then that of
    one look at the whole sequence, also in chunks, of which each counts by its number of keys (CLS
    among them); samples with a single key are left out. Unmasked, chunks count alike, and CLS once.
    """
    if not network.model.memory:
        return []
    size = _samples_at_a_time(network, inputs)
    parts: list[list[dict[str, Tensor]]] = []  # of each part of the batch, a dict per block
    samples = len(inputs) * network.task.sequences
    counted: dict[str, int | Tensor] = {}  # samples, where a measure has no meaning for some
    rows: list[tuple[Tensor, Tensor]] = []  # packed and memory, each (blocks, B, M, H)
    with evaluating(network):
        for start in range(0, len(inputs), size):
            part = slice(start, start + size)
            trace: list[Trace] = []
            with torch.enable_grad():
                scores = network(inputs[part], lengths[part], trace)
                if not trace:  # a block of its own that does not show its memory
                    return []
                loss = functional.cross_entropy(scores, labels[part], reduction="sum")
                streams = [t for block in trace for t in (block.packed, block.memory)]
                gradients = _gradients(loss, streams)
            of_blocks = zip(trace, gradients[0::2], gradients[1::2], strict=True)
            real = real_positions(network, inputs[part], lengths[part])
            keys = None if real is None else _real_keys(network, inputs[part], lengths[part])
            parts.append([_measures(*of_block, real, keys) for of_block in of_blocks])
            if keys is not None:
                counted["pack_entropy"] = counted.get("pack_entropy", 0) + keys.several.sum()
            packed, memory = (torch.stack(streams[which::2]).detach() for which in (0, 1))
            rows.append((packed, memory))
    _add_ranks(parts, rows)
    return [
        {
            "block": number,
            **{key: _mean(of_block, key, counted.get(key, samples)) for key in of_block[0]},
        }
        for number, of_block in enumerate(zip(*parts, strict=True), 1)
    ]


def _gradients(loss: Tensor, streams: Sequence[Tensor]) -> list[Tensor | None]:
    """The loss gradient of each of ``streams``; None where it does not depend on one, or a block
    of a user's has cut one off."""
    reached = [stream for stream in streams if stream.requires_grad]
    found = iter(torch.autograd.grad(loss, reached, allow_unused=True) if reached else ())
    return [next(found) if stream.requires_grad else None for stream in streams]


def _samples_at_a_time(network: Network, inputs: Tensor) -> int:
    if not inputs.is_cuda:
        return CHUNK
    model = network.model
    weights = model.heads * inputs[0].numel() * max(model.memory, model.chunk)
    return max(1, WEIGHTS_ON_GPU // weights)


def _add_ranks(parts: list[list[dict[str, Tensor]]], rows: list[tuple[Tensor, Tensor]]) -> None:
    """All eigenvalues in one call: a GPU solves many in about the time of a few."""
    for which, key in enumerate(("packed_rank", "memory_rank")):
        if rows[0][which].shape[-2] == 1:
            continue
        ranks = effective_rank(torch.cat([part[which] for part in rows], dim=1))
        sizes = [part[which].shape[1] for part in rows]
        for part, of_part in zip(parts, ranks.split(sizes, dim=1), strict=True):
            for block, rank in zip(part, of_part, strict=True):
                block[key] = rank


def _measures(
    block: Trace,
    packed_gradient: Tensor | None,
    memory_gradient: Tensor | None,
    real: Tensor | None,
    keys: _Keys | None,
) -> dict[str, Tensor]:
    """One block's measures, each (B,); the ranks are filled in by :func:`_add_ranks`."""
    packed, memory = block.packed.detach(), block.memory.detach()
    pack, unpack = (None if w is None else w.detach() for w in (block.pack, block.unpack))
    nothing = packed.new_full((len(packed),), math.nan)
    one_row = packed.shape[1] == 1
    norms = None if packed_gradient is None else packed_gradient.norm(dim=-1)
    return {
        "packed_cosine": pairwise_cosine(packed),
        "packed_rank": nothing,
        "memory_cosine": pairwise_cosine(memory),
        "memory_rank": nothing,
        "pack_entropy": nothing if pack is None else _pack_entropy(pack, keys),
        "unpack_entropy": nothing if unpack is None else _unpack_entropy(unpack, real),
        "dominant_rows": nothing if one_row or unpack is None else dominant_rows(unpack, real),
        "packed_gradient": nothing if norms is None else norms.mean(dim=-1),
        "memory_gradient": (
            nothing if memory_gradient is None else memory_gradient.norm(dim=-1).mean(dim=-1)
        ),
        "gradient_spread": (
            nothing if norms is None or one_row else norms.std(dim=-1) / norms.mean(dim=-1)
        ),
    }


def _unpack_entropy(unpack: Tensor, real: Tensor | None) -> Tensor:
    entropy = normalised_entropy(unpack)
    return entropy.mean(dim=(1, 2)) if real is None else _mean_of_real(entropy.mean(dim=1), real)


def _pack_entropy(pack: Tensor, keys: _Keys | None) -> Tensor:
    if keys is None:
        return normalised_entropy(pack).mean(dim=(1, 2))
    if keys.size:
        pack = _at_once(pack, keys)
    entropy = normalised_entropy(pack, keys.number[:, None, None]).mean(dim=(1, 2))
    return entropy.where(keys.several, 0.0)


def _mean_of_real(values: Tensor, real: Tensor) -> Tensor:
    """(B, L, ...), (B, L) -> (B, ...)."""
    weight = real.to(values.dtype) / real.sum(dim=1, keepdim=True)
    return (values * weight.view(*weight.shape, *[1] * (values.dim() - 2))).sum(dim=1)


@dataclass(frozen=True)
class _Keys:
    """How many keys of pack are real, in a model that masks padding.

    Attributes:
        of_chunks: (B, C) in each chunk, its CLS included; C = 1 where nothing is cut into chunks.
        size: in a chunk without padding; 0 where nothing is cut.
        front: 1 where CLS stands in front of each chunk, so that the trace joins its first keys.
    """

    of_chunks: Tensor
    size: int
    front: int

    @property
    def number(self) -> Tensor:
        """(B,) in the whole sequence."""
        return self.of_chunks.sum(dim=1)

    @property
    def several(self) -> Tensor:
        """(B,) whether there is more than one, so that a look can be more or less even."""
        return self.number > 1


def _real_keys(network: Network, inputs: Tensor, lengths: Tensor) -> _Keys:
    longest, front, chunk = inputs.shape[-1], _front(network), network.model.chunk
    starts = torch.arange(0, longest, chunk or longest, device=inputs.device)
    tokens = (_known(lengths)[:, None] - starts).clamp(0, chunk or longest)
    width, stride = _window(network)
    windows = ((tokens + front - width) // stride + 1).clamp(min=1)
    size = max(1, (chunk + front - width) // stride + 1) if chunk else 0
    return _Keys(windows * (tokens > 0), size, front)


def _window(network: Network) -> tuple[int, int]:
    """Width and stride of the windows that become one key each."""
    for module in network.modules():
        if isinstance(module, PoolFilter) or (isinstance(module, ConvFilter) and module.stride > 1):
            return module.width, module.stride
    return 1, 1  # a convolution that keeps the length has a key per position


def _at_once(pack: Tensor, keys: _Keys) -> Tensor:
    """Pack weights joined over chunks -> those of one look: (B, n, M, L') -> (B, n, M, C * K).

    In the trace all chunks with tokens weigh the same, and CLS is one position. Here a chunk
    weighs by its number of keys, and its CLS, which has what its tokens leave of its weight, is
    one of them.
    """
    number = keys.of_chunks[:, None, None, :, None].to(pack.dtype)
    chunks, behind = number.shape[3], keys.size - keys.front
    missing = chunks * behind - (pack.shape[-1] - keys.front)  # of the last chunk, if it is short
    own = functional.pad(pack[..., keys.front :], (0, missing))
    own = own.unflatten(-1, (chunks, behind)) * (number > 0).sum(dim=3, keepdim=True)
    if keys.front:
        own = torch.cat([(1 - own.sum(dim=-1, keepdim=True)).clamp(min=0), own], dim=-1)
    return (own * (number / number.sum(dim=3, keepdim=True))).flatten(-2)


def _front(network: Network) -> int:
    """How many vectors stand in front of the tokens: CLS or nothing."""
    return int(network.model.representation == "cls")


def _known(lengths: Tensor) -> Tensor:
    """An empty sequence counts as one token, as in the encoder."""
    return lengths.flatten().clamp(min=1)


def _mean(parts: Sequence[dict[str, Tensor]], key: str, samples: int | Tensor) -> float | None:
    total = float(sum(part[key].sum() for part in parts) / samples)
    return total if math.isfinite(total) else None
