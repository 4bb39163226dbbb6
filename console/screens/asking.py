"""The live screen's half that asks something of the engine: each wish is a row of the inbox, after its guards.

Nothing in here runs by itself: each method is a key that was pressed, or the answer to a question it put.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from console.keymap import press
from console.layout import Layout
from console.state import SENT, State, View, asked, selected, why_not_decide
from engine.clock import Clock
from engine.errors import RatchetError
from engine.inbox import Request
from engine.store.rows import TrialRow

if TYPE_CHECKING:
    from console.desk import Desk
    from console.feed import Feed
    from console.screens.live import Doors


class Asking:
    """Mixed into LiveScreen; holds no painting."""

    feed: Feed
    state: State
    view: View
    clock: Clock
    doors: Doors
    plan: Layout
    mine: frozenset[int]
    _decided: dict[int, tuple[int, int]]  # request -> number and revision of the experiment
    app: Any
    run_worker: Callable[..., Any]

    if TYPE_CHECKING:

        def say(self, text: str, style: str = "dim") -> None: ...

    @property
    def desk(self) -> Desk:
        found: Desk = self.app.desk
        return found

    def _file(self, work: Callable[[], Awaitable[int | None]], done: str) -> None:
        """Carry out a write to the inbox; what goes wrong is said, never raised."""

        async def run() -> None:
            try:
                request = await work()
            except (RatchetError, sqlite3.Error, OSError) as error:
                self.say(f"that was not sent: {error}", "bad")
                return
            if request is not None:
                self.mine |= {request}
            self.say(done + (", it waits: no engine runs" if self.state.alive is False else ""))
            self.feed.nudge()

        self.run_worker(run(), exclusive=False)

    # --- decisions ---

    def do_accept(self) -> None:
        if told := self._why_not():
            self.say(told, "warn")
            return
        number, revision = self._seen_now()
        self._decide(
            (number, revision),
            lambda: self.desk.ask("accept", number=number, revision=revision),
            f"accept #{number} sent",
        )

    def do_reject(self) -> None:
        from console.screens.confirm import ReasonScreen

        if told := self._why_not():
            self.say(told, "warn")
            return
        number, revision = self._seen_now()  # what was seen now, whatever arrives while the reason is typed

        def answered(reason: str | None) -> None:
            if reason is not None:
                self._decide(
                    (number, revision),
                    lambda: self.desk.ask("reject", number=number, revision=revision, reason=reason),
                    f"reject #{number} sent",
                )

        row = self.state.listed.get(number)
        self.app.push_screen(ReasonScreen(f"Reject #{number}?", row.title if row else ""), answered)

    def _decide(self, seen: tuple[int, int], work: Callable[[], Awaitable[int]], done: str) -> None:
        """Two presses are one decision, also when the second comes before the first is on disk."""
        if seen in self._decided.values():
            self.say(f"#{seen[0]} is decided already", "warn")
            return
        self._decided[0] = seen  # until it has a number

        async def ask() -> int:
            try:
                request = await work()
                self._decided[request] = seen
                return request
            finally:
                self._decided.pop(0, None)

        self._file(ask, done)

    def take_answers(self, answered: Iterable[Request]) -> None:
        """What was refused or withdrawn may be decided again; what was done stays done."""
        for request in answered:
            if request.state != "done":
                self._decided.pop(request.id, None)

    def _sent(self) -> str:
        """Why what is selected is not decided once more: this console did so, in this very revision."""
        number = selected(self.state, self.view)
        row = self.state.listed.get(number) if number is not None else None
        if row is not None and (row.number, row.revision) in self._decided.values():
            return SENT
        return ""

    def _why_not(self) -> str:
        number = selected(self.state, self.view)
        for request in self.state.requests:
            if request.kind in ("accept", "reject", "edit") and request.args.get("number") == number:
                return f"already asked: {asked(request)}"
        return why_not_decide(self.state, self.view, self.clock.monotonic(), self.plan.panes)

    def _seen_now(self) -> tuple[int, int]:
        assert self.view.seen is not None  # the guards hold
        return self.view.seen

    # --- requests that wait ---

    def do_confirm_asleep(self) -> None:
        if not self.state.asleep:
            self.say("no request is asleep")
            return
        request = self.state.asleep[0]

        async def again() -> int:
            await self.desk.repeat(request.id)
            return request.id

        self._question(
            f"Still {asked(request)}?",
            f"{request.actor} asked for it before this engine started. It is carried out only if you say so.",
            lambda: self._file(again, f"{asked(request)} sent again"),
        )

    # --- the engine ---

    def do_pause(self) -> None:
        campaign = self.state.campaign
        if campaign is None or campaign.state == "finished":
            self.say("nothing runs that could be paused", "warn")
            return
        kind = "resume" if campaign.state == "paused" else "pause"
        self._file(lambda: self.desk.ask(kind), f"{kind} sent")

    def do_stop_trial(self) -> None:
        trial = self._trial_to_stop()
        if trial is None:
            self.say("no trial is running", "warn")
            return
        who = f"#{trial.number} " if trial.number is not None else "the baseline's "
        self._question(
            f"Stop trial {trial.id}: {who}{trial.purpose}, seed {trial.seed}?",
            "It ends as cancelled and brings no score; its experiment is judged without it.",
            lambda: self._file(lambda: self.desk.ask("stop_trial", trial=trial.id), f"stop trial {trial.id} sent"),
        )

    def _trial_to_stop(self) -> TrialRow | None:
        number = selected(self.state, self.view)
        busy = [t for t in self.state.running if t.state in ("running", "launching")]
        own = [t for t in busy if t.number == number]
        return next(iter(own or busy), None)

    def do_start_engine(self) -> None:
        if self.state.alive:
            self.say("the engine runs already")
        elif self.doors.start is None:
            self.say("this console only looks: `ratchet start` starts the engine", "warn")
        else:
            self._door(self.doors.start, "starting the engine ...", "the engine runs")

    def do_stop_engine(self) -> None:
        if self.state.alive is False:
            self.say("no engine is running")
            return

        def stop() -> None:
            if self.doors.stop is None:
                self._file(lambda: self.desk.ask("stop"), "stop the engine sent")
            else:
                self._door(self.doors.stop, "stopping the engine ...", "the engine stopped", leave=True)

        self._question(
            "Stop the engine?",
            "Running trials are ended and queue again for the next start. "
            f"{press('detach')} would leave it running.",
            stop,
        )

    def _door(self, door: Callable[[], None], before: str, after: str, *, leave: bool = False) -> None:
        async def run() -> None:
            try:
                await asyncio.to_thread(door)
            except RatchetError as error:
                self.say(f"{error.message}  mend: {error.mend}" if error.mend else error.message, "bad")
                return
            except Exception as error:  # whatever it is, the console stays and says it
                self.say(f"that did not work: {error}", "bad")
                return
            self.say(after, "good")
            if leave:
                self.app.exit(0)

        self.say(before)
        self.run_worker(run(), exclusive=False)

    def file_request(self, kind: str, done: str, **args: object) -> None:
        """What a further screen asks for."""
        self._file(lambda: self.desk.ask(kind, **args), done)

    def put_question(self, question: str, consequence: str, yes: Callable[[], None]) -> None:
        self._question(question, consequence, yes)

    def _question(self, question: str, consequence: str, yes: Callable[[], None]) -> None:
        from console.screens.confirm import ConfirmScreen

        def answered(answer: bool | None) -> None:
            if answer:
                yes()

        self.app.push_screen(ConfirmScreen(question, consequence, self.clock.monotonic), answered)

    # --- the console ---

    def do_detach(self) -> None:
        self.app.exit(0)

    def do_help(self) -> None:
        from console.screens.help import HelpScreen

        self.app.push_screen(HelpScreen())
