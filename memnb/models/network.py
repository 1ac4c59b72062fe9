"""From tokens or pixels to class scores: embedding, blocks, head."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.config import Model, Task, model_config, task_config
from memnb.errors import MemnbError
from memnb.models.blocks import Trace, layer_norm
from memnb.models.chunks import ChunkMemoryBlock, Watch, carry, flows, hold
from memnb.models.out_of_memory import out_of_memory
from memnb.models.registry import make_block

#: Up to so many a GPU looks symbols up by :class:`LookUp`, whose one-hot tokens take two bytes or
#: more per position and symbol. With more symbols fewer additions wait for each other anyway; their
#: order is then fixed under :func:`memnb.train.device.deterministic_sums` only.
FEW_SYMBOLS = 1024


class TokenEmbedding(nn.Module):
    """Learned token table, N(0, 1), row 0 (padding) zero; learned positions, zero at the start.

    No scaling, no norm, no dropout (the authors' code).
    """

    def __init__(self, model: Model, task: Task) -> None:
        super().__init__()
        self.table = nn.Embedding(task.vocabulary, model.width, padding_idx=0)
        self.positions = learned_positions(model, task)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """Token ids (B, L), any integer type, the first at position ``start`` -> (B, L, H)."""
        ids = tokens.int()
        few = ids.is_cuda and self.table.num_embeddings <= FEW_SYMBOLS
        vectors = LookUp.apply(ids, self.table.weight) if few else self.table(ids)
        return add_positions(vectors, self.positions, start)


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

    def __init__(self, model: Model, task: Task) -> None:
        super().__init__()
        self.mean, self.deviation = task.pixel_scale
        self.weight = nn.Parameter(torch.randn(model.width))
        self.bias = nn.Parameter(0.1 * torch.randn(model.width))
        self.positions = learned_positions(model, task)

    def forward(self, pixels: Tensor, start: int = 0) -> Tensor:
        """Grey values 0..255 (B, L), the first at position ``start`` -> (B, L, H)."""
        scaled = (pixels.to(self.weight.dtype) / 255 - self.mean) / self.deviation
        vectors = scaled[:, :, None] * self.weight + self.bias
        return add_positions(vectors, self.positions, start)


def learned_positions(model: Model, task: Task) -> nn.Parameter | None:
    """(L, H), zero before training; None for a model without positions."""
    if model.positions == "none":
        return None
    return nn.Parameter(torch.zeros(task.max_length, model.width))


def add_positions(vectors: Tensor, positions: Tensor | None, start: int) -> Tensor:
    """(B, L, H), the first at position ``start`` -> (B, L, H)."""
    if positions is None:
        return vectors
    return vectors + positions[start : start + vectors.shape[1]]


def _initial_cls(model: Model) -> Tensor:
    """(H,): N(0, 1), or uniform as Xavier's rule has it for one row of width H."""
    if model.cls_init == "normal":
        return torch.randn(model.width)
    bound = math.sqrt(3 / model.width)
    return torch.empty(model.width).uniform_(-bound, bound)


class Encoder(nn.Module):
    """Embedding, CLS vector in front, blocks; returns one vector per sequence.

    :class:`ChunkEncoder` is the one that works through a sequence chunk by chunk.

    The vector is the CLS position, the mean over positions, or the mean over the final memory
    rows, each after a last LayerNorm; a pair's documents go without that norm (the authors' code).
    """

    def __init__(self, model: Model, task: Task) -> None:
        super().__init__()
        self.representation, self.reading = model.representation, model.reading
        embedding = PixelEmbedding if task.layout == "pixels" else TokenEmbedding
        self.embedding = embedding(model, task)
        self.cls = nn.Parameter(_initial_cls(model)) if self._has_cls else None
        self.memory = InitialMemory(model) if model.has_memory_stream else None
        positions = task.max_length + int(self._has_cls)
        self.blocks = nn.ModuleList(make_block(model, positions) for _ in range(model.blocks))
        paired = task.layout == "pair"
        self.norm = nn.Identity() if paired else layer_norm(model)

    @property
    def _has_cls(self) -> bool:
        return self.representation == "cls"

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, trace: list[Trace] | None = None
    ) -> Tensor:
        """(B, L) inputs, (B,) true lengths -> (B, H).

        Lengths matter only in the reading ``as_intended``; as coded, padding is not masked.
        """
        x = self._with_cls(self.embedding(inputs))
        mask = self._mask(x, lengths)
        memory = None if self.memory is None else self.memory(x.shape[0])
        # The last block computes only what is read from it, except when it is being watched.
        last_rows = _ROWS_READ[self.representation]
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

    def parts_to_compile(self) -> list[tuple[nn.Module, str]]:
        """Methods to compile one by one, each by its module and name; none: compile the whole."""
        return []

    def _with_cls(self, x: Tensor) -> Tensor:
        """(B, L, H) -> (B, 1 + L, H), or the same where the model has no CLS."""
        if self.cls is None:
            return x
        return torch.cat([self.cls.expand(x.shape[0], 1, -1).to(x.dtype), x], dim=1)

    def _mask(self, x: Tensor, lengths: Tensor | None) -> Tensor | None:
        """(B, L) True at CLS and tokens; an empty sequence counts as one token."""
        if self.reading == "as_coded" or lengths is None:
            return None
        known = lengths.clamp(min=1) + int(self._has_cls)
        return torch.arange(x.shape[1], device=x.device) < known[:, None]


