"""Data of one's own: taken or refused in a sentence, trained, and shown under their name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_runs import write_run

from memnb import config, naming, paths, runs, tasks, weights
from memnb.cli import main
from memnb.config import Run, run_config, task_config
from memnb.draw import attention_figures, figures, looking, tables
from memnb.errors import DataError, MemnbError
from memnb.evidence import levels, load_metrics, load_probes, load_runs, views
from memnb.models.network import Network
from memnb.sweep import planning
from memnb.sweep.planning import Selection
from memnb.tasks import own, own_input, rules
from memnb.tasks.base import made_up
from memnb.train.loop import train

CLASSES, SYMBOLS = 5, 1000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(levels, "_OWN", {})


def sequences(count: int = 60, symbols: int = 6, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(1, symbols + 1, random.integers(3, 9)) for _ in range(count)]


def birds(seed: int = 0, **more: Any) -> config.Own:
    return own.add("birds", sequences(seed=seed), np.arange(60) % 3, **more).task


def tiny(model: str = "luna-2", seed: int = 0, **task: Any) -> Run:
    return run_config(
        model,
        "own-birds",
        seed,
        task_changes=task,
        model_changes={"blocks": 1, "width": 8, "heads": 2, "mlp": 8},
        training_changes={"steps": 4, "batch": 4, "evaluate_every": 2},
    )


# --- what a network reads --------------------------------------------------------------------


def test_what_was_added_is_what_is_loaded() -> None:
    lines, labels = sequences(), np.arange(60) % 3
    split = np.array(["train", "validation", "test"])[np.arange(60) // 3 % 3]
    task = own.add("birds", lines, labels, split).task
    assert task == task_config("own-birds")
    assert (task.classes, task.vocabulary, task.title) == (3, 7, "birds")
    data = tasks.load(task)
    assert data.digest() == task.data
    for number, name in enumerate(own_input.SPLITS):
        part = getattr(data, name)
        rows = np.flatnonzero(np.arange(60) // 3 % 3 == number)
        assert len(part) == getattr(task, name) == len(rows)
        assert part.labels.tolist() == labels[rows].tolist()
        assert part.inputs.shape == (len(rows), task.max_length)
        for row, inputs, length in zip(rows, part.inputs, part.lengths, strict=True):
            assert inputs[:length].tolist() == lines[row].tolist()
            assert not inputs[length:].any()


def test_the_same_data_are_the_same_task_everywhere() -> None:
    """The digest stands in every run's id, so neither it nor the splits may ever change."""
    lines = [[1 + place * length % 7 for place in range(3 + length % 5)] for length in range(60)]
    assert own.add("birds", lines, np.arange(60) % 3).task.data == "3fc28bec4b36c415"
    assert run_config("luna-16", "own-birds").run_id == "own-birds-luna-16-s0-49d3e8fc89"


@pytest.mark.parametrize(
    ("symbols", "kind"), [(255, "uint8"), (256, "int16"), (2**15 - 1, "int16"), (2**15, "int32")]
)
def test_ids_have_the_smallest_type_that_holds_them(symbols: int, kind: str) -> None:
    lines = [[1, symbols], [2, 1], [3]] * 4
    task = own.add("birds", lines, [0, 1, 0] * 4).task
    data = tasks.load(task)
    assert data.train.inputs.dtype == kind
    assert max(getattr(data, name).inputs.max() for name in own_input.SPLITS) == symbols
    assert made_up(task, 8, 2).train.inputs.dtype == kind


def test_longer_sequences_are_cut_and_shorter_ones_padded() -> None:
    whole = tasks.load(birds()).test
    for length in (4, 20):
        part = tasks.load(task_config("own-birds", max_length=length)).test
        assert part.inputs.shape[1] == length
        kept = min(length, whole.inputs.shape[1])
        assert (part.inputs[:, :kept] == whole.inputs[:, :kept]).all()
        assert not part.inputs[:, kept:].any()
        assert part.lengths.tolist() == np.minimum(whole.lengths, length).tolist()


