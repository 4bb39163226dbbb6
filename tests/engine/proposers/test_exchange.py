"""One request: streamed, watched, paid for, asked again. The real package over real HTTP, time by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.proposers.exchange import Answer, Exchange
from engine.proposers.faults import ATTEMPTS, CHARGED_ATTEMPTS, Fault, back_off, retry_after
from engine.proposers.first_event import FirstEvent
from engine.types import Message, StreamText
from tests.engine.proposers.claude_setting import (
    KEY,
    STALL,
    BillingStandin,
    CountingPurse,
    HandClock,
    client,
    exchange,
    expiring,
    used,
)
from tests.standin import faults
from tests.standin.script import Break, HttpError, Script, Text, Thinking, ToolUse, Turn, sequence

EDIT = ToolUse(
    faults.EDITOR,
    {"command": "str_replace", "path": "train.py", "old_str": "LR = 0.02", "new_str": "LR = 0.03\nWARM = 10"},
)
GOOD = Turn([Thinking("Consider the rate. "), Text("I raise it."), EDIT])
TOOLS = [{"type": "text_editor_20250728", "name": faults.EDITOR}]


def request(model: str = "claude-opus-5-5", **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": 4000,
        "tools": TOOLS,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "files"}, {"type": "text", "text": "task"}]}
        ],
    } | more


@dataclass
class Bench:
    standin: BillingStandin
    exchange: Exchange
    purse: CountingPurse
    clock: HandClock
    shown: list[StreamText] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)

    async def ask(self, ttl: str = "", **more: Any) -> Answer | Fault:
        async with contextlib.aclosing(self.exchange.ask(1, request(**more), ttl)) as events:
            async for event in events:
                if isinstance(event, StreamText):
                    self.shown.append(event)
                elif isinstance(event, Message):
                    self.notes.append(event.content)
                else:
                    return event
        raise AssertionError("it ended without an answer")

    def text(self, channel: str) -> str:
        return "".join(one.text for one in self.shown if one.channel == channel)


@contextlib.asynccontextmanager
async def bench(script: Script, *, key: str | None = None, cap: int | None = None) -> AsyncIterator[Bench]:
    clock, purse = HandClock(), CountingPurse(cap)
    async with BillingStandin(script, key=key) as standin, client(standin.url) as opened:
        yield Bench(standin, exchange(opened, purse, clock), purse, clock)


async def test_a_response_is_streamed_by_channel_and_settled_from_the_reported_usage() -> None:
    async with bench(sequence(GOOD)) as it:
        answer = await it.ask()
        assert isinstance(answer, Answer) and answer.stop_reason == "tool_use"
        assert [block["type"] for block in answer.content] == ["thinking", "text", "tool_use"]
        assert answer.calls[0].input == EDIT.input
        assert it.text("thinking") == "Consider the rate. \n"
        assert it.text("text") == "I raise it.\n"
        assert it.text("tool") == "str_replace train.py\n"
        assert it.text("edit") == "LR = 0.03\nWARM = 10\n"
        assert it.purse.states == ["settled"]
        assert it.purse.bookings[0].usage == it.standin.bills[0][1]


async def test_what_is_streamed_arrives_before_the_response_has_ended() -> None:
    async with bench(sequence(Turn([Text("now")], fault=Break("stall", "after")))) as it:
        async with contextlib.aclosing(it.exchange.ask(1, request(), "")) as events:
            async for event in events:
                assert event == StreamText("text", "now")
                break
        assert it.purse.states == ["forfeited"]


async def test_an_input_that_is_no_whole_object_is_given_to_nobody() -> None:
    cut = ToolUse(faults.EDITOR, raw='{"command": "create", "path": "train.py", "file_text": "import os')
    async with bench(sequence(Turn([cut], stop_reason="tool_use"))) as it:
        answer = await it.ask()
        assert isinstance(answer, Answer)
        assert [call.input for call in answer.calls] == [None]


@pytest.mark.parametrize("kind", ["drop", "reset", "eof", "error"])
async def test_a_stream_that_breaks_is_charged_at_its_worst_and_asked_again(kind: Any) -> None:
    async with bench(sequence(Turn(GOOD.blocks, fault=Break(kind)), GOOD)) as it:
        answer = await it.ask()
        assert isinstance(answer, Answer)
        assert it.purse.states == ["forfeited", "settled"]
        assert [note["charged"] for note in it.notes] == ["worst case"]
        assert len(it.clock.slept) == 1


@pytest.mark.parametrize("kind", ["stall", "pings"])
async def test_silence_is_cut_by_the_watchdog_and_pings_are_silence(kind: Any) -> None:
    async with bench(sequence(Turn(GOOD.blocks, fault=Break(kind)), GOOD)) as it:
        passing = asyncio.create_task(expiring(it.clock, it.standin, it.purse))
        answer = await it.ask()
        passing.cancel()
        assert isinstance(answer, Answer)
        assert it.purse.states == ["forfeited", "settled"]
        assert f"no event for {STALL:g} s" in it.notes[0]["why"]


async def test_streams_that_always_break_end_after_a_few_charged_attempts() -> None:
    async with bench(sequence(Turn(GOOD.blocks, fault=Break("eof")))) as it:
        fault = await it.ask()
        assert isinstance(fault, Fault) and fault.outcome == "cut off"
        assert it.purse.states == ["forfeited"] * CHARGED_ATTEMPTS
        assert it.purse.charged >= it.standin.billed(it.purse.prices)


async def test_reading_ends_at_the_end_of_the_message_and_not_of_the_body() -> None:
    async with bench(sequence(Turn(GOOD.blocks, fault=Break("open", "after")))) as it:
        assert isinstance(await it.ask(), Answer)
        assert it.purse.states == ["settled"]


async def test_numbers_that_came_before_the_break_are_settled_and_not_forfeited() -> None:
    """The message's last delta came, then the connection broke: what was used is known."""
    frames = [
        '{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude-opus-5-5",'
        '"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":42,"output_tokens":1}}}',
        '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":7}}',
    ]
    async with raw_server(frames) as url, client(url) as opened:
        purse, clock = CountingPurse(), HandClock()
        asked = exchange(opened, purse, clock).ask(1, request(), "")
        events = [event async for event in asked]
        assert isinstance(events[-1], Fault) and events[-1].outcome == "cut off"
        assert set(purse.states) == {"settled"}
        assert purse.bookings[0].usage == used(
            "claude-opus-5-5",
            {
                "input_tokens": 42,
                "output_tokens": 7,
                "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            },
        )


@pytest.mark.parametrize(
    "frames",
    [
        ["not json"],
        ['{"type":"content_block_delta","index":9,"delta":{"type":"text_delta","text":"x"}}'],
        ['{"type":"message_start","message":null}'],
        ['{"type":"message_start","message":{}}', '{"type":"content_block_start","index":0,"content_block":{}}'],
        ['{"type":"message_stop"}'],
        ["[1, 2]"],
        ["\udcff"],
    ],
)
async def test_a_server_that_speaks_nonsense_is_a_named_outcome_and_never_a_crash(frames: list[str]) -> None:
    async with raw_server(frames) as url, client(url) as opened:
        purse = CountingPurse()
        events = [event async for event in exchange(opened, purse, HandClock()).ask(1, request(), "")]
        assert isinstance(events[-1], Fault)
        assert purse.open == 0 and purse.charged > 0


@pytest.mark.parametrize("fault", [faults.RATE_LIMIT, faults.SERVER_ERROR, faults.OVERLOADED], ids=str)
async def test_refused_before_any_work_costs_nothing_and_is_asked_again(fault: faults.Fault) -> None:
    error = fault.strike(GOOD, "before")
    async with bench(sequence(error, error, GOOD)) as it:
        assert isinstance(await it.ask(), Answer)
        assert it.purse.states == ["released", "released", "settled"]


async def test_a_server_that_stays_overloaded_is_left_after_waits_that_grow() -> None:
    async with bench(sequence(HttpError(529, "overloaded_error", "Overloaded"))) as it:
        fault = await it.ask()
        assert isinstance(fault, Fault) and fault.outcome == "overloaded"
        assert it.purse.states == ["released"] * ATTEMPTS
        assert len(it.clock.slept) == ATTEMPTS - 1
        assert all(2**n / 2 <= wait <= 2**n for n, wait in enumerate(it.clock.slept))


@pytest.mark.parametrize(
    ("headers", "least"), [({"retry-after": "17"}, 17.0), ({"retry-after": "9", "retry-after-ms": "40"}, 0.04)]
)
async def test_what_the_server_asks_to_wait_is_waited(headers: dict[str, str], least: float) -> None:
    async with bench(sequence(HttpError(429, "rate_limit_error", "slow down", headers), GOOD)) as it:
        assert isinstance(await it.ask(), Answer)
        assert len(it.clock.slept) == 1
        assert least <= it.clock.slept[0] <= least * 1.25 + 0.1


async def test_a_server_that_asks_to_wait_for_an_hour_is_not_waited_for() -> None:
    error = HttpError(429, "rate_limit_error", "slow down", {"retry-after": "3600"})
    async with bench(sequence(error)) as it:
        fault = await it.ask()
        assert isinstance(fault, Fault) and fault.outcome == "rate limited" and "3600" in fault.mend
        assert it.clock.slept == []


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (faults.BAD_REQUEST, "failed"),
        (faults.UNAUTHORIZED, "failed"),
        (faults.NO_CREDIT, "failed"),
        (faults.FORBIDDEN, "failed"),
        (faults.NOT_FOUND, "failed"),
        (faults.TOO_LARGE, "failed"),
        (faults.SPEND_LIMIT, "rate limited"),
    ],
    ids=str,
)
async def test_what_asking_again_cannot_mend_is_not_asked_again_and_names_its_mend(
    fault: faults.Fault, outcome: str
) -> None:
    async with bench(sequence(fault.strike(GOOD, "before"))) as it:
        ended = await it.ask()
        assert isinstance(ended, Fault) and ended.outcome == outcome and ended.mend
        assert len(it.standin.messages) == 1 and it.purse.states == ["released"]


