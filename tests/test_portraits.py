"""The data sets as a page shows them: counted right, drawn by definition, silent about texts."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from memnb import config, paths
from memnb.errors import DataError, MemnbError
from memnb.tasks import catalogue, counts, listops, pathfinder, pathfinder_original, prepared
from memnb.tasks.base import Sequences
from memnb.tasks.portraits import LABELS, Expression, Passages, Pictures, Portrait, portraits

REVIEWS = ["bad", "good " * 60, "so-so", "fine caf\u00e9 for $5 or $6"]


@pytest.fixture(autouse=True)
def _no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(tmp_path / "my data"))


def store_text() -> None:
    """Four reviews: a negative and a positive one to train on, as many to test on."""
    documents = Sequences.of([np.frombuffer(one.encode(), np.uint8) for one in REVIEWS])
    label, split = np.array([0, 1, 0, 1], np.uint8), np.array([0, 0, 1, 1], np.uint8)
    arrays = {"bytes": documents.values, "offsets": documents.offsets}
    prepared.store("text", {**arrays, "label": label, "split": split})


def store_pairs(name: str) -> None:
    documents = Sequences.of([np.full(size, 65, np.uint8) for size in (10, 300, 9000)])
    prepared.store(
        name,
        {
            "bytes": documents.values,
            "offsets": documents.offsets,
            "pair_label": np.array([0, 1, 1, 0], np.uint8),
            "pair_doc1": np.array([0, 1, 2, 0], np.int32),
            "pair_doc2": np.array([1, 2, 0, 2], np.int32),
            "pair_split": np.array([0, 0, 1, 2], np.uint8),
        },
    )


def store_images() -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (40, 32, 32)).astype(np.uint8)
    labels = np.array([3, 3, 0, 9, 3, 1, 2, *range(10), *range(10), 5, 6, 7], np.uint8)
    prepared.store(
        "image",
        {"x_train": images[:30], "y_train": labels, "x_test": images[30:],
         "y_test": np.arange(10, dtype=np.uint8)},
    )  # fmt: skip
    return images


def one(name: str, sample: int = 20) -> Portrait:
    (found,) = portraits(sample, [name])
    return found


# --- counting --------------------------------------------------------------------------------


def test_reviews_are_counted_by_split_label_and_length():
    store_text()
    found = counts.of_data("text")
    assert found.labels.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert found.examples == 4
    assert found.balance.tolist() == [0.5, 0.5]
    assert found.bins.tolist() == [[1, 250, 3], [251, 500, 1]]
    assert (found.shortest, found.median, found.longest) == (3, 14, 300)
    assert found.beyond(250) == 0.25
    assert found.beyond(4000) == 0


def test_a_pair_is_two_sequences():
    store_pairs("retrieval")
    found = counts.of_data("retrieval")
    assert found.labels.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert found.bins[:, 2].sum() == 8
    assert found.beyond(4000) == 3 / 8
    assert found.longest == 9000


def test_images_have_one_length_and_the_validation_set_of_the_task():
    store_images()
    found = counts.of_data("image")
    assert found.bins.tolist() == [[1024, 1024, 40]]
    assert found.labels.sum(axis=1).tolist() == [27, 3, 10]


def test_no_bar_holds_both_whole_and_cut_texts():
    for name in ("text", "retrieval", "retrieval-acl"):
        assert config.Text().max_length % counts.BIN[name] == 0


def test_what_is_written_is_read_again(tmp_path: Path):
    store_text()
    store_pairs("retrieval-acl")
    store_images()
    before = {name: counts.of_data(name) for name in ("text", "retrieval-acl", "image")}
    path = tmp_path / "datasets.csv"
    path.write_text(counts.as_csv(before))
    after = counts.load(path)
    assert list(after) == list(before)
    for name, found in after.items():
        assert np.array_equal(found.labels, before[name].labels)
        assert np.array_equal(found.bins, before[name].bins)
    assert counts.as_csv(after) == path.read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("value", "number"), "should have the columns"),
        (("12500", "many"), "'many'"),
        (("text,label,train", "text,label,rehearsal"), "damaged"),
        (("text,median", "text,middle"), "median"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: tuple[str, str], says: str):
    path = tmp_path / "datasets.csv"
    path.write_text(counts.file().read_text().replace(*change, 1))
    with pytest.raises(DataError, match=says) as error:
        counts.load(path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere\.csv cannot be read"):
        counts.load(tmp_path / "nowhere.csv")


# --- the committed file ----------------------------------------------------------------------


def test_the_committed_file_agrees_with_the_cards():
    found = counts.load()
    assert set(found) == {"text", "retrieval-acl", "image"}
    for name, numbers in found.items():
        assert tuple(numbers.labels.sum(axis=1)) == catalogue.CARDS[name].splits
        assert len(numbers.balance) == len(LABELS[name])
        sequences = numbers.examples * (2 if name == "retrieval-acl" else 1)
        assert numbers.bins[:, 2].sum() == sequences
        assert numbers.bins[0, 0] <= numbers.shortest <= numbers.median <= numbers.longest


def test_the_committed_file_holds_numbers_and_nothing_of_the_data():
    header, *lines = counts.file().read_text().splitlines()
    assert header == ",".join(counts.COLUMNS)
    assert len(lines) < 300
    names = "|".join(catalogue.CARDS)
    line = (
        rf"({names}),(label|length|shortest|median|longest),(train|validation|test|)(,[\d.]*){{3}}"
    )
    assert all(re.fullmatch(line, text) for text in lines)


def tool() -> ModuleType:
    checkout = paths.checkout()
    assert checkout is not None
    spec = importlib.util.spec_from_file_location("datasets_tool", checkout / "tools/datasets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tool_counts_what_is_here_and_keeps_the_rest():
    committed = counts.as_csv(counts.load())
    assert counts.as_csv(tool().updated()) == committed
    store_text()
    again = tool().updated()
    assert list(again) == ["text", "retrieval-acl", "image"]
    assert again["text"].examples == 4
    assert again["image"].examples == 60_000


def test_the_tool_says_when_the_file_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "datasets.csv"
    path.write_bytes(counts.file().read_bytes())
    monkeypatch.setattr(counts, "file", lambda: path)
    monkeypatch.setattr("sys.argv", ["datasets.py", "--check"])
    assert tool().main() == 0
    store_text()
    before = path.read_bytes()
    assert tool().main() == 1
    assert "does not fit" in capsys.readouterr().err
    assert path.read_bytes() == before
    monkeypatch.setattr("sys.argv", ["datasets.py"])
    assert tool().main() == 0
    assert counts.load(path)["text"].examples == 4


# --- portraits -------------------------------------------------------------------------------


def test_every_data_set_has_a_portrait_without_any_data():
    found = {portrait.name: portrait for portrait in portraits(20)}
    assert list(found) == list(catalogue.CARDS)
    for name in ("text", "retrieval", "retrieval-acl", "image"):
        assert found[name].example is None
        assert "not on this machine" in found[name].problem
        assert catalogue.CARDS[name].next_step in found[name].problem
    assert found["retrieval"].counts is None  # nobody here has seen LRA's pairs
    assert found["text"].basis == "all 50,000 examples"
    assert not found["listops"].problem
    assert not list(paths.data_cache().glob("**/*.npz"))  # nothing was generated for good


def test_listops_shows_a_tree_of_the_training_set():
    portrait = one("listops", sample=30)
    example = portrait.example
    assert isinstance(example, Expression)
    assert listops.evaluate(example.tokens) == example.tree.value
    assert 500 < len(example.tokens) == example.tree.length < 2000
    task = config.ListOps(train=40, validation=1, test=1)
    first = listops.make(task).sequences
    ids = [listops.TOKEN_ID[token] for token in example.tokens]
    assert any(first[number].tolist() == ids for number in range(30))
    assert portrait.counts is not None
    assert portrait.counts.labels.sum(axis=1).tolist() == [30, 0, 0]


def test_pathfinder_shows_both_labels_of_the_training_set():
    portrait = one("pathfinder", sample=20)
    example = portrait.example
    assert isinstance(example, Pictures)
    assert example.words == ("two contours", "two contours", "one contour", "one contour")
    drawn = pathfinder.generate(config.Pathfinder(), 20)
    row = int(np.argmax(drawn.labels == 0))
    assert np.array_equal(example.images[0].ravel(), drawn.images[row])
    assert portrait.counts is not None
    assert portrait.counts.balance[1] == drawn.labels.mean()


def test_an_imported_review_is_shown_with_its_label():
    store_text()
    example = one("text").example
    assert isinstance(example, Passages)
    assert example == Passages(("good " * 59 + "good",), "positive")


def test_an_imported_pair_is_shown_and_counted_where_no_numbers_are_committed():
    store_pairs("retrieval")
    portrait = one("retrieval")
    assert isinstance(portrait.example, Passages)
    assert portrait.example.word == "citation"
    assert [len(text) for text in portrait.example.texts] == [300, 2000]
    assert portrait.counts is not None
    assert portrait.basis == "all 4 examples"


def test_imported_images_are_the_first_of_different_labels():
    images = store_images()
    example = one("image").example
    assert isinstance(example, Pictures)
    assert example.words == ("cat", "airplane", "truck", "automobile")
    assert np.array_equal(example.images, images[[0, 2, 3, 5]])


def test_damaged_data_are_a_sentence_and_the_numbers_stay():
    path = prepared.file("text")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no zip file")
    portrait = one("text")
    assert portrait.example is None
    assert "damaged" in portrait.problem
    assert portrait.counts is not None


def test_an_unknown_data_set_is_refused():
    with pytest.raises(MemnbError, match="did you mean 'listops'"):
        portraits(5, ["listop"])


# --- trees of ListOps ------------------------------------------------------------------------


def test_a_tree_knows_its_values_and_sizes():
    tree = listops.tree(["[MAX", "4", "[MIN", "2", "7", "]", "0", "]"])
    assert (tree.token, tree.value, tree.length) == ("[MAX", 4, 8)
    inner = tree.arguments[1]
    assert (inner.token, inner.value, inner.length) == ("[MIN", 2, 4)
    assert [tree.ends(depth) for depth in (0, 1, 2, 3)] == [1, 3, 4, 4]
    with pytest.raises(DataError, match="cannot go on"):
        listops.tree(["[MAX", "]"])


def test_trees_have_the_value_and_length_of_their_sequences():
    made = listops.make(config.ListOps(train=8, validation=1, test=1))
    for number, label in enumerate(made.label.tolist()):
        tokens = [listops.VOCABULARY[token] for token in made.sequences[number].tolist()]
        tree = listops.tree(tokens)
        assert (tree.value, tree.length) == (label, len(tokens))


# --- Pathfinder's statistics -----------------------------------------------------------------


def test_a_sample_of_ours_agrees_with_the_original():
    drawn = pathfinder.generate(config.Pathfinder(), 1000)
    assert all(one.agrees for one in pathfinder_original.statistics(drawn))


def test_the_comparison_has_teeth():
    drawn = pathfinder.generate(config.Pathfinder(), 1000)
    brighter = np.clip(drawn.images.astype(int) * 2, 0, 255).astype(np.uint8)
    fuller = pathfinder.Drawn(brighter, np.ones_like(drawn.labels), drawn.contours, drawn.marked)
    found = {one.name: one.agrees for one in pathfinder_original.statistics(fuller)}
    assert not found["mean pixel (black 0, white 1)"]
    assert not found["pixels above 127"]
    assert found["pixels above 0"]  # doubling lights no pixel that was black
    assert not found["images of one contour (label 1)"]
