"""What the commands share: how one is described, its options, what it prints."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from memnb.errors import MemnbError, unknown

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Command:
    """A command: what runs it, what adds its arguments, its line in the help, and more help."""

    run: Callable[[argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] | None
    summary: str
    more: str = ""


# --- options -----------------------------------------------------------------------------------


def add_out(parser: argparse.ArgumentParser) -> None:
    """``--out``."""
    parser.add_argument(
        "--out",
        type=folder_name,
        metavar="DIR",
        help="folder that holds runs/ and report/ (default: the checkout, else memnb-output)",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``."""
    parser.add_argument(
        "--device",
        type=functools.partial(one_of, "device", choices=("auto", "cpu", "cuda")),
        default="auto",
        help="auto (default: CUDA if there is any), cpu or cuda",
    )


def folder_name(text: str) -> str:
    """A type of argument: the name of a folder, which need not exist."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, but got nothing")
    if "\0" in text:
        raise argparse.ArgumentTypeError("a folder's name cannot hold a null character")
    return text


def positive(text: str) -> int:
    """A type of argument: a whole number from 1."""
    return _whole(text, least=1)


def natural(text: str) -> int:
    """A type of argument: a whole number from 0."""
    return _whole(text, least=0)


def _whole(text: str, least: int) -> int:
    # int() refuses thousands of digits; eleven are enough to see that a number is too large.
    number = int(text.lstrip("0")[:11] or "0") if re.fullmatch(r"[0-9]+", text) else -1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, but got {text!r}")
    if number >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a number below {2**31}, but got {text!r}")
    return number


def names(text: str) -> list[str]:
    """A type of argument: words with commas between."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"expected names with commas between, but got {text!r}")
    return words


def numbers(text: str) -> list[int]:
    """A type of argument: whole numbers from 0 with commas between."""
    return [natural(word) for word in names(text)]


def share(text: str) -> float:
    """A type of argument: a number such as 0.5."""
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text):
        raise argparse.ArgumentTypeError(f"expected a number such as 0.5 or 1, but got {text!r}")
    return float(text)


def seconds(text: str) -> float:
    """A type of argument: a time, ``45``, ``90s``, ``9m``, ``1h30m`` or ``2.5h``, in seconds.

    Raises:
        MemnbError: not of that form, or no time at all.
    """
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    match = re.fullmatch(r"(?:(?:\d{1,6}(?:\.\d{1,3})?[hms])+|\d{1,9})", text)
    if match is None:
        raise MemnbError(f"A time is written 90s, 9m or 1h30m, but got '{text}'.")
    parts = re.findall(r"([\d.]+)([hms]?)", text)
    total = sum(float(number) * units[unit or "s"] for number, unit in parts)
    if total <= 0:
        raise MemnbError(f"The time must be longer than nothing, but got '{text}'.")
    return total


def one_of(kind: str, name: str, choices: Iterable[str]) -> str:
    """``name``, which has to be one of ``choices``.

    Raises:
        MemnbError: it is none of them.
    """
    if name not in choices:
        raise unknown(kind, name, choices)
    return name


# --- what is said ------------------------------------------------------------------------------


def complain(sentence: str) -> None:
    """Say on the standard error what is wrong."""
    # What was typed is quoted: its line breaks and control characters are not for the terminal.
    shown = "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in sentence
    )
    print(f"memnb: {shown}", file=sys.stderr)


def print_frame(frame: pd.DataFrame, form: str) -> None:
    """Print rows as ``text``, ``csv`` or ``md``."""
    if form == "text":
        print(frame.to_string(index=False, na_rep="-"))
        return
    from memnb.reproduce.frames import as_csv, as_markdown

    print(as_csv(frame) if form == "csv" else as_markdown(frame), end="")
