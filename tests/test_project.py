"""The files around the package agree with each other: setup, lock, conda, make, citation, prose."""

from __future__ import annotations

import ast
import errno
import importlib.util
import os
import re
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import memnb
from memnb import paths

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"


def load(path: Path) -> ModuleType:
    """The module in a file that lies outside the package."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture
def bootstrap() -> ModuleType:
    return load(TOOLS / "bootstrap.py")


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    return load(TOOLS / "lock.py")


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )


def script(path: Path, text: str) -> Path:
    """An executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def one_sentence(text: str) -> bool:
    """One line, no traceback."""
    return text.startswith("memnb: ") and text.count("\n") == 1 and "Traceback" not in text


# --- setup -----------------------------------------------------------------------------------


def test_the_bootstrap_is_readable_by_python_2():
    tree = ast.parse((TOOLS / "bootstrap.py").read_text())
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, newer)]
    assert not [node.name for node in functions if node.args.kwonlyargs or node.returns]
    assert not [
        item.lineno for item in ast.walk(tree) if isinstance(item, ast.Raise) and item.cause
    ]
    assert (TOOLS / "bootstrap.py").read_text().isascii()


def old_pythons() -> list[str]:
    """Interpreters of this machine that are too old, whatever installed them."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    folders += sorted(Path.home().glob(".pyenv/versions/*/bin"))
    found: dict[str, str] = {}
    for folder in folders:
        for name in ("python2.7", "python3.6", "python3.8", "python3.9", "python3.10"):
            path = folder / name
            if (
                name not in found
                and os.access(path, os.X_OK)
                and not run(path, "-c", "").returncode
            ):
                found[name] = str(path)
    return list(found.values())


def test_an_old_python_gets_one_sentence(bootstrap, monkeypatch, capsys, tmp_path):
    for python in old_pythons():
        done = run(python, TOOLS / "bootstrap.py", "--exact", cwd=tmp_path)
        assert done.returncode == 1
        assert one_sentence(done.stderr)
        assert "Python 3.11 or newer is needed" in done.stderr
    # A machine without an old interpreter: this one passes for one.
    monkeypatch.setattr(bootstrap, "OLDEST", (99, 0))
    assert bootstrap.main(["--exact"], str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert one_sentence(error)
    assert "Python 99.0 or newer is needed" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_gets_one_sentence(bootstrap, monkeypatch, capsys, tmp_path, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert bootstrap.main(["--exact"], str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert one_sentence(error)
    assert f"no '{module}' module" in error
    assert "python3-venv" in error


def test_a_newer_python_on_the_path_is_used(bootstrap, monkeypatch, tmp_path):
    """Shims that fail and interpreters that are too old are passed over."""
    script(tmp_path / "shims" / "python3.12", "#!/bin/sh\nexit 127\n")
    script(tmp_path / "old" / "python3", "#!/bin/sh\nexit 1\n")
    good = script(tmp_path / "good" / "python3.13", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path = os.pathsep.join(str(tmp_path / name) for name in ("missing", "shims", "old", "good"))
    assert bootstrap.find_python(path) == str(good)

    called = []
    monkeypatch.setattr(bootstrap, "complaint_about_this_python", lambda: "too old")
    monkeypatch.setattr(bootstrap.os, "execv", lambda *arguments: called.append(arguments))
    monkeypatch.setenv("PATH", path)
    bootstrap.choose_interpreter(exact=False)
    assert called == [(str(good), [str(good), str(TOOLS / "bootstrap.py"), "--exact"])]


def test_a_python_that_was_named_is_not_replaced(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, "complaint_about_this_python", lambda: "too old")
    with pytest.raises(bootstrap.SetupError, match="too old"):
        bootstrap.choose_interpreter(exact=True)


def test_a_full_disk_gets_one_sentence(bootstrap, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bootstrap, "free_gb", lambda folder: 0.4)
    assert bootstrap.main(["--exact"], str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert one_sentence(error)
    assert "needs 3.0 GB of disk, but only 0.4 GB are free" in error
    assert not (tmp_path / ".venv").exists()


def test_a_folder_that_cannot_be_written_to_gets_one_sentence(bootstrap, capsys, tmp_path):
    # A folder that is not there is refused even for root, who may write everywhere.
    assert bootstrap.main(["--exact"], str(tmp_path / "gone")) == 1
    error = capsys.readouterr().err
    assert one_sentence(error)
    assert "cannot be written to (No such file or directory)" in error


def test_a_disk_that_fills_up_on_the_way_gets_one_sentence(
    bootstrap, monkeypatch, capsys, tmp_path
):
    def full(environment: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bootstrap.Environment, "create", full)
    assert bootstrap.main(["--exact"], str(tmp_path)) == 1
    error = capsys.readouterr().err
    assert one_sentence(error)
    assert "the disk filled up" in error


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: [Errno 28] No space left on device\n", "the disk filled up while installing"),
        ("Retrying after NewConnectionError(...)\n", "the package index could not be reached"),
        (
            "ERROR: No matching distribution found for torch==9\n",
            "pip finds no torch==9 for Python",
        ),
        ("a\nERROR: wheel is damaged\n\n", "the installation failed: ERROR: wheel is damaged"),
    ],
)
def test_a_failed_installation_gets_one_sentence(bootstrap, tmp_path, output, sentence):
    explained = bootstrap.Environment(str(tmp_path)).explain(output)
    assert explained.startswith(sentence)
    assert "\n" not in explained


def test_a_folder_in_the_way_is_left_alone(bootstrap, capsys, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "thesis.tex").write_text("years of work")
    assert bootstrap.main(["--exact"], str(tmp_path)) == 1
    assert "is in the way" in capsys.readouterr().err
    assert (tmp_path / ".venv" / "thesis.tex").read_text() == "years of work"


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """A project with an empty lock, so that its whole setup is quick and needs no network."""
    root = tmp_path / "a project"
    (root / "tiny").mkdir(parents=True)
    (root / "requirements.lock").write_text("# nothing\n")
    (root / "tiny" / "__init__.py").write_text("")
    (root / "backend.py").write_text(
        "import zipfile\n"
        "def build_editable(folder, settings=None, metadata=None):\n"
        "    name = 'tiny-1-py3-none-any.whl'\n"
        "    info = 'tiny-1.dist-info/'\n"
        "    with zipfile.ZipFile(folder + '/' + name, 'w') as wheel:\n"
        "        wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny\\n"
        "Version: 1\\n')\n"
        "        wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n"
        "Tag: py3-none-any\\n')\n"
        "        wheel.writestr(info + 'RECORD', '')\n"
        "    return name\n"
    )
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "tiny"\nversion = "1"\n'
    )
    return root


def test_setup_installs_and_starts_afresh_after_a_kill(bootstrap, capsys, small_project):
    environment = bootstrap.Environment(str(small_project))
    left_over = small_project / ".venv" / "left-over.txt"
    wheel = small_project / "locked-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("locked.py", "")
        file.writestr(
            "locked-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: locked\nVersion: 1\n"
        )
        file.writestr("locked-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr("locked-1.dist-info/RECORD", "")
    (small_project / "requirements.lock").write_text(f"locked @ {wheel.as_uri()}\n")

    assert bootstrap.main(["--exact"], str(small_project)) == 0, capsys.readouterr().err
    assert Path(environment.installed).exists()
    assert not Path(environment.installing).exists()
    assert run(environment.python, "-m", "pip", "show", "tiny").returncode == 0
    (module,) = Path(environment.folder).glob("lib/python*/site-packages/locked.py")
    assert Path(importlib.util.cache_from_source(str(module))).exists()

    # A setup that was killed leaves its mark: nothing of it is built on.
    left_over.write_text("half a package")
    Path(environment.installing).touch()
    assert bootstrap.main(["--exact"], str(small_project)) == 0
    assert not left_over.exists()

    # A complete one is kept and only brought up to date.
    left_over.write_text("the user's own")
    assert bootstrap.main(["--exact"], str(small_project)) == 0
    assert left_over.exists()


def test_a_failed_setup_leaves_no_stamp(bootstrap, capsys, small_project):
    (small_project / "requirements.lock").write_text("no-such-file @ file:///nowhere/x.whl\n")
    assert bootstrap.main(["--exact"], str(small_project)) == 1
    error = capsys.readouterr().err
    assert one_sentence(error)
    assert "the installation failed" in error
    assert not Path(bootstrap.Environment(str(small_project)).installed).exists()


def test_an_interrupt_is_not_a_traceback(bootstrap, monkeypatch, capsys, tmp_path):
    def interrupted(root: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "check_folder", interrupted)
    assert bootstrap.main(["--exact"], str(tmp_path)) == 130
    assert "run make again" in capsys.readouterr().err


# --- requirements ----------------------------------------------------------------------------


def locked() -> dict[str, Version]:
    """Package name -> version of requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_the_lock_holds_exact_public_versions_and_nothing_else():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert lines[0].startswith("#")
    assert "make lock" in lines[0]
    assert [line for line in lines[1:] if not re.fullmatch(r"[\w.-]+==\d[\w.]*", line)] == []
    assert lines[1:] == sorted(lines[1:], key=str.lower)


