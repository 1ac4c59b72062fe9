"""Run folders to rows: what is read, what is refused, and that nothing is dropped in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_up_runs import amend, write_run, write_runs

from memnb import config
from memnb.config import run_config
from memnb.errors import DataError
from memnb.evidence import rows


def problems(frame: pd.DataFrame) -> list[str]:
    return list(frame.attrs["problems"])


# --- one row per run -------------------------------------------------------------------------


def test_a_row_says_what_was_run_and_what_came_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "convluna-16", "text", seed=2, accuracy=0.785)
    frame = rows.load_runs(tmp_path)
    assert list(frame.columns) == list(rows.COLUMNS)
    row = frame.iloc[0]
    assert row["run_id"] == run_config("convluna-16", "text", 2).run_id == folder.name
    assert (row["task"], row["model"], row["family"]) == ("text", "convluna-16", "convluna")
    assert (row["memory"], row["seed"], row["preset"]) == (16, 2, "paper")
    assert (row["test_accuracy"], row["outcome"], row["device"]) == (0.785, "finished", "cpu")
    assert (row["filter"], row["width"], row["pack_temperature"]) == ("conv", 128, "learn")
    assert row["folder"] == folder
    assert pd.isna(row["reason"])
    assert problems(frame) == []


def test_a_row_names_every_device_and_commit_that_trained_it(tmp_path: Path) -> None:
    one = write_run(tmp_path, "luna-1")
    row = rows.load_runs(tmp_path).iloc[0]
    assert row["devices"] == (row["device_name"],) == ("made-up CPU",)
    assert row["commits"] == (row["commit"],)
    machines = [
        {"from_step": 0, "device_name": "card A", "commit": "a"},
        {"from_step": 10, "device_name": "card B", "commit": "a"},
        {"from_step": 20, "device_name": "card A", "commit": "b"},
    ]
    amend(one, machines=machines)
    row = rows.load_runs(tmp_path).iloc[0]
    assert (row["devices"], row["commits"]) == (("card A", "card B"), ("a", "b"))
    amend(one, machines=[], examined_again=[{"files": ["lengths.jsonl"]}])
    with pytest.raises(DataError, match=r"examined_again\.0\.weights"):
        rows.read_run(one)
    amend(one, machines=[{"device_name": "card A"}])
    with pytest.raises(DataError, match=r"machines\.0\.from_step"):
        rows.read_run(one)


def test_every_model_setting_is_a_column(tmp_path: Path) -> None:
    write_run(tmp_path, "poolluna-16")
    row = rows.load_runs(tmp_path).iloc[0]
    for name, value in run_config("poolluna-16", "listops-short").model.model_dump().items():
        assert row[name] == value


@pytest.mark.parametrize(
    ("model", "changes", "described"),
    [
        ("transformer", {}, ""),
        ("convluna-16", {}, ""),
        ("convluna-16", {"filter": "none"}, "filter=none"),
        # A ConvLuna that pools is a PoolLuna, and says so by its name.
        ("convluna-16", {"filter": "pool"}, ""),
        (
            "poolluna-16",
            {"filter_stride": 4, "reading": "as_intended"},
            "reading=as_intended, filter_stride=4",
        ),
    ],
)
def test_changes_tell_an_ablation_from_the_main_table(
    tmp_path: Path, model: str, changes: dict[str, Any], described: str
) -> None:
    write_run(tmp_path, model, model_changes=changes)
    assert rows.load_runs(tmp_path)["changes"].tolist() == [described]


def test_a_changed_protocol_is_custom_whatever_the_file_says(tmp_path: Path) -> None:
    folder = write_run(tmp_path, training_changes={"steps": 7})
    amend(folder, preset="quick")
    assert rows.load_runs(tmp_path)["preset"].tolist() == ["custom"]


def test_failed_and_unfinished_runs_are_rows_too(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.3, None])
    write_run(tmp_path, "luna-1", outcome="interrupted")
    frame = rows.load_runs(tmp_path).set_index("outcome")
    assert set(frame.index) == {"finished", "failed", "interrupted"}
    assert frame.loc["failed", "reason"] == "the loss became NaN at step 300"
    assert np.isnan(frame.loc["failed", "test_accuracy"])


@pytest.mark.parametrize("folders", [(), ("nowhere",), ("empty",)])
def test_no_runs_give_an_empty_frame_with_all_columns(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    frame = rows.load_runs(*(tmp_path / name for name in folders))
    assert frame.empty
    assert list(frame.columns) == list(rows.COLUMNS)
    assert frame["test_accuracy"].dtype == np.float64
    assert frame["memory"].dtype == np.int64
    for load in (rows.load_metrics, rows.load_probes, rows.load_removal):
        assert list(load(frame).columns[: len(rows.KEYS)]) == list(rows.KEYS)
        assert load(frame).empty


def test_the_first_folder_wins(tmp_path: Path) -> None:
    write_run(tmp_path / "committed", accuracy=0.31)
    write_run(tmp_path / "here", accuracy=0.32)
    write_run(tmp_path / "here", seed=1, accuracy=0.33)
    frame = rows.load_runs(tmp_path / "committed", tmp_path / "here")
    assert sorted(frame["test_accuracy"]) == [0.31, 0.33]
    swapped = rows.load_runs(tmp_path / "here", tmp_path / "committed")
    assert sorted(swapped["test_accuracy"]) == [0.32, 0.33]


@pytest.mark.parametrize("here", ["interrupted", "running"])
def test_a_run_that_has_not_ended_hides_none_that_has(tmp_path: Path, here: str) -> None:
    """Who trains a committed row again, and stops, has not lost a seed of the table."""
    write_run(tmp_path / "here", outcome=here)
    write_run(tmp_path / "committed", accuracy=0.31)
    for folders in (("here", "committed"), ("committed", "here")):
        frame = rows.load_runs(*(tmp_path / name for name in folders))
        assert (frame["outcome"].tolist(), frame["test_accuracy"].tolist()) == (
            ["finished"],
            [0.31],
        )


def test_want_of_memory_here_hides_no_result_from_elsewhere(tmp_path: Path) -> None:
    small = write_run(
        tmp_path / "here", outcome="failed", reason="out of memory; use a device with more memory"
    )
    assert rows.load_runs(tmp_path / "here")["outcome"].tolist() == ["failed"], "it is told"
    committed = write_run(tmp_path / "committed", accuracy=0.31)
    assert small.name == committed.name
    for folders in (("here", "committed"), ("committed", "here")):
        frame = rows.load_runs(*(tmp_path / name for name in folders))
        assert frame["test_accuracy"].tolist() == [0.31]


@pytest.mark.parametrize("other", ["interrupted", "running"])
def test_want_of_memory_is_told_where_nobody_has_come_further(tmp_path: Path, other: str) -> None:
    write_run(tmp_path / "small", outcome="failed", reason="out of memory; use a larger one")
    write_run(tmp_path / "here", outcome=other)
    for folders in (("small", "here"), ("here", "small")):
        frame = rows.load_runs(*(tmp_path / name for name in folders))
        assert frame["outcome"].tolist() == ["failed"]


def test_rows_stand_in_the_order_of_the_folders_and_in_each_by_name(tmp_path: Path) -> None:
    """A table of the same runs is the same on every file system."""
    for model, seed in (("transformer", 1), ("luna-4", 0), ("convluna-4", 2), ("luna-4", 1)):
        write_run(tmp_path / "a", model, seed=seed)
    write_run(tmp_path / "a", "convluna-1", outcome="running")
    write_run(tmp_path / "a", "linformer-16", outcome="interrupted")
    write_run(tmp_path / "b", "luna-1")
    write_run(tmp_path / "b", "linformer-16")
    frame = rows.load_runs(tmp_path / "a", tmp_path / "b")
    assert (frame["model"] + " " + frame["seed"].astype(str)).tolist() == [
        "convluna-1 0", "convluna-4 2", "luna-4 0", "luna-4 1", "transformer 1",
        "linformer-16 0", "luna-1 0",
    ]  # fmt: skip
    assert frame.index.tolist() == [*range(7)]


def test_a_run_that_has_failed_is_not_replaced_by_a_better_one(tmp_path: Path) -> None:
    write_run(tmp_path / "here", outcome="failed")
    write_run(tmp_path / "committed", accuracy=0.31)
    frame = rows.load_runs(tmp_path / "here", tmp_path / "committed")
    assert frame["outcome"].tolist() == ["failed"]


def test_a_damaged_run_does_not_hide_a_sound_one_further_on(tmp_path: Path) -> None:
    amend(write_run(tmp_path / "a", accuracy=0.31), test_accuracy=31)
    write_run(tmp_path / "b", accuracy=0.32)
    frame = rows.load_runs(tmp_path / "a", tmp_path / "b")
    assert frame["test_accuracy"].tolist() == [0.32]
    assert len(problems(frame)) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "holds no run.json"),
        ("", "could not be read"),
        ('{"format": 1, "run_id"', "could not be read"),
        ("\x00" * 200, "could not be read"),
        ("[]", "is damaged (the file"),
        ({"step": 10**400}, "could not be read"),
        ({"format": 2}, "is damaged (format"),
        ({"outcome": "great"}, "is damaged (outcome"),
        ({"test_accuracy": 36.4}, "is damaged (test_accuracy"),
        ({"test_accuracy": float("nan")}, "is damaged (test_accuracy"),
        ({"test_accuracy": "0.3"}, "is damaged (test_accuracy"),
        ({"test_accuracy": None}, "says finished but holds no test accuracy"),
        ({"run_id": "listops-short-luna-16-s0-0123456789"}, "but its config is that of"),
        ({"config": {}}, "holds a config that is not valid here"),
    ],
)
def test_a_damaged_run_is_left_out_and_named(
    tmp_path: Path, content: str | dict[str, Any] | None, says: str
) -> None:
    write_run(tmp_path, seed=1)
    folder = write_run(tmp_path, seed=0)
    path = folder / "run.json"
    if content is None:
        path.unlink()
    elif isinstance(content, str):
        path.write_text(content)
    else:
        amend(folder, **content)
    frame = rows.load_runs(tmp_path)
    assert frame["seed"].tolist() == [1]
    (sentence,) = problems(frame)
    assert says in sentence
    assert str(folder) in sentence
    assert "\n" not in sentence


def test_a_config_that_was_tampered_with_is_caught_by_its_hash(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    config = json.loads((folder / "run.json").read_text())["config"]
    config["training"]["lr"] = 0.001
    amend(folder, config=config)
    frame = rows.load_runs(tmp_path)
    assert frame.empty
    assert "but its config is that of" in problems(frame)[0]


def test_files_and_unfinished_copies_beside_the_runs_are_no_problem(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "README.md").write_text("about these runs")
    (tmp_path / ".commit-abc.tmp").mkdir()
    frame = rows.load_runs(tmp_path)
    assert len(frame) == 1
    assert problems(frame) == []


def test_a_newer_trainer_may_say_more(tmp_path: Path) -> None:
    amend(write_run(tmp_path), tokens_per_second=1234.5)
    assert len(rows.load_runs(tmp_path)) == 1


def test_each_study_has_its_models_and_tasks() -> None:
    families = ("luna", "mine", "chunkmem", "convrmt", "localconv", "memoryless")
    runs = pd.DataFrame(
        [
            {"family": family, "task": task}
            for task in ("text", "listops-short", "recall-8", "recall-longer")
            for family in (*families, config.DEMONSTRATION)
        ]
    )
    for study, those, tasks in (
        ("shared", families[:2], {"text", "listops-short"}),
        ("chunks", families, {"text", "listops-short"}),
        ("recall", families, {"recall-8"}),
        ("longer", families, {"recall-longer"}),
        ("every", families, {"text", "listops-short", "recall-8", "recall-longer"}),
    ):
        found = rows.of_study(runs, study)
        assert set(found["family"]) == set(those)
        assert set(found["task"]) == tasks
        assert len(found) == len(those) * len(tasks)


# --- many rows per run -----------------------------------------------------------------------


def test_metrics_carry_the_keys_of_their_run(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-16", accuracy=0.35)
    write_run(tmp_path, "transformer", accuracy=0.25)
    metrics = rows.load_metrics(rows.load_runs(tmp_path))
    assert set(metrics["split"]) == {"train", "validation", "test"}
    test = metrics[metrics["split"] == "test"].set_index("model")["accuracy"]
    assert test.to_dict() == {"luna-16": 0.35, "transformer": 0.25}
    assert metrics["step"].dtype == np.int64
    assert metrics.loc[metrics["split"] == "train", "lr"].notna().all()
    assert metrics.loc[metrics["split"] != "train", "lr"].isna().all()


def test_probes_and_removal_exist_for_memory_models(tmp_path: Path) -> None:
    for model in ("luna-16", "luna-1", "transformer"):
        write_run(tmp_path, model, accuracy=0.35, removal={1: 0.2})
    runs = rows.load_runs(tmp_path)
    probes = rows.load_probes(runs)
    assert set(probes["model"]) == {"luna-16", "luna-1"}
    assert set(probes["block"]) == {1, 2}
    assert probes.loc[probes["model"] == "luna-1", "packed_cosine"].isna().all()
    assert probes.loc[probes["model"] == "luna-16", "packed_cosine"].notna().all()
    removal = rows.load_removal(runs)
    assert set(removal["model"]) == {"luna-16"}
    assert removal["memory"].eq(16).all()
    assert removal.set_index("kept")["accuracy"].to_dict() == {16: 0.35, 1: 0.2}


def test_long_frames_follow_the_runs_they_are_given(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.3, 0.31, 0.32])
    runs = rows.load_runs(tmp_path)
    some = runs[runs["seed"] != 1]
    assert set(rows.load_metrics(some)["seed"]) == {0, 2}


def test_a_new_measure_becomes_a_column(tmp_path: Path) -> None:
    write_run(tmp_path, probes={"novel": 3.0})
    assert "novel" in rows.load_probes(rows.load_runs(tmp_path)).columns


@pytest.mark.parametrize("accuracy", ["57.0", "-0.1", "Infinity", "1e999"])
def test_a_share_is_between_0_and_1(tmp_path: Path, accuracy: str) -> None:
    """Percent by mistake, say, would make of C3's equivalence what one likes."""
    path = write_run(tmp_path) / "removal.jsonl"
    lines = path.read_text().splitlines()
    damaged = f'{{"rule": "random", "kept": 1, "accuracy": {accuracy}}}'
    path.write_text("\n".join([damaged, *lines]))
    removal = rows.load_removal(rows.load_runs(tmp_path))
    assert len(removal) == len(lines)
    assert problems(removal) == [f"{path} has a damaged line 1; left out."]


