"""The engine as a process: start it detached, hold the lock, serve one campaign, stop in good order.

``serve`` is the whole composition: everything that the conductor needs is made and joined here and nowhere
else. Run as ``python -m engine.service PROJECT`` by ``start_detached``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import json
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine import __version__, api_key
from engine import config as configuration
from engine import lock as locking
from engine.authors import refuse_unready
from engine.clock import Clock, RealClock
from engine.conductor import Conductor, RunLimits
from engine.config import Config
from engine.errors import ConfigError, Fenced, RatchetError, StorageFull
from engine.failpoints import hit
from engine.inbox import Inbox
from engine.lock import EngineLock, Holder
from engine.notify import Notices
from engine.opening import (
    PAUSED_BY,
    Opening,
    open_campaign,
    protocol_spec,
    refuse_other_metric,
    refuse_unsupported,
    require_git,
)
from engine.prices import NANO, Prices, cap_of
from engine.requests import Requests
from engine.state_folder import create_state_directory
from engine.store import reading, writes
from engine.store.core import Store, StoreThread
from engine.store.rows import CampaignRow
from engine.upkeep import Upkeep
from engine.watching import Watching

log = logging.getLogger("ratchet.service")

INBOX_SECONDS = 0.05
BEAT_SECONDS = 5.0
START_SECONDS = 60.0
ALONE_SECONDS = 0.3
# Why an engine ended that a signal ended; whoever ran it in the foreground exits as a shell expects.
SIGNALLED = {signal.SIGINT: "interrupted (Ctrl-C)", signal.SIGTERM: "terminated (SIGTERM)"}


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked an engine to do. Travels as JSON on the detached engine's command line."""

    project: str
    campaign: str | None = None
    experiments: int | None = None
    hours: float | None = None
    dollars: float | None = None  # this engine run may spend so much, within the file's limit
    proposer: str | None = None
    committed: bool = False
    take_over: bool = False
    seed: int | None = None


# --- the engine, in this process -----------------------------------------------------------------------


async def serve(
    order: Order, clock: Clock, on_ready: Callable[[], None] | None = None, *, alone: bool = False
) -> str:
    """Be the engine until a limit is reached or somebody asks to stop; returns why it ended.

    ``alone``: nobody watches who could resume (a script, a batch job), so a pause of the engine's own is its
    end, raised as a RatchetError; a person's pause still waits. Raises RatchetError (EngineHeld, ConfigError
    ...) before anything was changed when it cannot start.
    """
    project = Path(order.project).resolve()
    config = with_order(configuration.load(project), order)
    refuse_unsupported(config)
    api_key.guard_process()
    await require_git(project)
    state = create_state_directory(project)
    lock = EngineLock(state)
    mine = await lock.acquire(clock, take_over=order.take_over)
    try:
        return await Engine(order, project, state, config, clock, lock, mine, alone).run(on_ready)
    except RatchetError as error:
        mine = replace(mine, error=error.message, mend=error.mend, code=error.exit_code)
        raise
    finally:
        try:
            lock.release(replace(mine, ready=False, released=True))
        except RatchetError:
            log.warning("the lock's record could not be written; the kernel releases the lock itself")


def exit_code_of(reason: str) -> int:
    """What a foreground engine exits with: 0, or 128 + n when signal n ended it."""
    return next((128 + number for number, said in SIGNALLED.items() if reason.startswith(said)), 0)


def with_order(config: Config, order: Order) -> Config:
    """The command line's word over the file's."""
    if order.proposer and order.proposer != config.proposer.kind:
        proposer = config.proposer.model_copy(update={"kind": order.proposer})
        if wrong := proposer.contradictions():
            said = "; ".join(f"[proposer] {key}: {message}" for key, message in wrong)
            raise ConfigError(f"--proposer {order.proposer}: {said}", f"add it to {configuration.FILENAME}")
        text = config.text
        config = config.model_copy(update={"proposer": proposer})
        config._text = text
    return config


