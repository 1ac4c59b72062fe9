"""Answers without a model, and the levels that are drawn beside those of models."""

from __future__ import annotations

import numpy as np
import pytest

from memnb import config, tasks
from memnb.evidence import levels
from memnb.probes import causal
from memnb.tasks import counts, rules
from memnb.tasks.base import Dataset, Split


def split(inputs: list[list[int]], labels: list[int]) -> Split:
    lengths = np.full(len(labels), len(inputs[0]), np.int32)
    return Split(np.array(inputs, np.uint8), lengths, np.array(labels, np.int64))


def test_rules_learn_from_training_labels_and_are_scored_on_the_tests() -> None:
    train = split([[7, 1], [7, 2], [7, 3], [9, 1], [9, 1]], [4, 4, 0, 2, 2])
    test = split([[7, 5], [9, 5], [8, 5], [8, 5]], [4, 2, 0, 3])
    data = Dataset(train, train, test)
    assert rules.first_token(data) == 0.75  # 7 -> 4, 9 -> 2, unseen -> 0
    assert rules.commonest_label(data) == 0.25  # 2 and 4 are as common: the smaller


def test_the_constant_answer_is_the_one_that_validation_prefers() -> None:
    validation = split([[7, 1], [7, 2], [9, 1]], [4, 4, 2])
    test = split([[7, 5], [9, 5], [8, 5], [8, 5]], [4, 2, 2, 2])
    assert rules.constant_answer(test, validation) == 0.25
    assert rules.constant_answer(validation, validation) == pytest.approx(2 / 3)


@pytest.mark.parametrize("task", ["listops", "listops-short", "pathfinder-short"])
def test_levels_are_those_of_the_set_that_a_figure_shows(task: str) -> None:
    data = tasks.load(config.task_config(task))
    asked = rules.first_of(data.test, levels.ASKED_AGAIN)
    for shown, known in (
        (data.test, levels.levels_of(task)),
        (asked, levels.levels_of(task, examples=levels.ASKED_AGAIN)),
        (data.validation, levels.levels_of(task, "validation")),
    ):
        assert rules.constant_answer(shown, data.validation) == known.constant
        if known.first_operator is not None:
            assert rules.first_token_on(shown, data.train) == known.first_operator


@pytest.mark.parametrize("task", ["listops", "listops-short"])
def test_levels_of_each_fifth_by_length(task: str) -> None:
    data = tasks.load(config.task_config(task))
    found = [
        (
            int(part.lengths[0]),
            int(part.lengths[-1]),
            levels.Levels(
                rules.constant_answer(part, data.validation),
                rules.first_token_on(part, data.train),
            ),
        )
        for part in rules.by_length(data.test)
    ]
    assert found == [*levels.levels_by_length(task)]


def test_levels_of_image_follow_from_the_committed_counts() -> None:
    _, validation, test = counts.load()["image"].labels
    commonest = validation.argmax()
    assert levels.levels_of("image", "validation").constant == validation.max() / validation.sum()
    assert levels.levels_of("image").constant == test[commonest] / test.sum()


def test_what_has_learned_something_is_judged_as_before() -> None:
    assert levels.learned_above("listops-short") == pytest.approx(0.177)
    assert levels.learned_above("pathfinder-short") == pytest.approx(0.52)


@pytest.mark.parametrize("task", ["listops", "listops-short"])
def test_the_first_operator_gives_what_figures_say(task: str) -> None:
    data = tasks.load(config.task_config(task))
    assert rules.first_token(data) == levels.first_operator(task)
    again = levels.ASKED_AGAIN
    assert again == causal.EXAMPLES
    assert rules.first_token(data, again) == levels.levels_of(task, examples=again).first_operator
    labels = np.concatenate([data.train.labels, data.validation.labels, data.test.labels])
    share = np.bincount(labels).max() / len(labels)
    assert share == pytest.approx(levels.majority_share(task), abs=0.01)


def test_the_level_of_every_task_is_known() -> None:
    assert set(levels.MAJORITY) >= set(config.TASKS)
    # Every variant of ListOps begins with an operator; nothing else does.
    listops = {name for name, task in config.TASKS.items() if isinstance(task, config.ListOps)}
    for examples in (None, levels.ASKED_AGAIN):
        known = {name: levels.levels_of(name, examples=examples) for name in config.TASKS}
        assert {n for n, level in known.items() if level.first_operator is not None} == listops
    assert levels.first_operator("text") is None


def test_what_is_within_reach_of_the_first_operator() -> None:
    assert levels.is_first_operator_enough("listops", [0.1, 0.36])
    assert not levels.is_first_operator_enough("listops", [0.1, 0.5])
    assert not levels.is_first_operator_enough("text", [0.1])


def test_levels_are_said_in_percent() -> None:
    assert levels.in_percent(0.3595) == "36.0"
    assert levels.in_percent(None) == "–"
