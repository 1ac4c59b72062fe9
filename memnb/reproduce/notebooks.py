"""Execute one notebook strictly: done means that every cell ran and every output is there.

papermill by itself is lenient: an unknown parameter is a warning, ``sys.exit(0)`` in a cell is a
success with the later cells unrun, a brace in a path is taken for a placeholder, and nobody looks
whether anything was drawn.
"""

from __future__ import annotations

import csv
import io
import os
import re
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from memnb import paths
from memnb.errors import missing_package
from memnb.reproduce.files import telling, write
from memnb.reproduce.manifest import check_parameters, read_notebook, read_parameters
from memnb.reproduce.workers import JobError

T = TypeVar("T")

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_START_TIMEOUT = 120
_STARTS = 3
_NO_REPLY = "Kernel died before replying"  # nbclient's words
_STOPPED = 75


class NotebookError(JobError):
    """A notebook failed; the sentence names it."""


def execute(
    notebook: Path,
    parameters: Mapping[str, Any],
    executed: Path,
    outputs: Sequence[Path],
    *,
    timeout: int = 600,
    scratch: Path | None = None,
) -> None:
    """Run a notebook from top to bottom in a fresh kernel of this very Python.

    Args:
        notebook: the file as committed; it is not changed.
        parameters: values for its parameters cell.
        executed: where the executed notebook goes, also when it fails. Its folder is the
            kernel's working directory.
        outputs: files it has to write.
        timeout: seconds that one cell may take.
        scratch: a folder for what is there during the execution only; by default the system's.

    Raises:
        MemnbError: a parameter that the notebook does not have, or of another type.
        NotebookError: a cell raised or took too long, the kernel died, the notebook ended early,
            or an output is missing, old, empty or unreadable.
        RunError: the executed notebook cannot be written.
    """
    name = notebook.name
    check_parameters(read_parameters(read_notebook(notebook), name), dict(parameters), name)
    with telling(executed.parent):
        executed.parent.mkdir(parents=True, exist_ok=True)
    before = {path: _fingerprint(path) for path in outputs}
    with tempfile.TemporaryDirectory(prefix="memnb-", dir=scratch) as temporary:
        result = Path(temporary) / "executed.ipynb"
        try:
            with _kernel_environment(Path(temporary)):
                _papermill(notebook, result, parameters, executed.parent, timeout)
        finally:
            if result.is_file():
                write(executed, result.read_bytes())
    _refuse_early_end(read_notebook(executed), name)
    for path in outputs:
        _refuse_unfit(path, before[path], name)


def job(
    payload: dict[str, Any],
    report: Callable[[Any], None],
    should_stop: Callable[[], bool],
) -> None:
    """:func:`execute` as a job of :mod:`memnb.reproduce.workers`; ``payload`` is its arguments."""

    def watch() -> None:
        while not should_stop():
            time.sleep(0.1)
        # A cell cannot be asked to stop. The kernel ends itself when its parent is gone.
        os._exit(_STOPPED)

    # Where this package is there, jsonschema parses a grammar of addresses with it for more than a
    # second, in every process that loads papermill. It does without, and no notebook needs it.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    threading.Thread(target=watch, daemon=True).start()
    execute(**payload)


def _papermill(
    notebook: Path, result: Path, parameters: Mapping[str, Any], folder: Path, timeout: int
) -> None:
    try:
        import papermill
        from nbclient.exceptions import CellTimeoutError, DeadKernelError
        from papermill.exceptions import PapermillExecutionError
    except ModuleNotFoundError as error:
        raise missing_package("Executing notebooks needs", error.name) from None
    try:
        started(
            papermill.execute_notebook,
            _literal(notebook),
            _literal(result),
            parameters=dict(parameters),
            # The name is only a label: the kernel is always this Python, whatever is registered.
            kernel_name="python3",
            language="python",
            kernel_manager_class=_kernel_manager(result.with_name("kernel.json")),
            resources={"metadata": {"path": str(folder)}},
            progress_bar=False,
            coalesce_streams=True,  # what a cell prints is one text, however slowly it comes
            start_timeout=_START_TIMEOUT,
            execution_timeout=timeout,
        )
    except PapermillExecutionError as error:
        first = (str(error.evalue).strip().splitlines() or [""])[0]
        raise NotebookError(
            f"{notebook.name}: cell [{error.exec_count}] raised {error.ename}: {first}",
            _ANSI.sub("", "\n".join(error.traceback)),
        ) from None
    except CellTimeoutError:
        raise NotebookError(
            f"{notebook.name}: a cell took longer than {timeout} s and was stopped."
        ) from None
    except DeadKernelError:
        raise NotebookError(f"{notebook.name}: its kernel died (perhaps out of memory).") from None
    except RuntimeError as error:
        if _NO_REPLY not in str(error):
            raise
        raise NotebookError(
            f"{notebook.name}: its kernel ended at its start, {_STARTS} times; run the same "
            "command again, with fewer other programs if it happens once more."
        ) from None


