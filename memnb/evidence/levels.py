"""Accuracies that take no memory: what a model's accuracy has to be compared with first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from memnb.config import EXTRA_TASKS, OWN, TASKS, Own, task_config

#: Share of the most frequent label, for the rule of who has learned (a figure draws what is counted
#: on its own examples, :func:`levels_of`). A model that accurate may have learned nothing: then
#: removing its memory can change nothing, and no trained memory is there that could have degraded.
#: ListOps: simulated from its definition; others: balanced.
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
#: On how many test examples, the first ones, trained models are asked again. Those of ListOps are a
#: little easier: a model that reads one token alone would seem to be above the level of all.
ASKED_AGAIN = 500
#: Test sets of 1,000 or 2,000 examples have a standard error of 0.8 to 1.5 points: what lies no
#: further than this above a level has not been shown to be above it. (That one seed of many lies
#: further is no proof of the contrary.)
MARGIN = 0.02


@dataclass(frozen=True)
class Levels:
    """Accuracies, 0 to 1, of two answers that take no memory, on one set of examples.

    Attributes:
        constant: of always giving one answer, the label that is commonest in the validation set:
            a run's best weights are chosen there, so this is where a run stands that has learned
            nothing. Unlike :data:`MAJORITY` it is counted on the set, and no claim rests on it.
        first_operator: of reading one token of ListOps, the first: the outermost operator. Whoever
            knows it answers 9 to MAX, 0 to MIN, 4 to MED, and guesses at the sum
            (:mod:`memnb.tasks.rules`). None where no input starts with one.
    """

    constant: float
    first_operator: float | None = None


Which = Literal["test", "validation"]

#: Task, set, and how many of its examples if not all: counted on the data of seed 0, on which all
#: runs of the plan are tested, of Image in ``data/reference/datasets.csv``. Sets that are not here
#: are balanced, by their definition or as far as anybody knows.
_COUNTED: dict[tuple[str, Which, int | None], Levels] = {
    ("listops", "test", None): Levels(0.1695, 0.3595),
    ("listops", "test", ASKED_AGAIN): Levels(0.17, 0.388),
    ("listops", "validation", None): Levels(0.179, 0.368),
    ("listops-short", "test", None): Levels(0.135, 0.346),
    ("listops-short", "test", ASKED_AGAIN): Levels(0.13, 0.342),
    ("listops-short", "validation", None): Levels(0.17, 0.332),
    ("image", "validation", None): Levels(0.1064),
    ("pathfinder-short", "test", None): Levels(0.481),
    ("pathfinder-short", "test", ASKED_AGAIN): Levels(0.51),
    ("pathfinder-short", "validation", None): Levels(0.542),
}
#: The fifths of the test set by length: least and greatest length in tokens, and the levels there.
_FIFTHS: dict[str, tuple[tuple[int, int, Levels], ...]] = {
    "listops": (
        (501, 658, Levels(0.16, 0.365)),
        (658, 833, Levels(0.14, 0.3425)),
        (833, 1062, Levels(0.1825, 0.3625)),
        (1062, 1399, Levels(0.1925, 0.36)),
        (1402, 1998, Levels(0.1725, 0.3675)),
    ),
    "listops-short": (
        (151, 179, Levels(0.14, 0.355)),
        (179, 209, Levels(0.09, 0.31)),
        (210, 237, Levels(0.155, 0.345)),
        (237, 269, Levels(0.165, 0.38)),
        (269, 299, Levels(0.125, 0.34)),
    ),
}


#: Data of one's own, by the name of their task, as the rows have them that were read last.
_OWN: dict[str, Own] = {}


def learn(task: Own) -> None:
    """Take from the config of a run what is known of data of one's own, which need not be here."""
    _OWN[task.name] = task


def _own(task: str) -> Own | None:
    """Data of one's own; those that are here, where no row was read."""
    if not task.startswith(OWN):
        return None
    found = _OWN.get(task) or task_config(task)
    assert isinstance(found, Own)
    return found


def levels_of(task: str, which: Which = "test", examples: int | None = None) -> Levels:
    """What takes no memory on one set of a task, as a figure of that set draws it.

    Args:
        task: by name.
        which: the test set, or the validation set.
        examples: how many of the test set a model was asked; all of it if not given.
    """
    if own := _own(task):
        return Levels(
            own.test_constant / own.test
            if which == "test"
            else own.validation_constant / own.validation
        )
    asked = examples if examples == ASKED_AGAIN else None
    known = _COUNTED.get((task, which, asked)) or _COUNTED.get((task, which, None))
    return known or Levels(majority_share(task))


def levels_by_length(task: str) -> tuple[tuple[int, int, Levels], ...]:
    """The same for each fifth of the test set by length, shortest first: least length, greatest
    length, levels. Empty where nobody has counted."""
    return _FIFTHS.get(task, ())


def majority_share(task: str) -> float:
    """Share of the most frequent label, 0 to 1; where nobody has counted, labels are balanced. On
    data of one's own, what one answer gives on the test set."""
    if task.startswith(OWN):
        return levels_of(task).constant
    return MAJORITY.get(task, 1 / TASKS[task].classes)


def learned_above(task: str, which: Which = "test") -> float:
    """The accuracy, 0 to 1, above which a run has learned something.

    On the validation set, where best weights are chosen, one answer can be right more often.
    """
    share = majority_share(task)
    if which == "validation":
        share = max(share, levels_of(task, which).constant)
    return share + MARGIN


def have_all_learned_nothing(task: str, accuracies: Iterable[float], which: Which = "test") -> bool:
    """Whether ``accuracies`` (0 to 1, at least one) are all no more than :func:`learned_above`."""
    return max(accuracies) <= learned_above(task, which)


def first_operator(task: str) -> float | None:
    """Test accuracy, 0 to 1, of the first operator alone; None where no input starts with one."""
    return levels_of(task).first_operator


def is_first_operator_enough(task: str, accuracies: Iterable[float], which: Which = "test") -> bool:
    """Whether ``accuracies`` (0 to 1, at least one) are all within reach of the first operator."""
    level = levels_of(task, which).first_operator
    return level is not None and max(accuracies) <= level + MARGIN


def in_percent(level: float | None) -> str:
    """A level in percent, with one digit, a half upwards; a dash for None."""
    if level is None:
        return "–"
    percent = 100 * Decimal(str(level))
    return f"{percent.quantize(Decimal('0.1'), ROUND_HALF_UP)}"
