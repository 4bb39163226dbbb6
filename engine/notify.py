"""Runs the person's own command ([notify]) when something happened that they may want to know of elsewhere.

Beside the conductor and never in its way: one command at a time, at most one every few seconds, what comes
meanwhile is told together. The command gets words in its environment and no secret; its failure is warned of once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine import events
from engine.clock import Clock
from engine.config import Config
from engine.config_sections import NotifySection
from engine.events import Event
from engine.opening import PAUSED_BY
from engine.prices import in_dollars
from engine.store import reading, writes
from engine.store.core import StoreThread
from engine.store.rows import CampaignRow, ExperimentRow
from engine.variables import is_secret

LOOK_SECONDS = 1.0
APART_SECONDS = 5.0  # between two commands
LAST_SECONDS = 5.0  # for what is told while the engine ends
MESSAGE_CHARACTERS = 500
SAID_BYTES = 2000  # of the command's own complaint
AWAITING = ("review", "keep_review")
MEND = "mend [notify] in ratchet.toml; it is tried again with the next event"


@dataclass(frozen=True, slots=True)
class Notice:
    """``kind``: a name of [notify] on. ``number``: of the experiment it is about, ``state`` while that waits."""

    kind: str
    message: str
    number: int | None = None
    state: str = ""


def notice(event: Event) -> Notice | None:
    """What to tell of an event; None for the many that are nobody's errand."""
    match event:
        case events.ExperimentMoved(n, source, target, title) if target in AWAITING and source != target:
            what = "keep it?" if target == "keep_review" else "run it?"
            return Notice("waiting", f"#{n} waits for your decision ({what} {title})", n, target)
        case events.RatchetAdvanced(n):
            return Notice("keep", f"#{n} is kept", n)
        case events.CampaignFinished(reason):
            return Notice("finished", f"finished: {reason}")
        case events.CampaignPaused(reason, mend) if not reason.startswith(PAUSED_BY):
            return Notice("paused", f"paused: {reason}" + (f" (mend: {mend})" if mend else ""))
        case events.Plateau(proposals):
            return Notice("plateau", f"a plateau: {proposals} proposals since the last keep")
        case events.BudgetReached(cap, spent):
            return Notice("budget", f"the limit of {in_dollars(cap)} is reached ({in_dollars(spent)} spent)")
    return None


def kept_words(message: str, row: ExperimentRow | None, metric: str) -> str:
    if row is None:
        return message
    effect = f", {metric} better by {row.effect:.4g}" if row.effect is not None else ""
    return f"{message}: {row.title}{effect}"


def one_line(text: str) -> str:
    """What a model or a candidate wrote, fit for an environment variable and a desktop's bubble."""
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return shown if len(shown) <= MESSAGE_CHARACTERS else shown[: MESSAGE_CHARACTERS - 1] + "…"


def environment(
    environ: Mapping[str, str], kind: str, message: str, campaign: str, project: str
) -> dict[str, str]:
    kept = {
        name: text for name, text in environ.items() if not is_secret(name) and not name.startswith("RATCHET_")
    }
    return kept | {
        "RATCHET_EVENT": kind,
        "RATCHET_MESSAGE": one_line(message),
        "RATCHET_CAMPAIGN": one_line(campaign),
        "RATCHET_PROJECT": project,
    }


