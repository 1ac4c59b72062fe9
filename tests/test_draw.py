"""Pictures and tables: what is drawn is what the rows say, and nothing is left out in silence."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_up_runs import COLLAPSED, SPREAD_OUT, judged, write_run, write_runs
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from pictures import assert_apart, flat, words

from memnb import config, naming, paths, tasks
from memnb.draw import (
    attention_figures,
    beside_tables,
    claim_tables,
    diagrams,
    figures,
    filter_tables,
    settings_tables,
    style,
    tables,
)
from memnb.draw import panels as drawn_panels
from memnb.draw.panels import look_of_filter, panel_grid
from memnb.errors import DataError
from memnb.evidence import benchmarks, claims, levels, published, rows

# Machado et al. (2009), full severity, on linear RGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Runs of the laptop task: three seeds each, one of them failed, and one ablated run."""
    folder = tmp_path_factory.mktemp("quick")
    write_runs(folder, "transformer", [0.30, 0.31, 0.29])
    write_runs(folder, "luna-1", [0.22, 0.23, 0.21])
    write_runs(folder, "luna-16", [0.25, 0.26, None], probes=COLLAPSED)
    write_runs(folder, "convluna-1", [0.33, 0.34, 0.35])
    write_runs(folder, "convluna-16", [0.35, 0.36, 0.37], probes=SPREAD_OUT, removal={8: 0.3})
    write_runs(folder, "poolluna-16", [0.31, 0.32, 0.33], probes=SPREAD_OUT)
    write_run(folder, "convluna-16", accuracy=0.20, model_changes={"filter": "none"})
    return rows.load_runs(folder)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("full")
    for task in ("listops", "text"):
        write_runs(folder, "transformer", [0.36, 0.37], task=task)
        write_runs(folder, "luna-256", [0.25, 0.26], task=task)
        write_runs(folder, "convluna-256", [0.38, 0.39], task=task)
    return rows.load_runs(folder)


def panels(figure: Figure) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]


def panel(figure: Figure, title: str) -> Axes:
    def heading(axis: Axes) -> str:
        return axis.get_title(loc="left") + axis.get_title(loc="center")

    return next(axis for axis in panels(figure) if heading(axis) == title)


def colours(axis: Axes) -> set[str]:
    return {line.get_color() for line in axis.lines}


# --- style -----------------------------------------------------------------------------------


def linear(colour: str) -> np.ndarray:
    channels = np.array(to_rgb(colour))
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(colour: np.ndarray) -> np.ndarray:
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = matrix @ np.clip(colour, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast_on_white(colour: str) -> float:
    return 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05)


@pytest.mark.parametrize(
    "colour",
    [
        *(
            look.colour
            for look in [*style.FAMILY.values(), style.STRIDED_POOL, *style.OTHERS.values()]
        ),
        *style._OWN_COLOURS,
        style.INK,
        style.QUIET,
    ],
)
def test_colours_of_text_are_readable_on_white(colour: str) -> None:
    assert contrast_on_white(colour) >= 4.5


@pytest.mark.parametrize("sight", SIGHT)
def test_families_stay_apart_for_colour_blind_readers(sight: str) -> None:
    chunked = [style.OTHERS[model.partition("-")[0]] for model in config.CHUNK_MODELS]
    for looks, least in (
        ([*style.FAMILY.values()], 20),
        ([look_of_filter(*kind) for kind in (("none",), ("conv",), ("pool",), ("pool", 4))], 20),
        ([*style.FAMILY.values(), *chunked], 12),
    ):
        seen = [lab(SIGHT[sight] @ linear(look.colour)) for look in looks]
        nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        assert nearest > least


def test_families_stay_apart_without_colour() -> None:
    looks = [*style.FAMILY.values(), style.STRIDED_POOL]
    assert len({look.marker for look in looks}) == len(looks)


def test_every_model_of_the_package_has_a_look() -> None:
    families = {config.model_config(name, "text").family for name in config.MODELS}
    assert families == set(style.FAMILY)
    assert set(config.BESIDE) == set(style.OTHERS)
    assert all(style.family(name).label != name for name in (*families, *config.BESIDE))
    looks = [*style.FAMILY.values(), *style.OTHERS.values()]
    assert len({look.colour for look in looks}) == len(looks)
    assert len({look.marker for look in looks}) == len(looks)


def test_names_in_print() -> None:
    assert naming.model_label("convluna-16") == "ConvLuna-16"
    assert naming.model_label("transformer") == "Transformer"
    assert naming.task_label("listops-short") == "ListOps short"
    assert naming.comparison_label("convluna-16 (filter=none)", "luna-16") == (
        "ConvLuna-16 (no filter) − Luna-16"
    )


def test_models_are_ordered_by_family_and_then_by_size_as_a_number() -> None:
    names = ["luna-16", "convluna-1", "luna-2", "transformer", "luna-16"]
    assert naming.model_order(names) == ["transformer", "luna-2", "luna-16", "convluna-1"]


def test_the_look_of_a_block_of_ones_own_follows_from_its_name() -> None:
    assert naming.model_label("mymemory-16") == "mymemory-16"
    assert style.family("mymemory") == style.Family("mymemory", "#006A8E", "d", (0, (2, 1)))
    names = [f"memory{letter}" for letter in "abcdefgh"]
    assert len({style.family(name) for name in names}) == len(names)
    assert naming.model_order(["zmem-4", "luna-1", "amem-16", "rmt-16", "zmem-16"]) == [
        "luna-1", "rmt-16", "amem-16", "zmem-4", "zmem-16",
    ]  # fmt: skip


def test_a_block_of_ones_own_is_in_tables_and_figures(tmp_path: Path) -> None:
    config.add_family("mymemory")
    for seed, memory in itertools.product((0, 1), (4, 16)):
        write_run(tmp_path, f"mymemory-{memory}", seed=seed, accuracy=0.3 + 0.01 * seed)
    runs = rows.load_runs(tmp_path)
    assert list(runs["changes"].unique()) == [""]
    assert "mymemory-16" in list(tables.accuracy(runs, scale="quick")["Model"])
    for function in FRAMES:
        assert "mymemory" in words(drawn(function, runs, "here")), function.__name__


def test_line_names_never_overlap() -> None:
    figure, axes = style.canvas(1, 1, 3.0)
    axes[0, 0].set_ylim(0, 1)
    figure.draw_without_rendering()
    style.label_lines(axes[0, 0], [(0.5, name, style.INK) for name in "abcd"])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) == 4
    assert_apart(boxes)


def test_a_line_is_named_at_its_end_on_a_logarithmic_scale_too() -> None:
    figure, axes = style.canvas(1, 1, 3.0)
    axis = axes[0, 0]
    axis.set(yscale="log", ylim=(1e-4, 1))
    style.settle(figure)
    style.label_lines(axis, [(1e-2, "middle", style.INK), (1e-3, "below", style.INK)])
    figure.draw_without_rendering()
    for text, y in zip(figure.texts, (1e-3, 1e-2), strict=True):
        box = text.get_window_extent()
        (_, end) = axis.transData.transform((1, y))
        assert (box.y0 + box.y1) / 2 == pytest.approx(end, abs=4)


@pytest.mark.parametrize("count", [3, 7, 12])
def test_names_of_one_row_of_panels_keep_off_those_of_the_next(tmp_path: Path, count: int) -> None:
    """Those of lines that end at the bottom, above those of lines that end at the top."""
    for number in range(count):
        config.add_family(f"memory{chr(97 + number)}")
        write_run(tmp_path, f"memory{chr(97 + number)}-16", probes={"packed_cosine": 0.02})
    figure = figures.degradation(rows.load_probes(rows.load_runs(tmp_path)))
    figure.draw_without_rendering()
    names = [text for text in figure.texts if text.get_text().startswith("memory")]
    boxes = [text.get_window_extent() for text in names]
    assert_apart(boxes)
    assert len(names) == (0 if count == 12 else 4 * count)
    assert bool(figure.legends) == (count == 12)  # more than fit beside a panel


# --- figures ---------------------------------------------------------------------------------

FRAMES = {
    figures.accuracy: rows.load_runs,
    figures.learning_curves: rows.load_metrics,
    figures.degradation: rows.load_probes,
    figures.memory_size: rows.load_runs,
    figures.row_removal: rows.load_removal,
}


def test_a_number_in_a_subtitle_is_never_parted_from_its_percent() -> None:
    for blanks in range(12):
        figure, _ = style.canvas(1, 1, 2.0)
        style.heading(figure, "Title", f"{'word ' * 20}{'.' * blanks} learned (13.5 %). More words")
        (said,) = [text.get_text() for text in figure.texts if text.get_gid() == "subtitle"]
        assert "13.5 %" in said


def test_names_of_y_axes_do_not_run_into_each_other(quick: pd.DataFrame) -> None:
    for measures in (figures.STREAMS, figures.ATTENTION, figures.GRADIENTS):
        figure = figures.degradation(rows.load_probes(quick), measures=measures)
        figure.draw_without_rendering()
        names = [axis.yaxis.label for axis in figure.axes if axis.get_ylabel()]
        boxes = [name.get_window_extent() for name in names]
        assert len(boxes) == len(measures)
        assert_apart(boxes)


def test_figures_of_accuracy_say_how_many_seeds_there_are(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.30, 0.31, None])
    write_runs(tmp_path, "convluna-16", [0.33, 0.34])
    runs = rows.load_runs(tmp_path)
    assert "\n2 seeds each. Here" in words(figures.accuracy(runs, subtitle="Here"))
    write_runs(tmp_path, "convluna-16", [0.35], model_changes={"filter": "none"})
    runs = rows.load_runs(tmp_path)
    assert "\n1 to 2 seeds each. Here" in words(figures.ablation(runs, "Here"))
    # The same change in two models is not one variant.
    (tmp_path / "more").mkdir()
    for model, accuracies in (("convluna-16", [0.3, 0.4, 0.5]), ("poolluna-16", [0.3])):
        changes = {"pack_temperature": "sqrt"}
        write_runs(tmp_path / "more", model, accuracies, model_changes=changes)
    runs = rows.load_runs(tmp_path / "more")
    assert "\n1 to 3 seeds each. Here" in words(figures.ablation(runs, "Here"))


def test_the_name_of_a_level_stays_below_the_right_end_where_nothing_is() -> None:
    figure, axes = style.canvas(1, 1, 2.0, width=3.0)
    axes[0, 0].plot([0, 1], [3, 4], marker="o")
    style.reference_line(axes[0, 0], 0.0, "majority class")
    style.settle(figure)
    (name,) = figure.texts
    assert (name.get_ha(), name.get_va()) == ("right", "top")


def drawn(function: Any, runs: pd.DataFrame, subtitle: str) -> Figure:
    load = FRAMES[function]
    return function(runs if load is rows.load_runs else load(runs), subtitle=subtitle)


@pytest.mark.parametrize("function", FRAMES, ids=lambda function: function.__name__)
@pytest.mark.parametrize("scale", ["quick", "full"])
def test_every_figure_says_where_its_rows_come_from(
    function: Any, scale: str, request: pytest.FixtureRequest
) -> None:
    figure = drawn(function, request.getfixturevalue(scale), "Some scale (this machine)")
    assert "Some scale (this machine)" in flat(figure)
    assert style.MISSING not in words(figure).split("\n")[:2]


