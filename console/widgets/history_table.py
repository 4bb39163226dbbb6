"""The history as a table: only the rows in sight are made, the columns by the room there is. Pure painters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from console.charting import Mark
from console.formats import dollars, fit, forest, interval, number, plus_minus, wrap
from console.history_view import HistoryView, Table, index_of, top_row, under_cursor
from console.plain_text import clean
from console.widgets.experiment_list import LOOKS, SCALE_SIGMAS
from console.widgets.lines import Line, Span
from console.widgets.metric_chart import LETTERS
from engine.store.reading_screens import HistoryRow


@dataclass(frozen=True, slots=True)
class Column:
    """``name`` is also the sort's, where there is one."""

    name: str
    heading: str
    width: int


def columns(width: int, *, with_dollars: bool = False, with_kinds: bool = False) -> tuple[Column, ...]:
    """What there is room for besides the title, which takes the rest (at least 20 columns from 60 on)."""
    found = [Column("number", "    #", 7), Column("verdict", "  verdict", 11)]
    if width >= 110:
        found.append(Column("when", "when", 12))
    if width >= 104:
        found.append(Column("effect", "effect, 90 % interval", 29))
    elif width >= 46:
        found.append(Column("effect", "effect", 17))
    if width >= 170:
        found.append(Column("drawn", "worse ┊ better", 16))
    if width >= 72:
        found.append(Column("score", "score", 9))
    if with_dollars and width >= 92:
        found.append(Column("dollars", "$", 9))
    if width >= 60:
        found.append(Column("author", "author", 8))
    if with_kinds and width >= 124:
        found.append(Column("kind", "kind", 13))
    return tuple(found)


def headings(of: tuple[Column, ...], view: HistoryView, width: int) -> Line:
    spans: list[Span] = [("  ", "")]
    for column in of:
        here = column.name == view.sort
        text = column.heading + (" ▲" if view.upwards else " ▼") * here
        spans.append((fit(text, column.width), "accent" if here else "faint"))
    room = max(0, width - 2 - sum(column.width for column in of))
    title = title_width(room)
    return Line((*spans, (fit(fit("title", title) + "why" * (title < room), room), "faint")))


def title_width(room: int) -> int:
    """What the title takes of the rest of a row; on a wide terminal the verdict's reason stands beside it."""
    return room if room < 84 else 50


def body(
    table: Table, view: HistoryView, marks: Mapping[int, Mark], sigma: float | None, width: int, height: int
) -> list[Line]:
    """The headings and the rows in sight; ``sigma`` of one run scales the drawn intervals."""
    of = columns(width, with_dollars=table.dollars, with_kinds=table.kinds)
    lines = [headings(of, view, width)]
    rows = height - 1
    at = index_of(table, view.cursor)
    top = top_row(at, len(table.rows), rows)
    scale = SCALE_SIGMAS * sigma if sigma else 0.0
    hits = frozenset(table.hits) if not view.only and view.filter else None
    for i in range(top, min(len(table.rows), top + rows)):
        row = table.rows[i]
        spans = _cells(row, of, marks.get(row.number), scale, width)
        if hits is not None and i not in hits:
            spans = tuple((text, "faint") for text, _ in spans)
        lines.append(Line(spans, "cursor" if i == at else ""))
    return lines


def _cells(
    row: HistoryRow, of: tuple[Column, ...], mark: Mark | None, scale: float, width: int
) -> tuple[Span, ...]:
    settled = row.state == "settled"
    sign, word, style = LOOKS.get(row.verdict if row.verdict and settled else row.state, ("?", row.state, "dim"))
    effect_style = _effect_style(row, settled)
    spans: list[Span] = [(f"{LETTERS[mark.slot]} ", f"mark_{mark.slot}") if mark else ("  ", "")]
    for column in of:
        match column.name:
            case "number":
                spans.append((f"{row.number:>6} ", "dim"))
            case "verdict":
                spans += [(f"{sign} ", style), (fit(clean(word), column.width - 2), style)]
            case "when":
                spans.append((fit(when(row.settled_at or row.created_at), column.width), "faint"))
            case "effect":
                show = interval if column.width > 20 else plus_minus
                told = show(row.effect, row.effect_low, row.effect_high) if row.effect is not None else ""
                spans.append((fit(told, column.width - 1) + " ", effect_style))
            case "drawn":
                spans.append((_drawn(row, scale, column.width - 1) + " ", effect_style))
            case "score":
                spans.append((fit(number(row.score) if row.score is not None else "", column.width), "dim"))
            case "dollars":
                spans.append((fit(dollars(row.dollars) if row.dollars else "", column.width), "dim"))
            case "author":
                spans.append((fit(clean(row.author), column.width - 1) + " ", "dim"))
            case "kind":
                spans.append((fit(clean(row.kind), column.width - 1) + " ", "dim"))
    room = max(0, width - 2 - sum(column.width for column in of))
    title = title_width(room)
    spans += _title(row, title - (title < room))
    if title < room:
        spans.append((" " + fit(clean(row.reason), room - title), "faint"))
    return tuple(spans)


def _title(row: HistoryRow, width: int) -> list[Span]:
    """A draft that came to nothing has its end's name in the place of a title, or before it."""
    tone = "bold" if row.verdict == "keep" else "" if row.state != "drafting" else "italic"
    title = clean(row.title) or ("a proposal is being written" if row.state == "drafting" else "")
    if not row.outcome:
        return [(fit(title or "untitled", width), tone)]
    head = fit(clean(row.outcome), min(width, len(clean(row.outcome)))) + ("  " if title else "")
    return [(head, "warn"), (fit(title, max(0, width - len(head))), "dim")]


def _effect_style(row: HistoryRow, settled: bool) -> str:
    if row.effect is None or row.effect_low is None or row.effect_high is None:
        return "dim"
    if row.effect_low > 0:
        return "good"
    if settled and row.verdict != "keep":
        return "dim"
    return "bad" if row.effect_high < 0 else ""


def _drawn(row: HistoryRow, scale: float, width: int) -> str:
    if row.effect is None or row.effect_low is None or row.effect_high is None:
        return " " * width
    return forest(row.effect, row.effect_low, row.effect_high, scale, width)


def when(at: float | None) -> str:
    """``06-15 14:02``, local time."""
    if at is None or not math.isfinite(at) or not 0 <= at < 2**40:
        return ""
    try:
        return f"{datetime.fromtimestamp(at):%m-%d %H:%M}"
    except (OverflowError, OSError, ValueError):
        return ""


# --- what the row in hand is about -------------------------------------------------------------------


def foot(table: Table, view: HistoryView, width: int, height: int) -> list[Line]:
    """Title, reason and hypothesis of the row under the cursor, under a rule."""
    row = under_cursor(table, view)
    lines = [Line((("─" * width, "rule"),))]
    if row is None:
        return lines
    who = clean(f"{row.author} {row.author_detail}".strip())
    head = f" #{row.number} "
    title = clean(row.title) or clean(row.outcome) or "untitled"
    room = width - len(head) - len(who) - 4
    if room < 20:
        who, room = "", width - len(head) - 1
    lines.append(Line(((head, "dim"), (fit(title, room), "bold"), (f"  {who}" if who else "", "faint"))))
    for text, style in ((row.reason, "dim"), (row.hypothesis, "")):
        if text:
            lines += [Line(((f" {part}", style),)) for part in wrap(text, max(10, width - 2))]
    if len(lines) > height:
        spans = lines[height - 1].spans
        lines[height - 1] = Line(((fit(spans[0][0], width - 2) + " …", spans[0][1]),))
    return lines[:height]
