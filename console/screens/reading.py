"""What the further screens share: the status line, a page read in a thread while it is in sight, keys, moving.

A screen says what it wants read (``wanted``), where its parts stand (``places``) and how they are painted
(``parts``); nothing is read or painted for one that is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize, ScreenResume, ScreenSuspend
from textual.message import Message

from console.layout import Rect
from console.page_reader import Loader, PageReader, Trouble
from console.plain_text import clean
from console.screen_keys import ScreenKeys
from console.screens import places
from console.screens.hidden import Hidden, front_of
from console.screens.reading_offers import ReadingOffers
from console.widgets import page_parts, status_bar
from console.widgets.lines import Line, LinesView, Scene, Span
from console.widgets.page_parts import Hint

if TYPE_CHECKING:
    from console.screens.live import LiveScreen

HOLD_SECONDS = 0.04
Paint = Callable[[int, int], Sequence[Line]]
Part = tuple[str, Paint, Callable[[], tuple[object, ...]]]


def bindings(keys: ScreenKeys) -> list[BindingType]:
    return [
        Binding(",".join(key.keys), f"act('{key.id}')", key.what, show=False, id=f"{keys.name}.{key.id}")
        for key in keys.all
    ]


class ReadingScreen(ReadingOffers, Hidden, inherit_bindings=False):
    """``data`` is what was read last, None before; ``trouble`` why it could not be read anew."""

    KEYS: ClassVar[ScreenKeys]
    AUTO_FOCUS = ""

    class Arrived(Message):
        """The page's thread has read something."""

        def __init__(self, wanted: object, found: Any) -> None:
            super().__init__()
            self.wanted = wanted
            self.found = found

    def __init__(self, live: Any) -> None:
        super().__init__()
        self.live: LiveScreen = live
        self.data: Any = None
        self.trouble: Trouble | None = None
        self.page = places.page(80, 24)
        self._parts: list[LinesView] = []
        self._hold = ExitStack()
        feed = self.live.feed
        self._reader: PageReader[Any, Any] = PageReader(
            feed.state_dir / "store.db",
            feed.campaign,
            self.live.clock,
            self.loader,
            lambda wanted, found: self.post_message(self.Arrived(wanted, found)),
        )

    # --- what a screen says of itself ---

    def loader(self) -> Loader[Any, Any]:
        raise NotImplementedError

    def wanted(self) -> Any:
        """What is to be read now; hashable, not None."""
        raise NotImplementedError

    def parts(self) -> Iterator[Part]:
        """(name, painter, what it looks at) of the body's parts."""
        raise NotImplementedError

    def places(self, body: Rect) -> Mapping[str, Rect]:
        raise NotImplementedError

    def taken(self) -> None:
        """``data`` is new."""

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        """What stands beside the screen's name, left and right."""
        return (), ()

    def why_off(self, key: str) -> str:
        """Why a key can do nothing now; '' when it can."""
        return ""

    def word_of(self, key: str, word: str) -> str:
        """The word of a key in the footer, where it depends on the moment."""
        return word

    # --- what is on the screen ---

    def compose(self) -> ComposeResult:
        parts: list[Part] = [("head", self._paint_head, self._head_inputs)]
        parts.append(("footer", self._paint_footer, self._footer_inputs))
        parts += self.parts()
        self._parts = [
            LinesView("status", _status, _status_inputs),
            LinesView("strip", status_bar.strip, status_bar.strip_inputs),
            *(LinesView(name, _painter(paint), _inputs(looks)) for name, paint, looks in parts),
        ]
        self._place()
        yield from self._parts

    def on_mount(self) -> None:
        self.paint()
        self.set_timer(HOLD_SECONDS, self._hold.close)

    def hold(self) -> None:
        """Send nothing until there is a page, or a moment has passed: a new screen is laid out three times."""
        self._hold.enter_context(self.live.app.batch_update())

    def on_resize(self, event: Resize) -> None:
        self.place_parts()

    def on_screen_resume(self, event: ScreenResume) -> None:
        self.place_parts()

    def on_screen_suspend(self, event: ScreenSuspend) -> None:
        self._reader.want(None)

    def on_unmount(self) -> None:
        self._hold.close()
        self._reader.close()

    def place_parts(self) -> None:
        self._place()
        self.paint()

    def _place(self) -> None:
        self.page = page = places.page(*self.app.size)
        found: dict[str, Rect | None] = {
            "status": page.status, "head": page.head, "strip": page.strip, "footer": page.footer,
            **self.places(page.body),
        }  # fmt: skip
        for part in self._parts:
            place = found.get(part.id or "")
            part.display = place is not None and place.height > 0
            if place is not None and place.height > 0:
                part.place(place.x, place.y, place.width, place.height)

    def paint(self) -> None:
        """Show what there is; each part compares and sends only what changed."""
        if front_of(self.app) is not self or not self._parts:
            return
        self.before_paint()
        scene = self.live.status_scene()
        for part in self._parts:
            part.show(scene)
        if self.app.screen is self:
            self._reader.want(self.wanted())

    def before_paint(self) -> None:
        """Ask for what is built off the message path."""

    def live_changed(self) -> None:
        """The live screen, which is hidden, has news for the status line, or a second has passed."""
        self.paint()

    def on_reading_screen_arrived(self, message: Arrived) -> None:
        if message.wanted != self.wanted():
            return  # of an experiment that is not looked at any more
        if isinstance(message.found, Trouble):
            self.trouble = message.found
        else:
            self.trouble, self.data = None, message.found
            self.taken()
        self.paint()
        self.call_after_refresh(self._hold.close)

    @property
    def now(self) -> float:
        """Wall time in whole seconds."""
        return self.live.status_scene().now

    def say(self, text: str, style: str = "dim") -> None:
        self.live.say(text, style)

    # --- head and keys ---

    def _paint_head(self, width: int, height: int) -> list[Line]:
        left, right = self.head()
        if self.trouble is not None and self.data is not None:
            left = [(clean(self.trouble.message), "bad")]
        return [page_parts.head(self.KEYS.heading, left, right, width)]

    def _head_inputs(self) -> tuple[object, ...]:
        return (*self.head(), self.trouble)

    def hints(self) -> list[Hint]:
        return [
            (key.shown.split()[0], word, self.why_off(key.id))
            for key in self.KEYS.own
            if key.footer and key.id not in LAST and (word := self.word_of(key.id, key.footer))
        ]

    def _paint_footer(self, width: int, height: int) -> list[Line]:
        last = [(key.shown.split()[0], key.footer, "") for key in map(self.KEYS.by_id, LAST)]
        return [page_parts.footer(self.hints(), last, width)]

    def _footer_inputs(self) -> tuple[object, ...]:
        return tuple(self.hints())

    def missing(self, width: int) -> list[Line] | None:
        """What stands in the body's place while there is no data; None when there is some."""
        if self.data is not None:
            return None
        if self.trouble is None:
            return page_parts.told([("reading ...", "faint")], width)
        return page_parts.told([(self.trouble.message, "warn"), (self.trouble.mend, "")], width)

    # --- keys ---

    def action_act(self, key: str) -> None:
        if told := self.why_off(key):
            self.say(told, "warn")
        else:
            getattr(self, f"do_{key}")()

    def move(self, lines: int) -> None:
        """Down by ``lines``, up where negative."""

    def page_rows(self) -> int:
        return max(1, self.page.body.height - 3)

    def do_down(self) -> None:
        self.move(1)

    def do_up(self) -> None:
        self.move(-1)

    def do_page_down(self) -> None:
        self.move(self.page_rows())

    def do_page_up(self) -> None:
        self.move(-self.page_rows())

    def do_first(self) -> None:
        self.move(-(10**7))

    def do_last(self) -> None:
        self.move(10**7)

    def do_back(self) -> None:
        self.app.pop_screen()

    def do_leave(self) -> None:
        self.live.back_to_live()

    def do_detach(self) -> None:
        self.app.exit(0)

    def do_help(self) -> None:
        from console.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.KEYS))

    def do_repaint(self) -> None:
        self.refresh(layout=True)

    def do_history(self) -> None:
        self.live.do_history()

    def do_hosts(self) -> None:
        self.live.do_hosts()

    def do_ratchet(self) -> None:
        self.live.do_ratchet()

    def do_events(self) -> None:
        self.live.do_events()

    def on_lines_view_scrolled(self, message: LinesView.Scrolled) -> None:
        self.move(message.lines)


LAST = ("back", "leave", "help")


def _status(scene: Scene, width: int, height: int) -> Sequence[Line]:
    return status_bar.painter(scene, width, 1)


def _status_inputs(scene: Scene) -> tuple[object, ...]:
    return status_bar.inputs(scene)


def _painter(paint: Paint) -> Callable[[Scene, int, int], Sequence[Line]]:
    return lambda scene, width, height: paint(width, height)


def _inputs(looks: Callable[[], tuple[object, ...]]) -> Callable[[Scene], tuple[object, ...]]:
    return lambda scene: looks()
