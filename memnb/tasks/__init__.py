"""The tasks: their data as NumPy arrays, on every machine the same.

    from memnb import config, tasks
    data = tasks.load(config.task_config("listops-short"))
    data.train.inputs.shape     # (16000, 300)

ListOps, Pathfinder and Recall are generated, and cached in :func:`memnb.paths.data_cache` under the
digest of their definition. The others are downloaded or imported first (``memnb data list`` says
how).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from memnb import config
from memnb.errors import MemnbError
from memnb.tasks import image, listops, pathfinder, recall, retrieval, text
from memnb.tasks.base import Dataset, Split

__all__ = ["Dataset", "Split", "load", "tokens"]

_LOADERS: dict[type[config.Task], Callable[[Any], Dataset]] = {
    config.ListOps: listops.load,
    config.Text: text.load,
    config.Retrieval: retrieval.load,
    config.RetrievalACL: retrieval.load,
    config.Image: image.load,
    config.Pathfinder: pathfinder.load,
    config.Recall: recall.load,
}


def load(task: config.Task) -> Dataset:
    """The three splits of ``task``.

    Raises:
        DataError: the data are missing or damaged and cannot be made, or the data cache cannot be
            written.
        MemnbError: that is no task, or one that has no loader here.
    """
    if type(task) not in _LOADERS:
        raise MemnbError(
            "tasks.load takes a task such as config.task_config('listops-short'), whose class has "
            f"a loader in memnb/tasks/__init__.py, but got {task!r}."
        )
    return _LOADERS[type(task)](task)


def tokens(task: config.Task, inputs: np.ndarray, length: int) -> list[str]:
    """The first ``length`` inputs of one sequence (L,) in readable form, for pictures and tables.

    ListOps and Recall give their tokens, bytes give characters (those that are not printable ASCII
    as ``\\xe9``), pixels give numbers.

    Raises:
        MemnbError: an id outside the vocabulary of the task.
    """
    ids = inputs[:length].tolist()
    if task.layout == "pixels":
        return [str(pixel) for pixel in ids]
    names = _BYTES
    if isinstance(task, config.ListOps):
        names = listops.VOCABULARY
    elif isinstance(task, config.Recall):
        names = recall.names(task)
    if ids and max(ids) >= len(names):
        raise MemnbError(
            f"{task.title} has the token ids 0..{len(names) - 1}, but got {max(ids)}; these are "
            "inputs of another task."
        )
    return [names[index] for index in ids]


def _character(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}"


_BYTES = ("<pad>", *(_character(byte) for byte in range(256)))
