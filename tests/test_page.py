"""What notebooks rely on: the right rows, and files that are whole, stable and readable."""

from __future__ import annotations

import csv
import stat
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from made_up_runs import amend, write_run
from matplotlib.figure import Figure
from PIL import Image

from memnb import config, paths
from memnb.draw import style
from memnb.errors import MemnbError, RunError
from memnb.reproduce import rendering
from memnb.reproduce.frames import as_csv, as_markdown
from memnb.reproduce.notebooks import unfit
from memnb.reproduce.page import Page, flag, memory_of, say, task_or_none, whole


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Committed rows of both scales, and an output folder with rows of both."""
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    stored = paths.stored_results()
    write_run(stored, "luna-1", "text", accuracy=0.6)
    write_run(stored, "luna-1", "listops", accuracy=0.2)
    write_run(stored, "luna-1", accuracy=0.30)
    here = tmp_path / "out" / "runs"
    write_run(here, "luna-1", "text", accuracy=0.7)  # the committed run, trained again
    write_run(here, "luna-1", "listops", outcome="running")
    write_run(here, "luna-16", "text", outcome="failed", reason="The loss is not a number.")
    write_run(here, "convluna-1", accuracy=0.40)
    write_run(here, "luna-4", training_changes={"steps": 3})
    return tmp_path / "out"


def shown(page: Page) -> list[tuple[str, set[tuple[str, str, float | None]]]]:
    return [
        (
            layer.title,
            {
                (task, model, None if pd.isna(accuracy) else accuracy)
                for task, model, accuracy in zip(
                    layer.runs["task"],
                    layer.runs["model"],
                    layer.runs["test_accuracy"],
                    strict=True,
                )
            },
        )
        for layer in page.layers()
    ]


COMMITTED_FULL = {("text", "luna-1", 0.6), ("listops", "luna-1", 0.2)}


def test_stored_shows_committed_rows(out: Path) -> None:
    assert shown(Page("accuracy", "stored", str(out))) == [
        ("Full scale (committed)", COMMITTED_FULL),
        ("Laptop scale (committed)", {("listops-short", "luna-1", 0.30)}),
    ]


def test_quick_shows_small_runs_of_this_machine_beside_the_committed_full_scale(out: Path) -> None:
    assert shown(Page("accuracy", "quick", str(out))) == [
        ("Full scale (committed)", COMMITTED_FULL),
        ("Laptop scale (this machine and committed)", {("listops-short", "convluna-1", 0.40)}),
    ]


def test_a_small_run_that_was_cut_off_here_is_not_shown_by_the_committed_one(out: Path) -> None:
    before = shown(Page("accuracy", "quick", str(out)))
    write_run(out / "runs", "luna-1", outcome="interrupted")
    assert shown(Page("accuracy", "quick", str(out))) == before


def test_a_small_run_that_had_too_little_memory_here_is_not_shown_by_the_committed_one(
    out: Path,
) -> None:
    write_run(out / "runs", "luna-1", outcome="failed", reason="out of memory; use another device")
    small = shown(Page("accuracy", "quick", str(out)))[1]
    assert ("listops-short", "luna-1", None) in small[1]
    assert ("listops-short", "luna-1", 0.30) not in small[1]


def test_paper_prefers_this_machine_and_shows_failures_but_nothing_unfinished(out: Path) -> None:
    full, quick = shown(Page("accuracy", "paper", str(out)))
    assert full == (
        "Full scale (this machine and committed)",
        {("text", "luna-1", 0.7), ("listops", "luna-1", 0.2), ("text", "luna-16", None)},
    )
    assert quick[0] == "Laptop scale (committed)"


def test_want_of_memory_here_hides_no_committed_row(out: Path) -> None:
    (running,) = (out / "runs").glob("listops-luna-1-*")
    amend(running, outcome="failed", reason="out of memory; use a device with more memory")
    full = shown(Page("accuracy", "paper", str(out)))[0]
    assert ("listops", "luna-1", 0.2) in full[1]
    assert ("listops", "luna-1", None) not in full[1]


def test_no_rows_are_an_empty_frame_with_all_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "nothing")
    for preset in ("stored", "quick", "paper"):
        for layer in Page("accuracy", preset, str(tmp_path)).layers():
            assert layer.runs.empty
            assert {"run_id", "task", "model", "test_accuracy"} <= set(layer.runs.columns)


def test_a_damaged_row_is_named_in_its_layer(out: Path) -> None:
    record = next((out / "runs").glob("*convluna*/run.json"))
    record.write_text("{")
    quick = Page("accuracy", "quick", str(out)).layers()[1]
    assert quick.runs.empty
    assert len(quick.problems) == 1
    assert str(record) in quick.problems[0]


def test_the_default_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMNB_OUT", str(tmp_path / "elsewhere"))
    assert Page("accuracy").runs_folder == tmp_path / "elsewhere" / "runs"


# --- saving ----------------------------------------------------------------------------------


def picture() -> Figure:
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    return figure


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page("accuracy", "stored", str(tmp_path / "out put"))


def test_a_figure_becomes_png_and_svg_with_its_caption_as_description(page: Page) -> None:
    caption = "Accuracy ± spread <of> each “model”."
    figure = picture()
    assert page.save(figure, "accuracy", caption=caption).thing is figure
    folder = page.out / "pages" / "figures"
    assert unfit(folder / "accuracy.png") is None
    assert unfit(folder / "accuracy.svg") is None
    with Image.open(folder / "accuracy.png") as image:
        assert image.info["Description"] == caption
    texts = [node.text for node in ElementTree.parse(folder / "accuracy.svg").iter()]
    assert caption in texts
    assert not plt.fignum_exists(figure.number)  # type: ignore[attr-defined]
    assert sorted(path.name for path in folder.iterdir()) == ["accuracy.png", "accuracy.svg"]


def test_a_saved_thing_shows_itself_once_with_its_caption(page: Page) -> None:
    data, metadata = page.save(picture(), "a", caption="Three points.")._repr_mimebundle_()
    assert data["image/png"] == (page.out / "pages" / "figures" / "a.png").read_bytes()
    assert metadata["image/png"]["alt"] == "Three points."
    assert 300 < metadata["image/png"]["width"] < 700
    assert metadata["memnb"] == {"kind": "figure", "name": "a", "caption": "Three points."}
    frame = pd.DataFrame({"Model": ["<luna>"]})
    data, metadata = page.save(frame, "b", caption="One.")._repr_mimebundle_()
    assert '<td style="text-align: left">&lt;luna&gt;' in data["text/html"]
    assert metadata["memnb"]["kind"] == "table"


def test_sentences_are_prose_that_the_report_takes_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, raw, metadata: shown.append((data, metadata))
    )
    say("M < 2\nsecond")
    ((data, metadata),) = shown
    assert data["text/html"] == "M &lt; 2<br>second"
    output = nbformat.v4.new_output("display_data", data, metadata=metadata)
    assert rendering.shown(output, tmp_path) == rendering.Words("M < 2\nsecond")


def test_the_rows_behind_a_figure_stand_beside_it(page: Page) -> None:
    figure = style.attach(picture(), pd.DataFrame({"step": [1, 2], "accuracy": [0.1, 1 / 3]}))
    page.save(figure, "a")
    path = page.out / "pages" / "figures" / "a.csv"
    assert path.read_text() == "step,accuracy\n1,0.1\n2,0.333333\n"
    page.save(picture(), "a")  # drawn from nothing: the old rows would be wrong
    assert not path.exists()


def test_the_same_rows_give_the_same_bytes(page: Page) -> None:
    folder = page.out / "pages" / "figures"
    page.save(picture(), "a")
    first = [(folder / f"a.{suffix}").read_bytes() for suffix in ("png", "svg")]
    page.save(picture(), "a")
    assert [(folder / f"a.{suffix}").read_bytes() for suffix in ("png", "svg")] == first


def wide_picture() -> Figure:
    """A figure with words beyond its own edges."""
    figure, axes = style.canvas(1, 1, 2.0)
    style.heading(figure, "A title")
    axes[0, 0].set_yticks([0, 1], ["a label that takes much of the width", "b"])
    figure.text(0.95, 0.5, "words that reach beyond the right edge")
    style.settle(figure)
    return figure


def test_a_figure_is_cut_where_matplotlib_would_cut_it_tightly(page: Page) -> None:
    page.save(wide_picture(), "wide")
    written = paths.pages(page.out) / "figures"
    # This draws the figure for its box; saving a page measures it.
    for suffix in ("png", "svg"):
        wide_picture().savefig(page.out / f"tight.{suffix}", dpi=150, bbox_inches="tight")
    with Image.open(written / "wide.png") as one, Image.open(page.out / "tight.png") as other:
        assert one.size == other.size
    # Letters of an SVG are not rounded to pixels; a hundredth of the width is within the rim.
    assert size_of(written / "wide.svg") == pytest.approx(size_of(page.out / "tight.svg"), rel=0.01)


def size_of(path: Path) -> list[float]:
    """Width and height of an SVG in points."""
    return [float(part) for part in ElementTree.parse(path).getroot().attrib["viewBox"].split()[2:]]


def test_a_table_becomes_csv_and_markdown_as_printed(page: Page) -> None:
    frame = pd.DataFrame(
        {"Accuracy (%)": ["36.10", None], "Note": ["a|b", 'say "x",\ny']},
        index=pd.Index(["luna", "convluna"], name="Model"),
    )
    assert page.save(frame, "table", caption="All of it.").thing is frame
    folder = page.out / "pages" / "tables"
    with (folder / "table.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["Model", "Accuracy (%)", "Note"],
            ["luna", "36.10", "a|b"],
            ["convluna", "", 'say "x",\ny'],
        ]
    assert (folder / "table.md").read_text().splitlines() == [
        "| Model | Accuracy (%) | Note |",
        "| --- | --- | --- |",
        "| luna | 36.10 | a\\|b |",
        '| convluna |  | say "x", y |',
        "",
        "Table: All of it.",
    ]


def test_columns_under_several_headings_are_joined() -> None:
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("Text", "n"), ("x", "")]))
    assert as_csv(frame) == "Text n,x\n1,2\n"
    assert as_markdown(frame).splitlines()[0] == "| Text n | x |"


@pytest.mark.parametrize("name", ["", "../a", "a/b", "A", "a.png", "a b", "-a", "ä", "a" * 61])
def test_a_name_that_cannot_name_a_file_is_refused(page: Page, name: str) -> None:
    with pytest.raises(MemnbError, match="lower-case letters, digits"):
        page.save(pd.DataFrame({"a": [1]}), name)
    assert not page.out.exists()


def test_other_things_are_refused(page: Page) -> None:
    thing: Any = "a string"
    with pytest.raises(MemnbError, match="'name' is a str"):
        page.save(thing, "name")


def test_unknown_preset_and_artefact() -> None:
    with pytest.raises(MemnbError, match="preset named 'quik'; did you mean 'quick'"):
        Page("accuracy", "quik")
    with pytest.raises(MemnbError, match=r"artefact name '\.\./x'"):
        Page("../x")


def test_a_failed_write_is_one_sentence_and_leaves_the_old_file(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pd.DataFrame({"a": [1]})
    page.save(frame, "table")
    folder = page.out / "pages" / "tables"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RunError, match=r"Cannot write .*table.csv: no space left.*--out"):
        page.save(pd.DataFrame({"a": [2]}), "table")
    assert (folder / "table.csv").read_text() == "a\n1\n"
    assert sorted(path.name for path in folder.iterdir()) == ["table.csv", "table.md"]


def test_files_can_be_read_by_others(page: Page) -> None:
    page.save(pd.DataFrame({"a": [1]}), "table")
    file = page.out / "pages" / "tables" / "table.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_each_study_shows_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What quick trains comes from this machine, and only the rest from the committed rows."""
    assets = tmp_path / "assets"
    monkeypatch.setattr(paths, "assets", lambda: assets)
    here, stored = tmp_path / "out" / "runs", paths.stored_results()
    write_run(here, "luna-4")
    write_run(stored, "luna-16")
    write_run(stored, "memoryless")
    write_run(stored, "poolluna-16", task="pathfinder-short")
    write_run(stored, "luna-1", task="text-short")
    write_run(stored, "convchunkmem-16")
    write_run(stored, "chunkmem-4", task="recall-8")
    write_run(stored, "rmt-16", task="recall-longer", model_changes={"positions": "none"})
    config.add_family(config.DEMONSTRATION)
    write_run(stored, f"{config.DEMONSTRATION}-16")
    write_run(here, f"{config.DEMONSTRATION}-4")
    page = Page("chunk-memory", "quick", str(tmp_path / "out"))
    found = {
        study: set(page.layers(study)[1].runs["model"])
        for study in ("shared", "chunks", "recall", "longer")
    }
    assert found == {
        "shared": {"luna-4", "poolluna-16", "luna-1"},
        "chunks": {"luna-4", "poolluna-16", "luna-1", "memoryless", "convchunkmem-16"},
        "recall": {"chunkmem-4"},
        "longer": {"rmt-16"},
    }


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: whole("sample", -1, least=1),
            "'sample' must be .* from 1, but got -1",
        ),
        (
            lambda: whole("sample", 10**9, least=1, most=100_000),
            "'sample' must be a whole number from 1 to 100,000, but got 1000000000",
        ),
        (lambda: whole("steps", "many"), "'steps' must be a whole number from 0, but got 'many'"),
        (lambda: whole("seed", True), "but got True"),
        (lambda: task_or_none("Text"), "no task named 'Text'; did you mean 'text'"),
        (lambda: memory_of("transformer"), "transformer has none; choose .* convluna-16"),
        (lambda: memory_of("banana-7"), "banana"),
        (lambda: memory_of(["luna-16"]), r"\['luna-16'\].*did you mean 'luna-16'"),
        (lambda: task_or_none(["text"]), r"\['text'\].*did you mean 'text'"),
        # What papermill makes of `-p train false`, which Python takes for true.
        (lambda: flag("train", "false"), "'train' must be True or False, but got 'false'"),
        (lambda: flag("live", 0), "'live' must be True or False, but got 0"),
        (lambda: Page("data", "stored", 3), "'out' must be the path of a folder.* but got 3"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(MemnbError, match=message):
        call()


def test_a_long_address_in_a_table_may_be_broken_in_the_page_alone(out: Path) -> None:
    address = "https://a.long.address.example/with/several_parts/data_set.gz"
    frame = pd.DataFrame({"Source": [address, "short/name"]})
    saved = Page("data", "stored", str(out)).save(frame, "a")
    shown = saved._repr_mimebundle_()[0]["text/html"]
    assert "example/<wbr>with/<wbr>several_<wbr>parts/<wbr>data_<wbr>set.gz" in shown
    assert "short/name" in shown
    assert address in (paths.pages(str(out)) / "tables" / "a.csv").read_text()


def test_parameters_that_mean_something_pass() -> None:
    whole("seed", 0)
    flag("train", False)
    assert task_or_none("") is None
    assert task_or_none("text") == "text"
    assert memory_of("convluna-4") == 4


def test_in_a_notebook_a_mistake_is_one_sentence() -> None:
    shell = InteractiveShell.instance()
    shown: list[str] = []
    shell._showtraceback = lambda kind, value, lines: shown.extend(lines)
    shell.run_cell("from memnb.reproduce.page import whole; whole('steps', 0, least=1)")
    assert shown == [
        "memnb: The parameter 'steps' must be a whole number from 1, but got 0; change it in the "
        "cell of parameters."
    ]
