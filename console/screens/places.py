"""Where the parts of each further screen stand: pure functions of the terminal's size. No Textual in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from console.layout import Pane, Rect

SMALL_WIDTH, SMALL_HEIGHT = 60, 16  # below: no strip; the head and the keys give way as well


@dataclass(frozen=True, slots=True)
class Page:
    """What every screen has; what is absent is not shown."""

    status: Rect
    head: Rect | None
    body: Rect
    strip: Rect | None
    footer: Rect | None


def page(width: int, height: int) -> Page:
    """Every cell belongs to exactly one rectangle, whatever the size."""
    width, height = max(1, width), max(1, height)
    if height < 4:
        rest = height - 1
        body = Rect(0, 1, width, rest) if rest else Rect(0, 0, width, 1)
        return Page(Rect(0, 0, width, 1 if rest else 0), None, body, None, None)
    strip = width >= SMALL_WIDTH and height >= SMALL_HEIGHT
    below = 2 if strip else 1
    return Page(
        Rect(0, 0, width, 1),
        Rect(0, 1, width, 1),
        Rect(0, 2, width, height - 2 - below),
        Rect(0, height - 2, width, 1) if strip else None,
        Rect(0, height - 1, width, 1),
    )


def history(body: Rect) -> dict[str, Rect]:
    """The table, and where there is room what the row in hand is about."""
    foot = 6 if body.height >= 30 else 4 if body.height >= 22 else 0
    found = {"table": Rect(body.x, body.y, body.width, body.height - foot)}
    if foot:
        found["foot"] = Rect(body.x, body.y + body.height - foot, body.width, foot)
    return found


# --- screens of several panes ------------------------------------------------------------------------

STORY, TRIALS, DIFF, CHART, TALK = Pane.PROPOSAL, Pane.EXPERIMENTS, Pane.DIFF, Pane.CHART, Pane.LOG


@dataclass(frozen=True, slots=True)
class Panes:
    """``tabs``: one line that names them all, where not all are in sight."""

    panes: Mapping[Pane, Rect]
    tabs: Rect | None = None


def roomy(body: Rect) -> bool:
    return body.width >= 100 and body.height >= 24


def experiment(body: Rect, front: Pane) -> Panes:
    """Story and trials to the left, the diff (or the conversation) over the chart to the right."""
    if not roomy(body):
        return _tabbed(body, front)
    tabs, rest = _split(body)
    left = min(84, rest.width * 2 // 5)
    trials = max(6, min(14, rest.height // 4))
    upper = (rest.height * 11) // 20
    shared = TALK if front is TALK else DIFF
    return Panes(
        {
            STORY: Rect(rest.x, rest.y, left, rest.height - trials),
            TRIALS: Rect(rest.x, rest.y + rest.height - trials, left, trials),
            shared: Rect(rest.x + left, rest.y, rest.width - left, upper),
            CHART: Rect(rest.x + left, rest.y + upper, rest.width - left, rest.height - upper),
        },
        tabs,
    )


def comparison(body: Rect, front: Pane) -> Panes:
    """The numbers to the left, the difference of the diffs over both curves to the right."""
    if not roomy(body):
        return _tabbed(body, front)
    left = min(90, body.width * 9 // 20)
    upper = body.height // 2
    right = body.width - left
    return Panes(
        {
            STORY: Rect(body.x, body.y, left, body.height),
            DIFF: Rect(body.x + left, body.y, right, upper),
            CHART: Rect(body.x + left, body.y + upper, right, body.height - upper),
        }
    )


def ratchet(body: Rect, front: Pane) -> Panes:
    """The chart over the change behind its step; side by side where the terminal is wide and high."""
    if body.height < 16:
        return Panes({front: body})
    lower = max(8, body.height * 2 // 5) if body.height >= 26 else 7
    chart = Rect(body.x, body.y, body.width, body.height - lower)
    y = body.y + chart.height
    if body.width < 140:
        shared = STORY if front is STORY else DIFF
        return Panes({CHART: chart, shared: Rect(body.x, y, body.width, lower)})
    left = body.width * 2 // 5
    return Panes(
        {
            CHART: chart,
            STORY: Rect(body.x, y, left, lower),
            DIFF: Rect(body.x + left, y, body.width - left, lower),
        }
    )


def _tabbed(body: Rect, front: Pane) -> Panes:
    if body.height < 4:
        return Panes({front: body})
    tabs, rest = _split(body)
    return Panes({front: rest}, tabs)


def _split(body: Rect) -> tuple[Rect, Rect]:
    return Rect(body.x, body.y, body.width, 1), Rect(body.x, body.y + 1, body.width, body.height - 1)
