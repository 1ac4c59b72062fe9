"""Tidy frames to tables of ready text: every cell is a string, every column a heading.

A cell such as ``37.1 ± 0.4 (3)`` is the mean test accuracy in percent, the standard deviation
over seeds, and the number of seeds; ``(3, 1 failed)`` counts failed runs beside the finished
ones, whose values alone enter the mean. Where there is no run the cell says so.
"""

from __future__ import annotations

import csv
import math
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from memnb import config, naming, paths
from memnb.draw import style
from memnb.errors import DataError
from memnb.evidence import levels, statistics
from memnb.evidence.claims import ENOUGH, Verdict
from memnb.evidence.rows import first_and_last
from memnb.tasks import catalogue
from memnb.tasks.pathfinder_original import IMAGES, Statistic
from memnb.tasks.portraits import LABELS, Portrait
from memnb.words import counted

Scale = Literal["full", "quick"]

OURS = "memnb"
OPERATOR_ROW = "First operator alone"
"""What the table of accuracies calls its last row, which is no model."""
READINGS = {"full": ("as_coded", "as_intended"), "quick": ("as_coded",)}
"""The readings of the authors' code that are trained at a scale."""


# --- what all tables share -------------------------------------------------------------------


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
    return style.MISSING if planned is None or (model, task) in planned else "–"


def signed(points: float) -> str:
    """A difference in points, with its sign."""
    return f"{points:+z.1f}".replace("-", "−")


def unsigned(points: float) -> str:
    """The same where its sign goes without saying: a loss, with a minus where it is a gain."""
    return signed(points).removeprefix("+")


def _text(value: Any) -> str:
    return "–" if pd.isna(value) else str(value)


def _number(value: Any) -> str:
    return "–" if pd.isna(value) else f"{round(value):,}"


