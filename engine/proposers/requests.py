"""What is sent: the arguments of ``messages.stream``, built so that the stable prefix is read from cache. Pure.

Order: tools, system, older history, files (the same bytes from proposal to proposal), then the task and the
growing conversation. At most four cache breakpoints: system, history, files, and one that moves with the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.prompting import Prompt

Block = dict[str, Any]
Turn = dict[str, Any]  # {"role": ..., "content": [blocks]}

LONG_TRIAL = 120.0  # seconds: from here on the next proposal tends to come after a 5-minute entry is gone
TTL_SECONDS = {"5m": 300.0, "1h": 3600.0}

# Models that think by a budget and know no effort; whatever else a server lacks is named in `without`.
_BUDGETED = ("claude-haiku-4-5",)
_LEAST_BUDGET = 1024  # tokens; the service refuses less

# The service adds instructions of its own to requests with tools (hundreds of tokens, it says per model).
_HIDDEN_TOKENS = 2000
_TOKENS_A_BLOCK = 16  # roles and separators around each message and block


def cache_ttl(trial_seconds: float, without: Collection[str] = ()) -> str:
    """How long the stable prefix should live: "1h", "5m", or "" when the server has no cache."""
    if "cache" in without:
        return ""
    return "1h" if trial_seconds >= LONG_TRIAL else "5m"


def build(
    prompt: Prompt,
    tools: Sequence[Mapping[str, Any]],
    conversation: Sequence[Turn],
    *,
    model: str,
    effort: str,
    max_tokens: int,
    without: Collection[str] = (),
    ttl: str = "",
) -> dict[str, Any]:
    """The keyword arguments of ``messages.stream``. ``conversation``: what came after the first message.

    ``without``: effort, thinking, cache are left out here; strict, eager and editor concern ``tools``.
    """
    kwargs: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
    if tools:
        kwargs["tools"] = [dict(tool) for tool in tools]
    if prompt.system:
        kwargs["system"] = [_marked(_text(prompt.system), ttl)]
    messages = [{"role": "user", "content": opening(prompt, ttl)}, *conversation]
    kwargs["messages"] = _moving(messages) if ttl else messages
    budgeted = model.startswith(_BUDGETED)
    if "thinking" not in without:
        if not budgeted:
            kwargs["thinking"] = {"type": "adaptive", "display": "summarized"}
        elif max_tokens >= 2 * _LEAST_BUDGET:
            kwargs["thinking"] = {"type": "enabled", "budget_tokens": max(_LEAST_BUDGET, max_tokens // 4)}
    if "effort" not in without and not budgeted:
        kwargs["output_config"] = {"effort": effort}
    return kwargs


def opening(prompt: Prompt, ttl: str = "") -> list[Block]:
    """The first message's blocks: history, files, task. Empty ones are left out: the service refuses them."""
    history = [_text(text) for text in prompt.history if text]
    if history:
        history[-1] = _marked(history[-1], ttl)
    files = [_marked(_text(prompt.files), ttl)] if prompt.files else []
    return [*history, *files, *([_text(prompt.task)] if prompt.task else [])]


def stable_prefix(kwargs: Mapping[str, Any]) -> bytes:
    """What a later request must repeat byte for byte to read it from cache: all up to the files, as JSON."""
    first = kwargs["messages"][0]["content"]
    # The task is the one block of the first message that differs from proposal to proposal, and its last.
    parts = [kwargs.get("tools"), kwargs.get("system"), first[:-1]]
    return json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")


def prefix_hash(kwargs: Mapping[str, Any]) -> str:
    """Names a cache entry: the stable prefix, and what breaks the cache when it changes."""
    setting = json.dumps([kwargs["model"], kwargs.get("thinking"), kwargs.get("output_config")])
    return hashlib.sha256(setting.encode() + b"\0" + stable_prefix(kwargs)).hexdigest()


def input_estimate(kwargs: Mapping[str, Any]) -> int:
    """Input tokens that the request is sure to stay under, from its bytes alone, for a reservation.

    Letters and spaces of ASCII count half a token, every other byte a whole one, then a fixed sum for what the
    service adds. A token of these tokenizers covers at least one byte, and words and code average three to four
    a token, so this is one and a half to three times the truth; only long runs of random letters come near it.
    What is too much is free again when the request is settled.
    """
    parts = [kwargs.get("system"), kwargs.get("tools"), kwargs["messages"]]
    data = json.dumps(parts, ensure_ascii=False).encode("utf-8", "surrogatepass")
    plain = len(data) - len(data.translate(None, _PLAIN))
    blocks = sum(len(turn["content"]) for turn in kwargs["messages"])
    return _HIDDEN_TOKENS + _TOKENS_A_BLOCK * blocks + (plain + 1) // 2 + len(data) - plain


_PLAIN = b" abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _marked(block: Block, ttl: str) -> Block:
    return {**block, "cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else block


def _moving(messages: list[Turn]) -> list[Turn]:
    """The conversation's end as a breakpoint of five minutes: its next request comes within seconds.

    Nothing that was sent is changed, only marked: a conversation is append-only.
    """
    last = messages[-1]
    content = list(last["content"])
    for index in range(len(content) - 1, -1, -1):
        if content[index]["type"] in ("text", "tool_use", "tool_result"):
            if "cache_control" not in content[index]:
                content[index] = _marked(content[index], "5m")
            return [*messages[:-1], {**last, "content": content}]
    return messages
