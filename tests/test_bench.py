"""Benchmarks: what is measured, on what, and what becomes of trouble."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import killed
import numpy as np
import pytest
import torch

from memnb import cli, config
from memnb.config import run_config
from memnb.errors import MemnbError
from memnb.operations import examples_scored, step_operations
from memnb.tasks.base import made_up
from memnb.train import bench
from memnb.train.loop import train


def tiny(**training: int) -> config.Run:
    small = {"blocks": 1, "width": 8, "heads": 2, "mlp": 8}
    return run_config(
        "luna-2",
        "listops-short",
        task_changes={"min_length": 10, "max_length": 30},
        model_changes=small,
        training_changes={"batch": 4, **training},
    )


NO_MEMORY = config.model_config(
    "transformer", "listops-short", blocks=1, width=8, heads=2, mlp=8
).model_dump()


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes come from a server that has imported PyTorch: a start takes no seconds."""
    monkeypatch.setattr(
        bench,
        "_process",
        lambda: concurrent.futures.ProcessPoolExecutor(1, mp_context=killed.server()),
    )


def test_ctrl_c_ends_a_measuring_process_without_a_traceback() -> None:
    # A terminal's reaches it as well, whatever it is importing or measuring.
    assert bench.apart(signal.getsignal, signal.SIGINT) == signal.SIG_DFL


def test_a_measurement_is_whole_and_in_order() -> None:
    row = bench.measure("step", tiny(), "cpu", repeats=4, seconds=0.05)
    assert row.outcome == "measured"
    assert 0 < row.lower <= row.milliseconds <= row.upper
    assert row.steps >= 4
    assert row.peak_memory > 2**20
    assert row.first_step > 0
    assert row.scored_per_second > 0
    assert (row.model, row.length, row.batch, row.device) == ("luna-2", 30, 4, "cpu")
    assert row.operations == step_operations(tiny())
    assert row.threads == torch.get_num_threads()


def test_a_whole_run_is_the_sum_of_its_parts() -> None:
    run = tiny(steps=2000, evaluate_every=100)
    row = bench.measure("run", run, "cpu", repeats=2, seconds=0.02)
    assert row.run is not None
    parts = {**row.run}
    whole = parts.pop("whole")
    assert whole == pytest.approx(sum(parts.values()))
    assert parts["training"] == pytest.approx(2 * row.milliseconds)
    assert min(parts.values()) > 0
    without = bench.measure("run", run.but(model=NO_MEMORY), "cpu", repeats=2, seconds=0.02)
    assert without.run is not None
    assert without.run["probes"] == 0, "there is no memory to look at"


def test_a_whole_run_counts_the_looks_that_training_takes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = tiny(steps=120, evaluate_every=2)  # 60 evaluations: a look at every second one
    assert train(run, tmp_path)["outcome"] == "finished"
    lines = (tmp_path / "probes.jsonl").read_text().splitlines()
    looked = {json.loads(line)["step"] for line in lines}
    monkeypatch.setattr(bench, "_seconds", lambda action, *given: 1.0)
    row = bench.measure("run", run, "cpu", repeats=2, seconds=0.02)
    assert row.run is not None
    assert row.run["probes"] == len(looked) == 32


def test_the_validation_set_of_a_whole_run_has_its_own_size() -> None:
    sizes = {name: examples_scored(task) for name, task in config.TASKS.items()}
    assert sizes["listops"] == 2_000
    assert sizes["text"] == 25_000
    assert sizes["image"] == 5_000
    assert sizes["pathfinder"] == 20_000


def test_a_changed_validation_set_is_scored_as_it_is() -> None:
    """Text's is its test set, as the authors have it; a short task may take all that there is."""
    assert examples_scored(config.task_config("text", test=1_000)) == 1_000
    assert examples_scored(config.task_config("text", validation="holdout", test=1_000)) == 2_500
    assert examples_scored(config.task_config("image-short", validation=None)) == 5_000


def test_ceilings_are_above_what_a_step_reaches() -> None:
    best = bench.ceilings("cpu", size=256)
    row = bench.measure("step", tiny(), "cpu", repeats=2, seconds=0.05)
    assert best.suite == "ceilings"
    assert best.bandwidth > 1e8
    assert best.matrix_rate > row.operations / (row.milliseconds / 1000)


