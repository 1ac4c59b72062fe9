"""Typed, frozen configs: what a task, a model, a training run is. No torch here.

A :class:`Run` says everything that determines a result, and :attr:`Run.run_id` is a
readable name plus the hash of it. Unknown keys and impossible values are refused with one
sentence. Source of the numbers: the authors' public code, as described in docs/deviations.md.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)

from memnb.errors import MemnbError, unknown

Positive = Annotated[int, Field(ge=1, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]

Kind = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
Representation = Literal["cls", "mean", "memory"]
Reading = Literal["as_coded", "as_intended"]
Sharing = Literal["full", "qk", "none"]
Filter = Literal["conv", "pool", "none"]
FilterKernel = Literal["learned", "smooth", "difference", "random", "shuffled"]
Temperature = Literal["unit", "sqrt", "learn"]
Positions = Literal["learned", "none"]
Layout = Literal["tokens", "pixels", "pair"]
Preset = Literal["paper", "quick", "custom"]


class Config(BaseModel):
    """Base of all configs: frozen, strict, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values (JSON, TOML, keyword arguments).

        Raises:
            MemnbError: an unknown key, a missing key or an impossible value, in one sentence.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _one_sentence(cls, error) from None

    def but(self, **changes: Any) -> Self:
        """A copy with some values changed, validated again."""
        return self.of({**self.model_dump(), **changes})


def _one_sentence(cls: type[Config], error: ValidationError) -> MemnbError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in _SORTS)
    if first["type"] == "extra_forbidden":
        return unknown(f"{cls.__name__} setting", where, cls.model_fields)
    if first["type"] == "union_tag_invalid":
        return unknown("task", first["ctx"]["tag"], TASKS)
    if first["type"] == "value_error":
        return MemnbError(str(first["ctx"]["error"]))
    if first["type"] == "missing":
        return MemnbError(f"{cls.__name__} needs a value for '{where}'.")
    given = first.get("input")
    return MemnbError(
        f"{cls.__name__}.{where}: {first['msg'].removesuffix('.')}, but got {given!r}; "
        f"change the value of '{where}'."
    )


# --- tasks -----------------------------------------------------------------------------------


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
        return _digest(self)

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


# --- models ----------------------------------------------------------------------------------


#: What a kind of block has. Kinds that are not here are blocks of your own.
_WITHOUT_MEMORY = ("transformer", "localconv", "memoryless")
_CHUNKED = ("chunkmem", "rmt")
_FILTERED = ("convluna", *_CHUNKED, "localconv", "memoryless")
_ALWAYS_FILTERED = ("localconv", "memoryless")
BUILT_IN = ("transformer", "luna", "convluna", *_CHUNKED, "perceiver", "linformer", "localconv",
            "memoryless")  # fmt: skip
#: The official Luna (arXiv 2106.01540), where it differs from the authors' Luna.
OFFICIAL_LUNA: dict[str, Any] = {"sharing": "none", "memory_init": "luna", "pack_output": False}


