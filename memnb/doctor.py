"""What this machine can do, what is missing, and why; ``memnb doctor`` prints it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memnb import __version__, paths
from memnb.reproduce.workers import cores

State = Literal["fine", "note", "problem"]
_MARKS: dict[State, str] = {"fine": "ok", "note": "--", "problem": "!!"}

#: Bytes that the quick preset needs at most: generated data, runs, report.
NEEDED = 500 * 2**20
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        subject: what was looked at.
        state: ``fine``; ``note`` for what is good to know; ``problem`` for what stands in the way
            of ``memnb reproduce``.
        text: what was found and, for a problem, what to do.
    """

    subject: str
    state: State
    text: str

    def __str__(self) -> str:
        return f"{_MARKS[self.state]} {self.subject:<12} {self.text}"


def examine(out: str | None = None) -> list[Finding]:
    """Look at everything; ``out`` is the output folder (:func:`memnb.paths.output`)."""
    return [
        _python(),
        *_torch(),
        _notebooks(),
        _cores(),
        _memory(),
        _folder("output", paths.output(out)),
        _folder("data cache", paths.data_cache()),
        *_data(),
        _committed(),
    ]


def _python() -> Finding:
    where = paths.checkout() or Path(paths.__file__).parent
    text = f"{platform.python_version()} at {sys.executable}; memnb {__version__} from {where}"
    return Finding("Python", "fine", text)


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding(
            "PyTorch",
            "problem",
            "not installed, so nothing can be trained (--preset stored works); "
            "install it with 'pip install torch'.",
        )
        return
    try:
        import torch

        from memnb.train.device import choose_device, why_no_cuda
    except Exception as error:
        # A broken build may raise anything, from a missing library to a wrong ABI.
        yield Finding("PyTorch", "problem", f"it cannot be imported ({error}); install it again.")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield Finding("PyTorch", "fine", f"{torch.__version__}, build: {build}")
    missing = why_no_cuda()
    if missing:
        yield Finding("CUDA", "note", f"not used: {missing}.")
    else:
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("CUDA", "fine", "; ".join(names))
    device = choose_device()
    yield Finding("precision", "fine", f"{device.precision}: {device.reason}")


def _notebooks() -> Finding:
    needed = ("papermill", "nbclient", "ipykernel")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            "notebooks",
            "problem",
            f"{', '.join(missing)} missing; install with \"pip install 'memnb[notebooks]'\".",
        )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in needed)
    return Finding("notebooks", "fine", versions)


def _cores() -> Finding:
    usable, all_ = cores(), os.cpu_count() or 1
    if usable < all_:
        return Finding("cores", "note", f"{usable} of {all_} may be used (affinity or quota)")
    return Finding("cores", "fine", f"{usable}")


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return Finding("memory", "note", "size unknown on this system")
    text = f"{total / _GIB:.1f} GiB"
    if total < 2 * _GIB:
        return Finding("memory", "note", f"{text}; the quick preset may need 2 GiB (--jobs 1 less)")
    return Finding("memory", "fine", text)


def _folder(subject: str, folder: Path) -> Finding:
    """Whether ``folder``, or the nearest one above that exists, can be written to and has room."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Finding(
            subject,
            "problem",
            f"{folder} cannot be written to ({error.strerror}); choose another with "
            f"{'--out or MEMNB_OUT' if subject == 'output' else 'MEMNB_DATA'}.",
        )
    text = f"{folder}, {free / _GIB:.1f} GiB free"
    if free < NEEDED:
        return Finding(subject, "problem", f"{text}; at least {NEEDED / _GIB:.1f} are needed.")
    return Finding(subject, "fine", text)


def _data() -> Iterator[Finding]:
    from memnb.tasks import catalogue

    for data in catalogue.list_data():
        if data.ready:
            yield Finding(data.card.name, "fine", f"here, {data.size / 2**20:.0f} MiB")
        else:
            yield Finding(data.card.name, "note", f"not here; {data.card.next_step}")


def _committed() -> Finding:
    from memnb.evidence import rows

    runs = rows.load_runs(paths.stored_results())
    problems = runs.attrs["problems"]
    text = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} in {paths.stored_results()}"
    if problems:
        return Finding("committed", "problem", f"{text}; {len(problems)} damaged: {problems[0]}")
    return Finding("committed", "fine", text)
