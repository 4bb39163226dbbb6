"""What every further screen has around its body: the head, the keys, the frame of a pane, and what stands there
while there is nothing to show. Painters with explicit inputs."""

from __future__ import annotations

from collections.abc import Sequence

from console.formats import width_of, wrap
from console.plain_text import clean
from console.widgets.frame import ruled
from console.widgets.lines import Line, Span, two_sided

Hint = tuple[str, str, str]  # the key as shown, the word, why it is off ('': it is on)


def head(title: str, left: Sequence[Span], right: Sequence[Span], width: int) -> Line:
    """The screen's name, what it shows, and to the right what was chosen there."""
    return two_sided([(f" {title} ", "strong"), *left], [*right, (" ", "")] if right else [], width, "quiet")


def footer(hints: Sequence[Hint], last: Sequence[Hint], width: int) -> Line:
    """The keys of this moment; those of ``last`` (back, help) are never pushed out."""
    room = width - 1 - sum(_length(one) for one in last)
    spans: list[Span] = [(" ", "")]
    for one in hints:
        room -= _length(one)
        if room < 0:
            break
        spans += _hint(one)
    for one in last:
        spans += _hint(one)
    return Line(tuple(spans), "bar")


def _hint(hint: Hint) -> list[Span]:
    shown, word, off = hint
    return [(shown, "faint" if off else "key"), (f" {word}", "faint" if off else "dim"), ("   ", "")]


def _length(hint: Hint) -> int:
    return width_of(hint[0]) + 1 + width_of(hint[1]) + 3


def framed(
    name: str, title: tuple[Span, ...], body: Sequence[Line], width: int, height: int, focused: bool
) -> list[Line]:
    """``body`` (of ``width`` - 2) under a ruled head; the left edge is as the live screen's."""
    edge: Span = ("│ ", "!accent" if focused else "!rule")
    lines = [ruled(f"{name} ", title, width, focused)]
    lines += [Line((edge, *content.spans), content.fill) for content in body[: max(0, height - 1)]]
    lines += [Line((edge,))] * (height - len(lines))
    return lines[:height]


def tabs(names: Sequence[str], at: int, width: int) -> Line:
    """The panes' names, of which one is in front."""
    short = sum(width_of(name) + 2 for name in names) > width
    spans: list[Span] = []
    for i, name in enumerate(names):
        shown = name if i == at or not short else name[:6].rstrip()
        spans.append((f" {shown} ", "strong" if i == at else "dim"))
    return Line(tuple(spans), "quiet")


def told(texts: Sequence[tuple[str, str]], width: int) -> list[Line]:
    """Sentences (text, style) in place of a body: what is wrong or missing, and what to do next."""
    lines = [Line(())]
    for text, style in texts:
        lines += [Line(((" " + part, style),)) for part in wrap(clean(text), max(10, width - 2))]
    return lines


def sparkline(values: Sequence[float | None], width: int, most: float = 100.0) -> str:
    """The last ``width`` values as bars of eighths, '·' where there was none."""
    shown = list(values)[-width:] if width > 0 else []
    cells = ["·" if value is None else "▁▂▃▄▅▆▇█"[min(7, max(0, int(value / most * 8)))] for value in shown]
    return "".join(cells).rjust(width)
