"""Commands on rows: ``results``, ``check``."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from memnb import naming, paths
from memnb.cli.common import Command, add_out, complain, names, one_of, print_frame
from memnb.errors import MemnbError, RunError
from memnb.words import counted

if TYPE_CHECKING:
    import pandas as pd


_FORMATS = ("text", "csv", "md")

_RESULTS_HELP = """\
  memnb results                 the rows, a line per model
  memnb results --here          of this machine alone; --tasks text --models luna-16,convluna-16
                                narrows them down
  memnb results merge PATH...   take rows from elsewhere into data/results/, verified: run folders,
                                folders of them, or tar archives; all of them or none

Every finished seed is in the mean, and runs that failed are counted beside it."""


def _results_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", nargs="?", help="merge")
    parser.add_argument("paths", metavar="PATH", nargs="*", help="of what is merged")
    parser.add_argument("--format", default="text", help="text (default), csv or md")
    parser.add_argument("--runs", action="store_true", help="one row per run instead of per model")
    parser.add_argument("--tasks", metavar="TASK,...", type=names)
    parser.add_argument("--models", metavar="MODEL,...", type=names)
    parser.add_argument("--here", action="store_true", help="leave out the committed rows")
    add_out(parser)


def _results(values: argparse.Namespace) -> int:
    if values.action is not None:
        one_of("action of 'memnb results'", values.action, ("merge",))
        for option, given in (
            ("--format", values.format != _FORMATS[0]),
            ("--runs", values.runs),
            ("--tasks", values.tasks),
            ("--models", values.models),
            ("--here", values.here),
            ("--out", values.out is not None),
        ):
            if given:
                raise MemnbError(
                    f"{option} means nothing to 'memnb results merge', which writes into "
                    "data/results/; leave it out."
                )
        if not values.paths:
            raise MemnbError(
                "'memnb results merge' needs a PATH: a run folder, a folder of them, or a tar "
                "archive."
            )
        return _merge(values)
    form = one_of("format", values.format, _FORMATS)
    runs = _load_runs(values.out, committed=not values.here)
    for column, chosen in (("task", values.tasks), ("model", values.models)):
        if chosen and not runs.empty:
            runs = _only(runs, column, chosen)
    if runs.empty and form == "text":
        print("There are no rows yet; 'memnb reproduce' makes some.")
    else:
        print_frame(runs[list(_RUN_COLUMNS)] if values.runs else _per_model(runs), form)
    return 0


def _only(runs: pd.DataFrame, column: str, chosen: list[str]) -> pd.DataFrame:
    """The rows whose ``column`` is one of ``chosen``.

    Raises:
        MemnbError: none of them has one of these.
    """
    found = sorted(set(runs[column]))
    for name in chosen:
        if name not in found:
            raise MemnbError(f"No row has the {column} '{name}'; the rows have {', '.join(found)}.")
    return runs[runs[column].isin(chosen)]


def _merge(values: argparse.Namespace) -> int:
    from memnb.sweep import merge

    result = merge.merge([Path(path) for path in values.paths], merge.destination())
    for note in (*result.left_out, *result.notes):
        print(note)
    for run_id in result.added:
        print(f"added {run_id}")
    for run_id in result.completed:
        print(f"completed {run_id}")
    added = counted(len(result.added), "row")
    print(
        f"{added} added to {result.folder}, {len(result.completed)} completed, "
        f"{len(result.known)} were there, "
        f"{len(result.left_out)} left out."
    )
    return 0


_RUN_COLUMNS = (
    "run_id", "preset", "task", "model", "changes", "seed", "outcome", "reason", "test_accuracy",
    "validation_accuracy", "step", "best_step", "seconds", "device_name", "precision", "version",
    "commit",
)  # fmt: skip


def _per_model(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean, spread and interval of the test accuracy in percent, as text."""
    from memnb.evidence import statistics

    keys = ["preset", "task", "model", "changes"]
    if (custom := runs["preset"] == "custom").any():
        # Runs of other settings of the task or of training are no seeds of one another.
        told = zip(runs["folder"], custom, strict=True)
        runs = runs.assign(settings=[_settings(folder) if own else "" for folder, own in told])
        keys.append("settings")
    rows = statistics.summarise(runs, keys).sort_values(["preset", "task"], kind="stable")
    for column in ("mean", "sd", "low", "high"):
        rows[column] = [f"{100 * share:.2f}" if share == share else "" for share in rows[column]]
    names = {"mean": "accuracy (%)", "low": "low (95 %)", "high": "high (95 %)"}
    return rows.rename(columns=names).reset_index(drop=True)


def _settings(folder: Path) -> str:
    """What tells the settings of a run from others', its seed aside."""
    from memnb.evidence import rows

    return rows.read_run(folder)[1].but(seed=0).run_id.rpartition("-")[2]


RESULTS = Command(
    _results,
    _results_arguments,
    "mean, spread and number of seeds of all rows",
    _RESULTS_HELP,
)


_CHECK_HELP = """\
Verdicts: supported, partly supported, not supported, not enough runs. The committed rows and
those of this machine are judged, full scale and laptop scale apart."""


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evidence", action="store_true", help="show every comparison as well")
    add_out(parser)


def _check(values: argparse.Namespace) -> int:
    from memnb.draw import claim_tables
    from memnb.evidence import claims, rows
    from memnb.reproduce.report import ASIDES, effect

    runs = _load_runs(values.out)
    verdicts = claims.check(runs, rows.load_removal(runs), rows.load_probes(runs))
    for claim in dict.fromkeys(verdict.claim for verdict in verdicts):
        same = [verdict for verdict in verdicts if verdict.claim == claim]
        print(f"{claim}: {same[0].statement}")
        for verdict in same:
            numbers = f": {effect(verdict)}" if effect(verdict) else ""
            scale = naming.preset_label(verdict.preset).capitalize()
            print(f"  {scale}: {verdict.verdict.upper()}{numbers}")
            print(f"    {verdict.reading}")
        if claim in ASIDES:
            aside = ASIDES[claim]
            table = aside.table(runs).to_string(index=False)
            print(f"  {aside.heading}, at full scale:")
            for part in (table, textwrap.fill(aside.words(runs), 96)):
                print(textwrap.indent(part, "    "))
    if values.evidence:
        print()
        print_frame(claim_tables.comparisons(verdicts), "text")
    return 0


CHECK = Command(_check, _check_arguments, "judge the paper's claims on the rows", _CHECK_HELP)


def _load_runs(out: str | None, committed: bool = True) -> pd.DataFrame:
    """This machine's rows and, by default, the committed ones; what could not be read goes to
    stderr."""
    from memnb.evidence import rows

    here = paths.runs(out)
    if out is not None and not here.is_dir():
        raise RunError(f"There are no runs in {here}; is --out the folder that holds runs/?")
    runs = rows.load_runs(here, *([paths.stored_results()] if committed else []))
    for problem in runs.attrs["problems"]:
        complain(problem)
    return runs
