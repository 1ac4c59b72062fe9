"""A training function without training: the runner's tests put it in the place of the real one.

What it does to a run is said by the environment variable ``PRETEND``, a JSON object from
``model sSEED`` (such as ``luna-16 s0``) to one of the words in :func:`train`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from made_up_runs import write_run

from memnb.config import Run
from memnb.errors import RunError, RunInUse
from memnb.reproduce.workers import JobError


def train(
    run: Run,
    folder: Path,
    *,
    device: str = "auto",
    side_by_side: int = 1,
    progress: Callable[[Any], None],
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """The contract of ``memnb.train.loop.train``, as far as the runner relies on it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "calls.txt").open("a") as calls:
        calls.write(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}\n")
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    (folder / "where.txt").write_text(f"{card} {side_by_side}")
    tries = len((folder / "calls.txt").read_text().splitlines())
    what = json.loads(os.environ.get("PRETEND", "{}")).get(f"{run.model.name} s{run.seed}", "")
    progress(SimpleNamespace(step=1, steps=2, loss=1.5, accuracy=None))
    if what == "die" or (what == "die once" and tries == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "no room" or (what == "no room beside others" and side_by_side > 1):
        _write(run, folder, "failed", "out of memory; use a device with more")
        raise JobError("The run failed: out of memory")
    if what == "raise":
        raise ValueError("something\nunforeseen")
    if what == "locked":
        raise RunError("The file system cannot lock files.")
    if what == "in use":
        raise RunInUse("Another process trains this run; wait for it.")
    if what in ("wait", "stop slowly"):
        (folder / "waiting").touch()
        while not should_stop():
            time.sleep(0.02)
        time.sleep(1.5 if what == "stop slowly" else 0)
        return {"outcome": "interrupted", "step": 1}
    if what == "hang":
        (folder / "waiting").touch()
        time.sleep(600)
    outcome = "failed" if what == "nan" else "finished"
    _write(run, folder, outcome, "The loss is not a number." if outcome == "failed" else None)
    progress(SimpleNamespace(step=2, steps=2, loss=1.0, accuracy=0.3))
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


def _write(run: Run, folder: Path, outcome: str, reason: str | None) -> None:
    made = write_run(
        folder / "new",
        run.model.name,
        run.task.name,
        run.seed,
        outcome=outcome,
        reason=reason,
        model_changes=run.model.model_dump(),
        training_changes=run.training.model_dump(),
    )
    for file in made.iterdir():
        file.replace(folder / file.name)
    made.rmdir()
    (folder / "new").rmdir()
