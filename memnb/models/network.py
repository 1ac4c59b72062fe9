"""From tokens or pixels to class scores: embedding, blocks, head."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.config import Model, Task, model_config, task_config
from memnb.models.blocks import LAYER_NORM_EPS, SharedMemoryBlock, Trace, TransformerBlock


class TokenEmbedding(nn.Module):
    """Learned token table, N(0, 1), row 0 (padding) zero; learned positions, zero at the start.

    No scaling, no norm, no dropout (the authors' code).
    """

    def __init__(self, task: Task, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(task.vocabulary, width, padding_idx=0)
        self.positions = nn.Parameter(torch.zeros(task.max_length, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, L), any integer type -> (B, L, H)."""
        ids = tokens.int()
        vectors = LookUp.apply(ids, self.table.weight) if ids.is_cuda else self.table(ids)
        return vectors + self.positions[: tokens.shape[1]]


class LookUp(torch.autograd.Function):
    """Rows of a small table, whose gradient is a matrix product with the one-hot tokens.

    On a GPU the usual way, adding every position's gradient to its row, lets 10^5 additions wait
    for each other at 17 or 257 rows, and their order, so the last bits, differ from run to run.
    """

    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
        """ids (B, L) into table (V, H) -> (B, L, H)."""
        ctx.save_for_backward(ids)
        ctx.rows = len(table)
        # In the backward pass autocast is off, so what it asks for is remembered here.
        ctx.half = ids.is_cuda and torch.is_autocast_enabled("cuda")
        return functional.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """The table's gradient; row 0 is padding and gets none."""
        (ids,) = ctx.saved_tensors
        precision = torch.bfloat16 if ctx.half else gradient.dtype
        rows = torch.arange(1, ctx.rows, device=ids.device)
        hot = (ids.flatten()[:, None] == rows).to(precision)
        sums = hot.T @ gradient.flatten(0, 1).to(precision)
        return None, functional.pad(sums.to(gradient.dtype), (0, 0, 1, 0))


class PixelEmbedding(nn.Module):
    """Grey value p -> p * w + b after scaling, w ~ N(0, 1), b ~ N(0, 0.1); learned positions."""

    def __init__(self, task: Task, width: int) -> None:
        super().__init__()
        self.mean, self.deviation = task.pixel_scale
        self.weight = nn.Parameter(torch.randn(width))
        self.bias = nn.Parameter(0.1 * torch.randn(width))
        self.positions = nn.Parameter(torch.zeros(task.max_length, width))

    def forward(self, pixels: Tensor) -> Tensor:
        """Grey values 0..255 (B, L) -> (B, L, H)."""
        scaled = (pixels.to(self.weight.dtype) / 255 - self.mean) / self.deviation
        return scaled[:, :, None] * self.weight + self.bias + self.positions[: pixels.shape[1]]


class Encoder(nn.Module):
    """Embedding, CLS vector in front, blocks; returns one vector per sequence.

    The vector is the CLS position, the mean over positions, or the mean over the final memory
    rows, each after a last LayerNorm; a pair's documents go without that norm (the authors' code).
    """

    def __init__(self, model: Model, task: Task) -> None:
        super().__init__()
        self.representation, self.reading = model.representation, model.reading
        embedding = PixelEmbedding if task.layout == "pixels" else TokenEmbedding
        self.embedding = embedding(task, model.width)
        self.cls = nn.Parameter(torch.randn(model.width)) if self._has_cls else None
        self.memory = InitialMemory(model) if model.memory else None
        block = SharedMemoryBlock if model.memory else TransformerBlock
        self.blocks = nn.ModuleList(block(model) for _ in range(model.blocks))
        paired = task.layout == "pair"
        self.norm = nn.Identity() if paired else nn.LayerNorm(model.width, eps=LAYER_NORM_EPS)

    @property
    def _has_cls(self) -> bool:
        return self.representation == "cls"

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, trace: list[Trace] | None = None
    ) -> Tensor:
        """(B, L) inputs, (B,) true lengths -> (B, H).

        Lengths matter only in the reading ``as_intended``; as coded, padding is not masked.
        """
        x = self.embedding(inputs)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], 1, -1).to(x.dtype), x], dim=1)
        mask = self._mask(x, lengths)
        memory = None if self.memory is None else self.memory(x.shape[0])
        # The last block computes only what is read from it, except when it is being watched.
        last_rows = {"cls": 1, "mean": None, "memory": 0}[self.representation]
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1 and trace is None
            x, memory = block(x, memory, mask, last_rows if last else None, trace)
        if self.representation == "cls":
            return self.norm(x[:, 0])
        if self.representation == "memory":
            return self.norm(memory).mean(dim=1)
        x = self.norm(x)
        if mask is None:
            return x.mean(dim=1)
        return (x * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)

    def _mask(self, x: Tensor, lengths: Tensor | None) -> Tensor | None:
        """(B, L) True at CLS and tokens; an empty sequence counts as one token."""
        if self.reading == "as_coded" or lengths is None:
            return None
        known = lengths.clamp(min=1) + int(self._has_cls)
        return torch.arange(x.shape[1], device=x.device) < known[:, None]


