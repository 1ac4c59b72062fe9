"""The CUDA engine does what the plain loop does, only faster. Needs a CUDA device."""

from __future__ import annotations

import copy
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from kept_rows import keeping_rows

from memnb import config, tasks
from memnb.config import Run, run_config
from memnb.models.network import Network
from memnb.probes import degradation
from memnb.probes.row_removal import keeping_random_rows
from memnb.sweep import local
from memnb.train import cuda_graph
from memnb.train.cuda_graph import GraphEngine, make_engine
from memnb.train.device import Device, choose_device, deterministic_sums
from memnb.train.engine import Engine
from memnb.train.loop import train
from memnb.train.sampler import EpochSampler

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device, PyTorch finds none"
    ),
    pytest.mark.filterwarnings("default"),  # compilers of some versions warn of their own parts
]

FP32 = Device("cuda", "test", "fp32", "asked for by the test")
MODELS = ["transformer", "luna-1", "luna-16", "convluna-1", "convluna-16", "poolluna-16"]
BESIDE = [*config.CHUNK_MODELS, *config.CONTROLS]


def small(model: str, dropout: float = 0.0, seed: int = 0, **training: Any) -> Run:
    return run_config(
        model,
        "listops-short",
        seed,
        task_changes={"train": 400, "validation": 70, "test": 70},
        training_changes={"steps": 60, "evaluate_every": 20, "batch": 16, **training},
        model_changes={"dropout": dropout},
    )


def engine_of(kind: type[Engine], run: Run, device: Device) -> Engine:
    torch.manual_seed(run.seed)
    network = Network(run.model, run.task)
    return kind(network, tasks.load(run.task), run.training, device)


def losses(engine: Engine, run: Run, steps: int) -> list[float]:
    sampler = EpochSampler(400, run.training.batch, run.seed)
    found = []
    for _ in range(steps):
        engine.train(sampler.take(1))
        found.append(engine.report()[0])
    return found


@pytest.mark.parametrize("model", [*MODELS, *BESIDE])
def test_fp32_losses_equal_those_of_the_plain_loop(model: str) -> None:
    run = small(model)
    torch.backends.cuda.matmul.allow_tf32 = False
    plain = engine_of(Engine, run, FP32)
    graph = engine_of(GraphEngine, run, FP32)
    expected, got = losses(plain, run, 100), losses(graph, run, 100)
    # Where two positions of a pooling window nearly tie, rounding decides which one learns.
    # Linformer sums whole sequences; its losses come to differ by 2.5e-5 after 80 steps.
    loose = "pool" in model or "linformer" in model
    assert got == pytest.approx(expected, rel=1e-4 if loose else 1e-5)
    loss, accuracy = graph.evaluate(graph.validation)
    plain_loss, plain_accuracy = plain.evaluate(plain.validation)
    assert loss == pytest.approx(plain_loss, rel=1e-4)
    assert accuracy == pytest.approx(plain_accuracy, abs=1.5 / 70)


@pytest.mark.parametrize("symbols", [300, 3000])  # of both ways to look them up
def test_data_of_ones_own_are_trained_as_in_the_plain_loop(
    symbols: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path))
    random = torch.Generator().manual_seed(0)
    lines = torch.randint(1, symbols + 1, (500, 30), generator=random).numpy()
    lines[0, 0] = symbols
    tasks.add("many", lines, torch.arange(500).remainder(4).numpy())
    run = run_config("convluna-16", "own-many", training_changes={"batch": 16})
    torch.backends.cuda.matmul.allow_tf32 = False
    plain, graph = engine_of(Engine, run, FP32), engine_of(GraphEngine, run, FP32)
    assert graph.train_split.inputs.dtype == torch.int16
    assert losses(graph, run, 60) == pytest.approx(losses(plain, run, 60), rel=1e-4)
    loss, _ = graph.evaluate(graph.validation)
    assert loss == pytest.approx(plain.evaluate(plain.validation)[0], rel=1e-4)


