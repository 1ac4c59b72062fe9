"""What the full-scale rows say so far, in a few sentences that are made from them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from memnb import config
from memnb.draw import style, tables
from memnb.evidence.claims import ENOUGH, Verdict
from memnb.evidence.levels import first_operator, in_percent
from memnb.evidence.rows import first_and_last


def in_short(
    runs: pd.DataFrame,
    removal: pd.DataFrame,
    verdicts: Sequence[Verdict],
    published: pd.DataFrame,
) -> dict[str, str]:
    """Each finding's name with a sentence or two; one that no row speaks of is left out.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`, those of the controls among them.
        removal: rows of :func:`memnb.evidence.rows.load_removal`.
        verdicts: of :func:`memnb.evidence.claims.check`.
        published: rows of :func:`memnb.evidence.published.load`.
    """
    full = _full(runs)
    findings = {
        "Beside published numbers": _baselines(full, published),
        "ConvLuna against Luna": _gains(verdicts, full),
        "The filter without a memory": _filter_alone(full),
        "ListOps": tables.first_operator_alone(full),
        "Rows taken away": _taken_away(removal[removal["run_id"].isin(full["run_id"])]),
    }
    return {name: said for name, said in findings.items() if said}


def seeds(runs: pd.DataFrame) -> str:
    """How many seeds of each main model and task there are, for a heading."""
    full = _full(runs)
    counts = full[full["model"].isin(config.MODELS)].groupby(["model", "task"])["seed"].nunique()
    if counts.empty:
        return "no run yet"
    low, high = int(counts.min()), int(counts.max())
    number = f"{low}" if low == high else f"{low} to {high}"
    limit = "" if low >= ENOUGH else f" so far; a verdict needs {ENOUGH}"
    return f"{number} seed{'s' if high > 1 else ''} of each model{limit}"


def _full(runs: pd.DataFrame) -> pd.DataFrame:
    """Finished full-scale runs of models as their names define them."""
    plain = (runs["changes"] == "") & (runs["outcome"] == "finished")
    return runs[plain & (runs["preset"] == "paper")]


def _means(runs: pd.DataFrame, model: str) -> dict[str, float]:
    """Mean test accuracy in percent by task, in the order of the benchmark."""
    means = 100 * runs[runs["model"] == model].groupby("task")["test_accuracy"].mean()
    return {task: float(means[task]) for task in style.task_order(means.index)}


def _baselines(runs: pd.DataFrame, published: pd.DataFrame) -> str:
    """The models that others published numbers of, theirs in brackets."""
    known = published.dropna(subset=["accuracy"])
    found = []
    for model in config.MODELS:
        theirs = known[known["model"].str.lower() == model]
        cells = []
        for task, ours in _means(runs, model).items():
            values = theirs.loc[theirs["task"] == task, "accuracy"]
            if len(values):
                ends = dict.fromkeys(f"{value:.1f}" for value in (values.min(), values.max()))
                cells.append(f"{style.task_label(task)} {ours:.1f} ({' to '.join(ends)})")
        if cells:
            found.append(f"{style.model_label(model)}: {', '.join(cells)}")
    if not found:
        return ""
    return f"{'; '.join(found)}. In brackets what others published, of other setups."


def _gains(verdicts: Sequence[Verdict], runs: pd.DataFrame) -> str:
    """The comparisons of claim C1 at full scale, and the same of a filter without weights."""
    (claim,) = (v for v in verdicts if v.claim == "C1" and v.preset == "paper")
    rows = claim.evidence.dropna(subset="effect")
    if rows.empty:
        return ""
    found = [
        f"{style.task_label(task)} "
        + ", ".join(
            f"{tables.signed(row['effect'])} (M = {row['memory']})"
            for _, row in rows[rows["task"] == task].iterrows()
        )
        for task in style.task_order(rows["task"])
    ]
    said = (
        f"In points: {'; '.join(found)}. That is the filter together with the learned temperature; "
        "what each adds is claim C4."
    )
    pooled, plain = _means(runs, "poolluna-16"), _means(runs, "luna-16")
    found = [
        f"{style.task_label(task)} {tables.signed(pooled[task] - plain[task])}"
        for task in pooled
        if task in plain
    ]
    if found:
        said += (
            f" PoolLuna minus Luna, with max pooling, which has no weights, as the filter: "
            f"{', '.join(found)} (M = 16)."
        )
    return said


def _filter_alone(runs: pd.DataFrame) -> str:
    """The better control of each task beside the best ConvLuna."""
    controls = {name: _means(runs, name) for name in config.FILTER_ALONE}
    memories = {name: _means(runs, name) for name in config.MODELS if name.startswith("convluna-")}
    found = []
    for task in style.task_order(set().union(*controls.values()) & set().union(*memories.values())):
        (control, alone), (model, best) = (
            max(((name, of[task]) for name, of in some.items() if task in of), key=lambda c: c[1])
            for some in (controls, memories)
        )
        level = first_operator(task)
        rule = "" if level is None else f" and the first operator alone {in_percent(level)}"
        found.append(
            f"{style.task_label(task)} {alone:.1f} ({style.model_label(control)}), where the best "
            f"ConvLuna has {best:.1f} (M = {model.partition('-')[2]}){rule}"
        )
    return f"The better of two controls has on {'; on '.join(found)}." if found else ""


def _taken_away(removal: pd.DataFrame) -> str:
    """What is lost where half of 16 rows, or all but one, may not be read; whole test set."""
    found = []
    for model in ("luna-16", "convluna-16"):
        own = removal[(removal["model"] == model) & (removal["rule"] == "random")]
        whole, half, one = (
            100 * own[own["kept"] == kept].groupby("task")["accuracy"].mean() for kept in (16, 8, 1)
        )
        lost = pd.concat([whole - half, whole - one], axis=1, keys=[8, 1]).dropna()
        said = [
            f"{style.task_label(task)} {lost[8][task]:z.1f} and {lost[1][task]:z.1f}"
            for task in style.task_order(lost.index)
        ]
        if said:
            found.append(f"{style.model_label(model)}: {', '.join(said)}".replace(" -", " −"))
    if not found:
        return ""
    lead = "Points lost with 8 and with 1 of the 16 rows left, the others removed at random."
    return f"{lead} {'; '.join(found)}."


#: Effective rank that has to be lost before rows count as more alike; less may be chance.
_LESS = 0.5


def becoming_alike(probes: pd.DataFrame) -> str:
    """How alike the 16 rows of Luna's last block are, at first and at last, on each full-scale
    task; a sentence with a space before it, or nothing.

    Args:
        probes: rows of :func:`memnb.evidence.rows.load_probes`.
    """
    plain = (probes["model"] == "luna-16") & (probes["changes"] == "")
    luna = probes[plain & probes["task"].isin(config.LRA_TASKS)]
    said, more = [], []
    for task in style.task_order(luna["task"]):
        own = luna[luna["task"] == task]
        looks = first_and_last(own[own["block"] == own["block"].max()])
        (c0, c1), (r0, r1) = (
            [look[measure].mean() for look in looks] for measure in ("packed_cosine", "packed_rank")
        )
        said.append(
            f"{style.task_label(task)} cosine {c0:.2f} to {c1:.2f}, effective rank {r0:.1f} to "
            f"{r1:.1f}"
        )
        if c1 > c0 and r1 < r0 - _LESS:
            more.append(style.task_label(task))
    if not said:
        return ""
    where = "nowhere"
    if more:
        where = f"on {' and '.join(more)}" + (" only" if len(more) < len(said) else "")
    return (
        " The paper says that rows become alike in training. In Luna's last block they go, from "
        f"the first look to the last: {'; '.join(said)}. By both measures they end more alike than "
        f"they began {where}."
    )
