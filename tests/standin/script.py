"""What a script answers: a turn of the model, an HTTP error, or a cut connection. Plain data, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Body = Mapping[str, Any]
Place = Literal["before", "during", "after"]
StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"
]
# drop: the connection ends mid-stream (FIN); reset: the same by RST; stall: no byte more, for ever; pings: only
# pings, for ever; eof: the body ends well-formed, without message_stop; error: an SSE error event;
# open: everything was sent, and the body is never ended.
Breakage = Literal["drop", "reset", "stall", "pings", "eof", "error", "open"]


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning. Sent empty, with its signature, unless the request asks for ``display: summarized``."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call. ``raw`` is sent in place of ``input``'s JSON: cut short, or not JSON at all."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    raw: str | None = None


Block = Thinking | Text | ToolUse


@dataclass(frozen=True, slots=True)
class Break:
    """Where and how the transport fails, relative to block number ``block`` of the turn.

    ``block`` None: the first tool call, else the last block. For "error", ``error`` is the event's content.
    """

    kind: Breakage
    place: Place = "during"
    block: int | None = None
    error: Mapping[str, Any] = field(default_factory=lambda: {"type": "overloaded_error", "message": "Overloaded"})


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of the model.

    ``stop_reason`` None: ``tool_use`` where a tool is called, else ``end_turn``. ``usage`` overrides single
    numbers of what the cache and the estimates give. ``delay``: seconds before each chunk, in place of the
    server's speed. ``chunk``: characters of a delta.
    """

    blocks: Sequence[Block] = ()
    stop_reason: StopReason | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    fault: Break | None = None
    delay: float | None = None
    chunk: int = 16
    stop_sequence: str | None = None
    category: str | None = None  # of a refusal
    explanation: str | None = None


@dataclass(frozen=True, slots=True)
class HttpError:
    """An error before any output. ``type`` and ``message`` go into the body, ``details`` beside them."""

    status: int
    type: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] | None = None

    def body(self, request_id: str) -> dict[str, Any]:
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.details is not None:
            error["details"] = dict(self.details)
        return {"type": "error", "error": error, "request_id": request_id}


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset before a byte of an answer."""


Answer = Turn | HttpError | Reset
# (request body, how many message requests a script has answered before) -> answer
Script = Callable[[Body, int], Answer]


def sequence(*answers: Answer) -> Script:
    """One answer after another; the last one again and again."""

    def script(body: Body, n: int) -> Answer:
        return answers[min(n, len(answers) - 1)]

    return script
