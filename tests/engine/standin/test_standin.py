"""The stand-in answers the real package as the service does: streams, JSON, models, counts, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from engine.clock import RealClock
from tests.engine.standin.dialogue import EDITOR, MODEL, SUBMIT, client, request, streamed
from tests.standin.models import CATALOGUE
from tests.standin.running import in_process, in_thread
from tests.standin.script import Body, Text, Thinking, ToolUse, Turn, sequence
from tests.standin.server import Standin
from tests.standin.wire import CALL_TOKENS

ROOT = Path(__file__).resolve().parents[3]
EDIT = {"command": "str_replace", "path": "train.py", "old_str": "a = 'ä'", "new_str": "a = '→'\nb = 2"}
TURN = Turn([Thinking("Consider the rate. "), Text("Raise it — a lot."), ToolUse(EDITOR["name"], EDIT)])


class Pace(RealClock):
    """Nobody waits; what would have been waited for is noted."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


async def test_a_stream_arrives_whole_in_small_pieces() -> None:
    async with (
        Standin(sequence(TURN)) as standin,
        client(standin.url) as speaker,
        speaker.messages.stream(**request()) as stream,
    ):
        events = [event async for event in stream]
        message = await stream.get_final_message()
    thinking, text, call = message.content
    assert thinking.type == "thinking" and thinking.thinking == "Consider the rate. " and thinking.signature
    assert text.type == "text" and text.text == "Raise it — a lot."
    assert call.type == "tool_use" and call.input == EDIT and call.name == EDITOR["name"]
    assert message.stop_reason == "tool_use" and message.model == MODEL
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert "ping" not in kinds and "ping" in standin.requests[0].sent
    pieces = [event.partial_json for event in events if event.type == "input_json"]
    assert len(pieces) > 5 and json.loads("".join(pieces)) == EDIT


async def test_the_same_turn_comes_as_one_body() -> None:
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        one = await streamed(speaker, **request())
        other = await speaker.messages.create(**request())
    assert [b.to_dict() for b in one.content][1]["text"] == [b.to_dict() for b in other.content][1]["text"]
    assert other.content[2].to_dict()["input"] == EDIT
    assert one.usage.to_dict() == other.usage.to_dict()
    assert one.stop_reason == other.stop_reason


async def test_thinking_is_empty_unless_it_is_asked_for() -> None:
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        for thinking, shown in (
            ({"type": "adaptive"}, ""),
            (None, ""),
            (request()["thinking"], "Consider the rate. "),
        ):
            block = (await streamed(speaker, **request(thinking=thinking))).content[0]
            assert block.type == "thinking" and block.thinking == shown and block.signature
        plain = await streamed(speaker, **request(model="claude-haiku-4-5", thinking=None))
        assert [block.type for block in plain.content] == ["text", "tool_use"]


async def test_max_tokens_cut_the_turn_where_they_are_spent() -> None:
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        whole = await streamed(speaker, **request())
        for most in (1, 5, 6, 10, 11, 30, whole.usage.output_tokens - 1):
            cut = await streamed(speaker, **request(max_tokens=most))
            assert cut.stop_reason == "max_tokens" and cut.usage.output_tokens == most
        exact = await streamed(speaker, **request(max_tokens=whole.usage.output_tokens))
        assert exact.stop_reason == "tool_use"


async def test_speed_is_tokens_a_second_and_a_buffered_parameter_comes_in_one_burst() -> None:
    arguments = {"title": "word " * 40, "why": "because " * 40}
    turn = Turn([Text("x" * 400), ToolUse("submit", arguments), ToolUse("plain", arguments)])
    plain = {"name": "plain", "input_schema": {"type": "object"}}
    pace = Pace()
    async with Standin(sequence(turn), speed=50.0, pace=pace) as standin, client(standin.url) as speaker:
        await streamed(speaker, **request(tools=[EDITOR, SUBMIT, plain]))
    text, eager, buffered = 400 / 4 / 50, len(json.dumps(arguments)) / 4 / 50, 2 * CALL_TOKENS / 50
    assert sum(pace.slept) == pytest.approx(text + 2 * eager + buffered, rel=0.02)
    # The eager tool writes as it goes; the other thinks each parameter out, then sends it at once.
    calls = [index for index, seconds in enumerate(pace.slept) if seconds == CALL_TOKENS / 50]
    assert calls[1] - calls[0] > 20 and len(pace.slept) - calls[1] == 3


async def test_a_turn_can_set_its_own_pace_and_pieces() -> None:
    turn = Turn([Text("abcdefgh")], delay=0.25, chunk=2)
    pace = Pace()
    async with (
        Standin(sequence(turn), speed=1.0, pace=pace) as standin,
        client(standin.url) as speaker,
        speaker.messages.stream(**request()) as stream,
    ):
        pieces = [text async for text in stream.text_stream]
    assert pieces == ["ab", "cd", "ef", "gh"] and pace.slept == [0.25] * 4


async def test_usage_can_be_overridden_number_by_number() -> None:
    turn = Turn([Text("Hi.")], usage={"output_tokens": 4321, "input_tokens": 7})
    async with Standin(sequence(turn)) as standin, client(standin.url) as speaker:
        usage = (await streamed(speaker, **request())).usage
    assert (usage.output_tokens, usage.input_tokens) == (4321, 7)


