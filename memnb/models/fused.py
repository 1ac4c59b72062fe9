"""A block's second half in two Triton kernels, forward and backward.

It is y = LN(x + FFN(x)) in blocks that norm what they add up (Luna), y = x + FFN(LN(x)) in those
that norm what they read (Transformer).

The hidden layer of the FFN is four times as wide as the sequence; written to memory, activated,
dropped and read back it costs more than the products themselves. Here it stays in registers: the
forward pass never stores it, the backward pass makes it again and stores it once, for the weight
gradients (plain matrix products).

Dropout draws are a hash of (seed, index): nothing to keep for the backward pass. One hash serves
two hidden units, by its upper and its lower half, since hashing costs as much as the activation.
What the kernels compute is written out in :func:`ffn_norm_written_out`; the tests compare the two,
in float64.

Shapes: N positions, H width (a power of two, 32 to 256), F hidden width (a multiple of 128).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.models import kernels
from memnb.models.kernels import MISSING, Tiles, dropout_threshold, tl, triton

WIDTHS = (32, 64, 128, 256)
HIDDEN_STEP = 128  # two tiles of hidden units, which share their hashes


# The fastest of those tried on an H100 at width 128, hidden width 512.
FORWARD = Tiles(rows=64, warps=4, stages=1)
BACKWARD = Tiles(rows=64, warps=4, stages=1)
# At width 256 a program of the backward kernel takes 128 KiB of shared memory on an H100 and 100 on
# other cards, as Triton 3.9 compiles it; with half the rows 68.
WIDE = Tiles(rows=32, warps=4, stages=1)
ROOM_FOR_BACKWARD = 128 * 1024


def why_not(x: Tensor, norm: nn.LayerNorm, hidden: int) -> str | None:
    """Why the kernels cannot be used for such a block, or None if they can."""
    reason = kernels.why_not(x)
    if reason:
        return reason
    if norm.normalized_shape[0] not in WIDTHS or hidden % HIDDEN_STEP:
        return f"the kernels need a width of {WIDTHS} and a hidden width in steps of {HIDDEN_STEP}"
    return None


def backward_tiles(width: int, device: torch.device) -> Tiles:
    """The backward kernel's, cut smaller where the device has too little shared memory."""
    if width == max(WIDTHS) and kernels.shared_memory(device) < ROOM_FOR_BACKWARD:
        return WIDE
    return BACKWARD


def ffn_norm(
    x: Tensor, up: nn.Linear, down: nn.Linear, norm: nn.LayerNorm, dropout: float
) -> Tensor:
    """LN(x + drop(W2 drop(gelu(W1 x + b1)) + b2)): (..., H) -> (..., H) in bf16.

    ``dropout`` is 0 in evaluation: then nothing is drawn, so that scoring a network leaves the
    draws of its training alone. Sums and norms are made in fp32, products in bf16.
    """
    return _second_half(x.to(torch.bfloat16), up, down, norm, dropout, norm_first=False)


def norm_ffn(
    x: Tensor, up: nn.Linear, down: nn.Linear, norm: nn.LayerNorm, dropout: float
) -> Tensor:
    """x + drop(W2 drop(gelu(W1 LN(x) + b1)) + b2): (..., H) -> (..., H), as precise as ``x`` is.

    ``dropout`` and precision otherwise as in :func:`ffn_norm`.
    """
    return _second_half(x, up, down, norm, dropout, norm_first=True)


def _second_half(
    x: Tensor,
    up: nn.Linear,
    down: nn.Linear,
    norm: nn.LayerNorm,
    dropout: float,
    norm_first: bool,
) -> Tensor:
    half = torch.bfloat16
    if dropout > 0:
        seed = torch.randint(0, 2**31 - 1, (2,), device=x.device)
    else:
        seed = torch.zeros(2, dtype=torch.int64, device=x.device)
    y, _, _ = torch.ops.memnb.ffn_norm(
        x.reshape(-1, x.shape[-1]),
        up.weight.to(half),
        up.bias,
        down.weight.to(half),
        down.bias,
        norm.weight,
        norm.bias,
        seed,
        dropout,
        norm.eps,
        norm_first,
    )
    return y.view(x.shape)


