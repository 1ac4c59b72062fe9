"""Data of one's own: sequences of symbols, each with one label, under a name of the user's.

    from memnb import tasks
    print(tasks.add("birds", sequences, labels))

From then on the task ``own-birds`` is trained like all others. Symbols are numbered from 1, since
0 is padding; labels from 0.

The data lie in ``<data cache>/own/<name>.npz``, checked, with the definition of their task beside
the arrays (:class:`memnb.config.Own`). A run's config holds that definition, and with it a digest
of the data: where the data are others by now, the run is told so.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memnb import config, paths
from memnb.errors import DataError, MemnbError
from memnb.tasks import cache, own_files, own_input
from memnb.tasks.base import Dataset, Ints, Sequences, Split, type_of_ids
from memnb.words import counted

_FORM = {
    "ids": "int32",
    "offsets": "int64",
    "labels": "int64",
    "split": "uint8",
    "symbols": "uint8",  # a list in JSON
    "definition": "uint8",  # an object in JSON
}
_SHOWN = 20  # names of labels


@dataclass(frozen=True)
class Added:
    """What was taken, to be printed.

    Attributes:
        task: how the data are trained, by name: ``task.name``.
        drawn: whether the splits were drawn here, since none were given.
        labels: what the labels 0, 1, ... are called in the table that they come from.
    """

    task: config.Own
    drawn: bool
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        task = self.task
        share = task.test_constant / task.test
        sizes = " / ".join(f"{getattr(task, split):,}" for split in own_input.SPLITS)
        how = ", drawn by label, the same at every call" if self.drawn else ""
        first = [f"{number} = {name}" for number, name in enumerate(self.labels[:_SHOWN])]
        more = ", ..." if len(self.labels) > _SHOWN else ""
        called = f"Labels: {', '.join(first)}{more}.\n" if first else ""
        return (
            f"{task.name}: {task.classes:,} classes, {counted(task.vocabulary - 1, 'symbol')}, "
            f"longest sequence {task.max_length:,}.\n{called}"
            f"Train / validation / test: {sizes} examples{how}.\n"
            f"One answer always is right on {100 * share:.1f} % of the test set.\n"
            f"Train on it with: memnb train luna-16 {task.name}"
        )


def add(
    name: str,
    sequences: Sequence[Any] | NDArray[Any],
    labels: Any,
    split: Any = None,
    symbols: Iterable[str] | None = None,
    *,
    max_length: int | None = None,
    replace: bool = False,
) -> Added:
    """Take data as the task ``own-<name>``.

    Args:
        name: one word of small letters and digits.
        sequences: N sequences of whole numbers from 1; of an array (N, L), the zeros at the end of
            a row are padding.
        labels: (N,) whole numbers from 0, without a gap.
        split: (N,) of 0, 1, 2 or ``train``, ``validation``, ``test``. If not given, a tenth of the
            examples of each label is drawn to validate and another to test, always the same.
        symbols: what the symbols 1, 2, ... are called on pages; by default by their number.
        max_length: cut longer sequences; by default none is cut.
        replace: take the place of other data of this name. (The same data may always be added, and
            keep the names of their symbols unless others are given.)

    Returns:
        What was taken, and how to train on it, to be printed.

    Raises:
        MemnbError: the name is none, or taken, or max_length is no length.
        DataError: the data are not as described, too large, or cannot be written.
    """
    task_name = _task_name(name)
    if max_length is not None and (type(max_length) is not int or max_length < 1):
        raise MemnbError(
            f"max_length is a number of symbols from 1, but got {max_length!r}; give one, as 500, "
            "or none to keep every sequence whole."
        )
    joined = own_input.joined(sequences, max_length)
    known = own_input.labels_of(labels, len(joined))
    parts = own_input.splits_of(split, known)
    highest = int(joined.values.max())
    names = own_input.symbols_of(symbols, highest)
    shape = config.Own.of(
        {
            "name": task_name,
            "classes": int(known.max()) + 1,
            "vocabulary": 1 + max(highest, len(names)),
            "max_length": int(np.diff(joined.offsets).max()),
            **dict(zip(own_input.SPLITS, np.bincount(parts).tolist(), strict=True)),
            "validation_constant": 0,
            "test_constant": 0,
            "data": "0" * 16,  # until the splits are made
        }
    )
    data = _dataset(joined, known, parts, shape)
    common = np.bincount(data.validation.labels).argmax()
    task = shape.but(
        data=data.digest(),
        validation_constant=int((data.validation.labels == common).sum()),
        test_constant=int((data.test.labels == common).sum()),
    )
    path = file(task_name)
    with cache.locked(path):
        _refuse_others(task, replace)
        if symbols is None and not replace:
            names = _names_there(task)
        cache.write(
            path,
            {
                "ids": joined.values.astype(np.int32),
                "offsets": joined.offsets,
                "labels": known,
                "split": parts.astype(np.uint8),
                "symbols": _json(names),
                "definition": _json(task.model_dump()),
            },
        )
    return Added(task, split is None)


def import_file(
    task_name: str, source: Path, *, max_length: int | None = None, replace: bool = False
) -> Added:
    """:func:`add` what a file holds, under the name of its task.

    A table (``.csv`` or ``.tsv``, UTF-8) has the columns ``text``, whose bytes are the symbols,
    ``label``, any words, and, if you like, ``split``. A file of arrays (``.npz``) has ``ids``,
    integers (N, L) padded with 0, or (total,) one sequence after the other with ``offsets``
    (N + 1,); ``labels`` (N,); and, if you like, ``split`` (N,) and ``symbols``.

    Raises:
        MemnbError, DataError: as :func:`add`; or the file is missing, damaged, or lacks an array or
            a column.
    """
    name = _task_name(task_name).removeprefix(config.OWN)
    found = own_files.read(paths.absolute(source))
    added = add(name, **found.given, max_length=max_length, replace=replace)
    return dataclasses.replace(added, labels=found.labels)


def load(task: config.Own) -> Dataset:
    """The three splits, longer sequences cut and all padded to ``task.max_length``.

    Raises:
        DataError: the data are not here, damaged, or others than those of the task.
    """
    here = definition(task.name)
    if here.but(max_length=task.max_length) != task:
        what = "data" if here.data != task.data else "vocabulary"
        raise DataError(
            f"The data '{task.name}' are others here than those of the run ({what} "
            f"{getattr(here, what)} here, {getattr(task, what)} there); import the former again "
            "with --replace, or train anew on these."
        )
    found = cache.read(file(task.name), _FORM)
    joined = Sequences.checked(found["ids"], found["offsets"], file(task.name))
    data = _dataset(joined, found["labels"], found["split"], here)
    if data.digest() != here.data:
        raise DataError(f"{file(task.name)} is damaged: it is not what was added; import it again.")
    return Dataset(*(_fitted(getattr(data, part), task.max_length) for part in own_input.SPLITS))


def definition(name: str) -> config.Own:
    """The task called ``name``, such as ``own-birds``, as its data are here.

    Raises:
        MemnbError: no data have this name here, or none can have it.
        DataError: their file is damaged.
    """
    path = file(_task_name(name))
    if not path.exists():
        here = ", ".join(names())
        raise DataError(
            f"The data '{name}' are not here ({path}); import them with 'memnb data import {name} "
            f"FILE', or add them with memnb.tasks.add{f' (here are {here})' if here else ''}."
        )
    found = cache.read(path, {"definition": "uint8"})["definition"]
    try:
        task = config.Own.of(json.loads(found.tobytes()))
    except (ValueError, TypeError, RecursionError, MemnbError) as error:
        raise DataError(
            f"{path} is damaged: its definition is none ({error}); import it again."
        ) from None
    if task.name != name:
        raise DataError(f"{path} holds the data '{task.name}'; give the file its old name.")
    return task


def names() -> list[str]:
    """The tasks whose data are here, by name."""
    found = (path.stem for path in (paths.data_cache() / "own").glob("*.npz"))
    return sorted(f"{config.OWN}{name}" for name in found if config.OWN_NAME.fullmatch(name))


def file(name: str) -> Path:
    """Where the data of the task called ``name`` lie, or would lie."""
    return paths.data_cache() / "own" / f"{name.removeprefix(config.OWN)}.npz"


def symbols(task: config.Own) -> tuple[str, ...]:
    """What each id is called: (vocabulary,). By its number, where nobody has named it, and where
    the data are others or not here, as beside rows from elsewhere."""
    named = _names(task)
    return ("<pad>", *named, *(str(number) for number in range(len(named) + 1, task.vocabulary)))


def _names(task: config.Own) -> list[str]:
    """Those that were given of the symbols 1, 2, ...; none where the data are others or not here.

    Raises:
        DataError: the file is damaged.
    """
    if not file(task.name).exists() or definition(task.name).data != task.data:
        return []
    found: list[str] = json.loads(
        cache.read(file(task.name), {"symbols": "uint8"})["symbols"].tobytes()
    )
    return found


# --- names and files -------------------------------------------------------------------------


def _task_name(name: object) -> str:
    """``own-birds`` of ``birds`` or of itself."""
    word = name.removeprefix(config.OWN) if isinstance(name, str) else ""
    if not config.OWN_NAME.fullmatch(word):
        raise MemnbError(
            "Data have a name of one word, up to 30 small letters and digits, such as 'birds' (and "
            f"their task is then 'own-birds'), but got {name!r}; give them such a name."
        )
    if word in config.TASKS:
        raise MemnbError(f"memnb has a task named '{word}'; give your data another name.")
    return f"{config.OWN}{word}"


def _refuse_others(task: config.Own, replace: bool) -> None:
    if replace or not file(task.name).exists():
        return
    try:
        there = definition(task.name)
    except DataError:
        return  # damaged: there is nothing to lose
    if there != task:
        raise MemnbError(
            f"Other data, or other symbols, are called '{task.title}' here; give these another "
            "name, or let them take the place of those (--replace; in Python replace=True)."
        )


def _names_there(task: config.Own) -> list[str]:
    """The names of the symbols that the same data have here already."""
    try:
        return _names(task)
    except DataError:
        return []  # damaged: there are none to keep


def _json(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


# --- what a network reads --------------------------------------------------------------------


def _dataset(joined: Sequences, labels: Ints, parts: NDArray[Any], task: config.Own) -> Dataset:
    """The three splits, padded to the longest sequence."""
    whole = Sequences(joined.values.astype(type_of_ids(task)), joined.offsets)

    def split(number: int) -> Split:
        rows = np.flatnonzero(parts == number)
        return Split(*whole.padded(rows, task.max_length), labels[rows])

    return Dataset(*(split(number) for number in range(len(own_input.SPLITS))))


def _fitted(split: Split, length: int) -> Split:
    """The same cut or padded to ``length``."""
    inputs = split.inputs[:, :length]
    if inputs.shape[1] < length:
        inputs = np.pad(inputs, ((0, 0), (0, length - inputs.shape[1])))
    return Split(np.ascontiguousarray(inputs), np.minimum(split.lengths, length), split.labels)
