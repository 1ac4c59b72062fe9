"""Attention as Triton kernels: softmax(q k^T / T) v over keys taken a tile at a time.

The scheme is FlashAttention-2's (arXiv 2307.08691); what is ours is what these models ask for and
the kernels that PyTorch brings are slow with: heads of 16 to 64 channels, padding among the keys
as a mask of its own (theirs read a bias for every pair of query and key), few queries or few keys,
and dropout by a cheap hash. Every sum has a fixed order, so equal calls give equal bits.

Dropout draws are a hash of (seed, query, key): nothing to keep for the backward pass. One hash
serves two keys, by its upper and its lower half, since hashing costs as much as the softmax. What
the kernels compute is written out in :func:`attention_written_out`; the tests compare the two, in
float64.

Where there are too few samples, heads and tiles to fill the card, as with one long sequence, what
a program walks along is cut into pieces, and what they found is put together in fixed order.

Shapes: B batch, n heads, Q queries, K keys, d channels of a head, P pieces.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from memnb.models import kernels
from memnb.models.kernels import MISSING, Tiles, dropout_threshold, tl, triton

HEAD_WIDTHS = (16, 32, 64)
HALF = 64  # keys in a tile; two tiles share their hashes
_LOG2_E = 1.4426950408889634
PIECE = 1024  # the shortest piece that is worth a program of its own

# The fastest of those tried on an H100 with heads of 32 channels.
FORWARD = Tiles(rows=128, warps=4, stages=3)
QUERIES = Tiles(rows=64, warps=4, stages=3)  # gradients of queries
KEYS = Tiles(rows=64, warps=4, stages=2)  # gradients of keys and values


def why_not(query: Tensor) -> str | None:
    """Why the kernels cannot be used for such queries (B, n, Q, d), or None if they can."""
    reason = kernels.why_not(query)
    if reason:
        return reason
    if query.shape[-1] not in HEAD_WIDTHS:
        return f"the kernels need heads of {HEAD_WIDTHS} channels"
    return None


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(q k^T * scale) v: (B, n, Q, d), (B, n, K, d) twice -> (B, n, Q, d) in bf16.

    ``mask`` is True where a key may be read, broadcastable to (B, 1, 1, K). ``dropout`` acts on the
    weights; with 0 nothing is drawn. Sums and the softmax are made in fp32, products in bf16.
    """
    half = torch.bfloat16
    if dropout > 0:
        seed = torch.randint(0, 2**31 - 1, (2,), device=query.device)
    else:
        seed = torch.zeros(2, dtype=torch.int64, device=query.device)
    until = None
    if mask is not None:
        mask = mask.expand(len(query), 1, 1, key.shape[2]).flatten(1).to(torch.uint8)
        until = last_readable(mask)
    parts = query.to(half), key.to(half), value.to(half)
    out, _ = torch.ops.memnb.attention(*parts, mask, until, seed, scale, dropout)
    joined: Tensor = out
    return joined.transpose(1, 2)


def last_readable(mask: Tensor) -> Tensor:
    """Up to where there are keys that may be read: (B, K), nonzero at those -> (B,), int32."""
    numbers = torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=torch.int32)
    return (numbers * (mask != 0)).amax(dim=1)


def attention_written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    seed: Tensor,
    scale: float,
    dropout: float,
) -> Tensor:
    """What the forward kernel computes, in plain PyTorch and any precision: (B, Q, n, d).

    ``mask`` (B, K) is nonzero where a key may be read.
    """
    logits = (query @ key.mT) * scale
    if mask is not None:
        logits = logits.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    keep = kept(seed, logits.shape, dropout)
    weights = logits.softmax(dim=-1) * keep.to(logits.dtype) / (1 - dropout)
    return (weights @ value).transpose(1, 2)


