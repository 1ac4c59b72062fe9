"""The report: one HTML file that holds every figure, table, verdict and time of a reproduction.

It is self-contained (pictures are embedded), and everything that comes from a file is escaped.
"""

from __future__ import annotations

import base64
import csv
import importlib.metadata
import io
import math
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jinja2
import pandas as pd
from pydantic import Field

from memnb import __version__, paths
from memnb.config import Config, Run
from memnb.evidence import claims, rows
from memnb.reproduce.files import write
from memnb.reproduce.manifest import Artefact
from memnb.reproduce.page import Page
from memnb.reproduce.progress import duration
from memnb.reproduce.trainer import outcome
from memnb.reproduce.workers import Ended, cores

#: Preset of a row -> what its scale is called.
SCALES = {"paper": "Full scale", "quick": "Laptop scale"}
_LIBRARIES = ("torch", "numpy", "pandas", "scipy", "matplotlib", "seaborn", "papermill")


class Step(Config):
    """What is remembered of the last execution of an artefact's notebook.

    Attributes:
        digest: of everything that determines the outputs.
        outcome: ``done`` or ``failed``.
        seconds: the execution took.
        error: one sentence, with the traceback in ``details``.
        outputs: file name -> hash of its content.
        ended: when, ISO 8601 in UTC.
    """

    format: Literal[1] = 1
    artefact: str
    preset: str
    digest: str
    outcome: Literal["done", "failed"]
    seconds: float
    error: str | None = None
    details: str = ""
    outputs: dict[str, str] = Field(default_factory=dict)
    ended: str


@dataclass(frozen=True)
class Figure:
    """A picture as it stands in the page."""

    name: str
    source: str
    caption: str
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Table:
    """A table as it stands in the page."""

    name: str
    header: list[str]
    body: list[list[str]]
    caption: str
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Entry:
    """An artefact in the report.

    Attributes:
        artefact: from the manifest.
        step: its last execution; None if there was none.
        kept: it was executed by an earlier call and is still up to date.
        executed: the executed notebook.
    """

    artefact: Artefact
    step: Step | None
    kept: bool
    executed: Path

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""
        return self.step.error if self.step else None

    @property
    def status(self) -> str:
        """One of ``done``, ``kept``, ``failed``, ``not executed``."""
        if self.step is None:
            return "not executed"
        return "kept" if self.kept else self.step.outcome

    def shown(self) -> Iterator[Figure | Table]:
        """Its figures and tables; none if the notebook failed, since they would be old ones."""
        if self.step is None or self.step.outcome != "done":
            return
        for path in self.artefact.files(self.executed.parent.parent):
            if path.suffix == ".png":
                yield _figure(path)
            elif path.suffix == ".csv":
                yield _table(path)


@dataclass(frozen=True)
class Training:
    """The runs behind the artefacts.

    Attributes:
        runs: all that the chosen artefacts read, in the order of the plan.
        folder: of run folders.
        ended: how those ended that this call started.
        seconds: wall-clock time of this call's training.
    """

    runs: tuple[Run, ...]
    folder: Path
    ended: dict[str, Ended]
    seconds: float

    def failures(self) -> list[str]:
        """One sentence for each run without a result."""
        return [f"run {row['run']}: {row['error']}" for row in self.rows() if row["error"]]

    def rows(self) -> list[dict[str, Any]]:
        """One row per run, for the report."""
        found = []
        for run in self.runs:
            record = outcome(self.folder / run.run_id) or {}
            ended = self.ended.get(run.run_id)
            error = (ended.error if ended else None) or (
                None if record.get("outcome") == "finished" else _why_not(record)
            )
            found.append(
                {
                    "run": run.run_id,
                    "model": run.model.name,
                    "changes": rows.describe_changes(run),
                    "task": run.task.title,
                    "seed": run.seed,
                    "outcome": record.get("outcome", "missing"),
                    "accuracy": record.get("test_accuracy"),
                    "seconds": record.get("seconds"),
                    "device": record.get("device_name") or "",
                    "error": error,
                    "details": ended.details if ended else "",
                    "now": ended is not None,
                }
            )
        return found


