"""The real data, where they are in the data cache; skipped, with the reason, where they are not."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from memnb import config, paths, tasks
from memnb.evidence import known_data
from memnb.tasks import catalogue, counts, portraits, prepared

# Other tests have a data cache of their own; this one is the user's.
CACHE = paths.data_cache()


@pytest.fixture(autouse=True)
def _users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMNB_DATA", str(CACHE))


def needs(name: str) -> pytest.MarkDecorator:
    there = (CACHE / "prepared" / f"{name}.npz").is_file()
    return pytest.mark.skipif(not there, reason=f"the data of '{name}' are not in {CACHE}")


def quickly_loaded(task: config.Task) -> tasks.Dataset:
    tasks.load(task)
    started = time.perf_counter()
    data = tasks.load(task)
    assert time.perf_counter() - started < 2  # 0.5 s where the machine has nothing else to do
    return data


@needs("text")
def test_text_is_imdb():
    assert catalogue.check("text")[0].outcome == "good"
    data = quickly_loaded(config.Text())
    assert data.train.inputs.shape == data.test.inputs.shape == (25_000, 4000)
    first = np.flatnonzero(data.train.labels == 1)[0]
    shown = "".join(tasks.tokens(config.Text(), data.train.inputs[first], 40))
    assert shown == "Bromwell High is a cartoon comedy. It ra"
    assert data.train.labels.mean() == data.test.labels.mean() == 0.5
    lengths = np.concatenate([data.train.lengths, data.test.lengths])
    assert np.median(lengths) == 971
    assert (lengths == 4000).mean() == pytest.approx(0.030, abs=0.001)


@needs("text")
def test_text_holdout():
    data = tasks.load(config.Text(validation="holdout"))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [
        22_500,
        2_500,
        25_000,
    ]
    assert data.validation.labels.mean() == 0.5


@needs("image")
def test_image_is_cifar_in_grey():
    assert catalogue.check("image")[0].outcome == "good"
    data = quickly_loaded(config.Image())
    assert [len(split) for split in (data.train, data.validation, data.test)] == [
        45_000,
        5_000,
        10_000,
    ]
    both = prepared.read("image")["x_train"]
    assert both.mean() == pytest.approx(122.3640, abs=1e-4)
    assert both.std() == pytest.approx(61.1057, abs=1e-4)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10


@needs("retrieval-acl")
def test_retrieval_substitute():
    assert catalogue.check("retrieval-acl")[0].outcome == "good"
    data = quickly_loaded(config.RetrievalACL())
    assert data.train.inputs.shape == (16_538, 2, 4000)
    assert len(data.validation) == 2_067
    assert len(data.test) == 2_068
    assert data.train.labels.mean() == pytest.approx(0.5, abs=0.01)
    assert Path(prepared.file("retrieval-acl")).stat().st_size < 50_000_000


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs(name)) for name in ("text", "image", "retrieval-acl")]
)
def test_the_committed_numbers_are_those_of_the_data(name: str):
    committed = counts.as_csv({name: counts.load()[name]})
    assert counts.as_csv({name: counts.of_data(name)}) == committed


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=needs(name.removesuffix("-short")))
        for name in ("text", "text-short", "image", "image-short", "retrieval-acl")
    ],
)
def test_the_study_was_trained_on_these_data(name: str):
    assert tasks.load(config.task_config(name)).digest() == known_data.load()[name]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        pytest.param("text", "positive", marks=needs("text")),
        pytest.param("retrieval-acl", "citation", marks=needs("retrieval-acl")),
    ],
)
def test_a_true_example_is_shown(name: str, word: str):
    (found,) = portraits.portraits(1, [name])
    assert isinstance(found.example, portraits.Passages)
    assert found.example.word == word
    assert all(len(text) > 500 for text in found.example.texts)
