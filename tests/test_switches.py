"""Rows of models with a switch set: compared with the default, and mixed into nothing else."""

from __future__ import annotations

from pathlib import Path

from made_up_runs import write_run, write_runs

from memnb.draw import filter_tables, settings_tables, tables
from memnb.evidence import rows

XAVIER = {"cls_init": "xavier"}


def test_a_switch_is_shown_beside_its_default(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.30, 0.31, 0.32])
    write_runs(tmp_path, "luna-1", [0.40, 0.41, 0.42], model_changes=XAVIER)
    write_run(tmp_path, "luna-16", model_changes=XAVIER)  # without a counterpart
    write_run(tmp_path, "convluna-1", model_changes={"filter_width": 3})
    table = settings_tables.both_ways(rows.load_runs(tmp_path), "cls_init=xavier")
    (row,) = table.to_numpy().tolist()
    assert row[:4] == ["ListOps short", "Luna-1", "31.0 ± 1.0 (3)", "41.0 ± 1.0 (3)"]
    assert row[4].startswith("10.0 [")
    assert table.columns[2:].tolist() == ["Default", "cls_init=xavier", "Change"]
    empty = settings_tables.both_ways(rows.load_runs(tmp_path), "sharing=qk")
    assert empty.to_numpy().tolist() == [["no run yet", "", "", "", ""]]


def test_a_switch_that_makes_it_worse_changes_by_less_than_nothing(tmp_path: Path) -> None:
    """Deviations of a point and three seeds a side: 2.78 · √(2 / 3) points either way."""
    write_runs(tmp_path, "luna-1", [0.40, 0.41, 0.42, None])
    write_runs(tmp_path, "luna-1", [0.30, 0.31, 0.32], model_changes=XAVIER)
    write_runs(tmp_path, "luna-1", [0.70], task="text-short")
    write_runs(tmp_path, "luna-1", [0.65], task="text-short", model_changes=XAVIER)
    table = settings_tables.both_ways(rows.load_runs(tmp_path), "cls_init=xavier")
    assert table.iloc[:, 2:].to_numpy().tolist() == [
        ["41.0 ± 1.0 (3)", "31.0 ± 1.0 (3)", "−10.0 [−12.3, −7.7] points"],
        ["70.0 (1)", "65.0 (1)", "−5.0 points"],
    ]


def test_rows_with_another_switch_are_no_part_of_the_ablation(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", accuracy=0.3)
    write_run(tmp_path, "convluna-16", accuracy=0.4, model_changes={"filter": "none"})
    for changes in (XAVIER, {"variant": "full"}, {"positions": "none"}):
        write_run(tmp_path, "convluna-16", accuracy=0.9, model_changes=changes)
    left = filter_tables.ablated(rows.load_runs(tmp_path))
    assert sorted(left["test_accuracy"]) == [0.3, 0.4]


def test_the_code_of_many_runs_stays_short(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.30, 0.31, 0.32, 0.33, 0.34])
    runs = rows.load_runs(tmp_path).assign(commits=[("a1",), ("b2",), ("b2",), ("c3",), ("d4",)])
    (code,) = tables.runs(runs.assign(version="0.1.0"))["Code"]
    assert code == "0.1.0 at a1, b2, c3 and 1 more"
    (code,) = tables.runs(runs.assign(version=["0.1.0"] * 4 + ["0.2.0"], commits=[(None,)] * 5))[
        "Code"
    ]
    assert code == "0.1.0 at –; 0.2.0 at –"
