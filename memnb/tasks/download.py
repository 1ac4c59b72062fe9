"""Downloads: several addresses per file, one digest, resumed where they broke off.

pooch compares the digest and puts the file in its place; the transfer itself is ours, because
pooch starts a broken one from the beginning. Both are imported when something is downloaded: a
machine that trains on data it was given needs neither.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memnb.errors import DataError
from memnb.tasks.cache import cannot_write

if TYPE_CHECKING:
    import requests

Seen = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes that there will be."""

TRIES = 3  # per address
WAIT = 2.0  # seconds before another try, doubled each time
TIMEOUT = 30.0  # seconds without a byte
SLOWEST = 1000  # bytes per second, on average, after TIMEOUT
_BLOCK = 2**18
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file that its publishers offer.

    Attributes:
        name: its name. size: bytes. digest: such as ``md5:7c2a...``.
        addresses: tried in this order.
    """

    name: str
    size: int
    digest: str
    addresses: tuple[str, ...]


def fetch(source: Source, folder: Path, seen: Seen | None = None) -> Path:
    """The file in ``folder``, downloaded unless it is there already.

    Raises:
        DataError: no address gave the right file, the disk is too full, or ``folder`` cannot be
            written. What arrived so far is kept, and the next call goes on from there.
    """
    import pooch  # type: ignore[import-untyped]

    demand_room(source.name, missing(source, folder), folder)
    transfer = _Transfer(source, _part(source, folder), seen)
    pooch.get_logger().setLevel("WARNING")
    problems = []
    for address in source.addresses:
        try:
            return Path(
                pooch.retrieve(
                    address, source.digest, fname=source.name, path=folder, downloader=transfer
                )
            )
        except ValueError:
            problems.append(f"{address} gave a file with another {source.digest.split(':')[0]}")
        except _Refused as refusal:
            problems.append(f"{address} {refusal}")
        except OSError as error:
            raise cannot_write(folder, error) from None
    raise DataError(
        f"{source.name} could not be downloaded: {'; '.join(problems)}; try again later, or "
        "get the file elsewhere and give it to `memnb data import`."
    )


def missing(source: Source, folder: Path) -> int:
    """How many bytes of a file an earlier call has not brought to ``folder`` yet."""
    if (folder / source.name).exists():
        return 0
    return max(0, source.size - _size(_part(source, folder)))


def demand_room(what: str, need: int, folder: Path) -> None:
    """Make ``folder``, and refuse to begin with ``what`` if less than ``need`` bytes are free.

    Raises:
        DataError: there is no room, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise cannot_write(folder, error) from None
    if free < need:
        raise DataError(
            f"{what} needs {need / 1e6:.0f} MB in {folder}, but only {free / 1e6:.0f} MB are free; "
            "make room, or let MEMNB_DATA name another folder."
        )


def _part(source: Source, folder: Path) -> Path:
    """What has arrived of a file."""
    return folder / f".{source.name}.part"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Refused(Exception):
    """Why an address gave no file, as the end of a sentence that begins with the address.

    ``final`` says that asking again would not help.
    """

    def __init__(self, why: str, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


@dataclass
class _Transfer:
    """What pooch calls to bring one file from one address to its place."""

    source: Source
    part: Path
    seen: Seen | None

    def __call__(self, url: str, output: str | os.PathLike[str], _: Any) -> None:
        import requests

        problem = _Refused("gave nothing")
        for number in range(TRIES):
            if number:
                time.sleep(WAIT * 2 ** (number - 1))
            try:
                self._go_on(url)
                os.replace(self.part, output)
                return
            except _Refused as refusal:
                problem = refusal
                if refusal.final:
                    break
            except requests.TooManyRedirects:
                problem = _Refused("redirects without end")
                break
            except requests.RequestException as error:
                problem = _Refused(f"broke off ({type(error).__name__})")
            log.info("%s %s", url, problem)
        raise problem

    def _go_on(self, url: str) -> None:
        import requests

        start = _size(self.part)
        if start > self.source.size:  # of another file
            self.part.unlink()
            start = 0
        log.info("%s from %s, %d bytes are here", self.source.name, url, start)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416 and start:  # nothing is missing, or it is another file
                return
            if answer.status_code not in (200, 206):
                busy = answer.status_code == 429 or answer.status_code >= 500
                raise _Refused(f"answered with status {answer.status_code}", final=not busy)
            if "html" in answer.headers.get("Content-Type", ""):
                raise _Refused("answered with a web page", final=True)
            # A server that knows no ranges sends all from the beginning.
            self._write(answer, start if answer.status_code == 206 else 0)
        if (arrived := _size(self.part)) < self.source.size:
            raise _Refused(f"broke off after {arrived} of {self.source.size} bytes")

    def _write(self, answer: requests.Response, start: int) -> None:
        began = time.monotonic()
        there = start
        with self.part.open("ab" if start else "wb") as file:
            for block in answer.iter_content(_BLOCK):
                file.write(block)
                there += len(block)
                if there > self.source.size:
                    file.close()
                    self.part.unlink()
                    raise _Refused("sent more bytes than the file has", final=True)
                if self.seen:
                    self.seen(there, self.source.size)
                passed = time.monotonic() - began
                if passed > TIMEOUT and (there - start) / passed < SLOWEST:
                    raise _Refused("is too slow", final=True)
