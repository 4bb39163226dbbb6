"""Lines of styled text, and the widget that shows them and sends only the cells that changed.

Bytes are a budget (a console over SSH): Textual repaints a whole widget when it is refreshed, so
``LinesView`` compares each new line with the one on the screen and refreshes just the span that differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from console import themes
from console.formats import fit, width_of
from console.layout import Pane
from console.plain_text import clean
from console.state import State, View

if TYPE_CHECKING:
    from console.highlight import Coloured
    from console.widgets.chart import Chart

Span = tuple[str, str]  # text, name of a style in themes.py

PALETTE = themes.DARK.styles  # every theme has the same names
FILLS = themes.DARK.fills


class Line(NamedTuple):
    """One row of the screen; ``fill`` names its background."""

    spans: tuple[Span, ...]
    fill: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a painter may look at. ``now``: wall time in whole seconds; ``why_not``: the guards' word."""

    state: State
    view: View
    now: float
    number: int | None  # of the selected experiment
    why_not: str = ""
    chart: Chart | str | None = None  # built off the message path; a word says why there is none
    can_start: bool = False  # this console may start an engine
    coloured: Coloured | None = None  # the diff's code, built off the message path
    actor: str = ""  # who looks

    def offset(self, pane: str) -> int:
        return self.view.offsets.get(Pane(pane), 0)


Painter = Callable[[Scene, int, int], Sequence[Line]]
Inputs = Callable[[Scene], tuple[object, ...]]  # what a painter looks at: painted again only when it differs

_styles: dict[tuple[str, str], Style] = {}
_worn = themes.DARK  # a process has one terminal, and so one theme


def wear(theme: themes.Theme) -> None:
    """Paint in ``theme`` from now on; each view notices at its next paint."""
    global _worn
    _worn = theme
    _styles.clear()


def worn() -> themes.Theme:
    return _worn


def style_of(name: str, fill: str) -> Style:
    if name.startswith("!"):  # the pane's edge stays outside of a line's fill
        name, fill = name[1:], ""
    elif "@" in name:  # a span on a ground of its own
        name, _, fill = name.partition("@")
    found = _styles.get((name, fill))
    if found is None:
        text = Style.parse(_worn.styles.get(name, _worn.styles[""]))
        ground = Style.parse(_worn.fills.get(fill, _worn.fills[""]))
        found = _styles[name, fill] = text + ground if fill in _worn.over else ground + text
    return found


def line(*parts: str | Span, fill: str = "") -> Line:
    return Line(tuple((p, "") if isinstance(p, str) else p for p in parts), fill)


def strip_of(content: Line, width: int) -> Strip:
    """Exactly ``width`` cells."""
    # Painters clean what others wrote; should one forget, nothing but printable text leaves here all the same.
    texts = [(text if text.isprintable() else clean(text), name) for text, name in content.spans if text]
    segments: list[Segment] = []
    for text, name in texts:
        style = style_of(name, content.fill)
        if segments and text.isspace() and _invisible(segments[-1].style, style):
            # spaces need no colour of their own: every change of style is 40 bytes on the wire
            segments[-1] = Segment(segments[-1].text + text, segments[-1].style)
        else:
            segments.append(Segment(text, style))
    plain = all(text.isascii() for text, _ in texts)
    strip = Strip(segments, sum(len(s.text) for s in segments) if plain else None)
    return strip.adjust_cell_length(width, style_of("", content.fill))


def _invisible(before: Style | None, style: Style) -> bool:
    """Whether spaces look the same in both styles."""
    return (
        before is not None
        and before.bgcolor == style.bgcolor
        and not (before.reverse or style.reverse or before.underline or style.underline)
    )


def two_sided(left: Sequence[Span], right: Sequence[Span], width: int, fill: str = "") -> Line:
    """``left`` from the left edge, ``right`` to the right one; the left gives way where both do not fit."""
    kept, room = [], width - sum(width_of(t) for t, _ in right)
    for text, name in left:
        length = width_of(text)
        if length > room:
            kept.append((fit(text, room), name))
            room = 0
            break
        kept.append((text, name))
        room -= length
    return Line((*kept, (" " * room, ""), *right), fill)


