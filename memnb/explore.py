"""Looking at trained models by hand: sliders and a text box, in JupyterLab and on Colab.

Each function gives a widget whose picture is drawn anew when a control moves. The pictures are
those of :mod:`memnb.draw`, which a page saves as static figures where nobody can move anything.
PyTorch is loaded only where a typed input is read by a model.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from memnb import tasks
from memnb.draw import filter_figures, looking
from memnb.errors import MemnbError, missing_package
from memnb.evidence.views import ROWS, Shipped, View

if TYPE_CHECKING:
    import ipywidgets

#: What a text box holds at first, per task title.
FIRST_INPUT = {
    "ListOps": "[MAX 4 [MIN 2 7 ] [SM 3 9 [MED 1 5 8 ] ] 0 ]",
    "Text": "I had hoped for more: a dull story, wooden actors, and not one line worth keeping.",
}


# --- training --------------------------------------------------------------------------------


def training(filters: pd.DataFrame, probes: pd.DataFrame) -> Any:
    """Sliders for step, block and head over one run's filters and its memory.

    Args:
        filters: frame of :func:`memnb.evidence.rows.load_filters`.
        probes: frame of :func:`memnb.evidence.rows.load_probes`.

    Raises:
        MemnbError: ipywidgets is not installed, or there is no run with a filter.
    """
    widgets = _widgets()
    runs = filter_figures.watched(filters)
    if not runs:
        raise MemnbError("No run with a filter is here; train one: memnb train convluna-16 ...")
    chosen = filters[filters["run_id"] == runs[0]]
    steps = sorted({int(step) for step in chosen["step"]})
    controls = {
        "run_id": _chooser(widgets, runs, "run"),
        "step": widgets.SelectionSlider(options=steps, value=steps[-1], description="step"),
        "block": widgets.IntSlider(1, 1, int(chosen["block"].max()), description="block"),
        "head": widgets.IntSlider(1, 1, int(chosen["head"].max()), description="head"),
    }

    def adapt(run_id: str, before: str) -> None:
        del before
        own = filters[filters["run_id"] == run_id]
        found = sorted({int(step) for step in own["step"]})
        with controls["step"].hold_trait_notifications():
            controls["step"].options = found
            controls["step"].value = found[-1]
        controls["block"].max = int(own["block"].max())
        controls["head"].max = int(own["head"].max())

    return _live(functools.partial(filter_figures.moment, filters, probes), controls, adapt=adapt)


# --- trained models --------------------------------------------------------------------------


def shipped(found: Sequence[Shipped]) -> Any:
    """Choose trained weights, an example, block, head and memory row; see where the model looks.

    Raises:
        MemnbError: ipywidgets is not installed, or no weights with views are shipped.
    """
    widgets = _widgets()
    by_name = _by_name(found)
    views = {name: one.views() for name, one in by_name.items()}
    seen = {name: one for name, one in by_name.items() if views[name]}
    if not seen:
        raise MemnbError("No trained weights with views are here; see 'memnb weights --help'.")
    name, first = next(iter(seen.items()))
    controls = {
        "model": _chooser(widgets, list(seen), "model"),
        "example": widgets.IntSlider(1, 1, len(views[name]), description="example"),
        **_places(widgets, first),
    }

    def adapt(model: str, before: str) -> None:
        del before
        controls["example"].max = len(views[model])
        _fit(controls, seen[model])

    def draw(model: str, example: int, **at: Any) -> Figure:
        return _picture(looking.looking, seen[model], views[model][example - 1], **at)

    return _live(draw, controls, adapt=adapt)


def typed(found: Sequence[Shipped]) -> Any:
    """A box to type a review or an expression: where a trained model looks, how its memory fills.

    Raises:
        MemnbError: ipywidgets is not installed, or no weights of a task that can be typed are here.
    """
    widgets = _widgets()
    # A model without a shared memory has no views: there is nothing to see fill.
    seen = {
        name: one
        for name, one in _by_name(found).items()
        if one.run.task.title in FIRST_INPUT and one.views()
    }
    if not seen:
        raise MemnbError(
            "No trained weights of Text or ListOps are here; see 'memnb weights --help'."
        )
    first = next(iter(seen.values()))
    box = widgets.Textarea(
        FIRST_INPUT[first.run.task.title], description="input", continuous_update=False, rows=3,
        layout=widgets.Layout(width="90%"),
    )  # fmt: skip
    controls = {
        "model": _chooser(widgets, list(seen), "model"),
        "text": box,
        **_places(widgets, first),
    }

    def adapt(model: str, before: str) -> None:
        title = seen[model].run.task.title
        if title != seen[before].run.task.title:
            box.value = FIRST_INPUT[title]
        _fit(controls, seen[model])

    # What was read last: moving a slider reads nothing anew. The filling, which takes most of the
    # time, is read when the first picture stands.
    looked = functools.lru_cache(8)(lambda model, text: _looked(seen[model], text))
    filled = functools.lru_cache(8)(lambda model, text: _filled(seen[model], text))

    def look(model: str, text: str, **at: Any) -> Figure:
        return _picture(looking.looking, seen[model], looked(model, text), **at)

    def fill(model: str, text: str, **at: Any) -> Figure:
        del at
        return _picture(looking.filling, seen[model], looked(model, text) | filled(model, text))

    return _live(look, controls, fill, adapt=adapt)


def _by_name(found: Sequence[Shipped]) -> dict[str, Shipped]:
    """Weights by their title, or by the run's id where several have one title."""
    titles = [one.title for one in found]
    return {
        title if titles.count(title) == 1 else one.run.run_id: one
        for title, one in zip(titles, found, strict=True)
    }


