"""Products of a long sequence with a few columns, and the sums along the sequence they need.

With few memory rows every product of a block is (B, L, H) times (B, H, C) with C small, or its
transpose: for each example C weighted sums of the sequence. A matrix library gives such a sum to
one multiprocessor per example, and most of a GPU waits. Here one Triton kernel cuts the sequence
into parts and adds their sums afterwards, in a fixed order.

On other devices and in other precisions these are plain matrix products, the kernel's written-out
twin. Shapes: B batch, L length, C columns (at most 128), H width (a power of two, 16 to 256).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from memnb.models import kernels
from memnb.models.kernels import MISSING, Tiles, tl, triton

WIDTHS = (16, 32, 64, 128, 256)
MOST_COLUMNS = 128
STEP = 64  # positions that a program adds at a time
PROGRAMS = 512  # wanted in all: several for each multiprocessor


def why_not(x: Tensor, width: int, columns: int) -> str | None:
    """Why the kernel cannot be used where ``x`` is, or None if it can."""
    reason = kernels.why_not(x)
    if reason:
        return reason
    if width not in WIDTHS or columns > MOST_COLUMNS:
        return f"the kernel needs a width of {WIDTHS} and at most {MOST_COLUMNS} columns"
    return None


def times_columns(x: Tensor, columns: Tensor) -> Tensor:
    """x @ columns^T: (B, L, H), (B, C, H) -> (B, L, C)."""
    count = columns.shape[1]
    columns = to_multiple_of_8(columns, 1)
    if why_not(x, x.shape[2], columns.shape[1]) is None:
        half = torch.bfloat16
        return _Product.apply(x.to(half), columns.to(half).mT)[..., :count]
    return (x @ columns.mT)[..., :count]


def mix(weights: Tensor, rows: Tensor) -> Tensor:
    """weights @ rows, at every position a mixture: (B, L, C), (B, C, H) -> (B, L, H)."""
    rows = to_multiple_of_8(rows, 1)
    weights = to_multiple_of_8(weights.to(rows.dtype), 2)
    if why_not(weights, rows.shape[2], rows.shape[1]) is None:
        return _Product.apply(weights.to(torch.bfloat16), rows.to(torch.bfloat16))
    return weights @ rows


def weighted_sums(weights: Tensor, x: Tensor) -> Tensor:
    """weights^T @ x, sums along the sequence: (B, L, C), (B, L, H) -> (B, C, H).

    The kernel takes its inputs in bf16 and returns fp32, as its sums are.
    """
    count = weights.shape[2]
    weights = to_multiple_of_8(weights, 2)
    if why_not(x, x.shape[2], weights.shape[2]) is None:
        half = torch.bfloat16
        return torch.ops.memnb.weighted_sums(weights.to(half), x.to(half))[:, :count]
    return (weights.mT @ x)[:, :count]


def to_multiple_of_8(x: Tensor, dim: int) -> Tensor:
    """``x`` with zeros added at the end of ``dim``: what the matrix units of GPUs are fast with."""
    missing = -x.shape[dim] % 8
    if not missing:
        return x
    return functional.pad(x, [0, 0] * (x.ndim - 1 - dim % x.ndim) + [0, missing])


class _Product(torch.autograd.Function):
    """a @ b in bf16, (B, L, K), (B, K, N) -> (B, L, N), K or N small and L long.

    The gradient of b is a sum along the sequence.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        a, b = ctx.saved_tensors
        gradient = gradient.to(a.dtype)
        if gradient.shape[2] < a.shape[2]:  # the kernel wants its columns first
            to_b = torch.ops.memnb.weighted_sums(gradient, a).mT
        else:
            to_b = torch.ops.memnb.weighted_sums(a, gradient)
        to_a = gradient @ b.mT if ctx.needs_input_grad[0] else None
        return to_a, to_b.to(b.dtype)


if MISSING is None:

    @triton.jit
    def _sums_kernel(
        weights_at, x_at, out_at, length, count,
        C: tl.constexpr, H: tl.constexpr, SHARE: tl.constexpr, ROWS: tl.constexpr,
    ):  # fmt: skip
        part, parts, example = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
        columns, width = tl.arange(0, C), tl.arange(0, H)
        weights_at += example.to(tl.int64) * length * count
        x_at += example.to(tl.int64) * length * H
        total = tl.zeros((C, H), tl.float32)
        for start in range(0, SHARE, ROWS):  # a share is a whole number of steps
            rows = part * SHARE + start + tl.arange(0, ROWS)
            here = rows < length
            x = tl.load(x_at + rows[:, None] * H + width[None, :], mask=here[:, None], other=0.0)
            weights = tl.load(
                weights_at + rows[None, :] * count + columns[:, None],
                mask=here[None, :] & (columns < count)[:, None],
                other=0.0,
            )
            total = tl.dot(weights, x, total)
        out_at += (example.to(tl.int64) * parts + part) * count * H
        at = columns[:, None] * H + width[None, :]
        tl.store(out_at + at, total, mask=(columns < count)[:, None])

    @torch.library.custom_op("memnb::weighted_sums", mutates_args=())
    def _weighted_sums(weights: Tensor, x: Tensor) -> Tensor:
        """weights^T @ x in fp32."""
        weights, x = weights.contiguous(), x.contiguous()
        batch, length, count = weights.shape
        width = x.shape[2]
        share = triton.cdiv(triton.cdiv(length, max(1, PROGRAMS // batch)), STEP) * STEP
        parts = triton.cdiv(length, share)
        out = x.new_empty(batch, parts, count, width, dtype=torch.float32)
        columns = max(16, triton.next_power_of_2(count))  # what tl.dot takes at least
        tiles = Tiles(STEP, warps=4 if columns < 128 else 8, stages=3)
        _sums_kernel[(parts, batch)](
            weights, x, out, length, count, C=columns, H=width, SHARE=share, ROWS=tiles.rows,
            **tiles.options(),
        )  # fmt: skip
        return out.sum(1)

    @_weighted_sums.register_fake
    def _(weights, x):
        return x.new_empty(x.shape[0], weights.shape[2], x.shape[2], dtype=torch.float32)

    def _remember(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        weights, x = ctx.saved_tensors
        gradient = gradient.to(x.dtype)
        return x @ gradient.mT, weights @ gradient

    _weighted_sums.register_autograd(_differentiate, setup_context=_remember)