class Model(Config):
    """One model: those of the paper's section 2, those it is compared with, or one of your own.

    ``kind`` says which blocks: :data:`BUILT_IN`, or a name given to a block of your own
    (:mod:`memnb.models.registry`). Shape: ``blocks`` blocks of width H = ``width``, n = ``heads``
    heads, feed-forward width ``mlp``, and ``memory`` = M rows of memory (0 for none).

    ``reading`` keeps two readings of the authors' code apart: ``as_coded`` (padding is not masked
    and ConvLuna's unpack temperature stays 1) and ``as_intended`` (padding is masked, the unpack
    temperature is honoured).

    ``chunk`` is the number of positions that are worked through at a time, the memory carrying on
    from one chunk to the next (0: the whole sequence at once); ``chunk_gradients`` the number of
    chunks, counted from the last one, through which gradients flow (0: all).

    ``positions``: a learned vector per absolute position, zero before training, is added to each
    token; a position that no training sequence reaches keeps its zero. ``none`` adds nothing.

    ``cls_init``: the CLS vector starts as N(0, 1), as tokens and memory do, or within
    ±√(3 / H) (``xavier``), as in the other versions of the authors' code that could be read.
    """

    kind: Kind
    blocks: Positive
    width: Positive
    heads: Positive
    mlp: Positive
    dropout: Fraction = 0.1
    memory: Natural = 0
    representation: Representation = "cls"
    reading: Reading = "as_coded"
    positions: Positions = "learned"
    cls_init: Literal["normal", "xavier"] = "normal"
    # Luna, and ConvLuna's full variant; memory_init of every memory that is learned
    sharing: Sharing = "full"
    memory_init: Literal["normal", "luna"] = "normal"
    pack_output: bool = True
    # ConvLuna; the filter and pack's temperature also of kinds like it (_check_use says which)
    variant: Literal["simplified", "full"] = "simplified"
    filter: Filter = "none"
    filter_width: Positive = 4
    filter_stride: Positive = 1
    filter_kernel: FilterKernel = "learned"
    pack_temperature: Temperature = "sqrt"
    unpack_temperature: Temperature = "sqrt"
    # Memory between chunks
    chunk: Natural = 0
    chunk_gradients: Natural = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"The width must be a multiple of the number of heads, but got width={self.width} "
                f"and heads={self.heads}; change one of them."
            )
        self._check_memory()
        self._check_chunks()
        if self.kind in BUILT_IN:
            self._check_use()
        self._check_kernel()
        if self.cls_init != "normal" and self.representation != "cls":
            raise ValueError(
                f"cls_init='{self.cls_init}' means something with representation='cls' only, but "
                f"got '{self.representation}'; leave it out."
            )
        return self

    def _check_memory(self) -> None:
        if self.kind in _WITHOUT_MEMORY and self.memory:
            name = "The Transformer" if self.kind == "transformer" else f"The model {self.kind}"
            raise ValueError(
                f"{name} has no memory, but got memory={self.memory}; set it to 0 "
                "or choose another model."
            )
        if self.kind in BUILT_IN and self.kind not in _WITHOUT_MEMORY and self.memory < 1:
            raise ValueError(
                f"{self.kind} needs at least one memory row, but got memory={self.memory}; "
                "set memory to 1 or more."
            )
        if self.representation == "memory" and (not self.memory or self.kind == "linformer"):
            raise ValueError(
                "representation='memory' needs a model with a memory; this one "
                f"({self.name}) takes 'cls' or 'mean'."
            )
        if self.kind == "perceiver" and self.representation != "memory":
            raise ValueError(
                "Only the memory of a Perceiver has read the sequence, which stays as it was "
                f"embedded, but got representation='{self.representation}'; leave it at 'memory'."
            )

    def _check_chunks(self) -> None:
        if self.kind in _CHUNKED and not self.chunk:
            raise ValueError(
                f"{self.kind} carries its memory from chunk to chunk, but got chunk=0; set chunk "
                "to the number of positions in a chunk."
            )
        if self.chunk and self.kind in BUILT_IN and self.kind not in _CHUNKED:
            raise ValueError(
                f"{self.kind} takes the whole sequence at once, but got chunk={self.chunk}; "
                f"choose {' or '.join(_CHUNKED)}, or leave chunk at 0."
            )
        if self.chunk_gradients and not self.chunk:
            raise ValueError(
                f"chunk_gradients={self.chunk_gradients} needs a model that works in chunks; set "
                "chunk as well, or leave chunk_gradients at 0."
            )

    def _check_kernel(self) -> None:
        if self.filter_kernel != "learned" and self.filter != "conv":
            raise ValueError(
                f"filter_kernel='{self.filter_kernel}' says what a convolution does, but got "
                f"filter='{self.filter}'; set filter='conv' or leave filter_kernel alone."
            )
        if self.filter_kernel == "difference" and self.filter_width < 2:
            raise ValueError(
                "A difference needs two taps, but got filter_width=1; raise filter_width."
            )

    def _check_use(self) -> None:
        """Refuse settings that are not the model's: most would change nothing but a run's id."""
        convluna = self.kind == "convluna"
        projects = self.kind == "luna" or (convluna and self.variant == "full")
        filtered = "models with a filter (filter='conv' or 'pool', here 'none')"
        luna = "Luna and of ConvLuna's full variant (variant='full')"
        used = {
            "variant": (convluna, "ConvLuna"),
            "sharing": (projects, luna),
            "pack_output": (projects, luna),
            "memory_init": (self.has_memory_stream, "models whose memory is learned"),
            "unpack_temperature": (convluna, "ConvLuna"),
            "pack_temperature": (convluna or self.kind == "chunkmem", "ConvLuna and ChunkMem"),
            "filter": (self.kind in _FILTERED, "ConvLuna and models like it"),
            "filter_width": (self.filter != "none", filtered),
            "filter_stride": (self.filter != "none", filtered),
        }
        for key, (read, whose) in used.items():
            value = getattr(self, key)
            if not read and value != Model.model_fields[key].default:
                raise ValueError(
                    f"{key}={value!r} is a setting of {whose}, but the model is {self.name}; "
                    f"leave {key} alone."
                )
        if convluna and self.reading == "as_coded" and self.unpack_temperature != "learn":
            raise ValueError(
                "As coded, the option of the unpack temperature never arrives, and T stays 1, but "
                f"got unpack_temperature='{self.unpack_temperature}'; set reading='as_intended' as "
                "well, or leave it at 'learn'."
            )
        if self.kind in _ALWAYS_FILTERED and (self.filter != "conv" or self.filter_stride != 1):
            raise ValueError(
                f"{self.kind} is a convolution that keeps the length (filter='conv', "
                f"filter_stride=1), but got filter='{self.filter}' and "
                f"filter_stride={self.filter_stride}; leave both alone."
            )

    @property
    def family(self) -> str:
        """The name without the memory size: one colour in every figure."""
        if self.kind == "convluna" and self.filter == "pool":
            return "poolluna"
        if self.kind in _CHUNKED and self.filter != "none":
            return f"{self.filter}{self.kind}"
        if self.kind == "luna" and all(getattr(self, k) == v for k, v in OFFICIAL_LUNA.items()):
            return "officialluna"
        return self.kind

    @property
    def name(self) -> str:
        """The short name, such as ``convluna-16``."""
        return f"{self.family}-{self.memory}" if self.memory else self.family

    @property
    def has_memory_stream(self) -> bool:
        """Whether memory rows go through the blocks (Linformer's are made anew in each)."""
        return self.memory > 0 and self.kind != "linformer"

    @property
    def unpack_temperature_used(self) -> Temperature:
        """The unpack temperature after the reading is applied (as coded, ConvLuna's is frozen)."""
        if self.kind == "convluna" and self.reading == "as_coded":
            return "unit"
        return self.unpack_temperature


