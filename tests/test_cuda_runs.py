"""Whole runs on CUDA: repeated and resumed bit for bit in deterministic mode."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from memnb.config import Run, run_config
from memnb.train import loop
from memnb.train.loop import train

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device, PyTorch finds none"
    ),
    pytest.mark.filterwarnings("default"),  # compilers of some versions warn of their own parts
]
MODELS = ["transformer", "luna-1", "luna-16", "convluna-1", "convluna-16", "poolluna-16"]


def small(model: str) -> Run:
    return run_config(
        model,
        "listops-short",
        task_changes={"train": 400, "validation": 70, "test": 70},
        training_changes={"steps": 60, "evaluate_every": 20, "batch": 16},
        model_changes={"dropout": 0.1},
    )


def result(folder: Path) -> tuple[Any, ...]:
    """Every row without its times, and the bits of the best weights."""
    rows = [
        [
            {key: value for key, value in json.loads(line).items() if key != "seconds"}
            for line in (folder / name).read_text().splitlines()
        ]
        for name in ("metrics.jsonl", "probes.jsonl", "removal.jsonl")
    ]
    best = torch.load(folder / "best.pt", weights_only=True)
    return rows, {name: value.numpy().tobytes() for name, value in best.items()}


@pytest.mark.parametrize("model", MODELS)
def test_two_runs_in_deterministic_mode_are_the_same(model: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        record = train(small(model), tmp_path / name, device="cuda", deterministic=True)
        assert (record["outcome"], record["deterministic"]) == ("finished", True)
    assert result(tmp_path / "one") == result(tmp_path / "two")


@pytest.mark.parametrize("model", MODELS)
def test_a_resumed_run_is_the_same_as_a_whole_one(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small(model)
    train(run, tmp_path / "whole", device="cuda", deterministic=True)
    monkeypatch.setattr(loop, "RESPOND_WITHIN", 0.0)
    for calls in (2, 3, 10**9):
        asked = iter(range(10**9))
        record = train(
            run,
            tmp_path / "cut",
            device="cuda",
            deterministic=True,
            should_stop=lambda asked=asked, calls=calls: next(asked) >= calls,
        )
    assert (record["outcome"], record["resumed"]) == ("finished", 2)
    assert result(tmp_path / "whole") == result(tmp_path / "cut")


def test_saving_costs_under_half_a_percent_of_a_full_scale_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Seventy seconds of ListOps in the shapes of the full protocol."""
    run = run_config(
        "convluna-256", "listops", task_changes={"train": 2000, "validation": 64, "test": 64}
    )
    with caplog.at_level("INFO", logger="memnb.train.loop"):
        record = train(run, tmp_path, device="cuda", budget=70.0)
    assert record["outcome"] == "interrupted"
    saves = [float(cost) for cost in re.findall(r"saved in ([\d.]+) s", caplog.text)]
    assert len(saves) > 1
    # The last one is what the end of the budget asks for.
    assert sum(saves[:-1]) < 0.005 * record["seconds"]
