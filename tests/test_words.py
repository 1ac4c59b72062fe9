"""Numbers of things, lengths of time and lists read as one would say them."""

from __future__ import annotations

import pytest

from memnb.words import counted, duration, listed, span


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


def test_a_span_is_one_number_where_both_ends_read_alike() -> None:
    assert span([7.93, 3.5, 4.0], "{:.1f}".format) == "3.5 to 7.9"
    assert span((value for value in (3.51, 3.49)), "{:.1f}".format) == "3.5"


def test_a_list_names_its_last_part_apart() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"], "or") == "a or b"
    assert listed(name for name in "abc") == "a, b and c"
