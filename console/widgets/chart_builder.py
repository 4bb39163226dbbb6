"""plotext in one thread of its own: the newest wish is built, those in between are skipped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from console.state import Curve
from console.widgets.lines import Line
from console.widgets.metric_chart import build

Wish = tuple[Curve | None, Curve | None, int, int]


class ChartBuilder:
    """``ready`` is called from the thread with the lines of the newest wish."""

    def __init__(self, ready: Callable[[tuple[Line, ...]], object]) -> None:
        self._ready = ready
        self._wish: Wish | None = None
        self._asked: Wish | None = None
        self._some = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def want(self, live: Curve | None, reference: Curve | None, width: int, height: int) -> None:
        """Build this, unless it was the last wish already (curves are frozen: identity tells)."""
        wish = (live, reference, width, height)
        old = self._asked
        if old is not None and old[0] is live and old[1] is reference and old[2:] == wish[2:]:
            return
        self._asked = wish
        with self._some:
            self._wish = wish
            self._some.notify()
        if self._thread is None:  # plotext is imported there, after the first paint
            self._thread = threading.Thread(target=self._run, name="chart", daemon=True)
            self._thread.start()

    def close(self) -> None:
        with self._some:
            self._ended = True
            self._some.notify()

    def _run(self) -> None:
        while True:
            with self._some:
                while self._wish is None and not self._ended:
                    self._some.wait()
                if self._ended:
                    return
                wish, self._wish = self._wish, None
            assert wish is not None
            try:
                lines = build(*wish)
            except Exception as error:  # a curve that cannot be drawn must not end the drawing of all others
                lines = (Line(((f"the chart cannot be drawn: {error!r}"[:200], "faint"),)),)
            if not self._ended:
                self._ready(lines)
