"""Numbers of things and lengths of time read as one would say them."""

from __future__ import annotations

import pytest

from memnb.words import counted, duration


def test_one_thing_is_no_plural() -> None:
    assert [counted(n, "run") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (600, "10 min"),
        (3599, "1 h"),
        (7500, "2 h 5 min"),
        (48 * 3600, "2 days"),
        (4.2 * 365 * 24 * 3600, "4 years"),
    ],
)
def test_lengths_of_time_as_one_would_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
