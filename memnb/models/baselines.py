"""What the memories are compared with: other memories, and the filter without any memory.

The blocks have the same call as those of :mod:`memnb.models.blocks`. The two without a memory are
the controls that say how a gain of ConvLuna may be read: if the filter alone did as well, the gain
would say nothing about the memory.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from memnb.config import Model
from memnb.models.attention import (
    as_key_mask,
    attend_shown,
    join_heads,
    project,
    split_heads,
)
from memnb.models.blocks import (
    FeedForward,
    LinearMaps,
    Trace,
    layer_norm,
    norm_first_half,
    second_half,
)
from memnb.models.filters import ConvFilter, PoolFilter, make_filter


def _filter(model: Model) -> ConvFilter | PoolFilter:
    found = make_filter(model)
    assert found is not None, "the config gives these kinds a filter"
    return found


class PerceiverBlock(nn.Module):
    """Latents that read the sequence and each other (Perceiver, arXiv 2103.03206), pre-LN:

        m1 = m + Attn(q = LN m, k = v = LN x);   m2 = m1 + FFN(LN m1)
        m3 = m2 + Attn(LN m2);                   m' = m3 + FFN(LN m3)

    The sequence stays as it was embedded; the head reads the mean of the last latents. Every block
    has weights of its own (Perceiver may share them).
    """

    keep_rows: Tensor | None = None  # as in SharedMemoryAttention: set by row-removal tests

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.heads, self.dropout = model.heads, model.dropout
        self.temperature = math.sqrt(model.width // model.heads)
        self.cross, self.latent = (LinearMaps(model.width) for _ in range(2))
        self.norm_x, self.norm_cross, self.norm_latent = (layer_norm(model) for _ in range(3))
        self.norm_ffn1, self.norm_ffn2 = (layer_norm(model) for _ in range(2))
        self.ffn1, self.ffn2 = (
            FeedForward(model.width, model.mlp, model.dropout) for _ in range(2)
        )

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, L, H), (B, M, H) -> (B, rows or L, H) untouched, (B, M, H)."""
        assert memory is not None
        key_mask = as_key_mask(mask)
        packed, weights = self._attention(
            self.cross, self.norm_cross(memory), self.norm_x(x), key_mask, trace is not None
        )
        memory = memory + packed
        memory = memory + self.ffn1(self.norm_ffn1(memory))
        y = self.norm_latent(memory)
        kept = as_key_mask(self.keep_rows)
        read, _ = self._attention(self.latent, y, y, kept, trace is not None)
        memory = memory + read
        memory = memory + self.ffn2(self.norm_ffn2(memory))
        if trace is not None:
            trace.append(Trace(packed, memory, weights, None))
        return x[:, :rows], memory

    def _attention(
        self, maps: LinearMaps, query: Tensor, source: Tensor, mask: Tensor | None, shown: bool
    ) -> tuple[Tensor, Tensor | None]:
        key, value = project(source, maps["key"], maps["value"])
        q, k, v = (split_heads(part, self.heads) for part in (maps["query"](query), key, value))
        dropout = self.dropout if self.training else 0.0
        read, weights = attend_shown(q, k, v, self.temperature, mask, dropout, shown)
        return maps["out"](join_heads(read)), weights


class LinformerBlock(nn.Module):
    """A Transformer block whose keys and values are M fixed mixtures of positions (Linformer,
    arXiv 2006.04768), pre-LN: x <- x + softmax(q (E k)^T / sqrt d) E v Wo; x <- x + FFN(LN x).

    E (M, L) is learned, one per block, the same for keys and values and for all heads (the paper's
    key-value sharing), with entries N(0, 1/M) as its proof draws them. The M mixtures are what the
    probes call packed rows.
    """

    keep_rows: Tensor | None = None

    def __init__(self, model: Model, positions: int) -> None:
        super().__init__()
        self.heads, self.dropout = model.heads, model.dropout
        self.temperature = math.sqrt(model.width // model.heads)
        self.maps = LinearMaps(model.width)
        self.mixture = nn.Parameter(torch.randn(model.memory, positions) * model.memory**-0.5)
        self.norm1, self.norm2 = layer_norm(model), layer_norm(model)
        self.ffn = FeedForward(model.width, model.mlp, model.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, L, H) -> (B, rows or L, H)."""
        y = self.norm1(x)
        key, value = project(y, self.maps["key"], self.maps["value"])
        if mask is not None:
            key, value = key * mask[:, :, None], value * mask[:, :, None]
        mixture = self.mixture[:, : x.shape[1]].to(key.dtype)
        key, packed = mixture @ key, mixture @ value
        query = split_heads(self.maps["query"](y[:, :rows]), self.heads)
        key, value = split_heads(key, self.heads), split_heads(packed, self.heads)
        kept = as_key_mask(self.keep_rows)
        dropout, shown = self.dropout if self.training else 0.0, trace is not None
        read, weights = attend_shown(query, key, value, self.temperature, kept, dropout, shown)
        if trace is not None:
            trace.append(Trace(packed, packed, None, weights))
        x = x[:, :rows] + self.maps["out"](join_heads(read))
        return norm_first_half(x, self.ffn, self.norm2), memory


class LocalConvBlock(nn.Module):
    """The Transformer block with the filter in the place of attention, pre-LN:
    x <- x + F(LN x Wv) Wo; x <- x + FFN(LN x).

    A convolution of width ``filter_width``, one kernel per head: LightConv (arXiv 1901.10430)
    without its softmax over the kernel. Positions meet nowhere but within the filter's reach.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.maps = LinearMaps(model.width, ("value", "out"))
        self.filter = _filter(model)
        self.norm1, self.norm2 = layer_norm(model), layer_norm(model)
        self.ffn = FeedForward(model.width, model.mlp, model.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, L, H) -> (B, rows or L, H); there is no memory."""
        del trace
        value = self.filter.values(self.maps["value"](self.norm1(x)), mask)
        x = x[:, :rows] + self.maps["out"](value[:, :rows])
        return norm_first_half(x, self.ffn, self.norm2), memory


class MemorylessBlock(nn.Module):
    """ConvLuna with its memory path removed: every position reads its own filtered neighbourhood
    in the place of the packed rows. Norms, filter, output projection and FFN are ConvLuna's:

        x1 = LN_in(x + F(x) Wo);   x' = LN_out(x1 + FFN(x1))
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.out = nn.Linear(model.width, model.width)
        self.filter = _filter(model)
        self.norm_in, self.norm_out = layer_norm(model), layer_norm(model)
        self.ffn = FeedForward(model.width, model.mlp, model.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, L, H) -> (B, rows or L, H); there is no memory."""
        del trace
        x1 = self.norm_in(x[:, :rows] + self.out(self.filter.values(x, mask)[:, :rows]))
        return second_half(x1, self.ffn, self.norm_out), memory
