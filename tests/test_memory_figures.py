"""Figures of causal tests, filters, lengths, cost and of single inputs say what the rows say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up_runs import COLLAPSED, amend, write_run, write_runs
from matplotlib.figure import Figure
from matplotlib.path import Path as Path2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from pictures import assert_apart, flat, words

from memnb import config, paths
from memnb.draw import filter_figures, looking, memory_figures, style
from memnb.draw.panels import common_memory, look_of
from memnb.draw.point_names import name_points
from memnb.errors import DataError, MemnbError
from memnb.evidence import benchmarks, levels, rows, views


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder, "transformer", [0.30, 0.31])
    write_runs(folder, "luna-16", [0.25, 0.26, None], probes=COLLAPSED)
    write_runs(folder, "convluna-1", [0.33, 0.34])
    write_runs(folder, "convluna-16", [0.35, 0.36])
    write_run(folder, "convluna-16", accuracy=0.40, model_changes={"filter_kernel": "random"})
    write_run(folder, "convluna-16", accuracy=0.20, model_changes={"filter": "none"})
    write_run(folder, "convluna-16", accuracy=0.99, model_changes={"pack_temperature": "unit"})
    return rows.load_runs(folder)


FIGURES: dict[str, tuple[Callable[..., Figure], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "removal": (memory_figures.removal_rules, rows.load_causal),
    "exchange": (memory_figures.exchanges, rows.load_causal),
    "usage": (memory_figures.usage, rows.load_usage),
    "kernels": (
        lambda frame, subtitle: filter_figures.kernels(frame, "convluna-16", 0, subtitle),
        rows.load_filters,
    ),
    "responses": (
        lambda frame, subtitle: filter_figures.responses(frame, "convluna-16", 0, subtitle),
        rows.load_filters,
    ),
    "movement": (filter_figures.kernel_movement, rows.load_filters),
    "kinds": (filter_figures.kernel_kinds, lambda frame: frame),
    "length": (memory_figures.by_length, rows.load_lengths),
    "beginning": (memory_figures.by_beginning, rows.load_beginning),
    "cost": (memory_figures.cost_accuracy, lambda frame: frame),
    "moment": (
        lambda frame, subtitle: filter_figures.moment(
            frame, rows.load_probes(frame.iloc[:0].assign(folder=[])), subtitle=subtitle
        ),
        rows.load_filters,
    ),
}


@pytest.mark.parametrize("name", ["usage", "movement"])
def test_a_figure_of_a_memory_says_how_many_seeds_each_mean_rests_on(
    name: str, runs: pd.DataFrame
) -> None:
    function, load = FIGURES[name]
    rows_of_all = load(runs)
    counts = rows_of_all.groupby("model")["seed"].nunique()
    assert counts.nunique() == 1
    said = f"{counts.iloc[0]} seeds"
    assert said in flat(function(rows_of_all))
    fewer = rows_of_all[(rows_of_all["seed"] == 0) | (rows_of_all["model"] != "convluna-16")]
    name_of_it = "ConvLuna" if name == "usage" else "ConvLuna-16"
    assert f"{name_of_it} (1)" in flat(function(fewer))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_where_its_rows_come_from_and_hands_them_out(
    name: str, runs: pd.DataFrame
) -> None:
    function, load = FIGURES[name]
    figure = function(load(runs), subtitle="Some scale (committed)")
    assert "Some scale (committed)" in flat(figure)
    attached = style.attached(figure)
    assert attached is not None
    assert len(attached)
    assert "folder" not in attached


SEEDS = {
    **dict.fromkeys(
        ["removal", "usage", "movement", "length", "beginning"], "hin: a seed; thick: the mean"
    ),
    "exchange": "mark: a seed; bar: the mean",
    "kinds": "mean",
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_figure_of_several_seeds_says_what_is_one_and_what_their_mean(
    name: str, runs: pd.DataFrame
) -> None:
    function, load = FIGURES[name]
    written = {
        text.get_text().replace("\n", " ") for text in function(load(runs), "").findobj(plt.Text)
    }
    if name == "kinds":
        assert SEEDS[name] in written, "in the legend"
    else:
        assert any(SEEDS[name] in text for text in written)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_without_rows_says_so(name: str, runs: pd.DataFrame) -> None:
    function, load = FIGURES[name]
    figure = function(load(runs.iloc[:0]), subtitle="Full scale (committed)")
    assert style.MISSING in words(figure)
    assert not any(axis.lines for axis in figure.axes)


@pytest.mark.parametrize("name", ["removal", "exchange", "usage"])
def test_a_memory_size_that_no_run_has_is_told_from_one_that_has_no_second_row(
    name: str, runs: pd.DataFrame
) -> None:
    draw, load = FIGURES[name]
    known = load(runs)
    assert "No run with 5 memory rows; there are runs with 16." in words(draw(known, memory=5))
    assert "One memory row: there is no other" in words(draw(known, memory=1))


@pytest.mark.parametrize("name", ["kernels", "responses"])
def test_a_model_or_seed_that_no_run_has_is_answered_by_those_that_are_here(
    name: str, runs: pd.DataFrame
) -> None:
    draw = getattr(filter_figures, name)
    known = rows.load_filters(runs)
    model, seed = draw(known, "convluna-5"), draw(known, "convluna-16", 9)
    assert "No run of ConvLuna-5; there are runs of ConvLuna-1 or ConvLuna-16." in words(model)
    assert "No run with seed 9; there are runs with seed 0 or 1." in words(seed)


def test_the_memory_size_that_is_shown_is_the_one_that_most_families_have() -> None:
    rows = pd.DataFrame(
        [("luna", 4), ("convluna", 4), ("luna", 16), ("convluna", 16), ("luna", 256)],
        columns=["family", "memory"],
    )
    assert common_memory(rows) == 16, "the larger of two"
    assert common_memory(rows.iloc[:3]) == 4


def test_kernels_move_on_the_task_that_has_most_memory_sizes(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", "listops-short")
    for model in ("convluna-1", "convluna-16"):
        write_run(tmp_path, model, "text-short")
    filters = rows.load_filters(rows.load_runs(tmp_path))
    assert "Text short" in words(filter_figures.kernel_movement(filters))
    one_each = filters[filters["memory"] == 16]
    assert "ListOps short" in words(filter_figures.kernel_movement(one_each))


@pytest.mark.parametrize("name", ["length", "beginning"])
def test_levels_are_named_above_panels_whose_curves_run_along_them(
    name: str, runs: pd.DataFrame
) -> None:
    function, load = FIGURES[name]
    figure = function(load(runs), "")
    assert "dotted: one answer always; dash-dotted: first operator alone" in flat(figure)
    assert not [text for text in figure.texts if text.get_text() == "one answer always"]


def test_a_panel_of_runs_that_nobody_asked_does_not_say_that_there_are_none(
    tmp_path: Path,
) -> None:
    for model in ("luna-1", "luna-16"):
        for task in ("listops-short", "text-short"):
            folder = write_run(tmp_path, model, task)
    (folder / "beginning.jsonl").unlink()
    beginning = rows.load_beginning(rows.load_runs(tmp_path))
    said = words(memory_figures.by_beginning(beginning))
    assert said.count("not measured") == 1
    assert style.MISSING not in said


def test_removal_has_every_seed_under_every_rule_and_starts_intact(runs: pd.DataFrame) -> None:
    figure = memory_figures.removal_rules(rows.load_causal(runs))
    assert [axis.get_title(loc="left") for axis in figure.axes] == list(
        memory_figures.RULES.values()
    )
    for axis in figure.axes:
        thin = [line for line in axis.lines if line.get_alpha() == 0.4]
        assert len(thin) == 4  # two finished seeds of each model with 16 rows
        for line in thin:
            assert max(line.get_xdata()) == 16
        assert axis.get_xlim()[0] > axis.get_xlim()[1]  # rows go from left to right


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("removal", [13.0, 34.2]),
        ("exchange", [13.0, 34.2]),
        ("beginning", [13.0, 34.2]),
        ("length", [13.5, 34.6]),
    ],
)
def test_levels_are_those_of_the_examples_that_were_asked(
    runs: pd.DataFrame, name: str, known: list[float]
) -> None:
    draw, load = FIGURES[name]
    axis = draw(load(runs)).axes[0]
    across = name == "exchange"
    quiet = [line for line in axis.lines if line.get_color() == style.QUIET]
    levels = [float((line.get_xdata() if across else line.get_ydata())[0]) for line in quiet]
    assert levels == pytest.approx(known)


def test_exchanges_show_accuracy_and_changed_answers(runs: pd.DataFrame) -> None:
    figure = memory_figures.exchanges(rows.load_causal(runs))
    above, below = figure.axes
    shown = sorted(round(x) for line in above.lines for x in line.get_xdata() if line.get_alpha())
    assert shown.count(15) == 2 * 4  # swap and shuffle of four runs
    assert {round(x) for line in below.lines for x in line.get_xdata() if line.get_alpha()} == {
        0, 80,
    }  # fmt: skip


def test_names_of_exchanges_never_meet(runs: pd.DataFrame) -> None:
    causal = rows.load_causal(runs)
    tasks = ("listops-short", "text-short", "image-short", "pathfinder-short")
    every = pd.concat([causal.assign(task=task) for task in tasks], ignore_index=True)
    figure = memory_figures.exchanges(every)
    figure.draw_without_rendering()
    assert len(figure.axes) == 2 * len(tasks)
    named = [
        tick.get_window_extent()
        for axis in figure.axes
        for tick in (*axis.get_xticklabels(), *axis.get_yticklabels())
        if tick.get_visible() and tick.get_text() in memory_figures.EXCHANGES.values()
    ]
    assert len(named) >= len(set(causal["test"]) & set(memory_figures.EXCHANGES))
    assert_apart(named)


def test_rows_are_ranked_by_use(runs: pd.DataFrame) -> None:
    figure = memory_figures.usage(rows.load_usage(runs))
    line = figure.axes[0].lines[0]
    assert (np.diff(line.get_ydata()) < 0).all()
    assert len(line.get_ydata()) == 16


def test_gradients_by_use_have_few_names(runs: pd.DataFrame) -> None:
    usage = rows.load_usage(runs)
    figure = memory_figures.usage(usage.assign(gradient=np.geomspace(1e-9, 10.0, len(usage))))
    figure.draw_without_rendering()
    axis = next(axis for axis in figure.axes if axis.get_yscale() == "log")
    ticks = (*axis.yaxis.get_major_ticks(), *axis.yaxis.get_minor_ticks())
    assert 2 <= sum(bool(tick.label1.get_text()) for tick in ticks) <= 4


def test_a_frequency_response_is_that_of_the_kernel() -> None:
    frequency = np.array([0.0, 0.25, 0.5])
    mean = filter_figures.response(np.full(4, 0.25), frequency)
    assert mean == pytest.approx([1, 0, 0], abs=1e-12)
    difference = filter_figures.response(np.array([-1.0, 1.0, 0.0, 0.0]), frequency)
    assert difference == pytest.approx([0, 2**0.5, 2])


def test_responses_say_which_line_is_which(runs: pd.DataFrame) -> None:
    figure = filter_figures.responses(rows.load_filters(runs), "convluna-16")
    assert "Thin: before training." in flat(figure)


def test_movement_is_relative_to_the_start(runs: pd.DataFrame) -> None:
    figure = filter_figures.kernel_movement(rows.load_filters(runs))
    attached = style.attached(figure)
    start = attached[attached["step"] == 0]
    assert (start["moved"] == 0).all()
    last = attached[attached["step"] == attached["step"].max()]
    norms = [np.linalg.norm([0.1 * head, 0.5, -0.1, 0]) for head in range(1, 5)]
    expected = np.mean([0.35 / norm for norm in norms])
    own = last.loc[last["block"] == 1, "moved"]
    assert own.tolist() == pytest.approx([expected] * len(own))


#: In percent of the norm, of every head of both blocks of a made-up run: one tap grows by 0.35.
MOVED = [
    35 / float(np.linalg.norm([0.1 * head, 0.5, -0.1 * block, 0]))
    for block in (1, 2)
    for head in range(1, 5)
]


def test_kernels_say_how_far_they_moved(runs: pd.DataFrame) -> None:
    figure = filter_figures.kernels(rows.load_filters(runs), "convluna-16")
    assert f"Median distance from the start: {np.median(MOVED):.0f} % of its norm" in flat(figure)
    figure.draw_without_rendering()
    places = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert places == ["−1", "0", "1", "2"]  # with a minus, as where the figure has sliders


def test_a_kernel_whose_runs_have_all_failed_has_one_remark(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", "text", accuracy=0.8)
    changes = {"filter_kernel": "random"}
    write_run(tmp_path, "convluna-16", "text", 0, None, "failed", model_changes=changes)
    figure = filter_figures.kernel_kinds(rows.load_runs(tmp_path))
    figure.draw_without_rendering()
    assert "1 failed" in words(figure)
    remarks = [text for text in figure.texts if text.get_text() in ("1 failed", style.MISSING)]
    assert_apart([text.get_window_extent() for text in remarks])


def test_the_names_of_the_movement_do_not_run_into_each_other(runs: pd.DataFrame) -> None:
    figure = filter_figures.kernel_movement(rows.load_filters(runs))
    figure.draw_without_rendering()
    above, below = (
        axis.yaxis.label.get_window_extent() for axis in figure.axes if axis.get_ylabel()
    )
    assert above.y0 > below.y1


def test_movement_has_a_colour_per_memory_size(runs: pd.DataFrame) -> None:
    figure = filter_figures.kernel_movement(rows.load_filters(runs))
    (legend,) = figure.legends
    colours = [line.get_color() for line in legend.get_lines()]
    assert len(set(colours)) == len(colours) == 2
    for axis in figure.axes:
        assert {line.get_color() for line in axis.lines if line.get_alpha()} == set(colours)


def test_kinds_of_kernels_are_told_apart_and_others_left_out(runs: pd.DataFrame) -> None:
    figure = filter_figures.kernel_kinds(runs)
    attached = style.attached(figure)
    assert 0.99 not in set(attached["test_accuracy"])  # the temperature is another question
    axis = figure.axes[0]
    labels = [tick.get_text() for tick in axis.get_yticklabels()]
    dots = {
        labels[int(line.get_ydata()[0])]: sorted(line.get_xdata())
        for line in axis.lines
        if line.get_alpha() and len(line.get_xdata())
    }
    assert dots["random, not trained"] == pytest.approx([40])
    assert dots["no filter, learned temperature"] == pytest.approx([20])
    assert dots["learned (ConvLuna)"] == pytest.approx([35, 36])
    assert "1 failed" in words(figure)
    (legend,) = figure.legends
    filled, hollow, *_ = legend.get_lines()
    assert [text.get_text() for text in legend.get_texts()] == [
        "kernel trained",
        "kernel fixed, or none",
        "mean",
        "one answer always",
        "first operator alone",
    ]
    known = [line.get_xdata()[0] for line in axis.lines if line.get_color() == style.QUIET]
    assert known == pytest.approx([100 * levels.levels_of("listops-short").constant, 34.6])
    assert (filled.get_fillstyle(), hollow.get_markerfacecolor()) == ("full", "none")


def test_the_beginning_of_an_input_grows_from_left_to_right(runs: pd.DataFrame) -> None:
    beginning = rows.load_beginning(runs)
    figure = memory_figures.by_beginning(beginning)
    figure.draw_without_rendering()
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "no memory", "1 memory row", "16 memory rows",
    ]  # fmt: skip
    axis = figure.axes[-1]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "4", "16", "64", "all"]
    seeds = [line for line in axis.lines if line.get_alpha() == 0.4]
    assert len(seeds) == 4
    for line in seeds:
        assert list(line.get_xdata()) == [1, 4, 16, 64, 256, 300]
        assert list(line.get_ydata())[:2] == [16, 16]
        assert line.get_ydata()[-1] >= 25


def test_fifths_cut_at_the_same_length_are_one_point_of_a_run(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-16")
    fifths = pd.DataFrame(
        {"low": [100, 500, 500], "high": [300, 500, 500], "examples": [10, 10, 30],
         "accuracy": [0.5, 0.6, 0.8]}
    )  # fmt: skip
    run = rows.load_lengths(rows.load_runs(tmp_path)).iloc[:1]
    run = run.drop(columns=list(fifths)).merge(fifths, how="cross")
    figure = memory_figures.by_length(run)
    assert "Fifths of 50 test examples" in flat(figure)
    lines = figure.axes[0].lines
    for line in lines[:2]:  # the run and the mean
        assert list(line.get_xdata()) == [200, 500]
        assert list(line.get_ydata()) == pytest.approx([50, 75])


def test_fifths_of_runs_asked_on_other_numbers_of_examples_are_one_curve(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.2, 0.3])
    one = rows.load_lengths(rows.load_runs(tmp_path)).groupby("run_id").head(1)
    some, more = (one[one["seed"] == seed] for seed in (0, 1))
    fifths = {"examples": [20, 20], "accuracy": [0.5, 0.7]}
    edges = [({"low": [0, 100], "high": [98, 500]}), ({"low": [0, 104], "high": [102, 500]})]
    both = [
        run.drop(columns=["low", "high", *fifths]).merge(pd.DataFrame({**own, **fifths}), "cross")
        for run, own in zip((some, more), edges, strict=True)
    ]
    lines = memory_figures.by_length(pd.concat(both)).axes[0].lines
    for line in lines[:3]:  # both runs and the mean
        assert list(line.get_xdata()) == pytest.approx([50, 301])
        assert list(line.get_ydata()) == pytest.approx([50, 70])


def test_levels_bend_with_the_fifths_that_were_counted(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-16")
    known = levels.levels_by_length("listops-short")
    fifths = pd.DataFrame(
        [(low, high, 200, one.constant) for low, high, one in known],
        columns=["low", "high", "examples", "accuracy"],
    )
    run = rows.load_lengths(rows.load_runs(tmp_path)).iloc[:1]
    run = run.drop(columns=list(fifths)).merge(fifths, how="cross")

    def drawn(frame: pd.DataFrame) -> list[list[float]]:
        lines = memory_figures.by_length(frame).axes[0].lines
        return [[*line.get_ydata()] for line in lines if line.get_color() == style.QUIET]

    constant, operator = drawn(run)
    assert constant == pytest.approx([14, 9, 15.5, 16.5, 12.5])
    assert operator == pytest.approx([35.5, 31, 34.5, 38, 34])
    # Of other examples nobody has counted: the levels of the whole test set.
    constant, operator = drawn(run.assign(low=run["low"] + 1))
    assert {*constant} == {13.5}
    assert operator == pytest.approx([34.6, 34.6])


def test_a_size_that_is_not_planned_has_no_panel(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1")
    write_run(tmp_path, "luna-4")
    write_run(tmp_path, "luna-1", task="text-short")
    planned = {("luna-1", "text-short")}
    lengths = rows.load_lengths(rows.load_runs(tmp_path))
    figure = memory_figures.by_length(lengths, planned=planned)
    assert [axis.get_frame_on() for axis in figure.axes] == [True, True, True, False]
    assert style.NOT_PLANNED in words(figure)
    assert "not measured" in words(memory_figures.by_length(lengths))


def test_kinds_without_a_control_are_no_figure(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", accuracy=0.4)
    figure = filter_figures.kernel_kinds(rows.load_runs(tmp_path))
    assert "no run with another kernel yet" in words(figure)


def test_cost_compares_only_times_of_one_kind_of_device(tmp_path: Path) -> None:
    for folder, device in zip(
        write_runs(tmp_path, "luna-16", [0.2, 0.3, 0.4]), ("a", "a", "b"), strict=True
    ):
        amend(folder, device_name=device)

    def frame() -> pd.DataFrame:
        return rows.load_runs(tmp_path)

    figure = memory_figures.cost_accuracy(frame())
    attached = style.attached(figure)
    on_it = attached["device_name"] == "a"
    assert attached.loc[on_it, "milliseconds"].tolist() == pytest.approx([50_000 / 700] * 2)
    assert attached.loc[~on_it, "milliseconds"].isna().all()
    # The seed from elsewhere has no time here, and counts for the accuracy all the same.
    assert sorted(attached["test_accuracy"]) == [0.2, 0.3, 0.4]
    (point,) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert np.array(point.get_ydata()) == pytest.approx(30)
    assert np.array(point.get_xdata()) == pytest.approx(50_000 / 700)
    # A step timed alone on that device is the time of all runs of the model ...
    assert "not timed on it" not in words(memory_figures.cost_accuracy(frame()))
    timing = {"suite": "step", "outcome": "measured", "task": "listops-short", "model": "luna-16",
              "milliseconds": 9.0, "lower": 8.0, "upper": 9.5, "device_name": "a"}  # fmt: skip
    attached = style.attached(memory_figures.cost_accuracy(frame(), "", pd.DataFrame([timing])))
    assert sorted(attached["test_accuracy"]) == [0.2, 0.3, 0.4]
    assert set(attached["milliseconds"]) == {9.0}
    # ... one of two devices, or of another one alone, is no time on this one.
    (folder,) = write_runs(tmp_path, "luna-1", [0.25])
    moved = [{"from_step": step, "device_name": name} for step, name in ((0, "b"), (9, "a"))]
    amend(folder, device_name="a", machines=moved)
    figure = memory_figures.cost_accuracy(frame())
    assert "a (not timed on it: Luna-1)" in words(figure)
    attached = style.attached(figure)
    assert set(attached["model"]) == {"luna-16"}


def test_cost_takes_the_device_on_which_most_models_were_timed(tmp_path: Path) -> None:
    def on(device: str, *folders: Path) -> None:
        for folder in folders:
            amend(folder, device_name=device)

    on("many runs", *write_runs(tmp_path, "luna-16", [0.2, 0.3, 0.4]))
    on("many models", *write_runs(tmp_path, "luna-1", [0.2]), *write_runs(tmp_path, "luna-4", [0]))
    figure = memory_figures.cost_accuracy(rows.load_runs(tmp_path))
    assert "many models (not timed on it: Luna-16)" in flat(figure)
    on("many models", *write_runs(tmp_path, "convluna-1", [None, 0.5]))  # one of them failed
    for model in ("convluna-4", "convluna-16"):
        on("many runs", *write_runs(tmp_path, model, [0.2]))
    # Three models each: then the one that trained most runs.
    figure = memory_figures.cost_accuracy(rows.load_runs(tmp_path))
    assert "many runs (not timed on it" in flat(figure)


def test_cost_shows_what_was_timed_on_some_device(tmp_path: Path) -> None:
    moved = [{"from_step": step, "device_name": name} for step, name in ((0, "a"), (9, "b"))]
    (first,) = write_runs(tmp_path, "luna-1", [0.2])
    (second,) = write_runs(tmp_path, "luna-16", [0.3])
    for folder in (first, second):
        amend(folder, device_name="b", machines=moved)
    figure = memory_figures.cost_accuracy(rows.load_runs(tmp_path))
    figure.draw_without_rendering()
    assert memory_figures.UNTIMED in words(figure)
    (alone,) = write_runs(tmp_path, "convluna-16", [0.3])
    amend(alone, device_name=None)
    figure = memory_figures.cost_accuracy(rows.load_runs(tmp_path))
    figure.draw_without_rendering()
    assert "unknown (not timed on it: Luna-1, Luna-16)" in words(figure)
    write_runs(tmp_path, "luna-1", [0.6], task="text-short")
    amend(alone, device_name="c", machines=moved)
    figure = memory_figures.cost_accuracy(rows.load_runs(tmp_path))
    figure.draw_without_rendering()
    assert memory_figures.UNTIMED in words(figure), "of ListOps; Text has its point"
    attached = style.attached(figure)
    assert attached["task"].tolist() == ["text-short"]


def test_cost_names_many_untimed_models_within_their_panel(tmp_path: Path) -> None:
    tasks = ("listops-short", "text-short", "pathfinder-short")
    for task in tasks:
        for number, size in enumerate((1, 4, 16, 64, 256)):
            write_runs(tmp_path, f"luna-{size}", [0.3 + number / 100], task=task)
    frame = rows.load_runs(tmp_path)
    # Elsewhere than on Text all but one began on another device, so that no time is theirs.
    moved = (frame["task"] != "text-short") & (frame["memory"] != 16)
    devices = [["b", "a"] if also else ["a"] for also in moved]
    figure = memory_figures.cost_accuracy(frame.assign(device_name="a", devices=devices))
    figure.draw_without_rendering()
    notes = [text for text in figure.texts if "timed on it" in text.get_text()]
    titles = [axis.title for axis in figure.axes]
    assert len(notes) == 2
    for box in (note.get_window_extent() for note in notes):
        assert_apart([box, *(title.get_window_extent() for title in titles)])
        assert any(axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1 for axis in figure.axes)


def test_cost_prefers_steps_that_were_timed_alone(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.2, 0.3])
    write_runs(tmp_path, "convluna-16", [0.4])
    runs = rows.load_runs(tmp_path)
    timing = {
        "suite": "step",
        "outcome": "measured",
        "milliseconds": 9.0,
        "lower": 8.0,
        "upper": 9.5,
    }
    own = runs[runs["model"] == "luna-16"].iloc[0][["task", "model", "device_name"]].to_dict()
    others = [
        own | {"milliseconds": 5.0, "device_name": "another"},
        own | {"milliseconds": 6.0, "suite": "length"},
        own | {"outcome": "out of memory", "milliseconds": float("nan")},
    ]
    timings = pd.DataFrame([timing | row for row in (own, *others)])
    figure = memory_figures.cost_accuracy(runs, "", timings)
    attached = style.attached(figure)
    of_model = attached.set_index("model")
    assert of_model.loc["luna-16", "milliseconds"].tolist() == [9.0, 9.0]
    assert of_model.loc["luna-16", ["lower", "upper"]].to_numpy().tolist() == [[8.0, 9.5]] * 2
    assert of_model.loc["luna-16", "alone"].all()
    assert of_model.loc["convluna-16", "milliseconds"] == pytest.approx(50_000 / 700)
    assert not of_model.loc["convluna-16", "alone"]
    filled = {
        line.get_marker(): line.get_markerfacecolor() != "white"
        for line in figure.axes[0].lines
        if line.get_marker() not in ("None", "", None)
    }
    looks = {name: look_of(name).marker for name in ("luna-16", "convluna-16")}
    assert filled == {looks["luna-16"]: True, looks["convluna-16"]: False}
    assert "timed alone" in words(figure)
    assert "as its runs took it" in words(figure)
    assert "bars: vertical, range of the seeds; horizontal, quartiles of the timings" in words(
        figure
    )
    untimed = words(memory_figures.cost_accuracy(runs))
    assert "horizontal, range of the seeds (hollow)" in untimed
    one_each = runs[runs["seed"] == 0]
    assert "vertical" not in words(memory_figures.cost_accuracy(one_each, "", timings))
    assert "bars" not in words(memory_figures.cost_accuracy(one_each))


CROWDED = {  # accuracies of the seeds and milliseconds of a step: one above, one beside the other
    "luna-1": ([0.30, 0.24], 66.0),
    "luna-16": ([0.301, 0.32], 67.0),
    "luna-32": ([0.135], 64.0),
    "convluna-1": ([0.385, 0.14], 60.0),
    "convluna-16": ([0.387, 0.15], 68.0),
    "convluna-32": ([0.136], 69.0),
    "poolluna-16": ([0.135], 70.0),
    "transformer": ([0.134, 0.36], 100.0),
}


@pytest.fixture(params=["crowded", "quick", "paper"])
def costs(request: pytest.FixtureRequest, tmp_path: Path) -> pd.DataFrame:
    """Runs whose points lie close together: made up, and those of this study at either scale."""
    if request.param != "crowded":
        found = rows.of_study(rows.load_runs(paths.stored_results()), "chunks")
        return found[found["preset"] == request.param]
    for name, (accuracies, _) in CROWDED.items():
        write_runs(tmp_path, name, accuracies)
    found = rows.load_runs(tmp_path)
    return found.assign(
        seconds_training=[CROWDED[name][1] + seed for name, seed in found[["model", "seed"]].values]
    )


def test_names_of_costs_cover_nothing_and_stand_by_their_points(costs: pd.DataFrame) -> None:
    figure = memory_figures.cost_accuracy(costs, "", benchmarks.load(benchmarks.stored()))
    figure.draw_without_rendering()
    panels = [axis for axis in figure.axes if axis.axison]
    assert len(panels) == costs["task"].nunique()
    crossed = struck = 0
    for axis in panels:
        names = [text for text in axis.texts if isinstance(text, Annotation)]
        marks = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
        assert len(names) == len(marks) >= 4
        boxes = [plt.Text.get_window_extent(name) for name in names]
        drawn = [thing.get_window_extent() for thing in (*marks, *figure.texts, axis.title)]
        bars = [line.get_window_extent() for line in axis.lines if line not in marks]
        assert_apart(boxes)
        for box in boxes:
            assert not any(box.overlaps(other) for other in drawn)
            crossed += any(box.overlaps(bar) for bar in bars)
            assert axis.bbox.containsx(box.x0)
            assert axis.bbox.containsx(box.x1)
        points = {name.get_text(): axis.transData.transform(name.xy) for name in names}
        for name, box in zip(names, boxes, strict=True):
            gaps = {text: gap(box, point) for text, point in points.items()}
            tied = name.arrow_patch is not None and name.arrow_patch.get_visible()
            assert tied or gaps[name.get_text()] == min(gaps.values())
            if tied:
                line = Path2D([points[name.get_text()], (box.min + box.max) / 2])
                others = [other for other in boxes if other is not box]
                struck += sum(line.intersects_bbox(other, filled=False) for other in others)
    # Rows come and go: where fifteen models share a panel, a name may have to cross a thin bar.
    assert crossed <= (0 if len(panels) == 1 else 4)
    assert struck <= (0 if len(panels) == 1 else 2)


def gap(box: Bbox, point: np.ndarray) -> float:
    """How far a point is from a rectangle."""
    return float(np.hypot(*np.maximum(np.maximum(box.min - point, point - box.max), 0)))


#: Milliseconds (log10), accuracy, and how far the bar of the seeds goes down and up.
CLOSE = {
    "ConvLuna-1": (1.70, 26.4, 1.2, 1.4),
    "ConvLuna\nwithout memory": (1.775, 24.4, 3.2, 1.8),
    "Local convolution": (1.795, 24.6, 0.9, 1.0),
    "Luna-1": (1.695, 20.2, 0.9, 1.8),
    "Luna-16": (2.03, 19.9, 0.7, 0.8),
    "ConvLuna-16": (2.045, 25.2, 2.3, 1.9),
    "PoolLuna-16": (2.07, 28.0, 0.3, 0.5),
    "Transformer": (2.98, 20.5, 1.5, 1.0),
}


def test_the_line_of_a_name_keeps_off_other_names_and_marks() -> None:
    figure, axes = style.canvas(1, 1, 2.4, width=3.6)
    axis = axes[0, 0]
    axis.set(xlim=(1.28, 3.34), ylim=(7, 30))
    for x, y, down, up in CLOSE.values():
        axis.plot([x, x], [y - down, y + up])
        axis.plot([x], [y], "o")
    style.settle(figure)
    name_points(axis, [(x, y, text, "black") for text, (x, y, *_) in CLOSE.items()])
    figure.draw_without_rendering()
    marks = axis.transData.transform([(x, y) for x, y, *_ in CLOSE.values()])
    boxes = [plt.Text.get_window_extent(name) for name in axis.texts]
    assert_apart(boxes)
    lines = {
        one: Path2D([marks[one], (box.min + box.max) / 2])
        for one, box in enumerate(boxes)
        if axis.texts[one].arrow_patch.get_visible()
    }
    assert lines
    for one, line in lines.items():
        for other in set(range(len(boxes))) - {one}:
            assert not line.intersects_bbox(boxes[other], filled=False)
            assert not line.intersects_bbox(Bbox([marks[other] - 3, marks[other] + 3]), False)


def test_a_name_far_from_its_point_is_tied_to_it() -> None:
    figure, axes = style.canvas(1, 1, 2.0, width=2.5)
    axis = axes[0, 0]
    axis.set(xlim=(0, 1), ylim=(0, 1))
    for y in np.linspace(0.3, 0.7, 60):  # no name fits between these
        axis.plot([0.3, 0.7], [y, y])
    axis.plot([0.5], [0.5], "o")
    axis.plot([0.1], [0.1], "o")
    style.settle(figure)
    name_points(axis, [(0.5, 0.5, "inside", "black"), (0.1, 0.1, "free", "black")])
    inside, free = axis.texts
    assert inside.arrow_patch.get_visible()
    assert not free.arrow_patch.get_visible()
    figure.draw_without_rendering()
    drawn = [line.get_window_extent() for line in axis.lines]
    for name in (inside, free):
        box = plt.Text.get_window_extent(name)
        assert not any(box.overlaps(other) for other in drawn)


# --- single inputs ---------------------------------------------------------------------------


def view(count: int = 17, rows: int = 4, **changes: Any) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    tokens = np.array([2, 10, 1, 8, 13, 5, 4, 9, 15, 3, 7, 11, 14, 5, 5, 6, 5], np.uint8)
    values: dict[str, Any] = {
        "pack": random.dirichlet(np.ones(count + 1), (2, 4, rows)),
        "unpack": random.dirichlet(np.ones(rows), (2, 4, count + 1)),
        "tokens": np.resize(tokens, count),
        "length": np.array(count),
        "label": np.array(7),
        "prediction": np.array(9),
        "attribution": random.normal(size=count),
        "prefixes": np.array([0, 8, count]),
        "filled": np.linspace(0, 1, 3)[:, None, None].repeat(2, 1).repeat(rows, 2),
    }
    return values | changes


def test_what_a_model_does_not_have_is_not_looked_at() -> None:
    task = config.task_config("listops-short")
    assert "block 3 was asked for, and the model has 2." in words(
        looking.looking(view(), task, 4, block=3)
    )
    several = flat(looking.looking(view(), task, 16, head=5, row=7))
    assert "head 5 was asked for, and the model has 4;" in several
    assert "memory row 7 was asked for, and the model has 4 shown of 16." in several
    with pytest.raises(MemnbError, match="A block is counted from 1, but got 0"):
        looking.looking(view(), task, 4, block=0)


def test_a_model_without_a_filter_has_no_kernels_to_show() -> None:
    nothing = rows.load_filters(rows.load_runs(Path("nowhere")))
    for drawing in (filter_figures.kernels, filter_figures.responses):
        assert "Luna-16 has no filter" in words(drawing(nothing, "luna-16"))
        assert style.MISSING in words(drawing(nothing, "convluna-16"))


def test_an_expression_is_drawn_token_by_token_with_its_brackets() -> None:
    figure = looking.looking(view(), config.task_config("listops-short"), 4, title="Luna-4")
    text = words(figure)
    assert "wrong, the label is 7" in text
    for sign in "▲▼Σ◆":
        assert sign in text
    bars = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    assert len(bars) == 4  # one per operator
    attached = style.attached(figure)
    assert attached["input"].tolist()[:3] == ["[MAX", "4", "[MIN"]
    # The weights are relative to an even share of the true input; CLS in front is left out.
    weights = view()["pack"][1, 2, 3] * 18
    figure = looking.looking(view(), config.task_config("listops"), 4, block=2, head=3, row=4)
    attached = style.attached(figure)
    assert attached["pack"].to_numpy() == pytest.approx(weights[1:])


def test_a_review_breaks_its_lines_between_words_and_its_answer_is_a_word() -> None:
    written = "wonderful " * 40
    tokens = np.frombuffer(written.encode(), np.uint8) + np.uint8(1)
    review = view(len(tokens), tokens=tokens, label=np.array(1), prediction=np.array(0))
    figure = looking.looking(review, config.task_config("text"), 4)
    assert "Answer: negative (wrong, the label is positive)" in flat(figure)
    at = [(round(t.get_position()[1], 2), t.get_text()) for t in figure.axes[0].texts]
    lines = ["".join(c for y, c in at if y == line) for line in dict.fromkeys(y for y, _ in at)]
    assert len(lines) > 1
    assert "".join(lines) == written
    assert set("".join(lines).split()) == {"wonderful"} == {w for x in lines for w in x.split()}


def test_a_word_longer_than_a_line_is_broken() -> None:
    tokens = np.full(200, ord("a") + 1, np.uint8)
    figure = looking.looking(view(200, tokens=tokens), config.task_config("text"), 4)
    assert len({text.get_position()[1] for text in figure.axes[0].texts}) == 3


def test_scales_of_a_single_line_keep_their_names_apart() -> None:
    tokens = np.frombuffer(b"I loved every minute of it.", np.uint8) + np.uint8(1)
    one = view(len(tokens), tokens=tokens)
    one["pack"] = one["pack"] / 2  # the other half on padding, which the scale then speaks of
    task = config.task_config("text")
    figure = looking.looking(one, task, 4, subtitle="A second line below the title. " * 4)
    figure.draw_without_rendering()
    named = [axis.yaxis.label for axis in figure.axes if axis.yaxis.label.get_text()]
    assert len(named) == 2
    assert_apart([label.get_window_extent() for label in named])


def test_what_is_watched_first_is_an_unchanged_model_at_full_scale() -> None:
    runs = pd.DataFrame(
        [
            ("a", "listops-short", 16, "filter_kernel=smooth"),
            ("b", "listops-short", 16, ""),
            ("c", "text", 1, ""),
            ("d", "text", 16, ""),
        ],
        columns=["run_id", "task", "memory", "changes"],
    )
    assert filter_figures.watched(pd.concat([runs, runs])) == ["d", "b", "c", "a"]


def test_scales_of_weights_say_what_they_are_relative_to() -> None:
    for task in ("listops-short", "pathfinder-short"):
        some = view(100, tokens=np.arange(100, dtype=np.uint8) % 15 + 1)
        text = flat(looking.looking(some, config.task_config(task), 4))
        assert "1 (even)" in text
        assert "relative to an even spread over the tokens" in text
        assert "relative to an even spread over the memory rows" in text


def test_what_a_head_spends_on_padding_stands_beside_an_even_share() -> None:
    task = config.task_config("listops-short")  # padded to 300 tokens, and the CLS vector
    some = view(29, tokens=np.full(29, 7, np.uint8))
    some["pack"] = np.full((2, 4, 4, 30), 0.5 / 30)
    figure = looking.looking(some, task, 4)
    assert "50 % of the head's weight on padding (even: 90 %)" in words(figure)


def test_an_image_is_drawn_with_its_outline_and_an_open_label_is_no_mistake() -> None:
    pixels = view(100, tokens=np.arange(100, dtype=np.uint8), label=np.array(-1))
    figure = looking.looking(pixels, config.task_config("pathfinder-short"), 4)
    assert "Answer: 9." in words(figure)
    assert sum(bool(axis.collections) for axis in figure.axes) >= 3


def test_one_row_says_that_everybody_reads_it() -> None:
    figure = looking.looking(view(rows=1), config.task_config("listops-short"), 1)
    assert "every position reads it alike" in words(figure)


def test_a_stride_gives_each_position_the_weight_of_its_window() -> None:
    strided = view(16, tokens=np.full(16, 7, np.uint8))
    strided["pack"] = np.full((2, 4, 4, 5), 0.2)
    figure = looking.looking(strided, config.task_config("listops-short"), 4)
    attached = style.attached(figure)
    assert len(attached["pack"]) == 16


def test_filling_counts_what_is_read_in_round_numbers() -> None:
    read = np.linspace(0, 316, 12).round().astype(int)
    review = view(
        316, tokens=np.full(316, ord("a") + 1, np.uint8), prefixes=read,
        filled=np.linspace(0, 1, 12)[:, None, None].repeat(2, 1).repeat(4, 2),
    )  # fmt: skip
    figure = looking.filling(review, config.task_config("text"), 4)
    for axis in figure.axes[:2]:
        assert axis.get_xlabel() == "characters read"
        labels = [tick.get_text() for tick in axis.get_xticklabels()]
        assert labels == ["0", "100", "200", "300"]
        at = np.interp(axis.get_xticks(), np.arange(12), read)
        assert at == pytest.approx([0, 100, 200, 300])


def test_filling_has_a_panel_per_block() -> None:
    figure = looking.filling(view(), config.task_config("listops-short"), 16, "Luna-16")
    assert "4 of 16 rows" in words(figure)
    attached = style.attached(figure)
    assert attached is not None
    assert len(attached) == 3 * 2 * 4


def test_nothing_shipped_is_said(tmp_path: Path) -> None:
    for function in (looking.of_shipped, looking.filling_of_shipped):
        assert "No trained weights are shipped" in words(function([], "Text", "luna"))


def test_an_example_that_is_not_there_is_refused(tmp_path: Path) -> None:
    run = config.run_config("luna-4", "listops-short")
    one = views.Shipped(tmp_path / "a.safetensors", run, dict.fromkeys(views.FACTS))
    assert "No trained weights" in words(looking.of_shipped([one], "ListOps", "luna"))
    one.path.with_suffix(".npz").write_bytes(views.to_bytes([view(), view()]))
    assert "Shipped weights, ListOps short" in words(
        looking.of_shipped([one], "ListOps", "luna", 2)
    )
    dull = views.Shipped(one.path, run, one.facts | {"test_accuracy": 0.135})
    assert "13.5 %: it has not learned the task." in looking.origin(dull)
    better = views.Shipped(one.path, run, one.facts | {"test_accuracy": 0.335})
    assert "not learned" not in looking.origin(better)
    with pytest.raises(MemnbError, match="choose one of 1 to 2"):
        looking.of_shipped([one], "ListOps", "luna", 3)
    arrays = dict(view())
    del arrays["filled"]
    one.path.with_suffix(".npz").write_bytes(views.to_bytes([arrays]))
    with pytest.raises(DataError, match="lacks the array 'filled_0'"):
        one.views()
