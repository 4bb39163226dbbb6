"""A pane's frame: one ruled line with its digit and name on top, one column of rule to its left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from console.formats import width_of
from console.layout import Pane
from console.widgets.lines import Line, Painter, Scene, Span

Body = Callable[[Scene, int, int], Sequence[Line]]
Title = Callable[[Scene], tuple[Span, ...]]


def no_title(scene: Scene) -> tuple[Span, ...]:
    return ()


def framed(pane: Pane, body: Body, title: Title = no_title) -> Painter:
    """``body`` under a header; two columns to the left are taken, the second one is air."""

    def paint(scene: Scene, width: int, height: int) -> list[Line]:
        focused = scene.view.focus is pane
        lines = [header(pane, title(scene), width, focused)]
        edge: Span = ("│ ", "!accent" if focused else "!rule")
        lines += [Line((edge, *content.spans), content.fill) for content in body(scene, width - 2, height - 1)]
        lines += [Line((edge,))] * (height - len(lines))
        return lines[:height]

    return paint


def header(pane: Pane, title: tuple[Span, ...], width: int, focused: bool) -> Line:
    return ruled(f"{pane.digit} {pane.heading} ", title, width, focused)


def ruled(name: str, title: tuple[Span, ...], width: int, focused: bool) -> Line:
    """``name`` on a rule, ``title`` at its right end where there is room."""
    rule = "accent" if focused else "rule"
    used = 3 + width_of(name) + (sum(width_of(t) for t, _ in title) + 2 if title else 0)
    spans: list[Span] = [("├─ " if not focused else "┝━ ", rule), (name, "strong" if focused else "bold")]
    dash = "━" if focused else "─"
    if title and used <= width:
        return Line((*spans, (dash * (width - used), rule), (" ", ""), *title, (" ", "")))
    return Line((*spans, (dash * max(0, width - 3 - width_of(name)), rule)))
