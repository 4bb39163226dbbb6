"""A request as the service reads it: one sequence of blocks, tools -> system -> messages, each with a digest of
all up to it. The prompt cache and the signatures of thinking blocks both stand on these digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.standin.script import Body

BYTES_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Block:
    """``role``: tool, system, user or assistant. ``ttl``: of a cache breakpoint here ("5m", "1h"), else ""."""

    role: str
    raw: Mapping[str, Any]
    tokens: int
    before: bytes  # digest of everything before this block
    digest: bytes  # ... and with it
    ttl: str


def tokens(text: str) -> int:
    """An estimate that is the same everywhere: four bytes a token, rounded up, at least one."""
    return max(1, -(-len(text.encode(errors="surrogatepass")) // BYTES_PER_TOKEN))


def content(value: Any) -> list[Mapping[str, Any]]:
    """A string is shorthand for one text block."""
    if isinstance(value, str):
        return [{"type": "text", "text": value}]
    return [block for block in value if isinstance(block, Mapping)] if isinstance(value, list) else []


def canonical(block: Mapping[str, Any]) -> str:
    """The block's meaning as JSON: without cache markers, and without what a client adds in replaying it."""
    kind = block.get("type")
    if kind == "text":
        meaning: Any = ["text", block.get("text")]
    elif kind == "thinking":
        meaning = ["thinking", block.get("thinking"), block.get("signature")]
    elif kind == "tool_use":
        # Not sorted: an input whose keys come back in another order is another prefix.
        meaning = ["tool_use", block.get("id"), block.get("name"), block.get("input")]
    elif kind == "tool_result":
        inner = [canonical(one) for one in content(block.get("content", []))]
        meaning = ["tool_result", block.get("tool_use_id"), inner, bool(block.get("is_error"))]
    else:
        meaning = {key: value for key, value in block.items() if key != "cache_control"}
    return json.dumps(meaning, ensure_ascii=False)


def chained(before: bytes, role: str, text: str) -> bytes:
    return hashlib.sha256(b"\0".join((before, role.encode(), text.encode(errors="surrogatepass")))).digest()


def blocks(body: Body) -> list[Block]:
    """Every block of the request, the automatic breakpoint of a top-level ``cache_control`` set."""
    parts = list(_parts(body))
    marks = [_ttl(raw.get("cache_control")) for _, raw in parts]
    automatic = _ttl(body.get("cache_control"))
    if automatic:
        last = next((i for i in reversed(range(len(parts))) if cacheable(parts[i][1])), None)
        if last is not None and not marks[last]:
            marks[last] = automatic
    found, digest = [], b""
    for (role, raw), ttl in zip(parts, marks, strict=True):
        text = canonical(raw)
        before, digest = digest, chained(digest, role, text)
        found.append(Block(role, raw, tokens(text), before, digest, ttl))
    return found


def cacheable(raw: Mapping[str, Any]) -> bool:
    kind = raw.get("type")
    return kind not in ("thinking", "redacted_thinking") and not (kind == "text" and not raw.get("text"))


def _ttl(mark: Any) -> str:
    return str(mark.get("ttl") or "5m") if isinstance(mark, Mapping) else ""


def _parts(body: Body) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for tool in body.get("tools") or []:
        yield "tool", tool
    for block in content(body.get("system") or []):
        yield "system", block
    for message in body.get("messages") or []:
        for block in content(message.get("content")):
            yield str(message.get("role")), block


def size(parts: Sequence[Block]) -> int:
    return sum(part.tokens for part in parts)


def total(body: Body) -> int:
    """Input tokens of a request, whatever of them is cached: what count_tokens answers."""
    return size(blocks(body))