def test_the_lock_forces_no_accelerator():
    assert [name for name in locked() if re.match(r"nvidia|cuda|triton|memnb", name)] == []


def test_the_lock_satisfies_every_requirement(lock):
    pins = locked()
    for text in lock.requirements(ROOT / "pyproject.toml"):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in requirements.lock; run make lock"
        assert requirement.specifier.contains(pins[name]), f"{text}, but {pins[name]} is locked"


def test_the_tests_run_on_the_locked_versions():
    """What passes here is what a stranger installs."""
    from importlib.metadata import version

    checked = ("torch", "numpy", "pandas", "scipy", "matplotlib", "pydantic", "papermill", "pytest")
    pins = locked()
    assert {name: Version(version(name)).public for name in checked} == {
        name: str(pins[name]) for name in checked
    }


def test_the_lock_suits_the_oldest_python(pyproject):
    """Some releases ask for a patch level of 3.11 that Debian's Python, say, does not have."""
    from importlib.metadata import PackageNotFoundError, metadata

    asked = pyproject["project"]["requires-python"]
    assert asked == ">=3.11"
    demanding = {}
    for name in locked():
        try:
            needed = metadata(name).get("Requires-Python")
        except PackageNotFoundError:  # a package for another platform or Python
            continue
        if needed and not SpecifierSet(needed).contains("3.11.0"):
            demanding[name] = needed
    assert demanding == {}