def test_so_is_the_share_of_answers_that_change(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "beginning.jsonl"
    first, *others = path.read_text().splitlines()
    damaged = json.dumps(json.loads(first) | {"changed": 57.0})
    path.write_text("\n".join([damaged, *others]))
    beginning = rows.load_beginning(rows.load_runs(tmp_path))
    assert len(beginning) == len(others)
    assert problems(beginning) == [f"{path} has a damaged line 1; left out."]


@pytest.mark.parametrize(
    ("lines", "sound"),
    [
        (['{"block": 1, "step": 5}, {"block": 2, "step": 5}', '{"block": 3, "step": 5}'], [3]),
        (['{"block": 1, "step": 5', '"packed_rank": 2}', '{"block": 3, "step": 5}'], [3]),
    ],
)
def test_a_row_is_one_line(tmp_path: Path, lines: list[str], sound: list[int]) -> None:
    path = write_run(tmp_path) / "probes.jsonl"
    path.write_text("\n".join(lines))
    probes = rows.load_probes(rows.load_runs(tmp_path))
    assert probes["block"].tolist() == sound
    assert f"{path} has a damaged line 1; left out." in problems(probes)


@pytest.mark.parametrize("torn", ['{"step": 600, "spl', "\x00\x00\x00\x00", "12", '{"step": 600}'])
def test_a_torn_last_line_is_dropped_and_reported(tmp_path: Path, torn: str) -> None:
    folder = write_run(tmp_path)
    runs = rows.load_runs(tmp_path)
    whole = rows.load_metrics(runs)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(torn)
    metrics = rows.load_metrics(runs)
    pd.testing.assert_frame_equal(metrics, whole)
    assert problems(whole) == []
    (sentence,) = problems(metrics)
    assert "torn line (line 12)" in sentence
    assert str(folder / "metrics.jsonl") in sentence


@pytest.mark.parametrize(
    "wrong",
    [
        "oops",
        '{"step": 1.5, "split": "test", "loss": 1, "accuracy": 1}',
        '{"step": true, "split": "test", "loss": 1, "accuracy": 1}',
        '{"step": 1, "split": "test", "loss": 1, "accuracy": true}',
        f'{{"step": {2**63}, "split": "test", "loss": 1, "accuracy": 1}}',
        f'{{"step": {-(2**63) - 1}, "split": "test", "loss": 1, "accuracy": 1}}',
        f'{{"step": 1, "split": "test", "loss": {10**400}, "accuracy": 1}}',
    ],
)
def test_a_damaged_line_inside_is_named_apart(tmp_path: Path, wrong: str) -> None:
    folder = write_run(tmp_path)
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], wrong, *lines[1:]]) + "\n")
    metrics = rows.load_metrics(rows.load_runs(tmp_path))
    assert len(metrics) == len(lines)
    assert "damaged line 2" in problems(metrics)[0]


