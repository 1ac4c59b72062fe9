"""What the full-scale rows say so far, in a few sentences that are made from them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from memnb import config, naming
from memnb.draw import beside_tables, tables
from memnb.draw.panels import random_choices
from memnb.evidence.claims import ENOUGH, Verdict
from memnb.evidence.levels import first_operator, in_percent, learned_above
from memnb.evidence.published import PAPER
from memnb.evidence.rows import first_and_last


def in_short(
    runs: pd.DataFrame,
    verdicts: Sequence[Verdict],
    published: pd.DataFrame,
    *,
    removal: pd.DataFrame,
    probes: pd.DataFrame,
    beginning: pd.DataFrame,
) -> dict[str, str]:
    """Each finding's name with a sentence or two; one that no row speaks of is left out.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`, those of the controls among them.
        verdicts: of :func:`memnb.evidence.claims.check`.
        published: rows of :func:`memnb.evidence.published.load`.
        removal: rows of :func:`memnb.evidence.rows.load_removal`.
        probes: rows of :func:`memnb.evidence.rows.load_probes`.
        beginning: rows of :func:`memnb.evidence.rows.load_beginning`.
    """
    full = _full(runs)
    of_listops = tables.first_operator_alone(full), _rest_of_listops(full, beginning)
    findings = {
        "Beside published numbers": _baselines(full, published),
        "ConvLuna against Luna": f"{_gains(verdicts)} {_pooling(full)}".strip(),
        "The filter without a memory": _filter_alone(full),
        "ListOps": " ".join(of_listops).strip(),
        "Rows alike": _becoming_alike(full, probes),
        "Rows taken away": _taken_away(full, removal),
    }
    return {name: said for name, said in findings.items() if said}


def seeds(runs: pd.DataFrame) -> str:
    """How many seeds the models have at full scale, for a heading. A failed one is not counted, but
    its model is."""
    tried = runs[(runs["preset"] == "paper") & (runs["changes"] == "")]
    counts = (tried["outcome"] == "finished").groupby([tried["model"], tried["task"]]).sum()
    if counts.empty:
        return "no run yet"
    low, high = int(counts.min()), int(counts.max())
    number = f"{low}" if low == high else f"{low} to {high}"
    limit = "" if low >= ENOUGH else f" so far; a verdict needs {ENOUGH}"
    return f"{number} seed{'s' if high != 1 else ''} of each model and task{limit}"


def _full(runs: pd.DataFrame) -> pd.DataFrame:
    """Finished full-scale runs of models as their names define them."""
    plain = (runs["changes"] == "") & (runs["outcome"] == "finished")
    return runs[plain & (runs["preset"] == "paper")]


def _means(runs: pd.DataFrame, model: str) -> dict[str, float]:
    """Mean test accuracy in percent by task, in the order of the benchmark."""
    means = 100 * runs[runs["model"] == model].groupby("task")["test_accuracy"].mean()
    return {task: float(means[task]) for task in naming.task_order(means.index)}


def _baselines(runs: pd.DataFrame, published: pd.DataFrame) -> str:
    """The models that others than the paper published numbers of, theirs in brackets."""
    known = published.dropna(subset=["accuracy"])
    known = known[known["source"] != PAPER]
    found, tasks = [], set[str]()
    for model in config.MODELS:
        theirs = known[known["model"].str.lower() == model]
        cells = []
        for task, ours in _means(runs, model).items():
            values = theirs.loc[theirs["task"] == task, "accuracy"]
            if len(values):
                ends = dict.fromkeys(f"{value:.1f}" for value in (values.min(), values.max()))
                cells.append(f"{naming.task_label(task)} {ours:.1f} ({' to '.join(ends)})")
                tasks.add(task)
        if cells:
            found.append(f"{naming.model_label(model)}: {', '.join(cells)}")
    if not found:
        return ""
    said = f"{'; '.join(found)}. In brackets what others published, of other setups."
    if "text" in tasks:
        said += (
            " On Text ours is the best of up to 50 evaluations of the test set, as in the authors' "
            "code."
        )
    return said


def _gains(verdicts: Sequence[Verdict]) -> str:
    """The comparisons of claim C1 at full scale."""
    (claim,) = (v for v in verdicts if v.claim == "C1" and v.preset == "paper")
    rows = claim.evidence.dropna(subset="effect")
    if rows.empty:
        return ""
    found = [
        f"{naming.task_label(task)} "
        + ", ".join(
            f"{tables.signed(row['effect'])} (M = {row['memory']})"
            for _, row in rows[rows["task"] == task].iterrows()
        )
        for task in naming.task_order(rows["task"])
    ]
    return (
        f"In points: {'; '.join(found)}. That is all that ConvLuna changes: the filter, pack's "
        "learned temperature, unpack's temperature of 1, no value projection. Claim C4 takes the "
        "first two apart."
    )


def _pooling(runs: pd.DataFrame) -> str:
    """The same of the model whose filter has no weights."""
    pooled, plain = _means(runs, "poolluna-16"), _means(runs, "luna-16")
    found = [
        f"{naming.task_label(task)} {tables.signed(pooled[task] - plain[task])}"
        for task in pooled
        if task in plain
    ]
    if not found:
        return ""
    return f"PoolLuna, the same with max pooling, minus Luna (M = 16): {', '.join(found)}."


def _filter_alone(runs: pd.DataFrame) -> str:
    """The best control of each task beside the best ConvLuna."""
    shares = beside_tables.shares_of(runs)
    found = []
    for task in dict.fromkeys(share.task for share in shares):
        top = max((s for s in shares if s.task == task), key=lambda share: share.ours.mean())
        alone = top.controls[top.best].mean()
        level = first_operator(task)
        rule = "" if level is None else f" and the first operator alone {in_percent(level)}"
        found.append(
            f"{naming.task_label(task)} {alone:.1f} ({naming.model_label(top.best)}), where the "
            f"best ConvLuna has {top.ours.mean():.1f} (M = {top.memory}){rule}"
        )
    if not found:
        return ""
    return (
        f"The best control that has run has on {'; on '.join(found)}. Controls read the mean of "
        "all positions, ConvLuna reads CLS."
    )


def _rest_of_listops(runs: pd.DataFrame, beginning: pd.DataFrame) -> str:
    """Whether models make anything of what follows ListOps' first token."""
    asked = beginning[beginning["run_id"].isin(runs["run_id"])]
    return tables.lost_without_the_rest(asked, "listops")


