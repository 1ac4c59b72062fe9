"""docs/own.md: its Python runs as it stands, with fewer and shorter runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from memnb import config, paths
from memnb.cli import main
from memnb.evidence import known_data, load_causal, load_runs

PAGE = (Path(__file__).parents[1] / "docs" / "own.md").read_text(encoding="utf-8")
TASKS = ("listops-short", "pathfinder-short", "text-short")


def blocks(heading: str) -> list[str]:
    """The Python below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps on a few examples, still the protocol of the task; files go where the test is."""
    few = {"train": 64, "test": 16}
    for name in TASKS:
        task = config.TASKS[name].but(**few if name == "text-short" else {**few, "validation": 16})
        monkeypatch.setitem(config.TASKS, name, task)
        short = config.run.TRAINING[name].but(steps=2, evaluate_every=1, batch=8)
        monkeypatch.setitem(config.run.TRAINING, name, short)
    # Fewer examples are other data than the study's.
    monkeypatch.setattr(known_data, "load", dict)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_memory_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block, script = blocks("A memory")
    Path("my_memory.py").write_text(block, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "my_memory", raising=False)
    assert main(["verify-block", "my_memory.py"]) == 0
    exec(script, {})
    runs = load_runs(paths.runs())
    assert set(runs["model"]) == {"mean-16"}
    assert set(runs["outcome"]) == {"finished"}
    assert sorted(runs["seed"]) == [0, 0, 1, 1, 2, 2]
    assert set(runs["preset"]) == {"quick"}, "the pages show it"
    assert {"mean", "swap"} <= set(load_causal(runs)["test"])


def test_settings(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = blocks("Settings")
    before = blocks("A memory")[1].split("for seed")[0].replace("import my_memory", "")
    exec(before + script, {})
    assert "filter_width" in capsys.readouterr().out
    assert Path("widths.png").is_file()


def type_in(commands: str) -> None:
    """Commands, as short as they can be."""
    shorter = {"train": ["--set", "training.steps=2"], "sweep": ["--dry-run"]}
    for line in commands.splitlines():
        words = line.partition("#")[0].replace("training.steps=300", "training.warmup=2").split()
        assert main([*words[1:], *shorter.get(words[1], [])]) == 0


def test_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "cache"))
    add, save, look = blocks("Data")
    known: dict[str, object] = {}
    exec(add, known)
    exec(save, known)
    said = capsys.readouterr().out
    section = PAGE.split("\n## Data\n")[1].split("\n## ")[0]
    texts, arrays = re.findall(r"^```\n(memnb .*?)^```$", section, re.DOTALL | re.MULTILINE)
    Path("reviews.csv").write_text("text,label\n" + "fine,good\nawful,bad\n" * 10)
    type_in(texts)
    assert "Labels: 0 = bad, 1 = good." in capsys.readouterr().out
    type_in(arrays)
    assert capsys.readouterr().out.startswith(said), "the file holds the same data"
    exec(look.replace('"steps": 300', '"steps": 2'), {})
    assert "birds" in capsys.readouterr().out
    runs = load_runs(paths.runs())
    assert sorted(runs["task"]) == ["own-birds", "own-birds", "own-birds", "own-reviews"]
    assert Path("curves.png").is_file()
    assert Path("memory.png").is_file()


def test_inside_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = blocks("Inside a model")
    exec(script, {})
    said = capsys.readouterr().out.replace("torch.Size([", "(").replace("])", ")")
    for shape in re.findall(r"shape\)  # (\([\d, ]+\))", script):
        assert shape in said
