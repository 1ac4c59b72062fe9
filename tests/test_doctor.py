"""The doctor finds what is there, and says of each thing that is missing what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from made_up_runs import write_run

from memnb import cli, config, doctor, paths
from memnb.tasks import catalogue, prepared


def finding(subject: str, out: Path | None = None) -> doctor.Finding:
    found = doctor.examine(None if out is None else str(out))
    (one,) = [each for each in found if each.subject == subject]
    return one


@pytest.fixture(autouse=True)
def _committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")


def test_a_good_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for subject in ("Python", "PyTorch", "CUDA", "precision", "cores", "output", "data cache"):
        assert subject in shown
    assert all(name in shown for name in catalogue.CARDS)


def test_without_cuda_it_says_why_and_which_precision_follows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", "12.8")
    assert finding("CUDA").state == "note"
    assert "finds no usable CUDA device" in finding("CUDA").text
    assert finding("precision").text.startswith("fp32: ")
    monkeypatch.setattr("torch.version.cuda", None)
    assert "build without CUDA" in finding("CUDA").text


def test_with_cuda_it_names_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index=0: f"Card {index}")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: (8, 0))
    assert finding("CUDA") == doctor.Finding("CUDA", "fine", "Card 0; Card 1")
    assert finding("precision").text.startswith("bf16: ")


@pytest.mark.parametrize(
    ("package", "subject", "advice"),
    [
        ("torch", "PyTorch", "pip install torch"),
        ("papermill", "notebooks", "memnb[notebooks]"),
    ],
)
def test_a_missing_package_is_a_problem(
    package: str,
    subject: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    assert finding(subject).state == "problem"
    assert advice in finding(subject).text
    assert cli.main(["doctor"]) == 1
    assert f"!! {subject}" in capsys.readouterr().out


def test_a_broken_torch_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert finding("PyTorch").state == "problem"
    assert "cannot be imported" in finding("PyTorch").text


def test_an_output_folder_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    assert finding("output", tmp_path / "new" / "folder").state == "fine"
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert finding("output", blocked / "folder").state == "problem"
    assert "--out or MEMNB_OUT" in finding("output", blocked / "folder").text
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**20))
    for subject in ("output", "data cache"):
        assert finding(subject).state == "problem"
        assert "0.5 are needed" in finding(subject).text


def test_data_that_are_here_are_found_and_the_next_step_told_for_the_others() -> None:
    assert "memnb data get text" in finding("text").text
    assert "generated" in finding("listops").text
    for name, file in (
        ("text", prepared.file("text")),
        ("listops", paths.data_cache() / f"listops-{config.task_config('listops').digest}.npz"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(3 * 2**20))
        try:
            assert finding(name) == doctor.Finding(name, "fine", "here, 3 MiB")
        finally:
            file.unlink()


def test_committed_rows_are_counted_and_damage_is_named() -> None:
    made = write_run(paths.stored_results(), "luna-1")
    assert finding("committed").text.startswith("1 run in ")
    (made / "run.json").write_text("{")
    assert finding("committed").state == "problem"
    assert "run.json" in finding("committed").text


def limited(monkeypatch: pytest.MonkeyPatch, name: str, limit: str) -> None:
    """A container whose control group has that limit in the file of that name."""
    read = Path.read_text

    def read_text(self: Path, *arguments: Any, **settings: Any) -> str:
        return limit if self.name == name else read(self, *arguments, **settings)

    monkeypatch.setattr(Path, "read_text", read_text)


@pytest.mark.parametrize(("quota", "usable"), [("150000 100000", 2), ("max 100000", 4), ("", 4)])
def test_a_containers_quota_limits_the_cores(
    quota: str, usable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, "cpu.max", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert finding("cores").text == f"{usable} of 8 may be used (affinity or quota)"


@pytest.mark.parametrize(
    ("pages", "limit", "state"),
    [(2**18, "max", "note"), (2**21, "max", "fine"), (2**21, f"{2**30}", "note")],
)
def test_little_memory_is_noted_also_in_a_container(
    pages: int, limit: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, "memory.max", f"{limit}\n")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages}.__getitem__)
    assert finding("memory").state == state


def test_a_folder_that_nobody_may_look_into_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "locked"
    stat = Path.stat

    def refused(self: Path, **settings: Any) -> os.stat_result:
        if locked in self.parents:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **settings)

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setenv("MEMNB_DATA", str(locked / "data"))
    assert "cannot be written to (Permission denied)" in finding("output", locked / "out").text
    assert finding("data cache").state == "problem"
    assert finding("data sets").text == "cannot be looked for (Permission denied)."
