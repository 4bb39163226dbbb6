"""What the service refuses before it runs the model: a request body -> an error, or nothing.

Wording is the stand-in's own where the service's is not published; status and type are the service's.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.standin.models import CATALOGUE, Model
from tests.standin.prefix import Block, blocks, cacheable, content, total
from tests.standin.script import Body, HttpError

MOST_BREAKPOINTS = 4
SAMPLING = ("temperature", "top_p", "top_k")
# Of ``anthropic.types.MessageCreateParams``, with those above, which have a message of their own.
KNOWN = {
    "model", "messages", "max_tokens", "cache_control", "container", "diagnostics", "inference_geo", "metadata",
    "output_config", "service_tier", "speed", "stop_sequences", "stream", "system", "thinking", "tool_choice",
    "tools", *SAMPLING,
}  # fmt: skip
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class Refused(Exception):
    """A reason for 400, raised by the checks below."""


def refused(body: Any, *, counting: bool = False, paused: bool = False) -> HttpError | None:
    """The error that the service answers to this request, None when it is in order.

    ``counting``: count_tokens, which has no max_tokens. ``paused``: the messages end in a turn that this server
    paused, so the last one may be the assistant's.
    """
    try:
        model = _body(body, counting)
        if isinstance(model, HttpError):
            return model
        _tools(body)
        _messages(body["messages"], model, paused)
        _cache(body)
        _signatures(body)
        needed = total(body)
        if needed > model.max_input_tokens:
            raise Refused(f"prompt is too long: {needed} tokens > {model.max_input_tokens} maximum")
    except Refused as reason:
        return HttpError(400, "invalid_request_error", str(reason))
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ) as fault:  # a list where an object belongs, and the like
        return HttpError(400, "invalid_request_error", f"malformed request: {fault}")
    return None


def _body(body: Any, counting: bool) -> Model | HttpError:
    if not isinstance(body, Mapping):
        raise Refused("The request body must be a JSON object")
    for key in body:
        if key not in KNOWN:
            raise Refused(f"{key}: Extra inputs are not permitted")
    for key in SAMPLING:
        if key in body:
            raise Refused(f"{key}: this parameter is no longer supported")
    if not isinstance(body.get("model"), str):
        raise Refused("model: Field required")
    model = CATALOGUE.get(body["model"])
    if model is None:
        return HttpError(404, "not_found_error", f"model: {body['model']}")
    _most(body, model, counting)
    _thinking(body, model)
    choice = body.get("tool_choice") or {}
    if choice.get("type") in ("any", "tool") and not model.forced_tools:
        raise Refused(f"tool_choice: type `{choice['type']}` is not supported on {model.id}; use `auto`")
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Refused("messages: at least one message is required")
    return model


def _most(body: Body, model: Model, counting: bool) -> None:
    if counting:
        return
    most = body.get("max_tokens")
    if most is None:
        raise Refused("max_tokens: Field required")
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise Refused("max_tokens: Input should be a non-negative integer")
    if most > model.max_tokens:
        raise Refused(
            f"max_tokens: {most} > {model.max_tokens}, which is the maximum allowed number of output tokens for"
            f" {model.id}"
        )


def _thinking(body: Body, model: Model) -> None:
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and effort not in model.effort:
        raise Refused(f"output_config.effort: `{effort}` is not supported on {model.id}")
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type")
    if kind not in model.thinking:
        raise Refused(f"thinking.type: `{kind}` is not supported on {model.id}")
    budget = thinking.get("budget_tokens")
    if kind != "enabled":
        if budget is not None:
            raise Refused(f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
    elif not isinstance(budget, int) or not 1024 <= budget < body.get("max_tokens", budget + 1):
        raise Refused("thinking.enabled.budget_tokens: must be at least 1024 and less than max_tokens")


def _tools(body: Body) -> None:
    names: set[str] = set()
    for index, tool in enumerate(body.get("tools") or []):
        where, name = f"tools.{index}", tool.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise Refused(f"{where}.name: should match {_NAME.pattern}")
        if name in names:
            raise Refused("tools: Tool names must be unique")
        names.add(name)
        kind = tool.get("type") or "custom"
        if kind == "text_editor_20250728":
            if name != "str_replace_based_edit_tool":
                raise Refused(f"{where}.{kind}.name: Input should be 'str_replace_based_edit_tool'")
            if "input_schema" in tool or "eager_input_streaming" in tool:
                raise Refused(f"{where}.{kind}: input_schema and eager_input_streaming are for custom tools")
        elif kind != "custom":
            raise Refused(f"{where}: tool type `{kind}` is none that the stand-in serves")
        else:
            schema = tool.get("input_schema")
            if not isinstance(schema, Mapping) or schema.get("type") != "object":
                raise Refused(f"{where}.custom.input_schema.type: Field required")
            if tool.get("strict"):
                _strict(schema, f"{where}.custom.input_schema")


def _strict(schema: Any, where: str) -> None:
    """A strict schema closes every object."""
    if isinstance(schema, list):
        for index, one in enumerate(schema):
            _strict(one, f"{where}.{index}")
    elif isinstance(schema, Mapping):
        kinds = schema.get("type")
        if (kinds == "object" or (isinstance(kinds, list) and "object" in kinds)) and schema.get(
            "additionalProperties"
        ) is not False:
            raise Refused(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
        for key, value in schema.items():
            _strict(value, f"{where}.{key}")


def _messages(messages: list[Any], model: Model, paused: bool) -> None:
    turns = list(_turns(messages))
    if turns[0][0] != "user":
        raise Refused("messages: first message must use the `user` role")
    if turns[-1][0] == "assistant" and not model.prefill and not paused:
        raise Refused(f"{model.id} does not support prefill: the last message must use the `user` role")
    open_calls: list[str] = []
    for index, (role, parts) in enumerate(turns):
        results = [str(part.get("tool_use_id")) for part in parts if part.get("type") == "tool_result"]
        if role == "assistant":
            calls = [str(part.get("id")) for part in parts if part.get("type") == "tool_use"]
            if results:
                raise Refused(f"messages.{index}: tool_result blocks belong into user messages")
            open_calls = calls
            continue
        for one in results:
            if one not in open_calls:
                raise Refused(
                    f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {one}. Each"
                    " `tool_result` block must have a corresponding `tool_use` block in the previous message."
                )
        if len(set(results)) != len(results):
            raise Refused(f"messages.{index}: each tool_use must have a single result")
        if missing := [one for one in open_calls if one not in results]:
            raise Refused(
                f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks immediately after:"
                f" {', '.join(missing)}"
            )
        kinds = [part.get("type") for part in parts]
        if results and kinds[: len(results)] != ["tool_result"] * len(results):
            raise Refused(f"messages.{index}: `tool_result` blocks must come before other content")
        open_calls = []
    if open_calls and not paused:
        raise Refused(f"messages: `tool_use` ids were found without `tool_result` blocks: {', '.join(open_calls)}")


def _turns(messages: list[Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Consecutive messages of one role are one turn (the package's own words for ``messages``)."""
    role, held = "", list[Mapping[str, Any]]()
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or message.get("role") not in ("user", "assistant", "system"):
            raise Refused(f"messages.{index}.role: Input should be 'user', 'assistant' or 'system'")
        parts = content(message.get("content"))
        if not parts:
            raise Refused(f"messages.{index}: all messages must have non-empty content")
        if any(part.get("type") == "text" and not part.get("text") for part in parts):
            raise Refused(f"messages.{index}: text content blocks must be non-empty")
        if message["role"] != role and held:
            yield role, held
            held = []
        role = message["role"]
        held += parts
    yield role, held


