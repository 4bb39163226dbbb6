"""One request to the service: money set aside, sent, streamed, charged; and asked again where that helps.

The package's own retries are off: they would bill twice without a word. Here each attempt is a reservation of
its own, settled from the reported usage, released where no work was done, and else charged at its worst case.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

from engine.clock import Clock
from engine.errors import OverBudget, UnknownPrice
from engine.proposers.faults import ATTEMPTS, CHARGED_ATTEMPTS, Fault, back_off, classify
from engine.proposers.first_event import FirstEvent
from engine.proposers.redaction import Redaction
from engine.proposers.requests import TTL_SECONDS, Block, input_estimate, prefix_hash
from engine.proposers.showing import Showing
from engine.proposers.stream import Response
from engine.types import Message, Purse, StreamText, Usage
from engine.utf8 import whole, whole_data

SLOWEST_TOKENS = 8.0  # a second: a response that is slower than this is cut
SHORTEST_TOTAL = 600.0  # seconds
PURSE_SECONDS = 1.0  # between looks whether what others have set aside is settled
BOOKING_SECONDS = 5.0  # that a cancelled draft waits for its money to be booked


@dataclass(frozen=True, slots=True)
class ToolCall:
    """``input`` None: what the model wrote is no whole JSON object, and nothing of it may be used."""

    id: str
    name: str
    input: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response. ``content``: its blocks as they must be sent back, unchanged, in the next request."""

    model: str
    stop_reason: str
    content: tuple[Block, ...]
    calls: tuple[ToolCall, ...]
    usage: Usage | None  # None: not reported, so the worst case was charged
    category: str = ""  # of a refusal


ExchangeEvent = StreamText | Message | Answer | Fault


class Exchange:
    """What all requests of one engine share. ``redaction`` keeps the key out of everything that comes out."""

    def __init__(
        self,
        client: Any,
        purse: Purse,
        clock: Clock,
        rng: random.Random,
        gate: FirstEvent,
        redaction: Redaction,
        stall_seconds: float,
    ) -> None:
        self._client, self._purse, self._clock, self._rng = client, purse, clock, rng
        self._gate, self._redaction, self._stall = gate, redaction, stall_seconds

    async def ask(
        self, experiment: int, kwargs: Mapping[str, Any], ttl: str
    ) -> AsyncGenerator[ExchangeEvent, None]:
        """Stream what arrives, and notes on what was asked again; the last event is an Answer or a Fault.

        ``kwargs``: of ``requests.build``; ``ttl``: of its stable prefix. Raises nothing of the service's.
        """
        failed = charged = 0
        told = False
        while True:
            attempt = _Attempt(self._purse, self._clock, experiment, kwargs, ttl)
            ended: Answer | Fault | None = None
            async with aclosing(self._once(attempt, kwargs, ttl)) as events:
                async for event in events:
                    if isinstance(event, StreamText):
                        yield event
                    else:
                        ended = event
            if not isinstance(ended, Fault):
                assert ended is not None
                yield ended
                return
            if ended.outcome == "over budget" and ended.again:
                # Another draft's or a trial's worst case is in the way, not what was spent: giving up now would
                # throw away what this conversation has cost. Nothing is held meanwhile, so this has an end.
                if not told:
                    told = True
                    yield StreamText("tool", f"waits for money that is set aside: {ended.message}\n")
                await self._clock.sleep(PURSE_SECONDS)
                continue
            failed += 1
            charged += attempt.charged != "nothing"
            again = ended.again and failed < ATTEMPTS and charged < CHARGED_ATTEMPTS
            wait = back_off(failed, ended.wait, self._rng) if again else 0.0
            yield Message("note", self._note(ended, attempt, wait if again else None))
            if not again:
                yield ended
                return
            yield StreamText("tool", f"{ended.message}; asked again in {wait:.0f} s\n")
            await self._clock.sleep(wait)

    async def _once(
        self, attempt: _Attempt, kwargs: Mapping[str, Any], ttl: str
    ) -> AsyncGenerator[StreamText | Answer | Fault, None]:
        prefix = prefix_hash(kwargs) if ttl else ""
        # First the gate, then the money: what waits must not hold a reservation.
        lead = await self._gate.turn(prefix) if prefix else None
        try:
            try:
                await attempt.reserve()
            except OverBudget as fault:
                yield Fault("over budget", fault.message, fault.mend, again=fault.waits)
                return
            except UnknownPrice as fault:
                yield Fault("failed", fault.message, fault.mend)
                return
            total = max(SHORTEST_TOTAL, kwargs["max_tokens"] / SLOWEST_TOKENS)
            showing = Showing(self._redaction)
            try:
                async with Response(self._client, kwargs, self._clock, self._stall, total) as response:
                    async for event in response.events():
                        if not attempt.begun and prefix:
                            self._gate.opened(prefix, TTL_SECONDS[ttl])
                        attempt.take(event)
                        for text in showing.take(event):
                            yield text
                answer = _answer(response.snapshot, showing.inputs, attempt)
            except Exception as error:
                broken = classify(error, attempt.begun)
                # Its words are the server's, or of a header that could not be sent: they may quote the key.
                broken = replace(broken, message=self._redaction.text(broken.message))
                await attempt.close(broken.unbilled, broken.message)
                yield broken
                return
            await attempt.close(False, "the service reported no usage")
            yield answer
        finally:
            if lead is not None:
                lead.close()
            await attempt.close(False, "cut off before its end")  # cancelled: nobody knows what was used

    def _note(self, fault: Fault, attempt: _Attempt, wait: float | None) -> dict[str, Any]:
        return {
            "what": "gave this request up" if wait is None else "asked again",
            "why": fault.message,
            "outcome": fault.outcome,
            "wait_seconds": wait,
            "charged": attempt.charged,
            "reservation": attempt.reservation,
        }


