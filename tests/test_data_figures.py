"""Pictures and tables of the data: what is there is shown, and what is missing is said."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from pictures import words

from memnb import config, tasks
from memnb.draw import data_figures, data_tables
from memnb.errors import MemnbError
from memnb.tasks import catalogue, listops, pathfinder, pathfinder_original
from memnb.tasks.portraits import Passages, Pictures, Portrait, portraits, short_expression


@pytest.fixture(scope="module")
def drawn() -> pathfinder.Drawn:
    return pathfinder.generate(config.Pathfinder(), 40)


@pytest.fixture(scope="module")
def absent(tmp_path_factory: pytest.TempPathFactory) -> list[Portrait]:
    """Portraits on a machine without any data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMNB_DATA", str(tmp_path_factory.mktemp("empty")))
        return portraits(40)


def described(one: Portrait, **changes: object) -> Portrait:
    fields = {"status": one.status, "counts": one.counts, "basis": one.basis, "problem": "",
              "example": one.example}  # fmt: skip
    return Portrait(**{**fields, **changes})  # type: ignore[arg-type]


def named(found: list[Portrait], name: str) -> Portrait:
    return next(one for one in found if one.name == name)


def ink(axis: Axes, colour: str) -> list[np.ndarray]:
    """The lines of one colour: (points, 2) each."""
    return [line.get_xydata() for line in axis.lines if to_hex(line.get_color()) == colour.lower()]


def overlapping(figure: Figure) -> list[str]:
    """Pairs of texts that lie over each other."""
    figure.draw_without_rendering()  # a closed figure's canvas draws nothing
    boxes = [
        (text.get_text(), text.get_window_extent().shrunk(0.94, 0.7))
        for text in figure.findobj(plt.Text)
        if text.get_text().strip() and text.get_visible()
    ]
    return [
        f"{one!r} and {other!r}"
        for (one, here), (other, there) in itertools.combinations(boxes, 2)
        if here.overlaps(there)
    ]


# --- the tasks of both scales ---


def test_the_table_of_tasks_follows_from_the_configs():
    table = data_tables.tasks()
    assert [task.endswith(" short") for task in table["Task"]] == [False] * 6 + [True] * 4
    rows = {row["Task"]: row for row in table.to_dict("records")}
    short = rows["Pathfinder short"]
    assert "10 × 10 pixels: two contours of 2 dashes, no distractors" in short["An input"]
    assert (short["Tokens"], short["Labels"], short["Blocks × width"]) == ("100", "2", "2 × 32")
    assert short["Train / validation / test"] == "20,000 / 500 / 1,000"
    assert (short["Steps"], short["Epochs"]) == ("600", "1.0")
    listops = rows["ListOps short"]
    assert listops["Tokens"] == "151 to 299"
    assert (listops["One answer always (%)"], listops["First operator alone (%)"]) == (
        "13.5",
        "34.6",
    )
    assert rows["Text"]["Train / validation / test"] == "25,000 / the test set / 25,000"
    assert rows["Text short"]["Train / validation / test"] == "24,000 / 1,000 / 1,000"


def test_lengths_of_short_listops_are_those_of_the_table():
    data = tasks.load(config.task_config("listops-short"))
    lengths = np.concatenate([data.train.lengths, data.validation.lengths, data.test.lengths])
    assert (lengths.min(), lengths.max()) == (151, 299)
    for split, count in zip(
        (data.train, data.validation, data.test),
        catalogue.sizes(config.TASKS["listops-short"]),
        strict=True,
    ):
        assert len(split) == count


