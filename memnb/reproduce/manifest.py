"""The manifest: artefact -> notebook, parameters, runs, outputs. A typed view of one TOML file.

An artefact is what a reader asks for: a table, a figure, a page. Everything that a mistake in the
file could break later is refused here, before anything runs.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from memnb import paths
from memnb.config import Config
from memnb.errors import MemnbError, unknown
from memnb.reproduce.plan import PRESETS, SETS

Value = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]
Parameters = dict[str, Value]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Claims = Annotated[tuple[Literal["C1", "C2", "C3", "C4", "C5"], ...], Field(strict=False)]

_SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
# Suffix in the manifest -> folder in the report, and the suffix of the same thing's second file.
_OUTPUTS = {".png": ("figures", ".svg"), ".csv": ("tables", ".md")}
_NOTEBOOK = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}\.ipynb")
_GIVEN = {"preset", "out"}


class Artefact(Config):
    """One entry of the manifest.

    Attributes:
        id: the name on the command line and in the report.
        title: the heading in the report.
        see: one sentence: what to see in it.
        notebook: file name, beside the manifest.
        claims: the claims it serves.
        sets: sets of runs it reads (:data:`memnb.reproduce.plan.SETS`).
        outputs: what it saves, in the order of the report: ``name.png`` for a figure (which is
            an SVG file as well), ``name.csv`` for a table (which is a Markdown file as well).
        seconds: about how long the notebook takes on two cores in the stored preset.
        timeout: seconds that one cell may take before the notebook counts as hanging.
        stored, quick, paper: parameters under that preset; ``preset`` and ``out`` are added.
    """

    id: str
    title: str
    see: str
    notebook: str
    claims: Claims = ()
    sets: Names = ()
    outputs: Names = ()
    seconds: Annotated[float, Field(gt=0)] = 10.0
    timeout: Annotated[int, Field(ge=1)] = 600
    stored: Parameters = Field(default_factory=dict)
    quick: Parameters = Field(default_factory=dict)
    paper: Parameters = Field(default_factory=dict)

    def parameters(self, preset: str, out: Path) -> Parameters:
        """The parameters that the notebook is given under ``preset``."""
        own: Parameters = getattr(self, preset)
        return {"preset": preset, "out": str(out), **own}

    def files(self, report: Path) -> list[Path]:
        """The files that executing the notebook has to write, in the order of ``outputs``."""
        found = []
        for name in self.outputs:
            folder, second = _OUTPUTS[Path(name).suffix]
            path = report / folder / name
            found += [path, path.with_suffix(second)]
        return found


class Manifest:
    """The artefacts, in the order of the report."""

    def __init__(self, artefacts: Sequence[Artefact], folder: Path) -> None:
        self.artefacts = tuple(artefacts)
        self.folder = folder

    def notebook(self, artefact: Artefact) -> Path:
        """Where the notebook of an artefact is."""
        return self.folder / artefact.notebook

    def select(self, ids: Iterable[str] = ()) -> list[Artefact]:
        """The artefacts of those ids, in the order of the report; all of them for no id.

        Raises:
            MemnbError: no such artefact.
        """
        wanted = list(ids)
        known = [artefact.id for artefact in self.artefacts]
        for name in wanted:
            if name not in known:
                raise unknown("artefact", name, known)
        return [artefact for artefact in self.artefacts if not wanted or artefact.id in wanted]


def load(path: Path | None = None) -> Manifest:
    """Read and check the manifest.

    Args:
        path: the TOML file; by default the one beside the notebooks.

    Raises:
        MemnbError: the file is missing, is no TOML, or an entry is wrong: an unknown key, a
            notebook that is not there, a parameter that the notebook does not have or of another
            type, an unsafe or repeated name.
    """
    path = path or paths.notebooks() / "manifest.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MemnbError(f"Cannot read the manifest {path}: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MemnbError(f"The manifest {path} is not valid TOML: {error}.") from None
    for key in content:
        if key != "artefact":
            raise unknown("table in the manifest", key, ["artefact"])
    entries = content.get("artefact", [])
    if not isinstance(entries, list) or not entries:
        raise MemnbError(f"The manifest {path} names no artefact; add an [[artefact]] table.")
    artefacts = [_entry(values, number) for number, values in enumerate(entries, start=1)]
    for artefact in artefacts:
        _check(artefact, path.parent)
    _refuse_repeats("id", [artefact.id for artefact in artefacts])
    _refuse_repeats("notebook", [artefact.notebook for artefact in artefacts])
    _refuse_repeats("output", [name for artefact in artefacts for name in artefact.outputs])
    return Manifest(artefacts, path.parent)


def safe_name(kind: str, name: str) -> str:
    """``name`` itself, if it can stand in a file name on every system.

    Raises:
        MemnbError: it holds anything but lower-case letters, digits and ``-``.
    """
    if not _SAFE_NAME.fullmatch(name):
        raise MemnbError(
            f"The {kind} name {name!r} must be lower-case letters, digits and '-' (60 at most), "
            "starting with a letter or digit; rename it."
        )
    return name


def _entry(values: Any, number: int) -> Artefact:
    if not isinstance(values, dict):
        raise MemnbError(f"Artefact {number} of the manifest must be a table ([[artefact]]).")
    name = values.get("id", f"number {number}")
    try:
        # A misspelt key is also a missing one: the misspelling says more.
        for key in values:
            if key not in Artefact.model_fields:
                raise unknown("setting", key, Artefact.model_fields)
        return Artefact.of(values)
    except MemnbError as error:
        raise MemnbError(f"Artefact '{name}' of the manifest: {error}") from None


def _check(artefact: Artefact, folder: Path) -> None:
    where = f"Artefact '{artefact.id}' of the manifest"
    safe_name("artefact", artefact.id)
    for name in artefact.outputs:
        stem, dot, suffix = name.rpartition(".")
        if dot + suffix not in _OUTPUTS:
            raise MemnbError(
                f"{where}: an output must end in .png (a figure) or .csv (a table), but got "
                f"{name!r}; give it one of these endings."
            )
        safe_name("output", stem)
    for name in artefact.sets:
        if name not in SETS:
            raise unknown("set of runs", name, SETS)
    if not _NOTEBOOK.fullmatch(artefact.notebook):
        raise MemnbError(
            f"{where}: the notebook must be the plain name of an .ipynb file in lower case, but "
            f"got {artefact.notebook!r}; rename it."
        )
    path = folder / artefact.notebook
    if not path.is_file():
        there = sorted(file.name for file in folder.glob("*.ipynb"))
        raise unknown("notebook", artefact.notebook, there or ["(none)"])
    known = read_parameters(read_notebook(path), path.name)
    for preset in PRESETS:
        own: Parameters = getattr(artefact, preset)
        taken = sorted(own.keys() & _GIVEN)
        if taken:
            raise MemnbError(
                f"{where}: '{taken[0]}' is what every notebook is given by the command, but "
                f"[artefact.{preset}] sets it; leave it out."
            )
        check_parameters(known, artefact.parameters(preset, folder), path.name)


def _refuse_repeats(kind: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise MemnbError(f"The manifest gives the {kind} '{name}' twice; rename one of them.")


# --- a notebook's parameters -----------------------------------------------------------------


def read_notebook(path: Path) -> dict[str, Any]:
    """The notebook as plain JSON, enough to look at its cells.

    Raises:
        MemnbError: the file is missing or is not a notebook.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MemnbError(f"Cannot read the notebook {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise MemnbError(f"The notebook {path} is damaged: {error}.") from None
    if not isinstance(content, dict) or not _are_cells(content.get("cells")):
        raise MemnbError(f"The notebook {path} has no cells; it is not a Jupyter notebook.")
    return content


def _are_cells(cells: Any) -> bool:
    """Whether ``cells`` has the form that a notebook's cells have, as far as it is used here."""
    return isinstance(cells, list) and all(
        isinstance(cell, dict)
        and isinstance(cell.get("cell_type"), str)
        and isinstance(cell.get("metadata"), dict)
        and isinstance(cell["metadata"].get("tags", []), list)
        and isinstance(cell.get("source"), str | list)
        and all(isinstance(line, str) for line in cell["source"])
        for cell in cells
    )


def read_parameters(notebook: dict[str, Any], name: str) -> Parameters:
    """The names and default values in the cell tagged ``parameters``.

    Raises:
        MemnbError: there is no such cell, or it holds more than ``name: type = literal`` lines.
    """
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            return _assignments("".join(cell["source"]), name)
    raise MemnbError(f"{name} has no cell tagged 'parameters'; tag the cell that sets them.")


def _assignments(source: str, name: str) -> Parameters:
    found: Parameters = {}
    try:
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.AnnAssign) and statement.value is not None:
                target: ast.expr = statement.target
            elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                target = statement.targets[0]
            else:
                raise ValueError(f"line {statement.lineno} is not an assignment")
            if not isinstance(target, ast.Name):
                raise ValueError(f"line {statement.lineno} does not assign to one name")
            found[target.id] = ast.literal_eval(statement.value)  # type: ignore[arg-type]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        # The last three are what Python's parser makes of deep nesting and of odd literals.
        raise MemnbError(
            f"The parameters cell of {name} must hold lines such as 'seed: int = 0' and nothing "
            f"else: {error}."
        ) from None
    return found


def check_parameters(known: Parameters, given: Parameters, name: str) -> None:
    """Refuse a parameter that the notebook does not have, or a value of another type.

    Raises:
        MemnbError: which parameter, and which was probably meant.
    """
    for key, value in given.items():
        if key not in known:
            raise unknown(f"parameter of {name}", key, known)
        default = known[key]
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            raise MemnbError(
                f"The parameter '{key}' of {name} is of type {type(default).__name__} "
                f"(default {default!r}), but got {value!r}; give one of this type."
            )
