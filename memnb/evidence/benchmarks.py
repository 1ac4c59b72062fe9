"""Rows of ``memnb bench`` to tidy frames, and what they are compared with. No PyTorch."""

from __future__ import annotations

import itertools
import json
import math
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from memnb import paths

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**63)]

#: What a kernel's name says of its work: the first of these words that occurs decides.
KERNEL_KINDS = {
    "fused half block": ("_forward_kernel", "_backward_kernel"),
    "attention": ("sdpa", "flash", "fmha", "cudnn::fusion", "attention"),
    "sums along the sequence": ("_sums_kernel",),
    "matrix products": ("nvjet", "gemm", "cutlass", "magma", "cublas", "splitk"),
    "optimizer": ("multi_tensor_apply",),
    "compiled element-wise": ("triton_",),
}
OTHER_KERNELS = "other"


class _Kernel(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    calls: float
    milliseconds: Time


class _Row(BaseModel):
    """A line of ``bench.jsonl``, as far as it is read here."""

    model_config = ConfigDict(extra="ignore")

    suite: str
    device: str
    device_name: str
    precision: str
    torch: str
    version: str
    commit: str | None = None
    task: str | None = None
    model: str | None = None
    length: Count | None = None
    batch: Count | None = None
    outcome: str | None = None
    engine: str | None = None
    milliseconds: Positive | None = None
    lower: Positive | None = None
    upper: Positive | None = None
    peak_memory: Positive | None = None
    first_step: Positive | None = None
    side_by_side: Count = 1
    threads: Count | None = None
    scored_per_second: Positive | None = None
    operations: Positive | None = None
    bytes: Positive | None = None
    bandwidth: Positive | None = None
    matrix_rate: Positive | None = None
    kernels: list[_Kernel] | None = None
    run: dict[str, Time] | None = None

    @model_validator(mode="after")
    def _measured(self) -> Self:
        parts = {"training", "evaluation", "probes", "whole"} if self.suite == "run" else set()
        if self.outcome == "measured" and (not self.milliseconds or parts - set(self.run or ())):
            raise ValueError("a measured row says how long it took")
        return self


COLUMNS = tuple(_Row.model_fields)


def file(out: str | os.PathLike[str] | None = None) -> Path:
    """Where ``memnb bench`` adds its rows."""
    return paths.output(out) / "bench.jsonl"


def stored() -> Path:
    """The committed rows."""
    return paths.stored_results() / "bench.jsonl"


def load(*files: Path) -> pd.DataFrame:
    """All rows of ``files``, of a repeated measurement the last one; a missing file has none.

    A line that cannot be read is left out and named in ``attrs["problems"]``.
    """
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    problems: list[str] = []
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        for number, line in enumerate(text.splitlines(), 1):
            try:
                row = _Row.model_validate(json.loads(line))
            except (ValueError, RecursionError):  # pydantic's error is a ValueError
                problems.append(f"{path}, line {number} is not a row of 'memnb bench'; left out.")
                continue
            key = (row.suite, row.device_name, row.task, row.model, row.length, row.batch)
            rows[key] = row.model_dump()
    frame = pd.DataFrame(list(rows.values()), columns=list(COLUMNS))
    fields = _Row.model_fields.items()
    numbers = [name for name, field in fields if field.annotation == Positive | None]
    frame = frame.astype(dict.fromkeys(numbers, "float64") | {"length": "Int64", "batch": "Int64"})
    frame.attrs["problems"] = problems
    return frame


def of_suite(
    rows: pd.DataFrame, suite: str, device_name: str | None = None, task: str | None = None
) -> pd.DataFrame:
    """The measured rows of one suite; of one device and of one task where these are named."""
    found = rows[(rows["suite"] == suite) & (rows["outcome"] == "measured")]
    if device_name is not None:
        found = found[found["device_name"] == device_name]
    return found if task is None else found[found["task"] == task]


def probe_shares(rows: pd.DataFrame) -> pd.DataFrame:
    """What looking at the memory takes, beside the steps of the run: from the run suite.

    Returns:
        One row per measured run of a model with memory: ``task``, ``model``, ``device_name``,
        ``probes`` and ``training`` in seconds, and their quotient ``share``.
    """
    found = of_suite(rows, "run").reset_index(drop=True)
    parts = pd.DataFrame(list(found["run"]), columns=["probes", "training"], dtype="float64")
    parts["share"] = parts["probes"] / parts["training"]
    frame = found[["task", "model", "device_name"]].join(parts)
    return frame[frame["probes"] > 0].reset_index(drop=True)


def main_device(rows: pd.DataFrame) -> str | None:
    """The graphics card with the most rows, else the processor; None without rows."""
    cards = rows[rows["device"] == "cuda"]
    counts = (cards if len(cards) else rows)["device_name"].value_counts(sort=False)
    return None if counts.empty else str(counts.idxmax())


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """The step suite with its shares of the device's ceilings.

    Adds ``matrix_share`` and ``bandwidth_share``: counted operations and least bytes per second,
    in parts of what the device reaches at its best; NaN where its ceilings were not measured.
    """
    best = rows[rows["suite"] == "ceilings"].drop_duplicates("device_name", keep="last")
    best = best.set_index("device_name")[["matrix_rate", "bandwidth"]]
    steps = of_suite(rows, "step").drop(columns=["matrix_rate", "bandwidth"])
    steps = steps.join(best, on="device_name")
    seconds = steps["milliseconds"] / 1000
    return steps.assign(
        matrix_share=steps["operations"] / seconds / steps["matrix_rate"],
        bandwidth_share=steps["bytes"] / seconds / steps["bandwidth"],
    )


def kernel_kind(name: str) -> str:
    """What kind of work a kernel does, by its name."""
    low = name.lower()
    for kind, words in KERNEL_KINDS.items():
        if any(word in low for word in words):
            return kind
    return OTHER_KERNELS


def kernels(steps: pd.DataFrame) -> pd.DataFrame:
    """Milliseconds of a step by kind of kernel, one row per task, model and kind.

    What the kernels leave of the step's time is the kind ``waiting``; where they take longer under
    the profiler than the step does without it, their times are shares of the step's. Only
    measurements that have a profile are there.
    """
    found = []
    for _, row in steps[steps["kernels"].notna()].iterrows():
        spent: dict[str, float] = dict.fromkeys([*KERNEL_KINDS, OTHER_KERNELS], 0.0)
        for kernel in row["kernels"]:
            spent[kernel_kind(kernel["name"])] += kernel["milliseconds"]
        profiled = sum(spent.values())
        if profiled > row["milliseconds"]:
            spent = {kind: row["milliseconds"] * each / profiled for kind, each in spent.items()}
        spent["waiting"] = max(0.0, row["milliseconds"] - sum(spent.values()))
        found += [
            {"task": row["task"], "model": row["model"], "kind": kind, "milliseconds": value}
            for kind, value in spent.items()
        ]
    return pd.DataFrame(found, columns=["task", "model", "kind", "milliseconds"])


def slopes(lengths: pd.DataFrame) -> pd.DataFrame:
    """How time and memory grow from each length to the next: the slopes on logarithmic axes.

    Columns: model, from, to, time, memory; 1 is proportional growth, 2 quadratic.
    """
    found = []
    for model, rows in lengths.groupby("model", sort=False):
        ordered = rows.sort_values("length").to_dict("records")
        for short, long in itertools.pairwise(ordered):
            apart = math.log(long["length"] / short["length"])
            found.append(
                {
                    "model": model,
                    "from": int(short["length"]),
                    "to": int(long["length"]),
                    "time": math.log(long["milliseconds"] / short["milliseconds"]) / apart,
                    "memory": math.log(long["peak_memory"] / short["peak_memory"]) / apart,
                }
            )
    return pd.DataFrame(found, columns=["model", "from", "to", "time", "memory"])


def references() -> pd.DataFrame:
    """What a step is compared with: source, model, milliseconds, gib, note. Text's shape, H100."""
    return pd.read_csv(paths.reference() / "speed.csv", keep_default_na=True)


def run_goals() -> pd.DataFrame:
    """What was wanted of whole runs at full protocol on an H100: task, model, minutes."""
    return pd.read_csv(paths.reference() / "run_goals.csv")


def optimisations() -> pd.DataFrame:
    """What was tried: columns what, expected, measured, kept."""
    with (paths.reference() / "optimisations.toml").open("rb") as opened:
        entries = tomllib.load(opened)["optimisation"]
    return pd.DataFrame(entries, columns=["what", "expected", "measured", "kept"])
