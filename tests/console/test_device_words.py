"""A reading in words, whatever it holds."""

from __future__ import annotations

import pytest

from console.device_words import throttled, told
from console.widgets import device_lines
from engine.store.rows import ReadingRow

FULL = {
    "utilisation": 97.0, "memory_used_mb": 70_000.0, "memory_total_mb": 81_920.0, "power_w": 612.3,
    "temperature_c": 61.0, "clock_mhz": 1755.0, "throttle": ["power cap"], "foreign": 1,
}  # fmt: skip


def test_a_reading_is_told_in_one_line_and_its_age_when_it_is_old() -> None:
    line = "97 % busy, 68.4/80 GB, 612 W, 61 C, 1755 MHz, clocks held down: power cap, 1 process not ours"
    assert told(FULL, 1.0) == line
    assert told(FULL, 3700.0) == f"{line}, 1h01m ago"
    assert told({"utilisation": 0.0, "throttle": ["idle"]}, 0.0) == "0 % busy"
    assert told({}, 0.0) == "it says nothing of itself"


@pytest.mark.parametrize(
    ("throttle", "words", "grave"),
    [
        (None, "", False),
        ([], "", False),
        (["idle"], "", False),
        (["power cap"], "power cap", False),
        (["thermal", "power cap"], "thermal, power cap", True),
        (["hardware slowdown"], "hardware slowdown", True),
        (["power brake", "idle"], "power brake", True),
        (("a", "b", "c", "d"), "a, b, c", False),
        ("thermal", "", False),
        ([{"a": 1}, 7, "\x1b[31mred"], "red", False),
    ],
)
def test_what_holds_the_clocks_down_is_said_and_marked_where_it_matters(
    throttle: object, words: str, grave: bool
) -> None:
    found, marked = throttled({"throttle": throttle})
    assert (found.replace("␛[31m", ""), marked) == (words, grave)


def test_odd_values_break_nothing() -> None:
    for odd in (float("nan"), "x", [], {}, True, 10**400, None):
        assert told(dict.fromkeys(FULL, odd), 0.0)


def painted(age: float, *reasons: str) -> str:
    row = ReadingRow("box", "GPU-1", 1000.0 - age, {**FULL, "throttle": list(reasons)})
    lines = (device_lines.measures(row, 1000.0), device_lines.together([row], 1000.0))
    return "".join(text for spans in lines for text, _ in spans)


def test_panes_say_that_a_device_is_slowed_and_keep_still_about_a_power_cap() -> None:
    assert "slowed: thermal, power cap" in painted(1.0, "thermal", "power cap") and "1 slowed" in painted(
        1.0, "thermal"
    )
    assert "slowed" not in painted(1.0, "power cap") and "slowed" not in painted(60.0, "thermal")
