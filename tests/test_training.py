"""Training is exact, resumable and honest about failure."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch

from memnb import paths, runs, tasks
from memnb.config import Run, run_config
from memnb.errors import MemnbError, RunError
from memnb.models.network import Network
from memnb.train import checkpoint, files, loop
from memnb.train.cuda_graph import make_engine
from memnb.train.device import Device, choose_device
from memnb.train.engine import Engine, Interrupted
from memnb.train.loop import Progress, train
from memnb.train.record import commit_of_checkout, commit_of_code
from memnb.train.sampler import EpochSampler
from memnb.train.schedule import learning_rate

TASK = {"min_length": 4, "max_length": 20, "train": 200, "validation": 40, "test": 40}
TRAINING = {"steps": 40, "batch": 16, "evaluate_every": 10, "warmup": 5}


def tiny(model: str = "convluna-4", seed: int = 0, **training: Any) -> Run:
    return run_config(
        model,
        "listops-short",
        seed,
        task_changes=TASK,
        training_changes={**TRAINING, **training},
        model_changes={"width": 16, "mlp": 16, "dropout": 0.1},
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "best.pt", weights_only=True)


def rows(folder: Path, name: str = "metrics") -> list[dict[str, Any]]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def assert_same_result(one: Path, two: Path) -> None:
    assert rows(one) == rows(two)
    assert rows(one, "probes") == rows(two, "probes")
    assert rows(one, "removal") == rows(two, "removal")
    for name in ("filters", "causal", "usage", "lengths"):
        assert (one / f"{name}.jsonl").exists() == (two / f"{name}.jsonl").exists()
        if (one / f"{name}.jsonl").exists():
            assert rows(one, name) == rows(two, name)
    for (name, a), b in zip(weights(one).items(), weights(two).values(), strict=True):
        assert torch.equal(a, b), name


def stop_after(calls: int) -> Any:
    """A should_stop that says yes at its n-th question."""
    asked = iter(range(10**9))
    return lambda: next(asked) >= calls


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of the tiny run of a model, finished in one go, to be read only: each is trained
    once."""
    folders: dict[str, Path] = {}

    def trained(model: str = "convluna-4") -> Path:
        if model not in folders:
            folder = tmp_path_factory.mktemp("whole") / model
            assert train(tiny(model), folder, device="cpu")["outcome"] == "finished"
            folders[model] = folder
        return folders[model]

    return trained


def test_a_run_leaves_a_complete_folder(tmp_path: Path) -> None:
    run = tiny()
    seen: list[Progress] = []
    record = train(run, tmp_path, device="cpu", progress=seen.append)
    assert record == json.loads((tmp_path / "run.json").read_text())
    assert (record["outcome"], record["stopped"], record["step"]) == ("finished", "steps", 40)
    assert Run.of(record["config"]) == run
    assert record["run_id"] == run.run_id
    assert record["preset"] == "custom"
    splits = [(row["step"], row["split"]) for row in rows(tmp_path)]
    expected = [(step, s) for step in (10, 20, 30, 40) for s in ("train", "validation")]
    assert splits == [*expected, (record["best_step"], "test")]
    best = max(rows(tmp_path)[1:-1:2], key=lambda row: row["accuracy"])
    assert (best["step"], best["accuracy"], best["loss"]) == (
        record["best_step"],
        record["validation_accuracy"],
        record["validation_loss"],
    )
    assert [row["kept"] for row in rows(tmp_path, "removal")] == [4, 2, 1]
    assert rows(tmp_path, "removal")[0]["accuracy"] == record["test_accuracy"]
    assert [(row["step"], row["block"]) for row in rows(tmp_path, "probes")] == [
        (step, block) for step in (0, 10, 20, 30, 40) for block in (1, 2)
    ]
    assert seen[-1].step == 40
    assert not list(tmp_path.glob("checkpoint*")), "a finished run needs none"


