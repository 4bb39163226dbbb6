"""A turn as it goes over the wire: a whole message as JSON, or the frames of a stream. Pure.

Where the service's timing shows, frames carry it: a tool's input is sent as it is written only with
``eager_input_streaming``; else each parameter is written first and then sent in one burst.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.standin.checks import sign
from tests.standin.models import CATALOGUE
from tests.standin.prefix import BYTES_PER_TOKEN, blocks, canonical, chained, tokens
from tests.standin.script import Block, Body, Break, Text, Thinking, ToolUse, Turn

CALL_TOKENS = 20  # of a tool call, besides its input
REFUSAL = {"type": "refusal", "category": None, "explanation": None}


@dataclass(frozen=True, slots=True)
class Frame:
    """One SSE event. ``tokens`` are written before it can be sent. ``block`` -1: before all, None: after all."""

    data: Mapping[str, Any]
    tokens: float = 0.0
    block: int | None = -1

    def encode(self) -> bytes:
        # As on the real wire, JSON with spaces and beyond ASCII unescaped.
        return f"event: {self.data['type']}\ndata: {json.dumps(self.data, ensure_ascii=False)}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Part:
    """A block as it is sent: ``body`` its text or JSON, ``shown`` False for thinking that is kept back."""

    source: Block
    body: str
    tokens: int
    id: str = ""
    signature: str = ""
    shown: bool = True

    def to_json(self) -> dict[str, Any]:
        if isinstance(self.source, Thinking):
            return {"type": "thinking", "thinking": self.body if self.shown else "", "signature": self.signature}
        if isinstance(self.source, Text):
            return {"type": "text", "text": self.body, "citations": None}
        return {
            "type": "tool_use",
            "id": self.id,
            "name": self.source.name,
            "input": _lenient(self.body),
            "caller": {"type": "direct"},
        }


@dataclass(frozen=True, slots=True)
class Message:
    """An answer, complete: what was asked and scripted, with ids, signatures and usage filled in."""

    turn: Turn
    id: str
    model: str
    parts: tuple[Part, ...]
    stop_reason: str
    stop_details: Mapping[str, Any] | None
    usage: Mapping[str, Any]
    eager: frozenset[str]  # tools with eager_input_streaming
    digest: bytes  # of the request and this answer: the prefix that an answer to it would have

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [part.to_json() for part in self.parts],
            "stop_reason": self.stop_reason,
            "stop_sequence": self.turn.stop_sequence,
            "stop_details": self.stop_details,
            "usage": dict(self.usage),
        }


def compose(turn: Turn, body: Body, usage: Mapping[str, Any], n: int) -> Message:
    """``turn`` as the answer to ``body``. ``usage``: the input side. Cut where ``max_tokens`` are spent."""
    prefix = blocks(body)
    digest = prefix[-1].digest
    name = hashlib.sha256(digest + str(n).encode()).hexdigest()
    model = CATALOGUE[body["model"]]
    thinking = body.get("thinking") or {}
    kind = thinking.get("type", "adaptive" if model.reasons else "disabled")
    left, parts, cut = int(body["max_tokens"]), list[Part](), False
    for source in turn.blocks:
        if isinstance(source, Thinking) and kind not in ("adaptive", "enabled"):
            continue
        if left <= 0:
            cut = True
            break
        shown = not isinstance(source, Thinking) or thinking.get("display") == "summarized"
        part = _part(source, digest, f"toolu_{name[:8]}{len(parts):02d}{name[8:22]}", shown)
        if part.tokens > left:
            cut, part = True, _shortened(part, left, digest)
        parts.append(part)
        left -= part.tokens
        digest = chained(digest, "assistant", canonical(part.to_json()))
        if cut:
            break
    calls = any(isinstance(part.source, ToolUse) for part in parts)
    reason = turn.stop_reason or ("tool_use" if calls else "end_turn")
    if cut or body["max_tokens"] == 0:
        reason = "max_tokens"
    return Message(
        turn=turn,
        id=f"msg_{name[:24]}",
        model=model.id,
        parts=tuple(parts),
        stop_reason=reason,
        stop_details={**REFUSAL, "category": turn.category, "explanation": turn.explanation}
        if reason == "refusal"
        else None,
        usage=_usage(usage, parts, turn.usage),
        eager=frozenset(tool["name"] for tool in body.get("tools") or [] if tool.get("eager_input_streaming")),
        digest=digest,
    )


def _usage(given: Mapping[str, Any], parts: Sequence[Part], overrides: Mapping[str, Any]) -> dict[str, Any]:
    thought = sum(part.tokens for part in parts if isinstance(part.source, Thinking))
    return {
        **given,
        "output_tokens": sum(part.tokens for part in parts),
        "output_tokens_details": {"thinking_tokens": thought},
        "service_tier": "standard",
        **overrides,
    }


def _part(source: Block, before: bytes, call: str, shown: bool) -> Part:
    if isinstance(source, Thinking):
        signature = sign(before, source.text if shown else "")
        return Part(source, source.text, tokens(source.text), signature=signature, shown=shown)
    if isinstance(source, Text):
        return Part(source, source.text, tokens(source.text))
    written = source.raw if source.raw is not None else json.dumps(source.input, ensure_ascii=False)
    return Part(source, written, CALL_TOKENS + tokens(written), id=call)


def _shortened(part: Part, left: int, before: bytes) -> Part:
    """The block as it is when the tokens run out in it."""
    spare = left - (CALL_TOKENS if isinstance(part.source, ToolUse) else 0)
    body = part.body.encode()[: max(0, spare) * BYTES_PER_TOKEN].decode(errors="ignore")
    signature = sign(before, body if part.shown else "") if isinstance(part.source, Thinking) else ""
    return Part(part.source, body, left, part.id, signature, part.shown)


def _lenient(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# --- the frames of a stream ------------------------------------------------------------------------------


def frames(message: Message) -> list[Frame]:
    """message_start, a ping, each block's start, deltas and stop, message_delta, message_stop."""
    start = {
        **message.to_json(),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
        # The split of 5 min and 1 h arrives here and nowhere else; output_tokens is only a beginning.
        "usage": {**message.usage, "output_tokens": min(3, message.usage["output_tokens"])},
    }
    start["usage"].pop("output_tokens_details", None)
    found = [Frame({"type": "message_start", "message": start})]
    for index, part in enumerate(message.parts):
        found += _block(index, part, message)
    found.insert(min(2, len(found)), Frame({"type": "ping"}, block=0 if message.parts else None))
    usage = {
        key: message.usage[key]
        for key in (
            "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens",
            "output_tokens_details",
        )
        if key in message.usage
    }  # fmt: skip
    delta: dict[str, Any] = {"stop_reason": message.stop_reason, "stop_sequence": message.turn.stop_sequence}
    if message.stop_details is not None:
        delta["stop_details"] = message.stop_details
    found.append(Frame({"type": "message_delta", "delta": delta, "usage": usage}, block=None))
    found.append(Frame({"type": "message_stop"}, block=None))
    return found


