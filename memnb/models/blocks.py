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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.config import Model
from memnb.models.attention import (
    Temperature,
    attend,
    attention_weights,
    join_heads,
    project,
    split_heads,
)
from memnb.models.filters import make_filter

LAYER_NORM_EPS = 1e-6
_PARTS = ("query", "key", "value", "out")
_SHARED = {"full": _PARTS, "qk": ("query", "key"), "none": ()}


@dataclass
class Trace:
    """What one memory block did for one batch.

    Attributes:
        packed: (B, M, H), what the memory wrote from the sequence and unpack reads.
        memory: (B, M, H), the memory stream that leaves the block (m').
        pack: (B, n, M, L'), pack attention weights over the (filtered) sequence.
        unpack: (B, n, L, M), unpack attention weights over the packed rows.
    """

    packed: Tensor
    memory: Tensor
    pack: Tensor
    unpack: Tensor


class LinearMaps(nn.ModuleDict):
    """Linear(H, H) maps by name."""

    def __init__(self, width: int, parts: Iterable[str]) -> None:
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


class TransformerBlock(nn.Module):
    """Pre-LN: x <- x + Attn(LN1 x; T = sqrt d); x <- x + FFN(LN2 x)."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.heads, self.dropout = model.heads, model.dropout
        self.temperature = math.sqrt(model.width // model.heads)
        self.norm1 = nn.LayerNorm(model.width, eps=LAYER_NORM_EPS)
        self.norm2 = nn.LayerNorm(model.width, eps=LAYER_NORM_EPS)
        self.maps = LinearMaps(model.width, _PARTS)
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
        key_mask = None if mask is None else mask[:, None, None, :]
        if trace is None:
            dropout = self.dropout if self.training else 0.0
            read = attend(query, key, value, self.temperature, key_mask, dropout)
        else:
            read = attention_weights(query, key, self.temperature, key_mask) @ value
        x = x + self.maps["out"](join_heads(read))
        return x + self.ffn(self.norm2(x)), memory


class SharedMemoryAttention(nn.Module, ABC):
    """Pack the sequence into M rows, then let every position read them.

        packed   = Attn(q = m, k = v = F(x); T_pack)
        unpacked = Attn(q = x, k = v = packed; T_unpack)

    Subclasses say how queries, keys and values are made. Attributes: ``pack_temperature`` and
    ``unpack_temperature`` return T; ``filter`` is F or None.
    """

    filter: nn.Module | None
    keep_rows: Tensor | None = None  # (M,) True where unpack may read; set by row-removal tests

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.heads, self.dropout, self.memory_rows = model.heads, model.dropout, model.memory

    @abstractmethod
    def pack_temperature(self) -> float | Tensor:
        """T of the pack attention."""

    @abstractmethod
    def unpack_temperature(self) -> float | Tensor:
        """T of the unpack attention."""

    @abstractmethod
    def pack_inputs(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query (B, M, H) of the memory; keys and values (B, L, H) of the sequence."""

    @abstractmethod
    def unpack_query(self, x: Tensor) -> Tensor:
        """Query (B, L, H) of the sequence."""

    @abstractmethod
    def unpack_key_value(self, packed: Tensor) -> tuple[Tensor | None, Tensor]:
        """Keys and values (B, M, H) of the packed rows; no keys where M = 1 makes them idle."""

    @abstractmethod
    def pack_out(self, packed: Tensor) -> Tensor:
        """The output projection of pack."""

    @property
    @abstractmethod
    def unpack_out(self) -> nn.Linear:
        """The output projection of unpack."""

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(packed (B, M, H), unpacked (B, rows or L, H or broadcastable to it))."""
        query, key, value = self.pack_inputs(x, memory)
        if self.filter is not None:
            key, value, mask = self.filter(key, value, mask)
        query, key, value = (split_heads(t, self.heads) for t in (query, key, value))
        key_mask = None if mask is None else mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        if trace is None:
            packed = attend(query, key, value, self.pack_temperature(), key_mask, dropout)
        else:
            pack = attention_weights(query, key, self.pack_temperature(), key_mask)
            packed = pack @ value
        packed = self.pack_out(join_heads(packed))

        if self.memory_rows == 1 and trace is None:
            return packed, self._unpack_single(packed, x[:, :rows].shape[1], dropout)
        row_key, row_value = self.unpack_key_value(packed)
        value = split_heads(row_value, self.heads)
        if row_key is None:
            unpack = packed.new_ones(x.shape[0], self.heads, x[:, :rows].shape[1], 1)
            read = unpack @ value
        else:
            key = split_heads(row_key, self.heads)
            query = split_heads(self.unpack_query(x[:, :rows]), self.heads)
            keep = None if self.keep_rows is None else self.keep_rows[None, None, None, :]
            if trace is None:
                read = attend(query, key, value, self.unpack_temperature(), keep, dropout)
            else:
                unpack = attention_weights(query, key, self.unpack_temperature(), keep)
                read = unpack @ value
        if trace is not None:
            trace.append((pack, unpack))
        return packed, self.unpack_out(join_heads(read))

    def _unpack_single(self, packed: Tensor, positions: int, dropout: float) -> Tensor:
        """Unpack for M = 1, where the softmax over one row is 1 whatever query and key are.

        Every position receives the same vector, (B, 1, H). Only dropout on the weights, one draw
        per position and head, tells positions apart: then the heads' contributions to the output
        projection are added with those weights, (B, L, H).
        """
        _, value = self.unpack_key_value(packed)
        out = self.unpack_out
        if dropout == 0.0:
            return out(value)
        batch, _, width = value.shape
        by_head = value.view(batch, self.heads, width // self.heads)
        weight = out.weight.view(width, self.heads, width // self.heads)
        contributions = torch.einsum("bnd,hnd->bnh", by_head, weight.to(value.dtype))
        draws = functional.dropout(
            contributions.new_ones(batch, positions, self.heads), dropout, training=True
        )
        return draws @ contributions + out.bias.to(contributions.dtype)


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
        self.filter = make_filter(model)
        head_width = model.width // model.heads
        self._constant = math.sqrt(head_width)
        self.temperatures: nn.ModuleDict | None = None
        if model.kind == "convluna":
            self.temperatures = nn.ModuleDict(
                {
                    "pack": Temperature(model.pack_temperature, head_width),
                    "unpack": Temperature(model.unpack_temperature_used, head_width),
                }
            )

    def pack_temperature(self) -> float | Tensor:
        return self.temperatures["pack"]() if self.temperatures else self._constant

    def unpack_temperature(self) -> float | Tensor:
        return self.temperatures["unpack"]() if self.temperatures else self._constant

    def pack_inputs(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key, value = project(x, self.pack["key"], self.pack["value"])
        return self.pack["query"](memory), key, value

    def unpack_query(self, x: Tensor) -> Tensor:
        return self._unpack_map("query")(x)

    def unpack_key_value(self, packed: Tensor) -> tuple[Tensor | None, Tensor]:
        if self.memory_rows == 1:
            return None, self._unpack_map("value")(packed)
        key, value = project(packed, self._unpack_map("key"), self._unpack_map("value"))
        return key, value

    def pack_out(self, packed: Tensor) -> Tensor:
        return self.pack["out"](packed) if "out" in self.pack else packed

    @property
    def unpack_out(self) -> nn.Linear:
        return self._unpack_map("out")

    def _unpack_map(self, part: str) -> nn.Linear:
        return self.unpack[part] if part in self.unpack else self.pack[part]


class ConvLunaAttention(SharedMemoryAttention):
    """The simplified variant that the authors run: no value projections, the rest shared.

    pack:   q = m Wq / T_pack,   k = F(x Wk),    v = F(x),    packed   = softmax(q k^T) v Wo
    unpack: q = x Wq / T_unpack, k = packed Wk,  v = packed,  unpacked = softmax(q k^T) v Wo
    """

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.maps = LinearMaps(model.width, ("query", "key", "out"))
        self.filter = make_filter(model)
        head_width = model.width // model.heads
        self.temperatures = nn.ModuleDict(
            {
                "pack": Temperature(model.pack_temperature, head_width),
                "unpack": Temperature(model.unpack_temperature_used, head_width),
            }
        )

    def pack_temperature(self) -> float | Tensor:
        return self.temperatures["pack"]()

    def unpack_temperature(self) -> float | Tensor:
        return self.temperatures["unpack"]()

    def pack_inputs(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key = self.maps["key"](x)
        return self.maps["query"](memory), key, x.to(key.dtype)

    def unpack_query(self, x: Tensor) -> Tensor:
        return self.maps["query"](x)

    def unpack_key_value(self, packed: Tensor) -> tuple[Tensor | None, Tensor]:
        key = None if self.memory_rows == 1 else self.maps["key"](packed)
        return key, packed

    def pack_out(self, packed: Tensor) -> Tensor:
        return self.maps["out"](packed)

    @property
    def unpack_out(self) -> nn.Linear:
        return self.maps["out"]


class SharedMemoryBlock(nn.Module):
    """Luna's two residual streams, post-LN:

    x1 = LN_in(x + unpacked);  m' = LN_mem(m + packed);  x' = LN_out(x1 + FFN(x1)).
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        simplified = model.kind == "convluna" and model.variant == "simplified"
        self.attention = ConvLunaAttention(model) if simplified else LunaAttention(model)
        self.norm_in = nn.LayerNorm(model.width, eps=LAYER_NORM_EPS)
        self.norm_memory = nn.LayerNorm(model.width, eps=LAYER_NORM_EPS)
        self.norm_out = nn.LayerNorm(model.width, eps=LAYER_NORM_EPS)
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
        weights: list[tuple[Tensor, Tensor]] | None = None if trace is None else []
        packed, unpacked = self.attention(x, memory, mask, rows, weights)
        memory = self.norm_memory(memory + packed)
        x = self.norm_in(x[:, :rows] + unpacked)
        x = self.norm_out(x + self.ffn(x))
        if trace is not None and weights is not None:
            trace.append(Trace(packed, memory, *weights[0]))
        return x, memory