def _cache(body: Body) -> None:
    parts = blocks(body)
    marked = [part for part in parts if part.ttl]
    for part in marked:
        if part.ttl not in ("5m", "1h"):
            raise Refused("cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
        if not cacheable(part.raw):
            raise Refused("cache_control cannot be set for thinking blocks or empty text blocks")
    if len(marked) > MOST_BREAKPOINTS:
        raise Refused(
            f"A maximum of {MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {len(marked)}."
        )
    order = [part.ttl for part in marked]
    if order != sorted(order):  # "1h" < "5m"
        raise Refused(
            "cache_control: a ttl='1h' block must not come after a ttl='5m' block. Blocks are processed in the"
            " order `tools`, `system`, `messages`"
        )


def sign(before: bytes, thinking: str) -> str:
    """The signature of a thinking block with that text (as sent) after the prefix with that digest."""
    return base64.b64encode(b"stand-in" + hashlib.sha256(before + thinking.encode()).digest()).decode()


def _signatures(body: Body) -> None:
    """A thinking block comes back unchanged and after the very prefix it was made for."""
    for index, part in enumerate(blocks(body)):
        if part.raw.get("type") == "thinking" and not _signed(part):
            raise Refused(
                f"content.{index}: Invalid `signature` in `thinking` block: it, or `system`, `tools` or an earlier"
                " message, is not what it was when the block was made"
            )


def _signed(part: Block) -> bool:
    return part.raw.get("signature") == sign(part.before, str(part.raw.get("thinking")))
