"""A list to choose from, painted: what is typed, the rows that match, and what the keys do."""

from __future__ import annotations

from collections.abc import Sequence

from console.choosing import Entry, Hit, Place
from console.formats import fit, width_of
from console.layout import Rect
from console.plain_text import clean
from console.widgets.lines import Line, Span

WIDTH, AROUND = 96, 4  # most columns; rows of the list that are no entries
HINTS = "enter choose   esc back   ↑ ↓ move"


def where(width: int, height: int, entries: int) -> Rect:
    """Its place on a terminal of ``width`` x ``height``: in the middle, with what is behind it to be seen."""
    wide = max(1, min(WIDTH, width - 4 if width > 44 else width))
    high = max(1, min(entries + AROUND, height - 4 if height > 20 else height))
    return Rect((width - wide) // 2, min(3, (height - high) // 2), wide, high)


def rows_of(height: int) -> int:
    return max(1, height - AROUND)


def lines(title: str, prompt: str, entries: Sequence[Hit], place: Place, width: int, height: int) -> list[Line]:
    """``prompt``: what stands where nothing is typed yet."""
    inner = max(1, width - 4)
    rows = rows_of(height)
    found = [_ruled(f"╭─ {title} ", f" {len(entries)} ─╮" if entries else "─╮", width)]
    found.append(_boxed(((fit(f"{place.query}█" if place.query else f"█ {prompt}", inner),
                          "bold" if place.query else "faint"),), width))  # fmt: skip
    seen = entries[place.top : place.top + rows]
    for i, hit in enumerate(seen, place.top):
        found.append(_row(hit, inner, i == place.at, width))
    if not entries:
        found.append(_boxed(((fit("nothing is called that", inner), "dim"),), width))
    found += [_boxed(((" " * inner, ""),), width)] * (height - 2 - len(found))
    found = found[: max(0, height - 2)]
    found.append(_boxed(((fit(HINTS, inner), "faint"),), width))
    found.append(_ruled("╰", "╯", width))
    return found


def _row(hit: Hit, inner: int, chosen: bool, width: int) -> Line:
    entry = hit.entry
    key = f" {entry.key} " if entry.key else ""
    aside = f" {clean(entry.off or entry.aside)} " if entry.off or entry.aside else ""
    name = clean(entry.name)
    room = inner - width_of(key) - 2
    if width_of(name) + width_of(aside) > room:
        least = room // 2 if entry.off else 8  # a reason matters more than the end of a name
        left = max(least if entry.off else 0, room - width_of(name))
        aside = fit(aside, min(left, width_of(aside))) if left >= 8 else ""
    spans: list[Span] = [("› " if chosen else "  ", "accent")]
    spans += _name(entry, fit(name, room - width_of(aside)), hit.marked)
    spans += [(aside, "warn" if entry.off else "faint"), (key, "faint" if entry.off else "key")]
    return _boxed(tuple(spans), width, "cursor" if chosen else "bar")


def _name(entry: Entry, text: str, marked: Sequence[int]) -> list[Span]:
    tone = "faint" if entry.off else ""
    if not marked:
        return [(text, tone)]
    spans: list[Span] = []
    for at, character in enumerate(text):
        style = "strong" if at in marked else tone
        if spans and spans[-1][1] == style:
            spans[-1] = (spans[-1][0] + character, style)
        else:
            spans.append((character, style))
    return spans


def _boxed(spans: Sequence[Span], width: int, fill: str = "bar") -> Line:
    if width < 4:
        return Line(tuple(spans), fill)
    ground = "@bar"
    return Line((("│ ", f"accent{ground}"), *spans, (" │", f"accent{ground}")), fill)


def _ruled(left: str, right: str, width: int) -> Line:
    middle = max(0, width - width_of(left) - width_of(right))
    return Line(((fit(left + "─" * middle + right, width), "accent"),), "bar")