@pytest.mark.parametrize("model", ["luna-16", "chunkmem-16", "convrmt-16"])
def test_with_rows_left_out_it_scores_as_the_plain_loop_does(model: str) -> None:
    run = small(model)
    torch.backends.cuda.matmul.allow_tf32 = False
    plain, graph = engine_of(Engine, run, FP32), engine_of(GraphEngine, run, FP32)
    keep = torch.arange(16, device="cuda") < 4
    with keeping_rows(plain.network, keep), keeping_rows(graph.network, keep):
        expected = plain.evaluate_eagerly(plain.test)
        assert graph.evaluate_eagerly(graph.test) == pytest.approx(expected, rel=1e-4)
    one, other = (keeping_random_rows(engine.network, 4, seed=0) for engine in (plain, graph))
    with one, other:
        theirs, ours = (engine.evaluate_eagerly(engine.test) for engine in (plain, graph))
    assert ours[0] != pytest.approx(expected[0], rel=1e-6)
    if not graph.network.is_faster_on_short:  # else they score in another order
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert graph.evaluate_eagerly(graph.test)[0] == pytest.approx(graph.evaluate(graph.test)[0])
    assert graph.evaluate_eagerly(graph.test)[0] != pytest.approx(expected[0], rel=1e-6)


@pytest.mark.parametrize("model", ["luna-1", "convluna-16", "convchunkmem-16"])
@pytest.mark.parametrize("weights", [2**24, 1])
def test_measures_of_the_memory_are_those_of_the_cpu(
    model: str, weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degradation, "WEIGHTS_ON_GPU", weights)  # all samples at once, or one
    run = small(model)
    torch.manual_seed(0)
    network = Network(run.model, run.task)
    split = tasks.load(run.task).validation
    given = [torch.from_numpy(part[:8]) for part in (split.inputs, split.lengths, split.labels)]
    expected = degradation.measure(network, *given)
    torch.backends.cuda.matmul.allow_tf32 = False
    found = degradation.measure(network.cuda(), *(part.cuda() for part in given))
    for ours, theirs in zip(found, expected, strict=True):
        assert known(ours) == pytest.approx(known(theirs), rel=1e-3, abs=1e-5)


def known(measures: dict[str, Any]) -> dict[str, float]:
    """Those that have a meaning; with the others, pytest.approx finds no number to compare."""
    return {name: value for name, value in measures.items() if value is not None}


def test_without_a_compiler_plain_steps_are_captured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", broken)
    run = small("convluna-16")
    torch.manual_seed(0)
    network = Network(run.model, run.task)
    engine = make_engine("auto", network, tasks.load(run.task), run.training, FP32)
    assert engine.kind == "captured"
    assert "no compiler here" in caplog.text
    assert losses(engine, run, 20) == pytest.approx(
        losses(engine_of(Engine, run, FP32), run, 20), rel=1e-5
    )


def test_where_the_compiler_changes_the_model_plain_steps_are_captured(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cuda_graph, "changed_by_compiling", lambda _: "a gradient is off by 100%")
    run = small("convluna-16")
    network = Network(run.model, run.task)
    engine = make_engine("auto", network, tasks.load(run.task), run.training, FP32)
    assert engine.kind == "captured"
    assert "a gradient is off by 100%" in caplog.text


def test_where_capture_fails_too_the_plain_loop_trains(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no capture here")

    monkeypatch.setattr(GraphEngine, "_capture_training", broken)
    run = small("luna-16")
    engine = make_engine(
        "auto", Network(run.model, run.task), tasks.load(run.task), run.training, FP32
    )
    assert engine.kind == "eager"
    assert caplog.text.count("no capture here") == 2


def test_accumulated_parts_make_the_same_step() -> None:
    run = small("luna-16")
    torch.manual_seed(0)
    whole, parts = (
        make_engine(
            "graph", copy.deepcopy(network), tasks.load(run.task), run.training, FP32, count
        )
        for network in [Network(run.model, run.task)]
        for count in (1, 4)
    )
    assert losses(parts, run, 20) == pytest.approx(losses(whole, run, 20), rel=1e-5)


def test_bf16_losses_stay_close_to_fp32() -> None:
    run = small("convluna-16")
    device = choose_device("cuda")
    if device.precision != "bf16":
        pytest.skip(f"needs bf16: {device.reason}")
    fp32 = losses(engine_of(GraphEngine, run, FP32), run, 60)
    bf16 = losses(engine_of(GraphEngine, run, device), run, 60)
    assert bf16 == pytest.approx(fp32, rel=0.05)


def test_capture_undoes_its_warm_up() -> None:
    run = small("luna-16", dropout=0.1)
    torch.manual_seed(0)
    fresh = Network(run.model, run.task)
    engine = engine_of(GraphEngine, run, FP32)
    for (name, one), two in zip(fresh.named_parameters(), engine.network.parameters(), strict=True):
        assert torch.equal(one, two.cpu()), name
    for moments in engine.optimizer.state.values():
        assert all(not value.any() for value in moments.values())


def trained(
    kind: type[Engine], run: Run, device: Device, steps: int, sampler: EpochSampler
) -> Engine:
    engine = engine_of(kind, run, device)
    engine.train(sampler.take(steps))
    return engine


def weights(engine: Engine) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in engine.network.parameters()])