class Engine:
    """One engine's life over one campaign."""

    def __init__(
        self,
        order: Order,
        project: Path,
        state: Path,
        config: Config,
        clock: Clock,
        lock: EngineLock,
        mine: Holder,
        alone: bool = False,
    ) -> None:
        self.order, self.project, self.state, self.config = order, project, state, config
        self.clock, self.lock, self.mine = clock, lock, mine
        self.alone = alone
        self._signal = ""
        self._spent_before = 0  # nano-dollars, when this engine opened the campaign

    def _cap(self) -> int | None:
        """Nano-dollars that the campaign may spend in all: the file's limit, and this run's own."""
        mine = self.order.dollars
        caps = [] if (given := cap_of(self.config.limits.dollars)) is None else [given]
        if mine is not None:
            caps.append(self._spent_before + (cap_of(mine) or 0))
        return min(caps, default=None)

    async def run(self, on_ready: Callable[[], None] | None) -> str:
        inbox = Inbox(self.state / "inbox.db")
        store = StoreThread(Store(self.state / "store.db", self.clock))
        store.on_full = self._disk_full
        reason = "failed"
        try:
            epoch = await store.call(
                lambda: store.store.take_over(self.mine.host, self.mine.boot_id, self.mine.pid)
            )
            await store.write(writes.engine_started, self.mine.host, self.mine.pid)
            hit("engine.started")
            opening = await open_campaign(
                self.project, self.state, self.config, self.order, store, self.clock, self._cap
            )
            hit("campaign.created")
            try:
                self._spent_before = (await opening.ledger.balance()).spent
                conductor = self._conductor(opening, store)
                await self._say_limits(opening, store)
                inbox.put_to_sleep()
                self.mine = replace(self.mine, epoch=epoch, ready=True)
                self.lock.record(self.mine)
                if on_ready is not None:
                    on_ready()
                reason = await self._serve(conductor, opening, store, inbox)
            finally:
                await opening.authors.close()
                await opening.fleet.close()
            return reason
        except Fenced as error:
            reason = error.message
            raise
        except RatchetError as error:
            reason = error.message
            raise
        finally:
            try:
                await store.call(lambda: store.store.write(writes.engine_stopped, reason))
            except (Fenced, StorageFull):
                pass  # a newer engine speaks now, or nothing can be written: the lock's release tells enough
            store.close()
            inbox.close()

    def _conductor(self, opening: Opening, store: StoreThread) -> Conductor:
        limits = self.config.limits
        return Conductor(
            campaign=opening.campaign,
            config=self.config,
            store=store,
            workspace=opening.workspace,
            fleet=opening.fleet,
            proposer=opening.proposer,
            clock=self.clock,
            state=self.state,
            ledger=opening.ledger,
            limits=RunLimits(
                self.order.experiments if self.order.experiments is not None else limits.experiments,
                self.order.hours if self.order.hours is not None else limits.hours,
            ),
        )

    async def _say_limits(self, opening: Opening, store: StoreThread) -> None:
        """For progress displays: what this run may do, and where it stood at its start."""
        limits = self.config.limits
        found = {
            "experiments": self.order.experiments if self.order.experiments is not None else limits.experiments,
            "hours": self.order.hours if self.order.hours is not None else limits.hours,
            "experiments_before": await store.read(reading.proposed, opening.campaign.id, settled_only=True),
            "seconds_before": opening.campaign.active_seconds,
            **self._shown_settings(),
            "capacity": opening.fleet.capacity,
            "containment": opening.fleet.containment.kind,
        }
        await store.write(writes.set_limits, opening.campaign.id, found)

    def _shown_settings(self) -> dict[str, Any]:
        """What consoles tell of ratchet.toml; said anew when the file changes."""
        review = self.config.review
        return {
            "dollars": None if (cap := self._cap()) is None else cap / NANO,
            "review": review.mode,
            "unanswered_after": review.unanswered_after,
        }

    def _disk_full(self, fault: StorageFull | None) -> None:
        """Say it where something can still be written: the log, and the lock's record, which is in place."""
        if fault is None:
            log.warning("there is space again: going on")
        else:
            log.error("%s\n  mend: %s; nothing is lost, it goes on by itself then", fault.message, fault.mend)
        self.mine = replace(self.mine, error=fault.message if fault else "", mend=fault.mend if fault else "")
        try:
            self.lock.record(self.mine)
        except RatchetError:
            log.error("nor can the lock's record be written")

    async def _serve(self, conductor: Conductor, opening: Opening, store: StoreThread, inbox: Inbox) -> str:
        turning = asyncio.create_task(conductor.run(), name="conductor")
        # The first verdict must not wait half a second for an import, nor the loop stand still for it.
        warm = asyncio.create_task(asyncio.to_thread(importlib.import_module, "scipy.special"))
        others: list[Coroutine[Any, Any, None]] = [
            self._answer(conductor, store, inbox),
            self._beat(conductor, store),
            Upkeep(conductor, store, opening.fleet, self.state, lambda: self.config).run(),
            self._watch_config(conductor, store, opening),
            Watching(opening.fleet, store, self.clock).run(),
            opening.authors.watch_prompts(lambda: self.config, conductor),
            Notices(conductor.campaign, store, self.project, self.clock, lambda: self.config).run(),
        ]
        if self.alone:
            others.append(self._end_when_stuck(conductor, store))
        background = [asyncio.create_task(work) for work in others]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number, conductor, turning)
        try:
            # Whatever ends first decides: the conductor's reason, or a background task's fault.
            done, _ = await asyncio.wait({turning, *background}, return_when=asyncio.FIRST_COMPLETED)
            while turning not in done:
                for helper in [t for t in background if t in done]:
                    if (error := helper.exception()) is not None:
                        raise error
                    background.remove(helper)
                done, _ = await asyncio.wait({turning, *background}, return_when=asyncio.FIRST_COMPLETED)
            if turning.cancelled():
                return f"{self._signal} twice: the end of running trials was not awaited"
            reason = turning.result()
            if reason.startswith(("limit reached", "the proposer has nothing")):
                await store.write(writes.set_campaign_state, conductor.campaign.id, "finished", reason)
            return reason
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            for task in (turning, *background):
                task.cancel()
            await asyncio.gather(turning, warm, *background, return_exceptions=True)

    def _signalled(self, number: signal.Signals, conductor: Conductor, turning: asyncio.Task[str]) -> None:
        """The first ends the trials and then the engine; a second does not wait for the trials."""
        if self._signal:
            turning.cancel()
        self._signal = SIGNALLED[number]
        conductor.stop(self._signal)

    async def _end_when_stuck(self, conductor: Conductor, store: StoreThread) -> None:
        """Nobody is there to resume: once what runs has ended, the reason of the pause is the end."""
        while True:
            await self.clock.sleep(ALONE_SECONDS)
            if conductor.campaign.state != "paused":
                continue
            now = await store.read(reading.campaign, conductor.campaign.name)
            if now is None or now.state != "paused" or now.pause_reason.startswith(PAUSED_BY):
                continue
            trials = await store.read(reading.trials, now.id, open_only=True)
            if not any(trial.state == "running" or conductor.follows(trial.id) for trial in trials):
                raise RatchetError(now.pause_reason, now.pause_mend.replace("`ratchet resume`", "`ratchet run`"))

    # --- what goes on beside the conductor -------------------------------------------------------

    async def _answer(self, conductor: Conductor, store: StoreThread, inbox: Inbox) -> None:
        """Carry out what people ask, in order, and answer in the same row."""
        requests = Requests(conductor)
        seen = -1
        while True:
            version = inbox.data_version()
            if version != seen:
                seen = version
                for request in inbox.waiting():
                    state, outcome = await requests.carry_out(request)
                    inbox.answer(request.id, state, outcome, self.clock.now())
                    await store.write(
                        writes.request_answered, conductor.campaign.id, request.id, request.kind, outcome
                    )
            await self.clock.sleep(INBOX_SECONDS)

    async def _beat(self, conductor: Conductor, store: StoreThread) -> None:
        """A sign of life, and the time that counts towards ``limits.hours`` (none while paused)."""
        last = self.clock.monotonic()
        while True:
            await self.clock.sleep(BEAT_SECONDS)
            now = self.clock.monotonic()
            spent = now - last if conductor.campaign.state == "running" else 0.0
            last = now
            await store.write(writes.beat, conductor.campaign.id, spent)
            if conductor.limits.hours is not None or self.config.review.unanswered_after:
                conductor.wake()

    async def _watch_config(self, conductor: Conductor, store: StoreThread, opening: Opening) -> None:
        """Take up changes of ratchet.toml; one that touches measurement opens a new protocol."""
        from watchfiles import awatch

        file = self.project / configuration.FILENAME
        async for _ in awatch(self.project, recursive=False, watch_filter=lambda _, path: path == str(file)):
            if not file.exists():
                continue
            try:
                # In a thread: a key_command may take its time, and nothing else may stand still for it.
                config = await asyncio.to_thread(self._changed_config, conductor.campaign)
            except RatchetError as error:
                await store.write(
                    writes.warn,
                    conductor.campaign.id,
                    f"ratchet.toml is not taken up: {error.message}",
                    error.mend,
                )
                continue
            if config is not None:
                await self._take_up(config, conductor, store, opening)

    def _changed_config(self, campaign: CampaignRow) -> Config | None:
        """None when the file says what is in force. Raises RatchetError for what cannot be taken up."""
        config = with_order(configuration.load(self.project), self.order)
        if config.text == self.config.text:
            return None
        refuse_unsupported(config)
        refuse_other_metric(config, campaign)
        refuse_unready(self.project, config)
        return config

    async def _take_up(self, config: Config, conductor: Conductor, store: StoreThread, opening: Opening) -> None:
        if config.hosts != self.config.hosts:
            told = "ratchet.toml: the changed [[hosts]] are in force from the engine's next start"
            await store.write(writes.warn, conductor.campaign.id, told, "`ratchet stop`, then `ratchet start`")
        changed = config.measurement_key() != self.config.measurement_key()
        key, spec = await protocol_spec(config, opening.workspace, opening.campaign.baseline_sha, opening.fleet)
        await store.write(
            writes.config_taken_up,
            conductor.campaign.id,
            key,
            json.dumps(spec),
            hashlib.sha256(config.text.encode()).hexdigest(),
            config.text,
            "the incumbent is measured again under the new protocol" if changed else "other settings",
        )
        another = config.proposer != self.config.proposer or config.project != self.config.project
        proposer = opening.authors.make(config) if another else None
        # Nothing is awaited from here on: no trial may start with the new settings under the old protocol.
        self.config = config
        opening.ledger.prices = Prices.load(config.prices)
        conductor.reconfigure(config, proposer)
        if (campaign := await store.read(reading.campaign, conductor.campaign.name)) is not None:
            await store.write(writes.set_limits, campaign.id, {**campaign.limits, **self._shown_settings()})


