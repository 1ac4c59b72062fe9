"""What is set: the protocol beside its sources, a model's settings, deviations, choices."""

from __future__ import annotations

import csv
import math
import tomllib
import typing
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd

from memnb import config, naming, paths
from memnb.draw import claim_tables, tables
from memnb.errors import DataError
from memnb.evidence import statistics

_SETTINGS_COLUMNS = ["task", "setting", "authors", "lra", "luna"]
NOT_STATED = "not stated"


def settings(task: str) -> pd.DataFrame:
    """The protocol of one task: the authors' code, LRA, the official Luna, and memnb.

    The first three are read from ``data/reference/settings.csv``; memnb's column is made from
    :mod:`memnb.config`, so it cannot say anything else than what is trained.

    Returns:
        Columns ``Setting``, ``Authors' code``, ``LRA``, ``Official Luna``, ``memnb``.

    Raises:
        DataError: the file is missing or is not what its header promises.
    """
    ours = memnb_settings(task)
    rows = [
        [row["setting"], *(row[who] or NOT_STATED for who in ("authors", "lra", "luna")),
         ours[row["setting"]]]
        for row in _reference_settings() if row["task"] == task
    ]  # fmt: skip
    columns = ["Setting", "Authors' code", "LRA", "Official Luna", "memnb"]
    return pd.DataFrame(rows, columns=columns)


def all_settings() -> pd.DataFrame:
    """The tables of :func:`settings` for the five tasks, one below the other."""
    frames = []
    for task in config.LRA_TASKS:
        frame = settings(task)
        frame.insert(0, "Task", naming.task_label(task))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def memnb_settings(task: str) -> dict[str, str]:
    """What memnb does on ``task``, from its configs: setting to value, as printed."""
    run = config.run_config("luna-16", task)
    model, training = run.model, run.training
    pair = "2 × " if run.task.layout == "pair" else ""
    return {
        "maximum length": f"{pair}{run.task.max_length}",
        "blocks": f"{model.blocks}",
        "width H": f"{model.width}",
        "heads": f"{model.heads}",
        "feed-forward width": f"{model.mlp}",
        "dropout": f"{model.dropout:g}",
        "batch": f"{training.batch}",
        "optimizer": "AdamW, betas 0.9, 0.999",
        "schedule": "warm-up, then 1/√t",
        "base learning rate": _decimal(training.lr),
        "warm-up steps": f"{training.warmup}",
        "peak learning rate": _decimal(training.lr / math.sqrt(training.warmup)),
        "weight decay": _decimal(training.weight_decay),
        "optimizer steps": f"{training.steps:,}",
        "evaluation every (steps)": f"{training.evaluate_every}",
        "early stop after (evaluations)": f"{training.patience}",
        "representation": {"cls": "CLS"}.get(model.representation, model.representation),
    }


def _decimal(value: float) -> str:
    """Three significant digits without an exponent: ``0.0000559``."""
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")


def _reference_settings() -> list[dict[str, str]]:
    path = paths.reference() / "settings.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except OSError as error:
        raise DataError(
            f"The reference settings could not be read from {path} ({error.strerror}); restore it."
        ) from None
    if reader.fieldnames != _SETTINGS_COLUMNS or any(None in row.values() for row in rows):
        raise DataError(
            f"{path} must have the columns {','.join(_SETTINGS_COLUMNS)} on every line; mend it."
        )
    return rows


#: The official Luna (arXiv 2106.01540), where it differs from the authors' Luna.
_OFFICIAL_LUNA: Mapping[str, str] = {
    "reading": "as_intended",
    **{key: str(value) for key, value in config.OFFICIAL_LUNA.items()},
}
_MEANING = {
    "representation": "what the head reads: CLS, mean over positions, mean over memory rows",
    "reading": "as_coded: padding not masked, unpack temperature of ConvLuna frozen at 1",
    "cls_init": "the CLS vector's start: N(0, 1), or uniform within ±√(3 / H)",
    "positions": "learned vectors of the absolute positions, or none",
    "sharing": "projections that pack and unpack share: all, query and key, none",
    "memory_init": "N(0, 1), or N(0, 1/H) · √H plus sinusoidal positions",
    "pack_output": "whether pack has an output projection",
    "variant": "simplified: no value projections",
    "filter": "what keys and values of pack pass through",
    "filter_width": "taps of the filter",
    "filter_stride": "stride of the filter",
    "filter_kernel": "learned; or, as a control, a fixed mean, a fixed difference, random taps, "
    "learned taps at shuffled places",
    "pack_temperature": "T of pack: 1, √d, or learned",
    "unpack_temperature": "T of unpack: 1, √d, or learned (frozen at 1 as coded)",
    "chunk": "memory between chunks only: positions in a chunk",
    "chunk_gradients": "memory between chunks only: chunks through which gradients flow, 0 for all",
}


