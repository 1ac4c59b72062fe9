"""Text: IMDb reviews, byte by byte (Maas et al., 2011), positive or negative.

An id is byte + 1, 0 is padding; a review longer than ``max_length`` bytes is cut.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np

from memnb import config
from memnb.errors import DataError
from memnb.tasks import archives, cache, prepared
from memnb.tasks.base import Bytes, Dataset, Ints, Sequences, Split
from memnb.tasks.draws import Draws

ARCHIVE_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
REVIEWS = 12_500  # of each label in each part
MOST_BYTES = 2**20  # the longest review has 13,704
#: What the ids 1, 2, ... are called, as far as UTF-8 has such bytes: printable ASCII by itself, the
#: others as ``\xe9``.
CHARACTERS = tuple(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in range(255))
_REVIEW = re.compile(r"(?:^|/)(train|test)/(neg|pos)/(\d+)_(\d+)\.txt$")


def load(task: config.Text) -> Dataset:
    """The three splits, from the imported or downloaded reviews.

    Raises:
        DataError: the reviews are not here or damaged, or fewer than the task asks for.
    """
    found = prepared.read("text")
    reviews = Sequences.checked(found["bytes"], found["offsets"], "text")
    label, part = found["label"], found["split"]
    train, test = np.flatnonzero(part == 0), np.flatnonzero(part == 1)
    held = np.zeros(0, np.int64)
    if task.validation == "holdout":
        held = prepared.balanced(train, label, task.holdout, Draws(task.seed, 0), "The holdout")
        train = np.setdiff1d(train, held, assume_unique=True)
    train = prepared.balanced(train, label, task.train, Draws(task.seed, 1), "The training set")
    test = prepared.balanced(test, label, task.test, Draws(task.seed, 2), "The test set")

    def split(rows: Ints) -> Split:
        return Split(*reviews.padded(rows, task.max_length, 1), label[rows].astype(np.int64))

    tested = split(test)
    return Dataset(split(train), split(held) if len(held) else tested, tested)


def ids(text: str) -> Bytes:
    """The ids of one text, its bytes in UTF-8 plus one: (number of bytes,)."""
    return np.frombuffer(text.encode(), np.uint8) + np.uint8(1)


def read(source: Path) -> cache.Arrays:
    """The reviews of the official archive (its md5 is checked) or of its unpacked folder.

    Raises:
        DataError: another, cut off or incomplete file.
    """
    if source.is_file():
        archives.verified(source, "md5", ARCHIVE_MD5)
    reviews: dict[tuple[int, int, int], bytes] = {}
    for match, file in archives.files(source, _REVIEW):
        part, mood, number, _ = match.groups()
        body = archives.whole(file, MOST_BYTES, f"{source}: {match[0]}")
        reviews[part == "test", mood == "pos", int(number)] = body
    for part, label in itertools.product((0, 1), repeat=2):
        count = sum(key[:2] == (part, label) for key in reviews)
        if count != REVIEWS:
            raise DataError(
                f"{source} should hold {REVIEWS} reviews in {('train', 'test')[part]}/"
                f"{('neg', 'pos')[label]}, but holds {count}; unpack the whole archive."
            )
    order = sorted(reviews)
    documents = Sequences.of([np.frombuffer(reviews[key], np.uint8) for key in order])
    return {
        "bytes": documents.values,
        "offsets": documents.offsets,
        "label": np.array([label for _, label, _ in order], np.uint8),
        "split": np.array([part for part, _, _ in order], np.uint8),
    }