@pytest.mark.parametrize("function", FRAMES, ids=lambda function: function.__name__)
def test_a_figure_without_rows_says_so(function: Any, quick: pd.DataFrame) -> None:
    figure = drawn(function, quick.iloc[:0], "Full scale (committed)")
    assert style.MISSING in words(figure)
    assert "Full scale (committed)" in words(figure)
    assert not any(axis.lines for axis in figure.axes)


@pytest.mark.parametrize("function", FRAMES, ids=lambda function: function.__name__)
def test_headings_stay_clear_of_the_panels(function: Any, quick: pd.DataFrame) -> None:
    figure = drawn(function, quick, "A long subtitle. " * 12)
    figure.draw_without_rendering()
    written = {text.get_gid(): text.get_window_extent() for text in figure.texts}
    title, subtitle = written["title"], written["subtitle"]
    assert not title.overlaps(subtitle)
    tops = [axis.get_tightbbox().y1 for axis in figure.axes if axis.get_visible()]  # type: ignore[union-attr]
    assert subtitle.y0 >= max(tops) - 1


def test_pyplot_holds_no_figure(quick: pd.DataFrame) -> None:
    figures.accuracy(quick)
    diagrams.blocks()
    assert plt.get_fignums() == []


def test_accuracy_draws_every_seed_and_counts_the_failed(quick: pd.DataFrame) -> None:
    figure = figures.accuracy(quick, published.load())
    axis = panel(figure, "ListOps short")
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == [
        "Transformer", "Luna-1", "Luna-16", "ConvLuna-1", "ConvLuna-16", "PoolLuna-16",
    ]  # fmt: skip
    seeds = [line for line in axis.lines if line.get_alpha() == 0.55]
    assert [len(line.get_xdata()) for line in seeds] == [3, 3, 2, 3, 3, 3]
    assert sorted(seeds[4].get_xdata()) == pytest.approx([35, 36, 37])  # not the ablated 20
    assert "1 failed" in words(figure)
    assert "published" not in words(figure)  # nobody published the laptop task


def test_accuracy_of_one_seed_is_its_mark_alone(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.22])
    write_runs(tmp_path, "convluna-1", [0.33, 0.35])
    figure = figures.accuracy(rows.load_runs(tmp_path))
    (axis,) = panels(figure)
    bars = [line for line in axis.lines if len(set(line.get_ydata())) == 2
            and line.get_linewidth() > 2]  # fmt: skip
    assert [bar.get_xdata()[0] for bar in bars] == [pytest.approx(34)]


def test_two_seeds_have_no_interval_in_figures_and_tables(tmp_path: Path) -> None:
    """That of two would be 12.7 times as wide as they are apart."""
    write_runs(tmp_path, "luna-1", [0.20, 0.22, 0.24])
    write_runs(tmp_path, "convluna-1", [0.33, 0.35])
    write_run(tmp_path, "convluna-16", accuracy=0.30)
    for seed in (0, 1):
        no_filter = {"filter": "none"}
        write_run(tmp_path, "convluna-16", seed=seed, accuracy=0.2, model_changes=no_filter)
    runs = rows.load_runs(tmp_path)
    intervals = {
        name: [
            line.get_ydata()[0]
            for axis in panels(figure)
            for line in axis.lines
            if str(line.get_label()).startswith("95 % interval")
        ]
        for name, figure in {
            "accuracy": figures.accuracy(runs), "ablation": figures.ablation(runs)
        }.items()
    }  # fmt: skip
    assert intervals == {"accuracy": [0], "ablation": []}
    said = claim_tables.comparisons(judged(tmp_path)).set_index("Comparison")["Effect"]
    assert said["ConvLuna-1 − Luna-1"] == "12.0 points"


def test_accuracy_has_a_row_for_a_published_model_that_has_no_run(full: pd.DataFrame) -> None:
    some = full[full["model"] == "convluna-256"]
    figure = figures.accuracy(some, published.load())
    labels = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    assert labels == ["Transformer", "Luna-256", "ConvLuna-256"]
    assert style.MISSING in words(figure)


def test_accuracy_puts_published_marks_in_the_row_of_their_model(full: pd.DataFrame) -> None:
    figure = figures.accuracy(full, published.load())
    labels = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    marks = {
        labels[int(y)]: x
        for line in panel(figure, "ListOps").lines
        if line.get_markerfacecolor() == "none"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if x < 37.2
    }
    assert marks["Transformer"] in (36.37, 37.11)
    assert "published: LRA leaderboard" in words(figure)
    assert "2404.00798" not in words(figure)  # its numbers are not known


def test_accuracy_notes_stand_clear_of_the_marks(full: pd.DataFrame) -> None:
    published = pd.DataFrame(
        {"model": ["Transformer"] * 2, "task": ["text", "image"], "accuracy": [95.0, 11.0],
         "source": ["somewhere"] * 2}
    )  # fmt: skip
    figure = figures.accuracy(full[full["model"] != "transformer"], published)
    figure.canvas.draw()
    notes = [text for text in figure.texts if text.get_text() == style.MISSING]
    assert notes
    for axis in panels(figure):
        marks = [
            axis.transData.transform((x, y))
            for line in axis.lines
            if line.get_marker() not in ("None", "")
            for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        ]
        assert marks
        for note, mark in itertools.product(notes, marks):
            assert not note.get_window_extent().contains(*mark)


def test_learning_curves_say_which_memory_size_a_task_has_not_run(
    tmp_path: Path,
) -> None:
    write_runs(tmp_path, "luna-1", [0.3], task="listops-short")
    write_runs(tmp_path, "luna-4", [0.3], task="listops-short")
    write_runs(tmp_path, "luna-1", [0.6], task="pathfinder-short")
    write_runs(tmp_path, "transformer", [0.6], task="pathfinder-short")
    write_runs(tmp_path, "transformer", [0.6], task="text-short")
    figure = figures.learning_curves(rows.load_metrics(rows.load_runs(tmp_path)))
    said = [axis for axis in panels(figure) if style.MISSING in [t.get_text() for t in axis.texts]]
    # The task has no model of 4 rows: the Transformer does not stand in for one.
    assert said == [panels(figure)[5]]
    assert not said[0].lines
    # A task that only the Transformer has run is shown.
    assert all(axis.lines for axis in panels(figure)[2:4])


def test_a_mean_is_not_joined_across_the_end_or_the_beginning_of_a_seed() -> None:
    """Where the lowest seed stops, the mean of the others is higher, and nothing has happened."""
    rows_of = [("a", range(0, 6), 80), ("b", range(1, 6), 80), ("c", range(0, 5), 50)]
    frame = pd.DataFrame(
        [("convluna-1", run, step, level) for run, steps, level in rows_of for step in steps],
        columns=["model", "run_id", "step", "accuracy"],
    )
    _, axis = plt.subplots()
    ends = drawn_panels.curves(axis, frame.sample(frac=1, random_state=0), "step", "accuracy")
    (thick,) = [line for line in axis.lines if line.get_alpha() is None]
    pieces = np.ma.clump_unmasked(np.ma.masked_invalid(thick.get_ydata()))
    drawn = [list(map(float, thick.get_ydata()[piece])) for piece in pieces]
    assert drawn == [[65], [70, 70, 70, 70], [80]]
    assert [end[0] for end in ends] == [80]


def test_a_run_that_has_learned_nothing_is_named(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.135])
    write_runs(tmp_path, "convluna-16", [0.27, None])
    runs = rows.load_runs(tmp_path)
    assert figures.not_learned(runs) == "Luna-16 has not learned this task (13.5 %)."
    # On data of one's own their own level counts.
    easy = levels.Levels(0.26)
    assert figures.not_learned(runs, easy).count("has not learned") == 2
    assert figures.not_learned(runs, levels.Levels(0.1)) == ""


def test_data_of_ones_own_have_their_own_name_and_levels(quick: pd.DataFrame) -> None:
    task = config.task_config("listops-short", min_length=8, max_length=50)
    label = naming.data_label(task)
    assert label == "ListOps, 8 to 50 tokens"
    assert naming.data_label(config.TASKS["listops-short"]) == "ListOps short"
    metrics = rows.load_metrics(quick[quick["task"] == "listops-short"])
    known = levels.Levels(0.142, 0.33)
    figure = figures.learning_curves(metrics, label=label, known=known)
    assert label in words(figure)
    assert "ListOps short" not in words(figure)
    lines = [line for line in panels(figure)[0].lines if line.get_color() == style.QUIET]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([14.2, 33])


def test_what_is_not_planned_is_not_awaited(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.3])
    write_runs(tmp_path, "luna-4", [0.3])
    write_runs(tmp_path, "luna-1", [0.6], task="pathfinder-short")
    write_runs(tmp_path, "luna-1", [0.6], task="text-short")
    planned = {("luna-1", "pathfinder-short"), ("luna-1", "text-short"), ("luna-4", "text-short")}
    frame = rows.load_runs(tmp_path)
    for figure in (
        figures.accuracy(frame, planned=planned),
        figures.learning_curves(rows.load_metrics(frame), planned=planned),
    ):
        said = words(figure)
        assert said.count(style.NOT_PLANNED) == 1  # Luna-4 on Pathfinder
        assert said.count(style.MISSING) == 1  # Luna-4 on Text
    empty = [axis for axis in figure.axes if not axis.get_frame_on()]
    assert [axis.texts[0].get_text() for axis in empty] == [style.NOT_PLANNED]
    assert style.NOT_PLANNED not in words(figures.accuracy(frame))


def test_learning_curves_say_whose_validation_set_is_the_test_set(full: pd.DataFrame) -> None:
    metrics = rows.load_metrics(full.assign(preset="paper"))
    said = " ".join(words(figures.learning_curves(metrics)).split())
    assert "Thin: a seed; thick: the mean; dotted: one answer always" in said
    assert "Text: validation set = test set." in said
    changed = rows.load_metrics(full.assign(preset="custom"))
    assert "test set" not in words(figures.learning_curves(changed))


def test_the_legend_of_accuracies_names_only_what_is_drawn(tmp_path: Path) -> None:
    def legend() -> list[str]:
        figure = figures.accuracy(rows.load_runs(tmp_path))
        return [text.get_text() for text in figure.legends[0].get_texts()]

    write_runs(tmp_path, "luna-1", [0.22])
    levels = ["one answer always", "first operator alone"]
    assert legend() == ["one seed", *levels]
    write_runs(tmp_path, "convluna-1", [0.330, 0.331, 0.332])
    assert legend() == ["one seed", "mean", "95 % interval, of 3 seeds or more", *levels]


