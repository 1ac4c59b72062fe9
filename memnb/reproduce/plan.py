"""Which runs the artefacts need, as plain loops; change the lists to change the study.

A set is a list of runs. Sets overlap: a run that two of them share has one id and is trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

from memnb import config
from memnb.config import Run, run_config
from memnb.errors import unknown
from memnb.tasks import prepared

#: ``stored`` only draws committed rows; ``quick`` and ``paper`` train.
PRESETS = ("stored", "quick", "paper")

SEEDS = (0, 1, 2)

# Full scale: the tasks in the order in which they add to the claims, cheapest evidence first.
PAPER_TASKS = ("text", "listops", "image", "pathfinder", "retrieval")
PAPER_MODELS = config.MODELS
PAPER_ABLATION_TASKS = ("text", "listops")
PAPER_MEMORY_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# Laptop scale: all of it together has to fit a quarter of an hour on two cores.
QUICK_TASK = "listops-short"
QUICK_MODELS = ("transformer", "luna-1", "luna-16", "convluna-1", "convluna-16", "poolluna-16")
QUICK_SEEDS = SEEDS
QUICK_ABLATION_SEEDS = SEEDS  # one change at a time: what C4 is judged on
QUICK_GRID = ("none", "conv")  # pooling only as the main table has it: for time's sake
QUICK_GRID_SEEDS = (0,)  # the rest of filter x temperature
QUICK_MEMORY_SIZES = (1, 4, 16)
QUICK_MEMORY_SEEDS = (0,)

# The other tasks at laptop scale -> the data that they need and their seeds. Pathfinder needs no
# data; the others are trained where their data are here.
QUICK_OTHER_TASKS: dict[str, tuple[str | None, tuple[int, ...]]] = {
    "pathfinder-short": (None, SEEDS),
    "text-short": ("text", (0,)),
    "image-short": ("image", (0,)),
}
QUICK_OTHER_MODELS = ("luna-1", "luna-16", "convluna-1", "convluna-16")
#: For ten minutes' sake the quick preset leaves these, on the other tasks, to the committed rows;
#: the paper preset trains them as well.
QUICK_LEFT_OUT = ("transformer", "poolluna-16")

# Memory between chunks, and the controls. The quick preset leaves these two sets to the committed
# rows, for ten minutes' sake; the paper preset trains both scales of them.
CHUNK_MODELS = (*config.CHUNK_MODELS, *config.CONTROLS)
#: Tasks of full scale -> models; :data:`MEAN_MODELS` are trained beside them. On Image only what
#: decides how a gain of the filter may be read.
CHUNK_TASK_MODELS: dict[str, tuple[str, ...]] = {
    "text": CHUNK_MODELS,
    "listops": CHUNK_MODELS,
    "image": config.FILTER_ALONE,
}
#: Laptop tasks -> models; on the longer ones only what decides a claim, for the time they take.
CHUNK_LAPTOP_MODELS: dict[str, tuple[str, ...]] = {
    "listops-short": CHUNK_MODELS,
    "pathfinder-short": CHUNK_MODELS,
    "text-short": (*config.CHUNK_MODELS, *config.FILTER_ALONE),
    "image-short": config.FILTER_ALONE,
}
#: Controls read the mean over positions, so ConvLuna and Luna do so once as well.
MEAN_MODELS = ("luna-16", "convluna-16")
RECALL_MODELS = ("chunkmem", "convchunkmem")
RECALL_MEMORY_SIZES = (16, 1, 4)
# Recall of more facts than training showed: each memory without and with the filter, and what a
# filter alone sees. Padding is masked for all of them, or the length would show in it.
LONGER_MODELS = (*config.CHUNK_MODELS, "luna-16", "convluna-16", "localconv", "memoryless")
LONGER_POSITIONS = ("none", "learned")

# The quick preset leaves these to the committed rows too.
INITIAL_CLS_MODELS = {
    "listops-short": ("luna-1", "luna-16", "convluna-1", "convluna-16"),
    "text": ("luna-16", "convluna-16"),
}

# Settings of the filter at full scale; a pool of stride 4 is the study's second variant.
FILTERS: tuple[dict[str, Any], ...] = (
    {"filter": "none"},
    {"filter": "conv"},
    {"filter": "pool"},
    {"filter": "pool", "filter_stride": 4},
)
TEMPERATURES = ("unit", "sqrt", "learn")
# ConvLuna itself (conv, learn), and each of its two parts changed alone. What the quick preset has
# no time for, the paper preset trains on the laptop's other tasks as well.
ONE_CHANGE = (("conv", "learn"), ("none", "learn"), ("conv", "unit"), ("conv", "sqrt"))
# What stands in the place of the learned kernel; Pathfinder trains in seconds at laptop scale.
KERNELS = ("smooth", "difference", "random", "shuffled")
KERNEL_TASKS = ("text", "listops")
QUICK_KERNEL_TASKS = ("pathfinder-short",)
QUICK_KERNEL_SEEDS = (0,)  # the committed rows have three
REPRESENTATIONS = ("cls", "mean", "memory")


def table(preset: str) -> Iterator[Run]:
    """The main table: every model on every task. Serves C1, C2, C3."""
    if preset == "quick":
        for seed, model in product(QUICK_SEEDS, QUICK_MODELS):
            yield run_config(model, QUICK_TASK, seed)
        return
    for tasks in (PAPER_TASKS[:3], PAPER_TASKS[3:]):
        for seed, task, model in product(SEEDS, tasks, PAPER_MODELS):
            yield run_config(model, task, seed)


def ablation(preset: str) -> Iterator[Run]:
    """ConvLuna with M = 16: filter x temperature, and at full scale more. Serves C4."""
    if preset == "quick":
        for seed, (filter_, temperature) in product(QUICK_ABLATION_SEEDS, ONE_CHANGE):
            yield _ablated(QUICK_TASK, seed, temperature, filter=filter_)
        for seed, filter_, temperature in product(QUICK_GRID_SEEDS, QUICK_GRID, TEMPERATURES):
            yield _ablated(QUICK_TASK, seed, temperature, filter=filter_)
        return
    for tasks in (QUICK_OTHER_TASKS, PAPER_ABLATION_TASKS):
        for seed, task, (filter_, temperature) in product(SEEDS, tasks, ONE_CHANGE):
            yield _ablated(task, seed, temperature, filter=filter_)
    for seed, task in product(SEEDS, PAPER_ABLATION_TASKS):
        for settings, temperature in product(FILTERS, TEMPERATURES):
            yield _ablated(task, seed, temperature, **settings)
        for settings, temperature in product(FILTERS, TEMPERATURES):
            # As intended, the unpack temperature is honoured, so it changes as well.
            intended = {"reading": "as_intended", "unpack_temperature": temperature}
            yield _ablated(task, seed, temperature, **settings, **intended)
        yield run_config("luna-16", task, seed, model_changes={"reading": "as_intended"})
        for model, how in product(("luna-16", "convluna-16"), REPRESENTATIONS):
            yield run_config(model, task, seed, model_changes={"representation": how})


def memory_size(preset: str) -> Iterator[Run]:
    """Luna and ConvLuna with more and more memory. Serves C2, C3."""
    families = ("luna", "convluna")
    if preset == "quick":
        for seed, size, family in product(QUICK_MEMORY_SEEDS, QUICK_MEMORY_SIZES, families):
            yield run_config(f"{family}-{size}", QUICK_TASK, seed)
        return
    for seed, size, family in product(SEEDS, PAPER_MEMORY_SIZES, families):
        yield run_config(f"{family}-{size}", "text", seed)


def filter_kernels(preset: str) -> Iterator[Run]:
    """ConvLuna with M = 16 and other kernels than learned ones, as controls."""
    paper = preset == "paper"
    tasks = KERNEL_TASKS if paper else QUICK_KERNEL_TASKS
    for seed, task in product(SEEDS if paper else QUICK_KERNEL_SEEDS, tasks):
        for changes in ({}, *({"filter_kernel": kernel} for kernel in KERNELS), {"filter": "none"}):
            yield run_config("convluna-16", task, seed, model_changes=changes)
        yield run_config("luna-16", task, seed)


def other_tasks(preset: str) -> Iterator[Run]:
    """At laptop scale the tasks besides ListOps; at full scale Retrieval's substitute.

    Before that, the models that the quick preset leaves out on the laptop's tasks.
    """
    if preset == "quick":
        for task, (data, seeds) in QUICK_OTHER_TASKS.items():
            if data is None or prepared.file(data).is_file():
                for seed, model in product(seeds, QUICK_OTHER_MODELS):
                    yield run_config(model, task, seed)
        return
    for seed, task, model in product(SEEDS, QUICK_OTHER_TASKS, QUICK_LEFT_OUT):
        yield run_config(model, task, seed)
    for seed, model in product(SEEDS, PAPER_MODELS):
        yield run_config(model, "retrieval-acl", seed)


def chunks(preset: str) -> Iterator[Run]:
    """Memory between chunks, filtered or not, and the controls. Serves C5.

    At full scale the three cheapest tasks; before them the laptop's.
    """
    if preset == "quick":
        return
    for models_of in (CHUNK_LAPTOP_MODELS, CHUNK_TASK_MODELS):
        for seed, (task, models) in product(SEEDS, models_of.items()):
            for model in models:
                yield run_config(model, task, seed)
            for model in MEAN_MODELS:
                yield run_config(model, task, seed, model_changes={"representation": "mean"})


def recall(preset: str) -> Iterator[Run]:
    """How many facts fit into M rows of a memory between chunks, filtered or not."""
    if preset == "quick":
        return
    for seed, facts, rows in product(SEEDS, config.RECALL_FACTS, RECALL_MEMORY_SIZES):
        for family in RECALL_MODELS:
            yield run_config(f"{family}-{rows}", f"recall-{facts}", seed)


def longer(preset: str) -> Iterator[Run]:
    """Trained on few facts, tested on more in longer sequences, without positions and with them."""
    if preset == "quick":
        return
    for seed, positions, model in product(SEEDS, LONGER_POSITIONS, LONGER_MODELS):
        changes = {"reading": "as_intended", "positions": positions}
        yield run_config(model, "recall-longer", seed, model_changes=changes)


def initial_cls(preset: str) -> Iterator[Run]:
    """The CLS vector started as in other versions of the authors' code, where that may matter."""
    if preset == "quick":
        return
    for seed, (task, models) in product(SEEDS, INITIAL_CLS_MODELS.items()):
        for model in models:
            yield run_config(model, task, seed)
            yield run_config(model, task, seed, model_changes={"cls_init": "xavier"})


