"""Blocks of one's own: registered by name, checked, and told exactly what is wrong with them."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memnb import build_model, config
from memnb.cli import main
from memnb.errors import MemnbError
from memnb.models import registry
from memnb.models.blocks import Trace
from memnb.models.registry import register
from memnb.probes import causal
from memnb.probes.attention_maps import attention_maps
from memnb.probes.degradation import measure
from memnb.probes.row_removal import accuracy_by_rows_left
from memnb.train import bench, verify
from memnb.train.loop import train

ROOT = Path(__file__).parents[1]


class Gated(nn.Module):
    """A sound block in a few lines: the memory takes in the mean, x takes the memory's mean."""

    def __init__(self, model: config.Model) -> None:
        super().__init__()
        self.write, self.read = (nn.Linear(model.width, model.width) for _ in range(2))
        self.norm = nn.LayerNorm(model.width)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]:
        weight = torch.ones_like(x[:, :, :1]) if mask is None else mask[:, :, None].to(x.dtype)
        mean = (self.write(x) * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)
        memory = (memory + mean).tanh()
        return self.norm(x + self.read(memory).mean(1, keepdim=True)), memory


def failures(block: type[nn.Module]) -> dict[str, str]:
    register("mine")(block)
    return {check.name: check.detail for check in verify.verify("mine") if not check.passed}


@pytest.mark.parametrize("time", ["first", "second"])
def test_what_a_test_registers_is_unknown_to_the_next(time: str) -> None:
    assert "mine" not in config.own_families(), time
    with pytest.raises(MemnbError, match="no block named 'mine'"):
        registry.own_block("mine")
    register("mine")(Gated)


def test_a_sound_block_passes_every_check() -> None:
    assert failures(Gated) == {}


def test_dropout_of_its_own_is_off_in_evaluation_and_drawn_by_the_seed_in_training() -> None:
    class Dropping(Gated):
        def __init__(self, model: config.Model) -> None:
            super().__init__(model)
            self.dropout = nn.Dropout(0.5)

        def forward(self, *given: Any) -> tuple[Tensor, ...]:
            x, memory = super().forward(*given)
            return self.dropout(x), memory

    assert failures(Dropping) == {}


@pytest.mark.parametrize(
    "family", ["transformer", "convluna", "convchunkmem", "rmt", "linformer", "memoryless"]
)
def test_memnbs_own_blocks_pass_every_check(family: str) -> None:
    assert [check.detail for check in verify.verify(family) if not check.passed] == []


