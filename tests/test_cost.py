"""What the study costs: planned and spent per artefact, and how each number is marked."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from made_up_runs import amend, write_run

from memnb.config import run_config
from memnb.draw import cost_tables, figures
from memnb.evidence import benchmarks, rows
from memnb.reproduce import cost, manifest, plan
from memnb.reproduce.manifest import Artefact

HOUR = 3600.0
NO_TIMINGS = benchmarks.load()
H100 = {"device": "cuda", "device_name": "NVIDIA H100 80GB HBM3"}


@pytest.fixture
def artefacts(monkeypatch: pytest.MonkeyPatch) -> list[Artefact]:
    monkeypatch.setattr(plan, "PAPER_TASKS", ("text",))
    monkeypatch.setattr(plan, "PAPER_MODELS", ("luna-1", "luna-16"))
    monkeypatch.setattr(plan, "PAPER_MEMORY_SIZES", (1, 2))
    common = {"see": "", "notebook": "00_start_here.ipynb"}
    return [
        Artefact(id="a", title="Table", sets=("table",), **common),
        Artefact(id="b", title="Sizes", sets=("memory-size",), **common),
        Artefact(id="c", title="A diagram", **common),
    ]


def timed(folder: Path, model: str, seed: int, seconds: float, **record: object) -> None:
    amend(write_run(folder, model, "text", seed), seconds=seconds, **record)


def costs(folder: Path, artefacts: list[Artefact]) -> pd.DataFrame:
    return cost.by_artefact(artefacts, [rows.load_runs(folder), rows.load_runs()], NO_TIMINGS)


def test_each_artefact_has_its_runs_and_all_of_them_count_once(
    tmp_path: Path, artefacts: list[Artefact]
) -> None:
    timed(tmp_path, "luna-1", 0, 1 * HOUR, **H100)
    timed(tmp_path, "luna-1", 1, 3 * HOUR, **H100, side_by_side=3, outcome="failed")
    timed(tmp_path, "luna-16", 0, 50 * HOUR)  # on a CPU
    write_run(tmp_path, "luna-16", "text", 1, outcome="interrupted")
    found = costs(tmp_path, artefacts).set_index("artefact")
    assert list(found.index) == ["Table", "Sizes", "All together"]
    assert list(found["planned"]) == [6, 12, 15]  # luna-1 with three seeds is in both
    assert list(found["ended"]) == [3, 2, 3]
    assert list(found["left"]) == [3, 10, 12]
    assert list(found["spent"]) == [2 * HOUR, 2 * HOUR, 2 * HOUR]
    # Two luna-1 and their like are measured; luna-16 is scaled from luna-1.
    assert found.at["Table", "H100 basis"] == "3 measured, 3 scaled"
    assert found.at["Table", "T4 basis"] == "6 assumed"
    assert found.at["Table", "T4"] == pytest.approx(
        found.at["Table", "H100"] * cost.SLOWER_THAN_H100["T4"]
    )
    assert found.at["All together", "H100"] < found.at["Table", "H100"] + found.at["Sizes", "H100"]


def test_a_run_that_says_what_it_took_of_its_device_is_believed(
    tmp_path: Path, artefacts: list[Artefact]
) -> None:
    timed(tmp_path, "luna-1", 0, 3 * HOUR, **H100, side_by_side=3, device_seconds=2 * HOUR)
    assert costs(tmp_path, artefacts[:1])["spent"].iloc[0] == 2 * HOUR


def test_what_was_not_measured_is_marked(tmp_path: Path, artefacts: list[Artefact]) -> None:
    for model in ("luna-1", "luna-16"):
        timed(tmp_path, model, 0, 1 * HOUR, **H100)
    found = costs(tmp_path, artefacts[:1])
    table = cost_tables.rerun(found, cost.DEVICES).set_index("Artefact")
    assert table.at["Table", "H100"] == "6.0"
    assert table.at["Table", "A100"].startswith(cost_tables.ASSUMED)
    assert table.at["Table", "CPU core"].startswith(cost_tables.ASSUMED)
    assert table.at["Table", "Rests on (H100)"] == "6 measured"
    timed(tmp_path, "luna-1", 1, 9 * HOUR, threads=2)
    found = costs(tmp_path, artefacts[:1])
    again = cost_tables.rerun(found, cost.DEVICES).set_index("Artefact")
    assert again.at["Table", "CPU core"].startswith(cost_tables.SCALED)  # of 18 core hours
    spent = cost_tables.spent(found).set_index("Artefact").loc["Table"]
    assert spent.to_dict() == {
        "Runs planned": "6",
        "Ended": "3",
        "Left": "3",
        "GPU hours spent": "2.0",
        "Left, hours on one H100": "3.0",
    }


@pytest.mark.parametrize(
    ("basis", "mark"),
    [("2 measured", ""), ("2 timed", "~"), ("1 measured, 1 scaled", "~"),
     ("1 measured, 1 timed, 1 scaled, 1 assumed", "≈")],
)  # fmt: skip
def test_a_number_is_marked_by_the_weakest_of_what_it_rests_on(basis: str, mark: str) -> None:
    line = {"artefact": "Table", "planned": 2, "H100": 45.64 * HOUR, "H100 basis": basis}
    table = cost_tables.rerun(pd.DataFrame([line]), ["H100"])
    assert table.at[0, "H100"] == f"{mark}45.6"
    long = cost_tables.rerun(pd.DataFrame([line | {"H100": 1234.6 * HOUR}]), ["H100"])
    assert long.at[0, "H100"] == f"{mark}1,230"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA GH200 480GB", "NVIDIA GH200 480GB"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"),
    ],
)
def test_the_kind_of_a_card_is_a_word_of_its_name(name: str, kind: str) -> None:
    assert cost.kind_of("cuda", name) == kind


def test_rows_of_an_h200_have_a_column_of_their_own(
    tmp_path: Path, artefacts: list[Artefact]
) -> None:
    for model in ("luna-1", "luna-16"):
        timed(tmp_path, model, 0, 1 * HOUR, device="cuda", device_name="NVIDIA H200")
    found = costs(tmp_path, artefacts[:1])
    table = cost_tables.rerun(found, cost.DEVICES).set_index("Artefact")
    assert table.at["Table", "H200"] == "6.0"
    assert table.at["Table", "H100"].startswith(cost_tables.ASSUMED)


def test_a_run_of_two_devices_says_nothing_of_the_speed_of_either(
    tmp_path: Path, artefacts: list[Artefact]
) -> None:
    machines = [
        {"from_step": step, "device_name": name}
        for step, name in ((0, "NVIDIA H200"), (5, H100["device_name"]))
    ]
    timed(tmp_path, "luna-1", 0, 9 * HOUR, **H100, machines=machines)
    assert costs(tmp_path, artefacts[:1]).at[0, "H100 basis"] == "6 assumed"
    timed(tmp_path, "luna-1", 1, 1 * HOUR, **H100)
    found = costs(tmp_path, artefacts[:1])
    assert found.at[0, "H100 basis"] == "3 measured, 3 scaled"
    assert cost_tables.rerun(found, cost.DEVICES).at[0, "Rests on (H100)"] == "3 measured, 3 scaled"
    assert found.at[0, "spent"] == 10 * HOUR, "the hours were spent all the same"


def test_without_a_row_everything_is_assumed(tmp_path: Path, artefacts: list[Artefact]) -> None:
    found = costs(tmp_path, artefacts)
    assert set(found["ended"]) == {0}
    assert all("assumed" in basis for basis in found["H100 basis"])
    figure = figures.cost(found, "Full scale")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words == ["0 of 6 runs ended", "0 of 12 runs ended", "0 of 15 runs ended"]
    nothing = cost.by_artefact(artefacts[2:], [rows.load_runs()], NO_TIMINGS)
    assert cost_tables.spent(nothing).iloc[0, 0] == "no run yet"
    assert figures.cost(nothing).axes


def test_the_bars_are_as_long_as_the_hours(tmp_path: Path, artefacts: list[Artefact]) -> None:
    timed(tmp_path, "luna-1", 0, 2 * HOUR, **H100)
    found = costs(tmp_path, artefacts)
    bars = figures.cost(found).axes[0].patches
    assert [bar.get_width() for bar in bars[:3]] == [2.0, 2.0, 2.0]
    left = list(found["left_seconds"] / HOUR)
    assert [bar.get_width() for bar in bars[3:]] == pytest.approx(left)


def test_every_artefact_that_trains_has_its_line() -> None:
    artefacts = manifest.load().select()
    found = cost.by_artefact(artefacts, [rows.load_runs()], NO_TIMINGS)
    titles = [a.title for a in artefacts if plan.together(a.sets, "paper")]
    assert list(found["artefact"]) == [*titles, "All together"]


def test_a_plan_is_priced_on_each_kind_of_device(tmp_path: Path) -> None:
    timed(tmp_path, "luna-1", 0, 2 * HOUR, **H100)
    runs = [run for run in plan.runs("table", "paper") if run.model.name == "luna-1"][:2]
    text = cost.sentence(runs, cost.Speeds(rows.load_runs(tmp_path)))
    assert text.startswith("2 runs, one after the other and none stopped early: ")
    assert "on one H100 (1 measured, 1 scaled)" in text
    assert "on one A100 (2 assumed)" in text


def test_only_finished_runs_of_the_full_protocol_tell_how_long_another_takes(
    tmp_path: Path,
) -> None:
    timed(tmp_path, "luna-1", 0, 9 * HOUR, **H100, outcome="failed", test_accuracy=None)
    folder = write_run(tmp_path, "luna-1", "text", 1, training_changes={"steps": 7})
    amend(folder, **H100)
    frame = rows.load_runs(tmp_path)
    assert len(frame) == 2
    assert cost.Speeds(frame).estimate(run_config("luna-1", "text"), cost.H100).basis == "assumed"


def test_a_run_on_several_cores_took_all_of_them(tmp_path: Path) -> None:
    timed(tmp_path, "luna-1", 0, 9 * HOUR, threads=2)
    speeds = cost.Speeds(rows.load_runs(tmp_path))
    found = speeds.estimate(run_config("luna-1", "text", 1), cost.CORE)
    assert found == cost.Estimate(pytest.approx(18 * HOUR), "measured")


def test_without_a_row_newer_cards_are_faster() -> None:
    run = run_config("luna-1", "text")
    seconds = [
        cost.Speeds().estimate(run, kind).seconds
        for kind in (cost.H200, cost.H100, cost.A100, cost.T4)
    ]
    assert seconds == sorted(set(seconds))


@pytest.mark.parametrize(
    ("closer", "farther"),
    [
        # Twice the rows are nearer than a fourth of them, though there are more between.
        (("luna-16", "text"), ("luna-1", "text")),
        # Another scale says less than another model of the same.
        (("transformer", "image"), ("luna-8", "listops-short")),
    ],
)
def test_what_nobody_has_trained_takes_as_long_as_what_is_most_like_it(
    closer: tuple[str, str], farther: tuple[str, str], tmp_path: Path
) -> None:
    for (model, task), seconds in ((closer, HOUR), (farther, 99 * HOUR)):
        amend(write_run(tmp_path, model, task), **H100, seconds=seconds)
    wanted = run_config("luna-8", "text")
    found = cost.Speeds(rows.load_runs(tmp_path)).estimate(wanted, cost.H100)
    ratio = cost.operations_of(wanted) / cost.operations_of(run_config(*closer))
    assert found == cost.Estimate(pytest.approx(HOUR * ratio), "scaled")


def test_a_run_that_stopped_early_prices_the_whole_of_its_siblings(tmp_path: Path) -> None:
    run = run_config("luna-16", "text")
    half = run.training.steps // 2
    timed(tmp_path, "luna-16", 0, HOUR, **H100, step=half, stopped="patience")
    speeds = cost.Speeds(rows.load_runs(tmp_path))
    found = speeds.estimate(run_config("luna-16", "text", 1), cost.H100)
    assert (found.basis, found.seconds) == ("measured", pytest.approx(2 * HOUR))
    # Beside one that went on to the end at another speed: the mean of both, each as a whole.
    timed(tmp_path, "luna-16", 2, 4 * HOUR, **H100)
    speeds = cost.Speeds(rows.load_runs(tmp_path))
    assert speeds.estimate(run, cost.H100).seconds == pytest.approx(3 * HOUR)


def test_an_estimate_asks_the_known_runs_once_whatever_the_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed(tmp_path, "luna-16", 0, HOUR, **H100)
    speeds = cost.Speeds(rows.load_runs(tmp_path))
    asked: list[str] = []
    likeness = cost._likeness
    monkeypatch.setattr(
        cost, "_likeness", lambda run, other: asked.append(run.run_id) or likeness(run, other)
    )
    same = [run_config("convluna-16", "text", seed) for seed in (0, 1, 2)]
    other = run_config("convluna-16", "text", training_changes={"steps": 10})
    found = [speeds.estimate(run, cost.H100) for run in (*same, *same, other)]
    assert asked == [same[0].run_id, other.run_id]
    assert len(set(found[:6])) == 1
    assert found[6].seconds < found[0].seconds


def bench(file: Path, model: str, **changes: object) -> pd.DataFrame:
    row = {
        "suite": "step", "task": "text", "model": model, "length": 4000, "batch": 32,
        "outcome": "measured", "milliseconds": 10.0, "first_step": 20.0,
        "scored_per_second": 5000.0, "precision": "bf16", "torch": "", "version": "", **H100,
    }  # fmt: skip
    with file.open("a") as lines:
        lines.write(json.dumps(row | changes) + "\n")
    return benchmarks.load(file)


def test_timed_steps_tell_the_time_of_a_run_that_nobody_trained(tmp_path: Path) -> None:
    run, other = (run_config(model, "text") for model in ("luna-16", "luna-256"))
    timings = bench(tmp_path / "bench.jsonl", "luna-16")
    found = cost.Speeds(rows.load_runs(), timings=timings).estimate(run, cost.H100)
    # 25,000 steps, and 50 evaluations of 25,000 examples.
    assert (found.basis, found.seconds) == ("timed", pytest.approx(20 + 250 + 250))
    parts = {"training": 300.0, "evaluation": 60.0, "probes": 20.0, "whole": 400.0}
    whole = {"run": parts, "suite": "run"}
    timings = bench(tmp_path / "bench.jsonl", "luna-256", **whole)
    found = cost.Speeds(rows.load_runs(), timings=timings).estimate(other, cost.H100)
    assert found.seconds == pytest.approx(400)
    # A run that was trained says more.
    timed(tmp_path / "runs", "luna-16", 0, HOUR, **H100)
    speeds = cost.Speeds(rows.load_runs(tmp_path / "runs"), timings=timings)
    found = speeds.estimate(run, cost.H100)
    assert (found.basis, found.seconds) == ("measured", pytest.approx(HOUR))


def test_a_step_on_several_cores_costs_all_of_them(tmp_path: Path) -> None:
    cpu = {"device": "cpu", "device_name": "some processor"}
    run = run_config("luna-16", "text")
    timings = bench(tmp_path / "bench.jsonl", "luna-16", **cpu, threads=2)
    found = cost.Speeds(rows.load_runs(), timings=timings).estimate(run, cost.CORE)
    assert (found.basis, found.seconds) == ("timed", pytest.approx(2 * (20 + 250 + 250)))
    # A row of before, which does not say how many.
    timings = bench(tmp_path / "old.jsonl", "luna-16", **cpu)
    assert cost.Speeds(rows.load_runs(), timings=timings).estimate(run, cost.CORE) != found


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": 1},
        {"length": 1000},
        {"suite": "length"},
        {"outcome": "out of memory"},
        {"scored_per_second": None},
        {"first_step": None},
    ],
    ids=str,
)
def test_timings_of_something_else_or_of_a_part_say_nothing(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    timings = bench(tmp_path / "bench.jsonl", "luna-16", **changes)
    speeds = cost.Speeds(rows.load_runs(), timings=timings)
    assert speeds.estimate(run_config("luna-16", "text"), cost.H100).basis == "assumed"


def test_a_timed_block_that_is_not_registered_here_stops_no_estimate(tmp_path: Path) -> None:
    timings = bench(tmp_path / "bench.jsonl", "a-block-from-elsewhere-3")
    speeds = cost.Speeds(rows.load_runs(), timings=timings)
    assert speeds.estimate(run_config("luna-16", "text"), cost.H100).basis == "assumed"
