"""Associative recall: facts first, then a question (Zoology, arXiv 2312.04927).

    k3 v1  k7 v4  k1 v1  k7 ?  ->  4

``facts`` keys, all different, each followed by its value, and then one of the keys once more; the
label is its value. A model that goes from chunk to chunk has to keep all facts, for it does not
know which one will be asked. Zoology asks for several keys within one sequence and scores every
position; here a sequence has one label, as in all tasks, so it asks once.

Ids: 0 is padding, which does not occur; then the keys; then the values.
"""

from __future__ import annotations

import numpy as np

from memnb import config, paths
from memnb.errors import DataError
from memnb.tasks import cache
from memnb.tasks.base import Bytes, Dataset, Ints, Split
from memnb.tasks.draws import Draws

SPLITS = ("train", "validation", "test")


def load(task: config.Recall) -> Dataset:
    """The three splits, from the data cache; made first if they are not there.

    Raises:
        DataError: the cache cannot be written.
    """
    path = paths.data_cache() / f"{task.name}-{task.digest}.npz"

    def read() -> Dataset:
        found = cache.read(path, {"inputs": "uint8", "labels": "uint8"})
        inputs, labels = found["inputs"], found["labels"]
        counts = [getattr(task, name) for name in SPLITS]
        if inputs.shape != (sum(counts), task.max_length) or labels.shape != (sum(counts),):
            raise DataError(f"{path} does not hold what the task '{task.name}' asks for.")
        ends = np.cumsum([0, *counts])
        splits = []
        for first, last in zip(ends[:-1], ends[1:], strict=True):
            full = np.full(last - first, task.max_length, np.int32)
            splits.append(Split(inputs[first:last], full, labels[first:last].astype(np.int64)))
        return Dataset(*splits)

    def make_arrays() -> cache.Arrays:
        inputs, labels = make(task, task.train + task.validation + task.test)
        return {"inputs": inputs, "labels": labels.astype(np.uint8)}

    return cache.cached(path, read, make_arrays)


def make(task: config.Recall, count: int) -> tuple[Bytes, Ints]:
    """The first ``count`` examples: inputs uint8 (count, 2 * facts + 1), labels int64 (count,).

    They depend on ``task.seed`` and ``task.facts`` alone.
    """
    draws = Draws(task.seed, task.facts)
    # The ranks of random numbers are a random order, of which the first keys are taken.
    order = draws.raw(count, task.keys).argsort(axis=1, kind="stable")
    keys = 1 + order[:, : task.facts]
    values = draws.below(task.classes, count, task.facts)
    asked = draws.below(task.facts, count)
    rows = np.arange(count)
    inputs = np.empty((count, 2 * task.facts + 1), np.uint8)
    inputs[:, 0:-1:2] = keys
    inputs[:, 1::2] = 1 + task.keys + values
    inputs[:, -1] = keys[rows, asked]
    return inputs, values[rows, asked]


def names(task: config.Recall) -> tuple[str, ...]:
    """How each id is written: ``k1`` to ``k64`` and ``v0`` to ``v7``."""
    keys = (f"k{key}" for key in range(1, task.keys + 1))
    return ("<pad>", *keys, *(f"v{value}" for value in range(task.classes)))
