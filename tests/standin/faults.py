"""Every fault that the service and the way to it are known to have, by name, and where it can strike.

``matrix`` lists all (fault, place) pairs for a test of a client's fault table; ``faulty`` lets one strike a
script at its first edit. Places are relative to that edit tool call. A fault of the whole request ("request") strikes
the answer that would hold the edit ("before") or the answer to the edit's result ("after").
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tests.standin.prefix import content
from tests.standin.script import Answer, Body, HttpError, Place, Reset, Script, ToolUse, Turn
from tests.standin.strikes import (
    EDITOR,
    Strike,
    answered,
    beside,
    broken,
    edit_at,
    is_edit,
    paused,
    silent_refusal,
    stopped,
)

EVERYWHERE: tuple[Place, ...] = ("before", "during", "after")
AROUND: tuple[Place, ...] = ("before", "after")
OUTSIDE = "../outside.py"


@dataclass(frozen=True, slots=True)
class Fault:
    """``strike(turn, place)`` is what the client gets in place of ``turn``.

    ``seen``: what the real package, with ``max_retries=0`` and a stream, makes of it: the name of the exception,
    "silence", or the final ``stop_reason`` ("None": there is none). ``lost``: the answer did not get through, so the
    script gives it again when asked again. ``scope``: see above.
    """

    name: str
    says: str
    seen: str
    strike: Strike
    places: tuple[Place, ...] = EVERYWHERE
    scope: Literal["stream", "request"] = "stream"
    lost: bool = True

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Case:
    fault: Fault
    place: Place

    def __str__(self) -> str:
        return f"{self.fault.name}-{self.place}"


# --- the transport -----------------------------------------------------------------------------------------


DROP = Fault("drop", "the connection ends mid-stream", "RemoteProtocolError", broken("drop"))
CUT = Fault("cut", "the connection is reset mid-stream", "ReadError", broken("reset"))
STALL = Fault("stall", "no byte more, for ever", "ReadTimeout", broken("stall"))
PINGS = Fault("pings", "only pings, for ever", "silence", broken("pings"))
EOF = Fault("eof", "the stream ends without message_stop", "None", broken("eof"))
STREAM_ERROR = Fault("stream-error", "an SSE error event: overloaded", "APIStatusError", broken("error"))
OPEN = Fault(
    "open", "the body stays open after message_stop", "ReadTimeout", broken("open"), places=("after",), lost=False
)
RESET = Fault(
    "reset", "reset before a response", "APIConnectionError", answered(Reset()), places=AROUND, scope="request"
)


@contextlib.contextmanager
def refusing_url() -> Iterator[str]:
    """A URL where every connection is refused: its port is held, and nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


# --- HTTP errors -------------------------------------------------------------------------------------------


def http(name: str, seen: str, error: HttpError) -> Fault:
    says = f"HTTP {error.status}: {error.message}"
    return Fault(name, says, seen, answered(error), places=AROUND, scope="request")


def rate_limited(headers: Mapping[str, str]) -> HttpError:
    message = "This request would exceed your organization's rate limit"
    return HttpError(429, "rate_limit_error", message, headers)


BAD_REQUEST = http("400", "BadRequestError", HttpError(400, "invalid_request_error", "messages: invalid"))
UNAUTHORIZED = http("401", "AuthenticationError", HttpError(401, "authentication_error", "invalid x-api-key"))
NO_CREDIT = http("402", "PaymentRequiredError", HttpError(402, "billing_error", "Your credit balance is too low"))
FORBIDDEN = http("403", "PermissionDeniedError", HttpError(403, "permission_error", "not allowed for this key"))
NOT_FOUND = http("404", "NotFoundError", HttpError(404, "not_found_error", "model: not found"))
TOO_LARGE = http(
    "413", "ContentTooLargeError", HttpError(413, "request_too_large", "Request exceeds the maximum size")
)
RATE_LIMIT = http("429", "RateLimitError", rate_limited({"retry-after": "1"}))
RATE_LIMIT_MS = http("429-ms", "RateLimitError", rate_limited({"retry-after": "1", "retry-after-ms": "40"}))
SPEND_LIMIT = http(
    "spend-limit",
    "EnforcedSpendLimitReachedError",
    HttpError(
        429,
        "rate_limit_error",
        "You have reached your monthly usage threshold",
        details={"error_code": "enforced_spend_limit_reached"},
    ),
)
SERVER_ERROR = http("500", "InternalServerError", HttpError(500, "api_error", "Internal server error"))
TIMED_OUT = http("504", "GatewayTimeoutError", HttpError(504, "timeout_error", "Request timed out"))
OVERLOADED = http("529", "OverloadedError", HttpError(529, "overloaded_error", "Overloaded"))


# --- how a turn ends ---------------------------------------------------------------------------------------


