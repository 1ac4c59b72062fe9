"""The tasks and their data as tables: what an input is, how many there are, what is here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from memnb import config, naming
from memnb.evidence import levels
from memnb.tasks import catalogue
from memnb.tasks.pathfinder_original import IMAGES, Statistic
from memnb.tasks.portraits import LABELS, Portrait


def tasks() -> pd.DataFrame:
    """What the tasks of both scales are, from their configs: full scale above, laptop scale below.

    Returns:
        Columns ``Task`` (those of laptop scale are called short), ``An input``, ``Tokens``,
        ``Labels``, ``Steps``, ``Epochs`` (both at most), ``Train / validation / test``, ``One
        answer always (%)`` and ``First operator alone (%)`` on the test set, and ``Blocks ×
        width`` of a model.
    """
    laptop = [name for name in config.TASKS if name.endswith("-short")]
    rows = []
    for name in (*config.FULL_TASKS, *laptop):
        task, run = config.TASKS[name], config.run_config("luna-1", name)
        train, validation, test = catalogue.sizes(task)
        on_test = isinstance(task, config.Text) and task.validation == "paper"
        known, (shape, tokens) = levels.levels_of(name), _input_of(task)
        validated = "the test set" if on_test else f"{validation:,}"
        rows.append(
            {
                "Task": naming.task_label(name),
                "An input": shape,
                "Tokens": tokens,
                "Labels": f"{len(LABELS[name.removesuffix('-short')])}",
                "Steps": f"{run.training.steps:,}",
                "Epochs": f"{run.training.steps * run.training.batch / train:.1f}",
                "Train / validation / test": f"{train:,} / {validated} / {test:,}",
                "One answer always (%)": levels.in_percent(known.constant),
                "First operator alone (%)": levels.in_percent(known.first_operator),
                "Blocks × width": f"{run.model.blocks} × {run.model.width}",
            }
        )
    return pd.DataFrame(rows)


def _input_of(task: config.Task) -> tuple[str, str]:
    """What an input of a task is, in words, and how many tokens it has."""
    length = f"{task.max_length:,}"
    if isinstance(task, config.ListOps):
        tokens = f"{task.min_length + 1:,} to {task.max_length - 1:,}"
        return "nested operations on digits", tokens
    if isinstance(task, config.Text):
        return f"the first {length} bytes of a film review", f"up to {length}"
    if isinstance(task, config.Retrieval | config.RetrievalACL):
        return f"the first {length} bytes of each of two papers", f"2 × up to {length}"
    side = math.isqrt(task.max_length)
    if isinstance(task, config.Pathfinder):
        most = f"up to {task.distractors}" if task.distractors else "no"
        return (
            f"a drawing of {side} × {side} pixels: two contours of {task.contour_length} dashes, "
            f"{most} distractors"
        ), length
    return f"a grey photograph of {side} × {side} pixels", length


def datasets(portraits: Sequence[Portrait]) -> pd.DataFrame:
    """The card of each data set, one per row.

    Returns:
        Columns ``Data set``, ``On this machine``, ``Examples (train / validation / test)``,
        ``Length``, ``Labels``, ``Counted``, ``Licence``, ``Please cite``, ``Source``.
    """
    rows = []
    for one in portraits:
        card = one.status.card
        rows.append(
            {
                "Data set": card.title,
                "On this machine": _data_here(one),
                "Examples (train / validation / test)": card.contents,
                "Length": _data_lengths(one),
                "Labels": _data_labels(one),
                "Counted": one.basis or "–",
                "Licence": card.licence,
                "Please cite": card.citation,
                "Source": card.source,
            }
        )
    return pd.DataFrame(rows)


def _data_lengths(one: Portrait) -> str:
    if one.counts is None:
        return f"not counted; cut at {one.max_length:,} bytes"
    counts = one.counts
    unit = "tokens" if one.name == "listops" else "pixels" if one.is_of_pixels else "bytes"
    if counts.shortest == counts.longest:
        return f"{counts.longest:,} {unit}, all of them"
    cut = counts.beyond(one.max_length)
    text = f"{counts.shortest:,} to {counts.longest:,} {unit}, median {counts.median:,.0f}"
    return f"{text}; {_percent(cut)} are cut at {one.max_length:,}" if cut else text


def _data_labels(one: Portrait) -> str:
    names = LABELS[one.name]
    if one.counts is None:
        return f"{' / '.join(names)}; not counted"
    shares = one.counts.balance
    if len(shares) == 2:
        return ", ".join(f"{name} {_percent(x)}" for name, x in zip(names, shares, strict=True))
    low, high = _percent(shares.min()), _percent(shares.max())
    each = f"each {low}" if low == high else f"{low} to {high} each"
    return f"{len(shares)} labels, {each}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _data_here(one: Portrait) -> str:
    if one.status.ready:
        size = f"yes, {one.status.size / 1e6:.0f} MB"
        return f"{size}, but: {one.problem}" if one.problem else size
    step = one.status.card.next_step
    return f"no: {step.removeprefix('nothing: ')}"


def pathfinder_statistics(measured: Sequence[Statistic], count: int) -> pd.DataFrame:
    """``count`` images of ours beside the original program's.

    Returns:
        Columns ``Measure``, the two samples, ``Tolerance``, and whether they agree within it.
    """
    rows = []
    for one in measured:
        numbers = (one.original, one.ours, one.tolerance)
        original, ours, tolerance = (
            f"{100 * number:.3g} %" if one.share else f"{number:.4f}" for number in numbers
        )
        rows.append([one.name, original, ours, f"± {tolerance}", "yes" if one.agrees else "no"])
    columns = ["Measure", f"Original program ({IMAGES:,} images)", f"memnb ({count:,} images)",
               "Tolerance", "Agrees"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)
