"""What reaches the terminal is safe and says no more than was measured."""

from __future__ import annotations

import math
import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.formats import bar, duration, fit, forest, interval, number, plus_minus, roughly, width_of, wrap
from console.plain_text import clean, clean_lines

HOSTILE = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;title\x07after", "after"),
    ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1bP1;2|dcs\x1b\\x", "x"),
    ("\x9b2Jx", "x"),
    ("a\x00b\x07c\x7f", "abc"),
    ("gnp\u202ecod.exe", "gnpcod.exe"),
    ("10 %\r20 %\r30 %", "30 %"),
    ("[bold red]markup[/]", "[bold red]markup[/]"),
    ("\ud800x", "x"),
    ("\x1b", ""),
    ("two\nlines", "two lines"),
]


@pytest.mark.parametrize(("given_text", "shown"), HOSTILE)
def test_text_from_others_is_shown_plain(given_text: str, shown: str) -> None:
    assert clean(given_text) == shown


def test_no_random_bytes_leave_a_control_character() -> None:
    chance = random.Random(32)  # TRUST.md row 32
    alphabet = [chr(c) for c in range(0xA0)] + [
        "\x1b[",
        "\x1b]",
        "\x9b",
        "\u202e",
        "\u200f",
        "é",
        "漢",
        "m",
        "\x07",
    ]
    for _ in range(10_000):
        text = "".join(chance.choices(alphabet, k=chance.randint(0, 40)))
        for line in clean_lines(text):
            assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in line), ascii(text)


@given(st.text(max_size=80), st.integers(0, 40), st.booleans())
def test_fit_takes_exactly_its_columns(text: str, width: int, right: bool) -> None:
    assert width_of(fit(clean(text), width, right)) == width


@given(st.text(max_size=300), st.integers(2, 30))
def test_wrapped_lines_fit_and_lose_nothing_but_spaces(text: str, width: int) -> None:
    lines = list(wrap(text, width))
    assert all(width_of(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join("".join(clean_lines(text)).split())


def test_an_effect_has_the_digits_of_its_interval() -> None:
    assert plus_minus(0.012345, 0.008, 0.0167) == "+0.0123 ±0.0044"
    assert plus_minus(-1.5, -14.0, 11.0) == "-2 ±12"
    assert interval(0.012345, 0.008, 0.0167) == "+0.0123 [+0.0080, +0.0167]"
    assert plus_minus(None, None, None) == ""
    assert plus_minus(0.5, None, None) == "+0.5"
    assert plus_minus(math.inf, 0.0, 1.0) == "+inf"


def test_numbers_hold_still() -> None:
    assert [number(v) for v in (3.2, 0.0, 12345.0, 1e-9, 2e9, math.nan, None)] == [
        "3.2000", "0", "12345", "1.000e-09", "2.000e+09", "nan", "-",
    ]  # fmt: skip


def test_the_drawn_interval_has_zero_in_its_middle() -> None:
    assert forest(0.0, -1.0, 1.0, 1.0, 5) == "──●──"
    assert forest(0.5, 0.5, 1.0, 1.0, 5) == "  ┊●─"
    assert forest(9.0, 8.0, 9.5, 1.0, 5) == "  ┊ ▶"
    assert forest(math.nan, 0, 0, 1.0, 5) == "     "
    assert forest(0.1, 0, 1, 0.0, 5) == "     "


def test_times_read_as_people_say_them() -> None:
    assert [duration(s) for s in (-3, 45, 125, 4800, 273_600)] == ["0s", "45s", "2m05s", "1h20m", "3d04h"]
    assert [roughly(s) for s in (5, 60, 600, 7200, 400_000)] == [
        "seconds",
        "a minute",
        "10 min",
        "2.0 h",
        "4.6 days",
    ]


@given(st.floats(), st.integers(0, 30))
def test_a_bar_never_leaves_its_columns(fraction: float, width: int) -> None:
    assert len(bar(fraction, width)) == width