# --- accuracy --------------------------------------------------------------------------------


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
        Columns ``Model``, ``Source`` and one per task; the last row is what the first operator of
        ListOps gives alone, where ListOps is among them.
    """
    plain = runs[runs["changes"] == ""]
    there = set(plain["task"])
    models: Iterable[str] = ()
    tasks = naming.task_order(there) or ["listops-short"]
    if scale == "full":
        # The five tasks, run or not, and the substitute of one of them where it has runs.
        models = config.MODELS
        tasks = [task for task in config.FULL_TASKS if task in {*config.LRA_TASKS, *there}]
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
    return table(rows, columns)


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
                _listed(sorted(group["seed"])),
                "; ".join(
                    f"{seed}: {_text(reason)}"
                    for seed, reason in zip(failed["seed"], failed["reason"], strict=True)
                )
                or "–",
                _listed(map(_number, group["parameters"])),
                _listed(map(_number, group["step"])),
                _number(group["seconds"].mean()),
                _listed(_text(name) for names in group["devices"] for name in names),
                _listed(map(_text, group["precision"])),
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


def _listed(values: Iterable[Any]) -> str:
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
    plain = probes[(probes["changes"] == "") & (probes["memory"] > 1)]
    for task, model, own in by_task_and_model(plain):
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
    plain = runs[(runs["changes"] == "") & (runs["memory"] > 1) & (runs["outcome"] == "finished")]
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
    plain = runs[(runs["changes"] == "") & (runs["outcome"] == "finished")]
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


def _models(best: pd.Series[float]) -> str:
    return ", ".join(map(naming.model_label, naming.model_order(best.index)))


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
    """What models that have learned ``task`` make of the first token alone; "" for none.

    Args:
        beginning: rows of :func:`memnb.evidence.rows.load_beginning`.
        task: a task of operations on lists, by name.
    """
    found = _first_and_whole(beginning)
    found = found[found["task"] == task]
    if found.empty:
        return ""
    whole, first = (100 * found.groupby("model")[name].mean() for name in ("whole", "first"))
    said = ", ".join(
        f"{naming.model_label(model)} {whole[model]:.1f} → {first[model]:.1f}"
        for model in naming.model_order(whole.index)
    )
    level = levels.levels_of(task, examples=levels.ASKED_AGAIN).first_operator
    return (
        f"{naming.task_label(task)}, {levels.ASKED_AGAIN} test examples, where the first operator "
        f"alone has {levels.in_percent(level)}: accuracy as they are → with another input's tokens "
        f"behind the first: {said}. What falls below that operator shows that a model looks at "
        "the rest, not that the rest helps it."
    )


def _first_and_whole(beginning: pd.DataFrame) -> pd.DataFrame:
    """Per run: accuracy on ``whole`` inputs and with the ``first`` token alone, and the share of
    answers that ``stay``.

    Of models as their names define them, and runs that have learned something, by these examples
    (:func:`memnb.evidence.levels.learned_above`), and whose file is complete.
    """
    plain = beginning[beginning["changes"] == ""].dropna(subset=["accuracy", "changed"])
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


# --- cost ------------------------------------------------------------------------------------

#: How a time is marked that rests on steps or on other runs, or on a data sheet.
SCALED, ASSUMED = "~", "≈"


def cost_spent(costs: pd.DataFrame) -> pd.DataFrame:
    """Planned and ended runs per artefact, and the GPU hours that were spent and are left.

    Args:
        costs: of ``memnb.reproduce.cost.by_artefact``.

    Returns:
        Columns ``Artefact``, ``Runs planned``, ``Ended``, ``Left``, ``GPU hours spent`` and
        ``Left, hours on one H100``.
    """
    columns = ["Artefact", "Runs planned", "Ended", "Left", "GPU hours spent",
               "Left, hours on one H100"]  # fmt: skip
    rows = [
        [
            line["artefact"],
            *(_number(line[key]) for key in ("planned", "ended", "left")),
            _hours(line["spent"]),
            _mark(line["H100 basis"]) + _hours(line["left_seconds"]) if line["left"] else "–",
        ]
        for line in costs.to_dict("records")
    ]
    return table(rows, columns)


def cost_rerun(costs: pd.DataFrame, kinds: Sequence[str]) -> pd.DataFrame:
    """What all runs of an artefact take from the start, in hours of one device of each kind.

    Args:
        costs: of ``memnb.reproduce.cost.by_artefact``.
        kinds: of devices, as the columns of ``costs`` name them.

    Returns:
        Columns ``Artefact``, ``Runs``, one per kind, and ``Rests on (H100)``. A number without a
        mark was measured; :data:`SCALED` and :data:`ASSUMED` mark those that were not, by the
        weakest of what they rest on.
    """
    columns = ["Artefact", "Runs", *kinds, "Rests on (H100)"]
    rows = [
        [
            line["artefact"],
            _number(line["planned"]),
            *(_mark(line[f"{kind} basis"]) + _hours(line[kind]) for kind in kinds),
            line["H100 basis"],
        ]
        for line in costs.to_dict("records")
    ]
    return table(rows, columns)


def _mark(basis: str) -> str:
    """Of the weakest thing that an estimate rests on, such as ``3 measured, 5 scaled``."""
    if "assumed" in basis:
        return ASSUMED
    return SCALED if "scaled" in basis or "timed" in basis else ""


def _hours(seconds: float) -> str:
    hours = float(f"{seconds / 3600:.3g}")  # an estimate deserves no more digits
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}"


# --- ablation --------------------------------------------------------------------------------

TAKEN_APART = 16
"""M of the ConvLuna whose parts are exchanged one by one."""
TEMPERATURES = {"unit": "1", "sqrt": "√d", "learn": "learned"}
EXCHANGED = ("filter", "filter_width", "filter_stride", "pack_temperature")
"""The columns of runs that say which parts it has."""
_FILTER_NAMES = {"none": "no filter", "conv": "convolution", "pool": "max pooling"}


def ablation(runs: pd.DataFrame, scale: Scale = "full") -> pd.DataFrame:
    """ConvLuna taken apart: filter (rows) by pack temperature (rows) by reading (columns).

    Only runs of the simplified ConvLuna that differ in these three settings are shown. Under
    ``as_intended`` the unpack temperature is of the same kind as the pack temperature; as coded,
    it is always 1.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
        scale: ``full`` for both readings, ``quick`` for the one that a laptop trains.

    Returns:
        Columns ``Filter``, ``Pack temperature`` and one per task and reading. The tasks are those
        with a changed run (at full scale Text and ListOps before there is one). All combinations
        of three filters and three temperatures have a row, those without a run say so.
    """
    some = ablated(runs)
    readings = READINGS[scale]
    tasks = naming.task_order(some.loc[some["changes"] != "", "task"])
    tasks = tasks or (["listops", "text"] if scale == "full" else ["listops-short"])
    groups = some.groupby([*EXCHANGED, "task", "reading"], sort=False)
    found = {key: accuracy_cell(group) for key, group in groups}
    shown = [(task, reading) for task in tasks for reading in readings]
    rows = [
        [
            filter_label(*kind),
            label,
            *(found.get((*kind, temperature, *where), style.MISSING) for where in shown),
        ]
        for kind in filters_of(some)
        for temperature, label in TEMPERATURES.items()
    ]
    columns = [f"{naming.task_label(task)}, {name.replace('_', ' ')}" for task, name in shown]
    return pd.DataFrame(rows, columns=["Filter", "Pack temperature", *columns])


#: What runs of an ablation may differ in; dropout belongs to the task.
_VARIED = ("memory", "dropout", "reading", "filter", "filter_width", "filter_stride",
           "pack_temperature", "unpack_temperature")  # fmt: skip


def ablated(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of one ConvLuna (:data:`TAKEN_APART`) that differ in filter, temperature and reading."""
    same = (runs["kind"] == "convluna") & (runs["memory"] == TAKEN_APART)
    for key, setting in config.Model.model_fields.items():
        if not setting.is_required() and key not in _VARIED:
            same &= runs[key] == setting.default
    intended = runs["reading"] == "as_intended"
    return runs[same & (~intended | (runs["unpack_temperature"] == runs["pack_temperature"]))]


