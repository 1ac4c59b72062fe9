"""Whether alike rows go with low accuracy: what is shown of ConvLuna taken apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_up_runs import SPREAD_OUT, write_run, write_runs

from memnb.draw import alike, style, tables
from memnb.evidence import load_causal, load_probes, load_runs


@pytest.fixture
def rows(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Luna, the whole ConvLuna and three others on Text; on ListOps nothing was taken away."""
    changes: list[dict[str, Any]] = [
        {},
        {"filter": "none"},
        {"pack_temperature": "sqrt"},
        {"filter": "pool", "filter_stride": 4},
    ]
    for number, change in enumerate(changes):
        write_runs(tmp_path, "convluna-16", [0.80 - 0.1 * number, 0.82 - 0.1 * number],
                   task="text", probes=SPREAD_OUT, model_changes=change)  # fmt: skip
    write_runs(tmp_path, "luna-16", [0.64], task="text")
    write_runs(tmp_path, "convluna-16", [0.9], task="listops")
    # None of these belongs beside them.
    write_run(tmp_path, "convluna-16", "text", 3, None, "failed", model_changes={"filter": "none"})
    write_runs(tmp_path, "luna-1", [0.6], task="text")
    write_runs(tmp_path, "luna-16", [0.6], task="text", model_changes={"representation": "mean"})
    intended = {"reading": "as_intended", "filter": "none", "unpack_temperature": "learn"}
    write_runs(tmp_path, "convluna-16", [0.5], task="text", model_changes=intended)
    runs = load_runs(tmp_path)
    return runs, load_probes(runs)


