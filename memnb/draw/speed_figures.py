"""Figures of speed: rows of ``memnb bench`` (:mod:`memnb.evidence.benchmarks`)."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from memnb import naming
from memnb.draw import style

GIB = 2**30
AUTHORS = "authors' code"
AT_BEST = "authors' code at its best"
# Told apart in grey as well: from dark to light.
KIND_COLOURS = {
    "fused half block": "#12355B",
    "attention": "#1F77C9",
    "matrix products": "#6BAED6",
    "sums along the sequence": "#8A1C7C",
    "compiled element-wise": "#C4480A",
    "optimizer": "#F0A868",
    "other": "#9AA0A6",
    "waiting": "#E3E5E8",
}

#: Kinds whose name in the rows is short of words.
_SAID = {"fused half block": "feed-forward half (one fused kernel)"}


def steps(rows: pd.DataFrame, references: pd.DataFrame, subtitle: str = "") -> Figure:
    """Time and memory of a training step of each model, beside the authors' code.

    Args:
        rows: the step suite on one task and one device.
        references: :func:`memnb.evidence.benchmarks.references`.
        subtitle: device, precision and shape.
    """
    title = "One training step: time and memory, beside the authors' code"
    if rows.empty:
        return style.empty(title, subtitle)
    names = naming.model_order(rows["model"])
    figure, axes = style.canvas(1, 2, 1.1 + 0.34 * len(names), sharey=True)
    theirs = references[references["source"] == AUTHORS].set_index("model").reindex(names)
    own = rows.set_index("model")
    panels: tuple[tuple[Axes, pd.Series[float], pd.Series[float], str], ...] = (
        (axes[0, 0], own["milliseconds"], theirs["milliseconds"], "milliseconds"),
        (axes[0, 1], own["peak_memory"] / GIB, theirs["gib"], "peak memory (GiB)"),
    )
    for axis, ours, reference, unit in panels:
        for place, name in enumerate(names):
            _pair(axis, place, name, float(ours[name]), float(reference[name]))
        axis.set_xscale("log")
        axis.set_xlabel(unit)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.margins(x=0.32)  # room for the numbers
    axes[0, 0].set_yticks(range(len(names)), [naming.model_label(name) for name in names])
    axes[0, 0].invert_yaxis()
    marks = [
        Line2D([], [], linestyle="none", marker="o", color=style.INK, label="memnb"),
        Line2D(
            [], [], linestyle="none", marker="o", markerfacecolor="white",
            color=style.QUIET,
            label="authors' code (as shipped, float32; Transformer: repaired, bf16)",
        ),
    ]  # fmt: skip
    figure.legend(handles=marks, loc="outside lower center", ncols=2)
    style.heading(figure, title, subtitle)
    return figure


def _pair(axis: Axes, place: int, name: str, ours: float, theirs: float) -> None:
    look = style.family(name.split("-")[0])
    if not math.isnan(theirs):
        axis.plot([ours, theirs], [place, place], color=style.RULE, linewidth=2, zorder=1)
        axis.plot(
            theirs, place, marker=look.marker, markerfacecolor="white", color=style.QUIET, zorder=2
        )
        _number(axis, theirs, place, 6, color=style.QUIET)
    axis.plot(ours, place, marker=look.marker, color=look.colour, zorder=3)
    _number(axis, ours, place, -6, ha="right", color=look.colour, fontweight="bold")


def _number(axis: Axes, value: float, place: int, right: float, **look: Any) -> None:
    """Three digits of a value, written beside its mark."""
    axis.annotate(
        f"{value:#.3g}".rstrip("."), (value, place), (right, 0), textcoords="offset points",
        va="center", fontsize=8, **look,
    )  # fmt: skip


def where_time_goes(kernels: pd.DataFrame, subtitle: str = "") -> Figure:
    """Milliseconds of a step by kind of kernel, a bar per model, each as long as its step."""
    title = "Where the time of a training step goes"
    if kernels.empty:
        return style.empty(title, subtitle)
    spent = kernels.pivot_table("milliseconds", "model", "kind", fill_value=0.0)
    names, whole = naming.model_order(spent.index), spent.sum(axis=1)
    shown = [kind for kind in KIND_COLOURS if kind in spent and spent[kind].max() > 0.005]
    figure, axes = style.canvas(1, 1, 1.5 + 0.36 * len(names))
    axis = axes[0, 0]
    for place, name in enumerate(names):
        left = 0.0
        for kind in shown:
            width = float(100 * spent[kind][name] / whole[name])
            axis.barh(place, width, left=left, color=KIND_COLOURS[kind], height=0.72)
            if width >= 6:
                dark = kind in ("optimizer", "other", "waiting", "matrix products")
                axis.text(
                    left + width / 2, place, f"{spent[kind][name]:.2f}", ha="center",
                    va="center", fontsize=7, color=style.INK if dark else "white",
                )  # fmt: skip
            left += width
    labels = [f"{naming.model_label(name)}, {whole[name]:.1f} ms" for name in names]
    axis.set_yticks(range(len(names)), labels)
    axis.invert_yaxis()
    axis.set(xlim=(0, 100), xlabel="share of the step (%); numbers are milliseconds")
    axis.grid(False)
    handles = [Patch(color=KIND_COLOURS[kind], label=_SAID.get(kind, kind)) for kind in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    style.heading(figure, title, subtitle)
    return figure


def length(rows: pd.DataFrame, subtitle: str = "") -> Figure:
    """Time and memory of a training step at batch 1 against the length, on logarithmic axes."""
    title = "Longer sequences: one training step at batch 1"
    if rows.empty:
        return style.empty(title, subtitle)
    figure, axes = style.canvas(1, 2, 3.3)
    names = naming.model_order(rows["model"])
    scaled = rows.assign(gib=rows["peak_memory"] / GIB)
    for axis, column, unit in (
        (axes[0, 0], "milliseconds", "milliseconds"),
        (axes[0, 1], "gib", "peak memory (GiB)"),
    ):
        for name in names:
            own = scaled[scaled["model"] == name].sort_values("length")
            look = style.family(name.split("-")[0])
            wide = name.endswith("-256")
            axis.plot(
                own["length"], own[column], color=look.colour, marker=look.marker,
                linestyle=(0, (4, 1.5)) if wide else "-", linewidth=1.5, markersize=4.5,
                markerfacecolor="white" if wide else look.colour, label=naming.model_label(name),
            )  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel=unit)
        axis.xaxis.set_major_locator(FixedLocator([1e3, 1e4, 1e5, 1e6]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(_tokens)
        axis.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(NullLocator())
        _proportional(axis)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    style.heading(figure, title, subtitle)
    return figure


def _proportional(axis: Axes) -> None:
    """A quiet line that grows in proportion to the length, ending in the upper right corner."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    at = max(left, right * low / high)
    axis.plot(
        [at, right], [high * at / right, high], color=style.QUIET, linewidth=0.9,
        linestyle=style.DOTTED, zorder=1, label="in proportion to the tokens",
    )  # fmt: skip
    axis.set(xlim=(left, right), ylim=(low, high))


def _tokens(value: float, _: Any) -> str:
    return {1e6: "1M"}.get(value, f"{value / 1000:g}k")
