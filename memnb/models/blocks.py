"""The blocks: Transformer, Luna and ConvLuna, leaf to root.

Every block maps (x, memory, mask) to (x, memory). x is the sequence (B, L, H); memory is
(B, M, H), or None in the Transformer; mask is (B, L), True at tokens, or None for no masking.
``rows`` asks for the first rows of the new x only: a last block that is read at the CLS position
need not compute the others. ``trace``, if given, receives what the memory held and where the
attention looked, and makes the block take the written-out path instead of the fused kernels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.config import Model
from memnb.models import fused
from memnb.models.attention import (
    Temperature,
    absorbed_logits,
    as_key_mask,
    attend_shown,
    join_heads,
    project,
    split_heads,
)
from memnb.models.filters import ConvFilter, make_filter
from memnb.models.sums import mix, weighted_sums

_PARTS = ("query", "key", "value", "out")
_SHARED = {"full": _PARTS, "qk": ("query", "key"), "none": ()}


@dataclass
class Trace:
    """What one memory block did for one batch.

    Attributes:
        packed: (B, M, H), what the memory wrote from the sequence and unpack reads.
        memory: (B, M, H), the memory stream that leaves the block (m').
        pack: (B, n, M, L'), pack attention weights over the (filtered) sequence; None where a block
            has none, or does not show them.
        unpack: (B, n, L, M), unpack attention weights over the packed rows; None likewise.
    """

    packed: Tensor
    memory: Tensor
    pack: Tensor | None
    unpack: Tensor | None


class LinearMaps(nn.ModuleDict):
    """Linear(H, H) maps by name; those of an attention where no others are named."""

    def __init__(self, width: int, parts: Iterable[str] = _PARTS) -> None:
        super().__init__({part: nn.Linear(width, width) for part in parts})

    def __getitem__(self, part: str) -> nn.Linear:
        return cast(nn.Linear, super().__getitem__(part))


class FeedForward(nn.Sequential):
    """Linear(H, mlp), GELU, dropout, Linear(mlp, H), dropout."""

    def __init__(self, width: int, mlp: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, mlp),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp, width),
            nn.Dropout(dropout),
        )
        self.dropout = dropout

    @property
    def up(self) -> nn.Linear:
        """Linear(H, mlp)."""
        return cast(nn.Linear, self[0])

    @property
    def down(self) -> nn.Linear:
        """Linear(mlp, H)."""
        return cast(nn.Linear, self[3])


def layer_norm(model: Model) -> nn.LayerNorm:
    """Over the width of ``model``, as every block and the encoder norm."""
    return nn.LayerNorm(model.width, eps=1e-6)


def second_half(x: Tensor, ffn: FeedForward, norm: nn.LayerNorm) -> Tensor:
    """LN(x + FFN(x)), as one kernel where there is one: (..., H) -> (..., H)."""
    if fused.why_not(x, norm, ffn.up.out_features) is None:
        dropout = ffn.dropout if ffn.training else 0.0
        return fused.ffn_norm(x, ffn.up, ffn.down, norm, dropout)
    out: Tensor = norm(x + ffn(x))
    return out


def norm_first_half(x: Tensor, ffn: FeedForward, norm: nn.LayerNorm) -> Tensor:
    """x + FFN(LN(x)), as one kernel where there is one: (..., H) -> (..., H)."""
    if fused.why_not(x, norm, ffn.up.out_features) is None:
        dropout = ffn.dropout if ffn.training else 0.0
        return fused.norm_ffn(x, ffn.up, ffn.down, norm, dropout)
    out: Tensor = x + ffn(norm(x))
    return out


class TransformerBlock(nn.Module):
    """Pre-LN: x <- x + Attn(LN1 x; T = sqrt d); x <- x + FFN(LN2 x)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.heads, self.dropout = model.heads, model.dropout
        self.temperature = math.sqrt(model.width // model.heads)
        self.norm1 = layer_norm(model)
        self.norm2 = layer_norm(model)
        self.maps = LinearMaps(model.width)
        self.ffn = FeedForward(model.width, model.mlp, model.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, L, H) -> (B, rows or L, H); the memory passes through untouched."""
        y = self.norm1(x)
        query, key, value = project(y, self.maps["query"], self.maps["key"], self.maps["value"])
        query, key, value = (split_heads(t, self.heads) for t in (query, key, value))
        x, query = x[:, :rows], query[:, :, :rows]
        key_mask = as_key_mask(mask)
        dropout = self.dropout if self.training else 0.0
        shown = trace is not None
        read, _ = attend_shown(query, key, value, self.temperature, key_mask, dropout, shown)
        x = x + self.maps["out"](join_heads(read))
        return norm_first_half(x, self.ffn, self.norm2), memory


@dataclass(frozen=True)
class Maps:
    """The four projections of one attention; None stands for the identity."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear | None
    out: nn.Linear | None


class SharedMemoryAttention(nn.Module, ABC):
    """Pack the sequence into M rows, then let every position read them.

        packed   = Attn(q = m, k = v = F(x); T_pack)
        unpacked = Attn(q = x, k = v = packed; T_unpack)

    While n * M <= H, projecting the few memory rows is cheaper than projecting every position: then
    the maps of the sequence are absorbed into the memory's side, (x W) r = x (W r), and the filter,
    which is linear along the sequence, is moved from keys and values to logits and weights.

    Subclasses say which projections and temperatures there are. Attributes: ``filter`` is F or
    None; ``temperatures`` are those of pack and unpack, or None where T = sqrt d in both.
    """

    filter: nn.Module | None
    temperatures: nn.ModuleDict | None
    # Set by tests on trained models: (M,) or (B, M), True where unpack may read; a change of
    # (B, M, H) packed.
    keep_rows: Tensor | None = None
    edit_packed: Callable[[Tensor], Tensor] | None = None

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.heads, self.dropout, self.memory_rows = model.heads, model.dropout, model.memory
        self.filter = make_filter(model)
        self._constant = math.sqrt(model.width // model.heads)
        self.few_rows = model.heads * model.memory <= model.width
        # A convolution that keeps the length can act on the weights instead; a maximum cannot.
        self.filter_can_move = model.filter == "none" or (
            model.filter == "conv" and model.filter_stride == 1
        )

    def pack_temperature(self) -> float | Tensor:
        """T of the pack attention."""
        return self.temperatures["pack"]() if self.temperatures else self._constant

    def unpack_temperature(self) -> float | Tensor:
        """T of the unpack attention."""
        return self.temperatures["unpack"]() if self.temperatures else self._constant

    @property
    @abstractmethod
    def pack_maps(self) -> Maps:
        """The projections of the pack attention."""

    @property
    @abstractmethod
    def unpack_maps(self) -> Maps:
        """The projections of the unpack attention; it always has an output projection."""

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[tuple[Tensor | None, Tensor | None]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(packed (B, M, H), unpacked (B, rows or L, H or broadcastable to it))."""
        dropout = self.dropout if self.training else 0.0
        if trace is not None:
            packed, pack_weights = self._pack(x, memory, mask, dropout, shown=True)
            packed = self._edited(packed)
            unpacked, unpack_weights = self._unpack(x[:, :rows], packed, dropout, shown=True)
            trace.append((pack_weights, unpack_weights))
            return packed, unpacked
        if self.few_rows and self.filter_can_move:
            packed = self._pack_few(x, memory, mask, dropout)
        else:
            packed, _ = self._pack(x, memory, mask, dropout)
        packed = self._edited(packed)
        if self.few_rows:
            return packed, self._unpack_few(x[:, :rows], packed, dropout)
        return packed, self._unpack(x[:, :rows], packed, dropout)[0]

    # --- pack: (B, L, H), (B, M, H) -> (B, M, H) ----------------------------------------------

    def _pack(
        self, x: Tensor, memory: Tensor, mask: Tensor | None, dropout: float, shown: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """What is written, and the weights (B, n, M, L') where they are ``shown``."""
        maps = self.pack_maps
        if maps.value is None:
            key = maps.key(x)
            value = x.to(key.dtype)
        else:
            key, value = project(x, maps.key, maps.value)
        if self.filter is not None:
            key, value, mask = self.filter(key, value, mask)
        query, key, value = (split_heads(t, self.heads) for t in (maps.query(memory), key, value))
        key_mask = as_key_mask(mask)
        temperature = self.pack_temperature()
        packed, weights = attend_shown(query, key, value, temperature, key_mask, dropout, shown)
        return _mapped(maps.out, join_heads(packed)), weights

    def _pack_few(self, x: Tensor, memory: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
        maps = self.pack_maps
        query = split_heads(maps.query(memory), self.heads) / self.pack_temperature()
        logits = absorbed_logits(x, query, maps.key)
        padding = None if mask is None else ~mask[:, :, None]
        if isinstance(self.filter, ConvFilter):
            if padding is not None:  # padding must look like the zeros beyond the end
                logits = logits.masked_fill(padding, 0.0)
            logits = self.filter.convolve(logits)
        if padding is not None:
            logits = logits.masked_fill(padding, float("-inf"))
        weights = functional.dropout(logits.softmax(dim=1), dropout)
        if isinstance(self.filter, ConvFilter):
            weights = self.filter.transposed(weights)
            if padding is not None:
                weights = weights.masked_fill(padding, 0.0)
        return _mapped(maps.out, join_heads(self._weighted_values(weights, x)))

    def _weighted_values(self, weights: Tensor, x: Tensor) -> Tensor:
        """Weights (B, L, n * M) times values (B, n, L, d) -> (B, n, M, d)."""
        value = self.pack_maps.value
        batch, _, width = x.shape
        means = weighted_sums(weights, x).view(batch, self.heads, -1, width)
        if value is None:  # each head reads its own channels
            by_head = means.unflatten(3, (self.heads, -1))
            return by_head.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
        weight = value.weight.view(self.heads, -1, width)
        bias = value.bias.view(self.heads, 1, -1)
        totals = weights.sum(dim=1).view(batch, self.heads, -1, 1)
        return torch.einsum("bnmh,ndh->bnmd", means, weight) + totals * bias

    # --- unpack: (B, L, H), (B, M, H) -> (B, L, H) --------------------------------------------

    def _unpack(
        self, x: Tensor, packed: Tensor, dropout: float, shown: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """What is read, and the weights (B, n, L, M) where they are ``shown``."""
        maps = self.unpack_maps
        mapped = maps.query(x), maps.key(packed), _mapped(maps.value, packed)
        query, key, value = (split_heads(each, self.heads) for each in mapped)
        temperature, kept = self.unpack_temperature(), as_key_mask(self.keep_rows)
        read, weights = attend_shown(query, key, value, temperature, kept, dropout, shown)
        return _mapped(maps.out, join_heads(read)), weights

    def _unpack_few(self, x: Tensor, packed: Tensor, dropout: float) -> Tensor:
        """As :meth:`_unpack`; with M = 1 and no dropout (B, 1, H).

        With M = 1 the softmax over one row is 1 whatever query and key are, so every position
        receives the same vector; only dropout on the weights tells positions apart.
        """
        maps = self.unpack_maps
        assert maps.out is not None
        value = _mapped(maps.value, packed)
        if self.memory_rows == 1:
            if dropout == 0.0:
                return maps.out(value)
            weights = value.new_ones(x.shape[0], x.shape[1], self.heads)
        else:
            key = split_heads(maps.key(packed), self.heads) / self.unpack_temperature()
            logits = absorbed_logits(x, key, maps.query).unflatten(2, (self.heads, -1))
            kept = as_key_mask(self.keep_rows)
            if kept is not None:
                logits = logits.masked_fill(~kept, float("-inf"))
            weights = logits.softmax(dim=3).flatten(2)
        weights = functional.dropout(weights, dropout)
        width = x.shape[2]
        by_head = maps.out.weight.view(width, self.heads, -1)
        read = torch.einsum("bnmd,hnd->bnmh", split_heads(value, self.heads), by_head)
        return mix(weights, read.flatten(1, 2)) + maps.out.bias.to(read.dtype)

    def _edited(self, packed: Tensor) -> Tensor:
        return packed if self.edit_packed is None else self.edit_packed(packed)


def _mapped(linear: nn.Linear | None, x: Tensor) -> Tensor:
    return x if linear is None else linear(x)


def _temperatures(model: Model) -> nn.ModuleDict:
    kinds = {"pack": model.pack_temperature, "unpack": model.unpack_temperature_used}
    head_width = model.width // model.heads
    return nn.ModuleDict({part: Temperature(kind, head_width) for part, kind in kinds.items()})


class LunaAttention(SharedMemoryAttention):
    """Four projections per attention; pack and unpack share all, query and key, or none.

    With a filter and temperatures this is ConvLuna's full variant; without, it is Luna
    (T = sqrt d in both). ``pack_output=False`` leaves out pack's output projection, as the
    official Luna does (arXiv 2106.01540).
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        own = set(_PARTS) - set(_SHARED[model.sharing])
        if not model.pack_output:
            own.add("out")
        pack_parts = [part for part in _PARTS if part != "out" or model.pack_output]
        self.pack = LinearMaps(model.width, pack_parts)
        self.unpack = LinearMaps(model.width, [part for part in _PARTS if part in own])
        self.pack_output = model.pack_output
        self.temperatures = _temperatures(model) if model.kind == "convluna" else None

    @property
    def pack_maps(self) -> Maps:
        out = self.pack["out"] if self.pack_output else None
        return Maps(self.pack["query"], self.pack["key"], self.pack["value"], out)

    @property
    def unpack_maps(self) -> Maps:
        return Maps(*(self.unpack[p] if p in self.unpack else self.pack[p] for p in _PARTS))


class ConvLunaAttention(SharedMemoryAttention):
    """The simplified variant that the authors run: no value projections, the rest shared.

    pack:   q = m Wq / T_pack,   k = F(x Wk),    v = F(x),    packed   = softmax(q k^T) v Wo
    unpack: q = x Wq / T_unpack, k = packed Wk,  v = packed,  unpacked = softmax(q k^T) v Wo
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.maps = LinearMaps(model.width, ("query", "key", "out"))
        self.temperatures = _temperatures(model)

    @property
    def pack_maps(self) -> Maps:
        return Maps(self.maps["query"], self.maps["key"], None, self.maps["out"])

    @property
    def unpack_maps(self) -> Maps:
        return self.pack_maps


class SharedMemoryBlock(nn.Module):
    """Luna's two residual streams, post-LN:

    x1 = LN_in(x + unpacked);  m' = LN_mem(m + packed);  x' = LN_out(x1 + FFN(x1)).
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        simplified = model.kind == "convluna" and model.variant == "simplified"
        self.attention = ConvLunaAttention(model) if simplified else LunaAttention(model)
        self.norm_in = layer_norm(model)
        self.norm_memory = layer_norm(model)
        self.norm_out = layer_norm(model)
        self.ffn = FeedForward(model.width, model.mlp, model.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, L, H), (B, M, H) -> (B, rows or L, H), (B, M, H)."""
        assert memory is not None
        weights: list[tuple[Tensor | None, Tensor | None]] | None = None if trace is None else []
        packed, unpacked = self.attention(x, memory, mask, rows, weights)
        memory = self.norm_memory(memory + packed)
        x = second_half(self.norm_in(x[:, :rows] + unpacked), self.ffn, self.norm_out)
        if trace is not None and weights is not None:
            trace.append(Trace(packed, memory, *weights[0]))
        return x, memory
