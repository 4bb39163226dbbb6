"""The further screens' half that says what can be done and copied there, for the lists that one chooses from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from console import copying
from console.choosing import Entry
from console.copying import Copy
from console.screen_keys import ScreenKeys
from console.screens.everywhere import Everywhere
from console.state import State


class ReadingOffers(Everywhere):
    """Mixed into ReadingScreen; holds no painting."""

    KEYS: ClassVar[ScreenKeys]

    if TYPE_CHECKING:

        def why_off(self, key: str) -> str: ...

    def palette_actions(self) -> Sequence[Entry]:
        return [
            Entry(key.id, key.what, key.shown.split()[0], self.why_off(key.id), key.id)
            for key in self.KEYS.all
            if key.id != "palette"
        ]

    def number_in_sight(self) -> int | None:
        """The experiment that the screen is about, or its cursor on."""
        detail = self._shown().detail
        return detail.row.number if detail is not None else None

    def _shown(self) -> State:
        found = getattr(self, "state", None)
        return found if isinstance(found, State) else self._front.state

    def copies(self) -> list[Copy]:
        return copying.copies(self._shown(), self.number_in_sight(), ())

    def natural_copy(self, found: Sequence[Copy]) -> Copy | None:
        return copying.natural(found, getattr(getattr(self, "view", None), "focus", None))
