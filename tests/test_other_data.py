"""A result names its data, and results on different data are never taken for one another."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import amend, write_run

from memnb import config, paths, runs, tasks
from memnb.config import Run, run_config
from memnb.errors import DataError, RunError
from memnb.evidence import known_data, rows
from memnb.sweep.merge import merge
from memnb.tasks import catalogue, prepared
from memnb.tasks.base import Dataset, Sequences, Split
from memnb.train.loop import train

HERE = ("a bad film", "a good film", "bad", "good")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "data"))


def store(texts: Sequence[str] = HERE) -> None:
    """Reviews: a negative and a positive one to train on, as many to test on."""
    documents = Sequences.of([np.frombuffer(text.encode(), np.uint8) for text in texts])
    prepared.store(
        "text",
        {
            "bytes": documents.values,
            "offsets": documents.offsets,
            "label": np.array([0, 1, 0, 1], np.uint8),
            "split": np.array([0, 0, 1, 1], np.uint8),
        },
    )


def tiny() -> Run:
    return run_config(
        "luna-1",
        "text-short",
        task_changes={"train": 2, "test": 2, "max_length": 20, "validation": "paper"},
        training_changes={"steps": 4, "batch": 2, "evaluate_every": 2},
        model_changes={"blocks": 1, "width": 8, "heads": 1, "mlp": 8},
    )


# --- the digest ------------------------------------------------------------------------------


def some() -> Dataset:
    inputs = np.arange(1, 13, dtype=np.uint8).reshape(4, 3)
    split = Split(inputs, np.full(4, 3, np.int32), np.arange(4))
    return Dataset(split, split, split)


def test_the_same_data_have_the_same_digest_however_they_lie_in_memory() -> None:
    data = some()
    held = np.asfortranarray(data.train.inputs)
    big = data.train.labels.astype(">i8")
    assert replace(data, train=replace(data.train, inputs=held, labels=big)).digest() == (
        data.digest()
    )


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("part", ["inputs", "lengths", "labels"])
def test_one_number_anywhere_makes_other_data(split: str, part: str) -> None:
    data = some()
    old = getattr(data, split)
    array = getattr(old, part).copy()
    array.flat[-1] += 1
    assert replace(data, **{split: replace(old, **{part: array})}).digest() != data.digest()


def test_the_order_of_examples_belongs_to_the_data() -> None:
    data = some()
    turned = Split(*(array[::-1] for array in vars(data.train).values()))
    assert replace(data, train=turned).digest() != data.digest()


# --- training --------------------------------------------------------------------------------


def test_a_run_names_its_data_and_does_not_go_on_with_others(tmp_path: Path) -> None:
    store()
    digest = tasks.load(tiny().task).digest()
    asked = iter([False, True])
    begun = train(tiny(), tmp_path / "run", device="cpu", should_stop=lambda: next(asked, True))
    assert (begun["outcome"], begun["data"]) == ("interrupted", digest)
    store(("a bad film", "a great film", "bad", "good"))
    with pytest.raises(
        RunError, match=rf"other data of 'text-short' \({digest}\).*memnb runs remo"
    ):
        train(tiny(), tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == begun, "nothing was lost"
    store()
    done = train(tiny(), tmp_path / "run", device="cpu")
    assert (done["outcome"], done["data"]) == ("finished", digest)


def test_a_run_is_not_asked_about_data_that_it_was_not_trained_on(tmp_path: Path) -> None:
    store()
    train(tiny(), tmp_path / "run", device="cpu")
    (tmp_path / "run" / "lengths.jsonl").unlink()
    store(("a bad film", "a good film", "not good", "not bad"))
    with pytest.raises(RunError, match="other data of 'text-short'"):
        runs.examine(tmp_path / "run", "cpu")
    assert not (tmp_path / "run" / "lengths.jsonl").exists()
    store()
    assert runs.examine(tmp_path / "run", "cpu") == ["lengths.jsonl"]


# --- rows ------------------------------------------------------------------------------------


def on(digest: str | None, folder: Path, model: str) -> Path:
    run = write_run(folder, model)
    amend(run, data=digest)
    return run


def test_a_row_on_other_data_than_the_studys_is_named_and_left_out(tmp_path: Path) -> None:
    known = known_data.load()["listops-short"]
    on(known, tmp_path, "luna-1")
    on(None, tmp_path, "luna-4")  # a row from before they said
    other = on("0123456789abcdef", tmp_path, "luna-16")
    found = rows.load_runs(tmp_path)
    assert sorted(found["model"]) == ["luna-1", "luna-4"]
    (problem,) = found.attrs["problems"]
    assert problem == (
        f"{other} was trained on other data than the study's (0123456789abcdef, where "
        f"'listops-short' has {known}; 'memnb data check' says more); left out."
    )


def test_a_run_is_described_with_its_data(tmp_path: Path) -> None:
    known = known_data.load()["listops-short"]
    said = [
        dict(runs.describe(on(digest, tmp_path, model))).get("data")
        for digest, model in ((known, "luna-1"), (None, "luna-4"), ("0" * 16, "luna-16"))
    ]
    assert said == [known, None, f"{'0' * 16}, other than the study's"]


def test_a_task_of_ones_own_may_have_any_data(tmp_path: Path) -> None:
    run = write_run(tmp_path, "luna-1", task_changes={"train": 50})
    amend(run, data="0123456789abcdef")
    assert len(rows.load_runs(tmp_path)) == 1


def test_rows_on_data_that_nobody_here_has_had_are_shown(tmp_path: Path) -> None:
    """Of Retrieval there is nothing to compare them with."""
    run = write_run(tmp_path, "luna-1", "retrieval")
    amend(run, data="0123456789abcdef")
    found = rows.load_runs(tmp_path)
    assert found["task"].tolist() == ["retrieval"]
    assert found.attrs["problems"] == []


def test_rows_on_other_data_are_not_merged(tmp_path: Path) -> None:
    good = on(known_data.load()["listops-short"], tmp_path / "runs", "luna-1")
    on("0123456789abcdef", tmp_path / "runs", "luna-16")
    result = merge([tmp_path / "runs"], tmp_path / "stored")
    assert result.added == (good.name,)
    (told,) = result.left_out
    assert "it was trained on other data than the study's" in told


# --- the committed digests -------------------------------------------------------------------


def test_every_task_but_one_has_a_digest() -> None:
    known = known_data.load()
    assert set(config.TASKS) - set(known) == {"retrieval"}, "nobody here has had LRA's pairs"
    assert len(set(known.values())) == len(known)


@pytest.mark.parametrize("name", ["listops-short", "pathfinder-short", *config.EXTRA_TASKS])
def test_what_is_generated_is_what_the_rows_were_trained_on(name: str) -> None:
    assert tasks.load(config.task_config(name)).digest() == known_data.load()[name]


def test_what_is_not_compared_needs_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page, or a bug report, is not lost for it."""
    run = write_run(tmp_path, "luna-1", task_changes={"train": 50})
    amend(run, data="0123456789abcdef")
    on(None, tmp_path, "luna-4")
    monkeypatch.setattr(paths, "reference", lambda: tmp_path / "nothing")
    assert len(rows.load_runs(tmp_path)) == 2
    on("0123456789abcdef", tmp_path, "luna-16")
    with pytest.raises(DataError, match=r"splits\.csv cannot be read"):
        rows.load_runs(tmp_path)


@pytest.mark.parametrize("text", ["", "task\n", "task,digest\nlistops\n", None])
def test_a_damaged_list_is_one_sentence(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "reference", lambda: tmp_path)
    if text is not None:
        known_data.file().write_text(text)
    with pytest.raises(DataError, match=r"splits.csv cannot be read \(.*restore it, or make it"):
        known_data.load()


def test_the_tool_lists_only_data_that_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = paths.checkout()
    assert checkout is not None
    committed = known_data.load()
    monkeypatch.setattr(known_data, "load", lambda: dict.fromkeys(committed, "old"))
    few = ("text", "text-short", "recall-4")
    store()  # four reviews, which are not the known ones
    assert [one.outcome for one in catalogue.check("text")] == ["different"]
    spec = importlib.util.spec_from_file_location("datasets_tool", checkout / "tools/datasets.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(tool, "TASKS", {name: config.TASKS[name] for name in few})
    assert tool.digests() == (
        f"task,digest\ntext,old\ntext-short,old\nrecall-4,{committed['recall-4']}\n"
    )
