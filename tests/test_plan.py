"""The plan: what is trained, each run once, in the order of what it adds to the claims."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from memnb import config
from memnb.errors import MemnbError
from memnb.evidence.rows import describe_changes
from memnb.reproduce import plan
from memnb.tasks import prepared


def test_stored_trains_nothing() -> None:
    assert [run for name in plan.SETS for run in plan.runs(name, "stored")] == []


def test_quick_table_has_every_model_with_every_seed() -> None:
    runs = plan.runs("table", "quick")
    assert Counter((run.model.name, run.seed) for run in runs) == Counter(
        (model, seed) for model in plan.QUICK_MODELS for seed in plan.QUICK_SEEDS
    )
    assert all(run.preset == "quick" for run in runs)
    # Seed by seed: after any interruption each claim has evidence from both sides.
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_paper_table_has_eight_models_on_five_tasks_with_three_seeds() -> None:
    runs = plan.runs("table", "paper")
    assert len(runs) == 8 * 5 * 3
    assert all(run.preset == "paper" for run in runs)
    first = {run.task.name for run in runs[: 8 * 3 * 3]}
    assert first == {"text", "listops", "image"}


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_ablation_shares_rows_with_the_table(preset: str) -> None:
    table = {run.run_id for run in plan.runs("table", preset)}
    ablation = plan.runs("ablation", preset)
    shared = {run.model.name for run in ablation if run.run_id in table}
    assert shared >= ({"convluna-16"} if preset == "quick" else {"convluna-16", "poolluna-16"})


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_ablation_has_what_claim_c4_is_judged_on(preset: str) -> None:
    found = Counter(
        (run.task.name, describe_changes(run))
        for run in plan.runs("ablation", preset)
        if run.model.name == "convluna-16"
    )
    tasks = {task for task, _ in found}
    for task in tasks:
        for changes in ("", "filter=none", "pack_temperature=unit", "pack_temperature=sqrt"):
            assert found[task, changes] == 3


def test_quick_ablation_has_the_grid_without_pooling() -> None:
    cells = {
        (run.model.filter, run.model.pack_temperature) for run in plan.runs("ablation", "quick")
    }
    assert cells == set(product(("none", "conv"), plan.TEMPERATURES))


def test_intended_reading_changes_both_temperatures() -> None:
    for run in plan.runs("ablation", "paper"):
        model = run.model
        if model.reading == "as_intended" and model.kind == "convluna":
            assert model.unpack_temperature == model.pack_temperature


def test_memory_sizes() -> None:
    runs = plan.runs("memory-size", "paper")
    sizes = {run.model.memory for run in runs}
    assert sizes == {1, 2, 4, 8, 16, 32, 64, 128, 256}
    assert {run.model.family for run in runs} == {"luna", "convluna"}
    assert {run.task.name for run in runs} == {"text"}


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_sets_together_hold_each_run_once_and_the_table_first(preset: str) -> None:
    runs = plan.together(reversed(plan.SETS), preset)
    ids = [run.run_id for run in runs]
    assert len(ids) == len(set(ids))
    assert ids[: len(plan.runs("table", preset))] == [
        run.run_id for run in plan.runs("table", preset)
    ]
    assert set(ids) == {run.run_id for name in plan.SETS for run in plan.runs(name, preset)}


def test_other_laptop_tasks_need_no_data_except_where_they_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path))
    assert {run.task.name for run in plan.runs("other-tasks", "quick")} == {"pathfinder-short"}
    made = prepared.file("image")
    made.parent.mkdir(parents=True)
    made.touch()
    runs = plan.runs("other-tasks", "quick")
    assert {run.task.name for run in runs} == {"pathfinder-short", "image-short"}
    assert all(run.preset == "quick" for run in runs)
    # Each memory model has its counterpart of the same size: what C1 compares.
    assert Counter(run.model.memory for run in runs) == {1: 8, 16: 8}


def test_the_substitute_of_retrieval_is_trained_by_its_protocol() -> None:
    runs = [run for run in plan.runs("other-tasks", "paper") if run.preset == "paper"]
    assert {run.task.name for run in runs} == {"retrieval-acl"}
    assert len(runs) == 8 * 3
    assert runs[0].training == config.run_config("luna-1", "retrieval").training


def test_what_quick_leaves_out_of_the_other_tasks_the_paper_preset_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path))
    left_out = [run for run in plan.runs("other-tasks", "paper") if run.preset == "quick"]
    assert Counter(run.task.name for run in left_out) == dict.fromkeys(
        ("pathfinder-short", "text-short", "image-short"), 2 * 3
    )
    assert {run.model.name for run in left_out} == {"transformer", "poolluna-16"}
    quick = {run.run_id for run in plan.runs("other-tasks", "quick")}
    assert quick.isdisjoint(run.run_id for run in left_out)


def test_each_filter_without_a_memory_stands_beside_memories_that_read_the_mean_too() -> None:
    runs = plan.runs("chunks", "paper")
    alone = {(run.task.name, run.seed) for run in runs if run.model.name in config.FILTER_ALONE}
    for name in ("luna-16", "convluna-16"):
        read_the_mean = {
            (run.task.name, run.seed)
            for run in runs
            if run.model.name == name and run.model.representation == "mean"
        }
        assert read_the_mean == alone
    assert {task for task, _ in alone} == {
        "text", "listops", "image", "text-short", "image-short", "listops-short", "pathfinder-short"
    }  # fmt: skip


def test_what_may_have_no_run_yet_is_what_either_preset_trains() -> None:
    planned = plan.models_and_tasks()
    assert {("localconv", "image"), ("luna-4", "listops-short"), ("luna-4", "text")} <= planned
    assert planned.isdisjoint({("rmt-16", "image"), ("luna-4", "text-short"), ("luna-4", "image")})


@pytest.mark.parametrize("there", [True, False])
def test_what_is_planned_does_not_depend_on_the_data_of_a_machine(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(prepared, "file", lambda name: tmp_path / ("file" if there else "none"))
    planned = plan.models_and_tasks()
    assert {("luna-1", "text-short"), ("convluna-1", "image-short")} <= planned


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    with pytest.raises(MemnbError, match="set of runs named 'tabel'; did you mean 'table'"):
        plan.together(["tabel"], "quick")
    with pytest.raises(MemnbError, match="preset named 'quik'; did you mean 'quick'"):
        plan.runs("table", "quik")


def test_planned_parts_of_the_ablation() -> None:
    planned = plan.parts_and_tasks()
    for task in plan.QUICK_OTHER_TASKS:
        here = {parts[:4] for parts in planned if parts[4:] == (task, "as_coded")}
        assert here == {
            *(("conv", 4, 1, temperature) for temperature in plan.TEMPERATURES),
            ("none", 4, 1, "learn"),
            ("pool", 4, 1, "learn"),
        }
    whole = {parts[:4] for parts in planned if parts[4:] == ("listops", "as_intended")}
    assert len(whole) == 4 * 3
