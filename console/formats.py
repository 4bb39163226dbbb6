"""How facts read on a terminal: numbers with honest digits, durations, widths. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.cells import cell_len, set_cell_size

from console.plain_text import clean_lines


def width_of(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    return len(text) if text.isascii() else cell_len(text)


def fit(text: str, width: int, right: bool = False) -> str:
    """``text`` in exactly ``width`` columns, with an ellipsis where it does not fit."""
    if width <= 0:
        return ""
    length = width_of(text)
    if length > width:
        kept = text[: width - 1] if text.isascii() else set_cell_size(text, width - 1)
        return kept + "…"
    pad = " " * (width - length)
    return pad + text if right else text + pad


def wrap(text: str, width: int) -> Iterator[str]:
    """Clean lines of at most ``width`` columns, broken at spaces where there are any."""
    width = max(1, width)
    for line in clean_lines(text):
        while width_of(line) > width:
            head = line[:width] if line.isascii() else set_cell_size(line, width)
            cut = head.rfind(" ", width // 3)
            kept = head[:cut] if cut > 0 else head.rstrip(" ") if not line.isascii() else head
            kept = kept or line[:1]  # a character wider than the column: let it stick out rather than loop
            yield kept
            line = line[len(kept) :].lstrip(" ")
        yield line


# --- numbers -----------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 5) -> str:
    """A plain value to ``digits`` significant digits; trailing zeros stay, so that columns hold still."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:.{decimals}f}"
    return f"{value:.{max(0, digits - 2)}e}"


def _decimals(width: float) -> int:
    """Decimals that show an uncertainty of ``width`` to two digits: more would seem to mean something."""
    if not width > 0 or not math.isfinite(width):
        return 4
    return min(9, max(0, 1 - math.floor(math.log10(width))))


def plus_minus(estimate: float | None, low: float | None, high: float | None) -> str:
    """An effect with half the width of its 90 % interval: ``+0.0123 ±0.0043``."""
    if estimate is None:
        return ""
    if low is None or high is None or not all(map(math.isfinite, (estimate, low, high))):
        return f"{estimate:+.4g}"
    half = max(high - estimate, estimate - low)
    decimals = _decimals(half)
    return f"{estimate:+.{decimals}f} ±{half:.{decimals}f}"


def interval(estimate: float | None, low: float | None, high: float | None) -> str:
    """An effect with its 90 % interval: ``+0.0123 [+0.0080, +0.0166]``."""
    if estimate is None:
        return "no effect measured"
    if low is None or high is None or not all(map(math.isfinite, (estimate, low, high))):
        return f"{estimate:+.4g}"
    decimals = _decimals((high - low) / 2)
    return f"{estimate:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"


def forest(estimate: float, low: float, high: float, scale: float, width: int) -> str:
    """The interval as a mark in ``width`` columns, zero in the middle, ``scale`` at the edges."""
    if not (scale > 0 and all(map(math.isfinite, (estimate, low, high)))):
        return " " * width
    middle = width // 2

    def column(value: float) -> int:
        return min(width - 1, max(0, middle + round(max(-2.0, min(2.0, value / scale)) * middle)))

    cells = [" "] * width
    for x in range(column(low), column(high) + 1):
        cells[x] = "─"
    cells[middle] = "┼" if cells[middle] == "─" else "┊"
    cells[column(estimate)] = "●" if abs(estimate) <= scale else ("▶" if estimate > 0 else "◀")
    return "".join(cells)


def count(value: int) -> str:
    return f"{value:,}"


def dollars(nano: int | None) -> str:
    """Billionths of a US dollar: ``$1,234.56``, below a dollar to four significant digits, ``$0.0123``."""
    if nano is None:
        return "-"
    sign, nano = ("-", -nano) if nano < 0 else ("", nano)
    kept = 7 if nano >= 10**9 else max(0, len(str(nano)) - 4)  # digits that are rounded away
    billionths = (nano + 10**kept // 2) // 10**kept * 10**kept
    whole, rest = divmod(billionths, 10**9)
    return f"{sign}${whole:,}." + f"{rest:09d}".rstrip("0").ljust(2, "0")


def one_or_more(n: int, noun: str) -> str:
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


# --- time --------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """``45s``, ``2m05s``, ``1h20m``, ``3d04h``."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def roughly(seconds: float) -> str:
    """A duration that was estimated, without the seconds nobody can promise."""
    if seconds < 90:
        return "a minute" if seconds >= 30 else "seconds"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 86400 * 2:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def bar(fraction: float, width: int) -> str:
    """A bar of eighths in ``width`` columns."""
    if width <= 0:
        return ""
    fraction = 0.0 if not math.isfinite(fraction) else min(1.0, max(0.0, fraction))
    eighths = round(fraction * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(width)[:width]
