"""The notebooks as pages: what every one of them promises, checked on the committed files.

That they run, and that their checked outputs still hold, is nbval's part (``make test``).
"""

from __future__ import annotations

import ast
import builtins
import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from packaging.utils import parse_wheel_filename

import memnb
from memnb import paths
from memnb.errors import MemnbError
from memnb.evidence.claims import STATEMENTS
from memnb.reproduce import manifest

FILES = sorted(paths.notebooks().glob("*.ipynb"))
PAGES = [
    "00_start_here", "01_accuracy", "02_ablation", "03_settings", "04_diagram", "05_degradation",
    "06_attention", "07_memory_size", "08_claims", "09_data", "10_pathfinder",
    "11_speed", "12_guarantees", "13_causal_tests", "14_filters", "15_where_it_looks",
    "16_explore", "17_your_memory", "18_recall", "19_chunk_memory", "20_cost",
]  # fmt: skip
CHECKED = {"keep_output", "nbval-check-output"}


def load(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def python(notebook: Any) -> ast.Module:
    """All code but the installation, which holds a magic command."""
    return ast.parse("\n\n".join(cell.source for cell in code(notebook)[1:]))


def saves(notebook: Any) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(python(notebook))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "page.save"
    ]


def test_the_pages_are_there() -> None:
    assert [path.stem for path in FILES] == PAGES


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return load(request.param)


def test_the_file_is_valid_and_names_only_a_generic_kernel(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_it_opens_with_a_title_and_the_claim_it_serves(notebook: Any) -> None:
    first = notebook.cells[0]
    assert first.cell_type == "markdown"
    title, _, rest = first.source.partition("\n")
    assert re.fullmatch(r"# \S.*", title)
    served = re.search(r"\*(.+?)\*", rest, re.DOTALL)
    assert served is not None
    assert "claim" in served[1].lower() or any(claim in served[1] for claim in STATEMENTS)
    assert len(rest.split()) > 50  # an explanation, not a heading


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("01_accuracy", 'in_short(verdicts, "C1", "C2")'),
        ("02_ablation", 'in_short(verdicts, "C4")'),
        ("05_degradation", 'probes), "C3")'),
        ("07_memory_size", "more_rows(full.runs)"),
        ("13_causal_tests", "points_lost(load_causal(full.runs))"),
        ("14_filters", "kernels_in_short(runs)"),
        ("19_chunk_memory", "in_short(verdicts, 'C5')"),
    ],
)
def test_a_page_that_asks_a_question_answers_it_before_it_draws(name: str, answer: str) -> None:
    sources = "\n".join(cell.source for cell in code(load(paths.notebooks() / f"{name}.ipynb")))
    drawn = re.search(r"page\.save\(\s*\w*figures\.", sources)
    assert drawn is not None
    assert sources.index(answer) < drawn.start()


def test_a_page_has_one_title() -> None:
    """The notebook's own is that of the report."""
    titles = {entry.notebook: entry.title for entry in manifest.load().artefacts}
    assert titles == {
        path.name: load(path).cells[0].source.partition("\n")[0].removeprefix("# ")
        for path in FILES
    }


def test_it_tells_the_reader_what_to_see(notebook: Any) -> None:
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert any("**What to see:**" in text for text in prose)


def test_every_first_code_cell_is_the_same_installation() -> None:
    cells = [code(load(path))[0] for path in FILES]
    assert all(cell.metadata["jupyter"] == {"source_hidden": True} for cell in cells)  # folded
    (source,) = {cell.source for cell in cells}
    assert "except ModuleNotFoundError" in source
    assert "memnb-*.whl" in source
    # A name that nobody has registered must not be installed: somebody else might.
    assert source.count("%pip") == 1


