"""Tidy frames to tables of ready text: every cell is a string, every column a heading.

A cell such as ``37.1 ± 0.4 (3)`` is the mean test accuracy in percent, the standard deviation
over seeds, and the number of seeds; ``(3, 1 failed)`` counts failed runs beside the finished
ones, whose values alone enter the mean. Where there is no run the cell says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import pandas as pd

from memnb import config, naming
from memnb.draw import style
from memnb.draw.panels import finished, plain_models
from memnb.evidence import levels, statistics
from memnb.evidence.rows import first_and_last
from memnb.evidence.statistics import ENOUGH
from memnb.words import counted, span

Scale = Literal["full", "quick"]

OURS = "memnb"
OPERATOR_ROW = "First operator alone"
"""What the table of accuracies calls its last row, which is no model."""


# --- what all tables share --------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> pd.DataFrame:
    """A table of ready cells; without any row, one that says so."""
    nothing = [style.MISSING, *[""] * (len(columns) - 1)]
    return pd.DataFrame(rows or [nothing], columns=list(columns))


def by_task_and_model(frame: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Task, model and their rows: the order of the benchmark, in it that of reading."""
    for task in naming.task_order(frame["task"]):
        there = frame[frame["task"] == task]
        for model in naming.model_order(there["model"]):
            yield task, model, there[there["model"] == model]


def accuracy_cell(group: pd.DataFrame) -> str:
    """Runs of one model on one task as ``mean ± sd (n, k failed)`` in percent."""
    failed = int((group["outcome"] == "failed").sum())
    return mean_cell(100 * group.loc[group["outcome"] == "finished", "test_accuracy"], failed)


def mean_cell(values: pd.Series[float], failed: int = 0) -> str:
    """Percentages as ``mean ± sd (n)``, and how many runs beside them have ``failed``."""
    summary = statistics.mean(values)
    if summary.n == 0:
        return f"all failed ({failed})" if failed else style.MISSING
    spread = "" if math.isnan(summary.sd) else f" ± {summary.sd:.1f}"
    count = f"{summary.n}, {failed} failed" if failed else f"{summary.n}"
    return f"{summary.mean:.1f}{spread} ({count})"


def without_run(model: str, task: str, planned: style.Planned | None) -> str:
    """The cell of a model that has no run on a task."""
    return style.without_run((model, task), planned, style.NOT_PLANNED_CELL)


def signed(points: float) -> str:
    """A difference in points, with its sign."""
    return f"{points:+z.1f}".replace("-", "−")


def interval(low: float, high: float, digits: int = 1) -> str:
    """`` [12.6, 18.0]``, to stand behind an effect; empty where there is none."""
    # z: what rounds to zero has no sign.
    said = "" if math.isnan(low) else f" [{low:z.{digits}f}, {high:z.{digits}f}]"
    return said.replace("-", "−")


def unsigned(points: float) -> str:
    """The same where its sign goes without saying: a loss, with a minus where it is a gain."""
    return signed(points).removeprefix("+")


def _text(value: Any) -> str:
    return "–" if pd.isna(value) else str(value)


def number(value: Any) -> str:
    """A whole number in thousands, or a dash where there is none."""
    return "–" if pd.isna(value) else f"{round(value):,}"


# --- accuracy ---------------------------------------------------------------------------------


