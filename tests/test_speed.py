"""Rows of benchmarks: reading, shares, slopes, and what is drawn of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from memnb.draw import speed_figures, speed_tables
from memnb.evidence import benchmarks

H100 = {"device": "cuda", "device_name": "NVIDIA H100", "precision": "bf16"}
WHERE = {**H100, "torch": "2.11", "version": "0.1.0", "commit": None}


def step(model: str, milliseconds: float, **changes: Any) -> dict[str, Any]:
    return {
        "suite": "step", "task": "text", "model": model, "length": 4000, "batch": 32,
        "outcome": "measured", "milliseconds": milliseconds, "lower": 0.9 * milliseconds,
        "upper": 1.1 * milliseconds, "peak_memory": 2**30, "first_step": 20.0,
        "scored_per_second": 1000.0, "operations": 1e12, "bytes": 2e9, **WHERE, **changes,
    }  # fmt: skip


BEST = {"suite": "ceilings", "bandwidth": 2e12, "matrix_rate": 5e14, **WHERE}
PROFILE = [
    {"name": "_backward_kernel", "calls": 4.0, "milliseconds": 2.0},
    {"name": "nvjet_sm90_tst_64x8", "calls": 9.0, "milliseconds": 1.0},
    {"name": "cudnn_generated_fort_native_sdpa_sm90_flash_bprop", "calls": 1, "milliseconds": 0.5},
    {"name": "all others", "calls": 50.0, "milliseconds": 0.25},
]


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_repeated_measurement_counts_once_and_the_last_one_wins(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", step("luna-1", 5.0), step("luna-16", 7.0))
    two = written(tmp_path / "b.jsonl", step("luna-1", 4.0))
    rows = benchmarks.load(one, two, tmp_path / "missing.jsonl")
    assert dict(zip(rows["model"], rows["milliseconds"], strict=True)) == {
        "luna-1": 4.0,
        "luna-16": 7.0,
    }
    assert rows.attrs["problems"] == []


@pytest.mark.parametrize(
    "change",
    [{"suite": "memory"}, {"device_name": "another"}, {"task": "image"}, {"model": "luna-16"},
     {"length": 1000}, {"batch": 8}],
    ids=str,
)  # fmt: skip
def test_a_measurement_of_something_else_is_no_repetition(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    rows = [step("luna-1", 5.0), step("luna-1", 4.0) | change]
    found = benchmarks.load(written(tmp_path / "a.jsonl", *rows))
    assert found["milliseconds"].tolist() == [5.0, 4.0]


def test_what_could_not_be_measured_is_no_time(tmp_path: Path) -> None:
    nothing = step("luna-16", 5.0) | {"outcome": "out of memory", "milliseconds": None}
    found = benchmarks.load(written(tmp_path / "a.jsonl", step("luna-1", 5.0), nothing))
    assert len(found) == 2
    assert benchmarks.of_suite(found, "step")["model"].tolist() == ["luna-1"]
    assert benchmarks.shares(found)["model"].tolist() == ["luna-1"]


def test_looks_at_the_memory_are_a_share_of_the_steps(tmp_path: Path) -> None:
    def whole(model: str, probes: float) -> dict[str, Any]:
        parts = {"training": 50.0, "evaluation": 9.0, "probes": probes, "whole": 60.0 + probes}
        return step(model, 5.0, suite="run", run=parts)

    path = written(tmp_path / "a.jsonl", whole("luna-1", 2.0), whole("transformer", 0.0))
    (row,) = benchmarks.probe_shares(benchmarks.load(path)).to_dict("records")
    assert (row["model"], row["probes"], row["training"]) == ("luna-1", 2.0, 50.0)
    assert row["share"] == 0.04


@pytest.mark.parametrize(
    "line",
    [
        "{torn", "[]", '{"suite": "step"}', json.dumps(step("luna-1", -1.0)), '"text"', "\udcff",
        json.dumps({**step("luna-1", 1.0), "milliseconds": None}),
        json.dumps(step("luna-1", 1.0, suite="run")),
        json.dumps(step("luna-1", 1.0, suite="run", run={"whole": 3.0})),
        json.dumps(step("luna-1", 1.0, length=10**30)), pytest.param("[" * 10**5, id="deep"),
    ],
)  # fmt: skip
def test_a_damaged_line_is_left_out_and_named(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "bench.jsonl", step("luna-16", 7.0))
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line + "\n")
    rows = benchmarks.load(path)
    assert list(rows["model"]) == ["luna-16"]
    (problem,) = rows.attrs["problems"]
    assert "line 2 is not a row" in problem


def test_shares_are_parts_of_what_the_same_device_reaches(tmp_path: Path) -> None:
    other = step("luna-1", 4.0, device_name="another")
    rows = benchmarks.load(written(tmp_path / "b", BEST, step("luna-1", 4.0), other))
    shares = benchmarks.shares(rows).set_index("device_name")
    assert shares.loc["NVIDIA H100", "matrix_share"] == pytest.approx(1e12 / 4e-3 / 5e14)
    assert shares.loc["NVIDIA H100", "bandwidth_share"] == pytest.approx(2e9 / 4e-3 / 2e12)
    assert shares.loc["another", ["matrix_share", "bandwidth_share"]].isna().all()


def test_kernels_and_waiting_add_up_to_the_step(tmp_path: Path) -> None:
    rows = benchmarks.load(written(tmp_path / "b", step("luna-1", 4.0, kernels=PROFILE)))
    kernels = benchmarks.kernels(rows).set_index("kind")["milliseconds"]
    assert kernels.sum() == pytest.approx(4.0)
    assert kernels["fused half block"] == 2.0
    assert kernels["matrix products"] == 1.0
    assert kernels["attention"] == 0.5
    assert kernels["waiting"] == 0.25


def test_kernels_that_the_profiler_slows_down_still_add_up_to_the_step(tmp_path: Path) -> None:
    rows = benchmarks.load(written(tmp_path / "b", step("luna-1", 3.0, kernels=PROFILE)))
    kernels = benchmarks.kernels(rows).set_index("kind")["milliseconds"]
    assert kernels.sum() == pytest.approx(3.0)
    assert kernels["fused half block"] == pytest.approx(2.0 * 3.0 / 3.75)
    assert kernels["waiting"] == pytest.approx(0.0, abs=1e-9)


def test_slopes_of_powers(tmp_path: Path) -> None:
    rows = [
        step("luna-1", 1e-3 * n, suite="length", length=n, batch=1, peak_memory=n**2)
        for n in (4_000, 1_000, 16_000)
    ]
    slopes = benchmarks.slopes(benchmarks.load(written(tmp_path / "b", *rows)))
    assert list(slopes["from"]) == [1_000, 4_000]
    assert slopes["time"].tolist() == pytest.approx([1, 1])
    assert slopes["memory"].tolist() == pytest.approx([2, 2])


def test_the_reading_counts_goals_and_names_the_factors(tmp_path: Path) -> None:
    rows = benchmarks.load(written(tmp_path / "b", step("luna-1", 3.98), step("luna-256", 8.87)))
    said = speed_tables.reading(rows, benchmarks.references())
    assert "10.0 to 10.0 times as fast as the authors' code (as shipped, float32)." in said
    assert "Luna-256 is 6.3 times as fast as the authors' code at its best (tf32" in said
    assert "Of 2 models with a goal, 2 meet it in memory and 1 in time." in said


def test_without_a_common_model_there_is_nothing_to_compare(tmp_path: Path) -> None:
    rows = benchmarks.load(written(tmp_path / "b", step("luna-4", 3.98)))
    assert "No model" in speed_tables.reading(rows, benchmarks.references())


def test_the_step_table_compares_only_what_is_alike(tmp_path: Path) -> None:
    on_cpu = step("luna-1", 400.0, device_name="some CPU", task="text")
    rows = benchmarks.load(
        written(
            tmp_path / "b",
            BEST,
            step("luna-1", 3.98),
            on_cpu,
            step("luna-1", 5, task="image", side_by_side=4),
        )
    )
    table = speed_tables.step_table(benchmarks.shares(rows), benchmarks.references())
    assert list(table["Times faster"]) == ["10.0", "", ""]
    assert list(table["First step, s"]) == ["20", "20", "20 (4 at a time)"]
    elsewhere = speed_tables.step_table(
        benchmarks.shares(rows[rows["task"] == "image"]), benchmarks.references()
    )
    assert "Times faster" not in elsewhere, "a column that says nothing is left out"
    assert table["ms (quartiles)"][0] == "3.98 (3.58 to 4.38)"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_sums_kernel", "sums along the sequence"),
        ("_forward_kernel", "fused half block"),
        ("_attention_key_kernel", "attention"),
        ("triton_poi_fused_add_ffn_norm_backward_view_38", "compiled element-wise"),
        ("nvjet_sm90_tst_64x128_64x8_2x1_v_bz_splitK_NTN", "matrix products"),
        ("void at::native::multi_tensor_apply_kernel<at", "optimizer"),
        ("Memset (Device)", "other"),
    ],
)
def test_kinds_of_kernels(name: str, kind: str) -> None:
    assert benchmarks.kernel_kind(name) == kind


def test_the_device_of_the_page_is_a_card_where_there_is_one() -> None:
    rows = pd.DataFrame(
        [("cpu", "a processor")] * 3 + [("cuda", "a card")] + [("cuda", "another card")] * 2,
        columns=["device", "device_name"],
    )
    assert benchmarks.main_device(rows) == "another card"
    assert benchmarks.main_device(rows[:3]) == "a processor"
    assert benchmarks.main_device(rows[:0]) is None


def test_every_figure_of_the_committed_rows_names_its_models() -> None:
    rows = benchmarks.load(benchmarks.stored())
    assert rows.attrs["problems"] == []
    device = benchmarks.main_device(rows)
    steps = benchmarks.of_suite(rows, "step", device, "text")
    lengths = benchmarks.of_suite(rows, "length", device)
    assert {"luna-1", "luna-256", "convluna-1", "transformer"} <= set(steps["model"])
    drawn = speed_figures.steps(steps, benchmarks.references(), "shape")
    labels = [label.get_text() for label in drawn.axes[0].get_yticklabels()]
    assert "ConvLuna-1" in labels
    assert len(labels) == len(steps)
    where = speed_figures.where_time_goes(benchmarks.kernels(steps))
    assert len(where.axes[0].get_yticklabels()) == len(steps)
    lines = speed_figures.length(lengths).axes[0].get_lines()
    assert len(lines) == lengths["model"].nunique() + 1
    assert not speed_tables.slope_table(lengths).empty
    assert not speed_tables.whole_runs(rows, benchmarks.run_goals()).empty


def run_row(task: str, device: str = "H100", **seconds: float) -> dict[str, Any]:
    names = ("start", "training", "evaluation", "probes", "saves")
    parts = {name: 0.0 for name in names} | seconds
    parts["whole"] = sum(parts.values())
    return {
        "suite": "run", "task": task, "model": "luna-256", "device_name": device, "run": parts,
        "outcome": "measured",
    }  # fmt: skip


def test_whole_runs_stand_beside_their_goals() -> None:
    rows = pd.DataFrame(
        [
            run_row("text", training=240.0, evaluation=60.0),  # at its goal of five minutes
            run_row("image", training=480.0),  # twice its four
            run_row("text", "CPU", training=1.0),
        ]
    )
    table = speed_tables.whole_runs(rows, benchmarks.run_goals())
    assert table["Whole, min"].tolist() == ["5.00", "8.00", "0.02"]
    assert table["Goal, min"].tolist() == ["5", "4", ""]
    said = speed_tables.runs_reading(rows, benchmarks.run_goals())
    assert "Of 2 tasks with a goal, 1 meet it; they take 1.00 to 2.00 times" in said
    assert "Steps are 80 % to 100 % of these runs, evaluation 0 % to 20 %" in said
    assert "not timed in all of them" in said, "as in rows of before"
    assert table["Examination, min"].tolist() == ["", "", ""]
    rows = pd.DataFrame([run_row("text", training=240.0, examination=60.0)])
    assert "The examination is 20 % to 20 %." in speed_tables.runs_reading(
        rows, benchmarks.run_goals()
    )
    assert "No run" in speed_tables.runs_reading(rows[1:], benchmarks.run_goals())


def test_without_rows_every_figure_says_so() -> None:
    nothing = benchmarks.load()
    for figure in (
        speed_figures.steps(nothing, benchmarks.references()),
        speed_figures.where_time_goes(benchmarks.kernels(nothing)),
        speed_figures.length(nothing),
    ):
        assert "no run yet" in [text.get_text() for text in figure.axes[0].texts]


def test_every_optimisation_has_its_prediction_and_its_measurement() -> None:
    table = benchmarks.optimisations()
    assert len(table) >= 8
    assert table[["what", "expected", "measured"]].map(lambda cell: bool(cell.strip())).all().all()
    assert set(speed_tables.optimisation_table()["Kept"]) == {"yes", "no"}, "failed ones too"


def test_what_the_benchmark_writes_can_be_read(tmp_path: Path) -> None:
    from memnb.train import bench

    path = tmp_path / "bench.jsonl"
    bench.append(path, bench.ceilings("cpu", size=32))
    bench.append(
        path,
        bench.Measurement("step", "text", "luna-1", 10, 2, "out of memory", device="cpu"),
    )
    rows = benchmarks.load(path)
    assert rows.attrs["problems"] == []
    assert list(rows["suite"]) == ["ceilings", "step"]
    assert set(asdict(bench.Measurement("step", "text", "luna-1", 10, 2, ""))) >= set(
        benchmarks.COLUMNS
    ) - {"bandwidth", "matrix_rate"}
