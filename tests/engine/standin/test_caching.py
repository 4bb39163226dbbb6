"""The simulated prompt cache bills what the service would for the very requests that were sent."""

from __future__ import annotations

from typing import Any

import pytest

from engine.clock import VirtualClock
from tests.engine.standin.dialogue import EDITOR, MODEL, answer_to, client, request, streamed
from tests.standin.cache import PromptCache
from tests.standin.prefix import total
from tests.standin.script import Text, Thinking, ToolUse, Turn, sequence
from tests.standin.server import Standin

LONG = "All about the project. " * 150  # some 860 tokens
HOUR = {"type": "ephemeral", "ttl": "1h"}
FIVE = {"type": "ephemeral"}
VIEW = Turn(
    [Thinking("Let me look. "), Text("I look."), ToolUse(EDITOR["name"], {"command": "view", "path": "a.py"})]
)


def body(*texts: str, **more: Any) -> dict[str, Any]:
    """A request whose one message has these texts; those that end in "#" are breakpoints."""
    blocks = [
        {
            "type": "text",
            "text": text.removesuffix("#") or ".",
            **({"cache_control": FIVE} if text.endswith("#") else {}),
        }
        for text in texts
    ]
    return {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": blocks}], **more}


def used(
    cache: PromptCache, given: dict[str, Any], at: float = 0.0, *, began: bool = True
) -> tuple[int, int, int]:
    """(fresh, written, read) tokens."""
    plan = cache.plan(given, at)
    if began:
        plan.began()
    usage = plan.usage
    return usage["input_tokens"], usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]


async def test_a_conversation_of_five_turns_reads_what_it_wrote() -> None:
    clock = VirtualClock()
    arguments = request(
        system=[{"type": "text", "text": LONG, "cache_control": HOUR}], cache_control=FIVE, tools=[EDITOR]
    )
    before = 0
    async with Standin(sequence(VIEW), clock=clock) as standin, client(standin.url) as speaker:
        for turn in range(5):
            answer = await streamed(speaker, **arguments)
            usage, whole = answer.usage, total(standin.messages[-1].body)
            assert usage.cache_creation is not None
            read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
            assert usage.input_tokens + read + written == whole
            assert read == before and usage.input_tokens == 0
            long, short = (
                usage.cache_creation.ephemeral_1h_input_tokens,
                usage.cache_creation.ephemeral_5m_input_tokens,
            )
            assert long + short == written and (long > 800) is (turn == 0)
            before = whole
            arguments["messages"] = [*arguments["messages"], *answer_to(answer, "x = 1\n")]
            clock.advance(240)  # each read keeps the entry for five minutes more
        clock.advance(400)  # now the conversation has gone, and the hour's prefix is still there
        late = (await streamed(speaker, **arguments)).usage
        assert 800 < (late.cache_read_input_tokens or 0) < before
        clock.advance(4000)
        assert (await streamed(speaker, **arguments)).usage.cache_read_input_tokens == 0


async def test_the_split_of_the_two_lifetimes_comes_with_message_start_alone() -> None:
    async with (
        Standin(sequence(VIEW)) as standin,
        client(standin.url) as speaker,
        speaker.messages.stream(**request(cache_control=HOUR, system=LONG)) as stream,
    ):
        events = [event async for event in stream]
    start = next(event for event in events if event.type == "message_start")
    delta = next(event for event in events if event.type == "message_delta")
    assert start.message.usage.cache_creation is not None
    assert start.message.usage.cache_creation.ephemeral_1h_input_tokens > 800
    assert "cache_creation" not in delta.usage.to_dict()
    assert delta.usage.cache_creation_input_tokens == start.message.usage.cache_creation_input_tokens
    assert start.message.usage.output_tokens < delta.usage.output_tokens
    assert delta.usage.output_tokens_details is not None
    assert 0 < delta.usage.output_tokens_details.thinking_tokens < delta.usage.output_tokens


def test_an_entry_is_read_only_once_the_first_response_has_begun_to_stream() -> None:
    cache, given = PromptCache(), body(LONG + "#", "do it")
    first = cache.plan(given, 0.0)
    _, written, read = used(cache, given, began=False)
    assert written > 800 and read == 0  # sent beside the first: pays for the same again
    first.began()
    fresh, written, read = used(cache, given)
    assert fresh > 0 and written == 0 and read > 800


def test_the_lifetime_runs_from_the_start_of_the_request_and_reading_renews_it() -> None:
    cache, given = PromptCache(), body(LONG + "#")
    used(cache, given, 0.0)
    assert used(cache, given, 299.0)[2] > 0
    assert used(cache, given, 598.0)[2] > 0
    assert used(cache, given, 898.0)[2] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"thinking": {"type": "adaptive"}},
        {"output_config": {"effort": "low"}},
        {"output_config": {"format": {"type": "json_schema", "schema": {}}}},
        {"model": "claude-sonnet-5-5"},
        {"system": "Another."},
        {"tools": [EDITOR]},
    ],
)
def test_what_stands_before_a_prefix_or_sets_the_model_up_breaks_it(change: dict[str, Any]) -> None:
    cache = PromptCache()
    used(cache, body(LONG + "#"))
    assert used(cache, body(LONG + "#"))[2] > 0
    assert used(cache, body(LONG + "#", **change))[2] == 0


def test_less_than_the_minimum_is_not_cached_and_older_models_need_more() -> None:
    cache = PromptCache()
    for given, cached in (
        (body("short#"), False),
        (body(LONG + "#"), True),
        (body(LONG + "#", model="claude-opus-5"), False),
    ):
        used(cache, given)
        assert (used(cache, given)[2] > 0) is cached


def test_only_the_same_bytes_are_the_same_prefix() -> None:
    cache = PromptCache()
    used(cache, body(LONG + "#"))
    assert used(cache, body("B" + LONG[1:] + "#"))[2] == 0
    assert used(cache, body(LONG + "#", "more", "and more#"))[2] > 800


def test_an_older_entry_is_found_twenty_blocks_back_and_no_further() -> None:
    cache = PromptCache()
    used(cache, body(LONG + "#"))
    assert used(cache, body(LONG, *["."] * 18, "#"), began=False)[2] > 800
    assert used(cache, body(LONG, *["."] * 19, "#"), began=False)[2] == 0


def test_a_marker_is_no_part_of_the_prefix() -> None:
    cache = PromptCache()
    used(cache, body(LONG, cache_control=FIVE))
    assert used(cache, body(LONG, "tail", cache_control=FIVE))[2] > 800


async def test_no_output_tokens_warm_the_cache() -> None:
    async with Standin(sequence(VIEW)) as standin, client(standin.url) as speaker:
        warm = await speaker.messages.create(**request(max_tokens=0, cache_control=FIVE, system=LONG))
        assert warm.content == [] and warm.usage.output_tokens == 0
        after = await streamed(speaker, **request(cache_control=FIVE, system=LONG))
        assert (after.usage.cache_read_input_tokens or 0) > 800
        assert after.stop_reason == "tool_use"  # the script did not count the first