class _Attempt:
    """One request's money, and what the service said that it used."""

    def __init__(self, purse: Purse, clock: Clock, experiment: int, kwargs: Mapping[str, Any], ttl: str) -> None:
        self._purse, self._clock = purse, clock
        self._experiment, self._kwargs, self._ttl = experiment, kwargs, ttl
        self._closed = True
        self._start: Any = None
        self._delta: Any = None
        self.begun = False
        self.model = str(kwargs["model"])
        self.category = ""
        self.reservation: int | None = None
        self.charged = "nothing"  # nothing, usage or worst case

    async def reserve(self) -> None:
        """Raises OverBudget, UnknownPrice. Cancelled meanwhile, the purse takes back what it had reserved."""
        self.reservation = await self._purse.reserve(
            self._experiment, self.model, input_estimate(self._kwargs), self._kwargs["max_tokens"], ttl=self._ttl
        )
        self._closed = False

    def take(self, event: Any) -> None:
        self.begun = True
        if event.type == "message_start":
            self._start = getattr(event.message, "usage", None)
            self._answering(str(getattr(event.message, "model", None) or ""))
        elif event.type == "message_delta" and getattr(event.delta, "stop_reason", None):
            self._delta = event.usage
            details = getattr(event.delta, "stop_details", None)
            self.category = str(getattr(details, "category", None) or "")

    def _answering(self, model: str) -> None:
        """Whose price is charged: another Claude's that answered instead; but a local server's name for what was
        asked for (a path, a snapshot's date) has no price of its own."""
        if model.startswith("claude-") and not model.startswith(self.model):
            self.model = model

    @property
    def usage(self) -> Usage | None:
        """What was used, once the final numbers came; None before, and when there were none."""
        if self._delta is None:
            return None
        try:
            return _usage(self.model, self._start, self._delta, self._ttl)
        except (TypeError, ValueError, OverflowError):
            return None

    async def close(self, unbilled: bool, why: str) -> None:
        """Book it, once: by usage where it is known, whatever else happened."""
        if self._closed or self.reservation is None:
            return
        self._closed = True
        usage = self.usage
        if usage is not None:
            self.charged = "usage"
            await self._booked(self._purse.settle(self.reservation, usage))
        elif unbilled:
            await self._booked(self._purse.release(self.reservation, why))
        else:
            self.charged = "worst case"
            await self._booked(self._purse.forfeit(self.reservation, why))

    async def _booked(self, booking: Coroutine[Any, Any, None]) -> None:
        """Written to its end even when cancelled meanwhile; the cancellation comes out afterwards.

        Not waited for too long then (a full disk holds every write): what stays open, the next engine closes.
        """
        task = asyncio.create_task(booking)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            with suppress(Exception):
                await self._clock.timeout(task, BOOKING_SECONDS)
            raise


def _usage(model: str, start: Any, delta: Any, ttl: str) -> Usage | None:
    """The final numbers. Those of the last delta are totals; the split of cache writes is in the start alone."""

    def number(name: str) -> int:
        for source in (delta, start):
            value = getattr(source, name, None)
            if value is not None:
                return max(0, int(value))
        return 0

    split = getattr(start, "cache_creation", None)
    written = number("cache_creation_input_tokens")
    short = max(0, int(getattr(split, "ephemeral_5m_input_tokens", 0) or 0))
    long = max(0, int(getattr(split, "ephemeral_1h_input_tokens", 0) or 0))
    # What the split does not explain is booked as the dearest kind that was asked for.
    unexplained = max(0, written - short - long)
    if ttl == "1h":
        long += unexplained
    else:
        short += unexplained
    usage = Usage(
        model,
        input_tokens=number("input_tokens"),
        output_tokens=number("output_tokens"),
        cache_read_tokens=number("cache_read_input_tokens"),
        cache_write_5m_tokens=short,
        cache_write_1h_tokens=long,
    )
    return usage if usage != Usage(model) else None


def _answer(message: Any, inputs: Mapping[int, str], attempt: _Attempt) -> Answer:
    content: list[Block] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(message.content):
        if block.type == "tool_use":
            given = block.input if isinstance(block.input, dict) else {}
            name, id = whole(str(block.name)), whole(str(block.id))
            content.append({"type": "tool_use", "id": id, "name": name, "input": given})
            calls.append(ToolCall(id, name, _whole(inputs.get(index, ""), block.input)))
        elif block.type == "thinking":
            content.append({"type": "thinking", "thinking": block.thinking, "signature": block.signature})
        elif block.type == "text":
            if block.text:  # the service sends empty ones, and refuses them
                content.append({"type": "text", "text": block.text})
        else:
            content.append(block.to_dict(exclude_none=True))
    stop, model = whole(str(message.stop_reason or "")), whole(str(message.model or attempt.model))
    # It is sent back: half a surrogate pair in it could not be.
    return Answer(model, stop, tuple(whole_data(content)), tuple(calls), attempt.usage, whole(attempt.category))


def _whole(written: str, given: Any) -> dict[str, Any] | None:
    """A tool's input if it is complete. The package takes a cut-off object for a whole one."""
    if not written:
        return given if isinstance(given, dict) else None
    try:
        value = json.loads(written)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could be neither stored nor sent
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
