"""Where everything stands: a pure function of the terminal's size. No Textual in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Pane(StrEnum):
    """The six panes, in the order of their digits."""

    EXPERIMENTS = "experiments"
    PROPOSAL = "proposal"
    DIFF = "diff"
    CHART = "chart"
    DEVICES = "devices"
    LOG = "log"

    @property
    def digit(self) -> int:
        return PANES.index(self) + 1

    @property
    def heading(self) -> str:
        return self.value.capitalize()


PANES = tuple(Pane)
DECIDING = (Pane.PROPOSAL, Pane.DIFF)  # the panes in which a decision may be taken


class Shape(StrEnum):
    WIDE = "wide"  # every pane at once
    MIDDLE = "middle"  # proposal and diff share a place
    TABS = "tabs"  # one pane at a time
    TINY = "tiny"  # status and best metric


@dataclass(frozen=True, slots=True)
class Rect:
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Rectangles in cells; what is absent is not shown."""

    shape: Shape
    status: Rect
    panes: Mapping[Pane, Rect] = field(default_factory=dict)
    tabs: Rect | None = None
    strip: Rect | None = None
    footer: Rect | None = None


def arrange(width: int, height: int, front: Pane = Pane.EXPERIMENTS, enlarged: bool = False) -> Layout:
    """The layout of a ``width`` x ``height`` terminal; ``front`` is in focus, ``enlarged`` shows it alone.

    Every cell belongs to exactly one rectangle, whatever the size.
    """
    width, height = max(1, width), max(1, height)
    if width < 60 or height < 16:
        return Layout(Shape.TINY, Rect(0, 0, width, height))
    roomy = width >= 100 and height >= 28
    if enlarged or not roomy:
        return Layout(
            Shape.TABS,
            status=Rect(0, 0, width, 1),
            tabs=Rect(0, 1, width, 1),
            panes={front: Rect(0, 2, width, height - 4)},
            strip=Rect(0, height - 2, width, 1),
            footer=Rect(0, height - 1, width, 1),
        )
    shape = Shape.WIDE if width >= 170 and height >= 36 else Shape.MIDDLE
    return Layout(
        shape,
        status=Rect(0, 0, width, 3),
        panes=_wide(width, height) if shape is Shape.WIDE else _middle(width, height, front),
        footer=Rect(0, height - 1, width, 1),
    )


def _wide(width: int, height: int) -> dict[Pane, Rect]:
    top, body = 3, height - 4
    left = min(90, width * 2 // 5)
    right = width - left
    devices = max(8, body // 5)
    log = max(8, body // 6)
    upper = (body - log) // 2
    chart = body - log - upper
    proposal = right * 2 // 5
    return {
        Pane.EXPERIMENTS: Rect(0, top, left, body - devices),
        Pane.DEVICES: Rect(0, top + body - devices, left, devices),
        Pane.PROPOSAL: Rect(left, top, proposal, upper),
        Pane.DIFF: Rect(left + proposal, top, right - proposal, upper),
        Pane.CHART: Rect(left, top + upper, right, chart),
        Pane.LOG: Rect(left, top + upper + chart, right, log),
    }


def _middle(width: int, height: int, front: Pane) -> dict[Pane, Rect]:
    top, body = 3, height - 4
    left = width * 11 // 20
    right = width - left
    devices = max(6, body // 4)
    log = max(5, body // 5)
    upper = (body - log + 1) // 2
    chart = body - log - upper
    shared = front if front in DECIDING else Pane.PROPOSAL
    return {
        Pane.EXPERIMENTS: Rect(0, top, left, body - devices),
        Pane.DEVICES: Rect(0, top + body - devices, left, devices),
        shared: Rect(left, top, right, upper),
        Pane.CHART: Rect(left, top + upper, right, chart),
        Pane.LOG: Rect(left, top + upper + chart, right, log),
    }
