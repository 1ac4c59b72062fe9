"""Inputs made for this package stand where a data set may not be passed on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from memnb import config, paths, tasks
from memnb.tasks import shown

GENERATED = (config.ListOps, config.Pathfinder, config.Recall)
FOREIGN = sorted(name for name, task in config.TASKS.items() if not isinstance(task, GENERATED))


@pytest.mark.parametrize("name", FOREIGN)
def test_own_inputs_have_the_form_of_the_task(name: str) -> None:
    task = config.TASKS[name]
    split = shown.own(task)
    assert split is not None
    parts = (2,) if task.layout == "pair" else ()
    assert split.inputs.shape == (2, *parts, task.max_length)
    assert split.inputs.dtype == np.uint8
    assert split.lengths.shape == (2, *parts)
    assert split.lengths.min() > 0
    assert split.lengths.max() <= task.max_length
    assert set(split.labels.tolist()) <= set(range(task.classes))
    for inputs, lengths in zip(split.inputs, split.lengths, strict=True):
        for row, length in zip(np.atleast_2d(inputs), np.atleast_1d(lengths), strict=True):
            tasks.tokens(task, row, int(length))
            assert not row[length:].any()


def test_a_review_reads_as_it_was_written_and_is_cut() -> None:
    task = config.task_config("text-short", max_length=30)
    split = shown.own(task)
    assert split is not None
    words = "".join(tasks.tokens(task, split.inputs[0], int(split.lengths[0])))
    assert words == shown.REVIEWS[0][0][:30]


def test_a_ship_lies_on_dark_water_and_a_plane_has_the_bright_sky_below_it() -> None:
    split = shown.own(config.TASKS["image"])
    assert split is not None
    below = split.inputs.reshape(-1, 32, 32)[:, -6:].mean(axis=(1, 2))
    (ship, plane) = split.labels
    assert (ship, plane) == (8, 0), "in CIFAR-10"
    assert below[0] < 128 < below[1]


def test_generated_tasks_show_their_own_examples() -> None:
    assert [name for name in config.TASKS if shown.own(config.TASKS[name])] == [
        name for name in config.TASKS if name in FOREIGN
    ]


def test_no_part_of_a_foreign_data_set_is_passed_on() -> None:
    """The attention maps among the committed rows and the views beside the shipped weights."""
    seen = [*paths.stored_results().glob("*/attention.npz"), *paths.weights().glob("*.npz")]
    assert len(seen) > 20
    for path in seen:
        run_id = path.stem if path.parent == paths.weights() else path.parent.name
        for name in FOREIGN:
            if re.match(rf"{name}-(?!short)", run_id):
                assert own_tokens(name).issuperset(tokens_in(path)), path


def own_tokens(name: str) -> set[bytes]:
    split = shown.own(config.TASKS[name])
    assert split is not None
    rows = split.inputs.reshape(-1, split.inputs.shape[-1])
    lengths = split.lengths.ravel().tolist()
    return {row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)}


def tokens_in(path: Path) -> set[bytes]:
    with np.load(path) as arrays:
        return {arrays[name].tobytes() for name in arrays.files if name.startswith("tokens")}