def _ablated(task: str, seed: int, temperature: str, **settings: Any) -> Run:
    changes = {"pack_temperature": temperature, **settings}
    return run_config("convluna-16", task, seed, model_changes=changes)


#: Sets by name, in the order of what they add to the claims.
SETS: dict[str, Callable[[str], Iterator[Run]]] = {
    "table": table,
    "ablation": ablation,
    "memory-size": memory_size,
    "other-tasks": other_tasks,
    "filter-kernels": filter_kernels,
    "chunks": chunks,
    "recall": recall,
    "longer": longer,
    "initial-cls": initial_cls,
}

#: The full-scale study step by step, in the order of what each adds to the claims: a set, and the
#: tasks of it that this step takes (None for all). What no step names comes last.
STEPS: tuple[tuple[str, tuple[str, ...] | None], ...] = (
    ("table", PAPER_TASKS[:3]),
    ("ablation", PAPER_ABLATION_TASKS),
    ("table", ("pathfinder",)),
    ("other-tasks", None),
    ("memory-size", None),
    ("chunks", tuple(CHUNK_TASK_MODELS)),
)


def runs(name: str, preset: str) -> list[Run]:
    """The runs of one set; none for the ``stored`` preset, which trains nothing.

    Raises:
        MemnbError: no such set or preset.
    """
    if name not in SETS:
        raise unknown("set of runs", name, SETS)
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    if preset == "stored":
        return []
    return list({run.run_id: run for run in SETS[name](preset)}.values())


