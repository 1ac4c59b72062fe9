"""The report: one HTML file that holds every figure, table, verdict and time of a reproduction.

It is self-contained (pictures and their data are embedded); :mod:`memnb.reproduce.rendering` makes
it from the executed notebooks.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field

from memnb import __version__, naming, paths
from memnb.config import Config, Run
from memnb.draw import beside_tables, claim_tables, summary
from memnb.errors import DataError, RunError
from memnb.evidence import claims, published, rows
from memnb.reproduce import rendering
from memnb.reproduce.files import write
from memnb.reproduce.frames import as_csv
from memnb.reproduce.manifest import Artefact
from memnb.reproduce.page import Page
from memnb.reproduce.trainer import why_no_result
from memnb.reproduce.workers import Ended, cores
from memnb.train.record import commit_of_checkout
from memnb.words import duration

#: Claim -> the figures that show it best, and where its code is.
EVIDENCE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "C1": (
        ("accuracy-full", "accuracy-laptop"),
        ("memnb/models/filters.py", "memnb/models/blocks.py"),
    ),
    "C2": (("memory-size-full", "memory-size-laptop"), ("memnb/models/blocks.py",)),
    "C3": (
        (
            "degradation-full",
            "degradation-full-text",
            "degradation-full-image",
            "row-removal-full",
            "causal-exchange-full",
            "degradation-laptop",
            "row-removal-laptop",
            "causal-exchange-laptop",
        ),
        ("memnb/probes/degradation.py", "memnb/probes/row_removal.py", "memnb/probes/causal.py"),
    ),
    "C4": (
        ("ablation-full", "ablation-laptop", "alike-full", "alike-laptop"),
        ("memnb/models/filters.py", "memnb/models/attention.py"),
    ),
    "C5": (
        ("chunk-memory-accuracy-full", "chunk-memory-accuracy-laptop"),
        ("memnb/models/chunks.py",),
    ),
}


@dataclass(frozen=True)
class Aside:
    """What else decides how a claim may be read: a table from all rows, words to it, its page."""

    heading: str
    table: Callable[[pd.DataFrame], pd.DataFrame]
    words: Callable[[pd.DataFrame], str]
    page: str


def _filter_alone(runs: pd.DataFrame) -> str:
    """The words to the table of full scale, then what the laptop's rows say of the same."""
    laptop = beside_tables.filter_alone_in_short(runs, "quick")
    words = beside_tables.filter_alone_reading(runs)
    return f"{words} At laptop scale: {laptop[0].lower()}{laptop[1:]}" if laptop else words


#: By claim.
ASIDES = {
    "C1": Aside(
        "What the filter does without a memory",
        beside_tables.filter_alone,
        _filter_alone,
        "chunk-memory",
    ),
}
#: Where the page says whether the rows become alike in training: artefact, and heading there.
BECOMING = ("degradation", "Do the rows become alike, or do they begin so?")
_CLAIMS = "memnb/evidence/claims.py"
_LIBRARIES = ("torch", "numpy", "pandas", "scipy", "matplotlib", "seaborn", "papermill")


