"""What may be data of one's own: looked at before it is taken, or refused in one sentence.

Nothing here knows of names or of where data lie (:mod:`memnb.tasks.own`).
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from memnb import config
from memnb.errors import DataError
from memnb.tasks.base import Ints, Sequences
from memnb.tasks.draws import Draws
from memnb.words import counted

SPLITS = ("train", "validation", "test")
MOST_IDS = 2**30
_TENTH = 10  # of each label: one part to validate, one to test, where nobody says which


def joined(sequences: Any, most: int | None = None) -> Sequences:
    """The sequences one after the other, in int64.

    Args:
        sequences: N sequences of whole numbers from 1, or an array (N, L) whose rows may end in
            zeros.
        most: longer ones are cut to this length, if it is given.

    Raises:
        DataError: they are something else, or too many.
    """
    if isinstance(sequences, np.ndarray) and sequences.ndim == 2:
        sequences = [np.trim_zeros(row, "b") for row in sequences]
    each = []
    for number, sequence in enumerate(sequences if np.iterable(sequences) else ()):
        each.append(_line(sequence, f"sequence {number}", "whole numbers from 1")[:most])
        if not len(each[-1]):
            refuse(f"sequence {number} is empty", "leave it out")
    if not each:
        refuse("there is no sequence", "give a list of them, at least three of each label")
    longest = max(map(len, each))
    if len(each) * longest > MOST_IDS:
        refuse(
            f"padded to the longest of {longest:,}, {counted(len(each), 'sequence')} would be "
            f"{len(each) * longest:,} ids, where {MOST_IDS:,} are the most",
            "cut the longest ones, or take fewer",
        )
    # In one type, or numbers with a sign and without would together become fractions.
    values = np.concatenate(each, dtype=np.int64, casting="unsafe")
    found = Sequences(values, np.cumsum([0, *map(len, each)], dtype=np.int64))
    _check_ids(found)
    return found


def _check_ids(joined: Sequences) -> None:
    ids = joined.values
    for wrong, why in (
        (ids < 0, "ids are numbers from 1"),
        (ids == 0, "0 is padding, and may stand at the end of the rows of an array only"),
        (ids >= config.MOST_SYMBOLS, f"ids are below {config.MOST_SYMBOLS:,}"),
    ):
        if wrong.any():
            place = int(wrong.argmax())
            number = int(np.searchsorted(joined.offsets, place, "right")) - 1
            refuse(
                f"{why}, but sequence {number} holds {int(ids[place]):,}",
                "number the symbols that occur by 1, 2, 3 and so on",
            )


def labels_of(labels: Any, count: int) -> Ints:
    """A label for each of ``count`` sequences, int64 (count,): from 0, without a gap.

    Raises:
        DataError: they are none.
    """
    found = _one_each(labels, count, "the list of labels", "whole numbers from 0")
    if found.min() < 0:
        refuse(f"labels are numbers from 0, but one is {int(found.min())}", "number them from 0")
    classes = int(found.max()) + 1
    if not 2 <= classes <= config.MOST_CLASSES:
        refuse(
            f"there should be 2 to {config.MOST_CLASSES:,} labels, but the highest is "
            f"{classes - 1:,}",
            "number those that occur by 0, 1, 2 and so on",
        )
    counts = np.bincount(found)
    if (counts == 0).any():
        refuse(
            f"the labels go up to {classes - 1:,}, but none is {int(counts.argmin()):,}",
            "number those that occur by 0, 1, 2 and so on",
        )
    return found


def splits_of(split: Any, labels: Ints) -> Ints:
    """The number in :data:`SPLITS` of each example, int64 (N,): of every label in all three.

    Args:
        split: (N,) numbers or words; if None, a tenth of the examples of each label is drawn to
            validate and another to test, one at least, and always the same.
        labels: (N,).

    Raises:
        DataError: it is something else, or a label is missing in a split.
    """
    if split is None:
        return _drawn(labels)
    wanted = f"0, 1, 2 or {', '.join(SPLITS)}"
    found = np.asarray(split)
    odd: list[Any] = []
    if found.dtype.kind == "U" and found.ndim == 1:
        odd = sorted({*found.tolist()} - {*SPLITS})
        found = np.array([SPLITS.index(word) for word in found.tolist() if word not in odd])
    if not odd:
        found = _one_each(found, len(labels), "split", wanted)
        odd = found[(found < 0) | (found >= len(SPLITS))].tolist()
    if odd:
        refuse(f"split should hold {wanted}, but holds {odd[0]!r}", "name each example's set")
    # What is not trained cannot be known, and what is not asked is not known to be known.
    for number, part in enumerate(SPLITS):
        counts = np.bincount(labels[found == number], minlength=int(labels.max()) + 1)
        if (counts == 0).any():
            refuse(
                f"the {part} set has no example of the label {int(counts.argmin())}",
                "give each of the three sets examples of every label (or no split, and each gets "
                "some)",
            )
    return found


def _drawn(labels: Ints) -> Ints:
    parts = np.zeros(len(labels), np.int64)
    for label in range(int(labels.max()) + 1):
        own = np.flatnonzero(labels == label)
        if len(own) < len(SPLITS):
            refuse(
                f"the label {label} has {counted(len(own), 'example')}, and each of the three sets "
                "needs one",
                "give more, or leave the label out",
            )
        order = own[np.argsort(Draws(label, 5).raw(len(own)), kind="stable")]
        share = max(1, round(len(own) / _TENTH))
        parts[order[:share]], parts[order[share : 2 * share]] = 1, 2
    return parts


def symbols_of(symbols: Any, highest: int) -> list[str]:
    """The names of the symbols 1, 2, ... up to the ``highest`` id at least; none for None.

    Raises:
        DataError: there are too few.
    """
    names = [] if symbols is None else [str(symbol) for symbol in symbols]
    if names and highest > len(names):
        refuse(
            f"there are names for {counted(len(names), 'symbol')}, but an id is {highest:,}",
            "name the symbols from 1 up to the highest id",
        )
    return names


def _one_each(values: Any, count: int, what: str, wanted: str) -> Ints:
    """A line of ``count`` whole numbers."""
    found = _line(values, what, wanted)
    if len(found) != count:
        refuse(
            f"there are {counted(count, 'sequence')}, but the length of {what} is {len(found):,}",
            "give one for each sequence",
        )
    return found.astype(np.int64)


def _line(values: Any, what: str, wanted: str) -> NDArray[Any]:
    """Whole numbers in a line, of any type."""
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError):  # lists of different lengths
        refuse(f"{what} should be a line of {wanted}, but is nested", f"give {wanted}")
    empty = found.shape == (0,)  # of no type that anybody chose
    if found.ndim != 1 or (found.dtype.kind not in "iu" and not empty):
        kind = "text" if found.dtype.kind in "US" else found.dtype.name
        shown = kind if found.ndim == 1 else f"{kind} of the shape {found.shape}"
        refuse(f"{what} should be a line of {wanted}, but is {shown}", f"give {wanted}")
    return found


def refuse(what: str, mend: str) -> NoReturn:
    raise DataError(f"These are no data to train on: {what}; {mend}.")
