"""Run folders in the true format with made-up numbers, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memnb.config import Run, run_config

COLLAPSED = {"packed_cosine": 0.97, "packed_rank": 1.3}
SPREAD_OUT = {"packed_cosine": 0.4, "packed_rank": 9.0}

_MEANINGLESS_FOR_ONE_ROW = (
    "packed_cosine",
    "packed_rank",
    "memory_cosine",
    "memory_rank",
    "unpack_entropy",
    "dominant_rows",
    "gradient_spread",
)


def write_run(
    folder: Path,
    model: str = "luna-16",
    task: str = "listops-short",
    seed: int = 0,
    accuracy: float | None = 0.35,
    outcome: str = "finished",
    probes: bool | Mapping[str, float] = True,
    removal: bool | Mapping[int, float] = True,
    attention: bool = True,
    *,
    reason: str | None = None,
    weights: bool = False,
    model_changes: Mapping[str, Any] | None = None,
    task_changes: Mapping[str, Any] | None = None,
    training_changes: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``folder/<run_id>`` as the trainer would, and return it.

    Args:
        accuracy: test accuracy in 0..1 of a finished run; others have none.
        probes: measures that replace those of a collapsed memory at the last step; False: no file.
            Rows are written for models with a memory only, as the trainer does.
        removal: test accuracy by number of rows kept; True: unchanged by removal; False: no file.
            Written for finished runs with at least two memory rows only.
        attention: whether to write ``attention.npz``, under the same condition as ``probes``.
        weights: whether to add files that must never be committed.
    """
    run = run_config(
        model,
        task,
        seed,
        model_changes=model_changes,
        task_changes=task_changes,
        training_changes=training_changes,
    )
    here = folder / run.run_id
    here.mkdir(parents=True)
    finished = outcome == "finished"
    score = accuracy if finished else None
    steps = _steps(run, full=finished)
    _write_json(here / "run.json", _record(run, outcome, reason, score, steps[-1]))
    _write_lines(here / "metrics.jsonl", _metrics(run, steps, 0.3 if score is None else score))
    rows = run.model.memory
    if rows and probes is not False:
        end = COLLAPSED if probes is True else {**COLLAPSED, **probes}
        _write_lines(here / "probes.jsonl", _probes(run, steps, end))
    if rows > 1 and score is not None and removal is not False:
        kept = dict.fromkeys(_kept(rows), score) if removal is True else removal
        _write_lines(here / "removal.jsonl", _removal(rows, {**kept, rows: score}))
    if finished:
        _write_lines(here / "lengths.jsonl", _lengths(score or 0.0))
        if run.task.layout == "tokens":
            _write_lines(here / "beginning.jsonl", _beginning(run, score or 0.0))
    if rows and finished:
        _write_lines(here / "causal.jsonl", _causal(rows, score or 0.0))
        _write_lines(here / "usage.jsonl", _usage(run))
    if run.model.filter == "conv":
        _write_lines(here / "filters.jsonl", _filters(run, [0, *steps]))
    if rows and finished and attention:
        np.savez(here / "attention.npz", **_attention(run))
    if weights:
        (here / "best.pt").write_bytes(b"weights")
        (here / f"checkpoint-{steps[-1]}.pt").write_bytes(b"weights")
    return here


def write_runs(
    folder: Path, model: str, accuracies: Iterable[float | None], **settings: Any
) -> list[Path]:
    """One run per accuracy, with seeds 0, 1, ...; None stands for a failed run."""
    return [
        write_run(
            folder,
            model,
            seed=seed,
            accuracy=accuracy,
            outcome="failed" if accuracy is None else "finished",
            reason="the loss became NaN at step 300" if accuracy is None else None,
            **settings,
        )
        for seed, accuracy in enumerate(accuracies)
    ]


def amend(folder: Path, **values: Any) -> None:
    """Let the record of a run say something else."""
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def judged(folder: Path, preset: str | None = None) -> list[Any]:
    """The verdicts on the runs in ``folder``, on those of one scale if ``preset`` names it."""
    # Not above: workers that pretend to train do without pandas.
    from memnb.evidence import check, load_probes, load_removal, load_runs

    runs = load_runs(folder)
    verdicts = check(runs, load_removal(runs), load_probes(runs))
    return [one for one in verdicts if preset in (None, one.preset)]


