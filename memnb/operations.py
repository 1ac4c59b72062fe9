"""How many floating-point operations a model needs, and how many bytes a step must move, counted
from its config. No torch here.

Counted are the matrix products of the plain formulas, in all blocks and at every position. The fast
paths need fewer: few memory rows spare projections, and a last block computes only what is read.
"""

from __future__ import annotations

from memnb.config import Model, Run, Task, Text

# Validation sets whose size the data decide (on Text the test set, as the authors do).
_VALIDATION = {"text": 25_000, "retrieval": 18_090, "retrieval-acl": 2_067, "image": 5_000}


def examples_scored(task: Task) -> int:
    """How many examples an evaluation scores: the size of the validation set."""
    if isinstance(task, Text):
        own = task.holdout if task.validation == "holdout" else task.test
    else:
        own = getattr(task, "validation", None)
    return own or _VALIDATION[task.name.removesuffix("-short")]


def evaluations(run: Run) -> int:
    """How often a run that is not stopped early scores the validation set."""
    return -(-run.training.steps // run.training.evaluate_every)


def example_operations(run: Run) -> float:
    """Of one forward pass over one example; a pair is two sequences."""
    return run.task.sequences * forward_operations(run.model, run.task.max_length)


def step_operations(run: Run) -> float:
    """Of one training step: the backward pass costs twice the forward pass."""
    return 3 * run.training.batch * example_operations(run)


def step_bytes(run: Run) -> float:
    """The least that one training step reads and writes in device memory, activations in bf16.

    A block that kept all its intermediate results on the chip would still, at each position, read
    its input and write its output; on the way back read input and gradient, write the gradient,
    and write and read the hidden layer and its gradient, from which the weights learn.
    """
    positions = run.task.sequences * run.training.batch * run.task.max_length
    return 2.0 * run.model.blocks * positions * (5 * run.model.width + 4 * run.model.mlp)


def forward_operations(model: Model, length: int) -> float:
    """Of one forward pass over one sequence."""
    width, memory = model.width, model.memory
    feed_forward = 4 * length * width * model.mlp
    chunk = min(model.chunk, length)
    if model.kind == "transformer":
        projections = 8 * length * width**2
        attention = 4 * length**2 * width
    elif model.kind == "chunkmem":
        # Within the chunk, and write and read; the memory is written and read once per chunk.
        projections = (16 * length + 8 * memory * -(-length // chunk)) * width**2
        attention = 4 * length * (chunk + 2 * memory) * width
    elif model.kind == "rmt":
        # Memory rows are tokens of every chunk.
        tokens = length + memory * -(-length // chunk)
        feed_forward = 4 * tokens * width * model.mlp
        projections = 8 * tokens * width**2
        attention = 4 * tokens * (chunk + memory) * width
    elif model.kind == "perceiver":
        feed_forward = 8 * memory * width * model.mlp
        projections = (4 * length + 12 * memory) * width**2
        attention = 4 * memory * (length + memory) * width
    elif model.kind == "linformer":
        projections = 8 * length * width**2
        attention = 8 * length * memory * width
    elif model.kind in ("localconv", "memoryless"):
        projections = (4 if model.kind == "localconv" else 2) * length * width**2
        attention = 0
    else:
        # Also a block of one's own, whose products nobody has counted, is taken for a Luna.
        # Pack and unpack project the sequence to keys, queries, output and, unless the variant
        # has no value projection, values; the memory's own projections are as many per row.
        per_row = 3 if model.kind == "convluna" and model.variant == "simplified" else 4
        projections = 2 * per_row * (length + memory) * width**2
        attention = 8 * length * memory * width
    return float(model.blocks * (feed_forward + projections + attention))
