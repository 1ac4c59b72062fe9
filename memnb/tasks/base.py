"""What every task hands over: three splits of padded examples with their labels. NumPy only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memnb import config
from memnb.errors import DataError
from memnb.tasks.draws import Draws

Bytes = NDArray[np.uint8]
Ids = NDArray[np.integer[Any]]
Ints = NDArray[np.int64]

Generated = config.ListOps | config.Pathfinder | config.Recall

PAD = 0


@dataclass(frozen=True)
class Split:
    """N examples.

    Attributes:
        inputs: (N, L), or (N, 2, L) for pairs: token ids padded with 0 up to L =
            ``task.max_length`` (less in a split that has no longer sequences), or pixels 0..255.
            uint8; of data of one's own with more symbols the type that :func:`type_of_ids` names.
        lengths: int32 (N,), or (N, 2) for pairs: number of true tokens.
        labels: int64 (N,).
    """

    inputs: Ids
    lengths: NDArray[np.int32]
    labels: Ints

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """The three splits of one task."""

    train: Split
    validation: Split
    test: Split

    def digest(self) -> str:
        """16 hexadecimal digits of everything in the three splits: what a run was trained on."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return hash_of(
            (f"{name} {part}", array)
            for name, split in splits.items()
            for part, array in vars(split).items()
        )[:16]


def hash_of(arrays: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """A hash of named arrays in this order: of their types, shapes and numbers, however these lie
    in memory or in a file."""
    state = hashlib.sha256()
    for name, array in arrays:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        state.update(f"{name} {little.dtype.str} {little.shape}\n".encode())
        state.update(little.data)
    return state.hexdigest()


def type_of_ids(task: config.Task) -> type[np.uint8 | np.int16 | np.int32]:
    """The smallest type of the ids of a task, of those that PyTorch computes with everywhere. (Ids
    of memnb's own tasks fit into 8 bits: bytes plus one do, as no text holds the byte 255.)"""
    if not isinstance(task, config.Own) or task.vocabulary <= 2**8:
        return np.uint8
    return np.int16 if task.vocabulary <= 2**15 else np.int32


def made_up(task: config.Task, train: int, validation: int) -> Dataset:
    """Random inputs of the task's shape and vocabulary; the test set is the training set."""
    random = np.random.default_rng(0)
    kind = type_of_ids(task)
    above = task.vocabulary if isinstance(task, config.Own) else min(task.vocabulary or 256, 256)

    def split(examples: int) -> Split:
        rows = (examples, 2) if task.layout == "pair" else (examples,)
        inputs = random.integers(1, above, (*rows, task.max_length), dtype=kind)
        labels = random.integers(0, task.classes, examples)
        return Split(inputs, np.full(rows, task.max_length, np.int32), labels)

    first = split(train)
    return Dataset(first, split(validation), first)


def images_of(images: Bytes, labels: Bytes, rows: Ints) -> Split:
    """The chosen ones of images (N, pixels) with their labels (N,)."""
    lengths = np.full(len(rows), images.shape[1], np.int32)
    return Split(images[rows], lengths, labels[rows].astype(np.int64))


def sizes_of(task: Generated) -> tuple[int, int, int]:
    """How many examples each of the three splits has."""
    return task.train, task.validation, task.test


def split_of(task: Generated) -> Bytes:
    """The split of each example, (N,): first 0 (train), then 1 (validation), then 2 (test)."""
    return np.repeat(np.arange(3, dtype=np.uint8), sizes_of(task))


def asked(labels: Ints, first: int, count: int) -> Ints:
    """Which examples of a split a trained model is asked about again: at most ``count`` positions.

    The first ones, as they stand. Where the first ``first`` all have one label although the split
    has several, it is stored sorted by label (the reviews of Text are), and its first examples say
    nothing of the others: then as many of the whole split, in an order drawn once for all.

    Args:
        labels: (N,) of the split.
        first: examples that have to differ in their labels.
        count: at most so many positions.
    """
    if len(np.unique(labels[:first])) > 1 or len(np.unique(labels)) < 2:
        return np.arange(min(count, len(labels)))
    return np.argsort(Draws(0, 4).raw(len(labels)), kind="stable")[:count]


@dataclass(frozen=True)
class Sequences:
    """Examples of different lengths, one after the other; the form in which they are stored.

    Attributes:
        values: (total,), all sequences: bytes, or ids; number i is
            ``values[offsets[i]:offsets[i + 1]]``.
        offsets: int64 (N + 1,), from 0 up to ``len(values)``.
    """

    values: Ids
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ids:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def of(cls, sequences: list[Bytes]) -> Sequences:
        """Join separate sequences."""
        values = np.concatenate([np.zeros(0, np.uint8), *sequences])
        return cls(values, np.cumsum([0, *map(len, sequences)], dtype=np.int64))

    @classmethod
    def checked(cls, values: Ids, offsets: Ints, where: object) -> Sequences:
        """The sequences that were read from the file ``where``.

        Raises:
            DataError: the offsets do not fit the values.
        """
        fits = offsets.ndim == values.ndim == 1 and len(offsets) > 0
        fits = fits and offsets[0] == 0 and offsets[-1] == len(values)
        if not fits or np.any(offsets[1:] < offsets[:-1]):
            raise DataError(
                f"{where} is damaged: its offsets do not fit its {values.size} bytes; make or "
                "import it again."
            )
        return cls(values, offsets)

    def padded(self, rows: Ints, length: int, add: int = 0) -> tuple[Ids, NDArray[np.int32]]:
        """The chosen rows, cut or padded with 0 to (len(rows), length), and their lengths.

        ``add`` is added to every value, so that bytes become ids above the padding's.
        """
        starts = self.offsets[rows]
        lengths = np.minimum(self.offsets[rows + 1] - starts, length)
        inputs = np.zeros((len(rows), length), self.values.dtype)
        more = self.values.dtype.type(add)
        for row, start, count in zip(inputs, starts.tolist(), lengths.tolist(), strict=True):
            row[:count] = self.values[start : start + count] + more
        return inputs, lengths.astype(np.int32)
