"""Bytes of a training log, in chunks cut anywhere -> whole, readable lines. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

LINE_LIMIT = 64 << 10  # bytes; a longer line is no report, whatever it holds

_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")


class LogLines:
    """Splits on newline and on carriage return (progress bars), and drops what is not a whole line.

    A line is dropped, never guessed, when part of it is missing: ``0.9`` may be the rest of ``0.9979``.
    That is so for the lines on both sides of a gap, for lines with NUL bytes (a hole punched into the
    capped log reads as NULs) and for lines beyond ``LINE_LIMIT``. Terminal escapes are taken out.
    The result does not depend on where the chunks were cut, and memory is bounded by one line.
    """

    def __init__(self) -> None:
        self.number = 1  # of the line being yielded, as an editor counts: newlines only
        self.dropped = 0
        self._held: list[bytes] = []
        self._length = 0
        self._broken = False  # the line being read has lost bytes already

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that end within ``data``, stripped; empty ones and dropped ones are left out.

        The iterator must be used up before the next call.
        """
        segments = data.split(b"\n")
        rest = segments.pop()
        for segment in segments:
            if b"\r" in segment:
                *parts, segment = segment.split(b"\r")
                for part in parts:
                    if line := self._close(part):
                        yield line
            if line := self._close(segment):
                yield line
            self.number += 1
        if b"\r" in rest:
            *parts, rest = rest.split(b"\r")
            for part in parts:
                if line := self._close(part):
                    yield line
        self._hold(rest)

    def gap(self) -> None:
        """Bytes are missing here: the line so far and the line after it are no whole lines."""
        if self._held:
            self.dropped += 1
        self._held.clear()
        self._length = 0
        self._broken = True

    def end(self) -> bytes:
        """The last line when it has no newline; b"" when there is none."""
        return self._close(b"")

    def _hold(self, part: bytes) -> None:
        if not part or self._broken:
            return
        self._held.append(part)
        self._length += len(part)
        if self._length > LINE_LIMIT:
            self.gap()

    def _close(self, part: bytes) -> bytes:
        if self._broken:
            self._broken = False
            return b""
        if self._held:
            self._held.append(part)
            part = b"".join(self._held)
            self._held.clear()
            self._length = 0
        if len(part) > LINE_LIMIT or b"\0" in part:
            self.dropped += 1
            return b""
        if b"\x1b" in part:
            part = _ESCAPES.sub(b"", part)
        return part.strip()
