"""From an attempt's control files to what happened: the reading side of job.sh.

Only cheap, synchronous file calls, and no waiting: whoever follows many attempts polls each in turn.
"""

from __future__ import annotations

import functools
import json
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.runners import (
    Exited,
    FollowItem,
    LogChunk,
    LogSkipped,
    Lost,
    Started,
    StepExit,
    StepStarted,
    Unreachable,
)

LOG_TAIL_BYTES = 1 << 20  # what a capped log keeps at its end
LEAST_LOG_HEAD_BYTES = 64 << 10
CHUNK_BYTES = 256 << 10
BYTES_A_LOOK = 2 << 20  # so that one flooding trial cannot hold up the others


@functools.cache
def boot_id() -> str:
    """This machine's boot: pids and start times mean something only within one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_is(pid: int, start: str) -> bool:
    """Whether that very process runs: a zombie does not, nor does another that was given its number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    # The name in brackets may hold anything, so count from the last bracket.
    fields = stat.rpartition(b")")[2].split()
    return fields[19].decode() == start and fields[0] not in (b"Z", b"X")


def identity_is_gone(identity: str) -> str:
    """Why the process ``pid start boot`` certainly runs no more, or "" when it may still run."""
    pid, start, boot = identity.split()
    if boot != boot_id():
        return "the machine was restarted"
    if not process_is(int(pid), start):
        return f"the job's process {pid} is gone and left no exit"
    return ""


