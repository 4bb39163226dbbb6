"""What every screen can do: the palette, copying, the mouse, pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from console import copying, themes
from console.choosing import Entry
from console.copying import Copy
from engine.errors import RatchetError

if TYPE_CHECKING:
    from console.screens.live import LiveScreen

BY_THEIR_KEY = ("accept", "reject", "edit")  # a list hides what they are about: they need it in sight


class Everywhere:
    """Mixed into the live and the further screens; holds no painting. A screen says what it has."""

    app: Any
    run_worker: Callable[..., Any]
    _repaint_required: bool
    _repaint_regions: set[Any]

    if TYPE_CHECKING:

        def say(self, text: str, style: str = "dim") -> None: ...
        def action_act(self, key: str) -> None: ...

    def palette_actions(self) -> Sequence[Entry]:
        """Every action of this screen, with why it is off now."""
        raise NotImplementedError

    def copies(self) -> list[Copy]:
        raise NotImplementedError

    def natural_copy(self, found: Sequence[Copy]) -> Copy | None:
        """What ``y`` takes without asking."""
        return None

    @property
    def _front(self) -> LiveScreen:
        found: LiveScreen = self.app.live
        return found

    def _compositor_refresh(self) -> None:
        """Textual hands what changed behind a question on to it, but keeps it as changed: once that was the whole
        screen, each second would send all of it again. What was handed on is done."""
        super()._compositor_refresh()  # type: ignore[misc]
        if self.app.screen is not self:
            self._repaint_required = False
            self._repaint_regions.clear()

    # --- the palette ---

    def do_palette(self) -> None:
        from console.screens.choice import ChoiceScreen

        entries = [*self.palette_actions(), *self._themes()]

        def chosen(entry: Entry | None) -> None:
            if entry is not None:
                self._carry_out(entry)

        prompt = "part of a name, or an experiment's number"
        self.app.push_screen(ChoiceScreen("Actions", prompt, entries, self._numbered), chosen)

    def _themes(self) -> list[Entry]:
        worn = self.app.wearing
        return [
            Entry(f"theme:{name}", f"theme: {name}", aside="this one" if name == worn else "")
            for name in themes.NAMES
        ]

    def _numbered(self, query: str) -> list[Entry]:
        digits = query.strip().removeprefix("#")
        newest = self._front.state.newest
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
            return []
        off = "" if 1 <= int(digits) <= newest else f"there are {newest}"
        return [Entry(f"go:{int(digits)}", f"go to experiment {int(digits)}", off=off)]

    def _carry_out(self, entry: Entry) -> None:
        kind, _, rest = entry.id.partition(":")
        if kind == "theme":
            self.app.wear(rest)
            self.say(f'theme: {rest}; `theme = "{rest}"` in console.toml keeps it')
        elif kind == "go":
            if entry.off:
                self.say(entry.off, "warn")
            else:
                self._front.go_to(int(rest))
        elif kind in BY_THEIR_KEY:
            self.say(entry.off, "warn")
        else:
            self.action_act(kind)

    # --- copying ---

    def do_copy(self) -> None:
        found = self.copies()
        one = self.natural_copy(found)
        if one is not None:
            self._copy(one)
        else:
            self._choose_copy(found)

    def do_copy_what(self) -> None:
        self._choose_copy(self.copies())

    def _choose_copy(self, found: Sequence[Copy]) -> None:
        from console.screens.choice import ChoiceScreen

        if not found:
            self.say("nothing to copy yet")
            return
        by_id = {one.id: one for one in found}
        entries = [Entry(one.id, one.name, one.letter) for one in found]

        def chosen(entry: Entry | None) -> None:
            if entry is not None:
                self._copy(by_id[entry.id])

        prompt = "enter, a letter, or a part of a name"
        self.app.push_screen(ChoiceScreen("Copy", prompt, entries, letters=True), chosen)

    def _copy(self, one: Copy) -> None:
        door = self._front.doors.copy
        if door is None:
            self._by_terminal(one)
            return

        async def run() -> None:
            try:
                told = await asyncio.to_thread(door, one.text)
            except RatchetError as error:
                self._by_terminal(one, f"; not by tmux: {error.message}")
                return
            self.say(f"copied {one.name} {told} ({copying.size_words(one.text)})", "good")

        self.run_worker(run(), exclusive=False)

    def _by_terminal(self, one: Copy, why: str = "") -> None:
        text, missing = copying.cut(one.text)
        self.app.copy_to_clipboard(text)
        told = f"sent {one.name} to the terminal's clipboard by OSC 52 ({copying.size_words(text)})"
        if missing:
            told += f", cut: of {copying.size_words(one.text)} a terminal takes no more"
        self.say(told + why, "warn" if missing or why else "good")

    # --- the mouse, a picture ---

    def do_mouse(self) -> None:
        on = not self.app.mouse_on
        if not self.app.set_mouse(on):
            self.say("this terminal reports no mouse", "warn")
        elif on:
            self.say("mouse on: clicks and the wheel work here; shift selects text in most terminals")
        else:
            self.say("mouse off: the terminal selects text itself, and nothing is sent when it moves")

    def do_screenshot(self) -> None:
        state = self._front.feed.state_dir
        if not state.is_dir():
            self.say("no campaign here yet: there is no folder to keep a picture in", "warn")
            return
        try:
            path = self.app.keep_picture(state / "screenshots", self._front.clock)
        except OSError as error:
            self.say(f"no picture: {error.strerror or error} ({state / 'screenshots'})", "bad")
            return
        self.say(f"picture: {path}", "good")
