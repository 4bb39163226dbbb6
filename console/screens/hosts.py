"""Hosts and devices: how busy each is now and was in the last minutes, and which trial runs on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from textual.binding import BindingType

from console.formats import one_or_more
from console.layout import Rect
from console.page_reader import Loader
from console.page_sources import HostsPage, Machines
from console.screen_keys import HOSTS
from console.screens.reading import Part, ReadingScreen, bindings
from console.widgets import host_table, page_parts
from console.widgets.host_table import Device, Recent
from console.widgets.lines import Line, Span


class HostsScreen(ReadingScreen):
    KEYS = HOSTS
    BINDINGS: ClassVar[list[BindingType]] = bindings(HOSTS)

    def __init__(self, live: Any) -> None:
        super().__init__(live)
        self.cursor = 0
        self.recent: Recent = self.live.looks.setdefault("recent", Recent())

    def loader(self) -> Loader[Any, Any]:
        return HostsPage()

    def wanted(self) -> str:
        return "hosts"

    def taken(self) -> None:
        self.recent.note(self.data.readings)

    def places(self, body: Rect) -> Mapping[str, Rect]:
        return {"hosts": body}

    def parts(self) -> Iterator[Part]:
        yield "hosts", self._paint_hosts, lambda: (self.data, self.trouble, self.cursor, self._clock())

    def _clock(self) -> float:
        """Ages and times move once a second where there are any."""
        return self.now if self.data is not None and (self.data.readings or self.data.busy) else 0.0

    def _paint_hosts(self, width: int, height: int) -> Sequence[Line]:
        if (missing := self.missing(width)) is not None:
            return missing
        if not self.devices():
            engine = "the engine has not measured one yet"
            if self.live.state.alive is False:
                engine = "no engine runs: S on the live screen starts it, or `ratchet start`"
            return page_parts.told(
                [("No device readings.", "bold"), (f"They come while an engine runs; {engine}.", "")], width
            )
        return host_table.body(self.data, self.recent, self.cursor, self.now, width, height)

    def devices(self) -> list[Device]:
        return host_table.devices(self.data) if self.data is not None else []

    def head(self) -> tuple[Sequence[Span], Sequence[Span]]:
        machines: Machines | None = self.data
        if machines is None:
            return (), ()
        found = host_table.spoken(machines)
        parts = [one_or_more(found["host"], "host")]
        if found["GPU"]:
            parts.append(one_or_more(found["GPU"], "GPU"))
        parts.append(f"{one_or_more(found['trial'], 'trial')} running")
        if found["queued"]:
            parts.append(f"{found['queued']} queued")
        return [(" · ".join(parts), "dim")], ()

    def why_off(self, key: str) -> str:
        if key == "open" and self._number() is None:
            return "no experiment's trial runs on this device"
        return ""

    def _number(self) -> int | None:
        found = self.devices()
        busy = found[min(self.cursor, len(found) - 1)].busy if found else ()
        return next((one.number for one in busy if one.number is not None), None)

    def move(self, lines: int) -> None:
        self.cursor = min(max(0, self.cursor + lines), max(0, len(self.devices()) - 1))
        self.paint()

    def do_open(self) -> None:
        if (number := self._number()) is not None:
            self.live.open_experiment(number)
