"""The tasks: their data as NumPy arrays, on every machine the same.

    from memnb import config, tasks
    data = tasks.load(config.task_config("listops-short"))
    data.train.inputs.shape     # (16000, 300)

ListOps, Pathfinder and Recall are generated, and cached in :func:`memnb.paths.data_cache` under the
digest of their definition. The others are downloaded or imported first (``memnb data list`` says
how). :func:`add` takes data of one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from memnb import config
from memnb.errors import MemnbError
from memnb.tasks import image, listops, own, pathfinder, recall, retrieval, text
from memnb.tasks.base import Bytes, Dataset, Split
from memnb.tasks.own import add
from memnb.tasks.text import ids as review_ids

__all__ = ["Dataset", "Split", "add", "encode", "load", "tokens"]

_LOADERS: dict[type[config.Task], Callable[[Any], Dataset]] = {
    config.ListOps: listops.load,
    config.Text: text.load,
    config.Retrieval: retrieval.load,
    config.RetrievalACL: retrieval.load,
    config.Image: image.load,
    config.Pathfinder: pathfinder.load,
    config.Recall: recall.load,
    config.Own: own.load,
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

    ListOps, Recall and data of one's own give their tokens, bytes give characters (those that are
    not printable ASCII as ``\\xe9``), pixels give numbers.

    Raises:
        MemnbError: an id outside the vocabulary of the task.
    """
    ids = inputs[:length].tolist()
    if task.layout == "pixels":
        return [str(pixel) for pixel in ids]
    names: tuple[str, ...] = _BYTES
    if isinstance(task, config.ListOps):
        names = listops.VOCABULARY
    elif isinstance(task, config.Own):
        names = own.symbols(task)
    elif isinstance(task, config.Recall):
        names = recall.names(task)
    if ids and max(ids) >= len(names):
        raise MemnbError(
            f"{task.title} has the token ids 0..{len(names) - 1}, but got {max(ids)}; these are "
            "inputs of another task."
        )
    return [names[index] for index in ids]


def encode(task: config.Task, text: str) -> tuple[Bytes, int]:
    """The token ids (length,) of an input as it is typed, and its label (-1 where only a human
    could tell); the way back is :func:`tokens`. A network reads them padded with 0.

    A review is its bytes in UTF-8. An expression is its tokens between spaces; brackets may touch
    what stands beside them.

    Raises:
        MemnbError: the text is empty, too long or no expression, or the task cannot be typed.
    """
    # A browser can send half of an emoji. It is not quoted: no page could show the sentence.
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise MemnbError(
            "The input holds half of a character (a lone surrogate), which has no bytes in UTF-8; "
            "delete the place that shows no proper character, and type it again."
        )
    if isinstance(task, config.ListOps):
        words = text.upper().replace("]", " ] ").replace("[", " [").split()
        wrong = next((word for word in words if word not in listops.TOKEN_ID), None)
        if wrong is not None:
            raise MemnbError(
                f"'{wrong}' is no token of ListOps; use [MAX, [MIN, [MED, [SM, ] and the digits 0 "
                "to 9, with spaces between them."
            )
        label = listops.evaluate(words)
        ids = np.array([listops.TOKEN_ID[word] for word in words], np.uint8)
    elif isinstance(task, config.Text):
        ids, label = review_ids(text), -1
    else:
        raise MemnbError(f"Inputs of {task.title} cannot be typed; choose Text or ListOps.")
    if not 1 <= len(ids) <= task.max_length:
        raise MemnbError(
            f"The model reads 1 to {task.max_length:,} tokens, but this input has {len(ids):,}; "
            f"{'shorten it' if len(ids) else 'type something'}."
        )
    return ids, label


_BYTES = ("<pad>", *text.CHARACTERS, "\\xff")
