"""A report of one small artefact, as the runner would hand it to
:func:`memnb.reproduce.report.write_report`."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from unittest import mock

import matplotlib.pyplot as plt
import nbformat
import pandas as pd

from memnb import paths
from memnb.draw import style
from memnb.reproduce.manifest import Artefact
from memnb.reproduce.page import Page, Saved
from memnb.reproduce.report import Entry, Step

HOSTILE = "<script>alert('x')</script> & \"quoted\""


def artefact(name: str = "tiny", **settings: object) -> Artefact:
    values = {"id": name, "title": f"About {name}", "see": "See it.", "notebook": "tiny.ipynb"}
    return Artefact.of(values | settings)


def step(outcome: str = "done", **settings: object) -> Step:
    values = {"artefact": "tiny", "preset": "quick", "digest": "", "seconds": 2.0, "ended": "now"}
    return Step.of(values | {"outcome": outcome} | settings)


def draw(out: Path, prose: str = "# Tiny\n\nProse.") -> Artefact:
    """A figure between two tables, saved as a notebook would, and the executed notebook."""
    page = Page("tiny", "quick", str(out))
    figure, axes = plt.subplots(figsize=(2, 2))
    axes.plot([1, 2])
    style.attach(figure, pd.DataFrame({"step": [1, 2]}))
    with mock.patch.dict(os.environ, {paths.FOR_THE_REPORT: "1"}):
        saved = [
            page.save(pd.DataFrame({"Model": [HOSTILE], "%": ["1.10"]}), "first", caption=HOSTILE),
            page.save(figure, "second", caption=HOSTILE),
            page.save(pd.DataFrame({"Model": ["last one"]}), "third"),
        ]
    execute(out / "report" / "notebooks" / "tiny.ipynb", prose, saved)
    return artefact(outputs=["first.csv", "second.png", "third.csv"])


def execute(path: Path, prose: str, saved: list[Saved]) -> None:
    """The notebook as Jupyter would leave it after its cells have run."""
    new = nbformat.v4
    cells = [
        new.new_markdown_cell(prose),
        new.new_code_cell(
            "try:\n    import memnb\nexcept ModuleNotFoundError:\n    %pip install x",
            outputs=[new.new_output("stream", text="memnb 0.1.0")],
        ),
        new.new_code_cell(
            "print(1)",
            outputs=[new.new_output("stream", text=f"said {HOSTILE} {'at length, ' * 40}")],
        ),
        new.new_code_cell("quiet = 1"),
        new.new_code_cell("worth_reading = 1", metadata={"tags": ["code-shown"]}),
    ]
    for one in saved:
        data, metadata = one._repr_mimebundle_()
        if "image/png" in data:
            data = {**data, "image/png": base64.b64encode(data["image/png"]).decode()}
        output = new.new_output("execute_result", data=data, metadata=metadata)
        cells.append(new.new_code_cell(f"page.save({HOSTILE})", outputs=[output]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new.new_notebook(cells=cells), path)


def entry(out: Path, one: Artefact, last: Step | None, kept: bool = False) -> Entry:
    return Entry(one, last, kept, out / "report" / "notebooks" / one.notebook)