def _taken_away(runs: pd.DataFrame, removal: pd.DataFrame) -> str:
    """What runs that have learned something lose where half of 16 rows, or all but one, may not be
    read; whole test set."""
    learned = runs[runs["test_accuracy"] > runs["task"].map(learned_above)]
    removal = removal[removal["run_id"].isin(learned["run_id"]) & (removal["rule"] == "random")]
    found, shown = [], set[str]()
    for model in ("luna-16", "convluna-16"):
        left = 100 * removal[removal["model"] == model].pivot_table(
            index=["task", "run_id"], columns="kept", values="accuracy"
        ).reindex(columns=[16, 8, 1])
        lost = left.rsub(left[16], axis=0).dropna()
        shown |= set(lost.index.get_level_values("run_id"))
        said = []
        for task in naming.task_order(lost.index.get_level_values("task")):
            own = lost[lost.index.get_level_values("task") == task]
            said.append(f"{naming.task_label(task)} {_lost(own[8])} and {_lost(own[1])}")
        if said:
            found.append(f"{naming.model_label(model)}: {', '.join(said)}")
    if not found:
        return ""
    numbers = "; ".join(found)
    lead = "Points lost with 8 and with 1 of the 16 rows left, the others removed at random"
    if "(" in numbers:
        lead += f" (in brackets from seed to seed, where that is more than {_FAR_APART:g} points)"
    chosen = random_choices(removal[removal["run_id"].isin(shown)])
    return f"{lead}. {numbers}. {chosen}."