def _steps(run: Run, full: bool) -> list[int]:
    """Five evaluations, or the first three of them."""
    steps = [run.training.steps * k // 5 for k in range(1, 6)]
    return steps if full else steps[:3]


def _record(
    run: Run, outcome: str, reason: str | None, score: float | None, step: int
) -> dict[str, Any]:
    return {
        "format": 1,
        "run_id": run.run_id,
        "config": run.model_dump(),
        "preset": run.preset,
        "outcome": outcome,
        "reason": reason,
        "stopped": "steps" if outcome == "finished" else None,
        "step": step,
        "best_step": step,
        "validation_accuracy": score,
        "validation_loss": None if score is None else 1.7,
        "test_accuracy": score,
        "test_loss": None if score is None else 1.75,
        "parameters": 25_000,
        "version": "0.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "torch": "2.13.0",
        "python": "3.12.3",
        "device": "cpu",
        "device_name": "made-up CPU",
        "precision": "fp32",
        "engine": "eager",
        "threads": 2,
        "started": "2026-01-02T03:04:05Z",
        "finished": None if outcome == "running" else "2026-01-02T03:05:05Z",
        "seconds": 60.0,
        "seconds_training": 50.0,
        "seconds_evaluation": 8.0,
        "peak_memory": 400_000_000,
        "resumed": 0,
    }


def _metrics(run: Run, steps: list[int], score: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for position, step in enumerate(steps, start=1):
        accuracy = round(0.15 + (score - 0.15) * position / len(steps), 4)
        curve = {"loss": round(2.3 - 0.1 * position, 4), "accuracy": accuracy}
        rows.append(
            {"step": step, "split": "train", **curve, "lr": 0.005, "seconds": 10.0 * position}
        )
        rows.append({"step": step, "split": "validation", **curve, "seconds": 10.0 * position})
    test = {"step": steps[-1], "split": "test", "loss": 1.75, "accuracy": score}
    return [*rows, {**test, "seconds": 60.0}]


def _probes(run: Run, steps: list[int], end: Mapping[str, float]) -> list[dict[str, Any]]:
    several = run.model.memory > 1
    start = {"packed_cosine": 0.1, "packed_rank": min(run.model.memory, run.model.width) * 0.9}
    rows = []
    for step in [0, *steps]:
        packed = end if step == steps[-1] else start
        for block in range(1, run.model.blocks + 1):
            row = {
                "step": step,
                "block": block,
                "packed_cosine": 0.0,
                "packed_rank": 0.0,
                "memory_cosine": 0.05,
                "memory_rank": start["packed_rank"],
                "pack_entropy": 0.8,
                "unpack_entropy": 0.7,
                "dominant_rows": 0.25,
                "packed_gradient": 0.5,
                "memory_gradient": 0.4,
                "gradient_spread": 0.1,
                **packed,
            }
            rows.append(row if several else row | dict.fromkeys(_MEANINGLESS_FOR_ONE_ROW))
    return rows


def _kept(memory: int) -> list[int]:
    shares = {memory, memory // 2, memory // 4, memory // 16, 1}
    return sorted(shares - {0}, reverse=True)


def _removal(memory: int, kept: Mapping[int, float]) -> list[dict[str, Any]]:
    return [
        {"rule": "random", "kept": number, "memory": memory, "accuracy": accuracy, "orders": 500}
        for number, accuracy in kept.items()
    ]


def _lengths(score: float) -> list[dict[str, Any]]:
    return [
        {"low": low, "high": low + 29, "examples": 200, "accuracy": round(score - low / 5000, 4)}
        for low in (150, 180, 210, 240, 270)
    ]


def _beginning(run: Run, score: float) -> list[dict[str, Any]]:
    """A model that reads up to 64 tokens and no further."""
    return [
        {"kept": kept, "examples": 500, "accuracy": score if kept > 64 else 0.16,
         "changed": 0.0 if kept > 64 else 0.8}
        for kept in (*(4**n for n in range(6) if 4**n < run.task.max_length), run.task.max_length)
    ]  # fmt: skip


def _causal(memory: int, score: float) -> list[dict[str, Any]]:
    """A model that loses nothing by removal and everything by an exchange of memories."""
    tests = [("intact", "", memory, score)]
    if memory > 1:
        tests += [("remove", rule, kept, score) for rule in ("random", "most used", "least used")
                  for kept in _kept(memory)[1:]]  # fmt: skip
        tests += [("shuffle", "", memory, 0.15), ("mean", "", memory, score)]
    tests += [("freeze", "", memory, score), ("swap", "", memory, 0.15)]
    return [
        {"test": test, "rule": rule, "kept": kept, "memory": memory, "examples": 500,
         "accuracy": accuracy, "changed": 0.0 if accuracy == score else 0.8,
         **({"orders": 500} if rule == "random" else {})}
        for test, rule, kept, accuracy in tests
    ]  # fmt: skip


def _usage(run: Run) -> list[dict[str, Any]]:
    rows = range(1, run.model.memory + 1)
    total = sum(rows) / len(rows)
    return [
        {"block": block, "row": row, "usage": row / total, "gradient": 0.01 * row}
        for block in range(1, run.model.blocks + 1)
        for row in rows
    ]


def _filters(run: Run, steps: list[int]) -> list[dict[str, Any]]:
    return [
        {"step": step, "block": block, "head": head, "tap_1": 0.1 * head,
         "tap_2": 0.5 + step / 2000, "tap_3": -0.1 * block, "tap_4": 0.0,
         "pack_temperature": 1.1, "unpack_temperature": 1.0}
        for step in steps
        for block in range(1, run.model.blocks + 1)
        for head in range(1, run.model.heads + 1)
    ]  # fmt: skip


def _attention(run: Run) -> dict[str, Any]:
    generator = np.random.default_rng(run.seed)
    length, rows = 40, min(run.model.memory, 16)
    shape = (run.model.blocks, run.model.heads)
    pack = generator.dirichlet(np.ones(length), size=(*shape, rows))
    unpack = generator.dirichlet(np.ones(rows), size=(*shape, length))
    return {
        "pack": pack.astype(np.float16),
        "unpack": unpack.astype(np.float16),
        "tokens": generator.integers(1, 16, length, dtype=np.uint8),
        "length": np.int64(length),
        "label": np.int64(3),
        "prediction": np.int64(9),
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
