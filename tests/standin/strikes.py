"""What a fault makes of a turn: functions (turn, place) -> answer, places relative to the turn's first edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from tests.standin.script import Answer, Block, Break, Breakage, Place, StopReason, Text, ToolUse, Turn

EDITOR = "str_replace_based_edit_tool"
Strike = Callable[[Turn, Place], Answer]


def is_edit(block: Block) -> bool:
    return isinstance(block, ToolUse) and block.input.get("command") in ("create", "str_replace", "insert")


def edit_at(turn: Turn) -> int | None:
    """Which block of the turn is its first edit."""
    return next((i for i, block in enumerate(turn.blocks) if is_edit(block)), None)


def broken(kind: Breakage) -> Strike:
    def strike(turn: Turn, place: Place) -> Answer:
        return replace(turn, fault=Break(kind, place, edit_at(turn)))

    return strike


def answered(answer: Answer) -> Strike:
    return lambda turn, place: answer


def half(call: ToolUse) -> ToolUse:
    """The call as it is when the model stops in the middle of writing it: JSON without an end."""
    written = json.dumps(call.input, ensure_ascii=False)
    return replace(call, raw=written[: max(1, len(written) // 2)])


def stopped(reason: StopReason, category: str | None = None) -> Strike:
    def strike(turn: Turn, place: Place) -> Answer:
        index = edit_at(turn)
        kept = list(turn.blocks)
        if index is not None:
            call = kept[index]
            assert isinstance(call, ToolUse)
            left: dict[Place, list[Block]] = {"before": [], "during": [half(call)], "after": [call]}
            kept = kept[:index] + left[place]
        return replace(turn, blocks=kept, stop_reason=reason, category=category)

    return strike


def silent_refusal(turn: Turn, place: Place) -> Answer:
    return Turn(stop_reason="refusal", category="frontier_llm")


def paused(turn: Turn, place: Place) -> Answer:
    """Ends before the turn's first tool call; sent again as it is, it goes on."""
    first = next((i for i, block in enumerate(turn.blocks) if isinstance(block, ToolUse)), len(turn.blocks))
    return replace(turn, blocks=turn.blocks[:first] or [Text("One moment.")], stop_reason="pause_turn")


def beside(extra: ToolUse, instead: Callable[[ToolUse], ToolUse]) -> Strike:
    """``extra`` before or after the edit, or the edit itself changed."""

    def strike(turn: Turn, place: Place) -> Answer:
        index = edit_at(turn)
        kept = list(turn.blocks)
        if index is None:
            return replace(turn, blocks=[*kept, extra])
        call = kept[index]
        assert isinstance(call, ToolUse)
        other = replace(extra, name=call.name)  # the editor may be a custom tool
        new = {"before": [other, call], "during": [instead(call)], "after": [call, other]}[place]
        return replace(turn, blocks=[*kept[:index], *new, *kept[index + 1 :]])

    return strike
