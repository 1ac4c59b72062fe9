"""The tasks: what is to be classified, and what the shape of their data is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from memnb.config.base import Config, Natural, Positive, digest
from memnb.errors import MemnbError, unknown

Layout = Literal["tokens", "pixels", "pair"]


class Task(Config):
    """What is to be classified: the definition of a data set, and the shape a model must take.

    Class variables:
        classes: number of labels (and of output units).
        vocabulary: number of token ids, padding (id 0) included; 0 for pixels.
        layout: ``tokens`` (L,), ``pixels`` (L,) of 0..255, or ``pair`` (2, L).
        title: the name printed in tables.
        pixel_scale: mean and deviation applied to pixel / 255.
    """

    classes: ClassVar[int]
    vocabulary: ClassVar[int]
    layout: ClassVar[Layout] = "tokens"
    title: ClassVar[str]
    pixel_scale: ClassVar[tuple[float, float]] = (0.0, 1.0)

    name: str
    max_length: Positive

    @property
    def digest(self) -> str:
        """Hash of the definition: the key under which the data are cached."""
        return digest(self)

    @property
    def sequences(self) -> int:
        """How many sequences an example is: the two documents of a pair, else one."""
        return 2 if self.layout == "pair" else 1

    def unread(self) -> dict[str, str]:
        """Settings that change nothing as the others stand, each with what would make it count."""
        return {}


def _unread_seed(*sizes: int | None) -> dict[str, str]:
    """The seed, where all examples are kept, so that none are drawn."""
    drawn = any(size is not None for size in sizes)
    return {} if drawn else {"seed": "a number of examples to draw, as train=1000"}


class ListOps(Task):
    """Nested list operations (Long Range Arena, arXiv 2011.04006), generated from ``seed``."""

    classes: ClassVar[int] = 10
    vocabulary: ClassVar[int] = 17
    title: ClassVar[str] = "ListOps"

    name: Literal["listops", "listops-short"] = "listops"
    source: Literal["generated", "lra"] = "generated"
    min_length: Positive = 500
    max_length: Positive = 2000
    max_depth: Positive = 10
    max_arguments: Annotated[int, Field(ge=2, lt=2**31)] = 10
    train: Positive = 96_000
    validation: Positive = 2_000
    test: Positive = 2_000
    seed: Natural = 0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_length - self.min_length < 2:
            raise ValueError(
                f"ListOps keeps trees with min_length < length < max_length, but got min_length="
                f"{self.min_length} and max_length={self.max_length}; raise max_length."
            )
        return self

    def unread(self) -> dict[str, str]:
        rules = ("min_length", "max_depth", "max_arguments", "seed")
        return dict.fromkeys(rules, "source='generated'") if self.source == "lra" else {}


class Text(Task):
    """IMDb reviews as bytes: positive or negative.

    ``validation="paper"`` takes the test set as validation set, as LRA and the authors do;
    ``"holdout"`` takes ``holdout`` training reviews, equally many of each label. ``train`` and
    ``test`` keep that many reviews, equally many of each label, drawn by ``seed``; None keeps all.
    """

    classes: ClassVar[int] = 2
    vocabulary: ClassVar[int] = 257
    title: ClassVar[str] = "Text"

    name: Literal["text", "text-short"] = "text"
    max_length: Positive = 4000
    validation: Literal["paper", "holdout"] = "paper"
    holdout: Positive = 2500
    train: Positive | None = None
    test: Positive | None = None
    seed: Natural = 0

    def unread(self) -> dict[str, str]:
        if self.validation == "holdout":
            return {}
        return {"holdout": "validation='holdout'", **_unread_seed(self.train, self.test)}


class _Pairs(Task):
    """Pairs of papers as bytes: does one cite the other?

    ``train``, ``validation`` and ``test`` keep that many pairs, equally many of each label, drawn
    by ``seed``; None keeps all.
    """

    classes: ClassVar[int] = 2
    vocabulary: ClassVar[int] = 257
    layout: ClassVar[Layout] = "pair"

    max_length: Positive = 4000
    train: Positive | None = None
    validation: Positive | None = None
    test: Positive | None = None
    seed: Natural = 0

    def unread(self) -> dict[str, str]:
        return _unread_seed(self.train, self.validation, self.test)


class Retrieval(_Pairs):
    """LRA's pairs from the ACL Anthology Network."""

    title: ClassVar[str] = "Retrieval"

    name: Literal["retrieval"] = "retrieval"


class RetrievalACL(_Pairs):
    """A smaller real set of the same kind; a substitute where LRA's pairs cannot be had."""

    title: ClassVar[str] = "Retrieval (ACL substitute)"

    name: Literal["retrieval-acl"] = "retrieval-acl"


