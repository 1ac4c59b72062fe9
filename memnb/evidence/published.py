"""Published accuracies, each with its source, from ``data/reference/published.csv``."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path

import pandas as pd

from memnb import paths
from memnb.config import LRA_TASKS
from memnb.errors import DataError, unknown

#: The paper that memnb reproduces. Its rows are empty until a reader enters them.
PAPER = "arXiv 2404.00798"
COLUMNS = ("source", "task", "model", "accuracy", "note")


def load(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """One row per published number, in the order of the file.

    Columns: source, task, model, accuracy (percent; NaN where it is still to be entered, as in
    the rows whose source is :data:`PAPER`), note.

    Raises:
        DataError: the file is missing, or a line is not what the header promises; the message
            names the line.
    """
    file = Path(path) if path is not None else paths.reference() / "published.csv"
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front.
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(
            f"The published numbers are missing: expected {file}; restore it."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} could not be read ({error}); save it as UTF-8 CSV.") from None
    numbered = _cells(file, text)
    header = tuple(numbered[0][1]) if numbered else ()
    if header != COLUMNS:
        given = ",".join(header) or "nothing"
        raise DataError(f"{file} must start with the header {','.join(COLUMNS)}, but got {given}.")
    del numbered[0]
    records = [_record(f"{file}, line {number}", cells) for number, cells in numbered]
    frame = pd.DataFrame(records, columns=list(COLUMNS)).astype({"accuracy": "float64"})
    _refuse_duplicates(file, frame, [number for number, _ in numbered])
    return frame


def _cells(file: Path, text: str) -> list[tuple[int, list[str]]]:
    """The cells of every line that is not empty, with the line's number."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        return [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num} is not CSV ({error}); mend it.") from None


def _record(where: str, cells: list[str]) -> tuple[str, str, str, float, str]:
    if len(cells) != len(COLUMNS):
        raise DataError(
            f"{where} must have {len(COLUMNS)} cells, but has {len(cells)}; put quotation marks "
            "around a cell that holds a comma."
        )
    source, task, model, accuracy, note = (cell.strip() for cell in cells)
    for name, value in (("source", source), ("model", model)):
        if not value:
            raise DataError(f"{where}: every number needs a {name}, but the cell is empty.")
    if task not in LRA_TASKS:
        raise DataError(f"{where}: {unknown('task', task, LRA_TASKS)}")
    return source, task, model, _percent(where, accuracy), note


def _percent(where: str, cell: str) -> float:
    if not cell:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    # At most 1 is a fraction entered by mistake: no accuracy on these tasks is that low.
    if not 1 < value <= 100:
        raise DataError(
            f"{where}: the accuracy must be a percentage such as 36.37, or empty, but got '{cell}'."
        )
    return value


def _refuse_duplicates(file: Path, frame: pd.DataFrame, lines: list[int]) -> None:
    again = frame.duplicated(["source", "task", "model"])
    if again.any():
        position = int(again.to_numpy().argmax())
        row = frame.iloc[position]
        raise DataError(
            f"{file}, line {lines[position]}: a second number for {row['model']} on "
            f"{row['task']} from {row['source']}; keep one."
        )
