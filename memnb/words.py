"""Numbers of things, lengths of time and lists, as one would say them."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def counted(number: int, noun: str) -> str:
    """A number of things: ``1 run``, ``3 runs``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """A length of time: ``40 s``, ``3 min``, ``2 h 5 min``, ``3 days``."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days = hours / 24
    return f"{days:.0f} days" if days < 730 else f"{days / 365:.0f} years"


def span(values: Iterable[float], say: Callable[[float], str]) -> str:
    """From the least to the greatest: ``3.5 to 7.9``, or one number where both read alike."""
    known = list(values)
    return " to ".join(dict.fromkeys(map(say, (min(known), max(known)))))


def listed(parts: Iterable[str], before_last: str = "and") -> str:
    """``a, b and c``; one part is itself."""
    *some, last = parts
    return f"{', '.join(some)} {before_last} {last}" if some else last
