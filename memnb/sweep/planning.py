"""Which runs are missing, in the order of what they add to the claims, and what they will take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        tasks, models: names, such as ``text`` and ``luna-16``. Of data of one's own nothing is
            planned: each model (by default those of the laptop table) is meant with each seed.
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
        MemnbError: an unknown name, or a selection that holds no planned run.
    """
    if selection.preset not in PRESETS:
        raise unknown("preset to sweep", selection.preset, PRESETS)
    known = config.list_tasks()
    for task in selection.tasks:
        if task not in known:
            raise unknown("task", task, known)
    for model in selection.models:
        model_config(model, "text")  # refuses a name that means nothing
    own = [task for task in selection.tasks if task.startswith(config.OWN)]
    if own:
        return _with_own_data(selection, own)
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
    if not chosen:
        raise MemnbError(_why_none(selection, runs))
    return chosen


def _with_own_data(selection: Selection, own: Sequence[str]) -> list[Run]:
    """The runs of a selection that has data of one's own among its tasks: planned ones first.

    Raises:
        MemnbError: ``sets`` are given, none of which has such data.
    """
    if selection.sets:
        raise MemnbError(
            f"No set plans runs on data of one's own, but got --set {','.join(selection.sets)} and "
            f"--tasks {','.join(own)}; leave one of them out."
        )
    others = [task for task in selection.tasks if task not in own]
    planned = select(replace(selection, tasks=others)) if others else []
    models = dict.fromkeys(selection.models or plan.QUICK_MODELS)
    seeds = dict.fromkeys(selection.seeds or plan.SEEDS)
    return planned + [
        run_config(model, task, seed)
        for seed, task, model in product(seeds, dict.fromkeys(own), models)
    ]


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
        f"{'one of them' if len(narrowed) > 1 else 'it'}, choose another --preset, or use 'memnb "
        "train' for a run of its own."
    )


def without_data(tasks: Iterable[Task]) -> dict[str, str]:
    """Names of those tasks whose data are not here, each with what to do about it."""
    lacking: dict[str, str] = {}
    for task in {task.name: task for task in tasks}.values():
        status = catalogue.data_of(task)
        if status is not None and not status.ready:
            lacking[task.name] = status.card.next_step
    return lacking