async def test_no_connection_at_all_costs_nothing() -> None:
    with faults.refusing_url() as url:
        async with client(url) as opened:
            purse, clock = CountingPurse(), HandClock()
            events = [event async for event in exchange(opened, purse, clock).ask(1, request(), "")]
            assert isinstance(events[-1], Fault) and "no connection" in events[-1].message
            assert set(purse.states) == {"released"} and len(purse.states) == ATTEMPTS


async def test_a_connection_reset_after_sending_may_have_cost_and_is_charged() -> None:
    async with bench(sequence(faults.RESET.strike(GOOD, "before"), GOOD)) as it:
        assert isinstance(await it.ask(), Answer)
        assert it.purse.states == ["forfeited", "settled"]


async def test_what_does_not_fit_the_budget_is_never_sent() -> None:
    async with bench(sequence(GOOD), cap=1) as it:
        fault = await it.ask()
        assert isinstance(fault, Fault) and fault.outcome == "over budget"
        assert it.standin.requests == [] and it.purse.bookings == []


async def test_a_model_without_a_price_is_never_asked() -> None:
    async with bench(sequence(GOOD)) as it:
        fault = await it.ask(model="some-model-nobody-priced")
        assert isinstance(fault, Fault) and fault.outcome == "failed"
        assert it.standin.requests == []