@pytest.mark.parametrize(
    ("name", "load", "counts"),
    [
        ("metrics.jsonl", rows.load_metrics, ("step",)),
        ("probes.jsonl", rows.load_probes, ("step", "block")),
        ("filters.jsonl", rows.load_filters, ("step", "block", "head")),
        ("removal.jsonl", rows.load_removal, ("kept",)),
        ("causal.jsonl", rows.load_causal, ("kept", "examples")),
        ("usage.jsonl", rows.load_usage, ("block", "row")),
        ("lengths.jsonl", rows.load_lengths, ("low", "high", "examples")),
        ("beginning.jsonl", rows.load_beginning, ("kept", "examples")),
    ],
)
def test_a_line_without_one_of_its_counts_is_left_out_and_named(
    tmp_path: Path, name: str, load: Any, counts: tuple[str, ...]
) -> None:
    path = write_run(tmp_path, "convluna-16") / name
    runs = rows.load_runs(tmp_path)
    whole, (first, *others) = load(runs), path.read_text().splitlines()
    for count in counts:
        assert whole[count].dtype == np.int64
        line = {key: value for key, value in json.loads(first).items() if key != count}
        path.write_text("\n".join([json.dumps(line), *others]) + "\n")
        found = load(runs)
        assert len(found) == len(whole) - 1
        (damage,) = rows.damage(path.parent)
        assert damage.endswith("has a damaged line 1.")
        assert problems(found) == [f"{damage.removesuffix('.')}; left out."]