def test_the_memory_is_measured_on_every_label_of_a_sorted_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny()
    data = tasks.load(run.task)
    held = data.validation
    by_label = dataclasses.replace(held, labels=np.sort(held.labels // 5))  # two labels, in turn
    monkeypatch.setattr(tasks, "load", lambda _: dataclasses.replace(data, validation=by_label))
    seen: list[set[int]] = []

    def note(network: Network, inputs: Any, lengths: Any, labels: torch.Tensor) -> list[Any]:
        seen.append(set(labels.tolist()))
        return []

    monkeypatch.setattr(loop, "measure", note)
    train(run, tmp_path, device="cpu")
    assert seen == [{0, 1}] * 5


def test_a_run_watches_its_filters_and_is_examined_at_its_end(
    whole: Callable[..., Path],
) -> None:
    filtered, plain = whole(), whole("transformer")
    filters = rows(filtered, "filters")
    assert sorted({row["step"] for row in filters}) == [0, 10, 20, 30, 40]
    assert filters[0]["tap_1"] != filters[-1]["tap_1"]
    causal = rows(filtered, "causal")
    test = rows(filtered)[-1]
    assert causal[0]["test"] == "intact"
    assert causal[0]["accuracy"] == pytest.approx(test["accuracy"])  # of the best weights
    assert len(rows(filtered, "usage")) == 2 * 4
    assert sum(row["examples"] for row in rows(filtered, "lengths")) == 40
    written = {path.name for path in plain.glob("*.jsonl")}
    assert written == {
        "metrics.jsonl", "probes.jsonl", "removal.jsonl", "lengths.jsonl", "beginning.jsonl",
    }  # fmt: skip
    (*_, to_the_end) = rows(plain, "beginning")
    assert to_the_end["accuracy"] == pytest.approx(rows(plain)[-1]["accuracy"])


def test_the_best_weights_are_kept_and_tested(whole: Callable[..., Path]) -> None:
    run = tiny()
    record = json.loads((whole() / "run.json").read_text())
    network = Network(run.model, run.task)
    network.load_state_dict(weights(whole()))
    network.eval()
    data = tasks.load(run.task)
    with torch.no_grad():
        scores = network(torch.from_numpy(data.test.inputs))
    accuracy = (scores.argmax(-1).numpy() == data.test.labels).mean()
    assert accuracy == pytest.approx(record["test_accuracy"])


def test_attention_is_kept_of_the_first_validation_example(whole: Callable[..., Path]) -> None:
    example = tasks.load(tiny().task).validation
    with np.load(whole() / "attention.npz") as maps:
        assert maps["tokens"].tolist() == example.inputs[0, : example.lengths[0]].tolist()
        assert maps["label"] == example.labels[0]


def test_training_learns(tmp_path: Path) -> None:
    """On 200 examples the training loss falls far below that of guessing."""
    run = tiny("luna-4", steps=300, evaluate_every=100, lr=0.05, warmup=30)
    train(run, tmp_path, device="cpu")
    losses = [row["loss"] for row in rows(tmp_path) if row["split"] == "train"]
    assert losses[0] > losses[-1]
    assert losses[-1] < 0.8 * math.log(10)


@pytest.mark.parametrize("model", ["transformer", "luna-4", "convluna-1", "poolluna-4"])
def test_same_seed_same_result_and_another_seed_another(model: str, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        torch.rand(3)  # whatever else the process draws must not matter
        train(tiny(model, seed), tmp_path / name, device="cpu")
    assert_same_result(tmp_path / "one", tmp_path / "two")
    assert rows(tmp_path / "one") != rows(tmp_path / "other")


@pytest.mark.parametrize(
    "model", ["transformer", "luna-4", "convluna-4", "convchunkmem-4", "convrmt-4"]
)
def test_resumed_equals_uninterrupted_bit_for_bit(
    model: str, tmp_path: Path, whole: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, uninterrupted = tiny(model), whole(model)
    monkeypatch.setattr(loop, "RESPOND_WITHIN", 0.0)  # look up after every step
    outcomes = []
    for calls in (1, 4, 9, 13, 10**9):  # within evaluations and between them
        torch.rand(3)  # whatever else the process draws must not matter
        record = train(run, tmp_path / "cut", device="cpu", should_stop=stop_after(calls))
        outcomes.append(record["outcome"])
    assert outcomes == ["interrupted"] * 4 + ["finished"]
    assert record["resumed"] == 4
    assert_same_result(uninterrupted, tmp_path / "cut")


def test_each_call_counts_the_share_of_the_device_that_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RESPOND_WITHIN", 0.0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    first = train(tiny(), tmp_path / "run", device="cpu", should_stop=stop_after(9))
    assert first["device_seconds"] == pytest.approx(first["seconds"], abs=0.01)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 40)
    record = train(tiny(), tmp_path / "run", device="cpu")
    later = record["seconds"] - first["seconds"]
    assert record["device_seconds"] == pytest.approx(first["seconds"] + 40 * later, rel=0.05)


def test_a_checkpoint_that_knows_no_device_time_had_all_cores_of_this_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 40)
    first = train(tiny("transformer"), tmp_path, device="cpu", budget=0.0)
    state = checkpoint.load_newest(tmp_path)
    del state["seconds"]["device"]
    checkpoint.save(tmp_path, state["engine"]["step"], state)
    record = train(tiny("transformer"), tmp_path, device="cpu")
    assert record["seconds"] > first["seconds"] > 0
    assert record["device_seconds"] == pytest.approx(40 * record["seconds"], rel=0.01)


@pytest.mark.parametrize("lost", ["sampler", "rng_cpu", "optimizer"])
def test_resuming_without_a_part_of_the_state_gives_another_result(
    lost: str, tmp_path: Path, whole: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the test above: each part of the state is needed."""
    run, uninterrupted = tiny(), whole()
    monkeypatch.setattr(loop, "RESPOND_WITHIN", 0.0)
    train(run, tmp_path / "cut", device="cpu", should_stop=stop_after(13))
    state = checkpoint.load_newest(tmp_path / "cut")
    step = state["engine"]["step"]
    assert 0 < step < 40
    if lost == "sampler":
        state["sampler"] = {"epoch": 0, "index": 0}
    elif lost == "rng_cpu":
        state["engine"]["rng_cpu"] = torch.get_rng_state()
    else:
        for moments in state["engine"]["optimizer"]["state"].values():
            moments["exp_avg"].zero_()
    checkpoint.save(tmp_path / "cut", step, state)
    train(run, tmp_path / "cut", device="cpu")
    assert rows(uninterrupted) != rows(tmp_path / "cut")


def test_rows_written_after_the_checkpoint_are_not_doubled(
    tmp_path: Path, whole: Callable[..., Path]
) -> None:
    run = tiny("convluna-4")
    cut = train(run, tmp_path / "cut", device="cpu", should_stop=stop_after(5))
    assert cut["outcome"] == "interrupted"
    for name in ("metrics", "probes", "filters"):
        path = tmp_path / "cut" / f"{name}.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        assert lines
        path.write_text("".join([*lines, lines[-1]]))  # the process died before the next save
    train(run, tmp_path / "cut", device="cpu")
    assert_same_result(whole(), tmp_path / "cut")


def test_the_memory_is_measured_at_the_steps_that_were_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny("convluna-4")
    monkeypatch.setattr(loop, "PROBES", 2)
    train(run, tmp_path, device="cpu")
    assert {row["step"] for row in rows(tmp_path) if row["split"] == "validation"} >= {20, 30, 40}
    for name in ("probes", "filters"):
        assert {row["step"] for row in rows(tmp_path, name)} == {0, 10, 20, 40}


def test_a_run_says_which_machines_and_which_code_trained_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny("luna-4")
    monkeypatch.setattr(loop, "RESPOND_WITHIN", 0.0)

    def go_on(commit: str, calls: int) -> list[tuple[int, str]]:
        monkeypatch.setattr(loop, "commit_of_code", lambda: commit)
        record = train(run, tmp_path, device="cpu", should_stop=stop_after(calls))
        assert record == json.loads((tmp_path / "run.json").read_text())
        assert record["machines"][-1]["device_name"] == record["device_name"]
        return [(one["from_step"], one["commit"]) for one in record["machines"]]

    first = go_on("a", 4)
    assert first == [(0, "a")]
    assert go_on("a", 4) == first, "it went on where it was"
    (_, second) = go_on("b", 4)
    assert second[0] > 0
    # Who did no step is not listed; neither is what came after the checkpoint.
    assert go_on("c", 0)[:2] == [(0, "a"), second]
    *before, (step, last) = go_on("d", 10**9)
    assert (before, last) == ([(0, "a"), second], "d")
    assert step > second[0]


def test_code_counts_as_changed_if_the_package_was_not_if_rows_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        done = subprocess.run(
            ["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    monkeypatch.setenv("MEMNB_COMMIT", "what somebody says")
    assert commit_of_code() == "what somebody says", "there is no history"
    row, module = tmp_path / "data" / "row.json", tmp_path / "memnb" / "loop.py"
    for file in (row, module):
        file.parent.mkdir()
        file.write_text("1")
    git("init")
    assert commit_of_code() is None, "there is no commit"
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")[:12]
    assert commit_of_code() == commit
    row.unlink()
    assert commit_of_code() == commit
    assert commit_of_checkout() == commit + "+"
    (module.parent / "new.py").write_text("2")
    assert commit_of_code() == commit + "+"
    (module.parent / "new.py").unlink()
    module.write_text("2")
    assert commit_of_code() == commit + "+"


def test_a_machine_that_only_tests_has_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(loop, "look_closely", stopped)
        record = train(tiny("luna-4"), tmp_path, device="cpu")
    assert (record["outcome"], record["step"]) == ("interrupted", 40)
    monkeypatch.setattr(loop, "commit_of_code", lambda: "another")
    record = train(tiny("luna-4"), tmp_path, device="cpu")
    assert (record["outcome"], record["commit"]) == ("finished", "another")
    (one,) = record["machines"]
    assert (one["from_step"], one["commit"] == "another") == (0, False)


def test_a_run_began_when_its_first_call_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter("abcdef")
    monkeypatch.setattr(loop, "_now", lambda: next(times))
    first = train(tiny("transformer"), tmp_path, device="cpu", budget=0.0)
    assert (first["started"], first["finished"]) == ("a", None)
    record = train(tiny("transformer"), tmp_path, device="cpu")
    assert (record["outcome"], record["started"]) == ("finished", "a")
    assert record["finished"] > "a"


def test_a_checkpoint_without_machines_was_trained_where_its_record_says(tmp_path: Path) -> None:
    run = tiny("luna-4")
    train(run, tmp_path, device="cpu", should_stop=stop_after(5))
    state = checkpoint.load_newest(tmp_path)
    del state["machines"]
    step = state["engine"]["step"]
    checkpoint.save(tmp_path, step, state)
    record = json.loads((tmp_path / "run.json").read_text())
    del record["machines"]
    (tmp_path / "run.json").write_text(json.dumps({**record, "device_name": "old card"}))
    found = train(run, tmp_path, device="cpu")["machines"]
    names = [(one["from_step"], one["device_name"]) for one in found]
    assert names == [(0, "old card"), (step, record["device_name"])]


def test_a_damaged_record_is_kept_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tiny("luna-4")
    before = train(run, tmp_path, device="cpu")
    damaged = (tmp_path / "run.json").read_bytes()[:100]
    (tmp_path / "run.json").write_bytes(damaged)
    again = train(run, tmp_path, device="cpu")
    assert (tmp_path / "run.json.damaged").read_bytes() == damaged
    assert "run.json cannot be read" in caplog.text
    assert again["outcome"] == "finished"
    assert again["test_accuracy"] == before["test_accuracy"]


def test_a_record_that_the_disk_does_not_give_is_left_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()  # reading it is an OSError, as on a failing disk
    with pytest.raises(RunError):
        train(tiny("luna-4"), tmp_path, device="cpu")
    assert (tmp_path / "run.json").is_dir()
    assert not (tmp_path / "run.json.damaged").exists()


def test_a_checkpoint_that_a_kill_left_without_its_sum_does_not_stay(tmp_path: Path) -> None:
    run = tiny("luna-4")
    train(run, tmp_path / "cut", device="cpu", should_stop=stop_after(5))
    newest = max((tmp_path / "cut").glob("checkpoint-*.pt"))
    # Killed while an old checkpoint was dropped: its sum goes first.
    half_dropped = newest.with_name("checkpoint-00000000.pt")
    half_dropped.write_bytes(newest.read_bytes())
    files.drop_unfinished(tmp_path / "cut")
    assert newest.exists()
    assert not half_dropped.exists()
    half_dropped.write_bytes(newest.read_bytes())
    assert train(run, tmp_path / "cut", device="cpu")["outcome"] == "finished"
    assert not list((tmp_path / "cut").glob("checkpoint-*"))


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = train(tiny(), tmp_path, device="cpu")
    changed = (tmp_path / "run.json").stat().st_mtime_ns
    assert train(tiny(), tmp_path, device="cpu") == first
    assert (tmp_path / "run.json").stat().st_mtime_ns == changed


def test_a_budget_stops_at_a_checkpoint(tmp_path: Path) -> None:
    record = train(tiny(), tmp_path, device="cpu", budget=0.0)
    assert record["outcome"] == "interrupted"
    assert list(tmp_path.glob("checkpoint-*.pt"))
    assert train(tiny(), tmp_path, device="cpu")["outcome"] == "finished"


def test_patience_ends_a_run_that_no_longer_improves(tmp_path: Path) -> None:
    run = tiny(steps=400, evaluate_every=1, patience=3)
    record = train(run, tmp_path, device="cpu")
    assert record["stopped"] == "patience"
    assert record["step"] == record["best_step"] + 3


def test_a_loss_that_is_no_number_is_a_recorded_failure(tmp_path: Path) -> None:
    record = train(tiny("luna-4", lr=1e38, warmup=1), tmp_path, device="cpu")
    assert record["outcome"] == "failed"
    assert "not a finite number" in record["reason"]
    assert record["test_accuracy"] is None
    json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert train(tiny("luna-4", lr=1e38, warmup=1), tmp_path, device="cpu") == record


def test_divergence_is_a_recorded_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "report", lambda self: (1e3, 0.1))
    record = train(tiny(), tmp_path, device="cpu")
    assert record["outcome"] == "failed"
    assert "diverged to 1e+03 at step 10" in record["reason"]


@pytest.mark.parametrize(("loss", "outcome"), [(23.0, "finished"), (23.1, "failed")])
def test_a_loss_of_ten_times_that_of_guessing_is_a_divergence(
    loss: float, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten classes, guessing has a loss of 2.303."""
    monkeypatch.setattr(Engine, "report", lambda self: (loss, 0.1))
    assert train(tiny("transformer"), tmp_path, device="cpu")["outcome"] == outcome


def test_a_validation_loss_that_is_no_number_is_a_recorded_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "evaluate", lambda *_: (math.nan, 0.1))
    record = train(tiny("transformer"), tmp_path, device="cpu")
    assert record["outcome"] == "failed"
    assert record["reason"] == "the loss is not a finite number at step 10"
    assert [row["split"] for row in rows(tmp_path)] == ["train"]


def test_the_time_of_every_save_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[float] = []
    save = checkpoint.save

    def noted(*arguments: Any) -> Path:
        begun = time.monotonic()
        time.sleep(0.02)
        path = save(*arguments)
        saved.append(time.monotonic() - begun)
        return path

    monkeypatch.setattr(checkpoint, "save", noted)
    for name, value in {"SAVE_EVERY": 0.0, "SAVE_SHARE": math.inf, "RESPOND_WITHIN": 0.0}.items():
        monkeypatch.setattr(loop, name, value)
    record = train(tiny("transformer", steps=5), tmp_path, device="cpu")
    assert len(saved) > 2
    assert record["seconds_saving"] >= sum(saved)


@pytest.mark.parametrize("memory", [False, True])
def test_a_failed_run_keeps_its_checkpoints_only_if_it_may_go_on(
    memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never trained again, and they would lie about for ever."""
    train(tiny(), tmp_path, device="cpu", budget=0.0)
    assert list(tmp_path.glob("checkpoint-*.pt"))

    def fail(self: Engine) -> tuple[float, float]:
        if memory:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return math.nan, 0.1

    monkeypatch.setattr(Engine, "report", fail)
    assert train(tiny(), tmp_path, device="cpu")["outcome"] == "failed"
    assert bool(list(tmp_path.glob("checkpoint-*"))) == memory


def test_running_out_of_memory_is_recorded_and_may_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_big(self: Engine, batches: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "train", too_big)
        record = train(tiny(), tmp_path, device="cpu")
    assert record["outcome"] == "failed"
    assert record["reason"].startswith("out of memory")
    assert train(tiny(), tmp_path, device="cpu")["outcome"] == "finished"


def _hold(folder: Path, ready: Any, done: Any) -> None:
    loop.RESPOND_WITHIN = 0.0

    def wait() -> bool:
        ready.set()
        done.wait(30)
        return True

    train(tiny(), folder, device="cpu", should_stop=wait)


def test_two_processes_on_one_run_are_told_apart(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(30)
    with pytest.raises(RunError, match="Another process is training"):
        train(tiny(), tmp_path, device="cpu")
    done.set()
    process.join()
    assert train(tiny(), tmp_path, device="cpu")["outcome"] == "finished"


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be written") as caught:
        train(tiny(), tmp_path / "file" / "run", device="cpu")
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_call_leaves_no_folder(tmp_path: Path) -> None:
    for mistake in ({"accumulate": 3}, {"engine": "graph"}, {"device": "gpu"}, {"accumulate": 0}):
        with pytest.raises(MemnbError):
            train(tiny(), tmp_path / "run", **{"device": "cpu", **mistake})
        assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(MemnbError):
        train(tiny(), tmp_path / "run", device="gpu")
    assert (tmp_path / "run").exists(), "a folder that was there stays"


@pytest.mark.parametrize("mistake", [
    {"budget": math.nan}, {"budget": "9m"}, {"budget": True},
    {"accumulate": "2"}, {"accumulate": 2.0}, {"side_by_side": "2"}, {"side_by_side": 0},
])  # fmt: skip
def test_a_number_that_is_none_is_refused_in_one_sentence(
    tmp_path: Path, mistake: dict[str, Any]
) -> None:
    """A budget of NaN was no budget, and a count in words made a record that nothing reads."""
    ((name, value),) = mistake.items()
    with pytest.raises(MemnbError, match=f"{name} is a .*{re.escape(repr(value))}") as caught:
        train(tiny(), tmp_path / "run", device="cpu", **mistake)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_ended_in_an_exception_is_not_said_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "train", broken)
    with pytest.raises(ZeroDivisionError):
        train(tiny(), tmp_path / "run", device="cpu")
    monkeypatch.undo()
    assert loop.record_of(tmp_path / "run")["outcome"] == "interrupted"
    assert train(tiny(), str(tmp_path / "run"), device="cpu")["outcome"] == "finished"


def test_what_went_wrong_first_is_told_where_the_record_cannot_be_written_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for first in (ZeroDivisionError, KeyboardInterrupt):
        with monkeypatch.context() as patch:

            def broken(*_: Any, raised: Any = first, patch: Any = patch) -> None:
                patch.setattr(os, "fsync", full)
                raise raised

            patch.setattr(Engine, "train", broken)
            with pytest.raises(first):
                train(tiny(), tmp_path, device="cpu")


def test_ctrl_c_before_a_run_goes_on_leaves_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = train(tiny(), tmp_path, device="cpu", budget=0.0)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "make_engine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, device="cpu")
    assert loop.record_of(tmp_path) == before


def test_what_ended_is_on_disk_before_its_record_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after the last line of run.json must not cost rows that were only appended."""
    synced = set()
    fsync = os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        synced.add((os.fstat(handle).st_ino, os.fstat(handle).st_size))

    monkeypatch.setattr(os, "fsync", noted)
    train(tiny("convluna-4"), tmp_path, device="cpu")
    files = [path for path in tmp_path.iterdir() if path.name != "run.lock"]
    assert len(files) > 8
    assert [
        path.name for path in files if (path.stat().st_ino, path.stat().st_size) not in synced
    ] == []


def test_a_test_loss_that_is_no_number_is_a_recorded_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Engine.evaluate

    def infinite(self: Engine, split: Any, *more: Any) -> tuple[float, float]:
        loss, accuracy = evaluate(self, split, *more)
        return (float("inf") if split is self.test else loss), accuracy

    monkeypatch.setattr(Engine, "evaluate", infinite)
    record = train(tiny(), tmp_path, device="cpu")
    assert (record["outcome"], record["test_accuracy"]) == ("failed", None)
    assert record["reason"] == "the loss on the test set is not a finite number"


def test_a_folder_goes_away_before_its_lock_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the lock would hold that of a file that is gone."""
    there = []
    release = filelock.FileLock.release

    def noted(self: filelock.FileLock, force: bool = False) -> None:
        there.append((tmp_path / "run").exists())
        release(self, force)

    monkeypatch.setattr(filelock.FileLock, "release", noted)
    with pytest.raises(MemnbError):
        train(tiny(), tmp_path / "run", device="gpu")
    assert there[0] is False


def test_a_full_disk_is_one_sentence_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny(), tmp_path, device="cpu", budget=0.0)
    kept = sorted(tmp_path.glob("checkpoint-*"))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="The disk is full"):
            train(tiny(), tmp_path, device="cpu")
    assert sorted(tmp_path.glob("checkpoint-*")) == kept
    assert not list(tmp_path.glob(".*tmp"))
    assert train(tiny(), tmp_path, device="cpu")["outcome"] == "finished"


def test_another_runs_folder_is_refused(tmp_path: Path) -> None:
    train(tiny(seed=1), tmp_path, device="cpu", budget=0.0)
    with pytest.raises(RunError, match="holds the run"):
        train(tiny(seed=0), tmp_path, device="cpu")
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunError, match="holds a checkpoint of"):
        train(tiny(seed=0), tmp_path, device="cpu")


STATE = {"value": torch.arange(4), "nested": {"step": 3}}


class TestCheckpoint:
    def test_one_without_its_sum_was_never_finished(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        checkpoint.save(tmp_path, 1, {**STATE, "which": 1})
        newest = checkpoint.save(tmp_path, 2, {**STATE, "which": 2})
        newest.with_suffix(".sha256").unlink()
        state = checkpoint.load_newest(tmp_path)
        assert state["which"] == 1
        assert caplog.text == "", "nothing to warn of"

    def test_one_that_cannot_be_read_is_not_taken_for_damaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = checkpoint.save(tmp_path, 3, {"step": 3})

        def failing(self: Path) -> bytes:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", failing)
            with pytest.raises(
                RunError, match=r"checkpoint-00000003.pt cannot be read \(Input"
            ) as e:
                checkpoint.load_newest(tmp_path)
            assert [*runs._checkpoints(tmp_path)] == [str(e.value)]
        assert checkpoint.load_newest(tmp_path) == {"format": checkpoint.FORMAT, "step": 3}
        assert path.exists()

    @pytest.mark.parametrize(
        "error",
        [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
        ids=str,
    )
    def test_too_little_memory_to_read_one_is_not_its_fault(
        self, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint.save(tmp_path, 3, {"step": 3})

        def too_large(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr(torch, "load", too_large)
        with pytest.raises(type(error)) as raised:
            checkpoint.load_newest(tmp_path)
        assert raised.value is error

    def test_the_newest_two_are_kept(self, tmp_path: Path) -> None:
        for step in (5, 100, 20, 3000):
            checkpoint.save(tmp_path, step, STATE)
        names = sorted(path.name for path in tmp_path.glob("*.pt"))
        assert names == ["checkpoint-00000100.pt", "checkpoint-00003000.pt"]
        assert len(list(tmp_path.iterdir())) == 4

    def test_code_in_a_checkpoint_is_not_run(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return (os.mkdir, (str(tmp_path / "owned"),))

        checkpoint.save(tmp_path, 1, {"evil": Evil()})
        with pytest.raises(RunError, match="not a checkpoint"):
            checkpoint.load_newest(tmp_path)
        assert not (tmp_path / "owned").exists()

    def test_a_newer_format_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "FORMAT", 99)
            checkpoint.save(tmp_path, 1, STATE)
        with pytest.raises(RunError, match="update memnb"):
            checkpoint.load_newest(tmp_path)

    def test_nothing_there_is_nothing(self, tmp_path: Path) -> None:
        assert checkpoint.load_newest(tmp_path) is None


class TestSampler:
    def test_every_epoch_is_a_new_order_of_all_examples(self) -> None:
        sampler = EpochSampler(examples=12, batch=4, seed=0)
        epochs = [sampler.take(3).flatten().tolist() for _ in range(3)]
        assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
        assert epochs[0] != epochs[1] != epochs[2]

    def test_an_unfilled_last_batch_is_left_out(self) -> None:
        sampler = EpochSampler(examples=11, batch=4, seed=0)
        first = sampler.take(2)
        assert (sampler.epoch, sampler.index) == (0, 2)
        assert len(first.unique()) == 8
        sampler.take(1)
        assert (sampler.epoch, sampler.index) == (1, 1)

    @pytest.mark.parametrize("taken", [0, 1, 3, 5])
    def test_the_state_leads_to_the_very_next_batch(self, taken: int) -> None:
        one = EpochSampler(examples=12, batch=4, seed=3)
        if taken:
            one.take(taken)
        two = EpochSampler(examples=12, batch=4, seed=3)
        two.restore(one.state())
        assert torch.equal(one.take(5), two.take(5))

    def test_one_call_or_many_make_no_difference(self) -> None:
        one, two = (EpochSampler(examples=12, batch=4, seed=3) for _ in range(2))
        assert torch.equal(one.take(7), torch.cat([two.take(2), two.take(4), two.take(1)]))

    def test_too_few_examples_are_refused(self) -> None:
        with pytest.raises(MemnbError, match=r"lower training\.batch"):
            EpochSampler(examples=3, batch=4, seed=0)


def test_learning_rate_rises_to_the_warmup_and_falls_after() -> None:
    assert learning_rate(1, 0.005, 8000) == pytest.approx(0.005 / 8000**1.5)
    assert learning_rate(4000, 0.005, 8000) == pytest.approx(0.5 * 0.005 / 8000**0.5)
    assert learning_rate(8000, 0.005, 8000) == pytest.approx(0.005 / 8000**0.5)
    assert learning_rate(32_000, 0.005, 8000) == pytest.approx(0.005 / 32_000**0.5)


def test_every_parameter_decays_and_adam_is_as_the_protocol_says() -> None:
    run = tiny()
    network = Network(run.model, run.task)
    engine = Engine(network, tasks.load(run.task), run.training, choose_device("cpu"))
    (group,) = engine.optimizer.param_groups
    assert group["weight_decay"] == run.training.weight_decay
    assert (group["betas"], group["eps"]) == ((0.9, 0.999), 1e-8)
    assert len(group["params"]) == sum(p.requires_grad for p in network.parameters())


def test_evaluation_stops_when_asked_and_changes_nothing() -> None:
    run = tiny()
    network = Network(run.model, run.task)
    engine = Engine(network, tasks.load(run.task), run.training, choose_device("cpu"))
    with pytest.raises(Interrupted):
        engine.evaluate(engine.test, lambda: True)
    random = torch.get_rng_state()
    assert engine.evaluate(engine.test) == engine.evaluate(engine.test)
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(MemnbError, match="must be one of auto, cpu, cuda"):
        choose_device(device)


def test_a_gpu_that_refuses_is_one_sentence_and_no_slower_engine_is_tried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore")

    run = tiny()
    network, data = Network(run.model, run.task), tasks.load(run.task)
    monkeypatch.setattr(torch, "zeros", refuse)
    card = Device("cuda", "a card", "bf16", "made up")
    with pytest.raises(MemnbError, match=r"a card.*unavailable; see with nvidia-smi") as told:
        make_engine("auto", network, data, run.training, card)
    assert "\n" not in str(told.value)
    assert "slower" not in caplog.text


def test_unknown_or_impossible_engines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MemnbError, match="must be one of auto, eager, captured, graph"):
        train(tiny(), tmp_path, device="cpu", engine="turbo")
    with pytest.raises(MemnbError, match="needs a CUDA device"):
        train(tiny(), tmp_path, device="cpu", engine="graph")


def test_deterministic_mode_is_recorded_and_leaves_no_trace(tmp_path: Path) -> None:
    record = train(tiny(), tmp_path, device="cpu", deterministic=True)
    assert record["outcome"] == "finished"
    assert record["deterministic"] is True
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_a_batch_in_parts_makes_the_same_step() -> None:
    run = tiny().but(model=tiny().model.but(dropout=0.0).model_dump())
    data = tasks.load(run.task)
    found = []
    for parts in (1, 2, 8):
        torch.manual_seed(0)
        network = Network(run.model, run.task).double()
        engine = Engine(network, data, run.training, choose_device("cpu"), parts)
        engine.train(EpochSampler(len(data.train), run.training.batch, 0).take(5))
        found.append((engine.report(), network.state_dict()))
    (expected, weights_of_whole), *others = found
    for report, weights_of_parts in others:
        assert report == pytest.approx(expected)
        for name, value in weights_of_whole.items():
            # Adam's first steps magnify the rounding of gradients that are nearly zero.
            torch.testing.assert_close(weights_of_parts[name], value, rtol=1e-3, atol=1e-6)


def test_parts_that_do_not_divide_the_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MemnbError, match="batch of 16 cannot be split into 3 equal parts"):
        train(tiny(), tmp_path, device="cpu", accumulate=3)


def test_out_of_memory_offers_the_same_batch_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    for where in ("train", "__init__"):  # on CUDA, capturing the step is what needs most
        with monkeypatch.context() as patch:
            patch.setattr(Engine, where, full)
            record = train(tiny(), tmp_path, device="cpu")
        assert record["outcome"] == "failed"
        assert "--accumulate 2" in record["reason"]
    assert train(tiny(), tmp_path, device="cpu", accumulate=2)["outcome"] == "finished"


@pytest.mark.parametrize(
    ("batch", "parts", "advice"),
    [(8, 2, "--accumulate 4"), (6, 2, "--accumulate 3"), (8, 8, "memory; use a device with more")],
)
def test_out_of_memory_offers_only_parts_that_divide_the_batch(
    batch: int, parts: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    run = tiny(batch=batch)
    monkeypatch.setattr(Engine, "train", full)
    assert advice in train(run, tmp_path, device="cpu", accumulate=parts)["reason"]


def test_data_that_do_not_fit_are_not_said_to_fit_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(loop.tasks, "load", full)
    reason = train(tiny(), tmp_path, device="cpu")["reason"]
    assert reason == "out of memory before the first batch; use a device with more memory"
