"""The files of a folder or of a tar archive, read one after the other and never unpacked to disk.

Nothing an archive says is trusted: a path that leads outside, a link, a device or an absurd size
ends the reading. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from memnb.errors import DataError

MOST_BYTES = 40 * 2**30  # LRA's release unpacks to 18.6 GB
MOST_HEADER = 2**20  # bytes of a member's extended header, which is read into memory as a whole


Found = Iterator[tuple[re.Match[str], IO[bytes]]]


def files(source: Path, wanted: re.Pattern[str]) -> Found:
    """Match and open file of each file of ``source`` whose path ends as ``wanted`` says.

    A file is to be read before the next one is asked for.

    ``wanted`` is searched for in the path with forward slashes, such as
    ``aclImdb/train/pos/0_9.txt``. A folder is read in the order of its sorted paths, an archive in
    its own order.

    Raises:
        DataError: no such file, no tar archive, or a damaged, cut off or suspicious one.
    """
    if source.is_dir():
        yield from _of_folder(source, wanted)
    elif source.is_file():
        yield from _of_archive(source, wanted)
    else:
        raise DataError(f"There is no file or folder {source}; check the path.")


def _of_folder(folder: Path, wanted: re.Pattern[str]) -> Found:
    for path in sorted(folder.rglob("*")):
        match = wanted.search((PurePosixPath(folder.name) / path.relative_to(folder)).as_posix())
        if match and path.is_file():
            try:
                with path.open("rb") as file:
                    yield match, file
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}).") from None


def _of_archive(path: Path, wanted: re.Pattern[str]) -> Found:
    total = 0
    try:
        # Not as a stream ("r|*"): that would read a cut-off archive to its end without complaint.
        with tarfile.open(path, "r:*", tarinfo=_Member) as archive:
            for member in archive:
                _distrust(path, member)
                total += member.size
                if total > MOST_BYTES:
                    raise DataError(f"{path} claims to hold over {total} bytes; it is refused.")
                match = wanted.search(member.name) if member.isfile() else None
                file = archive.extractfile(member) if match else None
                if match and file:
                    yield match, io.BufferedReader(_Checked(file, path), 2**20)
                # tarfile remembers every member it has seen; a long archive would fill the memory.
                archive.members = []  # type: ignore[attr-defined]
            _refuse_without_end(archive)
    except _DAMAGE as error:
        raise _damaged(path, error) from None


def _refuse_without_end(archive: tarfile.TarFile) -> None:
    """A tar ends in two blocks of zeros, of which reading all members has consumed the first.

    Without this check, one that is cut off between two members would pass for a shorter one.
    """
    assert archive.fileobj is not None
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")


# What the readers of the standard library raise where an archive is not whole.
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)


def _damaged(path: Path, error: Exception) -> DataError:
    # tarfile's longest reason is a table of all formats it tried.
    reason = (str(error) or type(error).__name__).split("\n")[0].rstrip(":")
    return DataError(
        f"{path} is cut off, damaged or no tar archive ({reason}{_looks_like(path)}); get it again."
    )


class _Checked(io.RawIOBase):
    """A member whose damage is told in one sentence wherever it is read."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._file.read(len(buffer))
        except _DAMAGE as error:
            raise _damaged(self._path, error) from None
        buffer[: len(content)] = content
        return len(content)


class _Member(tarfile.TarInfo):
    """A member with a whole header, whose extension, such as a long name, has a believable size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if bytes(buf) == bytes(tarfile.BLOCKSIZE):  # the end of the archive
                raise
            # TarFile would take a header that is cut off or damaged for the end as well.
            raise tarfile.ReadError(str(error)) from None
        if member.type not in tarfile.REGULAR_TYPES and member.size > MOST_HEADER:
            raise DataError(
                f"An archive has a header of {member.size} bytes, where {MOST_HEADER} are plenty; "
                "it is refused: get the official archive."
            )
        return member


def _distrust(path: Path, member: tarfile.TarInfo) -> None:
    parts = PurePosixPath(member.name)
    if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:|\\", member.name):
        what = f"leads outside of it ({member.name[:80]!r})"
    elif not (member.isfile() or member.isdir()):
        what = f"is a link or device ({member.name[:80]!r})"
    else:
        return
    raise DataError(f"{path} holds a member that {what}; it is refused: get the official archive.")


def _looks_like(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(200).lstrip().lower()
    except OSError:
        return ""
    return ", and it begins like a web page" if start.startswith((b"<!doctype", b"<html")) else ""


def whole(file: IO[bytes], most: int, where: str) -> bytes:
    """All of a file that should have at most ``most`` bytes.

    Raises:
        DataError: it has more.
    """
    body = file.read(most + 1)
    if len(body) > most:
        raise DataError(f"{where} should have at most {most} bytes, but has more; get it again.")
    return body


def verified(path: Path, algorithm: str, *expected: str) -> None:
    """Compare a file with the digests its publishers state, one per version of it.

    Raises:
        DataError: it is another file.
    """
    found = digest(path, algorithm)
    if found not in expected:
        raise DataError(
            f"{path} is not the official file: its {algorithm} should be {' or '.join(expected)}, "
            f"but is {found}{_looks_like(path)}; get it again."
        )


def digest(path: Path, algorithm: str) -> str:
    """The hash of a file, in hexadecimal digits.

    Raises:
        DataError: it cannot be read.
    """
    state = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: state).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
