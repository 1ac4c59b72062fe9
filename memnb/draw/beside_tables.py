"""Tables of what stands beside the paper's models: memory between chunks and controls, recall."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import pandas as pd

from memnb import config
from memnb.draw import beside, style, tables
from memnb.draw.panels import majority_level
from memnb.evidence import statistics
from memnb.evidence.claims import ENOUGH, EQUIVALENT, LEARNED


def controls(runs: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy of all models, those that were changed in what the head reads included.

    Args:
        runs: rows of the study ``chunks`` (:func:`memnb.evidence.rows.of_study`).

    Returns:
        Columns ``Model``, ``Head reads``, ``Parameters`` and one per task that a model beside the
        paper's has a run on. A cell is as in :func:`memnb.draw.tables.accuracy`; of the parameters
        there is a number for each of these tasks, in their order.
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
            label = {"cls": "CLS", "mean": "mean of positions", "memory": "memory rows"}[str(reads)]
            table.append([style.model_label(name), label, _sizes(group, tasks), *cells])
    return pd.DataFrame(table, columns=columns)


def _sizes(group: pd.DataFrame, tasks: list[str]) -> str:
    """Parameters of one model on each task, in the order of ``tasks``; a single number if all are
    the same."""
    counts = group.dropna(subset=["parameters"]).groupby("task")["parameters"].first()
    said = [f"{counts[task]:,.0f}" if task in counts.index else "–" for task in tasks]
    return said[0] if len(set(said)) == 1 else " / ".join(said)


def controls_reading(runs: pd.DataFrame, preset: str = "paper") -> str:
    """:func:`controls_sentences` in lines of at most 100 characters."""
    return _filled(controls_sentences(runs, preset))


def controls_sentences(runs: pd.DataFrame, preset: str = "paper") -> list[str]:
    """How much of ConvLuna's gain over Luna the filter has without a memory, at one scale.

    An entry per task, one that says what follows, and one that says what limits it. What is left
    to ConvLuna above the better control is held against :data:`memnb.evidence.claims.EQUIVALENT`,
    the points that claim C3 takes for no change; with enough seeds, the whole interval is. Where
    neither is above the level of the majority class, nothing follows. Where ConvLuna has rows that
    read the mean of positions, as the controls do, those are compared.

    Args:
        runs: rows of the study ``chunks`` (:func:`memnb.evidence.rows.of_study`), of any scale.
        preset: ``paper`` for full scale, ``quick`` for laptop scale.
    """
    scale = f"{tables._SCALES[preset]} scale"
    shares = _shares(runs[(runs["preset"] == preset) & (runs["outcome"] == "finished")])
    if not shares:
        return [f"No task has both ConvLuna and the filter without a memory at {scale} yet."]
    found = []
    for task in dict.fromkeys(share.task for share in shares):
        own = [share for share in shares if share.task == task]
        best = style.model_label(own[0].best)
        reached = ", ".join(
            f"{style.model_label(name)} {values.mean():.1f} % ({_seeds(values)})"
            for name, values in own[0].controls.items()
        )
        found.append(
            f"The filter without a memory, on {style.task_label(task)} at {scale}: {reached}."
        )
        if both := [share.split for share in own if len(share.luna)]:
            found[-1] += f" In points above Luna, {'; '.join(both)}."
        if alone := [
            f"ConvLuna-{share.memory} stands at {share.left_said}"
            for share in own
            if share.luna.empty
        ]:
            found[-1] += f" From {best}, {_and(alone)} points, where Luna has no run to compare."
    follows = (
        ("enough", "At most {} is left on {}: no memory is needed to explain ConvLuna's accuracy."),
        ("left", "More than {} is left on {}: the filter alone does not explain that."),
        ("open", "Whether more than {} is left is open on {}."),
        ("silent", "Neither is above the majority class on {1}, which says nothing."),
    )
    for answer, words in follows:
        places = [share.place for share in shares if share.answer == answer]
        if places:
            found.append(words.format(f"{EQUIVALENT:g} point", _and(places)))
    limits = []
    if seeds := tables.too_few_seeds(n for share in shares for n in share.seeds):
        limits.append(seeds)
    if by_cls := list(dict.fromkeys(share.size for share in shares if share.reads == "cls")):
        limits.append(
            f"with {_and(by_cls)} ConvLuna and Luna read the first position (CLS), the controls "
            "the mean of all positions"
        )
    if limits:
        found.append(f"This is a first look and no verdict: {'; '.join(limits)}.")
    found.append("Differences are taken before numbers are rounded.")
    return found


@dataclass(frozen=True)
class _Share:
    """ConvLuna beside the filter alone and Luna, at one task and M: accuracies in percent, best
    control first; ``luna`` is empty where it has no run that reads the same."""

    task: str
    memory: int
    reads: str
    controls: dict[str, pd.Series[float]]
    ours: pd.Series[float]
    luna: pd.Series[float]

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
        level = majority_level(self.task) + 100 * LEARNED
        if max(self.ours.mean(), self.controls[self.best].mean()) <= level:
            return "silent"
        effect, low, high = self.left[:3]
        if not self.judged:
            low = high = effect
        return "left" if low > EQUIVALENT else "enough" if high <= EQUIVALENT else "open"

    @property
    def size(self) -> str:
        return f"M = {self.memory}" + (" by the mean" if self.reads == "mean" else "")

    @property
    def place(self) -> str:
        return f"{style.task_label(self.task)} with {self.size}"

    @property
    def left_said(self) -> str:
        interval = f" [{self.left.low:.1f}, {self.left.high:.1f}]" if self.judged else ""
        return tables.signed(self.left.effect) + interval.replace("-", "−")

    @property
    def split(self) -> str:
        """ConvLuna and the best control, each above Luna, and what that leaves to ConvLuna."""
        has = self.controls[self.best].mean() - self.luna.mean()
        gain = self.ours.mean() - self.luna.mean()
        return (
            f"with {self.size}: ConvLuna {tables.signed(gain)}, {style.model_label(self.best)} "
            f"{tables.signed(has)}, a difference of {self.left_said}"
        )


def _shares(finished: pd.DataFrame) -> list[_Share]:
    """All tasks and M that have ConvLuna and a control, in the order of the benchmark."""

    def accuracies(task: str, name: str, changes: str = "") -> pd.Series[float]:
        own = (finished["model"] == name) & (finished["changes"] == changes)
        return 100 * finished.loc[own & (finished["task"] == task), "test_accuracy"]

    sizes = sorted(finished.loc[finished["family"] == "convluna", "memory"].unique())
    found = []
    for task in style.task_order(finished["task"]):
        alone = {name: accuracies(task, name) for name in config.FILTER_ALONE}
        ran = sorted((name for name in alone if len(alone[name])), key=lambda n: -alone[n].mean())
        for memory in sizes if ran else ():
            for reads, changes in (("mean", "representation=mean"), ("cls", "")):
                ours = accuracies(task, f"convluna-{memory}", changes)
                if len(ours):
                    luna = accuracies(task, f"luna-{memory}", changes)
                    controls = {name: alone[name] for name in ran}
                    found.append(_Share(task, int(memory), reads, controls, ours, luna))
                    break
    return found


def _seeds(values: pd.Series[float]) -> str:
    return f"{len(values)} seed{'s' * (len(values) != 1)}"


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
    return _filled(found)


def _filled(sentences: list[str]) -> str:
    """Lines of at most 100 characters, a new one for each sentence."""
    # What belongs to a number stays on its line.
    whole = (one.replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0") for one in sentences)
    return "\n".join(textwrap.fill(one, 100) for one in whole).replace("\u00a0", " ")


def _and(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
