"""All hosts of a campaign as the conductor sees them: one capacity, one ``acquire``; each host's troubles its own.

Every host is tended by a task of its own: opened within a deadline, set aside with a reason when it fails, tried
again with back-off. Nothing here waits for one host on behalf of another.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path

from engine.clock import Clock
from engine.errors import HostFault, RatchetError, UsageError
from engine.grounds import Grounds
from engine.metering import Meter
from engine.post import HostNews, HostState, Post
from engine.runners import Containment, Host
from engine.types import Allocation, Device

log = logging.getLogger("ratchet.fleet")

OPEN_SECONDS = 180.0  # a host that takes longer to open is tried again later
GRACE_SECONDS = 5.0  # how long a start waits for further hosts once one is ready
BACKOFF_SECONDS = (1.0, 300.0)  # before a host that failed is opened again: first, as most cuts are short; at most
PATIENCE_SECONDS = 600.0  # a kind of hardware that was away for so long is not waited for


class Fleet:
    """Hosts by name, in the order of ratchet.toml. With one host only, its faults are the caller's to handle."""

    def __init__(self, posts: Sequence[Post], clock: Clock, chance: random.Random | None = None) -> None:
        self._posts = {post.name: post for post in posts}
        self._clock = clock
        self._chance = chance or random.Random()
        self._held: dict[int, Allocation] = {}
        self._refused: set[str] = set()  # kinds of which nothing was to be had in this round; "" = of any
        self._lost: dict[int, set[str]] = {}  # trial -> hosts that lost an attempt of it
        self._tending: list[asyncio.Task[None]] = []
        self._news: list[HostNews] = []
        self.meter = Meter()
        self.on_change: Callable[[], None] = lambda: None

    # --- opening and closing --------------------------------------------------------------------

    async def open(self) -> None:
        """Open all hosts at once; returns when each has answered, or one is ready and the rest is slow.

        Raises the fault of the only host, or one that tells of all, when none opens.
        """
        tried = {name: asyncio.Event() for name in self._posts}
        self._tending = [
            asyncio.create_task(self._tend(post, tried[post.name]), name=f"host {post.name}")
            for post in self._posts.values()
        ]
        answers = {asyncio.create_task(event.wait()) for event in tried.values()}
        patience: asyncio.Task[None] | None = None
        try:
            while answers:
                watched = answers | ({patience} if patience else set()) | set(self._tending)
                done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
                for task in self._tending:
                    if task.done():
                        await task  # a fault of ours, or the end of the only host
                answers -= done
                ready = any(post.state is HostState.READY for post in self._posts.values())
                if patience in done and ready:
                    return
                if ready and patience is None:
                    patience = asyncio.create_task(self._clock.sleep(GRACE_SECONDS))
        except BaseException:
            await self.close()
            raise
        finally:
            for waiting in (*answers, *([patience] if patience else [])):
                waiting.cancel()
        if not any(post.state is HostState.READY for post in self._posts.values()):
            await self.close()
            said = "; ".join(f"{post.name}: {post.reason}" for post in self._posts.values())
            raise HostFault(f"no host can be used: {said}", "see `ratchet doctor`")

    async def stop(self) -> None:
        """Tend the hosts no more; they stay open."""
        for task in self._tending:
            task.cancel()
        await asyncio.gather(*self._tending, return_exceptions=True)

    async def close(self) -> None:
        await self.stop()
        # At once: a dead connection's end must not hold up the others.
        await asyncio.gather(*(post.host.close() for post in self._posts.values()), return_exceptions=True)

    async def _tend(self, post: Post, tried: asyncio.Event) -> None:
        """Keep one host open, for as long as the engine lives."""
        while True:
            try:
                await self._open(post)
            except RatchetError as fault:
                if self.alone and not tried.is_set():
                    raise  # the start is refused
                self._away(post, fault.message, fault.mend)
            except TimeoutError:
                late = HostFault(f"{post.name} did not open within {OPEN_SECONDS:g} s")
                if self.alone and not tried.is_set():
                    raise late from None
                self._away(post, late.message)
            except Exception as fault:
                if self.alone and not tried.is_set():
                    raise
                # Ours, or this machine's; an end here would leave the host aside for ever, and nobody told.
                log.error("host %s: %s", post.name, traceback.format_exc())
                self._away(post, f"{post.name} could not be opened: {fault!r}", "see engine.log")
            else:
                self._ready(post)
            tried.set()
            while True:
                if post.state is HostState.READY:
                    since = self._clock.monotonic()
                    await post._disturbed.wait()
                    if self._clock.monotonic() - since > BACKOFF_SECONDS[1]:
                        post._failures = 0  # else what fails again and again as soon as it is open is slowed down
                post._disturbed.clear()
                await self._clock.sleep(self._pause(post))
                if post.state is not HostState.READY:
                    break
                post._failures = 0  # it came back by itself meanwhile

    def _pause(self, post: Post) -> float:
        first, most = BACKOFF_SECONDS
        post._failures += 1
        # Jitter: a rebooted machine is not asked by everybody in the same instant.
        return min(first * 2.0 ** min(post._failures - 1, 16), most) * self._chance.uniform(0.75, 1.0)

    async def _open(self, post: Post) -> None:
        await self._clock.timeout(post.host.open(), OPEN_SECONDS)
        for trial, allocation in self._held.items():
            if allocation.host == post.name:
                post.host.adopt(trial, allocation)
        post._grounds = await post.prepare(post.host, functools.partial(self._tell, post))
        post._capacity = post.host.capacity
        post.kinds = post.host.kinds

    def _tell(self, post: Post, what: str) -> None:
        """What takes its time while a host is opened."""
        self._enter(post, post.state, what)
        self._say(post)

    def _ready(self, post: Post) -> None:
        back = post.state is HostState.AWAY
        self._enter(post, HostState.READY)
        self._say(post, f"host {post.name} is back" if back else "")

    def _away(self, post: Post, reason: str, mend: str = "") -> None:
        told = post.state is HostState.AWAY and post._told == reason
        self._enter(post, HostState.AWAY, reason, mend)
        post._told = reason
        if not told:
            self._say(post, f"host {post.name} is set aside: {reason}", mend or "it is tried again by itself")

    def _enter(self, post: Post, state: HostState, reason: str = "", mend: str = "") -> None:
        if post.state is not state:
            post._since = self._clock.monotonic()
        post.state, post.reason, post.mend = state, reason, mend

    def _say(self, post: Post, warning: str = "", mend: str = "") -> None:
        self._news.append(HostNews(post, warning, mend))
        self.on_change()

    def news(self) -> list[HostNews]:
        """What has changed since this was last asked; each told once."""
        found, self._news = self._news, []
        return found

    # --- what is there --------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        return len(self._posts) == 1

    @property
    def posts(self) -> tuple[Post, ...]:
        return tuple(self._posts.values())

    def post(self, name: str) -> Post:
        """Raises HostFault for a host that ratchet.toml does not name."""
        if name not in self._posts:
            raise HostFault(
                f"ratchet.toml names no host {name!r}", "put it back, under the same name, until its trials ended"
            )
        return self._posts[name]

    def of(self, name: str) -> Host:
        return self.post(name).host

    def grounds(self, name: str) -> Grounds:
        return self.post(name).grounds

    def knows(self, name: str) -> bool:
        return name in self._posts

    @property
    def capacity(self) -> int:
        """Trials at once over the hosts in service."""
        return sum(post.capacity for post in self._in_service())

    @property
    def free(self) -> int:
        """Trials that could start at once, were they of the right kind.

        What others hold shows only when it is asked for: a kind refused in this round counts as taken.
        """
        if "" in self._refused:
            return 0
        held: Counter[tuple[str, str]] = Counter()
        if self._refused:
            held.update((a.host, a.hardware) for a in self._held.values() if a.hardware in self._refused)
        taken = sum(
            max(0, slots - held[post.name, kind])
            for post in self._in_service()
            for kind, slots in post.kinds.items()
            if kind in self._refused
        )
        return max(0, sum(max(0, post.capacity - post.held) for post in self._in_service()) - taken)

    @property
    def devices(self) -> tuple[Device, ...]:
        return tuple(device for post in self._opened() for device in post.host.devices)

    @property
    def containment(self) -> Containment:
        """The weakest of those in use, by the order of the ladder."""
        order = ("sweep", "cgroup", "unshare", "bubblewrap")
        found = [post.host.containment for post in self._opened()]
        return min(found, key=lambda one: order.index(one.kind) if one.kind in order else -1)

    def _opened(self) -> list[Post]:
        return [post for post in self._posts.values() if post._grounds is not None]

    def _in_service(self) -> list[Post]:
        return [
            p
            for p in self._posts.values()
            if p.state is HostState.READY and not p.drained and not self._lent(p, "")
        ]

    def _lent(self, post: Post, device: str) -> bool:
        return post.lent.get(device, -math.inf) > self._clock.now()

    def reachable(self, name: str) -> bool:
        """Whether an attempt there can be launched or followed now."""
        return name in self._posts and self._posts[name].state is HostState.READY

    def silent_seconds(self, name: str) -> float:
        """For how long the host has not answered; 0.0: it does."""
        post = self._posts.get(name)
        if post is None or post.state is not HostState.AWAY:
            return 0.0
        return self._clock.monotonic() - post._since

    # --- kinds of hardware ------------------------------------------------------------------------

    @property
    def kinds(self) -> Counter[str]:
        """Slots by kind of hardware, over the hosts in service."""
        total: Counter[str] = Counter()
        for post in self._in_service():
            total.update(post.kinds)
        return total

    def offers(self, kind: str) -> bool:
        """Whether a trial that wants ``kind`` may wait for it: a host in service has it, or may soon be back."""
        now = self._clock.monotonic()
        for post in self._posts.values():
            known = kind in post.kinds or not post.kinds
            if not known or post.drained:
                continue
            if post.state is HostState.READY and kind in post.kinds:
                return True
            if post.state is not HostState.READY and now - post._since < PATIENCE_SECONDS:
                return True
        return not self._in_service()  # nothing at all is in service: wait

    # --- allocations ------------------------------------------------------------------------------

    def begin_round(self) -> None:
        """What was refused before may be free by now."""
        self._refused.clear()

    def acquire(self, trial: int, kind: str = "") -> Allocation | None:
        """A free allocation, on the least loaded host first; None: nothing (of ``kind``) is free. Never blocks.

        A host that lost an attempt of this trial comes after all others. Raises HostFault only where there is one
        host.
        """
        if trial in self._held:
            return self._held[trial]
        lost = self._lost.get(trial, set())
        for post in sorted(self._in_service(), key=lambda p: (p.name in lost, p.held / max(p.capacity, 1))):
            if post.held >= post.capacity or (kind and kind not in post.kinds):
                continue
            try:
                allocation = self._take(post, trial, kind)
            except HostFault as fault:
                if self.alone:
                    raise
                self.set_aside(post.name, fault)
                continue
            if allocation is not None:
                self._hold(trial, allocation)
                return allocation
        self._refused.add(kind)
        return None

    def _take(self, post: Post, trial: int, kind: str) -> Allocation | None:
        """The host's own choice, until one fits; what does not fit is blocked meanwhile under ids of no trial."""
        blocked: list[int] = []
        try:
            while (found := post.host.acquire(trial)) is not None:
                if self._fits(post, found, kind):
                    return found
                post.host.release(trial)
                blocked.append(-1 - len(blocked))
                post.host.adopt(blocked[-1], found)
            return None
        finally:
            for number in blocked:
                post.host.release(number)

    def _fits(self, post: Post, found: Allocation, kind: str) -> bool:
        if kind and found.hardware != kind:
            return False
        if post.avoid_foreign and not post.foreign.isdisjoint(found.devices):
            return False
        return not any(self._lent(post, device) for device in found.devices)

    def _hold(self, trial: int, allocation: Allocation) -> None:
        if trial not in self._held and allocation.host in self._posts:
            self._posts[allocation.host].held += 1
        self._held[trial] = allocation

    def adopt(self, trial: int, allocation: Allocation) -> None:
        """Take note of an allocation made before a restart; told to its host when that is open."""
        self._hold(trial, allocation)
        post = self._posts.get(allocation.host)
        if post is not None and post._grounds is not None:
            post.host.adopt(trial, allocation)

    def release(self, trial: int) -> None:
        allocation = self._held.pop(trial, None)
        post = self._posts.get(allocation.host) if allocation else None
        if post is not None:
            post.held -= 1
            if post._grounds is not None:
                post.host.release(trial)

    def hindered(self, kind: str) -> bool:
        """Whether a trial that got nothing waits for others, and not only for trials of ours, whose end is told:
        for their locks and processes, for what is lent, for a host that is away."""
        return any(
            not post.drained
            and (not kind or kind in post.kinds)
            and (post.held < post.capacity if post.state is HostState.READY else bool(kind))
            for post in self._posts.values()
        )

    def lost(self, trial: int, host: str) -> None:
        """An attempt of the trial vanished there: the next one had better be somewhere else."""
        self._lost.setdefault(trial, set()).add(host)

    def held_on(self, host: str) -> dict[int, Allocation]:
        """Trials and what they hold there."""
        return {trial: a for trial, a in self._held.items() if a.host == host}

    # --- troubles ---------------------------------------------------------------------------------

    def set_aside(self, name: str, fault: RatchetError) -> None:
        """Start nothing there until it was opened again. What runs there goes on."""
        post = self.post(name)
        if post.state is HostState.READY:
            self._away(post, fault.message, fault.mend)
            post._disturbed.set()

    def reached(self, name: str) -> None:
        """An attempt there was heard of again."""
        post = self._posts.get(name)
        if post is not None and post.state is HostState.AWAY and post._grounds is not None:
            self._ready(post)

    def seen(self, name: str, foreign: Collection[str]) -> None:
        """Devices on which other people's processes were just seen."""
        post = self._posts.get(name)
        if post is None or post.foreign == frozenset(foreign):
            return
        came = set(foreign) - post.foreign
        post.foreign = frozenset(foreign)
        what = "used all the same" if not post.avoid_foreign else "not used for trials until they have left"
        warning = f"host {name}: processes that are not ours on {', '.join(sorted(came))}: {what}" if came else ""
        self._say(post, warning, 'foreign = "share" in [[hosts]] uses such devices all the same' if came else "")

    # --- what a person says -----------------------------------------------------------------------

    def drain(self, name: str, actor: str) -> str:
        post = self._named(name)
        post.drained = actor
        self._say(post)
        going = {0: "nothing runs there", 1: "1 goes on to its end"}.get(
            post.held, f"{post.held} go on to their end"
        )
        return f"host {name} gets no more trials; {going}"

    def undrain(self, name: str) -> str:
        """Back in service: neither drained nor lent."""
        post = self._named(name)
        post.drained, post.lent = "", {}
        self._say(post)
        return f"host {name} is in service again"

    def lend(self, name: str, hours: float, device: str = "") -> str:
        """Leave a device (or all of the host) alone for so long; what runs there goes on to its end."""
        post = self._named(name)
        if not 0 < hours <= 24 * 365:
            raise UsageError(f"{hours:g} is no number of hours", "ratchet hosts lend NAME --hours 1")
        if device and post.sort == "slurm":
            raise UsageError(f"Slurm chooses the devices of {name}", "lend or drain the host as a whole")
        known = {d.uuid: f"gpu{d.index}" for d in post.host.devices}
        matching = [uuid for uuid, slot in known.items() if uuid.startswith(device) or slot == device]
        if device and len(matching) != 1:
            names = ", ".join(f"{slot} ({uuid})" for uuid, slot in known.items()) or "none"
            raise UsageError(f"{device!r} names {len(matching)} devices of {name}", f"its devices: {names}")
        device = matching[0] if device else ""
        post.lent = {d: until for d, until in post.lent.items() if until > self._clock.now()}
        post.lent[device] = self._clock.now() + hours * 3600
        self._say(post)
        return f"{device or f'host {name}'} is lent for {hours:g} h; what runs there goes on to its end"

    def restore(self, name: str, drained: str, lent: dict[str, float]) -> None:
        """What a person had said before the engine started again."""
        if name in self._posts:
            self._posts[name].drained, self._posts[name].lent = drained, dict(lent)

    def _named(self, name: str) -> Post:
        if name not in self._posts:
            raise UsageError(f"there is no host {name!r}", f"known: {', '.join(self._posts)}")
        return self._posts[name]


def single(host: Host, clock: Clock, state: Path, project: Path) -> Fleet:
    """A fleet of one open host on this machine's files: what tests and the simulation start from."""
    return several([host], clock, state, project)


def several(hosts: Sequence[Host], clock: Clock, state: Path, project: Path) -> Fleet:
    """The same of more than one."""
    return Fleet([Post(host, _ground(Grounds.here(state, project))) for host in hosts], clock, random.Random(1))


def _ground(grounds: Grounds) -> Callable[[Host, Callable[[str], None]], Awaitable[Grounds]]:
    async def prepare(host: Host, tell: Callable[[str], None]) -> Grounds:
        return grounds

    return prepare