def accuracy(
    runs: pd.DataFrame,
    published: pd.DataFrame | None = None,
    scale: Scale = "full",
    planned: style.Planned | None = None,
) -> pd.DataFrame:
    """The benchmark table: a row per model and source, a column per task.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`; changed settings are left out.
        published: rows of :func:`memnb.evidence.published.load`. Those of a model of ours stand
            below our row, the others at the end; a source without any number is left out.
        scale: ``full`` for the five tasks and the main models, run or not; ``quick`` for the
            laptop tasks and models that have runs.
        planned: where there is no run, only the cells of these say *yet*; without it, all do.

    Returns:
        Columns ``Model``, ``Source`` (where something published is shown) and one per task; the
        last row is what the first operator of ListOps gives alone, where ListOps is among them.
    """
    plain = runs[runs["changes"] == ""]
    there = set(plain["task"])
    models: Iterable[str] = ()
    tasks = naming.task_order(there) or ["listops-short"]
    own = [task for task in tasks if task.startswith(config.OWN)]
    if scale == "full" and (not own or len(tasks) > len(own)):
        # The five tasks, run or not, the substitute of one of them where it has runs, and data of
        # one's own beside them; where there are runs on these alone, nothing else was meant.
        models = config.MODELS
        tasks = [task for task in config.FULL_TASKS if task in {*config.LRA_TASKS, *there}] + own
    plain = plain[plain["task"].isin(tasks)]
    columns = ["Model", "Source", *map(naming.task_label, tasks)]
    ours = {
        (name, task): accuracy_cell(group)
        for (name, task), group in plain.groupby(["model", "task"], sort=False)
    }
    theirs = _published_rows(published, tasks)
    rows = []
    for name in naming.model_order([*models, *plain["model"]]):
        label = naming.model_label(name)
        cells = [ours.get((name, task), without_run(name, task, planned)) for task in tasks]
        rows.append([label, OURS, *cells])
        rows += [[label, *rest] for model, *rest in theirs if model.lower() == name]
    known = {row[0].lower() for row in rows}
    rows += [row for row in theirs if row[0].lower() not in known]
    operator = [levels.in_percent(levels.first_operator(task)) for task in tasks]
    if rows and set(operator) != {"–"}:
        rows.append([OPERATOR_ROW, "a rule", *operator])
    made = table(rows, columns)
    return made if theirs else made.drop(columns="Source")


def more_rows(runs: pd.DataFrame) -> str:
    """What the most memory rows give more than a single one, a line per task: the difference of the
    means in points, with its interval where there are enough seeds; empty if no model has both."""
    ended = finished(runs[runs["memory"] > 0])
    lines = []
    for task in naming.task_order(ended["task"]):
        there, said = ended[ended["task"] == task], []
        for family in naming.family_order(there["family"]):
            own = there[there["family"] == family]
            most = own["memory"].max()
            one, many = (
                100 * own.loc[own["memory"] == size, "test_accuracy"] for size in (1, most)
            )
            if most > 1 and len(one):
                gain = statistics.difference(many, one)
                name = f"{naming.family_label(family)} with {most} rows"
                said.append(f"{name} {signed(gain.effect)}{interval(gain.low, gain.high)}")
        if said:
            lines.append(f"  {naming.task_label(task)}: {', '.join(said)}")
    return (
        "\n".join(["Points of accuracy gained over one row, with 95 % intervals:", *lines])
        if lines
        else ""
    )


def too_few_seeds(sides: Iterable[int]) -> str:
    """That the sides of comparisons, each with so many seeds, are too small; empty if not."""
    numbers = set(sides)
    if min(numbers) >= ENOUGH:
        return ""
    if len(numbers) > 1:
        limit = "no side has" if max(numbers) < ENOUGH else "some sides have fewer than"
        return f"{limit} {ENOUGH} seeds"
    (number,) = numbers
    return f"each side has {counted(number, 'seed')}"


def _published_rows(published: pd.DataFrame | None, tasks: Sequence[str]) -> list[list[str]]:
    """Model, source and a cell per task, for each pair that has a number for a task shown."""
    if published is None:
        return []
    some = published[published["task"].isin(tasks)].dropna(subset=["accuracy"])
    wide = some.pivot_table("accuracy", ["model", "source"], "task", sort=False)
    return [
        [*names, *("–" if pd.isna(cell) else f"{cell:.2f}" for cell in cells)]
        for names, cells in zip(
            wide.index, wide.reindex(columns=list(tasks)).to_numpy(), strict=True
        )
    ]


def runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Where the numbers come from: a line per model, task and changed settings.

    Returns:
        Columns ``Model``, ``Task``, ``Changed settings``, ``Seeds``, ``Failed`` (seed and reason),
        ``Parameters``, ``Steps``, ``Seconds per run``, ``Device``, ``Precision``, ``Code``. What
        differs between the seeds is listed, times are averaged.
    """
    columns = ["Model", "Task", "Changed settings", "Seeds", "Failed", "Parameters", "Steps",
               "Seconds per run", "Device", "Precision", "Code"]  # fmt: skip
    rows = []
    for _, group in frame.groupby(["task", "model", "changes"], sort=False):
        first, failed = group.iloc[0], group[group["outcome"] == "failed"]
        rows.append(
            [
                naming.model_label(first["model"]),
                naming.task_label(first["task"]),
                first["changes"] or "–",
                _distinct(sorted(group["seed"])),
                "; ".join(
                    f"{seed}: {_text(reason)}"
                    for seed, reason in zip(failed["seed"], failed["reason"], strict=True)
                )
                or "–",
                _distinct(map(number, group["parameters"])),
                _distinct(map(number, group["step"])),
                number(group["seconds"].mean()),
                _distinct(_text(name) for names in group["devices"] for name in names),
                _distinct(map(_text, group["precision"])),
                _code(group),
            ]
        )
    return table(rows, columns)


def _code(group: pd.DataFrame) -> str:
    """Versions, each with the commits that its runs were made at: three of them at most."""
    said = []
    for version, own in group.groupby("version", sort=False, dropna=False):
        known = (commit for commits in own["commits"] for commit in commits)
        commits = [*dict.fromkeys(_text(commit)[:7] for commit in known)]
        more = f" and {len(commits) - 3} more" if len(commits) > 3 else ""
        said.append(f"{_text(version)} at {', '.join(commits[:3])}{more}")
    return "; ".join(said)


def _distinct(values: Iterable[Any]) -> str:
    """The distinct values, in order of appearance."""
    return ", ".join(dict.fromkeys(map(str, values)))


def degradation(probes: pd.DataFrame) -> pd.DataFrame:
    """Cosine and effective rank of the packed rows at the first and the last look of training.

    Of the first and of the last block, which may go opposite ways, and the mean over all blocks;
    means over seeds; models as their names define them, with several rows.

    Args:
        probes: long frame of :func:`memnb.evidence.rows.load_probes`.

    Returns:
        Columns ``Task``, ``Model``, ``Seeds``, and of ``Cosine`` and ``Effective rank`` (of at most
        min(M, H)) one for ``block 1``, ``last block`` and ``all``, each as ``first → last``.
    """
    measures = {"packed_cosine": "Cosine", "packed_rank": "Effective rank"}
    places = ("block 1", "last block", "all")
    columns = ["Task", "Model", "Seeds", *(f"{m}, {p}" for m in measures.values() for p in places)]
    rows = []
    for task, model, own in by_task_and_model(plain_models(probes[probes["memory"] > 1])):
        ends = first_and_last(own)
        cells = []
        for measure in measures:
            for blocks in ([1], [own["block"].max()], own["block"].unique()):
                of_blocks = [end[end["block"].isin(blocks)] for end in ends]
                means = [end.groupby("run_id")[measure].mean().mean() for end in of_blocks]
                cells.append(" → ".join(f"{mean:.2f}" for mean in means))
        seeds = str(own["run_id"].nunique())
        rows.append([naming.task_label(task), naming.model_label(model), seeds, *cells])
    return table(rows, columns)


def at_majority(runs: pd.DataFrame) -> str:
    """Which models with several memory rows have not learned their task, in a sentence.

    The level is that of claim C3 (:func:`memnb.evidence.levels.learned_above`). Models as their
    names define them.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
    """
    plain = finished(runs[runs["memory"] > 1])
    if plain.empty:
        return "No run with several memory rows has finished yet."
    found = []
    for task, model, own in by_task_and_model(plain):
        dull = int((own["test_accuracy"] <= levels.learned_above(task)).sum())
        if dull:
            count = f"{dull} of {len(own)} runs"
            found.append(f"{naming.model_label(model)} on {naming.task_label(task)} ({count})")
    if not found:
        return "Every run shown has learned its task."
    return f"At the majority level, having learned nothing: {', '.join(found)}."


def last_look(probes: pd.DataFrame) -> str:
    """How alike the packed rows of a few runs are when training ends, a sentence per block.

    Where cosine and effective rank disagree about which run's rows are more alike, it says so.

    Args:
        probes: rows of :func:`memnb.evidence.rows.load_probes` of one run per model, with several
            memory rows; empty gives an empty text.
    """
    looked = probes[probes["memory"] > 1].dropna(subset=["packed_cosine", "packed_rank"])
    _, last = first_and_last(looked)
    said = []
    for block, rows in last.groupby("block"):
        means = rows.groupby("model")[["packed_cosine", "packed_rank"]].mean()
        names = naming.model_order(means.index)
        cosines, ranks = (
            ", ".join(f"{naming.model_label(name)} {float(some[name]):{form}}" for name in names)
            for some, form in ((means["packed_cosine"], ".2f"), (means["packed_rank"], ".1f"))
        )
        said.append(f"Block {block}, last look: cosine {cosines}; effective rank {ranks}.")
        fewest = str(means["packed_rank"].idxmin())
        most_alike = str(means["packed_cosine"].idxmax())
        if fewest != most_alike:
            said[-1] += (
                f" By cosine the rows of {naming.model_label(most_alike)} are the most alike, "
                f"by effective rank those of {naming.model_label(fewest)}."
            )
    return "\n".join(said)


def first_operator_alone(runs: pd.DataFrame) -> str:
    """Which models know more of ListOps than its first operator, in some sentences; or none.

    A model counts as above it if one of its runs is, by more than 2 points
    (:data:`memnb.evidence.levels.MARGIN`). Models as their names define them.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
    """
    plain = finished(runs)
    said = []
    for task in naming.task_order(plain["task"]):
        level = levels.first_operator(task)
        if level is None:
            continue
        best = plain[plain["task"] == task].groupby("model", sort=False)["test_accuracy"].max()
        above = best[best > level + levels.MARGIN]
        within = best[best.between(level - levels.MARGIN, level + levels.MARGIN)]
        said.append(
            f"On {naming.task_label(task)} a rule that reads the first token alone, the outermost "
            f"operator, is right on {levels.in_percent(level)} % of the test set."
        )
        if above.empty:
            said.append(
                "No run of any model is more than 2 points above that: differences say how many "
                "seeds found that operator, not what a memory holds of the rest."
            )
            continue
        said.append(f"With a run more than 2 points above it: {_models(above)}.")
        if len(within):
            said.append(f"Within 2 points of it, and so perhaps no more: {_models(within)}.")
    return " ".join(said)


def _models(numbers: pd.Series[float]) -> str:
    return ", ".join(map(naming.model_label, naming.model_order(numbers.index)))


def first_token_kept(beginning: pd.DataFrame) -> pd.DataFrame:
    """What is left of the answers where only the first token of an input is its own.

    Args:
        beginning: rows of :func:`memnb.evidence.rows.load_beginning`.

    Returns:
        Columns ``Task``, ``Model``, ``Seeds``, ``Whole inputs`` and ``First token alone`` (both
        accuracy in percent), ``Answers that stay`` (percent); means over seeds.
    """
    columns = ["Task", "Model", "Seeds", "Whole inputs", "First token alone", "Answers that stay"]
    found = _first_and_whole(beginning)
    rows = []
    for task, model, own in by_task_and_model(found):
        cells = [f"{100 * own[name].mean():.1f}" for name in ("whole", "first", "stay")]
        rows.append([naming.task_label(task), naming.model_label(model), str(len(own)), *cells])
    return table(rows, columns)


def first_token_reading(beginning: pd.DataFrame) -> str:
    """The same of ListOps, in a sentence per task over all runs; or none.

    Args:
        beginning: rows of :func:`memnb.evidence.rows.load_beginning`.
    """
    found = _first_and_whole(beginning)
    said = []
    for task in naming.task_order(found["task"]):
        if levels.first_operator(task) is None:
            continue
        own = found[found["task"] == task]
        whole, first, stay = (100 * own[name].mean() for name in ("whole", "first", "stay"))
        keep = "keep" if abs(whole - first) <= 100 * levels.MARGIN else "do not keep"
        runs = f"{len(own)} runs" if len(own) > 1 else "one run"
        said.append(
            f"On {naming.task_label(task)} runs that have learned something and were tested so "
            f"({runs}) {keep} their accuracy when every token but the first is swapped for another "
            f"input's: {whole:.1f} % before, {first:.1f} % after; {stay:.0f} % of the answers stay."
        )
    return " ".join(said)


def without_the_rest(beginning: pd.DataFrame, task: str) -> str:
    """How many models that have learned ``task`` lose by the first token alone; "" for none.

    Means over the seeds that were asked, which may be fewer than a model has. Losses up to 2 points
    (:data:`memnb.evidence.levels.MARGIN`) are not counted.

    Args:
        beginning: rows of :func:`memnb.evidence.rows.load_beginning`.
        task: a task of operations on lists, by name.
    """
    found = _first_and_whole(beginning)
    found = found[found["task"] == task]
    if found.empty:
        return ""
    by_model = found.groupby("model")
    first = 100 * by_model["first"].mean()
    lost = 100 * by_model["whole"].mean() - first
    lost = lost[lost > 100 * levels.MARGIN]
    one_digit = "{:.1f}".format
    verb = "loses" if 1 in (len(lost), len(first)) else "lose"
    said = f"{len(lost) or 'none'} of {counted(len(first), 'model')} {verb} more than 2 points"
    if len(lost):
        level = levels.levels_of(task, examples=levels.ASKED_AGAIN).first_operator
        said += (
            f", {span(lost, one_digit)} ({_models(lost)}), which leaves "
            f"{span(first[lost.index], one_digit)}, where the first operator alone has "
            f"{levels.in_percent(level)}. Such a loss shows that a model looks at the rest, not "
            "that the rest helps it"
        )
    return (
        f"{naming.task_label(task)}, {levels.ASKED_AGAIN} test examples, with another input's "
        f"tokens behind the first: {said}. Seeds that were asked, of each: "
        f"{span(by_model.size(), str)}. Every number: notebooks/07_memory_size.ipynb."
    )


def _first_and_whole(beginning: pd.DataFrame) -> pd.DataFrame:
    """Per run: accuracy on ``whole`` inputs and with the ``first`` token alone, and the share of
    answers that ``stay``.

    Of models as their names define them, and runs that have learned something, by these examples
    (:func:`memnb.evidence.levels.learned_above`), and whose file is complete.
    """
    plain = plain_models(beginning).dropna(subset=["accuracy", "changed"])
    keys = ["run_id", "task", "model"]
    last = plain["kept"] == plain.groupby("run_id")["kept"].transform("max")
    whole = plain[last & (plain["kept"] > 1) & (plain["changed"] == 0)].set_index(keys)["accuracy"]
    one = plain[plain["kept"] == 1].set_index(keys)
    columns = {"whole": whole, "first": one["accuracy"], "stay": 1 - one["changed"]}
    found = pd.DataFrame(columns).dropna().reset_index()
    return found[found["whole"] > found["task"].map(levels.learned_above)]


def probe_cost(shares: pd.DataFrame) -> pd.DataFrame:
    """What looking at the memory during training takes.

    Args:
        shares: frame of :func:`memnb.evidence.benchmarks.probe_shares`.

    Returns:
        Columns ``Task``, ``Model``, ``Device``, ``Looks (s)``, ``Steps (s)``, ``Looks / steps``.
    """
    columns = ["Task", "Model", "Device", "Looks (s)", "Steps (s)", "Looks / steps"]
    rows = [
        [
            naming.task_label(row["task"]),
            naming.model_label(row["model"]),
            row["device_name"],
            f"{row['probes']:.1f}",
            f"{row['training']:.0f}",
            f"{100 * row['share']:.1f} %",
        ]
        for _, row in shares.iterrows()
    ]
    return table(rows, columns)


# --- guarantees -------------------------------------------------------------------------------


def guarantees(frame: pd.DataFrame) -> pd.DataFrame:
    """Each promise, its tests, and how each test last ended.

    Args:
        frame: rows of :func:`memnb.evidence.guarantees.load`.

    Returns:
        Columns ``Promise`` (in the first of its rows), ``Test``, ``Outcome``, ``On record``.
    """
    first = ~frame["promise"].duplicated()
    recorded = [
        f"{row['when']}, {row['commit'] or 'no commit'}, torch {row['torch']}, {row['device']}"
        if isinstance(row["when"], str)
        else "–"
        for row in frame.to_dict("records")
    ]
    return pd.DataFrame(
        {
            "Promise": frame["promise"].where(first, ""),
            "Test": frame["test"].str.removeprefix("tests/"),
            "Outcome": frame["outcome"],
            "On record": recorded,
        }
    )
