"""How many floating-point operations a model needs, counted from its config. No torch here."""

from __future__ import annotations

from memnb.config import Model


def forward_operations(model: Model, length: int) -> float:
    """Operations of one forward pass over one sequence, those of the matrix products."""
    width, memory = model.width, model.memory
    feed_forward = 4 * length * width * model.mlp
    if model.kind == "transformer":
        projections = 8 * length * width**2
        attention = 4 * length**2 * width
    else:
        # Pack and unpack project the sequence to keys, queries, output and, unless the variant
        # has no value projection, values; the memory's own projections are as many per row.
        per_row = 3 if model.kind == "convluna" and model.variant == "simplified" else 4
        projections = 2 * per_row * (length + memory) * width**2
        attention = 8 * length * memory * width
    return float(model.blocks * (feed_forward + projections + attention))
