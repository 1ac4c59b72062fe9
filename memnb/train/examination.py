"""What a trained network is asked: at the end of its run, and later, when newer tests ask more."""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from memnb.models.network import Network
from memnb.probes.answers import Rows
from memnb.probes.causal import EXAMPLES, LENGTH_EXAMPLES, examine
from memnb.probes.row_removal import accuracy_by_rows_left
from memnb.tasks.base import asked
from memnb.train.engine import DeviceSplit, Engine, Interrupted, Stop, never


def look_closely(
    engine: Engine, split: DeviceSplit, seed: int, should_stop: Stop = never
) -> dict[str, Rows]:
    """What a trained network is asked at the end of a run: file name -> rows.

    Raises:
        Interrupted: it was to stop before the end; the network is as it was.
    """

    def hear() -> None:
        if should_stop():
            raise Interrupted

    removal = accuracy_by_rows_left(
        engine.network, lambda: engine.evaluate_eagerly(split, should_stop)[1], seed=seed
    )
    return {"removal.jsonl": removal, **examination(engine.network, split, seed, hear)}


def examination(
    network: Network,
    split: DeviceSplit,
    seed: int,
    hear: Callable[[], None] = lambda: None,
    without: Collection[str] = (),
) -> dict[str, Rows]:
    """What :func:`memnb.probes.causal.examine` says of the examples of a test set that are asked
    about again."""
    some = asked_of(split, EXAMPLES, LENGTH_EXAMPLES)
    inputs, lengths, labels = split.inputs[some], split.lengths[some], split.labels[some]
    return examine(network, inputs, lengths, labels, seed, hear, without)


def asked_of(split: DeviceSplit, first: int, count: int) -> Tensor:
    """Positions of at most ``count`` examples (:func:`memnb.tasks.base.asked`), on their device."""
    labels = split.labels
    return torch.from_numpy(asked(labels.cpu().numpy(), first, count)).to(labels.device)