def test_a_level_far_below_all_accuracies_is_said_and_does_not_press_them_together(
    tmp_path: Path,
) -> None:
    for task, accuracy in (("listops", 0.38), ("text", 0.66)):
        for model, more in (("luna-1", 0), ("convluna-1", 0.02)):
            write_runs(tmp_path, model, [accuracy + more, accuracy + more + 0.01], task=task)
    figure = figures.accuracy(rows.load_runs(tmp_path))
    listops, text = panels(figure)
    assert listops.get_xlabel() == "accuracy (%)\none answer always: 17"
    low, high = listops.get_xlim()
    assert 30 < low < 36 < 41 < high < 45, "the first operator's level is shown"
    legend = [entry.get_text() for entry in figure.legends[0].get_texts()]
    assert "one answer always: 50" in text.get_xlabel()
    assert "one answer always" not in legend
    write_runs(tmp_path, "luna-16", [0.41, None], task="listops")
    said = figures.accuracy(rows.load_runs(tmp_path)).texts
    (note,) = (text for text in said if text.get_text() == "1 failed")
    assert note.get_position()[0] == 0, "a mark is at the right end, and no level at the left"
    write_runs(tmp_path, "luna-16", [0.55], task="text")
    figure = figures.accuracy(rows.load_runs(tmp_path))
    listops, text = panels(figure)
    assert text.get_xlabel() == "accuracy (%)"
    assert text.get_xlim()[0] < 50
    assert "one answer always" in [entry.get_text() for entry in figure.legends[0].get_texts()]
    # Twenty points below the lowest, but what is shown lies as far apart.
    write_runs(tmp_path, "convluna-16", [0.37, 0.58], task="listops")
    assert panels(figures.accuracy(rows.load_runs(tmp_path)))[0].get_xlabel() == "accuracy (%)"


def test_the_legend_of_the_ablation_has_no_level_that_is_not_drawn(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.38, 0.39], task="listops")
    write_run(tmp_path, "convluna-16", "listops", accuracy=0.37, model_changes={"filter": "none"})
    legend = figures.ablation(rows.load_runs(tmp_path)).legends[0].get_texts()
    assert "first operator alone" in [entry.get_text() for entry in legend]
    assert "one answer always" not in [entry.get_text() for entry in legend]


def test_groups_of_families_that_stand_apart_share_a_scale_which_holds_them_all(
    tmp_path: Path,
) -> None:
    for model in ("luna-16", "convluna-16"):
        write_run(tmp_path, model)
    probes = rows.load_probes(rows.load_runs(tmp_path))
    values = probes["family"].map({"luna": 0.01, "convluna": 50.0})
    figure = figures.degradation(
        probes.assign(packed_gradient=values), measures=("packed_gradient",),
        apart=(["luna"], ["convluna"]),
    )  # fmt: skip
    limits = {axis.get_ylim() for axis in panels(figure)}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low < 0.01 < 50 < high


def test_the_names_of_a_logarithmic_scale_do_not_touch(tmp_path: Path) -> None:
    """Also where the scale is shorter than a power of ten."""
    write_run(tmp_path, "luna-16")
    probes = rows.load_probes(rows.load_runs(tmp_path))
    for high in (0.0112, 0.0119, 0.06, 0.9, 400.0):
        values = np.geomspace(0.011, high, len(probes))
        shown = probes.assign(packed_gradient=values)
        figure = figures.degradation(shown, measures=("packed_gradient",))
        figure.draw_without_rendering()
        axis = panels(figure)[0]
        low, top = axis.get_ylim()
        names = [*axis.get_yticklabels(), *axis.get_yticklabels(minor=True)]
        boxes = sorted(
            (name.get_window_extent() for name in names
             if name.get_text() and low <= name.get_position()[1] <= top),
            key=lambda box: box.y0,
        )  # fmt: skip
        assert 2 <= len(boxes) <= 4
        assert all(below.y1 <= above.y0 for below, above in itertools.pairwise(boxes))


def test_an_interval_that_is_cut_ends_inside_its_panel(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.15, 0.25, 0.35])
    (axis,) = panels(figures.accuracy(rows.load_runs(tmp_path)))
    axis.figure.draw_without_rendering()
    heads = [line for line in axis.lines if line.get_marker() in ("<", ">")]
    assert len(heads) == 2
    for head in heads:
        box = head.get_window_extent()
        assert axis.bbox.x0 - 1 < box.x0 < box.x1 < axis.bbox.x1 + 1


def test_accuracy_keeps_every_seed_and_published_mark_inside(full: pd.DataFrame) -> None:
    for axis in panels(figures.accuracy(full, published.load())):
        low, high = axis.get_xlim()
        for line in axis.lines:
            if line.get_marker() not in ("None", "<", ">"):
                assert all(low < x < high for x in line.get_xdata())


def test_learning_curves_have_a_thin_line_per_seed_and_a_thick_mean(quick: pd.DataFrame) -> None:
    figure = figures.learning_curves(rows.load_metrics(quick))
    axis = panel(figure, "1 memory row")
    for name, seeds in (("transformer", 3), ("luna", 3), ("convluna", 3)):
        own = [line for line in axis.lines if line.get_color() == style.FAMILY[name].colour]
        thin = [line for line in own if line.get_alpha() == 0.4]
        assert (len(thin), len(own) - len(thin)) == (seeds, 1)
    assert style.FAMILY["poolluna"].colour not in colours(axis)
    # The failed seed of Luna-16 learned for a while: its line is there too.
    sixteen = panel(figure, "16 memory rows")
    luna = [line for line in sixteen.lines if line.get_color() == style.FAMILY["luna"].colour]
    assert len(luna) == 4


def test_a_curve_of_a_single_point_can_be_seen(quick: pd.DataFrame) -> None:
    """As where a page trains for one step."""
    metrics, probes = rows.load_metrics(quick), rows.load_probes(quick)
    for draw, whole in ((figures.learning_curves, metrics), (figures.degradation, probes)):
        for long, some in ((True, whole), (False, whole[whole["step"] == whole["step"].max()])):
            axes = [axis for axis in panels(draw(some)) if axis.lines]
            drawn = [line for a in axes for line in a.lines if line.get_color() != style.QUIET]
            assert drawn
            assert all((line.get_marker() == "None") == long for line in drawn)
    first = metrics[metrics["step"] == metrics["step"].min()]
    figure = figures.learning_curves(first.assign(step=1))
    figure.draw_without_rendering()
    for axis in panels(figure):
        low, high = axis.get_xlim()
        said = [tick for tick in axis.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        assert [tick.label1.get_text() for tick in said] == ["1"]


def test_families_missing_from_the_last_panel_are_named_in_a_legend(quick: pd.DataFrame) -> None:
    some = quick[(quick["model"] != "luna-16")]
    direct = figures.learning_curves(rows.load_metrics(quick))
    legend = figures.learning_curves(rows.load_metrics(some))
    assert not direct.legends
    assert [text.get_text() for text in legend.legends[0].get_texts()] == [
        "Transformer", "Luna", "ConvLuna", "PoolLuna",
    ]  # fmt: skip


def test_degradation_shows_both_streams_per_block(quick: pd.DataFrame) -> None:
    probes = rows.load_probes(quick)
    figure = figures.degradation(probes)
    assert len(figure.axes) == len(figures.STREAMS) * 2
    cosine = panel(figure, "block 1")
    ends = {
        line.get_color(): line.get_ydata()[-1] for line in cosine.lines if line.get_alpha() is None
    }
    assert ends[style.FAMILY["luna"].colour] == pytest.approx(COLLAPSED["packed_cosine"], abs=0.05)
    assert ends[style.FAMILY["convluna"].colour] == pytest.approx(
        SPREAD_OUT["packed_cosine"], abs=0.05
    )
    assert "16 memory rows" in words(figure)


@pytest.mark.parametrize("measures", [figures.STREAMS, ("packed_cosine", "packed_rank")])
def test_degradation_has_its_title_with_fewer_measures_too(
    measures: tuple[str, ...], quick: pd.DataFrame
) -> None:
    figure = figures.degradation(rows.load_probes(quick), measures=measures)
    assert "Memory degradation: how alike the rows are, per block" in words(figure)


def test_degradation_says_how_many_seeds_its_means_rest_on(quick: pd.DataFrame) -> None:
    probes = rows.load_probes(quick)
    some = probes[probes["family"].isin(["luna", "convluna"])]
    one = some[some["seed"] == some["seed"].min()]
    assert "rows; 1 seed each. Full" in words(figures.degradation(one, "Full")), "no line is a mean"
    luna = some[some["family"] == "luna"]
    count = luna.loc[luna["memory"] == 16, "seed"].nunique()
    assert count > 1
    assert f"; {count} seeds" in words(figures.degradation(luna))
    uneven = pd.concat([luna, one[one["family"] == "convluna"]])
    assert f"seeds: Luna ({count}), ConvLuna (1)" in words(figures.degradation(uneven))
    unseen = uneven.assign(packed_cosine=uneven["packed_cosine"].where(uneven["seed"].isin([0])))
    assert "; 1 seed each" in words(figures.degradation(unseen, measures=["packed_cosine"]))


def test_degradation_shows_the_task_that_most_families_have(quick: pd.DataFrame) -> None:
    probes = rows.load_probes(quick)
    luna = probes[probes["family"] == "luna"]
    first = luna.assign(task="listops")  # before Text in the benchmark
    later = probes[probes["family"].isin(["luna", "convluna"])].assign(task="text")
    assert "Text, 16 memory rows" in words(figures.degradation(pd.concat([first, later])))
    assert "ListOps, 16 memory rows" in words(figures.degradation(pd.concat([first, luna])))
    assert "ListOps, 16 memory rows" in words(
        figures.degradation(pd.concat([first, later]), task="listops")
    )


def test_degradation_leaves_out_single_rows_and_other_sizes(quick: pd.DataFrame) -> None:
    probes = rows.load_probes(quick)
    single = words(figures.degradation(probes[probes["memory"] == 1]))
    assert "One memory row: there are no pairs to compare." in single
    assert "One memory row: there are no pairs to compare." in words(
        figures.degradation(probes, memory=1)
    )
    assert "No run with 256 memory rows; there are runs with 16." in words(
        figures.degradation(probes, memory=256)
    )
    assert "No run on Retrieval; there are runs on ListOps short" in words(
        figures.degradation(probes, task="retrieval")
    )
    assert style.MISSING in words(figures.degradation(probes.iloc[:0], task="retrieval"))


@pytest.mark.parametrize("measures", [figures.STREAMS, figures.ATTENTION, figures.GRADIENTS])
def test_every_measure_of_the_probes_can_be_drawn(
    measures: tuple[str, ...], quick: pd.DataFrame
) -> None:
    assert set(measures) <= set(figures.MEASURES)
    figure = figures.degradation(rows.load_probes(quick), measures=measures)
    assert len(figure.axes) == 2 * len(measures)


def test_gradient_norms_are_drawn_by_their_powers(quick: pd.DataFrame) -> None:
    probes = rows.load_probes(quick)
    luna = probes["family"] == "luna"
    seeds = probes.loc[luna & (probes["memory"] > 1), "run_id"].unique()
    norms = probes["run_id"].map({run: 10.0 ** -(2 * n) for n, run in enumerate(seeds)}).fillna(1.0)
    figure = figures.degradation(probes.assign(packed_gradient=norms), measures=figures.GRADIENTS)
    above, below = figure.axes[0], figure.axes[-1]
    assert (above.get_yscale(), below.get_yscale()) == ("log", "linear")
    low, high = above.get_ylim()
    shown = np.concatenate([np.asarray(line.get_ydata(), float) for line in above.lines])
    assert low < np.nanmin(shown) <= np.nanmax(shown) < high  # NaN breaks a line
    mean = next(
        line for line in above.lines
        if line.get_color() == style.FAMILY["luna"].colour and line.get_alpha() is None
    )  # fmt: skip
    assert mean.get_ydata()[0] == pytest.approx(10.0 ** -(len(seeds) - 1))
    assert "the mean (geometric on a logarithmic scale)" in flat(figure)


def test_the_axis_of_attention_measures_is_drawn_near_what_they_are(quick: pd.DataFrame) -> None:
    probes = rows.load_probes(quick).assign(pack_entropy=0.97, unpack_entropy=1.0)
    figure = figures.degradation(probes, measures=("pack_entropy", "unpack_entropy"))
    for axis in panels(figure):
        low, high = axis.get_ylim()
        assert 0.9 < low <= 0.95  # noise does not fill the panel
        assert high > 1


def test_memory_size_draws_seeds_and_the_transformer_as_a_level(quick: pd.DataFrame) -> None:
    axis = panel(figures.memory_size(quick), "ListOps short")
    assert axis.get_xscale() == "log"
    dots = [line for line in axis.lines if line.get_linestyle() == "None"]
    luna = next(line for line in dots if line.get_color() == style.FAMILY["luna"].colour)
    convluna = next(line for line in dots if line.get_color() == style.FAMILY["convluna"].colour)
    # Beside each other, each nearest to its number of rows.
    assert np.round(np.sort(luna.get_xdata())).tolist() == [1, 1, 1, 15, 15]
    apart = np.log2(min(convluna.get_xdata()) / min(luna.get_xdata()))
    assert 0.1 < apart < 0.5
    level = next(
        line for line in axis.lines if line.get_color() == style.FAMILY["transformer"].colour
    )
    assert list(level.get_ydata()) == pytest.approx([30.0, 30.0])


def test_an_ablation_whose_only_changed_run_has_failed_is_drawn(tmp_path: Path) -> None:
    write_run(tmp_path, "convluna-16", "text", accuracy=0.8)
    changes = {"filter": "none"}
    write_run(tmp_path, "convluna-16", "text", 0, None, "failed", model_changes=changes)
    assert "1 failed" in words(figures.ablation(rows.load_runs(tmp_path)))


def test_a_level_far_from_all_memory_sizes_is_said_above(tmp_path: Path) -> None:
    def drawn() -> Figure:
        return figures.memory_size(rows.load_runs(tmp_path))

    for model, accuracies in (("luna-1", [0.48, 0.49]), ("convluna-16", [0.51, 0.52])):
        write_runs(tmp_path, model, accuracies, task="image")
    (axis,) = panels(drawn())
    assert axis.get_ylim()[0] > 40  # not pressed together by what stands at 10
    assert "one answer always: 10" in words(drawn())
    assert "otted" not in words(drawn())
    assert "Mark: a seed; line: the mean." in words(drawn())
    write_runs(tmp_path, "luna-1", [0.55], task="text")
    text, _ = panels(drawn())
    assert text.get_ylim()[0] < 50
    assert "one answer always: 50" not in words(drawn())
    assert "Mark: a seed; line: the mean; dotted: one answer always" in words(drawn())
    write_run(tmp_path, "transformer", "text", accuracy=0.6)
    assert "grey: span of the Transformer's seeds" in flat(drawn())


def test_no_mark_of_a_memory_size_stands_on_the_frame(tmp_path: Path) -> None:
    for model in ("luna-1", "luna-256", "convluna-1", "convluna-256", "poolluna-16"):
        write_run(tmp_path, model, "text", accuracy=0.7)
    (axis,) = panels(figures.memory_size(rows.load_runs(tmp_path)))
    marks = [line.get_xdata() for line in axis.lines if line.get_linestyle() == "None"]
    low, high = axis.get_xlim()
    places = np.concatenate(marks)
    assert low * 1.2 < places.min() < places.max() < high / 1.2


def test_row_removal_reaches_from_one_row_to_all(quick: pd.DataFrame) -> None:
    axis = panel(figures.row_removal(rows.load_removal(quick)), "ListOps short, 16 rows")
    colour = style.FAMILY["luna"].colour
    mean = next(
        line for line in axis.lines if line.get_color() == colour and line.get_alpha() is None
    )
    assert (mean.get_xdata()[0], mean.get_xdata()[-1]) == (1, 16)
    assert mean.get_ydata() == pytest.approx(25.5)
    # As in the causal tests, rows are taken away from left to right.
    assert axis.get_xlim()[0] > axis.get_xlim()[1]


def test_levels_of_row_removal_are_named_where_no_seed_runs(quick: pd.DataFrame) -> None:
    figure = figures.row_removal(rows.load_removal(quick))
    said = flat(figure)
    assert "dotted: one answer always; dash-dotted: first operator alone" in said
    assert "thin: a seed; thick: the mean" in said
    axis = panel(figure, "ListOps short, 16 rows")
    assert not [text for text in axis.texts if "operator" in text.get_text()]


def test_row_removal_has_a_line_of_panels_per_size(tmp_path: Path) -> None:
    for task, size in itertools.product(("listops", "text", "image"), (16, 256)):
        write_run(tmp_path, f"luna-{size}", task)
    figure = figures.row_removal(rows.load_removal(rows.load_runs(tmp_path)))
    titles = [axis.get_title(loc="left") for axis in panels(figure)]
    assert titles == [f"{t}, {m} rows" for m in (16, 256) for t in ("ListOps", "Text", "Image")]


@pytest.mark.parametrize(("count", "shape"), [(3, (1, 3)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))])
def test_lines_of_panels_are_evenly_filled(count: int, shape: tuple[int, int]) -> None:
    _, axes = panel_grid(count, 3, 0.7, 2.0)
    assert axes.shape == shape


