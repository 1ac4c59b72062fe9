"""What the names of models stand for: ``luna-16`` on a task, and blocks of your own."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from memnb.config.model import CHUNKED, OFFICIAL_LUNA, WITHOUT_MEMORY, Model
from memnb.config.task import EXTRA_TASKS, RECALL_FACTS, TASKS, Own, Task, task_config
from memnb.errors import MemnbError, unknown

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
LIKE_OWN = "text-short"
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
    return sized != (_FAMILIES[family]["kind"] in WITHOUT_MEMORY)


def _named(family: str, memory: int, task: str | Task, changes: Mapping[str, Any]) -> Model:
    chosen = task_config(task) if isinstance(task, str) else task
    size = LIKE_OWN if isinstance(chosen, Own) else chosen.name
    if size not in _SHAPES:
        raise unknown("task", size, TASKS)
    settings = _FAMILIES.get(family, {"kind": family})
    chunks = {"chunk": _chunk(chosen)} if settings["kind"] in CHUNKED else {}
    # The authors' full block has projections of its own for unpack.
    own = {"sharing": "none"} if changes.get("variant") == "full" else {}
    rows = {"memory": memory} if memory else {}
    return Model.of({**_SHAPES[size], **settings, **chunks, **rows, **own, **changes})


def _chunk(task: Task) -> int:
    """Positions in a chunk; of data of one's own a fifth of the longest sequence."""
    return -(-task.max_length // 5) if isinstance(task, Own) else _CHUNK[task.name]