def changed_span(old: Strip, new: Strip) -> tuple[int, int] | None:
    """First and last-plus-one cell that differ between two strips of one width; None when they are alike."""
    if old == new:
        return None
    before, after = _cells(old), _cells(new)
    if len(before) != len(after):
        return 0, max(len(before), len(after), old.cell_length, new.cell_length)
    first = next((i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b), None)
    if first is None:
        return None
    last = next(i for i in range(len(before) - 1, -1, -1) if before[i] != after[i])
    return first, last + 1


def _cells(strip: Strip) -> list[tuple[str, Style | None]]:
    found: list[tuple[str, Style | None]] = []
    for text, style, _ in strip:
        if text.isascii():  # most of the screen, and this is asked of each line that is painted again
            found += [(character, style) for character in text]
            continue
        for character in text:
            found.append((character, style))
            found.extend([("", style)] * (width_of(character) - 1))
    return found


class LinesView(Widget):
    """Shows what its painter says. It scrolls nothing and knows no keys: the screen does."""

    ALLOW_SELECT = False

    class Clicked(Message):
        """A press of the mouse at row ``y`` of the widget ``name``."""

        def __init__(self, name: str, y: int) -> None:
            super().__init__()
            self.name = name
            self.y = y

    class Scrolled(Message):
        def __init__(self, name: str, lines: int) -> None:
            super().__init__()
            self.name = name
            self.lines = lines

    def __init__(self, name: str, painter: Painter, inputs: Inputs) -> None:
        super().__init__(id=name)
        self._painter = painter
        self._inputs = inputs
        self._strips: list[Strip] = []
        self._last: tuple[object, ...] | None = None
        self._extent = (0, 0)
        self._stands: tuple[int, int, int, int] | None = None

    def place(self, x: int, y: int, width: int, height: int) -> None:
        """Stand there. The size counts at once, so that the first layout already finds its lines painted."""
        if self._stands == (x, y, width, height):  # setting a style anew lays the whole screen out, and sends it
            return
        self._stands, self._extent = (x, y, width, height), (width, height)
        self.styles.offset = (x, y)
        self.styles.width = width
        self.styles.height = height

    def show(self, scene: Scene) -> None:
        """Paint the scene; cells that look the same are not sent."""
        if not self.display or not all(self._extent):
            return
        width, height = self._extent
        inputs = (width, height, _worn, *self._inputs(scene))
        if self._last is not None and _same(inputs, self._last):
            return
        afresh = self._last is None or self._last[:3] != inputs[:3]  # another size, or another theme
        self._last = inputs
        self.put(self._painter(scene, width, height), afresh)

    def put(self, lines: Sequence[Line], afresh: bool = False) -> None:
        """Show these lines; only the cells that differ are sent, unless all is to be sent ``afresh``."""
        width, height = self._extent
        strips = [strip_of(content, width) for content in lines[:height]]
        strips += [strip_of(Line(()), width)] * (height - len(strips))
        old, self._strips = self._strips, strips
        if afresh or len(old) != len(strips):
            self.refresh()
            return
        regions = [
            Region(span[0], y, span[1] - span[0], 1)
            for y, (a, b) in enumerate(zip(old, strips, strict=True))
            if (span := changed_span(a, b)) is not None
        ]
        if regions:
            self.refresh(*regions)

    def render_line(self, y: int) -> Strip:
        return self._strips[y] if y < len(self._strips) else strip_of(Line(()), self.size.width)

    def on_mouse_down(self, event: object) -> None:
        self.post_message(self.Clicked(self.id or "", getattr(event, "y", 0)))

    def on_mouse_scroll_down(self) -> None:
        self.post_message(self.Scrolled(self.id or "", 3))

    def on_mouse_scroll_up(self) -> None:
        self.post_message(self.Scrolled(self.id or "", -3))


def _same(new: tuple[object, ...], old: tuple[object, ...]) -> bool:
    return len(new) == len(old) and all(a is b or a == b for a, b in zip(new, old, strict=True))