def _picture(draw: Callable[..., Figure], one: Shipped, view: View, **at: Any) -> Figure:
    """``draw``, a function of :mod:`memnb.draw.looking`, on a view of shipped weights."""
    return draw(
        view, one.run.task, one.run.model.memory,
        title=one.label, subtitle=looking.origin(one), **at,
    )  # fmt: skip


def _looked(one: Shipped, text: str) -> dict[str, NDArray[Any]]:
    """What shipped weights make of a typed input: a view (:func:`memnb.probes.views.view`) without
    the filling, which takes most of its time.

    Raises:
        MemnbError: the text is empty, too long, or no expression of ListOps.
        DataError: the weights are damaged.
    """
    from memnb.probes.views import view

    network, inputs, length, label = _prepared(one, text)
    return view(network, inputs, length, label, points=0)


def _filled(one: Shipped, text: str) -> dict[str, NDArray[Any]]:
    """The filling alone."""
    from memnb.probes.views import filling

    network, inputs, length, _ = _prepared(one, text)
    prefixes, filled = filling(network, inputs, length)
    return {"prefixes": prefixes.numpy(), "filled": filled[..., :ROWS].numpy()}


def _prepared(one: Shipped, text: str) -> Any:
    """The network, and what it is to read: inputs, length, label."""
    import torch

    from memnb import weights

    task = one.run.task
    ids, label = tasks.encode(task, text)
    inputs = np.zeros(task.max_length, np.uint8)
    inputs[: len(ids)] = ids
    key = (one.path, one.path.stat().st_mtime_ns)
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = weights.load(one.path).network
    return _LOADED[key], torch.from_numpy(inputs), torch.tensor(len(ids)), torch.tensor(label)


#: The network that was looked at last.
_LOADED: dict[Any, Any] = {}


# --- widgets ---------------------------------------------------------------------------------


def _widgets() -> Any:
    try:
        import ipywidgets
    except ModuleNotFoundError:
        raise missing_package("Sliders need", "ipywidgets") from None
    return ipywidgets


def _chooser(widgets: Any, options: Sequence[str], name: str) -> Any:
    """A list to choose from, wide enough for the ids of runs."""
    wide = widgets.Layout(width="max-content")
    return widgets.Dropdown(options=options, description=name, layout=wide)


def _places(widgets: Any, one: Shipped) -> dict[str, Any]:
    most = _sizes(one)
    return {name: widgets.IntSlider(1, 1, most[name], description=name) for name in most}


def _sizes(one: Shipped) -> dict[str, int]:
    """Blocks, heads, and memory rows that a view holds."""
    model = one.run.model
    return {"block": model.blocks, "head": model.heads, "row": min(model.memory, ROWS)}


def _fit(controls: dict[str, Any], one: Shipped) -> None:
    for name, most in _sizes(one).items():
        controls[name].max = most


def _live(
    first: Callable[..., Figure],
    controls: dict[str, Any],
    *others: Callable[..., Figure],
    adapt: Callable[[str, str], None],
) -> ipywidgets.VBox:
    """A box of controls above one picture per drawing function.

    A picture is shown as soon as it is drawn; meanwhile a sentence says that more are to come. A
    mistake of the user's is shown as a sentence; the pictures then stay as they were.

    Args:
        first: gives the first picture; called with the controls' values.
        controls: by the name of the functions' arguments; the first one chooses a run or a model.
        others: give the other pictures.
        adapt: called with the new and the old choice of the first control, before anything is
            drawn; it may move the other controls.
    """
    widgets = _widgets()
    functions = [first, *others]
    pictures = [widgets.Image(format="png") for _ in functions]
    sentence = widgets.Label()
    chooser = next(iter(controls.values()))
    adapting = False

    def draw() -> None:
        values = {name: control.value for name, control in controls.items()}
        try:
            for number, (picture, function) in enumerate(zip(pictures, functions, strict=True)):
                sentence.value = f"Drawing picture {number + 1} of {len(functions)} ..."
                picture.value = _png(function(**values))
        except MemnbError as error:
            sentence.value = str(error)
            return
        sentence.value = ""

    def moved(change: dict[str, Any]) -> None:
        nonlocal adapting
        if adapting:  # drawn once, when every control stands where it should
            return
        if change["owner"] is chooser:
            adapting = True
            try:
                adapt(change["new"], change["old"])
            finally:
                adapting = False
        draw()

    for control in controls.values():
        control.continuous_update = False  # a picture takes longer than a drag
        control.observe(moved, "value")
    draw()
    return widgets.VBox([*controls.values(), sentence, *pictures])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return buffer.getvalue()