def measured(block: type[nn.Module], **changes: Any) -> list[dict[str, Any]]:
    """What the probes say of a small model of this block with 4 rows of memory."""
    register("mine")(block)
    torch.manual_seed(0)
    network = build_model("mine-4", "recall-4", **changes)
    inputs = torch.randint(1, 4, (3, network.task.max_length))
    lengths = torch.full((3,), network.task.max_length)
    return measure(network, inputs, lengths, torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize(
    ("packed", "rank"),
    [
        pytest.param(lambda memory: memory[:, :2], 2, id="fewer rows"),
        pytest.param(lambda memory: memory[:, :1], None, id="a single row"),
        pytest.param(lambda memory: memory / 0.0, None, id="no numbers"),
    ],
)
def test_what_a_block_packs_is_measured_whatever_it_is(
    packed: Callable[[Tensor], Tensor], rank: int | None, chunk: int
) -> None:
    class Packing(Gated):
        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            x, memory = super().forward(*given)
            return x, memory, packed(memory)

    for row in measured(Packing, chunk=chunk):
        assert row["packed_rank"] is None if rank is None else 1 <= row["packed_rank"] <= rank
        assert 1 <= row["memory_rank"] <= 4


@pytest.mark.parametrize("chunk", [0, 2])
def test_a_memory_that_is_cut_off_from_the_loss_has_no_gradient(chunk: int) -> None:
    class Detached(Gated):
        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            x, memory = super().forward(*given)
            return x, memory.detach()

    for row in measured(Detached, chunk=chunk):
        assert row["memory_gradient"] is None
        assert 1 <= row["memory_rank"] <= 4


def test_a_registered_block_is_a_model_like_all_others(tmp_path: Path) -> None:
    register("mine")(Gated)
    assert "mine-16" in config.list_models()
    run = config.run_config(
        "mine-4",
        "recall-4",
        task_changes={"train": 40, "validation": 10, "test": 10},
        training_changes={"steps": 4, "batch": 4, "evaluate_every": 2},
    )
    assert run.model.name == "mine-4"
    record = train(run, tmp_path / "run", device="cpu")
    assert record["outcome"] == "finished", record["reason"]
    rows = [json.loads(line) for line in (tmp_path / "run/probes.jsonl").read_text().splitlines()]
    assert rows[-1]["packed_rank"] >= 1
    assert rows[-1]["unpack_entropy"] is None
    measured = bench.measure("step", run, "cpu", repeats=2, seconds=0.01)
    assert (measured.model, measured.outcome) == ("mine-4", "measured")
    assert measured.operations is not None


def test_probes_measure_the_rows_that_a_block_shows() -> None:
    class Showing(Gated):
        def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None):  # type: ignore[override]
            x, memory = super().forward(x, memory, mask)
            return x, memory, memory[:, :1].expand_as(memory) + 0 * memory

    register("showing")(Showing)
    network = build_model("showing-4", "listops-short", width=16, mlp=8)
    inputs = torch.randint(1, 16, (2, 20), dtype=torch.uint8)
    lengths, labels = torch.tensor([20, 9]), torch.tensor([1, 2])
    found = measure(network, inputs, lengths, labels)
    assert [row["packed_cosine"] for row in found] == [pytest.approx(1.0, abs=1e-5)] * 2
    assert found[0]["memory_cosine"] < 0.99
    assert attention_maps(network, inputs[0], lengths[0], labels[0]) == {}
    assert accuracy_by_rows_left(network, lambda: 0.5, seed=0) == [], "it cannot leave rows out"


class Meddled(nn.Module):
    """A block that lets the causal tests change and hide what it packed."""

    edit_packed: Callable[[Tensor], Tensor] | None = None
    keep_rows: Tensor | None = None

    def __init__(self, model: config.Model) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(model.width)

    def forward(
        self, x: Tensor, memory: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        scores = memory @ x.mT
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], -math.inf)
        packed = scores.softmax(-1) @ x
        if self.edit_packed is not None:
            packed = self.edit_packed(packed)
        reading = x @ packed.mT
        if self.keep_rows is not None:
            reading = reading.masked_fill(~self.keep_rows[..., None, :], -math.inf)
        return self.norm(x + reading.softmax(-1) @ packed), memory + packed, packed


def test_a_block_that_allows_it_is_asked_by_the_causal_tests() -> None:
    assert failures(Meddled) == {}
    network = build_model("mine-4", "listops-short", width=16, mlp=8).eval()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(1, 16, (6, 20), dtype=torch.uint8, generator=generator)
    lengths, labels = torch.full((6,), 20), torch.arange(6)
    before = network(inputs, lengths)
    found = causal.causal_tests(network, inputs, lengths, labels, seed=0)
    assert [(row["test"], row["rule"], row["kept"]) for row in found] == [
        ("intact", "", 4),
        ("remove", "random", 2),
        ("remove", "random", 1),
        *((test, "", 4) for test in ("shuffle", "mean", "freeze", "swap")),
    ]
    assert torch.equal(network(inputs, lengths), before), "the tests leave nothing behind"
    trace: list[Trace] = []
    writers = [block.block for block in network.encoder.blocks]
    with causal.editing(writers, causal.mean_row):
        network(inputs, lengths, trace)
    assert all(torch.equal(block.packed[:, 0], block.packed[:, 1]) for block in trace)
    assert [row["kept"] for row in accuracy_by_rows_left(network, lambda: 0.5, seed=0)] == [4, 2, 1]


def ignoring(name: str) -> type[nn.Module]:
    """A block that has the attribute and never looks at it."""

    class Ignoring(Meddled):
        def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None):  # type: ignore[no-untyped-def]
            given = getattr(self, name)
            setattr(self, name, None)
            try:
                return super().forward(x, memory, mask)
            finally:
                setattr(self, name, given)

    return Ignoring