def test_a_count_that_only_a_newer_trainer_writes_may_be_missing(tmp_path: Path) -> None:
    with (write_run(tmp_path) / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "split": "test", "loss": 1, "accuracy": 1, "examples": 500}\n')
    metrics = rows.load_metrics(rows.load_runs(tmp_path))
    assert problems(metrics) == []
    assert metrics["examples"].dropna().tolist() == [500]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    (folder / "removal.jsonl").unlink()
    (folder / "removal.jsonl").mkdir()
    removal = rows.load_removal(rows.load_runs(tmp_path))
    assert removal.empty
    assert "could not be read" in problems(removal)[0]


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1e999"])
def test_a_record_whose_time_is_no_number_is_damaged(tmp_path: Path, seconds: str) -> None:
    path = write_run(tmp_path) / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"seconds": "here"}).replace('"here"', seconds))
    frame = rows.load_runs(tmp_path)
    assert frame.empty
    assert problems(frame)[0].startswith(f"{path} is damaged (seconds: ")


def test_a_loss_that_became_nan_is_kept(tmp_path: Path) -> None:
    folder = write_run(tmp_path)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 900, "split": "train", "loss": NaN, "accuracy": null}\n')
    metrics = rows.load_metrics(rows.load_runs(tmp_path))
    assert problems(metrics) == []
    assert np.isnan(metrics.iloc[-1]["loss"])


