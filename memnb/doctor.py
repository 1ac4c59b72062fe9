"""What this machine can do, what is missing, and why; ``memnb doctor`` prints it."""

from __future__ import annotations

import contextlib
import getpass
import importlib.metadata
import importlib.util
import io
import os
import platform
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from memnb import __version__, paths
from memnb.errors import MemnbError
from memnb.evidence import rows
from memnb.reproduce.files import write
from memnb.reproduce.report import environment
from memnb.reproduce.workers import cores
from memnb.words import counted

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
        return f"{_MARKS[self.state]} {self.subject:<13} {self.text}"


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


def bundle(findings: Sequence[Finding], out: str | None = None, file: str = "") -> Path:
    """Write what a bug report needs into a zip file, and return its path.

    It holds the findings, versions, a line for each run, the records of runs that have not
    finished, and what went wrong with notebooks. Names of users, machines and folders, addresses
    and numbers of the network are taken out of every text.

    Args:
        findings: of :func:`examine`.
        out: the output folder, whose runs and report are described.
        file: where to write; empty for ``memnb-bug-report.zip`` in the output folder.

    Raises:
        MemnbError: ``file`` has no name that ends in ``.zip``.
        RunError: the file cannot be written.
    """
    if file and not Path(file).name.lower().endswith(".zip"):
        raise MemnbError(
            f"The file of --bundle must have a name that ends in .zip, but got '{file}'; rename it."
        )
    path = paths.absolute(file) if file else paths.output(out) / "memnb-bug-report.zip"
    texts = {"doctor.txt": "\n".join(map(str, findings)), **_facts(), **_runs(out), **_steps(out)}
    anonymous = Anonymous([paths.output(out), paths.data_cache(), Path.cwd()])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, anonymous(text))
    write(path, buffer.getvalue())
    return path


def _facts() -> dict[str, str]:
    lines = [f"{name}: {fact}" for name, fact in environment().items()]
    return {"versions.txt": "\n".join([*lines, f"platform: {platform.platform()}"])}


def _runs(out: str | None) -> dict[str, str]:
    """A line for each run of this machine, and the records of those that have not finished."""
    frame = rows.load_runs(paths.runs(out))
    lines, found = [], {}
    for run in frame.to_dict("records"):
        lines.append(
            f"{run['run_id']}: {run['outcome']} at step {run['step']:.0f}, {run['device']}, "
            f"memnb {run['version']}, torch {run['torch']}, {run['reason'] or 'no reason'}"
        )
        if run["outcome"] != "finished":
            record = (run["folder"] / "run.json").read_text(encoding="utf-8")
            found[f"runs/{run['run_id']}.json"] = record
    return {"runs.txt": "\n".join([*lines, *frame.attrs["problems"]]), **found}


def _steps(out: str | None) -> dict[str, str]:
    """What is remembered of the last execution of each notebook, tracebacks included."""
    files = sorted((paths.report(out) / "steps").glob("*.json"))
    return {f"notebooks/{file.name}": file.read_text("utf-8", "replace") for file in files}


class Anonymous:
    """Takes out of a text what says who and where somebody is.

    Args:
        folders: whose names are replaced as a whole, spaces included.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        known = [*folders, Path(sys.prefix), Path(paths.__file__).parents[1]]
        known += [Path(home) for home in (os.path.expanduser("~"), os.environ.get("HOME")) if home]
        # The longest first, so that no part of a name is left over.
        texts = {text for path in known for text in (str(path), os.path.realpath(path))}
        self.folders = sorted(texts, key=len, reverse=True)
        names = {os.environ.get(key, "") for key in ("USER", "LOGNAME", "USERNAME")}
        names |= {platform.node(), platform.node().partition(".")[0]}
        with contextlib.suppress(OSError, KeyError):
            names.add(getpass.getuser())
        telling = {name for name in names if len(name) > 1 and name.lower() not in _NOBODY}
        self.names = sorted(telling, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for folder in self.folders:
            if len(folder) > 1:
                text = text.replace(folder, "<folder>")
        text = _BELOW.sub("<folder>/", _PATH.sub("<folder>/", text))
        for name in self.names:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "<name>", text, flags=re.IGNORECASE)
        return _ADDRESS.sub("<address>", text)


# Words that say nothing of a person, although somebody's computer or account is called so.
_NOBODY = {"root", "localhost", "python", "torch", "memnb", "user"}
# What is left of absolute paths: their folders.
_PATH = re.compile(r"(?<![\w<>./~:-])(?:/|[A-Za-z]:\\{1,2})(?:[^\s/\\\"'<>:]+[/\\]+)+")
_BELOW = re.compile(r"<folder>(?:[/\\][^/\\\n\"'<>:]+)*[/\\]")
_ADDRESS = re.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\b(?:\d{1,3}\.){3}\d{1,3}\b"
    r"|\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"
)


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
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(ValueError, OSError):  # a container's limit, or "max"
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    if not sizes:
        return Finding("memory", "note", "size unknown on this system")
    total = min(sizes)
    text = f"{total / _GIB:.1f} GiB"
    if total < 2 * _GIB:
        return Finding("memory", "note", f"{text}; the quick preset may need 2 GiB (--jobs 1 less)")
    return Finding("memory", "fine", text)


def _folder(subject: str, folder: Path) -> Finding:
    """Whether ``folder``, or the nearest one above that exists, can be written to and has room."""
    there = folder
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
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

    try:
        found = catalogue.list_data()
    except OSError as error:
        yield Finding("data sets", "note", f"cannot be looked for ({error.strerror}).")
        return
    for data in found:
        if data.ready:
            yield Finding(data.card.name, "fine", f"here, {data.size / 2**20:.0f} MiB")
        else:
            yield Finding(data.card.name, "note", f"not here; {data.card.next_step}")


def _committed() -> Finding:
    runs = rows.load_runs(paths.stored_results())
    problems = runs.attrs["problems"]
    text = f"{counted(len(runs), 'run')} in {paths.stored_results()}"
    if problems:
        return Finding("committed", "problem", f"{text}; {len(problems)} damaged: {problems[0]}")
    return Finding("committed", "fine", text)