def model_settings() -> pd.DataFrame:
    """Every switch of the models: its choices, and what the named models take.

    Generated from :class:`memnb.config.Model`; only the column of the official Luna is typed.

    Returns:
        Columns ``Setting``, ``Choices``, ``Luna``, ``ConvLuna``, ``PoolLuna``, ``Official Luna``,
        ``Meaning``.
    """
    families = {
        name: config.model_config(f"{name}-16", "listops").model_dump()
        for name in ("luna", "convluna", "poolluna")
    }
    rows = []
    for key, meaning in _MEANING.items():
        named = {name: str(values[key]) for name, values in families.items()}
        if key == "variant" or key.startswith("filter"):  # of ConvLuna alone
            named["luna"] = "–"
        if key.startswith("chunk"):
            named = dict.fromkeys(named, "–")
        official = _OFFICIAL_LUNA.get(key, named["luna"])
        rows.append([key, _choices(key), *named.values(), official, meaning])
    columns = ["Setting", "Choices", "Luna", "ConvLuna", "PoolLuna", "Official Luna", "Meaning"]
    return pd.DataFrame(rows, columns=columns)


def both_ways(runs: pd.DataFrame, changes: str) -> pd.DataFrame:
    """Models as their names define them, beside the same with one setting changed.

    Args:
        runs: rows of any scale (:func:`memnb.evidence.rows.load_runs`).
        changes: the change, as the rows describe it: ``cls_init=xavier``.

    Returns:
        A row per task and model that has runs of both. Columns ``Task``, ``Model``, ``Default``,
        the change, each ``mean ± deviation (seeds)`` of the test accuracy in percent, and
        ``Change``: their difference in points with its 95 % interval.
    """
    columns = ["Task", "Model", "Default", changes, "Change"]
    rows = []
    for task, model, own in tables.by_task_and_model(runs[runs["outcome"] == "finished"]):
        default, changed = (
            100 * own.loc[own["changes"] == which, "test_accuracy"] for which in ("", changes)
        )
        if len(default) and len(changed):
            effect, low, high = statistics.difference(changed, default)[:3]
            names = [naming.task_label(task), naming.model_label(model)]
            cells = [
                tables.mean_cell(default),
                tables.mean_cell(changed),
                claim_tables.effect_cell(effect, low, high, "points"),
            ]
            rows.append([*names, *cells])
    return tables.table(rows, columns)


def _choices(key: str) -> str:
    annotation = config.Model.model_fields[key].annotation
    if typing.get_origin(annotation) is Literal:
        return ", ".join(typing.get_args(annotation))
    if annotation is bool:
        return "True, False"
    return "0, 1, 2, ..." if key.startswith("chunk") else "1, 2, ..."


def deviations() -> pd.DataFrame:
    """Known traps in the authors' code and LRA: what they do, what memnb does, which switch.

    Returns:
        Columns ``Where``, ``Authors' code or LRA``, ``memnb``, ``Switch``.

    Raises:
        DataError: ``data/reference/deviations.toml`` is missing or damaged.
    """
    path = paths.reference() / "deviations.toml"
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["deviation"]
        rows = [
            [entry["place"], entry["theirs"], entry["memnb"], entry.get("switch", "–")]
            for entry in entries
        ]
    except OSError as error:
        raise DataError(
            f"The deviations could not be read from {path} ({error.strerror}); restore it."
        ) from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}); restore it.") from None
    return pd.DataFrame(rows, columns=["Where", "Authors' code or LRA", "memnb", "Switch"])