def kept(seed: Tensor, shape: torch.Size, dropout: float) -> Tensor:
    """What dropout keeps of the weights, bool (B, n, Q, K).

    Of each 128 keys, key i and key i + 64 share a hash: the one takes its lower 16 bits, the other
    its upper 16, and is kept where they are large enough.
    """
    *outer, keys = shape
    pairs = -(-keys // (2 * HALF)) * HALF
    rows = torch.arange(torch.Size(outer).numel(), device=seed.device)
    of_row = _hash(rows + int(seed[0]))
    of_pair = _hash(torch.arange(pairs, device=seed.device) + int(seed[1]))
    bits = _hash(of_row[:, None] + of_pair).view(len(rows), -1, HALF)
    both = torch.stack([bits & 0xFFFF, bits >> 16], dim=2).flatten(1)
    return (both[:, :keys] >= dropout_threshold(dropout)).view(shape)


def _hash(x: Tensor) -> Tensor:
    """32 random bits of each number: two rounds of shift and multiply."""
    bits = 2**32 - 1
    x = x & bits
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & bits
    x = ((x ^ (x >> 15)) * 0x846CA68B) & bits
    return x ^ (x >> 16)


def _for_few(tiles: Tiles, queries: int) -> Tiles:
    """The same, cut smaller where there are fewer queries than a tile takes."""
    few = 16 if queries <= 16 else 64
    return Tiles(few, 4, tiles.stages) if queries <= few < tiles.rows else tiles


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """How many programs the device runs at a time, at one for each multiprocessor."""
    if device.type != "cuda":
        return 1  # the interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


def pieces(programs: int, length: int, device: torch.device) -> int:
    """In how many pieces programs walk along ``length``: one, where they fill the device."""
    full = multiprocessors(device)
    if programs >= full:
        return 1
    wanted = -(-4 * full // programs)  # four on each multiprocessor: they wait for each other
    return max(1, min(wanted, length // PIECE))


def put_together(parts: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """What was read of each piece of the keys (P, B, Q, n, d), with the log2 of the softmax's sums
    in each (P, B, n, Q), as what is read of all (B, Q, n, d) and the log2 of their sums."""
    most = sums.amax(dim=0)
    shares = (sums - most).exp2()
    total = shares.sum(dim=0)
    weights = (shares / total).transpose(-1, -2)[..., None]
    return (parts * weights).sum(dim=0), most + total.log2()


if MISSING is None:
    from memnb.models.kernels import exp2

    _NEVER = tl.constexpr(-1e30)  # a logit that no other is below; infinities would meet infinities

    @triton.jit
    def _mixed(x):  # the twin of _hash
        x = (x ^ (x >> 16)) * 0x7FEB352D
        x = (x ^ (x >> 15)) * 0x846CA68B
        return x ^ (x >> 16)

    @triton.jit
    def _tile_and_head(length: tl.constexpr, step: tl.constexpr):
        """Which tile of the sequence a program takes, and of which sample's which head."""
        tiles = tl.cdiv(length, step)
        return tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)

    @triton.jit
    def _piece(piece, end):
        """Where a program's piece of what lies before ``end`` begins and ends."""
        begin = tl.program_id(1) * piece
        return begin, tl.minimum(begin + piece, end)

    @triton.jit
    def _piece_number():
        return tl.program_id(1).to(tl.int64)

    @triton.jit
    def _of_rows(seed_at, head, rows, queries: tl.constexpr):
        """A hash for each query."""
        first = tl.load(seed_at).to(tl.uint32)
        return _mixed(head.to(tl.uint32) * queries + rows.to(tl.uint32) + first)

    @triton.jit
    def _of_pairs(seed_at, start, HALF: tl.constexpr):
        """A hash for each pair of keys of the two tiles from ``start`` on."""
        second = tl.load(seed_at + 1).to(tl.uint32)
        return _mixed((start // 2 + tl.arange(0, HALF)).to(tl.uint32) + second)

    @triton.jit
    def _bias(mask_at, keys, count: tl.constexpr, MASKED: tl.constexpr):
        """What is added to the logits of these keys: nothing, or what hides them."""
        here = keys < count
        if MASKED:
            here = here & (tl.load(mask_at + keys, mask=here, other=0) != 0)
        return tl.where(here, 0.0, _NEVER)

    # Tiles behind a sample's last readable key are left out: of padding, most. With SPLIT, a
    # program walks along one piece, ``piece`` long, and of each piece there are ``results`` rows.

    @triton.jit
    def _attention_kernel(
        q_at, k_at, v_at, mask_at, until_at, seed_at, out_at, lse_at,
        q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
        heads, log2_scale, threshold, keep_scale, piece, results,
        queries: tl.constexpr, count: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
        HALF: tl.constexpr, HALVES: tl.constexpr, MASKED: tl.constexpr, DROP: tl.constexpr,
        SPLIT: tl.constexpr,
    ):  # fmt: skip
        """What is read, and the log2 of the softmax's sums; of each piece of the keys."""
        tile, head = _tile_and_head(queries, ROWS)
        batch, h = head // heads, head % heads
        rows, channels = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, D)
        valid = rows < queries
        threshold = threshold.to(tl.uint32)
        q_at += batch * q_batch + h * q_head
        k_at += batch * k_batch + h * k_head
        v_at += batch * v_batch + h * v_head
        mask_at += batch * count
        last = count
        if MASKED:
            last = tl.load(until_at + batch)
        begin = 0
        if SPLIT:
            begin, last = _piece(piece, last)
            out_at += _piece_number() * results * D
            lse_at += _piece_number() * results
        q = tl.load(q_at + rows[:, None] * q_row + channels[None, :], mask=valid[:, None], other=0)
        of_rows = _of_rows(seed_at, head, rows, queries)
        most = tl.full((ROWS,), _NEVER, tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        out = tl.zeros((ROWS, D), tl.float32)
        for start in range(begin, last, HALVES * HALF):
            drawn = _mixed(of_rows[:, None] + _of_pairs(seed_at, start, HALF)[None, :])
            for half in tl.static_range(HALVES):
                keys = start + half * HALF + tl.arange(0, HALF)
                there = (keys < count)[:, None]
                k = tl.load(k_at + keys[:, None] * k_row + channels[None, :], mask=there, other=0)
                v = tl.load(v_at + keys[:, None] * v_row + channels[None, :], mask=there, other=0)
                logits = tl.dot(q, tl.trans(k)) * log2_scale
                logits += _bias(mask_at, keys, count, MASKED)[None, :]
                higher = tl.maximum(most, tl.max(logits, axis=1))
                weights = exp2(logits - higher[:, None])
                shrink = exp2(most - higher)
                total = total * shrink + tl.sum(weights, axis=1)
                if DROP:  # shifted up, the lower half compares like the upper
                    keep = (drawn << 16 if half == 0 else drawn) >= threshold
                    weights = tl.where(keep, weights, 0.0)
                out = tl.dot(weights.to(v.dtype), v, out * shrink[:, None])
                most = higher
        if SPLIT:  # of a piece behind the last readable key nothing was read
            total = tl.maximum(total, 1e-30)
        out *= (keep_scale / total)[:, None]
        place = (batch * queries + rows) * heads + h
        tl.store(
            out_at + place[:, None] * D + channels[None, :],
            out.to(out_at.dtype.element_ty), mask=valid[:, None],
        )  # fmt: skip
        tl.store(lse_at + head * queries + rows, most + tl.log2(total), mask=valid)

    @triton.jit
    def _attention_query_kernel(
        dout_at, out_at, lse_at, q_at, k_at, v_at, mask_at, until_at, seed_at, dq_at, delta_at,
        dout_batch, dout_head, dout_row,
        q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
        heads, log2_scale, scale, threshold, keep_scale, piece, results,
        queries: tl.constexpr, count: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
        HALF: tl.constexpr, HALVES: tl.constexpr, MASKED: tl.constexpr, DROP: tl.constexpr,
        SPLIT: tl.constexpr,
    ):  # fmt: skip
        """Gradients of queries, from each piece of the keys, and of each query
        delta = sum(dout * out) / keep_scale."""
        tile, head = _tile_and_head(queries, ROWS)
        batch, h = head // heads, head % heads
        rows, channels = tile * ROWS + tl.arange(0, ROWS), tl.arange(0, D)
        valid = rows < queries
        threshold = threshold.to(tl.uint32)
        dout_at += batch * dout_batch + h * dout_head
        q_at += batch * q_batch + h * q_head
        k_at += batch * k_batch + h * k_head
        v_at += batch * v_batch + h * v_head
        mask_at += batch * count
        last = count
        if MASKED:
            last = tl.load(until_at + batch)
        begin = 0
        if SPLIT:
            begin, last = _piece(piece, last)
            dq_at += _piece_number() * results * D
        place = ((batch * queries + rows) * heads + h)[:, None] * D + channels[None, :]
        q = tl.load(q_at + rows[:, None] * q_row + channels[None, :], mask=valid[:, None], other=0)
        dout = tl.load(
            dout_at + rows[:, None] * dout_row + channels[None, :], mask=valid[:, None], other=0
        )
        out = tl.load(out_at + place, mask=valid[:, None], other=0)
        lse = tl.load(lse_at + head * queries + rows, mask=valid, other=0)
        delta = tl.sum(dout.to(tl.float32) * out.to(tl.float32), axis=1) / keep_scale
        # Programs of several pieces write the same.
        tl.store(delta_at + head * queries + rows, delta, mask=valid)
        of_rows = _of_rows(seed_at, head, rows, queries)
        dq = tl.zeros((ROWS, D), tl.float32)
        for start in range(begin, last, HALVES * HALF):
            drawn = _mixed(of_rows[:, None] + _of_pairs(seed_at, start, HALF)[None, :])
            for half in tl.static_range(HALVES):
                keys = start + half * HALF + tl.arange(0, HALF)
                there = (keys < count)[:, None]
                k = tl.load(k_at + keys[:, None] * k_row + channels[None, :], mask=there, other=0)
                v = tl.load(v_at + keys[:, None] * v_row + channels[None, :], mask=there, other=0)
                bias = _bias(mask_at, keys, count, MASKED)
                weights = exp2(tl.dot(q, tl.trans(k)) * log2_scale + bias[None, :] - lse[:, None])
                dweights = tl.dot(dout, tl.trans(v))
                if DROP:
                    keep = (drawn << 16 if half == 0 else drawn) >= threshold
                    dweights = tl.where(keep, dweights, 0.0)
                dlogits = weights * (dweights - delta[:, None])
                dq = tl.dot(dlogits.to(k.dtype), k, dq)
        dq *= scale * keep_scale
        tl.store(dq_at + place, dq.to(dq_at.dtype.element_ty), mask=valid[:, None])

    @triton.jit
    def _into_keys(
        k, v, q, dout, bias, lse, delta, keep, dk, dv, log2_scale, DROP: tl.constexpr
    ):  # fmt: skip
        """What a tile of queries adds to the gradients of a tile of keys and values."""
        weights = exp2(tl.dot(k, tl.trans(q)) * log2_scale + bias[:, None] - lse[None, :])
        dweights = tl.dot(v, tl.trans(dout))
        read = weights
        if DROP:
            read = tl.where(keep, weights, 0.0)
            dweights = tl.where(keep, dweights, 0.0)
        dv = tl.dot(read.to(dout.dtype), dout, dv)
        dlogits = weights * (dweights - delta[None, :])
        dk = tl.dot(dlogits.to(q.dtype), q, dk)
        return dk, dv

    @triton.jit
    def _attention_key_kernel(
        dout_at, lse_at, delta_at, q_at, k_at, v_at, mask_at, until_at, seed_at, dk_at, dv_at,
        dout_batch, dout_head, dout_row,
        q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row,
        heads, log2_scale, scale, threshold, keep_scale, piece, results,
        queries: tl.constexpr, count: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
        HALF: tl.constexpr, HALVES: tl.constexpr, MASKED: tl.constexpr, DROP: tl.constexpr,
        SPLIT: tl.constexpr,
    ):  # fmt: skip
        """Gradients of keys and values, from each piece of the queries."""
        tile, head = _tile_and_head(count, HALVES * HALF)
        batch, h = head // heads, head % heads
        channels = tl.arange(0, D)
        start = tile * (HALVES * HALF)
        keys = start + tl.arange(0, HALF)
        more = keys + HALF
        threshold = threshold.to(tl.uint32)
        dout_at += batch * dout_batch + h * dout_head
        q_at += batch * q_batch + h * q_head
        k_at += batch * k_batch + h * k_head
        v_at += batch * v_batch + h * v_head
        mask_at += batch * count
        last = count
        if MASKED:
            last = tl.load(until_at + batch)
        there, there_too = (keys < count)[:, None], (more < count)[:, None]
        bias = _bias(mask_at, keys, count, MASKED)
        k = tl.load(k_at + keys[:, None] * k_row + channels[None, :], mask=there, other=0)
        v = tl.load(v_at + keys[:, None] * v_row + channels[None, :], mask=there, other=0)
        dk, dv = tl.zeros((HALF, D), tl.float32), tl.zeros((HALF, D), tl.float32)
        if HALVES == 2:
            bias2 = _bias(mask_at, more, count, MASKED)
            k2 = tl.load(k_at + more[:, None] * k_row + channels[None, :], mask=there_too, other=0)
            v2 = tl.load(v_at + more[:, None] * v_row + channels[None, :], mask=there_too, other=0)
            dk2, dv2 = tl.zeros((HALF, D), tl.float32), tl.zeros((HALF, D), tl.float32)
        of_pairs = _of_pairs(seed_at, start, HALF)
        readers = queries
        if MASKED:  # keys that nobody reads have no gradients
            readers = tl.where(start < last, queries, 0)
        begin = 0
        if SPLIT:
            begin, readers = _piece(piece, readers)
            dk_at += _piece_number() * results * D
            dv_at += _piece_number() * results * D
        for first in range(begin, readers, ROWS):
            rows = first + tl.arange(0, ROWS)
            valid = rows < queries
            q = tl.load(
                q_at + rows[:, None] * q_row + channels[None, :], mask=valid[:, None], other=0
            )
            dout = tl.load(
                dout_at + rows[:, None] * dout_row + channels[None, :], mask=valid[:, None], other=0
            )
            lse = tl.load(lse_at + head * queries + rows, mask=valid, other=0)
            delta = tl.load(delta_at + head * queries + rows, mask=valid, other=0)
            of_rows = _of_rows(seed_at, head, rows, queries)
            drawn = _mixed(of_pairs[:, None] + of_rows[None, :])
            keep = drawn << 16 >= threshold
            dk, dv = _into_keys(k, v, q, dout, bias, lse, delta, keep, dk, dv, log2_scale, DROP)
            if HALVES == 2:
                keep = drawn >= threshold
                dk2, dv2 = _into_keys(
                    k2, v2, q, dout, bias2, lse, delta, keep, dk2, dv2, log2_scale, DROP
                )
        place = ((batch * count + keys) * heads + h)[:, None] * D + channels[None, :]
        kind = dk_at.dtype.element_ty
        tl.store(dk_at + place, (dk * (scale * keep_scale)).to(kind), mask=there)
        tl.store(dv_at + place, (dv * keep_scale).to(kind), mask=there)
        if HALVES == 2:
            place += HALF * heads * D
            tl.store(dk_at + place, (dk2 * (scale * keep_scale)).to(kind), mask=there_too)
            tl.store(dv_at + place, (dv2 * keep_scale).to(kind), mask=there_too)

    def _strided(x: Tensor) -> Tensor:
        """``x`` (B, n, L, d) with the channels of a head beside each other."""
        return x if x.stride(-1) == 1 else x.contiguous()

    def _readable(
        mask: Tensor | None, until: Tensor | None, nothing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mask and ends, or what stands for them where the kernels read neither."""
        if mask is None or until is None:
            return nothing, nothing
        return mask.contiguous(), until.contiguous()

    def _settings(
        query: Tensor, key: Tensor, mask: Tensor | None, dropout: float, tiles: Tiles
    ) -> dict[str, Any]:
        queries, count = query.shape[2], key.shape[2]
        tiles = _for_few(tiles, queries)
        return {
            "queries": queries, "count": count, "D": query.shape[3],
            "ROWS": tiles.rows, "HALF": HALF, "HALVES": 1 + (count > HALF),
            "MASKED": mask is not None, "DROP": dropout > 0,
            **tiles.options(),
        }  # fmt: skip

    def _walk(
        staying: int, tile: int, heads: int, walked: int, step: int, device: torch.device
    ) -> tuple[int, int, int]:
        """Programs that stay with a tile each, pieces that they walk along, and how long those."""
        programs = triton.cdiv(staying, tile) * heads
        piece = triton.cdiv(triton.cdiv(walked, pieces(programs, walked, device)), step) * step
        return programs, triton.cdiv(walked, piece), piece

    def _room(like: Tensor, number: int, *shape: int) -> Tensor:
        """For a result in so many pieces, (P, ...); in fp32, if they are to be put together."""
        return like.new_empty(number, *shape, dtype=like.dtype if number == 1 else torch.float32)

    def _added(parts: Tensor, kind: torch.dtype) -> Tensor:
        """(P, ...) -> (...); in fixed order."""
        return parts[0] if len(parts) == 1 else parts.sum(dim=0).to(kind)

    @torch.library.custom_op("memnb::attention", mutates_args=())
    def _forward(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, until: Tensor | None,
        seed: Tensor, scale: float, dropout: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """What is read (B, Q, n, d), and the log2 of the softmax's sums (B, n, Q)."""
        query, key, value = _strided(query), _strided(key), _strided(value)
        batch, heads, queries, channels = query.shape
        count = key.shape[2]
        settings = _settings(query, key, mask, dropout, FORWARD)
        programs, number, piece = _walk(
            queries, settings["ROWS"], batch * heads, count, settings["HALVES"] * HALF, query.device
        )
        out = _room(query, number, batch, queries, heads, channels)
        lse = query.new_empty(number, batch, heads, queries, dtype=torch.float32)
        _attention_kernel[(programs, number)](
            query, key, value, *_readable(mask, until, seed), seed, out, lse,
            *query.stride()[:3], *key.stride()[:3], *value.stride()[:3],
            heads, scale * _LOG2_E, dropout_threshold(dropout) << 16, 1 / (1 - dropout),
            piece, batch * heads * queries, SPLIT=number > 1, **settings,
        )  # fmt: skip
        if number == 1:
            return out[0], lse[0]
        whole, total = put_together(out, lse)
        return whole.to(query.dtype).contiguous(), total

    @_forward.register_fake
    def _(query, key, value, mask, until, seed, scale, dropout):
        batch, heads, queries, channels = query.shape
        out = query.new_empty(batch, queries, heads, channels)
        return out, query.new_empty(batch, heads, queries, dtype=torch.float32)

    @torch.library.custom_op("memnb::attention_backward", mutates_args=())
    def _backward(
        dout: Tensor, out: Tensor, lse: Tensor, query: Tensor, key: Tensor, value: Tensor,
        mask: Tensor | None, until: Tensor | None, seed: Tensor, scale: float, dropout: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Gradients of queries (B, Q, n, d), keys and values (B, K, n, d)."""
        query, key, value = _strided(query), _strided(key), _strided(value)
        dout = _strided(dout.transpose(1, 2))
        batch, heads, queries, channels = query.shape
        count = key.shape[2]
        delta = torch.empty_like(lse)
        readable = _readable(mask, until, seed)
        strides = [stride for part in (dout, query, key, value) for stride in part.stride()[:3]]
        numbers = (
            *strides, heads, scale * _LOG2_E, scale,
            dropout_threshold(dropout) << 16, 1 / (1 - dropout),
        )  # fmt: skip
        settings = _settings(query, key, mask, dropout, QUERIES)
        at_once = settings["HALVES"] * HALF
        programs, number, piece = _walk(
            queries, settings["ROWS"], batch * heads, count, at_once, query.device
        )
        dquery = _room(query, number, batch, queries, heads, channels)
        _attention_query_kernel[(programs, number)](
            dout, out, lse, query, key, value, *readable, seed, dquery, delta, *numbers,
            piece, batch * heads * queries, SPLIT=number > 1, **settings,
        )  # fmt: skip
        settings = _settings(query, key, mask, dropout, KEYS)
        programs, number, piece = _walk(
            count, at_once, batch * heads, queries, settings["ROWS"], query.device
        )
        dkey = _room(query, number, batch, count, heads, channels)
        dvalue = torch.empty_like(dkey)
        _attention_key_kernel[(programs, number)](
            dout, lse, delta, query, key, value, *readable, seed, dkey, dvalue, *numbers,
            piece, batch * heads * count, SPLIT=number > 1, **settings,
        )  # fmt: skip
        kind = query.dtype
        return _added(dquery, kind), _added(dkey, kind), _added(dvalue, kind)

    @_backward.register_fake
    def _(dout, out, lse, query, key, value, mask, until, seed, scale, dropout):
        batch, heads, count, channels = key.shape
        dkey = query.new_empty(batch, count, heads, channels)
        return torch.empty_like(out), dkey, torch.empty_like(dkey)

    def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        query, key, value, mask, until, seed, ctx.scale, ctx.dropout = inputs
        ctx.save_for_backward(*output, query, key, value, mask, until, seed)

    def _differentiate(ctx: Any, dout: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        dquery, dkey, dvalue = torch.ops.memnb.attention_backward(
            dout, *ctx.saved_tensors, ctx.scale, ctx.dropout
        )
        swapped = (part.transpose(1, 2) for part in (dquery, dkey, dvalue))
        return *swapped, None, None, None, None, None

    _forward.register_autograd(_differentiate, setup_context=_remember)
