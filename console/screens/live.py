"""The live screen: panes that paint themselves from one state, and the keys that move through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.message import Message

from console.editing import ChangedFile
from console.feed import Feed
from console.highlight import Coloured
from console.keymap import KEYS
from console.last_seen import LastSeen
from console.layout import DECIDING, PANES, Layout, Pane, Rect, Shape, arrange
from console.outbox import Watch
from console.screens.asking import Asking
from console.screens.chart_keys import ChartKeys
from console.screens.diff_keys import DiffKeys
from console.screens.hidden import Hidden
from console.screens.news import News
from console.screens.offers import Offers
from console.screens.opening import Opening
from console.screens.steering_keys import SteeringKeys
from console.state import VISIBLE_SECONDS, Noted, RequestsRead, State, View, reduce, selected
from console.widgets import (
    diff_view,
    experiment_list,
    footer,
    log_tail,
    metric_chart,
    proposal_stream,
    slot_table,
    status_bar,
)
from console.widgets.chart import Chart
from console.widgets.chart_builder import ChartBuilder
from console.widgets.colour_builder import ColourBuilder
from console.widgets.frame import framed
from console.widgets.lines import Inputs, LinesView, Painter, Scene
from engine.clock import Clock

PANE_MODULES = {
    Pane.EXPERIMENTS: experiment_list,
    Pane.PROPOSAL: proposal_stream,
    Pane.DIFF: diff_view,
    Pane.CHART: metric_chart,
    Pane.DEVICES: slot_table,
    Pane.LOG: log_tail,
}
NOTICE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Doors:
    """What the console may have done by other processes. All block; they are called in a thread."""

    start: Callable[[], None] | None = None
    stop: Callable[[], None] | None = None
    copy: Callable[[str], str] | None = None  # text to tmux; returns where it went
    # (base, candidate) -> the files in which these commits differ; raises RatchetError
    candidate: Callable[[str, str], Sequence[ChangedFile]] | None = None
    # Lends the terminal to an editor, in a folder; '' when it ended well. Called where it blocks the screen.
    editor: Callable[[Sequence[Path], Path], str] | None = None
    remember: Callable[[LastSeen], None] | None = None  # what this person saw last


class LiveScreen(Asking, SteeringKeys, News, Opening, Offers, ChartKeys, DiffKeys, Hidden, inherit_bindings=False):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(key.keys), f"act('{key.id}')", key.what, show=False, id=key.id) for key in KEYS
    ]
    AUTO_FOCUS = ""

    class Arrived(Message):
        """The feed's outbox is no longer empty."""

    class ChartReady(Message):
        def __init__(self, chart: Chart | str) -> None:
            super().__init__()
            self.chart = chart

    class ColoursReady(Message):
        def __init__(self, coloured: Coloured) -> None:
            super().__init__()
            self.coloured = coloured

    def __init__(self, feed: Feed, state: State, clock: Clock, doors: Doors) -> None:
        super().__init__()
        self.feed = feed
        self.state = state
        self.view = View()
        self.clock = clock
        self.doors = doors
        self.mine: frozenset[int] = frozenset()
        self._decided: dict[int, tuple[int, int]] = {}
        self.plan: Layout = arrange(80, 24)
        self._parts: list[LinesView] = []
        self.chart: Chart | str | None = None
        self._charts = ChartBuilder(lambda chart: self.post_message(self.ChartReady(chart)))
        self._coloured: Coloured | None = None
        self._colours = ColourBuilder(lambda coloured: self.post_message(self.ColoursReady(coloured)))
        self._notice: tuple[Noted | None, float] = (None, 0.0)
        self._now = float(int(clock.now()))

    # --- what is on the screen ---

    def compose(self) -> ComposeResult:
        self._parts = [LinesView(name, painter, inputs) for name, painter, inputs in _parts()]
        self._place()  # before they are mounted: a screen that is laid out twice is also sent twice
        yield from self._parts

    def on_mount(self) -> None:
        self.take_pins((), self.state.steering.pins)
        self.take_news(State())
        self.paint()
        self.feed.start(lambda: self.post_message(self.Arrived()))
        self.set_interval(1.0, self._tick)

    def on_resize(self, event: Resize) -> None:
        self.place_parts()

    def on_screen_resume(self) -> None:
        self.view = replace(self.view, seen=None)  # what stood behind something else was not looked at
        self.place_parts()

    def place_parts(self) -> None:
        """Place every part by the layout of this size, then paint."""
        self._place()
        self.paint()

    def _place(self) -> None:
        width, height = self.app.size
        self.plan = plan = arrange(width, height, self.view.focus, self.view.enlarged)
        places: dict[str, Rect | None] = {
            "status": plan.status,
            "tabs": plan.tabs,
            "strip": plan.strip,
            "footer": plan.footer,
            **{pane.value: plan.panes.get(pane) for pane in PANES},
        }
        for part in self._parts:
            place = places[part.id or ""]
            part.display = place is not None
            if place is not None:
                part.place(place.x, place.y, place.width, place.height)

    def paint(self) -> None:
        """Show state and view; each part compares and sends only what changed."""
        if self.covered():
            return
        number = selected(self.state, self.view)
        scene = Scene(
            self.state,
            self.view,
            self._now,
            number,
            why_not=self._guards() if self.state.awaiting else "",
            chart=self.chart,
            can_start=self.doors.start is not None,
            coloured=self._coloured,
            actor=self.desk.actor,
        )
        for part in self._parts:
            part.show(scene)
        self._ask_for_chart()
        self._ask_for_colours(scene)
        self._note_what_is_seen(number)
        rows = (0, 0)
        if place := self.plan.panes.get(Pane.EXPERIMENTS):
            low, high = experiment_list.rows_in_sight(scene, place.height)
            rows = (low - place.height, high + place.height)  # a page ahead, so that scrolling meets no gap
        marked = tuple(mark.number for mark in self.view.marks)
        self.feed.watch(Watch(View(cursor=self.view.cursor), frozenset(self.plan.panes), rows, self.mine, marked))

    def _guards(self) -> str:
        return self._sent() or self._why_not()

    def _ask_for_chart(self) -> None:
        place = self.plan.panes.get(Pane.CHART)
        if place is not None:
            self._charts.want(metric_chart.wish(self.state, self.view, place.width, place.height))

    def _ask_for_colours(self, scene: Scene) -> None:
        if Pane.DIFF in self.plan.panes and (wanted := diff_view.uncoloured(scene)) is not None:
            self._colours.want(*wanted)

    def _note_what_is_seen(self, number: int | None) -> None:
        """Since when the selected proposal has been in focus in this revision: a decision needs a moment."""
        row = self.state.listed.get(number) if number is not None else None
        detail = self.state.detail
        seen = None
        in_sight = self.view.focus in DECIDING and Pane.DIFF in self.plan.panes and self.app.screen is self
        if row is not None and row.awaits and in_sight and detail is not None:
            read = (detail.row.number, detail.row.revision)
            seen = read if read == (row.number, row.revision) else None
        if seen != self.view.seen:
            self.view = replace(self.view, seen=seen, seen_since=float("inf"))
            if seen is not None:
                self.call_after_refresh(self._seen, seen)

    def _seen(self, seen: tuple[int, int]) -> None:
        if self.view.seen == seen and self.view.seen_since == float("inf"):
            self.view = replace(self.view, seen_since=self.clock.monotonic())
            self.set_timer(VISIBLE_SECONDS + 0.02, self.paint)  # the bar says so as soon as keys count

    # --- what arrives ---

    def on_live_screen_arrived(self) -> None:
        before = self.state
        for update in self.feed.take():
            self.state = reduce(self.state, update)
            if isinstance(update, RequestsRead):
                self.mine -= {request.id for request in update.answered}
                self.take_answers(update.answered)
        self.take_pins(before.steering.pins, self.state.steering.pins)
        self.take_news(before)
        if self.state.notice is not before.notice:
            self._notice = (self.state.notice, self.clock.monotonic())
        self.paint()

    def on_live_screen_chart_ready(self, message: ChartReady) -> None:
        self.chart = message.chart
        self.paint()

    def on_live_screen_colours_ready(self, message: ColoursReady) -> None:
        self._coloured = message.coloured
        self.paint()

    def say(self, text: str, style: str = "dim", number: int | None = None) -> None:
        """``number``: of the experiment that it is about: its decision bar says it too."""
        self.state = reduce(self.state, Noted(text, style, number))
        self._notice = (self.state.notice, self.clock.monotonic())
        self.paint()

    def _tick(self) -> None:
        notice, since = self._notice
        if notice is not None and self.clock.monotonic() - since > NOTICE_SECONDS:
            self._notice = (None, 0.0)
            self.state = replace(self.state, notice=None)
        self._now = float(int(self.clock.now()))
        self.now_and_then()
        self.paint()

    # --- moving ---

    def action_act(self, key: str) -> None:
        getattr(self, f"do_{key}")()

    def do_down(self) -> None:
        self.move(1)

    def do_up(self) -> None:
        self.move(-1)

    def do_page_down(self) -> None:
        self.move(self._page())

    def do_page_up(self) -> None:
        self.move(-self._page())

    def do_first(self) -> None:
        if self.view.focus is Pane.EXPERIMENTS:
            self.look(cursor=None)
        else:
            self.move(-(10**6))

    def do_last(self) -> None:
        self.move(10**6)

    def _page(self) -> int:
        place = self.plan.panes.get(self.view.focus)
        return max(1, place.height - 3) if place else 10

    def move(self, lines: int, pane: Pane | None = None) -> None:
        """Down by ``lines``: the cursor in the experiments (newest on top), the text elsewhere."""
        pane = pane or self.view.focus
        if pane is Pane.EXPERIMENTS:
            number = selected(self.state, self.view)
            if number is not None:
                self.look(cursor=min(self.state.newest, max(1, number - lines)))
            return
        if pane is Pane.CHART:
            self.move_chart_cursor(lines)
        if pane is Pane.DIFF:
            self.move_diff(lines)
            return
        if (place := self.plan.panes.get(pane)) is None:
            return
        room = max(0, self._length(pane, place.width - 2) - (place.height - 1))
        step = -lines if pane is Pane.LOG else lines
        offset = min(room, max(0, min(room, self.view.offsets.get(pane, 0)) + step))
        self.view = replace(self.view, offsets={**self.view.offsets, pane: offset})
        self.paint()

    def _length(self, pane: Pane, width: int) -> int:
        detail = self.state.detail
        if pane is Pane.LOG:
            return len(self.state.log.lines) if self.state.log else 0
        if detail is None:
            return 0
        return len(proposal_stream.told(self.state, detail, width)) + 3 if pane is Pane.PROPOSAL else 0

    def look(self, *, cursor: int | None) -> None:
        """Select ``cursor``, None to follow what runs. Texts begin at their top again."""
        top = replace(self.view.diff, top=0)
        self.view = replace(self.view, cursor=cursor, offsets={}, diff=top, seen=None)
        self.paint()

    def focus_pane(self, pane: Pane) -> None:
        cursor = self.view.cursor
        if pane in DECIDING and cursor is None:
            cursor = selected(self.state, self.view)  # what one reads must not change under one's eyes
        self.view = replace(self.view, focus=pane, cursor=cursor, seen=None)
        self.place_parts()

    def do_next_pane(self) -> None:
        self.focus_pane(PANES[self.view.focus.digit % len(PANES)])

    def do_previous_pane(self) -> None:
        self.focus_pane(PANES[self.view.focus.digit - 2])

    def do_open(self) -> None:
        self.focus_pane(Pane.DIFF)

    def do_back(self) -> None:
        self.state = replace(self.state, notice=None)
        self.focus_pane(Pane.EXPERIMENTS)

    def do_enlarge(self) -> None:
        self.view = replace(self.view, enlarged=self.plan.shape is not Shape.TABS)
        self.place_parts()

    def do_restore(self) -> None:
        self.view = replace(self.view, enlarged=False)
        self.place_parts()

    def do_repaint(self) -> None:
        self.refresh(layout=True)

    def on_lines_view_clicked(self, message: LinesView.Clicked) -> None:
        if message.name not in {pane.value for pane in PANES}:
            return
        pane = Pane(message.name)
        place = self.plan.panes.get(pane)
        if pane is Pane.EXPERIMENTS and place is not None and message.y >= 2:
            scene = Scene(self.state, self.view, self._now, selected(self.state, self.view))
            number = experiment_list.top_row(scene, place.height - 2) - (message.y - 2)
            if number >= 1:
                self.look(cursor=number)
        self.focus_pane(pane)

    def on_lines_view_scrolled(self, message: LinesView.Scrolled) -> None:
        if message.name in {pane.value for pane in PANES}:
            self.move(message.lines, Pane(message.name))

    def on_unmount(self) -> None:
        self._charts.close()
        self._colours.close()


for _pane in PANES:  # 1-6

    def _focus(self: LiveScreen, pane: Pane = _pane) -> None:
        self.focus_pane(pane)

    setattr(LiveScreen, f"do_pane_{_pane.digit}", _focus)


def _parts() -> Iterator[tuple[str, Painter, Inputs]]:
    yield "status", status_bar.painter, status_bar.inputs
    yield "tabs", status_bar.tabs, status_bar.tab_inputs
    yield "strip", status_bar.strip, status_bar.strip_inputs
    yield "footer", footer.painter, footer.inputs
    for pane, module in PANE_MODULES.items():
        yield pane.value, framed(pane, module.body, module.title), _with_focus(pane, module.inputs)


def _with_focus(pane: Pane, inputs: Inputs) -> Inputs:
    return lambda scene: (scene.view.focus is pane, *inputs(scene))