def test_splits_are_drawn_by_label_and_always_the_same() -> None:
    labels = np.repeat([0, 1, 2], [40, 15, 3])
    lines = sequences(len(labels))
    added = own.add("birds", lines, labels)
    data = tasks.load(added.task)
    assert np.bincount(data.validation.labels).tolist() == [4, 2, 1]
    assert np.bincount(data.test.labels).tolist() == [4, 2, 1]
    assert own.add("birds", lines, labels).task == added.task
    assert "drawn by label" in str(added)
    assert "drawn" not in str(own.add("others", lines, labels, np.arange(58) % 3))


def test_what_one_answer_gives_is_counted() -> None:
    labels = np.repeat([0, 1], [42, 18])
    task = own.add("birds", sequences(), labels).task
    data = tasks.load(task)
    shown = levels.levels_of("own-birds")
    assert shown.constant == rules.constant_answer(data.test, data.validation) > 0.6
    known = levels.levels_of("own-birds", "validation").constant
    assert known == rules.constant_answer(data.validation, data.validation)
    assert levels.learned_above("own-birds") == shown.constant + levels.MARGIN


def test_symbols_have_names_on_pages_where_they_were_given() -> None:
    lines, labels = [[1, 2, 3]] * 6, [0, 1] * 3
    task = own.add("birds", lines, labels, symbols="ACG").task
    assert tasks.tokens(task, np.array([3, 1, 0]), 3) == ["G", "A", "<pad>"]
    assert own.add("birds", lines, labels).task == task
    assert tasks.tokens(task, np.array([3, 1]), 2) == ["G", "A"], "names that were given stay"
    own.add("birds", lines, labels, symbols="XYZ")
    assert tasks.tokens(task, np.array([3, 1]), 2) == ["Z", "X"]
    own.add("birds", lines, labels, replace=True)
    assert tasks.tokens(task, np.array([3, 1]), 2) == ["3", "1"]
    own.file(task.name).unlink()
    assert tasks.tokens(task, np.array([3, 1]), 2) == ["3", "1"], "rows from elsewhere"


# --- what is refused -------------------------------------------------------------------------

GOOD, LABELS = [[1, 2, 3]] * 12, [0, 1] * 6


@pytest.mark.parametrize(
    ("lines", "labels", "more", "says"),
    [
        ([[1, -2]] * 12, LABELS, {}, "numbers from 1, but sequence 0 holds -2; number the symb"),
        ([[1], [1, 0, 2]] * 6, LABELS, {}, "0 is padding, .* but sequence 1 holds 0"),
        (np.array([[1, 0, 2]] * 12), LABELS, {}, "0 is padding, .* at the end of the rows"),
        ([[1], []] * 6, LABELS, {}, "sequence 1 is empty; leave it out"),
        (np.zeros((12, 3), int), LABELS, {}, "sequence 0 is empty"),
        ([], [], {}, "there is no sequence"),
        (5, LABELS, {}, "there is no sequence"),
        ([[1.0, float("nan")]] * 12, LABELS, {}, "whole numbers from 1, but is float64; give"),
        (np.full((12, 3), np.nan), LABELS, {}, "but is float64"),
        ([[1, [2, 3]]] * 12, LABELS, {}, "sequence 0 should be a line .* but is nested"),
        (["ab"] * 12, LABELS, {}, "but is text"),
        (np.ones((12, 3, 2), int), LABELS, {}, r"but is int64 of the shape \(3, 2\)"),
        ([[1, 2**40]] * 12, LABELS, {}, "ids are below 1,048,576, but sequence 0 holds 1,099,5"),
        ([[1, 2**70]] * 12, LABELS, {}, "but is object"),
        (GOOD, [0, 2] * 6, {}, "labels go up to 2, but none is 1; number those that occur by 0"),
        (GOOD, [0] * 12, {}, "2 to 10,000 labels, but the highest is 0"),
        (GOOD, [0, -1] * 6, {}, "labels are numbers from 0, but one is -1"),
        (GOOD, [0.5, 1] * 6, {}, "list of labels should be a line .* but is float64"),
        (GOOD, ["a", "b"] * 6, {}, "but is text; give whole numbers from 0"),
        (GOOD, None, {}, "but is object"),
        (GOOD, [0, 1], {}, "there are 12 sequences, but the length of the list of labels is 2"),
        (GOOD[:5], [0, 0, 0, 1, 1], {}, "the label 1 has 2 examples, and each of the three sets"),
        (GOOD, LABELS, {"split": [0] * 6 + [3] * 6}, "should hold 0, 1, 2 or .* but holds 3"),
        (GOOD, LABELS, {"split": ["train"] * 6 + ["valid"] * 6}, "but holds 'valid'"),
        (GOOD, LABELS, {"split": [0, 1, 2]}, "the length of split is 3"),
        (GOOD, LABELS, {"split": [0] * 8 + [2] * 4}, "the validation set has no example of"),
        (GOOD, LABELS, {"split": [0] * 8 + [1] * 3 + [2]}, "the test set has no example of the"),
        (GOOD, LABELS, {"symbols": "ab"}, "names for 2 symbols, but an id is 3"),
    ],
)
def test_what_are_no_data_is_refused_in_a_sentence(
    lines: Any, labels: Any, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError, match=says) as error:
        own.add("birds", lines, labels, **more)
    assert "\n" not in str(error.value)
    assert own.names() == []


