"""The live screen's half that calls for the person: bell, the terminal's title, the summary on return.

It never puts anything over a text that is being typed, nor over a question.
"""

from __future__ import annotations

from typing import Any

from console.last_seen import LastSeen
from console.screens.away import AwayScreen, away_text
from console.state import State
from engine.clock import Clock

REMEMBER_SECONDS = 60.0


class News:
    """Mixed into LiveScreen; holds no painting."""

    state: State
    clock: Clock
    doors: Any
    app: Any
    run_worker: Any
    _remembered = float("-inf")
    _away_told = False

    def take_news(self, before: State) -> None:
        """Whatever is new since ``before``. What was there at the start rings no bell."""
        now = self.state
        if before.campaign is not None and now.campaign is not None:
            waits = set(now.awaiting) - set(before.awaiting)
            another = (before.campaign.id, before.campaign.incumbent) != (now.campaign.id, now.campaign.incumbent)
            if waits or another:
                self.app.bell()
        self.app.title_line.show(now)
        self._tell_away()

    def _tell_away(self) -> None:
        state = self.state
        if self._away_told or state.away is None or self.app.screen is not self or state.campaign is None:
            return
        self._away_told = True
        lines = away_text(state.away, state.campaign.metric, state.campaign.goal, len(state.awaiting))
        self.app.push_screen(AwayScreen(lines))

    def now_and_then(self) -> None:
        """Once a second."""
        self._tell_away()
        if self.clock.monotonic() - self._remembered >= REMEMBER_SECONDS:
            self._remembered = self.clock.monotonic()
            self.run_worker(self.remember, thread=True, exit_on_error=False)

    def remember(self) -> None:
        """What was shown by now; from any thread."""
        state = self.state
        if self.doors.remember is None or state.campaign is None or not state.events:
            return
        money = state.steering.money
        self.doors.remember(
            LastSeen(
                state.campaign.id,
                state.events[-1].id,
                self.clock.now(),
                money.spent if money is not None else 0,
                bool(state.alive),
            )
        )
