"""Pygments in one thread of its own: the newest wish is coloured, older ones are dropped."""

from __future__ import annotations

import threading
from collections.abc import Callable

from console.diffs import Diff
from console.highlight import Coloured, coloured


class ColourBuilder:
    """``ready`` is called from the thread: first with what is in sight, then with all of the diff."""

    def __init__(self, ready: Callable[[Coloured], object]) -> None:
        self._ready = ready
        self._asked: Diff | None = None
        self._wish: tuple[Diff, int] | None = None
        self._some = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None

    def want(self, files: Diff, near: int) -> None:
        """Colour ``files``, the ``near``-th hunk first, unless they were the last wish already."""
        if self._asked is files:
            return
        self._asked = files
        with self._some:
            self._wish = (files, near)
            self._some.notify()
        if self._thread is None:  # Pygments is imported there, after the first paint
            self._thread = threading.Thread(target=self._run, name="colours", daemon=True)
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
                for found in coloured(*wish):
                    if self._ended or self._wish is not None:
                        break
                    self._ready(found)
            except Exception:  # colours are an ornament: without them the diff is plain
                continue
