"""Killed anywhere and started again, a run ends in the very bits of one that was left alone."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import killed
import pytest
import torch

from memnb.config import Run, run_config

MODELS = ("transformer", "luna-1", "luna-4", "convluna-1", "convluna-4", "poolluna-4")
KILLS = 18  # of each model: 108 in all
TASK = {"min_length": 4, "max_length": 20, "train": 64, "validation": 40, "test": 40}
TRAINING = {"steps": 12, "batch": 16, "evaluate_every": 3, "warmup": 5}


def tiny(model: str) -> Run:
    """Three epochs of four steps, with four evaluations."""
    return run_config(
        model,
        "listops-short",
        task_changes=TASK,
        training_changes=TRAINING,
        model_changes={"width": 16, "mlp": 16, "dropout": 0.1},
    )


def finished(folder: Path) -> bool:
    try:
        return json.loads((folder / "run.json").read_text())["outcome"] == "finished"
    except FileNotFoundError:
        return False


def whole(run: Run, folder: Path) -> Path:
    """The run, left alone."""
    child = killed.start(killed.count, run, folder)
    assert child.end() == 0, child.said
    assert finished(folder)
    return folder


def differences(one: Path, two: Path) -> list[str]:
    """What two finished runs do not share: rows, best weights, and the whole state at the end."""
    found = []
    for name in ("metrics.jsonl", "probes.jsonl", "removal.jsonl"):
        rows = [
            [
                {key: value for key, value in json.loads(line).items() if key != "seconds"}
                for line in (folder / name).read_text().splitlines()
            ]
            for folder in (one, two)
        ]
        found += [name] if rows[0] != rows[1] else []
    for name in ("best.pt", "final.pt"):
        states = [torch.load(folder / name, weights_only=True) for folder in (one, two)]
        found += [f"{name}: {where}" for where in unequal(*states)]
    return found


def unequal(one: Any, two: Any, where: str = "") -> list[str]:
    """The places where two nested states differ by as much as a bit."""
    if isinstance(one, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [where]
    if isinstance(one, dict):
        assert list(one) == list(two)
        return [each for key in one for each in unequal(one[key], two[key], f"{where}/{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(two)
        pairs = enumerate(zip(one, two, strict=True))
        return [each for place, pair in pairs for each in unequal(*pair, f"{where}/{place}")]
    return [] if one == two else [where]


def kill_once(random_: random.Random, run: Run, folder: Path, events: dict[str, int]) -> str | None:
    """Start or resume the run and kill it at a random moment; where, or None if it ended first."""
    place = random_.choice([*killed.PLACES, "any time"])
    if place != "any time":
        # "finish" is entered once, all others at every other step or so.
        share = 1.0 if place == "finish" else 0.4
        event = int(random_.uniform(0, share * events[place]))
        child = killed.start(killed.train, run, folder, place, event)
    else:
        child = killed.start(killed.train, run, folder)
        time.sleep(random_.uniform(0.02, 0.4))
        child.kill()
    code = child.end()
    assert code in (0, -signal.SIGKILL), child.said
    return None if code == 0 else place


@pytest.mark.parametrize("model", MODELS)
def test_killed_at_random_moments_a_run_ends_in_the_same_bits(model: str, tmp_path: Path) -> None:
    run = tiny(model)
    expected = whole(run, tmp_path / "whole")
    events = json.loads((expected / "events.json").read_text())
    random_ = random.Random(f"kills of {model}")
    kills: list[str] = []
    lives = 0
    while len(kills) < KILLS:
        folder = tmp_path / f"cut-{lives}"
        lives += 1
        mine: list[str] = []
        while not finished(folder) and len(mine) < KILLS:
            place = kill_once(random_, run, folder, events)
            mine += [place] if place else []
        child = killed.start(killed.train, run, folder)
        assert child.end() == 0, child.said
        if not (folder / "final.pt").exists():
            continue  # killed between its end and the copy of its state: nothing to compare
        kills += mine
        assert differences(expected, folder) == [], mine
        assert not list(folder.glob(".*")), "a killed save leaves something behind"
        assert not list(folder.glob("checkpoint*"))
    assert len(set(kills)) >= 4, kills


def test_without_the_samplers_state_the_same_kills_are_noticed(tmp_path: Path) -> None:
    """The negative control: what the test above would not see could be lost."""
    run = tiny("convluna-4")
    expected = whole(run, tmp_path / "whole")
    folder = tmp_path / "cut"
    forgetting = killed.train_forgetting_the_sampler
    assert killed.start(forgetting, run, folder, "epoch", 8).end() == -signal.SIGKILL
    assert list(folder.glob("checkpoint*"))
    assert killed.start(forgetting, run, folder, "epoch", 10**9).end() == 0
    found = differences(expected, folder)
    assert "metrics.jsonl" in found
    assert any(each.startswith("final.pt: /network") for each in found)
