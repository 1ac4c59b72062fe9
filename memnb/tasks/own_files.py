"""Files that hold data of one's own: arrays, or a table of texts."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memnb.errors import DataError, first_line
from memnb.tasks import cache, text
from memnb.tasks.base import Sequences

#: What a file of arrays holds; the last two may be missing.
_ARRAYS = ("ids", "offsets", "labels", "split", "symbols")
#: What stands between the columns of a table, by the ending of its name.
_TABLES = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Found:
    """What a file holds.

    Attributes:
        given: ``sequences``, ``labels`` and, if they are there, ``split`` and ``symbols``, for
            :func:`memnb.tasks.own.add`.
        labels: what the labels 0, 1, ... are called in a table; none in a file of arrays.
    """

    given: dict[str, Any]
    labels: tuple[str, ...] = ()


def read(source: Path) -> Found:
    """What a file holds: ``.csv`` and ``.tsv`` are tables, all else is taken for arrays.

    Raises:
        DataError: it is missing, damaged, or lacks an array or a column.
    """
    if not source.exists():
        raise DataError(f"There is no file {source}; check the path.")
    between = _TABLES.get(source.suffix.lower())
    return Found(_arrays(source)) if between is None else _table(source, between)


def _table(source: Path, between: str) -> Found:
    """Texts as their bytes in UTF-8, and labels numbered in their order."""
    import pandas as pd  # slow to import, and nothing else in memnb.tasks needs it

    try:
        # Without a header, or pandas takes a row of one field too many to begin with its name.
        rows = pd.read_csv(source, sep=between, dtype=str, keep_default_na=False, header=None)
    except (ValueError, OSError, MemoryError) as error:
        raise DataError(
            f"{source} cannot be read as a table ({first_line(error)}); save it as UTF-8, with the "
            "names of its columns in the first line, and texts in double quotes that hold commas, "
            "tabs or line breaks."
        ) from None
    columns = [str(name) for name in rows.iloc[0]]
    rows = rows.iloc[1:].set_axis(columns, axis="columns").reset_index(drop=True).fillna("")
    lacking = [name for name in ("text", "label") if name not in columns]
    if lacking or len({*columns}) < len(columns):
        told = f"no column {' and no column '.join(map(repr, lacking))}" if lacking else "one twice"
        raise DataError(
            f"Of its columns, {', '.join(map(repr, columns))}, {source} has {told}; a table of "
            "texts has 'text' and 'label', and may have 'split'."
        )
    for name in ("text", "label"):
        empty = np.flatnonzero(rows[name] == "")
        if len(empty):
            raise DataError(
                f"{source} has no {name} in row {empty[0] + 1} below the first line; fill it in, "
                "or leave the row out."
            )
    names = sorted(set(rows["label"]))
    if all(name.isdecimal() for name in names):
        names.sort(key=int)  # 10 comes after 9
    numbers = {name: number for number, name in enumerate(names)}
    given: dict[str, Any] = {
        "sequences": [text.ids(one) for one in rows["text"]],
        "labels": [numbers[name] for name in rows["label"]],
        "symbols": text.CHARACTERS,
    }
    if "split" in rows:
        parts = rows["split"].tolist()
        given["split"] = [int(part) for part in parts] if set(parts) <= {*"012"} else parts
    return Found(given, tuple(names))


def _arrays(source: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(source) as archive:
            large = [i.filename for i in archive.infolist() if i.file_size > cache.MOST_BYTES]
        if large:
            raise ValueError(f"'{large[0]}' has more than {cache.MOST_BYTES / 2**30:.0f} GiB")
        with np.load(source, allow_pickle=False) as archive:
            found = {key: archive[key] for key in _ARRAYS if key in archive.files}
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
    ids, offsets = found.pop("ids"), found.pop("offsets", None)
    if offsets is None and ids.ndim != 2:
        raise DataError(
            f"{source} holds 'ids' of the shape {ids.shape} and no 'offsets': without, they have a "
            "row for each sequence, padded with 0; add the one or make them the other."
        )
    return {"sequences": ids if offsets is None else _cut(ids, offsets, source), **found}


def _cut(ids: NDArray[Any], offsets: NDArray[Any], source: Path) -> list[NDArray[Any]]:
    """The sequences that stand one after the other."""
    if offsets.dtype.kind not in "iu":
        raise DataError(
            f"The 'offsets' of {source} should be whole numbers, but are {offsets.dtype}; sequence "
            "i is ids[offsets[i]:offsets[i + 1]]."
        )
    whole = Sequences.checked(ids, offsets.astype(np.int64), source)
    return [whole[number] for number in range(len(whole))]