def test_pins_of_a_freeze(lock):
    frozen = ["b==2", "A==1.0", "torch==2.13.0+cpu", "nvidia-nccl-cu12==2", "-e git+x@y#egg=memnb"]
    assert lock.pins([*frozen, "memnb==0.1.0", "triton==3", "p @ file:///x"]) == [
        "A==1.0",
        "b==2",
        "torch==2.13.0",
    ]


def test_requirements_have_floors_and_no_caps(pyproject):
    project = pyproject["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    for text in (text for group in groups for text in group):
        operators = [specifier.operator for specifier in Requirement(text).specifier]
        assert operators == [">="], f"{text}: one floor, no cap"


def test_what_is_installed_with_memnb_is_imported_by_it(pyproject):
    sources = [path.read_text() for path in (ROOT / "memnb").rglob("*.py")]
    for text in pyproject["project"]["dependencies"]:
        name = {"pillow": "PIL"}.get(Requirement(text).name, Requirement(text).name)
        statement = re.compile(rf"^\s*(?:import|from) {name}\b", re.MULTILINE)
        assert any(map(statement.search, sources)), f"nothing in memnb imports {name}"


CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "seaborn": "seaborn-base",
    "nbconvert": "nbconvert-core",
}


def test_the_conda_environment_asks_for_what_pyproject_asks_for(pyproject):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    project = pyproject["project"]
    wanted = set()
    for text in project["dependencies"] + project["optional-dependencies"]["notebooks"]:
        requirement = Requirement(text)
        wanted.add(f"{CONDA_NAMES.get(requirement.name, requirement.name)}{requirement.specifier}")
    listed = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert {*listed} - {"python=3.12", "pip"} == wanted
    assert len(listed) == len(wanted) + 2
    assert environment["channels"] == ["conda-forge"]
    assert environment["dependencies"][-1] == {"pip": ["-e ."]}
    assert Requirement(f"python{pyproject['project']['requires-python']}").specifier.contains(
        "3.12"
    )


def test_binder_reads_the_environment_at_the_root():
    # A folder of this name would take its place.
    assert not (ROOT / "binder").exists()
    assert not (ROOT / ".binder").exists()


# --- make, pre-commit, CI --------------------------------------------------------------------


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``make`` in the project, without what an outer make (as in ``make test``) passes on."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    for key in ("MFLAGS", "PRESET", "ONLY", "OUT", "JOBS", "PYTHON"):
        inherited.pop(key, None)
    return run(
        "make", "--no-print-directory", *arguments, cwd=ROOT, env={**inherited, **environment}
    )


def test_make_alone_lists_every_target():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    listed = [line.split()[1] for line in make().stdout.splitlines()]
    assert listed == targets
    assert {"setup", "reproduce", "test", "lint", "lab", "clean", "lock", "wheel"} <= set(targets)