@pytest.mark.parametrize("name", ["edit_packed", "keep_rows"])
def test_a_block_that_only_seems_to_allow_it_fails(name: str) -> None:
    assert f"has {name}, but" in failures(ignoring(name))["causal tests"]


def test_a_block_that_allows_nothing_is_asked_nothing() -> None:
    register("mine")(Gated)
    network = build_model("mine-4", "listops-short", width=16, mlp=8).eval()
    inputs = torch.ones(2, 5, dtype=torch.uint8)
    asked = inputs, torch.full((2,), 5), torch.arange(2)
    assert causal.causal_tests(network, *asked, seed=0) == []
    register("chunky")(Meddled)
    network = build_model("chunky-4", "listops-short", width=16, mlp=8, chunk=2).eval()
    assert causal.causal_tests(network, *asked, seed=0) == [], "not between chunks"


def test_a_block_may_work_chunk_by_chunk() -> None:
    register("mine")(Gated)
    network = build_model(
        "mine-4", "listops-short", width=16, mlp=8, chunk=8, reading="as_intended"
    ).eval()
    inputs = torch.randint(1, 16, (2, 20), dtype=torch.uint8)
    scores = network(inputs, torch.tensor([20, 9]))
    torch.testing.assert_close(scores[1:], network(inputs[1:, :9], torch.tensor([9])))


def test_a_name_without_a_size_has_no_memory() -> None:
    class Plain(nn.Module):
        def __init__(self, model: config.Model) -> None:
            super().__init__()
            self.linear = nn.Linear(model.width, model.width)

        def forward(self, x: Tensor, memory: None, mask: Tensor | None) -> tuple[Tensor, None]:
            return x + self.linear(x), memory

    register("plain")(Plain)
    network = build_model("plain", "listops-short")
    assert network.model.memory == 0
    assert network(torch.ones(2, 5, dtype=torch.uint8)).shape == (2, 10)


# --- what is wrong with a block --------------------------------------------------------------


