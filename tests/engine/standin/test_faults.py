"""Each fault, at each place, as the real package sees it: what CLAUDE_API's facts say happens, happens here."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import httpx2
import pytest

from tests.engine.standin.dialogue import EDITOR, answer_to, client, request, streamed
from tests.standin import faults
from tests.standin.faults import OUTSIDE, Case, Faulty, faulty, matrix, refusing_url
from tests.standin.script import Break, Text, Thinking, ToolUse, Turn, sequence
from tests.standin.server import Standin

EDIT = ToolUse(
    "str_replace_based_edit_tool",
    {"command": "str_replace", "path": "train.py", "old_str": "LR = 0.02", "new_str": "LR = 0.03"},
)
TURN = Turn([Thinking("Consider the learning rate. "), Text("Raise it."), EDIT])
DONE = Turn([Text("Done.")])
SHORT = 0.5  # seconds of silence in which the package gives up, where that is what is to be seen


class Seen:
    """What came of one streamed request: events in order, the message so far, the name of the outcome."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.message: Any = None
        self.outcome = ""
        self.error: Any = None

    async def look(self, speaker: anthropic.AsyncAnthropic, arguments: dict[str, Any]) -> None:
        try:
            async with speaker.messages.stream(**arguments) as stream:
                async for event in stream:
                    self.events.append(event)
                    self.message = stream.current_message_snapshot
            self.outcome = str(self.message.stop_reason)
        except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:
            self.error, self.outcome = error, type(error).__name__
        except asyncio.CancelledError:
            self.outcome = "silence"


async def struck(standin: Standin, script: Faulty) -> tuple[Seen, dict[str, Any]]:
    """What the request that ``script``'s fault strikes gives, and that request. A conversation of two requests."""
    seconds = SHORT if script.fault.seen == "ReadTimeout" else 20.0
    async with client(standin.url, seconds=seconds) as speaker:
        arguments = request()
        if script.fault.scope == "request" and script.place == "after":
            first = await streamed(speaker, **arguments)
            arguments["messages"] = [*arguments["messages"], *answer_to(first, "done")]
        seen = Seen()
        looking = asyncio.ensure_future(seen.look(speaker, arguments))
        if script.fault.seen == "silence":
            await standin.until(lambda: standin.messages != [] and standin.messages[-1].sent.count("ping") > 5)
            assert not looking.done()
            looking.cancel()
        await looking
    return seen, arguments


@pytest.mark.parametrize("case", matrix(), ids=str)
async def test_the_real_package_sees_each_fault_as_written_down(case: Case) -> None:
    script = faulty(sequence(TURN, DONE), case.fault, case.place)
    async with Standin(script) as standin:
        seen, arguments = await struck(standin, script)
        assert seen.outcome == case.fault.seen
        assert script.struck == 1
        if case.fault.lost:  # whoever asks again gets what was lost, whole
            async with client(standin.url) as speaker:
                again = await streamed(speaker, **arguments)
            lost = DONE if case.fault.scope == "request" and case.place == "after" else TURN
            assert [b.type for b in again.content] == [
                {Thinking: "thinking", Text: "text", ToolUse: "tool_use"}[type(block)] for block in lost.blocks
            ]


def test_every_fault_of_the_list_is_in_the_matrix_and_refuses_a_place_it_has_not() -> None:
    assert {case.fault.name for case in matrix()} == set(faults.NAMED)
    assert len(matrix()) == len({str(case) for case in matrix()}) > 60
    with pytest.raises(ValueError, match="open cannot strike before an edit: after"):
        faulty(DONE_SCRIPT, faults.OPEN, "before")


DONE_SCRIPT = sequence(DONE)


