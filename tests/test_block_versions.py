"""A run of a user's block is of one version of that block."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from memnb import runs
from memnb.config import Run, run_config
from memnb.errors import RunError
from memnb.models import registry
from memnb.train.loop import train

BLOCK = """
from torch import nn
from memnb.models.registry import register

@register("mine")
class Mine(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.map = nn.Linear(model.width, model.width)

    def forward(self, x, memory, mask):
        memory = memory + self.map(x).mean(1, keepdim=True)
        return x + SCALE * memory.mean(1, keepdim=True), memory
"""


@pytest.fixture(autouse=True)
def _another_module_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", json)


def offer(folder: Path, scale: str) -> None:
    """Register the block from a file of its own, as a script or a package does."""
    file = folder / "mine.py"
    file.write_text(BLOCK.replace("SCALE", scale), encoding="utf-8")
    runpy.run_path(str(file), run_name="mine")


def tiny() -> Run:
    return run_config(
        "mine-4", "listops-short",
        task_changes={"min_length": 4, "max_length": 20, "train": 64, "validation": 32, "test": 32},
        training_changes={"steps": 8, "batch": 8, "evaluate_every": 4, "warmup": 2},
        model_changes={"width": 16, "mlp": 16},
    )  # fmt: skip


def in_a_notebook(source: str) -> str | None:
    shell = InteractiveShell.instance()
    result = shell.run_cell(source, store_history=True)
    result.raise_error()
    return registry.fingerprint("mine")


def test_a_changed_block_does_not_get_the_result_of_the_one_before(tmp_path: Path) -> None:
    offer(tmp_path, "1.0")
    first = train(tiny(), tmp_path / "run", device="cpu")
    assert first["outcome"] == "finished"
    assert train(tiny(), tmp_path / "run", device="cpu") == first, "the same block: nothing to do"
    offer(tmp_path, "2.0")
    with pytest.raises(RunError, match=r"another version of the block 'mine'.*memnb runs remove"):
        train(tiny(), tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == first, "nothing was lost"


def test_a_run_is_not_asked_again_with_another_version_of_its_block(tmp_path: Path) -> None:
    offer(tmp_path, "1.0")
    train(tiny(), tmp_path / "run", device="cpu")
    (tmp_path / "run" / "lengths.jsonl").unlink()
    offer(tmp_path, "2.0")
    with pytest.raises(RunError, match="another version of the block 'mine'"):
        runs.examine(tmp_path / "run", "cpu")
    assert not (tmp_path / "run" / "lengths.jsonl").exists()
    offer(tmp_path, "1.0")
    assert runs.examine(tmp_path / "run", "cpu") == ["lengths.jsonl"]


def test_a_changed_block_does_not_go_on_with_a_run_of_the_one_before(tmp_path: Path) -> None:
    offer(tmp_path, "1.0")
    asked = iter([False, False, True])
    begun = train(tiny(), tmp_path / "run", device="cpu", should_stop=lambda: next(asked, True))
    assert begun["outcome"] == "interrupted"
    offer(tmp_path, "2.0")
    with pytest.raises(RunError, match="another version"):
        train(tiny(), tmp_path / "run", device="cpu")
    offer(tmp_path, "1.0")
    assert train(tiny(), tmp_path / "run", device="cpu")["outcome"] == "finished"


def test_a_cell_that_is_run_again_is_the_same_block_and_a_changed_one_another() -> None:
    first = in_a_notebook(BLOCK.replace("SCALE", "1.0"))
    assert first is not None
    assert in_a_notebook(BLOCK.replace("SCALE", "1.0")) == first
    assert in_a_notebook(BLOCK.replace("SCALE", "2.0")) not in (first, None)


def test_memnbs_own_models_have_memnbs_version() -> None:
    assert registry.fingerprint("luna") is None
