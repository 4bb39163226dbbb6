"""What a full screen does while another full screen stands over it: nothing.

Textual 8.2.8 takes the screen under the one in front for visible, as if every front were see-through; once it is
to be painted anew, the whole front is sent again with each of its messages (8 KB a second at 80x24).
"""

from __future__ import annotations

from typing import Any

from textual.screen import Screen


def front_of(app: Any) -> Screen[Any]:
    """The full screen that is seen; a question stands over one and hides none."""
    found: Screen[Any] = next(one for one in reversed(app.screen_stack) if not one.is_modal)
    return found


class Hidden(Screen[None], inherit_bindings=False):
    """A full screen that rests while it is hidden."""

    @property
    def is_current(self) -> bool:
        return super().is_current and front_of(self.app) is self
