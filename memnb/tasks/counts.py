"""How many examples a data set has, of which label and length: aggregates, never the data.

``data/reference/datasets.csv`` holds them for the data that a machine may lack, so that a page can
describe these where they are not. ``tools/datasets.py`` writes it from the data.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memnb import config, paths
from memnb.errors import DataError
from memnb.tasks import image, prepared
from memnb.tasks.base import Bytes, Ints, Sequences

SPLITS = ("train", "validation", "test")
COLUMNS = ("data", "measure", "split", "first", "last", "value")

#: Lengths in one bar. 4,000, where LRA cuts texts, is a multiple: no bar holds whole and cut ones.
BIN = {"listops": 50, "text": 250, "retrieval": 250, "retrieval-acl": 2000}


@dataclass(frozen=True)
class Counts:
    """The aggregates of one data set.

    Attributes:
        labels: int64 (3, kinds): the examples of train, validation and test with each label.
        bins: int64 (B, 3): lengths from the first to the last number, both included, and the
            number of sequences that have one of them; a pair is two sequences.
        shortest, median, longest: of the lengths, before anything is cut.
    """

    labels: Ints
    bins: Ints
    shortest: int
    median: float
    longest: int

    @property
    def examples(self) -> int:
        """Of all splits."""
        return int(self.labels.sum())

    @property
    def balance(self) -> np.ndarray:
        """The share of each label, of all splits: (kinds,)."""
        shares: np.ndarray = self.labels.sum(axis=0) / self.examples
        return shares

    def beyond(self, length: int) -> float:
        """The share of the sequences that are longer than ``length``, an edge of a bin."""
        first, _, count = self.bins.T
        return float(count[first > length].sum() / count.sum())


def counted(name: str, lengths: Ints, label: Bytes, split: Bytes, kinds: int = 0) -> Counts:
    """Count one data set.

    Args:
        name: of the data set.
        lengths: (sequences,) of whole sequences, in any order.
        label: (N,) from 0.
        split: (N,) 0 train, 1 validation, 2 test.
        kinds: of labels there are at least; a few examples may not have all of them.
    """
    width = BIN.get(name, 1)
    number, count = np.unique((lengths - 1) // width, return_counts=True)
    first = number * width + 1
    labels = np.zeros((3, max(kinds, int(label.max()) + 1)), np.int64)
    np.add.at(labels, (split, label), 1)
    return Counts(
        labels,
        np.stack([first, first + width - 1, count], axis=1).astype(np.int64),
        int(lengths.min()),
        float(np.median(lengths)),
        int(lengths.max()),
    )


def of_data(name: str) -> Counts:
    """Count a data set that was downloaded or imported.

    Raises:
        DataError: it is not here, or damaged.
    """
    found = prepared.read(name)
    if name == "image":
        label = np.concatenate([found["y_train"], found["y_test"]])
        trained, tested = len(found["y_train"]), len(found["y_test"])
        held = image.held_out(trained)
        split = np.repeat(np.arange(3, dtype=np.uint8), [trained - held, held, tested])
        return counted(name, np.full(len(label), config.Image().max_length), label, split)
    lengths = np.diff(Sequences.checked(found["bytes"], found["offsets"], name).offsets)
    if name == "text":
        # The file knows 0 train, 1 test.
        return counted(name, lengths, found["label"], found["split"] * np.uint8(2))
    pairs = np.concatenate([found["pair_doc1"], found["pair_doc2"]])
    return counted(name, lengths[pairs], found["pair_label"], found["pair_split"])


# --- the committed file ----------------------------------------------------------------------


def file() -> Path:
    """The committed aggregates."""
    return paths.reference() / "datasets.csv"


def load(path: Path | None = None) -> dict[str, Counts]:
    """The committed aggregates of each data set.

    Raises:
        DataError: the file is missing or damaged.
    """
    source = path or file()
    try:
        text = source.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text)))
        names = list(dict.fromkeys(row["data"] for row in rows))
        return {name: _read([row for row in rows if row["data"] == name]) for name in names}
    except OSError as error:
        raise DataError(
            f"{source} cannot be read ({error.strerror}); restore it, or make it with "
            "tools/datasets.py where the data are."
        ) from None
    except (KeyError, ValueError, TypeError, IndexError, UnicodeError) as error:
        raise DataError(
            f"{source} is damaged ({error}): it should have the columns {', '.join(COLUMNS)}, a "
            "number in each cell of the last; restore it, or make it with tools/datasets.py."
        ) from None


def _read(rows: list[dict[str, str]]) -> Counts:
    single = {row["measure"]: float(row["value"]) for row in rows}
    cells = [(SPLITS.index(row["split"]), int(row["first"]), int(row["value"]))
             for row in rows if row["measure"] == "label"]  # fmt: skip
    labels = np.zeros((3, 1 + max(label for _, label, _ in cells)), np.int64)
    for part, label, value in cells:
        labels[part, label] = value
    bins = [[int(row[key]) for key in ("first", "last", "value")]
            for row in rows if row["measure"] == "length"]  # fmt: skip
    return Counts(
        labels,
        np.array(bins, np.int64).reshape(-1, 3),
        int(single["shortest"]),
        single["median"],
        int(single["longest"]),
    )


def as_csv(counts: Mapping[str, Counts]) -> str:
    """The committed file: one number per line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for name, one in counts.items():
        writer.writerows((name, *row) for row in _rows(one))
    return buffer.getvalue()


def _rows(one: Counts) -> Iterable[tuple[object, ...]]:
    for split, row in zip(SPLITS, one.labels.tolist(), strict=True):
        if any(row):  # a data set without a validation set has no lines for one
            yield from (("label", split, label, label, value) for label, value in enumerate(row))
    yield "shortest", "", "", "", one.shortest
    yield "median", "", "", "", f"{one.median:g}"
    yield "longest", "", "", "", one.longest
    yield from (("length", "", *row) for row in one.bins.tolist())
