"""Where pack and unpack look: attention maps of one example, relative to an even spread."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator

from memnb import naming
from memnb.draw import panels, style
from memnb.evidence import rows as evidence
from memnb.evidence.levels import Levels
from memnb.tasks import tokens as readable

Stream = Literal["pack", "unpack"]

HEAT = LinearSegmentedColormap.from_list(
    "memnb", ["#FFFFFF", "#CFE1F3", "#7FB2DF", "#2F7CC4", "#123F73", "#05142B"]
).with_extremes(bad="#EDEDED")


def attention(
    maps: Mapping[str, np.ndarray] | None,
    stream: Stream,
    *,
    memory: int,
    tokens: Sequence[str] | None = None,
    window: tuple[int, int] | None = None,
    heads: Sequence[int] | None = None,
    title: str = "",
    subtitle: str = "",
    padded_to: int | None = None,
) -> Figure:
    """One example's attention of one model: a grid of blocks (rows) and heads (columns).

    Both streams are drawn with the sequence along x and memory rows along y, so that a pack map
    (each row looks at the sequence) and an unpack map (each position looks at the rows) can be
    laid one over the other. Colour is the weight relative to an even spread over the keys: 1 is
    no preference. As coded, padding is not masked: what a head spends on padding is printed above
    its map, and the colours are those of the weight that falls on tokens. Of more positions than
    a panel can show, neighbours are averaged; where a row of pack looks at little but one position,
    which averages would hide, that position has a dot.

    Args:
        maps: arrays of :func:`memnb.evidence.rows.load_attention`, or None where a run has none.
        stream: ``pack`` or ``unpack``.
        memory: M of the model (the maps may hold its first rows only).
        tokens: readable tokens of the example, from its first position; printed as ticks where
            they fit.
        window: first and last + 1 position to show; the whole example if not given.
        heads: numbers of the heads to show, from 1; all if not given.
        title: heading, such as the model's name.
        subtitle: where the rows come from.
        padded_to: tokens of a padded input; says what share of its weight a head that looks
            everywhere alike spends on padding.
    """
    heading = _heading(title, stream)
    if maps is None:
        return style.empty(heading, subtitle)
    if stream == "unpack" and memory == 1:
        note = (
            "With one memory row every unpack weight is 1: every position receives the same "
            "vector. There is nothing to look at."
        )
        return style.empty(heading, subtitle, note)
    weights, padding, labels = relative_weights(maps, stream, memory, tokens)
    is_padded = bool(padding.max() > _WORTH_SAYING)
    start, stop = window or (0, weights.shape[-1])
    single = _single(weights, start, stop)
    weights, labels = weights[..., start:stop], labels[start:stop]
    blocks = range(1, len(weights) + 1)
    heads = list(heads or range(1, weights.shape[1] + 1))
    rows, length = weights.shape[2:]
    # A token needs a tenth of an inch on the axis.
    fits = bool(labels) and 0.1 * length <= (style.PAGE_WIDTH - 1.4) / len(heads)
    figure, axes = style.canvas(
        len(blocks), len(heads), 1.05 + len(blocks) * (0.42 + 0.05 * max(rows, 6)) + 0.25 * fits,
        sharex=True, sharey=True,
    )  # fmt: skip
    most = _COLUMNS // len(heads)
    hidden, dots = stream == "pack" and weights.shape[-1] > most, 0
    weights = _binned(weights, most)
    high = max(float(np.nanquantile(weights, 0.998)), 2.0)
    for line, block in zip(axes, blocks, strict=True):
        for axis, head in zip(line, heads, strict=True):
            image = _draw_map(axis, weights[block - 1, head - 1], start, length, high)
            if hidden:
                dots += _dot(axis, single[block - 1, head - 1])
            if fits:
                axis.set_xticks(range(start, start + length), labels, rotation=90, fontsize=7)
            else:
                axis.xaxis.set_major_locator(panels.ticks(4))
            if block == blocks[0]:
                axis.set_title(f"head {head}", fontsize=8.5, pad=12 if is_padded else 5)
            if padding[block - 1, head - 1] > _WORTH_SAYING:
                share = f"{padding[block - 1, head - 1]:.0%} on padding".replace("%", " %")
                style.note(axis, share, (1, 0.5), (0, 1), ha="right", va="bottom", fontsize=6.5)
        # Beside few rows there is no room for the second line.
        line[0].set_ylabel(f"block {block}" + ("\nmemory row" if rows > 8 else ""), fontsize=8)
    panels.name_axes(axes, "token" if fits else "position in the sequence")
    over = relative_to(stream, padded=is_padded)
    letters = int(18 * len(blocks) * (0.42 + 0.05 * max(rows, 6)))  # that fit beside the bar
    words = textwrap.fill(f"{over}; scale of this figure alone", letters)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.015, aspect=30)
    bar.outline.set_visible(False)
    name_weights(bar, words, 7.5)
    if padded_to and is_padded:
        share = f"{even_on_padding(maps, padded_to):.0%}".replace("%", " %")
        subtitle = f"Even attention spends {share} on padding. {subtitle}"
    if dots:
        subtitle = f"Dot: where more than half of a row's weight lies. {subtitle}"
    return panels.finish(figure, heading, subtitle, _as_rows(weights, heads, start, length))


def _heading(title: str, stream: Stream) -> str:
    what = {"pack": "pack: where each memory row looks", "unpack": "unpack: which rows are read"}
    return f"{title}, {what[stream]}" if title else what[stream].capitalize()


#: The share of a head's weight on padding above which it is said.
_WORTH_SAYING = 0.02


def _draw_map(axis: Axes, weights: np.ndarray, start: int, length: int, high: float) -> AxesImage:
    """One head's relative weights (rows, columns) over ``length`` positions from ``start`` on, in
    colours from 1 / ``high`` to ``high``."""
    rows = len(weights)
    # Log scale: twice and half the even share are equally far from it.
    image = axis.imshow(
        np.clip(weights, 1 / high, high), aspect="auto", cmap=HEAT,
        norm=LogNorm(1 / high, high), interpolation="nearest",
        extent=(start - 0.5, start + length - 0.5, rows + 0.5, 0.5),
    )  # fmt: skip
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set(visible=True, color=style.RULE)
    axis.yaxis.set_major_locator(FixedLocator(sorted({1, rows})))
    return image


def _single(weights: np.ndarray, start: int, stop: int) -> np.ndarray:
    """(..., rows, positions) -> (..., rows): the position, ``start`` up to ``stop``, that has more
    than half of a row's weight; -1 where none has."""
    top = weights.argmax(axis=-1)
    half = weights.max(axis=-1) > 0.5 * weights.sum(axis=-1)  # not where all is on padding: NaN
    return np.where(half & (start <= top) & (top < stop), top, -1)


