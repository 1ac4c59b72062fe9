"""Executed notebooks to HTML: nbconvert, with a template of ours and nothing from elsewhere.

The template (``templates/memnb/index.html.j2``) gets all cells that the report shows as one
notebook, each cell marked with its section, and turns prose, saved figures and saved tables into
HTML. Formulas become MathML, links between pages become links within the report. Whatever comes
from a file is escaped.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any, Literal

from memnb.errors import MemnbError, RunError, first_line, missing_package
from memnb.reproduce.manifest import safe_name

_TEMPLATES = Path(__file__).parent / "templates"
_EMBEDDED = 300_000
"""Bytes of a data file up to which it stands in the page itself."""
_LONG = 20
"""Letters of a word from which on print may break it."""
_WHOLE = re.compile(r".{0,10}|[−+\d][^]]{0,31}|[−+\d., ]+\[[−\d., ]+\].{0,7}")
"""A cell that stays on one line: a word or two, a number with what belongs to it, or an interval,
such as ``−5.1 [−30.3, 20.1] points``."""
_SHORT = 28
"""Letters up to which words, too, stay on one line where their table is moved under the finger."""
_PHONE = 46
"""Letters of a line of a table that a phone shows, each column's rim counted as three."""


@dataclass(frozen=True)
class Download:
    """Rows behind a figure or table: ``address`` holds them, or names a file beside the page."""

    file: str
    address: str


@dataclass(frozen=True)
class Figure:
    """A picture as it stands in the page."""

    name: str
    source: str
    caption: str
    data: Download | None
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Table:
    """A table as it stands in the page."""

    name: str
    header: list[str]
    body: list[list[str]]
    caption: str
    data: Download | None
    kind: Literal["table"] = "table"

    @property
    def wide(self) -> bool:
        """Whether a phone shows a part of it only, however its cells are wrapped."""
        heads = (max(map(len, cell.split()), default=0) for cell in self.header)
        columns = zip(*self.body, strict=False) if self.body else [()] * len(self.header)
        least = [max(head, *map(_least, own), 0) for head, own in zip(heads, columns, strict=False)]
        return sum(least) + 3 * len(least) > _PHONE


@dataclass(frozen=True)
class Words:
    """What a cell printed or said."""

    text: str
    kind: Literal["words"] = "words"


Shown = Figure | Table | Words


#: Tag of a code cell that the report shows open: what is to be read there is the code itself.
CODE_SHOWN = "code-shown"


def cells_of(executed: Path, section: str, seen: set[str]) -> list[Any]:
    """The cells of an executed notebook that the report shows, marked with their section.

    Prose, without the title and without a paragraph that an earlier section had already (``seen``,
    which is added to), and the code cells that show something or carry the tag :data:`CODE_SHOWN`.

    Raises:
        RunError: the notebook is missing or damaged.
    """
    import nbformat

    try:
        notebook = nbformat.read(executed, as_version=4)
        nbformat.validate(notebook)  # which reading does with no more than a warning
    except Exception as error:  # of what is no notebook nbformat makes many types
        raise RunError(
            f"The executed notebook {executed} cannot be read ({first_line(error)}); run the same "
            "command again with --only."
        ) from None
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _without_title(cell.source)
            repeated = cell.source in seen and not cell.source.startswith("#")
            if not cell.source or repeated:
                continue
            seen.add(cell.source)
        elif (
            cell.cell_type != "code"
            or not (_code_is_shown(cell) or any(map(_is_shown, cell.outputs)))
            or _is_installation(cell)
        ):
            continue
        cell.metadata["memnb"] = {"section": section, "open": _code_is_shown(cell)}
        cell.id = f"{section}-{cell.id}"[:64]  # unique among the cells of all notebooks
        shown.append(cell)
    return shown


def _without_title(source: str) -> str:
    if source.startswith("# "):
        source = source.partition("\n")[2]
    return source.strip()


def _code_is_shown(cell: Any) -> bool:
    return CODE_SHOWN in cell.metadata.get("tags", [])


def _is_installation(cell: Any) -> bool:
    return "except ModuleNotFoundError" in cell.source and "%pip" in cell.source


def _is_shown(output: Any) -> bool:
    return "memnb" in output.get("metadata", {}) or (
        output.output_type == "stream" and bool(output.text.strip())
    )


