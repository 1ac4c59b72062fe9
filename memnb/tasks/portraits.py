"""Every data set as a page shows it: its card, a true example, how many and how long.

ListOps and Pathfinder are drawn here by their definition, a few of them, in seconds. The other
data may be missing on a machine: then there is no example, but what to do, and the numbers come
from :mod:`memnb.tasks.counts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from memnb import config
from memnb.errors import DataError
from memnb.tasks import catalogue, counts, listops, pathfinder, prepared
from memnb.tasks.base import Bytes, Ints, Sequences

LABELS: dict[str, tuple[str, ...]] = {
    "listops": tuple("0123456789"),
    "text": ("negative", "positive"),
    "retrieval": ("no citation", "citation"),
    "retrieval-acl": ("no citation", "citation"),
    "image": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    "pathfinder": ("two contours", "one contour"),
}  # fmt: skip
SHOWN = 4  # pictures of an image task
_CHARACTERS = 2000  # of a text: more than a picture has room for
_TREES = 200  # among which one with a small top is looked for


@dataclass(frozen=True)
class Expression:
    """A ListOps example: all its tokens, and the tree they stand for."""

    tokens: tuple[str, ...]
    tree: listops.Node


@dataclass(frozen=True)
class Passages:
    """The first characters of a text, or of both texts of a pair, and the label as a word."""

    texts: tuple[str, ...]
    word: str


@dataclass(frozen=True)
class Pictures:
    """Examples of an image task.

    Attributes:
        images: uint8 (n, side, side).
        words: their n labels.
    """

    images: Bytes
    words: tuple[str, ...]


Example = Expression | Passages | Pictures


@dataclass(frozen=True)
class Portrait:
    """One data set.

    Attributes:
        status: its card, and whether it is on this machine.
        counts: numbers of labels and lengths; None where nobody could count them.
        basis: what was counted, as ``all 50,000 examples``; empty without counts.
        example: None where the data are missing or damaged.
        problem: then, what is the matter and what to do.
    """

    status: catalogue.Status
    counts: counts.Counts | None
    basis: str
    example: Example | None
    problem: str = ""

    @property
    def name(self) -> str:
        return self.status.card.name

    @property
    def is_of_pixels(self) -> bool:
        """Whether its sequences are images."""
        return config.task_config(self.name).layout == "pixels"

    @property
    def max_length(self) -> int:
        """What the task keeps of a sequence."""
        return config.task_config(self.name).max_length


def portraits(sample: int = 1000, names: Iterable[str] = catalogue.CARDS) -> list[Portrait]:
    """The data sets, in the order of the paper.

    Args:
        sample: how many trees and images are generated; the first ones of the training set.
        names: of the data sets.

    Raises:
        MemnbError: a data set that is unknown.
        DataError: the committed aggregates are missing or damaged.
    """
    known = counts.load()
    return [_portrait(catalogue.status(name), sample, known.get(name)) for name in names]


def _portrait(status: catalogue.Status, sample: int, known: counts.Counts | None) -> Portrait:
    name = status.card.name
    if status.card.kind == "generated":
        make = _listops if name == "listops" else _pathfinder
        numbers, shown = make(sample)
        return Portrait(status, numbers, f"the first {sample:,} training examples", shown)
    example: Example | None = None
    problem = ""
    try:
        if status.ready:
            example = _imported(name)
            known = known or counts.of_data(name)
        else:
            problem = f"the data are not on this machine. To get them: {status.card.next_step}."
    except DataError as error:
        problem = str(error)
    basis = f"all {known.examples:,} examples" if known else ""
    return Portrait(status, known, basis, example, problem)


def _listops(sample: int) -> tuple[counts.Counts, Example]:
    # A larger set begins with the smaller one, so this is how the training set begins; a set has
    # at least one example in each split.
    made = listops.make(config.ListOps(train=sample, validation=1, test=1))
    lengths, labels = np.diff(made.sequences.offsets)[:sample], made.label[:sample]
    shown = _with_small_top(made.sequences, min(sample, _TREES))
    return counts.counted("listops", lengths, labels, np.zeros_like(labels), 10), shown


def short_expression() -> Expression:
    """Of the first training examples of short ListOps the one whose top is smallest."""
    task = config.task_config("listops-short", train=_TREES, validation=1, test=1)
    assert isinstance(task, config.ListOps)
    return _with_small_top(listops.make(task).sequences, _TREES)


def _with_small_top(sequences: Sequences, count: int) -> Expression:
    """Of the first ``count`` expressions one that a panel has room for: no tree of hundreds of
    tokens has, but one whose top is small can be shown with its deeper parts folded."""
    expressions = []
    for number in range(count):
        tokens = tuple(listops.VOCABULARY[token] for token in sequences[number].tolist())
        expressions.append(Expression(tokens, listops.tree(tokens)))
    return min(expressions, key=lambda one: one.tree.ends(3))


def _pathfinder(sample: int) -> tuple[counts.Counts, Example]:
    task = config.Pathfinder()
    drawn = pathfinder.generate(task, sample)
    lengths = np.full(sample, task.max_length, np.int64)
    numbers = counts.counted("pathfinder", lengths, drawn.labels, np.zeros_like(drawn.labels), 2)
    rows = _first_of_each(drawn.labels, SHOWN // 2)
    images = drawn.images[rows].reshape(-1, task.side, task.side)
    return numbers, Pictures(images, _words("pathfinder", drawn.labels[rows]))


def _imported(name: str) -> Example:
    """The first positive review or pair of the training set, or its first images."""
    found = prepared.read(name)
    if name == "image":
        # In the order of the file, no label twice.
        rows = np.sort(_first_of_each(found["y_train"], 1))[:SHOWN]
        return Pictures(found["x_train"][rows], _words(name, found["y_train"][rows]))
    documents = Sequences.checked(found["bytes"], found["offsets"], name)
    prefix = "" if name == "text" else "pair_"
    label, split = found[f"{prefix}label"], found[f"{prefix}split"]
    row = int(np.argmax((label == 1) & (split == 0)))
    index = [row] if name == "text" else [found["pair_doc1"][row], found["pair_doc2"][row]]
    texts = (bytes(documents[int(one)][:_CHARACTERS]) for one in index)
    return Passages(
        # A cut may go through a character of several bytes.
        tuple(" ".join(text.decode(errors="ignore").split()) for text in texts),
        _words(name, label[[row]])[0],
    )


def _first_of_each(labels: Bytes, count: int) -> Ints:
    """The first ``count`` rows of each label, label by label."""
    kinds = np.unique(labels)
    rows: Ints = np.concatenate([np.flatnonzero(labels == kind)[:count] for kind in kinds])
    return rows


def _words(name: str, labels: Bytes) -> tuple[str, ...]:
    return tuple(LABELS[name][label] for label in labels.tolist())
