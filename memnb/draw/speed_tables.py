"""Tables of speed: rows of ``memnb bench`` (:mod:`memnb.evidence.benchmarks`) and what they say."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from memnb import naming
from memnb.draw.speed_figures import AT_BEST, AUTHORS, GIB
from memnb.evidence import benchmarks


def step_table(rows: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """Every measured step, beside the authors' code, the goals and the device's ceilings.

    Columns that no row has anything for are left out.

    Args:
        rows: :func:`memnb.evidence.benchmarks.shares`.
        references: :func:`memnb.evidence.benchmarks.references`.
    """
    columns = [
        "Device", "Task", "Model", "ms (quartiles)", "Authors' ms", "Times faster", "Goal, ms",
        "GiB", "Authors' GiB", "Goal, GiB", "First step, s", "Scored per s", "Of matrix ceiling",
        "Of bandwidth ceiling",
    ]  # fmt: skip
    known = {(row["source"], row["model"]): row for row in references.to_dict("records")}
    table = []
    for name in naming.model_order(rows["model"]):
        for _, row in rows[rows["model"] == name].iterrows():
            # The references are for an H100 and Text.
            same = row["task"] == "text" and "H100" in row["device_name"]
            theirs, goal = (
                known.get((source, name), {}) if same else {} for source in (AUTHORS, "goal")
            )
            faster = theirs.get("milliseconds", math.nan) / row["milliseconds"]
            table.append(
                [
                    f"{row['device_name']}, {row['precision']}",
                    naming.task_label(row["task"]),
                    naming.model_label(name),
                    f"{row['milliseconds']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})",
                    _cell(theirs, "milliseconds"),
                    "" if math.isnan(faster) else f"{faster:.1f}",
                    _cell(goal, "milliseconds"),
                    f"{row['peak_memory'] / GIB:.2f}",
                    _cell(theirs, "gib"),
                    _cell(goal, "gib"),
                    _first_step(row),
                    f"{row['scored_per_second']:,.0f}",
                    _share(row["matrix_share"]),
                    _share(row["bandwidth_share"]),
                ]
            )
    shown = pd.DataFrame(table, columns=columns)
    return shown.loc[:, (shown != "").any()] if len(shown) else shown


def _first_step(row: pd.Series[Any]) -> str:
    """Seconds to the first step; several that compile at a time slow each other down."""
    together = int(row["side_by_side"])
    return f"{row['first_step']:.0f}" + (f" ({together} at a time)" if together > 1 else "")


def faster(rows: pd.DataFrame, references: pd.DataFrame) -> str:
    """How many times as fast as the authors' code a step is, in a sentence or two; empty if no
    model was measured that theirs was measured on.

    Args:
        rows: the step suite on Text, on the device of the references.
        references: :func:`memnb.evidence.benchmarks.references`.
    """
    both = _beside(rows, references)
    theirs, at_best = (both[both["source"] == each] for each in (AUTHORS, AT_BEST))
    if theirs.empty:
        return ""
    said = [
        f"On one {rows['device_name'].iloc[0]} a training step on Text is "
        f"{theirs['faster'].min():.1f} to {theirs['faster'].max():.1f} times as fast as the "
        f"authors' code ({_notes(theirs)})."
    ]
    said += [
        f"{naming.model_label(row['model'])} is {row['faster']:.1f} times as fast as the authors' "
        f"code at its best ({row['note']})."
        for _, row in at_best.iterrows()
    ]
    return " ".join(said)


def reading(rows: pd.DataFrame, references: pd.DataFrame) -> str:
    """:func:`faster`, and how many models meet their goals."""
    said = faster(rows, references)
    if not said:
        return "No model was measured that the authors' code was measured on."
    both = _beside(rows, references)
    goals = both[both["source"] == "goal"]
    in_time = (goals["milliseconds_ours"] <= goals["milliseconds"]).sum()
    in_memory = (goals["peak_memory"] / GIB <= goals["gib"]).sum()
    return (
        f"{said} Of {len(goals)} models with a goal, {in_memory} meet it in memory and {in_time} "
        "in time."
    )


def _beside(rows: pd.DataFrame, references: pd.DataFrame) -> pd.DataFrame:
    """The references of models that were measured, with ours and how many times as fast it is."""
    ours = rows[["model", "milliseconds", "peak_memory"]]
    both = references.merge(ours, on="model", suffixes=("", "_ours"))
    both["faster"] = both["milliseconds"] / both["milliseconds_ours"]
    return both


def _notes(theirs: pd.DataFrame) -> str:
    """How the authors' code was run, and which models otherwise than most."""
    usual = str(theirs["note"].mode()[0])
    others = theirs[theirs["note"] != usual]
    named = others["model"].map(naming.model_label) + ": " + others["note"]
    return "; ".join([usual, *named])


