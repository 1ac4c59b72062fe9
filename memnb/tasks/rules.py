"""Answers without a model. What they get right says what the accuracy of a model is worth.

A rule learns from the training labels and is scored on the test labels, as a model is.
"""

from __future__ import annotations

import numpy as np

from memnb.tasks.base import Dataset, Ints, Split


def commonest_label(data: Dataset) -> float:
    """Test accuracy, 0 to 1, of always giving the commonest training label."""
    return float(np.mean(data.test.labels == np.bincount(data.train.labels).argmax()))


def constant_answer(split: Split, validation: Split) -> float:
    """Accuracy, 0 to 1, on ``split`` of always giving the label that is commonest in ``validation``
    (the smallest of several): training chooses its best weights there, so a run that has learned
    nothing ends at this answer."""
    return float(np.mean(split.labels == np.bincount(validation.labels).argmax()))


def first_token(data: Dataset, examples: int | None = None) -> float:
    """:func:`first_token_on` the test set.

    Args:
        data: sequences; of pairs there is no first token.
        examples: how many of the test set, from its beginning; all of it if not given.
    """
    return first_token_on(first_of(data.test, examples), data.train)


def first_token_on(split: Split, train: Split) -> float:
    """Accuracy, 0 to 1, on ``split`` of reading the first token alone.

    The answer to it is the commonest label of the training examples that begin so (the smallest of
    several); 0 where none does. ListOps begins with its outermost operator.
    """
    begins, labels = train.inputs[:, 0], train.labels
    answers = np.zeros(1 + max(begins.max(), split.inputs[:, 0].max()), np.int64)
    for token in np.unique(begins):
        answers[token] = np.bincount(labels[begins == token]).argmax()
    return float(np.mean(answers[split.inputs[:, 0]] == split.labels))


def first_of(split: Split, examples: int | None) -> Split:
    """The first ``examples`` of a split; all of them for None."""
    return at(split, np.arange(len(split))[:examples])


def by_length(split: Split, parts: int = 5) -> list[Split]:
    """The shortest fifth of the examples, the next, and so on; of equal lengths the first ones."""
    order = np.argsort(split.lengths, kind="stable")
    return [at(split, rows) for rows in np.array_split(order, parts)]


def at(split: Split, rows: Ints) -> Split:
    """The examples at ``rows`` (n,), in that order."""
    return Split(split.inputs[rows], split.lengths[rows], split.labels[rows])