class Notices:
    """``run`` follows the events of ``campaign`` from now on until it is cancelled, and then tells of the end."""

    def __init__(
        self, campaign: CampaignRow, store: StoreThread, project: Path, clock: Clock, config: Callable[[], Config]
    ) -> None:
        self._campaign, self._store, self._project, self._clock = campaign, store, project, clock
        self._config = config
        self._after = 0
        self._waiting: dict[str, tuple[Notice, int]] = {}  # kind -> the newest, and how many it stands for
        self._at_work: asyncio.Task[None] | None = None
        self._not_before = 0.0  # monotonic
        self._failed = ""  # the command whose failure was told

    async def run(self) -> None:
        self._after = await self._store.read(reading.last_event)
        try:
            while True:
                await self._clock.sleep(LOOK_SECONDS)
                await self._look()
                self._tell(self._clock.monotonic())
        finally:
            await self._last()

    async def _look(self) -> None:
        """Take note of what happened since; no more is kept than one notice a kind."""
        while rows := await self._store.read(reading.events, self._after):
            self._after = rows[-1].id
            wanted = self._config().notify
            if not wanted.command.strip():
                continue
            for row in rows:
                found = notice(row.event)
                if found is not None and found.kind in wanted.on:
                    count = self._waiting.get(found.kind, (found, 0))[1]
                    self._waiting[found.kind] = (found, count + 1)

    def _tell(self, now: float) -> None:
        if self._at_work is not None and not self._at_work.done():
            return
        if self._waiting and now >= self._not_before:
            kind = next(iter(self._waiting))
            found, count = self._waiting.pop(kind)
            self._not_before = now + APART_SECONDS
            self._at_work = asyncio.create_task(self._one(found, count, self._config().notify))

    async def _last(self) -> None:
        """The engine ends: what is still to be told is told, but nobody waits long for it."""
        with contextlib.suppress(Exception):  # too late to be told of anything
            await self._clock.timeout(self._rest(), LAST_SECONDS)
        if self._at_work is not None:
            self._at_work.cancel()
            await asyncio.gather(self._at_work, return_exceptions=True)

    async def _rest(self) -> None:
        await self._look()
        while self._waiting or self._at_work is not None:
            if self._at_work is not None:
                await asyncio.gather(asyncio.shield(self._at_work), return_exceptions=True)
                self._at_work = None
            self._tell(float("inf"))

    async def _one(self, found: Notice, count: int, wanted: NotifySection) -> None:
        message = found.message
        if found.number is not None:
            row = await self._store.read(reading.experiment, self._campaign.id, found.number)
            if found.state and count == 1 and (row is None or row.state != found.state):
                return  # decided meanwhile, by a person, a rule or an acceptance given in advance
            if found.kind == "keep":
                message = kept_words(message, row, self._campaign.metric)
        if count > 1:
            message += f" (and {count - 1} more)"
        variables = environment(os.environ, found.kind, message, self._campaign.name, str(self._project))
        wrong = await run_command(wanted.command, self._project, variables, wanted.seconds, self._clock)
        if wrong and self._failed != wanted.command:
            self._failed = wanted.command
            await self._store.write(writes.warn, self._campaign.id, f"the command of [notify] {wrong}", MEND)
        elif not wrong:
            self._failed = ""


async def run_command(
    command: str, directory: Path, variables: Mapping[str, str], seconds: float, clock: Clock
) -> str:
    """Run ``command`` by sh for at most ``seconds``; '' when it ended well, else what went wrong, in words."""
    try:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            command,
            cwd=directory,
            env=dict(variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # whatever it starts can be ended with it
        )
    except OSError as error:
        return f"could not be started: {error.strerror}"
    assert process.stderr is not None
    said = _Tail()
    listening = asyncio.create_task(said.follow(process.stderr))
    try:
        await clock.timeout(process.wait(), seconds)
    except TimeoutError:
        return f"was ended after {seconds:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        # A child that it left behind may hold the pipe open: it is not waited for.
        await asyncio.wait({listening}, timeout=0.2)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        process._transport.close()  # type: ignore[attr-defined] # else that pipe stays open
    code = process.returncode or 0
    if code == 0:
        return ""
    how = f"ended with {code}" if code > 0 else f"was ended by signal {-code}"
    told = one_line(said.text)
    return f"{how}: {told}" if told else how


class _Tail:
    """The end of what a process says, however much that is."""

    def __init__(self) -> None:
        self._bytes = b""

    async def follow(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(65536):
            self._bytes = (self._bytes + data)[-SAID_BYTES:]

    @property
    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace")[-200:]
