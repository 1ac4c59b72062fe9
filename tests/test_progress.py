"""Progress fits the place: a bar in a notebook, one line on a terminal, few lines in a log."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_notebooks import write_notebook

from memnb.reproduce import progress
from memnb.reproduce.notebooks import execute


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize(
    ("stream", "environment", "kind"),
    [
        (Screen(), {}, progress.Terminal),
        (Screen(), {"CI": "1"}, progress.Terminal),
        (Screen(), {"TERM": "dumb"}, progress.Log),
        (io.StringIO(), {}, progress.Log),
        (io.StringIO(), {"CI": "true"}, progress.Display),
    ],
)
def test_the_display_fits_the_place(
    stream: io.StringIO,
    environment: dict[str, str],
    kind: type[progress.Display],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert type(progress.choose(stream)) is kind


def test_a_log_has_a_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    display = progress.Log(stream)
    for second in range(35):
        now[0] = float(second)
        display.update(f"at {second}", second / 35)
    display.note("ended")
    display.close()
    assert stream.getvalue().splitlines() == ["at 10", "at 20", "at 30", "ended"]


def test_ci_sees_only_what_is_worth_keeping() -> None:
    stream = io.StringIO()
    display = progress.Display(stream)
    for step in range(100):
        display.update(f"at {step}", step / 100)
    display.note("ended")
    display.close()
    assert stream.getvalue() == "ended\n"


def test_a_terminal_rewrites_one_line_no_wider_than_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    now = [1.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = Screen()
    display = progress.Terminal(stream)
    display.update("x" * 200, 0.5)
    display.update("too soon", 0.5)
    assert stream.getvalue() == "\r\x1b[2K" + " 50%  " + "x" * 23
    display.note("kept")
    display.close()
    assert stream.getvalue().endswith("\r\x1b[2Kkept\n")


def test_a_notebook_shows_one_bar_updated_in_place(tmp_path: Path) -> None:
    cell = """
from types import SimpleNamespace
from memnb.reproduce import progress
display = progress.choose()
show = progress.follow(display)
for step in range(1, 101):
    show(SimpleNamespace(step=step, steps=100, loss=None if step < 2 else 1 / step, accuracy=0.25))
display.close()
"""
    notebook = write_notebook(tmp_path / "bar.ipynb", cell)
    execute(notebook, {}, tmp_path / "executed" / "bar.ipynb", [])
    cells = json.loads((tmp_path / "executed" / "bar.ipynb").read_text())["cells"]
    (output,) = cells[-1]["outputs"]
    text = "".join(output["data"]["text/html"])
    assert text.startswith('<progress value="1.0000" max="1"')
    assert "step 100 of 100, loss 0.010, validation 25.0%" in text


def test_one_run_is_followed_with_its_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown: list[tuple[str, float]] = []
    display = progress.Display()
    monkeypatch.setattr(display, "update", lambda *state: shown.append(state))
    show = progress.follow(display)
    show(SimpleNamespace(step=50, steps=100, loss=2.0, accuracy=None))  # resumed there
    now[0] = 10.0
    show(SimpleNamespace(step=60, steps=100, loss=1.5, accuracy=0.5))
    assert shown == [
        ("step 50 of 100, loss 2.000", 0.5),
        ("step 60 of 100, loss 1.500, validation 50.0% · 40 s left", 0.6),
    ]


def test_the_time_until_a_stop_stands_first(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(progress.time, "time", lambda: 1000.0)
    shown = progress.Until(progress.Terminal(screen), 1540.0)
    shown.update("training, about 2 h left", 0.25)
    shown.note("one is done")
    assert screen.getvalue().startswith("\r\x1b[2K 25%  stops in 9 min · training, about 2 h left")
    assert screen.getvalue().endswith("one is done\n")
    past = progress.Until(progress.Terminal(screen), 900.0)
    past.update("stopping", 0.5)
    assert screen.getvalue().endswith("stops in 0 s · stopping")