_ROWS_READ: dict[str, int | None] = {"cls": 1, "mean": None, "memory": 0}
"""How many of the last block's vectors the representation reads, from the first on."""


class ChunkEncoder(Encoder):
    """An encoder that goes through the sequence chunk by chunk (:mod:`memnb.models.chunks`).

    CLS stands in front of every chunk, as in the Recurrent Memory Transformer, and is read at the
    last chunk with tokens. In training all chunks of a block are computed together where its
    recurrence allows it. Without gradients one chunk after the other goes through all blocks, so
    that the memory needed does not grow with the length; both ways give the same. Under
    ``as_intended`` that ends with the batch's last token, not with its last chunk.
    """

    def __init__(self, model: Model, task: Task) -> None:
        super().__init__(model, task)
        self.chunk, self.gradients = model.chunk, model.chunk_gradients
        # A stack's memory is normed between its last block and the next chunk's first.
        stack = getattr(self.blocks[0], "recurrence", "layer") == "stack"
        self.carry_norm = layer_norm(model) if stack else None
        self.can_be_together = not stack and hasattr(self.blocks[0], "forward_chunks")

    def parts_to_compile(self) -> list[tuple[nn.Module, str]]:
        """What is the same for every chunk, or in every block: compiled as a whole, a network would
        unroll it, and compiling take minutes."""
        parts: list[tuple[nn.Module, str]] = [(self, "through_blocks")]
        if self.can_be_together:
            parts += [(block, "forward_chunks") for block in self.blocks]
        return parts

    def forward(
        self, inputs: Tensor, lengths: Tensor | None = None, trace: list[Trace] | None = None
    ) -> Tensor:
        """(B, L) inputs, (B,) true lengths -> (B, H)."""
        known = None if self.reading == "as_coded" or lengths is None else lengths.clamp(min=1)
        if self.can_be_together and trace is None and torch.is_grad_enabled():
            return self._together(inputs, known)
        return self._streamed(inputs, known, trace)

    def _together(self, inputs: Tensor, known: Tensor | None) -> Tensor:
        """Block after block, each for all chunks."""
        batch, length = inputs.shape
        starts = self._starts(inputs)
        count = len(starts)
        x = self.embedding(inputs)
        if missing := count * self.chunk - length:
            x = functional.pad(x, (0, 0, 0, missing))
            known = starts.new_full((batch,), length) if known is None else known
        x = self._with_cls(x.view(batch * count, self.chunk, -1)).unflatten(0, (batch, count))
        mask, alive = self._masks(known, starts)
        flowing = flows(alive, count, self.gradients, inputs.device)
        first = memory = self._first_memory(batch)
        for index, block in enumerate(self.blocks):
            at_end = index == len(self.blocks) - 1
            rows = _ROWS_READ[self.representation] if at_end else None
            read_at_end = at_end and self.representation == "memory"
            x, memory = cast(ChunkMemoryBlock, block).forward_chunks(
                x, first, mask, alive, flowing, rows, last_write=read_at_end
            )
        if self.representation == "memory":
            return self.norm(memory).mean(dim=1)
        if self.representation == "cls":
            if alive is None:
                return self.norm(x[:, -1, 0])
            last = (alive.sum(dim=1) - 1)[:, None, None].expand(-1, -1, x.shape[-1])
            return self.norm(x[:, :, 0].gather(1, last)[:, 0])
        total, number = self._summed(x, mask, alive)
        return total.sum(dim=1) / number.sum(dim=1)

    def _streamed(self, inputs: Tensor, known: Tensor | None, trace: list[Trace] | None) -> Tensor:
        """Chunk after chunk, each through all blocks."""
        starts = self._starts(inputs)
        mask, alive = self._masks(known, starts)
        flowing = flows(alive, len(starts), self.gradients, inputs.device)
        # One tensor each, laid out as those after them, so that compiled code serves all chunks.
        streams = 1 if self.carry_norm else len(self.blocks)
        memories = [self._first_memory(len(inputs)).contiguous() for _ in range(streams)]
        watch = None if trace is None else Watch(list(self.blocks), memories[0])
        needed = len(starts)
        if known is not None and watch is None and not torch.is_grad_enabled():
            needed = -(-int(known.max()) // self.chunk)
        vector = number = inputs.new_zeros((), dtype=memories[0].dtype)
        for c, part in enumerate(inputs.split(self.chunk, dim=1)[:needed]):
            x = self._with_cls(self.embedding(part, c * self.chunk))
            here = None if mask is None else mask[:, c, : x.shape[1]]
            tokens = None if alive is None else alive[:, c]
            before = [hold(memory, flowing, c) for memory in memories]
            x, after = self.through_blocks(x, before, here, watch)
            memories = [carry(new, old, tokens) for new, old in zip(after, before, strict=True)]
            if watch is not None:
                watch.chunk_ends(tokens)
            if self.representation == "cls":
                vector = x[:, 0] if c == 0 else carry(x[:, 0], vector, tokens)
            elif self.representation == "mean":
                total, counted = self._summed(x, here, tokens)
                vector, number = vector + total, number + counted
        if trace is not None and watch is not None:
            trace += watch.traces(cls=self.cls is not None)
        if self.representation == "memory":
            return self.norm(memories[-1]).mean(dim=1)
        return self.norm(vector) if self.representation == "cls" else vector / number

    def through_blocks(
        self, x: Tensor, memories: list[Tensor], mask: Tensor | None, watch: Watch | None
    ) -> tuple[Tensor, list[Tensor]]:
        """One chunk through all blocks: its last vectors, and the memories after it."""
        after = []
        memory = memories[0]
        for index, block in enumerate(self.blocks):
            last = index == len(self.blocks) - 1 and watch is None
            rows = _ROWS_READ[self.representation] if last else None
            before = memory if self.carry_norm else memories[index]
            x, memory = block(x, before, mask, rows, None if watch is None else watch.seen[index])
            after.append(memory)
        return x, [self.carry_norm(memory)] if self.carry_norm else after

    def _first_memory(self, batch: int) -> Tensor:
        assert self.memory is not None
        memory: Tensor = self.memory(batch)
        return memory

    def _starts(self, inputs: Tensor) -> Tensor:
        """Where each chunk begins: (C,)."""
        return torch.arange(0, inputs.shape[1], self.chunk, device=inputs.device)

    def _masks(self, known: Tensor | None, starts: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(B, C, K) True at CLS and tokens, and (B, C) True where a chunk has tokens.

        A chunk without tokens keeps its first position, so that no softmax is over nothing.
        """
        if known is None:
            return None, None
        left = known[:, None] - starts
        places = torch.arange(self.chunk + int(self._has_cls), device=starts.device)
        within = places - int(self._has_cls) < left[:, :, None]
        return within | (places == 0), left > 0

    def _summed(
        self, x: Tensor, mask: Tensor | None, alive: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Sum of the normed vectors (..., K, H) that count -> (..., H), and their number."""
        x = self.norm(x)
        if mask is None or alive is None:
            return x.sum(dim=-2), x.new_full((*x.shape[:-2], 1), x.shape[-2])
        weight = (mask & alive[..., None]).to(x.dtype)
        return (x * weight[..., None]).sum(dim=-2), weight.sum(dim=-1, keepdim=True)


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
        self.encoder = (ChunkEncoder if model.chunk else Encoder)(model, task)
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

        Raises:
            MemnbError: inputs of another shape, or longer than the task's.
        """
        self._check(inputs)
        if self.task.layout != "pair":
            return self.head(self.encoder(inputs, lengths, trace))
        both = self.encoder(
            inputs.flatten(0, 1), None if lengths is None else lengths.flatten(), trace
        )
        return self.head(both.reshape(inputs.shape[0], -1))

    def _check(self, inputs: Tensor) -> None:
        """Of shapes alone: compiled code asks once per shape, and a GPU never waits for it."""
        paired = self.task.layout == "pair"
        shape, most = inputs.shape, self.task.max_length
        right = len(shape) == 3 and shape[1] == 2 if paired else len(shape) == 2
        if not right or not 1 <= shape[-1] <= most:
            wanted = "(batch, 2, length)" if paired else "(batch, length)"
            raise MemnbError(
                f"The input of a model for {self.task.name} has the shape {wanted} with a length "
                f"of 1 to {most:,}, but got {tuple(shape)}; cut or reshape it, or build the model "
                "for a task with another max_length."
            )

    def parts_to_compile(self) -> list[tuple[nn.Module, str]]:
        """Methods to compile one by one, each by its module and name; none: compile the whole."""
        return self.encoder.parts_to_compile()

    @property
    def is_faster_on_short(self) -> bool:
        """Whether a batch of short sequences is scored faster than one of long ones."""
        return bool(self.model.chunk) and self.model.reading == "as_intended"

    def parameter_count(self) -> int:
        """Trained and frozen parameters, each shared one once."""
        return sum(parameter.numel() for parameter in self.parameters())


@contextmanager
def evaluating(network: Network) -> Iterator[None]:
    """While open, the network is in evaluation mode; then in the one that it was in, whatever
    happened."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def build_model(name: str, task: str | Task, **changes: Any) -> Network:
    """The model called ``name`` (``transformer``, ``luna-256``, ``convluna-1``, ``poolluna-16``)
    for ``task``, with some settings changed.

    >>> build_model("luna-16", "text").parameter_count()
    1408514

    Raises:
        MemnbError: no such model, task or setting, an impossible value, or a network that is too
            large for this machine.
    """
    chosen = task_config(task) if isinstance(task, str) else task
    model = model_config(name, chosen, **changes)
    try:
        return Network(model, chosen)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise MemnbError(
            f"This machine has too little memory for the parameters of {name} on {chosen.name} "
            f"with width={model.width}, mlp={model.mlp} and memory={model.memory}; choose a "
            "smaller one."
        ) from None
