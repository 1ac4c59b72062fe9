"""The manifest is checked before anything runs, and the committed one is right."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from tiny_notebooks import write_notebook

from memnb.errors import MemnbError
from memnb.reproduce import manifest

GOOD = """
[[artefact]]
id = "tiny"
title = "A tiny table"
see = "One row."
notebook = "tiny.ipynb"
claims = ["C1"]
sets = ["table"]
outputs = ["tiny.csv", "tiny-picture.png"]
[artefact.quick]
level = 3
"""
PARAMETERS = 'preset: str = "stored"\nout: str = ""\nlevel: float = 0.5  # a number\nflag = True'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_notebook(tmp_path / "tiny.ipynb", "1", parameters=PARAMETERS)
    write_notebook(tmp_path / "other.ipynb", "1", parameters=PARAMETERS)
    return tmp_path


def load(folder: Path, text: str) -> manifest.Manifest:
    (folder / "manifest.toml").write_text(text, encoding="utf-8")
    return manifest.load(folder / "manifest.toml")


def test_a_good_manifest(folder: Path) -> None:
    tiny = load(folder, GOOD).select()[0]
    assert tiny.parameters("quick", Path("/x y")) == {"preset": "quick", "out": "/x y", "level": 3}
    assert tiny.parameters("stored", Path("/x")) == {"preset": "stored", "out": "/x"}
    assert [path.relative_to("/r").as_posix() for path in tiny.files(Path("/r"))] == [
        "tables/tiny.csv",
        "tables/tiny.md",
        "figures/tiny-picture.png",
        "figures/tiny-picture.svg",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('see = "', 'sea = "'), r"Artefact 'tiny' .*setting named 'sea'; did you mean 'see'"),
        (('title = "A tiny table"\n', ""), r"'tiny' .*needs a value for 'title'"),
        (('claims = ["C1"]', 'claims = ["C9"]'), r"'tiny' .*claims"),
        (('sets = ["table"]', 'sets = ["tabel"]'), r"'tabel'; did you mean 'table'"),
        (('"tiny.csv"', '"../tiny.csv"'), r"output name '../tiny' must be"),
        (('"tiny.csv"', '"Tiny.csv"'), r"output name 'Tiny' must be"),
        (('"tiny.csv"', '"tiny.svg"'), r"'tiny' .*end in .png .* but got 'tiny.svg'"),
        (('"tiny.csv"', '"tiny"'), r"'tiny' .*end in .png .* but got 'tiny'"),
        (('"tiny.csv"', '"tiny.csv", "tiny.csv"'), r"the output 'tiny.csv' twice"),
        (('id = "tiny"', 'id = "a b"'), r"artefact name 'a b' must be"),
        (('"tiny.ipynb"', '"tinny.ipynb"'), r"'tinny.ipynb'; did you mean 'tiny.ipynb'"),
        (('"tiny.ipynb"', '"../tiny.ipynb"'), r"plain name of an .ipynb file"),
        (("level = 3", "levl = 3"), r"parameter of tiny.ipynb named 'levl'; did you mean 'level'"),
        (("level = 3", 'level = "3"'), r"'level' of tiny.ipynb is of type float .* but got '3'"),
        (("level = 3", "flag = 1"), r"'flag' of tiny.ipynb is of type bool .* but got 1"),
        (("level = 3", 'out = "elsewhere"'), r"'out' is what every notebook is given by the comm"),
        (("level = 3", 'preset = "paper"'), r"'preset' is what every notebook .* leave it out"),
        (("[[artefact]]", "[[artifact]]"), r"'artifact'; did you mean 'artefact'"),
        (("[[artefact]]", "[[artefact"), r"not valid TOML"),
        (("[[artefact]]", "[artefact]"), r"names no artefact"),
        ((GOOD, ""), r"names no artefact"),
        ((GOOD, "artefact = [1]"), r"Artefact 1 of the manifest must be a table"),
    ],
)
def test_a_mistake_is_named(folder: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(MemnbError, match=message):
        load(folder, GOOD.replace(*change, 1))


@pytest.mark.parametrize(("value", "fits"), [(1, True), (True, False), (1.0, False)])
def test_yes_is_no_number(value: bool | int | float, fits: bool) -> None:
    """Though Python takes it for one."""
    if fits:
        manifest.check_parameters({"seed": 0}, {"seed": value}, "tiny.ipynb")
        return
    with pytest.raises(MemnbError, match=r"'seed' of tiny\.ipynb is of type int \(default 0\)"):
        manifest.check_parameters({"seed": 0}, {"seed": value}, "tiny.ipynb")


def test_repeated_ids_and_outputs_are_refused(folder: Path) -> None:
    again = GOOD.replace("tiny.ipynb", "other.ipynb")
    with pytest.raises(MemnbError, match="the id 'tiny' twice"):
        load(folder, GOOD + again)
    with pytest.raises(MemnbError, match=r"the output 'tiny\.csv' twice"):
        load(folder, GOOD + again.replace('id = "tiny"', 'id = "other"'))


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(MemnbError, match=r"Cannot read the manifest .*No such file"):
        manifest.load(tmp_path / "manifest.toml")


def test_selecting(folder: Path) -> None:
    other = GOOD.replace("tiny.ipynb", "other.ipynb").replace('"tiny', '"other')
    both = load(folder, GOOD + other)
    assert [each.id for each in both.select()] == ["tiny", "other"]
    assert [each.id for each in both.select(["other"])] == ["other"]
    # The order is the report's, whatever was asked for first.
    assert [each.id for each in both.select(["other", "tiny"])] == ["tiny", "other"]
    with pytest.raises(MemnbError, match="artefact named 'othr'; did you mean 'other'"):
        both.select(["tiny", "othr"])


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("level: int = 1 +", "invalid syntax"),
        ("level = int(3)", "malformed"),
        ("import os", "line 1 is not an assignment"),
        ("level: int", "line 1 is not an assignment"),
        ("a.b = 1", "line 1 does not assign to one name"),
        ("a = b = 1", "line 1 is not an assignment"),
    ],
)
def test_a_parameters_cell_holds_literals_only(tmp_path: Path, cell: str, message: str) -> None:
    notebook = manifest.read_notebook(write_notebook(tmp_path / "a.ipynb", parameters=cell))
    with pytest.raises(MemnbError, match=message):
        manifest.read_parameters(notebook, "a.ipynb")


@pytest.mark.parametrize("content", ["", "[]", '{"cells": 3}', "\xff"])
def test_a_file_that_is_no_notebook(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.ipynb"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(MemnbError, match=r"a\.ipynb"):
        manifest.read_notebook(path)


# --- the committed manifest and notebooks ----------------------------------------------------


def test_every_claim_and_every_notebook_is_in_the_manifest() -> None:
    committed = manifest.load()
    served = {claim for artefact in committed.artefacts for claim in artefact.claims}
    assert {"C1", "C2", "C3", "C4"} <= served
    notebooks = {path.name for path in committed.folder.glob("*.ipynb")}
    assert notebooks == {artefact.notebook for artefact in committed.artefacts}


def test_each_notebook_saves_what_the_manifest_promises() -> None:
    committed = manifest.load()
    for artefact in committed.artefacts:
        source = code(manifest.read_notebook(committed.notebook(artefact)))
        assert re.search(rf'Page\(\s*"{artefact.id}"', source), artefact.notebook
        promised = [Path(name).stem for name in artefact.outputs]
        assert saved_names(source) == promised, artefact.notebook


def code(notebook: dict[str, Any]) -> str:
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    source = "\n".join("".join(cell["source"]) for cell in cells)
    return re.sub(r"^(\s*)%.*$", r"\1pass", source, flags=re.MULTILINE)  # magic commands


def saved_names(source: str) -> list[Any]:
    """The names in all calls of ``page.save(..., "name")``, from top to bottom."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    saves = [call for call in calls if ast.unparse(call.func) == "page.save"]
    saves.sort(key=lambda call: call.lineno)
    return [ast.literal_eval(call.args[1]) for call in saves]
