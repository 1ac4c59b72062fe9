"""The report shows what there is, says what failed, and trusts no text from a file."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from made_up_runs import amend, write_run, write_runs
from tiny_report import HOSTILE, artefact, draw, entry, step

from memnb import paths
from memnb.config import Run, run_config
from memnb.evidence.rows import load_runs
from memnb.reproduce import manifest, plan, rendering, report
from memnb.reproduce.report import Entry, Training, write_report
from memnb.reproduce.workers import Ended

NOTEBOOKS = paths.notebooks()
"""The real ones, also where a test has other assets."""


class Elements(HTMLParser):
    """Every start tag with its attributes, and every tag that was left open."""

    VOID = ("meta", "img", "br", "hr", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.mistakes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(tag)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copied = tmp_path / "assets" / "data" / "reference"
    copied.mkdir(parents=True)
    shutil.copy(paths.reference() / "published.csv", copied)
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    return tmp_path / "out"


def write(out: Path, *entries: Entry, training: Training | None = None) -> str:
    training = training or Training((), out / "runs", {}, 0.0)
    path = write_report(list(entries), training, "quick", out, 75.0)
    assert path == out / "report" / "index.html"
    return path.read_text(encoding="utf-8")


def test_an_artefact_with_its_outputs_in_order_each_described(out: Path) -> None:
    html = write(out, entry(out, draw(out), step()))
    elements = Elements(html)
    assert elements.mistakes == []
    assert elements.open == []
    assert html.index("1.10") < html.index("data:image/png;base64,") < html.index("last one")
    (image,) = elements.all("img")
    assert image["alt"] == HOSTILE
    assert "<script" not in html
    links = {link["href"]: link for link in elements.all("a")}
    assert "figures/second.svg" in links
    assert "notebooks/tiny.ipynb" in links


def test_code_is_folded_away_unless_it_is_what_is_to_be_read(out: Path) -> None:
    html = write(out, entry(out, draw(out), step()))
    unfolded = re.findall(r'<details class="code" open>.*?<pre>(.*?)</pre>', html, re.DOTALL)
    assert unfolded == ["worth_reading = 1"]
    assert "print(1)" in html
    assert "quiet = 1" not in html


def test_every_figure_and_table_hands_out_its_data(out: Path) -> None:
    elements = Elements(write(out, entry(out, draw(out), step())))
    data = {a["download"]: a["href"] or "" for a in elements.all("a") if "download" in a}
    named = {name: href for name, href in data.items() if name and not name.startswith("claim-")}
    assert set(named) == {"first.csv", "second.csv", "third.csv"}
    content = {name: base64.b64decode(href.partition(",")[2]) for name, href in named.items()}
    assert content["second.csv"] == b"step\n1\n2\n"
    assert b"last one" in content["third.csv"]


def test_a_table_of_more_than_forty_rows_is_folded_away(out: Path) -> None:
    served = draw(out)
    for count, folded in ((40, False), (41, True)):
        lines = ["Model", *(f"row {number}" for number in range(1, count + 1))]
        (out / "report" / "tables" / "third.csv").write_text("\n".join(lines) + "\n")
        html = write(out, entry(out, served, step()))
        assert (f"<summary>Table of {count} rows</summary>" in html) == folded
        assert f">row {count}<" in html


def test_data_too_large_for_the_page_are_linked(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_EMBEDDED", 3)
    elements = Elements(write(out, entry(out, draw(out), step())))
    assert "figures/second.csv" in [link["href"] for link in elements.all("a")]


def test_prose_printed_words_and_code_of_the_notebook_are_shown_and_escaped(out: Path) -> None:
    prose = (
        "# Tiny\n\nAs *said* in [other](other.ipynb) and [x](javascript:alert(1)): $L^2$, "
        f"$\\notacommand{{x$. {HOSTILE}\n\n## Below\n\n![img](http://elsewhere/x.png)"
    )
    other = Entry(artefact("other", notebook="other.ipynb"), None, False, out / "none")
    html = write(out, entry(out, draw(out, prose), step()), other)
    elements = Elements(html)
    assert elements.mistakes == elements.open == []
    assert "<em>said</em>" in html
    assert '<a href="#other">other</a>' in html
    assert "javascript:" not in html
    assert "http://elsewhere" not in html
    assert "<msup><mi>L</mi><mn>2</mn></msup>" in html
    assert '<h3 id="tiny-below">Below</h3>' in html
    assert "<h2>Tiny" not in html
    assert "<script" not in html
    assert '<pre class="printed">said &lt;script&gt;' in html
    assert "%pip" not in html
    assert "quiet = 1" not in html


def test_what_an_earlier_page_said_is_not_said_again_but_headings_are(out: Path) -> None:
    first = draw(out)
    second = artefact("second", notebook="second.ipynb")
    folder = out / "report" / "notebooks"
    new = nbformat.v4
    for name in ("tiny", "second"):
        words = ["# Title\n\nThe same words.", "## The same heading"]
        nbformat.write(
            new.new_notebook(cells=[new.new_markdown_cell(one) for one in words]),
            folder / f"{name}.ipynb",
        )
    html = write(out, entry(out, first, step()), entry(out, second, step()))
    assert html.count("The same words.") == 1
    assert html.count(">The same heading</h3>") == 2


def test_every_id_of_the_page_is_its_own(out: Path) -> None:
    prose = (
        "# Tiny\n\n## Again\n\nOnce.\n\n## Again\n\n## $L^2$ & *more*\n\n"
        "## Other\n\n## “\n\n## Again 2"
    )
    one, other = draw(out, prose), artefact("tiny-other", notebook="other.ipynb")
    real = manifest.load(NOTEBOOKS / "manifest.toml").artefacts
    every = [Entry(one, None, False, out / "none") for one in real]
    html = write(out, entry(out, one, step()), Entry(other, None, False, out / "none"), *every)
    ids = [attributes["id"] for _, attributes in Elements(html).found if "id" in attributes]
    assert sorted(ids) == sorted(set(ids))
    assert {"tiny-again", "tiny-again-2", "tiny-again-2-2", "tiny-other-2", "claims"} <= set(ids)
    assert html.index('id="overview"') < html.index('id="C1"') < html.index('id="claims"')


def test_whether_the_rows_become_alike_is_one_link_away(out: Path) -> None:
    page, heading = report.BECOMING
    real = manifest.load(NOTEBOOKS / "manifest.toml").artefacts
    notebook = next(one.notebook for one in real if one.id == page)
    content = nbformat.read(NOTEBOOKS / notebook, as_version=4)
    assert any(f"## {heading}" in cell.source.splitlines() for cell in content.cells)

    served = draw(out, f"# Tiny\n\nBefore.\n\n## {heading}\n\nWords.").but(id=page)
    for shown, target in (
        ([entry(out, served, step())], f'<h3 id="{rendering.heading_id(page, heading)}">'),
        ([entry(out, served, None)], f'<div class="inside" id="{page}">'),
    ):
        html = write(out, *shown)
        link = re.search(r'<a href="#([^"]*)">whether they do</a>', html)
        assert link
        assert f'id="{link[1]}"' in target
        assert target in html
    assert ">whether they do</a>" not in write(out)


def test_an_executed_notebook_that_is_gone_or_damaged_is_said(out: Path) -> None:
    one = draw(out)
    path = out / "report" / "notebooks" / "tiny.ipynb"
    without_outputs = re.sub(r'"outputs"', '"output"', path.read_text())
    for text in ("{", "[]", '{"cells": [1]}', without_outputs, None):
        path.unlink() if text is None else path.write_text(text)
        html = write(out, entry(out, one, step()))
        assert "cannot be read" in html
        assert "1 step failed" in html


def test_a_table_whose_file_is_gone_or_whose_name_leads_elsewhere_is_said(out: Path) -> None:
    one = draw(out)
    (out / "report" / "tables" / "third.csv").unlink()
    (out / "first.csv").write_text("of,another\nfolder,secret\n")
    path = out / "report" / "notebooks" / "tiny.ipynb"
    path.write_text(path.read_text().replace('"name": "first"', '"name": "../../first"'))
    html = write(out, entry(out, one, step()))
    assert html.count("This output cannot be shown") == 2
    assert "secret" not in html
    assert "data:image/png" in html


def test_a_claim_shows_its_figure_its_rows_and_its_code(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "EVIDENCE", {"C1": (("second",), ("memnb/models/filters.py",))})
    write_runs(out / "runs", "luna-16", [0.20, 0.21, 0.22])
    write_runs(out / "runs", "convluna-16", [0.40, 0.41, 0.42])
    served = draw(out).but(claims=["C1"])
    html = write(out, entry(out, served, step()))
    card = html[html.index('id="C1"') : html.index('id="C2"')]
    assert 'href="#figure-second"' in card
    assert html.count("data:image/png") == 1, "on its page alone, to which the card leads"
    assert html.index('<figure id="figure-second">') > html.index('id="tiny"')
    assert "ConvLuna-16 − Luna-16" in card
    assert 'download="claim-c1.csv"' in card
    assert "memnb/models/filters.py" in card
    assert '<a href="#tiny">About tiny</a>' in card


def test_what_the_filter_does_alone_stands_beside_the_first_claim(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = out / "stored"
    monkeypatch.setattr(paths, "stored_results", lambda: stored)
    heading = "What the filter does without a memory, at full scale</strong>"
    html = write(out, entry(out, draw(out), step()))
    assert html.count(heading) == 1
    assert "No task has both ConvLuna and the filter without a memory" in html
    assert "#chunk-memory" not in html, "a link to a page that is not in the report"
    for model, accuracy in (("luna-16", 0.6), ("memoryless", 0.7), ("convluna-16", 0.8)):
        write_run(stored, model, "text", accuracy=accuracy)
    page = artefact("chunk-memory", notebook="19_chunk_memory.ipynb")
    html = write(out, entry(out, draw(out), step()), Entry(page, None, False, out / "none"))
    card = html[html.index('id="C1"') : html.index('id="C2"')]
    assert heading in card
    cells = ["Text", "16", "60.0 (1)", "80.0 (1)", "70.0 (1) ConvLuna without memory", "+10.0"]
    assert "".join(f"<td>{cell}</td>" for cell in cells) in card
    assert '<a href="#chunk-memory">About chunk-memory</a>' in card
    assert "At laptop scale" not in card
    for seed in range(3):
        write_run(out / "stored", "convluna-16", "text-short", seed, accuracy=0.7)
        write_run(out / "stored", "memoryless", "text-short", seed, accuracy=0.7)
    html = write(out, entry(out, draw(out), step()))
    card = html[html.index('id="C1"') : html.index('id="C2"')]
    assert (
        "At laptop scale: the filter without a memory explains ConvLuna on Text short with M = 16."
        in card
    )


def test_what_full_scale_says_in_short_follows_the_verdicts(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = out / "stored"
    monkeypatch.setattr(paths, "stored_results", lambda: stored)
    assert "In short" not in write(out, entry(out, draw(out), step()))
    write_run(stored, "transformer", "text", accuracy=0.66)
    html = write(out, entry(out, draw(out), step()))
    overview = html[html.index('id="overview"') : html.index('id="C1"')]
    assert "In short: full scale, 1 seed of each model and task so far" in overview
    assert "Transformer, accuracy (others" in overview
    assert "66.0 (64.3 to 65.2)" in overview
    assert "<li>Accuracy: in percent" in overview
    (paths.reference() / "published.csv").write_text("nothing")
    html = write(out, entry(out, draw(out), step()))
    assert "published.csv must start with the header" in html[: html.index('id="overview"')]
    assert "In short" not in html
    for model, accuracy in (("luna-1", 0.6), ("convluna-1", 0.7)):
        write_run(stored, model, "text", accuracy=accuracy)
    html = write(out, entry(out, draw(out), step()))
    asked = "<strong>Is ConvLuna more accurate than Luna?</strong> With as many memory rows"
    assert asked in html
    gain = "with as many memory rows, in points: +10.0 on Text."
    before, _ = html.split(asked)
    assert f"{gain}</li>" in before


def test_the_code_and_figures_named_for_the_claims_exist() -> None:
    root = Path(report.__file__).parents[2]
    outputs = {name for one in manifest.load().artefacts for name in one.outputs}
    for figures, code in report.EVIDENCE.values():
        assert {f"{name}.png" for name in figures} <= outputs
        assert all((root / file).is_file() for file in code)
    # What is judged of C3: cosine and rank over training, and the accuracy with rows removed.
    judged = {"degradation-full", "degradation-laptop", "row-removal-full", "row-removal-laptop"}
    assert judged <= set(report.EVIDENCE["C3"][0])
    pages = {one.id for one in manifest.load().artefacts}
    assert {aside.page for aside in report.ASIDES.values()} <= pages


def test_the_code_of_a_claim_lies_beside_the_report(out: Path) -> None:
    write_runs(out / "runs", "luna-16", [0.2, 0.2, 0.2])
    html = write(out, entry(out, draw(out).but(claims=["C1"]), step()))
    links = [link["href"] for link in Elements(html).all("a") if "code/" in (link["href"] or "")]
    assert "code/memnb/evidence/claims.py.txt" in links
    root = Path(report.__file__).parents[2]
    for link in links:
        copied = (out / "report" / link).read_bytes()  # type: ignore[operator]
        assert copied == (root / link.removeprefix("code/").removesuffix(".txt")).read_bytes()  # type: ignore[union-attr]


def test_the_page_needs_nothing_from_elsewhere(out: Path) -> None:
    elements = Elements(write(out, entry(out, draw(out), step())))
    assert elements.all("script") == []
    assert elements.all("link") == []
    for _, attributes in elements.found:
        for key in ("src", "href", "action", "srcset"):
            assert "://" not in (attributes.get(key) or "")
    inside = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
    targets = [link["href"] or "" for link in elements.all("a")]
    assert {target[1:] for target in targets if target.startswith("#")} <= inside


def test_a_page_is_folded_away_unless_something_is_wrong_with_it(out: Path) -> None:
    fold = '<details class="page"'
    html = write(out, entry(out, draw(out), step()), entry(out, artefact("later"), None))
    assert html.count(fold + ">") == 1
    assert html.count(fold + " open>") == 1
    assert html.index(fold + " open>") > html.index('id="tiny"')
    assert fold + " open>" in write(out, entry(out, draw(out), step("failed", error="It broke.")))


def test_a_failed_artefact_shows_its_error_and_no_old_output(out: Path) -> None:
    failed = step("failed", error=f"tiny.ipynb: {HOSTILE}", details=f"Traceback {HOSTILE}")
    html = write(out, entry(out, draw(out), failed))
    assert "data:image" not in html
    assert "last one" not in html
    assert html.count("&lt;script&gt;") == 3  # in the summary, in its section, in the traceback
    assert "1 step failed; everything else was done" in html


def test_an_artefact_that_was_not_executed_says_how(out: Path) -> None:
    html = write(out, entry(out, artefact("later"), None))
    assert "memnb reproduce --preset quick --only later" in html


def test_an_artefact_of_another_preset_says_so(out: Path) -> None:
    html = write(out, entry(out, draw(out), step(preset="stored"), kept=False))
    assert "Drawn under the preset stored" in html


def test_claims_come_first_each_with_a_verdict_at_both_scales(out: Path) -> None:
    write_runs(out / "runs", "luna-16", [0.20, 0.21, 0.22])
    write_runs(out / "runs", "convluna-16", [0.40, 0.41, 0.42])
    html = write(out, entry(out, draw(out), step()))
    positions = [html.index(f"<h3>C{number}. ") for number in range(1, 6)]
    assert positions == sorted(positions)
    assert positions[-1] < html.index("About tiny</h2>")
    first = html[positions[0] : positions[1]]
    assert 'class="mark not-enough-runs">not enough runs' in first
    assert 'class="mark supported">supported' in first
    assert "+20.0 points (95 % interval +17.7 to +22.3), n = 3" in first
    # C5 needs runs that quick does not train: these alone are committed ones.
    stored = load_runs(paths.stored_results())
    between = {run.run_id for run in plan.runs("chunks", "paper")}
    count = 6 + int((stored["run_id"].isin(between) & (stored["preset"] == "quick")).sum())
    assert f"Laptop scale (this machine and committed): {count} runs</li>" in html


def test_an_effect_that_rounds_to_nothing_has_no_minus(out: Path) -> None:
    write_runs(out / "runs", "luna-16", [0.20, 0.21, 0.22])
    write_runs(out / "runs", "convluna-16", [0.20, 0.2099, 0.2199])
    assert "+0.0 points (95 % interval −2.3 to" in write(out, entry(out, draw(out), step()))


def test_runs_of_recall_are_counted_and_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "stored_results", lambda: out / "stored")
    write_run(out / "stored", "luna-16", "listops-short")
    write_run(out / "stored", "chunkmem-16", "recall-4")
    write_run(out / "stored", "chunkmem-16", "recall-longer", outcome="failed", reason="Lost.")
    html = write_report([], Training((), out / "runs", {}, 0.0), "stored", out, 1.0).read_text()
    counted = "3 runs, 2 of them of the recall task, on which no claim is judged; 1 failed"
    assert f"Laptop scale (committed): {counted}</li>" in html


def test_of_the_claim_that_one_task_decides_the_intervals_are_said_to_hold_together(
    out: Path,
) -> None:
    write_runs(out / "runs", "transformer", [0.20, 0.21, 0.22])
    write_runs(out / "runs", "convluna-1", [0.40, 0.41, 0.42])
    html = write(out, entry(out, draw(out), step()))
    first, second = (html.index(f"<h3>{claim}. ") for claim in ("C2", "C3"))
    assert "(95 % interval for all tasks together +17.7 to +22.3), n = 3" in html[first:second]
    assert "for all tasks together" not in html[second:]


def test_the_first_screen_says_what_ruled_out_means_and_where_the_code_is(out: Path) -> None:
    header = write(out).partition("</header>")[0]
    assert "<em>ruled out</em> if the whole interval" in header
    assert "README" in header
    assert "<code>code/</code>" in header


def runs_of_three_fates(out: Path) -> Training:
    models: list[Run] = [
        run_config(model, "listops-short", model_changes=changes)
        for model, changes in (
            ("luna-1", {}),
            ("luna-16", {}),
            ("convluna-16", {"filter": "none"}),
            ("convluna-1", {}),
        )
    ]
    write_run(out / "runs", "luna-1", accuracy=0.31)
    write_run(out / "runs", "luna-16", outcome="failed", reason=HOSTILE)
    died = Ended(models[2].run_id, error="Its process was killed, twice.", details="Trace <b>")
    return Training(tuple(models), out / "runs", {models[2].run_id: died}, 12.0)


def test_runs_with_their_outcome_time_and_reason(out: Path) -> None:
    training = runs_of_three_fates(out)
    html = write(out, training=training)
    assert "4 runs, 1 of them in this call, which trained for 12 s" in html
    assert "31.0%" in html
    assert "filter=none" in html
    assert "Its process was killed, twice." in html
    assert "Trace &lt;b&gt;" in html
    assert "It failed: &lt;script&gt;" in html
    assert "3 steps failed" in html
    assert len(training.failures()) == 3
    assert "It has not been trained." in training.failures()[2]


@pytest.mark.parametrize("damage", [{"test_accuracy": "0.31"}, {"seconds": "an hour"}], ids=str)
def test_a_run_whose_record_is_damaged_stops_no_report(out: Path, damage: dict[str, str]) -> None:
    made = write_run(out / "runs", "luna-1")
    amend(made, **damage)
    training = Training((run_config("luna-1", "listops-short"),), out / "runs", {}, 1.0)
    assert f"{made / 'run.json'} is damaged" in write(out, training=training)
    assert "is damaged" in training.failures()[0]


def test_damaged_rows_are_named(out: Path) -> None:
    made = write_run(out / "runs", "luna-1")
    (made / "run.json").write_text("{")
    torn = write_run(out / "runs", "luna-16")
    probes = torn / "probes.jsonl"
    probes.write_text(probes.read_text()[:-20])
    html = write(out)
    notice = html[html.index('class="notice"') : html.index("<main>")]
    assert str(made / "run.json") in notice
    assert "probes.jsonl" in notice


def test_the_environment_is_in_the_report(out: Path) -> None:
    html = write(out)
    for name, value in report.environment().items():
        assert name in html
        assert value in html
    assert "2.13" in report.environment()["torch"] or report.environment()["torch"]


def test_the_commit_is_named_and_changed_files_are_admitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root, unknown in ((None, "installed package"), (tmp_path, "no git commit")):
        monkeypatch.setattr(paths, "checkout", lambda root=root: root)
        monkeypatch.delenv("MEMNB_COMMIT", raising=False)
        assert report.commit() == unknown
        monkeypatch.setenv("MEMNB_COMMIT", "0f3a9c1b2d3e")
        assert report.commit() == "commit 0f3a9c1b2d3e", "of code that came without its history"

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)

    for arguments in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a", "--allow-empty"],
    ):
        git(*arguments)
    assert report.commit().startswith("commit ")
    assert "changed" not in report.commit()
    (tmp_path / "file").write_text("new")
    assert "changed" not in report.commit(), "what --out puts into a checkout is no part of it"
    git("add", "file")
    assert report.commit().endswith(", changed files")