def installed_by_the_first_cell(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Run the installation in ``folder``, without memnb; the files that pip is given."""
    source = code(load(FILES[0]))[0].source
    # The command in the except branch is IPython's; here it only records what it would install.
    runnable = source.replace('%pip install -q "{wheel}"', "installed.append(Path(wheel))")
    assert runnable != source
    installed: list[Path] = []
    real = __import__

    def missing_at_first(name: str, *rest: Any) -> Any:
        if name == "memnb" and not installed:
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.chdir(folder)
    names = {
        "__builtins__": {**vars(builtins), "__import__": missing_at_first},
        "installed": installed,
    }
    exec(compile(runnable, "install", "exec"), names)
    return installed


def test_without_a_wheel_the_installation_asks_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"upload memnb-\*\.whl"):
        installed_by_the_first_cell(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "uploads",  # in the order of their upload
    [
        ["memnb-0.1.0-py3-none-any.whl"],
        ["memnb-0.1.0-py3-none-any.whl", "memnb-0.1.0-py3-none-any (1).whl"],
        [
            "memnb-0.1.0-py3-none-any.whl",
            "memnb-0.1.0-py3-none-any (1).whl",
            "memnb-0.1.0-py3-none-any (10).whl",
            "memnb-0.1.0-py3-none-any (9).whl",
        ],
        ["memnb-0.2.0-py3-none-any.whl", "memnb-0.1.0-py3-none-any(1) (2).whl"],
        ["memnb-0.1.0-py3-none-any (1).whl", "memnb-0.1.0-py3-none-any.whl"],
    ],
)
def test_the_installation_takes_the_newest_wheel_under_a_name_that_pip_takes(
    uploads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(uploads):
        (tmp_path / name).write_text(f"upload {number}")
        os.utime(tmp_path / name, (1_000_000 + number,) * 2)
    (wheel,) = installed_by_the_first_cell(tmp_path, monkeypatch)
    assert wheel.read_text() == f"upload {len(uploads) - 1}"
    name, version, _, _ = parse_wheel_filename(wheel.name)  # as pip does
    assert (name, str(version)) == ("memnb", uploads[-1].split("-")[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(uploads)


def test_parameters_are_typed_and_each_is_explained(notebook: Any) -> None:
    cells = [cell for cell in code(notebook) if "parameters" in tags(cell)]
    assert len(cells) == 1
    assert cells[0] is code(notebook)[1]
    lines = cells[0].source.splitlines()
    for line in lines:
        assert re.fullmatch(r"\w+: (str|int|bool|float) = \S+( \S+)?  # \S.*", line), line
    assert lines[0].startswith('preset: str = "stored"')
    assert lines[1].startswith('out: str = ""')


def test_every_figure_and_table_is_saved_under_a_plain_name_with_a_caption(notebook: Any) -> None:
    found = saves(notebook)
    assert found
    for call in found:
        name = call.args[1]
        assert isinstance(name, ast.Constant)
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", str(name.value))
        captions = [keyword.value for keyword in call.keywords if keyword.arg == "caption"]
        assert captions, f"{name.value} has no caption"
        caption = captions[0]
        if isinstance(caption, ast.Constant):
            assert str(caption.value).endswith(".")
            assert len(str(caption.value)) > 20


def test_a_saved_thing_is_the_value_of_its_cell(notebook: Any) -> None:
    for cell in code(notebook)[1:]:
        if "page.save(" in cell.source:
            assert cell.source.count("page.save(") == 1
            last = ast.parse(cell.source).body[-1]
            assert isinstance(last, ast.Expr)
            assert ast.unparse(last).startswith("page.save(")


def test_no_name_is_saved_twice_in_the_report() -> None:
    pictures: list[str] = []
    tables: list[str] = []
    for path in FILES:
        for call in saves(load(path)):
            module = ast.unparse(call.args[0]).partition(".")[0]
            kind = tables if module.endswith("tables") else pictures
            kind.append(ast.literal_eval(call.args[1]))
    assert len(set(pictures)) == len(pictures)
    assert len(set(tables)) == len(tables)


def test_only_checked_cells_keep_an_output(notebook: Any) -> None:
    for cell in code(notebook):
        if tags(cell) & CHECKED:
            assert tags(cell) >= CHECKED
            assert cell.execution_count is not None  # nbval compares no cell without one
            assert cell.outputs
            assert all(output.output_type == "stream" for output in cell.outputs)
            assert all(output.name == "stdout" for output in cell.outputs)
        else:
            assert cell.outputs == []


def test_pages_stay_thin(notebook: Any) -> None:
    functions = [node.name for node in ast.walk(python(notebook))
                 if isinstance(node, (ast.FunctionDef, ast.ClassDef))]  # fmt: skip
    # Only the maths that the first page spells out for its readers.
    # And the block that the page on your own memory writes before your eyes.
    own = {"Slots", "__init__", "forward"}
    assert set(functions) <= {"softmax", "cosine", "effective_rank"} | own


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seed": -1}, {"train": "no"}, {"preset": "x"}])
def test_the_page_of_your_memory_refuses_wrong_parameters_before_it_verifies_the_block(
    wrong: dict[str, Any], tmp_path: Path
) -> None:
    _, parameters, *cells = code(load(paths.notebooks() / "17_your_memory.ipynb"))
    names: dict[str, Any] = {}
    exec(parameters.source, names)
    names.update({"out": str(tmp_path), **wrong})
    with pytest.raises(MemnbError, match=next(iter(wrong))):
        exec("\n".join(cell.source for cell in cells), names)
    assert "verify" not in names


def test_links_between_pages_lead_somewhere() -> None:
    names = {path.name for path in FILES}
    linked = {
        target
        for path in FILES
        for cell in load(path).cells
        if cell.cell_type == "markdown"
        for target in re.findall(r"\]\(([^)#]+)\)", cell.source)
    }
    assert linked
    assert linked <= names


def test_the_retrieval_jump_is_explained_where_both_numbers_stand() -> None:
    text = "".join(cell.source for cell in load(paths.notebooks() / "01_accuracy.ipynb").cells)
    assert "57" in text
    assert "79" in text
    assert "more training steps" in text
    assert r"$[u, v, u \cdot v, u - v]$" in text


@pytest.mark.parametrize("name", ["00_start_here", "04_diagram", "07_memory_size"])
def test_the_single_row_is_explained(name: str) -> None:
    cells = load(paths.notebooks() / f"{name}.ipynb").cells
    text = " ".join(" ".join(cell.source for cell in cells if cell.cell_type == "markdown").split())
    assert "global pooling" in text
    assert "same vector" in text


def test_pages_load_no_torch_before_they_need_it() -> None:
    """Stored rows are drawn where there is none, and its import takes seconds."""
    imported = {
        ast.unparse(statement)
        for path in FILES
        for statement in python(load(path)).body
        if isinstance(statement, (ast.Import, ast.ImportFrom))
    }
    assert "from memnb.evidence import check" in " ".join(imported)
    look = "import sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*sorted(imported), look])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_only_three_pages_can_load_torch_at_all() -> None:
    """Not one function that the others may call imports it; those that draw these three without it
    are in tests/test_cli.py."""
    can = {path.stem for path in FILES if "torch" in reached(python(load(path)))}
    assert can == {"00_start_here", "16_explore", "17_your_memory"}


def reached(code: ast.Module) -> set[str]:
    """What ``code`` can import, within functions and through the modules of memnb as well; of
    PyTorch's modules ``torch`` alone.

    The package itself is left out: what it offers by name is loaded only when asked for.
    """
    found: set[str] = set()
    todo = imports(code)
    while todo:
        name = todo.pop()
        if name.partition(".")[0] == "torch":
            found.add("torch")
        elif name not in found:
            found.add(name)
            todo += imports_of(name)
    return found


@functools.cache
def imports_of(name: str) -> list[str]:
    """What a module within memnb imports; of any other name nothing."""
    first, *rest = name.split(".")
    if first != "memnb" or not rest:
        return []
    path = Path(memnb.__file__).parent.joinpath(*rest)
    files = (path.with_suffix(".py"), path / "__init__.py")
    text = next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")
    return imports(ast.parse(text))


def imports(code: ast.Module) -> list[str]:
    found = []
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, "memnb has no relative imports"
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_what_a_page_saves_is_what_the_manifest_promises() -> None:
    promised: dict[str, set[str]] = {}
    for artefact in manifest.load().artefacts:
        promised.setdefault(artefact.notebook, set()).update(artefact.outputs)
    for path in FILES:
        saved = {
            ast.literal_eval(call.args[1])
            + (".csv" if "table" in ast.unparse(call.args[0]).partition("(")[0] else ".png")
            for call in saves(load(path))
        }
        assert saved == promised[path.name], path.name


def test_the_files_are_stored_the_way_nbstripout_leaves_them() -> None:
    for path in FILES:
        content = json.loads(path.read_text(encoding="utf-8"))
        assert "version" not in content["metadata"]["language_info"]
        for cell in content["cells"]:
            assert not {"execution", "papermill"} & set(cell["metadata"])
