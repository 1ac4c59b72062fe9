"""The paper's claims as tests on rows: effect, interval, verdict.

Each claim is a set of *comparisons*. A comparison estimates one number over seeds (a difference of
two means, or one mean) with its 95 % interval, and *holds* when the whole interval lies inside its
target, such as "> 0". It is judged only with at least three finished runs on each side; before
that its effect is shown and nothing is concluded. Nor is anything concluded from accuracies that
take no memory (:mod:`memnb.evidence.levels`): where no run of either side is above the level of the
majority class, or none is more than two points above what the first operator of ListOps gives.
Models that know no more than that say nothing of what a memory, or a part of it, is good for. The
verdict then follows one of two rules:

* *every* (C1, C3, C4, C5): supported if all judged comparisons hold, partly supported if some do
  (one of them with an interval for all together, see below), not supported otherwise. C3 and C4
  say several things each (:data:`PARTS`); as long as nothing can be judged about one of them, the
  claim is at best partly supported;
* *any* (C2, "at least one task"): supported if one holds, not supported otherwise.

Where nothing can be judged the verdict is "not enough runs". "Not supported" means that these
rows do not show the claim; whether they rule it out stands in the evidence.

Multiple comparisons: "supported" under the rule "every" needs no correction, since the claim is
only as strong as its weakest comparison. "At least one" would profit from trying many, so the
intervals of C2 are simultaneous (Bonferroni over the tasks compared), and "partly supported" takes
one comparison that holds with an interval for all that are judged together. Nothing is corrected
across claims.

The full protocol (preset "paper") and the laptop one ("quick") are judged apart; changed ones
("custom") not at all. Full scale is judged on the benchmark's own tasks; no claim rests on
Retrieval's substitute. The thresholds are this project's choice, not the paper's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import pandas as pd

from memnb.config import LRA_TASKS, TASKS
from memnb.evidence.levels import (
    Which,
    have_all_learned_nothing,
    in_percent,
    is_first_operator_enough,
    learned_above,
    levels_of,
)
from memnb.evidence.rows import ENDED, looks
from memnb.evidence.statistics import ENOUGH, LEVEL, difference, mean
from memnb.naming import comparison_label, model_label, task_label

Answer = Literal["supported", "partly supported", "not supported", "not enough runs"]

PRESETS = ("paper", "quick")
#: The measure of most comparisons, which a reading does not name.
ACCURACY = "test accuracy"
#: Comparisons that a reading lists where none is judged.
SHOWN = 4
#: C3: rows count as collapsed above this mean pairwise cosine of the packed rows ...
COLLAPSED_COSINE = 0.9
#: ... and below this share of the way from one direction, rank 1, to the largest rank they could
#: have, min(M, H).
COLLAPSED_RANK = 0.25
#: C3: removing rows "does not change" the accuracy if it changes less than this (points).
EQUIVALENT = 1.0
#: C4 is tested at this memory size: that of the ConvLuna whose parts are exchanged one by one.
ABLATION_MEMORY = 16

#: C5: the two kinds of memory between chunks.
CHUNK_FAMILIES = ("chunkmem", "rmt")

STATEMENTS = {
    "C1": "A filter on the memory's input helps: ConvLuna is more accurate than Luna with the "
    "same number of memory rows.",
    "C2": "With filtered input one memory row can beat the Transformer, on at least one task.",
    "C3": "In Luna the packed memory rows collapse during training, more than in ConvLuna, and "
    "removing them at test time does not change the accuracy.",
    "C4": "The filter and the learnable pack temperature both matter.",
    "C5": "The filter also helps a memory that carries information from chunk to chunk.",
}

#: Results of comparisons that say nothing, whatever their effect: of models that have learned
#: nothing, and of models that may owe all they know to one token of ListOps.
SILENT, SHALLOW = "neither has learned", "the first operator would do"
#: Results from which nothing is concluded.
UNJUDGED = ("not enough runs", SILENT, SHALLOW)

#: The claims that one comparison can settle.
ANY_SUFFICES = ("C2",)
#: Said where older runs are among those that rows were taken from.
ONE_CHOICE = "runs that took the same random rows from all examples are among those of row removal"
#: Said of rows that are alike at the end, where the same comparison holds at the first look.
WAS_SO = "so at the first look already"
#: The things a claim says, where it says more than one.
PARTS = {
    "C3": (
        "alike at the end",
        "more alike than at first",
        "more alike than ConvLuna's",
        "row removal",
    ),
    "C4": ("filter", "pack temperature"),
}

EVIDENCE_COLUMNS = (
    "part", "task", "memory", "measure", "a", "b", "mean_a", "mean_b", "effect", "low", "high",
    "unit", "target", "n_a", "n_b", "failed_a", "failed_b", "left_out_a", "left_out_b", "result",
    "note",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the rows of one scale say about one claim.

    ``effect``, ``low``, ``high``, ``n`` and ``unit`` are those of the comparison that decides: the
    weakest one under the rule "every", the strongest under "any" (for C3 the weakest cosine);
    ``n`` is the smaller side's number of runs, ``target`` what the effect should be. ``evidence``
    holds every comparison, with the columns :data:`EVIDENCE_COLUMNS`; ``b`` is empty where one mean
    is compared with a target. ``reading`` is one sentence for the report, and
    ``decided_by`` the name of the comparison that decides, or empty.
    """

    claim: str
    statement: str
    preset: str
    verdict: Answer
    effect: float
    low: float
    high: float
    n: int
    unit: str
    target: str
    evidence: pd.DataFrame
    reading: str
    decided_by: str

    @property
    def held(self) -> tuple[int, int]:
        """How many comparisons hold, and how many are judged."""
        results = self.evidence["result"]
        return int(results.eq("holds").sum()), int((~results.isin(UNJUDGED)).sum())

    @property
    def wanted(self) -> str:
        """The target in words, where it does not go without saying; else empty."""
        return "" if self.target in ("", POSITIVE.text) else f"wanted {self.target}"