def test_the_docs_say_what_a_laptop_task_is():
    page = Path(__file__).parents[1] / "docs" / "reading.md"
    text = " ".join(page.read_text("utf-8").split())
    short = {name: config.TASKS[f"{name}-short"] for name in ("listops", "text", "pathfinder")}
    listops, reviews, drawing = short.values()
    steps = config.run_config("luna-1", "image-short").training.steps
    model = config.model_config("luna-1", "listops-short")
    assert isinstance(listops, config.ListOps)
    assert isinstance(drawing, config.Pathfinder)
    assert drawing.distractors == 0
    assert (
        f"ListOps of {listops.min_length} to {listops.max_length} tokens; "
        f"the first {reviews.max_length} bytes of a review; "
        f"CIFAR-10 in grey with {steps} training steps; "
        f"Pathfinder of {drawing.side} × {drawing.side} pixels, two contours of "
        f"{drawing.contour_length} dashes, no distractors. "
        f"Models there have {model.blocks} blocks of width {model.width}"
    ) in text


def test_short_tasks_are_shown_with_both_answers():
    drawn = pathfinder.generate(config.task_config("pathfinder-short"), 20)
    figure = data_figures.short_tasks(short_expression(), drawn, each=2)
    said = words(figure)
    assert said.count("one contour") == said.count("two contours") == 2
    assert "10 × 10 pixels" in said
    images = [image for axis in figure.findobj(Axes) for image in axis.images]
    assert [image.get_array().shape for image in images] == [(10, 10)] * 4
    assert not overlapping(figure)
    with pytest.raises(MemnbError, match="fewer"):
        data_figures.short_tasks(short_expression(), drawn, each=20)


# --- the data sets ---------------------------------------------------------------------------


def test_missing_data_are_said_with_the_way_to_get_them(absent: list[Portrait]):
    text = " ".join(words(data_figures.datasets(absent)).split())
    for one in absent:
        assert one.status.card.title in text
        assert one.status.card.contents in text
    assert text.count("No example: the data are not on this machine.") == 4
    assert "memnb data get image" in text
    assert text.count("lengths not counted") == 1


def test_the_figure_shows_what_was_counted(absent: list[Portrait]):
    figure = data_figures.datasets([named(absent, "text")])
    _, lengths, labels = figure.axes
    counts = named(absent, "text").counts
    assert counts is not None
    shown = [bar.get_height() for bar in lengths.patches]
    share = 100 * counts.bins[:, 2] / counts.bins[:, 2].sum()
    assert shown == pytest.approx(share[: len(shown)])
    assert 99 <= sum(shown) < 100
    assert [bar.get_width() for bar in labels.patches] == [50, 50]
    text = words(figure)
    assert "longest 13,704" in text  # beyond what the bars show
    assert "3.0 % are longer" in text
    cut = [line.get_xdata()[0] for line in lengths.lines]
    assert cut == [4000]


def test_bars_beyond_the_cut_are_pale(absent: list[Portrait]):
    _, lengths, _ = data_figures.datasets([named(absent, "text")]).axes
    colours = {bar.get_x() < 4000: to_hex(bar.get_facecolor()) for bar in lengths.patches}
    assert colours[True] != colours[False]


def test_one_length_is_a_sentence(absent: list[Portrait]):
    _, lengths, _ = data_figures.datasets([named(absent, "image")]).axes
    assert "every image has 32 × 32 = 1,024 pixels" in " ".join(lengths.texts[0].get_text().split())
    assert not lengths.patches


def test_of_a_single_example_only_what_it_shows_is_said():
    found = portraits(1, ["listops", "pathfinder"])
    _, lengths, labels, *_ = data_figures.datasets(found).axes
    length = named(found, "listops").counts.longest
    assert lengths.texts[0].get_text() == f"all of {length:,} tokens"
    assert [label.get_text() for label in labels.get_yticklabels()] == list("0123456789")
    table = data_tables.datasets(found).set_index("Data set")
    assert table.loc["ListOps", "Length"] == f"{length:,} tokens, all of them"
    assert table.loc["Pathfinder", "Labels"] in (
        "two contours 100.0 %, one contour 0.0 %",
        "two contours 0.0 %, one contour 100.0 %",
    )


