"""Pane 6: the end of a trial's log, as plain text. What a program prints is never markup here."""

from __future__ import annotations

from collections.abc import Sequence

from console.formats import fit
from console.widgets.lines import Line, Scene, Span


def inputs(scene: Scene) -> tuple[object, ...]:
    return scene.state.log, scene.offset("log"), scene.number


def title(scene: Scene) -> tuple[Span, ...]:
    log = scene.state.log
    return ((log.label, "dim"),) if log else ()


def body(scene: Scene, width: int, height: int) -> list[Line]:
    log = scene.state.log
    if log is None:
        return [Line((("the log of the running trial, or of the selected experiment's", "faint"),))]
    if log.problem and not log.lines:
        return [Line(((log.problem, "faint"),))]
    seen = in_sight(log.lines, scene.offset("log"), height)
    return [Line(((fit(text, width), "dim"),)) for text in seen]


def in_sight(lines: Sequence[str], up: int, rows: int) -> Sequence[str]:
    """The lines that ``rows`` show, scrolled ``up`` from the end."""
    end = len(lines) - min(up, max(0, len(lines) - rows))
    return lines[max(0, end - rows) : end]