def test_data_of_absurd_size_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_input, "MOST_IDS", 100)
    with pytest.raises(DataError, match=r"padded to the longest of 9, 12 sequences would be 108"):
        own.add("birds", [*GOOD[:-1], [1] * 9], LABELS)


@pytest.mark.parametrize("name", ["My Birds", "birds-2", "", "2birds", "b" * 31, 3, None])
def test_a_name_that_none_can_have_is_refused(name: Any) -> None:
    with pytest.raises(MemnbError, match="a name of one word, up to 30 small letters"):
        own.add(name, GOOD, LABELS)


def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(MemnbError, match="memnb has a task named 'text'"):
        own.add("text", GOOD, LABELS)
    first = birds()
    assert birds() == first, "the same data may be added again"
    with pytest.raises(MemnbError, match="Other data, or other symbols, are called 'birds'"):
        birds(seed=1)
    assert birds(seed=1, replace=True).data != first.data


def test_a_damaged_file_is_said_and_may_be_replaced() -> None:
    task = birds()
    path = own.file(task.name)
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(DataError, match="is damaged"):
        task_config("own-birds")
    assert birds() == task
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {"labels": arrays["labels"][::-1]})
    with pytest.raises(DataError, match="not what was added; import it again"):
        tasks.load(task)
    np.savez(path, **arrays | {"definition": np.frombuffer(b"[1]", np.uint8)})
    with pytest.raises(DataError, match="its definition is none"):
        task_config("own-birds")
    birds()
    path.rename(path.with_name("bees.npz"))
    with pytest.raises(DataError, match="holds the data 'own-birds'; give the file its old name"):
        task_config("own-bees")


# --- configs ---------------------------------------------------------------------------------


def test_a_config_alone_rebuilds_the_model() -> None:
    birds()
    run = run_config("convluna-4", "own-birds")
    own.file("own-birds").unlink()
    again = Run.of(json.loads(json.dumps(run.model_dump())))
    assert again == run
    assert again.run_id == run.run_id
    network = Network(again.model, again.task)
    assert network(torch.ones(2, 5, dtype=torch.int16)).shape == (2, 3)
    assert again.preset == "custom"


def test_other_data_of_the_same_name_are_other_runs() -> None:
    birds()
    first = run_config("luna-16", "own-birds").run_id
    birds(seed=1, replace=True)
    assert run_config("luna-16", "own-birds").run_id != first


