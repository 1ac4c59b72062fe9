"""memnb without a checkout: what its wheel carries, and that it runs from there, as on Colab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_run

ROOT = Path(__file__).resolve().parent.parent
CARRIED = ("notebooks", "data/results", "data/reference", "data/weights")
# What lies about in a working copy and is nobody else's.
JUNK = (
    "notebooks/.ipynb_checkpoints/junk-checkpoint.ipynb",
    "data/results/some-run/best.pt",
    "data/results/some-run/train.lock",
    "data/cache/junk.npz",
    "memnb/__pycache__/junk.pyc",
    "runs/made-up/run.json",
)

# No committed run has it.
MADE_UP_SEED = 4321


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, **options
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout with a made-up committed run and the usual junk in it.

    Of the 700 committed runs it has those of one task: packing all of them takes a minute.
    """
    copy = tmp_path_factory.mktemp("source") / "a checkout"
    left_out = (
        ".git",
        ".venv",
        "build",
        "dist",
        "runs",
        "report",
        "cache",
        "__pycache__",
        ".ipynb_checkpoints",
        ".*_cache",
    )
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*left_out, "results"))
    for run_folder in (ROOT / "data" / "results").glob("listops-short-*"):
        shutil.copytree(run_folder, copy / "data" / "results" / run_folder.name)
    for name in JUNK:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("{}")
    write_run(copy / "data" / "results", seed=MADE_UP_SEED, accuracy=0.4321)
    return copy


@pytest.fixture(scope="module")
def built(source: Path) -> Path:
    """The folder with both distributions; the wheel is built from the unpacked sdist."""
    done = run(sys.executable, "-m", "build", "--no-isolation", cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def files(folder: Path) -> set[str]:
    """The files that belong to the project, relative to ``folder``."""
    names = {
        path.relative_to(folder).as_posix()
        for part in (*CARRIED, "memnb")
        for path in (folder / part).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    return names - set(JUNK) | {"data/README.md"}


def test_the_wheel_carries_the_package_and_its_assets(source: Path, wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        name if name.startswith("memnb/") else f"memnb/_assets/{name}" for name in files(source)
    }
    assert any(name.startswith("memnb/_assets/data/results/") for name in expected)
    assert "memnb/_assets/notebooks/manifest.toml" in expected
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_sdist_is_the_project_without_what_it_makes(source: Path, built: Path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert files(source) <= names
    assert {"pyproject.toml", "Makefile", "requirements.lock", "tests/test_wheel.py"} <= names
    assert names.isdisjoint(JUNK)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` folder of an environment that holds the wheel, and no checkout in sight.

    Its dependencies are those of the running interpreter, by a path file: Python reads no path
    files of the folders named in one, so the editable memnb stays out.
    """
    folder = tmp_path_factory.mktemp("installed") / "an environment"
    assert run(sys.executable, "-m", "venv", "--without-pip", folder).returncode == 0
    python = folder / "bin" / "python"
    where = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout
    Path(where.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    done = run(
        sys.executable, "-m", "pip", "--python", python, "install",
        "--no-deps", "--no-index", "--disable-pip-version-check", "--ignore-installed", wheel,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working directory that has nothing to do with memnb."""
    folder = tmp_path / "some where"
    folder.mkdir()
    return folder


def plain_environment() -> dict[str, str]:
    """The environment of a user who has set nothing for memnb, nor named a checkout to Python."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("MEMNB_") and key != "PYTHONPATH"
    }


def printed_by(installed: Path, code: str, cwd: Path) -> list[str]:
    """The lines that ``code`` prints in the installed Python."""
    done = run(installed / "python", "-c", code, cwd=cwd, env=plain_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_installed_package_finds_its_assets(installed: Path, elsewhere: Path):
    code = (
        "from memnb import paths\n"
        "print(paths.checkout(), paths.assets(), paths.output(), sep='\\n')\n"
        "print(paths.notebooks().is_dir(), paths.reference().is_dir(),\n"
        "      any(paths.stored_results().glob('*/run.json')), sep='\\n')\n"
    )
    checkout, assets, output, *found = printed_by(installed, code, elsewhere)
    assert checkout == "None"
    assert assets.startswith(str(installed.parent))
    assert Path(output) == elsewhere / "memnb-output"
    assert found == ["True", "True", "True"]


def test_the_installed_command_draws_from_its_own_rows(installed: Path, elsewhere: Path):
    """What a reader does on Colab: no checkout, no settings, another working directory."""
    done = run(
        installed / "memnb", "reproduce", "--preset", "stored", "--only", "accuracy",
        cwd=elsewhere, env=plain_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = elsewhere / "memnb-output" / "report"
    assert (report / "index.html").is_file()
    assert str(MADE_UP_SEED) in (report / "tables" / "accuracy-runs.csv").read_text("utf-8")


def test_the_installed_package_shows_and_reads_its_own_weights(installed: Path, elsewhere: Path):
    """What pages 15 and 16 need, from a wheel alone."""
    code = (
        "from memnb import explore\n"
        "from memnb.draw import looking\n"
        "from memnb.evidence.views import shipped\n"
        "found = shipped()\n"
        "for task in ('Text', 'ListOps', 'Pathfinder'):\n"
        "    for family in ('luna', 'convluna'):\n"
        "        figure = looking.of_shipped(found, task, family)\n"
        "        print(any('Shipped weights' in text.get_text() for text in figure.texts))\n"
        "one = next(one for one in found if one.run.task.title == 'ListOps')\n"
        "print(explore._looked(one, '[MAX 4 2 ]')['tokens'].tolist() != [])\n"
    )
    assert printed_by(installed, code, elsewhere) == ["True"] * 7
