"""What a reader meets in a real browser: the report, and the pages in JupyterLab.

Skipped with its reason where there is no Chromium. ``MEMNB_BROWSER=all`` opens every notebook in
JupyterLab; otherwise one stands for them, the one with sliders.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_runs
from tiny_report import artefact, draw, entry, step

from memnb import paths
from memnb.reproduce.report import Training, write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome")
EVERY = sorted(path.name for path in paths.notebooks().glob("*.ipynb"))
PAGES = EVERY if os.environ.get("MEMNB_BROWSER") == "all" else ["16_explore.ipynb"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = [path for name in NAMES if (path := shutil.which(name))]
        found += [own] if Path(own).is_file() else []
        if not found:
            pytest.skip("no Chromium on this machine (apt install chromium)")
        chromium = playwright.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield chromium
        chromium.close()


# --- the report ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("a report")
    with pytest.MonkeyPatch.context() as patch:
        known = out / "assets" / "data" / "reference"
        known.mkdir(parents=True)
        shutil.copy(paths.reference() / "published.csv", known)
        patch.setattr(paths, "assets", lambda: out / "assets")
        write_runs(out / "runs", "luna-16", [0.20, 0.21, 0.22])
        write_runs(out / "runs", "convluna-16", [0.40, 0.41, 0.42])
        wide = "+".join(["softmax(x)"] * 9)
        prose = f"# Tiny\n\nA wide formula, ${wide}$, between words.\n\n* In a list: ${wide}$."
        shown = entry(out, draw(out, prose).but(claims=["C1"]), step())
        later = entry(out, artefact("later", notebook="later.ipynb"), None)
        return write_report([shown, later], Training((), out / "runs", {}, 0.0), "quick", out, 1.0)


def opened(browser: Any, report: Path, at: str = "", **options: Any) -> Any:
    """The report in a browser, where a link to the id ``at`` leads."""
    page = browser.new_context(**options).new_page()
    page.requests = []
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(report.as_uri() + (f"#{at}" if at else ""))
    return page


def background(page: Any) -> str:
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_the_report_loads_nothing_from_elsewhere(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    assert page.requests
    assert {url.partition(":")[0] for url in page.requests} <= {"file", "data"}
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_every_link_of_the_report_leads_somewhere(browser: Any, report: Path) -> None:
    page = opened(browser, report)
    links = page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))")
    assert len(links) > 10
    ids = set(page.eval_on_selector_all("[id]", "all => all.map(one => one.id)"))
    for link in links:
        if link.startswith("#"):
            assert link[1:] in ids, link
        elif not link.startswith("data:text/csv;base64,"):
            assert (report.parent / link).is_file(), link


def test_the_theme_follows_the_system_until_the_reader_chooses(browser: Any, report: Path) -> None:
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
    page = opened(browser, report, color_scheme="light")
    assert background(page) == light
    page.check("#theme-dark")
    assert background(page) == dark
    page.check("#theme-auto")
    assert background(page) == light
    page = opened(browser, report, color_scheme="dark")
    assert background(page) == dark
    page.check("#theme-light")
    assert background(page) == light


def test_a_download_holds_the_rows_of_its_figure(browser: Any, report: Path) -> None:
    page = opened(browser, report, "tiny", accept_downloads=True)
    with page.expect_download() as waiting:
        page.click('a[download="second.csv"]')
    assert waiting.value.suggested_filename == "second.csv"
    assert Path(waiting.value.path()).read_text() == "step\n1\n2\n"


def test_a_phone_shows_the_whole_width_and_figures_at_a_readable_size(
    browser: Any, report: Path
) -> None:
    page = opened(browser, report, "tiny", viewport={"width": 390, "height": 844}, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    width = page.evaluate("document.querySelector('.picture img').getBoundingClientRect().width")
    assert width > 600
    assert page.evaluate("getComputedStyle(document.querySelector('.picture')).overflowX") == "auto"


def test_on_a_phone_a_list_with_a_wide_formula_keeps_its_bullets(
    browser: Any, report: Path
) -> None:
    page = opened(browser, report, "tiny", viewport={"width": 390, "height": 844}, is_mobile=True)
    # An item that scrolls shows nothing beside itself, and there its bullet stands.
    item = "document.querySelector('li:has(> math)')"
    assert page.evaluate(f"getComputedStyle({item}).overflowX") == "visible"
    assert page.evaluate(f"{item}.parentElement.scrollWidth > {item}.parentElement.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_what_a_cell_printed_is_read_without_scrolling_sideways(browser: Any, report: Path) -> None:
    page = opened(browser, report, "tiny", viewport={"width": 390, "height": 844}, is_mobile=True)
    assert page.is_visible("pre.printed")
    hidden = page.eval_on_selector_all(
        "pre.printed", "all => all.map(one => one.scrollWidth - one.clientWidth)"
    )
    assert hidden
    assert max(hidden) <= 0


def test_a_phone_keeps_short_cells_on_one_line_and_says_that_a_table_goes_on(
    browser: Any, report: Path
) -> None:
    page = opened(browser, report, "tiny", viewport={"width": 390, "height": 844}, is_mobile=True)
    cells = page.eval_on_selector_all(
        "#C1 td", "all => all.map(one => [one.textContent, one.getBoundingClientRect().height])"
    )
    effects = [height for text, height in cells if text.endswith("] points")]
    assert effects
    assert max(effects) < 40
    for table, hint in page.evaluate(TABLES):
        assert (table > 0) == hint
    page.emulate_media(media="print")
    assert not any(hint for _, hint in page.evaluate(TABLES))


#: Of every table with a caption: pixels out of sight, and whether a hint stands before the caption.
TABLES = """
() => [...document.querySelectorAll(".scroll + p.soft")].map(one => {
  const table = one.previousElementSibling;
  const hint = getComputedStyle(one, "::before").content.includes("Swipe");
  return [table.scrollWidth - table.clientWidth, hint];
})
"""


def test_a_phone_shows_the_verdicts_of_both_scales(browser: Any, report: Path) -> None:
    page = opened(browser, report, viewport={"width": 390, "height": 844}, is_mobile=True)
    inside = "all => all.map(one => one.getBoundingClientRect().right)"
    edges = page.eval_on_selector_all(".overview .mark", inside)
    assert len(edges) >= 2
    assert max(edges) <= 390


def test_a_laptop_shows_verdicts_at_once_and_what_they_mean_on_a_click(
    browser: Any, report: Path
) -> None:
    page = opened(browser, report, viewport={"width": 1280, "height": 720})
    assert page.locator(".overview .mark").first.bounding_box()["y"] < 720
    meaning = page.get_by_text("A claim is a set of comparisons")
    assert not meaning.is_visible()
    page.click("header summary")
    assert meaning.is_visible()


def test_the_keyboard_reaches_the_claims_and_the_theme(browser: Any, report: Path) -> None:
    page = opened(browser, report, color_scheme="light")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the claims"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme-auto"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert background(page) == "rgb(20, 23, 27)"


def test_print_is_light_and_without_controls(browser: Any, report: Path) -> None:
    page = opened(browser, report, color_scheme="dark")
    page.check("#theme-dark")
    page.emulate_media(media="print")
    assert background(page) == "rgb(255, 255, 255)"
    for hidden in (".theme", "nav", ".downloads", "details.code"):
        assert not page.is_visible(hidden), hidden
    assert page.is_visible("#C1 .mark")


def test_a_page_opens_by_a_link_to_what_is_in_it_and_on_paper(browser: Any, report: Path) -> None:
    picture = "#figure-second img"
    page = opened(browser, report)
    assert not page.is_visible(picture)
    page.emulate_media(media="print")
    assert page.is_visible(picture)
    assert page.is_visible("summary h2 >> text=About tiny")
    page.emulate_media(media="screen")
    assert not page.is_visible(picture)
    page.goto(report.as_uri() + "#figure-second")
    assert page.is_visible(picture)
    top = page.evaluate("document.querySelector('#figure-second').getBoundingClientRect().top")
    assert 0 <= top < page.viewport_size["height"]
    for options in ({}, {"viewport": {"width": 390, "height": 844}, "is_mobile": True}):
        page = opened(browser, report, **options)
        page.click('nav a[href="#tiny"]')
        heading = page.locator("summary h2").first
        assert 0 <= heading.bounding_box()["y"] < page.viewport_size["height"]
        assert page.is_visible(picture)


def test_a_wide_table_does_not_widen_the_printed_page(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    served = draw(tmp_path)
    path = tmp_path / "report" / "tables" / "third.csv"
    path.write_text(",".join(f"a_{i}_long_name_of_a_file.csv" for i in range(12)) + "\n")
    shown = entry(tmp_path, served, step())
    nothing = Training((), tmp_path / "runs", {}, 0.0)
    page = opened(browser, write_report([shown], nothing, "quick", tmp_path, 1.0),
                  viewport={"width": 720, "height": 1000})  # fmt: skip
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") == 720


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_keeps_its_contrast(browser: Any, report: Path, theme: str) -> None:
    page = opened(browser, report, "tiny", color_scheme=theme)
    faint = page.evaluate(CONTRAST)
    assert faint == []


#: Texts whose contrast with their background is below 4.5 : 1.
CONTRAST = """
() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => {
    const [r, g, b] = parts(c).map(v => {
      v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = node => {
    for (; node; node = node.parentElement) {
      const c = getComputedStyle(node).backgroundColor;
      if ((parts(c)[3] ?? 1) > 0) return c;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("p, li, td, th, a, h1, h2, h3, .mark, summary, label, dd")]
    .filter(node => node.textContent.trim() && node.getClientRects().length)
    .filter(node => {
      const a = light(getComputedStyle(node).color), b = light(behind(node));
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
    })
    .map(node => node.outerHTML.slice(0, 80));
}
"""


# --- JupyterLab ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab that serves copies of the notebooks."""
    root = tmp_path_factory.mktemp("lab")
    for path in paths.notebooks().glob("*.ipynb"):
        _copy_unexecuted(path, root / "notebooks" / path.name)
    # Cells out of sight are otherwise not there at all.
    settings = root / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (root / "lab.log").open("w")
    environment = {
        **os.environ,
        "MEMNB_OUT": str(root / "out"),
        "PYTHONPATH": str(Path(paths.__file__).parents[1]),
        "IPYTHONDIR": str(root / "ipython"),
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "JUPYTER_DATA_DIR": str(root / "share"),
        "JUPYTERLAB_SETTINGS_DIR": str(root / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(root / "workspaces"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", f"--ServerApp.root_dir={root / 'notebooks'}", "--IdentityProvider.token=",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(address, server, root / "lab.log")
        yield address
    finally:
        server.terminate()
        server.wait(20)
        log.close()


def _copy_unexecuted(source: Path, target: Path) -> None:
    content = json.loads(source.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell.update(execution_count=None, outputs=[])
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content), encoding="utf-8")


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            raise AssertionError(f"JupyterLab ended: {log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{address}/api", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


def run_all(browser: Any, address: str, name: str) -> Any:
    """Open a notebook in JupyterLab, run all its cells and wait for the last one."""
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{address}/doc/tree/{name}")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector("text=| Idle")  # the kernel, in the status bar
    for _ in range(10):  # before the page is connected to its kernel, nothing would be run
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_timeout(2000)
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
        if any(prompt.strip("[]: ") for prompt in prompts):
            break
    page.wait_for_function(ALL_HAVE_RUN, timeout=150_000)
    return page


#: Every code cell that is not folded has the number of its execution, and the kernel rests.
ALL_HAVE_RUN = """
() => {
  const prompts = [...document.querySelectorAll(
    ".jp-CodeCell .jp-InputPrompt:not(.jp-Placeholder-prompt)"
  )].map(one => one.textContent.trim());
  const busy = document.querySelector("[data-status='busy']");
  return prompts.length && !busy && prompts.every(p => /\\[\\d+\\]/.test(p));
}
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_runs_in_jupyterlab_and_its_slider_moves_the_picture(
    browser: Any, lab: str, name: str
) -> None:
    page = run_all(browser, lab, name)
    errors = page.eval_on_selector_all(
        "[data-mime-type='application/vnd.jupyter.error']", "all => all.map(e => e.textContent)"
    )
    assert errors == []
    if name == "16_explore.ipynb":
        page.wait_for_selector(".widget-image")
        picture = page.locator(".widget-image").first
        before = picture.get_attribute("src")
        handle = page.locator(".widget-slider .noUi-handle").first
        handle.scroll_into_view_if_needed()
        handle.focus()
        page.keyboard.press("ArrowLeft")
        page.wait_for_function(
            "before => document.querySelector('.widget-image').src !== before", arg=before
        )
    page.context.close()