def _lost(points: pd.Series[float]) -> str:
    """The mean; also from where to where, if seeds lie far apart: it can be a toss-up which row
    stays."""
    ends = points.mean(), points.min(), points.max()
    mean, low, high = (f"{value:z.1f}".replace("-", "−") for value in ends)
    return f"{mean} ({low} to {high})" if points.max() - points.min() > _FAR_APART else mean


#: Points between seeds from which on their mean alone would mislead.
_FAR_APART = 2.0


#: Effective rank that has to be lost before rows count as more alike; less may be chance.
_LESS = 0.5


def _becoming_alike(full: pd.DataFrame, probes: pd.DataFrame) -> str:
    """How alike Luna's 16 rows are in the last block, first and last, on each full-scale task; and
    of Luna and ConvLuna how many runs end more alike by each measure."""
    full = full[full["task"].isin(config.LRA_TASKS)]
    looks = {model: _two_looks(full, probes, f"{model}-16") for model in ("luna", "convluna")}
    if looks["luna"].empty:
        return ""
    numbers = []
    for task in naming.task_order(looks["luna"]["task"]):
        own = looks["luna"][looks["luna"]["task"] == task]
        c0, r0 = own["cosine_first"].mean(), own["rank_first"].mean()
        c1, r1 = _each(own["cosine_last"], 2), _each(own["rank_last"], 1)
        numbers.append(
            f"{naming.task_label(task)} cosine {c0:.2f} to {c1}, effective rank {r0:.1f} to {r1}"
        )
    counts = [
        f"{naming.model_label(model)} {_more_alike(own)}"
        for model, own in looks.items()
        if len(own)
    ]
    return (
        "The paper says that the rows of Luna's memory become alike in training. Of 16 rows what "
        f"its last block reads goes, from the first look to the last: {'; '.join(numbers)} (run "
        "by run where they differ). Runs that end more alike there, by rank (more than "
        f"{_LESS:g} less) and by cosine: {'; '.join(counts)}."
    )


def _two_looks(full: pd.DataFrame, probes: pd.DataFrame, model: str) -> pd.DataFrame:
    """A line per run of ``model``: its task, and cosine and rank of the last block's packed rows at
    the first look and at the last."""
    chosen = full.loc[full["model"] == model, "run_id"]
    own = probes[probes["run_id"].isin(chosen)]
    # A run that was looked at once has not changed between two looks.
    own = own[own.groupby("run_id")["step"].transform("nunique") > 1]
    own = own[own["block"] == own.groupby("run_id")["block"].transform("max")]
    short = {"packed_cosine": "cosine", "packed_rank": "rank"}
    first, last = (
        look.set_index(["run_id", "task"])[[*short]].rename(columns=short)
        for look in first_and_last(own)
    )
    return first.add_suffix("_first").join(last.add_suffix("_last")).reset_index()


def _each(values: pd.Series[float], digits: int) -> str:
    """The mean, or the value of every run where they lie more than a twentieth of it apart."""
    apart = values.max() - values.min() > 0.05 * abs(values.mean())
    shown = list(values) if apart else [values.mean()]
    return " and ".join(f"{value:.{digits}f}" for value in shown)


def _more_alike(looks: pd.DataFrame) -> str:
    """``ListOps 2 and 1 of 2, Text 0 and 0 of 2``."""
    by_rank = looks["rank_last"] < looks["rank_first"] - _LESS
    by_cosine = looks["cosine_last"] > looks["cosine_first"]
    said = []
    for task in naming.task_order(looks["task"]):
        here = looks["task"] == task
        counts = f"{by_rank[here].sum()} and {by_cosine[here].sum()} of {here.sum()}"
        said.append(f"{naming.task_label(task)} {counts}")
    return ", ".join(said)
