"""The proposer that is any program: it edits a private checkout and prints a title.

Claude Code, Codex or a ten-line script: whatever runs as ``sh -c`` in ``brief.checkout`` and leaves
edits there. The checkout is a copy; the user's own files are never in reach of a relative path.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from engine.clock import Clock
from engine.errors import EditRejected
from engine.types import Author, Brief, FileChange, NoProposal, Proposal, ProposerEvent, StreamText

T = TypeVar("T")
ReadChanges = Callable[[str, str], Awaitable[tuple[FileChange, ...]]]
"""``(directory, base commit)`` -> what differs in the directory from the base version."""

_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "TMPDIR", "USER", "SHELL")
_TITLE_LENGTH = 100
_LINE_LENGTH = 4_000
_SHOWN_BYTES = 1 << 20  # of output that is streamed; a program that prints for ever must not fill the store
_STDERR_TAIL = 4_000
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class CommandProposer:
    """Runs ``command`` once a proposal.

    It finds the brief as JSON in the file ``RATCHET_BRIEF`` (see ``brief_json``), and RATCHET_BASE,
    RATCHET_CAMPAIGN, RATCHET_EXPERIMENT, RATCHET_METRIC, RATCHET_GOAL and RATCHET_CHECKOUT. Of the
    engine's environment it sees an allow-list and the names in ``environment``: an API key only when
    a person named it. The title is its last ``TITLE: ...`` line, else its last line; ``HYPOTHESIS: ...``
    lines are joined. Its process group is ended with it, after a time-out and on cancellation.

    Outcomes of NoProposal: ``failed``, ``timed out``, ``no change``, ``rejected``.
    """

    name = "command"

    def __init__(
        self,
        command: str,
        read_changes: ReadChanges,
        clock: Clock,
        timeout_seconds: float = 600.0,
        environment: Sequence[str] = (),
        grace_seconds: float = 3.0,
    ) -> None:
        self._command = command
        self._read_changes = read_changes
        self._clock = clock
        self._timeout = timeout_seconds
        self._grace = grace_seconds
        self._passed = (*_PASSED, *environment)

    async def propose(self, brief: Brief) -> AsyncGenerator[ProposerEvent, None]:
        """Stream the program's output, then one Proposal or NoProposal."""
        if not brief.checkout or not Path(brief.checkout).is_dir():
            yield NoProposal("failed", "the command proposer was given no checkout to work in")
            return
        # Not in the checkout: it would be taken for an edit. Beside it, so that a killed engine leaves no litter.
        desk = Path(f"{brief.checkout}.brief")
        shutil.rmtree(desk, ignore_errors=True)
        desk.mkdir(mode=0o700)
        try:
            path = desk / "brief.json"
            path.write_text(brief_json(brief), encoding="utf-8")
            run = _Run(self._command, brief.checkout, self._environment(brief, str(path)), self._clock)
            said = _Said()
            try:
                await run.start()
                async with contextlib.aclosing(run.lines(self._timeout, self._grace)) as lines:
                    async for line in lines:
                        if said.take(line):
                            yield StreamText("text", line + "\n")
            except OSError as fault:
                yield NoProposal("failed", f"could not be started: {fault}")
                return
            finally:
                await run.end(self._grace)
        finally:
            shutil.rmtree(desk, ignore_errors=True)
        yield await self._outcome(brief, run, said)

    async def _outcome(self, brief: Brief, run: _Run, said: _Said) -> ProposerEvent:
        tail = _clean(run.stderr.decode("utf-8", "replace")).strip()
        if run.timed_out:
            return NoProposal("timed out", f"stopped after {self._timeout:g} s: {self._command}")
        if run.code != 0:
            why = f"killed by signal {-run.code}" if run.code < 0 else f"exit status {run.code}"
            return NoProposal("failed", f"{why}: {self._command}" + (f"\n{tail}" if tail else ""))
        try:
            changes = await self._read_changes(brief.checkout, brief.base)
        except EditRejected as fault:
            return NoProposal("rejected", str(fault))
        if not changes:
            return NoProposal("no change", f"it ended well and changed no file: {self._command}")
        return Proposal(
            title=said.title or "untitled change by a command",
            hypothesis=said.hypothesis or "The command stated no hypothesis.",
            changes=changes,
            author=Author.COMMAND,
            author_detail=self._command,
        )

    def _environment(self, brief: Brief, brief_path: str) -> dict[str, str]:
        environment = {name: os.environ[name] for name in self._passed if name in os.environ}
        return environment | {
            "RATCHET_BRIEF": brief_path,
            "RATCHET_BASE": brief.base,
            "RATCHET_CAMPAIGN": brief.campaign,
            "RATCHET_EXPERIMENT": str(brief.number),
            "RATCHET_METRIC": brief.metric,
            "RATCHET_GOAL": brief.goal.value,
            "RATCHET_CHECKOUT": brief.checkout,
        }


def brief_json(brief: Brief) -> str:
    """The brief without file contents (they lie in the checkout), as a JSON object with a stable shape."""
    return json.dumps(
        {
            "version": 1,
            "campaign": brief.campaign,
            "experiment": brief.number,
            "seed": brief.seed,
            "base": brief.base,
            "goal": brief.goal.value,
            "metric": brief.metric,
            "incumbent": brief.incumbent_score,
            "noise": brief.noise,
            "editable": list(brief.editable),
            "files": sorted(brief.files),
            "notes": [note.text for note in brief.notes],
            "history": [
                {
                    "number": past.number,
                    "title": past.title,
                    "author": past.author.value,
                    "verdict": past.verdict.value if past.verdict else None,
                    "score": past.score,
                    "effect": dataclasses.asdict(past.effect) if past.effect else None,
                    "on_incumbent": past.on_incumbent,
                }
                for past in brief.history
            ],
        },
        indent=2,
    )