def to_html(
    cells: list[Any],
    report: Path,
    links: Mapping[str, str],
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[..., str]],
) -> str:
    """The whole page.

    Args:
        cells: of all sections (:func:`cells_of`).
        report: the folder of the page, with ``figures/`` and ``tables/``.
        links: file name of a notebook -> its section.
        context: what the template needs besides the cells.
        filters: of the template, by name.

    Raises:
        MemnbError: nbconvert is not installed.
    """
    try:
        import nbformat
        from nbconvert.exporters import TemplateExporter
    except ModuleNotFoundError as error:
        raise missing_package("The report needs", error.name) from None
    exporter = TemplateExporter(
        template_name="memnb",
        template_file="index.html.j2",
        extra_template_basedirs=[str(_TEMPLATES)],
    )
    exporter.register_filter("prose", _prose(links, set(links.values())))
    exporter.register_filter("wrapping", _wrapping)
    exporter.register_filter("shown", lambda output: shown(output, report))
    for name, function in filters.items():
        exporter.register_filter(name, function)
    notebook = nbformat.v4.new_notebook(cells=cells)
    html, _ = exporter.from_notebook_node(notebook, resources={"report": context})
    return str(html)


def shown(output: Any, report: Path) -> Shown | None:
    """What one output of a cell is in the page; None for what is not shown."""
    if output.output_type == "stream":
        return Words(str(output.text))
    said = output.get("metadata", {}).get("memnb")
    if not isinstance(said, Mapping):
        return None
    if said.get("kind") == "words":
        return Words(str(output.data.get("text/plain", "")))
    caption = str(said.get("caption", ""))
    try:
        name = safe_name("output", str(said.get("name")))
        if said.get("kind") == "table":
            return table(report / "tables" / f"{name}.csv", caption)
    except (MemnbError, OSError, ValueError, csv.Error) as error:
        return Words(f"This output cannot be shown ({error}); execute the notebook again.")
    picture = "".join(str(output.data.get("image/png", "")).split())
    data = download(report / "figures" / f"{name}.csv")
    return Figure(name, f"data:image/png;base64,{picture}", caption, data)


def table(path: Path, caption: str) -> Table:
    """A saved table, read from its CSV file."""
    header, *body = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    return Table(path.stem, header, body, caption, download(path))


def _wrapping(cell: object) -> str:
    """The attribute of a cell that may be wrapped, or with a word that print may have to break."""
    names = []
    if not _WHOLE.fullmatch(str(cell)):
        names = ["words", "short"] if len(str(cell)) <= _SHORT else ["words"]
    names += ["long"] if any(len(word) > _LONG for word in str(cell).split()) else []
    return f' class="{" ".join(names)}"' if names else ""


def _least(cell: str) -> int:
    """Letters of the shortest line that holds a cell."""
    whole = len(cell) <= _SHORT or _WHOLE.fullmatch(cell)
    return len(cell) if whole else max(map(len, cell.split()), default=0)


def download(path: Path) -> Download | None:
    """A CSV file of the report as a download; None if there is none."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    if len(content) > _EMBEDDED:
        return Download(path.name, f"{path.parent.name}/{path.name}")
    return Download(path.name, csv_address(content))


def csv_address(content: bytes) -> str:
    """The address under which a browser finds the content within the page itself."""
    return f"data:text/csv;base64,{base64.b64encode(content).decode()}"


# --- prose -----------------------------------------------------------------------------------


def heading_id(section: str, heading: str) -> str:
    """The id of a heading in the page; of several alike in one section, that of the first."""
    return f"{section}-{'-'.join(re.findall(r'[a-z0-9]+', heading.lower()))}"


def _prose(links: Mapping[str, str], taken: set[str]) -> Callable[[str, str], str]:
    """Markdown of a section to HTML: headings one level lower and with an id that is not yet
    ``taken``, formulas as MathML, raw HTML escaped.
    """
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def __init__(self) -> None:
            super().__init__(escape=True, allow_harmful_protocols=False, exclude_anchor_links=True)
            self.section = ""

        def heading(self, text: str, level: int, **attributes: Any) -> str:
            first = heading_id(self.section, unescape(re.sub("<[^>]*>", "", text)))
            name, count = first, 1
            while name in taken:
                count += 1
                name = f"{first}-{count}"
            taken.add(name)
            return f'<h{level + 1} id="{name}">{text}</h{level + 1}>\n'

        def inline_math(self, body: str) -> str:
            return mathml(body)

        def block_math(self, body: str) -> str:
            return mathml(body, display="block")

        def link(self, text: str, url: str, title: str | None = None) -> str:
            section = links.get(url.partition("#")[0])
            return str(super().link(text, f"#{section}" if section else url, title))

        def image(self, text: str, url: str, title: str | None = None) -> str:
            del url, title  # the page loads nothing from elsewhere
            return escape(text)

    renderer = Renderer()
    markdown = MarkdownWithMath(renderer=renderer)

    def prose(source: str, section: str) -> str:
        renderer.section = section
        return markdown.render(source)

    return prose


def mathml(formula: str, display: Literal["inline", "block"] = "inline") -> str:
    """A formula in LaTeX as MathML, which browsers show by themselves; as code where it is none."""
    from latex2mathml.converter import convert

    try:
        return str(convert(formula, display=display))
    except Exception:  # the converter raises many types for what it does not know
        return f"<code>{escape(formula)}</code>"
