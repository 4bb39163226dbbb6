"""A benchmark's answer: goal and figure side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured number. ``goal`` is its bar in words ("<= 0.5 s"); ``ok`` says whether it holds."""

    name: str
    goal: str
    value: float
    unit: str
    ok: bool


def print_table(figures: Iterable[Figure]) -> None:
    """Goal and figure in columns; the last column says what was missed."""
    rows = [("what", "goal", "figure", "")]
    rows += [(f.name, f.goal, f"{_readable(f.value)} {f.unit}", "ok" if f.ok else "MISSED") for f in figures]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            row[1].ljust(widths[1]),
            row[2].rjust(widths[2]),
            row[3].ljust(widths[3]),
        ]
        print("  ".join(cells).rstrip())


def _readable(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
