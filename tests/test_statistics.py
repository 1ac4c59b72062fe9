"""Means and differences against scipy.stats, and the rules about seeds that have no value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import write_run, write_runs
from scipy import stats

from memnb.evidence.rows import load_probes, load_runs
from memnb.evidence.statistics import ENOUGH, difference, mean, summarise

samples = st.lists(st.floats(0, 1), min_size=ENOUGH, max_size=8).filter(lambda x: np.std(x) > 1e-6)


@given(samples, st.floats(0.5, 0.999))
def test_mean_agrees_with_scipy(sample: list[float], level: float) -> None:
    found = mean(sample, level)
    low, high = stats.t.interval(level, len(sample) - 1, np.mean(sample), stats.sem(sample))
    assert found.mean == pytest.approx(np.mean(sample))
    assert found.sd == pytest.approx(np.std(sample, ddof=1))
    assert (found.low, found.high) == pytest.approx((low, high))


@given(samples, samples)
def test_difference_agrees_with_scipys_welch_test(a: list[float], b: list[float]) -> None:
    found = difference(a, b)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert found.effect == pytest.approx(np.mean(a) - np.mean(b))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.n_a, found.n_b) == (len(a), len(b))


def test_a_known_interval() -> None:
    # 1, 2, 3: sd 1, t(0.975; 2) = 4.302653, so 2 -+ 4.302653 / sqrt(3).
    found = mean([1, 2, 3])
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)


def test_too_few_values_have_no_interval() -> None:
    assert math.isnan(mean([]).mean)
    one = mean([0.4])
    assert (one.mean, one.n) == (0.4, 1)
    assert all(math.isnan(x) for x in (one.sd, one.low, one.high))
    two = mean([0.4, 0.6])
    assert two.sd == pytest.approx(0.2 / math.sqrt(2))
    assert math.isnan(two.low)
    assert math.isnan(two.high)
    for few in ([0.3], [0.2, 0.4]):
        effect = difference([0.4, 0.5, 0.6], few)
        assert effect.effect == pytest.approx(0.2)
        assert math.isnan(effect.low)
        assert (effect.n_a, effect.n_b) == (3, len(few))


def test_seeds_that_agree_exactly_have_an_interval_of_no_width() -> None:
    # Three runs at the majority class score the same to the last digit.
    assert difference([0.5] * 3, [0.25] * 3)[:3] == (0.25, 0.25, 0.25)


def test_nan_is_left_out_of_a_mean() -> None:
    assert mean([0.2, math.nan, 0.4]).n == 2


def test_summarise_counts_failed_runs_beside_the_mean(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.30, 0.32, None, 0.37])
    write_runs(tmp_path, "transformer", [None])
    table = summarise(load_runs(tmp_path), ["task", "model"]).set_index("model")
    luna = table.loc["luna-16"]
    assert (luna["n"], luna["failed"]) == (3, 1)
    assert luna["mean"] == pytest.approx(0.33)
    assert luna["sd"] == pytest.approx(np.std([0.30, 0.32, 0.37], ddof=1))
    transformer = table.loc["transformer"]
    assert (transformer["n"], transformer["failed"]) == (0, 1)
    assert np.isnan(transformer["mean"])


def test_summarise_never_uses_the_value_of_a_failed_run(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.3, 0.5])
    runs = load_runs(tmp_path)
    runs.loc[runs["seed"] == 1, "outcome"] = "failed"
    row = summarise(runs, ["model"]).iloc[0]
    assert (row["mean"], row["n"], row["failed"]) == (0.3, 1, 1)


def test_a_run_under_way_is_neither_counted_nor_failed(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0, accuracy=0.3)
    write_run(tmp_path, seed=1, outcome="running")
    row = summarise(load_runs(tmp_path), ["model"]).iloc[0]
    assert (row["n"], row["failed"]) == (1, 0)


def test_the_best_of_several_is_never_reported(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.1, 0.1, 0.9])
    row = summarise(load_runs(tmp_path), ["model"]).iloc[0]
    assert row["mean"] == pytest.approx(1.1 / 3)


def test_summarise_long_frames(tmp_path: Path) -> None:
    for seed, cosine in enumerate((0.8, 0.9, 1.0)):
        write_run(tmp_path, seed=seed, probes={"packed_cosine": cosine})
    probes = load_probes(load_runs(tmp_path))
    table = summarise(probes, ["model", "step", "block"], value="packed_cosine")
    end = table[table["step"] == table["step"].max()]
    assert end["mean"].tolist() == pytest.approx([0.9, 0.9])
    assert end["n"].tolist() == [3, 3]


def test_rows_of_one_run_do_not_pass_for_seeds(tmp_path: Path) -> None:
    write_run(tmp_path)
    with pytest.raises(ValueError, match="several rows of one run"):
        summarise(load_probes(load_runs(tmp_path)), ["model", "step"], value="packed_cosine")


def test_nothing_to_summarise() -> None:
    table = summarise(load_runs(), ["task", "model"])
    assert table.empty
    assert list(table.columns) == ["task", "model", "mean", "sd", "n", "failed", "low", "high"]


def test_groups_keep_the_order_of_the_rows() -> None:
    frame = pd.DataFrame({"model": ["b", "a", "b"], "x": [1.0, 2.0, 3.0]})
    assert summarise(frame, ["model"], value="x")["model"].tolist() == ["b", "a"]


def test_rows_without_a_name_are_a_group_too() -> None:
    frame = pd.DataFrame({"device": ["a", None, None], "x": [1.0, 2.0, 4.0]})
    table = summarise(frame, ["device"], value="x")
    assert table[["mean", "n"]].values.tolist() == [[1.0, 1], [3.0, 2]]