# --- the engine, in a process of its own -----------------------------------------------------------------


async def start_detached(order: Order, clock: Clock) -> Holder:
    """Start an engine that outlives this terminal; returns once it is ready.

    Raises the engine's own error when it cannot start. A living engine is an EngineHeld error.
    """
    project = Path(order.project).resolve()
    refuse_unsupported(with_order(configuration.load(project), order))  # fail here, with its exit code
    await require_git(project)
    state = create_state_directory(project)
    with (state / "engine.log").open("ab") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - milliseconds, and it must not be tied to this loop
            # -P: the project may have a package called engine of its own
            [sys.executable, "-P", "-m", "engine.service", json.dumps(asdict(order))],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=api_key.environment_without(),
            start_new_session=True,
        )
    # The key goes by the pipe: arguments and environments are shown by /proc.
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(api_key.taken().encode())
    waited = 0.0
    while True:
        found = locking.holder(state)
        if found is not None and found.pid == process.pid and found.ready:
            return found
        if process.poll() is not None:
            raise _start_failure(found, process.pid, state)
        if waited > START_SECONDS and (found is None or found.pid != process.pid):
            raise RatchetError("the engine does not come up", f"see {state / 'engine.log'}")
        await clock.sleep(0.05)
        waited += 0.05


def _start_failure(found: Holder | None, pid: int, state: Path) -> RatchetError:
    if found is not None and found.pid == pid and found.error:
        error = RatchetError(found.error, found.mend)
        error.exit_code = found.code  # a bad ratchet.toml is 2 wherever it was found
        return error
    lines = (state / "engine.log").read_text(errors="replace").strip().splitlines()
    return RatchetError(
        f"the engine ended at once: {lines[-1] if lines else 'it said nothing'}",
        f"see {state / 'engine.log'}",
    )


