"""The filter F of ConvLuna: what stands between the sequence and the memory.

One filter per head along the sequence, the same for keys and for values, shared by the head's d
channels. Inputs and outputs are keys or values of shape (B, L, H), heads side by side; ``mask`` is
(B, L), True at tokens, False at padding, or None.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.config import FilterKernel, Model


def make_filter(model: Model) -> ConvFilter | PoolFilter | None:
    """The filter that ``model`` asks for; None means that keys and values pass unchanged."""
    if model.filter == "conv":
        return ConvFilter(model.heads, model.filter_width, model.filter_stride, model.filter_kernel)
    if model.filter == "pool":
        return PoolFilter(model.filter_width, model.filter_stride)
    return None


class ConvFilter(nn.Module):
    """Bias-free grouped convolution, one kernel per head, init U(-1/sqrt(width), 1/sqrt(width)).

    Stride 1 pads with zeros so that the length stays (for width 4 the taps are t-1 .. t+2);
    a larger stride does not pad and gives floor((L - width) / stride) + 1 positions.

    ``kernel`` puts something else in the place of the learned taps, as a control (ours):

    * ``smooth``: the mean of the window, fixed;
    * ``difference``: x_t - x_(t-1), fixed;
    * ``random``: the taps stay as they were drawn;
    * ``shuffled``: learned, but the taps stand at random places of a window four times as wide, so
      that what is mixed are no neighbours.

    Attributes:
        weight: (n, taps); frozen where the kernel is fixed.
        width: of the window that the taps lie in.
        places: (n, taps) where in a window of ``shuffled`` each tap stands, else None.
    """

    places: Tensor | None

    def __init__(
        self, heads: int, width: int, stride: int, kernel: FilterKernel = "learned"
    ) -> None:
        super().__init__()
        self.heads, self.width, self.stride = heads, width, stride
        bound = width**-0.5
        taps = torch.empty(heads, width).uniform_(-bound, bound)
        places = None
        if kernel == "smooth":
            taps = torch.full_like(taps, 1 / width)
        elif kernel == "difference":
            taps = torch.zeros_like(taps)
            here = max((width - 1) // 2, 1)
            taps[:, here - 1], taps[:, here] = -1.0, 1.0
        elif kernel == "shuffled":
            self.width = 4 * width
            places = torch.rand(heads, self.width).argsort(dim=1)[:, :width].sort(dim=1).values
        self.weight = nn.Parameter(taps, requires_grad=kernel in ("learned", "shuffled"))
        self.register_buffer("places", places)

    def kernel(self) -> Tensor:
        """What the sequence is convolved with: (n, width)."""
        if self.places is None:
            return self.weight
        empty = self.weight.new_zeros(self.heads, self.width)
        return empty.scatter(1, self.places, self.weight)

    def forward(
        self, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Filtered keys, filtered values and the mask of the positions that remain."""
        left = _whole_windows(mask, self.width, self.stride) if self.stride > 1 else mask
        return self.values(key, mask), self.values(value, mask), left

    def values(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, H) -> (B, L', H), for a block that has no keys."""
        # Padding must look like the zeros that lie beyond an unpadded sequence's end.
        return self.convolve(x if mask is None else x * mask[:, :, None])

    def convolve(self, x: Tensor) -> Tensor:
        """(B, L, C) -> (B, L', C), heads side by side; C may be any multiple of their number.

        A weighted sum of shifted copies: elementwise, so it fuses with what comes before and after.
        """
        return self._shifted_sum(self._pad(x), self.kernel())

    def transposed(self, x: Tensor) -> Tensor:
        """The transpose of :meth:`convolve` with stride 1: sum(w F(v)) = sum(F'(w) v).

        (B, L, C) -> (B, L, C).
        """
        left = (self.width - 1) // 2
        padded = functional.pad(x, (0, 0, self.width - 1 - left, left))
        return self._shifted_sum(padded, self.kernel().flip(1))

    def _shifted_sum(self, x: Tensor, weight: Tensor) -> Tensor:
        return ShiftedSum.apply(x, weight.to(x.dtype), self.stride)

    def written_out(self, x: Tensor) -> Tensor:
        """The same by PyTorch's grouped convolution: (B, L, H) -> (B, L', H)."""
        batch, length, width = x.shape
        channels = width // self.heads
        rows = x.view(batch, length, self.heads, channels).permute(0, 3, 2, 1)
        rows = self._pad(rows.reshape(batch * channels, self.heads, length).mT).mT
        out = functional.conv1d(rows, self.kernel()[:, None], stride=self.stride, groups=self.heads)
        return out.view(batch, channels, self.heads, -1).permute(0, 3, 2, 1).flatten(2)

    def _pad(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            left = (self.width - 1) // 2
            return functional.pad(x, (0, 0, left, self.width - 1 - left))
        return _at_least(x, self.width, fill=0.0)


class ShiftedSum(torch.autograd.Function):
    """out[l] = sum over t of weight[head, t] * x[l * stride + t], each head with its own weights.

    x (B, L, C) with heads side by side, weight (n, width) -> (B, L', C). Forward and backward are
    elementwise sums of shifted copies: on a GPU they fuse with what comes before and after, on a
    CPU they run at the speed of memory, several times faster than grouped convolution.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        """The sums; the caller has padded x to at least ``width`` positions."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _sum_of_shifted(x, weight, stride)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of x and weight."""
        x, weight = ctx.saved_tensors
        heads, width = weight.shape
        stride, positions = ctx.stride, gradient.shape[1]
        products = [
            (gradient * _shifted(x, tap, positions, stride)).sum((0, 1)) for tap in range(width)
        ]
        to_weight = torch.stack(products, dim=1).view(heads, -1, width).sum(1)
        if stride == 1:
            padded = functional.pad(gradient, (0, 0, width - 1, width - 1))
            to_x = _sum_of_shifted(padded, weight.flip(1), 1)
        else:
            taps = _taps(weight, positions, x.shape[2])
            to_x = torch.zeros_like(x)
            for tap in range(width):
                _shifted(to_x, tap, positions, stride).add_(gradient * taps[tap])
        return to_x, to_weight, None


def _sum_of_shifted(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    width = weight.shape[1]
    positions = (x.shape[1] - width) // stride + 1
    taps = _taps(weight, positions, x.shape[2])
    out = _shifted(x, 0, positions, stride) * taps[0]
    add = torch.addcmul if _must_not_change_in_place() else Tensor.addcmul_
    for tap in range(1, width):
        out = add(out, _shifted(x, tap, positions, stride), taps[tap])
    return out


def _must_not_change_in_place() -> bool:
    """In plain code, changing a sum in place saves a pass over memory per tap.

    In compiled code it saves nothing, and PyTorch 2.11 returns zero gradients for an autograd
    function whose result was changed in place (pytorch/pytorch#180642).
    """
    return torch.compiler.is_compiling()


def _shifted(x: Tensor, tap: int, positions: int, stride: int) -> Tensor:
    return x[:, tap : tap + (positions - 1) * stride + 1 : stride]


def _taps(weight: Tensor, positions: int, channels: int) -> list[Tensor]:
    """One (positions, channels) factor per tap: written out in full, so that products vectorise."""
    by_channel = weight.repeat_interleave(channels // len(weight), dim=0).T
    return [tap.expand(positions, -1).contiguous() for tap in by_channel]


class PoolFilter(nn.Module):
    """Max pooling over windows of ``width`` positions, without padding.

    Gives floor((L - width) / stride) + 1 positions; a sequence shorter than one window counts as
    one window.
    """

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride

    def forward(
        self, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Pooled keys, pooled values and the mask of the windows that lie within the sequence."""
        windows = _whole_windows(mask, self.width, self.stride)
        return self.values(key, mask), self.values(value, mask), windows

    def values(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, H) -> (B, L', H), for a block that has no keys."""
        windows = _whole_windows(mask, self.width, self.stride)
        if mask is None or windows is None:
            return self.pool(x)
        x = x.masked_fill(~mask[:, :, None], torch.finfo(x.dtype).min)
        # Dropped windows become zero: the softmax ignores them, but must not meet an infinity.
        return self.pool(x).masked_fill(~windows[:, :, None], 0.0)

    def pool(self, x: Tensor) -> Tensor:
        """(B, L, H) -> (B, L', H)."""
        x = _at_least(x, self.width, fill=torch.finfo(x.dtype).min)
        return cast(Tensor, ShiftedMax.apply(x, self.width, self.stride))


class ShiftedMax(torch.autograd.Function):
    """out[l] = max over t < width of x[l * stride + t]: (B, L, C) -> (B, L', C).

    Elementwise over shifted copies, as :class:`ShiftedSum`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, width: int, stride: int) -> Tensor:
        """The maxima; the caller has padded x to at least ``width`` positions."""
        positions = (x.shape[1] - width) // stride + 1
        out = _shifted(x, 0, positions, stride).clone()
        larger = Tensor.clamp if _must_not_change_in_place() else Tensor.clamp_
        for tap in range(1, width):
            out = larger(out, min=_shifted(x, tap, positions, stride))
        ctx.save_for_backward(x, out)
        ctx.width, ctx.stride = width, stride
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient goes to the first of the largest, as in PyTorch's own pooling."""
        x, out = ctx.saved_tensors
        width, stride, positions = ctx.width, ctx.stride, out.shape[1]
        to_x = torch.zeros_like(x)
        given: Tensor | None = None
        for tap in range(width):
            first = _shifted(x, tap, positions, stride) == out
            if given is not None:
                first &= ~given
            given = first if given is None else given | first
            share = gradient * first
            if stride > 1 or not x.is_cuda:
                _shifted(to_x, tap, positions, stride).add_(share)
            else:  # out of place, sums fuse
                to_x = to_x + functional.pad(share, (0, 0, tap, width - 1 - tap))
        return to_x, None, None


def _at_least(x: Tensor, length: int, fill: float) -> Tensor:
    """(B, L, H) padded at the end to at least ``length`` positions."""
    missing = length - x.shape[1]
    return functional.pad(x, (0, 0, 0, missing), value=fill) if missing > 0 else x


def _whole_windows(mask: Tensor | None, width: int, stride: int) -> Tensor | None:
    """(B, L) -> (B, L'): True where a window holds tokens only, and at the first window always."""
    if mask is None:
        return None
    if mask.shape[1] < width:
        mask = functional.pad(mask, (0, width - mask.shape[1]), value=False)
    windows = mask.unfold(1, width, stride).all(dim=-1)
    first = torch.arange(windows.shape[1], device=mask.device) == 0
    return windows | first
