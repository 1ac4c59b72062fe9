"""What a notebook needs of the world: the rows it shows, and a place for what it draws.

A notebook opens with ``page = Page("accuracy", preset, out)``, draws what ``page.layers()``
holds, and hands each figure or table to ``page.save``. Two layers stand side by side where both
exist: rows at full scale, and rows of the small tasks that a laptop can train.
"""

from __future__ import annotations

import html
import io
import math
import os
import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from memnb import config, naming, paths
from memnb.draw import style
from memnb.errors import MemnbError, unknown
from memnb.evidence import rows
from memnb.reproduce import plan
from memnb.reproduce.files import write
from memnb.reproduce.frames import as_csv, as_markdown
from memnb.reproduce.manifest import safe_name
from memnb.reproduce.plan import PRESETS

Thing = TypeVar("Thing", Figure, pd.DataFrame)


@dataclass(frozen=True)
class Layer:
    """The rows of one scale.

    Attributes:
        title: a heading, such as ``Full scale (committed)``: which scale, and whether its rows are
            committed, of this machine, or both.
        runs: one row per finished or failed run (:func:`memnb.evidence.rows.load_runs`).
        problems: one sentence for each run folder that could not be read.
    """

    title: str
    runs: pd.DataFrame
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Saved(Generic[Thing]):
    """What :meth:`Page.save` wrote. As the value of a cell it shows itself, and says its name and
    caption in the output's metadata, which the report is built from.

    Attributes:
        thing: the figure or frame.
        name: of the files, without an ending.
        caption: one sentence; the alternative text of a figure.
        png: of a figure, as it was written; empty for a frame.
    """

    thing: Thing
    name: str
    caption: str
    png: bytes = b""

    def _repr_mimebundle_(self, **wanted: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        del wanted
        said = {"name": self.name, "caption": self.caption}
        if isinstance(self.thing, pd.DataFrame):
            plain = isinstance(self.thing.index, pd.RangeIndex)
            data: dict[str, Any] = {
                "text/html": _breakable(_left(self.thing.to_html(index=not plain))),
                "text/plain": as_markdown(self.thing, self.caption),
            }
            return data, {"memnb": {"kind": "table", **said}}
        width = int.from_bytes(self.png[16:20], "big")  # of the image header
        shown = {"alt": self.caption, "width": round(width * 96 / _DPI)}
        data = {"image/png": self.png, "text/plain": self.caption or self.name}
        return data, {"memnb": {"kind": "figure", **said}, "image/png": shown}


class Page:
    """One artefact under one preset.

    Args:
        artefact: id in the manifest, such as ``accuracy``.
        preset: ``stored`` (committed rows), ``quick`` (the small runs of this machine among
            committed rows) or ``paper`` (full-scale runs of this machine as well).
        out: the output folder; empty for the default (:func:`memnb.paths.output`).

    Raises:
        MemnbError: no such preset, an id that cannot name a file, or ``out`` is no path.
    """

    def __init__(
        self, artefact: str, preset: str = "stored", out: str | os.PathLike[str] | None = ""
    ) -> None:
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        if not isinstance(out, str | os.PathLike | None):
            raise _wrong("out", "the path of a folder, or empty", out)
        self.artefact = safe_name("artefact", artefact)
        self.preset = preset
        self.out = paths.output(out)

    @property
    def runs_folder(self) -> Path:
        """Where this machine's runs stand."""
        return paths.runs(self.out)

    @cached_property
    def planned(self) -> frozenset[tuple[str, str]]:
        """Model and task of every run of the study, done or not."""
        return plan.models_and_tasks()

    @cached_property
    def planned_parts(self) -> frozenset[tuple[str | int, ...]]:
        """Parts, task and reading of every planned run of the ConvLuna that is taken apart."""
        return plan.parts_and_tasks()

    def layers(self, study: rows.Study = "shared") -> list[Layer]:
        """The full-scale layer, then the small one; either may have no rows.

        What the quick preset does not train is filled up with committed rows; what it does train
        comes from this machine alone.

        Args:
            study: whose rows, see :func:`memnb.evidence.rows.of_study`.
        """
        stored, here = paths.stored_results(), self.runs_folder
        # Where both hold a run, the row of this machine is the one shown.
        full = (here, stored) if self.preset == "paper" else (stored,)
        quick = (here, stored) if self.preset == "quick" else (stored,)
        known = {folder: rows.load_runs(folder) for folder in {*full, *quick}}
        layers = [_layer("paper", full, known)]
        if self.preset == "quick":
            trained = {run.run_id for run in plan.together(plan.SETS, "quick")}
            known[stored] = known[stored][~known[stored]["run_id"].isin(trained)]
        layers.append(_layer("quick", quick, known))
        return [replace(layer, runs=rows.of_study(layer.runs, study)) for layer in layers]

    def save(self, thing: Thing, name: str, caption: str = "") -> Saved[Thing]:
        """Write a figure (PNG and SVG) or a table (CSV and Markdown) to :func:`memnb.paths.pages`.

        The rows that a figure was drawn from (:func:`memnb.draw.style.attach`) become a CSV file
        beside it.

        Args:
            thing: a matplotlib figure, or a frame whose cells are ready to print.
            name: file name without its ending, such as ``accuracy``; lower case, digits, ``-``.
            caption: one sentence that says what is shown. It becomes the alternative text of a
                figure and stands under a table.

        Returns:
            What was written, so that a notebook cell may end with this call and show it once.

        Raises:
            MemnbError: the name cannot name a file, or the thing is neither figure nor frame.
            RunError: the folder cannot be written to.
        """
        name = safe_name("output", name)
        if isinstance(thing, Figure):
            folder = paths.pages(self.out) / "figures"
            box = _settled(thing)
            png = _png(thing, caption, box)
            write(folder / f"{name}.png", png)
            write(folder / f"{name}.svg", _svg(thing, name, caption, box))
            rows = style.attached(thing)
            if rows is not None:
                text = rows.to_csv(index=False, float_format="%.6g", lineterminator="\n")
                write(folder / f"{name}.csv", text.encode())
            else:
                (folder / f"{name}.csv").unlink(missing_ok=True)  # of an older figure
            plt.close(thing)  # otherwise Jupyter shows an open pyplot figure a second time
            return Saved(thing, name, caption, png)
        if isinstance(thing, pd.DataFrame):
            folder = paths.pages(self.out) / "tables"
            write(folder / f"{name}.csv", as_csv(thing).encode())
            write(folder / f"{name}.md", as_markdown(thing, caption).encode())
            return Saved(thing, name, caption)
        raise MemnbError(
            f"Page.save takes a matplotlib Figure or a pandas DataFrame, but '{name}' is a "
            f"{type(thing).__name__}; hand over what the drawing function returned."
        )


def say(text: str) -> None:
    """Show sentences below a cell. What ``print`` writes, Jupyter breaks in the middle of words."""
    from IPython.display import display

    data = {"text/html": "<br>".join(map(html.escape, text.splitlines())), "text/plain": text}
    display(data, raw=True, metadata={"memnb": {"kind": "words"}})


def whole(name: str, value: object, least: int = 0, most: int | None = None) -> None:
    """Refuse a parameter of a notebook that is not a whole number from ``least`` to ``most``.

    Raises:
        MemnbError: says the parameter's name and what it was.
    """
    beyond = math.inf if most is None else most
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= beyond:
        to = "" if most is None else f" to {most:,}"
        raise _wrong(name, f"a whole number from {least}{to}", value)


def flag(name: str, value: object) -> None:
    """Refuse a parameter of a notebook that is neither True nor False: any text counts as true, so
    that papermill's ``-p train false`` would train.

    Raises:
        MemnbError: says the parameter's name and what it was.
    """
    if not isinstance(value, bool):
        raise _wrong(name, "True or False", value)


def _wrong(name: str, wanted: str, value: object) -> MemnbError:
    return MemnbError(
        f"The parameter '{name}' must be {wanted}, but got {value!r}; change it in the cell of "
        "parameters."
    )


def task_or_none(name: object) -> str | None:
    """A task given as a notebook's parameter; None where it is empty.

    Raises:
        MemnbError: there is no such task.
    """
    if not name:
        return None
    if not isinstance(name, str) or name not in config.TASKS:
        raise unknown("task", name, config.TASKS)
    return name


def memory_of(model: object) -> int:
    """The memory rows M of a model given as the parameter of a page that looks into a memory.

    Raises:
        MemnbError: there is no such model, or it has no memory.
    """
    if not isinstance(model, str):
        raise unknown("model", model, config.list_models())
    rows = config.model_config(model, "listops-short").memory
    if not rows:
        raise MemnbError(
            f"This page looks into a memory, and {model} has none; choose a model such as "
            "convluna-16."
        )
    return rows


def _layer(preset: str, folders: tuple[Path, ...], known: dict[Path, pd.DataFrame]) -> Layer:
    frames: list[pd.DataFrame] = []
    problems: list[str] = []
    for folder in folders:
        runs = known[folder]
        problems += runs.attrs["problems"]
        frames.append(runs[runs["outcome"].isin(rows.ENDED) & (runs["preset"] == preset)])
    # An empty frame has no say in the types of the joined columns.
    filled = [frame for frame in frames if len(frame)] or frames[:1]
    where = " and ".join(
        "committed" if folder == paths.stored_results() else "this machine" for folder in folders
    )
    chosen = rows.one_of_each(pd.concat(filled, ignore_index=True))
    title = f"{naming.preset_label(preset).capitalize()} ({where})"
    return Layer(title, chosen, tuple(problems))


_DPI = 150


def _settled(figure: Figure) -> Bbox:
    """Lay a figure out for good; the box, in inches, of all that is drawn and a rim.

    Left to itself, every writing of a file would lay the figure out anew and, for
    ``bbox_inches="tight"``, draw it once more to find that box.
    """
    style.settle(figure)
    # Now none at all: the placeholder of a layout, too, would have every writing draw twice.
    with mpl.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)
    # Measured as it is written: at another resolution, every letter is wider by parts of a pixel.
    before, figure.dpi = figure.dpi, _DPI
    try:
        return figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    finally:
        figure.dpi = before


def _png(figure: Figure, caption: str, box: Bbox) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Software": None, "Description": caption or None}
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches=box, metadata=metadata)
    return buffer.getvalue()


def _svg(figure: Figure, name: str, caption: str, box: Bbox) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Title": name, "Description": caption or None}
    # The salt and the missing date make the same rows give the same bytes.
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", bbox_inches=box, metadata=metadata)
    return buffer.getvalue()


def _left(table: str) -> str:
    """A table in HTML as in the report: Jupyter would set words against the right edge."""
    return re.sub("<(t[dh])>", r'<\1 style="text-align: left">', table)


def _breakable(table: str) -> str:
    """A table in HTML whose long addresses and names may be broken: one that may not makes its
    column so wide that the last columns fall off the page."""

    def broken(word: re.Match[str]) -> str:
        return re.sub(r"(/+|_|::)(?=\w)", r"\1<wbr>", word[0])

    return re.sub(r"(?<=>)[^<]+", lambda text: re.sub(r"\S{30,}", broken, text[0]), table)
