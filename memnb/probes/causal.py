"""Causal tests: what a trained model's answers lose when somebody meddles with its memory.

A memory that carries something about its input must be missed when it is taken away, exchanged or
levelled; one whose rows are all alike is not (claim C3). The tests are ours. All of them change the
packed rows right after pack, so that both unpack and the memory stream see the change; removal,
as in :mod:`memnb.probes.row_removal`, only hides rows from unpack.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from memnb.models.blocks import SharedMemoryAttention, SharedMemoryBlock, Trace
from memnb.models.network import Network, evaluating
from memnb.models.registry import OwnBlock
from memnb.probes.answers import (
    Rows,
    accuracy_by_length,
    answers,
    answers_by_beginning,
    compared,
    in_all,
)
from memnb.probes.degradation import real_positions, received
from memnb.probes.filters import rounded
from memnb.probes.row_removal import ORDERS, keeping_random_rows, readers, rows_left

EXAMPLES = 500  # the tests ask a model a dozen times: so many examples, the same for all of them
USAGE_EXAMPLES = 16
LENGTH_EXAMPLES = 5000
_TRACED = 2  # attention weights are written out here: a few samples at a time
BY_USE = ("most used", "least used")

Edit = Callable[[Tensor], Tensor]


def examine(
    network: Network,
    inputs: Tensor,
    lengths: Tensor,
    labels: Tensor,
    seed: int,
    hear: Callable[[], None] = lambda: None,
    without: Collection[str] = (),
) -> dict[str, Rows]:
    """Everything that is asked of a trained model once, at the end: file name -> rows.

    ``hear`` is called between two tests; it may raise, which leaves the network as it was. Files
    named in ``without`` are not asked for.

    ``lengths.jsonl`` (:func:`accuracy_by_length`), ``beginning.jsonl``
    (:func:`answers_by_beginning`), ``usage.jsonl`` (:func:`row_usage`) and ``causal.jsonl``
    (:func:`causal_tests`), each on the first examples given, in single precision.
    What has no meaning for a model is left out.
    """
    some, few, many = slice(0, EXAMPLES), slice(0, USAGE_EXAMPLES), slice(0, LENGTH_EXAMPLES)
    asked = inputs[some], lengths[some], labels[some]

    def by_length() -> Rows:
        if len(in_all(lengths[many]).unique()) == 1:
            return []
        correct = answers(network, inputs[many], lengths[many]) == labels[many]
        return accuracy_by_length(lengths[many], correct)

    questions: dict[str, Callable[[], Rows]] = {
        "lengths.jsonl": by_length,
        "beginning.jsonl": lambda: answers_by_beginning(network, *asked, hear),
        "usage.jsonl": lambda: row_usage(network, inputs[few], lengths[few], labels[few]),
        "causal.jsonl": lambda: causal_tests(network, *asked, seed, found.get("usage.jsonl"), hear),
    }
    found: dict[str, Rows] = {}
    for name, question in questions.items():
        if name not in without and (rows := question()):
            found[name] = rows
    return found


def causal_tests(
    network: Network,
    inputs: Tensor,
    lengths: Tensor,
    labels: Tensor,
    seed: int,
    usage: Rows | None = None,
    hear: Callable[[], None] = lambda: None,
) -> Rows:
    """Accuracy under every test, on the same examples.

    * ``intact``: the model as it is.
    * ``remove``: unpack reads ``kept`` of the M rows; by ``rule`` the others are random ones
      (another choice per example, the same in all blocks), or each block's most or least used
      ones, the same for all examples.
    * ``shuffle``: each row comes from another example of the batch, each from a different one as
      long as there are others left. Which examples share a batch depends on the device.
    * ``mean``: every row is replaced by the mean of all rows.
    * ``freeze``: every block receives the initial memory instead of the one before's.
    * ``swap``: all rows come from the example before.

    A single example has no other one, so that nothing is exchanged. A block of your own is asked
    what it allows (:mod:`memnb.models.registry`), and never loses rows by use.

    Args:
        network: a trained model; one whose packed rows cannot be changed gives an empty list.
        inputs: (N, L) or (N, 2, L).
        lengths: (N,) or (N, 2).
        labels: (N,).
        seed: of what is random in the tests.
        usage: rows of :func:`row_usage`; measured here if not given.
        hear: called before each test.

    Returns:
        One dict per test: ``test``, ``rule`` ("" but for removal), ``kept``, ``memory``,
        ``examples``, ``accuracy``, and ``changed``, the share of answers that differ from the
        intact model's; where rows go at random also ``orders``, as in
        :func:`memnb.probes.row_removal.accuracy_by_rows_left`.
    """
    writers, attentions = _writers(network), _attentions(network)
    if not writers:
        return []
    few = slice(0, USAGE_EXAMPLES)
    usage = usage or row_usage(network, inputs[few], lengths[few], labels[few])
    memory = network.model.memory
    intact = answers(network, inputs, lengths)

    def row(test: str, rule: str = "", kept: int = memory) -> dict[str, Any]:
        hear()
        said = compared(answers(network, inputs, lengths), labels, intact)
        return {"test": test, "rule": rule, "kept": kept, "memory": memory, **said}

    found = [row("intact")]
    if memory > 1 and readers(network):
        for kept in rows_left(memory)[1:]:
            with keeping_random_rows(network, kept, seed):
                found.append({**row("remove", "random", kept), "orders": ORDERS})
    if memory > 1 and usage:
        for rule in BY_USE:
            orders = removal_orders(rule, usage, len(attentions), memory)
            for kept in rows_left(memory)[1:]:
                with keeping(attentions, orders, kept):
                    found.append(row("remove", rule, kept))
    if memory > 1:
        if len(labels) > 1:
            with editing(writers, shuffled(network, seed)):
                found.append(row("shuffle"))
        with editing(writers, mean_row):
            found.append(row("mean"))
    if len(writers) > 1:
        with frozen_memory(network):
            found.append(row("freeze"))
    if len(labels) > 1:
        with editing(writers, swapped(network)):
            found.append(row("swap"))
    return found


def row_usage(network: Network, inputs: Tensor, lengths: Tensor, labels: Tensor) -> Rows:
    """How much each memory row is read, and how much the loss depends on it, per block.

    Returns:
        One dict per block and row: ``block`` and ``row`` (from 1); ``usage``, the mean unpack
        weight that the row receives (from padding too, unless the model masks it) times M (1 = an
        even share); ``gradient``, the mean norm of one sample's loss gradient of the packed row.
        Empty for a model without a shared memory.
    """
    if not _attentions(network):
        return []
    sums: list[list[Tensor]] = []
    with evaluating(network):
        for start in range(0, len(inputs), _TRACED):
            part = slice(start, start + _TRACED)
            trace: list[Trace] = []
            real = real_positions(network, inputs[part], lengths[part])
            with torch.enable_grad():
                scores = network(inputs[part], lengths[part], trace)
                loss = functional.cross_entropy(scores, labels[part], reduction="sum")
                gradients = torch.autograd.grad(loss, [block.packed for block in trace])
            for index, (block, gradient) in enumerate(zip(trace, gradients, strict=True)):
                if index == len(sums):
                    sums.append([gradient.new_zeros(gradient.shape[1]) for _ in range(2)])
                assert block.unpack is not None  # blocks with this attention say where they looked
                sums[index][0] += received(block.unpack.detach(), real).sum(dim=0)
                sums[index][1] += gradient.norm(dim=-1).sum(dim=0)
    samples = len(inputs) * network.task.sequences
    return [
        {
            "block": index + 1,
            "row": row + 1,
            "usage": rounded(read * network.model.memory / samples),
            "gradient": rounded(gradient / samples),
        }
        for index, (usage, gradients) in enumerate(sums)
        for row, (read, gradient) in enumerate(zip(usage.tolist(), gradients.tolist(), strict=True))
    ]


# --- meddling --------------------------------------------------------------------------------


@contextmanager
def editing(writers: Sequence[Any], edit: Edit) -> Iterator[None]:
    """While open, what pack wrote is handed through ``edit``, (B, M, H) -> (B, M, H)."""
    for writer in writers:
        writer.edit_packed = edit
    try:
        yield
    finally:
        for writer in writers:
            writer.edit_packed = None


@contextmanager
def keeping(
    attentions: list[SharedMemoryAttention], orders: list[Tensor], kept: int
) -> Iterator[None]:
    """While open, unpack of each block reads the last ``kept`` rows of its order of removal."""
    for attention, order in zip(attentions, orders, strict=True):
        keep = torch.zeros(len(order), dtype=torch.bool)
        keep[order[len(order) - kept :]] = True
        attention.keep_rows = keep.to(next(attention.parameters()).device)
    try:
        yield
    finally:
        for attention in attentions:
            attention.keep_rows = None


@contextmanager
def frozen_memory(network: Network) -> Iterator[None]:
    """While open, every block receives the initial memory: nothing goes from block to block."""
    initial = network.encoder.memory
    assert initial is not None

    def enter(block: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        x, _, *rest = given
        return x, initial(x.shape[0]), *rest

    handles = [block.register_forward_pre_hook(enter) for block in network.encoder.blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def mean_row(packed: Tensor) -> Tensor:
    """Every row is the mean of all rows."""
    return packed.mean(dim=1, keepdim=True).expand_as(packed)


def swapped(network: Network) -> Edit:
    """Every example receives the memory of the example before it in the batch."""
    step = network.task.sequences
    return lambda packed: packed.roll(step, dims=0)


def shuffled(network: Network, seed: int) -> Edit:
    """Row j of every example comes from the example that stands s_j before it.

    The s_j are random and all different; only where a batch has no more than M examples they are
    used again in the same order.
    """
    step = network.task.sequences

    def edit(packed: Tensor) -> Tensor:
        examples = len(packed) // step
        generator = torch.Generator().manual_seed(seed)
        shifts = (torch.randperm(max(examples - 1, 1), generator=generator) + 1).tolist()
        rows = [
            packed[:, row].roll(step * shift, dims=0)
            for row, shift in zip(range(packed.shape[1]), cycle(shifts), strict=False)
        ]
        return torch.stack(rows, dim=1)

    return edit


def removal_orders(rule: str, usage: Rows, blocks: int, memory: int) -> list[Tensor]:
    """Per block, the rows (M,) in the order in which ``rule``, one of :data:`BY_USE`, removes
    them."""
    read = torch.tensor([row["usage"] for row in usage]).view(blocks, memory)
    return list(read.argsort(dim=1, descending=rule == "most used", stable=True))


def _attentions(network: Network) -> list[SharedMemoryAttention]:
    """Those of all blocks; none where not every block is one of a shared memory."""
    blocks = list(network.encoder.blocks)
    shared: list[SharedMemoryAttention] = [
        block.attention for block in blocks if isinstance(block, SharedMemoryBlock)
    ]
    return shared if len(shared) == len(blocks) else []


def _writers(network: Network) -> list[Any]:
    """What packs in each block, and lets what it packed be changed before it is read (it has an
    attribute ``edit_packed``); none where not every block has one, or works chunk by chunk."""
    own = [block.block for block in network.encoder.blocks if isinstance(block, OwnBlock)]
    if own and not network.model.chunk and all(hasattr(block, "edit_packed") for block in own):
        return own
    return list(_attentions(network))
