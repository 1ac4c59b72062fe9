"""Verdicts, the comparisons behind them, and what other choices make of them, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from memnb import naming
from memnb.draw.tables import interval, table
from memnb.evidence.claims import UNJUDGED, Verdict


def claims(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per claim and scale: the verdict, the deciding effect, and how to read it.

    Returns:
        Columns ``Claim``, ``Statement``, ``Scale``, ``Verdict``, ``Effect``, ``Seeds``,
        ``Reading``.
    """
    rows = [
        [
            verdict.claim,
            verdict.statement,
            _scale(verdict),
            verdict.verdict,
            effect_cell(verdict.effect, verdict.low, verdict.high, verdict.unit)
            + (f", {verdict.wanted}" if verdict.wanted else ""),
            f"{verdict.n}" if verdict.n else "–",
            verdict.reading,
        ]
        for verdict in verdicts
    ]
    columns = ["Claim", "Statement", "Scale", "Verdict", "Effect", "Seeds", "Reading"]
    return pd.DataFrame(rows, columns=columns)


def in_short(verdicts: Sequence[Verdict], *names: str) -> str:
    """The verdicts on these claims, a line each, and of how many comparisons judged they hold at
    each scale; of a claim that says several things, how many of each."""
    lines = []
    for name in names:
        said = [
            f"at {naming.preset_label(verdict.preset)} {_verdict_in_short(verdict)}"
            for verdict in verdicts
            if verdict.claim == name
        ]
        lines.append(f"{name}: {'; '.join(said)}.")
    return "\n".join(lines)


def _verdict_in_short(verdict: Verdict) -> str:
    held, judged = verdict.held
    if not judged:
        return verdict.verdict
    parts = []
    known = verdict.evidence[~verdict.evidence["result"].isin(UNJUDGED)]
    for part in filter(None, known["part"].unique()):
        results = known.loc[known["part"] == part, "result"]
        parts.append(f"{part} {results.eq('holds').sum()} of {len(results)}")
    more = f": {', '.join(parts)}" if parts else ""
    return f"{verdict.verdict} ({held} of {judged} hold{more})"


def judged_claims(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per claim and scale that has enough runs: how much holds, and what decides.

    Returns:
        Columns ``Claim`` (with its statement where it comes first), ``Scale``, ``Verdict``,
        ``Hold`` (of the comparisons judged), ``Decided by``, ``Effect``, ``Seeds``.
    """
    columns = ["Claim", "Scale", "Verdict", "Hold", "Decided by", "Effect", "Seeds"]
    rows = []
    stated = set[str]()
    together = sorted(verdicts, key=lambda verdict: verdict.claim)  # its scales stay in order
    for verdict, line in zip(together, claims(together).to_dict("records"), strict=True):
        held, judged = verdict.held
        if not judged:
            continue
        said = "" if verdict.claim in stated else f". {verdict.statement}"
        stated.add(verdict.claim)
        rows.append(
            [
                f"{verdict.claim}{said}",
                line["Scale"],
                line["Verdict"],
                f"{held} of {judged}",
                verdict.decided_by or "–",
                line["Effect"],
                line["Seeds"],
            ]
        )
    return table(rows, columns)


def sensitivity(by_choice: Mapping[str, Sequence[Verdict]]) -> pd.DataFrame:
    """The verdicts under other choices, with how many of the comparisons judged hold.

    Args:
        by_choice: of :func:`memnb.evidence.sensitivity.verdicts`.

    Returns:
        Columns ``Claim`` and ``Scale``, then one per choice, which says so where it changes no
        comparison; no row where nothing is judged under any.
    """
    columns = ["Claim", "Scale", *by_choice]
    rows = [
        [
            same[0].claim,
            _scale(same[0]),
            *(_verdict_and_share(verdict, same[0]) for verdict in same),
        ]
        for same in zip(*by_choice.values(), strict=True)
        if any(verdict.held[1] for verdict in same)
    ]
    return table(rows, columns)


def _scale(verdict: Verdict) -> str:
    return naming.preset_label(verdict.preset).removesuffix(" scale")


def _verdict_and_share(verdict: Verdict, rule: Verdict) -> str:
    if verdict is not rule and verdict.evidence.equals(rule.evidence):
        return "the same rows"
    held, judged = verdict.held
    return f"{verdict.verdict} ({held} of {judged})" if judged else verdict.verdict


def comparisons(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """Every comparison behind the verdicts, one per row.

    Returns:
        Columns ``Claim``, ``Scale``, ``Task``, ``Comparison``, ``Measure``, ``Effect``,
        ``Target``, ``Seeds``, ``Result``.
    """
    columns = ["Claim", "Scale", "Task", "Comparison", "Measure", "Effect", "Target", "Seeds",
               "Result"]  # fmt: skip
    rows = [
        [
            verdict.claim,
            _scale(verdict),
            naming.task_label(row["task"]),
            naming.comparison_label(row["a"], row["b"]),
            row["measure"],
            effect_cell(row["effect"], row["low"], row["high"], row["unit"]),
            row["target"],
            _seeds(row),
            row["result"],
        ]
        for verdict in verdicts
        for _, row in verdict.evidence.iterrows()
    ]
    return table(rows, columns)


def effect_cell(effect: float, low: float, high: float, unit: str) -> str:
    """``15.3 [12.6, 18.0] points``."""
    if math.isnan(effect):
        return "–"
    digits = 1 if unit == "points" else 2
    shown = f"{effect:z.{digits}f}".replace("-", "−")
    return f"{shown}{interval(low, high, digits)} {unit}"


def _seeds(row: pd.Series[Any]) -> str:
    count = f"{row['n_a']} and {row['n_b']}" if row["b"] else f"{row['n_a']}"
    failed = row["failed_a"] + row["failed_b"]
    return f"{count}, {failed} failed" if failed else count
