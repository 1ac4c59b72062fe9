"""Configs are closed, frozen, and their ids stay what they were."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from memnb.config import (
    FULL_TASKS,
    TASKS,
    Run,
    list_models,
    model_config,
    run_config,
    task_config,
)
from memnb.errors import MemnbError

# Committed rows are found by these ids. If one changes, a default was changed: undo that.
PINNED = {
    ("luna-16", "listops", 0): "listops-luna-16-s0-29ef663596",
    ("convluna-1", "text", 2): "text-convluna-1-s2-f88e342125",
    ("transformer", "image", 1): "image-transformer-s1-37b1c30ccc",
}


@pytest.mark.parametrize(("key", "run_id"), PINNED.items())
def test_run_ids_stay(key: tuple[str, str, int], run_id: str) -> None:
    assert run_config(*key).run_id == run_id


def test_every_setting_changes_the_id() -> None:
    base = run_config("convluna-16", "listops-short")
    changed = [
        run_config("convluna-16", "listops-short", 1),
        run_config("convluna-4", "listops-short"),
        run_config("convluna-16", "listops-short", task_changes={"seed": 1}),
        run_config("convluna-16", "listops-short", training_changes={"lr": 0.02}),
        run_config("convluna-16", "listops-short", model_changes={"reading": "as_intended"}),
        run_config("convluna-16", "listops-short", model_changes={"filter_stride": 2}),
    ]
    ids = {run.run_id.rsplit("-", 1)[1] for run in [base, *changed]}
    assert len(ids) == len(changed) + 1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", list_models())
def test_a_config_survives_json(model: str, task: str) -> None:
    run = run_config(model, task)
    assert Run.of(json.loads(json.dumps(run.model_dump()))) == run
    assert run.preset == ("paper" if task in FULL_TASKS else "quick")


def test_a_changed_protocol_is_no_longer_the_papers() -> None:
    run = run_config("luna-16", "listops", training_changes={"steps": 10})
    assert run.preset == "custom"


def test_configs_are_frozen() -> None:
    model = model_config("luna-16", "text")
    with pytest.raises(ValidationError, match="frozen"):
        model.memory = 3  # type: ignore[misc]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_and_its_digest_follow_its_definition(task: str) -> None:
    assert task_config(task).name == task
    digests = {config.digest for config in TASKS.values()}
    assert len(digests) == len(TASKS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training_changes": {"step": 3}}, "did you mean 'steps'"),
        ({"training_changes": {"steps": 0}}, "greater than or equal to 1"),
        ({"training_changes": {"lr": float("nan")}}, "finite"),
        ({"training_changes": {"steps": "many"}}, "valid integer"),
        ({"task_changes": {"min_length": 1999}}, "raise max_length"),
        ({"task_changes": {"max_arguments": 10**30}}, "less than 2147483648"),
        ({"seed": -1}, "greater than or equal to 0"),
        # More than a machine word holds is a sentence too, where PyTorch would raise.
        ({"model_changes": {"memory": 10**25}}, "less than"),
        ({"task_changes": {"max_arguments": 10**25}}, "less than"),
        ({"model_changes": {"filter_kernel": "smooth"}}, "set filter='conv'"),
    ],
)
def test_impossible_values_are_one_sentence(changes: dict[str, object], message: str) -> None:
    with pytest.raises(MemnbError, match=message) as caught:
        run_config("luna-16", "listops-short", **changes)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("luna-16", {"variant": "full"}, "variant='full' is a setting of ConvLuna, but the model"),
        ("luna-16", {"filter": "conv"}, "of ConvLuna and models like it, but the model is luna-16"),
        ("luna-16", {"filter_width": 8}, r"a filter \(filter='conv' or 'pool', here 'none'\)"),
        ("luna-16", {"unpack_temperature": "unit"}, "a setting of ConvLuna, but"),
        ("convluna-16", {"filter": "none", "filter_stride": 4}, "leave filter_stride alone"),
        ("convluna-16", {"sharing": "qk"}, "ConvLuna's full variant"),
        ("convluna-16", {"pack_output": False}, "ConvLuna's full variant"),
        ("linformer-16", {"memory_init": "luna"}, "models whose memory is learned"),
        ("transformer", {"pack_temperature": "unit"}, "ConvLuna and ChunkMem"),
        ("convluna-16", {"unpack_temperature": "sqrt"}, "set reading='as_intended' as well"),
        ("poolluna-16", {"unpack_temperature": "unit"}, "never arrives, and T stays 1"),
        ("perceiver-16", {"representation": "cls"}, "Only the memory of a Perceiver has read"),
    ],
)
def test_a_setting_of_another_model_is_refused(
    model: str, changes: dict[str, object], message: str
) -> None:
    """It would be trained once more, under another id, and compared as if it were another model."""
    with pytest.raises(MemnbError, match=message):
        run_config(model, "text", model_changes=changes)


@pytest.mark.parametrize(
    ("task", "unread", "needed"),
    [
        ("text", {"holdout": 100}, {"validation": "holdout"}),
        ("text", {"seed": 1}, {"train": 1_000}),
        ("text", {"seed": 1}, {"validation": "holdout"}),
        ("image", {"seed": 1}, {"validation": 500}),
        ("retrieval-acl", {"seed": 1}, {"test": 500}),
        ("listops", {"max_depth": 4, "source": "lra"}, {"source": "generated"}),
        ("listops-short", {"seed": 1, "source": "lra"}, {"source": "generated"}),
        ("pathfinder", {"distractors": 2, "source": "lra"}, {"source": "generated"}),
    ],
)
def test_a_setting_that_the_task_does_not_read_is_refused(
    task: str, unread: dict[str, object], needed: dict[str, object]
) -> None:
    """The same data would be trained on once more, under another id."""
    key, value = next(iter(unread.items()))
    with pytest.raises(MemnbError, match=f"reads {key} only with .* got {key}={value}"):
        task_config(task, **unread)
    assert getattr(task_config(task, **{**unread, **needed}), key) == value


@pytest.mark.parametrize("task", ["listops", "listops-short", "pathfinder", "pathfinder-short"])
def test_lra_own_data_need_no_setting_taken_back(task: str) -> None:
    """What the task of that name says of its rules is not what a user has set."""
    assert task_config(task, source="lra").unread()


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("convluna-16", {"variant": "full", "sharing": "qk", "pack_output": False}),
        ("convluna-16", {"filter": "pool", "filter_width": 8, "filter_stride": 2}),
        ("rmt-16", {"memory_init": "luna"}),
        ("chunkmem-16", {"pack_temperature": "learn"}),
        ("luna-16", {"sharing": "none"}),
        ("convluna-16", {"reading": "as_intended", "unpack_temperature": "sqrt"}),
    ],
)
def test_a_setting_of_the_model_is_taken(model: str, changes: dict[str, object]) -> None:
    run = run_config(model, "text", model_changes=changes)
    assert run.run_id != run_config(model, "text").run_id


def test_a_missing_value_is_named() -> None:
    values = run_config("luna-16", "listops-short").model_dump()
    del values["training"]["steps"]
    with pytest.raises(MemnbError, match=r"needs a value for 'training\.steps'"):
        Run.of(values)


def test_a_task_that_is_not_here_is_named() -> None:
    run = run_config("luna-16", "text").model_dump()
    run["task"]["name"] = "texts"
    with pytest.raises(MemnbError, match="no task named 'texts'; did you mean 'text'"):
        Run.of(run)