class Step(Config):
    """What is remembered of the last execution of an artefact's notebook.

    Attributes:
        digest: of everything that determines the outputs.
        outcome: ``done`` or ``failed``.
        seconds: the execution took.
        error: one sentence, with the traceback in ``details``.
        outputs: file, from the report's folder on -> hash of its content.
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

    @property
    def is_shown(self) -> bool:
        """Whether its figures and tables are shown; those of a failed notebook would be old."""
        return self.step is not None and self.step.outcome == "done"


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
            record, why = _record(self.folder / run.run_id)
            ended = self.ended.get(run.run_id)
            found.append(
                {
                    "run": run.run_id,
                    "model": run.model.name,
                    "changes": rows.describe_changes(run),
                    "task": run.task.title,
                    "seed": run.seed,
                    "outcome": record.outcome if record else "missing",
                    "accuracy": record.test_accuracy if record else None,
                    "seconds": record.seconds if record else None,
                    "device": (record.device_name if record else None) or "",
                    "error": (why_no_result(ended) if ended else None) or why,
                    "details": ended.details if ended else "",
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
    layers = Page("report", preset, str(out)).layers("every")
    judged = [rows.of_study(layer.runs, "chunks") for layer in layers]  # no claim is about recall
    filled = [some for some in judged if len(some)] or judged[:1]
    runs = pd.concat(filled, ignore_index=True)
    removal, probes = rows.load_removal(runs), rows.load_probes(runs)
    others, unreadable = _published()
    problems = [problem for layer in layers for problem in layer.problems]
    problems += [*removal.attrs["problems"], *probes.attrs["problems"], *unreadable]
    folder = paths.report(out)
    cells, unread = _cells(entries)
    verdicts = claims.check(runs, removal, probes)
    beginning = rows.load_beginning(runs)
    short = summary.in_short(
        runs, verdicts, others,
        removal=removal, probes=probes, causal=rows.load_causal(runs), beginning=beginning,
    )  # fmt: skip
    context = {
        "title": "On Difficulties of Attention Factorization through Shared Memory",
        "preset": preset,
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": duration(seconds),
        "claims": _claims(verdicts, runs, entries, _figures(cells, folder)),
        "scales": [naming.preset_label(preset).capitalize() for preset in claims.PRESETS],
        "short": _short(short),
        "seeds": summary.seeds(runs),
        "becoming": _becoming(cells, entries),
        "layers": [
            (
                layer.title,
                len(layer.runs),
                len(layer.runs) - len(some),
                int((layer.runs["outcome"] == "failed").sum()),
            )
            for layer, some in zip(layers, judged, strict=True)
        ],
        "entries": entries,
        "training": training,
        "training_rows": training.rows(),
        "failures": [*training.failures(), *(e.error for e in entries if e.error), *unread],
        "problems": list(dict.fromkeys(problems)),
        "environment": environment(),
    }
    filters: dict[str, Callable[..., str]] = {
        "duration": lambda given: "" if given is None else duration(given),
        "percent": lambda share: "" if share is None else f"{share:.1%}",
        "slug": lambda text: text.replace(" ", "-"),
    }
    links = {entry.artefact.notebook: entry.artefact.id for entry in entries}
    page = rendering.to_html(cells, folder, links, context, filters)
    _copy_code(folder)
    path = folder / "index.html"
    write(path, page.encode())
    return path


def _published() -> tuple[pd.DataFrame, list[str]]:
    """Published numbers, a file that readers edit; where it cannot be read, none and why."""
    try:
        return published.load(), []
    except DataError as error:
        return pd.DataFrame(columns=list(published.COLUMNS)), [str(error)]


def _copy_code(folder: Path) -> None:
    """Put the files that claims name beside the report, as text that every browser shows."""
    package = Path(paths.__file__).parents[1]
    for name in {_CLAIMS, *(file for _, code in EVIDENCE.values() for file in code)}:
        write(folder / "code" / f"{name}.txt", (package / name).read_bytes())


def _cells(entries: Sequence[Entry]) -> tuple[list[Any], list[str]]:
    """The cells to show of all executed notebooks, and a sentence for each that cannot be read."""
    cells: list[Any] = []
    unread, seen = [], set[str]()
    for entry in entries:
        if entry.is_shown:
            try:
                cells += rendering.cells_of(entry.executed, entry.artefact.id, seen)
            except RunError as error:
                unread.append(str(error))
    return cells, unread


def _becoming(cells: Sequence[Any], entries: Sequence[Entry]) -> str | None:
    """The id of what :data:`BECOMING` names; of its page if that is not shown; None without it."""
    page, heading = BECOMING
    prose = [c for c in cells if c.metadata["memnb"]["section"] == page]
    prose = [c for c in prose if c.cell_type == "markdown"]
    if any(f"## {heading}" in cell.source.splitlines() for cell in prose):
        return rendering.heading_id(page, heading)
    return page if page in {entry.artefact.id for entry in entries} else None


def _figures(cells: Sequence[Any], folder: Path) -> dict[str, rendering.Figure]:
    """Name -> figure, of all cells."""
    every = [rendering.shown(o, folder) for c in cells for o in c.get("outputs", ())]
    return {one.name: one for one in every if isinstance(one, rendering.Figure)}


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
    """The commit of the code, marked when files differ from it; or that none is known."""
    found = commit_of_checkout()
    if found is None:
        return "installed package" if paths.checkout() is None else "no git commit"
    return f"commit {found.removesuffix('+')}" + (", changed files" if found.endswith("+") else "")


def _short(short: summary.Short) -> dict[str, Any] | None:
    """The gist, the answers, their table, and how its numbers are to be read; None without any."""
    if not short.answers and short.table.empty:
        return None
    table = None if short.table.empty else _table("in-short", short.table, "")
    return {"gist": short.gist, "answers": short.answers, "table": table, "notes": short.notes}


def _table(
    name: str, frame: pd.DataFrame, caption: str, data: rendering.Download | None = None
) -> rendering.Table:
    """A frame whose cells are ready to print as a table of the page."""
    header, body = list(frame.columns), frame.to_numpy().tolist()
    return rendering.Table(name, header, body, caption, data)


def _claims(
    verdicts: Sequence[claims.Verdict],
    runs: pd.DataFrame,
    entries: Sequence[Entry],
    figures: Mapping[str, rendering.Figure],
) -> list[dict[str, Any]]:
    """One entry per claim: its verdict at each scale, links to its figures, its rows, its code."""
    found: dict[str, dict[str, Any]] = {}
    for verdict in verdicts:
        claim = found.setdefault(
            verdict.claim, {"id": verdict.claim, "statement": verdict.statement, "verdicts": []}
        )
        claim["verdicts"].append(
            {
                "scale": naming.preset_label(verdict.preset).capitalize(),
                "verdict": verdict.verdict,
                "effect": effect(verdict),
                "reading": verdict.reading,
            }
        )
    for name, claim in found.items():
        judged = claim_tables.comparisons([one for one in verdicts if one.claim == name])
        judged = judged.drop(columns="Claim")
        file = f"claim-{name.lower()}"
        claim["rows"] = _table(
            file,
            judged,
            f"Every comparison behind the verdict. Each interval is a {_interval(name)}.",
            rendering.Download(f"{file}.csv", rendering.csv_address(as_csv(judged).encode())),
        )
        names, code = EVIDENCE.get(name, ((), ()))
        claim["figures"] = [figures[one] for one in names if one in figures]
        if aside := ASIDES.get(name):
            claim["aside"] = {
                "heading": f"{aside.heading}, at full scale",
                "table": _table(f"aside-{name.lower()}", aside.table(runs), aside.words(runs)),
                "page": next((e.artefact for e in entries if e.artefact.id == aside.page), None),
            }
        claim["code"] = [_CLAIMS, *code]
        claim["pages"] = [e.artefact for e in entries if name in e.artefact.claims]
    return list(found.values())


def effect(verdict: claims.Verdict) -> str:
    """The deciding effect with its interval and n; empty if there is none."""
    if math.isnan(verdict.effect):
        return ""
    form = "+z.1f" if verdict.unit == "points" else "z.2f"
    text = f"{verdict.effect:{form}} {verdict.unit}"
    if not math.isnan(verdict.low):
        text += f" ({_interval(verdict.claim)} {verdict.low:{form}} to {verdict.high:{form}})"
    if verdict.wanted:
        text += f", {verdict.wanted}"
    return f"{text}, n = {verdict.n}".replace("-", "\N{MINUS SIGN}")


def _interval(claim: str) -> str:
    # Where one task is enough, each of several could hold by chance: the intervals are widened.
    return "95 % interval" + (" for all tasks together" if claim in claims.ANY_SUFFICES else "")


def _record(folder: Path) -> tuple[rows.Record | None, str | None]:
    """What a run's ``run.json`` says, and why the run has no result; None where it has one."""
    if not (folder / "run.json").exists():
        return None, "It has not been trained."
    try:
        record, _ = rows.read_run(folder)
    except DataError as error:
        return None, str(error)
    if record.outcome == "finished":
        return record, None
    if record.outcome == "failed":
        return record, f"It failed: {record.reason or 'no reason was recorded'}"
    return record, f"It is {record.outcome} and not finished."