def _dot(axis: Axes, positions: np.ndarray) -> int:
    """A dot in each row, from 1, that has one of ``positions``; returns how many there are."""
    (rows,) = np.nonzero(positions >= 0)
    if not len(rows):
        return 0  # a line without points that is not clipped would upset the layout
    axis.plot(positions[rows], rows + 1, linestyle="none", marker="o", markersize=3.2,
              color=style.INK, markeredgecolor="white", markeredgewidth=0.4,
              clip_on=False)  # fmt: skip
    return len(rows)


def name_weights(bar: Colorbar, words: str, fontsize: float) -> None:
    """Name the ends of a scale of relative weights, and, in ``words``, what 1 is relative to."""
    low, high = bar.mappable.get_clim()
    most = f"{high:.2g}" if high < 99.5 else f"{high:,.0f}"
    bar.set_ticks([low, 1, high], labels=[f"≤ {low:.2g}", "1 (even)", f"≥ {most}"])
    bar.minorticks_off()
    bar.set_label(words, fontsize=fontsize)


def attention_of(
    runs: pd.DataFrame,
    model: str,
    stream: Stream,
    seed: int = 0,
    subtitle: str = "",
    *,
    task: str | None = None,
    known: Levels | None = None,
    **view: Any,
) -> Figure:
    """:func:`attention` of a run of ``model`` with this seed; if it has no maps, a panel that says
    which have some.

    Of several tasks the first one of the benchmark is shown whose run has maps, or ``task``.
    ``known``: what takes no memory on its test set, where the data are of one's own.
    ``view`` is handed on: ``window``, ``heads``.

    Raises:
        DataError: the run's file of attention maps is damaged.
    """
    plain = panels.plain_models(runs)
    found = panels.finished(plain[(plain["model"] == model) & (plain["seed"] == seed)])
    title, memory = naming.model_label(model), int(model.partition("-")[2] or 0)
    for name in naming.task_order(found["task"]):
        run = found[found["task"] == name].iloc[0]
        maps = evidence.load_attention(run) if task in (None, name) else None
        if maps is None:
            continue
        # Of the run: a task may have been made shorter or longer.
        read, length = evidence.read_run(Path(run["folder"]))[1].task, int(maps["length"])
        where = f"{naming.data_label(read)}, seed {seed}, {length:,} "
        where += f"{panels.unit_of(read)} of at most {read.max_length:,}. "
        if panels.has_not_learned(name, run["test_accuracy"], known):
            where += f"Has not learned this task ({100 * run['test_accuracy']:.1f} %). "
        where += subtitle
        return attention(
            maps, stream, memory=memory, tokens=readable(read, maps["tokens"], length),
            title=title, subtitle=where, padded_to=read.max_length, **view,
        )  # fmt: skip
    mapped = [evidence.has_attention(run) for _, run in plain.iterrows()]
    with_maps = plain[np.array(mapped, dtype=bool)]
    why = panels.nothing_of(with_maps, "map", model=model, task=task, seed=seed)
    if len(plain) and with_maps.empty:
        why = "No maps of these runs were kept."
    return style.empty(_heading(title, stream), subtitle, why)


