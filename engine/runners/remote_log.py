"""From the frames of follow_remote.sh to what happened: the engine's side of following an attempt elsewhere.

Pure: bytes in, facts out. A stream may break off anywhere; the next one goes on at ``position``.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from engine.runners import (
    Exited,
    FollowItem,
    LogChunk,
    LogSkipped,
    Lost,
    Reached,
    Started,
    StepExit,
    StepStarted,
    Unreachable,
)
from engine.runners.following import CHUNK_BYTES, parse_exit

WITH_DATA = ("log", "plan", "exit")
LONGEST_LINE = 64 << 10  # of a frame; login files that print more than this without a line's end are cut


@dataclass(frozen=True, slots=True)
class Frame:
    kind: str
    words: tuple[str, ...]
    data: bytes = b""

    @property
    def about(self) -> str:
        """The attempt's number, or the look's."""
        return self.words[0] if self.words else ""


class Frames:
    """Cuts a stream into frames; whatever else is printed there is kept as ``noise`` (its last part)."""

    def __init__(self, token: str) -> None:
        self._mark = token.encode() + b" "
        self._end = b"\n" + token.encode() + b" end\n"
        self._buffer = bytearray()
        self._open: Frame | None = None
        self._searched = 0
        self.noise = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        self._buffer += data
        while frame := self._next():
            yield frame

    def _next(self) -> Frame | None:
        while True:
            if self._open is not None:
                return self._with_data(self._open)
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > LONGEST_LINE:
                    self._note(bytes(self._buffer))
                    self._buffer.clear()
                return None
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            if not line.startswith(self._mark):
                self._note(line + b"\n")
                continue
            kind, *words = line[len(self._mark) :].decode("utf-8", "replace").split(" ")
            frame = Frame(kind, tuple(words))
            if kind not in WITH_DATA:
                return frame
            self._open, self._searched = frame, 0

    def _with_data(self, frame: Frame) -> Frame | None:
        at = self._buffer.find(self._end, self._searched)
        if at < 0:
            self._searched = max(len(self._buffer) - len(self._end), 0)
            return None
        data = bytes(self._buffer[:at])
        del self._buffer[: at + len(self._end)]
        self._open = None
        return Frame(frame.kind, frame.words, data)

    def _note(self, data: bytes) -> None:
        self.noise = (self.noise + data)[-2000:]


class RemoteReader:
    """One follower's place in one attempt elsewhere. ``take`` returns what is new, in order, each thing once.

    As ``AttemptReader``: told of ``Started`` and of all steps begun, then of the bytes from ``position``;
    chunks never reach over the beginning of a step. ``Reached`` follows ``Unreachable``.
    """

    def __init__(self, directory: str, offset: int = 0) -> None:
        self.directory = directory
        self.position = offset
        self._identity = ""
        self._names: list[str] = []
        self._begun: deque[tuple[int, str]] = deque()  # steps begun, not yet announced
        self._steps = 0  # known
        self._bytes: list[tuple[int, bytes]] = []  # read, and not yet known to have been there
        self._hole = (0, 0)
        self._trouble = ""
        self.ended = False

    def cut(self) -> None:
        """The stream broke: what it had begun to say counts for nothing."""
        self._bytes.clear()

    def away(self, reason: str) -> list[FollowItem]:
        """No evidence either way; said once until there is some."""
        if self._trouble or self.ended:
            return []
        self._trouble = reason
        return [Unreachable(reason)]

    def take(self, frame: Frame) -> list[FollowItem]:
        if self.ended:
            return []
        try:
            return list(self._take(frame))
        except (
            ValueError,
            IndexError,
            KeyError,
            TypeError,
        ):  # a candidate without a sandbox may have written there
            return []

    def _take(self, frame: Frame) -> Iterator[FollowItem]:
        rest = frame.words[1:]
        match frame.kind:
            case "missing":
                yield from self.away(f"the attempt's directory is missing: {self.directory}")
                return
            case "elsewhere":
                yield from self.away(f"the attempt runs on {' '.join(rest)}, and another machine has answered")
                return
            case "plan":
                plan = json.loads(frame.data)
                self._names = [str(name) for name in plan["steps"]]
            case "log":
                self._bytes.append((int(rest[0]), frame.data))
            case "hole":
                self._hole = (int(rest[0]), int(rest[1]))
            case "step":
                self._learn_step(*map(int, rest))
            case "pid":
                yield from self._back()
                if not self._identity and len(rest) == 3:
                    self._identity = " ".join(rest)
                    yield Started(self._identity)
            case "now":
                yield from self._back()
                yield from self._deliver()
            case "exit":
                if record := parse_exit(frame.data.decode("utf-8", "replace")):
                    yield from self._back()
                    self.ended = True
                    steps = tuple(StepExit(self._name(n), c, s, a, b) for n, c, s, a, b in record.steps)
                    yield Exited(record.reason, steps, record.peak_memory_bytes)
            case "lost":
                yield from self._back()
                self.ended = True
                yield Lost(" ".join(rest))

    def _back(self) -> Iterator[FollowItem]:
        if self._trouble:
            self._trouble = ""
            yield Reached()

    def _name(self, number: int) -> str:
        return self._names[number - 1] if 0 < number <= len(self._names) else f"step {number}"

    def _learn_step(self, nth: int, number: int, start: int) -> None:
        if nth > self._steps:  # a new stream tells all of them again
            self._steps = nth
            self._begun.append((start, self._name(number)))

    def _deliver(self) -> Iterator[FollowItem]:
        yield from self._announce()
        for at, data in self._bytes:
            begin, end = self._hole
            # What was cut out under the reader's hands is zeros that nobody printed.
            yield from self._from(at, data[: max(begin - at, 0)] if begin < end else data)
            if begin < end:
                late = max(end - at, 0)
                yield from self._from(at + late, data[late:])
        self._bytes.clear()

    def _from(self, at: int, data: bytes) -> Iterator[FollowItem]:
        fresh = self.position - at
        if not data or fresh >= len(data):
            return
        if fresh < 0:
            yield LogSkipped(self.position, -fresh)
            self.position = at
            yield from self._announce()
        else:
            data = data[fresh:]
        while data:
            ahead = (start - self.position for start, _ in self._begun if start > self.position)
            until = min([CHUNK_BYTES, *ahead])
            yield LogChunk(self.position, data[:until])
            self.position += len(data[:until])
            data = data[until:]
            yield from self._announce()

    def _announce(self) -> Iterator[FollowItem]:
        while self._begun and self._begun[0][0] <= self.position:
            start, name = self._begun.popleft()
            yield StepStarted(name, start)
