"""Frames as text to print or to keep: CSV and Markdown, each cell as it prints."""

from __future__ import annotations

import csv
import io

import pandas as pd


def as_csv(frame: pd.DataFrame) -> str:
    """The frame as CSV."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(_cells(frame))
    return buffer.getvalue()


def as_markdown(frame: pd.DataFrame, caption: str = "") -> str:
    """The frame as a Markdown table, with a caption below."""
    # pandas' own to_markdown re-formats numbers in text cells: "36.10" would become 36.1.
    header, *body = (
        [cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in _cells(frame)
    )
    lines = [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body)]
    return "\n".join(lines) + "\n" + (f"\nTable: {caption}\n" if caption else "")


def _cells(frame: pd.DataFrame) -> list[list[str]]:
    """Header and body as text; a named or labelled index becomes columns."""
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    header = [_heading(column) for column in frame.columns]
    body = [["" if pd.isna(cell) else str(cell) for cell in row] for row in frame.itertuples(False)]
    return [header, *body]


def _heading(column: object) -> str:
    if isinstance(column, tuple):  # a column under several headings
        return " ".join(str(part) for part in column if str(part))
    return str(column)
