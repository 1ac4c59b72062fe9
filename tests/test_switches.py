"""Rows of models with a switch set: compared with the default, and mixed into nothing else."""

from __future__ import annotations

from pathlib import Path

from made_up_runs import write_run, write_runs

from memnb.draw import tables
from memnb.evidence import rows

XAVIER = {"cls_init": "xavier"}


def test_a_switch_is_shown_beside_its_default(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.30, 0.31, 0.32])
    write_runs(tmp_path, "luna-1", [0.40, 0.41, 0.42], model_changes=XAVIER)
    write_run(tmp_path, "luna-16", model_changes=XAVIER)  # without a counterpart
    write_run(tmp_path, "convluna-1", model_changes={"filter_width": 3})
    table = tables.both_ways(rows.load_runs(tmp_path), "cls_init=xavier")
    (row,) = table.to_numpy().tolist()
    assert row[:4] == ["ListOps short", "Luna-1", "31.0 ± 1.0 (3)", "41.0 ± 1.0 (3)"]
    assert row[4].startswith("10.0 [")
    empty = tables.both_ways(rows.load_runs(tmp_path), "sharing=qk")
    assert empty.to_numpy().tolist() == [["no run yet", "", "", "", ""]]


def test_rows_with_another_switch_are_no_part_of_the_ablation(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", accuracy=0.3)
    write_run(tmp_path, "convluna-16", accuracy=0.4, model_changes={"filter": "none"})
    for changes in (XAVIER, {"variant": "full"}, {"positions": "none"}):
        write_run(tmp_path, "convluna-16", accuracy=0.9, model_changes=changes)
    left = tables.ablated(rows.load_runs(tmp_path), 16)
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


def test_models_that_have_learned_nothing_are_named(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.135, 0.17, 0.35])
    write_runs(tmp_path, "convluna-16", [0.30])
    write_run(tmp_path, "luna-1", accuracy=0.135)  # its one row has no others to be alike
    write_run(tmp_path, "luna-16", seed=7, accuracy=0.135, model_changes=XAVIER)
    said = tables.at_majority(rows.load_runs(tmp_path))
    assert said == (
        "At the majority level, having learned nothing: Luna-16 on ListOps short (2 of 3 runs)."
    )
    good = tables.at_majority(rows.load_runs(tmp_path).query("model == 'convluna-16'"))
    assert good == "Every run shown has learned its task."
