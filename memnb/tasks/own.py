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

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from memnb import config, paths
from memnb.errors import DataError, MemnbError
from memnb.tasks import cache
from memnb.tasks.base import Dataset, Ints, Sequences, Split, type_of_ids
from memnb.tasks.draws import Draws
from memnb.words import counted

SPLITS = ("train", "validation", "test")
#: What a file to import holds; the last two may be missing.
KEYS = ("ids", "offsets", "labels", "split", "symbols")
_FORM = {
    "ids": "int32",
    "offsets": "int64",
    "labels": "int64",
    "split": "uint8",
    "symbols": "uint8",  # a list in JSON
    "definition": "uint8",  # an object in JSON
}
MOST_IDS = 2**30
_TENTH = 10  # of each label: one part to validate, one to test, where nobody says which


@dataclass(frozen=True)
class Added:
    """What was taken, to be printed.

    Attributes:
        task: how the data are trained, by name: ``task.name``.
        drawn: whether the splits were drawn here, since none were given.
    """

    task: config.Own
    drawn: bool

    def __str__(self) -> str:
        task = self.task
        share = task.test_constant / task.test
        sizes = " / ".join(f"{getattr(task, split):,}" for split in SPLITS)
        how = ", drawn by label, the same at every call" if self.drawn else ""
        return (
            f"{task.name}: {task.classes:,} classes, {counted(task.vocabulary - 1, 'symbol')}, "
            f"longest sequence {task.max_length:,}.\n"
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
        replace: take the place of other data of this name. (The same data may always be added.)

    Returns:
        What was taken, and how to train on it, to be printed.

    Raises:
        MemnbError: the name is none, or taken.
        DataError: the data are not as described, too large, or cannot be written.
    """
    task_name = _task_name(name)
    joined = _joined(sequences)
    _check_ids(joined)
    known = _labels(labels, len(joined))
    classes = int(known.max()) + 1
    parts = _drawn_splits(known) if split is None else _splits(split, len(joined))
    _check_parts(known, parts, classes)
    names = [] if symbols is None else [str(symbol) for symbol in symbols]
    highest = int(joined.values.max())
    if names and highest > len(names):
        _refuse(
            f"there are names for {counted(len(names), 'symbol')}, but an id is {highest:,}",
            "name the symbols from 1 up to the highest id",
        )
    shape = config.Own.of(
        {
            "name": task_name,
            "classes": classes,
            "vocabulary": 1 + max(highest, len(names)),
            "max_length": int(np.diff(joined.offsets).max()),
            **dict(zip(SPLITS, np.bincount(parts).tolist(), strict=True)),
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


def import_file(task_name: str, source: Path, replace: bool = False) -> Added:
    """:func:`add` what an ``.npz`` file holds, under the name of its task.

    The arrays: ``ids``, integers (N, L) padded with 0, or (total,) one sequence after the other
    with ``offsets`` (N + 1,); ``labels`` (N,); and, if they are given, ``split`` (N,) and
    ``symbols``.

    Raises:
        MemnbError, DataError: as :func:`add`; or the file is missing, damaged, or lacks an array.
    """
    name = _task_name(task_name).removeprefix(config.OWN)
    found = _read_foreign(paths.absolute(source))
    ids: Any = found["ids"]
    if "offsets" in found:
        ids = _cut(ids, found["offsets"], source)
    return add(
        name, ids, found["labels"], found.get("split"), found.get("symbols"), replace=replace
    )


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
    return Dataset(*(_fitted(getattr(data, part), task.max_length) for part in SPLITS))


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
            f"FILE.npz', or add them with memnb.tasks.add{f' (here are {here})' if here else ''}."
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
    named: list[str] = []
    if file(task.name).exists() and definition(task.name).data == task.data:
        named = json.loads(cache.read(file(task.name), {"symbols": "uint8"})["symbols"].tobytes())
    return ("<pad>", *named, *(str(number) for number in range(len(named) + 1, task.vocabulary)))


# --- what comes in ---------------------------------------------------------------------------


def _refuse(what: str, mend: str) -> NoReturn:
    raise DataError(f"These are no data to train on: {what}; {mend}.")


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


def _joined(sequences: Any) -> Sequences:
    """The sequences one after the other, as they were given: their ids are not yet looked at."""
    if isinstance(sequences, np.ndarray) and sequences.ndim == 2:
        sequences = [np.trim_zeros(row, "b") for row in sequences]
    each = []
    for number, sequence in enumerate(sequences if np.iterable(sequences) else ()):
        each.append(_line(sequence, f"sequence {number}", "whole numbers from 1"))
        if not len(each[-1]):
            _refuse(f"sequence {number} is empty", "leave it out")
    if not each:
        _refuse("there is no sequence", "give a list of them, at least three of each label")
    longest = max(map(len, each))
    if len(each) * longest > MOST_IDS:
        _refuse(
            f"padded to the longest of {longest:,}, {counted(len(each), 'sequence')} would be "
            f"{len(each) * longest:,} ids, where {MOST_IDS:,} are the most",
            "cut the longest ones, or take fewer",
        )
    # In one type, or numbers with a sign and without would together become fractions.
    values = np.concatenate(each, dtype=np.int64, casting="unsafe")
    return Sequences(values, np.cumsum([0, *map(len, each)], dtype=np.int64))


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
            _refuse(
                f"{why}, but sequence {number} holds {int(ids[place]):,}",
                "number the symbols that occur by 1, 2, 3 and so on",
            )


def _labels(labels: Any, count: int) -> Ints:
    found = _one_each(labels, count, "the list of labels", "whole numbers from 0")
    if found.min() < 0:
        _refuse(f"labels are numbers from 0, but one is {int(found.min())}", "number them from 0")
    classes = int(found.max()) + 1
    if not 2 <= classes <= config.MOST_CLASSES:
        _refuse(
            f"there should be 2 to {config.MOST_CLASSES:,} labels, but the highest is "
            f"{classes - 1:,}",
            "number those that occur by 0, 1, 2 and so on",
        )
    counts = np.bincount(found)
    if (counts == 0).any():
        _refuse(
            f"the labels go up to {classes - 1:,}, but none is {int(counts.argmin()):,}",
            "number those that occur by 0, 1, 2 and so on",
        )
    return found


def _line(values: Any, what: str, wanted: str) -> NDArray[Any]:
    """Whole numbers in a line, of any type."""
    try:
        found = np.asarray(values)
    except (ValueError, OverflowError):  # lists of different lengths
        _refuse(f"{what} should be a line of {wanted}, but is nested", f"give {wanted}")
    empty = found.shape == (0,)  # of no type that anybody chose
    if found.ndim != 1 or (found.dtype.kind not in "iu" and not empty):
        kind = "text" if found.dtype.kind in "US" else found.dtype.name
        shown = kind if found.ndim == 1 else f"{kind} of the shape {found.shape}"
        _refuse(f"{what} should be a line of {wanted}, but is {shown}", f"give {wanted}")
    return found


def _one_each(values: Any, count: int, what: str, wanted: str) -> Ints:
    """A line of ``count`` whole numbers."""
    found = _line(values, what, wanted)
    if len(found) != count:
        _refuse(
            f"there are {counted(count, 'sequence')}, but the length of {what} is {len(found):,}",
            "give one for each sequence",
        )
    return found.astype(np.int64)


def _splits(split: Any, count: int) -> Ints:
    wanted = f"0, 1, 2 or {', '.join(SPLITS)}"
    found = np.asarray(split)
    if found.dtype.kind == "U":
        odd = sorted({*found.ravel().tolist()} - {*SPLITS})
        if odd:
            _refuse(f"split should hold {wanted}, but holds '{odd[0]}'", "name each example's set")
        found = np.array([SPLITS.index(word) for word in found.ravel().tolist()]).reshape(
            found.shape
        )
    numbers = _one_each(found, count, "split", wanted)
    if numbers.min() < 0 or numbers.max() > 2:
        odd_one = numbers[(numbers < 0) | (numbers > 2)][0]
        _refuse(f"split should hold {wanted}, but holds {odd_one}", "name each example's set")
    return numbers


def _drawn_splits(labels: Ints) -> Ints:
    """A tenth of the examples of each label to validate and to test, one at least: (N,)."""
    parts = np.zeros(len(labels), np.int64)
    for label in range(int(labels.max()) + 1):
        own = np.flatnonzero(labels == label)
        if len(own) < len(SPLITS):
            _refuse(
                f"the label {label} has {counted(len(own), 'example')}, and each of the three sets "
                "needs one",
                "give more, leave the label out, or say with split which are which",
            )
        order = own[np.argsort(Draws(label, 5).raw(len(own)), kind="stable")]
        share = max(1, round(len(own) / _TENTH))
        parts[order[:share]], parts[order[share : 2 * share]] = 1, 2
    return parts


def _check_parts(labels: Ints, parts: Ints, classes: int) -> None:
    """Each label in each set: what is not trained cannot be known, nor what is not asked."""
    for number, part in enumerate(SPLITS):
        counts = np.bincount(labels[parts == number], minlength=classes)
        if (counts == 0).any():
            _refuse(
                f"the {part} set has no example of the label {int(counts.argmin())}",
                "give each of the three sets examples of every label (or no split, and each gets "
                "some)",
            )


def _json(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


# --- files from elsewhere --------------------------------------------------------------------


def _read_foreign(source: Path) -> cache.Arrays:
    """The arrays of :data:`KEYS` that a file holds, of any type but objects."""
    try:
        with zipfile.ZipFile(source) as archive:
            large = [i.filename for i in archive.infolist() if i.file_size > cache.MOST_BYTES]
        if large:
            raise ValueError(f"'{large[0]}' has more than {cache.MOST_BYTES / 2**30:.0f} GiB")
        with np.load(source, allow_pickle=False) as archive:
            found = {key: archive[key] for key in KEYS if key in archive.files}
    except FileNotFoundError:
        raise DataError(f"There is no file {source}; check the path.") from None
    except (*cache.DAMAGE, MemoryError) as error:
        raise DataError(
            f"{source} is no .npz file of plain arrays, or damaged ({error}); write it with "
            "numpy.savez (sequences of different lengths one after the other, with 'offsets')."
        ) from None
    lacking = [key for key in ("ids", "labels") if key not in found]
    if lacking:
        raise DataError(
            f"{source} lacks {' and '.join(repr(key) for key in lacking)}: a file of data holds "
            "'ids' (with 'offsets', unless its rows are padded with 0) and 'labels', and may hold "
            "'split' and 'symbols'; see docs/own.md."
        )
    if "offsets" not in found and found["ids"].ndim != 2:
        raise DataError(
            f"{source} holds 'ids' of the shape {found['ids'].shape} and no 'offsets': without, "
            "they have a row for each sequence, padded with 0; add the one or make them the other."
        )
    return found


def _cut(ids: NDArray[Any], offsets: NDArray[Any], source: Path) -> list[NDArray[Any]]:
    """The sequences that stand one after the other."""
    if offsets.dtype.kind not in "iu":
        raise DataError(
            f"The 'offsets' of {source} should be whole numbers, but are {offsets.dtype}; sequence "
            "i is ids[offsets[i]:offsets[i + 1]]."
        )
    whole = Sequences.checked(ids, offsets.astype(np.int64), source)
    return [whole[number] for number in range(len(whole))]


# --- what a network reads --------------------------------------------------------------------


def _dataset(joined: Sequences, labels: Ints, parts: NDArray[Any], task: config.Own) -> Dataset:
    """The three splits, padded to the longest sequence."""
    whole = Sequences(joined.values.astype(type_of_ids(task)), joined.offsets)

    def split(number: int) -> Split:
        rows = np.flatnonzero(parts == number)
        return Split(*whole.padded(rows, task.max_length), labels[rows])

    return Dataset(*(split(number) for number in range(len(SPLITS))))


def _fitted(split: Split, length: int) -> Split:
    """The same cut or padded to ``length``."""
    inputs = split.inputs[:, :length]
    if inputs.shape[1] < length:
        inputs = np.pad(inputs, ((0, 0), (0, length - inputs.shape[1])))
    return Split(np.ascontiguousarray(inputs), np.minimum(split.lengths, length), split.labels)