def ffn_norm_written_out(
    x: Tensor,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    down_bias: Tensor,
    gain: Tensor,
    shift: Tensor,
    seed: Tensor,
    dropout: float,
    eps: float,
    norm_first: bool,
) -> Tensor:
    """What the forward kernel computes, in plain PyTorch and any precision."""
    read = functional.layer_norm(x, x.shape[-1:], gain, shift, eps) if norm_first else x
    hidden = functional.gelu(functional.linear(read, up, up_bias))
    keep = kept_hidden(seed, len(x), len(up), dropout)
    hidden = hidden * keep.to(x.dtype) / (1 - dropout)
    out = functional.linear(hidden, down, down_bias)
    out = out * kept_out(seed, len(x), len(down), dropout).to(x.dtype) / (1 - dropout)
    if norm_first:
        return x + out
    return functional.layer_norm(x + out, x.shape[-1:], gain, shift, eps)


def kept_hidden(seed: Tensor, positions: int, hidden: int, dropout: float) -> Tensor:
    """What dropout keeps of the hidden layer, bool (N, F).

    Of each 128 units, unit i and unit i + 64 share a hash: the one takes its lower 16 bits, the
    other its upper 16, and is kept where they are large enough.
    """
    pairs = torch.arange(positions * hidden // 2, device=seed.device)
    bits = _hash(pairs, int(seed[0]), int(seed[1])).view(positions, -1, HIDDEN_STEP // 2)
    both = torch.stack([bits & 0xFFFF, bits >> 16], dim=2)
    return both.view(positions, hidden) >= dropout_threshold(dropout)


def kept_out(seed: Tensor, positions: int, width: int, dropout: float) -> Tensor:
    """What dropout keeps of the output, bool (N, H): by the upper 16 bits of a hash each."""
    index = torch.arange(positions * width, device=seed.device).view(positions, width)
    return _hash(index, int(seed[1]), int(seed[0])) >> 16 >= dropout_threshold(dropout)


def _hash(index: Tensor, first: int, second: int) -> Tensor:
    """32 random bits of each index: three rounds of shift and multiply, keyed twice.

    With two rounds neighbouring indices were dropped together too seldom.
    """
    bits = 2**32 - 1
    x = (index + first) & bits
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & bits
    x = (((x ^ (x >> 15)) + second) * 0x846CA68B) & bits
    x = ((x ^ (x >> 16)) * 0x9E3779B1) & bits
    return x ^ (x >> 16)


if MISSING is None:
    from memnb.models.kernels import INTERPRETED, exp2

    @triton.jit
    def _reciprocal(x):  # likewise, where a division takes five
        if INTERPRETED:
            return 1.0 / x
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )

    @triton.jit
    def _normal(x):
        """exp(-x^2 / 2) / sqrt(2 pi), and the share of a normal distribution below x.

        The share by Abramowitz and Stegun 26.2.17 (error below 7.5e-8), from the same exponential.
        """
        bell = exp2(x * x * -0.7213475204444817)  # log2(e) / 2
        t = _reciprocal(1.0 + 0.2316419 * tl.abs(x))
        tail = 0.5307027145 * t - 0.7265760135
        tail = ((tail * t + 0.7107068705) * t - 0.1422483683) * t + 0.1274147959
        tail = tail * t * bell
        return bell * 0.3989422804014327, tl.where(x > 0, 1.0 - tail, tail)

    @triton.jit
    def _mixed(index, first, second):  # the twin of _hash
        x = index.to(tl.uint32) + first
        x = (x ^ (x >> 16)) * 0x7FEB352D
        x = ((x ^ (x >> 15)) + second) * 0x846CA68B
        x = (x ^ (x >> 16)) * 0x9E3779B1
        return x ^ (x >> 16)

    @triton.jit
    def _drawn(rows, start, first, second, F: tl.constexpr, TILE: tl.constexpr, DROP: tl.constexpr):
        """A hash for each pair of hidden units in two tiles, the twin of kept_hidden."""
        pairs = rows[:, None] * (F // 2) + start // 2 + tl.arange(0, TILE)[None, :]
        return _mixed(pairs, first, second) if DROP else pairs

    @triton.jit
    def _normed(z, H: tl.constexpr, eps):
        """Each row of z with mean 0 and variance 1, and 1 / its deviation."""
        centred = z - (tl.sum(z, axis=1) / H)[:, None]
        scale = 1.0 / tl.sqrt(tl.sum(centred * centred, axis=1) / H + eps)
        return centred * scale[:, None], scale

    @triton.jit
    def _norm_gradient(dunit, unit, scale, H: tl.constexpr):
        """Gradient of z from that of its normed rows."""
        along = tl.sum(dunit * unit, axis=1) / H
        return (dunit - (tl.sum(dunit, axis=1) / H)[:, None] - unit * along[:, None]) * scale[
            :, None
        ]

    @triton.jit
    def _forward_kernel(
        x_at, up_at, up_bias_at, down_at, down_bias_at, gain_at, shift_at, seed_at,
        y_at, read_at, scale_at,
        positions, threshold, keep_scale, eps,
        H: tl.constexpr, F: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
        DROP: tl.constexpr, NORM_FIRST: tl.constexpr,
    ):  # fmt: skip
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        cols = tl.arange(0, H)
        valid = (rows < positions)[:, None]
        place = rows[:, None] * H + cols[None, :]
        first, second = tl.load(seed_at).to(tl.uint32), tl.load(seed_at + 1).to(tl.uint32)
        threshold = threshold.to(tl.uint32)
        gain, shift = tl.load(gain_at + cols)[None, :], tl.load(shift_at + cols)[None, :]
        x = tl.load(x_at + place, mask=valid, other=0.0)
        read = x
        if NORM_FIRST:
            unit, scale = _normed(x.to(tl.float32), H, eps)
            read = (unit * gain + shift).to(up_at.dtype.element_ty)
        out = tl.zeros((ROWS, H), tl.float32)
        for start in range(0, F, 2 * TILE):
            drawn = _drawn(rows, start, first, second, F, TILE, DROP)
            for half in tl.static_range(2):
                inner = start + half * TILE + tl.arange(0, TILE)
                up = tl.load(up_at + inner[None, :] * H + cols[:, None])
                hidden = tl.dot(read, up) + tl.load(up_bias_at + inner)[None, :]
                _, share = _normal(hidden)
                hidden *= share
                if DROP:  # shifted up, the lower half compares like the upper
                    keep = (drawn << 16 if half == 0 else drawn) >= threshold
                    hidden = tl.where(keep, hidden, 0.0)
                down = tl.load(down_at + cols[None, :] * F + inner[:, None])
                out = tl.dot(hidden.to(read.dtype), down, out)
        if DROP:
            out *= keep_scale
        out += tl.load(down_bias_at + cols)[None, :]
        if DROP:
            keep_out = _mixed(place, second, first) >= threshold
            out = tl.where(keep_out, out * keep_scale, 0.0)
        y = x.to(tl.float32) + out
        if not NORM_FIRST:
            unit, scale = _normed(y, H, eps)
            y = unit * gain + shift
            read = unit
        tl.store(y_at + place, y.to(y_at.dtype.element_ty), mask=valid)
        tl.store(read_at + place, read.to(read_at.dtype.element_ty), mask=valid)
        tl.store(scale_at + rows, scale, mask=rows < positions)

    @triton.jit
    def _backward_kernel(
        dy_at, x_at, read_at, scale_at, up_at, up_bias_at, down_at, gain_at, seed_at,
        dx_at, dout_at, hidden_at, dhidden_at, sums_at,
        positions, threshold, keep_scale, eps,
        H: tl.constexpr, F: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
        DROP: tl.constexpr, NORM_FIRST: tl.constexpr,
    ):  # fmt: skip
        program = tl.program_id(0)
        rows = program * ROWS + tl.arange(0, ROWS)
        cols = tl.arange(0, H)
        valid = (rows < positions)[:, None]
        place = rows[:, None] * H + cols[None, :]
        first, second = tl.load(seed_at).to(tl.uint32), tl.load(seed_at + 1).to(tl.uint32)
        threshold = threshold.to(tl.uint32)
        gain = tl.load(gain_at + cols)[None, :]
        dy = tl.load(dy_at + place, mask=valid, other=0.0).to(tl.float32)
        sums_at += program * (3 * H + F)
        if NORM_FIRST:
            dz = dy
        else:
            unit = tl.load(read_at + place, mask=valid, other=0.0).to(tl.float32)
            scale = tl.load(scale_at + rows, mask=rows < positions, other=0.0)
            tl.store(sums_at + cols, tl.sum(dy * unit, axis=0))
            tl.store(sums_at + H + cols, tl.sum(dy, axis=0))
            dz = _norm_gradient(dy * gain, unit, scale, H)
        dout = dz
        if DROP:
            keep_out = _mixed(place, second, first) >= threshold
            dout = tl.where(keep_out, dz * keep_scale, 0.0)
        tl.store(sums_at + 2 * H + cols, tl.sum(dout, axis=0))
        # What the FFN has read: x, or the normed x.
        read = tl.load((read_at if NORM_FIRST else x_at) + place, mask=valid, other=0.0)
        # What dropout scales hidden units by is taken here, once for all of them.
        dout = (dout * keep_scale).to(read.dtype)
        tl.store(dout_at + place, dout, mask=valid)
        dread = tl.zeros((ROWS, H), tl.float32) if NORM_FIRST else dz
        for start in range(0, F, 2 * TILE):
            drawn = _drawn(rows, start, first, second, F, TILE, DROP)
            for half in tl.static_range(2):
                inner = start + half * TILE + tl.arange(0, TILE)
                up = tl.load(up_at + inner[None, :] * H + cols[:, None])
                before = tl.dot(read, up) + tl.load(up_bias_at + inner)[None, :]
                bell, share = _normal(before)
                slope = share + before * bell
                hidden = before * share
                down = tl.load(down_at + cols[:, None] * F + inner[None, :])
                dhidden = tl.dot(dout, down) * slope
                if DROP:
                    keep = (drawn << 16 if half == 0 else drawn) >= threshold
                    hidden = tl.where(keep, hidden, 0.0)
                    dhidden = tl.where(keep, dhidden, 0.0)
                rounded = dhidden.to(read.dtype)
                at = rows[:, None] * F + inner[None, :]
                tl.store(hidden_at + at, hidden.to(read.dtype), mask=valid)
                tl.store(dhidden_at + at, rounded, mask=valid)
                tl.store(sums_at + 3 * H + inner, tl.sum(dhidden, axis=0))
                dread = tl.dot(rounded, tl.trans(up), dread)
        dx = dread
        if NORM_FIRST:
            x = tl.load(x_at + place, mask=valid, other=0.0).to(tl.float32)
            unit, scale = _normed(x, H, eps)
            tl.store(sums_at + cols, tl.sum(dread * unit, axis=0))
            tl.store(sums_at + H + cols, tl.sum(dread, axis=0))
            # Read again: kept through the loop, it would take the registers that the loop needs.
            dy = tl.load(dy_at + place, mask=valid, other=0.0).to(tl.float32)
            dx = dy + _norm_gradient(dread * gain, unit, scale, H)
        tl.store(dx_at + place, dx.to(dx_at.dtype.element_ty), mask=valid)

    def _settings(
        x: Tensor, up: Tensor, dropout: float, norm_first: bool, tiles: Tiles
    ) -> dict[str, Any]:
        return {
            "H": x.shape[1], "F": up.shape[0], "ROWS": tiles.rows, "TILE": HIDDEN_STEP // 2,
            "DROP": dropout > 0, "NORM_FIRST": norm_first,
            **tiles.options(),
        }  # fmt: skip

    @torch.library.custom_op("memnb::ffn_norm", mutates_args=())
    def _forward(
        x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, gain: Tensor,
        shift: Tensor, seed: Tensor, dropout: float, eps: float, norm_first: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """y; the normed sum, or with ``norm_first`` what the FFN has read; 1 / the deviation."""
        x, up, down = x.contiguous(), up.contiguous(), down.contiguous()
        y, read = torch.empty_like(x), torch.empty_like(x, dtype=up.dtype)
        scale = torch.empty(len(x), dtype=torch.float32, device=x.device)
        _forward_kernel[(triton.cdiv(len(x), FORWARD.rows),)](
            x, up, up_bias, down, down_bias, gain, shift, seed, y, read, scale,
            len(x), dropout_threshold(dropout) << 16, 1 / (1 - dropout), eps,
            **_settings(x, up, dropout, norm_first, FORWARD),
        )  # fmt: skip
        return y, read, scale

    @_forward.register_fake
    def _(x, up, up_bias, down, down_bias, gain, shift, seed, dropout, eps, norm_first):
        scale = x.new_empty(x.shape[0], dtype=torch.float32)
        return torch.empty_like(x), torch.empty_like(x, dtype=up.dtype), scale

    @torch.library.custom_op("memnb::ffn_norm_backward", mutates_args=())
    def _backward(
        dy: Tensor, x: Tensor, read: Tensor, scale: Tensor, up: Tensor, up_bias: Tensor,
        down: Tensor, gain: Tensor, seed: Tensor, dropout: float, eps: float, norm_first: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Gradients of x, up and down; of gain, shift, down_bias and up_bias side by side."""
        dy, x, up, down = dy.contiguous(), x.contiguous(), up.contiguous(), down.contiguous()
        tiles = backward_tiles(x.shape[1], x.device)
        programs = triton.cdiv(len(x), tiles.rows)
        width, hidden_width = x.shape[1], up.shape[0]
        dx, dout = torch.empty_like(x), torch.empty_like(read)
        hidden = read.new_empty(len(x), hidden_width)
        dhidden = torch.empty_like(hidden)
        # One row per program, summed afterwards: the same sum every time, unlike atomic additions.
        sums = x.new_empty(programs, 3 * width + hidden_width, dtype=torch.float32)
        _backward_kernel[(programs,)](
            dy, x, read, scale, up, up_bias, down, gain, seed,
            dx, dout, hidden, dhidden, sums,
            len(x), dropout_threshold(dropout) << 16, 1 / (1 - dropout), eps,
            **_settings(x, up, dropout, norm_first, tiles),
        )  # fmt: skip
        went_in = read if norm_first else x
        return dx, dhidden.T @ went_in, dout.T @ hidden, sums.sum(0)

    @_backward.register_fake
    def _(dy, x, read, scale, up, up_bias, down, gain, seed, dropout, eps, norm_first):
        sums = gain.new_empty(3 * x.shape[1] + up.shape[0])
        return torch.empty_like(x), torch.empty_like(up), torch.empty_like(down), sums

    def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, up, up_bias, down, _, gain, _, seed, ctx.dropout, ctx.eps, ctx.norm_first = inputs
        _, read, scale = output
        ctx.save_for_backward(x, read, scale, up, up_bias, down, gain, seed)

    def _differentiate(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        dx, dup, ddown, sums = torch.ops.memnb.ffn_norm_backward(
            dy, *ctx.saved_tensors, ctx.dropout, ctx.eps, ctx.norm_first
        )
        width, hidden_width = dx.shape[1], dup.shape[0]
        dgain, dshift, ddown_bias, dup_bias = sums.split([width] * 3 + [hidden_width])
        return dx, dup, dup_bias, ddown, ddown_bias, dgain, dshift, None, None, None, None

    _forward.register_autograd(_differentiate, setup_context=_remember)
