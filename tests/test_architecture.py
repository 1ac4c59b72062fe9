"""Which part of memnb may know which: the arrows of docs/design.md, who may load torch, and what
docstrings refer to."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import memnb

PACKAGE = Path(memnb.__file__).parent

GROUND = {"errors", "paths", "config", "files", "words"}
# Every import inside memnb, also one within a function, has to stand here.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "paths": {"errors"},
    "logs": set(),
    "files": set(),
    "words": set(),
    "config": {"errors"},
    "operations": {"config"},
    "naming": {"config"},
    "models": GROUND,
    "probes": GROUND | {"models"},
    "tasks": GROUND,
    "train": GROUND | {"models", "probes", "tasks", "operations"},
    "evidence": GROUND | {"naming"},
    "weights": GROUND | {"models", "probes", "tasks", "evidence"},
    "draw": GROUND | {"naming", "tasks", "evidence"},
    "explore": GROUND | {"naming", "models", "probes", "tasks", "evidence", "weights", "draw"},
    "reproduce": GROUND | {"naming", "logs", "tasks", "train", "evidence", "draw", "operations"},
    "sweep": GROUND | {"tasks", "train", "evidence", "reproduce"},
    "doctor": GROUND | {"tasks", "train", "evidence", "reproduce"},
    "runs": GROUND | {"models", "tasks", "train", "evidence", "weights"},
    "cli": GROUND
    | {"naming", "logs", "runs", "tasks", "train", "evidence", "weights", "draw", "reproduce"}
    | {"sweep", "doctor"},
    # The package itself offers a few names, loaded when asked for, and leads configs to own data.
    "__init__": {"config", "models", "tasks"},
    "__main__": {"cli"},
}
WITHOUT_TORCH = (
    "errors",
    "paths",
    "files",
    "words",
    "logs",
    "config",
    "operations",
    "naming",
    "tasks",
    "evidence",
    "draw",
    "explore",
    "reproduce",
    "sweep",
    "doctor",
    "runs",
    "cli",
)


def part_of(path: Path, package: Path) -> str:
    """The part a file belongs to: its top-level folder, or its own name."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def memnb_imports(path: Path, package: Path) -> Iterator[tuple[str, int]]:
    """(part, line) of everything in ``path`` that is imported from the package."""
    name = package.name
    parents = path.relative_to(package).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            full = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [name, *parents[: len(parents) - node.level + 1], *base]
            full = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for parts in full:
            if parts[0] == name and len(parts) > 1 and not parts[1].startswith("__"):
                yield parts[1], node.lineno


def arrows_pointing_up(package: Path) -> list[str]:
    """One line for every import that :data:`ARROWS` does not allow."""
    found = []
    for path in sorted(package.rglob("*.py")):
        part = part_of(path, package)
        for target, line in memnb_imports(path, package):
            if target != part and target not in ARROWS[part]:
                where = path.relative_to(package.parent)
                found.append(f"{where}:{line}: {part} imports {target}")
    return found


def test_every_import_goes_along_an_arrow():
    assert arrows_pointing_up(PACKAGE) == []


def test_the_arrows_have_no_cycle():
    settled: set[str] = set()
    waiting = dict(ARROWS)
    while waiting:
        ready = [part for part, below in waiting.items() if below <= settled]
        assert ready, f"a cycle among {sorted(waiting)}"
        settled.update(ready)
        for part in ready:
            del waiting[part]


def test_every_part_of_the_package_is_on_the_map():
    parts = {
        part_of(path, PACKAGE) for path in PACKAGE.rglob("*.py") if "_assets" not in path.parts
    }
    assert parts <= set(ARROWS)


