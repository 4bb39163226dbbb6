"""plotext in one thread of its own: the newest wish is built, those in between skipped, the last few kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from console.widgets.chart import Chart, Traces, Wish, build

KEPT = 8  # what was built: back from a zoom, an axis or a scale costs nothing
T = TypeVar("T")


class Builder(Generic[T]):
    """``ready`` is called with what the newest wish came to, or a word that says why it came to nothing.

    It comes from the builder's thread, or at once where the result is still known.
    """

    def __init__(self, ready: Callable[[T | str], object]) -> None:
        self._ready = ready
        self._wish: tuple[Hashable, Callable[[], T | str]] | None = None
        self._asked: Hashable = None
        # A wish is kept with its result: it holds the curves whose identity is its key.
        self._known: dict[Hashable, tuple[Callable[[], T | str], T | str]] = {}
        self._some = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def want(self, key: Hashable, work: Callable[[], T | str]) -> None:
        """Build this, unless it was the last wish already."""
        if self._asked == key:
            return
        with self._some:
            self._asked = key
            known = self._known.get(key)
            self._wish = None if known else (key, work)
            self._some.notify()
        if known is not None:
            self._ready(known[1])
        elif self._thread is None:  # plotext is imported there, after the first paint
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
                assert self._wish is not None
                (key, work), self._wish = self._wish, None
            found: T | str
            try:
                found = work()
            except Exception as error:  # what cannot be drawn must not end the drawing of everything else
                found = f"the chart cannot be drawn: {error!r}"[:200]
            with self._some:
                self._known[key] = (work, found)
                while len(self._known) > KEPT:
                    del self._known[next(iter(self._known))]
                # A newer one that was known already has been shown: this one must not come after it.
                late = self._wish is None and self._asked != key
            if not (late or self._ended):
                self._ready(found)


class ChartBuilder:
    """Charts of curves; the smoothed curves are kept from one to the next."""

    def __init__(self, ready: Callable[[Chart | str], object]) -> None:
        self._builder: Builder[Chart] = Builder(ready)
        self._traces = Traces()

    def want(self, wish: Wish) -> None:
        self._builder.want(wish.key, lambda: build(wish, self._traces) or "nothing to draw yet")

    def close(self) -> None:
        self._builder.close()