def started(start: Callable[..., T], *given: Any, **named: Any) -> T:
    """What ``start`` gives; it is called again where a kernel did not get to its first reply.

    A kernel's ports are looked up before it takes them, so that another kernel that starts at the
    same moment can be quicker. Not one cell has run by then.

    Raises:
        RuntimeError: nor did it the last time.
    """
    for _ in range(_STARTS - 1):
        try:
            return start(*given, **named)
        except RuntimeError as error:
            if _NO_REPLY not in str(error):
                raise
    return start(*given, **named)


def _literal(path: Path) -> str:
    """papermill formats paths with the parameters: braces have to be doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _kernel_manager(connection: Path) -> type[Any]:
    """A kernel manager that starts this Python, so that no registered kernel can step in.

    Args:
        connection: where it notes the kernel's ports.
    """
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(KernelSpecManager):
        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            # What a kernel logs (on sockets, on being told to shut down) is not for the reader of a
            # report; what happens in a cell comes back by itself.
            return KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]))

    class Manager(AsyncKernelManager):
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return ThisPython(parent=self)

        def _connection_file_default(self) -> str:
            return str(connection)

    return Manager


@contextmanager
def _kernel_environment(temporary: Path) -> Iterator[None]:
    """The kernel imports this memnb, writes into the report, and neither needs nor reads the user's
    Jupyter settings."""
    package = str(Path(paths.__file__).parents[1])
    others = os.environ.get("PYTHONPATH")
    changes = {
        paths.FOR_THE_REPORT: "1",
        "PYTHONPATH": package + (os.pathsep + others if others else ""),
        "IPYTHONDIR": str(temporary / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(temporary / "runtime"),
    }
    before = {key: os.environ.get(key) for key in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


# --- what counts as done ---------------------------------------------------------------------


def _refuse_early_end(notebook: dict[str, Any], name: str) -> None:
    # A blank cell is never sent to the kernel.
    sources = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    cells = [cell for cell in sources if "".join(cell["source"]).strip()]
    for number, cell in enumerate(cells, start=1):
        status = cell["metadata"].get("papermill", {}).get("status")
        if status != "completed" or cell["execution_count"] is None:
            raise NotebookError(
                f"{name} ended early: cell [{number}] did not complete; a notebook must not call "
                "sys.exit or stop its kernel."
            )


def _fingerprint(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _refuse_unfit(path: Path, before: tuple[int, int, int] | None, name: str) -> None:
    now = _fingerprint(path)
    if now is None:
        raise NotebookError(f"{name} did not write {path.name}.")
    if now == before:
        raise NotebookError(f"{name} left an old {path.name} in place instead of writing it anew.")
    problem = unfit(path)
    if problem:
        raise NotebookError(f"{name} wrote {path.name}, but {problem}.")


def unfit(path: Path) -> str | None:
    """What is wrong with an output file, in a few words; None if it can be shown."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if not content.strip():
        return "it is empty"
    check = {".png": _unfit_png, ".svg": _unfit_svg, ".csv": _unfit_csv}.get(path.suffix)
    return check(content) if check else None


def _unfit_png(content: bytes) -> str | None:
    from PIL import Image

    try:
        # verify() checks every chunk to the end of the file, but not whether the pixels decode.
        Image.open(io.BytesIO(content), formats=["PNG"]).verify()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            low_high = image.convert("RGB").getextrema()
    except Exception as error:
        # Pillow raises many types for damaged files.
        return f"it is no readable PNG image ({type(error).__name__})"
    if all(low == high for low, high in low_high):  # type: ignore[misc]
        return "it is blank: nothing was drawn"
    return None


def _unfit_svg(content: bytes) -> str | None:
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        return f"it is no readable SVG image ({error})"
    if root.tag.rpartition("}")[2] != "svg":
        return f"its root is <{root.tag}>, not <svg>"
    return None


def _unfit_csv(content: bytes) -> str | None:
    try:
        header, *body = csv.reader(io.StringIO(content.decode("utf-8")), strict=True)
    except (ValueError, csv.Error) as error:
        return f"it is no readable CSV table ({error})"
    if not body:
        return "the table has no row"
    if any(len(row) != len(header) for row in body):
        return "its rows differ in length"
    return None