def test_the_map_in_the_documents_is_this_one():
    text = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `")]
    named = {
        part: set(re.findall(r"`(\w+)`", below))
        for parts, _, below in rows
        for part in re.findall(r"`(\w+)`", parts)
    }
    expected = {
        part: below if part in ("operations", "naming") else below - GROUND
        for part, below in ARROWS.items()
        if not part.startswith("__")
    }
    assert named == expected


@pytest.mark.parametrize(
    ("file", "source", "message"),
    [
        ("models/a.py", "from memnb.train import loop", "models imports train"),
        ("tasks/a.py", "import memnb.models.network", "tasks imports models"),
        ("evidence/a.py", "def f():\n    from memnb import draw", "evidence imports draw"),
        ("draw/a.py", "from ..reproduce.page import Page", "draw imports reproduce"),
        ("errors.py", "from . import config", "errors imports config"),
    ],
)
def test_an_arrow_pointing_up_is_found(tmp_path: Path, file: str, source: str, message: str):
    path = tmp_path / "memnb" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert [line.split(": ", 1)[1] for line in arrows_pointing_up(tmp_path / "memnb")] == [message]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("models/a.py", "from memnb.models import attention\nfrom .attention import attend"),
        ("train/a.py", "from memnb import __version__, config\nfrom ..models import network"),
    ],
)
def test_an_allowed_arrow_is_not(tmp_path: Path, file: str, source: str):
    path = tmp_path / "memnb" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert arrows_pointing_up(tmp_path / "memnb") == []


# --- torch -----------------------------------------------------------------------------------

BRINGS_TORCH = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"importing {name} loads torch")
"""


def modules_of(part: str) -> list[str]:
    """The dotted names of all modules of ``part``."""
    files = [PACKAGE / f"{part}.py", *sorted((PACKAGE / part).rglob("*.py"))]
    names = [file.relative_to(PACKAGE.parent).with_suffix("") for file in files if file.exists()]
    return [".".join(name.parts).removesuffix(".__init__") for name in names]


def first_that_brings_torch(modules: list[str]) -> str:
    """The complaint of a fresh interpreter that imports ``modules``, or an empty string."""
    done = subprocess.run(
        [sys.executable, "-c", BRINGS_TORCH, *modules], capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    return done.stderr.strip()


def test_reading_and_drawing_never_load_torch():
    modules = [name for part in WITHOUT_TORCH for name in modules_of(part)]
    assert len(modules) > len(WITHOUT_TORCH)
    assert first_that_brings_torch(modules) == ""


def test_the_check_for_torch_sees_torch():
    assert first_that_brings_torch(["memnb.models.network"]).endswith("loads torch")


# --- what docstrings refer to ----------------------------------------------------------------

REFERENCE = re.compile(r":(?:func|mod|class|data|attr|meth|exc):`~?([\w.]+)`")


def names_in(module: ModuleType) -> set[str]:
    """What a docstring of ``module`` may name without saying where it is."""
    things = vars(module)
    classes = [thing for thing in things.values() if inspect.isclass(thing)]
    members = {name for one in classes for name in (*dir(one), *inspect.get_annotations(one))}
    return {*things, *members}


def leads_nowhere(name: str, near: set[str]) -> bool:
    """Whether a reference is neither among the names that are ``near`` nor the whole name of
    something."""
    if near.issuperset(name.split(".")):
        return False
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return True
    return "." not in name and name not in sys.stdlib_module_names


def references_to_nowhere(module: ModuleType) -> list[str]:
    """The references in the file of ``module`` that are out of date."""
    assert module.__file__ is not None
    near = names_in(module)
    found = REFERENCE.findall(Path(module.__file__).read_text(encoding="utf-8"))
    return [name for name in found if leads_nowhere(name, near)]


def test_every_reference_in_a_docstring_leads_somewhere():
    modules = [name for part in ARROWS if not part.startswith("__") for name in modules_of(part)]
    found = {name: references_to_nowhere(importlib.import_module(name)) for name in modules}
    assert len(found) > len(ARROWS)
    assert {name: lost for name, lost in found.items() if lost} == {}


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("part_of", False),
        ("memnb.config.Run.run_id", False),
        ("memnb.draw.figures", False),
        ("no_such_function", True),
        ("memnb.draw.figures.no_such_figure", True),
        ("memnb.no_such_module.part_of", True),
    ],
)
def test_a_reference_to_nowhere_is_found(name: str, lost: bool):
    assert leads_nowhere(name, names_in(sys.modules[__name__])) == lost