def precisions() -> list[Device]:
    best = choose_device("cuda")
    return [FP32] if best.precision == "fp32" else [FP32, best]


@pytest.mark.parametrize("kind", [Engine, GraphEngine])
@pytest.mark.parametrize("model", ["luna-1", "luna-16", "convluna-1", "convluna-16"])
def test_models_with_few_rows_repeat_bit_for_bit(kind: type[Engine], model: str) -> None:
    # At the shape of the full protocol: with n * M <= H no attention kernel is used.
    run = small(model, dropout=0.1).but(
        model=config.model_config(model, "listops", blocks=2).model_dump()
    )
    for device in precisions():
        one, two = (
            trained(kind, run, device, 30, EpochSampler(400, run.training.batch, 0))
            for _ in range(2)
        )
        assert torch.equal(weights(one), weights(two)), device.precision


@pytest.mark.parametrize(
    "model",
    ["transformer", "luna-16", "convluna-16", "poolluna-16", "convchunkmem-16", "convrmt-16"],
)
def test_deterministic_mode_repeats_every_model_bit_for_bit(model: str) -> None:
    run = small(model, dropout=0.1)
    with deterministic_sums(True):
        for device in precisions():
            one, two = (
                trained(GraphEngine, run, device, 30, EpochSampler(400, run.training.batch, 0))
                for _ in range(2)
            )
            assert torch.equal(weights(one), weights(two)), device.precision


@pytest.mark.parametrize("kind", [Engine, GraphEngine])
def test_a_restored_engine_goes_on_bit_for_bit(kind: type[Engine]) -> None:
    run = small("convluna-16", dropout=0.1)
    with deterministic_sums(True):
        for device in precisions():
            whole, first, second = (EpochSampler(400, run.training.batch, 0) for _ in range(3))
            expected = weights(trained(kind, run, device, 40, whole))
            half = trained(kind, run, device, 20, first)
            state = half.state()
            second.restore(first.state())
            fresh = engine_of(kind, run.but(seed=5), device)
            fresh.restore(state)
            fresh.train(second.take(20))
            assert torch.equal(weights(fresh), expected), device.precision


@pytest.mark.timeout(600)
def test_final_accuracies_agree_with_the_plain_loop_over_seeds(tmp_path: Path) -> None:
    best = choose_device("cuda")
    found: dict[str, list[float]] = {"eager": [], "graph": []}
    for engine, accuracies in found.items():
        for seed in range(5):
            run = run_config(
                "luna-1", "listops-short", seed, task_changes={"min_length": 20, "max_length": 100}
            )
            record = train(run, tmp_path / engine / run.run_id, device="cuda", engine=engine)
            assert record["outcome"] == "finished"
            accuracies.append(record["test_accuracy"])
    print(best.reason, found)
    means = [statistics.mean(each) for each in found.values()]
    spread = max(statistics.stdev(each) for each in found.values())
    assert min(means) > 0.2, "both have learned something"
    assert abs(means[0] - means[1]) < 2 * spread * (2 / 5) ** 0.5 + 0.01


def test_the_sweep_finds_mps_where_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("nvidia-cuda-mps-control") is None:
        pytest.skip("needs NVIDIA's MPS, whose nvidia-cuda-mps-control is not here")
    places = {"CUDA_MPS_PIPE_DIRECTORY": tmp_path / "pipe", "CUDA_MPS_LOG_DIRECTORY": tmp_path}
    for name, folder in places.items():
        monkeypatch.setenv(name, str(folder))
    before = local.look("cuda")
    assert (before.mps, before.jobs) == (False, 2 * len(before.cards))
    (tmp_path / "pipe").mkdir()
    subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True, timeout=60)
    try:
        under = local.look("cuda")
    finally:
        subprocess.run(["nvidia-cuda-mps-control"], input="quit\n", text=True, timeout=60)
    assert (under.mps, under.jobs) == (True, 3 * len(under.cards))
