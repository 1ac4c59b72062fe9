"""Memory that carries information from chunk to chunk (the paper's second family, claim C5).

The sequence is cut into chunks of ``model.chunk`` positions, each with a CLS vector in front where
the model has one. A block maps one chunk and the memory before it to the chunk's new vectors and
the memory after it. Two ways to carry the memory on:

* ``layer``: each block has a memory of its own, m_c = block(chunk c, m_(c-1)). What does not depend
  on the memory is computed for all chunks at once (:meth:`ChunkMemoryBlock.forward_chunks`).
* ``stack``: one memory goes through all blocks, and from the last one to the next chunk's first.

A chunk without tokens (padding alone, under ``as_intended``) leaves the memory as it is. What the
filter cannot see is the next chunk: F pads with zeros at the borders of a chunk.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

from memnb.config import Model
from memnb.models.attention import (
    Temperature,
    as_key_mask,
    attend_shown,
    join_heads,
    project,
    split_heads,
)
from memnb.models.blocks import FeedForward, LinearMaps, Trace, layer_norm, norm_first_half
from memnb.models.filters import make_filter

Recurrence = Literal["layer", "stack"]


class ChunkMemoryBlock(nn.Module):
    """A memory that is written and read by attention, as in Memformer (arXiv 2010.06891).

        h       = x + Attn(LN x)                   within the chunk; T = sqrt d
        packed  = Attn(q = m, k = v = F(LN h))     the write; T_pack
        m'      = LN(m + packed)
        y       = h + Attn(q = LN h, k = v = m)    the read, of the memory before the chunk
        x'      = y + FFN(LN y)

    LN h is one norm, of write and read.

    F is the filter on keys and values of the write, or nothing. Memformer writes once, behind its
    last layer; here every block has a memory and writes its own chunk vectors, so that all chunks
    of a block can be worked through together: only the short write goes from chunk to chunk.
    """

    recurrence: Recurrence = "layer"
    keep_rows: Tensor | None = None  # as in SharedMemoryAttention: set by row-removal tests
    stand_in: Tensor | None = None  # (B, M, H) added to every write; set while a trace is taken

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.heads, self.dropout = model.heads, model.dropout
        head_width = model.width // model.heads
        self.constant = math.sqrt(head_width)
        self.within = LinearMaps(model.width)
        self.write = LinearMaps(model.width)
        self.read = LinearMaps(model.width)
        self.filter = make_filter(model)
        self.write_temperature = Temperature(model.pack_temperature, head_width)
        norms = ("within", "exchange", "memory", "ffn")
        self.norms = nn.ModuleDict({name: layer_norm(model) for name in norms})
        self.ffn = FeedForward(model.width, model.mlp, model.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One chunk: (B, K, H), (B, M, H) -> (B, rows or K, H), (B, M, H)."""
        shown = trace is not None
        h = self._within(x, mask, shown)
        query, key, value, key_mask = self._exchange_inputs(h, mask)
        packed, pack = self._write(memory, key, value, key_mask, shown)
        x, unpack = self._read(h[:, :rows], query[:, :, :rows], memory, shown)
        after = self._written(memory, packed)
        if trace is not None and pack is not None and unpack is not None:
            trace.append(Trace(packed, after, pack, unpack))
        return x, after

    def forward_chunks(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        alive: Tensor | None,
        flowing: Tensor | None,
        rows: int | None = None,
        last_write: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """All chunks: equal to :meth:`forward` on one after the other.

        Args:
            x: (B, C, K, H).
            memory: (B, M, H) before the first chunk.
            mask: (B, C, K), True at positions that count.
            alive: (B, C), True where a chunk has tokens; None where all have.
            flowing: (B or 1, C), True where gradients flow into the memory before the chunk; None
                where they always do.
            rows: how many vectors of each chunk are asked for.
            last_write: whether the memory after the last chunk is asked for.

        Returns:
            (B, C, rows or K, H), and the memory after the last write.
        """
        batch, chunks = x.shape[:2]
        flat_mask = None if mask is None else mask.flatten(0, 1)
        h = self._within(x.flatten(0, 1), flat_mask, shown=False)
        query, key, value, key_mask = self._exchange_inputs(h, flat_mask)
        # Taken apart in one piece: the gradient of a slice would be a whole tensor of zeros each.
        keys, values = (part.unflatten(0, (batch, chunks)).unbind(1) for part in (key, value))
        masks = None if key_mask is None else key_mask.unflatten(0, (batch, chunks)).unbind(1)
        before = []
        for c in range(chunks):
            memory = hold(memory, flowing, c)
            before.append(memory)
            if c == chunks - 1 and not last_write:
                break
            here = None if masks is None else masks[c]
            packed, _ = self._write(memory, keys[c], values[c], here, shown=False)
            after = self._written(memory, packed)
            memory = carry(after, memory, None if alive is None else alive[:, c])
        read_from = torch.stack(before, dim=1).flatten(0, 1)
        x, _ = self._read(h[:, :rows], query[:, :, :rows], read_from, shown=False)
        return x.unflatten(0, (batch, chunks)), memory

    def _within(self, x: Tensor, mask: Tensor | None, shown: bool) -> Tensor:
        y, maps = self.norms["within"](x), self.within
        query, key, value = project(y, maps["query"], maps["key"], maps["value"])
        query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
        key_mask = as_key_mask(mask)
        read, _ = self._attention(query, key, value, self.constant, key_mask, shown)
        return x + maps["out"](join_heads(read))

    def _exchange_inputs(
        self, h: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Query of the read (B, n, K, d), filtered keys and values of the write, their mask."""
        maps = self.read["query"], self.write["key"], self.write["value"]
        query, key, value = project(self.norms["exchange"](h), *maps)
        if self.filter is not None:
            key, value, mask = self.filter(key, value, mask)
        query, key, value = (split_heads(part, self.heads) for part in (query, key, value))
        return query, key, value, as_key_mask(mask)

    def _write(
        self, memory: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, shown: bool
    ) -> tuple[Tensor, Tensor | None]:
        query = split_heads(self.write["query"](memory), self.heads)
        temperature = self.write_temperature()
        packed, weights = self._attention(query, key, value, temperature, mask, shown)
        return self.write["out"](join_heads(packed)), weights

    def _written(self, memory: Tensor, packed: Tensor) -> Tensor:
        if self.stand_in is not None:
            packed = packed + self.stand_in
        after: Tensor = self.norms["memory"](memory + packed)
        return after

    def _read(
        self, h: Tensor, query: Tensor, memory: Tensor, shown: bool
    ) -> tuple[Tensor, Tensor | None]:
        key, value = project(memory, self.read["key"], self.read["value"])
        key, value = split_heads(key, self.heads), split_heads(value, self.heads)
        kept = as_key_mask(self.keep_rows)
        if kept is not None and len(kept) > 1:  # all chunks of a sequence lose the same rows
            kept = kept.repeat_interleave(len(query) // len(kept), dim=0)
        read, weights = self._attention(query, key, value, self.constant, kept, shown)
        y = h + self.read["out"](join_heads(read))
        return norm_first_half(y, self.ffn, cast(nn.LayerNorm, self.norms["ffn"])), weights

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        temperature: float | Tensor,
        mask: Tensor | None,
        shown: bool,
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        return attend_shown(query, key, value, temperature, mask, dropout, shown)


class RecurrentMemoryBlock(nn.Module):
    """A Transformer block over memory and chunk together (Recurrent Memory Transformer,
    arXiv 2207.06881, its encoder): z = [m; x], z <- z + Attn(LN z); z <- z + FFN(LN z).

    The memory rows are tokens like all others: what they read of the chunk is the write, what the
    chunk reads of them is the read. With a filter, memory rows see keys and values of the chunk
    through F, and the chunk's own positions do not.
    """

    recurrence: Recurrence = "stack"
    keep_rows: Tensor | None = None
    stand_in: Tensor | None = None

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.heads, self.dropout, self.memory_rows = model.heads, model.dropout, model.memory
        self.temperature = math.sqrt(model.width // model.heads)
        self.norm1 = layer_norm(model)
        self.norm2 = layer_norm(model)
        self.maps = LinearMaps(model.width)
        self.filter = make_filter(model)
        self.ffn = FeedForward(model.width, model.mlp, model.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        rows: int | None = None,
        trace: list[Trace] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One chunk: (B, K, H), (B, M, H) -> (B, rows or K, H), (B, M, H)."""
        count = self.memory_rows
        z = torch.cat([memory.to(x.dtype), x], dim=1)
        y, maps = self.norm1(z), self.maps
        query, key, value = project(y, maps["query"], maps["key"], maps["value"])
        if rows is not None:
            query, z = query[:, : count + rows], z[:, : count + rows]
        query = split_heads(query, self.heads)
        pack = unpack = None
        if trace is None and self.filter is None and self.keep_rows is None:  # rows and chunk alike
            read, _ = self._attend(query, key, value, self._key_mask(mask, key), False)
        else:
            shown = trace is not None
            inputs = self._write_inputs(key, value, mask)
            write, pack = self._attend(query[:, :, :count], *inputs, shown)
            own_mask = self._key_mask(mask, key, self.keep_rows)
            own, unpack = self._attend(query[:, :, count:], key, value, own_mask, shown)
            read = torch.cat([write, own], dim=2)
        change = self.maps["out"](join_heads(read))
        packed = change[:, :count]
        if self.stand_in is not None:
            change = torch.cat([packed + self.stand_in, change[:, count:]], dim=1)
        z = z + change
        z = norm_first_half(z, self.ffn, self.norm2)
        if trace is not None and pack is not None and unpack is not None:
            looked = pack[..., count:], unpack[..., :count]
            # Of the whole row a part goes to the other stream: what is left is made a share again.
            pack, unpack = (part / part.sum(-1, keepdim=True).clamp(min=1e-9) for part in looked)
            trace.append(Trace(packed, z[:, :count], pack, unpack))
        return z[:, count:], z[:, :count]

    def _write_inputs(
        self, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values with those of the chunk filtered, (B, M + K', H), and their mask."""
        if self.filter is not None:
            count = self.memory_rows
            own, others = (key[:, :count], value[:, :count]), (key[:, count:], value[:, count:])
            *others, mask = self.filter(*others, mask)
            key, value = (torch.cat(pair, dim=1) for pair in zip(own, others, strict=True))
        return key, value, self._key_mask(mask, key)

    def _key_mask(
        self, mask: Tensor | None, key: Tensor, kept: Tensor | None = None
    ) -> Tensor | None:
        """(B or 1, 1, 1, M + K), True where a key may be read; None where all may."""
        if mask is None and kept is None:
            return None
        everything = torch.ones(1, key.shape[1], dtype=torch.bool, device=key.device)
        rows = (
            everything[:, : self.memory_rows] if kept is None else kept.view(-1, self.memory_rows)
        )
        positions = everything[:, self.memory_rows :] if mask is None else mask
        count = max(len(rows), len(positions))
        both = torch.cat([rows.expand(count, -1), positions.expand(count, -1)], dim=1)
        return both[:, None, None, :]

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        shown: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, n, Q, d), (B, K, H) twice -> (B, n, Q, d), and the weights where they are shown."""
        key, value = split_heads(key, self.heads), split_heads(value, self.heads)
        dropout = self.dropout if self.training else 0.0
        return attend_shown(query, key, value, self.temperature, mask, dropout, shown)


# --- from chunk to chunk ---------------------------------------------------------------------


def hold(memory: Tensor, flowing: Tensor | None, chunk: int) -> Tensor:
    """The same memory; where ``flowing`` (B or 1, C) is False, gradients do not go back into it."""
    if flowing is None:
        return memory
    return torch.where(flowing[:, chunk, None, None], memory, memory.detach())


def carry(after: Tensor, before: Tensor, alive: Tensor | None) -> Tensor:
    """The memory after a chunk; ``before`` where the chunk has no tokens (``alive`` (B,))."""
    if alive is None:
        return after
    return torch.where(alive.view(-1, *[1] * (after.dim() - 1)), after, before)


def flows(alive: Tensor | None, chunks: int, through: int, device: torch.device) -> Tensor | None:
    """(B or 1, C): whether gradients flow into the memory before each chunk; None: into all.

    ``through`` chunks are open, counted back from the last one with tokens; 0 opens all. What the
    first chunk begins with is no earlier chunk's, but learned: it is always open.
    """
    if not through:
        return None
    number = torch.arange(chunks, device=device)[None]
    last = torch.full((1, 1), chunks, device=device) if alive is None else alive.sum(1)[:, None]
    return (number > last - through) | (number == 0)


class Watch:
    """Collects what each block did in each chunk, and joins it to one :class:`Trace` per block.

    ``packed`` is the mean of what the chunks with tokens wrote, as a tensor whose gradient is that
    of a change made in all of these writes; ``memory`` is the memory after the last of them. Pack
    weights are averaged over these chunks, so that a row's weights add up to 1. CLS, which stands
    in front of every chunk, is one position, the first.
    """

    def __init__(self, blocks: list[nn.Module], memory: Tensor) -> None:
        self.seen: list[list[Trace]] = [[] for _ in blocks]
        self.alive: list[Tensor] = []
        self.blocks = blocks
        self.everyone = torch.ones(len(memory), dtype=torch.bool, device=memory.device)
        # Zeros added to every write; the mean of the writes is filled in at the end.
        self.stand_ins = [
            torch.zeros_like(memory, requires_grad=torch.is_grad_enabled()) for _ in blocks
        ]
        for block, stand_in in zip(blocks, self.stand_ins, strict=True):
            setattr(block, "stand_in", stand_in)  # noqa: B010 (a module's own attribute)

    def chunk_ends(self, alive: Tensor | None) -> None:
        """Says which samples (B,) have tokens in the chunk that all blocks have seen."""
        self.alive.append(self.everyone if alive is None else alive)

    def traces(self, cls: bool) -> list[Trace]:
        """One per block; the blocks are then as they were."""
        live = torch.stack(self.alive)  # (C, B)
        found = []
        for block, parts, stand_in in zip(self.blocks, self.seen, self.stand_ins, strict=True):
            setattr(block, "stand_in", None)  # noqa: B010
            found.append(_joined(parts, live, stand_in, cls))
        return found


def _joined(parts: list[Trace], live: Tensor, stand_in: Tensor, cls: bool) -> Trace:
    share = (live / live.sum(0)).to(stand_in.dtype)[:, :, None, None]  # (C, B, 1, 1)
    memory = parts[0].memory
    for part, here in zip(parts[1:], live[1:], strict=True):
        memory = carry(part.memory, memory, here)
    with torch.no_grad():
        mean = (torch.stack([part.packed for part in parts]) * share).sum(0)
        if mean.shape == stand_in.shape:
            stand_in.copy_(mean)
        else:  # a block of a user's may write other rows than those of its memory
            stand_in = mean
    pack, unpack = [], []
    for part, weight in zip(parts, share, strict=True):
        if part.pack is None or part.unpack is None:
            return Trace(stand_in, memory, None, None)
        pack.append(part.pack * weight[..., None])
        unpack.append(part.unpack)
    if cls:
        in_front = torch.stack([each[..., :1] for each in pack]).sum(0)
        pack = [in_front, *(each[..., 1:] for each in pack)]
        reads = torch.stack([each[:, :, :1] for each in unpack])
        unpack = [(reads * share[..., None]).sum(0), *(each[:, :, 1:] for each in unpack)]
    return Trace(stand_in, memory, torch.cat(pack, dim=-1), torch.cat(unpack, dim=2))