@pytest.mark.parametrize("changes", [{"classes": 9}, {"vocabulary": 900}, {"data": "0" * 16}])
def test_only_the_length_can_be_changed(changes: dict[str, Any]) -> None:
    birds()
    with pytest.raises(MemnbError, match="only max_length can be changed"):
        task_config("own-birds", **changes)


def test_a_chunk_is_a_fifth_of_the_longest_sequence_as_it_is_cut() -> None:
    task = birds()
    assert task.max_length == 8
    assert run_config("chunkmem-4", "own-birds").model.chunk == 2
    cut = run_config("chunkmem-4", "own-birds", task_changes={"max_length": 20})
    assert cut.model.chunk == 4
    assert config.standard_model(cut.model, cut.task) == cut.model


def test_data_that_are_not_here_are_one_sentence() -> None:
    with pytest.raises(DataError, match=r"'own-birds' are not here .*memnb data import own-birds"):
        run_config("luna-16", "own-birds")
    birds()
    with pytest.raises(MemnbError, match="no task named 'birds'; did you mean 'own-birds'"):
        run_config("luna-16", "birds")
    assert config.list_tasks()[-1] == "own-birds"
    assert "own-birds" not in config.TASKS


# --- training --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on 5 classes and 1,000 symbols, beside its data."""
    folder = tmp_path_factory.mktemp("learned")
    random = np.random.default_rng(0)
    labels = np.arange(800) % CLASSES
    lines = [random.integers(1, SYMBOLS + 1, random.integers(15, 30)) for _ in labels]
    for line, label in zip(lines, labels, strict=True):
        some = random.random(len(line)) < 0.4
        line[some] = 200 * label + random.integers(1, 11, some.sum())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMNB_DATA", str(folder / "data"))
        own.add("birds", lines, labels)
        run = run_config("convluna-4", "own-birds", training_changes={"steps": 150})
        train(run, folder / "runs" / run.run_id, device="cpu")
    return folder