def test_attention_maps(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-16")
    write_run(tmp_path, "transformer")
    runs = rows.load_runs(tmp_path).set_index("model")
    maps = rows.load_attention(runs.loc["luna-16"])
    assert maps["pack"].shape == (2, 4, 16, 40)
    assert maps["unpack"].shape == (2, 4, 40, 16)
    assert rows.load_attention(runs.loc["transformer"]) is None


def test_damaged_attention_maps_are_named(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "attention.npz"
    run = rows.load_runs(tmp_path).iloc[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"attention\.npz is damaged"):
        rows.load_attention(run)


def test_attention_maps_are_never_unpickled(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "attention.npz"
    np.savez(path, pack=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(DataError, match="is damaged"):
        rows.load_attention(rows.load_runs(tmp_path).iloc[0])


def test_a_measure_at_both_ends_of_training_is_that_of_all_blocks_and_of_the_last() -> None:
    looked = [(1, 0, 1, 0.2), (1, 0, 2, 0.4), (1, 9, 1, 0.6), (1, 9, 2, 1.0), (2, 9, 1, 0.5)]
    probes = pd.DataFrame(looked, columns=["run_id", "step", "block", "packed_cosine"])
    found = rows.looks(probes, "packed_cosine")
    assert found.loc[1].to_dict() == pytest.approx(
        {"first": 0.3, "last": 0.8, "deepest_first": 0.4, "deepest_last": 1.0}
    )
    assert found.loc[2, ["first", "deepest_first"]].isna().all(), "looked at once"
    assert found.loc[2, "last"] == 0.5