def test_each_way_to_put_it_together_has_a_row(rows: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found = alike.table(*rows, load_causal(rows[0]))
    assert set(found["Task"]) == {"Text"}
    assert found[["Model", "Seeds", "Accuracy"]].to_numpy().tolist() == [
        ["Luna-16", "1", "64.0"],
        ["no filter, T = learned", "2", "71.0"],
        ["convolution, width 4, T = √d", "2", "61.0"],
        ["convolution, width 4, T = learned", "2", "81.0"],
        ["max pooling, width 4, stride 4, T = learned", "2", "51.0"],
    ]
    first, last = found["Cosine"].iloc[1].split(" → ")
    assert first != last == "0.40"
    assert found["Effective rank"].iloc[0].endswith(" → 1.3")
    assert found["Cosine"].iloc[0].endswith(" → 0.97")


def test_points_lost_are_those_of_the_runs_that_were_asked(tmp_path: Path) -> None:
    for seed, accuracies in enumerate([(0.8, 0.7), (0.8, 0.76)]):
        folder = write_run(tmp_path, "convluna-16", "text", seed, accuracy=0.8)
        lines = [
            {"test": test, "rule": "", "kept": 16, "accuracy": accuracy, "examples": 500,
             "changed": 0.0}
            for test, accuracy in zip(("intact", "mean"), accuracies, strict=True)
        ]  # fmt: skip
        (folder / "causal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    without = write_run(tmp_path, "convluna-16", "text", model_changes={"filter": "none"})
    (without / "causal.jsonl").unlink()
    runs = load_runs(tmp_path)
    found = alike.table(runs, load_probes(runs), load_causal(runs))
    assert found.set_index("Model")[alike.LOST].to_dict() == {
        "no filter, T = learned": style.MISSING,
        "convolution, width 4, T = learned": "7.0",
    }


def test_points_lost_say_of_how_many_seeds_they_are_where_not_all_were_asked(
    tmp_path: Path,
) -> None:
    write_runs(tmp_path, "convluna-16", [0.8, 0.8, 0.8], task="text")
    write_run(tmp_path, "convluna-16", "text", model_changes={"filter": "none"})
    runs = load_runs(tmp_path)
    causal = load_causal(runs)
    (everyone,) = alike.table(runs, load_probes(runs), causal)[alike.LOST].tail(1)
    asked = causal[causal["seed"] > 0]
    (fewer,) = alike.table(runs, load_probes(runs), asked)[alike.LOST].tail(1)
    assert "(" not in everyone
    assert fewer.endswith(" (2)")


def test_cosine_by_temperature_and_accuracy_by_filter(
    rows: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    assert alike.in_words(*rows) == (
        "On Text, as the authors' code runs, the mean cosine of the 16 rows at the end is 0.40 to "
        "0.97 with T = √d, 0.40 with T = learned; accuracy is 64.0 to 71.0 without a filter, as in "
        "Luna, 51.0 to 81.0 with one."
    )


@pytest.mark.parametrize("first", range(3))
def test_tables_round_a_mean_alike_whatever_the_order_of_its_runs(
    first: int, tmp_path: Path
) -> None:
    accuracies = [0.3705, 0.3735, 0.3825]  # 37.55 % but for the order in which they are added up
    in_order = accuracies[first:] + accuracies[:first]
    write_runs(tmp_path, "convluna-16", in_order, task="text", model_changes={"filter": "none"})
    runs = load_runs(tmp_path)
    found = alike.table(runs, load_probes(runs), load_causal(runs))
    assert found["Accuracy"].tolist() == ["37.6"]
    assert tables.accuracy_cell(runs).startswith("37.6 ")


def test_the_figure_has_a_small_mark_per_run_and_a_large_one_per_model(
    rows: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    figure = alike.figure(*rows)
    (axis,) = figure.axes
    marks = [line for line in axis.lines if line.get_marker() not in ("None", None, "")]
    small, large = marks[::2], marks[1::2]
    assert [len(line.get_xdata()) for line in small] == [1, 2, 2, 2, 2]
    assert [len(line.get_xdata()) for line in large] == [1] * 5
    (luna, *others) = large
    assert luna.get_markerfacecolor() == "white"
    assert luna.get_marker() == others[1].get_marker() != others[0].get_marker()
    assert others[0].get_color() == luna.get_color() != others[1].get_color()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    # A column of filters, one of temperatures and models, one of levels.
    assert legend[3] == "max pooling, width 4, stride 4"
    assert legend[4:7] == ["T = √d", "T = learned", "Luna-16"]
    assert legend[7].isspace()
    assert legend[8] == "one answer always"
    assert "".join(legend[9:]).isspace()
    assert "T = 1" not in legend  # no run has it
    attached = style.attached(figure)
    assert attached is not None
    assert len(attached) == 9
    assert "packed_cosine_last" in attached


def test_of_means_that_meet_the_smaller_stands_inside_the_larger(tmp_path: Path) -> None:
    for temperature in ("learn", "sqrt", "unit"):
        changes = {"filter": "none", "pack_temperature": temperature}
        write_runs(tmp_path, "convluna-16", [0.6, 0.7], task="text", model_changes=changes)
    runs = load_runs(tmp_path)
    figure = alike.figure(runs, load_probes(runs))
    (axis,) = figure.axes
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "one inside the other where two meet" in said
    means = [line for line in axis.lines if line.get_markeredgecolor() == "white"]
    assert len({tuple(line.get_xydata()[0]) for line in means}) == 1
    above_first = sorted(means, key=lambda line: -line.get_zorder())
    sizes = [line.get_markersize() for line in above_first]
    assert sizes == sorted(set(sizes))
    assert len({line.get_marker() for line in means}) == len(means) == 3


def test_a_level_far_below_does_not_press_the_marks_together(tmp_path: Path) -> None:
    for changes in ({}, {"filter": "none"}):
        write_runs(tmp_path, "convluna-16", [0.36, 0.38], task="listops", model_changes=changes)
    runs = load_runs(tmp_path)
    figure = alike.figure(runs, load_probes(runs))
    (axis,) = figure.axes
    assert axis.get_ylim()[0] > 30
    assert "one answer always: 17" in [text.get_text() for text in figure.texts]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "first operator alone" in legend
    assert "one answer always" not in legend


def test_before_anything_is_taken_away_it_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-16", "text")
    write_run(tmp_path, "convluna-16", "text")
    for runs in (load_runs(tmp_path), load_runs(tmp_path / "nothing")):
        probes = load_probes(runs)
        assert style.MISSING in alike.table(runs, probes, load_causal(runs)).to_string()
        assert alike.in_words(runs, probes) == ""
        assert "Do alike rows" in alike.figure(runs, probes).texts[0].get_text()


def test_runs_that_were_never_looked_at_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", "text")
    write_run(tmp_path, "convluna-16", "text", probes=False, model_changes={"filter": "none"})
    runs = load_runs(tmp_path)
    found = alike.table(runs, load_probes(runs), load_causal(runs))
    assert found["Model"].tolist() == ["convolution, width 4, T = learned"]
