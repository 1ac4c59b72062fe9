"""What models, tasks and comparisons are called where people read them, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

from memnb import config

#: Family -> its name in print: those of the paper, then those that are shown beside them.
FAMILIES = {
    "transformer": "Transformer",
    "luna": "Luna",
    "convluna": "ConvLuna",
    "poolluna": "PoolLuna",
    "chunkmem": "ChunkMem",
    "convchunkmem": "ConvChunkMem",
    "poolchunkmem": "PoolChunkMem",
    "rmt": "RMT",
    "convrmt": "ConvRMT",
    "poolrmt": "PoolRMT",
    "officialluna": "Official Luna",
    "perceiver": "Perceiver",
    "linformer": "Linformer",
    "localconv": "Local convolution",
    "memoryless": "ConvLuna without memory",
}

#: Changed settings of a model in the words of the ablation; others are printed as they are.
_CHANGES = {
    "filter=none": "no filter",
    "filter=pool": "max pooling",
    "pack_temperature=unit": "T = 1",
    "pack_temperature=sqrt": "T = √d",
}


def family_label(name: str) -> str:
    """``convluna`` as it is printed; a block of one's own is called as it is."""
    return FAMILIES.get(name, name)


def model_label(name: str) -> str:
    """``convluna-16`` as it is printed: ``ConvLuna-16``."""
    base, _, memory = name.partition("-")
    return f"{family_label(base)}-{memory}" if memory else family_label(base)


def comparison_label(a: str, b: str = "") -> str:
    """``ConvLuna-16 − ConvLuna-16 (no filter)`` from ``convluna-16`` and
    ``convluna-16 (filter=none)``."""
    sides = []
    for side in filter(None, (a, b)):
        name, _, changes = side.partition(" ")
        words = [_CHANGES.get(one, one) for one in changes.strip("()").split(", ")]
        sides.append(model_label(name) + (f" ({', '.join(words)})" if changes else ""))
    return " − ".join(sides)


def task_label(name: str) -> str:
    """``listops-short`` as it is printed: ``ListOps short``; data of one's own by their name."""
    if name.startswith(config.OWN):
        return name.removeprefix(config.OWN)
    task = config.task_config(name)
    if isinstance(task, config.Recall):
        more = "" if task.train_facts is None else f" after {task.train_facts}"
        return f"{task.title}, {task.facts} facts{more}"
    return f"{task.title} short" if name.endswith("-short") else task.title


def data_label(task: config.Task) -> str:
    """What the data of a run are called: the name of its task, or, where these were changed, what
    they are: ``ListOps, 8 to 50 tokens``."""
    if isinstance(task, config.Own) or task == config.TASKS[task.name]:
        return task_label(task.name)
    if isinstance(task, config.ListOps):
        return f"{task.title}, {task.min_length:,} to {task.max_length:,} tokens"
    return f"{task_label(task.name)} (changed)"


def preset_label(preset: str) -> str:
    """The scale that a preset of settings stands for, in words; another preset as it is."""
    return {"paper": "full scale", "quick": "laptop scale"}.get(preset, preset)


def scale_label(task: str) -> str:
    """Which of the two scales a task belongs to, in words; data of one's own to none of them."""
    if task.startswith(config.OWN):
        return "data of one's own"
    return "laptop scale" if task.endswith("-short") else "full scale"


def family_order(names: Iterable[str]) -> list[str]:
    """Distinct families: those of the paper, those beside them, then others by name."""
    known = list(FAMILIES)
    return sorted(
        dict.fromkeys(names), key=lambda name: (known.index(name) if name in known else 99, name)
    )


def model_order(names: Iterable[str]) -> list[str]:
    """Distinct model names in reading order: by memory size within a family, families as above."""
    distinct = list(dict.fromkeys(names))
    families = family_order(name.partition("-")[0] for name in distinct)

    def key(name: str) -> tuple[int, int]:
        base, _, memory = name.partition("-")
        return families.index(base), int(memory or 0)

    return sorted(distinct, key=key)


def task_order(names: Iterable[str]) -> list[str]:
    """Distinct task names in the order of the benchmark, laptop tasks after it, and last data of
    one's own by name."""
    known = list(config.TASKS)
    return sorted(
        dict.fromkeys(names),
        key=lambda name: (known.index(name) if name in known else len(known), name),
    )
