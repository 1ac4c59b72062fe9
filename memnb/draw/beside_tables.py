"""Tables of what stands beside the paper's models: memory between chunks and controls, recall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import pandas as pd

from memnb import config, naming
from memnb.draw import beside, style, tables
from memnb.evidence import levels, statistics
from memnb.evidence.claims import EQUIVALENT
from memnb.evidence.statistics import ENOUGH
from memnb.words import listed


def controls(runs: pd.DataFrame, planned: style.Planned | None = None) -> pd.DataFrame:
    """Test accuracy of all models, those that were changed in what the head reads included.

    Args:
        runs: rows of the study ``chunks`` (:func:`memnb.evidence.rows.of_study`).
        planned: as for :func:`memnb.draw.tables.accuracy`.

    Returns:
        Columns ``Model``, ``Head reads``, ``Parameters`` and one per task that a model beside the
        paper's has a run on. A cell is as in :func:`memnb.draw.tables.accuracy`; of the parameters
        there is a number for each of these tasks, in their order.
    """
    tasks = naming.task_order(runs.loc[runs["family"].isin(config.BESIDE), "task"])
    columns = ["Model", "Head reads", "Parameters", *map(naming.task_label, tasks)]
    changed = [f"representation={reads}" for reads in get_args(config.Representation)]
    allowed = runs["changes"].isin(["", *changed])
    some = runs[runs["task"].isin(tasks) & allowed]
    table = []
    for name in naming.model_order(some["model"]):
        for reads, group in some[some["model"] == name].groupby("representation", sort=True):
            cells = [
                tables.accuracy_cell(own)
                if len(own := group[group["task"] == task])
                else tables.without_run(name, task, planned)
                for task in tasks
            ]
            label = {"cls": "CLS", "mean": "mean of positions", "memory": "memory rows"}[str(reads)]
            table.append([naming.model_label(name), label, _sizes(group, tasks), *cells])
    return tables.table(table, columns)


def _sizes(group: pd.DataFrame, tasks: list[str]) -> str:
    """Parameters of one model on each task, in the order of ``tasks``; a single number if all are
    the same."""
    counts = group.dropna(subset=["parameters"]).groupby("task")["parameters"].first()
    said = [f"{counts[task]:,.0f}" if task in counts.index else "–" for task in tasks]
    return said[0] if len(set(said)) == 1 else " / ".join(said)


#: What a row of :func:`filter_alone` says, by how much is left to ConvLuna.
FOLLOWS = {
    "enough": "the filter alone explains ConvLuna",
    "left": "the filter alone does not explain ConvLuna",
    "open": "open",
    "unlike": "open: not shown where both read the mean",
    "few": "open: too few seeds",
    "silent": "no conclusion: ConvLuna has not learned",
    "mean": "no conclusion: with the mean ConvLuna has not learned",
    "operator": "no conclusion: the first operator would do",
}


def filter_alone(runs: pd.DataFrame, preset: str = "paper") -> pd.DataFrame:
    """How much of ConvLuna's accuracy the filter has without a memory, at one scale.

    With enough seeds, the whole interval of what is left to ConvLuna above the better control is
    held against :data:`memnb.evidence.claims.EQUIVALENT`, the points that claim C3 takes for no
    change. Where no run of ConvLuna is above the level of the majority class, nothing follows, nor
    where none of either is much above the first operator of ListOps, which takes no memory.
    Controls read the mean of all positions, so what they lack may be CLS, not a memory: a ConvLuna
    that reads CLS is above them only where one that reads the mean is so too, on the same task, and
    nothing follows where all that do have learned nothing. Rows that read CLS and rows that read
    the mean stand apart.

    Args:
        runs: rows of the study ``chunks`` (:func:`memnb.evidence.rows.of_study`), of any scale.
        preset: ``paper`` for full scale, ``quick`` for laptop scale.

    Returns:
        A row per task and number of memory rows. ``Luna``, ``ConvLuna`` and ``Filter alone``, the
        better control, are ``mean ± deviation (seeds)`` in percent; ``Left`` is ConvLuna minus that
        control in points, with its interval where there are enough seeds.
    """
    columns = ["Task", "M", "Luna", "ConvLuna", "Filter alone", "Left", "What follows"]
    table = [
        [
            naming.task_label(share.task),
            f"{share.memory}" + (", mean" if share.reads == "mean" else ""),
            tables.mean_cell(share.luna),
            tables.mean_cell(share.ours),
            f"{tables.mean_cell(share.controls[share.best])} {naming.model_label(share.best)}",
            share.left_said,
            FOLLOWS[share.answer],
        ]
        for share in shares_of(_finished(runs, preset))
    ]
    return tables.table(table, columns)


def filter_alone_reading(runs: pd.DataFrame, preset: str = "paper") -> str:
    """What the columns of :func:`filter_alone` mean, and what limits what they say."""
    finished = _finished(runs, preset)
    shares = shares_of(finished)
    if not shares:
        scale = naming.preset_label(preset)
        return f"No task has both ConvLuna and the filter without a memory at {scale} yet."
    found = [
        "M: memory rows. Filter alone: the better of ConvLuna without memory and Local "
        "convolution, which read the mean of all positions. Left: ConvLuna above it, in points; up "
        f"to {EQUIVALENT:g} counts as none."
    ]
    reads = {share.reads for share in shares}
    if "cls" in reads:
        where = ", but where M says mean: only those read alike" if "mean" in reads else ""
        found.append(f"Luna and ConvLuna read the first position (CLS) instead{where}.")
    if any(share.answer == "unlike" for share in shares):
        found.append(
            "What a control lacks may be CLS, not a memory, until a ConvLuna that reads the mean "
            "is above it on the same task."
        )
    best = {share.task: share.controls[share.best].mean() for share in shares}
    for task in naming.task_order(best):
        level = levels.first_operator(task)
        if level is not None and 100 * level > best[task]:
            found.append(
                f"On {naming.task_label(task)} the first operator alone has "
                f"{levels.in_percent(level)}, more than any control that has run."
            )
    if "text" in best:
        found.append(
            "On Text each run's number is the best of up to 50 evaluations of the test set; that "
            "choice alone can move Left by more than what counts as none."
        )
    plain = finished[finished["changes"] == ""]
    both = (set(plain.loc[plain["family"] == name, "task"]) for name in ("luna", "convluna"))
    if without := set.intersection(*both) - {share.task for share in shares}:
        names = " and ".join(map(naming.task_label, naming.task_order(without)))
        found.append(f"On {names} no control has finished: how a gain may be read is open there.")
    if any(share.answer == "operator" for share in shares):
        found.append(
            "Where no run of either is more than 2 points above what the first operator of "
            "ListOps gives alone, what is left is no sign of a memory."
        )
    if seeds := tables.too_few_seeds(n for share in shares for n in share.seeds):
        found.append(f"Here {seeds}; to say what follows takes {ENOUGH}.")
    return " ".join(found)


def _finished(runs: pd.DataFrame, preset: str) -> pd.DataFrame:
    return runs[(runs["preset"] == preset) & (runs["outcome"] == "finished")]


@dataclass(frozen=True)
class Share:
    """ConvLuna beside the filter alone and Luna, at one task and M: accuracies in percent, best
    control first; ``luna`` is empty where it has no run that reads the same. ``with_mean`` are the
    answers of those on the task that read the mean, as the controls do."""

    task: str
    memory: int
    reads: str
    controls: dict[str, pd.Series[float]]
    ours: pd.Series[float]
    luna: pd.Series[float]
    with_mean: frozenset[str] = frozenset()

    @property
    def best(self) -> str:
        return next(iter(self.controls))

    @property
    def seeds(self) -> list[int]:
        """Of each side that has any."""
        sides = (self.controls[self.best], self.ours, self.luna)
        return [len(side) for side in sides if len(side)]

    @property
    def left(self) -> statistics.Effect:
        """ConvLuna above the best control, in points."""
        return statistics.difference(self.ours, self.controls[self.best])

    @property
    def judged(self) -> bool:
        return min(self.left.n_a, self.left.n_b) >= ENOUGH

    @property
    def answer(self) -> str:
        ours = self.ours / 100
        if levels.have_all_learned_nothing(self.task, ours):  # so that there is nothing to explain
            return "silent"
        both = [*ours, *self.controls[self.best] / 100]
        if levels.is_first_operator_enough(self.task, both):
            return "operator"
        if not self.judged:
            return "few"
        _, low, high = self.left[:3]
        if low > EQUIVALENT:
            if self.reads == "mean" or "left" in self.with_mean:
                return "left"
            return "mean" if self.with_mean == {"silent"} else "unlike"
        return "enough" if high <= EQUIVALENT else "open"

    @property
    def left_said(self) -> str:
        left = self.left
        return tables.signed(left.effect) + tables.interval(left.low, left.high)


def shares_of(finished: pd.DataFrame) -> list[Share]:
    """All tasks and M that have ConvLuna and a control, in the order of the benchmark.

    Args:
        finished: finished rows of one scale.
    """

    def accuracies(task: str, name: str, changes: str = "") -> pd.Series[float]:
        own = (finished["model"] == name) & (finished["changes"] == changes)
        return 100 * finished.loc[own & (finished["task"] == task), "test_accuracy"]

    sizes = sorted(finished.loc[finished["family"] == "convluna", "memory"].unique())
    found = []
    for task in naming.task_order(finished["task"]):
        alone = {name: accuracies(task, name) for name in config.FILTER_ALONE}
        ran = sorted((name for name in alone if len(alone[name])), key=lambda n: -alone[n].mean())
        for memory in sizes if ran else ():
            for reads, changes in (("cls", ""), ("mean", "representation=mean")):
                ours = accuracies(task, f"convluna-{memory}", changes)
                if len(ours):
                    luna = accuracies(task, f"luna-{memory}", changes)
                    controls = {name: alone[name] for name in ran}
                    found.append(Share(task, int(memory), reads, controls, ours, luna))
    answers: dict[str, set[str]] = {}
    for share in found:
        if share.reads == "mean":
            answers.setdefault(share.task, set()).add(share.answer)
    return [replace(s, with_mean=frozenset(answers.get(s.task, ()))) for s in found]


_OPEN = "open"
#: What a sentence says of a filter without a memory, in this order; nothing follows from the rest.
_SAID = {
    "enough": "explains ConvLuna",
    "left": "does not explain ConvLuna",
    "open": _OPEN,
    "unlike": _OPEN,
}


_MEAN = " Where it says mean, ConvLuna reads the mean of all positions too."


def filter_alone_in_short(runs: pd.DataFrame, preset: str = "paper") -> str:
    """The last column of :func:`filter_alone` in a sentence, without rows from which nothing
    follows; empty if there are no others."""
    found: dict[str, dict[str, list[str]]] = {}
    for share in shares_of(_finished(runs, preset)):
        if words := _SAID.get(share.answer):
            size = f"{share.memory}" + (" (mean)" if share.reads == "mean" else "")
            found.setdefault(words, {}).setdefault(share.task, []).append(size)
    places = {
        words: [
            f"{naming.task_label(task)} with M = {listed(some)}" for task, some in sizes.items()
        ]
        for words, sizes in found.items()
    }
    text = _filter_alone_said(places)
    return text + (_MEAN if "(mean)" in text else "")


def filter_alone_by_task(runs: pd.DataFrame) -> str:
    """As :func:`filter_alone_in_short` at full scale, of the tasks on which it is the same for
    every M that has an answer."""
    found: dict[str, set[str]] = {}
    for share in shares_of(_finished(runs, "paper")):
        if words := _SAID.get(share.answer):
            found.setdefault(share.task, set()).add(words)
    places: dict[str, list[str]] = {}
    for task, (words, *others) in found.items():
        if not others:
            places.setdefault(words, []).append(naming.task_label(task))
    return _filter_alone_said(places)


def _filter_alone_said(places: Mapping[str, list[str]]) -> str:
    """``places``: where a filter without a memory does what, by the words of :data:`_SAID`."""
    said = [
        f"{words} on {listed(places[words])}"
        for words in dict.fromkeys(_SAID.values())
        if words in places and words != _OPEN
    ]
    open_on = listed(places[_OPEN]) if _OPEN in places else ""
    if not said:
        whether = "Whether the filter without a memory explains ConvLuna is open on"
        return f"{whether} {open_on}." if open_on else ""
    rest = f"; on {open_on} that is open" if open_on else ""
    return f"The filter without a memory {'; it '.join(said)}{rest}."


def facts_held(runs: pd.DataFrame) -> str:
    """How many facts each number of rows holds of the most that were asked for, means over seeds, a
    line per model; empty without a run.

    Args:
        runs: rows of the recall task (:func:`memnb.evidence.rows.of_study`).
    """
    rows = beside.with_facts(runs)
    if rows.empty:
        return ""
    most = rows["facts"].max()
    rows = rows[rows["facts"] == most]
    lines = []
    for family in naming.family_order(rows["family"]):
        held = rows[rows["family"] == family].groupby("memory")["held"].mean()
        said = (f"{count:.1f} with M = {memory}" for memory, count in held.items())
        lines.append(f"  {naming.family_label(family)}: {', '.join(said)}")
    return "\n".join([f"Facts held of {most}:", *lines])


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
    table = []
    for positions in beside.POSITIONS:
        some = facts[facts["positions"] == positions]
        for name in naming.model_order(some["model"]):
            own = 100 * some[some["model"] == name].set_index("facts")["accuracy"]
            cells = [tables.mean_cell(own[own.index == count]) for count in counts]
            table.append([naming.model_label(name), positions, *cells])
    return tables.table(table, columns)


def longer_reading(facts: pd.DataFrame) -> str:
    """What the figure of recall beyond training says, with its numbers: means over the seeds.

    Args:
        facts: of :func:`memnb.draw.beside.by_facts`.
    """
    most = beside.most_trained(facts)
    if (facts["positions"] != "none").all():
        return "No model without positions has a run yet."
    last = int(facts["facts"].max())
    means = 100 * facts.groupby(["positions", "model", "facts"])["accuracy"].mean()
    names = naming.model_order(facts["model"])
    at_end, with_positions = (
        {name: means[kind, name, last] for name in names if (kind, name, last) in means.index}
        for kind in ("none", "learned")
    )
    falls = [
        f"{naming.model_label(name)} from {means['none', name, most]:.0f} to {reached:.0f} %"
        for name, reached in at_end.items()
    ]
    found = [
        f"Without positions, from {most} facts, the most in training, to {last}: "
        f"{', '.join(falls)}. Guessing gives {100 / config.Recall.classes:.0f} %, holding "
        f"{most} facts and guessing at the others {100 * beside.holding(most, last):.0f} %.",
        _with_the_filter(at_end, last),
        _above_the_controls(at_end, last),
        _with_positions(at_end, with_positions, last),
    ]
    return "\n".join(sentence for sentence in found if sentence)


def _with_the_filter(at_end: Mapping[str, float], last: int) -> str:
    """What the filter adds to each memory; "" where none has run with it and without."""
    added = [
        f"{tables.signed(at_end[f'conv{name}'] - reached)} for {naming.model_label(name)}"
        for name, reached in at_end.items()
        if f"conv{name}" in at_end
    ]
    if not added:
        return ""
    return f"The filter changes accuracy at {last} facts by {listed(added)} (points)."


def _above_the_controls(at_end: Mapping[str, float], last: int) -> str:
    """Memories against the better control without one; "" where one of the two is missing."""
    controls = [name for name in at_end if name in config.FILTER_ALONE]
    memories = [name for name in at_end if name not in controls]
    if not controls or not memories:
        return ""
    better = max(controls, key=lambda name: at_end[name])
    above = [
        f"{naming.model_label(name)} {tables.signed(at_end[name] - at_end[better])}"
        for name in memories
    ]
    return (
        f"Against the better control without a memory, {naming.model_label(better)} with "
        f"{at_end[better]:.0f} % at {last} facts: {listed(above)} (points)."
    )


def _with_positions(at_end: Mapping[str, float], learned: Mapping[str, float], last: int) -> str:
    """What learned positions change, of models with and without; "" where there is none."""
    changes = [learned[name] - reached for name, reached in at_end.items() if name in learned]
    if not changes:
        return ""
    lower = sum(change < 0 for change in changes)
    return (
        f"With learned positions, accuracy at {last} facts is lower for {lower} of {len(changes)} "
        f"models (from {tables.signed(min(changes))} to {tables.signed(max(changes))} points)."
    )