async def stop_engine(state: Path, inbox: Inbox, actor: str, clock: Clock, *, leave_trials: bool = False) -> bool:
    """Ask the living engine to stop and wait until it has; False when none lives."""
    found = locking.living(state)
    if found is None:
        return False
    request = inbox.ask("stop", actor, clock.now(), leave_trials=leave_trials)
    waited = 0.0
    while (now := locking.living(state)) is not None and now.pid == found.pid:
        if waited > 40:
            raise RatchetError(f"the engine (pid {found.pid}) does not stop", f"see {state / 'engine.log'}")
        inbox.repeat(request, clock.now())  # put to sleep by an engine that was just starting: still meant
        await clock.sleep(0.1)
        waited += 0.1
    return True


def main(argv: list[str]) -> int:
    handler = logging.StreamHandler()
    handler.addFilter(api_key.Redacting())
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s", handlers=[handler]
    )
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        api_key.take(sys.stdin.read(api_key.KEY_BYTES))
    order = Order(**json.loads(argv[1]))
    try:
        log.info("engine of ratchet-console %s: %s", __version__, order)
        log.info("ended: %s", asyncio.run(serve(order, RealClock())))
        return 0
    except RatchetError as error:
        log.error("%s", f"{error.message} - mend: {error.mend}" if error.mend else error.message)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv))
