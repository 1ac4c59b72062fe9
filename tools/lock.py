"""Write requirements.lock afresh: what pip makes of pyproject.toml today (``make lock``).

A clean environment is filled with all that memnb and its extras ask for, and what lies in it is
written down. Run it with the oldest Python that memnb serves: some packages ask for a newer patch
release of 3.11, which pip sees only there. Arguments are requirements that narrow the choice:
``make lock PYTHON=python3.11 PIN=torch==2.13.0``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

# Ray is 80 MB to download and 240 MB on disk, and its tests start a cluster and take minutes; few
# who run `make setup` have one.
NOT_LOCKED = ("ray",)
ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Exact versions of everything that `make setup` installs; renew them with `make lock`.
"""
# pip adds what torch needs for the machine's own accelerator; naming it here would force it on
# machines without one. pip itself and setuptools come with the environment.
LEFT_OUT = re.compile(r"(nvidia|cuda|triton|memnb|pip|setuptools|wheel)\b")


def requirements(pyproject: Path) -> list[str]:
    """Everything that ``pyproject`` asks for: to build, to run, and the extras but NOT_LOCKED."""
    with pyproject.open("rb") as file:
        settings = tomllib.load(file)
    project = settings["project"]
    extras = [
        group for name, group in project["optional-dependencies"].items() if name not in NOT_LOCKED
    ]
    return [
        *settings["build-system"]["requires"],
        *project["dependencies"],
        *(requirement for extra in extras for requirement in extra),
    ]


def pins(frozen: Iterable[str]) -> list[str]:
    """The lines of the lock for the lines of ``pip freeze``.

    A local version such as ``2.13.0+cpu`` names a build that not every index has, so the part
    after the plus sign is dropped.
    """
    names = (line.strip() for line in frozen)
    kept = (line for line in names if "==" in line and not LEFT_OUT.match(line.lower()))
    return sorted({line.split("+")[0] for line in kept}, key=str.lower)


def main(narrowed: list[str]) -> int:
    """Resolve, and replace requirements.lock as a whole."""
    with tempfile.TemporaryDirectory(prefix="memnb-lock-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder, "bin", "python"))
        wanted = [*requirements(ROOT / "pyproject.toml"), *narrowed]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        frozen = subprocess.run(
            [python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
    new = ROOT / "requirements.lock.tmp"
    new.write_text(HEADER + "\n".join(pins(frozen)) + "\n")
    os.replace(new, ROOT / "requirements.lock")
    print(f"requirements.lock: {len(pins(frozen))} packages; now run make test.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
