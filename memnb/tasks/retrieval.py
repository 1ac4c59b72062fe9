"""Retrieval: does one paper cite the other? Two documents, byte by byte.

``retrieval`` takes LRA's pairs (ACL Anthology Network, Radev et al., 2013), ``retrieval-acl`` a
smaller real set of the same kind, which is a substitute and is called one everywhere.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from memnb import config
from memnb.errors import DataError
from memnb.tasks import archives, cache, prepared
from memnb.tasks.base import Dataset, Sequences, Split
from memnb.tasks.draws import Draws

KEPT_BYTES = 4000  # of each document; LRA uses no more
COLUMNS = ("label", "id1", "id2", "text1", "text2")
#: Pairs in each of LRA's tables: a table that was cut off between two lines has fewer.
PAIRS = {"train": 147_086, "eval": 18_090, "test": 17_437}
_TABLE = re.compile(r"(?:^|/)new_aan_pairs\.(train|eval|test)\.tsv$")
_LABELS = {b"0": 0, b"0.0": 0, b"1": 1, b"1.0": 1}


def load(task: config.Retrieval | config.RetrievalACL) -> Dataset:
    """The three splits, from the imported pairs; inputs are (N, 2, L), lengths (N, 2).

    Raises:
        DataError: the pairs are not here or damaged, or fewer than the task asks for.
    """
    found = prepared.read(task.name)
    documents = Sequences.checked(found["bytes"], found["offsets"], task.name)
    label, part = found["pair_label"], found["pair_split"]
    counts = (task.train, task.validation, task.test)

    def split(number: int, what: str) -> Split:
        rows = np.flatnonzero(part == number)
        rows = prepared.balanced(rows, label, counts[number], Draws(task.seed, number), what)
        pairs = np.stack([found["pair_doc1"][rows], found["pair_doc2"][rows]], axis=1)
        inputs, lengths = documents.padded(pairs.ravel().astype(np.int64), task.max_length, 1)
        return Split(
            inputs.reshape(len(rows), 2, -1), lengths.reshape(-1, 2), label[rows].astype(np.int64)
        )

    return Dataset(
        split(0, "The training set"), split(1, "The validation set"), split(2, "The test set")
    )


def read(source: Path) -> cache.Arrays:
    """LRA's tables ``new_aan_pairs.{train,eval,test}.tsv``, in a folder or in LRA's release.

    They have no header: label, id1, id2, text1, text2. Of each document the first 4,000 bytes are
    kept, once for all pairs that it stands in.

    Raises:
        DataError: a table is missing, damaged, or not whole.
    """
    texts: dict[bytes, int] = {}
    tables: dict[str, tuple[list[int], list[int]]] = {}
    for match, file in archives.files(source, _TABLE):
        labels, pairs = tables[match[1]] = ([], [])
        # Line by line: the tables hold whole papers, and are far larger than what is kept.
        for place, line in enumerate(file, 1):
            label, *both = _row(line, f"{source}: {match[0].strip('/')}, line {place}")
            labels.append(label)
            pairs += [texts.setdefault(text, len(texts)) for text in both]
    for part, count in PAIRS.items():
        held = len(tables.get(part, ([], []))[0])
        if held != count:
            raise DataError(
                f"{source} should hold new_aan_pairs.{part}.tsv with {count:,} pairs in it, but "
                f"has {held:,}; get LRA's whole folder tsv_data."
            )
    documents = Sequences.of([np.frombuffer(text, np.uint8) for text in texts])
    pair = np.array([one for part in PAIRS for one in tables[part][1]], np.int32).reshape(-1, 2)
    return {
        "bytes": documents.values,
        "offsets": documents.offsets,
        "pair_label": np.array([one for part in PAIRS for one in tables[part][0]], np.uint8),
        "pair_doc1": pair[:, 0].copy(),
        "pair_doc2": pair[:, 1].copy(),
        "pair_split": np.repeat(np.arange(3, dtype=np.uint8), [len(tables[p][0]) for p in PAIRS]),
    }


def _row(line: bytes, where: str) -> tuple[int, bytes, bytes]:
    cells = line.rstrip(b"\r\n").split(b"\t")
    if len(cells) != len(COLUMNS):
        raise DataError(
            f"{where} should have the columns {', '.join(COLUMNS)}, but has {len(cells)} "
            "columns; get the file again."
        )
    if cells[0] not in _LABELS:
        shown = cells[0][:20].decode(errors="replace")
        raise DataError(f"{where} has the label {shown!r}, but labels are 0 and 1.")
    first, second = (cell[:KEPT_BYTES] for cell in cells[3:])
    if 255 in first or 255 in second:
        raise DataError(f"{where} holds the byte 255, which is no UTF-8; get the file again.")
    return _LABELS[cells[0]], first, second