def relative_to(stream: str, *, padded: bool) -> str:
    """What the weights of :func:`relative_weights` are, as a scale of colours names them."""
    over = "memory rows" if stream == "unpack" else "tokens"
    left_out = ", padding left out" if padded and stream == "pack" else ""
    return f"weight relative to an even spread over the {over}{left_out}"


def relative_weights(
    maps: Mapping[str, np.ndarray], stream: Stream, memory: int, tokens: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Weights over their even share, what fell on padding, and the positions' names.

    Shapes: (blocks, heads, rows, positions), NaN where all of a row's weight is on padding;
    (blocks, heads); positions, or none.
    """
    weights = np.asarray(maps[stream], dtype=np.float64)
    positions = weights.shape[-1 if stream == "pack" else -2]
    if stream == "pack":
        on_tokens = weights.sum(axis=-1, keepdims=True)
        padding = 1 - on_tokens.mean(axis=(-2, -1))
        # Below a thousandth, half precision has too few digits left to tell where it falls.
        shares = np.where(on_tokens > 1e-3, weights / np.maximum(on_tokens, 1e-3), np.nan)
        relative = shares * positions
    else:
        relative, padding = weights.swapaxes(-1, -2) * memory, np.zeros(weights.shape[:2])
    known = len(np.asarray(maps["tokens"]))
    labels: list[str] = []
    # A CLS vector stands in front where the model uses one. A filter that shortens the sequence
    # leaves positions that are no single token, hence without a name.
    if tokens and positions - known in (0, 1):
        labels = [*(["CLS"] * (positions - known)), *map(_visible, tokens)]
    return relative, padding, labels[:positions]


def even_on_padding(maps: Mapping[str, np.ndarray], padded_to: int) -> float:
    """The share (0..1) of pack's weight on padding if all positions of an input get the same.

    Args:
        maps: arrays of :func:`memnb.evidence.rows.load_attention`.
        padded_to: tokens of the padded input, the task's greatest length.
    """
    length, positions = int(maps["length"]), int(np.asarray(maps["unpack"]).shape[-2])
    before = positions - length  # the CLS vector, where the model uses one
    return 1 - positions / (padded_to + before)


def _as_rows(weights: np.ndarray, heads: Sequence[int], start: int, length: int) -> pd.DataFrame:
    """What a figure of attention shows: one row per block, head and memory row, a column per
    position, or per stretch of positions that it begins."""
    places = np.linspace(start, start + length, weights.shape[-1], endpoint=False).astype(int)
    rows = range(1, weights.shape[2] + 1)
    names = ["block", "head", "row"]
    index = pd.MultiIndex.from_product([range(1, len(weights) + 1), heads, rows], names=names)
    shown = weights[:, [head - 1 for head in heads]].round(3).reshape(len(index), -1)
    columns = [f"position_{place}" for place in places]
    return pd.DataFrame(shown, index=index, columns=columns).reset_index()


_COLUMNS = 640
"""Positions that stay apart across a page at 100 dots per inch."""


def _binned(weights: np.ndarray, most: int) -> np.ndarray:
    """(..., positions) averaged over equal stretches, so that at most ``most`` remain.

    Left to the renderer, all but every n-th position would silently vanish.
    """
    positions = weights.shape[-1]
    if positions <= most:
        return weights
    edges = np.linspace(0, positions, most + 1).round().astype(int)
    return np.add.reduceat(weights, edges[:-1], axis=-1) / np.diff(edges)


def _visible(token: str) -> str:
    """A token as a tick: a blank can be seen, and a dollar sign starts no formula."""
    return "␣" if token == " " else token.replace("$", r"\$")
