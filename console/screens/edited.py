"""What came back from the editor, as the diff that would run; it is sent only by the letter y."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from console import diff_moves
from console.diff_moves import DiffView
from console.formats import fit
from console.state import VISIBLE_SECONDS, Detail, State, View
from console.widgets import diff_view
from console.widgets.lines import Line, LinesView, Scene

SEND, AGAIN = "send", "again"
KEYS = " y send; it then waits for your decision    e edit again    n drop it    j k move    s side by side"


class EditedScreen(ModalScreen[str | None]):
    """SEND, AGAIN (back to the editor) or None. y counts once the diff has been visible for a moment."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "send", "send"),
        Binding("e", "again", "edit again"),
        Binding("n,escape,q", "no", "no"),
        Binding("s", "split", "side by side"),
        Binding("j,down", "move(1)", show=False),
        Binding("k,up", "move(-1)", show=False),
        Binding("pagedown,space", "move(15)", show=False),
        Binding("pageup,b", "move(-15)", show=False),
    ]

    def __init__(self, detail: Detail, lines: Sequence[str], now: Callable[[], float]) -> None:
        super().__init__()
        # Not listed, so that no decision is offered over what was not sent.
        self._state = State(detail=replace(detail, diff=tuple(lines)))
        self._number, self._now = detail.row.number, now
        self._view = DiffView()
        self._since = float("inf")

    def compose(self) -> ComposeResult:
        self._page = LinesView("edited", self._paint, lambda scene: (scene.view.diff, scene.state))
        yield self._page

    def on_mount(self) -> None:
        self._show()
        self.call_after_refresh(self._seen)

    def on_resize(self) -> None:
        self._show()

    def _seen(self) -> None:
        self._since = self._now()

    # --- what is shown ---

    def _scene(self) -> Scene:
        return Scene(self._state, View(diff=self._view), 0.0, self._number)

    def _show(self) -> None:
        self._page.place(0, 0, *self.app.size)
        self._page.show(self._scene())

    def _paint(self, scene: Scene, width: int, height: int) -> list[Line]:
        title = Line(((fit(f" #{self._number} as you edited it: send it?", width), "alarm"),))
        body = diff_view.body(scene, width, max(1, height - 2))[: max(0, height - 2)]
        rest = [Line(())] * (height - 2 - len(body))
        return [title, *body, *rest, Line(((fit(KEYS, width), "dim"),), "bar")]

    # --- keys ---

    def _may(self) -> bool:
        return self._now() - self._since >= VISIBLE_SECONDS

    def action_send(self) -> None:
        if self._may():
            self.dismiss(SEND)

    def action_again(self) -> None:
        if self._may():
            self.dismiss(AGAIN)

    def action_no(self) -> None:
        self.dismiss(None)

    def action_move(self, lines: int) -> None:
        width, height = self.app.size
        if (found := diff_view.showing(self._scene(), width, max(1, height - 2))) is not None:
            self._view = diff_moves.move(self._view, lines, *found)
            self._show()

    def action_split(self) -> None:
        self._view = replace(self._view, split=not self._view.is_split(self.app.size.width))
        self._show()
