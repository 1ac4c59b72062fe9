"""What a trained model answers, by length of the input and by how much of its beginning stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from memnb.config import EXTRA_TASKS
from memnb.models.network import Network, evaluating

Rows = list[dict[str, Any]]
"""What a probe says, as it stands in a ``.jsonl`` file: one dict per row."""

# A batch of evaluation holds about so many positions: enough to keep a device busy.
POSITIONS = {"cpu": 2**14, "cuda": 2**18}


@torch.no_grad()
def answers(network: Network, inputs: Tensor, lengths: Tensor) -> Tensor:
    """The class that the network gives to each example: (N, ...) -> (N,)."""
    # Exchanging memories needs two examples in a batch: a last one that is left over joins those
    # before it.
    batch = max(2, POSITIONS[inputs.device.type] // inputs[0].numel())
    starts = range(0, max(1, len(inputs) - 1), batch)
    ends = [*starts[1:], len(inputs)]
    with evaluating(network):
        given = [
            network(inputs[start:end], lengths[start:end]).argmax(-1)
            for start, end in zip(starts, ends, strict=True)
        ]
    return torch.cat(given)


def answers_by_beginning(
    network: Network,
    inputs: Tensor,
    lengths: Tensor,
    labels: Tensor,
    hear: Callable[[], None] = lambda: None,
) -> Rows:
    """How much of an input an answer hangs on: its first tokens stay, the others are another's.

    The first 1, 4, 16, ... tokens of an input stay where they are; what follows comes from the
    example before it, up to the end of that one. Inputs no longer than what stays are left whole.
    A model that keeps its answers has read nothing of the rest; one that keeps its accuracy has
    made nothing of it. The test is ours. Of ListOps, the outermost operator comes first.

    Args:
        network: a trained model; on pixels, pairs and recall, whose first positions say nothing,
            nothing is asked.
        inputs: (N, L).
        lengths: (N,).
        labels: (N,).
        hear: called before each test.

    Returns:
        One dict per number of tokens, the whole input last: ``kept`` (tokens), ``examples``,
        ``accuracy``, and ``changed``, the share of answers that differ from those to whole inputs.
    """
    if network.task.layout != "tokens" or network.task.name in EXTRA_TASKS:
        return []
    longest = int(lengths.max())
    whole = answers(network, inputs, lengths)

    found, kept = [], 1
    while kept < longest:
        hear()
        given = answers(network, *ending_otherwise(inputs, lengths, kept))
        found.append({"kept": kept, **compared(given, labels, whole)})
        kept *= 4
    return [*found, {"kept": longest, **compared(whole, labels, whole)}]


def compared(given: Tensor, labels: Tensor, intact: Tensor) -> dict[str, Any]:
    """What a row says of the answers ``given``: to how many ``examples``, their ``accuracy``, and
    ``changed``, the share that differs from the ``intact`` ones; all are (N,)."""
    return {
        "examples": len(labels),
        "accuracy": float((given == labels).double().mean()),
        "changed": float((given != intact).double().mean()),
    }


def ending_otherwise(inputs: Tensor, lengths: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Inputs (N, L) that go on, after their first ``kept`` tokens, as the example before them does;
    and their lengths (N,). An input no longer than that stays whole."""
    own = torch.arange(inputs.shape[1], device=inputs.device) < kept
    mixed = torch.where(own, inputs, inputs.roll(1, dims=0))
    long = lengths > kept
    inputs = torch.where(long[:, None], mixed, inputs)
    return inputs, torch.where(long, lengths.roll(1, dims=0).clamp(min=kept), lengths)


def accuracy_by_length(lengths: Tensor, correct: Tensor, groups: int = 5, few: int = 16) -> Rows:
    """Accuracy of the shortest fifth of the examples, of the next, and so on.

    Where no more than ``few`` different lengths occur, accuracy at each of them.

    Args:
        lengths: (N,) or (N, 2) tokens; of a pair the two are added.
        correct: (N,) whether the answer was right.
        groups: how many groups of about equal size.
        few: how many different lengths are told apart instead.

    Returns:
        One dict per group: ``low`` and ``high``, its least and greatest length; ``examples``;
        ``accuracy``. Empty where all examples are equally long.
    """
    total = in_all(lengths)
    different = total.unique()
    if len(different) == 1:
        return []
    if len(different) <= few:
        parts = [(total == length).nonzero()[:, 0] for length in different]
    else:
        parts = [part for part in total.argsort(stable=True).chunk(groups) if len(part)]
    return [
        {
            "low": int(total[part[0]]),
            "high": int(total[part[-1]]),
            "examples": len(part),
            "accuracy": float(correct[part].double().mean()),
        }
        for part in parts
    ]


def in_all(lengths: Tensor) -> Tensor:
    """Tokens of each example: (N,), or (N, 2) of a pair -> (N,)."""
    return lengths if lengths.dim() == 1 else lengths.sum(dim=1)
