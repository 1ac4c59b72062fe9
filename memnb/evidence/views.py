"""Views of trained models: what one input looks like from inside, in one ``.npz`` per model.

They stand beside the weights that they were made from (``data/weights/``), so that a page can show
a trained model without PyTorch. The weights' own metadata, too, are read here without it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memnb import paths
from memnb.config import Own, Run
from memnb.errors import DataError, MemnbError
from memnb.evidence import levels
from memnb.evidence.rows import describe_changes, read_arrays
from memnb.naming import comparison_label, task_order

View = Mapping[str, NDArray[Any]]
_NEEDED = ("pack", "unpack", "tokens", "length", "label", "prediction", "attribution", "prefixes",
           "filled")  # fmt: skip


ROWS = 16
"""Of a larger memory a view holds the first rows (:mod:`memnb.probes.attention_maps`)."""
FORMAT = "1"
FACTS = ("test_accuracy", "best_step", "version", "commit", "device_name")


@dataclass(frozen=True)
class Shipped:
    """A file of weights and what it says of itself.

    Attributes:
        path: the ``.safetensors`` file.
        run: the config of the run that trained them.
        facts: ``test_accuracy`` (0..1, before the weights were halved), ``best_step``,
            ``version``, ``commit``, ``device_name``; None where it is not known.
    """

    path: Path
    run: Run
    facts: dict[str, Any]

    @property
    def title(self) -> str:
        """Such as ``convluna-16 (filter=none) on listops, seed 0``."""
        return f"{self._model} on {self.run.task.name}, seed {self.run.seed}"

    @property
    def label(self) -> str:
        """The model as it is printed: ``ConvLuna-16 (no filter)``."""
        return comparison_label(self._model)

    @property
    def is_standard(self) -> bool:
        """Whether model, task and training are those of the study, without any change."""
        return not describe_changes(self.run) and self.run.preset != "custom"

    @property
    def _model(self) -> str:
        changes = describe_changes(self.run)
        return self.run.model.name + (f" ({changes})" if changes else "")

    def views(self) -> list[dict[str, NDArray[Any]]]:
        """:func:`load_views` of the archive beside the weights."""
        return load_views(self.path.with_suffix(".npz"))


def describe(run: Run, facts: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of a file of weights: what :func:`read` understands."""
    return {
        "format": FORMAT,
        "run_id": run.run_id,
        "config": json.dumps(run.model_dump()),
        "facts": json.dumps({name: facts.get(name) for name in FACTS}),
    }


def read(path: Path) -> Shipped:
    """What a file of weights says of itself; its tensors are not read.

    Raises:
        DataError: the file is missing, damaged, no export of memnb, or made by a newer memnb.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"There are no weights at {path}; 'memnb weights list' shows what is here.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); export it again.") from None
    if "config" not in metadata or "run_id" not in metadata:
        raise DataError(
            f"{path} is no export of memnb (its metadata hold no config); use a file that "
            "'memnb weights export' wrote."
        )
    if metadata.get("format") != FORMAT:
        raise DataError(
            f"{path} has the format {metadata.get('format')}, but this memnb reads {FORMAT}; "
            "update memnb."
        )
    try:
        run = Run.of(json.loads(metadata["config"]))
        facts = dict(json.loads(metadata.get("facts", "{}")))
    except (MemnbError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} holds a config that is not valid here ({error}).") from None
    if run.run_id != metadata["run_id"]:
        raise DataError(
            f"{path} says run {metadata['run_id']}, but its config is that of {run.run_id}; "
            "export it again."
        )
    if isinstance(run.task, Own):
        levels.learn(run.task)
    return Shipped(path, run, {name: facts.get(name) for name in FACTS})


def shipped(folder: Path | None = None) -> list[Shipped]:
    """All weights of a folder (by default those that come with memnb), full-scale tasks first.

    Raises:
        DataError: see :func:`read`.
    """
    found = [read(path) for path in sorted((folder or paths.weights()).glob("*.safetensors"))]
    order = task_order(one.run.task.name for one in found)
    return sorted(found, key=lambda one: (order.index(one.run.task.name), one.run.run_id))


def best_of(found: Sequence[Shipped], task: str, family: str) -> Shipped | None:
    """The weights to show for a task's title and a family: those of the study before changed ones,
    full scale before small, more memory before less; None where there are none."""
    fitting = [
        one for one in found if one.run.task.title == task and one.run.model.family == family
    ]
    return min(
        fitting,
        key=lambda one: (
            not one.is_standard,
            one.run.task.name.endswith("-short"),
            -one.run.model.memory,
        ),
        default=None,
    )


def to_bytes(views: Sequence[View]) -> bytes:
    """Several views as one compressed archive."""
    buffer = io.BytesIO()
    arrays = {
        f"{key}_{number}": value for number, one in enumerate(views) for key, value in one.items()
    }
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def load_views(path: Path) -> list[dict[str, NDArray[Any]]]:
    """The views in one archive, first one first; none if there is no such file.

    Each holds ``pack`` (blocks, n, M', L'), ``unpack`` (blocks, n, L, M'), ``tokens`` (length,),
    ``length``, ``label``, ``prediction``, ``attribution`` (length,), ``prefixes`` (points,) and
    ``filled`` (points, blocks, M').

    Raises:
        DataError: the file is damaged or lacks an array.
    """
    if not path.is_file():
        return []
    arrays = read_arrays(path)
    views: list[dict[str, NDArray[Any]]] = []
    while f"tokens_{len(views)}" in arrays:
        number = len(views)
        try:
            views.append({key: arrays[f"{key}_{number}"] for key in _NEEDED})
        except KeyError as error:
            raise DataError(
                f"{path} lacks the array {error}; export the weights again (memnb weights export)."
            ) from None
    return views
