"""What is said of filters and temperatures, on rows made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from made_up_runs import judged, write_runs

from memnb.draw import filter_tables, style
from memnb.evidence import load_runs

#: Distances of three heads' kernels from their start, in parts of its norm: their mean is 0.4.
APART = (0.1, 0.2, 0.9)
#: Where the pack temperatures of the heads end: their mean is 1.3.
ENDS = (0.8, 1.1, 2.0)


def run(run_id: str, model: str = "convluna-16", task: str = "text", **more: Any) -> dict[str, Any]:
    """The row of a run with heads of 16 channels, so √d is 4."""
    usual = {"preset": "paper", "changes": "", "outcome": "finished", "width": 64, "heads": 4}
    name = {"run_id": run_id, "model": model, "task": task, "family": model.partition("-")[0]}
    return {**name, "memory": 16, "test_accuracy": 0.5, **usual, **more}


def watched(
    runs: pd.DataFrame, apart: tuple[float, ...] = APART, ends: tuple[float, ...] = ENDS
) -> pd.DataFrame:
    """Kernels that start as (3, 4) with temperature 1, wander off, and end as told."""
    found = []
    for _, one in runs[runs["family"] != "luna"].iterrows():
        same = {key: one[key] for key in ("run_id", "task", "model", "preset", "changes")}
        for head, (distance, temperature) in enumerate(zip(apart, ends, strict=True), start=1):
            found += [
                {**same, "step": step, "block": 1, "head": head, "tap_1": 3.0, "tap_2": tap,
                 "pack_temperature": value}
                for step, tap, value in (
                    (0, 4.0, 1.0), (50, 90.0, 9.0), (100, 4.0 + 5 * distance, temperature)
                )
            ]  # fmt: skip
    return pd.DataFrame(found)


def test_kernels_and_temperatures_are_those_at_the_end_of_training() -> None:
    runs = pd.DataFrame([run("a"), run("b")])
    assert filter_tables.changes(watched(runs), runs).to_dict("records") == [
        {
            "Task": "Text",
            "Model": "ConvLuna-16",
            "Seeds": "2",
            "Kernel moved, median": "20 %",
            "largest": "90 %",
            "Pack T at the end": "1.10 (0.80 to 2.00)",
            "√d": "4.0",
        }
    ]


def test_every_task_and_model_has_its_own_kernels() -> None:
    first = pd.DataFrame([run("a")])
    second = pd.DataFrame([run("b", task="listops", width=128)])
    third = pd.DataFrame([run("c", "convluna-1", memory=1)])
    filters = pd.concat(
        [
            watched(first),
            watched(second, (0.5,) * 3, (3.0,) * 3),
            watched(third, (0.7,) * 3, (0.5,) * 3),
        ]
    )
    runs = pd.concat([first, second, third])
    table = filter_tables.changes(filters, runs)
    assert table.drop(columns="Seeds").to_numpy().tolist() == [
        ["ListOps", "ConvLuna-16", "50 %", "50 %", "3.00 (3.00 to 3.00)", "5.7"],
        ["Text", "ConvLuna-1", "70 %", "70 %", "0.50 (0.50 to 0.50)", "4.0"],
        ["Text", "ConvLuna-16", "20 %", "90 %", "1.10 (0.80 to 2.00)", "4.0"],
    ]
    # Kernels of runs that are not among those shown stay out.
    assert list(filter_tables.changes(filters, second)["Task"]) == ["ListOps"]


def test_a_run_that_has_not_finished_is_not_at_the_end_of_training() -> None:
    finished = pd.DataFrame([run("a")])
    others = pd.DataFrame([run("b", outcome="failed"), run("c", outcome="running")])
    runs = pd.concat([finished, others])
    filters = pd.concat([watched(finished), watched(others, (7.0,) * 3, (8.0,) * 3)])
    (row,) = filter_tables.changes(filters, runs).to_dict("records")
    assert (row["Seeds"], row["largest"]) == ("1", "90 %")
    assert "end at 0.80 to 2.00 at full scale (1 run)." in filter_tables.temperatures(filters, runs)
    assert filter_tables.changes(watched(others), others).iloc[0, 0] == style.MISSING
    nothing = "No run says yet where a learned pack temperature ends."
    assert filter_tables.temperatures(watched(others), others) == nothing


def test_a_filter_without_a_memory_has_no_temperature() -> None:
    both = pd.DataFrame([run("a"), run("b", "localconv", memory=0, preset="quick")])
    filters = watched(both)
    without = filters["model"] == "localconv"
    filters["pack_temperature"] = filters["pack_temperature"].mask(without)
    said = filter_tables.temperatures(filters, both)
    assert said.endswith("they end at 0.80 to 2.00 at full scale (1 run).")


def test_temperatures_of_each_scale_stand_beside_those_of_luna_there() -> None:
    full = pd.DataFrame([run("a"), run("b")])
    laptop = pd.DataFrame([run("c", task="text-short", preset="quick", width=16)])
    luna = pd.DataFrame(
        [
            run("d", "luna-16", task="listops", width=512),
            run("e", "luna-1"),
            run("g", "luna-4"),
            run("h", "luna-16", task="text-short", preset="quick", width=16),
            run("f", "luna-1", changes="cls_init=xavier", width=1024),
        ]
    )
    runs = pd.concat([full, laptop, luna])
    filters = pd.concat([watched(full), watched(laptop, ends=(0.9, 1.0, 1.2))])
    assert filter_tables.temperatures(filters, runs) == (
        "ConvLuna's learned pack temperatures start at 1; over all blocks and heads they end at "
        "0.80 to 2.00 at full scale (2 runs), 0.90 to 1.20 at laptop scale (1 run). Luna's is "
        "fixed at √d: 4.0 or 11.3 at full scale, 2.0 at laptop scale."
    )
    alone = pd.concat([full, laptop])
    assert filter_tables.temperatures(filters, alone).endswith("at laptop scale (1 run).")


def test_a_kernel_has_an_accuracy_for_each_task_with_a_control() -> None:
    runs = pd.DataFrame(
        [
            run("a", test_accuracy=0.6),
            run("b", changes="filter_kernel=random", test_accuracy=0.55),
            run("c", task="listops", test_accuracy=0.4),
            run("d", task="listops", changes="filter_kernel=smooth", test_accuracy=0.35),
            run("e", task="image", test_accuracy=0.45),  # without a control
            run("f", changes="filter_kernel=random", memory=1, test_accuracy=0.9),
            run("g", "luna-16", changes="cls_init=xavier", test_accuracy=0.9),
        ]
    )
    table = filter_tables.other_kernels(runs).set_index("Kernel")
    assert filter_tables.kernels_in_short(runs).splitlines() == [
        "Test accuracy (%) by kernel, means over seeds:",
        "  ListOps: learned (ConvLuna) 40.0; fixed mean 35.0",
        "  Text: learned (ConvLuna) 60.0; random, not trained 55.0",
    ]
    assert list(table) == ["ListOps", "Text"]
    assert table.loc["learned (ConvLuna)"].tolist() == ["40.0 (1)", "60.0 (1)"]
    assert table.loc["random, not trained"].tolist() == [style.MISSING, "55.0 (1)"]
    assert table.loc["fixed mean"].tolist() == ["35.0 (1)", style.MISSING]
    assert table.loc["Luna"].tolist() == [style.MISSING] * 2
    plain = runs[runs["changes"] == ""]
    assert filter_tables.other_kernels(plain).iloc[0, 0] == style.MISSING
    assert filter_tables.kernels_in_short(plain) == ""


def test_what_convluna_has_without_each_of_its_parts(tmp_path: Path) -> None:
    def said() -> str:
        verdicts = judged(tmp_path)
        assert filter_tables.taken_apart(verdicts, "quick") == ""
        return filter_tables.taken_apart(verdicts, "paper")

    write_runs(tmp_path, "convluna-16", [0.81, 0.82, 0.83], task="text")
    assert said() == ""
    write_runs(tmp_path, "convluna-16", [0.83, 0.84, 0.82], task="text",
               model_changes={"pack_temperature": "unit"})  # fmt: skip
    assert said() == (
        "ConvLuna-16 has 82.0 % on Text. Points lost with pack temperature 1, where the learned "
        "one starts: −1.0 [−3.3, 1.3] on Text (not shown)."
    )
    write_runs(tmp_path, "convluna-16", [0.75], task="text",
               model_changes={"pack_temperature": "sqrt"})  # fmt: skip
    write_runs(tmp_path, "convluna-16", [0.66, 0.67, 0.65], task="text",
               model_changes={"filter": "none"})  # fmt: skip
    write_runs(tmp_path, "convluna-16", [0.4, 0.41, 0.42], task="listops")
    write_runs(tmp_path, "convluna-16", [0.41, 0.4, 0.42], task="listops",
               model_changes={"filter": "none"})  # fmt: skip
    assert said() == (
        "ConvLuna-16 has 41.0 % on ListOps, 82.0 % on Text. Points lost without its filter: 0.0 "
        "[−2.3, 2.3] on ListOps (not shown), 16.0 [13.7, 18.3] on Text (holds); with pack "
        "temperature √d, as in Luna: 7.0 on Text (not enough runs); with pack temperature 1, where "
        "the learned one starts: −1.0 [−3.3, 1.3] on Text (not shown)."
    )


def test_the_two_readings_are_compared_seed_by_seed(tmp_path: Path) -> None:
    intended = {"reading": "as_intended", "unpack_temperature": "learn"}
    write_runs(tmp_path, "convluna-16", [0.80, 0.60], task="text")
    nothing = "No run as intended has finished beside one as coded with the same seed."
    assert filter_tables.readings(load_runs(tmp_path)) == nothing
    write_runs(tmp_path, "convluna-16", [0.83], task="text", model_changes=intended)
    assert filter_tables.readings(load_runs(tmp_path)) == (
        "On Text the model as intended is more accurate than as coded in 1 of 1 combination; the "
        "difference, seed by seed, is 3.0 points."
    )
    write_runs(tmp_path, "convluna-16", [0.70], task="text", model_changes={"filter": "none"})
    write_runs(tmp_path, "convluna-16", [0.69, 0.99], task="text",
               model_changes={**intended, "filter": "none"})  # fmt: skip
    assert filter_tables.readings(load_runs(tmp_path)) == (
        "On Text the model as intended is more accurate than as coded in 1 of 2 combinations; the "
        "difference, seed by seed, is −1.0 to 3.0 points, most with convolution, width 4, "
        "T = learned."
    )


def test_luna_in_both_readings_has_its_sentence(tmp_path: Path) -> None:
    """Its runs as intended are in no table, since nothing but the padding differs."""
    write_runs(tmp_path, "luna-16", [0.65, 0.66], task="text")
    nothing = filter_tables.readings(load_runs(tmp_path))
    assert "Luna" not in nothing
    write_runs(tmp_path, "luna-16", [0.67], task="text", model_changes={"reading": "as_intended"})
    assert filter_tables.readings(load_runs(tmp_path)) == (
        f"{nothing} Luna-16, of which only the padding differs, has 67.0 (1) on Text as intended, "
        "65.5 ± 0.7 (2) as coded."
    )