def _block(index: int, part: Part, message: Message) -> Iterator[Frame]:
    def delta(kind: str, key: str, value: str, cost: float) -> Frame:
        content = {"type": kind, key: value}
        return Frame({"type": "content_block_delta", "index": index, "delta": content}, cost, index)

    empty = part.to_json()
    if isinstance(part.source, Thinking):
        empty |= {"thinking": "", "signature": ""}
    elif isinstance(part.source, Text):
        empty |= {"text": ""}
    else:
        empty |= {"input": {}}
    yield Frame({"type": "content_block_start", "index": index, "content_block": empty}, 0.0, index)
    size = message.turn.chunk
    if isinstance(part.source, Thinking):
        if part.shown:
            for piece in _pieces(part.body, size):
                yield delta("thinking_delta", "thinking", piece, tokens(piece))
        # Thinking that is not shown takes its time all the same: silence on the wire.
        silent = 0.0 if part.shown else float(part.tokens)
        yield delta("signature_delta", "signature", part.signature, silent)
    elif isinstance(part.source, Text):
        for piece in _pieces(part.body, size):
            yield delta("text_delta", "text", piece, tokens(piece))
    else:
        yield delta("input_json_delta", "partial_json", "", CALL_TOKENS)
        for parameter in [part.body] if part.source.name in message.eager else _parameters(part):
            burst = part.source.name not in message.eager
            for number, piece in enumerate(_pieces(parameter, size)):
                cost = (tokens(parameter) if number == 0 else 0) if burst else tokens(piece)
                yield delta("input_json_delta", "partial_json", piece, cost)
    yield Frame({"type": "content_block_stop", "index": index}, 0.0, index)


def _parameters(part: Part) -> list[str]:
    """The JSON of a tool's input, cut between its parameters."""
    value = _lenient(part.body)
    pieces = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in value.items()]
    whole = [("{" if i == 0 else ", ") + piece for i, piece in enumerate(pieces)]
    whole = [*whole[:-1], whole[-1] + "}"] if whole else []
    # Scripted raw text (another spelling, cut off, no JSON at all) goes out as it is.
    return whole if "".join(whole) == part.body else [part.body]


def _pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def cut(found: Sequence[Frame], message: Message, fault: Break) -> list[Frame]:
    """The frames that still go out before ``fault`` happens; all of them for "open"."""
    if fault.kind == "open":
        return list(found)
    calls = (i for i, part in enumerate(message.parts) if isinstance(part.source, ToolUse))
    target = fault.block if fault.block is not None else next(calls, len(message.parts) - 1)
    own = [number for number, frame in enumerate(found) if frame.block == target and frame.data["type"] != "ping"]
    if not own or target < 0:  # a turn without blocks: after message_start
        return list(found[:1])
    if fault.place == "before":
        return list(found[: own[0]])
    if fault.place == "after":
        return list(found[: own[-1] + 1])
    return list(found[: own[0] + max(1, len(own) // 2)])