#: The columns of runs that verdicts rest on. Hundreds of selections copy no others, which halves
#: the time of :func:`check`.
_JUDGED_BY = (
    "run_id", "task", "model", "family", "memory", "width", "changes", "seed", "outcome",
    "test_accuracy",
)  # fmt: skip


def check(
    runs: pd.DataFrame,
    removal: pd.DataFrame,
    probes: pd.DataFrame,
    *,
    count_all: bool = False,
    which: Which = "test",
    paired: bool = False,
) -> list[Verdict]:
    """The verdict on each claim, C1 to C5, at full scale and then at laptop scale.

    The frames are those of :func:`memnb.evidence.rows.load_runs`, ``load_removal`` and
    ``load_probes``; empty ones are welcome. Three options are not the rule, but what
    :func:`memnb.evidence.sensitivity.verdicts` sets beside it: with ``count_all`` what has learned
    nothing, or no more than one token, counts like everything else; ``which`` says on which set
    the accuracies of ``runs`` were measured; with ``paired`` differences are taken seed by seed.
    """
    verdicts = []
    for preset in PRESETS:
        here = runs.loc[runs["preset"] == preset, list(_JUDGED_BY)]
        compared: dict[str, list[Comparison]] = {
            "C1": _filter_helps(here, "luna", "convluna"),
            "C2": _one_row_suffices(here),
            "C3": _memory_degrades(here, removal, probes, count_all),
            "C4": _both_parts_matter(here),
            "C5": [c for kind in CHUNK_FAMILIES for c in _filter_helps(here, kind, f"conv{kind}")],
        }
        for claim, found in compared.items():
            known = [replace(c, paired=paired) for c in found]
            known = known if count_all else [_beyond_levels(c, which) for c in known]
            verdicts.append(_judge(claim, preset, known))
    return verdicts


def verdict_on(verdicts: Iterable[Verdict], claim: str, preset: str) -> Verdict:
    """The one on a claim at one scale."""
    return next(v for v in verdicts if (v.claim, v.preset) == (claim, preset))


# --- comparisons -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """The open interval in which an estimate must lie."""

    text: str
    above: float = -math.inf
    below: float = math.inf