class WrongShape(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return super().forward(x, memory, mask)[0], memory[:, :1]


class NoTuple(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return x


class Detached(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        x, after = super().forward(x, memory, mask)
        return x, after.detach() + 0 * memory


class NoMask(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return super().forward(x, memory, None)


class Restless(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return super().forward(x + 1e-3 * torch.randn_like(x), memory, mask)


class Counting(Gated):
    calls = 0

    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        self.calls += 1
        return super().forward(x * (1 + 0.001 * self.calls), memory, mask)


class OverTheBatch(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return super().forward(x - x.mean(0, keepdim=True), memory, mask)


class Idle(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return super().forward(x, memory, mask)[0], memory


class Branching(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return super().forward(x if x.sum().item() > 1e9 else 2 * x, memory, mask)


@pytest.mark.parametrize(
    ("block", "check", "said"),
    [
        (WrongShape, "shapes", "given memory of shape (3, 5, 16) and must return it in the same"),
        (NoTuple, "shapes", "must return (x, memory) or (x, memory, packed), but returned a Tens"),
        (Detached, "gradients", "finite differences say"),
        (NoMask, "masking", "x at the tokens must not depend on what stands at padding"),
        (Restless, "determinism", "in evaluation, two calls differ in x"),
        (Counting, "resume", "does the block keep a state outside its parameters and buffers?"),
        (OverTheBatch, "samples apart", "x of sample 0 alone must equal it in a batch of 3"),
        (Idle, "memory used", "another x leaves the memory that comes back as it was"),
        (Branching, "one graph", "torch.compile cannot take the block as one graph"),
    ],
)
def test_a_broken_expectation_is_named(block: type[nn.Module], check: str, said: str) -> None:
    found = failures(block)
    assert said in found[check]
    assert "input: x (3, 24, 16)" in found[check] or "run: " in found[check] or check == "shapes"


def test_a_wrong_answer_is_one_sentence_in_training_too() -> None:
    register("mine")(WrongShape)
    with pytest.raises(MemnbError, match=r"returned \(2, 1, 32\)"):
        build_model("mine-4", "listops-short")(torch.ones(2, 5, dtype=torch.uint8))


# --- exceptions of a block's -----------------------------------------------------------------


class NoFile(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return Path("/nowhere/weights").read_text()


class FailsInEvaluation(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        if not self.training:
            raise ValueError("no such mode")
        return super().forward(x, memory, mask)


class Leaving(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        raise SystemExit(3)


class Unfinished(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        raise NotImplementedError


def short_run(name: str) -> config.Run:
    return config.run_config(
        name,
        "recall-4",
        task_changes={"train": 40, "validation": 10, "test": 10},
        training_changes={"steps": 4, "batch": 4, "evaluate_every": 2},
    )


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (NoFile, "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/weights'"),
        (FailsInEvaluation, "ValueError: no such mode"),
        (Leaving, "SystemExit: 3"),
        (Unfinished, "NotImplementedError"),
    ],
)
def test_an_exception_is_one_sentence_that_names_the_line(
    block: type[nn.Module], said: str, tmp_path: Path
) -> None:
    register("mine")(block)
    with pytest.raises(MemnbError) as caught:
        train(short_run("mine-4"), tmp_path / "run", device="cpu")
    sentence = str(caught.value)
    line = (
        Path(__file__).read_text().splitlines()[int(sentence.split("line ")[1].split(")")[0]) - 1]
    )
    assert sentence.startswith(f"The block 'mine' raised {said} (test_own_blocks.py, line ")
    assert sentence.endswith("; mend it.")
    assert "raise " in line or "read_text()" in line
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.cuda.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: no memory")],
)
def test_a_block_that_runs_out_of_memory_is_a_run_that_does(
    error: Exception, tmp_path: Path
) -> None:
    class Large(Gated):
        def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
            raise error

    register("mine")(Large)
    record = train(short_run("mine-4"), tmp_path / "run", device="cpu")
    assert record["outcome"] == "failed"
    assert "out of memory" in record["reason"]


def test_a_block_that_needs_a_memory_asks_for_a_size_in_the_name() -> None:
    register("mine")(Gated)
    with pytest.raises(MemnbError, match=r"raised TypeError.*a memory size, as in 'mine-16'"):
        build_model("mine", "listops-short")(torch.ones(2, 5, dtype=torch.uint8))


def test_sizes_that_are_left_open_are_refused() -> None:
    class Lazy(Gated):
        def __init__(self, model: config.Model) -> None:
            super().__init__(model)
            self.write = nn.LazyLinear(model.width)  # type: ignore[assignment]

    register("mine")(Lazy)
    with pytest.raises(MemnbError, match=r"'write\.weight' has no size yet; give it one"):
        build_model("mine-4", "listops-short")


class Late(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        if not hasattr(self, "late"):
            self.late = nn.Parameter(torch.ones(x.shape[2], dtype=x.dtype))
        return super().forward(x * self.late, memory, mask)


class InPlace(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        x += 1
        return super().forward(x, memory, mask)


class MemoryInPlace(Gated):
    def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
        return super().forward(x, memory.mul_(0.5), mask)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (Late, "'late' is made or removed by the block's first call"),
        (InPlace, "the block changes its input x in place"),
        (MemoryInPlace, "the block changes its input memory in place"),
        (NoFile, "FileNotFoundError: [Errno 2]"),
        (Leaving, "SystemExit: 3 (test_own_blocks.py, line "),
        (Unfinished, "NotImplementedError (test_own_blocks.py, line "),
    ],
)
def test_one_fault_is_told_once(block: type[nn.Module], said: str) -> None:
    register("mine")(block)
    first, *others = verify.verify("mine")
    assert (first.name, first.passed, first.asked) == ("shapes", False, True)
    assert said in first.detail
    assert {(each.passed, each.asked) for each in others} == {(False, False)}
    assert {each.detail for each in others} == {"not asked, since 'shapes' failed"}


def test_a_result_comes_before_the_next_check_is_run() -> None:
    calls = []

    class Counted(Gated):
        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            calls.append(given)
            return super().forward(*given)

    register("mine")(Counted)
    results = verify.verify("mine")
    assert next(results).name == "shapes"
    before = len(calls)
    assert next(results).name == "samples apart"
    assert len(calls) > before


def test_a_block_that_nobody_knows_is_no_list_of_failures() -> None:
    with pytest.raises(MemnbError, match="no model named 'elsewhere'"):
        verify.verify("elsewhere")


def test_the_memory_size_in_the_name_is_the_one_that_is_verified() -> None:
    class ThreeRows(Gated):
        def forward(self, x, memory, mask):  # type: ignore[no-untyped-def, override]
            if memory.shape[1] != 3:
                raise ValueError("not three rows")
            return super().forward(x, memory, mask)

    register("mine")(ThreeRows)
    assert [check.detail for check in verify.verify("mine-3") if not check.passed] == []
    assert "not three rows" in next(verify.verify("mine")).detail
    assert verify.find_blocks("mine-3") == ["mine-3"]


class WithoutMemory(nn.Module):
    def __init__(self, model: config.Model) -> None:
        super().__init__()
        self.linear = nn.Linear(model.width, model.width)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None) -> tuple[Tensor, None]:
        return x + self.linear(x), None


def test_a_block_that_can_only_do_without_a_memory_is_verified_so() -> None:
    register("mine")(WithoutMemory)
    found = {check.name: check for check in verify.verify("mine")}
    assert [check.detail for check in found.values() if not check.passed] == []
    assert not found["memory used"].asked
    assert "can be called only without a memory; with 5 rows: " in found["memory used"].detail
    assert "returned NoneType" in found["memory used"].detail
    asked = next(verify.verify("mine-5"))
    assert not asked.passed, "who names a size wants it verified"


@pytest.mark.parametrize(
    ("name", "said"),
    [("luna", "memnb has a model named 'luna'"), ("My-Block", "one word of small letters")],
)
def test_impossible_names_are_refused(name: str, said: str) -> None:
    with pytest.raises(MemnbError, match=said):
        register(name)


def test_a_block_that_cannot_be_made_says_why() -> None:
    register("mine")(lambda model: nn.Linear(model.depth, 2))
    with pytest.raises(MemnbError, match="could not be made from its config"):
        build_model("mine-4", "listops-short")
    register("mine")(lambda model: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(MemnbError, match=r"must be a torch\.nn\.Module, but is a int"):
        build_model("mine-4", "listops-short")


def test_a_block_that_nobody_registered_is_refused() -> None:
    model = config.model_config("luna-4", "listops-short").but(kind="elsewhere")
    assert model.name == "elsewhere-4", "rows of blocks that are not here can be read and drawn"
    with pytest.raises(MemnbError, match="no block named 'elsewhere'"):
        registry.make_block(model, 10)


# --- entry points and the command line -------------------------------------------------------


@pytest.fixture
def _offered(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        offered = [
            importlib.metadata.EntryPoint("gated", "test_own_blocks:Gated", group),
            importlib.metadata.EntryPoint("broken", "test_own_blocks:Missing", group),
            importlib.metadata.EntryPoint("gated_slots", "test_own_blocks:Gated", group),
            importlib.metadata.EntryPoint("sized-16", "test_own_blocks:Gated", group),
            importlib.metadata.EntryPoint("luna", "test_own_blocks:Gated", group),
        ]
        return offered if group == config.ENTRY_POINTS else []

    monkeypatch.setattr(config.names, "entry_points", entry_points)
    monkeypatch.setattr(registry, "entry_points", entry_points)


@pytest.mark.usefixtures("_offered")
def test_a_package_offers_its_blocks_by_entry_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"gated-16", "broken-16"} <= set(config.list_models())
    assert build_model("gated-4", "listops-short").model.name == "gated-4"
    with pytest.raises(MemnbError, match=r"'broken' \(.*\) could not be imported"):
        build_model("broken-4", "listops-short")
    assert main(["models"]) == 0
    shown = capsys.readouterr()
    assert "gated-16          a block of your own" in shown.out
    assert "memnb: The block 'luna' that an installed package offers is refused" in shown.err
    assert len(shown.err.splitlines()) == 3


@pytest.mark.usefixtures("_offered")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "gated_slots-16",
            "the block 'gated_slots' that an installed package offers is refused, since a",
        ),
        ("gated_slots", "one word of small letters and digits; give its entry point another"),
        ("luna", "'luna' that an installed package offers is refused, since memnb has a model"),
    ],
)
def test_an_entry_point_that_is_refused_is_named(name: str, said: str) -> None:
    with pytest.raises(MemnbError, match=f"no model named '{name}'.*{said}"):
        config.model_config(name, "listops-short")
    assert not {"gated_slots", "sized-16", "luna"} & config.own_families()


def test_a_name_that_may_be_a_blocks_says_how_blocks_become_known() -> None:
    with pytest.raises(MemnbError, match=r"named 'wholly'.*entry point in the group memnb\.models"):
        config.model_config("wholly", "listops-short")
    with pytest.raises(MemnbError, match="did you mean 'luna-16'"):
        config.model_config("lunar-16", "listops-short")


FILE = """
import torch
from torch import nn
from memnb.models.registry import register

@register("fromfile")
class FromFile(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.linear = nn.Linear(model.width, model.width)

    def forward(self, x, memory, mask):
        return x + self.linear(x), memory
"""


def test_a_block_in_a_file_is_known_to_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my memory.py"
    file.write_text(FILE)
    monkeypatch.setenv("MEMNB_BLOCKS", f"fromfile={file}")
    assert main(["models"]) == 0
    assert "fromfile-16       a block of your own" in capsys.readouterr().out
    words = ["train", "fromfile-4", "recall-4", f"--out={tmp_path}", "--set", "training.steps=2"]
    small = ["task.train=40", "task.validation=10", "task.test=10", "training.batch=8"]
    # In a process of its own, which has run no file.
    command = [sys.executable, "-m", "memnb", *words]
    command += [word for setting in small for word in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["block"]
    assert main(["runs", "examine", run.name, f"--out={tmp_path}"]) == 0
    words = ["weights", "export", run.name, f"--out={tmp_path}", f"--to={tmp_path / 'weights'}"]
    assert main(words) == 0
    assert len(list((tmp_path / "weights").iterdir())) == 2


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ("my memory.py", "as mean=my_memory.py, but holds 'my memory.py'; put the name"),
        ("=my memory.py", "but holds '=my memory.py'"),
        ("luna=my memory.py", "memnb has a model named 'luna'"),
        ("From=my memory.py", "one word of small letters and digits, but got 'From'"),
        ("fromfile=elsewhere.py", "there is no such file; give its whole path"),
        ("other=my memory.py", "registers fromfile; correct the name"),
        ("other=empty.py", "registers no block; put @register"),
    ],
)
def test_a_file_of_blocks_that_cannot_be_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: str, said: str
) -> None:
    (tmp_path / "my memory.py").write_text(FILE)
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMNB_BLOCKS", blocks)
    with pytest.raises(MemnbError, match=re.escape(said)):
        build_model("other-4", "listops-short")


def test_several_files_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(FILE.replace('"fromfile"', f'"{name}"'))
        parts.append(f"{name}={tmp_path / name}.py")
    monkeypatch.setenv("MEMNB_BLOCKS", os.pathsep.join(["", *parts]))
    assert {"one-16", "two-16"} <= set(config.list_models())
    assert build_model("two-4", "listops-short").model.name == "two-4"
    assert build_model("one-4", "listops-short").model.name == "one-4"


def test_verify_block_reads_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my memory.py"
    file.write_text(FILE)
    assert main(["verify-block", str(file)]) == 1
    out = capsys.readouterr().out
    assert "fromfile:" in out
    assert "  ok      shapes: " in out
    assert "  FAILED  memory used: " in out
    assert "another memory" not in out.replace("another x", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "registers no block"),
        ("1 / 0\n", "could not be run (ZeroDivisionError"),
        ("raise SystemExit(0)\n", "could not be run (SystemExit: 0)"),
        (None, "There is no file"),
    ],
)
def test_files_without_a_block_are_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    assert main(["verify-block", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_a_file_named_like_a_module_of_python_leaves_that_alone(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text(FILE.replace("fromfile", "likerandom"))
    assert verify.find_blocks(str(tmp_path / "random.py")) == ["likerandom"]
    assert sys.modules["random"] is random


def test_verify_block_of_an_unknown_name_suggests_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-block", "lunna"]) == 2
    assert "no model named 'lunna'; did you mean 'luna-" in capsys.readouterr().err
