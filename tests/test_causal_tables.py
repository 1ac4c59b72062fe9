"""What is said of the causal tests, on rows made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from memnb.draw import causal_tables, style

#: Test, rule of removal, rows left.
Test = tuple[str, str, int]
INTACT: Test = ("intact", "", 16)
FROZEN: Test = ("freeze", "", 16)
LEVELLED: Test = ("mean", "", 16)
EXCHANGED: Test = ("swap", "", 16)


def asked(
    model: str, accuracies: Mapping[Test, float], seed: int = 0, task: str = "image", **more: Any
) -> pd.DataFrame:
    """Causal rows of one run of a model with 16 memory rows."""
    usual = {"memory": 16, "family": model.partition("-")[0], "changes": "", **more}
    run = {"run_id": f"{task}-{model}-{usual['changes']}-{seed}", "task": task, "model": model}
    return pd.DataFrame(
        [
            {**run, "seed": seed, **usual, "test": test, "rule": rule, "kept": kept,
             "accuracy": accuracy}
            for (test, rule, kept), accuracy in accuracies.items()
        ]
    )  # fmt: skip


def removed(
    model: str, least: float, most: float, kept: int = 8, task: str = "image"
) -> pd.DataFrame:
    """With ``kept`` of 16 rows left, the least or the most used gone; with one, all is lost."""
    by_rule = {"least used": least, "most used": most}
    rows = {("remove", rule, kept): accuracy for rule, accuracy in by_rule.items()}
    return asked(model, {INTACT: 0.9, **rows, ("remove", "most used", 1): 0.1,
                         ("remove", "least used", 1): 0.1}, task=task)  # fmt: skip


def runs_of(*asked_of: tuple[str, int, Mapping[str, Any]]) -> pd.DataFrame:
    """Finished runs of models with 16 rows on Image: model, seed, and what is otherwise."""
    return pd.DataFrame(
        [
            {"run_id": f"image-{model}-{other.get('changes', '')}-{seed}", "task": "image",
             "model": model, "family": model.partition("-")[0], "seed": seed, "memory": 16,
             "changes": "", "outcome": "finished", **other}
            for model, seed, other in asked_of
        ]
    )  # fmt: skip


def test_points_lost_are_means_over_the_seeds_that_were_asked() -> None:
    causal = pd.concat(
        [
            asked("luna-16", {INTACT: 0.7, FROZEN: 0.6, LEVELLED: 0.7}, 0),
            asked("luna-16", {INTACT: 0.7, FROZEN: 0.5, LEVELLED: 0.6}, 1),
            asked("luna-16", {INTACT: 0.7, FROZEN: 0.1}, 2),
            asked("luna-16", {INTACT: 0.9}, 3),  # nobody asked it so
            asked("convluna-16", {INTACT: 0.5, FROZEN: 0.51, EXCHANGED: 0.1}),
            asked("luna-16", {INTACT: 0.4, FROZEN: 0.35}, task="listops"),
            asked("luna-1", {INTACT: 0.4, FROZEN: 0.1}, memory=1),
            asked("convluna-16", {INTACT: 0.9, FROZEN: 0.1}, changes="filter=none"),
        ]
    )
    table = causal_tables.points_lost(causal)
    assert [*table.columns] == ["The memory is", "Task", "Luna-16", "ConvLuna-16"]
    assert table.to_numpy().tolist() == [
        ["all rows = their mean", "Image", "5.0", "–"],
        ["all rows of another input", "Image", "–", "40.0"],
        ["initial memory in every block", "ListOps", "5.0", "–"],
        ["initial memory in every block", "Image", "30.0", "−1.0"],
    ]


def test_where_nobody_was_asked_the_table_says_so() -> None:
    intact, frozen = asked("luna-16", {INTACT: 0.5}), asked("luna-16", {FROZEN: 0.3}, 1)
    for causal in (intact.iloc[:0], intact, pd.concat([intact, frozen])):
        table = causal_tables.points_lost(causal)
        assert (len(table), table.iloc[0, 0]) == (1, style.MISSING)


def test_rows_that_are_read_least_and_missed_most_are_named() -> None:
    causal = pd.concat(
        [
            removed("convluna-16", 0.4, 0.2),  # what one would expect
            removed("luna-16", 0.268, 0.332),
            removed("poolluna-16", 0.30, 0.32),  # two points, which seeds can make
            removed("luna-16", 0.5, 0.6, kept=4, task="listops"),
        ]
    )
    assert causal_tables.order_by_use(causal) == (
        "The least used rows are missed more than the most used ones: Luna-16 on ListOps (4 rows "
        "left: 50.0 % without the least used, 60.0 % without the most used); Luna-16 on Image (8 "
        "rows left: 26.8 % without the least used, 33.2 % without the most used)."
    )


def test_the_order_by_use_is_that_of_the_mean_where_both_rules_were_asked() -> None:
    one = removed("luna-16", 0.5, 0.6)
    other = removed("luna-16", 0.2, 0.5).assign(seed=1, run_id="another")
    half = asked("luna-16", {("remove", "most used", 12): 0.9}, 2)
    said = causal_tables.order_by_use(pd.concat([one, other, half]))
    assert "8 rows left: 35.0 % without the least used, 55.0 % without the most used" in said


def test_rows_that_are_missed_in_the_order_of_their_use_are_said_to_be() -> None:
    usual = pd.concat([removed("convluna-16", 0.4, 0.2), removed("luna-16", 0.31, 0.32)])
    assert causal_tables.order_by_use(usual) == (
        "Nowhere are the least used rows missed more than the most used ones, by more than "
        "2 points."
    )
    ablated = removed("luna-16", 0.1, 0.9).assign(changes="cls_init=xavier")
    nothing = "No run has lost its rows by use yet."
    least = asked("luna-16", {("remove", "least used", 8): 0.5})
    most = asked("luna-16", {("remove", "most used", 4): 0.5})
    for causal in (usual.iloc[:0], ablated, least, pd.concat([least, most])):
        assert causal_tables.order_by_use(causal) == nothing


def test_finished_runs_that_nobody_asked_are_named() -> None:
    causal = asked("luna-16", {INTACT: 0.5})
    runs = runs_of(
        ("luna-16", 0, {}),
        ("luna-16", 11, {}),
        ("luna-16", 2, {}),
        ("luna-256", 5, {"task": "listops", "run_id": "a"}),
        ("luna-4", 7, {"outcome": "failed"}),
        ("luna-1", 0, {"memory": 1}),  # nothing to take away
        ("luna-64", 0, {"changes": "cls_init=xavier"}),
        ("rmt-16", 0, {}),  # of its kind none was asked
    )
    assert causal_tables.not_asked(runs, causal) == (
        "Runs without causal rows: Luna-256 on ListOps (seed 5); Luna-16 on Image (seeds 2, 11)."
    )
    assert causal_tables.not_asked(runs[runs["seed"] == 0], causal) == "Every run was asked."
    assert causal_tables.not_asked(runs, causal.iloc[:0]) == "No run has been asked yet."
