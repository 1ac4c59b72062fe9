"""A run: a task, a model, the protocol of training, a seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from memnb.config.base import SORTS, Config, Natural, Positive, digest
from memnb.config.model import Model
from memnb.config.names import LIKE_OWN, model_config
from memnb.config.task import (
    EXTRA_TASKS,
    FULL_TASKS,
    OWN,
    TASKS,
    Image,
    ListOps,
    Own,
    Pathfinder,
    Recall,
    Retrieval,
    RetrievalACL,
    Text,
    task_config,
)

Preset = Literal["paper", "quick", "custom"]


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


TRAINING: dict[str, Training] = {
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
TRAINING["retrieval-acl"] = TRAINING["retrieval"]
TRAINING |= dict.fromkeys(
    EXTRA_TASKS,
    Training(
        steps=1_200, batch=64, lr=0.05, warmup=200, weight_decay=0.01,
        evaluate_every=200, patience=300,
    ),
)  # fmt: skip


def _sort(task: object) -> str:
    """Data of one's own by how their name begins; all others have a class for their name."""
    name = task.get("name") if isinstance(task, Mapping) else getattr(task, "name", None)
    return SORTS[isinstance(name, str) and name.startswith(OWN)]


_Named = Annotated[
    ListOps | Text | Retrieval | RetrievalACL | Image | Pathfinder | Recall,
    Field(discriminator="name"),
]


class Run(Config):
    """Everything that determines a result, and nothing else (not the device, not the folder)."""

    task: Annotated[
        Annotated[_Named, Tag(SORTS[0])] | Annotated[Own, Tag(SORTS[1])], Discriminator(_sort)
    ]
    model: Model
    training: Training
    seed: Natural = 0

    @property
    def run_id(self) -> str:
        """Readable name plus hash of the whole config, such as ``text-luna-16-s0-0f3a9c1b2d``."""
        return f"{self.task.name}-{self.model.name}-s{self.seed}-{digest(self)}"

    @property
    def preset(self) -> Preset:
        """``paper`` if this is the full protocol on a full task, ``quick`` on a laptop task."""
        name = self.task.name
        if self.training != TRAINING.get(name) or self.task != TASKS.get(name):
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
    training = TRAINING[LIKE_OWN if isinstance(chosen, Own) else task]
    return Run.of(
        {
            "task": chosen.model_dump(),
            "model": model_config(model, chosen, **(model_changes or {})).model_dump(),
            "training": training.but(**(training_changes or {})).model_dump(),
            "seed": seed,
        }
    )