def test_row_removal_says_whose_choice_the_random_rows_are(quick: pd.DataFrame) -> None:
    removal = rows.load_removal(quick)
    older = removal["family"] == "luna"
    one = removal.assign(orders=float("nan"))
    mixed = removal.assign(orders=removal["orders"].mask(older))
    for frame, said in (
        (removal, "Every example keeps random rows of its own."),
        (mixed, "Random rows: one choice per run, in newer runs one per example."),
        (one, "One random choice of rows per run."),
    ):
        assert said in flat(figures.row_removal(frame))


def test_numbers_of_rows_left_have_room_between_them(tmp_path: Path) -> None:
    kept = dict.fromkeys((256, 128, 64, 16, 1), 0.5)
    write_run(tmp_path, "luna-256", "text", removal=kept)
    figure = figures.row_removal(rows.load_removal(rows.load_runs(tmp_path)))
    axis = panel(figure, "Text, 256 rows")
    assert list(axis.get_xticks()) == [1, 16, 64, 256]


def test_row_removal_has_no_panel_without_rows(quick: pd.DataFrame) -> None:
    removal = rows.load_removal(quick)
    other = removal[removal["memory"] == 16].assign(task="text-short")
    figure = figures.row_removal(pd.concat([removal.assign(memory=4), removal, other]))
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title(loc="left") for axis in shown] == [
        "ListOps short, 4 rows", "ListOps short, 16 rows", "Text short, 16 rows",
    ]  # fmt: skip
    assert style.MISSING not in words(figure)


def test_a_legend_has_the_colours_of_its_lines(quick: pd.DataFrame) -> None:
    removal = rows.load_removal(quick)
    luna = removal[removal["family"] == "luna"].assign(task="text-short")
    figure = figures.row_removal(pd.concat([removal, luna]))
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    colours = dict(zip(names, [line.get_color() for line in legend.get_lines()], strict=True))
    assert colours["Luna"] == style.FAMILY["luna"].colour
    assert colours["ConvLuna"] == style.FAMILY["convluna"].colour


# --- attention maps --------------------------------------------------------------------------


def maps(memory: int = 4, tokens: int = 6, cls: int = 1) -> dict[str, np.ndarray]:
    """Even attention, except that block 2, head 1 looks at position 2 alone."""
    positions = tokens + cls
    pack = np.full((2, 3, memory, positions), 1 / positions)
    pack[1, 0] = 0
    pack[1, 0, :, 2] = 1
    return {
        "pack": pack.astype(np.float16),
        "unpack": np.full((2, 3, positions, memory), 1 / memory, np.float16),
        "tokens": np.arange(1, tokens + 1, dtype=np.uint8),
        "length": np.array(tokens),
        "label": np.array(0),
        "prediction": np.array(0),
    }


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axis.images[0].get_array()) for axis in panels(figure) if axis.images]


def test_blocks_of_few_rows_are_named_within_their_height() -> None:
    figure = attention_figures.attention(maps(), "pack", memory=4)
    figure.draw_without_rendering()
    for axis in panels(figure)[::3]:
        named, drawn = axis.yaxis.label.get_window_extent(), axis.get_window_extent()
        assert named.height < 1.2 * drawn.height


def test_a_large_weight_is_written_out() -> None:
    one = maps(tokens=400)
    words_of = words(attention_figures.attention(one, "pack", memory=4, window=(0, 4)))
    assert "≥ 401" in words_of


def test_even_attention_is_drawn_as_one() -> None:
    shown = images(attention_figures.attention(maps(), "unpack", memory=4))
    assert len(shown) == 6
    for image in shown:
        assert image.shape == (4, 7)  # rows by positions, as in the pack map
        np.testing.assert_allclose(image, 1.0, rtol=1e-3)


def test_a_focused_head_stands_out_at_its_position() -> None:
    shown = images(attention_figures.attention(maps(), "pack", memory=4))
    focused = shown[3]
    assert (focused.argmax(axis=1) == 2).all()
    assert focused.max() > 5


def test_a_row_that_looks_at_one_of_many_positions_has_a_dot_there() -> None:
    """Averaged with its neighbours, what the row looks at would be no darker than elsewhere."""

    def dots(figure: Figure) -> list[list[tuple[float, float]]]:
        return [
            [(x, y) for line in axis.lines for x, y in line.get_xydata().tolist()]
            for axis in panels(figure)
        ]

    long = maps(tokens=2000)
    long["pack"][0, 1, 2] = 0.4 / 2001
    long["pack"][0, 1, 2, 1500] = 0.6  # of row 3, counted from 1
    long["pack"][0, 2, 1, 1500] = 0.9  # of 1.9 that it reads, less than a half
    figure = attention_figures.attention(long, "pack", memory=4)
    shown = dots(figure)
    assert shown[1] == [(1500, 3)]
    assert shown[3] == [(2, row) for row in (1, 2, 3, 4)]
    assert [len(panel) for panel in shown] == [0, 1, 0, 4, 0, 0]
    style.settle(figure)  # panels without a dot once made matplotlib warn that nothing had room
    assert "Dot: where more than half of a row's weight lies." in words(figure)
    far = attention_figures.attention(long, "pack", memory=4, window=(0, 1400))
    assert [len(panel) for panel in dots(far)] == [0, 0, 0, 4, 0, 0]
    for other in (
        attention_figures.attention(long, "unpack", memory=4),
        attention_figures.attention(maps(), "pack", memory=4),  # every position has its own column
        attention_figures.attention(long, "pack", memory=4, heads=[3]),
    ):
        assert not any(dots(other))
        assert "Dot:" not in words(other)