class Image(Task):
    """CIFAR-10 in grey, one pixel after the other.

    The last 5,000 training images are the validation set. ``train``, ``validation`` and ``test``
    keep that many images, equally many of each label, drawn by ``seed``; None keeps all.
    """

    classes: ClassVar[int] = 10
    vocabulary: ClassVar[int] = 0
    layout: ClassVar[Layout] = "pixels"
    title: ClassVar[str] = "Image"
    pixel_scale: ClassVar[tuple[float, float]] = (0.48, 0.24)

    name: Literal["image", "image-short"] = "image"
    max_length: Literal[1024] = 1024
    train: Positive | None = None
    validation: Positive | None = None
    test: Positive | None = None
    seed: Natural = 0

    def unread(self) -> dict[str, str]:
        return _unread_seed(self.train, self.validation, self.test)


class Pathfinder(Task):
    """Are two marked points joined by a dashed contour? Ten output units, as the authors coded.

    Generated from ``seed`` by the rules in memnb/tasks/pathfinder.py, in square images of
    ``max_length`` pixels: two contours of ``contour_length`` dashes that start ``seed_distance``
    apart, among up to ``distractors`` contours of ``distractor_length`` dashes.
    ``source="lra"`` takes LRA's own images instead, and of each split as many as there are.
    """

    classes: ClassVar[int] = 10
    vocabulary: ClassVar[int] = 0
    layout: ClassVar[Layout] = "pixels"
    title: ClassVar[str] = "Pathfinder"
    pixel_scale: ClassVar[tuple[float, float]] = (0.5, 0.5)

    name: Literal["pathfinder", "pathfinder-short"] = "pathfinder"
    source: Literal["generated", "lra"] = "generated"
    max_length: Annotated[int, Field(ge=1, le=4096)] = 1024
    contour_length: Positive = 14
    distractor_length: Positive = 4
    distractors: Natural = 5
    seed_distance: Positive = 7
    train: Positive = 160_000
    validation: Positive = 20_000
    test: Positive = 20_000
    seed: Natural = 0

    @property
    def side(self) -> int:
        """Height and width of an image."""
        return math.isqrt(self.max_length)

    def unread(self) -> dict[str, str]:
        rules = ("contour_length", "distractors", "distractor_length", "seed_distance", "seed")
        return dict.fromkeys(rules, "source='generated'") if self.source == "lra" else {}

    @model_validator(mode="after")
    def _square(self) -> Self:
        if self.side**2 != self.max_length:
            raise ValueError(
                f"Pathfinder's images are square, but got max_length={self.max_length}; choose "
                f"a square number such as {self.side**2}."
            )
        if self.side <= 4 * self.seed_distance:
            raise ValueError(
                "Pathfinder needs a side of more than 4 * seed_distance pixels, but got a side of "
                f"{self.side} and seed_distance={self.seed_distance}; change one of them."
            )
        return self


class Recall(Task):
    """Associative recall, generated from ``seed``: which value was said of this key?

    A sequence holds up to ``facts`` facts, a key with its value each, and asks for one of the
    keys, after Zoology's associative recall (arXiv 2312.04927); the value is the label. Training
    sequences have 1 to ``facts`` facts, the others exactly so many.

    With ``train_facts`` no sequence of training and validation has more facts than that, and those
    of the test set go on to ``facts``; a sequence with fewer facts is then shorter. Numbers of
    facts are multiples of ``step``.
    """

    classes: ClassVar[int] = 4
    keys: ClassVar[int] = 16
    #: Padding, "no fact", a token per fact, a token per question.
    vocabulary: ClassVar[int] = 2 + keys * classes + keys
    title: ClassVar[str] = "Recall"

    name: Literal["recall-4", "recall-8", "recall-16", "recall-longer"] = "recall-16"
    facts: Annotated[int, Field(ge=1, le=16)] = 16
    train_facts: Positive | None = None
    step: Positive = 1
    max_length: Positive = 17
    train: Positive = 50_000
    validation: Positive = 500
    test: Positive = 1_000
    seed: Natural = 0

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.max_length != self.facts + 1:
            raise ValueError(
                "A sequence of Recall has one token per fact and one that asks, but got facts="
                f"{self.facts} and max_length={self.max_length}; set max_length to "
                f"{self.facts + 1}."
            )
        if self.train_facts is None and self.step > 1:
            raise ValueError(
                f"Recall's step is for sequences of different length, but got step={self.step} and "
                "no train_facts; set train_facts too, or leave step at 1."
            )
        most = self.facts if self.train_facts is None else self.train_facts
        if most > self.facts or most % self.step or self.facts % self.step:
            raise ValueError(
                "Recall's train_facts is at most facts, and both are multiples of step, but got "
                f"train_facts={most}, facts={self.facts} and step={self.step}; change one of them."
            )
        return self


#: How the task of a data set of one's own begins: the data called ``birds`` are ``own-birds``.
OWN = "own-"
#: What may follow; a number of memory rows and a seed are added to it in a run's id.
OWN_NAME = re.compile(r"[a-z][a-z0-9]{0,29}")
MOST_CLASSES, MOST_SYMBOLS = 10_000, 2**20


