"""What every line passes on its way out: without colour for ``mono``, in ASCII where the person asked for it."""

from __future__ import annotations

from functools import lru_cache

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from console import ascii_signs


@lru_cache(maxsize=1024)
def _colourless(style: Style) -> Style:
    return Style(bold=style.bold, underline=style.underline, reverse=style.reverse)


class Colourless(LineFilter):
    """Bold, underlined and reversed only; no colour, not even the terminal's default one by its number."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [
            Segment(text, None if style is None else _colourless(style), control)
            for text, style, control in segments
        ]


class Ascii(LineFilter):
    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(ascii_signs.plain(text), style, control) for text, style, control in segments]
