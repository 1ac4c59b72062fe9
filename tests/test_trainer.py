"""Missing runs are trained in worker processes, and nothing that happens to one hurts another."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from memnb.config import Run, run_config
from memnb.reproduce.progress import Display
from memnb.reproduce.trainer import Clock, missing, train_missing
from memnb.reproduce.workers import Ended, cores, run_jobs

PRETEND = "pretend_training:train"
RUNS = [
    run_config(model, "listops-short", seed) for seed in (0, 1) for model in ("luna-1", "luna-16")
]


class Train:
    """Train RUNS with the pretended training, with what happens to each run in ``what``."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.shown = io.StringIO()

    def __call__(
        self, what: dict[str, str] | None = None, runs: list[Run] = RUNS, **settings: Any
    ) -> dict[str, Ended]:
        self.monkeypatch.setenv("PRETEND", json.dumps(what or {}))
        return train_missing(
            runs,
            self.folder,
            jobs=settings.pop("jobs", 2),
            display=Display(self.shown),
            function=PRETEND,
            **settings,
        )

    def calls(self, run: Run) -> list[str]:
        path = self.folder / run.run_id / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    return Train(tmp_path / "runs", monkeypatch)


def test_each_missing_run_is_trained_once_and_never_again(train: Train) -> None:
    ended = train()
    assert set(ended) == {run.run_id for run in RUNS}
    assert all(result.error is None for result in ended.values())
    assert missing(RUNS, train.folder) == []
    assert train() == {}
    assert all(len(train.calls(run)) == 1 for run in RUNS)
    assert "[4/4] listops-short luna-" in train.shown.getvalue()
    assert "test accuracy 35.0%" in train.shown.getvalue()
    assert all(0 < result.seconds < 100 for result in ended.values())