REFUSAL = Fault(
    "refusal", "refused before any output, frontier_llm", "refusal", silent_refusal, places=AROUND, scope="request"
)
REFUSAL_MIDWAY = Fault(
    "refusal-midway",
    "refused in the middle of the turn, frontier_llm",
    "refusal",
    stopped("refusal", "frontier_llm"),
)
MAX_TOKENS = Fault("max-tokens", "cut off by max_tokens", "max_tokens", stopped("max_tokens"))
CONTEXT_FULL = Fault(
    "context-full", "the context window is full", "model_context_window_exceeded",
    stopped("model_context_window_exceeded"),
)  # fmt: skip
PAUSE = Fault("pause", "the turn is paused: send it again", "pause_turn", paused, places=AROUND, scope="request")


# --- what the model says -----------------------------------------------------------------------------------


BAD_JSON = Fault(
    "bad-json", "a tool call that is no JSON", "ValueError",
    beside(
        ToolUse(EDITOR, raw='{"command": "view", "path": train.py}'),
        lambda call: replace(call, raw='{"command": "str_replace", "path": train.py}'),
    ),
)  # fmt: skip
OUTSIDE_FILES = Fault(
    "outside", "an edit outside the allowed files", "tool_use",
    beside(
        ToolUse(EDITOR, {"command": "create", "path": OUTSIDE, "file_text": "print('out')\n"}),
        lambda call: replace(call, input={**call.input, "path": OUTSIDE}),
    ),
    lost=False,
)  # fmt: skip


# --- usage -------------------------------------------------------------------------------------------------


def used(name: str, says: str, usage: Mapping[str, Any]) -> Fault:
    def strike(turn: Turn, place: Place) -> Answer:
        return replace(turn, usage=usage)

    return Fault(name, says, "tool_use", strike, places=("during",), lost=False)


def _input(tail: int, written: int, read: int) -> dict[str, Any]:
    return {
        "input_tokens": tail,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": written},
    }


# The proposal of the published estimate: 14K of prefix, 2K of tail.
CACHE_HIT = used("cache-hit", "the prefix came from the cache", _input(2_000, 0, 14_000))
CACHE_MISS = used("cache-miss", "the prefix was written to the cache", _input(2_000, 14_000, 0))

ALL = (
    DROP, CUT, STALL, PINGS, EOF, STREAM_ERROR, OPEN, RESET,
    BAD_REQUEST, UNAUTHORIZED, NO_CREDIT, FORBIDDEN, NOT_FOUND, TOO_LARGE, RATE_LIMIT, RATE_LIMIT_MS, SPEND_LIMIT,
    SERVER_ERROR, TIMED_OUT, OVERLOADED,
    REFUSAL, REFUSAL_MIDWAY, MAX_TOKENS, CONTEXT_FULL, PAUSE, BAD_JSON, OUTSIDE_FILES, CACHE_HIT, CACHE_MISS,
)  # fmt: skip
NAMED = {fault.name: fault for fault in ALL}


def matrix() -> list[Case]:
    """Every fault at every place where it can strike."""
    return [Case(fault, place) for fault in ALL for place in fault.places]


class Faulty:
    """``script`` with ``fault`` at its first edits, ``times`` times (-1: always); then as if nothing had been.

    Whoever loses an answer and asks again gets that answer: the same request, the same words; another one (a
    fallback, a word added), the same step of a script that counts.
    """

    def __init__(self, script: Script, fault: Fault, place: Place, times: int = 1) -> None:
        if place not in fault.places:
            raise ValueError(f"{fault.name} cannot strike {place} an edit: {', '.join(fault.places)}")
        self.script, self.fault, self.place, self.left = script, fault, place, times
        self.struck = 0
        self._lost = 0
        self._owed: dict[str, Answer] = {}

    def __call__(self, body: Body, n: int) -> Answer:
        asked = json.dumps(body["messages"])
        answer = self._owed.get(asked) or self.script(body, n - self._lost)
        if not self.left or not isinstance(answer, Turn) or not self._due(body, answer):
            return answer
        self.left -= 1
        self.struck += 1
        if self.fault.lost:
            self._lost += 1
            self._owed[asked] = answer
        return self.fault.strike(answer, self.place)

    def _due(self, body: Body, answer: Turn) -> bool:
        if self.fault.scope == "request" and self.place == "after":
            return bool(edit_results(body))
        return edit_at(answer) is not None


def faulty(script: Script, fault: Fault, place: Place | None = None, times: int = 1) -> Faulty:
    """``place`` None: the first one that the fault has."""
    return Faulty(script, fault, place or fault.places[0], times)


def edit_results(body: Body) -> list[str]:
    """Ids of the edits whose results the last message carries."""
    *earlier, last = body["messages"]
    results = {
        block.get("tool_use_id") for block in content(last["content"]) if block.get("type") == "tool_result"
    }
    return [
        block["id"]
        for message in earlier
        if message["role"] == "assistant"
        for block in content(message["content"])
        if block.get("type") == "tool_use"
        and block.get("id") in results
        and is_edit(ToolUse(block["name"], block.get("input") or {}))
    ]
