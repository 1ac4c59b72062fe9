"""Tables of what stands beside the paper's models: memory between chunks and controls, recall."""

from __future__ import annotations

import textwrap

import pandas as pd

from memnb import config
from memnb.draw import beside, style, tables


def controls(runs: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of all models, those that were changed in what the head reads included.

    Args:
        runs: rows of the study ``chunks`` (:func:`memnb.evidence.rows.of_study`).

    Returns:
        Columns ``Model``, ``Head reads``, ``Parameters`` and one per task that a model beside the
        paper's has a run on. A cell is as in :func:`memnb.draw.tables.accuracy`.
    """
    tasks = style.task_order(runs.loc[runs["family"].isin(config.BESIDE), "task"])
    columns = ["Model", "Head reads", "Parameters", *map(style.task_label, tasks)]
    allowed = runs["changes"].isin(["", *(f"representation={r}" for r in ("cls", "mean"))])
    some = runs[runs["task"].isin(tasks) & allowed]
    if some.empty:
        return tables._nothing(columns)
    table = []
    for name in style.model_order(some["model"]):
        for reads, group in some[some["model"] == name].groupby("representation", sort=True):
            cells = [
                tables._cell(own) if len(own := group[group["task"] == task]) else style.MISSING
                for task in tasks
            ]
            sizes = tables._listed(f"{count:,.0f}" for count in group["parameters"].dropna())
            label = {"cls": "CLS", "mean": "mean of positions", "memory": "memory rows"}[str(reads)]
            table.append([style.model_label(name), label, sizes, *cells])
    return pd.DataFrame(table, columns=columns)


def longer(facts: pd.DataFrame) -> pd.DataFrame:
    """Accuracy at as many facts as training showed, and at more.

    Args:
        facts: of :func:`memnb.draw.beside.by_facts`.

    Returns:
        Columns ``Model``, ``Positions`` and one per multiple of the greatest number of facts in
        training. Cells are ``mean ± deviation (seeds)`` in percent.
    """
    most = beside.most_trained(facts)
    counts = [count for count in sorted(facts["facts"].unique()) if count % most == 0]
    columns = ["Model", "Positions", *(f"{count} facts" for count in counts)]
    if facts.empty:
        return tables._nothing(columns)
    table = []
    for positions in beside.POSITIONS:
        some = facts[facts["positions"] == positions]
        for name in style.model_order(some["model"]):
            own = some[some["model"] == name].assign(outcome="finished")
            own = own.rename(columns={"accuracy": "test_accuracy"})
            cells = [tables._cell(own[own["facts"] == count]) for count in counts]
            table.append([style.model_label(name), positions, *cells])
    return pd.DataFrame(table, columns=columns)


def longer_reading(facts: pd.DataFrame) -> str:
    """What the figure of recall beyond training says, with its numbers: means over the seeds.

    Args:
        facts: of :func:`memnb.draw.beside.by_facts`.
    """
    most = beside.most_trained(facts)
    plain, learned = (
        facts[facts["positions"] == kind].groupby(["model", "facts"])["accuracy"].mean() * 100
        for kind in ("none", "learned")
    )
    if plain.empty:
        return "No model without positions has a run yet."
    last = int(facts["facts"].max())
    names = style.model_order(name for name, _ in plain.index)
    falls = [
        f"{style.model_label(name)} from {plain[name, most]:.0f} to {plain[name, last]:.0f} %"
        for name in names
    ]
    found = [
        f"Without positions, from {most} facts, the most in training, to {last}: "
        f"{', '.join(falls)}. Guessing gives {100 / config.Recall.classes:.0f} %, holding "
        f"{most} facts and guessing at the others {100 * beside.holding(most, last):.0f} %."
    ]
    at_end = plain.xs(last, level="facts")
    filtered = [
        f"{tables.signed(at_end[f'conv{name}'] - at_end[name])} for {style.model_label(name)}"
        for name in names
        if f"conv{name}" in at_end
    ]
    if filtered:
        found.append(f"The filter changes accuracy at {last} facts by {_and(filtered)} (points).")
    both = [name for name in names if (name, last) in learned.index]
    changed = [learned[name, last] - at_end[name] for name in both]
    if changed:
        lower = sum(change < 0 for change in changed)
        least, greatest = tables.signed(min(changed)), tables.signed(max(changed))
        found.append(
            f"With learned positions, accuracy at {last} facts is lower for {lower} of {len(both)} "
            f"models (from {least} to {greatest} points)."
        )
    # A number and its sign stay on one line.
    lines = (textwrap.fill(sentence.replace(" %", "\u00a0%"), 100) for sentence in found)
    return "\n".join(lines).replace("\u00a0", " ")


def _and(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
