"""What ConvLuna owes to its filter and its pack temperature: taken away, as they move in training,
and with other kernels in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from memnb import config, naming
from memnb.draw import claim_tables, style, tables
from memnb.draw.panels import plain_models
from memnb.evidence.claims import ABLATION_MEMORY, Verdict, verdict_on
from memnb.evidence.filters import CONTROLS, KERNELS, distances, kinds_of_kernel
from memnb.words import counted

READINGS = {"full": ("as_coded", "as_intended"), "quick": ("as_coded",)}
"""The readings of the authors' code that are trained at a scale."""
TEMPERATURES = {"unit": "1", "sqrt": "√d", "learn": "learned"}
EXCHANGED = ("filter", "filter_width", "filter_stride", "pack_temperature")
"""The columns of runs that say which parts it has."""
_FILTER_NAMES = {"none": "no filter", "conv": "convolution", "pool": "max pooling"}


def ablation(
    runs: pd.DataFrame, scale: tables.Scale = "full", planned: style.PlannedParts | None = None
) -> pd.DataFrame:
    """ConvLuna taken apart: filter (rows) by pack temperature (rows) by reading (columns).

    Only runs of the simplified ConvLuna that differ in these three settings are shown. Under
    ``as_intended`` the unpack temperature is of the same kind as the pack temperature; as coded,
    it is always 1.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.
        scale: ``full`` for both readings, ``quick`` for the one that a laptop trains.
        planned: where there is no run, only the cells of these say *yet*; without it, all do.

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
    found = {key: tables.accuracy_cell(group) for key, group in groups}

    def cell(*key: str | int) -> str:
        return found.get(key) or style.without_run(key, planned, style.NOT_PLANNED_CELL)

    shown = [(task, reading) for task in tasks for reading in readings]
    rows = [
        [
            filter_label(*kind),
            label,
            *(cell(*kind, temperature, *where) for where in shown),
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
    """Runs of the ConvLuna that is taken apart, which differ in filter, temperature and reading."""
    same = (runs["kind"] == "convluna") & (runs["memory"] == ABLATION_MEMORY)
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


def changes(filters: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """How far kernels and pack temperatures are from their start at the end of training.

    Finished runs of models as their names define them; a kernel is that of one head of one block
    of one run.

    Args:
        filters: long frame of :func:`memnb.evidence.rows.load_filters`.
        runs: the rows of runs that it was made from.

    Returns:
        Columns ``Task``, ``Model``, ``Seeds``; ``Kernel moved, median`` and ``largest``, the
        distance from the start in percent of the start's norm; ``Pack T at the end``, the median
        and the range of what starts at 1; ``√d``, to which Luna fixes it.
    """
    columns = ["Task", "Model", "Seeds", "Kernel moved, median", "largest", "Pack T at the end",
               "√d"]  # fmt: skip
    last = _at_the_end(filters, runs)
    root = (runs["width"] / runs["heads"]) ** 0.5
    root.index = pd.Index(runs["run_id"])
    rows = []
    for task, model, own in tables.by_task_and_model(last):
        moved, temperature = 100 * own["moved"], own["pack_temperature"]
        rows.append(
            [
                naming.task_label(task),
                naming.model_label(model),
                str(own["run_id"].nunique()),
                f"{moved.median():.0f} %",
                f"{moved.max():.0f} %",
                f"{temperature.median():.2f} ({_range(temperature)})",
                f"{root[own['run_id'].iloc[0]]:.1f}",
            ]
        )
    return tables.table(rows, columns)


def temperatures(filters: pd.DataFrame, runs: pd.DataFrame) -> str:
    """Where learned pack temperatures end at each scale, beside Luna's, in a sentence or two.

    Args:
        filters, runs: as for :func:`changes`.
    """
    last = _at_the_end(filters, runs)
    luna = plain_models(runs[runs["family"] == "luna"])
    ends, fixed = [], []
    for preset in ("paper", "quick"):
        own = last[(last["preset"] == preset) & last["pack_temperature"].notna()]
        if own.empty:
            continue
        scale = naming.preset_label(preset)
        count = counted(own["run_id"].nunique(), "run")
        ends.append(f"{_range(own['pack_temperature'])} at {scale} ({count})")
        here = luna[luna["preset"] == preset]
        roots = ((here["width"] / here["heads"]) ** 0.5).round(1).drop_duplicates().sort_values()
        fixed += [f"{' or '.join(map(str, roots))} at {scale}"] if len(roots) else []
    if not ends:
        return "No run says yet where a learned pack temperature ends."
    said = (
        "ConvLuna's learned pack temperatures start at 1; over all blocks and heads they end at "
        f"{', '.join(ends)}."
    )
    return said + (f" Luna's is fixed at √d: {', '.join(fixed)}." if fixed else "")


#: What is taken from ConvLuna for claim C4, in words, by the change of its settings.
_TAKEN = {
    "filter=none": "without its filter",
    "pack_temperature=sqrt": "with pack temperature √d, as in Luna",
    "pack_temperature=unit": "with pack temperature 1, where the learned one starts",
}


def taken_apart(verdicts: Sequence[Verdict], preset: str) -> str:
    """What ConvLuna loses with each part that claim C4 speaks of, task by task; empty where no such
    run has finished.

    Args:
        verdicts: of :func:`memnb.evidence.claims.check`.
        preset: ``paper`` (full scale) or ``quick`` (laptop scale).
    """
    rows = verdict_on(verdicts, "C4", preset).evidence.dropna(subset="effect")
    rows = rows.assign(change=rows["b"].str.extract(r"\((.*)\)", expand=False))
    tasks = naming.task_order(rows["task"])
    if not tasks:
        return ""
    lost = [
        f"{words}: {', '.join(_lost(row) for row in in_order)}"
        for change, words in _TAKEN.items()
        if (in_order := [row for task in tasks for _, row in rows.iterrows()
                         if (row["task"], row["change"]) == (task, change)])
    ]  # fmt: skip
    whole = rows.groupby("task")["mean_a"].first()
    has = ", ".join(f"{whole[task]:.1f} % on {naming.task_label(task)}" for task in tasks)
    model = naming.model_label(rows["a"].iloc[0])
    return f"{model} has {has}. Points lost {'; '.join(lost)}."


def _lost(comparison: pd.Series[Any]) -> str:
    """The effect with its interval, the task, and what becomes of the claim."""
    lost = claim_tables.effect_cell(
        comparison["effect"], comparison["low"], comparison["high"], comparison["unit"]
    )
    task = naming.task_label(comparison["task"])
    return f"{lost.removesuffix(' points')} on {task} ({comparison['result']})"


def readings(runs: pd.DataFrame) -> str:
    """What the two readings of the authors' code make of the same seeds, in a sentence per task;
    in another, what Luna with as many rows has in both.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`; other runs than those of the ablation
            (:func:`ablated`) and of Luna, and those that have not finished, are left out.
    """
    apart = ablated(runs)
    apart = apart[apart["outcome"] == "finished"]
    pairs = apart.pivot_table(
        index=["task", *EXCHANGED, "seed"], columns="reading", values="test_accuracy"
    ).reindex(columns=["as_coded", "as_intended"])
    gain = 100 * (pairs["as_intended"] - pairs["as_coded"]).dropna()
    gain = gain.groupby(level=["task", *EXCHANGED]).mean().round(1)
    said = [
        f"On {naming.task_label(task)} {_gained(gain.loc[task])}"
        for task in naming.task_order(gain.index.get_level_values("task"))
    ]
    said = said or ["No run as intended has finished beside one as coded with the same seed."]
    return " ".join([*said, *_luna_in_both(runs)])


def _luna_in_both(runs: pd.DataFrame) -> Iterator[str]:
    """Of Luna only padding differs: its unpack temperature was never to be learned."""
    name = f"luna-{ABLATION_MEMORY}"
    luna = runs[(runs["model"] == name) & (runs["outcome"] == "finished")]
    for task in naming.task_order(luna["task"]):
        coded, intended = (
            100 * luna.loc[(luna["task"] == task) & (luna["changes"] == changes), "test_accuracy"]
            for changes in ("", "reading=as_intended")
        )
        if len(coded) and len(intended):
            yield (
                f"{naming.model_label(name)}, of which only the padding differs, has "
                f"{tables.mean_cell(intended)} on {naming.task_label(task)} as intended, "
                f"{tables.mean_cell(coded)} as coded."
            )


def _gained(gain: pd.Series[float]) -> str:
    """``gain`` in points by what is exchanged, in words."""
    span = tables.unsigned(gain.min())
    if len(gain) > 1:
        most = parts_label(*gain.index[int(gain.argmax())])
        span = f"{span} to {tables.unsigned(gain.max())} points, most with {most}"
    else:
        span += " points"
    return (
        f"the model as intended is more accurate than as coded in {(gain > 0).sum()} of "
        f"{counted(len(gain), 'combination')}; the difference, seed by seed, is {span}."
    )


def other_kernels(runs: pd.DataFrame) -> pd.DataFrame:
    """What :func:`memnb.draw.filter_figures.kernel_kinds` shows, in numbers.

    Args:
        runs: rows of :func:`memnb.evidence.rows.load_runs`.

    Returns:
        Columns ``Kernel`` and one per task that has a control, cells as in
        :func:`memnb.draw.tables.accuracy`.
    """
    rows = kinds_of_kernel(runs)
    tasks = naming.task_order(rows.loc[rows["kind_of_kernel"].isin(CONTROLS), "task"])
    cells = []
    for kind, (words, _) in KERNELS.items() if tasks else ():
        own = rows[rows["kind_of_kernel"] == kind]
        cells.append([words, *(tables.accuracy_cell(own[own["task"] == task]) for task in tasks)])
    return tables.table(cells, ["Kernel", *map(naming.task_label, tasks)])


def kernels_in_short(runs: pd.DataFrame) -> str:
    """Mean accuracies with the learned kernel, with kernels that were never trained and without a
    filter, a line per task that has a control; empty if none has."""
    rows = kinds_of_kernel(runs)
    rows = rows[rows["outcome"] == "finished"]
    means = 100 * rows.groupby(["task", "kind_of_kernel"])["test_accuracy"].mean()
    lines = []
    for task in naming.task_order(rows.loc[rows["kind_of_kernel"].isin(CONTROLS), "task"]):
        own = means[task]
        said = (f"{KERNELS[kind][0]} {own[kind]:.1f}" for kind in _SAID if kind in own.index)
        lines.append(f"  {naming.task_label(task)}: {'; '.join(said)}")
    return "\n".join(["Test accuracy (%) by kernel, means over seeds:", *lines]) if lines else ""


#: The kernels of :func:`kernels_in_short`.
_SAID = ("learned", "random", "smooth", "difference", "none")


def _at_the_end(filters: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The last row of every kernel of those of ``runs`` that have finished, with ``moved``; of
    models as their names define them."""
    finished = runs.loc[runs["outcome"] == "finished", "run_id"]
    rows = distances(plain_models(filters[filters["run_id"].isin(finished)]))
    return rows[rows["step"] == rows.groupby("run_id")["step"].transform("max")]


def _range(values: pd.Series[float]) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"