@pytest.mark.parametrize("place", ["before", "during", "after"])
async def test_a_broken_stream_ends_before_in_or_after_the_tool_call(place: Any) -> None:
    script = faulty(sequence(TURN), faults.EOF, place)
    async with Standin(script) as standin:
        seen, _ = await struck(standin, script)
    last = seen.message.content[-1]
    stopped = [e.index for e in seen.events if e.type == "content_block_stop"]
    if place == "before":
        assert last.type == "text" and stopped == [0, 1]
    else:
        assert last.type == "tool_use" and (2 in stopped) is (place == "after")
        assert (last.input == EDIT.input) is (place == "after")
    assert not [e for e in seen.events if e.type in ("message_delta", "message_stop")]


@pytest.mark.parametrize("fault", [faults.MAX_TOKENS, faults.REFUSAL_MIDWAY, faults.CONTEXT_FULL], ids=str)
@pytest.mark.parametrize("place", ["before", "during", "after"])
async def test_a_turn_that_stops_early_stops_before_in_or_after_the_tool_call(fault: Any, place: Any) -> None:
    """The trap of T: a cut-off input parses, so only the stop reason tells that it must not be run."""
    script = faulty(sequence(TURN), fault, place)
    async with Standin(script) as standin:
        seen, _ = await struck(standin, script)
    inputs = [block.input for block in seen.message.content if block.type == "tool_use"]
    assert len(inputs) == (place != "before")
    if place == "during":
        assert inputs[0].items() < EDIT.input.items() and "command" in inputs[0]
    if place == "after":
        assert inputs[0] == EDIT.input
    details = seen.message.stop_details
    assert (details.category if details else None) == ("frontier_llm" if fault is faults.REFUSAL_MIDWAY else None)


async def test_a_refusal_before_output_has_its_category_no_content_and_a_bill() -> None:
    script = faulty(sequence(TURN), faults.REFUSAL)
    async with Standin(script) as standin:
        seen, _ = await struck(standin, script)
    assert seen.message.content == [] and seen.message.stop_details.category == "frontier_llm"
    assert seen.message.usage.input_tokens > 0


async def test_an_error_event_has_status_200_and_the_type_of_the_fault() -> None:
    script = faulty(sequence(TURN), faults.STREAM_ERROR, "during")
    async with Standin(script) as standin:
        seen, _ = await struck(standin, script)
    assert (seen.error.status_code, seen.error.type) == (200, "overloaded_error")


async def test_pings_reset_the_read_timeout_and_show_no_event() -> None:
    """More pings than fit into the time-out, and the package still waits: only a watchdog would notice."""
    script = faulty(sequence(TURN), faults.PINGS, "before")
    async with Standin(script) as standin, client(standin.url, seconds=SHORT) as speaker:
        seen = Seen()
        looking = asyncio.ensure_future(seen.look(speaker, request()))
        await standin.until(lambda: bool(standin.messages) and standin.messages[-1].sent.count("ping") > 70)
        assert not looking.done() and "ping" not in {event.type for event in seen.events}
        looking.cancel()
        await looking


async def test_a_body_kept_open_gives_message_stop_and_then_waits() -> None:
    async with Standin(faulty(sequence(TURN), faults.OPEN)) as standin, client(standin.url) as speaker:
        async with speaker.messages.stream(**request()) as stream:
            async for event in stream:
                if event.type == "message_stop":
                    break
            else:
                pytest.fail("the stream ended by itself")
        assert stream.current_message_snapshot.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("fault", "headers"),
    [
        (faults.RATE_LIMIT, {"retry-after": "1"}),
        (faults.RATE_LIMIT_MS, {"retry-after": "1", "retry-after-ms": "40"}),
        (faults.SPEND_LIMIT, {}),
    ],
    ids=str,
)
async def test_a_rate_limit_says_when_to_come_back_and_a_spend_limit_does_not(fault: Any, headers: Any) -> None:
    script = faulty(sequence(TURN), fault)
    async with Standin(script) as standin:
        seen, _ = await struck(standin, script)
    got = seen.error.response.headers
    assert {name: got[name] for name in got if name.startswith("retry-after")} == headers
    assert isinstance(seen.error, anthropic.RateLimitError) and seen.error.type == "rate_limit_error"
    assert seen.error.error_code == ("enforced_spend_limit_reached" if fault is faults.SPEND_LIMIT else None)