def _cell(row: Mapping[Hashable, Any], column: str) -> str:
    value = row.get(column, math.nan)
    return "" if math.isnan(value) else f"{value:g}"


def _share(value: float) -> str:
    return _percent(value) if value == value else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def slope_table(lengths: pd.DataFrame) -> pd.DataFrame:
    """Slopes of time and memory on logarithmic axes, a row per model and pair of lengths."""
    found = benchmarks.slopes(lengths)
    rows = [
        [
            naming.model_label(str(row["model"])),
            f"{row['from']:,} to {row['to']:,}",
            f"{row['time']:.2f}",
            f"{row['memory']:.2f}",
        ]
        for row in found.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["Model", "Tokens", "Slope of time", "Slope of memory"])


def whole_runs(rows: pd.DataFrame, goals: pd.DataFrame) -> pd.DataFrame:
    """Minutes of a whole run at full protocol, from its timed parts (the run suite).

    Args:
        rows: measured rows.
        goals: :func:`memnb.evidence.benchmarks.run_goals`.
    """
    names = ("start", "training", "evaluation", "probes", "examination", "saves", "whole")
    wanted = {
        (goal["task"], goal["model"]): float(goal["minutes"]) for goal in goals.to_dict("records")
    }
    table = []
    for _, row in benchmarks.of_suite(rows, "run").iterrows():
        goal = wanted.get((row["task"], row["model"])) if "H100" in row["device_name"] else None
        table.append(
            [
                row["device_name"],
                naming.task_label(row["task"]),
                naming.model_label(row["model"]),
                # Rows of before were not timed in their examination.
                *(f"{row['run'][name] / 60:.2f}" if name in row["run"] else "" for name in names),
                "" if goal is None else f"{goal:g}",
            ]
        )
    heads = ["Device", "Task", "Model", *(f"{name.capitalize()}, min" for name in names)]
    return pd.DataFrame(table, columns=[*heads, "Goal, min"])


def runs_reading(rows: pd.DataFrame, goals: pd.DataFrame) -> str:
    """What the table of whole runs says: goals met, and what the minutes are spent on."""
    runs = benchmarks.of_suite(rows, "run")
    runs = runs[runs["device_name"].str.contains("H100")]
    runs = runs[["task", "model", "run"]].merge(goals, on=["task", "model"])
    if runs.empty:
        return "No run with a goal was measured."
    parts = pd.DataFrame(list(runs["run"]))
    over = parts["whole"] / 60 / runs["minutes"]
    shares = parts.div(parts["whole"], axis=0)

    def spread(name: str) -> str:
        return f"{_percent(shares[name].min())} to {_percent(shares[name].max())}"

    said = (
        f"Of {len(runs)} tasks with a goal, {(over <= 1).sum()} meet it; they take "
        f"{over.min():.2f} to {over.max():.2f} times the goal. Steps are {spread('training')} of "
        f"these runs, evaluation {spread('evaluation')}, looks at the memory {spread('probes')}."
    )
    timed = "examination" in shares and shares["examination"].notna().all()
    without = "The examination at the end was not timed in all of them, and is left out there."
    return f"{said} " + (f"The examination is {spread('examination')}." if timed else without)


def optimisation_table() -> pd.DataFrame:
    """What was tried, expected and measured, and whether it stayed."""
    found = benchmarks.optimisations()
    table = found.assign(kept=found["kept"].map({True: "yes", False: "no"}))
    return table.set_axis(["What", "Expected", "Measured", "Kept"], axis=1)
