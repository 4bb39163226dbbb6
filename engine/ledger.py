"""The purse of a campaign: the worst case of every request is set aside before it is sent, then settled once.

One cap over models and devices together. What is true is in the store; this object only asks it, so that an
engine that dies loses no booking.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from enum import StrEnum

from engine.errors import OverBudget, RatchetError, UnknownPrice
from engine.prices import Prices, nano_per_second
from engine.store import reading_money, spending, writes
from engine.store.core import StoreThread
from engine.store.reading_money import Balance
from engine.types import Usage

log = logging.getLogger("ratchet.ledger")

MOST_TOKENS = 10**9  # of one request; what reports more is broken
KILL_SECONDS = 30.0  # from a step's deadline to the end of all its processes: the grace, the sweep, a busy machine


class Room(StrEnum):
    """Whether what was last refused would fit now."""

    FREE = "free"  # it would, or nothing was refused
    WAITS = "waits"  # it may, once what is set aside is settled
    REACHED = "reached"  # it will not: too much is spent


class Ledger:
    """Implements ``types.Purse``. ``cap`` is asked each time, so that a changed ratchet.toml counts at once.

    ``cap`` is in nano-dollars over the whole campaign; None = no limit, 0 = nothing may be spent.
    """

    def __init__(self, store: StoreThread, campaign: int, prices: Prices, cap: Callable[[], int | None]) -> None:
        self.store = store
        self.campaign = campaign
        self.prices = prices  # replaced when a changed ratchet.toml brings others
        self.cap = cap
        self._refused: dict[str, int] = {}  # by kind, the amount that found no room last
        self._announced: int | None = None  # the cap whose reaching was told
        self._warned: set[str] = set()  # models that answered and have no price

    async def recover(self) -> int:
        """Once, when the engine starts: close what dead engines left open. Returns what that charges."""
        return await self.store.write(spending.orphans)

    # --- requests (types.Purse) -----------------------------------------------------------------

    async def reserve(
        self,
        experiment: int,
        model: str,
        input_tokens: int,
        max_tokens: int,
        *,
        ttl: str = "",
        fallbacks: Sequence[str] = (),
    ) -> int:
        """As in ``types.Purse``; ``fallbacks`` are models that the service itself may let answer instead."""
        amount = self.prices.worst(model, input_tokens, max_tokens, ttl, fallbacks=fallbacks)
        writing = asyncio.ensure_future(self._reserve(experiment, model, amount))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            # Nothing is sent, and nobody else will ever know this reservation: it must not stay open.
            await self._take_back(writing)
            raise

    async def _reserve(self, experiment: int, model: str, amount: int) -> int:
        cap = self.cap()
        try:
            reservation = await self.store.write(
                spending.reserve, self.campaign, reading_money.MODEL, model, amount, cap, experiment=experiment
            )
        except OverBudget as error:
            await self.refused(amount)
            # Asked anew, for what was in the way may be settled by now: then it fits at once.
            ceiling = spending.LARGEST if (cap := self.cap()) is None else min(cap, spending.LARGEST)
            error.waits = Balance((await self.balance()).spent, 0).fits(amount, ceiling)
            raise
        self._refused.pop(reading_money.MODEL, None)
        return reservation

    async def _take_back(self, writing: asyncio.Future[int]) -> None:
        if self.store.full:
            writing.cancel()  # it waits for space; the next engine closes it, should it have been written
            return
        with suppress(RatchetError):  # refused or fenced: then nothing was set aside
            await self.store.write(spending.release, await writing, "cancelled before it was sent")

    async def settle(self, reservation: int, usage: Usage) -> None:
        """Charge what was used. What cannot be priced is charged as reserved: nobody knows better."""
        counts = asdict(usage)
        model = str(counts.pop("model"))
        if not all(isinstance(n, int) and 0 <= n <= MOST_TOKENS for n in counts.values()):
            await self.forfeit(reservation, f"the service reported what cannot be: {usage}"[:500])
            return
        try:
            cost, known = self.prices.cost(usage), self.prices.id_of(model)
        except UnknownPrice as error:
            await self.forfeit(reservation, f"{model} answered, and its price is not known")
            if model not in self._warned:
                self._warned.add(model)
                await self.store.write(writes.warn, self.campaign, error.message, error.mend)
            return
        if not await self.store.write(spending.settle, reservation, cost, counts, what=known):
            log.warning("reservation %d was closed before: settling it again changed nothing", reservation)

    async def forfeit(self, reservation: int, why: str) -> None:
        if not await self.store.write(spending.forfeit, reservation, why):
            log.warning("reservation %d was closed before: not forfeited (%s)", reservation, why)

    async def release(self, reservation: int, why: str) -> None:
        if not await self.store.write(spending.release, reservation, why):
            log.warning("reservation %d was closed before: not released (%s)", reservation, why)

    # --- what is left ---------------------------------------------------------------------------

    async def balance(self) -> Balance:
        return await self.store.read(reading_money.balance, self.campaign)

    async def left(self) -> int | None:
        """Nano-dollars that may still be set aside; None without a limit."""
        return (await self.balance()).left(self.cap())

    async def room_for(self, amount: int) -> bool:
        """Whether ``amount`` fits now. ``spending.reserve`` asks again, in the transaction that books it."""
        return (await self.balance()).fits(amount, self.cap())

    async def room(self, kind: str = reading_money.MODEL) -> Room:
        """Whether what was last refused of ``kind`` (model: drafting, device: trials) would fit now."""
        cap, found, refused = self.cap(), await self.balance(), self._refused.get(kind, 0)
        if found.fits(refused, cap):
            return Room.FREE
        return Room.WAITS if Balance(found.spent, 0).fits(refused, cap) else Room.REACHED

    async def refused(self, amount: int, kind: str = reading_money.MODEL) -> None:
        """``amount`` found no room. Once a cap, when waiting does not help either, people are told."""
        self._refused[kind] = amount
        cap = self.cap()
        if cap is not None and cap != self._announced and await self.room(kind) is Room.REACHED:
            self._announced = cap
            await self.store.write(spending.budget_reached, self.campaign, cap)


def attempt_seconds(deadlines: Iterable[float]) -> float:
    """The longest that an attempt may hold its allocation, by the deadlines of its steps in seconds."""
    return sum(deadline + KILL_SECONDS for deadline in deadlines)


def per_second(usd_per_hour: float, capacity: int) -> int:
    """Nano-dollars that one of a host's ``capacity`` slots costs a second, rounded up."""
    return nano_per_second(usd_per_hour, max(1, capacity))
