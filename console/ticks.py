"""Where a chart's axis carries a number, and how it reads there. Pure."""

from __future__ import annotations

import math

TINY = 1e-300  # below it a width is none: its parts are no floats any more
Ticks = list[tuple[float, str]]  # position on the axis (log10 of the value on a logarithmic one), label


def linear(low: float, high: float, most: int) -> Ticks:
    """At most ``most`` round values (1, 2 or 5 times a power of ten apart) within [low, high]."""
    width = high - low
    if not (math.isfinite(width) and width > TINY and most > 0):
        return []
    step = _step(width, most)
    if low + step == low or high + step == high:  # a step that a float of this size cannot take
        return []
    first = math.ceil(low / step - 1e-9)
    values = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return [(value, words(value, step)) for value in values[:most]]


def logarithmic(low: float, high: float, most: int) -> Ticks:
    """The same for an axis whose positions are log10 of its values."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low and most > 0):
        return []
    if high - low < 1:
        found = linear(10**low, 10**high, most)
        return [(math.log10(value), label) for value, label in found if value > 0]
    every = max(1, math.ceil((high - low) / most))
    decades = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
    powers = [n for n in decades if n % every == 0] or [decades[0]]
    factors = (1, 2, 5) if 3 * (high - low + 1) <= most else (1, 3) if 2 * (high - low + 1) <= most else (1,)
    chosen = [(n + math.log10(f), f * 10.0**n) for n in powers for f in factors]
    return [(at, words(value, value)) for at, value in chosen if low - 1e-9 <= at <= high + 1e-9]


def _step(width: float, most: int) -> float:
    rough = width / most
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 5, 10):
        step = factor * power
        if math.floor(width / step) + 1 <= most:
            return step
    return 10 * power * 2


def words(value: float, step: float) -> str:
    """``value`` with as many digits as a grid of ``step`` needs: ``0.25``, ``1.5k``, ``20M``, ``3e-05``."""
    if value == 0 or abs(value) < step * 1e-6:
        return "0"
    size = abs(value)
    for unit, sign in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 9,800 and 9,900 read better whole; 10,000 and 20,000 as 10k and 20k
        if size >= unit and step >= unit / 1000 and (unit > 1e3 or step >= 1e3 or size >= 1e5):
            return f"{value / unit:.{_decimals(step / unit)}f}{sign}"
    if size >= 1e15 or size < 1e-4:
        return f"{value:.{max(0, min(6, math.floor(math.log10(size / step) + 1e-9)))}e}"
    return f"{value:.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    return max(0, min(12, -math.floor(math.log10(step) + 1e-9)))