@pytest.fixture
def finished(learned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, with its data in the cache of the test."""
    shutil.copytree(learned / "data", paths.data_cache())
    monkeypatch.setenv("MEMNB_OUT", str(learned))
    return learned


def test_a_run_on_many_symbols_learns(finished: Path) -> None:
    (row,) = load_runs(finished / "runs").to_dict("records")
    assert row["outcome"] == "finished"
    assert (row["task"], row["preset"], row["changes"]) == ("own-birds", "custom", "")
    assert row["data"] == task_config("own-birds").data
    assert row["test_accuracy"] > levels.learned_above("own-birds") + 0.3
    assert tasks.load(task_config("own-birds")).train.inputs.dtype == np.int16


@pytest.mark.parametrize("here", [True, False])
def test_tables_and_figures_call_the_data_by_their_name(finished: Path, here: bool) -> None:
    """Also where the data themselves are not: what has to be known stands in the rows."""
    if not here:
        own.file("own-birds").unlink()
    rows = load_runs(finished / "runs")
    for scale in ("full", "quick"):
        table = tables.accuracy(rows, scale=scale)
        assert table.columns.tolist() == ["Model", "birds"]
        assert table["Model"].tolist() == ["ConvLuna-4"]
    curves = figures.learning_curves(load_metrics(rows))
    assert curves.axes[0].get_ylabel().startswith("birds\n")
    dotted = [line for line in curves.axes[0].lines if len({*line.get_ydata()}) == 1]
    assert [line.get_ydata()[0] for line in dotted] == pytest.approx([20.0])
    assert figures.accuracy(rows).axes[0].get_title() == "birds"
    assert "birds, 4 memory rows" in str(figures.degradation(load_probes(rows)).texts)
    assert figures.not_learned(rows) == ""
    attention_figures.attention_of(rows, "convluna-4", "pack")


def test_beside_the_study_own_data_are_one_more_column(finished: Path) -> None:
    write_run(finished / "others", "luna-16", "text")
    rows = load_runs(finished / "runs", finished / "others")
    assert tables.accuracy(rows).columns.tolist()[-1] == "birds"
    assert {"Text", "Image"} <= set(tables.accuracy(rows).columns)
    assert tables.accuracy(rows, scale="quick").columns.tolist() == ["Model", "Text", "birds"]


def test_weights_are_exported_and_loaded(finished: Path, tmp_path: Path) -> None:
    (folder,) = (finished / "runs").iterdir()
    with pytest.raises(MemnbError, match=r"two examples of your own data.*with --to"):
        weights.export(folder)
    path = weights.export(folder, tmp_path / "weights")
    loaded = weights.load(path)
    split = tasks.load(loaded.run.task).test
    with torch.no_grad():
        scores = loaded.network(torch.from_numpy(split.inputs), torch.from_numpy(split.lengths))
    right = (scores.argmax(-1).numpy() == split.labels).mean()
    assert right == pytest.approx(loaded.facts["test_accuracy"], abs=0.03)
    found = views.shipped(tmp_path / "weights")
    assert found[0].title == "convluna-4 on own-birds, seed 0"
    assert "birds, data of one's own" in looking.origin(found[0])
    looking.of_shipped(found, "birds", "convluna")


def test_a_run_is_examined_again_on_its_own_data_only(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder,) = (finished / "runs").iterdir()
    copy = tmp_path / "runs" / folder.name
    shutil.copytree(folder, copy)
    (copy / "lengths.jsonl").unlink()
    assert not runs.verify(copy).damage
    birds(replace=True)
    with pytest.raises(DataError, match=r"others here than those of the run .*--replace"):
        runs.examine(copy, "cpu")
    own.file("own-birds").unlink()
    with pytest.raises(DataError, match="'own-birds' are not here"):
        runs.examine(copy, "cpu")
    shutil.copytree(finished / "data", paths.data_cache(), dirs_exist_ok=True)
    assert runs.examine(copy, "cpu") == ["lengths.jsonl"]
    assert dict(runs.describe(copy))["task"] == "birds (own-birds), preset custom, seed 0"


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    birds()
    run = tiny()
    asked = iter([False, True])
    begun = train(run, tmp_path / "run", device="cpu", should_stop=lambda: next(asked, True))
    assert begun["outcome"] == "interrupted"
    birds(seed=1, replace=True)
    with pytest.raises(DataError, match=rf"\(data \w+ here, {run.task.data} there\)"):
        train(run, tmp_path / "run", device="cpu")
    birds(replace=True)
    assert train(run, tmp_path / "run", device="cpu")["outcome"] == "finished"


@pytest.mark.parametrize("model", ["transformer", "chunkmem-2", "rmt-2", "linformer-2"])
def test_other_models_train_too(tmp_path: Path, model: str) -> None:
    birds()
    assert train(tiny(model), tmp_path / "run", device="cpu")["outcome"] == "finished"


# --- rows ------------------------------------------------------------------------------------


def row_on(folder: Path, started: str, seed: int = 0, **task: Any) -> None:
    """A run on what is called birds at the moment, or on that cut shorter."""
    made = write_run(folder, "luna-2", "own-birds", seed, task_changes=task)
    record = json.loads((made / "run.json").read_text())
    (made / "run.json").write_text(json.dumps(record | {"started": started}))


def test_two_data_sets_of_one_name_are_never_mixed(tmp_path: Path) -> None:
    old = birds()
    row_on(tmp_path / "runs", "2026-01-02T00:00:00+00:00")
    new = birds(seed=1, replace=True)
    row_on(tmp_path / "runs", "2026-01-03T00:00:00+00:00")
    row_on(tmp_path / "runs", "2026-01-01T00:00:00+00:00", seed=1)
    row_on(tmp_path / "runs", "2026-01-01T00:00:00+00:00", max_length=4)
    rows = load_runs(tmp_path / "runs")
    assert sorted(rows["changes"]) == ["", "", f"data={old.data}", "max_length=4"]
    assert rows.loc[rows["changes"] == "", "seed"].tolist() == [0, 1]
    assert tables.accuracy(rows)["birds"].iloc[0].endswith("(2)")
    own.file("own-birds").unlink()
    assert levels.levels_of("own-birds").constant == new.test_constant / new.test


def test_own_data_stand_last_and_have_their_own_name() -> None:
    assert naming.task_order(["own-b", "text-short", "own-a", "text"]) == [
        "text", "text-short", "own-a", "own-b"
    ]  # fmt: skip
    assert naming.task_label("own-birds") == "birds"
    assert naming.scale_label("own-birds") == "data of one's own"
    assert naming.data_label(birds()) == "birds"


def test_a_sweep_takes_each_model_and_seed() -> None:
    birds()
    chosen = planning.select(Selection(tasks=["own-birds"], models=["luna-4"], seeds=[5, 6]))
    assert [(run.model.name, run.seed) for run in chosen] == [("luna-4", 5), ("luna-4", 6)]
    chosen = planning.select(Selection(tasks=["own-birds", "text"], models=["luna-16"]))
    assert {run.task.name for run in chosen} == {"own-birds", "text"}
    assert len(planning.select(Selection(tasks=["own-birds"]))) == 18
    with pytest.raises(MemnbError, match="plans no run of --set table and --tasks own-birds"):
        planning.select(Selection(tasks=["own-birds"], sets=["table"]))
    with pytest.raises(MemnbError, match="did you mean 'own-birds'"):
        planning.select(Selection(tasks=["own-bird"]))


# --- the command line ------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def arrays() -> dict[str, Any]:
    lines = sequences()
    return {
        "ids": np.concatenate(lines).astype(np.uint16),
        "offsets": np.cumsum([0, *map(len, lines)]),
        "labels": np.arange(60) % 3,
    }


def test_a_file_is_imported_and_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "any name.npz"
    np.savez_compressed(file, **arrays())
    code, out, _ = said(capsys, "data", "import", "own-birds", str(file))
    assert code == 0
    assert out == (
        "own-birds: 3 classes, 6 symbols, longest sequence 8.\n"
        "Train / validation / test: 48 / 6 / 6 examples, drawn by label, the same at every call.\n"
        "One answer always is right on 33.3 % of the test set.\n"
        "Train on it with: memnb train luna-16 own-birds\n"
    )
    assert task_config("own-birds") == birds(), "as in Python"
    words = re.findall(r"memnb (train .*)", out)[0].split()
    code, out, _ = said(
        capsys, *words, "--device", "cpu", "--set", "training.steps=2",
        "--set", "training.batch=8", "--set", "task.max_length=6",
    )  # fmt: skip
    assert code == 0
    assert "Test accuracy" in out
    assert "own-birds" in said(capsys, "results")[1]
    assert "birds: length 8, 3 outputs, data of your own" in said(capsys, "tasks")[1]
    assert "own-birds     your own: here" in said(capsys, "data", "list")[1]
    assert said(capsys, "data", "check", "own-birds")[1].startswith("own-birds     good")
    own.file("own-birds").write_bytes(b"")
    code, out, _ = said(capsys, "data", "check", "own-birds")
    assert (code, out.split()[1]) == (1, "damaged")
    assert said(capsys, "data", "check", "own-bees")[1].split()[1] == "missing"
    code, out, err = said(capsys, "tasks")
    assert code == 0
    assert "is damaged" in err
    assert "text-short" in out


def test_rows_padded_with_zeros_are_the_same_data(tmp_path: Path) -> None:
    lines = sequences()
    rows = np.zeros((60, 12), int)
    for row, line in zip(rows, lines, strict=True):
        row[: len(line)] = line
    np.savez(tmp_path / "rows.npz", ids=rows, labels=np.arange(60) % 3)
    assert own.import_file("own-birds", tmp_path / "rows.npz").task == birds()


def test_splits_and_symbols_travel_in_the_file(tmp_path: Path) -> None:
    parts = np.arange(60) // 3 % 3
    names = np.array(["one", "two", "three", "four", "five", "six"])
    np.savez(tmp_path / "some.npz", **arrays(), split=parts, symbols=names)
    task = own.import_file("own-birds", tmp_path / "some.npz").task
    assert (task.train, task.validation, task.test) == (21, 21, 18)
    assert tasks.tokens(task, np.array([6, 1]), 2) == ["six", "one"]


def test_longer_sequences_are_cut_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "some.npz", **arrays())
    words = ("data", "import", "own-birds", str(tmp_path / "some.npz"), "--max-length", "4")
    assert "longest sequence 4.\n" in said(capsys, *words)[1]
    task = task_config("own-birds")
    short = [line[:4] for line in sequences()]
    assert own.add("birds", short, np.arange(60) % 3).task == task, "the same data"
    assert own.add("birds", sequences(), np.arange(60) % 3, max_length=4).task == task
    assert tasks.load(task).train.inputs.shape == (48, 4)
    for wrong in (0, -1, True, 2.5, "4"):
        with pytest.raises(MemnbError, match="max_length is a number of symbols from 1"):
            own.add("bees", short, np.arange(60) % 3, max_length=wrong)


TEXTS = ['Grüße, "alle"', "NA", "two\nlines", "x" * 200_000]


def table(path: Path, **columns: list[str]) -> Path:
    pd.DataFrame(columns).to_csv(path, sep="," if path.suffix == ".csv" else "\t", index=False)
    return path


@pytest.mark.parametrize("ending", ["csv", "TSV"])
def test_a_table_of_texts_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    words = [word for word in ("good", "bad", "10", "9") for _ in range(3)]
    file = table(tmp_path / f"mine.{ending}", number=[*"abcdefghijkl"], label=words, text=TEXTS * 3)
    code, out, _ = said(capsys, "data", "import", "own-mine", str(file))
    assert code == 0
    assert "own-mine: 4 classes, 255 symbols, longest sequence 200,000.\n" in out
    assert "Labels: 0 = 10, 1 = 9, 2 = bad, 3 = good.\n" in out
    # As spreadsheets write it, with a mark of the byte order.
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert said(capsys, "data", "import", "own-mine", str(file))[1] == out, "the same data"
    task = task_config("own-mine")
    data = tasks.load(task)
    assert data.train.inputs.dtype == np.uint8
    known = ("10", "9", "bad", "good")
    found = [
        (bytes(row[:length] - 1).decode(), known[label])
        for split in (data.train, data.validation, data.test)
        for row, length, label in zip(split.inputs, split.lengths, split.labels, strict=True)
    ]
    assert sorted(found) == sorted(zip(TEXTS * 3, words, strict=True))
    assert tasks.tokens(task, np.frombuffer(b"G\xc3", np.uint8) + 1, 2) == ["G", "\\xc3"]


@pytest.mark.parametrize("names", [["train", "validation", "test"], [*"012"]])
def test_a_table_may_say_which_set_each_text_is_of(tmp_path: Path, names: list[str]) -> None:
    file = table(
        tmp_path / "mine.csv",
        text=[f"text {number}" for number in range(60)],
        label=[str(number % 10 + 1) for number in range(60)],
        split=[names[number // 10 % 3] for number in range(60)],
    )
    added = own.import_file("own-mine", file)
    assert (added.task.train, added.task.validation, added.task.test) == (20, 20, 20)
    assert added.labels == tuple(str(number) for number in range(1, 11)), "10 after 9"
    assert not added.drawn


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"text,label\na,0\n,1\n", "has no text in row 2 below the first line"),
        (b"text,label\na,0\nb,\n", "has no label in row 2 below the first line"),
        (b"texts,label\na,0\n", "'texts', 'label', .* has no column 'text'; a table of texts"),
        (b"a,b\n1,2\n", "has no column 'text' and no column 'label'; a"),
        (b"text;label\na;0\n", "Of its columns, 'text;label', .*mine.csv has no column 'text'"),
        (b"text,label,text\na,0,b\n", "has one twice"),
        (b"text,label\na, b,0\nc, d,1\n", r"cannot be read .*saw 3.* in double quotes"),
        (b"text,label\na,0\nb\n", "has no label in row 2"),
        (b"", "cannot be read as a table"),
        (b"text,label\n\xff,0\n", "cannot be read as a table .*save it as UTF-8"),
        (b'text,label\n"a,0\n', "cannot be read as a table"),
        (b"text,label\n", "there is no sequence"),
        (b"text,label,split\n" + b"a,0,dev\nb,1,dev\n" * 9, "split should hold .* holds 'dev'"),
    ],
)
def test_a_table_that_cannot_be_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    (tmp_path / "mine.csv").write_bytes(content)
    code, out, err = said(capsys, "data", "import", "own-mine", str(tmp_path / "mine.csv"))
    assert (code, out) == (1, "")
    assert re.search(says, err), err
    assert err.count("\n") == 1
    assert not own.file("own-mine").exists()


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, ending: str) -> None:
    with pytest.raises(DataError, match=r"There is no file .*mine"):
        own.import_file("own-mine", tmp_path / f"mine.{ending}")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": None}, "lacks 'labels': a file of data holds 'ids'"),
        ({"ids": None, "labels": None}, "lacks 'ids' and 'labels'"),
        ({"offsets": None}, "no 'offsets': without, they have a row for each sequence"),
        ({"offsets": np.array([0, 5])}, "its offsets do not fit"),
        ({"offsets": np.array([0.0, 5.0])}, "'offsets' of .* should be whole numbers"),
        ({"ids": np.array([[1], [1, 2]], dtype=object)}, "no .npz file of plain arrays"),
        ({"ids": arrays()["ids"].astype(float)}, "but is float64"),
    ],
)
def test_a_file_of_another_form_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], says: str
) -> None:
    kept = {key: value for key, value in (arrays() | changes).items() if value is not None}
    np.savez(tmp_path / "some.npz", **kept)
    code, out, err = said(capsys, "data", "import", "own-birds", str(tmp_path / "some.npz"))
    assert (code, out) == (1, "")
    assert re.search(says, err), err
    assert err.count("\n") == 1


def test_a_damaged_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.npz"
    with pytest.raises(DataError, match="There is no file"):
        own.import_file("own-birds", path)
    for content in (b"", b"PK\x03\x04 and no more", b"ids,labels\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="or damaged") as error:
            own.import_file("own-birds", path)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="or damaged"):
        own.import_file("own-birds", tmp_path)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("data get own-birds", "nobody offers them; import them with 'memnb data import own-birds"),
        ("data import own-Birds x.npz", "a name of one word"),
        ("data import text x.npz --replace", "--replace is for importing data of your own"),
        ("data list --replace", "--replace is for importing"),
        ("data import text x.npz --max-length 9", "--max-length is for importing data of your own"),
        ("data import own-birds x.npz --max-length 0", "a whole number from 1, but got '0'"),
        ("train luna-16 own-birds", "'own-birds' are not here"),
        ("sweep --tasks own-birds --dry-run", "no task named 'own-birds'"),
    ],
)
def test_what_cannot_be_meant_is_said(
    capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    code, _, err = said(capsys, *words.split())
    assert code != 0
    assert says in err


def test_others_are_replaced_when_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    birds(seed=1)
    np.savez(tmp_path / "some.npz", **arrays())
    call = ("data", "import", "own-birds", str(tmp_path / "some.npz"))
    code, _, err = said(capsys, *call)
    assert code == 2
    assert "--replace" in err
    assert said(capsys, *call, "--replace")[0] == 0
    assert task_config("own-birds") == birds()