def test_a_tree_is_drawn_with_its_deeper_parts_folded(absent: list[Portrait]):
    portrait = named(absent, "listops")
    axis = data_figures.datasets([portrait]).axes[0]
    tree = portrait.example.tree  # type: ignore[union-attr]
    said = [text.get_text() for text in axis.texts]
    assert f"{tree.token.removeprefix('[')}={tree.value}" in said
    assert any(text.startswith("→ ") and f"({tree.length} tokens)" in text for text in said)
    assert any(text.startswith(" ".join(portrait.example.tokens[:5])) for text in said)  # type: ignore[union-attr]


@pytest.mark.parametrize("inner", ["7", "[MAX 4 [MIN 2 7 ] 0 ]"])
def test_every_node_of_a_small_tree_is_drawn(absent: list[Portrait], inner: str):
    tokens = f"[SM {inner} 5 ]".split()
    portrait = named(absent, "listops")
    example = type(portrait.example)(tuple(tokens), listops.tree(tokens))  # type: ignore[misc]
    axis = data_figures.datasets([described(portrait, example=example)]).axes[0]
    said = [text.get_text() for text in axis.texts]
    assert said.count("5") == 1
    assert ("MIN=2" in said) == ("[MIN" in inner)


def test_texts_with_dollars_and_pairs_are_printed_as_they_are(absent: list[Portrait]):
    example = Passages(("costs $5 or $6_7^8 here", "other $\\frac{"), "citation")
    portrait = described(named(absent, "retrieval-acl"), example=example)
    figure = data_figures.datasets([portrait])
    figure.draw_without_rendering()
    text = words(figure)
    assert "costs $5 or $6_7^8 here" in " ".join(text.split())
    assert "→ citation" in text


def test_pictures_are_shown_with_their_labels(absent: list[Portrait], drawn: pathfinder.Drawn):
    images = drawn.images[:2].reshape(-1, 32, 32)
    portrait = described(named(absent, "image"), example=Pictures(images, ("cat", "ship")))
    figure = data_figures.datasets([portrait])
    shown = [image.get_array() for image in figure.findobj(plt.matplotlib.image.AxesImage)]
    assert all(np.array_equal(one, other) for one, other in zip(shown, images, strict=True))
    assert {"cat", "ship"} <= set(words(figure).splitlines())


def test_no_two_texts_lie_over_each_other(absent: list[Portrait]):
    image = np.zeros((4, 32, 32), np.uint8)
    long = "Some words that a review might hold, one after the other. " * 20
    full = [
        described(one, example=one.example or (
            Pictures(image, ("automobile",) * 4) if one.name == "image"
            else Passages((long,) if one.name == "text" else (long, long), "no citation")
        ))
        for one in absent
    ]  # fmt: skip
    for portrayed in (absent, full):
        assert overlapping(data_figures.datasets(portrayed)) == []


def test_passages_stay_within_their_panel_and_column(absent: list[Portrait]):
    widest = "m" * 300 + " " + "W " * 300
    texts = {"text": (widest,), "retrieval-acl": (widest, widest)}
    portrayed = [
        described(one, example=Passages(texts[one.name], "word")) if one.name in texts else one
        for one in absent
    ]
    figure = data_figures.datasets(portrayed)
    figure.canvas.draw()
    checked = 0
    for axis in figure.axes[::3]:
        shown = [text for text in axis.texts if text.get_text().endswith(" …")]
        for number, text in enumerate(shown):
            box, panel = text.get_window_extent(), axis.get_window_extent()
            if text.get_text().startswith("m"):
                checked += 1
                assert box.x1 < panel.x0 + panel.width * (number + 1) / len(shown)
    assert checked == 3


# --- Pathfinder ------------------------------------------------------------------------------