def filters_of(runs: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Kind, width and stride: the three standard filters, then the others that have runs."""
    standard = [("none", 4, 1), ("conv", 4, 1), ("pool", 4, 1)]
    seen = set(zip(runs["filter"], runs["filter_width"], runs["filter_stride"], strict=True))
    return standard + sorted(seen.difference(standard))


def parts_label(kind: str, width: int, stride: int, temperature: str) -> str:
    """``convolution, width 4, T = learned``."""
    return f"{filter_label(kind, width, stride)}, T = {TEMPERATURES[temperature]}"


def filter_label(kind: str, width: int, stride: int) -> str:
    """``max pooling, width 4, stride 4``."""
    if kind == "none":
        return _FILTER_NAMES[kind]
    return f"{_FILTER_NAMES[kind]}, width {width}" + (f", stride {stride}" if stride > 1 else "")


# --- settings --------------------------------------------------------------------------------

_SETTINGS_COLUMNS = ["task", "setting", "authors", "lra", "luna"]
NOT_STATED = "not stated"


def settings(task: str) -> pd.DataFrame:
    """The protocol of one task: the authors' code, LRA, the official Luna, and memnb.

    The first three are read from ``data/reference/settings.csv``; memnb's column is made from
    :mod:`memnb.config`, so it cannot say anything else than what is trained.

    Returns:
        Columns ``Setting``, ``Authors' code``, ``LRA``, ``Official Luna``, ``memnb``.

    Raises:
        DataError: the file is missing or is not what its header promises.
    """
    ours = memnb_settings(task)
    rows = [
        [row["setting"], *(row[who] or NOT_STATED for who in ("authors", "lra", "luna")),
         ours[row["setting"]]]
        for row in _reference_settings() if row["task"] == task
    ]  # fmt: skip
    columns = ["Setting", "Authors' code", "LRA", "Official Luna", "memnb"]
    return pd.DataFrame(rows, columns=columns)


def all_settings() -> pd.DataFrame:
    """The tables of :func:`settings` for the five tasks, one below the other."""
    frames = []
    for task in config.LRA_TASKS:
        frame = settings(task)
        frame.insert(0, "Task", naming.task_label(task))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def memnb_settings(task: str) -> dict[str, str]:
    """What memnb does on ``task``, from its configs: setting to value, as printed."""
    run = config.run_config("luna-16", task)
    model, training = run.model, run.training
    pair = "2 × " if run.task.layout == "pair" else ""
    return {
        "maximum length": f"{pair}{run.task.max_length}",
        "blocks": f"{model.blocks}",
        "width H": f"{model.width}",
        "heads": f"{model.heads}",
        "feed-forward width": f"{model.mlp}",
        "dropout": f"{model.dropout:g}",
        "batch": f"{training.batch}",
        "optimizer": "AdamW, betas 0.9, 0.999",
        "schedule": "warm-up, then 1/√t",
        "base learning rate": _decimal(training.lr),
        "warm-up steps": f"{training.warmup}",
        "peak learning rate": _decimal(training.lr / math.sqrt(training.warmup)),
        "weight decay": _decimal(training.weight_decay),
        "optimizer steps": f"{training.steps:,}",
        "evaluation every (steps)": f"{training.evaluate_every}",
        "early stop after (evaluations)": f"{training.patience}",
        "representation": {"cls": "CLS"}.get(model.representation, model.representation),
    }


def _decimal(value: float) -> str:
    """Three significant digits without an exponent: ``0.0000559``."""
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def _reference_settings() -> list[dict[str, str]]:
    path = paths.reference() / "settings.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except OSError as error:
        raise DataError(
            f"The reference settings could not be read from {path} ({error.strerror}); restore it."
        ) from None
    if reader.fieldnames != _SETTINGS_COLUMNS or any(None in row.values() for row in rows):
        raise DataError(
            f"{path} must have the columns {','.join(_SETTINGS_COLUMNS)} on every line; mend it."
        )
    return rows


#: The official Luna (arXiv 2106.01540), where it differs from the authors' Luna.
_OFFICIAL_LUNA: Mapping[str, str] = {
    "reading": "as_intended",
    **{key: str(value) for key, value in config.OFFICIAL_LUNA.items()},
}
_MEANING = {
    "representation": "what the head reads: CLS, mean over positions, mean over memory rows",
    "reading": "as_coded: padding not masked, unpack temperature of ConvLuna frozen at 1",
    "cls_init": "the CLS vector's start: N(0, 1), or uniform within ±√(3 / H)",
    "positions": "learned vectors of the absolute positions, or none",
    "sharing": "projections that pack and unpack share: all, query and key, none",
    "memory_init": "N(0, 1), or N(0, 1/H) · √H plus sinusoidal positions",
    "pack_output": "whether pack has an output projection",
    "variant": "simplified: no value projections",
    "filter": "what keys and values of pack pass through",
    "filter_width": "taps of the filter",
    "filter_stride": "stride of the filter",
    "filter_kernel": "learned; or, as a control, a fixed mean, a fixed difference, random taps, "
    "learned taps at shuffled places",
    "pack_temperature": "T of pack: 1, √d, or learned",
    "unpack_temperature": "T of unpack: 1, √d, or learned (frozen at 1 as coded)",
    "chunk": "memory between chunks only: positions in a chunk",
    "chunk_gradients": "memory between chunks only: chunks through which gradients flow, 0 for all",
}


def model_settings() -> pd.DataFrame:
    """Every switch of the models: its choices, and what the named models take.

    Generated from :class:`memnb.config.Model`; only the column of the official Luna is typed.

    Returns:
        Columns ``Setting``, ``Choices``, ``Luna``, ``ConvLuna``, ``PoolLuna``, ``Official Luna``,
        ``Meaning``.
    """
    families = {
        name: config.model_config(f"{name}-16", "listops").model_dump()
        for name in ("luna", "convluna", "poolluna")
    }
    rows = []
    for key, meaning in _MEANING.items():
        named = {name: str(values[key]) for name, values in families.items()}
        if key == "variant" or key.startswith("filter"):  # of ConvLuna alone
            named["luna"] = "–"
        if key.startswith("chunk"):
            named = dict.fromkeys(named, "–")
        official = _OFFICIAL_LUNA.get(key, named["luna"])
        rows.append([key, _choices(key), *named.values(), official, meaning])
    columns = ["Setting", "Choices", "Luna", "ConvLuna", "PoolLuna", "Official Luna", "Meaning"]
    return pd.DataFrame(rows, columns=columns)


def both_ways(runs: pd.DataFrame, changes: str) -> pd.DataFrame:
    """Models as their names define them, beside the same with one setting changed.

    Args:
        runs: rows of any scale (:func:`memnb.evidence.rows.load_runs`).
        changes: the change, as the rows describe it: ``cls_init=xavier``.

    Returns:
        A row per task and model that has runs of both. Columns ``Task``, ``Model``, ``Default``,
        the change, each ``mean ± deviation (seeds)`` of the test accuracy in percent, and
        ``Change``: their difference in points with its 95 % interval.
    """
    columns = ["Task", "Model", "Default", changes, "Change"]
    rows = []
    for task, model, own in by_task_and_model(runs[runs["outcome"] == "finished"]):
        default, changed = (
            100 * own.loc[own["changes"] == which, "test_accuracy"] for which in ("", changes)
        )
        if len(default) and len(changed):
            effect, low, high = statistics.difference(changed, default)[:3]
            names = [naming.task_label(task), naming.model_label(model)]
            cells = [
                mean_cell(default),
                mean_cell(changed),
                effect_cell(effect, low, high, "points"),
            ]
            rows.append([*names, *cells])
    return table(rows, columns)


def _choices(key: str) -> str:
    annotation = config.Model.model_fields[key].annotation
    if typing.get_origin(annotation) is Literal:
        return ", ".join(typing.get_args(annotation))
    if annotation is bool:
        return "True, False"
    return "0, 1, 2, ..." if key.startswith("chunk") else "1, 2, ..."


def deviations() -> pd.DataFrame:
    """Known traps in the authors' code and LRA: what they do, what memnb does, which switch.

    Returns:
        Columns ``Where``, ``Authors' code or LRA``, ``memnb``, ``Switch``.

    Raises:
        DataError: ``data/reference/deviations.toml`` is missing or damaged.
    """
    path = paths.reference() / "deviations.toml"
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["deviation"]
        rows = [
            [entry["place"], entry["theirs"], entry["memnb"], entry.get("switch", "–")]
            for entry in entries
        ]
    except OSError as error:
        raise DataError(
            f"The deviations could not be read from {path} ({error.strerror}); restore it."
        ) from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); restore it.") from None
    return pd.DataFrame(rows, columns=["Where", "Authors' code or LRA", "memnb", "Switch"])


# --- claims ----------------------------------------------------------------------------------


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
    # z: what rounds to zero has no sign.
    interval = "" if math.isnan(low) else f" [{low:z.{digits}f}, {high:z.{digits}f}]"
    return f"{effect:z.{digits}f}{interval} {unit}".replace("-", "−")


def _seeds(row: pd.Series[Any]) -> str:
    count = f"{row['n_a']} and {row['n_b']}" if row["b"] else f"{row['n_a']}"
    failed = row["failed_a"] + row["failed_b"]
    return f"{count}, {failed} failed" if failed else count


# --- data ------------------------------------------------------------------------------------


def tasks() -> pd.DataFrame:
    """What the tasks of both scales are, from their configs: full scale above, laptop scale below.

    Returns:
        Columns ``Scale``, ``Task``, ``An input``, ``Tokens``, ``Labels``, ``Train / validation /
        test``, ``One answer always (%)`` and ``First operator alone (%)`` on the test set,
        ``Steps at most``, ``Epochs at most`` and ``Blocks × width`` of a model.
    """
    laptop = [name for name in config.TASKS if name.endswith("-short")]
    rows = []
    for name in (*config.FULL_TASKS, *laptop):
        task, run = config.TASKS[name], config.run_config("luna-1", name)
        train, validation, test = catalogue.sizes(task)
        on_test = isinstance(task, config.Text) and task.validation == "paper"
        known, (shape, tokens) = levels.levels_of(name), _input_of(task)
        validated = "the test set" if on_test else f"{validation:,}"
        rows.append(
            {
                "Scale": naming.scale_label(name).partition(" ")[0],
                "Task": naming.task_label(name),
                "An input": shape,
                "Tokens": tokens,
                "Labels": f"{len(LABELS[name.removesuffix('-short')])}",
                "Train / validation / test": f"{train:,} / {validated} / {test:,}",
                "One answer always (%)": levels.in_percent(known.constant),
                "First operator alone (%)": levels.in_percent(known.first_operator),
                "Steps at most": f"{run.training.steps:,}",
                "Epochs at most": f"{run.training.steps * run.training.batch / train:.1f}",
                "Blocks × width": f"{run.model.blocks} × {run.model.width}",
            }
        )
    return pd.DataFrame(rows)


def _input_of(task: config.Task) -> tuple[str, str]:
    """What an input of a task is, in words, and how many tokens it has."""
    length = f"{task.max_length:,}"
    if isinstance(task, config.ListOps):
        tokens = f"{task.min_length + 1:,} to {task.max_length - 1:,}"
        return "nested operations on digits", tokens
    if isinstance(task, config.Text):
        return f"the first {length} bytes of a film review", f"up to {length}"
    if isinstance(task, config.Retrieval | config.RetrievalACL):
        return f"the first {length} bytes of each of two papers", f"2 × up to {length}"
    side = math.isqrt(task.max_length)
    if isinstance(task, config.Pathfinder):
        most = f"up to {task.distractors}" if task.distractors else "no"
        return (
            f"a drawing of {side} × {side} pixels: two contours of {task.contour_length} dashes, "
            f"{most} distractors"
        ), length
    return f"a grey photograph of {side} × {side} pixels", length


def datasets(portraits: Sequence[Portrait]) -> pd.DataFrame:
    """The card of each data set, one per row.

    Returns:
        Columns ``Data set``, ``Examples (train / validation / test)``, ``Length``, ``Labels``,
        ``Counted``, ``Licence``, ``Please cite``, ``Source``, ``On this machine``.
    """
    rows = []
    for one in portraits:
        card = one.status.card
        rows.append(
            {
                "Data set": card.title,
                "Examples (train / validation / test)": card.contents,
                "Length": _data_lengths(one),
                "Labels": _data_labels(one),
                "Counted": one.basis or "–",
                "Licence": card.licence,
                "Please cite": card.citation,
                "Source": card.source,
                "On this machine": _data_here(one),
            }
        )
    return pd.DataFrame(rows)


def _data_lengths(one: Portrait) -> str:
    if one.counts is None:
        return f"not counted; cut at {one.max_length:,} bytes"
    counts = one.counts
    if counts.shortest == counts.longest:
        return f"{counts.longest:,} pixels, all of them"
    unit = "tokens" if one.name == "listops" else "bytes"
    cut = counts.beyond(one.max_length)
    text = f"{counts.shortest:,} to {counts.longest:,} {unit}, median {counts.median:,.0f}"
    return f"{text}; {_percent(cut)} are cut at {one.max_length:,}" if cut else text


def _data_labels(one: Portrait) -> str:
    names = LABELS[one.name]
    if one.counts is None:
        return f"{' / '.join(names)}; not counted"
    shares = one.counts.balance
    if len(shares) == 2:
        return ", ".join(f"{name} {_percent(x)}" for name, x in zip(names, shares, strict=True))
    low, high = _percent(shares.min()), _percent(shares.max())
    each = f"each {low}" if low == high else f"{low} to {high} each"
    return f"{len(shares)} labels, {each}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _data_here(one: Portrait) -> str:
    if one.status.ready:
        size = f"yes, {one.status.size / 1e6:.0f} MB"
        return f"{size}, but: {one.problem}" if one.problem else size
    step = one.status.card.next_step
    return f"no: {step.removeprefix('nothing: ')}"


def pathfinder_statistics(measured: Sequence[Statistic], count: int) -> pd.DataFrame:
    """``count`` images of ours beside the original program's.

    Returns:
        Columns ``Measure``, the two samples, ``Tolerance``, and whether they agree within it.
    """
    rows = []
    for one in measured:
        numbers = (one.original, one.ours, one.tolerance)
        original, ours, tolerance = (
            f"{100 * number:.3g} %" if one.share else f"{number:.4f}" for number in numbers
        )
        rows.append([one.name, original, ours, f"± {tolerance}", "yes" if one.agrees else "no"])
    columns = ["Measure", f"Original program ({IMAGES:,} images)", f"memnb ({count:,} images)",
               "Tolerance", "Agrees"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


# --- guarantees ------------------------------------------------------------------------------


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
