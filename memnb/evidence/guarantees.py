"""What memnb promises, the test that holds it to each promise, and how that test last ended.

The promises stand in ``data/reference/guarantees.toml``. ``make guarantees`` runs their tests and
writes how they ended into ``guarantees.json`` beside it. An outcome belongs to one form of a test:
where the test was changed since, it no longer counts.
"""

from __future__ import annotations

import ast
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from memnb import paths
from memnb.errors import DataError

FORMAT = 1
NO_OUTCOME = "no outcome on record"
CHANGED = "no outcome on record for the test as it now is"
COLUMNS = ("promise", "test", "outcome", "seconds", "when", "commit", "python", "torch", "device")


class Outcome(BaseModel):
    """How all cases of a test ended, and where.

    Attributes:
        outcome: ``passed``, ``failed`` (one case is enough) or ``skipped`` (all cases were).
        cases: how many cases there were; ``skipped`` of them were skipped, for ``reason``.
        seconds: all cases took.
        digest: of the test's source (:func:`digest_of_test`).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    outcome: Literal["passed", "failed", "skipped"]
    cases: int
    skipped: int = 0
    reason: str = ""
    seconds: float
    digest: str
    when: str
    version: str
    commit: str | None = None
    python: str
    torch: str
    device: str

    def __str__(self) -> str:
        text = self.outcome if self.cases == 1 else f"{self.outcome} ({self.cases} cases)"
        if self.skipped and self.outcome == "passed":
            text = f"passed ({self.cases} cases, {self.skipped} of them skipped)"
        return f"{text}: {self.reason}" if self.outcome == "skipped" else text


def promises() -> dict[str, list[str]]:
    """Each promise with its tests, as ``tests/file.py::function``.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = paths.reference() / "guarantees.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return {entry["promise"]: list(entry["tests"]) for entry in content["guarantee"]}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); restore it.") from None


def record(path: Path | None = None) -> dict[str, Outcome]:
    """The outcomes on record, by test; none if there is no file.

    Raises:
        DataError: the file is damaged.
    """
    path = path or paths.reference() / "guarantees.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT}")
        return {test: Outcome.model_validate(values) for test, values in content["tests"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(f"{path} is damaged ({what}); run 'make guarantees' again.") from None


def as_text(outcomes: dict[str, Outcome]) -> str:
    """The content of ``guarantees.json``."""
    tests = {test: outcomes[test].model_dump() for test in sorted(outcomes)}
    return json.dumps({"format": FORMAT, "tests": tests}, indent=1) + "\n"


def digest_of_test(root: Path, test: str) -> str | None:
    """Hash of a test function's source, or None if there is no such function below ``root``."""
    file, _, name = test.partition("::")
    try:
        source = (root / file).read_text(encoding="utf-8")
    except OSError:
        return None
    found: ast.AST | None = ast.parse(source)
    for part in name.split("::"):
        body = getattr(found, "body", [])
        found = next((each for each in body if getattr(each, "name", None) == part), None)
    text = ast.get_source_segment(source, found) if found else None
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else None


def load() -> pd.DataFrame:
    """One row per promise and test, with the outcome on record.

    Columns: :data:`COLUMNS`. ``outcome`` is a sentence that begins with ``passed``, ``failed``,
    ``skipped`` or :data:`NO_OUTCOME`; the columns after it are empty where there is no outcome.

    Raises:
        DataError: a file is damaged.
    """
    outcomes, root = record(), paths.checkout()
    found: list[dict[str, Any]] = []
    for promise, tests in promises().items():
        for test in tests:
            outcome = outcomes.get(test)
            row: dict[str, Any] = {"promise": promise, "test": test, "outcome": NO_OUTCOME}
            if outcome is not None and root is not None and (root / "tests").is_dir():
                outcome = outcome if digest_of_test(root, test) == outcome.digest else None
                row["outcome"] = CHANGED
            if outcome is not None:
                row |= outcome.model_dump(include=set(COLUMNS) - {"outcome"})
                row["outcome"] = str(outcome)
            found.append(row)
    return pd.DataFrame(found, columns=list(COLUMNS))
