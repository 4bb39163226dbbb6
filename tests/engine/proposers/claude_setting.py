"""What Claude's tests stand on: a clock by hand, a purse that counts, and a stand-in that says what it billed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.errors import OverBudget
from engine.prices import NANO, Prices
from engine.proposers.exchange import Exchange
from engine.proposers.first_event import FirstEvent
from engine.proposers.redaction import Redaction
from engine.types import Usage
from tests.standin.server import Standin

T = TypeVar("T")
KEY = "sk-ant-api03-canary-0123456789abcdef"
STALL = 180.0


class HandClock:
    """Sleeping takes no real time; a time-out comes only when ``expire`` is called."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.slept: list[float] = []
        self._alarms: set[asyncio.Event] = set()

    def now(self) -> float:
        return 1_780_000_000.0 + self.elapsed

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed += seconds
        await asyncio.sleep(0)

    def expire(self) -> None:
        """Let the time-outs pass that are being waited for just now."""
        for alarm in self._alarms:
            alarm.set()

    async def timeout(self, work: Awaitable[T], seconds: float) -> T:
        expired = asyncio.Event()
        self._alarms.add(expired)
        task, alarm = asyncio.ensure_future(work), asyncio.ensure_future(expired.wait())
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return await task
            self.elapsed += seconds
            raise TimeoutError
        finally:
            self._alarms.discard(expired)
            task.cancel()
            alarm.cancel()
            await asyncio.wait({task, alarm})


@dataclass
class Booking:
    experiment: int
    model: str
    amount: int  # nano-dollars, the worst case
    ttl: str
    state: str = "open"  # open, settled, forfeited, released
    charged: int = 0
    usage: Usage | None = None
    why: str = ""


@dataclass
class CountingPurse:
    """``types.Purse`` in memory, by the real prices. ``cap`` in nano-dollars; booking twice is an error."""

    cap: int | None = None
    prices: Prices = field(default_factory=Prices.load)
    bookings: list[Booking] = field(default_factory=list)
    slow: asyncio.Event | None = None  # settling and the like wait for it
    booking: asyncio.Event = field(default_factory=asyncio.Event)  # one of them has begun

    async def reserve(
        self, experiment: int, model: str, input_tokens: int, max_tokens: int, *, ttl: str = ""
    ) -> int:
        amount = self.prices.worst(model, input_tokens, max_tokens, ttl)
        held = sum(b.amount if b.state == "open" else b.charged for b in self.bookings)
        if self.cap is not None and held + amount > self.cap:
            raise OverBudget("the dollar limit is reached", "raise [limits] dollars")
        self.bookings.append(Booking(experiment, model, amount, ttl))
        return len(self.bookings)

    async def settle(self, reservation: int, usage: Usage) -> None:
        booking = await self._open(reservation, "settled")
        booking.usage, booking.charged = usage, self.prices.cost(usage)

    async def forfeit(self, reservation: int, why: str) -> None:
        booking = await self._open(reservation, "forfeited")
        booking.why, booking.charged = why, booking.amount

    async def release(self, reservation: int, why: str) -> None:
        (await self._open(reservation, "released")).why = why

    async def _open(self, reservation: int, state: str) -> Booking:
        self.booking.set()
        if self.slow is not None:
            await self.slow.wait()
        booking = self.bookings[reservation - 1]
        assert booking.state == "open", f"booked twice: {booking}"
        booking.state = state
        return booking

    @property
    def charged(self) -> int:
        return sum(booking.charged for booking in self.bookings)

    @property
    def open(self) -> int:
        return sum(booking.amount for booking in self.bookings if booking.state == "open")

    @property
    def states(self) -> list[str]:
        return [booking.state for booking in self.bookings]


class BillingStandin(Standin):
    """Knows what the service would have billed: all usage of each response that began to stream."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.bills: list[tuple[str, Usage]] = []

    async def _stream(self, request: Any, record: Any, message: Any, plan: Any) -> Any:
        try:
            return await super()._stream(request, record, message, plan)
        finally:
            if "message_start" in record.sent:
                self.bills.append((message.model, used(message.model, message.usage)))

    async def _break(self, *arguments: Any) -> Any:
        await self._changed()  # a stall does nothing more that would wake who waits for it
        return await super()._break(*arguments)

    def billed(self, prices: Prices) -> int:
        """Nano-dollars."""
        return sum(prices.cost(usage) for _, usage in self.bills)


def used(model: str, usage: Mapping[str, Any]) -> Usage:
    split = usage["cache_creation"]
    return Usage(
        model,
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        cache_read_tokens=usage["cache_read_input_tokens"],
        cache_write_5m_tokens=split["ephemeral_5m_input_tokens"],
        cache_write_1h_tokens=split["ephemeral_1h_input_tokens"],
    )


def client(url: str, key: str = KEY) -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(
        base_url=url, api_key=key, max_retries=0, timeout=anthropic.Timeout(None, connect=10.0)
    )


def exchange(
    client_: Any, purse: Any, clock: Any, *, gate: FirstEvent | None = None, redaction: Redaction | None = None
) -> Exchange:
    return Exchange(
        client_,
        purse,
        clock,
        random.Random(7),
        gate or FirstEvent(clock),
        redaction or Redaction(KEY),
        STALL,
    )


async def expiring(clock: HandClock, standin: Standin, purse: CountingPurse) -> None:
    """While the server says nothing more to the newest request, time passes. To be cancelled."""
    while True:
        await standin.until(
            lambda: (
                len(purse.bookings) == len(standin.messages) > 0
                and standin.messages[-1].ended in ("stall", "pings")
            )
        )
        clock.expire()
        await asyncio.sleep(0.002)  # events that are still on their way put the watchdog off


def dollars(nano: int) -> float:
    return nano / NANO