class Own(Task):
    """Data of one's own (:mod:`memnb.tasks.own`): sequences of symbols, each with one label.

    A data set says of itself what a model must know, so that a run's config alone rebuilds it:
    ``classes``; ``vocabulary``, padding (id 0) included; ``max_length``, that of the longest
    sequence, where longer ones are cut; and how many examples ``train``, ``validation`` and
    ``test`` have. ``data`` is the digest of the three splits: other data of the same name are
    another task, and runs on them are other runs.

    ``validation_constant`` and ``test_constant``: how many examples of the two sets one answer gets
    right, that of the label which is commonest in the validation set. So rows can be read where
    the data are not.
    """

    name: Annotated[str, Field(pattern=f"^{OWN}{OWN_NAME.pattern}$")]
    # Of the data, not of the class as in all other tasks.
    classes: Annotated[int, Field(ge=2, le=MOST_CLASSES)]  # type: ignore[misc]
    vocabulary: Annotated[int, Field(ge=2, le=MOST_SYMBOLS)]  # type: ignore[misc]
    train: Positive
    validation: Positive
    test: Positive
    validation_constant: Natural
    test_constant: Natural
    data: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]

    @property
    def title(self) -> str:  # type: ignore[override]
        """The name that the user has given."""
        return self.name.removeprefix(OWN)


def find_own_data_with(names: Callable[[], list[str]], find: Callable[[str], Own]) -> None:
    """Let ``names`` list the tasks of one's own data that are here, and ``find`` one of them by
    name (MemnbError: it is not here): this module knows of no data cache."""
    global _names_of_own_data, _find_own_data
    _names_of_own_data, _find_own_data = names, find


_names_of_own_data: Callable[[], list[str]]
_find_own_data: Callable[[str], Own]
RECALL_FACTS = (4, 8, 16)
TASKS: dict[str, Task] = {
    "listops": ListOps(),
    "text": Text(),
    "retrieval": Retrieval(),
    "image": Image(),
    "pathfinder": Pathfinder(),
    "retrieval-acl": RetrievalACL(),
    "listops-short": ListOps(
        name="listops-short",
        min_length=150,
        max_length=300,
        train=16_000,
        validation=500,
        test=1_000,
    ),
    "text-short": Text(
        name="text-short", max_length=500, validation="holdout", holdout=1_000, test=1_000
    ),
    "image-short": Image(name="image-short", validation=500, test=1_000),
    "pathfinder-short": Pathfinder(
        name="pathfinder-short",
        max_length=100,
        contour_length=2,
        distractors=0,
        seed_distance=2,
        train=20_000,
        validation=500,
        test=1_000,
    ),
}
TASKS |= {
    f"recall-{facts}": Recall.of(
        {"name": f"recall-{facts}", "facts": facts, "max_length": facts + 1}
    )
    for facts in RECALL_FACTS
}
# Two facts fill a chunk, so that the question has one of its own at every length.
TASKS["recall-longer"] = Recall(
    name="recall-longer", facts=16, train_facts=4, step=2, max_length=17, test=3_200
)
#: Tested on sequences longer than any of training.
LONGER_TASKS = ("recall-longer",)
#: Not of the Long Range Arena: no claim of the paper is judged on them.
EXTRA_TASKS = tuple(name for name, task in TASKS.items() if isinstance(task, Recall))
LRA_TASKS = ("listops", "text", "retrieval", "image", "pathfinder")
#: Trained by the full protocol; the substitute has Retrieval's.
FULL_TASKS = (*LRA_TASKS, "retrieval-acl")


def list_tasks() -> list[str]:
    """The names that :func:`task_config` knows: memnb's tasks, then data of one's own."""
    return [*TASKS, *_names_of_own_data()]


def task_config(name: str, /, **changes: Any) -> Task:
    """The task called ``name``, with some settings changed.

    Raises:
        MemnbError: no such task or setting, an impossible value, one that the task as it then is
            does not read (it would change nothing but a run's id), or one that the data decide.
        DataError: the data of one's own are damaged.
    """
    standard = _standard_task(name)
    if not changes:
        return standard
    task = standard.but(**changes)
    if isinstance(task, Own) and task != standard.but(max_length=task.max_length):
        raise MemnbError(
            f"Of '{name}' only max_length can be changed, to cut longer sequences; all else is "
            "what its data are: add others under another name."
        )
    for key, needed in task.unread().items():
        if getattr(task, key) != getattr(standard, key):
            raise MemnbError(
                f"The task '{name}' reads {key} only with {needed}, but got {key}="
                f"{changes[key]!r} without; set that too, or leave {key} alone."
            )
    return task


def _standard_task(name: str) -> Task:
    if name.startswith(OWN):
        return _find_own_data(name)
    if name not in TASKS:
        raise unknown("task", name, list_tasks())
    return TASKS[name]
