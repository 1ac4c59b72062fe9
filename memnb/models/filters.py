"""The filter F of ConvLuna: what stands between the sequence and the memory.

One filter per head along the sequence, the same for keys and for values, shared by the head's d
channels. Inputs and outputs are keys or values of shape (B, n, L, d); ``mask`` is (B, L), True at
tokens, False at padding, or None.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.config import Model


def make_filter(model: Model) -> nn.Module | None:
    """The filter that ``model`` asks for; None means that keys and values pass unchanged."""
    if model.filter == "conv":
        return ConvFilter(model.heads, model.filter_width, model.filter_stride)
    if model.filter == "pool":
        return PoolFilter(model.filter_width, model.filter_stride)
    return None


class ConvFilter(nn.Module):
    """Bias-free grouped convolution, one kernel per head, init U(-1/sqrt(width), 1/sqrt(width)).

    Stride 1 pads with zeros so that the length stays (for width 4 the taps are t-1 .. t+2);
    a larger stride does not pad and gives floor((L - width) / stride) + 1 positions.
    """

    def __init__(self, heads: int, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(heads, width).uniform_(-bound, bound))

    def forward(
        self, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Filtered keys, filtered values and the mask of the positions that remain."""
        if mask is not None:
            # Padding must look like the zeros that lie beyond an unpadded sequence's end.
            key, value = key * mask[:, None, :, None], value * mask[:, None, :, None]
        if self.stride > 1:
            mask = _whole_windows(mask, self.width, self.stride)
        return self._shifts(key), self._shifts(value), mask

    def _shifts(self, x: Tensor) -> Tensor:
        """The convolution as a weighted sum of shifted copies: elementwise, so it fuses."""
        length = x.shape[2]
        if self.stride == 1:
            left = (self.width - 1) // 2
            x = functional.pad(x, (0, 0, left, self.width - 1 - left))
            positions = length
        else:
            x = _at_least(x, self.width, fill=0.0)
            positions = (x.shape[2] - self.width) // self.stride + 1
        reach = (positions - 1) * self.stride + 1
        weight = self.weight.to(x.dtype)[:, :, None, None]
        out = weight[:, 0] * x[:, :, : reach : self.stride]
        for tap in range(1, self.width):
            out = out + weight[:, tap] * x[:, :, tap : tap + reach : self.stride]
        return out

    def written_out(self, x: Tensor) -> Tensor:
        """The same by PyTorch's grouped convolution, for tests: (B, n, L, d) -> (B, n, L', d)."""
        batch, heads, length, channels = x.shape
        rows = x.permute(0, 3, 1, 2).reshape(batch * channels, heads, length)
        if self.stride == 1:
            left = (self.width - 1) // 2
            rows = functional.pad(rows, (left, self.width - 1 - left))
        out = functional.conv1d(rows, self.weight[:, None], stride=self.stride, groups=heads)
        return out.view(batch, channels, heads, -1).permute(0, 2, 3, 1)


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
        if mask is None:
            return self._pool(key), self._pool(value), None
        windows = _whole_windows(mask, self.width, self.stride)
        assert windows is not None
        lowest = torch.finfo(key.dtype).min
        inside, outside = ~mask[:, None, :, None], ~windows[:, None, :, None]
        # Dropped windows become zero: the softmax ignores them, but must not meet an infinity.
        key = self._pool(key.masked_fill(inside, lowest)).masked_fill(outside, 0.0)
        value = self._pool(value.masked_fill(inside, lowest)).masked_fill(outside, 0.0)
        return key, value, windows

    def _pool(self, x: Tensor) -> Tensor:
        batch, heads, _, channels = x.shape
        x = _at_least(x, self.width, fill=torch.finfo(x.dtype).min)
        rows = x.reshape(batch * heads, x.shape[2], channels)
        out = functional.max_pool2d(rows, (self.width, 1), stride=(self.stride, 1))
        return out.view(batch, heads, -1, channels)


def _at_least(x: Tensor, length: int, fill: float) -> Tensor:
    """(B, n, L, d) padded at the end to at least ``length`` positions."""
    missing = length - x.shape[2]
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