def log_head_bytes(cap: int) -> int:
    """How much of its beginning a log capped at ``cap`` bytes keeps; whole pages, as a hole needs."""
    return max((cap - LOG_TAIL_BYTES + 4095) // 4096 * 4096, LEAST_LOG_HEAD_BYTES)


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """``control/exit``. Steps are by number, from 1."""

    reason: str
    peak_memory_bytes: int
    steps: tuple[tuple[int, int, float, int, int], ...]  # number, code, seconds, log start, log end


def parse_exit(text: str) -> ExitRecord | None:
    """Read ``control/exit``; None when it is not all there (it is renamed into place whole, so: damaged)."""
    try:
        return _parse_exit(text)
    except ValueError:
        return None


def _parse_exit(text: str) -> ExitRecord | None:
    reason, peak = "", 0
    steps: list[tuple[int, int, float, int, int]] = []
    for line in text.splitlines():
        match line.split():
            case ["reason", word]:
                reason = word
            case ["peak", number]:
                peak = int(number)
            case ["step", number, code, seconds, start, end]:
                steps.append((int(number), int(code), float(seconds), int(start), int(end)))
            case ["end"]:
                return ExitRecord(reason, peak, tuple(steps)) if reason else None
    return None


class AttemptReader:
    """One follower's place in one attempt. ``look`` returns what is new, in order, each thing once.

    A reader that starts again at some log offset is told of ``Started`` and of all steps begun so far
    once more, then of the bytes from there. Chunks never reach over the beginning of a step.
    """

    def __init__(self, directory: str, offset: int = 0) -> None:
        self._control = Path(directory) / "control"
        self._position = offset
        self._identity = ""
        self._begun: deque[tuple[int, str]] = deque()  # steps begun, not yet announced
        self._steps_read = 0  # bytes of control/steps
        self._exit: ExitRecord | None = None
        self._final_size = 0
        self._trouble = ""
        self.ended = False
        self.behind = False  # there is more to read at once

    # What a poller asks, from cheap and often to dear and rare.

    def look(self, *, log: bool = True, life: bool = True) -> list[FollowItem]:
        """What has happened since the last look.

        ``log`` also reads the log, ``life`` also checks that the job still runs. An end is noticed, and
        the whole log then read, whatever is asked for.
        """
        try:
            items = list(self._look(log=log, life=life))
            self._trouble = ""
        except OSError as fault:
            # No evidence either way. Said once, not at each look.
            words = f"{fault.strerror or fault}: {fault.filename or self._control}"
            if words == self._trouble:
                return []
            self._trouble = words
            return [Unreachable(words)]
        return items

    def _look(self, *, log: bool, life: bool) -> Iterator[FollowItem]:
        if not self._identity and (identity := self._read("pid").strip()):
            self._identity = identity
            yield Started(identity)
        if self._exit is None:
            self._find_exit()
        self.behind = False
        if log or self._exit is not None:
            yield from self._read_log()
        elif self._read_steps():
            yield from self._announce()
        if self._exit is not None:
            if not self.behind:
                self.ended = True
                yield self._exited(self._exit)
        elif life and not self.behind and (reason := self._evidence_of_loss()):
            self.ended = True
            yield Lost(reason)

    def _read(self, name: str, offset: int = 0) -> str:
        try:
            with (self._control / name).open("rb") as file:
                file.seek(offset)
                return file.read(1 << 20).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    @functools.cached_property
    def _plan(self) -> dict[str, object]:
        plan: dict[str, object] = json.loads((self._control / "plan.json").read_text())
        return plan

    def _step_name(self, number: int) -> str:
        names = self._plan["steps"]
        assert isinstance(names, list)
        return str(names[number - 1])

    def _find_exit(self) -> None:
        # A stat first: this is asked twenty times a second.
        if not (self._control / "exit").exists():
            return
        # A damaged one (the power went before its bytes were on disk) is as good as none.
        self._exit = parse_exit(self._read("exit"))
        self._final_size = self._log_size()

    def _exited(self, record: ExitRecord) -> Exited:
        steps = tuple(StepExit(self._step_name(n), c, s, a, b) for n, c, s, a, b in record.steps)
        return Exited(record.reason, steps, record.peak_memory_bytes)

    def _evidence_of_loss(self) -> str:
        if not self._control.is_dir():
            raise OSError(2, "the attempt's directory is missing", str(self._control))
        if self._identity:
            reason = identity_is_gone(self._identity)
        elif (self._control / "claim").exists():
            # Claimed, and no pid: slow, or dead in between. Its contender file was written before.
            names = [path.name for path in self._control.glob("contender.*")]
            contenders = [text for name in names if (text := self._read(name))]
            if self._read("pid") or any(not identity_is_gone(text) for text in contenders):
                return ""
            reason = "whoever claimed the attempt died before starting it"
        else:
            return ""  # staged and never claimed: the conductor launches again
        # It may have written its exit and left between our two looks.
        if reason and (parse_exit(self._read("exit")) or (not self._identity and self._read("pid"))):
            return ""
        return reason

    # The log.

    def _log_size(self) -> int:
        try:
            return (self._control / "log").stat().st_size
        except FileNotFoundError:
            return 0

    def _read_steps(self) -> bool:
        """Take note of steps begun since; False when there are none."""
        try:
            if (self._control / "steps").stat().st_size == self._steps_read:
                return False
        except FileNotFoundError:
            return False
        text = self._read("steps", self._steps_read)
        whole = text[: text.rfind("\n") + 1]
        self._steps_read += len(whole)
        for line in whole.splitlines():
            number, start = line.split()
            self._begun.append((int(start), self._step_name(int(number))))
        return bool(whole)

    def _announce(self) -> Iterator[FollowItem]:
        while self._begun and self._begun[0][0] <= self._position:
            start, name = self._begun.popleft()
            yield StepStarted(name, start)

    def _read_log(self) -> Iterator[FollowItem]:
        # The size before the steps: every byte below it then belongs to a step that we know of.
        size = self._log_size() if self._exit is None else self._final_size
        self._read_steps()
        yield from self._announce()
        if size <= self._position:
            return
        with (self._control / "log").open("rb") as file:
            descriptor, budget = file.fileno(), BYTES_A_LOOK
            while self._position < size and budget > 0:
                item = self._next_piece(descriptor, size)
                if item is None:
                    break  # the log changed under our hands: look again
                if isinstance(item, LogChunk):
                    budget -= len(item.data)
                    self._position += len(item.data)
                else:
                    self._position += item.length
                yield item
                yield from self._announce()
        self.behind = self._position < size

    def _next_piece(self, descriptor: int, size: int) -> LogChunk | LogSkipped | None:
        at = self._position
        wanted = self._too_far_behind(at, size) or _next_data(descriptor, at, size)
        if wanted > at:
            return LogSkipped(at, wanted - at)
        hole = _next_hole(descriptor, at)
        until = min(size, hole, at + CHUNK_BYTES, *(start for start, _ in self._begun if start > at))
        data = os.pread(descriptor, until - at, at)
        # The watcher may have punched its hole under our hands: those zeros were never printed.
        if not data or _next_data(descriptor, at, size) != at or _next_hole(descriptor, at) < until:
            return None
        return LogChunk(at, data)

    def _too_far_behind(self, at: int, size: int) -> int:
        """Where to go on reading when the middle of a flood will be cut out anyway, else 0."""
        cap = self._plan["log_cap_bytes"]
        assert isinstance(cap, int)
        tail = size - LOG_TAIL_BYTES
        if size <= cap or at < log_head_bytes(cap) or tail - at <= BYTES_A_LOOK:
            return 0
        return tail


def _next_data(descriptor: int, at: int, size: int) -> int:
    try:
        return min(os.lseek(descriptor, at, os.SEEK_DATA), size)
    except OSError:  # ENXIO: nothing but a hole from here on
        return size


def _next_hole(descriptor: int, at: int) -> int:
    return os.lseek(descriptor, at, os.SEEK_HOLE)
