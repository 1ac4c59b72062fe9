"""Answers without a model. What they get right says what the accuracy of a model is worth.

A rule learns from the training labels and is scored on the test labels, as a model is.
"""

from __future__ import annotations

import numpy as np

from memnb.tasks.base import Dataset


def commonest_label(data: Dataset) -> float:
    """Test accuracy, 0 to 1, of always giving the commonest training label."""
    return float(np.mean(data.test.labels == np.bincount(data.train.labels).argmax()))


def first_token(data: Dataset, examples: int | None = None) -> float:
    """Test accuracy, 0 to 1, of reading the first token alone.

    The answer to it is the commonest label of the training examples that begin so (the smallest of
    several); 0 where none does. ListOps begins with its outermost operator.

    Args:
        data: sequences; of pairs there is no first token.
        examples: how many of the test set, from its beginning; all of it if not given.
    """
    begins, labels = data.train.inputs[:, 0], data.train.labels
    answers = np.zeros(256, np.int64)
    for token in np.unique(begins):
        answers[token] = np.bincount(labels[begins == token]).argmax()
    test = slice(examples)
    return float(np.mean(answers[data.test.inputs[test, 0]] == data.test.labels[test]))