def test_work_is_shared_out_and_each_worker_has_its_share_of_the_cores(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memnb.reproduce.trainer.cores", lambda: 6)
    train(jobs=2)
    calls = [line.split() for run in RUNS for line in train.calls(run)]
    assert len({pid for pid, _ in calls}) == 2
    assert {threads for _, threads in calls} == {"3"}


def test_runs_start_in_their_order(train: Train) -> None:
    train(jobs=1)
    said = [line.partition(":")[0] for line in train.shown.getvalue().splitlines()]
    assert said == [
        f"[{place}/4] listops-short {run.model.name} seed {run.seed}"
        for place, run in enumerate(RUNS, start=1)
    ]


def test_fewer_runs_than_jobs_share_all_cores_and_cards(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memnb.reproduce.trainer.cores", lambda: 6)
    train(runs=RUNS[:1], jobs=3, cards=["5", "7"])
    (call,) = train.calls(RUNS[0])
    assert call.split()[1] == "6"
    assert (train.folder / RUNS[0].run_id / "where.txt").read_text() == "5 1"
    # Of three on two cards two are side by side, and each may be one of them.
    train(runs=RUNS[1:], jobs=3, cards=["5", "7"])
    there = [(train.folder / run.run_id / "where.txt").read_text() for run in RUNS[1:]]
    assert {one.split()[1] for one in there} == {"2"}


@pytest.mark.parametrize(
    ("quota", "count"),
    [("150000 100000", 2), ("50000 100000", 1), ("1000 100000", 1), ("1600000 100000", 8),
     ("max 100000", 8), ("", 8)],
)  # fmt: skip
def test_a_container_has_no_more_cores_than_its_quota(
    quota: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda _: quota)
    assert cores() == count


def test_jobs_are_dealt_out_to_the_graphics_cards(train: Train) -> None:
    # A worker that takes a dead one's place has its card.
    train({"luna-1 s0": "die once", "luna-16 s0": "die once"}, jobs=2, cards=["5", "7"])
    seen = {(train.folder / run.run_id / "where.txt").read_text() for run in RUNS}
    assert seen == {"5 1", "7 1"}
    again = [run.but(seed=run.seed + 2) for run in RUNS]
    train(runs=again, jobs=4, cards=["5", "7"])
    assert {(train.folder / run.run_id / "where.txt").read_text() for run in again} <= {
        "5 2",
        "7 2",
    }


def test_a_failing_run_is_named_and_the_others_still_run(train: Train) -> None:
    ended = train({"luna-1 s0": "raise", "luna-16 s0": "locked", "luna-1 s1": "nan"})
    by_run = [ended[run.run_id] for run in RUNS]
    assert by_run[0].error == "ValueError: something"
    assert "Traceback" in by_run[0].details
    assert by_run[1].error == "The file system cannot lock files."
    assert by_run[2].error == "The run failed: The loss is not a number."
    assert by_run[3].error is None
    # A recorded failure is a result; the other two are tried again.
    assert missing(RUNS, train.folder) == RUNS[:2]


def test_a_killed_worker_is_reported_and_its_run_tried_once_more(train: Train) -> None:
    ended = train({"luna-1 s0": "die once", "luna-16 s0": "die"}, jobs=1)
    assert ended[RUNS[0].run_id].error is None
    assert len(train.calls(RUNS[0])) == 2
    assert "killed by signal 9" in str(ended[RUNS[1].run_id].error)
    assert "twice" in str(ended[RUNS[1].run_id].error)
    assert len(train.calls(RUNS[1])) == 2
    assert ended[RUNS[2].run_id].error is None
    assert ended[RUNS[3].run_id].error is None
    assert "luna-1 seed 0: Its process was killed" in train.shown.getvalue()


def test_stop_asks_the_running_and_starts_no_other(train: Train) -> None:
    waiting = train.folder / RUNS[0].run_id / "waiting"
    ended = train({"luna-1 s0": "wait"}, jobs=1, should_stop=waiting.exists)
    assert ended[RUNS[0].run_id].value["outcome"] == "interrupted"
    assert all(ended[run.run_id].stopped for run in RUNS[1:])
    assert not any(train.calls(run) for run in RUNS[1:])


def test_a_run_that_cannot_stop_in_time_is_said_to_go_on_later(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memnb.reproduce.trainer.GRACE", 0.3)  # as one that is being compiled
    waiting = train.folder / RUNS[0].run_id / "waiting"
    train({"luna-1 s0": "hang"}, jobs=1, should_stop=waiting.exists)
    said = "seed 0: It did not stop in time: killed. It goes on from its last checkpoint"
    assert said in train.shown.getvalue()
    assert RUNS[0] in missing(RUNS, train.folder)


def _sleep(seconds: float, report: Any, should_stop: Any) -> None:
    time.sleep(seconds)


def test_a_job_that_ignores_the_stop_is_killed() -> None:
    start = time.monotonic()
    stop = lambda: time.monotonic() - start > 0.5  # noqa: E731
    ended = run_jobs(_sleep, {"deaf": 600.0}, processes=1, should_stop=stop, grace=0.5)
    assert ended["deaf"].stopped
    assert time.monotonic() - start < 30


ORPHAN = """
import sys
from pathlib import Path
from memnb.config import run_config
from memnb.reproduce.progress import Display
from memnb.reproduce.trainer import train_missing
if __name__ == "__main__":
    run = run_config("luna-1", "listops-short", 0)
    train = "pretend_training:train"
    train_missing([run], Path(sys.argv[1]), jobs=1, display=Display(), function=train)
"""


def test_workers_stop_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    tests = str(Path(__file__).parent)
    root = str(Path(__file__).parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([root, tests]),
        "PRETEND": json.dumps({"luna-1 s0": "wait"}),
    }
    parent = subprocess.Popen([sys.executable, script, tmp_path / "runs"], env=environment)
    folder = tmp_path / "runs" / RUNS[0].run_id
    _wait_for((folder / "waiting").exists)
    worker = int((folder / "calls.txt").read_text().split()[0])
    parent.kill()
    parent.wait()
    _wait_for(lambda: not _alive(worker))


def _wait_for(condition: Any, seconds: float = 30) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class TestClock:
    """The estimate of the time left."""

    def clock(self, jobs: int) -> tuple[Clock, list[float]]:
        now = [0.0]
        steps = {"a": 100, "b": 100, "c": 100, "d": 100}
        kinds = {"a": "slow", "b": "slow", "c": "fast", "d": "new"}
        return Clock(steps, kinds, jobs, now=lambda: now[0]), now

    def test_nothing_is_claimed_before_anything_was_timed(self) -> None:
        clock, _ = self.clock(1)
        assert clock.left is None
        clock.saw("a", 1)
        assert clock.left is None

    def test_each_kind_has_its_own_speed_and_an_unknown_one_the_average(self) -> None:
        clock, now = self.clock(1)
        clock.saw("a", 0)
        clock.saw("c", 0)
        now[0] = 10.0
        clock.saw("a", 10)  # 1 s a step
        clock.saw("c", 50)  # 0.2 s a step
        assert clock.left == pytest.approx(90 + 100 + 50 * 0.2 + 100 * 0.6)
        assert clock.fraction == pytest.approx(60 / 400)

    def test_work_is_shared_by_the_workers_but_no_run_is_split(self) -> None:
        clock, now = self.clock(4)
        clock.saw("a", 0)
        now[0] = 10.0
        clock.saw("a", 10)
        assert clock.left == pytest.approx(100)

    def test_a_run_that_waits_for_a_worker_begins_when_one_is_free(self) -> None:
        clock, now = self.clock(2)
        for run in "ab":
            clock.saw(run, 0)
        now[0] = 10.0
        clock.saw("a", 50)  # 0.2 s a step: 10 s left
        clock.saw("b", 10)  # 1 s a step: 90 s left
        # Both are "slow": 0.6 s a step on average, so 30 s and 54 s; then c and d, 60 s each.
        assert clock.left == pytest.approx(54 + 60)

    def test_a_resumed_run_is_timed_from_where_it_was_resumed(self) -> None:
        clock, now = self.clock(1)
        clock.saw("a", 80)
        now[0] = 10.0
        clock.saw("a", 90)
        for other in "bcd":
            clock.over(other)
        assert clock.left == pytest.approx(10)

    def test_waiting_for_another_process_is_no_time_of_a_run(self) -> None:
        clock, now = self.clock(1)
        clock.saw("a", 0)
        now[0] = 10.0
        clock.saw("a", 10)
        clock.lost("a")
        now[0] = 1000.0
        clock.saw("a", 5)  # from its last checkpoint
        now[0] = 1005.0
        clock.saw("a", 10)
        for other in "bcd":
            clock.over(other)
        assert clock.left == pytest.approx(90)

    def test_a_run_that_stopped_early_is_done(self) -> None:
        clock, now = self.clock(1)
        clock.saw("a", 0)
        now[0] = 1.0
        clock.saw("a", 10)
        for run in "abcd":
            clock.over(run)
        assert clock.left == 0
        assert clock.fraction == 1
