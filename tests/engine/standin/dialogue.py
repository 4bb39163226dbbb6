"""The real package against the stand-in: a client, requests in order, and a tool loop as small as can be."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any

import anthropic
from anthropic import AsyncAnthropic
from anthropic.types import Message

from engine import edits
from engine.errors import EditRejected
from tests.standin.server import Standin

MODEL = "claude-opus-5-5"
EDITOR: dict[str, Any] = {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"}
SUBMIT: dict[str, Any] = {
    "name": "submit",
    "description": "Ends the proposal.",
    "strict": True,
    "eager_input_streaming": True,
    "input_schema": {
        "type": "object",
        "additionalProperties": False,
        "required": ["title", "hypothesis", "expected_effect", "expected_size", "refuted_by", "kind"],
        "properties": {
            "title": {"type": "string", "maxLength": 80},
            "hypothesis": {"type": "string"},
            "expected_effect": {"type": "string", "enum": ["better", "faster", "simpler"]},
            "expected_size": {"type": ["number", "null"], "minimum": 0},
            "refuted_by": {"type": "string"},
            "kind": {"type": "string", "enum": ["architecture", "optimizer", "schedule", "data", "other"]},
        },
    },
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
CHECK: dict[str, Any] = {"name": "check", "description": "Does it parse?", "strict": True, "input_schema": NOTHING}
HISTORY: dict[str, Any] = {"name": "history", "description": "What was tried.", "input_schema": NOTHING}


@asynccontextmanager
async def client(url: str, key: str = "k", seconds: float = 20.0) -> AsyncIterator[AsyncAnthropic]:
    """One that owns no retries. ``seconds``: the longest silence before it gives up reading."""
    timeout = anthropic.Timeout(20.0, read=seconds)
    # Plain HTTP needs no certificates, and reading the machine's takes a tenth of a second.
    http = anthropic.DefaultAsyncHttpxClient(verify=SSLContext(PROTOCOL_TLS_CLIENT))
    async with AsyncAnthropic(base_url=url, api_key=key, max_retries=0, timeout=timeout, http_client=http) as made:
        yield made


def request(content: Any = "Propose one change.", **more: Any) -> dict[str, Any]:
    """Arguments of ``messages.stream`` as a proposer would send them; None leaves one out."""
    given: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 4000,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "tools": [EDITOR, SUBMIT],
        "messages": [{"role": "user", "content": content}],
        **more,
    }
    return {key: value for key, value in given.items() if value is not None}


async def streamed(speaker: AsyncAnthropic, **arguments: Any) -> Message:
    async with speaker.messages.stream(**arguments) as stream:
        return await stream.get_final_message()


def last_call(message: Message) -> str:
    """The id of the tool call that the message ends in."""
    block = message.content[-1]
    assert block.type == "tool_use"
    return block.id


def answer_to(message: Message, content: str) -> list[dict[str, Any]]:
    """The messages that follow a request when its answer's last call gave ``content``."""
    result = {"type": "tool_result", "tool_use_id": last_call(message), "content": content}
    return [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]


@dataclass
class Desk:
    """A project of one file, with the tools of a proposer: as small as can be, and strict."""

    text: str
    name: str = "train.py"
    history: str = "nothing yet"
    rejected: int = 0  # edits still to be refused, whatever they are
    submitted: dict[str, Any] | None = None
    refusals: list[str] = field(default_factory=list)

    def run(self, name: str, given: dict[str, Any]) -> str:
        """The result; raises EditRejected for an ``is_error``."""
        if name == "history":
            return self.history
        if name == "check":
            try:
                ast.parse(self.text)
            except SyntaxError as fault:
                raise EditRejected(f"SyntaxError: {fault}") from None
            return "it parses"
        if name == "submit":
            self.submitted = given
            return "submitted"
        if given["path"] != self.name:
            raise EditRejected(f"{given['path']} is not yours to touch")
        return self._edit(given)

    def _edit(self, given: dict[str, Any]) -> str:
        if given["command"] == "view":
            rows = [f"{i:>6}\t{line}" for i, line in enumerate(self.text.split("\n"), 1)]
            return "\n".join([f"{self.name}, {len(rows)} lines", *rows])
        if self.rejected:
            self.rejected -= 1
            raise EditRejected("the text to replace does not occur in the file")
        assert given["command"] == "str_replace"
        self.text = edits.replace(self.text, given["old_str"], given["new_str"])
        return "done"


async def propose(
    standin: Standin,
    desk: Desk,
    *,
    task: Any = "Improve train.py.",
    tools: Sequence[dict[str, Any]] = (EDITOR, SUBMIT, CHECK, HISTORY),
    most: int = 20,
    watch: Callable[[Message], None] = lambda message: None,
) -> list[dict[str, Any]]:
    """One conversation until a turn calls no tool; the messages as they were sent."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    async with client(standin.url) as speaker:
        for _ in range(most):
            answer = await streamed(speaker, **request(tools=list(tools), messages=messages))
            watch(answer)
            messages.append({"role": "assistant", "content": answer.content})
            calls = [block for block in answer.content if block.type == "tool_use"]
            if not calls:
                return messages
            messages.append({"role": "user", "content": [_result(desk, call) for call in calls]})
    raise AssertionError(f"no end after {most} turns")


def _result(desk: Desk, call: Any) -> dict[str, Any]:
    result = {"type": "tool_result", "tool_use_id": call.id}
    try:
        return {**result, "content": desk.run(call.name, call.input)}
    except EditRejected as refusal:
        desk.refusals.append(str(refusal))
        return {**result, "content": str(refusal), "is_error": True}
