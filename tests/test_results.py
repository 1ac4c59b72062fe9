"""Results committed to data/results/: copied whole or not at all, never over another one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from made_up_runs import amend, write_run

from memnb.config import run_config
from memnb.errors import DataError, RunError
from memnb.evidence import results, rows


@pytest.mark.parametrize("outcome", ["finished", "failed"])
def test_commit_copies_results_and_no_weights(tmp_path: Path, outcome: str) -> None:
    source = write_run(tmp_path / "runs", outcome=outcome, weights=True)
    (source / "run.lock").touch()
    target = results.commit(source, tmp_path / "data" / "results")
    assert target == tmp_path / "data" / "results" / source.name
    expected = {name for name in rows.RESULT_FILES if (source / name).exists()}
    assert {path.name for path in target.iterdir()} == expected
    for name in expected:
        assert (target / name).read_bytes() == (source / name).read_bytes()
    frame = rows.load_runs(tmp_path / "data" / "results")
    assert frame["outcome"].tolist() == [outcome]
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_committing_twice_changes_nothing(tmp_path: Path) -> None:
    source = write_run(tmp_path / "runs")
    first = results.commit(source, tmp_path / "results")
    before = (first / "run.json").stat().st_mtime_ns
    assert results.commit(source, tmp_path / "results") == first
    assert (first / "run.json").stat().st_mtime_ns == before


def test_another_result_of_the_same_run_is_not_overwritten(tmp_path: Path) -> None:
    target = results.commit(write_run(tmp_path / "here", accuracy=0.31), tmp_path / "results")
    with pytest.raises(RunError, match="already holds another result"):
        results.commit(write_run(tmp_path / "there", accuracy=0.32), tmp_path / "results")
    assert json.loads((target / "run.json").read_text())["test_accuracy"] == 0.31


@pytest.mark.parametrize("outcome", ["running", "interrupted"])
def test_an_unfinished_run_is_not_committed(tmp_path: Path, outcome: str) -> None:
    source = write_run(tmp_path / "runs", outcome=outcome)
    with pytest.raises(RunError, match=f"is {outcome}"):
        results.commit(source, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_run_with_a_foreign_id_is_not_committed(tmp_path: Path) -> None:
    source = write_run(tmp_path / "runs")
    amend(source, run_id=run_config("luna-16", "listops-short", 1).run_id)
    with pytest.raises(DataError, match="but its config is that of"):
        results.commit(source, tmp_path / "results")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "attention.npz"])
def test_a_damaged_result_is_not_committed(tmp_path: Path, name: str) -> None:
    source = write_run(tmp_path / "runs")
    content = (source / name).read_bytes()
    (source / name).write_bytes(content[:-20])
    with pytest.raises(DataError, match=name):
        results.commit(source, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_copy_that_breaks_off_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_run(tmp_path / "runs")

    def full_disk(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results.shutil, "copyfile", full_disk)
    with pytest.raises(RunError, match="No space left on device"):
        results.commit(source, tmp_path / "results")
    assert os.listdir(tmp_path / "results") == []
