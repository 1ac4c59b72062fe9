"""Data sets that were downloaded or imported, in one plain form per kind (see data/README.md).

They lie uncompressed in ``<data cache>/prepared/<name>.npz``; the same form, compressed or not,
can be imported.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memnb import paths
from memnb.errors import DataError
from memnb.tasks import cache
from memnb.tasks.base import Bytes, Ints, Sequences, hash_of
from memnb.tasks.draws import Draws
from memnb.words import counted

TEXT = {"bytes": "uint8", "offsets": "int64", "label": "uint8", "split": "uint8"}
IMAGES = {"x_train": "uint8", "y_train": "uint8", "x_test": "uint8", "y_test": "uint8"}
PAIRS = {
    "bytes": "uint8",
    "offsets": "int64",
    "pair_label": "uint8",
    "pair_doc1": "int32",
    "pair_doc2": "int32",
    "pair_split": "uint8",
}
DRAWN = {"images": "uint8", "label": "uint8", "split": "uint8"}
FORMS = {
    "text": TEXT,
    "image": IMAGES,
    "retrieval": PAIRS,
    "retrieval-acl": PAIRS,
    "pathfinder": DRAWN,
}


def file(name: str) -> Path:
    """Where the data set called ``name`` lies, or would lie."""
    return paths.data_cache() / "prepared" / f"{name}.npz"


def read(name: str, path: Path | None = None) -> cache.Arrays:
    """The arrays of a data set, checked against its form.

    Raises:
        DataError: it is not there, damaged, or an array does not fit the others.
    """
    source = path or file(name)
    if not source.exists():
        raise DataError(
            f"The data of '{name}' are not here ({source}); see `memnb data list` for what to do."
        )
    arrays = cache.read(source, FORMS[name])
    _check(name, arrays, source)
    return arrays


def store(name: str, arrays: cache.Arrays) -> Path:
    """Put a data set into the cache, in one step.

    Raises:
        DataError: the arrays do not have the form of ``name``, or the cache cannot be written.
    """
    chosen = {member: arrays[member] for member in FORMS[name]}
    _check(name, chosen, "the imported data set")
    path = file(name)
    with cache.locked(path):
        cache.write(path, chosen)
    return path


def _check(name: str, arrays: cache.Arrays, where: object) -> None:
    def demand(condition: bool, what: str) -> None:
        if not condition:
            raise DataError(
                f"{where} is no data set of the task '{name}': {what}; see data/README.md for "
                "its form, and import it again."
            )

    form = FORMS[name]
    if form is IMAGES:
        for part in ("train", "test"):
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
            demand(images.shape[1:] == (32, 32), f"x_{part} should be (N, 32, 32)")
            demand(labels.shape == images.shape[:1], f"x_{part} and y_{part} differ in length")
            demand(bool(np.all(labels < 10)), f"y_{part} should hold labels 0..9")
            # A tenth of the images to train on are held out, and there has to be one.
            least = 10 if part == "train" else 1
            demand(len(labels) >= least, f"x_{part} should hold at least {counted(least, 'image')}")
        return
    prefix = "pair_" if form is PAIRS else ""
    label, split = arrays[prefix + "label"], arrays[prefix + "split"]
    demand(label.ndim == 1 and label.shape == split.shape, "label and split differ in length")
    demand(bool(np.all(label < 2)), "labels should be 0 or 1")
    parts = 2 if form is TEXT else 3
    demand(set(np.unique(split).tolist()) == set(range(parts)), f"split should hold 0..{parts - 1}")
    if form is DRAWN:
        demand(arrays["images"].shape == (len(label), 32, 32), "images should be (N, 32, 32)")
        return
    documents = Sequences.checked(arrays["bytes"], arrays["offsets"], where)
    # Ids are byte + 1 and must fit into 8 bits; valid UTF-8 never holds the byte 255.
    demand(not np.any(documents.values == 255), "a text holds the byte 255, which is no UTF-8")
    if form is TEXT:
        demand(len(documents) == len(label), "offsets and label differ in length")
        return
    for member in ("pair_doc1", "pair_doc2"):
        index = arrays[member]
        demand(index.shape == label.shape, f"{member} and pair_label differ in length")
        demand(bool(np.all((index >= 0) & (index < len(documents)))), f"{member} leads nowhere")


def content(arrays: cache.Arrays) -> str:
    """A hash of a data set's content, whatever its compression."""
    return hash_of(sorted(arrays.items()))


def balanced(rows: Ints, labels: Bytes, count: int | None, draws: Draws, what: str) -> Ints:
    """``count`` of ``rows``, equally many of each label (None: all), in their old order.

    Raises:
        DataError: there are not as many, or none at all.
    """
    if not len(rows):
        raise DataError(f"{what} has no example left; ask for fewer examples to hold out.")
    if count is None:
        return rows
    kinds = np.unique(labels[rows])
    shares = [count // len(kinds) + (place < count % len(kinds)) for place in range(len(kinds))]
    chosen = []
    for kind, share in zip(kinds, shares, strict=True):
        those = rows[labels[rows] == kind]
        if share > len(those):
            raise DataError(
                f"{what} should keep {share} examples of the label {kind}, but there are "
                f"{len(those)}; ask for fewer."
            )
        chosen.append(those[np.argsort(draws.raw(len(those)), kind="stable")[:share]])
    return np.sort(np.concatenate(chosen))
