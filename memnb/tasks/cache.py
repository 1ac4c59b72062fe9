"""Arrays on disk: written whole or not at all, and read with distrust.

The files are plain ``.npz``. They are opened with :mod:`zipfile` rather than ``numpy.load`` so
that the size and type an array claims are checked before any memory is taken, nothing can be
unpickled, and the checksums in the file are compared with what was read.
"""

from __future__ import annotations

import contextlib
import logging
import lzma
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from memnb import config, paths
from memnb.errors import DataError
from memnb.files import lock, replacing
from memnb.tasks.base import Dataset

Arrays = dict[str, NDArray[Any]]
Cached = TypeVar("Cached", bound=config.Task)

MOST_BYTES = 4 * 2**30
log = logging.getLogger(__name__)


def file(task: config.Task) -> Path:
    """Where the data of a generated task lie, or would lie."""
    return paths.data_cache() / f"{task.name}-{task.digest}.npz"


def read(path: Path, members: Mapping[str, str]) -> Arrays:
    """The arrays named in ``members`` (name -> dtype such as ``uint8``), read-only.

    Raises:
        DataError: the file is missing, damaged, too large, or an array is missing or of another
            dtype.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _member(archive, name, dtype) for name, dtype in members.items()}
    except FileNotFoundError:
        raise DataError(f"There is no file {path}; make or import it first.") from None
    except KeyError as error:
        raise DataError(
            f"{path} should hold the arrays {', '.join(members)}, but one is missing "
            f"({error.args[0]}); make or import it again."
        ) from None
    except DAMAGE as error:
        raise DataError(
            f"{path} is damaged or no .npz file ({error}); make or import it again."
        ) from None


#: What reading a damaged archive of arrays may raise.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError,
    NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError,
)  # fmt: skip


def _member(archive: zipfile.ZipFile, name: str, dtype: str) -> NDArray[Any]:
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > MOST_BYTES:
        raise ValueError(f"'{name}' claims {info.file_size} bytes")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, in_fortran_order, found = np.lib.format.read_array_header_1_0(file)
        else:
            shape, in_fortran_order, found = np.lib.format.read_array_header_2_0(file)
        if found != np.dtype(dtype) or in_fortran_order:
            raise ValueError(f"'{name}' should be {dtype}, but is {found}")
        body = file.read()
    if len(body) != int(np.prod(shape, dtype=object)) * found.itemsize:
        raise ValueError(f"'{name}' claims the shape {shape}, but holds {len(body)} bytes")
    return np.frombuffer(body, found).reshape(shape)


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an uncompressed ``.npz`` to ``path``, replacing what is there in one step.

    Raises:
        DataError: the folder cannot be written, or the disk is full; ``path`` is as before.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as opened:
            os.fchmod(opened.fileno(), 0o644)  # for all who share the folder
            np.savez(opened, **cast("dict[str, Any]", arrays))
    except OSError as error:
        raise cannot_write(path.parent, error) from None


def cannot_write(folder: Path, error: OSError) -> DataError:
    """The error for a folder of the data cache that refuses, or whose disk is full."""
    return DataError(
        f"The data folder {folder} cannot be written ({error.strerror or error}); free some space "
        "or give yourself the right to write, or let MEMNB_DATA name another folder."
    )


def cached(
    task: Cached, read: Callable[[Cached, Path], Dataset], make: Callable[[Cached], Arrays]
) -> Dataset:
    """The data of a generated task as ``read`` finds them in its file (:func:`file`), which
    ``make`` has filled if it was missing or damaged.

    One process makes the file, others wait for it. A good file is loaded without the lock, so a
    cache may be read-only once it is full.

    Raises:
        DataError: the file cannot be written, or what ``make`` raises.
    """
    path = file(task)
    if path.exists():
        try:
            return read(task, path)
        except DataError as error:
            log.warning("%s It is made anew.", error)
    with locked(path):
        # Another process may have made the file while this one waited.
        with contextlib.suppress(DataError):
            return read(task, path)
        log.info("making %s", path.name)
        write(path, make(task))
        return read(task, path)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that goes with ``path``; wait for it if another process has it.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = lock(path.with_name(path.name + ".lock"))
    except OSError as error:
        raise cannot_write(path.parent, error) from None
    try:
        yield
    finally:
        held.release()