@pytest.mark.parametrize("place", ["headers", "stream"])
async def test_a_cancelled_request_is_charged_and_its_connection_closed(place: str) -> None:
    fault = Break("stall", "before" if place == "headers" else "during")
    async with bench(sequence(Turn(GOOD.blocks, fault=fault))) as it:
        asking = asyncio.create_task(it.ask())
        await it.standin.until(lambda: bool(it.standin.messages) and it.standin.messages[-1].ended == "stall")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert it.purse.states == ["forfeited"]
        await it.standin.until(lambda: bool(it.standin.bills))  # its handler ended: the client had left


async def test_a_cancellation_that_falls_on_the_booking_does_not_lose_it() -> None:
    async with bench(sequence(GOOD)) as it:
        it.purse.slow = asyncio.Event()
        asking = asyncio.create_task(it.ask())
        await it.purse.booking.wait()
        asking.cancel()
        await asyncio.sleep(0)
        it.purse.slow.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert it.purse.states == ["settled"]


async def test_a_key_in_an_error_is_removed() -> None:
    error = HttpError(500, "api_error", f"bad header: Bearer {KEY}")
    async with bench(sequence(error, GOOD)) as it:
        await it.ask()
        said = repr((it.notes, it.shown))
        assert "canary" not in said and "[key removed]" in said