def test_attention_spent_on_padding_is_said_and_not_drawn_as_indifference() -> None:
    padded = maps()
    padded["pack"][0, 1] /= 4  # three quarters of the weight are beyond the true length
    padded["pack"][0, 2] = 0  # all of it
    figure = attention_figures.attention(padded, "pack", memory=4)
    assert "75 % on padding" in words(figure)
    assert "100 % on padding" in words(figure)
    shown = images(figure)
    np.testing.assert_allclose(shown[1], 1.0, rtol=2e-3)
    assert np.ma.getmaskarray(np.ma.masked_invalid(shown[2])).all()
    assert "over the tokens, padding left out" in flat(figure)
    assert "padding" not in words(
        attention_figures.attention(maps(), "pack", memory=4, padded_to=27)
    )


def test_what_is_spent_on_padding_stands_beside_what_even_attention_spends() -> None:
    padded = maps(tokens=6)  # and the CLS vector
    padded["pack"] /= 4
    figure = attention_figures.attention(padded, "pack", memory=4, padded_to=27)
    assert "Even attention spends 75 % on padding." in flat(figure)
    assert "Even" not in words(
        attention_figures.attention(padded, "unpack", memory=4, padded_to=27)
    )
    without_cls = maps(tokens=6, cls=0)
    assert attention_figures.even_on_padding(without_cls, 24) == 0.75


def test_no_position_of_a_long_sequence_vanishes() -> None:
    long = maps(tokens=1999)
    for position in (0, 1, 777, 1998, 1999):
        long["pack"][1, 0] = 0
        long["pack"][1, 0, :, position] = 1
        image = images(attention_figures.attention(long, "pack", memory=4))[3]
        assert image.shape[1] < 300
        expected = position / 2000 * image.shape[1]
        assert (np.abs(image.argmax(axis=1) - expected) <= 1).all()


def test_tokens_are_ticks_where_they_fit() -> None:
    names = list("abcdef")
    one = attention_figures.attention(maps(), "pack", memory=4, tokens=names, heads=[1])
    axis = one.axes[1]  # the lower block's
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["CLS", *names]
    long = attention_figures.attention(maps(tokens=200), "pack", memory=4, tokens=["x"] * 200)
    assert "position in the sequence" in words(long)


def test_a_window_keeps_the_names_at_their_positions() -> None:
    figure = attention_figures.attention(
        maps(cls=0), "pack", memory=4, tokens=list("abcdef"), window=(2, 5), heads=[1]
    )
    axis = figure.axes[1]  # the lower block's
    assert list(axis.get_xticks()) == [2, 3, 4]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["c", "d", "e"]


def test_blanks_and_dollars_are_printed_as_they_are() -> None:
    figure = attention_figures.attention(
        maps(cls=0), "pack", memory=4, tokens=["$", " ", "$", "a", "_", "^"], heads=[1]
    )
    labels = figure.axes[1].get_xticklabels()  # the lower block's
    assert [label.get_text() for label in labels] == [r"\$", "␣", r"\$", "a", "_", "^"]
    figure.draw_without_rendering()


def test_positions_of_a_shortening_filter_have_no_token_names() -> None:
    short = maps(tokens=12)
    short["pack"] = short["pack"][..., :4]
    figure = attention_figures.attention(short, "pack", memory=4, tokens=["x"] * 12, heads=[1])
    assert "position in the sequence" in words(figure)


def test_with_one_row_the_unpack_map_says_why_it_is_empty() -> None:
    figure = attention_figures.attention(maps(memory=1), "unpack", memory=1)
    assert "every unpack weight is 1" in flat(figure)
    assert not images(figure)


def test_a_run_without_maps_gives_an_honest_panel() -> None:
    assert style.MISSING in words(attention_figures.attention(None, "pack", memory=16))


def test_maps_of_a_run_folder_are_drawn_with_their_tokens(quick: pd.DataFrame) -> None:
    run = quick[(quick["model"] == "convluna-16") & (quick["changes"] == "")].iloc[0]
    found = rows.load_attention(run)
    names = tasks.tokens(config.task_config(run["task"]), found["tokens"], int(found["length"]))
    figure = attention_figures.attention_of(quick, "convluna-16", "pack", window=(0, 10), heads=[1])
    ticks = [label.get_text() for label in panels(figure)[-1].get_xticklabels()]
    assert set(ticks) <= {"CLS", *names}
    assert len(ticks) == 10
    assert "ConvLuna-16" in words(figure)
    most = config.task_config("listops-short").max_length
    assert f"ListOps short, seed 0, {len(names)} tokens of at most {most}" in words(figure)


def test_maps_of_a_run_that_has_not_learned_say_so(quick: pd.DataFrame) -> None:
    said = "Has not learned this task (15.8 %)."
    dull = quick.assign(test_accuracy=0.158)
    assert said in flat(attention_figures.attention_of(dull, "convluna-16", "pack"))
    assert "not learned" not in words(attention_figures.attention_of(quick, "convluna-16", "pack"))


def test_maps_are_those_of_a_task_that_has_some(quick: pd.DataFrame, tmp_path: Path) -> None:
    # Runs stand in the order of their ids: one of another task, without maps, comes first.
    bare = quick.assign(task="image-short", folder=str(tmp_path))
    figure = attention_figures.attention_of(pd.concat([bare, quick]), "convluna-16", "pack")
    assert "ListOps short, seed 0" in words(figure)
    figure = attention_figures.attention_of(quick, "convluna-16", "pack", task="text")
    assert "No map on Text; there are maps on ListOps short." in words(figure)


@pytest.mark.parametrize(
    ("model", "seed", "said"),
    [
        ("convluna-16", 99, "No map with seed 99; there are maps with seed 0, 1 or 2."),
        ("luna-256", 0, "No map of Luna-256; there are maps of"),
    ],
)
def test_maps_that_are_not_there_give_a_panel_that_says_which_are(
    model: str, seed: int, said: str, quick: pd.DataFrame
) -> None:
    assert said in words(attention_figures.attention_of(quick, model, "unpack", seed))


def test_of_a_run_whose_maps_were_not_kept_it_is_not_said_that_there_is_none(
    quick: pd.DataFrame, tmp_path: Path
) -> None:
    bare = quick.assign(seed=7, folder=str(tmp_path))
    both = pd.concat([quick[quick["seed"] == 0], bare])
    said = words(attention_figures.attention_of(both, "convluna-16", "pack", 7))
    assert "No map with seed 7; there are maps with seed 0." in said
    nothing = words(attention_figures.attention_of(bare, "convluna-16", "pack", 7))
    assert "No maps of these runs were kept." in nothing
    none = attention_figures.attention_of(bare.iloc[:0], "convluna-16", "pack", 7)
    assert style.MISSING in words(none)


# --- claims ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verdicts(quick: pd.DataFrame) -> list[claims.Verdict]:
    found = claims.check(quick, rows.load_removal(quick), rows.load_probes(quick))
    return [verdict for verdict in found if verdict.preset == "quick"]


def test_the_forest_plot_shows_every_comparison_that_has_an_effect(
    verdicts: list[claims.Verdict],
) -> None:
    evidence = pd.concat([v.evidence for v in verdicts if len(v.evidence)])
    figure = figures.claims(verdicts, "Laptop scale")
    there = evidence[evidence["effect"].notna()]
    drawn = [
        float(line.get_xdata()[0])  # an interval has two ends, the line at zero two heights
        for axis in panels(figure)
        for line in axis.lines
        if len(line.get_xdata()) == 1
    ]
    assert sorted(drawn) == pytest.approx(sorted(there["effect"]))
    labels = [label.get_text() for axis in panels(figure) for label in axis.get_yticklabels()]
    assert "C1  ConvLuna-1 − Luna-1" in labels
    assert panels(figure)[0].get_title(loc="left") == "ListOps short"
    text = words(figure)
    (legend,) = figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    for result in ("holds", "ruled out", "not shown"):
        assert (result in said) == (there["result"] == result).any()
    assert "Laptop scale" in text


def test_each_task_has_its_column_of_the_forest_plot(tmp_path: Path) -> None:
    for task, gain in (("listops-short", 0.1), ("text-short", 0.2)):
        for seed in range(3):
            write_run(tmp_path, "luna-1", task, seed, accuracy=0.5 + seed / 1000)
            write_run(tmp_path, "convluna-1", task, seed, accuracy=0.5 + gain + seed / 1000)
    write_run(tmp_path, "luna-16", "text-short", accuracy=0.5)
    write_run(tmp_path, "convluna-16", "text-short", accuracy=0.6)
    figure = figures.claims(judged(tmp_path, "quick"))
    left, right = (
        a for a in panels(figure) if a.get_title(loc="left") in ("ListOps short", "Text short")
    )
    marks = [
        [(round(float(line.get_xdata()[0])), round(float(line.get_ydata()[0])))
         for line in axis.lines if len(line.get_xdata()) == 1]
        for axis in (left, right)
    ]  # fmt: skip
    labels = [label.get_text() for label in left.get_yticklabels()]
    assert labels == ["C1  ConvLuna-1 − Luna-1", "C1  ConvLuna-16 − Luna-16"]
    assert marks == [[(10, 0)], [(20, 0), (10, 1)]]
    # By memory, also where the first task lacks a size.
    for name in ("luna", "convluna"):
        write_run(tmp_path, f"{name}-64", "listops-short", accuracy=0.5)
    figure = figures.claims(judged(tmp_path, "quick"))
    labels = [label.get_text() for label in panels(figure)[0].get_yticklabels()]
    assert labels == [f"C1  ConvLuna-{size} − Luna-{size}" for size in (1, 16, 64)]


def test_the_forest_plot_says_how_many_seeds_an_interval_rests_on(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.20, 0.21, 0.22])
    write_runs(tmp_path, "convluna-1", [0.30, 0.31, 0.32])
    write_runs(tmp_path, "transformer", [0.25, 0.26, 0.27, 0.28])
    figure = figures.claims(judged(tmp_path, "quick"))
    (axis,) = panels(figure)
    said = {text.get_position(): text.get_text() for text in figure.texts}
    labels = [label.get_text() for label in axis.get_yticklabels()]
    counts = {label: said[1, place] for place, label in enumerate(labels)}
    assert counts == {"C1  ConvLuna-1 − Luna-1": "3", "C2  ConvLuna-1 − Transformer": "3/4"}
    said_of_all = flat(figure)
    assert "number of seeds, a/b where the two sides differ." in said_of_all
    write_runs(tmp_path, "luna-16", [0.2, 0.3])
    write_runs(tmp_path, "convluna-16", [0.3, 0.4])
    figure = figures.claims(judged(tmp_path, "quick"))
    assert "fewer than 3 have no interval" in flat(figure)


