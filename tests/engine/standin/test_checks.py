"""What the service refuses, the stand-in refuses, and nothing else: seen by the real package."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import pytest

from tests.engine.standin.dialogue import CHECK, EDITOR, SUBMIT, answer_to, client, request, streamed
from tests.standin.script import Text, Thinking, ToolUse, Turn, sequence
from tests.standin.server import Standin

TURN = Turn([Thinking("Consider the rate. "), Text("Raise it."), ToolUse("submit", {"title": "Raise it"})])
USER = {"role": "user", "content": "Hello"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "submit", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}
MARK = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def marked(*marks: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": "x", **({"cache_control": mark} if mark else {})} for mark in marks]


def said(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


OPEN_OBJECT = {"type": "object", "properties": {}}
NESTED = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"a": {"type": "array", "items": OPEN_OBJECT}},
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 1.0}, "temperature"),
        ({"top_p": 0.9}, "top_p"),
        ({"top_k": 5}, "top_k"),
        ({"frequency_penalty": 1}, "frequency_penalty: Extra inputs"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "submit"}}, "tool_choice"),
        ({"thinking": {"type": "disabled"}}, "`disabled` is not supported"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "`enabled` is not supported"),
        ({"thinking": {"type": "adaptive", "budget_tokens": 2048}}, "budget_tokens"),
        ({"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 10}}, "budget_tokens"),
        ({"model": "claude-haiku-4-5", "thinking": None, "output_config": {"effort": "low"}}, "effort"),
        ({"output_config": {"effort": "extreme"}}, "effort"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 200_000}, "maximum allowed number"),
        ({"messages": []}, "at least one message"),
        (said(assistant(*marked(None)), USER), "first message"),
        (said(USER, assistant(*marked(None))), "prefill"),
        (said({"role": "robot", "content": "x"}), "role"),
        (said({"role": "user", "content": ""}), "non-empty"),
        (said({"role": "user", "content": []}), "non-empty"),
        (said(user(RESULT)), "unexpected `tool_use_id`"),
        (said(USER, assistant(CALL), USER), "without `tool_result` blocks immediately after: toolu_1"),
        (said(USER, assistant(CALL), user(RESULT, RESULT)), "a single result"),
        (said(USER, assistant(CALL), user({"type": "text", "text": "x"}, RESULT)), "before other content"),
        (said(USER, assistant(CALL), user(RESULT), assistant(*marked(None)), user(RESULT)), "unexpected"),
        ({"tools": [{**CHECK, "input_schema": OPEN_OBJECT}]}, "additionalProperties"),
        ({"tools": [{**CHECK, "input_schema": NESTED}]}, "additionalProperties"),
        ({"tools": [CHECK, CHECK]}, "unique"),
        ({"tools": [{**EDITOR, "name": "edit"}]}, "str_replace_based_edit_tool"),
        ({"tools": [{**EDITOR, "eager_input_streaming": True}]}, "custom tools"),
        ({"tools": [{"name": "no spaces", "input_schema": NESTED}]}, "should match"),
        ({"tools": [{"name": "check"}]}, "input_schema"),
        (said(user(*marked(*[MARK] * 5))), "maximum of 4 blocks"),
        ({**said(user(*marked(*[MARK] * 4), *marked(None))), "cache_control": MARK}, "maximum of 4 blocks"),
        (said(user(*marked(MARK, HOUR))), "must not come after"),
        ({"system": marked(MARK), **said(user(*marked(HOUR)))}, "must not come after"),
        (said(user(*marked({"type": "ephemeral", "ttl": "1d"}))), "ttl"),
        (said(user(*marked(None), {"type": "thinking", "thinking": "x", "signature": "forged"})), "signature"),
        ({"messages": "Hello"}, "at least one message"),
        ({"thinking": "hard"}, "malformed"),
        ({"tools": ["submit"]}, "malformed"),
        (said(user({"type": "text", "text": "word " * 1_000_000})), "prompt is too long"),
    ],
)
async def test_what_the_service_refuses_is_refused(change: dict[str, Any], words: str) -> None:
    body = request(**change)
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        with pytest.raises(anthropic.BadRequestError) as caught:
            await speaker.post("/v1/messages", body=body, cast_to=object)
    assert words in str(caught.value.api_message) and caught.value.type == "invalid_request_error"
    assert caught.value.request_id == standin.requests[0].request_id


@pytest.mark.parametrize(
    "change",
    [
        {"model": "claude-opus-5", "tool_choice": {"type": "any"}},
        {"model": "claude-haiku-4-5", "thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"output_config": {"effort": "max"}},
        {"stop_sequences": ["###"], "metadata": {"user_id": "u"}, "tool_choice": {"type": "auto"}},
        said(USER, assistant(CALL), user(RESULT, *marked(MARK))),
        # One turn in two messages: the service joins them.
        said(USER, USER),
        said(USER, assistant(CALL), user(RESULT), USER),
        {"system": marked(HOUR), **said(user(*marked(HOUR, MARK, MARK)))},
    ],
)
async def test_what_the_service_takes_is_taken(change: dict[str, Any]) -> None:
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        await streamed(speaker, **request(**change))


async def test_an_unknown_model_is_a_404_and_a_body_that_is_no_json_a_400() -> None:
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        with pytest.raises(anthropic.NotFoundError):
            await streamed(speaker, **request(model="claude-nobody"))
        async with httpx2.AsyncClient(headers=headers, base_url=standin.url) as http:
            for content in (b"{", b"\xff", b"[]", b"null", b""):
                answer = await http.post("/v1/messages", content=content)
                assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"
            assert (await http.get("/v1/nothing")).json()["error"]["type"] == "not_found_error"
            assert (await http.get("/v1/messages")).status_code == 405
            large = await http.post("/v1/messages", content=b" " * (33 * 2**20))
            assert large.status_code == 413 and large.json()["error"]["type"] == "request_too_large"


async def test_thinking_is_replayed_only_after_the_same_prefix() -> None:
    async with Standin(sequence(TURN)) as standin, client(standin.url) as speaker:
        for display in ("summarized", "omitted"):
            given = request(thinking={"type": "adaptive", "display": display}, system="Be good.")
            first = await streamed(speaker, **given)
            good = [*given["messages"], *answer_to(first, "ok")]
            await streamed(speaker, **{**given, "messages": good})
            blocks = [block.to_dict() for block in first.content]
            changed = [{**blocks[0], "thinking": "Something else."}, *blocks[1:]]
            for bad in (
                {"system": "Be bad."},
                {"tools": [EDITOR, SUBMIT, CHECK]},
                {"messages": [user(*marked(None)), *good[1:]]},
                {"messages": [good[0], assistant(*changed), good[2]]},
            ):
                with pytest.raises(anthropic.BadRequestError, match="signature"):
                    await streamed(speaker, **{**given, "messages": good, **bad})
