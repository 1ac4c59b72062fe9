"""Accuracies that take no memory: what a model's accuracy has to be compared with first."""

from __future__ import annotations

from collections.abc import Iterable

from memnb.config import EXTRA_TASKS, TASKS

#: Share of the most frequent label. A model that accurate may have learned nothing: then removing
#: its memory can change nothing, and no trained memory is there that could have degraded. ListOps:
#: simulated from its definition; others: balanced.
MAJORITY = {
    "listops": 0.17,
    "listops-short": 0.157,
    "text": 0.5,
    "text-short": 0.5,
    "retrieval": 0.5,
    "retrieval-acl": 0.5,
    "image": 0.1,
    "image-short": 0.1,
    "pathfinder": 0.5,
    "pathfinder-short": 0.5,
    **dict.fromkeys(EXTRA_TASKS, 0.25),
}
#: Test accuracy of reading one token of ListOps, the first: the outermost operator. Whoever knows
#: it answers 9 to MAX, 0 to MIN, 4 to MED, and guesses at the sum (:mod:`memnb.tasks.rules`; seed 0
#: of the data, on which all runs of the plan are tested).
FIRST_OPERATOR = {"listops": 0.3595, "listops-short": 0.346}
#: The same of the first 500 test examples, on which trained models are asked again. They are a
#: little easier: a model that reads one token alone would seem to be above the level of all.
ASKED_AGAIN = 500
FIRST_OPERATOR_ASKED_AGAIN = {"listops": 0.388, "listops-short": 0.342}
#: Test sets of 1,000 or 2,000 examples have a standard error of 0.8 to 1.5 points: what lies no
#: further than this above a level has not been shown to be above it. (That one seed of many lies
#: further is no proof of the contrary.)
MARGIN = 0.02


def majority_share(task: str) -> float:
    """Share of the most frequent label, 0 to 1; where nobody has counted, labels are balanced."""
    return MAJORITY.get(task, 1 / TASKS[task].classes)


def learned_above(task: str) -> float:
    """The accuracy, 0 to 1, above which a run has learned something."""
    return majority_share(task) + MARGIN


def first_operator(task: str, examples: int | None = None) -> float | None:
    """Test accuracy, 0 to 1, of the first operator alone; None where no task starts with one.

    Args:
        task: by name.
        examples: how many test examples it is compared on; the whole test set if not given.
    """
    known = FIRST_OPERATOR_ASKED_AGAIN if examples == ASKED_AGAIN else FIRST_OPERATOR
    return known.get(task)


def is_first_operator_enough(task: str, accuracies: Iterable[float]) -> bool:
    """Whether ``accuracies`` (0 to 1, at least one) are all within reach of the first operator."""
    level, found = first_operator(task), list(accuracies)
    return level is not None and bool(found) and max(found) <= level + MARGIN


def in_percent(level: float | None) -> str:
    """A level in percent, with one digit; a dash for None."""
    return "–" if level is None else f"{round(100 * level, 2):.1f}"