def write_report(
    entries: Sequence[Entry], training: Training, preset: str, out: Path, seconds: float
) -> Path:
    """Write ``report/index.html`` and return its path.

    Args:
        entries: every artefact of the manifest, in order.
        training: the runs behind them.
        preset: the preset of this call.
        out: the output folder.
        seconds: wall-clock time of this call so far.

    Raises:
        RunError: the folder cannot be written to.
    """
    layers = Page("report", preset, str(out)).layers("chunks")
    filled = [layer.runs for layer in layers if len(layer.runs)] or [layers[0].runs]
    runs = pd.concat(filled, ignore_index=True)
    removal, probes = rows.load_removal(runs), rows.load_probes(runs)
    problems = [*_problems(layers), *_attrs(removal), *_attrs(probes)]
    page = _template().render(
        title="On Difficulties of Attention Factorization through Shared Memory",
        preset=preset,
        version=__version__,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=duration(seconds),
        claims=_claims(claims.check(runs, removal, probes)),
        layers=[(layer.title, len(layer.runs), int((layer.runs["outcome"] == "failed").sum()))
                for layer in layers],
        entries=entries,
        training=training,
        training_rows=training.rows(),
        failures=[*training.failures(), *(entry.error for entry in entries if entry.error)],
        problems=list(dict.fromkeys(problems)),
        environment=environment(),
        out=str(out),
    )  # fmt: skip
    path = paths.report(out) / "index.html"
    write(path, page.encode())
    return path


def environment() -> dict[str, str]:
    """What a number depends on besides the code: versions and the machine."""
    facts = {
        "memnb": f"{__version__} ({commit()})",
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.machine()}, {cores()} cores",
    }
    for name in _LIBRARIES:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def commit() -> str:
    """The commit of the checkout, marked when files differ from it; or that there is none."""
    root = paths.checkout()
    if root is None:
        return "installed package"
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "no git commit"
    return f"commit {head}" + (", changed files" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _template() -> jinja2.Template:
    environment_ = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment_.filters["duration"] = lambda seconds: "" if seconds is None else duration(seconds)
    environment_.filters["percent"] = lambda share: "" if share is None else f"{share:.1%}"
    environment_.filters["slug"] = lambda text: text.replace(" ", "-")
    return environment_.get_template("report.html.j2")


def _claims(verdicts: Sequence[claims.Verdict]) -> list[dict[str, Any]]:
    """One entry per claim, with its verdict at each scale."""
    found: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        claim = found.setdefault(
            verdict.claim, {"id": verdict.claim, "statement": verdict.statement, "verdicts": []}
        )
        claim["verdicts"].append(
            {
                "scale": SCALES[verdict.preset],
                "verdict": verdict.verdict,
                "effect": effect(verdict),
                "reading": verdict.reading,
            }
        )
    return list(found.values())


def effect(verdict: claims.Verdict) -> str:
    """The deciding effect with its interval and n; empty if there is none."""
    if math.isnan(verdict.effect):
        return ""
    form = "+.1f" if verdict.unit == "points" else ".2f"
    text = f"{verdict.effect:{form}} {verdict.unit}"
    if not math.isnan(verdict.low):
        text += f" (95 % interval {verdict.low:{form}} to {verdict.high:{form}})"
    return f"{text}, n = {verdict.n}"


def _problems(layers: Sequence[Any]) -> Iterator[str]:
    for layer in layers:
        yield from layer.problems


def _attrs(frame: pd.DataFrame) -> list[str]:
    return list(frame.attrs.get("problems", ()))


def _why_not(record: dict[str, Any]) -> str:
    if record.get("outcome") == "failed":
        return f"It failed: {record.get('reason') or 'no reason was recorded'}"
    if record:
        return f"It is {record.get('outcome')} and not finished."
    return "It has not been trained."


def _figure(path: Path) -> Figure:
    from PIL import Image

    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        caption = str(image.info.get("Description", ""))
    return Figure(path.stem, f"data:image/png;base64,{base64.b64encode(content).decode()}", caption)


def _table(path: Path) -> Table:
    header, *body = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    lines = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    captions = [line.removeprefix("Table: ") for line in lines if line.startswith("Table: ")]
    return Table(path.stem, header, body, captions[-1] if captions else "")
