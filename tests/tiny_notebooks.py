"""Notebooks of a few cells, written by the tests that execute them."""

from __future__ import annotations

import json
from pathlib import Path

PARAMETERS = 'preset: str = "stored"  # stored, quick or paper\nout: str = ""  # output folder'

# Draws without memnb, so that a test of the runner does not depend on the drawing code.
DRAW = """
from pathlib import Path
report = Path(out) / "report"
(report / "tables").mkdir(parents=True, exist_ok=True)
(report / "tables" / "tiny.csv").write_text("model,accuracy\\nluna,1.0\\n")
(report / "tables" / "tiny.md").write_text("| model |\\n| --- |\\n| luna |\\n")
from IPython.display import display
said = {"kind": "table", "name": "tiny", "caption": ""}
display({"text/plain": "a table"}, raw=True, metadata={"memnb": said})
"""


def write_notebook(path: Path, *cells: str, parameters: str | None = PARAMETERS) -> Path:
    """A notebook with an optional parameters cell, then ``cells`` of code."""
    tagged = [] if parameters is None else [_cell(parameters, ["parameters"])]
    content = {
        "cells": [*tagged, *(_cell(source, []) for source in cells)],
        "metadata": {"kernelspec": {"name": "no-such-kernel", "display_name": "none"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    for number, cell in enumerate(content["cells"]):
        cell["id"] = f"cell-{number}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _cell(source: str, tags: list[str]) -> dict[str, object]:
    return {
        "cell_type": "code",
        "metadata": {"tags": tags},
        "source": source,
        "outputs": [],
        "execution_count": None,
    }