def models_and_tasks() -> frozenset[tuple[str, str]]:
    """(model, task) of all planned runs of models as their names define them, at both scales,
    whatever data are here: what a table may have no run of *yet*."""
    plain = (
        run for run in _whole_study() if run == run_config(run.model.name, run.task.name, run.seed)
    )
    others = product(QUICK_OTHER_MODELS, QUICK_OTHER_TASKS)
    return frozenset((run.model.name, run.task.name) for run in plain) | frozenset(others)


def parts_and_tasks() -> frozenset[tuple[str | int, ...]]:
    """(filter, width and stride of it, pack temperature, task, reading) of the planned runs of the
    ConvLuna that the ablation takes apart, at both scales: as :func:`models_and_tasks`."""
    return frozenset(
        (m.filter, m.filter_width, m.filter_stride, m.pack_temperature, run.task.name, m.reading)
        for run in _whole_study()
        if (m := run.model).kind == "convluna" and m.memory == 16
    )


def _whole_study() -> list[Run]:
    """The runs of all sets at both scales."""
    return [run for preset in PRESETS for run in together(SETS, preset)]


def together(names: Iterable[str], preset: str) -> list[Run]:
    """The runs of several sets, each once, in the order in which they add to the claims."""
    wanted = set(names)
    ordered = [name for name in SETS if name in wanted]
    ordered += sorted(wanted.difference(SETS))  # refused by runs(), with a suggestion
    return list({run.run_id: run for name in ordered for run in runs(name, preset)}.values())


def in_steps(names: Iterable[str], preset: str) -> list[Run]:
    """The runs of :func:`together`, at full scale in the order of :data:`STEPS`."""
    everything = together(names, preset)
    if preset != "paper":
        return everything
    wanted = {run.run_id: run for run in everything}
    ordered: dict[str, Run] = {}
    for name, tasks in STEPS:
        for run in runs(name, preset):
            if run.run_id in wanted and (tasks is None or run.task.name in tasks):
                ordered[run.run_id] = run
    return list((ordered | wanted).values())