POSITIVE = Target("> 0", above=0)
NEGATIVE = Target("< 0", below=0)
COLLAPSED = Target(f"> {COLLAPSED_COSINE}", above=COLLAPSED_COSINE)
FLAT = Target(f"< {COLLAPSED_RANK}", below=COLLAPSED_RANK)
UNCHANGED = Target(f"within ±{EQUIVALENT:g}", above=-EQUIVALENT, below=EQUIVALENT)


class LeftOut(NamedTuple):
    """Runs at the majority level, which say nothing of their memory: how many of the finished."""

    model: str
    task: str
    runs: int
    finished: int

    @property
    def in_words(self) -> str:
        return f"{self.model} {self.runs} of {self.finished}"


@dataclass(frozen=True)
class Side:
    """Runs of one model: a value per finished run but those left out, with its seed, and the ids
    of those that failed."""

    label: str
    values: tuple[float, ...] = ()
    failed: frozenset[str] = frozenset()
    left_out: LeftOut | None = None
    seeds: tuple[int, ...] = ()

    @property
    def seen(self) -> bool:
        return bool(self.values or self.failed)


@dataclass(frozen=True)
class Comparison:
    """One estimate and its target: mean(a) − mean(b), or mean(a) alone where b is None."""

    task: str
    memory: int
    measure: str
    unit: str
    target: Target
    a: Side
    b: Side | None = None
    level: float = LEVEL
    part: str = ""
    notes: tuple[str, ...] = ()
    silent: bool = False
    """Of accuracies: no run of either side is above the level of the majority class."""
    shallow: float | None = None
    """Of accuracies: what the first operator alone gives, where no run of either side is much above
    it."""
    paired: bool = False
    """Whether a difference is the mean of those of the seeds that both sides have."""

    @cached_property
    def estimate(self) -> tuple[float, float, float]:
        """Effect, low, high."""
        if self.b is None or self.paired:
            one = mean(self._by_seed if self.b else self.a.values, self.level)
            return one.mean, one.low, one.high
        return difference(self.a.values, self.b.values, self.level)[:3]

    @property
    def _by_seed(self) -> list[float]:
        """The differences of the seeds that both sides have."""
        a, b = (dict(zip(side.seeds, side.values, strict=True)) for side in self.sides)
        return [a[seed] - b[seed] for seed in a if seed in b]

    @property
    def kind(self) -> tuple[str, Target]:
        """Comparisons of one kind can be ranked: distances in points and in cosines cannot."""
        return self.measure, self.target

    @property
    def sides(self) -> list[Side]:
        return [self.a] if self.b is None else [self.a, self.b]

    @property
    def left_out(self) -> list[LeftOut]:
        return [side.left_out for side in self.sides if side.left_out]

    @property
    def n(self) -> int:
        if self.b and self.paired:
            return len(self._by_seed)
        return min(len(side.values) for side in self.sides)

    @property
    def judged(self) -> bool:
        return self.n >= ENOUGH and not self.silent and self.shallow is None

    @property
    def holds(self) -> bool:
        return self.judged and self.slack > 0

    def holds_among(self, number: int) -> bool:
        """Whether it holds with an interval for ``number`` comparisons together (Bonferroni)."""
        return replace(self, level=1 - (1 - self.level) / number).holds

    @property
    def slack(self) -> float:
        """Distance from the interval to the nearer end of the target; negative outside."""
        effect, low, high = self.estimate
        if not self.judged:
            low = high = effect
        return min(low - self.target.above, self.target.below - high)

    @property
    def result(self) -> str:
        if self.n < ENOUGH:
            return "not enough runs"
        if self.silent:
            return SILENT
        if self.shallow is not None:
            return SHALLOW
        if self.holds:
            return "holds"
        _, low, high = self.estimate
        outside = high < self.target.above or low > self.target.below
        return "ruled out" if outside else "not shown"

    def row(self) -> tuple[object, ...]:
        """The comparison as a row of :data:`EVIDENCE_COLUMNS`."""
        a, b = self.a, self.b or Side("")
        return (
            self.part, self.task, self.memory, self.measure, a.label, b.label,
            mean(a.values).mean, mean(b.values).mean, *self.estimate, self.unit,
            self.target.text, len(a.values), len(b.values), len(a.failed), len(b.failed),
            *(side.left_out.runs if side.left_out else 0 for side in (a, b)), self.result,
            "; ".join([*self.notes, *_left_out(self.left_out)]),
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Such as ``ListOps short, Luna-4, packed cosine``; accuracies are not named."""
        models = comparison_label(*(side.label for side in self.sides))
        measure = "" if self.measure == ACCURACY else f", {self.measure}"
        return f"{task_label(self.task)}, {models}{measure}"

    def __str__(self) -> str:
        effect, low, high = self.estimate
        signed = self.b or self.target in (POSITIVE, NEGATIVE)
        form = ("+" if signed else "") + ("z.1f" if self.unit == "points" else "z.2f")
        interval = "" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]"
        numbers = f"{effect:{form}} {self.unit}{interval}".replace("-", "−")
        wanted = "" if self.target == POSITIVE else f" (wanted {self.target.text})"
        return f"{self.name}: {numbers}{wanted}"


def _filter_helps(runs: pd.DataFrame, plain: str, filtered: str) -> list[Comparison]:
    """C1 and C5: filtered − plain memory in test accuracy, for each task and M."""
    found = []
    for task, memory in _places(runs, plain, filtered):
        a, b = (_accuracy(runs, task, f"{family}-{memory}") for family in (filtered, plain))
        found.append(_gain(task, memory, a, b))
    return found


def _one_row_suffices(runs: pd.DataFrame) -> list[Comparison]:
    """C2: ConvLuna-1 − Transformer in test accuracy, for each task that has both."""
    pairs = []
    for task in _tasks(runs):
        a, b = (_accuracy(runs, task, name) for name in ("convluna-1", "transformer"))
        if a.seen and b.seen:
            pairs.append((task, a, b))
    level = 1 - (1 - LEVEL) / max(len(pairs), 1)
    return [_gain(task, 1, a, b, level) for task, a, b in pairs]


def _memory_degrades(
    runs: pd.DataFrame, removal: pd.DataFrame, probes: pd.DataFrame, count_all: bool
) -> list[Comparison]:
    """C3, for each task and M > 1 that Luna was trained with.

    (a) At the last probed step Luna's packed rows have a cosine near 1 and a small share of their
    possible rank: on average over the blocks, and in the last one. (b) They were less alike when
    they were first looked at: many are alike before training, which is no collapse in training.
    (c) ConvLuna's are less alike. (d) Reading only half of the rows, or one, leaves Luna's test
    accuracy where it was.

    The first look is before the first step, in older rows after the first evaluation. Looks are at
    the weights of their steps, the removal is from the best ones. Runs at the majority level are
    left out of all four, unless ``count_all``.
    """
    at_the_end, than_at_first, than_the_filtered, _ = PARTS["C3"]
    # min(M, H) is the greatest rank of an M x H matrix, 1 the least.
    ranks = runs.set_index("run_id")[["memory", "width"]].min(axis=1) - 1
    cosine, rank = looks(probes, "packed_cosine"), looks(probes, "packed_rank")
    rank = (rank - 1).div(ranks, axis=0)
    found = []
    for task, memory in _places(runs, "luna"):
        if memory == 1:
            continue
        (luna, dull), (filtered, dull_too) = (
            _that_learned(_model(runs, task, f"{kind}-{memory}"), task, count_all)
            for kind in ("luna", "convluna")
        )
        compare = functools.partial(Comparison, task, memory)
        of_luna = functools.partial(_side, f"luna-{memory}", luna, left_out=dull)
        for measure, ends, unit, near, more in (
            ("packed cosine", cosine, "cosine", COLLAPSED, POSITIVE),
            ("packed rank share", rank, "of the rank range", FLAT, NEGATIVE),
        ):
            for blocks, depth in (("", ""), (", last block", "deepest_")):
                first, last = (of_luna(ends[f"{depth}{end}"]) for end in ("first", "last"))
                what = f"{measure}{blocks}"
                ended = compare(what, unit, near, last, part=at_the_end)
                was_so = replace(ended, a=first).holds
                found.append(replace(ended, notes=(WAS_SO,)) if was_so else ended)
            change, end = of_luna(ends["last"] - ends["first"]), of_luna(ends["last"])
            other = _side(f"convluna-{memory}", filtered, ends["last"], dull_too)
            what = f"{measure}, change in training"
            found += [
                compare(what, unit, more, change, part=than_at_first),
                compare(measure, unit, more, end, other, part=than_the_filtered),
            ]
        found += _removals(task, memory, luna, dull, removal)
    return found


def _that_learned(
    runs: pd.DataFrame, task: str, count_all: bool
) -> tuple[pd.DataFrame, LeftOut | None]:
    """One model's runs above the majority level and its failed ones, and what is left out."""
    finished = runs["outcome"] == "finished"
    dull = finished & (runs["test_accuracy"] <= learned_above(task))
    if count_all or not dull.any():
        return runs, None
    model = model_label(runs["model"].iloc[0])
    return runs[~dull], LeftOut(model, task, int(dull.sum()), int(finished.sum()))


def _left_out(all_of_them: Iterable[LeftOut]) -> list[str]:
    """In words, by task: ``on Text Luna-4 7 of 10, ConvLuna-4 3 of 10; on Image ...``."""
    different = dict.fromkeys(all_of_them)
    tasks = dict.fromkeys(one.task for one in different)
    said = [
        f"on {task_label(task)} {', '.join(one.in_words for one in different if one.task == task)}"
        for task in tasks
    ]
    return [f"runs at the majority level, left out: {'; '.join(said)}"] if said else []


def _removals(
    task: str, memory: int, luna: pd.DataFrame, dull: LeftOut | None, removal: pd.DataFrame
) -> list[Comparison]:
    """C3 (d): test accuracy lost when only half of the rows, or one, are read.

    Random rows of each example's own in newer runs, the same for all examples in older ones: both
    estimate the mean over choices, the older with the chance of a single one.
    """
    part = PARTS["C3"][-1]
    found = []
    rows = removal[removal["run_id"].isin(luna["run_id"]) & (removal["rule"] == "random")]
    notes = (ONE_CHOICE,) if rows["orders"].isna().any() else ()
    for kept in sorted({memory // 2, 1}, reverse=True):
        lost = 100 * (_with_rows(rows, memory) - _with_rows(rows, kept))
        measure = f"accuracy lost with {kept} of {memory} rows left"
        side = _side(f"luna-{memory}", luna, lost, dull)
        found.append(
            Comparison(task, memory, measure, "points", UNCHANGED, side, part=part, notes=notes)
        )
    return found


def _both_parts_matter(runs: pd.DataFrame) -> list[Comparison]:
    """C4: ConvLuna − the same without its filter, or with its pack temperature frozen."""
    name = f"convluna-{ABLATION_MEMORY}"
    the_filter, the_temperature = PARTS["C4"]
    found = []
    for task in _tasks(runs):
        for part, changes in (
            (the_filter, "filter=none"),
            (the_temperature, "pack_temperature=unit"),
            (the_temperature, "pack_temperature=sqrt"),
        ):
            ablated = _accuracy(runs, task, name, changes)
            if ablated.seen:
                whole = _accuracy(runs, task, name)
                found.append(_gain(task, ABLATION_MEMORY, whole, ablated, part=part))
    return found


def _with_rows(removal: pd.DataFrame, kept: int) -> pd.Series[float]:
    """Accuracy with ``kept`` memory rows by run id; empty where that number was never tried."""
    return removal[removal["kept"] == kept].groupby("run_id")["accuracy"].mean()


# --- from rows to sides ----------------------------------------------------------------------


def _tasks(runs: pd.DataFrame) -> list[str]:
    """The tasks of ``runs`` that claims are judged on: those of the benchmark, full or short."""
    there = set(runs["task"])
    return [task for task in TASKS if task in there and task.removesuffix("-short") in LRA_TASKS]


def _places(runs: pd.DataFrame, *families: str) -> list[tuple[str, int]]:
    """The (task, M) at which a family has a run of its standard settings that has ended."""
    ended = runs["outcome"].isin(ENDED)
    some = runs[runs["family"].isin(families) & (runs["changes"] == "") & ended]
    return [
        (task, int(memory))
        for task in _tasks(some)
        for memory in sorted(some.loc[some["task"] == task, "memory"].unique())
    ]


def _model(runs: pd.DataFrame, task: str, name: str, changes: str = "") -> pd.DataFrame:
    chosen = (runs["task"] == task) & (runs["model"] == name) & (runs["changes"] == changes)
    return runs[chosen]


def _side(
    label: str, runs: pd.DataFrame, values: pd.Series[float], left_out: LeftOut | None = None
) -> Side:
    """``values`` (indexed by run id) of the finished among ``runs``, which are without those
    ``left_out``."""
    seeds = runs.loc[runs["outcome"] == "finished"].set_index("run_id")["seed"]
    failed = runs.loc[runs["outcome"] == "failed", "run_id"]
    known = values.reindex(seeds.index).dropna()
    return Side(label, tuple(known), frozenset(failed), left_out, tuple(seeds[known.index]))


def _accuracy(runs: pd.DataFrame, task: str, name: str, changes: str = "") -> Side:
    """Test accuracy in percent."""
    some = _model(runs, task, name, changes)
    label = f"{name} ({changes})" if changes else name
    return _side(label, some, 100 * some.set_index("run_id")["test_accuracy"])


def _gain(
    task: str, memory: int, a: Side, b: Side, level: float = LEVEL, part: str = ""
) -> Comparison:
    return Comparison(task, memory, ACCURACY, "points", POSITIVE, a, b, level, part)


def _beyond_levels(comparison: Comparison, which: Which) -> Comparison:
    """A comparison of accuracies, with what no more than the levels without a memory make of it."""
    if comparison.measure != ACCURACY or not all(side.values for side in comparison.sides):
        return comparison
    task = comparison.task
    both = [value / 100 for side in comparison.sides for value in side.values]
    if have_all_learned_nothing(task, both, which):
        return replace(comparison, silent=True)
    if is_first_operator_enough(task, both, which):
        return replace(comparison, shallow=levels_of(task, which).first_operator)
    return comparison


# --- from comparisons to a verdict -----------------------------------------------------------


def _judge(claim: str, preset: str, compared: Sequence[Comparison]) -> Verdict:
    judged = [c for c in compared if c.judged]
    open_parts = [p for p in PARTS.get(claim, ()) if p not in {c.part for c in judged}]
    decisive = _decisive(claim, judged or compared)
    effect, low, high = decisive.estimate if decisive else (math.nan,) * 3
    return Verdict(
        claim=claim,
        statement=STATEMENTS[claim],
        preset=preset,
        verdict=_answer(claim, judged, open_parts),
        effect=effect,
        low=low,
        high=high,
        n=decisive.n if decisive else 0,
        unit=decisive.unit if decisive else "",
        target=decisive.target.text if decisive else "",
        evidence=pd.DataFrame([c.row() for c in compared], columns=list(EVIDENCE_COLUMNS)),
        reading=_reading(claim, compared, judged, open_parts, decisive),
        decided_by=decisive.name if decisive else "",
    )


def _answer(claim: str, judged: Sequence[Comparison], open_parts: Sequence[str]) -> Answer:
    held = [c for c in judged if c.holds]
    if not judged:
        return "not enough runs"
    if not held:
        return "not supported"
    if claim in ANY_SUFFICES:
        return "supported"
    if len(held) == len(judged):
        return "partly supported" if open_parts else "supported"
    return "partly supported" if _some_hold(judged) else "not supported"


def _some_hold(judged: Sequence[Comparison]) -> bool:
    """Whether one at least holds with an interval for all of them together."""
    return any(c.holds_among(len(judged)) for c in judged)


def _decisive(claim: str, compared: Sequence[Comparison]) -> Comparison | None:
    """The comparison a verdict quotes, among those of the claim's first kind."""
    alike = [c for c in compared if c.kind == compared[0].kind and not math.isnan(c.slack)]
    choose = max if claim in ANY_SUFFICES else min
    return choose(alike, key=lambda c: c.slack) if alike else None


def _reading(
    claim: str,
    compared: Sequence[Comparison],
    judged: Sequence[Comparison],
    open_parts: Sequence[str],
    decisive: Comparison | None,
) -> str:
    """The verdict's sentence: what holds, then everything that it rests on or leaves out."""
    if judged:
        parts = [_how_many_hold(claim, judged, decisive)]
        held = sum(c.holds for c in judged)
        if 0 < held < len(judged) and claim not in ANY_SUFFICES and not _some_hold(judged):
            parts += ["none with an interval for all of them together"]
        if open_parts:
            parts += [f"nothing can be judged yet of: {', '.join(open_parts)}"]
        waiting = sum(c.n < ENOUGH for c in compared)
        parts += [f"with too few runs: {waiting}"] if waiting else []
    else:
        parts = [*_so_far(compared)]
    if silent := sum(c.result == SILENT for c in compared):
        parts += [f"between models of which no run has learned: {silent}"]
    parts += _shallow(compared)
    if was_so := sum(c.holds and WAS_SO in c.notes for c in judged):
        verb = "was" if was_so == 1 else "were"
        parts += [f"of what is {PARTS[claim][0]} {was_so} {verb} {WAS_SO}"]
    parts += dict.fromkeys(note for c in compared for note in c.notes if note != WAS_SO)
    parts += _left_out(one for c in compared for one in c.left_out)
    failed = frozenset[str]().union(*(side.failed for c in compared for side in c.sides))
    parts += [f"failed runs, counted but without a value: {len(failed)}"] if failed else []
    return "; ".join(parts) + "."


def _so_far(compared: Sequence[Comparison]) -> Iterator[str]:
    """Where nothing can be judged: why not, and what the comparisons look like."""
    few = all(c.n < ENOUGH for c in compared)
    missing = f"has {ENOUGH} finished runs on each side" if few else "can be judged"
    yield f"No comparison {missing} yet"
    known = [c for c in compared if not math.isnan(c.slack)]
    if not known:
        return
    shown, which = known[:SHOWN], ""
    kinds = [*dict.fromkeys(c.kind for c in known)]
    if len(kinds) > 1:  # the weakest of each, so that none is passed over
        ranked = sorted(known, key=lambda c: c.slack)
        shown = [next(c for c in ranked if c.kind == kind) for kind in kinds]
        which = "the weakest of each kind: "
    more = f", and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
    yield f"so far {which}{'; '.join(str(c) for c in shown)}{more}"


def _how_many_hold(claim: str, judged: Sequence[Comparison], decisive: Comparison | None) -> str:
    """How many of what is judged holds, part by part, and the comparison that decides."""
    held = sum(c.holds for c in judged)
    if len(judged) == 1:
        return f"The one comparison judged {'holds' if held else 'does not hold'}: {decisive}"
    rank = "strongest" if claim in ANY_SUFFICES else "weakest"
    if decisive and any(c.measure != decisive.measure for c in judged):
        rank += f" by {decisive.measure}"
    shares = [
        f"{part} {sum(c.holds for c in some)} of {len(some)}"
        for part in PARTS.get(claim, ())
        if (some := [c for c in judged if c.part == part])
    ]
    each = f" ({', '.join(shares)})" if shares else ""
    return f"{held} of {len(judged)} comparisons judged hold{each}; the {rank} is {decisive}"


def _shallow(compared: Sequence[Comparison]) -> Iterator[str]:
    """On which tasks the accuracies compared may owe all to one token."""
    for task, level in dict.fromkeys((c.task, c.shallow) for c in compared):
        if level is None:
            continue
        there = [c for c in compared if c.task == task and c.measure == ACCURACY]
        count = sum(c.shallow is not None for c in there)
        some = f"{count} of {len(there)}" if count < len(there) else f"any of {count}"
        some = "the one" if len(there) == 1 else some
        yield (
            f"nothing follows from {some} on {task_label(task)} in which no run is more than 2 "
            "points above what reading the first operator alone gives "
            f"({in_percent(level)} %)"
        )
