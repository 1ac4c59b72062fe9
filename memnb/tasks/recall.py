"""Associative recall: facts first, then a question (after Zoology, arXiv 2312.04927).

    k3=v1  k7=v0  k1=v1  k7?  ->  0

The keys of a sequence are all different, the values are drawn; the label is the value of the key
that is asked for. A model that goes from chunk to chunk has to keep all facts, for it does not know
which one will be asked. Training sequences have 1 to ``facts`` facts, the places of the others hold
"no fact", so that short ones teach what a fact is; validation and test have ``facts``.

With ``train_facts`` the test set asks for what training never showed: more facts, in longer
sequences. The question then follows the last fact, and padding follows the question. Training
sequences have ``step``, 2 ``step``, ... up to ``train_facts`` facts. Those of the validation set,
by which the best weights are chosen, have ``train_facts``. The test set has equally many of every
number up to ``facts``, one after the other.

Zoology asks for several keys within a sequence and scores every position; here a sequence has one
label, as in all tasks, so it asks once. There, key and value are two tokens; here a fact is one,
for tying neighbours together is not what is measured.

Ids: 0 padding, 1 no fact, then the facts by key and value, then the questions by key.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from memnb import config
from memnb.errors import DataError
from memnb.tasks import cache
from memnb.tasks.base import PAD, Bytes, Dataset, Ints, Split, sizes_of
from memnb.tasks.draws import Draws, below

NO_FACT, FACTS = 1, 2


def load(task: config.Recall) -> Dataset:
    """The three splits, from the data cache; made first if they are not there.

    Raises:
        DataError: the cache cannot be written.
    """
    return cache.cached(task, _read, _arrays)


def _arrays(task: config.Recall) -> cache.Arrays:
    inputs, labels = make(task)
    return {"inputs": inputs, "labels": labels.astype(np.uint8)}


def _read(task: config.Recall, path: Path) -> Dataset:
    found = cache.read(path, {"inputs": "uint8", "labels": "uint8"})
    inputs, labels = found["inputs"], found["labels"]
    sizes = sizes_of(task)
    if inputs.shape != (sum(sizes), task.max_length) or labels.shape != (sum(sizes),):
        raise DataError(f"{path} does not hold what the task '{task.name}' asks for.")
    lengths = (inputs != PAD).sum(axis=1, dtype=np.int32)
    splits = []
    for first, last in itertools.pairwise([0, *itertools.accumulate(sizes)]):
        part = slice(first, last)
        own = inputs[part, : lengths[part].max()].copy()
        splits.append(Split(own, lengths[part].copy(), labels[part].astype(np.int64)))
    return Dataset(*splits)


def make(task: config.Recall) -> tuple[Bytes, Ints]:
    """All examples, training first: inputs uint8 (N, facts + 1), labels int64 (N,).

    They depend on the definition alone.
    """
    count = sum(sizes_of(task))
    draws = Draws(task.seed, task.facts)
    # The ranks of random numbers are a random order, of which the first keys are taken.
    keys = draws.raw(count, task.keys).argsort(axis=1, kind="stable")[:, : task.facts]
    values = draws.below(task.classes, count, task.facts)
    most = task.facts if task.train_facts is None else task.train_facts
    known = task.step * (1 + draws.below(most // task.step, count))
    known[task.train :] = most
    if task.train_facts is not None:
        known[-task.test :] = task.step * (1 + np.arange(task.test) % (task.facts // task.step))
    asked = below(known, draws.raw(count))
    rows = np.arange(count)
    inputs = np.zeros((count, task.facts + 1), np.uint8)
    inputs[:, :-1] = np.where(
        np.arange(task.facts) < known[:, None],
        FACTS + keys * task.classes + values,
        NO_FACT if task.train_facts is None else PAD,
    )
    at = task.facts if task.train_facts is None else known
    inputs[rows, at] = FACTS + task.keys * task.classes + keys[rows, asked]
    return inputs, values[rows, asked]


def names(task: config.Recall) -> tuple[str, ...]:
    """How each id is written: ``k1=v0`` is a fact, ``k1?`` a question, ``-`` no fact."""
    facts = (f"k{key}=v{value}" for key in range(task.keys) for value in range(task.classes))
    return ("<pad>", "-", *facts, *(f"k{key}?" for key in range(task.keys)))
