"""What the full-scale rows say so far: one table of findings, made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from memnb import config, naming
from memnb.draw import alike, beside_tables, filter_tables, tables
from memnb.draw.panels import finished, plain_models, random_choices
from memnb.evidence.claims import PARTS, UNJUDGED, WAS_SO, Verdict, verdict_on
from memnb.evidence.levels import learned_above, levels_of
from memnb.evidence.published import PAPER
from memnb.evidence.rows import looks
from memnb.evidence.sensitivity import AS_JUDGED
from memnb.evidence.statistics import ENOUGH
from memnb.words import counted, span


@dataclass(frozen=True)
class Short:
    """The findings.

    Attributes:
        gist: the most important of them, a sentence each, for who reads nothing else.
        answers: what the rows say so far, by the question.
        table: a row per number that any row of results speaks of, a column per task.
        notes: how the numbers of the table are to be read.
    """

    gist: list[str]
    answers: dict[str, str]
    table: pd.DataFrame
    notes: list[str]


#: The first column of the table, and a task that a finding says nothing of.
FINDING, NOTHING = "At full scale", "–"

#: What a finding says of tasks.
Cells = Mapping[str, str]


def in_short(
    runs: pd.DataFrame,
    verdicts: Sequence[Verdict],
    published: pd.DataFrame,
    *,
    removal: pd.DataFrame,
    probes: pd.DataFrame,
    causal: pd.DataFrame,
    beginning: pd.DataFrame,
) -> Short:
    """Accuracy beside others', gains, controls, and what becomes of the memory's rows.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`, those of the controls among them.
        verdicts: of :func:`memnb.evidence.claims.check`.
        published: rows of :func:`memnb.evidence.published.load`.
        removal: rows of :func:`memnb.evidence.rows.load_removal`.
        probes: rows of :func:`memnb.evidence.rows.load_probes`.
        causal: rows of :func:`memnb.evidence.rows.load_causal`.
        beginning: rows of :func:`memnb.evidence.rows.load_beginning`.
    """
    full, paper = _full(runs), runs[runs["preset"] == "paper"]
    parts = (
        _baselines(full, published),
        _gains(verdicts),
        _Part({}, "Which part of ConvLuna matters?", filter_tables.taken_apart(verdicts, "paper")),
        _controls(full, runs),
        _on_listops(full, beginning),
        _alike(full, probes, verdicts),
        _Part({}, "Do alike rows go with low accuracy?", alike.in_words(paper, probes)),
        _taken_away(full, removal, causal),
    )
    findings = {name: cells for part in parts for name, cells in part.findings.items() if cells}
    tasks = naming.task_order({task for cells in findings.values() for task in cells})
    table = pd.DataFrame(
        [[name, *(cells.get(task, NOTHING) for task in tasks)] for name, cells in findings.items()],
        columns=[FINDING, *map(naming.task_label, tasks)],
    )
    told = [p for p in parts if not p.findings or any(p.findings.values())]
    answers = {part.question: part.answer for part in told if part.answer}
    gist = _gist(runs, verdicts, _alike_over_blocks(full, probes), removal)
    return Short(gist, answers, table, [part.note for part in told if part.note])


def _gist(
    runs: pd.DataFrame, verdicts: Sequence[Verdict], cosines: pd.DataFrame, removal: pd.DataFrame
) -> list[str]:
    """Gains by task, the filter alone, what becomes of Luna-16's rows, and what half of them are
    worth; ``cosines`` are those of :func:`_alike_over_blocks`."""
    said = []
    gains = [(task, own["effect"]) for task, own in _gains_by_task(verdicts)]
    if gains:
        ranges = [
            f"{span(effects, tables.signed)} on {naming.task_label(task)}"
            for task, effects in sorted(gains, key=lambda gain: -gain[1].max())
        ]
        said.append(
            "ConvLuna's accuracy minus Luna's, with as many memory rows, in points: "
            f"{', '.join(ranges)}."
        )
    said.append(beside_tables.filter_alone_by_task(runs))
    if len(cosines):
        falls = int((cosines["last"] < cosines["first"]).sum())
        said.append(
            "The paper says that Luna's memory rows become alike in training; Luna-16's end less "
            f"alike than they began, by their mean cosine, in {falls} of "
            f"{counted(len(cosines), 'run')}."
        )
    learned = _learned(_full(runs))
    losses = []
    for model in ("luna-16", "convluna-16"):
        lost = _lost_with(removal, learned, model)[8].groupby("task").mean()
        if len(lost):
            said_of = span(lost, tables.unsigned)
            losses.append(f"{naming.model_label(model)} loses {said_of} points")
    if losses:
        said.append(f"Without half of its 16 rows, chosen at random, {', '.join(losses)}.")
    return list(filter(None, said))


class _Part(NamedTuple):
    """Numbers by task, what they answer, and how they are to be read."""

    findings: Mapping[str, Cells]
    question: str = ""
    answer: str = ""
    note: str = ""


def seeds(runs: pd.DataFrame) -> str:
    """How many seeds the models have at full scale, for a heading. A failed one is not counted, but
    its model is."""
    tried = plain_models(runs[runs["preset"] == "paper"])
    counts = (tried["outcome"] == "finished").groupby([tried["model"], tried["task"]]).sum()
    if counts.empty:
        return "no run yet"
    low, high = int(counts.min()), int(counts.max())
    number = counted(high, "seed")
    number = number if low == high else f"{low} to {number}"
    limit = "" if low >= ENOUGH else f" so far; a verdict needs {ENOUGH}"
    return f"{number} of each model and task{limit}"


def under_other_choices(by_choice: Mapping[str, Sequence[Verdict]]) -> str:
    """Which verdicts would be others, and under which choices.

    Args:
        by_choice: of :func:`memnb.evidence.sensitivity.verdicts`.
    """
    others = {choice: found for choice, found in by_choice.items() if choice != AS_JUDGED}
    touched, changed = 0, []
    for place, rule in enumerate(by_choice[AS_JUDGED]):
        choices: dict[str, list[str]] = {}
        for choice, found in others.items():
            if found[place].verdict != rule.verdict:
                choices.setdefault(found[place].verdict, []).append(choice)
        touched += any(
            found[place].held[1] and not found[place].evidence.equals(rule.evidence)
            for found in others.values()
        )
        if choices:
            to = " or ".join(f"*{answer}* ({', '.join(by)})" for answer, by in choices.items())
            changed.append(f"{rule.claim} at {naming.preset_label(rule.preset)} would be {to}")
    which = f": {'; '.join(changed)}" if changed else ""
    return (
        f"{len(others)} other choices of seeds, accuracies, runs and intervals give other numbers "
        f"to {touched} of the verdicts, and change {len(changed)} of them{which}."
    )


def _full(runs: pd.DataFrame) -> pd.DataFrame:
    """Finished full-scale runs of models as their names define them."""
    return finished(runs[runs["preset"] == "paper"])


def _baselines(runs: pd.DataFrame, published: pd.DataFrame) -> _Part:
    """Accuracy of models of which others than the paper published numbers, theirs in brackets."""
    known = published.dropna(subset=["accuracy"])
    known = known[known["source"] != PAPER]
    found: dict[str, Cells] = {}
    for model in config.MODELS:
        theirs = known[known["model"].str.lower() == model]
        means = 100 * runs[runs["model"] == model].groupby("task")["test_accuracy"].mean()
        cells = {}
        for task, ours in means.items():
            values = theirs.loc[theirs["task"] == task, "accuracy"]
            if len(values):
                cells[str(task)] = f"{ours:.1f} ({span(values, '{:.1f}'.format)})"
        found[f"{naming.model_label(model)}, accuracy (others')"] = cells
    said = (
        "Accuracy: in percent, mean over seeds; in brackets what others published, of other setups."
    )
    if any("text" in cells for cells in found.values()):
        said += (
            " On Text each number of ours is the best of up to 50 evaluations of the test set, as "
            "in the authors' code."
        )
    return _Part(found, note=said)


def _gains(verdicts: Sequence[Verdict]) -> _Part:
    """The comparisons of claim C1 at full scale: from where to where their effects go."""
    ranges = []
    for task, own in _gains_by_task(verdicts):
        judged = own[~own["result"].isin(UNJUDGED)]
        number = counted(len(judged), "comparison")
        number = number if len(judged) == len(own) else f"{len(judged)} that can be judged"
        held = f"holds in {judged['result'].eq('holds').sum()} of {number}"
        so_far = held if len(judged) else "none can be judged yet"
        effects = span(own["effect"], tables.signed)
        ranges.append(f"{effects} on {naming.task_label(task)} ({so_far})")
    if not ranges:
        return _Part({})
    said = (
        f"With as many memory rows, in points: {', '.join(ranges)}. Besides the filter ConvLuna "
        "has a learned pack temperature, an unpack temperature of 1, and no value projection; "
        "claim C4 takes filter and pack temperature away."
    )
    return _Part({}, "Is ConvLuna more accurate than Luna?", said)


def _gains_by_task(verdicts: Sequence[Verdict]) -> list[tuple[str, pd.DataFrame]]:
    """What claim C1 compares at full scale, task by task, as far as both sides have run."""
    rows = verdict_on(verdicts, "C1", "paper").evidence.dropna(subset="effect")
    return [(task, rows[rows["task"] == task]) for task in naming.task_order(rows["task"])]


def _controls(runs: pd.DataFrame, every: pd.DataFrame) -> _Part:
    """The better control of each task, which has the filter alone, beside the best ConvLuna, and
    what follows where there are enough seeds."""
    said = []
    shares = beside_tables.shares_of(runs)
    for task in dict.fromkeys(share.task for share in shares):
        top = max((s for s in shares if s.task == task), key=lambda share: share.ours.mean())
        alone = top.controls[top.best]
        said.append(
            f"{alone.mean():.1f} on {naming.task_label(task)} ({naming.model_label(top.best)}, "
            f"n = {len(alone)}), where the best ConvLuna has {top.ours.mean():.1f} "
            f"(M = {top.memory})"
        )
    if not said:
        return _Part({})
    follows = beside_tables.filter_alone_in_short(every)
    where = " where it does not say mean" if "(mean)" in follows else ""
    reads = f"Controls read the mean of all positions, ConvLuna the first one (CLS){where}."
    answer = " ".join(filter(None, [follows, f"The better control has {'; '.join(said)}.", reads]))
    return _Part({}, "Does the filter need a memory?", answer)


def _on_listops(runs: pd.DataFrame, beginning: pd.DataFrame) -> _Part:
    """What takes no memory on ListOps, and whether models make anything of the rest."""
    asked = beginning[beginning["run_id"].isin(runs["run_id"])]
    note = tables.without_the_rest(asked, "listops")
    said = tables.first_operator_alone(runs)
    return _Part({}, "Is more of ListOps read than its first token?", said, note)


def _alike(full: pd.DataFrame, probes: pd.DataFrame, verdicts: Sequence[Verdict]) -> _Part:
    """How alike 16 rows are in the last block, at the first look in training and at the last."""
    full = full[full["task"].isin(config.LRA_TASKS)]
    tasks = dict(zip(full["run_id"], full["task"], strict=True))
    found: dict[str, dict[str, str]] = {}
    for model in ("luna-16", "convluna-16"):
        for measure, name, digits in (
            ("packed_cosine", "cosine", 2),
            ("packed_rank", "effective rank", 1),
        ):
            ends = _ends(full, probes, model, measure)
            cells = found.setdefault(f"{naming.model_label(model)}, last block: {name}", {})
            for task, own in ends.groupby(ends.index.map(tasks)):
                begun, ended = own["deepest_first"].mean(), _each(own["deepest_last"], digits)
                cells[str(task)] = f"{begun:.{digits}f} → {ended}"
    note = (
        "Last block: mean cosine of the 16 vectors that tokens read there (1: all point the same "
        "way) and effective rank (1: one direction is left), first and last look; a range where "
        "runs end apart."
    )
    answer = f"{_over_all_blocks(full, probes, tasks)}{_alike_from_the_first(verdicts)}"
    return _Part(found, "Do the rows of Luna's memory become alike in training?", answer, note)


def _over_all_blocks(full: pd.DataFrame, probes: pd.DataFrame, tasks: Mapping[str, str]) -> str:
    """Where Luna-16's mean cosine over all blocks begins and ends, and its effective rank."""
    ends = _alike_over_blocks(full, probes)
    if ends.empty:
        return ""
    begun, ended = (f"{ends[end].min():.2f} to {ends[end].max():.2f}" for end in ("first", "last"))
    ranks = _ends(full, probes, "luna-16", "packed_rank")
    first, last = (ranks[end].groupby(ranks.index.map(tasks)).mean() for end in ("first", "last"))
    went = ", ".join(
        f"{first[task]:.1f} → {last[task]:.1f} on {naming.task_label(task)}"
        for task in naming.task_order(first.index)
    )
    of_rank = f" Their mean effective rank, lower where rows are more alike, goes {went}."
    return (
        f"The paper says yes. Over all blocks Luna-16's mean cosine is {begun} at the first look "
        f"and {ended} at the last: it falls in {(ends['last'] < ends['first']).sum()} of "
        f"{len(ends)} runs.{of_rank if went else ''} The last block, in the table, is another "
        "matter."
    )


def _alike_over_blocks(full: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """Luna-16's mean cosine over all blocks, at the first look and at the last, by run."""
    return _ends(full[full["task"].isin(config.LRA_TASKS)], probes, "luna-16", "packed_cosine")


def _alike_from_the_first(verdicts: Sequence[Verdict]) -> str:
    """Whether rows that claim C3 finds alike at the end became so."""
    compared = verdict_on(verdicts, "C3", "paper").evidence
    held = compared[compared["result"] == "holds"]
    at_the_end = held[held["part"] == PARTS["C3"][0]]
    if at_the_end.empty:
        return ""
    begun = int(at_the_end["note"].str.contains(WAS_SO, regex=False).sum())
    return (
        f" Of {len(at_the_end)} comparisons of C3 that find rows alike at the end, {begun} did so "
        "at the first look."
    )


def _ends(full: pd.DataFrame, probes: pd.DataFrame, model: str, measure: str) -> pd.DataFrame:
    """:func:`looks` of the runs of ``model`` that were looked at more than once."""
    chosen = full.loc[full["model"] == model, "run_id"]
    return looks(probes[probes["run_id"].isin(chosen)], measure).dropna()


def _each(values: pd.Series[float], digits: int) -> str:
    """The mean, or from where to where if runs lie more than a twentieth of it apart."""
    apart = values.max() - values.min() > 0.05 * abs(values.mean())
    shown = (values.min(), values.max()) if apart else (values.mean(),)
    return " to ".join(f"{value:.{digits}f}" for value in shown)


def _taken_away(runs: pd.DataFrame, removal: pd.DataFrame, causal: pd.DataFrame) -> _Part:
    """What runs that have learned something lose where half of 16 rows, or all but one, may not be
    read (whole test set), and where all rows are their mean."""
    learned = _learned(runs)
    tests = causal[causal["run_id"].isin(learned["run_id"])]
    found: dict[str, Cells] = {}
    shown = set[str]()
    fewer = []
    for model in ("luna-16", "convluna-16"):
        lost = _lost_with(removal, learned, model)
        shown |= set(lost.index.get_level_values("run_id"))
        name = naming.model_label(model)
        for kept in (8, 1):
            found[f"{name}, points lost with {kept} of 16 rows left"] = _lost_by_task(lost[kept])
        asked = 100 * tests[tests["model"] == model].pivot_table(
            index=["task", "run_id"], columns="test", values="accuracy"
        ).reindex(columns=["intact", _MEAN])
        levelled = (asked["intact"] - asked[_MEAN]).dropna()
        found[f"{name}, points lost with every row the mean of all"] = _lost_by_task(levelled)
        fewer += _fewer_asked(name, learned[learned["model"] == model], levelled)
    chosen = random_choices(removal[removal["run_id"].isin(shown) & (removal["rule"] == "random")])
    unasked = f"; not every seed was asked: {', '.join(fewer)}" if fewer else ""
    note = (
        f"Rows left: the others are removed. {chosen}. The mean of all: on 500 test "
        f"examples{unasked}. In brackets from seed to seed, where that is more than "
        f"{_FAR_APART:g} points. Always the same answer gives {_same_answer(found)}."
    )
    return _Part(found, note=note)


def _learned(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that have learned something."""
    return runs[runs["test_accuracy"] > runs["task"].map(learned_above)]


def _lost_with(removal: pd.DataFrame, runs: pd.DataFrame, model: str) -> pd.DataFrame:
    """Points that each of ``runs`` loses with 16, 8 and 1 of 16 rows left, chosen at random;
    indexed by task and run."""
    own = removal["run_id"].isin(runs["run_id"]) & (removal["model"] == model)
    left = 100 * removal[own & (removal["rule"] == "random")].pivot_table(
        index=["task", "run_id"], columns="kept", values="accuracy"
    ).reindex(columns=[16, 8, 1])
    return left.rsub(left[16], axis=0).dropna()


#: The causal test in which every row is the mean of all.
_MEAN = "mean"


def _fewer_asked(name: str, learned: pd.DataFrame, lost: pd.Series[float]) -> list[str]:
    """On which tasks some runs of a model were not asked, though others were: ``Luna-16 on ListOps
    2 of 3``. ``lost`` is indexed by task and run."""
    asked, runs = lost.groupby("task").size(), learned.groupby("task").size()
    return [
        f"{name} on {naming.task_label(task)} {asked[task]} of {runs[task]}"
        for task in naming.task_order(asked.index)
        if asked[task] < runs[task]
    ]


def _lost_by_task(lost: pd.Series[float]) -> dict[str, str]:
    """``lost`` is indexed by task and run."""
    return {str(task): _lost(own) for task, own in lost.groupby("task")}


def _same_answer(found: Mapping[str, Cells]) -> str:
    """What always giving the commonest answer gives on the tasks of these findings."""
    tasks = naming.task_order({task for cells in found.values() for task in cells})
    said = [f"{100 * levels_of(task).constant:.0f} on {naming.task_label(task)}" for task in tasks]
    return ", ".join(said)


def _lost(points: pd.Series[float]) -> str:
    """The mean; also from where to where, if seeds lie far apart: it can be a toss-up which row
    stays."""
    ends = points.mean(), points.min(), points.max()
    mean, low, high = (tables.unsigned(value) for value in ends)
    return f"{mean} ({low} to {high})" if points.max() - points.min() > _FAR_APART else mean


#: Points between seeds from which on their mean alone would mislead.
_FAR_APART = 2.0
