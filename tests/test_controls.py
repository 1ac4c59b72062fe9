"""The filter without a memory: what is said of it beside claim C1."""

from __future__ import annotations

from pathlib import Path

from made_up_runs import write_run, write_runs

from memnb.draw import beside_tables
from memnb.evidence import rows

MEAN = {"representation": "mean"}


def reading(folder: Path, preset: str = "paper") -> list[str]:
    """The sentences, each on one line."""
    runs = rows.of_study(rows.load_runs(folder), "chunks")
    text = beside_tables.controls_reading(runs, preset)
    assert max(map(len, text.splitlines())) <= 100
    *said, last = text.replace("\n", " ").replace(". ", ".\n").splitlines()
    if "No task has both" in last:
        return [last]
    assert last == "Differences are taken before numbers are rounded."
    return said


def test_a_gain_is_split_into_what_the_better_control_has_and_what_is_left(tmp_path: Path) -> None:
    accuracies = {"luna-1": 0.65, "convluna-1": 0.77, "convluna-16": 0.83, "luna-16": 0.66}
    for model, accuracy in {**accuracies, "localconv": 0.75, "memoryless": 0.765}.items():
        write_run(tmp_path, model, "text", accuracy=accuracy)
    reached, split, enough, left, limits = reading(tmp_path)
    assert reached.endswith(
        "on Text at full scale: ConvLuna without memory 76.5 % (1 seed), Local convolution 75.0 % "
        "(1 seed)."
    )
    assert split == (
        "In points above Luna, with M = 1: ConvLuna +12.0, ConvLuna without memory +11.5, a "
        "difference of +0.5; with M = 16: ConvLuna +17.0, ConvLuna without memory +10.5, a "
        "difference of +6.5."
    )
    assert enough.startswith("At most 1 point is left on Text with M = 1: no memory is needed")
    assert left.startswith("More than 1 point is left on Text with M = 16:")
    assert "no verdict: each side has 1 seed; with M = 1 and M = 16" in limits


def test_with_enough_seeds_the_interval_decides(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.60, 0.61, 0.62], task="text")
    write_runs(tmp_path, "memoryless", [0.70, 0.71, 0.72], task="text")
    write_runs(tmp_path, "convluna-1", [0.70, 0.74, 0.78], task="text")
    write_runs(tmp_path, "convluna-4", [0.66, 0.67, 0.68], task="text")
    write_runs(tmp_path, "convluna-16", [0.80, 0.81, 0.82], task="text")
    said = reading(tmp_path)
    assert said[1].endswith(
        "with M = 16: ConvLuna +20.0, ConvLuna without memory +10.0, a difference of "
        "+10.0 [7.7, 12.3]."
    )
    assert "ConvLuna-1 stands at +3.0 [" in said[2], "Luna-1 has no run"
    assert said[3:6] == [
        "At most 1 point is left on Text with M = 4: no memory is needed to explain ConvLuna's "
        "accuracy.",
        "More than 1 point is left on Text with M = 16: the filter alone does not explain that.",
        "Whether more than 1 point is left is open on Text with M = 1.",
    ]
    assert "fewer than" not in said[-1]
    assert "read the first position (CLS)" in said[-1]


def test_rows_that_read_as_the_controls_do_are_compared_where_there_are_some(
    tmp_path: Path,
) -> None:
    for seed in range(3):
        for model, cls, mean in (("luna-16", 0.6, 0.7), ("convluna-16", 0.9, 0.8)):
            write_run(tmp_path, model, "text", seed, cls)
            write_run(tmp_path, model, "text", seed, mean, model_changes=MEAN)
        write_run(tmp_path, "localconv", "text", seed, 0.75)
    said = reading(tmp_path)
    assert "with M = 16 by the mean: ConvLuna +10.0, Local convolution +5.0, a" in said[1]
    assert said[-1].startswith("More than 1 point"), "neither seeds nor reading to warn of"


def test_only_finished_rows_of_full_scale_on_the_same_task_count(tmp_path: Path) -> None:
    nothing = "No task has both ConvLuna and the filter without a memory at full scale yet."
    assert reading(tmp_path) == [nothing]
    write_run(tmp_path, "convluna-16", "text", accuracy=0.8)
    write_run(tmp_path, "memoryless", "listops", accuracy=0.3)
    write_run(tmp_path, "memoryless", "text", outcome="failed", reason="the loss became NaN")
    for model in ("memoryless", "convluna-16", "luna-16"):
        write_run(tmp_path, model, "listops-short")
    assert reading(tmp_path) == [nothing]
    write_run(tmp_path, "convluna-16", "listops", accuracy=0.35)
    said = reading(tmp_path)
    assert said[1].endswith("ConvLuna-16 stands at +5.0 points, where Luna has no run to compare.")
    assert not any("Text" in sentence for sentence in said)


def test_at_laptop_scale_where_nobody_has_learned_nothing_follows(tmp_path: Path) -> None:
    for seed in range(3):
        for task, (luna, ours, alone) in {
            "text-short": (0.60, 0.64 + seed / 1000, 0.58),
            "pathfinder-short": (0.481, 0.481, 0.481),
        }.items():
            write_run(tmp_path, "luna-16", task, seed, luna, model_changes=MEAN)
            write_run(tmp_path, "convluna-16", task, seed, ours, model_changes=MEAN)
            write_run(tmp_path, "memoryless", task, seed, alone)
    said = reading(tmp_path, "quick")
    assert said[0].startswith("The filter without a memory, on Text short at laptop scale:")
    assert said[-2].startswith("More than 1 point is left on Text short with M = 16 by the mean")
    assert said[-1] == (
        "Neither is above the majority class on Pathfinder short with M = 16 by the mean, which "
        "says nothing."
    )
    assert reading(tmp_path) == [
        "No task has both ConvLuna and the filter without a memory at full scale yet."
    ]


def test_parameters_stand_in_the_order_of_the_tasks(tmp_path: Path) -> None:
    for model, task in (("memoryless", "text"), ("memoryless", "listops"), ("luna-16", "text")):
        write_run(tmp_path, model, task)
    runs = rows.of_study(rows.load_runs(tmp_path), "chunks")
    sizes = {("memoryless", "text"): 27_370, ("memoryless", "listops"): 56_938}
    pairs = zip(runs["model"], runs["task"], strict=True)
    runs = runs.assign(parameters=[sizes.get(pair, 30_000) for pair in pairs])
    table = beside_tables.controls(runs)
    assert list(table.columns[3:]) == ["ListOps", "Text"]
    assert dict(zip(table["Model"], table["Parameters"], strict=True)) == {
        "ConvLuna without memory": "56,938 / 27,370",
        "Luna-16": "– / 30,000",
    }