def test_the_forest_plot_counts_seeds_that_failed_or_learned_nothing(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-1", [0.20, 0.21, 0.22, None])
    write_runs(tmp_path, "convluna-1", [0.30, 0.31, 0.32])
    write_runs(tmp_path, "transformer", [None])
    write_runs(tmp_path, "luna-4", [0.15, 0.16, 0.6], probes=COLLAPSED)
    write_runs(tmp_path, "convluna-4", [0.15, 0.6, 0.7], probes=SPREAD_OUT)
    write_runs(tmp_path, "luna-16", [0.15, 0.16, None], probes=COLLAPSED)
    found = judged(tmp_path)

    def counts(claim: str, unit: str) -> dict[str, str]:
        verdict = claims.verdict_on(found, claim, "quick")
        only = verdict.evidence[verdict.evidence["unit"] == unit]
        figure = figures.claims([dataclasses.replace(verdict, evidence=only)])
        (axis,) = panels(figure)
        marked = {line.get_ydata()[0] for line in axis.lines if len(line.get_xdata()) == 1}
        said = {text.get_position(): text.get_text() for text in figure.texts}
        labels = [label.get_text() for label in axis.get_yticklabels()]
        said_of_all = flat(figure)
        assert ("those at the majority level" in said_of_all) == (claim == "C3")
        return {
            label: said[1, place] + ("" if place in marked else ", no mark")
            for place, label in enumerate(labels)
        }

    assert counts("C1", "points") == {
        "C1  ConvLuna-1 − Luna-1": "3, 1 failed",
        "C1  ConvLuna-4 − Luna-4": "3",
        "C1  ConvLuna-16 − Luna-16": "0/2, 1 failed, no mark",
    }
    assert counts("C2", "points") == {"C2  ConvLuna-1 − Transformer": "3/0, 1 failed, no mark"}
    cosines = counts("C3", "cosine")
    assert cosines["C3  Luna-4, all blocks"] == "1 of 3"
    assert cosines["C3  Luna-4 − ConvLuna-4"] == "1/2 of 3"
    assert cosines["C3  Luna-16, all blocks"] == "0 of 2, 1 failed, no mark"
    assert cosines["C3  Luna-16 − ConvLuna-16"] == "0 of 2/0, 1 failed, no mark"


@pytest.mark.parametrize("real", [False, True])
def test_the_forest_plot_of_four_tasks_is_hardly_wider_than_a_page(
    real: bool, tmp_path: Path
) -> None:
    """A page would shrink a wider one, and its words with it."""
    for task in ("listops-short", "text-short", "image-short", "pathfinder-short"):
        write_runs(tmp_path, "luna-16", [0.6, 0.61, 0.62], task=task, probes=COLLAPSED)
        write_runs(tmp_path, "convluna-16", [0.1, 0.7, 0.72], task=task, probes=SPREAD_OUT)
    figure = figures.claims(judged(paths.stored_results() if real else tmp_path, "quick"))
    assert figure.get_size_inches()[0] <= 1.12 * style.PAGE_WIDTH
    figure.draw_without_rendering()
    blank = 0.05 * figure.dpi  # between two numbers, or they read as one
    for axis in panels(figure):
        names = [tick.label1 for tick in axis.xaxis.get_major_ticks() if tick.label1.get_visible()]
        boxes = [name.get_window_extent() for name in names if name.get_text()]
        inside = [box for box in boxes if axis.bbox.x0 <= (box.x0 + box.x1) / 2 <= axis.bbox.x1]
        assert all(b.x0 - a.x1 > blank for a, b in itertools.pairwise(inside))


def test_the_band_is_where_the_target_says(verdicts: list[claims.Verdict]) -> None:
    figure = figures.claims(verdicts)
    axis = next(a for a in panels(figure) if "cosine" in a.get_xlabel())
    labels = [label.get_text() for label in axis.get_yticklabels()]
    position = labels.index("C3  Luna-16, all blocks")
    left = axis.collections[position].get_paths()[0].vertices[:, 0].min()
    assert left == pytest.approx(claims.COLLAPSED_COSINE)


def test_what_must_stay_near_zero_has_a_panel_in_which_its_band_can_be_seen(
    verdicts: list[claims.Verdict],
) -> None:
    axis = next(a for a in panels(figures.claims(verdicts)) if "lost" in a.get_xlabel())
    assert all("rows left" in label.get_text() for label in axis.get_yticklabels())
    band = axis.collections[0].get_paths()[0].vertices[:, 0]
    assert (band.min(), band.max()) == pytest.approx((-claims.EQUIVALENT, claims.EQUIVALENT))
    left, right = axis.get_xlim()
    assert left < band.min()
    assert right > band.max()


@pytest.mark.parametrize(
    ("gains", "result"),
    [
        ((2, 18, 10), "not shown"),
        ((8, 12, 10), "holds"),
    ],
)
def test_an_interval_wider_than_everything_else_sets_the_scale_only_where_it_shows_something(
    tmp_path: Path, gains: tuple[int, ...], result: str
) -> None:
    for seed, gain in enumerate(gains):
        write_run(tmp_path, "luna-1", "text-short", seed, accuracy=0.5)
        write_run(tmp_path, "convluna-1", "text-short", seed, accuracy=0.5 + gain / 100)
    mine = judged(tmp_path, "quick")
    (comparison,) = (v.evidence.iloc[0] for v in mine if v.claim == "C1")
    low, high = comparison["low"], comparison["high"]
    assert comparison["result"] == result
    figure = figures.claims(mine)
    left, right = panels(figure)[0].get_xlim()
    carets = {m for a in panels(figure) for line in a.lines if (m := line.get_marker()) in "<>"}
    if result == "holds":
        assert left < low < high < right
        assert not carets
    else:
        assert low < left < 0 < 10 < right < high
        assert carets == {"<", ">"}
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("interval goes on" in said) == bool(carets)


def test_without_any_comparison_the_forest_plot_says_so(tmp_path: Path) -> None:
    assert "nothing to compare" in words(figures.claims(judged(tmp_path)))


# --- diagrams --------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [diagrams.blocks, diagrams.single_row])
def test_a_diagram_writes_inside_its_sheet_and_on_nothing_else(draw: Any) -> None:
    figure = draw()
    figure.draw_without_rendering()
    boxes = [
        text.get_window_extent()
        for text in figure.findobj(plt.Text)
        if text.get_text().strip() and text.get_visible() and text.axes is not None
        and text in text.axes.texts
    ]  # fmt: skip
    assert len(boxes) > 8
    sheet = figure.bbox
    for box in boxes:
        assert sheet.x0 <= box.x0
        assert box.x1 <= sheet.x1
        assert sheet.y0 <= box.y0
        assert box.y1 <= sheet.y1
    inner = [box.shrunk(0.9, 0.8) for box in boxes]
    assert_apart(inner)


def test_the_diagram_names_streams_shapes_filter_and_temperatures() -> None:
    text = words(diagrams.blocks())
    for part in ("sequence", "memory", "pack attention", "unpack attention", "filter", "LayerNorm",
                 r"L \times H", r"M \times H", r"\sqrt{d}", "learned", "packed"):  # fmt: skip
        assert part in text
    assert "pack attention" in words(diagrams.single_row())


# --- tables ----------------------------------------------------------------------------------


def row(table: pd.DataFrame, **where: str) -> pd.Series:
    found = table
    for column, value in where.items():
        found = found[found[column.replace("_", " ")] == value]
    assert len(found) == 1, f"{len(found)} rows for {where}"
    return found.iloc[0]


def test_accuracy_cells_count_finished_and_failed_runs(quick: pd.DataFrame) -> None:
    table = tables.accuracy(quick, published.load(), "quick")
    assert row(table, Model="ConvLuna-16")["ListOps short"] == "36.0 ± 1.0 (3)"
    assert row(table, Model="Luna-16")["ListOps short"] == "25.5 ± 0.7 (2, 1 failed)"
    assert "Source" not in table  # nothing published is shown
    assert table.iloc[-1].tolist() == ["First operator alone", "34.6"]


def test_accuracy_of_one_seed_has_no_spread_and_of_none_no_number(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1", accuracy=0.4)
    write_runs(tmp_path, "luna-16", [None, None])
    table = tables.accuracy(rows.load_runs(tmp_path), scale="quick")
    assert row(table, Model="Luna-1")["ListOps short"] == "40.0 (1)"
    assert row(table, Model="Luna-16")["ListOps short"] == "all failed (2)"


def test_only_what_is_planned_has_no_run_yet(tmp_path: Path) -> None:
    write_run(tmp_path, "luna-1", accuracy=0.4)
    write_run(tmp_path, "rmt-16", "text-short", accuracy=0.5)
    frame = rows.load_runs(tmp_path)
    planned = {("luna-1", "listops-short"), ("rmt-16", "text-short"), ("rmt-16", "listops-short")}
    table = tables.accuracy(frame, scale="quick", planned=planned)
    assert row(table, Model="Luna-1")["Text short"] == "–"
    assert row(table, Model="RMT-16")["ListOps short"] == "no run yet"
    assert row(tables.accuracy(frame, scale="quick"), Model="Luna-1")["Text short"] == "no run yet"
    beside = beside_tables.controls(frame, planned)
    assert row(beside, Model="RMT-16")["Text short"] == "50.0 (1)"
    write_run(tmp_path, "localconv", accuracy=0.3)
    beside = beside_tables.controls(rows.load_runs(tmp_path), planned)
    assert row(beside, Model="Luna-1")["Text short"] == "–"
    assert row(beside, Model="RMT-16")["ListOps short"] == "no run yet"


def test_the_name_of_a_level_leaves_marks_at_the_top_whole() -> None:
    figure, axes = style.canvas(1, 1, 2)
    (axis,) = axes.flat
    (line,) = axis.plot([1, 2], [40.0, 41.6], marker="o")
    style.reference_line(axis, 17.0, "majority class")
    style.settle(figure)
    radius = line.get_markersize() / 2 * figure.dpi / 72
    top = axis.transData.transform((2, 41.6))[1] + radius
    assert top <= axis.get_window_extent().y1


def test_accuracy_says_no_run_yet_and_shows_published_rows(quick: pd.DataFrame) -> None:
    table = tables.accuracy(quick.iloc[:0], published.load())
    ours = table[table["Source"] == "memnb"]
    assert list(ours["Model"]) == [naming.model_label(name) for name in config.MODELS]
    assert (ours.drop(columns=["Model", "Source"]) == style.MISSING).all().all()
    lra = row(table, Model="Transformer", Source="LRA leaderboard")
    assert (lra["ListOps"], lra["Pathfinder"]) == ("36.37", "71.40")
    # Below our Transformer, not at the end.
    assert list(table["Model"][:3]) == ["Transformer"] * 3
    assert "Longformer" in set(table["Model"])
    assert not table["Source"].str.contains("2404.00798").any()


def test_what_a_source_or_a_rule_says_nothing_of_is_a_dash(full: pd.DataFrame) -> None:
    numbers = {"text": 64.5, "image": math.nan}
    some = pd.DataFrame(
        [("somewhere", task, "Longformer", value) for task, value in numbers.items()],
        columns=["source", "task", "model", "accuracy"],
    )
    table = tables.accuracy(full, some).set_index("Model")
    tasks = [naming.task_label(task) for task in config.LRA_TASKS]
    assert table.loc["Longformer", tasks].to_dict() == dict.fromkeys(tasks, "–") | {"Text": "64.50"}
    assert table.loc[tables.OPERATOR_ROW, tasks].to_dict() == dict.fromkeys(tasks, "–") | {
        "ListOps": "36.0"
    }
    laptop = full.assign(task="text-short")
    assert tables.OPERATOR_ROW not in set(tables.accuracy(laptop, scale="quick")["Model"])


def test_accuracy_without_rows_or_models_says_so(quick: pd.DataFrame) -> None:
    table = tables.accuracy(quick.iloc[:0], scale="quick")
    assert list(table["Model"]) == [style.MISSING]


def test_the_papers_numbers_appear_once_a_reader_enters_them(
    tmp_path: Path, quick: pd.DataFrame
) -> None:
    text = (paths.reference() / "published.csv").read_text(encoding="utf-8")
    entered = text.replace(
        "arXiv 2404.00798,text,ConvLuna-1,,", "arXiv 2404.00798,text,ConvLuna-1,71.5,"
    )
    assert entered != text
    (tmp_path / "published.csv").write_text(entered, encoding="utf-8")
    table = tables.accuracy(quick.iloc[:0], published.load(tmp_path / "published.csv"))
    assert row(table, Model="ConvLuna-1", Source="arXiv 2404.00798")["Text"] == "71.50"


def test_ablation_has_every_combination(quick: pd.DataFrame) -> None:
    table = filter_tables.ablation(quick)
    assert len(table) == 9
    assert list(table.columns[2:]) == ["ListOps short, as coded", "ListOps short, as intended"]
    whole = row(table, Filter="convolution, width 4", Pack_temperature="learned")
    assert whole["ListOps short, as coded"] == "36.0 ± 1.0 (3)"
    assert whole["ListOps short, as intended"] == style.MISSING
    bare = row(table, Filter="no filter", Pack_temperature="learned")
    assert bare["ListOps short, as coded"] == "20.0 (1)"
    assert row(table, Filter="max pooling, width 4", Pack_temperature="learned")[
        "ListOps short, as coded"
    ] == "32.0 ± 1.0 (3)"  # fmt: skip


def test_ablation_before_any_run_has_its_full_grid(quick: pd.DataFrame) -> None:
    full = filter_tables.ablation(quick.iloc[:0])
    laptop = filter_tables.ablation(quick.iloc[:0], "quick")
    assert full.shape == (9, 2 + 2 * 2)
    assert list(laptop.columns[2:]) == ["ListOps short, as coded"]
    assert (full.iloc[:, 2:] == style.MISSING).all().all()


def test_ablation_figure_has_a_row_per_combination(quick: pd.DataFrame) -> None:
    figure = figures.ablation(quick, "Laptop scale")
    axis = panel(figure, "ListOps short")
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert len(labels) == 9
    seeds = {
        labels[int(line.get_ydata()[0])]: sorted(line.get_xdata())
        for line in axis.lines
        if line.get_alpha() == 0.55
    }
    assert seeds == {
        "no filter, T = learned": pytest.approx([20]),
        "convolution, width 4, T = learned": pytest.approx([35, 36, 37]),
        "max pooling, width 4, T = learned": pytest.approx([31, 32, 33]),
    }
    assert words(figure).count(style.MISSING) == 6
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    # Dotted, dash-dotted, dashed.
    assert legend[-3:] == ["one answer always", "first operator alone", "mean of ConvLuna-16"]
    plain = quick[quick["changes"] == ""]
    said = words(figures.ablation(plain))
    assert "only whole models have run yet" in said
    assert style.MISSING not in said
    alone = words(figures.ablation(plain[plain["family"] == "convluna"]))
    assert "only the whole ConvLuna has run yet: nothing to compare it with" in alone


def test_an_ablation_says_which_parts_are_not_planned(quick: pd.DataFrame) -> None:
    planned = {("none", 4, 1, "unit", "listops-short", "as_coded")}
    table = filter_tables.ablation(quick, "quick", planned)
    without = table[table["ListOps short, as coded"].isin([style.MISSING, "–"])]
    said = without.set_index(["Filter", "Pack temperature"])["ListOps short, as coded"]
    assert said.pop(("no filter", "1")) == style.MISSING
    assert len(said) == 5
    assert set(said) == {"–"}
    figure = words(figures.ablation(quick, planned=planned))
    assert (figure.count(style.MISSING), figure.count(style.NOT_PLANNED)) == (1, 5)


def test_notes_of_the_ablation_stand_clear_of_the_dashed_line(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.84, 0.85], task="pathfinder-short")
    none = {"filter": "none"}
    write_run(tmp_path, "convluna-16", "pathfinder-short", accuracy=0.48, model_changes=none)
    figure = figures.ablation(rows.load_runs(tmp_path))
    figure.canvas.draw()
    axis = panel(figure, "Pathfinder short")
    dashed = axis.transData.transform((84.5, 0))[0]
    notes = [text for text in figure.texts if text.get_text() == style.MISSING]
    assert notes
    for note in notes:
        box = note.get_window_extent()
        assert not box.x0 <= dashed <= box.x1


def test_an_arrowhead_is_in_the_legend_where_an_interval_is_cut(tmp_path: Path) -> None:
    def legend(model: str) -> list[str]:
        runs = rows.load_runs(tmp_path)
        figure = figures.accuracy(runs[runs["model"] == model])
        return [text.get_text() for text in figure.legends[0].get_texts()]

    write_runs(tmp_path, "luna-1", [0.30, 0.301, 0.302])
    write_runs(tmp_path, "luna-16", [0.15, 0.25, 0.35])
    assert "interval goes on" not in legend("luna-1")
    assert "interval goes on" in legend("luna-16")


def test_ablation_keeps_readings_and_strides_apart(tmp_path: Path) -> None:
    as_intended = {"reading": "as_intended"}
    write_run(tmp_path, "convluna-16", accuracy=0.31)
    write_run(tmp_path, "convluna-16", accuracy=0.41, model_changes=as_intended)
    mixed = as_intended | {"pack_temperature": "unit"}  # unpack still learns: not of this grid
    write_run(tmp_path, "convluna-16", accuracy=0.51, model_changes=mixed)
    write_run(tmp_path, "poolluna-16", accuracy=0.61, model_changes={"filter_stride": 4})
    write_run(
        tmp_path, "convluna-16", accuracy=0.71, model_changes={"representation": "mean"}
    )  # another question
    table = filter_tables.ablation(rows.load_runs(tmp_path))
    whole = row(table, Filter="convolution, width 4", Pack_temperature="learned")
    assert (whole.iloc[2], whole.iloc[3]) == ("31.0 (1)", "41.0 (1)")
    strided = row(table, Filter="max pooling, width 4, stride 4", Pack_temperature="learned")
    assert strided.iloc[2] == "61.0 (1)"
    assert not table.isin(["51.0 (1)", "71.0 (1)"]).any().any()


@pytest.mark.parametrize("task", config.LRA_TASKS)
def test_memnb_takes_every_setting_of_the_authors(task: str) -> None:
    table = settings_tables.settings(task)
    assert len(table) == 17
    differing = table[table["Authors' code"] != table["memnb"]]
    assert differing.empty, differing


@pytest.mark.parametrize("task", config.LRA_TASKS)
@pytest.mark.parametrize("who", ["Authors' code", "LRA"])
def test_peak_rates_follow_from_the_schedule(task: str, who: str) -> None:
    stated = dict(
        zip(
            settings_tables.settings(task)["Setting"],
            settings_tables.settings(task)[who],
            strict=True,
        )
    )
    base, warmup = float(stated["base learning rate"]), float(stated["warm-up steps"])
    peak = base if "cosine" in stated["schedule"] else base / math.sqrt(warmup)
    assert float(stated["peak learning rate"]) == pytest.approx(peak, rel=5e-3)


def test_all_settings_hold_the_five_tasks() -> None:
    table = settings_tables.all_settings()
    assert list(dict.fromkeys(table["Task"])) == [naming.task_label(t) for t in config.LRA_TASKS]


def test_model_settings_follow_the_configs() -> None:
    table = settings_tables.model_settings()
    assert row(table, Setting="filter")["ConvLuna"] == "conv"
    assert row(table, Setting="pack_temperature")["Choices"] == "unit, sqrt, learn"
    named = set(config.Model.model_fields) - {"kind", "blocks", "width", "heads", "mlp", "dropout",
                                              "memory"}  # fmt: skip
    assert set(table["Setting"]) == named


@pytest.mark.parametrize("switch", [s for s in settings_tables.deviations()["Switch"] if s != "–"])
def test_every_switch_of_the_deviations_exists(switch: str) -> None:
    key, _, written = switch.partition("=")
    value = eval(written, {"__builtins__": {}})  # a literal of our own file
    if key in config.Model.model_fields:
        model = "luna-16" if key == "memory_init" else "convluna-16"
        changes = {key: value}
        if key in ("sharing",):
            changes["variant"] = "full"
        config.model_config(model, "text", **changes)
    elif key in config.Text.model_fields:
        config.task_config("text", **{key: value})
    elif key in config.Training.model_fields:
        config.run_config("luna-16", "listops", training_changes={key: value})
    else:
        config.run_config("luna-16", "text", **{key: value})


def test_deviations_cover_the_known_traps() -> None:
    text = " ".join(settings_tables.deviations().to_numpy().ravel())
    for trap in ("unpack temperature", "not masked", "does not run", "none is set", "same batches",
                 "test set", "never fires", "10 output units", "57 %"):  # fmt: skip
        assert trap in text


@pytest.mark.parametrize(
    ("name", "content", "draw"),
    [
        ("settings.csv", "task,setting,authors\n", lambda: settings_tables.settings("text")),
        ("settings.csv", None, lambda: settings_tables.settings("text")),
        ("deviations.toml", "[[deviation]]\nplace = 'x'\n", settings_tables.deviations),
        ("deviations.toml", "no toml", settings_tables.deviations),
        ("deviations.toml", None, settings_tables.deviations),
    ],
)
def test_a_damaged_reference_file_is_named(
    name: str, content: str | None, draw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    monkeypatch.setattr(paths, "reference", lambda: tmp_path)
    with pytest.raises(DataError, match=re.escape(name)):
        draw()


def test_a_claim_in_short_is_its_verdict_and_how_many_comparisons_hold(tmp_path: Path) -> None:
    write_runs(tmp_path, "luna-16", [0.50, 0.51, 0.52], task="text", probes=COLLAPSED)
    write_runs(tmp_path, "convluna-16", [0.60, 0.61, 0.62], task="text", probes=SPREAD_OUT)
    write_runs(
        tmp_path, "convluna-16", [0.6, 0.61, 0.62], task="text", model_changes={"filter": "none"}
    )
    found = judged(tmp_path)
    one, several = claim_tables.in_short(found, "C1", "C4").splitlines()
    nothing = "at laptop scale not enough runs."
    assert one == f"C1: at full scale supported (1 of 1 hold); {nothing}"
    assert several == (
        f"C4: at full scale not supported (0 of 1 hold: filter 0 of 1); {nothing}"
    )  # fmt: skip


def test_the_claims_table_has_a_line_per_claim(verdicts: list[claims.Verdict]) -> None:
    table = claim_tables.claims(verdicts)
    assert list(table["Claim"]) == ["C1", "C2", "C3", "C4", "C5"]
    assert set(table["Scale"]) == {"laptop"}
    assert row(table, Claim="C5")["Effect"] == "–"
    assert row(table, Claim="C1")["Effect"] == "10.5 points", "one of Luna-16's three has failed"
    assert re.fullmatch(r"−?\d+\.\d \[−?\d+\.\d, −?\d+\.\d\] points", table["Effect"][1])


def test_judged_claims_say_how_much_holds_and_what_decides(tmp_path: Path) -> None:
    write_runs(tmp_path, "convluna-16", [0.50, 0.51, 0.52])
    write_runs(tmp_path, "luna-16", [0.40, 0.41, 0.42])
    write_runs(tmp_path, "convluna-1", [0.37, 0.38, 0.39])
    write_runs(tmp_path, "luna-1", [0.36, 0.39, 0.40])
    verdicts = judged(tmp_path)
    table = claim_tables.judged_claims(verdicts)
    assert not table["Claim"].str.startswith("C5").any(), "nothing of it has run"
    first = table[table["Claim"].str.startswith("C1.")].iloc[0]
    both = [*verdicts, *(dataclasses.replace(v, preset="paper") for v in verdicts)]
    twice = claim_tables.judged_claims([v for v in both if v.claim in ("C1", "C3") and v.held[1]])
    assert [claim.partition(".")[0] for claim in twice["Claim"]] == ["C1", "C1", "C3", "C3"]
    assert twice["Claim"].str.contains(".", regex=False).tolist() == [True, False] * 2
    assert first["Hold"] == "1 of 2"
    assert first["Decided by"] == "ListOps short, ConvLuna-1 − Luna-1"
    decided = claim_tables.comparisons(verdicts)
    mark = decided["Comparison"] == first["Decided by"].removeprefix("ListOps short, ")
    assert first["Effect"] in set(decided.loc[mark, "Effect"])
    few_runs = tmp_path / "few"
    write_run(few_runs, "luna-1", "text-short")
    few = judged(few_runs)
    assert claim_tables.judged_claims(few)["Claim"][0] == style.MISSING
    write_runs(few_runs, "luna-16", [0.60, 0.61, 0.62], task="text-short", probes=COLLAPSED)
    third = judged(few_runs)
    (by,) = claim_tables.judged_claims(third)["Decided by"]
    assert by.startswith("Text short, Luna-16, packed cosine")


@pytest.mark.parametrize(
    ("numbers", "unit", "said"),
    [
        ((0.973, 0.926, 1.02), "cosine", "0.97 [0.93, 1.02] cosine"),
        ((-1.26, -2.0, -0.04), "points", "−1.3 [−2.0, 0.0] points"),
        ((12.34, math.nan, math.nan), "points", "12.3 points"),
        ((math.nan,) * 3, "points", "–"),
    ],
)
def test_an_effect_has_the_digits_of_its_unit(
    numbers: tuple[float, float, float], unit: str, said: str
) -> None:
    assert claim_tables.effect_cell(*numbers, unit) == said


def test_a_comparison_stands_under_the_right_headings(tmp_path: Path) -> None:
    """Deviations of a point and three seeds a side: 2.78 · √(2 / 3) points either way."""
    write_runs(tmp_path, "convluna-16", [0.50, 0.51, 0.52], probes=False, removal=False)
    write_runs(tmp_path, "luna-16", [0.40, 0.41, 0.42, None], probes=False, removal=False)
    verdicts = judged(tmp_path)
    first = [claims.verdict_on(verdicts, "C1", "quick")]
    effect = "10.0 [7.7, 12.3] points"
    assert claim_tables.comparisons(first).to_dict("records") == [
        {
            "Claim": "C1",
            "Scale": "laptop",
            "Task": "ListOps short",
            "Comparison": "ConvLuna-16 − Luna-16",
            "Measure": "test accuracy",
            "Effect": effect,
            "Target": "> 0",
            "Seeds": "3 and 3, 1 failed",
            "Result": "holds",
        }
    ]
    assert claim_tables.comparisons([])["Claim"][0] == style.MISSING
    (claim,) = claim_tables.claims(first).to_dict("records")
    assert claim == {
        "Claim": "C1",
        "Statement": claims.STATEMENTS["C1"],
        "Scale": "laptop",
        "Verdict": "supported",
        "Effect": effect,
        "Seeds": "3",
        "Reading": first[0].reading,
    }
    assert claim_tables.judged_claims(first).to_dict("records") == [
        {
            "Claim": f"C1. {claims.STATEMENTS['C1']}",
            "Scale": "laptop",
            "Verdict": "supported",
            "Hold": "1 of 1",
            "Decided by": "ListOps short, ConvLuna-16 − Luna-16",
            "Effect": effect,
            "Seeds": "3",
        }
    ]


def test_the_levels_that_take_no_memory_are_drawn(quick: pd.DataFrame, full: pd.DataFrame) -> None:
    on_test = ((quick, [13.5, 34.6]), (full, [16.95, 35.95]))
    on_validation = ((quick, [17.0, 33.2]), (full, [17.9, 36.8]))
    for function in (figures.accuracy, figures.learning_curves, figures.memory_size):
        curves = function is figures.learning_curves
        for frame, known in on_validation if curves else on_test:
            figure = drawn(function, frame, "")
            axis = next(axis for axis in figure.axes if axis.lines)
            lines = [line for line in axis.lines if line.get_color() == style.QUIET]
            across = function is figures.accuracy
            levels = [(line.get_xdata() if across else line.get_ydata())[0] for line in lines]
            assert levels == pytest.approx(known), function
            low, high = axis.get_xlim() if across else axis.get_ylim()
            assert all(low < level < high for level in levels)


def test_the_origin_of_every_run_is_listed(quick: pd.DataFrame) -> None:
    table = tables.runs(quick)
    assert len(table) == quick.groupby(["task", "model", "changes"]).ngroups
    luna = row(table, Model="Luna-16")
    steps = config.run_config("luna-16", "listops-short").training.steps
    assert luna.to_dict() == {
        "Model": "Luna-16",
        "Task": "ListOps short",
        "Changed settings": "–",
        "Seeds": "0, 1, 2",
        "Failed": "2: the loss became NaN at step 300",
        "Parameters": "25,000",
        "Steps": f"{steps:,}, {steps * 3 // 5:,}",
        "Seconds per run": "60",
        "Device": "made-up CPU",
        "Precision": "fp32",
        "Code": "0.1.0 at 0123456",
    }
    unknown = quick.assign(parameters=float("nan"), precision=None)
    assert set(tables.runs(unknown)["Parameters"]) == {"–"}
    assert set(tables.runs(unknown)["Precision"]) == {"–"}
    times = quick[quick["model"] == "luna-1"].assign(seconds=[10.0, 20.0, 60.0])
    assert list(tables.runs(times)["Seconds per run"]) == ["30"]
    assert row(table, Changed_settings="filter=none")["Seeds"] == "0"
    assert set(table["Device"]) == set(quick["device_name"])
    several = {"devices": ("card A", "card B"), "commits": ("a", "b")}
    moved = quick.assign(**{name: [values] * len(quick) for name, values in several.items()})
    assert set(tables.runs(moved)["Device"]) == {"card A, card B"}
    assert set(tables.runs(moved)["Code"]) == {"0.1.0 at a, b"}
    assert tables.runs(quick.iloc[:0])["Model"][0] == style.MISSING


def test_a_task_beside_the_benchmark_has_a_column_where_it_has_run(full: pd.DataFrame) -> None:
    """The substitute of Retrieval; the benchmark's own five tasks are always there."""
    own = [naming.task_label(task) for task in config.LRA_TASKS]
    assert list(tables.accuracy(full)) == ["Model", *own]
    both = tables.accuracy(pd.concat([full, full.assign(task="retrieval-acl")]))
    assert set(both) - {"Model"} == {*own, naming.task_label("retrieval-acl")}


def test_every_cell_is_text(quick: pd.DataFrame, verdicts: list[claims.Verdict]) -> None:
    for table in (
        tables.accuracy(quick, published.load()), filter_tables.ablation(quick, "quick"),
        settings_tables.settings("text"), settings_tables.model_settings(),
        settings_tables.deviations(), claim_tables.claims(verdicts),
        claim_tables.comparisons(verdicts), tables.runs(quick),
    ):  # fmt: skip
        assert table.map(lambda cell: isinstance(cell, str)).all().all()
        assert isinstance(table.index, pd.RangeIndex)


def test_degradation_table_compares_the_first_look_with_the_last() -> None:
    looks = pd.DataFrame(
        [
            (f"{model}-{seed}", "text", model, "", 4, step, block, 0.1 * step + 0.2 * block, 3.0)
            for model in ("luna-4", "convluna-4")
            for seed in range(2)
            for step in (1, 2, 3 + seed)
            for block in (1, 2)
        ],
        columns=["run_id", "task", "model", "changes", "memory", "step", "block",
                 "packed_cosine", "packed_rank"],
    )  # fmt: skip
    table = tables.degradation(looks)
    assert table["Model"].tolist() == ["Luna-4", "ConvLuna-4"]
    assert table.iloc[0].tolist() == [
        *("Text", "Luna-4", "2"),
        *("0.30 → 0.55", "0.50 → 0.75", "0.40 → 0.65"),
        *["3.00 → 3.00"] * 3,
    ]
    assert tables.degradation(looks.assign(memory=1)).iloc[0, 0] == style.MISSING
    ablated = looks.assign(changes="filter=none", packed_cosine=0.9, run_id=looks["run_id"] + "n")
    others = looks["model"].map({"luna-4": 0.5, "convluna-4": 0.25})
    other = looks.assign(task="image", packed_cosine=others, run_id=looks["run_id"] + "i")
    every = tables.degradation(pd.concat([looks, ablated, other]))
    assert every[["Task", "Model", "Seeds", "Cosine, all"]].to_numpy().tolist() == [
        ["Text", "Luna-4", "2", "0.40 → 0.65"],
        ["Text", "ConvLuna-4", "2", "0.40 → 0.65"],
        ["Image", "Luna-4", "2", "0.50 → 0.50"],
        ["Image", "ConvLuna-4", "2", "0.25 → 0.25"],
    ]
    assert list(every)[3:] == [
        f"{measure}, {place}"
        for measure in ("Cosine", "Effective rank")
        for place in ("block 1", "last block", "all")
    ]


def test_degradation_is_a_mean_over_blocks_and_over_seeds() -> None:
    frame = pd.DataFrame(
        [
            (f"{seed}", "text", "luna-4", "", 4, step, block, seed_more + block_more, 3.0)
            for seed, seed_more in enumerate((0.0, 0.0, 0.3))
            for block, block_more in ((1, 0.2), (2, 0.2), (3, 0.5))
            for step in (0, 9)
        ],
        columns=["run_id", "task", "model", "changes", "memory", "step", "block",
                 "packed_cosine", "packed_rank"],
    )  # fmt: skip
    (line,) = tables.degradation(frame).to_dict("records")
    assert line["Cosine, block 1"] == "0.30 → 0.30"
    assert line["Cosine, last block"] == "0.60 → 0.60"
    assert line["Cosine, all"] == "0.40 → 0.40"


def test_probe_cost_is_a_share_of_the_steps() -> None:
    parts = {"probes": 3.0, "training": 200.0, "whole": 210.0}
    measured = pd.DataFrame(
        [("run", "measured", "text", "luna-256", "a card", parts),
         ("run", "measured", "text", "transformer", "a card", parts | {"probes": 0.0}),
         ("step", "measured", "text", "luna-16", "a card", None)],
        columns=["suite", "outcome", "task", "model", "device_name", "run"],
    )  # fmt: skip
    table = tables.probe_cost(benchmarks.probe_shares(measured))
    assert table.to_numpy().tolist() == [["Text", "Luna-256", "a card", "3.0", "200", "1.5 %"]]
    assert list(table)[3:] == ["Looks (s)", "Steps (s)", "Looks / steps"]
    assert tables.probe_cost(benchmarks.probe_shares(measured[2:])).iloc[0, 0] == style.MISSING