_FAMILY_NAME = re.compile(r"[a-z][a-z0-9]*")
_MODEL_NAME = re.compile(rf"({_FAMILY_NAME.pattern})(?:-([1-9]\d{{0,4}}))?")
_FAMILIES: dict[str, dict[str, Any]] = {
    "transformer": {"kind": "transformer"},
    "luna": {"kind": "luna"},
    "convluna": {
        "kind": "convluna",
        "filter": "conv",
        "pack_temperature": "learn",
        "unpack_temperature": "learn",
    },
    "poolluna": {
        "kind": "convluna",
        "filter": "pool",
        "pack_temperature": "learn",
        "unpack_temperature": "learn",
    },
    # A memory that ran on over padding would have to keep what it knows for nothing: masked.
    "chunkmem": {"kind": "chunkmem", "reading": "as_intended"},
    "convchunkmem": {"kind": "chunkmem", "reading": "as_intended", "filter": "conv"},
    "poolchunkmem": {"kind": "chunkmem", "reading": "as_intended", "filter": "pool"},
    "rmt": {"kind": "rmt", "reading": "as_intended"},
    "convrmt": {"kind": "rmt", "reading": "as_intended", "filter": "conv"},
    "poolrmt": {"kind": "rmt", "reading": "as_intended", "filter": "pool"},
    "officialluna": {"kind": "luna", **OFFICIAL_LUNA},
    "perceiver": {"kind": "perceiver", "representation": "memory"},
    "linformer": {"kind": "linformer"},
    # Without a memory, CLS would see no further than the filter reaches: the mean of all positions.
    "localconv": {"kind": "localconv", "filter": "conv", "representation": "mean"},
    "memoryless": {"kind": "memoryless", "filter": "conv", "representation": "mean"},
}
#: The models of the main table.
MODELS = (
    "transformer",
    "luna-1",
    "luna-16",
    "luna-256",
    "convluna-1",
    "convluna-16",
    "convluna-256",
    "poolluna-16",
)
#: Memory that carries information from chunk to chunk, without and with the filter.
CHUNK_MODELS = ("chunkmem-16", "convchunkmem-16", "rmt-16", "convrmt-16")
#: What the others are compared with: other memories, and the filter without any memory.
CONTROLS = ("officialluna-16", "perceiver-16", "linformer-16", "localconv", "memoryless")
#: Of these, the filter without any memory, the better counterpart of ConvLuna first.
FILTER_ALONE = ("memoryless", "localconv")
#: Families of both: pages of the paper's own study leave them out.
BESIDE = tuple(name for name in _FAMILIES if f"{name}-16" not in MODELS and name not in MODELS)
#: The block that a page writes before the reader's eyes: a row on that page, and on no other.
DEMONSTRATION = "slots"
ENTRY_POINTS = "memnb.models"
#: The variable that names files of blocks of your own.
BLOCKS = "MEMNB_BLOCKS"
_OWN: set[str] = set()

