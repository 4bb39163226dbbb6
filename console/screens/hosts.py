"""Hosts and devices: how each stands and how busy it is, which trial runs on it, and a person's word on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from textual.binding import BindingType
from textual.events import ScreenResume, ScreenSuspend

from console import host_spots, host_words
from console.host_spots import Folds, Place, Spot
from console.keymap import press
from console.layout import Rect
from console.page_reader import Loader
from console.page_sources import HostsPage
from console.plain_text import clean
from console.recent import Recent
from console.replay.keys import THIS
from console.screen_keys import HOSTS
from console.screens.reading import Part, ReadingScreen, bindings
from console.screens.typing import CountScreen
from console.widgets import host_table, page_parts
from console.widgets.lines import Line, Span
from console.widgets.page_parts import Hint
from engine.store.reading_hosts import HostRow

MOST_HOURS = 24 * 365  # as the engine allows
WORDS_ON_HOSTS = ("drain", "undrain", "lend")
CATCH_UP_SECONDS = 1.0  # in which a page is surely read anew
FOLDED_FROM = 1.5  # screens that everything would take


class HostsScreen(ReadingScreen):
    KEYS = HOSTS
    BINDINGS: ClassVar[list[BindingType]] = bindings(HOSTS)

    def __init__(self, live: Any) -> None:
        super().__init__(live)
        self.at: Place | None = None
        self.folds: Folds | None = None  # None: until there is something to fold
        self.recent: Recent = self.live.looks.setdefault("recent", Recent())
        self._looks = True
        self._moment = 0.0

    @property
    def now(self) -> float:
        """It stands behind a question, as nothing is read there: what is not looked at has not gone silent."""
        if self._looks or not self._moment:
            self._moment = super().now
        return self._moment

    def on_screen_suspend(self, event: ScreenSuspend) -> None:
        self._looks = False
        super().on_screen_suspend(event)

    def on_screen_resume(self, event: ScreenResume) -> None:
        super().on_screen_resume(event)
        self.set_timer(CATCH_UP_SECONDS, self._look_again)

    def _look_again(self) -> None:
        if self.app.screen is self:
            self._looks = True
            self.paint()

    def loader(self) -> Loader[Any, Any]:
        return HostsPage()

    def wanted(self) -> str:
        return "hosts"

    def taken(self) -> None:
        self.recent.note(self.data.readings)
        if self.folds is None and (self.data.hosts or self.data.readings):
            width, height = self.page.body.width, self.page.body.height
            self.folds = Folds(host_table.tall(self.data, self.now, width) > FOLDED_FROM * height)

    def places(self, body: Rect) -> Mapping[str, Rect]:
        return {"hosts": body}

    def parts(self) -> Iterator[Part]:
        yield "hosts", self._paint_hosts, lambda: (self.data, self.trouble, self.at, self.folds, self._clock())

    def _clock(self) -> float:
        """Ages and times move once a second where there are any."""
        data = self.data
        return self.now if data is not None and (data.readings or data.busy or data.hosts) else 0.0

    def _paint_hosts(self, width: int, height: int) -> Sequence[Line]:
        if (missing := self.missing(width)) is not None:
            return missing
        if not self.spots():
            engine = "the engine has not measured one yet"
            if self.live.state.alive is False:
                key = press("start_engine")
                engine = f"no engine runs: {key} on the live screen starts it, or `ratchet start`"
            return page_parts.told(
                [("No device readings.", "bold"), (f"They come while an engine runs; {engine}.", "")], width
            )
        return host_table.body(self.data, self.recent, self.at, self._folds, self.now, width, height)

    @property
    def _folds(self) -> Folds:
        return self.folds or Folds()

    def spots(self) -> list[Spot]:
        return host_spots.spots(self.data, self._folds, self.now) if self.data is not None else []

    def spot(self) -> Spot | None:
        """What the cursor stands on."""
        found = self.spots()
        return found[host_spots.index(found, self.at)] if found else None

    def host(self) -> HostRow | None:
        """The host of the cursor, as the engine knows it."""
        spot = self.spot()
        rows = self.data.hosts if self.data is not None else ()
        return next((row for row in rows if spot is not None and row.name == spot.place.host), None)

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        return (host_table.totals(self.data, self.now) if self.data is not None else ()), ()

    def hints(self) -> list[Hint]:
        """Without a word that cannot be said about this host: there is little room."""
        off = {self.KEYS.press(key) for key in WORDS_ON_HOSTS if self.why_off(key)}
        return [hint for hint in super().hints() if hint[0] not in off]

    # --- moving and folding ---

    def move(self, lines: int) -> None:
        found = self.spots()
        if found:
            i = host_spots.index(found, self.at) + lines
            self.at = found[min(max(0, i), len(found) - 1)].place
            self.paint()

    def do_fold(self) -> None:
        self.folds = Folds(not self._folds.every)
        self.paint()

    def do_open(self) -> None:
        spot = self.spot()
        if spot is None:
            return
        if (number := _number(spot)) is not None:
            self.live.open_experiment(number)
        elif spot.device is None:
            self.folds = Folds(self._folds.every, self._folds.others ^ {spot.place.host})
            self.at = spot.place
            self.paint()

    # --- a person's word ---

    def why_off(self, key: str) -> str:
        spot, row = self.spot(), self.host()
        if key == "open" and (spot is None or (spot.device is not None and _number(spot) is None)):
            return "no experiment's trial runs on this device"
        if key not in WORDS_ON_HOSTS:
            return ""
        if self.live.state.replay:
            return THIS
        if row is None:
            return "the engine has not named its hosts yet"
        if key == "drain" and row.drained:
            return f"{row.name} is drained already: {HOSTS.press('undrain')} uses it again"
        if key == "undrain" and not (row.drained or any(end > self.now for end in row.lent.values())):
            return f"{row.name} is neither drained nor lent"
        return ""

    def word_of(self, key: str, word: str) -> str:
        spot = self.spot()
        if key == "open" and spot is not None and spot.device is None:
            return "unfold" if self._folds.folded(spot.place.host) else "fold"
        return ("show devices" if self._folds.every else "fold all") if key == "fold" else word

    def do_drain(self) -> None:
        if (row := self.host()) is None:
            return
        name = row.name
        self.live.put_question(
            f"Drain {clean(name)}?",
            f"It gets no more trials; {self._what_goes_on(name)}. {HOSTS.press('undrain')} uses it again.",
            lambda: self.live.file_request("drain", f"drain {name} sent", name=name),
        )

    def do_undrain(self) -> None:
        if (row := self.host()) is None:
            return
        name = row.name
        self.live.put_question(
            f"Use {clean(name)} again?",
            "It is neither drained nor lent then, with all of its devices, and gets trials.",
            lambda: self.live.file_request("undrain", f"use {name} again sent", name=name),
        )

    def do_lend(self) -> None:
        """The device under the cursor, or all of its host."""
        spot, row = self.spot(), self.host()
        if spot is None or row is None:
            return
        name = row.name
        device = spot.place.device if (name, spot.place.device) in host_words.device_names([row]) else ""
        short = host_words.device_names([row]).get((name, device), "")
        what = f"{short} of {name}" if device else name

        def counted(text: str | None) -> None:
            if text is not None:
                hours = int(text)
                self.live.file_request(
                    "lend", f"lend {what} for {hours} h sent", name=name, hours=hours, device=device
                )

        self.app.push_screen(
            CountScreen(
                f"Lend {clean(what)} to others for how many hours?",
                f"No trial starts there meanwhile; {self._what_goes_on(name)}. "
                f"{HOSTS.press('undrain')} uses it again.",
                1, MOST_HOURS, "", self.live.clock.monotonic,
            ),
            counted,
        )  # fmt: skip

    def _what_goes_on(self, host: str) -> str:
        held = sum(one.host == host for one in self.data.busy)
        if not held:
            return "nothing runs there now"
        return "the trial there goes on to its end" if held == 1 else f"the {held} trials there go on to their end"


def _number(spot: Spot) -> int | None:
    if spot.trial is not None:
        return spot.trial.number
    busy = spot.device.busy if spot.device is not None else ()
    return next((one.number for one in busy if one.number is not None), None)
