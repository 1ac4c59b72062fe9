"""A notebook counts as done only if everything ran and everything is there."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import papermill
import pytest
from nbval import kernel
from PIL import Image
from tiny_notebooks import DRAW, write_notebook

from memnb.errors import MemnbError, RunError
from memnb.reproduce.notebooks import NotebookError, execute, unfit


def run(tmp_path: Path, *cells: str, timeout: int = 60, **more: Any) -> Path:
    """Execute a tiny notebook that has to write tables/tiny.csv; the executed file."""
    notebook = write_notebook(tmp_path / "tiny.ipynb", *cells)
    executed = tmp_path / "report" / "notebooks" / "tiny.ipynb"
    outputs = [tmp_path / "report" / "tables" / "tiny.csv"]
    parameters = {"preset": "quick", "out": str(tmp_path), **more}
    execute(notebook, parameters, executed, outputs, timeout=timeout)
    return executed


def texts(executed: Path) -> str:
    cells = json.loads(executed.read_text())["cells"]
    return "".join(
        "".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", [])
    )


def test_a_good_notebook_in_a_hostile_path_runs_in_this_python_and_a_defined_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kernel of that name that cannot start, where Jupyter looks first.
    broken = tmp_path / "jupyter" / "kernels" / "python3"
    broken.mkdir(parents=True)
    (broken / "kernel.json").write_text('{"argv": ["/nonexistent"], "display_name": "x"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.chdir("/")
    folder = tmp_path / "odd {preset} ü path's"
    executed = run(
        folder, DRAW, "import os, sys, memnb\nprint(preset, sys.executable, os.getcwd())"
    )
    assert f"quick {sys.executable} {executed.parent}" in texts(executed)
    assert os.getcwd() == "/"
    assert not unfit(folder / "report" / "tables" / "tiny.csv")


def test_what_a_cell_prints_is_one_text_however_slowly_it_comes(tmp_path: Path) -> None:
    slowly = "import time\nfor word in 'ab':\n    print(word, flush=True)\n    time.sleep(0.3)"
    cells = json.loads(run(tmp_path, DRAW, slowly).read_text())["cells"]
    (output,) = cells[-1]["outputs"]
    assert "".join(output["text"]) == "a\nb\n"


def test_unknown_parameter_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MemnbError, match=r"parameter of tiny.ipynb named 'prest'; did you"):
        run(tmp_path, DRAW, prest="quick")
    assert not (tmp_path / "report").exists()


def test_parameter_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemnbError, match=r"'preset' of tiny.ipynb is of type str .* but got 3"):
        run(tmp_path, DRAW, preset=3)


def test_notebook_without_parameters_cell_is_refused(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "tiny.ipynb", DRAW, parameters=None)
    with pytest.raises(MemnbError, match="no cell tagged 'parameters'"):
        execute(notebook, {"out": str(tmp_path)}, tmp_path / "executed.ipynb", [])


def test_exception_is_named_with_its_cell_and_the_executed_notebook_is_kept(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        NotebookError, match=r"tiny.ipynb: cell \[4\] raised ZeroDivisionError"
    ) as info:
        run(tmp_path, DRAW, "1 / 0", "print('never')")
    assert "1 / 0" in info.value.details
    assert "\x1b" not in info.value.details
    executed = tmp_path / "report" / "notebooks" / "tiny.ipynb"
    assert "ZeroDivisionError" in executed.read_text()
    assert "never\n" not in texts(executed)


@pytest.mark.parametrize(
    "exit_", ["import sys; sys.exit(0)", "raise SystemExit", "import sys; sys.exit('no')"]
)
def test_leaving_early_is_a_failure_although_every_output_is_there(
    tmp_path: Path, exit_: str
) -> None:
    with pytest.raises(NotebookError, match=r"tiny.ipynb.*(ended early|SystemExit)"):
        run(tmp_path, DRAW, exit_, "print('never')")
    assert (tmp_path / "report" / "tables" / "tiny.csv").is_file()


def test_leaving_in_the_last_cell_is_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"tiny.ipynb ended early: cell \[4\]"):
        run(tmp_path, DRAW, "import sys; sys.exit(0)")


def test_dead_kernel_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"tiny.ipynb: its kernel died"):
        run(tmp_path, DRAW, "import os; os.kill(os.getpid(), 9)")


@pytest.mark.parametrize(("taken", "fine"), [(2, True), (3, False)])
def test_a_kernel_whose_ports_were_taken_at_its_start_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int, fine: bool
) -> None:
    real, starts = papermill.execute_notebook, []

    def start(*given: Any, **named: Any) -> object:
        starts.append(given)
        if len(starts) <= taken:
            raise RuntimeError("Kernel died before replying to kernel_info")
        return real(*given, **named)

    monkeypatch.setattr(papermill, "execute_notebook", start)
    if fine:
        assert run(tmp_path, DRAW)
    else:
        with pytest.raises(NotebookError, match=r"tiny.ipynb: its kernel ended at its start"):
            run(tmp_path, DRAW)
    assert len(starts) == 3


@pytest.mark.parametrize(("said", "starts"), [("died before replying", 3), ("is unknown", 1)])
def test_nbval_starts_a_kernel_again_whose_ports_were_taken(
    monkeypatch: pytest.MonkeyPatch, said: str, starts: int
) -> None:
    managers: list[mock.Mock] = []

    def manager(**_: Any) -> mock.Mock:
        managers.append(mock.Mock())
        answer = None if len(managers) == 3 else RuntimeError(f"Kernel {said}")
        managers[-1].client().wait_for_ready.side_effect = answer
        return managers[-1]

    monkeypatch.setattr(kernel, "KernelManager", manager)
    if starts == 3:
        assert kernel.start_new_kernel() == (managers[2], managers[2].client())
    else:
        with pytest.raises(RuntimeError, match=said):
            kernel.start_new_kernel()
    assert len(managers) == starts


def test_hanging_cell_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"tiny.ipynb: a cell took longer than 2 s"):
        run(tmp_path, DRAW, "import time\nwhile True: time.sleep(0.01)", timeout=2)


def test_missing_output_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match=r"tiny.ipynb did not write tiny.csv"):
        run(tmp_path, "print('draws nothing')")


def test_old_output_is_a_failure(tmp_path: Path) -> None:
    old = tmp_path / "report" / "tables" / "tiny.csv"
    old.parent.mkdir(parents=True)
    old.write_text("model\nluna\n")
    with pytest.raises(NotebookError, match=r"left an old tiny.csv in place"):
        run(tmp_path, "print('draws nothing')")


def test_empty_output_is_a_failure(tmp_path: Path) -> None:
    empty = DRAW.replace("model,accuracy\\nluna,1.0\\n", "")
    with pytest.raises(NotebookError, match=r"wrote tiny.csv, but it is empty"):
        run(tmp_path, empty)


def test_unwritable_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file where a folder should be")
    with pytest.raises(RunError, match=r"Cannot write .*report"):
        run(tmp_path, DRAW)


SVG = '<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n damaged", "no readable PNG"),
        ("a.png", SVG.encode(), "no readable PNG"),
        ("a.svg", SVG.encode(), None),
        ("a.svg", SVG[:-4].encode(), "no readable SVG"),
        ("a.svg", b"<html/>", "its root is <html>"),
        ("a.svg", b"  \n", "empty"),
        ("a.csv", b"a,b\n1,2\n", None),
        ("a.csv", b'a,b\n"1\n,2",3\n', None),
        ("a.csv", b"a,b\n1,2,3\n", "differ in length"),
        ("a.csv", b"a,b\n", "no row"),
        ("a.csv", b"a,b\n\xff,1\n", "no readable CSV"),
        ("a.csv", b'a,b\n"1,2\n', "no readable CSV"),
        ("a.md", b"text", None),
        ("a.md", b"", "empty"),
    ],
)
def test_what_counts_as_readable(
    tmp_path: Path, name: str, content: bytes, problem: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    found = unfit(tmp_path / name)
    assert (found is None) if problem is None else (problem in str(found))


def test_a_blank_picture_is_not_a_figure(tmp_path: Path) -> None:
    picture = Image.new("RGB", (20, 20), "white")
    picture.save(tmp_path / "blank.png")
    assert "blank" in str(unfit(tmp_path / "blank.png"))
    picture.putpixel((3, 3), (0, 0, 0))
    picture.save(tmp_path / "drawn.png")
    assert unfit(tmp_path / "drawn.png") is None
    (tmp_path / "cut.png").write_bytes((tmp_path / "drawn.png").read_bytes()[:-20])
    assert "no readable PNG" in str(unfit(tmp_path / "cut.png"))