def test_the_gallery_shows_the_first_images_and_their_solutions(drawn: pathfinder.Drawn):
    figure = data_figures.pathfinder_gallery(drawn, 3)
    axes = np.array(figure.axes).reshape(3, 4)
    for label, columns in ((1, axes[:, :2]), (0, axes[:, 2:])):
        rows = np.flatnonzero(drawn.labels == label)[:3]
        for (plain, solved), row in zip(columns, rows, strict=True):
            assert np.array_equal(plain.images[0].get_array().ravel(), drawn.images[row])
            start, end = drawn.marked[row]
            (first,) = ink(solved, data_figures.FIRST)
            (second,) = ink(solved, data_figures.SECOND)
            assert np.array_equal(first, drawn.contours[row, start][:, ::-1])
            assert np.array_equal(second, drawn.contours[row, 1 - start][:, ::-1])
            rings = [patch for patch in solved.patches if isinstance(patch, Circle)]
            assert [ring.center for ring in rings] == [
                tuple(drawn.contours[row, start, 0, ::-1]),
                tuple(drawn.contours[row, end, -1, ::-1]),
            ]
            # One colour joins the two rings exactly if the label is 1.
            assert len({ring.get_edgecolor() for ring in rings}) == 2 - label
            assert plain.get_title(loc="left") == ("one contour" if label else "two contours")
            assert solved.get_title(loc="right") == f"label {label}"
    assert overlapping(figure) == []


def test_a_gallery_larger_than_what_was_drawn_is_refused(drawn: pathfinder.Drawn):
    with pytest.raises(MemnbError, match=r"shows 1,000 images .* draw more or show fewer"):
        data_figures.pathfinder_gallery(drawn, 1000)


def test_images_keep_their_size_where_a_ring_leaves_them(drawn: pathfinder.Drawn):
    figure = data_figures.pathfinder_gallery(drawn, 2)
    figure.draw_without_rendering()
    limits = {axis.axis() for axis in figure.axes}
    assert limits == {(-0.5, 31.5, 31.5, -0.5)}
    widths = [axis.get_window_extent().width for axis in figure.axes]
    assert max(widths) - min(widths) < 1


# --- tables ----------------------------------------------------------------------------------


def test_the_cards_stand_in_a_table(absent: list[Portrait], tmp_path: Path):
    table = data_tables.datasets(absent).set_index("Data set")
    assert list(table.index) == [card.title for card in catalogue.CARDS.values()]
    assert table.map(lambda cell: isinstance(cell, str) and cell != "").all().all()
    assert str(tmp_path) not in table.to_string()
    assert table.loc["Text", "Length"] == (
        "32 to 13,704 bytes, median 971; 3.0 % are cut at 4,000"
    )  # fmt: skip
    assert table.loc["Image", "Length"] == "1,024 pixels, all of them"
    assert table.loc["Image", "Labels"] == "10 labels, each 10.0 %"
    assert table.loc["Retrieval", "Length"] == "not counted; cut at 4,000 bytes"
    assert table.loc["Text", "On this machine"].startswith("no: `memnb data get text`")
    assert table.loc["ListOps", "On this machine"].startswith("no: it is generated")
    assert table.loc["ListOps", "Counted"] == "the first 40 training examples"
    here = catalogue.Status(catalogue.CARDS["text"], True, tmp_path, 66_000_000)
    there = data_tables.datasets([described(named(absent, "text"), status=here)])
    assert there["On this machine"][0] == "yes, 66 MB"
    assert list(there)[1] == "On this machine"  # a page is too narrow for all columns at once


def test_statistics_of_the_two_programs_stand_side_by_side(drawn: pathfinder.Drawn):
    measured = pathfinder_original.statistics(drawn)
    table = data_tables.pathfinder_statistics(measured, 40)
    assert list(table.columns[1:3]) == ["Original program (2,000 images)", "memnb (40 images)"]
    assert list(table.iloc[:, 1]) == ["0.0794", "0.0079", "34.2 %", "8.5 %", "51 %"]
    assert list(table["Tolerance"]) == ["± 0.0006", "± 0.0004", "± 0.4 %", "± 0.15 %", "± 3 %"]
    assert list(table["Agrees"]) == ["yes" if one.agrees else "no" for one in measured]