# --- the gate of parallel drafts -------------------------------------------------------------------------


def long_prefix() -> list[dict[str, Any]]:
    text = "some stable text " * 400
    files = {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    return [{"role": "user", "content": [files, {"type": "text", "text": "task"}]}]


async def test_parallel_drafts_wait_for_the_first_event_and_then_read_the_cache() -> None:
    async with bench(sequence(GOOD)) as it:
        answers = await asyncio.gather(*(it.ask("1h", messages=long_prefix()) for _ in range(5)))
        assert all(isinstance(answer, Answer) for answer in answers)
        written = [usage.cache_write_1h_tokens for _, usage in it.standin.bills]
        read = [usage.cache_read_tokens for _, usage in it.standin.bills]
        assert sum(tokens > 0 for tokens in written) == 1
        assert sum(tokens > 0 for tokens in read) == 4


async def test_when_the_first_draft_fails_the_next_one_leads() -> None:
    async with bench(sequence(HttpError(400, "invalid_request_error", "no"), GOOD)) as it:
        answers = await asyncio.gather(*(it.ask("1h", messages=long_prefix()) for _ in range(3)))
        assert sum(isinstance(answer, Answer) for answer in answers) == 2
        assert sum(usage.cache_write_1h_tokens > 0 for _, usage in it.standin.bills) == 1


async def test_a_first_draft_that_hangs_is_waited_for_only_so_long() -> None:
    clock = HandClock()
    gate = FirstEvent(clock, patience=60)
    lead = await gate.turn("p")
    assert lead is not None
    second = asyncio.create_task(gate.turn("p"))
    await asyncio.sleep(0)
    assert not second.done()
    while not second.done():
        clock.expire()
        await asyncio.sleep(0)
    assert second.result() is None


async def test_a_cache_entry_that_has_expired_is_written_by_one_draft_again() -> None:
    clock = HandClock()
    gate = FirstEvent(clock)
    assert await gate.turn("p") is not None
    gate.opened("p", 300)
    assert await gate.turn("p") is None
    await clock.sleep(301)
    assert await gate.turn("p") is not None


# --- waiting ---------------------------------------------------------------------------------------------


def test_a_retry_after_that_is_no_number_is_none() -> None:
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({"retry-after": "nan"}) is None
    assert retry_after({"retry-after": "-1"}) is None
    assert retry_after({}) is None


def test_back_off_grows_is_jittered_and_has_an_end() -> None:
    rng = random.Random(3)
    waits = [[back_off(failed, None, rng) for _ in range(50)] for failed in range(1, 12)]
    assert all(len(set(some)) > 1 for some in waits)
    assert max(max(some) for some in waits) <= 60
    assert min(waits[5]) > max(waits[0])


START = (
    '{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"claude-opus-5-5",'
    '"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":42,"output_tokens":1}}}'
)


def whole_block(index: int, start: str, *deltas: str) -> list[str]:
    return [
        f'{{"type":"content_block_start","index":{index},"content_block":{start}}}',
        *(f'{{"type":"content_block_delta","index":{index},"delta":{delta}}}' for delta in deltas),
        f'{{"type":"content_block_stop","index":{index}}}',
    ]


def ended(reason: str = "tool_use", tokens: str = "7") -> list[str]:
    return [
        f'{{"type":"message_delta","delta":{{"stop_reason":"{reason}","stop_sequence":null}},'
        f'"usage":{{"output_tokens":{tokens}}}}}',
        '{"type":"message_stop"}',
    ]


async def test_half_a_character_is_shown_kept_and_sent_back_as_what_utf8_can_hold() -> None:
    """JSON may carry one half of a surrogate pair, or the halves in two events; no store or request can."""
    frames = [
        START,
        *whole_block(
            0,
            '{"type":"thinking","thinking":"","signature":""}',
            '{"type":"thinking_delta","thinking":"a \\ud800 b"}',
        ),
        *whole_block(
            1,
            '{"type":"text","text":""}',
            '{"type":"text_delta","text":"a smile: \\ud83d"}',
            '{"type":"text_delta","text":"\\ude00!"}',
        ),
        *whole_block(
            2,
            '{"type":"tool_use","id":"toolu_\\udfff","name":"ch\\ud800eck","input":{}}',
            '{"type":"input_json_delta","partial_json":"{}"}',
        ),
        *ended("tool_\\ud800use"),
    ]
    async with raw_server(frames) as url, client(url) as opened:
        purse, shown = CountingPurse(), dict[str, str]()
        events = [event async for event in exchange(opened, purse, HandClock()).ask(1, request(), "")]
    for event in events:
        if isinstance(event, StreamText):
            shown[event.channel] = shown.get(event.channel, "") + event.text
    assert shown["text"] == "a smile: \U0001f600!\n" and shown["thinking"] == "a \ufffd b\n"
    answer = events[-1]
    assert isinstance(answer, Answer) and answer.stop_reason == "tool_\ufffduse"
    json.dumps([answer.content, shown], ensure_ascii=False).encode()
    assert answer.content[1]["text"] == "a smile: \U0001f600!"
    assert answer.calls[0].id == answer.content[2]["id"] and answer.calls[0].name == answer.content[2]["name"]
    assert purse.states == ["settled"]


@pytest.mark.parametrize("tokens", ["Infinity", "1e999", "NaN", '"many"'])
async def test_usage_that_is_no_number_is_charged_at_the_worst_case(tokens: str) -> None:
    frames = [START, *whole_block(0, '{"type":"text","text":""}'), *ended("end_turn", tokens)]
    async with raw_server(frames) as url, client(url) as opened:
        purse = CountingPurse()
        events = [event async for event in exchange(opened, purse, HandClock()).ask(1, request(), "")]
    assert isinstance(events[-1], Answer | Fault)
    assert set(purse.states) == {"forfeited"} and purse.open == 0


async def test_a_prompt_that_is_too_long_names_what_makes_it_shorter() -> None:
    error = HttpError(400, "invalid_request_error", "prompt is too long: 1200000 tokens > 1000000 maximum")
    async with bench(sequence(error)) as it:
        fault = await it.ask()
        assert isinstance(fault, Fault) and "brief_tokens" in fault.mend
        assert it.purse.charged == 0


# --- a server of a few lines, for what no real one would say -----------------------------------------------


@contextlib.asynccontextmanager
async def raw_server(frames: list[str]) -> AsyncIterator[str]:
    """Answers every request with these data lines as SSE, then ends the body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        await reader.readexactly(length)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for frame in frames:
            kind = frame.partition('"type":"')[2].partition('"')[0] or "message_start"
            writer.write(f"event: {kind}\ndata: {frame}\n\n".encode("utf-8", "surrogateescape"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
