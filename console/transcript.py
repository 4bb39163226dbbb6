"""A draft's conversation as lines to read: who said what, tools with their arguments and answers. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from console.plain_text import clean, clean_lines
from engine.store.rows import MessageRow

MOST_LINES = 400  # of one block: a whole file in a tool's answer is in the diff too
BEGINS = "system"  # the role of a conversation's first message, and of no other
CUT = "— cut here: the engine stopped —"


def lines(messages: Sequence[MessageRow]) -> list[str]:
    """Every line is free of terminal escapes and control characters."""
    found: list[str] = []
    for i, message in enumerate(messages):
        if i and message.role == BEGINS:  # the next engine begins a draft anew that it finds half done
            found += [CUT, ""]
        found.append(f"=== {clean(message.role)} ===")
        for heading, text in _blocks(message.content):
            found += [f"--- {clean(heading)} ---"] if heading else []
            body = clean_lines(text)
            found += body[:MOST_LINES]
            if len(body) > MOST_LINES:
                found.append(f"... {len(body) - MOST_LINES} more lines")
        found.append("")
    return found


def _blocks(content: Any) -> Iterator[tuple[str, str]]:
    """(heading, text) of every part of a message, whatever shape a server gave it."""
    if isinstance(content, str):
        yield "", content
        return
    for block in content if isinstance(content, list) else [content]:
        if not isinstance(block, dict):
            yield "", str(block)
            continue
        kind = str(block.get("type", ""))
        if kind == "text":
            yield "", str(block.get("text", ""))
        elif kind == "thinking":
            yield "thinking", str(block.get("thinking", ""))
        elif kind == "tool_use":
            yield f"calls {block.get('name', '?')}", json.dumps(block.get("input"), ensure_ascii=False, indent=2)
        elif kind == "tool_result":
            heading = "refused" if block.get("is_error") else "answer"
            for inner, text in _blocks(block.get("content", "")):
                yield inner or heading, text
        else:
            yield kind, json.dumps(block, ensure_ascii=False, indent=2)