def test_make_reproduce_passes_its_choices_on():
    plain = make("-n", "reproduce").stdout.splitlines()[-1].split()
    assert plain == [".venv/bin/memnb", "reproduce"]
    chosen = make("-n", "reproduce", "PRESET=stored", "ONLY=accuracy", "OUT=a b", "JOBS=2")
    words = '--preset "stored" --only "accuracy" --out "a b" --jobs "2"'
    assert " ".join(chosen.stdout.split()).endswith(f".venv/bin/memnb reproduce {words}")


def test_make_takes_the_python_that_was_named():
    named = make("-n", "-W", "requirements.lock", "setup", "PYTHON=/opt/my python").stdout
    assert '"/opt/my python" tools/bootstrap.py --exact' in named
    assert "--exact" not in make("-n", "-W", "requirements.lock", "setup").stdout


def test_make_without_any_python_says_so(tmp_path):
    for name in ("make", "test", "sh", "awk", "echo"):
        source = run("sh", "-c", f"command -v {name}").stdout.strip()
        if source.startswith("/"):
            (tmp_path / name).symlink_to(source)
    done = make("-W", "requirements.lock", "setup", PATH=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.startswith("memnb: Python 3.11 or newer is needed, but there is no python3")
    assert "Traceback" not in done.stderr


def test_ci_runs_the_tests_that_a_user_runs():
    path = ROOT / ".ci" / "run"
    assert path.stat().st_mode & stat.S_IXUSR
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1] == "set -euo pipefail"
    assert lines[-1] == "make test"


def test_pre_commit_and_make_lint_check_the_same():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for entry in config["repos"] for hook in entry["hooks"]}
    assert {hook["language"] for hook in hooks.values()} == {"system"}
    lint = " ".join(make("-n", "lint").stdout.split())
    for hook in hooks.values():
        tool = hook["entry"].split()[0]
        assert f".venv/bin/{tool}" in lint
    keys = re.search(r'--extra-keys "([^"]+)"', " ".join(hooks["nbstripout"]["entry"].split()))
    assert keys is not None
    assert f'--keep-count --extra-keys "{keys[1]}"' in lint


# --- prose -----------------------------------------------------------------------------------


def text_files() -> list[Path]:
    """The project's own texts, as git would take them: tracked, or new and not ignored."""
    listed = run(
        "git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT
    ).stdout.splitlines()
    paths = [ROOT / name for name in listed]
    if not paths:  # an unpacked source distribution
        paths = [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    kinds = {".py", ".md", ".toml", ".yml", ".yaml", ".cff", ".ipynb", ".json", ".csv", ".lock", ""}
    return [path for path in paths if path.suffix in kinds and path.is_file()]


def test_no_file_knows_the_machine_it_was_written_on():
    pattern = re.compile(r"(?<![\w.])/(?:home|Users|root|work|tmp)/\w+|\bfile:///(?!nowhere|x\b)\w")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in text_files()
        if path != Path(__file__)
        for match in pattern.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


def test_citation_names_this_version_and_the_paper(pyproject):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == memnb.__version__
    assert citation["license"] == pyproject["project"]["license"] == "MIT"
    paper = citation["preferred-citation"]
    assert [author["family-names"] for author in paper["authors"]] == [
        "Yorsh",
        "Holeňa",
        "Bojar",
        "Herel",
    ]
    assert paper["url"].endswith("2404.00798")
    assert f"## {memnb.__version__}" in (ROOT / "CHANGELOG.md").read_text()


MARKDOWN = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_the_readme_names_real_targets_and_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)\b", text, flags=re.MULTILINE))
    assert {"reproduce", "test"} <= named <= targets
    assert text.count("<!-- results:start -->") == text.count("<!-- results:end -->") == 1


def test_the_help_says_the_times_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"^\| `make reproduce.*\| (\d+ to \d+ minutes) \|$", readme, re.MULTILINE)
    help_of = (ROOT / "memnb" / "cli" / "training.py").read_text(encoding="utf-8")
    assert re.findall(r"\((\d+ to \d+ minutes)", help_of) == said
    assert len(said) == 2


@pytest.fixture(scope="module")
def where_a_module_writes():
    return [paths.data_cache(), paths.output()]


def test_what_a_module_prepares_stays_out_of_the_checkout(where_a_module_writes):
    assert not any(folder.is_relative_to(ROOT) for folder in where_a_module_writes)
