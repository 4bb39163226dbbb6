"""The live screen's keys that steer: edit, take back, accept in advance, message, pin, further seeds, step back.

Each says why it cannot be used now; each asks first where it cannot be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from textual.app import SuspendNotSupported

from console import charting
from console.editing import NotSent, Sheet
from console.formats import one_or_more
from console.keymap import press
from console.plain_text import clean
from console.screens.edited import AGAIN, SEND, EditedScreen
from console.screens.typing import CountScreen, MessageScreen
from console.state import Detail, State, View, asked, selected, to_withdraw
from console.steering import RECENT_SECONDS, autopilot
from engine.clock import Clock
from engine.errors import RatchetError
from engine.inbox import Request

if TYPE_CHECKING:
    from console.desk import Desk
    from console.screens.live import Doors

MOST_AT_ONCE, MOST_SEEDS = 1000, 50  # as the engine allows


class SteeringKeys:
    """Mixed into LiveScreen, beside Asking; holds no painting."""

    state: State
    view: View
    clock: Clock
    doors: Doors
    app: Any
    run_worker: Callable[..., Any]

    if TYPE_CHECKING:

        @property
        def desk(self) -> Desk: ...
        def say(self, text: str, style: str = "dim", number: int | None = None) -> None: ...
        def paint(self) -> None: ...
        def _file(self, work: Callable[[], Awaitable[int | None]], done: str) -> None: ...
        def _question(self, question: str, consequence: str, yes: Callable[[], None]) -> None: ...
        def _why_not(self) -> str: ...
        def _seen_now(self) -> tuple[int, int]: ...

    # --- edit ---

    def do_edit(self) -> None:
        if told := self._why_not():
            self.say(told, "warn")
            return
        number, revision = self._seen_now()
        row = self.state.listed.get(number)
        detail = self.state.detail
        if row is None or row.state != "review":
            self.say("a keep was measured as it is: only a proposal can be edited, before its run", "warn")
        elif self.doors.candidate is None or self.doors.editor is None:
            self.say("this console has no editor: `ratchet` opens one that has", "warn")
        elif detail is None or detail.row.candidate_sha is None:
            self.say("its files are not known yet", "warn")
        else:
            self.run_worker(self._edit(detail, detail.row.candidate_sha, revision), group="edit", exclusive=True)

    async def _edit(self, detail: Detail, candidate: str, revision: int) -> None:
        assert self.doors.candidate is not None
        number = detail.row.number
        try:
            files = await asyncio.to_thread(self.doors.candidate, detail.row.base_sha, candidate)
            with Sheet(files) as sheet:
                await self._round(sheet, detail, revision)
        except NotSent as told:
            self.say(f"#{number}: {_with_mend(told)}", "warn", number)
        except (RatchetError, OSError) as error:
            self.say(f"#{number} cannot be edited: {_with_mend(error)}", "bad", number)

    async def _round(self, sheet: Sheet, detail: Detail, revision: int) -> None:
        """Editor, diff, answer; and again as long as the person wants to. What goes wrong is raised."""
        number = detail.row.number
        answer: str | None = AGAIN
        while answer == AGAIN:
            if told := self._lend_terminal(sheet):
                raise NotSent(f"{told}: nothing is sent")
            texts = sheet.read()
            changes = sheet.changes(texts)
            lines = await asyncio.to_thread(sheet.diff, texts)
            answer = await self.app.push_screen_wait(EditedScreen(detail, lines, self.clock.monotonic))
        if answer != SEND:
            raise NotSent("the edit was dropped: nothing is sent")
        self._file(
            lambda: self.desk.ask("edit", number=number, revision=revision, changes=changes),
            f"edit #{number} sent",
        )

    def _lend_terminal(self, sheet: Sheet) -> str:
        """'' when the editor ended well. It blocks the loop on purpose: nothing may paint over the editor. The
        feed reads on in its thread, and what it says is taken afterwards."""
        assert self.doors.editor is not None
        try:
            with self.app.suspend():
                return self.doors.editor(sheet.paths, sheet.folder)
        except SuspendNotSupported:
            return "this terminal cannot be lent to an editor"

    # --- take back ---

    def do_undo(self) -> None:
        """A request that waits is the newest thing that can be taken back; then a decision that was taken."""
        if (waiting := to_withdraw(self.state, self.desk.actor)) is not None:
            self._withdraw(waiting)
            return
        mine = self.state.steering.newest_of(self.desk.actor)
        if mine is None:
            self.say("nothing to take back: no request waits, and what you decided has been carried out")
            return

        def undo() -> None:
            self._file(
                lambda: self.desk.ask("undo", number=mine.number), f"undo {mine.action} #{mine.number} sent"
            )

        if self.clock.now() - mine.at < RECENT_SECONDS:
            undo()
        else:
            self._question(
                f"Take back: {mine.action} #{mine.number}?",
                "It was decided a while ago. It waits again then.",
                undo,
            )

    def _withdraw(self, request: Request) -> None:
        async def withdraw() -> int:
            await self.desk.withdraw(request.id)
            return request.id

        self._file(withdraw, f"{asked(request)} withdrawn")

    # --- in advance ---

    def do_accept_next(self) -> None:
        if self.state.campaign is None:
            self.say("no campaign yet: nothing will wait", "warn")
            return
        if ahead := autopilot(self.state.campaign):
            self._question(
                "Ask about everything again?",
                f"{ahead.left} more would be accepted without asking (by {clean(ahead.actor)}).",
                lambda: self._file(lambda: self.desk.ask("autopilot", count=0), "ask again sent"),
            )
            return

        def counted(text: str | None) -> None:
            if text is None:
                return
            count = int(text)
            self._question(
                f"Accept the next {count} without asking?",
                "Proposals run and keeps advance the ratchet as they come, those that wait now first. "
                f"{press('accept_next')} ends it.",
                lambda: self._file(
                    lambda: self.desk.ask("autopilot", count=count), f"accept the next {count} sent"
                ),
            )

        waiting = len(self.state.awaiting)
        told = f"{one_or_more(waiting, 'decision')} waiting now." if waiting else "Nothing waits now."
        self.app.push_screen(
            CountScreen("Accept the next how many?", told, 1, MOST_AT_ONCE, "", self.clock.monotonic), counted
        )

    # --- words ---

    def do_message(self) -> None:
        if self.state.campaign is None:
            self.say("no campaign yet: there is no proposer to tell", "warn")
            return

        def answered(text: str | None) -> None:
            if text:
                self._file(lambda: self.desk.ask("steer", text=text), "message sent")

        self.app.push_screen(MessageScreen(len(self.state.steering.waiting_notes)), answered)

    # --- about one experiment ---

    def do_pin(self) -> None:
        """On this console's chart at once, and in the store for every console."""
        number = selected(self.state, self.view)
        if number is None:
            self.say("no experiment is selected")
            return
        pinned = number in self.state.steering.pins
        mark = next((mark for mark in self.view.marks if mark.number == number and mark.pinned), None)
        if pinned == (mark is not None):
            marks, told = charting.toggle_mark(self.view.marks, number, pin=True)
            if marks == self.view.marks:
                self.say(told, "warn")  # there is no room
                return
            self.view = replace(self.view, marks=marks)
        kind = "unpin" if pinned else "pin"
        self._file(lambda: self.desk.ask(kind, number=number), f"{kind} #{number} sent")
        self.paint()

    def take_pins(self, before: tuple[int, ...], now: tuple[int, ...]) -> None:
        """Lay what somebody pinned over the chart, where there is room; take away what nobody pins any more."""
        marks = tuple(m for m in self.view.marks if not (m.pinned and m.number in before and m.number not in now))
        for number in now:
            if number not in before and not any(m.number == number and m.pinned for m in marks):
                marks = charting.toggle_mark(marks, number, pin=True)[0]
        self.view = replace(self.view, marks=marks)

    def do_rerun(self) -> None:
        number = selected(self.state, self.view)
        row = self.state.listed.get(number) if number is not None else None
        if row is None:
            self.say("no experiment is selected")
        elif row.state in ("drafting", "review", "ready"):
            self.say(f"#{row.number} has not run yet: its first runs come first", "warn")
        else:
            self._ask_for_seeds(row.number)

    def _ask_for_seeds(self, number: int) -> None:
        def counted(text: str | None) -> None:
            if text is not None:
                seeds = int(text)
                self._file(
                    lambda: self.desk.ask("rerun", number=number, seeds=seeds),
                    f"{seeds} further seeds of #{number} sent",
                )

        self.app.push_screen(
            CountScreen(
                f"Run #{number} on how many further seeds?",
                "Its base runs on the same ones, so each counts twice. No verdict changes by it.",
                1, MOST_SEEDS, "3", self.clock.monotonic,
            ),
            counted,
        )  # fmt: skip

    def do_step_back(self) -> None:
        number = selected(self.state, self.view)
        behind = self.state.steering.left_behind(number) if number is not None else None
        if number is None:
            self.say("no experiment is selected")
        elif behind is None:
            row = self.state.listed.get(number)
            kept = row is not None and row.verdict == "keep" and row.state == "settled"
            told = "nothing rests on it any more" if kept else "it is no keep"
            self.say(
                f"#{number}: {told}; {press('step_back')} goes back to a keep in force, "
                "`ratchet back 0` to the baseline",
                "warn",
            )
        elif not behind:
            self.say(f"#{number} is the incumbent: there is nothing behind it to go back from", "warn")
        else:
            listed = "\n".join(f"  #{keep.number} {clean(keep.title)}" for keep in behind[-8:])
            more = f"\n  and {len(behind) - 8} more" if len(behind) > 8 else ""
            self._question(
                f"Step the ratchet back to #{number}?",
                f"Left behind, though kept in the history:\n{listed}{more}\n"
                "The branch gets a new commit with the files as they were. Nothing is deleted; "
                f"{press('undo')} cannot undo it.",
                lambda: self._file(
                    lambda: self.desk.ask("step_back", number=number), f"step back to #{number} sent"
                ),
            )


def _with_mend(error: Exception) -> str:
    mend = getattr(error, "mend", "")
    text = str(getattr(error, "message", error))
    return clean(f"{text}  mend: {mend}" if mend else text)