class InitialMemory(nn.Module):
    """The learned memory that enters the first block, the same for every sample.

    ``normal``: (M, H) ~ N(0, 1) (the authors' code). ``luna``: N(0, 1/H) times sqrt(H), plus
    sinusoidal positions (the official Luna, arXiv 2106.01540).
    """

    positions: Tensor | None

    def __init__(self, model: Model) -> None:
        super().__init__()
        luna = model.memory_init == "luna"
        self.scale = math.sqrt(model.width) if luna else 1.0
        self.rows = nn.Parameter(torch.randn(model.memory, model.width) / self.scale)
        positions = sinusoids(model.memory, model.width) if luna else None
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, batch: int) -> Tensor:
        """(B, M, H)."""
        rows = self.rows if self.positions is None else self.rows * self.scale + self.positions
        return rows.expand(batch, -1, -1)


def sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal positions (length, width): sines in the first half, cosines in the second."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


class Network(nn.Module):
    """An encoder and the head of its task (the authors' code):

    * tokens: Linear(H, mlp), GELU, Linear(mlp, classes)
    * pixels: one more Linear(mlp, mlp), GELU in between
    * pair: both documents through the same encoder, from the same initial memory; then
      concat(e1, e2), Linear(2H, mlp), GELU, Linear(mlp, mlp/2), GELU, Linear(mlp/2, classes)
    """

    def __init__(self, model: Model, task: Task) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.encoder = Encoder(model, task)
        width, mlp = model.width, model.mlp
        sizes = {
            "tokens": [width, mlp, task.classes],
            "pixels": [width, mlp, mlp, task.classes],
            "pair": [2 * width, mlp, mlp // 2, task.classes],
        }[task.layout]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [nn.Linear(fan_in, fan_out), nn.GELU()]
        self.head = nn.Sequential(*layers[:-1])

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, trace: list[Trace] | None = None
    ) -> Tensor:
        """Class scores (B, classes).

        Args:
            inputs: (B, L) token ids or grey values; (B, 2, L) for pairs. L <= max_length.
            lengths: (B,) or (B, 2) true lengths, read under ``as_intended`` only.
            trace: receives one :class:`~memnb.models.blocks.Trace` per memory block; of a pair's
                documents both, as a batch of 2B.
        """
        if self.task.layout != "pair":
            return self.head(self.encoder(inputs, lengths, trace))
        both = self.encoder(
            inputs.flatten(0, 1), None if lengths is None else lengths.flatten(), trace
        )
        return self.head(both.reshape(inputs.shape[0], -1))

    def parameter_count(self) -> int:
        """Trained and frozen parameters, each shared one once."""
        return sum(parameter.numel() for parameter in self.parameters())


def build_model(name: str, task: str | Task, **changes: Any) -> Network:
    """The model called ``name`` (``transformer``, ``luna-256``, ``convluna-1``, ``poolluna-16``)
    for ``task``, with some settings changed.

    >>> build_model("luna-16", "text").parameter_count()
    1408514

    Raises:
        MemnbError: no such model, task or setting, or an impossible value.
    """
    chosen = task_config(task) if isinstance(task, str) else task
    return Network(model_config(name, chosen, **changes), chosen)
