"""Prompts that a person edits while a campaign runs are taken up at once, when they are valid."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.prompt_templates import PromptSet

_MEND = "restart to take up changes of prompts"

Watch = Callable[[Sequence[Path]], AsyncGenerator[Any, None]]
"""``directories`` -> an item whenever something directly in one of them changed."""


def changes(directories: Sequence[Path]) -> AsyncGenerator[Any, None]:
    """The operating system's own notices; nothing polls."""
    from watchfiles import awatch

    return awatch(*directories, recursive=False, watch_filter=None, debounce=200)


class PromptWatcher:
    """Follows the prompts in ``directory``; ``current`` is always the last valid set.

    ``watch`` is injected: tests and other sources of changes take the place of the operating system.
    """

    def __init__(self, directory: Path | None, current: PromptSet, watch: Watch = changes) -> None:
        self.current = current
        self._directory = directory.absolute() if directory is not None else None
        self._watch = watch
        self._told = ""  # the error that was told last: once is enough

    async def updates(self) -> AsyncGenerator[PromptSet | ConfigError, None]:
        """New valid sets, and errors to warn with (``current`` stays in force). Ends only without a directory,
        or when nothing can be watched."""
        directory = self._directory
        if directory is None:
            return
        while True:
            # The parent too: a directory that is deleted and made anew (git does) is another one to the system.
            identity = _identity(directory)
            places = [place for place in (directory.parent, directory) if place.is_dir()]
            if not places:
                yield ConfigError(
                    f"{directory} is not watched: its parent is gone", "restart to take up its changes"
                )
                return
            async with contextlib.aclosing(self._watch(places)) as notices:
                while True:
                    waiting = asyncio.ensure_future(anext(notices))
                    try:
                        # One turn of the loop: the watch stands before the files are read, so that no change
                        # falls between the two.
                        await asyncio.wait({waiting}, timeout=0)
                        for news in self._look(directory):
                            yield news
                        await waiting
                    except StopAsyncIteration:
                        return
                    except (OSError, RuntimeError) as error:
                        if _identity(directory) != identity:
                            break  # deleted just before the watch began
                        yield ConfigError(f"{directory} is not watched: {error}", _MEND)
                        return
                    finally:
                        waiting.cancel()
                        await asyncio.wait({waiting})
                    if _identity(directory) != identity:
                        break

    def _look(self, directory: Path) -> list[PromptSet | ConfigError]:
        try:
            found = PromptSet.load(directory)
        except ConfigError as error:
            if error.message == self._told:
                return []
            self._told = error.message
            return [error]
        if found == self.current and not self._told:
            return []
        self.current, self._told = found, ""
        return [found]


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        status = directory.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
