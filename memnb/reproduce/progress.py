"""One line that says how far things are: in a notebook, on a terminal, or in a log.

No widget library is needed: Jupyter's own display protocol updates a cell's output in place.
"""

from __future__ import annotations

import html
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from memnb.words import duration

_LOG_EVERY = 10.0
_DRAW_EVERY = 0.25


class Display:
    """Shows nothing but what is worth keeping: :meth:`note`. The base of the others, and CI's."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    def update(self, text: str, fraction: float) -> None:
        """The state now; ``fraction`` of all work done, 0 to 1."""

    def note(self, text: str) -> None:
        """Something that happened, kept in the scroll-back."""
        print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Leave the place tidy."""


class Log(Display):
    """A plain line every few seconds, for a file or a pipe."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self.last = time.monotonic()

    def update(self, text: str, fraction: float) -> None:
        if time.monotonic() - self.last >= _LOG_EVERY:
            self.last = time.monotonic()
            print(text, file=self.stream, flush=True)


class Terminal(Display):
    """One line, rewritten in place."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self.last = 0.0
        self.shown = False

    def update(self, text: str, fraction: float) -> None:
        if time.monotonic() - self.last < _DRAW_EVERY:
            return
        self.last = time.monotonic()
        width = shutil.get_terminal_size().columns - 1
        self.stream.write("\r\x1b[2K" + f"{fraction:4.0%}  {text}"[:width])
        self.stream.flush()
        self.shown = True

    def note(self, text: str) -> None:
        self.close()
        super().note(text)

    def close(self) -> None:
        if self.shown:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
            self.shown = False


class Notebook(Display):
    """A bar in the output of a Jupyter cell, updated in place."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.last = 0.0
        self.handle: Any = None

    def update(self, text: str, fraction: float) -> None:
        from IPython.display import HTML, display

        done = fraction >= 1.0
        if self.handle is not None and not done and time.monotonic() - self.last < _DRAW_EVERY:
            return
        self.last = time.monotonic()
        bar = HTML(
            f'<progress value="{fraction:.4f}" max="1" style="width:16em"></progress> '
            f"{html.escape(text)}"
        )
        if self.handle is None:
            self.handle = display(bar, display_id=True)
        else:
            self.handle.update(bar)


class Until(Display):
    """Another display that also says how long it is until all is stopped.

    Args:
        display: shows it.
        deadline: the time (:func:`time.time`) of the stop.
    """

    def __init__(self, display: Display, deadline: float) -> None:
        super().__init__(display.stream)
        self.display, self.deadline = display, deadline

    def update(self, text: str, fraction: float) -> None:
        seconds = max(0.0, self.deadline - time.time())
        self.display.update(f"stops in {duration(seconds)} · {text}", fraction)

    def note(self, text: str) -> None:
        self.display.note(text)

    def close(self) -> None:
        self.display.close()


def choose(stream: TextIO | None = None) -> Display:
    """The display that fits where the process runs."""
    if _in_kernel():
        return Notebook()
    stream = stream or sys.stderr
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        return Terminal(stream)
    return Display(stream) if os.environ.get("CI") else Log(stream)


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def follow(display: Display) -> Callable[[Any], None]:
    """A ``progress=`` argument for :func:`memnb.train.loop.train` that shows one run."""
    start: list[tuple[float, int]] = []

    def show(progress: Any) -> None:
        if not start:
            start.append((time.monotonic(), progress.step))
        began, first = start[0]
        steps = progress.step - first
        left = (time.monotonic() - began) / steps * (progress.steps - progress.step) if steps else 0
        text = describe(progress.step, progress.steps, progress.loss, progress.accuracy)
        text += f" · {duration(left)} left" if left else ""
        display.update(text, progress.step / progress.steps)

    return show


def describe(step: int, steps: int, loss: float | None, accuracy: float | None) -> str:
    """How far one run is, in a few words (:class:`memnb.train.loop.Progress`)."""
    text = f"step {step:,} of {steps:,}"
    text += "" if loss is None else f", loss {loss:.3f}"
    return text + ("" if accuracy is None else f", validation {accuracy:.1%}")
