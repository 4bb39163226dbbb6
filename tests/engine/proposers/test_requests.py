"""What is sent: order, cache breakpoints, parts that can be left out, and an estimate that is never too small."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.prompting import Prompt
from engine.proposers.requests import (
    build,
    cache_ttl,
    input_estimate,
    opening,
    prefix_hash,
    stable_prefix,
)
from tests.standin.checks import refused
from tests.standin.faults import EDITOR

ROOT = Path(__file__).resolve().parents[3]
TOOLS = [{"type": "text_editor_20250728", "name": EDITOR}]


ASKED = Prompt(
    system="You are a researcher.",
    history=("experiments 1 to 10", "experiments 11 to 20"),
    files="LR = 0.02\n",
    task="Propose number 21.",
)
TURNS = [
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": EDITOR, "input": {"command": "view", "path": "train.py"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "LR = 0.02"}]},
]


def built(prompt: Prompt | None = None, turns: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"model": "claude-opus-5-5", "effort": "medium", "max_tokens": 16_000, "ttl": "1h"}
    return build(prompt or ASKED, TOOLS, turns or [], **settings | more)


def marks(kwargs: dict[str, Any]) -> list[tuple[str, str]]:
    """(text or type of the marked block, ttl), in order."""
    blocks = [*kwargs.get("tools", []), *kwargs.get("system", [])]
    blocks += [block for message in kwargs["messages"] for block in message["content"]]
    return [
        (str(block.get("text", block["type"])), block["cache_control"]["ttl"])
        for block in blocks
        if "cache_control" in block
    ]


def test_the_stable_part_comes_first_with_long_breakpoints_and_the_end_has_a_short_one() -> None:
    kwargs = built()
    assert [block["text"] for block in kwargs["messages"][0]["content"]] == [
        "experiments 1 to 10",
        "experiments 11 to 20",
        "LR = 0.02\n",
        "Propose number 21.",
    ]
    assert marks(kwargs) == [
        ("You are a researcher.", "1h"),
        ("experiments 11 to 20", "1h"),
        ("LR = 0.02\n", "1h"),
        ("Propose number 21.", "5m"),
    ]


def test_the_last_breakpoint_moves_with_the_conversation_and_changes_nothing_that_was_sent() -> None:
    first, second = built(), built(turns=TURNS)
    assert marks(second)[-1] == ("tool_result", "5m") and len(marks(second)) == 4
    plain = json.loads(json.dumps(second["messages"][0]))
    for block in (*plain["content"], *first["messages"][0]["content"]):
        block.pop("cache_control", None)
    assert plain == first["messages"][0]
    assert "cache_control" not in json.dumps(TURNS)


@pytest.mark.parametrize("turns", [[], TURNS, [*TURNS, {"role": "assistant", "content": TURNS[0]["content"][:1]}]])
@pytest.mark.parametrize("model", ["claude-opus-5-5", "claude-haiku-4-5", "claude-sonnet-4-6", "claude-fable-5-2"])
def test_the_service_takes_every_request(model: str, turns: list[Any]) -> None:
    for ttl in ("", "5m", "1h"):
        for without in ((), ("effort",), ("thinking",), ("effort", "thinking")):
            body = built(turns=turns, model=model, ttl=ttl, without=without)
            assert refused(body, paused=True) is None


def test_the_prefix_is_the_same_bytes_from_proposal_to_proposal() -> None:
    one = built(replace(ASKED, task="Propose number 21."))
    two = built(replace(ASKED, task="Propose number 22, a note from a person."), TURNS)
    assert stable_prefix(one) == stable_prefix(two)
    assert prefix_hash(one) == prefix_hash(two)
    assert stable_prefix(built(replace(ASKED, files="LR = 0.03\n"))) != stable_prefix(one)


def test_what_breaks_the_cache_makes_another_prefix() -> None:
    hashes = {
        prefix_hash(built(**more))
        for more in ({}, {"model": "claude-opus-5"}, {"effort": "high"}, {"without": ("thinking",)})
    }
    assert len(hashes) == 4


@pytest.mark.parametrize("part", ["effort", "thinking", "cache"])
def test_what_a_server_does_not_speak_is_left_out(part: str) -> None:
    ttl = cache_ttl(300, (part,))
    kwargs = built(without=(part,), ttl=ttl)
    sent = json.dumps(kwargs)
    assert ("output_config" in kwargs) == (part != "effort")
    assert ("thinking" in kwargs) == (part != "thinking")
    assert ("cache_control" in sent) == (part != "cache")


def test_a_model_that_thinks_by_budget_gets_one_and_no_effort() -> None:
    kwargs = built(model="claude-haiku-4-5-20251001")
    assert kwargs["thinking"] == {"type": "enabled", "budget_tokens": 4000}
    assert "output_config" not in kwargs
    assert "thinking" not in built(model="claude-haiku-4-5", max_tokens=1500)


def test_long_trials_ask_for_an_hour_and_short_ones_for_five_minutes() -> None:
    assert [cache_ttl(seconds) for seconds in (0, 20, 119, 120, 300)] == ["5m", "5m", "5m", "1h", "1h"]


def test_empty_parts_are_left_out() -> None:
    prompt = Prompt(system="", history=("",), files="", task="go")
    assert opening(prompt) == [{"type": "text", "text": "go"}]
    kwargs = built(prompt)
    assert "system" not in kwargs and refused(kwargs) is None


def test_the_estimate_is_above_four_bytes_a_token_and_far_below_a_byte() -> None:
    for path in ("engine/types.py", "sample_project/train.py", "README.md"):
        text = (ROOT / path).read_text()
        kwargs = built(replace(ASKED, files=text))
        size = len(json.dumps(kwargs).encode())
        assert size / 3 < input_estimate(kwargs) < size + 3000


def test_the_estimate_counts_what_is_no_plain_text_by_its_bytes() -> None:
    rng = random.Random(1)
    for alphabet in ("0123456789", "{}[]();:=+-*/", "\u4e2d\u6587\u5b57", "\U0001f600\U0001f680"):
        text = "".join(rng.choice(alphabet) for _ in range(5000))
        assert input_estimate(built(replace(ASKED, files=text))) >= len(text.encode())
