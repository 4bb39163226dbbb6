"""The scripted researcher makes proposals that apply to sample_project as it is, one idea after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message

from tests.engine.standin.dialogue import CHECK, EDITOR, HISTORY, SUBMIT, Desk, propose
from tests.standin.ideas import IDEAS
from tests.standin.researcher import Researcher
from tests.standin.server import Standin

TRAIN = (Path(__file__).resolve().parents[3] / "sample_project" / "train.py").read_text()


def tool_names(messages: list[dict[str, Any]]) -> list[str]:
    return [
        block.input.get("command", block.name) if block.name == EDITOR["name"] else block.name
        for message in messages
        if message["role"] == "assistant"
        for block in message["content"]
        if block.type == "tool_use"
    ]


async def test_eight_proposals_in_a_row_differ_and_each_still_compiles() -> None:
    text, titles = TRAIN, list[str]()
    async with Standin(Researcher()) as standin:
        for _ in range(8):
            desk = Desk(text, history="\n".join(f"discard: {title}" for title in titles))
            names = tool_names(await propose(standin, desk))
            assert desk.submitted is not None and not desk.refusals
            assert names[:2] == ["history", "view"] and names[-2:] == ["check", "submit"]
            assert set(names[2:-2]) == {"str_replace"}
            compile(desk.text, "train.py", "exec")
            assert desk.text != text
            titles.append(desk.submitted["title"])
            text = desk.text if len(titles) % 2 else text  # every other one is kept
    assert len(set(titles)) == 8


async def test_a_turn_thinks_and_says_its_hypothesis_before_it_edits() -> None:
    turns: list[Message] = []
    async with Standin(Researcher()) as standin:
        await propose(standin, Desk(TRAIN), watch=turns.append)
    kinds = [block.type for block in turns[1].content]
    assert kinds == ["thinking", "text", "tool_use"]
    assert IDEAS[0].hypothesis in turns[1].content[1].text  # type: ignore[union-attr]
    assert turns[-1].stop_reason == "end_turn"


@pytest.mark.parametrize("idea", IDEAS, ids=lambda idea: idea.title)
def test_every_idea_fits_the_file_and_leaves_valid_python(idea: Any) -> None:
    edits = idea.found(TRAIN)
    assert edits
    text = TRAIN
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    compile(text, "train.py", "exec")
    assert idea.found(text) != edits  # nothing is made twice


async def test_what_the_history_names_is_not_proposed_again() -> None:
    async with Standin(Researcher()) as standin:
        desk = Desk(TRAIN, history=f"#1 {IDEAS[0].title}: keep\n#2 {IDEAS[1].title.upper()}: crash")
        await propose(standin, desk)
    assert desk.submitted is not None and desk.submitted["title"] == IDEAS[2].title


async def test_after_all_ideas_it_goes_on_tuning_without_repeating_itself() -> None:
    history = "\n".join(idea.title for idea in IDEAS)
    titles: list[str] = []
    async with Standin(Researcher()) as standin:
        for _ in range(3):
            desk = Desk(TRAIN, history="\n".join([history, *titles]))
            await propose(standin, desk)
            assert desk.submitted is not None
            titles.append(desk.submitted["title"])
    assert len(set(titles)) == 3 and not set(titles) & {idea.title for idea in IDEAS}


async def test_a_file_in_the_prompt_needs_no_view() -> None:
    fence = "`" * 4
    prompts = [
        [
            {"type": "text", "text": "prepare.py: frozen\n```\nimport os\n" + "x = 1\n" * 2000 + "```\n"},
            {"type": "text", "text": f"`train.py`: editable\n{fence}\n{TRAIN}{fence}\n"},
            {"type": "text", "text": "# Your task\nPropose. ## Crashes\nTraceback (most recent call last)\n"},
        ],
        f'<file path="train.py">\n{TRAIN}</file>\nPropose one change.',
    ]
    for task in prompts:
        async with Standin(Researcher()) as standin:
            desk = Desk(TRAIN)
            assert tool_names(await propose(standin, desk, task=task, tools=[EDITOR, SUBMIT])) == [
                "str_replace",
                "submit",
            ]
            assert not desk.refusals and desk.submitted


async def test_a_refused_edit_is_looked_at_again_and_retried() -> None:
    async with Standin(Researcher()) as standin:
        desk = Desk(TRAIN, rejected=1)
        names = tool_names(await propose(standin, desk))
    assert names == ["history", "view", "str_replace", "view", "str_replace", "check", "submit"]
    assert "LEARNING_RATE = 0.002" in desk.text and desk.submitted


async def test_of_several_edits_only_the_refused_one_is_made_again() -> None:
    history = "\n".join(idea.title for idea in IDEAS if not idea.title.startswith("RMSNorm"))
    async with Standin(Researcher()) as standin:
        desk = Desk(TRAIN, history=history, rejected=1)
        names = tool_names(await propose(standin, desk))
    assert names.count("str_replace") == 4
    assert desk.text.count("nn.RMSNorm(") == 3 and "LayerNorm" not in desk.text and desk.submitted


async def test_a_crash_is_mended_under_the_same_title() -> None:
    async with Standin(Researcher(mistakes=True)) as standin:
        desk = Desk(TRAIN)
        await propose(standin, desk)
        first = desk.submitted
        assert first is not None and "self.norms(x)" in desk.text
        task = (
            f"# Your task: mend a proposal, as experiment #2\n\n{first['title']} failed.\n```\n"
            'Traceback (most recent call last):\n  File "train.py", line 151, in forward\n'
            "AttributeError: 'GPT' object has no attribute 'norms'\n```\n"
        )
        # The prompt shows the file from which the change was made; what is to be mended is in the working copy.
        shown = f"train.py: editable\n```\n{TRAIN}```\n"
        desk = Desk(desk.text)
        names = tool_names(await propose(standin, desk, task=[{"type": "text", "text": t} for t in (shown, task)]))
    assert names == ["history", "view", "str_replace", "check", "submit"]
    assert "self.norms" not in desk.text and "torch.tanh(self.head(self.norm(x))" in desk.text
    assert desk.submitted is not None and desk.submitted["title"] == first["title"]


@pytest.mark.parametrize(
    ("output", "has"),
    [
        ("step 00005 | loss: nan\nFAIL\n", "LEARNING_RATE = 0.0005"),
        ("torch.OutOfMemoryError: CUDA out of memory.\n", "BATCH_SIZE = 4"),
        ("AttributeError: 'GPT' object has no attribute 'embeding'. Did you mean: 'embedding'?", ""),
    ],
)
async def test_each_kind_of_crash_has_its_plausible_repair(output: str, has: str) -> None:
    text = TRAIN if has else TRAIN.replace("x = self.embedding(tokens)", "x = self.embeding(tokens)")
    async with Standin(Researcher()) as standin:
        desk = Desk(text)
        await propose(standin, desk, task=f"Fix this run, it failed:\n{output}")
    assert desk.submitted is not None and (has in desk.text if has else desk.text == TRAIN)


async def test_what_a_check_finds_is_mended_before_it_is_submitted() -> None:
    class Checked(Desk):
        def run(self, name: str, given: dict[str, Any]) -> str:
            if name == "check" and "self.norms" in self.text:
                return "1 problem\ntrain.py:153: undefined name 'norms'"
            return super().run(name, given)

    async with Standin(Researcher(mistakes=True)) as standin:
        desk = Checked(TRAIN)
        names = tool_names(await propose(standin, desk))
    assert names[-5:] == ["str_replace", "check", "str_replace", "check", "submit"]
    assert "self.norms" not in desk.text and desk.submitted


async def test_a_crash_it_cannot_read_is_left_without_a_submission() -> None:
    async with Standin(Researcher()) as standin:
        desk = Desk(TRAIN)
        messages = await propose(standin, desk, task="Mend this, it failed:\nsegmentation fault")
    assert desk.submitted is None and desk.text == TRAIN
    assert "broken" in messages[-1]["content"][0].text


async def test_two_drafts_beside_each_other_get_an_idea_each() -> None:
    async with Standin(Researcher()) as standin:
        one, other = Desk(TRAIN), Desk(TRAIN)
        await propose(standin, one)
        await propose(standin, other)
    assert one.submitted and other.submitted and one.submitted["title"] != other.submitted["title"]


async def test_a_submission_fills_whatever_schema_it_finds() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["title", "kind", "effect", "sure", "tags", "size", "why"],
        "$defs": {"why": {"type": "object", "additionalProperties": False, "required": ["hypothesis"],
                          "properties": {"hypothesis": {"type": "string"}}}},
        "properties": {
            "title": {"type": "string", "maxLength": 10},
            "kind": {"enum": ["speed", "optimizer"]},
            "effect": {"type": "integer", "minimum": 3},
            "sure": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            "size": {"anyOf": [{"type": "null"}, {"type": "number", "maximum": 0.5}]},
            "why": {"$ref": "#/$defs/why"},
        },
    }  # fmt: skip
    submit = {"name": "submit", "input_schema": schema, "strict": True}
    async with Standin(Researcher()) as standin:
        desk = Desk(TRAIN)
        await propose(standin, desk, tools=[EDITOR, submit, CHECK, HISTORY])
    given = desk.submitted
    assert given is not None and set(given) == set(schema["required"])  # type: ignore[call-overload]
    assert given["title"] == "Double the" and given["kind"] == "optimizer" and given["effect"] == 3
    assert given["sure"] is False and len(given["tags"]) == 1 and given["size"] == 0.5
    assert given["why"]["hypothesis"] == IDEAS[0].hypothesis


async def test_an_editor_with_a_schema_of_its_own_gets_every_property_that_it_requires() -> None:
    """For a server that does not know the standard editor, the same commands come as a custom tool."""
    names = ("command", "path", "view_range", "file_text", "old_str", "new_str", "insert_line", "insert_text")
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": list(names),
        "properties": {name: {"type": ["string", "null"]} for name in names},
    }
    editor = {"name": "edit", "strict": True, "input_schema": schema}
    turns: list[Message] = []
    async with Standin(Researcher()) as standin:
        desk = Desk(TRAIN)
        await propose(standin, desk, tools=[editor, SUBMIT], watch=turns.append)
    inputs = [b.input for turn in turns for b in turn.content if b.type == "tool_use" and b.name == "edit"]
    assert len(inputs) == 2 and all(set(given) == set(names) for given in inputs)
    assert desk.submitted and desk.text != TRAIN


async def test_what_may_be_empty_is_left_empty() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": ["number", "text", "note", "why"],
        "properties": {
            "number": {"type": "integer", "description": "One experiment; 0 for a list."},
            "text": {"type": "string"},
            "note": {"type": "string", "description": 'Normally "".'},
            "why": {"type": "string"},
        },
    }
    turns: list[Message] = []
    async with Standin(Researcher()) as standin:
        history = {"name": "history", "input_schema": schema, "strict": True}
        await propose(standin, Desk(TRAIN), tools=[EDITOR, history, SUBMIT], watch=turns.append)
    call = next(block for block in turns[0].content if block.type == "tool_use")
    assert call.input == {"number": 0, "text": "", "note": "", "why": "as described"}