async def test_a_stop_sequence_and_a_refusal_arrive_with_their_details() -> None:
    turns = sequence(
        Turn([Text("a")], stop_reason="stop_sequence", stop_sequence="###"),
        Turn([Text("a")], stop_reason="refusal", category="cyber", explanation="no"),
    )
    async with Standin(turns) as standin, client(standin.url) as speaker:
        stopped, refused = [await streamed(speaker, **request()) for _ in range(2)]
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "###")
    assert refused.stop_details is not None
    assert (refused.stop_details.category, refused.stop_details.explanation) == ("cyber", "no")


async def test_requests_are_recorded_with_headers_body_and_id() -> None:
    async with Standin(sequence(TURN)) as standin, client(standin.url, key="secret") as speaker:
        answer = await speaker.messages.create(**request(), extra_headers={"x-mark": "1"})
        record = standin.messages[0]
    assert record.headers["authorization"] == "Bearer secret" and record.headers["x-mark"] == "1"
    assert record.headers["anthropic-version"] == "2026-10-21"
    assert record.body["messages"] == request()["messages"]
    assert (record.status, record.ended, record.request_id) == (200, "whole", answer._request_id)


# --- keys, models, counts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer right"}, 200),
        ({"x-api-key": "right"}, 200),
        ({"authorization": "Bearer wrong"}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"authorization": "Basic right"}, 401),
        ({}, 401),
    ],
)
async def test_only_the_right_key_comes_in(headers: Mapping[str, str], status: int) -> None:
    async with Standin(sequence(TURN), key="right") as standin, httpx2.AsyncClient() as http:
        version = {"anthropic-version": "2026-10-21"}
        answer = await http.get(f"{standin.url}/v1/models", headers={**version, **headers})
        assert answer.status_code == status and answer.headers["request-id"].startswith("req_")
        if status == 401:
            assert answer.json() == {
                "type": "error",
                "error": {"type": "authentication_error", "message": "invalid x-api-key or bearer token"},
                "request_id": answer.headers["request-id"],
            }


async def test_any_key_will_do_but_none() -> None:
    async with Standin(sequence(TURN)) as standin:
        async with client(standin.url, key="anything") as speaker:
            await speaker.models.list()
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"{standin.url}/v1/models")).status_code == 401
            unversioned = await http.get(f"{standin.url}/v1/models", headers={"x-api-key": "k"})
            assert unversioned.status_code == 400 and "anthropic-version" in unversioned.text


async def test_models_are_described_as_the_packages_types_want() -> None:
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        listed = [model.id async for model in speaker.models.list()]
        assert listed == list(CATALOGUE)
        for name in listed:
            model = await speaker.models.retrieve(name)
            anthropic.types.ModelInfo.model_validate(model.to_dict(), strict=False)
            assert model.lifecycle == "active" and model.retires_at is None
        opus, haiku = await speaker.models.retrieve(MODEL), await speaker.models.retrieve("claude-haiku-4-5")
        assert (opus.max_input_tokens, opus.max_tokens) == (1_000_000, 128_000)
        assert opus.capabilities and haiku.capabilities
        assert opus.capabilities.effort.supported and not haiku.capabilities.effort.supported
        assert not opus.capabilities.thinking.types.enabled.supported
        with pytest.raises(anthropic.NotFoundError, match="claude-nobody"):
            await speaker.models.retrieve("claude-nobody")


async def test_a_count_is_what_the_request_is_charged() -> None:
    arguments = request("How long am I? " * 50)
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        counted = await speaker.messages.count_tokens(
            **{key: value for key, value in arguments.items() if key != "max_tokens"}
        )
        answer = await streamed(speaker, **arguments)
    assert counted.input_tokens == answer.usage.input_tokens > 180


async def test_a_script_that_fails_is_an_internal_error_that_says_so() -> None:
    def script(body: Body, n: int) -> Turn:
        raise LookupError("no such turn")

    async with Standin(script) as standin, client(standin.url) as speaker:
        with pytest.raises(anthropic.InternalServerError, match="no such turn"):
            await streamed(speaker, **request())


# --- started otherwise ---------------------------------------------------------------------------------------


def test_it_serves_from_a_thread() -> None:
    with in_thread(Standin(sequence(TURN))) as standin:
        with Anthropic(base_url=standin.url, api_key="k", max_retries=0) as speaker:
            assert speaker.messages.create(**request()).stop_reason == "tool_use"
        assert standin.messages[0].status == 200


async def test_it_serves_from_a_process_with_the_researcher_and_a_fault() -> None:
    with in_process("--speed", "0", "--fault", "529:before") as url:
        async with client(url) as speaker:
            given = request("train.py:\n```\nimport os\nLEARNING_RATE = 1e-3\n```\n")
            with pytest.raises(anthropic.OverloadedError):
                await streamed(speaker, **given)
            answer = await streamed(speaker, **given)
    assert answer.content[-1].to_dict()["input"]["new_str"] == "LEARNING_RATE = 0.002"  # type: ignore[index]


def test_a_fault_that_is_not_there_is_said_in_words() -> None:
    command = [sys.executable, "-m", "tests.standin", "--port", "0", "--fault", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--faults lists them" in done.stderr
