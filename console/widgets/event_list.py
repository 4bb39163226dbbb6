"""The event log as rows, newest first; what is trouble carries its mend. Pure painters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from console.event_words import DECISION, NEWS, ROUTINELY, TROUBLE, Said
from console.formats import fit, width_of, wrap
from console.history_view import top_row
from console.plain_text import clean
from console.widgets.history_table import when
from console.widgets.lines import Line, Span

STYLES = {TROUBLE: "warn", DECISION: "accent", NEWS: "", ROUTINELY: "faint"}
SIGNS = {TROUBLE: "!", DECISION: "◆", NEWS: " ", ROUTINELY: " "}
KINDS = {"keep": "kept", "crash": "bad", "lost": "bad", "invalid": "warn", "discard": "dim", "ratchet": "kept"}


def body(said: Sequence[Said], cursor: int, more: bool, width: int, height: int) -> list[Line]:
    """The rows in sight; ``more``: older ones are still to be read."""
    top = top_row(cursor, len(said), height)
    lines = [_row(one, width, i == cursor) for i, one in enumerate(said[top : top + height], top)]
    if len(lines) < height:
        told = " older ones are being read ..." if more else " the beginning of the log"
        lines.append(Line(((told, "faint"),)))
    return lines


def _row(one: Said, width: int, here: bool) -> Line:
    spans: list[Span] = [(f"{SIGNS[one.level]} ", STYLES[one.level] or "faint")]
    if width >= 60:
        spans.append((_when(one.at, width) + " ", "faint"))
    spans.append((fit(one.kind, 10) + " ", KINDS.get(one.kind, STYLES[one.level] or "dim")))
    spans.append((fit(f"#{one.number}" if one.number is not None else "", 6) + " ", "dim"))
    room = width - sum(width_of(text) for text, _ in spans)
    text = clean(one.text)
    if one.mend and width_of(text) + 12 < room:
        spans.append((text, "" if one.level in (TROUBLE, DECISION) else "dim"))
        spans += [("  mend: ", "faint"), (fit(clean(one.mend), room - width_of(text) - 8), "")]
    else:
        spans.append((fit(text, max(0, room)), "" if one.level in (TROUBLE, DECISION) else "dim"))
    return Line(tuple(spans), "cursor" if here else "")


def _when(at: float, width: int) -> str:
    """To the second where there is room."""
    short = when(at)
    if width < 100 or not short:
        return fit(short, 11)
    return f"{short}:{datetime.fromtimestamp(at):%S}"


def foot(one: Said | None, width: int, height: int) -> list[Line]:
    """The event under the cursor in full, under a rule."""
    lines = [Line((("─" * width, "rule"),))]
    if one is None:
        return lines
    lines += [Line(((f" {part}", STYLES[one.level]),)) for part in wrap(one.text, max(10, width - 2))]
    if one.mend:
        for i, part in enumerate(wrap(one.mend, max(10, width - 9))):
            lines.append(Line(((" mend: " if i == 0 else "       ", "faint"), (part, "bold"))))
    return lines[:height]