class _Said:
    """What the program's output amounts to so far."""

    def __init__(self) -> None:
        self._explicit = ""
        self._last = ""
        self._hypotheses: list[str] = []
        self._shown = 0

    def take(self, line: str) -> bool:
        """Note a line; False when so much was printed that no more of it is shown."""
        words = line.strip()
        if words.startswith("TITLE:"):
            self._explicit = words.removeprefix("TITLE:").strip() or self._explicit
        elif words.startswith("HYPOTHESIS:"):
            if len(self._hypotheses) < 20:
                self._hypotheses.append(words.removeprefix("HYPOTHESIS:").strip())
        elif words:
            self._last = words
        self._shown += len(line) + 1
        return self._shown <= _SHOWN_BYTES

    @property
    def title(self) -> str:
        title = self._explicit or self._last
        return title if len(title) <= _TITLE_LENGTH else title[: _TITLE_LENGTH - 3].rstrip() + "..."

    @property
    def hypothesis(self) -> str:
        return " ".join(text for text in self._hypotheses if text)


class _Run:
    """One execution of the command in a session, and so a process group, of its own."""

    def __init__(self, command: str, directory: str, environment: dict[str, str], clock: Clock) -> None:
        self._command, self._directory, self._environment = command, directory, environment
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._exited = asyncio.Event()
        self._may_reap = threading.Event()
        self._transports: list[asyncio.ReadTransport] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.stderr = b""
        self.code = 0
        self.timed_out = False

    async def start(self) -> None:
        """Raises OSError when not even a shell can be started."""
        # Not asyncio's subprocess: its child watcher reaps at once, and a reaped leader's number, which
        # names the group, may belong to somebody else by the time the group is signalled.
        self._process = process = subprocess.Popen(  # noqa: ASYNC220 - fork and exec only, no wait
            ["sh", "-c", self._command],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        # A thread of its own and a daemon: a long command must neither fill the shared pool nor hold up
        # the engine's exit.
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._wait, args=(process, loop), name="command-proposer", daemon=True).start()
        assert process.stdout is not None and process.stderr is not None
        self._stdout, errors = asyncio.StreamReader(), asyncio.StreamReader()
        for reader, pipe in ((self._stdout, process.stdout), (errors, process.stderr)):
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.connect_read_pipe(lambda protocol=protocol: protocol, pipe)  # type: ignore[misc]
            self._transports.append(transport)
        self._errors = self._task(self._keep_tail(errors))

    async def lines(self, seconds: float, grace: float) -> AsyncGenerator[str, None]:
        """Cleaned lines of stdout until the program has ended or ``seconds`` are over."""
        alarm = self._task(self._clock.sleep(seconds))
        drained = self._task(self._after_exit(grace))
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest, more = "", True
        while more:
            read = self._task(self._stdout.read(1 << 16))
            await asyncio.wait({read, alarm, drained}, return_when=asyncio.FIRST_COMPLETED)
            self._tasks.remove(read)
            if alarm.done() and not self._exited.is_set():
                read.cancel()
                self.timed_out = True
                return
            data = read.result() if read.done() else b""
            # What still holds the pipe long after the end has escaped the group: not waited for.
            more = bool(data) and not drained.done()
            read.cancel()
            text = rest + decoder.decode(data, final=not more)
            *whole, rest = re.split(r"\r\n|\n|\r", text)
            if not more or len(rest) > _LINE_LENGTH:
                whole, rest = [*whole, rest], ""
            for line in whole:
                if line:
                    yield _clean(line[:_LINE_LENGTH])
        # A program may close its output and work on; and the reason of a failure is on stderr.
        exited = self._task(self._exited.wait())
        await asyncio.wait({alarm, exited}, return_when=asyncio.FIRST_COMPLETED)
        self.timed_out = not self._exited.is_set()
        if not self.timed_out:
            await asyncio.wait({self._errors, drained}, return_when=asyncio.FIRST_COMPLETED)

    async def end(self, grace: float) -> None:
        """TERM, grace, KILL to the whole group: nothing of it is left running."""
        if self._process is None:
            return
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if not self._exited.is_set():
                    self._signal(number)
                    waits = {self._task(self._clock.sleep(grace)), self._task(self._exited.wait())}
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Also when a second cancellation cuts the grace short; without an await in between.
            self._signal(signal.SIGKILL)
            self._may_reap.set()
            for task in self._tasks:
                task.cancel()
            for transport in self._transports:
                transport.close()

    async def _after_exit(self, grace: float) -> None:
        """Done once the program has ended, what it left running is gone, and the pipes had time to drain."""
        await self._exited.wait()
        self._signal(signal.SIGKILL)
        await self._clock.sleep(grace)

    def _signal(self, number: signal.Signals) -> None:
        # The leader stays a zombie until _may_reap: until then its number cannot be another's.
        if self._process is not None and not self._may_reap.is_set():
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass

    def _wait(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        """In a thread: tell the loop of the exit, reap once nobody will signal the group any more."""
        info = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        if info is not None:
            self.code = info.si_status if info.si_code == os.CLD_EXITED else -info.si_status
        try:
            loop.call_soon_threadsafe(self._exited.set)
        except RuntimeError:
            pass  # the loop was closed: nobody waits any more
        self._may_reap.wait()
        process.wait()

    def _task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def _keep_tail(self, errors: asyncio.StreamReader) -> None:
        while data := await errors.read(1 << 16):
            self.stderr = (self.stderr + data)[-_STDERR_TAIL:]


def _clean(text: str) -> str:
    """Without terminal escapes and control characters: the console shows this text."""
    return _ESCAPES.sub("", text)
