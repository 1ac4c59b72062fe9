"""Which runs are missing, in the order of what they add to the claims, and what they will take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from memnb import config
from memnb.config import Run, Task, model_config, run_config
from memnb.errors import MemnbError, unknown
from memnb.reproduce import plan
from memnb.tasks import catalogue

#: Those that train: ``stored`` plans no runs.
PRESETS = ("paper", "quick")


@dataclass(frozen=True)
class Selection:
    """Which of the planned runs are meant; nothing given means all.

    Attributes:
        sets: names in :data:`memnb.reproduce.plan.SETS`.
        tasks, models: names, such as ``text`` and ``luna-16``. Without ``sets``, of a model and a
            task that no set plans together as many runs are meant as there are seeds; of a task of
            one's own, all models of the laptop table, unless some are named.
        seeds: may hold seeds that the plan does not: its runs are then trained with these as well.
        preset: ``paper`` (the full protocol) or ``quick`` (laptop tasks).
    """

    sets: Sequence[str] = ()
    tasks: Sequence[str] = ()
    models: Sequence[str] = ()
    seeds: Sequence[int] = ()
    preset: str = "paper"


def select(selection: Selection) -> list[Run]:
    """The runs of a selection, each once, in the order of what they add to the claims.

    Raises:
        MemnbError: an unknown name, or one of which the selection holds no run.
    """
    if selection.preset not in PRESETS:
        raise unknown("preset to sweep", selection.preset, PRESETS)
    known = config.list_tasks()
    for task in selection.tasks:
        if task not in known:
            raise unknown("task", task, known)
    for model in selection.models:
        model_config(model, "text")  # refuses a name that means nothing
    runs = plan.in_steps(selection.sets or plan.SETS, selection.preset)
    chosen = [
        run
        for run in runs
        if (not selection.tasks or run.task.name in selection.tasks)
        and (not selection.models or run.model.name in selection.models)
    ]
    if selection.seeds:
        seeds = list(dict.fromkeys(selection.seeds))
        first = [run for run in chosen if run.seed == plan.SEEDS[0]]
        chosen = [run for run in chosen if run.seed in selection.seeds]
        planned = {run.run_id for run in chosen}
        more = [run.but(seed=seed) for seed in seeds for run in first]
        chosen += [run for run in more if run.run_id not in planned]
    if not selection.sets:
        chosen += _unplanned(selection, runs)
    if not chosen:
        raise MemnbError(_why_none(selection, runs))
    # A name that would be passed over in silence, beside others that mean something.
    without = replace(
        selection,
        tasks=sorted({*selection.tasks} - {run.task.name for run in chosen}),
        models=sorted({*selection.models} - {run.model.name for run in chosen}),
    )
    if without.tasks or without.models:
        raise MemnbError(_why_none(without, runs))
    return chosen


def _unplanned(selection: Selection, planned: Iterable[Run]) -> Iterator[Run]:
    """Named models on named tasks of which no set plans a run; on data of one's own those of the
    laptop table, where no model is named."""
    pairs = {(run.task.name, run.model.name) for run in planned}
    for seed, task in product(
        dict.fromkeys(selection.seeds or plan.SEEDS), dict.fromkeys(selection.tasks)
    ):
        if selection.preset == "quick" and task in config.FULL_TASKS:
            continue
        own = task.startswith(config.OWN)
        for model in dict.fromkeys(selection.models or (plan.QUICK_MODELS if own else ())):
            if (task, model) not in pairs:
                yield run_config(model, task, seed)


def _why_none(selection: Selection, planned: Sequence[Run]) -> str:
    """What to say of a selection that holds none of the ``planned`` runs of its sets."""
    if not planned:
        return (
            f"The preset '{selection.preset}' plans no run of {', '.join(selection.sets)}; choose "
            "other sets, or --preset paper."
        )
    # The quick preset plans these tasks where their data are here only.
    some = [name for name in selection.tasks if name in plan.QUICK_OTHER_TASKS]
    lacking = without_data(map(config.task_config, some))
    if selection.preset == "quick" and lacking:
        steps = "; ".join(f"{name}: {step}" for name, step in lacking.items())
        return f"No planned run has these tasks as long as their data are not here ({steps})."
    given = {"--set": selection.sets, "--tasks": selection.tasks, "--models": selection.models}
    narrowed = [f"{option} {','.join(names)}" for option, names in given.items() if names]
    return (
        f"The preset '{selection.preset}' plans no run of {' and '.join(narrowed)}; change "
        f"{'one of them' if len(narrowed) > 1 else 'it'}, choose another --preset, or name --tasks "
        "and --models but no --set, and each of the models is trained on each of the tasks."
    )


def without_data(tasks: Iterable[Task]) -> dict[str, str]:
    """Names of those tasks whose data are not here, each with what to do about it."""
    lacking: dict[str, str] = {}
    for task in {task.name: task for task in tasks}.values():
        status = catalogue.data_of(task)
        if status is not None and not status.ready:
            lacking[task.name] = status.card.next_step
    return lacking
