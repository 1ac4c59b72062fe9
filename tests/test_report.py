"""The report shows what there is, says what failed, and trusts no text from a file."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from made_up_runs import write_run, write_runs

from memnb import paths
from memnb.config import Run, run_config
from memnb.reproduce import report
from memnb.reproduce.manifest import Artefact
from memnb.reproduce.page import Page
from memnb.reproduce.report import Entry, Step, Training, write_report
from memnb.reproduce.workers import Ended

HOSTILE = "<script>alert('x')</script> & \"quoted\""


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
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    return tmp_path / "out"


def artefact(name: str = "tiny", **settings: object) -> Artefact:
    values = {"id": name, "title": f"About {name}", "see": "See it.", "notebook": "tiny.ipynb"}
    return Artefact.of(values | settings)


def step(outcome: str = "done", **settings: object) -> Step:
    values = {"artefact": "tiny", "preset": "quick", "digest": "", "seconds": 2.0, "ended": "now"}
    return Step.of(values | {"outcome": outcome} | settings)


def draw(out: Path) -> Artefact:
    """A figure between two tables, saved as a notebook would."""
    page = Page("tiny", "quick", str(out))
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([1, 2])
    page.save(pd.DataFrame({"Model": [HOSTILE], "%": ["1.10"]}), "first", caption=HOSTILE)
    page.save(figure, "second", caption=HOSTILE)
    page.save(pd.DataFrame({"Model": ["last one"]}), "third")
    return artefact(outputs=["first.csv", "second.png", "third.csv"])


def write(out: Path, *entries: Entry, training: Training | None = None) -> str:
    training = training or Training((), out / "runs", {}, 0.0)
    path = write_report(list(entries), training, "quick", out, 75.0)
    assert path == out / "report" / "index.html"
    return path.read_text(encoding="utf-8")


def entry(out: Path, one: Artefact, last: Step | None, kept: bool = False) -> Entry:
    return Entry(one, last, kept, out / "report" / "notebooks" / one.notebook)


def test_an_artefact_with_its_outputs_in_order_each_described(out: Path) -> None:
    html = write(out, entry(out, draw(out), step()))
    elements = Elements(html)
    assert elements.mistakes == []
    assert elements.open == []
    assert html.index("1.10") < html.index("data:image/png;base64,") < html.index("last one")
    (image,) = elements.all("img")
    assert image["alt"] == HOSTILE
    assert "<script" not in html
    links = [link["href"] for link in elements.all("a")]
    assert "figures/second.svg" in links
    assert "tables/third.csv" in links


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
    assert 'class="mark not-enough-rows">not enough rows' in first
    assert 'class="mark supported">supported' in first
    assert "+20.0 points (95 % interval +17.7 to +22.3), n = 3" in first
    assert "Laptop scale (this machine): 6 runs" in html


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
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert report.commit() == "installed package"
    monkeypatch.setattr(paths, "checkout", lambda: tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.commit() == "no git commit"
    for arguments in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qm", "a", "--allow-empty"],
    ):
        report._git(tmp_path, *arguments)
    assert report.commit().startswith("commit ")
    assert "changed" not in report.commit()
    (tmp_path / "file").write_text("new")
    report._git(tmp_path, "add", "file")
    assert report.commit().endswith(", changed files")
