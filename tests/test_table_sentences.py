"""What :mod:`memnb.draw.tables` says in sentences, on rows made by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up_runs import write_run, write_runs

from memnb.draw import style, tables
from memnb.evidence import load_runs


def runs_of(*those: tuple[str, float] | tuple[str, float, dict[str, Any]]) -> pd.DataFrame:
    """Finished runs on short ListOps: model, accuracy, and what is otherwise."""
    return pd.DataFrame(
        [
            {"model": model, "task": "listops-short", "test_accuracy": accuracy, "changes": "",
             "memory": int(model.partition("-")[2] or 0), "outcome": "finished",
             **(other[0] if other else {})}
            for model, accuracy, *other in those
        ]
    )  # fmt: skip


def beginnings(*those: tuple[str, float, float, float], **same: Any) -> pd.DataFrame:
    """Of runs on short ListOps: model, accuracy on whole inputs and with their first token alone,
    the share of answers that stay."""
    usual = {"task": "listops-short", "changes": ""} | same
    return pd.DataFrame(
        [
            {"run_id": f"{usual}-{number}", "model": model, **usual, "kept": kept,
             "accuracy": accuracy, "changed": changed}
            for number, (model, whole, first, stay) in enumerate(those)
            for kept, accuracy, changed in (
                (1, first, 1 - stay), (64, 0.99, 0.0), (300, whole, 0.0)
            )
        ]
    )  # fmt: skip


RULE = (
    "On ListOps short a rule that reads the first token alone, the outermost operator, is right on "
    "34.6 % of the test set. "
)


def test_models_two_points_around_the_first_operator_are_no_more_than_within_its_reach() -> None:
    runs = runs_of(
        ("transformer", 0.3255),  # below its reach
        ("luna-1", 0.326),
        ("luna-4", 0.366),
        ("luna-16", 0.367),
        ("convluna-1", 0.10),
        ("convluna-1", 0.50),
        ("convluna-1", 0.20),
        ("convluna-4", 0.34),
        ("convluna-16", 0.9, {"outcome": "failed"}),
        ("poolluna-16", 0.9, {"changes": "filter_stride=4"}),
        ("poolluna-16", 0.9, {"task": "text-short"}),
    )
    assert tables.first_operator_alone(runs) == (
        f"{RULE}With a run more than 2 points above it: Luna-16, ConvLuna-1. Within 2 points of "
        "it, and so perhaps no more: Luna-1, Luna-4, ConvLuna-4."
    )
    assert tables.first_operator_alone(runs[runs["test_accuracy"] < 0.2].iloc[:0]) == ""
    far = runs_of(("luna-1", 0.2), ("luna-16", 0.4))
    assert tables.first_operator_alone(far) == (
        f"{RULE}With a run more than 2 points above it: Luna-16."
    )


def test_where_no_run_is_above_the_first_operator_differences_are_no_memory() -> None:
    both = runs_of(("luna-1", 0.366), ("luna-16", 0.3, {"task": "listops"}))
    nobody = (
        "No run of any model is more than 2 points above that: differences say how many seeds "
        "found that operator, not what a memory holds of the rest."
    )
    full = RULE.replace("ListOps short", "ListOps").replace("34.6", "36.0")
    assert tables.first_operator_alone(both) == f"{full}{nobody} {RULE}{nobody}"


def first_token(share: str, keep: str, runs: str, task: str = "ListOps short") -> str:
    return (
        f"On {task} runs that have learned something and were tested so ({runs}) {keep} their "
        "accuracy when every token but the first is swapped for another input's: "
        f"{share} of the answers stay."
    )


def test_what_the_first_token_keeps_is_a_mean_over_all_runs_that_have_learned() -> None:
    frame = pd.concat(
        [
            beginnings(
                ("luna-16", 0.40, 0.20, 0.3),
                ("luna-16", 0.41, 0.21, 0.3),
                ("luna-16", 0.57, 0.22, 0.6),
                ("convluna-16", 0.60, 0.31, 0.8),
                ("luna-1", 0.177, 0.90, 0.9),  # 2 points above the commonest answer: not learned
            ),
            beginnings(("luna-16", 0.38, 0.36, 0.95), task="listops"),
            beginnings(("luna-16", 0.90, 0.90, 0.9), changes="cls_init=xavier"),
            beginnings(("luna-16", 0.90, 0.90, 0.9), task="text-short"),
        ]
    )
    kept = first_token("38.0 % before, 36.0 % after; 95 %", "keep", "one run", "ListOps")
    lost = first_token("49.5 % before, 23.5 % after; 50 %", "do not keep", "4 runs")
    assert tables.first_token_reading(frame) == f"{kept} {lost}"
    assert tables.first_token_kept(frame).to_numpy().tolist() == [
        ["ListOps", "Luna-16", "1", "38.0", "36.0", "95.0"],
        ["ListOps short", "Luna-16", "3", "46.0", "21.0", "40.0"],
        ["ListOps short", "ConvLuna-16", "1", "60.0", "31.0", "80.0"],
        ["Text short", "Luna-16", "1", "90.0", "90.0", "90.0"],
    ]


def test_what_more_rows_give_is_a_difference_of_means_with_its_interval(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.60, 0.61, 0.62], task="text")
    write_runs(tmp_path, "luna-16", [0.9], task="text")
    write_runs(tmp_path, "luna-256", [0.59, 0.60, 0.61], task="text")
    write_runs(tmp_path, "convluna-1", [0.7], task="text")
    write_runs(tmp_path, "convluna-16", [0.72], task="text")
    write_runs(tmp_path, "poolluna-16", [0.8], task="text")
    write_runs(tmp_path, "transformer", [0.8], task="text")
    changed = {"cls_init": "xavier"}
    write_runs(tmp_path, "convluna-1", [0.1], task="text", model_changes=changed)
    runs = load_runs(tmp_path)
    assert tables.more_rows(runs) == (
        "Points of accuracy gained over one row, with 95 % intervals:\n"
        "  Text: Luna with 256 rows −1.0 [−3.3, 1.3], ConvLuna with 16 rows +2.0"
    )
    assert tables.more_rows(runs[runs["memory"] != 1]) == ""


def test_a_file_that_is_not_whole_says_nothing() -> None:
    frame = beginnings(("luna-16", 0.40, 0.38, 1.0))
    answers_changed = frame["changed"].mask(frame["kept"] == 64, 0.1)
    assert tables.first_token_reading(frame) != ""
    for torn in (
        frame[frame["kept"] == 1],
        frame[frame["kept"] > 1],
        frame.assign(changed=answers_changed).iloc[:2],
        frame.assign(accuracy=math.nan),
        frame.iloc[:0],
    ):
        assert tables.first_token_reading(torn) == ""
        assert tables.first_token_kept(torn)["Task"][0] == style.MISSING


@pytest.mark.parametrize(("first", "keep"), [(0.37, "do not keep"), (0.43, "do not keep"),
                                             (0.39, "keep"), (0.41, "keep")])  # fmt: skip
def test_an_accuracy_is_kept_that_is_neither_lower_nor_higher(first: float, keep: str) -> None:
    said = tables.first_token_reading(beginnings(("luna-16", 0.40, first, 0.5)))
    after = f"40.0 % before, {100 * first:.1f} % after; 50 %"
    assert said == first_token(after, keep, "one run")


def test_what_is_left_without_the_rest_are_means_of_each_model_on_one_task() -> None:
    frame = pd.concat(
        [
            beginnings(
                ("convluna-16", 0.40, 0.41, 0.5),
                ("luna-16", 0.50, 0.40, 0.5),
                ("luna-16", 0.50, 0.40, 0.5),
                ("luna-16", 0.60, 0.20, 0.5),
                ("luna-1", 0.40, 0.4002, 0.5),
            ),
            beginnings(("luna-16", 0.40, 0.35, 0.5), task="listops"),
        ]
    )
    said = tables.without_the_rest(frame, "listops-short")
    assert said == (
        "ListOps short, 500 test examples, with another input's tokens behind the first: 1 of 3 "
        "models loses more than 2 points, 20.0 (Luna-16), which leaves 33.3, where the first "
        "operator alone has 34.2. Such a loss shows that a model looks at the rest, not that the "
        "rest helps it. Seeds that were asked, of each: 1 to 3. Every number: "
        "notebooks/07_memory_size.ipynb."
    )
    more = pd.concat([frame, beginnings(("poolluna-16", 0.40, 0.37, 0.5))])
    said = tables.without_the_rest(more, "listops-short")
    assert "2 of 4 models lose more than 2 points, 3.0 to 20.0 (Luna-16, PoolLuna-16), " in said
    assert "which leaves 33.3 to 37.0, where" in said
    assert "alone has 38.8." in tables.without_the_rest(frame, "listops")
    kept = tables.without_the_rest(beginnings(("luna-16", 0.40, 0.38, 0.5)), "listops-short")
    assert "first: none of 1 model loses more than 2 points. Seeds" in kept
    assert tables.without_the_rest(frame, "text") == ""


def test_a_run_of_two_points_above_the_majority_has_learned_nothing() -> None:
    runs = runs_of(
        ("luna-16", 0.177),
        ("luna-16", 0.10),
        ("luna-16", 0.178),
        ("convluna-4", 0.13),
        ("convluna-16", 0.5),
        ("poolluna-16", 0.1, {"outcome": "failed"}),
        ("poolluna-16", 0.1, {"changes": "filter_stride=4"}),
        ("luna-1", 0.1),  # its one row has no others to be alike
        ("luna-4", 0.19, {"task": "listops"}),
    )
    assert tables.at_majority(runs) == (
        "At the majority level, having learned nothing: Luna-4 on ListOps (1 of 1 runs), "
        "Luna-16 on ListOps short (2 of 3 runs), ConvLuna-4 on ListOps short (1 of 1 runs)."
    )
    learned = runs[runs["test_accuracy"] > 0.19]
    assert tables.at_majority(learned) == "Every run shown has learned its task."
    for none in (runs.iloc[:0], runs[runs["memory"] < 2], runs[runs["outcome"] == "failed"]):
        assert tables.at_majority(none) == "No run with several memory rows has finished yet."


def looks(*ends: tuple[str, float, float], block: int = 1, memory: int = 16) -> pd.DataFrame:
    """A first look at one run of each model, and a last one with this cosine and effective rank."""
    return pd.DataFrame(
        [
            {"run_id": model, "model": model, "memory": memory, "step": step, "block": block,
             "packed_cosine": a, "packed_rank": b}
            for model, cosine, rank in ends
            for step, a, b in ((0, 0.0, 16.0), (700, cosine, rank))
        ]
    )  # fmt: skip


def test_where_both_measures_agree_the_last_look_is_its_numbers() -> None:
    frame = pd.concat(
        [
            looks(("convluna-16", 0.25, 6.0), ("luna-16", 0.9, 2.0)),
            looks(("luna-1", 0.0, 1.0), memory=1),
        ]
    )
    assert tables.last_look(frame) == (
        "Block 1, last look: cosine Luna-16 0.90, ConvLuna-16 0.25; effective rank Luna-16 2.0, "
        "ConvLuna-16 6.0."
    )
    assert tables.last_look(frame.iloc[:0]) == ""


def test_where_the_measures_disagree_the_last_look_names_both_models() -> None:
    frame = pd.concat(
        [
            looks(("luna-16", 0.9, 4.0), ("convluna-16", 0.3, 3.0), ("poolluna-16", 0.5, 8.0)),
            looks(("luna-16", 0.8, 2.0), ("convluna-16", 0.3, 3.0), block=2),
        ]
    )
    assert tables.last_look(frame).splitlines() == [
        "Block 1, last look: cosine Luna-16 0.90, ConvLuna-16 0.30, PoolLuna-16 0.50; effective "
        "rank Luna-16 4.0, ConvLuna-16 3.0, PoolLuna-16 8.0. By cosine the rows of Luna-16 are the "
        "most alike, by effective rank those of ConvLuna-16.",
        "Block 2, last look: cosine Luna-16 0.80, ConvLuna-16 0.30; effective rank Luna-16 2.0, "
        "ConvLuna-16 3.0.",
    ]


@pytest.mark.parametrize(
    ("sides", "said"),
    [
        ([3, 3], ""),
        ([3, 9], ""),
        ([1, 1], "each side has 1 seed"),
        ([2, 2], "each side has 2 seeds"),
        ([1, 2], "no side has 3 seeds"),
        ([2, 3], "some sides have fewer than 3 seeds"),
    ],
)
def test_too_few_seeds_are_told(sides: Iterable[int], said: str) -> None:
    assert tables.too_few_seeds(sides) == said


@pytest.mark.parametrize(
    ("points", "said"),
    [(1.26, "+1.3"), (-1.26, "−1.3"), (-0.04, "+0.0"), (0.0, "+0.0")],
)
def test_a_difference_has_a_sign(points: float, said: str) -> None:
    assert tables.signed(points) == said


def test_a_run_under_way_is_not_counted_among_the_failed(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.60, None, 0.62], task="text")
    write_run(tmp_path, "luna-1", "text", 3, outcome="running")
    write_run(tmp_path, "luna-1", "text", 4, outcome="interrupted")
    assert tables.accuracy_cell(load_runs(tmp_path)) == "61.0 ± 1.4 (2, 1 failed)"