async def test_an_edit_outside_the_files_is_beside_the_good_one_or_in_its_place() -> None:
    for place, paths in (
        ("before", [OUTSIDE, "train.py"]),
        ("during", [OUTSIDE]),
        ("after", ["train.py", OUTSIDE]),
    ):
        script = faulty(sequence(TURN), faults.OUTSIDE_FILES, place)  # type: ignore[arg-type]
        async with Standin(script) as standin:
            seen, _ = await struck(standin, script)
        assert [b.input["path"] for b in seen.message.content if b.type == "tool_use"] == paths


@pytest.mark.parametrize(
    ("fault", "read", "written"), [(faults.CACHE_HIT, 14_000, 0), (faults.CACHE_MISS, 0, 14_000)]
)
async def test_usage_of_a_hit_and_of_a_miss_can_be_scripted(fault: Any, read: int, written: int) -> None:
    script = faulty(sequence(TURN), fault)
    async with Standin(script) as standin:
        seen, _ = await struck(standin, script)
    usage = seen.message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens) == (2_000, read)
    assert usage.cache_creation_input_tokens == usage.cache_creation.ephemeral_1h_input_tokens == written


async def test_a_paused_turn_goes_on_when_it_is_sent_again_as_it_is() -> None:
    script = faulty(sequence(TURN), faults.PAUSE)
    async with Standin(script) as standin, client(standin.url) as speaker:
        first = await streamed(speaker, **request())
        assert first.stop_reason == "pause_turn"
        messages = [*request()["messages"], {"role": "assistant", "content": first.content}]
        second = await streamed(speaker, **request(messages=messages))
        assert second.stop_reason == "tool_use"
        # Any other message of the assistant's at the end is a prefill, which this model has not.
        messages[-1] = {"role": "assistant", "content": "I was"}
        with pytest.raises(anthropic.BadRequestError, match="prefill"):
            await streamed(speaker, **request(messages=messages))


async def test_a_refused_connection_is_a_connection_error() -> None:
    with refusing_url() as url:
        async with client(url) as speaker:
            with pytest.raises(anthropic.APIConnectionError):
                await streamed(speaker, **request())


async def test_a_fault_strikes_as_often_as_it_is_told() -> None:
    script = faulty(sequence(TURN, DONE), faults.OVERLOADED, times=2)
    async with Standin(script) as standin, client(standin.url) as speaker:
        for _ in range(2):
            with pytest.raises(anthropic.OverloadedError):
                await streamed(speaker, **request())
        assert (await streamed(speaker, **request())).stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("drop", anthropic.APIConnectionError),
        ("reset", anthropic.APIConnectionError),
        ("eof", anthropic.APIConnectionError),
        ("stall", anthropic.APITimeoutError),
        ("error", anthropic.OverloadedError),
    ],
)
async def test_without_a_stream_the_same_faults_break_the_one_body(kind: Any, error: type[Exception]) -> None:
    turn = Turn(TURN.blocks, fault=Break(kind))
    async with Standin(sequence(turn)) as standin, client(standin.url, seconds=SHORT) as speaker:
        with pytest.raises(error):
            await speaker.messages.create(**request())


async def test_a_client_that_leaves_ends_the_stream() -> None:
    slow = Turn([Text("word " * 4000)], delay=0.01)
    async with Standin(sequence(slow)) as standin, client(standin.url) as speaker:
        async with speaker.messages.stream(**request(tools=[EDITOR])) as stream:
            await anext(aiter(stream))
        await standin.until(lambda: standin.requests[0].ended == "cut by client")
    assert "message_stop" not in standin.requests[0].sent