def test_more_work_takes_more_time() -> None:
    short = bench.measure("step", tiny(), "cpu", repeats=9, seconds=0.03)
    long = bench.measure("step", tiny(batch=2000), "cpu", repeats=9, seconds=0.03)
    # Other processes can slow down most of one measurement, the quickest quarter less.
    assert long.lower > 1.5 * short.lower


def test_running_out_of_memory_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(bench, "make_engine", full)
    row = bench.measure("step", tiny(), "cpu")
    assert row.outcome == "out of memory"
    assert row.milliseconds is None


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("suite", "call"), [("length", "measure"), ("step", "_prepare_here"), ("step", "_finish_here")]
)
def test_a_process_that_dies_is_a_row(
    suite: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, call, _die)
    first, second = bench.isolated(suite, [tiny(), tiny(batch=3)], "cpu", jobs=2)
    assert first.outcome == second.outcome == "failed: the process died"
    assert (first.model, first.batch, second.batch) == ("luna-2", 4, 3)


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("suite", "call"), [("length", "measure"), ("step", "_prepare_here"), ("step", "_finish_here")]
)
def test_a_model_that_raises_is_a_row_and_the_rest_goes_on(
    suite: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_prepare_here", _nothing)
    monkeypatch.setattr(bench, call, _raise)
    rows = list(bench.isolated(suite, [tiny(), tiny(batch=3)], "cpu"))
    assert [row.outcome for row in rows] == ["failed: The block 'mine' raised ValueError: no."] * 2
    assert [(row.batch, row.milliseconds) for row in rows] == [(4, None), (3, None)]


@pytest.mark.usefixtures("warm")
@pytest.mark.skipif(torch.cuda.is_available(), reason="wants a machine without CUDA")
def test_a_device_that_is_not_there_is_no_row() -> None:
    with pytest.raises(MemnbError, match="CUDA"):
        next(bench.isolated("step", [tiny()], "cuda"))


@pytest.mark.parametrize(
    "call",
    ['next(bench.isolated("step", [run_config("luna-1", "listops-short")], "cpu"))',
     'bench.apart(bench.ceilings, "cpu", 64)'],
)  # fmt: skip
def test_a_script_without_a_guard_is_told_of_it(call: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    imports = "from memnb.config import run_config\nfrom memnb.train import bench\n"
    script.write_text(f"{imports}\n{call}\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode
    assert "below 'if __name__ == \"__main__\":'" in done.stderr.splitlines()[-1]


def _nothing(*_: object) -> None:
    pass


def _raise(*_: object) -> None:
    raise MemnbError("The block 'mine' raised ValueError: no.") from ValueError("no")


@pytest.mark.usefixtures("warm")
def test_compiled_side_by_side_they_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs, two at a time: nothing is timed while another one is made ready."""
    events = multiprocessing.Manager().list()
    monkeypatch.setattr(bench, "_prepare_here", partial(_noted, events, "prepare"))
    monkeypatch.setattr(bench, "_finish_here", partial(_noted, events, "finish"))
    runs = [tiny(batch=batch) for batch in (2, 3, 4)]
    rows = list(bench.isolated("step", runs, "cpu", 2, 0.02, jobs=2))
    assert [row.side_by_side for row in rows] == [2, 2, 1]
    order = [name for name, begins in events if begins]
    assert order == ["prepare", "prepare", "finish", "finish", "prepare", "finish"]
    first_finish = list(events).index(("finish", True))
    assert list(events[:first_finish]).count(("prepare", False)) == 2


def _noted(events: Any, name: str, *given: Any) -> bench.Measurement | None:
    events.append((name, True))
    time.sleep(0.2)
    events.append((name, False))
    return bench.Measurement("step", "t", "m", 1, 1, "measured") if name == "finish" else None


def test_measurements_come_in_the_order_of_the_runs() -> None:
    rows = list(bench.isolated("step", [tiny(), tiny(batch=3)], "cpu", 2, 0.02))
    assert [(row.suite, row.batch, row.outcome) for row in rows] == [
        ("step", 4, "measured"),
        ("step", 3, "measured"),
    ]


def _die(*_: object) -> None:
    os._exit(9)


@pytest.mark.parametrize("task", [name for name in config.TASKS if "short" not in name])
def test_made_up_data_have_the_shape_and_range_of_the_task(task: str) -> None:
    wanted = config.task_config(task)
    data = made_up(wanted, 5, 3)
    shape = (5, 2, wanted.max_length) if wanted.layout == "pair" else (5, wanted.max_length)
    assert data.train.inputs.shape == shape
    assert data.train.inputs.dtype == np.uint8
    assert data.train.inputs.max() < (wanted.vocabulary or 256)
    assert data.train.labels.max() < wanted.classes
    assert len(data.validation.labels) == 3


def test_the_step_suite_is_every_model_in_the_shape_of_every_task() -> None:
    runs = list(bench.plan("step", config.MODELS, config.LRA_TASKS))
    assert len(runs) == 8 * 5
    assert all(run.preset == "paper" for run in runs)


def test_the_length_suite_grows_up_to_a_million_at_batch_one() -> None:
    runs = list(bench.plan("length", ["luna-1"], []))
    lengths = [run.task.max_length for run in runs]
    assert lengths[0] == 1000
    assert lengths[-1] == 2**20
    assert lengths == sorted(lengths)
    assert {run.training.batch for run in runs} == {1}
    assert [run.task.max_length for run in bench.plan("length", ["luna-1"], [], 4000)] == [
        1000,
        4000,
    ]


def test_operations_grow_in_proportion_to_the_length_of_luna_only() -> None:
    def growth(model: str) -> float:
        short, long = (
            step_operations(run_config(model, "text", task_changes={"max_length": n}))
            for n in (2**16, 2**18)
        )
        return long / short

    assert growth("luna-16") == pytest.approx(4, rel=0.01)
    assert growth("transformer") > 12


def test_unknown_names_are_refused() -> None:
    with pytest.raises(MemnbError, match="suite named 'lenght'; did you mean 'length'"):
        list(bench.plan("lenght", [], []))


def test_the_command_appends_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = iter([bench.measure("step", tiny(), "cpu", repeats=2, seconds=0.02)] * 2)
    best = bench.ceilings("cpu", size=64)
    monkeypatch.setattr(bench, "isolated", lambda *_, **__: [next(rows)])
    here = {bench.ceilings: lambda *_: best}
    monkeypatch.setattr(bench, "apart", lambda action, *given: here.get(action, action)(*given))
    for _ in range(2):
        given = ["--model", "luna-1", "--task", "listops-short", "--out", str(tmp_path)]
        assert cli.main(["bench", "--device", "cpu", *given]) == 0
    shown = capsys.readouterr().out
    assert "ms per step" in shown
    found = [json.loads(line) for line in (tmp_path / "bench.jsonl").read_text().splitlines()]
    assert [row["suite"] for row in found] == ["ceilings", "step"] * 2
    assert [row["model"] for row in found[1::2]] == ["luna-2", "luna-2"]
    assert found[0]["format"] == bench.FORMAT


def test_two_benchmarks_at_once_lose_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = bench.write_atomically

    def slow(path: Path, content: bytes) -> None:
        time.sleep(0.02)  # the other one has read the file by now
        real(path, content)

    monkeypatch.setattr(bench, "write_atomically", slow)
    rows = [bench.Ceilings(each, 1.0, "cpu", "a processor", "fp32", "2.13.0") for each in range(4)]
    file = tmp_path / "out" / "bench.jsonl"
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda row: bench.append(file, row), rows))
    found = [json.loads(line)["bandwidth"] for line in file.read_text().splitlines()]
    assert sorted(found) == [0, 1, 2, 3]


def test_a_row_is_a_line_of_its_own_below_a_last_line_without_an_end(tmp_path: Path) -> None:
    file = tmp_path / "bench.jsonl"
    file.write_text('{"bandwidth": 1.0}')
    bench.append(file, bench.Ceilings(2.0, 1.0, "cpu", "a processor", "fp32", "2.13.0"))
    found = [json.loads(line)["bandwidth"] for line in file.read_text().splitlines()]
    assert found == [1.0, 2.0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--suite length --task image", "--task means something in all suites but 'length'"),
        ("--suite length --jobs 2", "--jobs means something in all suites but 'length'"),
        ("--longest 4000", "--longest means something in the suite 'length' only"),
        ("--suite length --longest 999", "begins at 1,000 tokens, but got --longest 999"),
        ("--suite lenght --task image", "did you mean 'length'"),
    ],
)
def test_what_a_suite_would_not_read_is_refused(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *words.split(), "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