_SMALL = {"blocks": 2, "width": 32, "heads": 4, "mlp": 64, "dropout": 0.0}
_SHAPES: dict[str, dict[str, Any]] = {
    "text": {"blocks": 4, "width": 128, "heads": 4, "mlp": 512, "dropout": 0.1},
    "listops": {"blocks": 6, "width": 128, "heads": 4, "mlp": 512, "dropout": 0.1},
    "retrieval": {"blocks": 6, "width": 128, "heads": 4, "mlp": 512, "dropout": 0.1},
    "image": {"blocks": 8, "width": 128, "heads": 4, "mlp": 512, "dropout": 0.0},
    "pathfinder": {"blocks": 6, "width": 128, "heads": 4, "mlp": 512, "dropout": 0.0},
    "listops-short": _SMALL,
    "text-short": _SMALL,
    "image-short": _SMALL,
    "pathfinder-short": _SMALL,
}
_SHAPES["retrieval-acl"] = _SHAPES["retrieval"]
_SHAPES |= dict.fromkeys(EXTRA_TASKS, _SMALL)
#: What data of one's own are trained like, until somebody says otherwise.
_LIKE_OWN = "text-short"
#: Positions in a chunk: eight chunks of a full task's longest sequence, fewer of a small one's.
_CHUNK = {
    "text": 500, "listops": 250, "retrieval": 500, "retrieval-acl": 500, "image": 128,
    "pathfinder": 128, "listops-short": 50, "text-short": 100, "image-short": 128,
    "pathfinder-short": 25,
    # The facts in two chunks, the question in a third: only the memory can answer it.
    **{f"recall-{facts}": facts // 2 for facts in RECALL_FACTS},
    "recall-longer": 2,
}  # fmt: skip


def list_models() -> list[str]:
    """All models; any memory size may stand in a name (``luna-4``)."""
    built_in = (*MODELS, *CHUNK_MODELS, *CONTROLS)
    return [*built_in, *(f"{name}-16" for name in sorted(own_families()))]


def own_families() -> set[str]:
    """Names of blocks that are not memnb's: registered in this process, named by MEMNB_BLOCKS, or
    offered by an entry point.

    Raises:
        MemnbError: as :func:`block_files`.
    """
    found = {point.name for point in entry_points(group=ENTRY_POINTS)}
    offered = {name for name in found if _FAMILY_NAME.fullmatch(name)} - set(_FAMILIES)
    return _OWN | offered | set(block_files())


def block_files() -> dict[str, Path]:
    """The Python files of your blocks that MEMNB_BLOCKS names, as ``mean=my_memory.py``; what
    stands between two of them is what stands between the folders of PATH.

    The variable goes to the processes that a command starts, so its blocks are known there too.

    Raises:
        MemnbError: a part of another form, a name that no block can have, or no file.
    """
    found = {}
    for part in filter(None, os.environ.get(BLOCKS, "").split(os.pathsep)):
        name, equals, file = part.partition("=")
        if not (name and equals and file):
            raise MemnbError(
                f"{BLOCKS} names blocks and their files, as mean=my_memory.py, but holds "
                f"'{part}'; put the name and = before the file."
            )
        _check_family(name)
        path = Path(os.path.expanduser(file))  # which leaves a home that nobody has as it is
        if not path.is_file():
            raise MemnbError(
                f"{BLOCKS} says that the block '{name}' stands in {path}, but there is no such "
                "file; give its whole path."
            )
        found[name] = path
    return found


def refused_blocks() -> dict[str, str]:
    """Names that an installed package offers for its blocks and that no model can have, each with
    a sentence that says why."""
    offered = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return {
        name: f"the block '{name}' that an installed package offers is refused, since "
        + (
            "memnb has a model of this name"
            if name in _FAMILIES
            else "a block's name is one word of small letters and digits"
        )
        + "; give its entry point another name."
        for name in sorted(offered - own_families())
    }


def add_family(name: str) -> None:
    """Let ``name`` and ``name-16`` be models; :func:`memnb.models.registry.register` calls it.

    Raises:
        MemnbError: memnb has a model of this name, or it is no word of small letters and digits.
    """
    _check_family(name)
    _OWN.add(name)


def _check_family(name: str) -> None:
    if name in _FAMILIES:
        raise MemnbError(f"memnb has a model named '{name}'; give your block another name.")
    if not _FAMILY_NAME.fullmatch(name):
        raise MemnbError(
            f"A model's name is one word of small letters and digits, but got {name!r}; the number "
            "of memory rows is added to it, as in 'mymemory-16'."
        )


def standard_model(model: Model, task: str | Task) -> Model:
    """What the name of ``model`` stands for on ``task``: its settings without any change.

    Raises:
        MemnbError: no such task.
    """
    return _named(model.family, model.memory, task, {})


def model_config(name: str, task: str | Task, /, **changes: Any) -> Model:
    """The model called ``name`` in the size that ``task`` uses, with some settings changed.

    Raises:
        MemnbError: no such model or setting, or an impossible value.
    """
    match = _MODEL_NAME.fullmatch(name)
    if match is None or not _is_model(match[1], match[2] is not None):
        raise _unknown_model(name)
    return _named(match[1], int(match[2] or 0), task, changes)


def _unknown_model(name: str) -> MemnbError:
    """The error for a name that no model has; it may be meant for a block of the user's."""
    family = re.sub(r"-\d+$", "", name)
    refused = refused_blocks()
    if family in refused:
        return MemnbError(f"There is no model named '{name}': {refused[family]}")
    known = [*_FAMILIES, *own_families()]
    if _MODEL_NAME.fullmatch(name) and not difflib.get_close_matches(family, known, 1, 0.7):
        return MemnbError(
            f"There is no model named '{name}'; see 'memnb models', or, for a block of your own, "
            f"name its file ({BLOCKS}={family}=my_memory.py), or offer it by an entry point in the "
            f"group {ENTRY_POINTS}, since one that a script registers is known to the process that "
            "runs the script, and to no other."
        )
    return unknown("model", name, list_models())


def takes_size(family: str) -> bool:
    """Whether there are models of this family, memnb's or your own, with a size in their name."""
    return _is_model(family, sized=True)


def _is_model(family: str, sized: bool) -> bool:
    if family not in _FAMILIES:
        return family in own_families()
    return sized != (_FAMILIES[family]["kind"] in _WITHOUT_MEMORY)


def _named(family: str, memory: int, task: str | Task, changes: Mapping[str, Any]) -> Model:
    chosen = task_config(task) if isinstance(task, str) else task
    size = _LIKE_OWN if isinstance(chosen, Own) else chosen.name
    if size not in _SHAPES:
        raise unknown("task", size, TASKS)
    settings = _FAMILIES.get(family, {"kind": family})
    chunks = {"chunk": _chunk(chosen)} if settings["kind"] in _CHUNKED else {}
    # The authors' full block has projections of its own for unpack.
    own = {"sharing": "none"} if changes.get("variant") == "full" else {}
    rows = {"memory": memory} if memory else {}
    return Model.of({**_SHAPES[size], **settings, **chunks, **rows, **own, **changes})


def _chunk(task: Task) -> int:
    """Positions in a chunk; of data of one's own a fifth of the longest sequence."""
    return -(-task.max_length // 5) if isinstance(task, Own) else _CHUNK[task.name]


# --- training --------------------------------------------------------------------------------


class Training(Config):
    """The optimisation protocol of one run.

    lr(t) = ``lr`` * min(1, t / ``warmup``) / sqrt(max(t, ``warmup``)); AdamW with betas
    (.9, .999), eps 1e-8 and ``weight_decay`` on every parameter; no clipping. The validation set
    is scored every ``evaluate_every`` steps; after ``patience`` scores without a new best the run
    stops. The best weights are tested.
    """

    steps: Positive
    batch: Positive
    lr: Annotated[float, Field(gt=0)]
    warmup: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    evaluate_every: Positive
    patience: Positive


_TRAINING: dict[str, Training] = {
    "text": Training(
        steps=25_000, batch=32, lr=0.005, warmup=8000, weight_decay=0.01,
        evaluate_every=500, patience=25,
    ),
    "listops": Training(
        steps=50_000, batch=32, lr=0.005, warmup=1000, weight_decay=0.002,
        evaluate_every=200, patience=300,
    ),
    "retrieval": Training(
        steps=30_000, batch=32, lr=0.015, warmup=8000, weight_decay=0.04,
        evaluate_every=500, patience=50,
    ),
    "image": Training(
        steps=30_000, batch=64, lr=0.01, warmup=700, weight_decay=0.01,
        evaluate_every=500, patience=50,
    ),
    "pathfinder": Training(
        steps=125_000, batch=128, lr=0.01, warmup=700, weight_decay=0.01,
        evaluate_every=500, patience=50,
    ),
    "listops-short": Training(
        steps=700, batch=32, lr=0.01, warmup=100, weight_decay=0.002,
        evaluate_every=100, patience=300,
    ),
    "text-short": Training(
        steps=800, batch=32, lr=0.02, warmup=100, weight_decay=0.01,
        evaluate_every=100, patience=300,
    ),
    "image-short": Training(
        steps=400, batch=32, lr=0.02, warmup=100, weight_decay=0.01,
        evaluate_every=100, patience=300,
    ),
    "pathfinder-short": Training(
        steps=600, batch=32, lr=0.03, warmup=200, weight_decay=0.01,
        evaluate_every=100, patience=300,
    ),
}  # fmt: skip
_TRAINING["retrieval-acl"] = _TRAINING["retrieval"]
_TRAINING |= dict.fromkeys(
    EXTRA_TASKS,
    Training(
        steps=1_200, batch=64, lr=0.05, warmup=200, weight_decay=0.01,
        evaluate_every=200, patience=300,
    ),
)  # fmt: skip


#: The two sorts of tasks, which errors need not name.
_SORTS = ("memnb's task", "own task")


def _sort(task: object) -> str:
    """Data of one's own by how their name begins; all others have a class for their name."""
    name = task.get("name") if isinstance(task, Mapping) else getattr(task, "name", None)
    return _SORTS[isinstance(name, str) and name.startswith(OWN)]


_Named = Annotated[
    ListOps | Text | Retrieval | RetrievalACL | Image | Pathfinder | Recall,
    Field(discriminator="name"),
]


class Run(Config):
    """Everything that determines a result, and nothing else (not the device, not the folder)."""

    task: Annotated[
        Annotated[_Named, Tag(_SORTS[0])] | Annotated[Own, Tag(_SORTS[1])], Discriminator(_sort)
    ]
    model: Model
    training: Training
    seed: Natural = 0

    @property
    def run_id(self) -> str:
        """Readable name plus hash of the whole config, such as ``text-luna-16-s0-0f3a9c1b2d``."""
        return f"{self.task.name}-{self.model.name}-s{self.seed}-{_digest(self)}"

    @property
    def preset(self) -> Preset:
        """``paper`` if this is the full protocol on a full task, ``quick`` on a laptop task."""
        name = self.task.name
        if self.training != _TRAINING.get(name) or self.task != TASKS.get(name):
            return "custom"
        return "paper" if name in FULL_TASKS else "quick"


def run_config(
    model: str,
    task: str,
    seed: int = 0,
    *,
    model_changes: Mapping[str, Any] | None = None,
    task_changes: Mapping[str, Any] | None = None,
    training_changes: Mapping[str, Any] | None = None,
) -> Run:
    """The run of ``model`` on ``task`` under the task's protocol, with some settings changed.

    Raises:
        MemnbError: an unknown name or an impossible value.
    """
    chosen = task_config(task, **(task_changes or {}))
    training = _TRAINING[_LIKE_OWN if isinstance(chosen, Own) else task]
    return Run.of(
        {
            "task": chosen.model_dump(),
            "model": model_config(model, chosen, **(model_changes or {})).model_dump(),
            "training": training.but(**(training_changes or {})).model_dump(),
            "seed": seed,
        }
    )


def _digest(config: Config) -> str:
    """Hash of what differs from the defaults, so that a setting added later changes no old id.

    The price: a default, once published, must never change (a test pins some ids).
    """
    text = json.dumps(_changed(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _changed(config: Config) -> dict[str, Any]:
    """The settings that are required or differ from their default; a name is always among them."""
    found: dict[str, Any] = {}
    for key, field in type(config).model_fields.items():
        value = getattr(config, key)
        if isinstance(value, Config):
            found[key] = _changed(value)
        elif key == "name" or field.is_required() or value != field.default:
            found[key] = value
    return found
