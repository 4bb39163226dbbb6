"""The live screen on a replay: the same panes, with the keys of a player in place of those that decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from console.choosing import Entry
from console.feed import Feed
from console.keymap import BY_ID
from console.layout import Pane
from console.replay.deck import Deck, DeckClock
from console.replay.keys import LIVE, REPLAY, THIS, WHY, off
from console.screens.help import HelpScreen
from console.screens.live import Doors, LiveScreen
from console.state import State
from console.widgets import footer, page_parts
from console.widgets.lines import Line, LinesView, Scene
from console.widgets.page_parts import Hint


class ReplayScreen(LiveScreen, inherit_bindings=False):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(key.keys), f"act('{key.id}')", key.what, show=False, id=key.id)
        for key in (*REPLAY.own, *LIVE)
    ]

    def __init__(self, feed: Feed, state: State, deck: Deck, doors: Doors) -> None:
        super().__init__(feed, state, DeckClock(deck), doors)
        self.deck = deck

    # --- what is on the screen ---

    def compose(self) -> ComposeResult:
        keys = LinesView("footer", self._paint_footer, self._footer_inputs)
        list(super().compose())
        self._parts = [keys if part.id == "footer" else part for part in self._parts]
        self._place()
        yield from self._parts

    def on_mount(self) -> None:
        super().on_mount()
        self.deck.start(self.feed.reopen)

    def paint(self) -> None:
        self.state = replace(self.state, replay=self.deck.banner())
        super().paint()

    def take_news(self, before: State) -> None:
        """What has long happened rings no bell."""
        self.app.title_line.show(self.state)

    def _guards(self) -> str:
        return THIS

    def _hints(self) -> list[Hint]:
        found = [(key.shown.split()[0], self._word(key.id, key.footer), "") for key in REPLAY.own if key.footer]
        if self.view.focus is not Pane.EXPERIMENTS:
            found.append(_hint("back", "experiments"))
        elif self.view.cursor is not None:
            found.append(_hint("first", "follow"))
        others = (("open", "diff"), ("next_pane", "pane"), ("history", "history"), ("ratchet", "ratchet"))
        return [*found, *(_hint(*one) for one in others)]

    def _word(self, key: str, word: str) -> str:
        if key == "replay_pause":
            return "once more" if self.deck.over else "go on" if self.deck.paused else word
        return "hunk" if key == "replay_keep" and self.view.focus is Pane.DIFF else word

    def _paint_footer(self, scene: Scene, width: int, height: int) -> list[Line]:
        last = [_hint("detach", "leave"), _hint("palette", "actions"), _hint("help", "help")]
        return [page_parts.footer(self._hints(), last, width)]

    def _footer_inputs(self, scene: Scene) -> tuple[object, ...]:
        return (*footer.inputs(scene), *self._hints())

    # --- keys ---

    def action_act(self, key: str) -> None:
        if off(key):
            self.say(WHY, "warn")
        else:
            super().action_act(key)
            self.paint()

    def palette_actions(self) -> Sequence[Entry]:
        mine = [Entry(key.id, key.what, key.shown.split()[0], "", key.id) for key in REPLAY.own]
        others = [replace(one, off=THIS) if off(one.id) else one for one in super().palette_actions()]
        return [*mine, *others]

    def do_replay_pause(self) -> None:
        self.deck.toggle()

    def do_replay_faster(self) -> None:
        self.deck.faster(True)

    def do_replay_slower(self) -> None:
        self.deck.faster(False)

    def do_replay_step(self) -> None:
        self._step(self.deck.timeline.events, True, "the recording ends here")

    def do_replay_step_back(self) -> None:
        self._step(self.deck.timeline.events, False, "the recording begins here")

    def do_replay_keep(self) -> None:
        if self.view.focus is Pane.DIFF:
            self.do_next_hunk()
        else:
            self._step(self.deck.timeline.keeps, True, "there is no later keep")

    def do_replay_keep_back(self) -> None:
        if self.view.focus is Pane.DIFF:
            self.do_previous_hunk()
        else:
            self._step(self.deck.timeline.keeps, False, "there is no earlier keep")

    def do_replay_verdict(self) -> None:
        self._step(self.deck.timeline.verdicts, True, "there is no later verdict")

    def do_replay_verdict_back(self) -> None:
        self._step(self.deck.timeline.verdicts, False, "there is no earlier verdict")

    def _step(self, moments: Sequence[float], forward: bool, none: str) -> None:
        if not self.deck.step(moments, forward):
            self.say(none)

    def do_help(self) -> None:
        self.app.push_screen(HelpScreen(REPLAY))

    def do_screenshot(self) -> None:
        """Not into the scratch store's folder: that goes with the replay."""
        try:
            self.say(f"picture: {self.app.keep_picture(Path.cwd(), self.deck.clock)}", "good")
        except OSError as error:
            self.say(f"no picture: {error.strerror or error}", "bad")


def _hint(key: str, word: str) -> Hint:
    """As the live screen's footer: a person's own keys, where there are some."""
    return BY_ID[key].shown.split()[0], word, ""
