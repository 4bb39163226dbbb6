"""A list over the screen to choose one entry from by typing a part of its name: the palette, and what to copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.events import Key, Paste, Resize
from textual.screen import ModalScreen

from console.choosing import Entry, Hit, Place, erased, hits, moved, typed
from console.widgets import choice_list
from console.widgets.lines import Line, LinesView, Scene

STEPS = {"up": -1, "down": 1, "ctrl+n": 1, "ctrl+p": -1, "shift+tab": -1, "tab": 1}
Extra = Callable[[str], Sequence[Entry]]


class ChoiceScreen(ModalScreen[Entry | None], inherit_bindings=False):
    """None: nothing was chosen. ``extra`` gives entries that what is typed makes possible, shown first.

    ``letters``: keys that choose an entry at once while nothing is typed (id by key).
    """

    AUTO_FOCUS = ""
    TYPED_AHEAD = True  # keys typed before it is seen are its own
    CSS = "ChoiceScreen { background: transparent; align: left top; }"

    def __init__(
        self, title: str, prompt: str, entries: Sequence[Entry], extra: Extra | None = None, *,
        letters: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._title, self._prompt, self._entries = title, prompt, entries
        self._extra = extra or (lambda query: ())
        self._letters = {entry.key: entry for entry in entries if entry.key} if letters else {}
        self.place = Place()
        self._hits: list[Hit] = hits(entries, "")
        self._list = LinesView("choices", _nothing, lambda scene: ())

    def compose(self) -> ComposeResult:
        self._stand()
        yield self._list

    def on_resize(self, event: Resize) -> None:
        self._stand()

    def _stand(self) -> None:
        rect = choice_list.where(*self.app.size, len(self._entries))
        self._list.place(rect.x, rect.y, rect.width, rect.height)
        self._rect = rect
        self._paint()

    def _paint(self) -> None:
        width, height = self._rect.width, self._rect.height
        self._list.put(choice_list.lines(self._title, self._prompt, self._hits, self.place, width, height))

    def _show(self, place: Place) -> None:
        if place.query != self.place.query:
            self._hits = [*(Hit(one) for one in self._extra(place.query)), *hits(self._entries, place.query)]
        self.place = place
        self._paint()

    def on_key(self, event: Key) -> None:
        event.stop()
        event.prevent_default()
        key = event.key
        rows = choice_list.rows_of(self._rect.height)
        if key in ("escape", "ctrl+c"):
            self.dismiss(None)
        elif key == "enter":
            self._choose(self._hits[self.place.at].entry if self._hits else None)
        elif not self.place.query and event.character in self._letters:
            self._choose(self._letters[event.character or ""])
        elif key in STEPS:
            self._show(moved(self.place, STEPS[key], len(self._hits), rows))
        elif key in ("pageup", "pagedown"):
            self._show(moved(self.place, rows if key == "pagedown" else -rows, len(self._hits), rows))
        elif key in ("home", "end"):
            self._show(moved(self.place, 10**6 if key == "end" else -(10**6), len(self._hits), rows))
        elif key == "backspace":
            self._show(erased(self.place))
        elif key in ("ctrl+w", "ctrl+u"):
            self._show(erased(self.place, word=True) if key == "ctrl+w" else Place())
        elif event.character is not None and event.is_printable:
            self._show(typed(self.place, event.character))

    def on_paste(self, event: Paste) -> None:
        event.stop()
        self._show(typed(self.place, event.text.partition("\n")[0]))

    def on_lines_view_clicked(self, message: LinesView.Clicked) -> None:
        row = self.place.top + message.y - 2
        if 0 <= message.y - 2 < choice_list.rows_of(self._rect.height) and row < len(self._hits):
            self._choose(self._hits[row].entry)

    def on_lines_view_scrolled(self, message: LinesView.Scrolled) -> None:
        step = 2 if message.lines > 0 else -2
        self._show(moved(self.place, step, len(self._hits), choice_list.rows_of(self._rect.height)))

    def _choose(self, entry: Entry | None) -> None:
        if entry is not None and self.is_current:
            self.dismiss(entry)


def _nothing(scene: Scene, width: int, height: int) -> Sequence[Line]:
    return ()
