"""The proposer that is Claude: the real package against the stand-in over HTTP, time by hand."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import UsageError
from engine.types import StreamText
from tests.engine.proposers.claude_drafts import (
    EDITING,
    HYPOTHESIS,
    TITLE,
    TRAIN,
    WANTED,
    NoRecords,
    brief,
    desk,
    submitting,
    worker,
)
from tests.engine.proposers.claude_setting import KEY
from tests.standin import faults
from tests.standin.conversation import read
from tests.standin.prefix import blocks
from tests.standin.script import Answer, Body, Break, HttpError, Script, Text, Thinking, ToolUse, Turn, sequence

ROOT = Path(__file__).resolve().parents[3]


def first(answer: Answer, then: Script = worker) -> Script:
    """``answer`` to the first request, then as ``then`` says."""
    return lambda body, n: answer if n == 0 else then(body, n)


def models(draft_requests: list[Any]) -> list[str]:
    return [one.body["model"] for one in draft_requests]


# --- a proposal ------------------------------------------------------------------------------------------


async def test_a_conversation_ends_in_the_submitted_proposal_and_nothing_else_is_changed() -> None:
    async with desk() as it:
        draft = await it.draft()
    proposal = draft.proposal
    assert [(change.path, change.content) for change in proposal.changes] == [("train.py", WANTED)]
    assert (proposal.title, proposal.author_detail) == (TITLE, "claude-opus-5-5")
    assert proposal.hypothesis.startswith(HYPOTHESIS)
    assert draft.events.index(proposal) == len(draft.events) - 1


async def test_thinking_text_calls_and_the_growing_edit_are_streamed_on_their_channels() -> None:
    async with desk() as it:
        draft = await it.draft()
    assert draft.text("thinking") == "Consider the rate. \n"
    assert draft.text("edit") == "LR = 0.03  # higher\n"
    assert draft.text("tool").startswith("str_replace train.py\n")
    assert draft.text("text").startswith("I raise it.\nI hand it in.\n" + f"{TITLE}\n{HYPOTHESIS}\n")


async def test_an_edit_is_seen_growing_long_before_its_response_ends() -> None:
    long = ToolUse(faults.EDITOR, {"command": "create", "path": "train.py", "file_text": "x = 1\n" * 50})
    async with desk(sequence(Turn([long], fault=Break("stall", "during"))), without=("editor",)) as it:
        async for event in it.proposer.propose(brief()):
            if isinstance(event, StreamText) and event.channel == "edit":
                assert event.text.startswith("x = 1")
                assert "message_stop" not in it.standin.messages[0].sent
                break


async def test_the_transcript_holds_the_conversation_once_each_message_with_its_calls_and_usage() -> None:
    async with desk() as it:
        transcript = (await it.draft()).transcript
    assert [message.role for message in transcript] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert json.loads(json.dumps([message.content for message in transcript])) is not None
    system, asked, said, result = (message.content for message in transcript[:4])
    assert "val_loss" in system
    assert any("LR = 0.02" in block["text"] for block in asked)
    assert [block["type"] for block in said] == ["thinking", "text", "tool_use", "end"]
    assert said[-1]["usage"]["output_tokens"] > 0 and said[-1]["stop_reason"] == "tool_use"
    assert result[0]["type"] == "tool_result" and result[0]["label"]


async def test_a_conversation_is_append_only_and_its_second_request_reads_the_first_from_cache() -> None:
    async with desk() as it:
        await it.draft()
        one, two = (recorded.body for recorded in it.standin.messages)
        old, new = blocks(one), blocks(two)
        assert [block.digest for block in new[: len(old)]] == [block.digest for block in old]
        assert it.standin.bills[1][1].cache_read_tokens > 0.7 * sum(block.tokens for block in new)


async def test_the_prefix_on_the_wire_is_the_same_bytes_for_two_proposals_in_a_row() -> None:
    async with desk() as it:
        await it.draft(brief(1))
        await it.draft(brief(2))
        opening = [one.body for one in it.standin.messages if len(one.body["messages"]) == 1]
        stable = [
            json.dumps([body["tools"], body["system"], body["messages"][0]["content"][:-1]]) for body in opening
        ]
        assert len(opening) == 2 and stable[0] == stable[1]
        assert opening[0]["messages"][0]["content"][-1] != opening[1]["messages"][0]["content"][-1]


# --- how turns end ---------------------------------------------------------------------------------------


async def test_a_paused_turn_is_sent_again_as_it_is() -> None:
    async with desk(first(Turn([Thinking("Hm. "), Text("One moment.")], stop_reason="pause_turn"))) as it:
        assert (await it.draft()).proposal
        again = it.standin.messages[1].body["messages"]
        assert [message["role"] for message in again] == ["user", "assistant"]
        assert again[1]["content"][-1]["text"] == "One moment."


async def test_a_turn_that_ends_without_submitting_is_reminded_once() -> None:
    async with desk(first(Turn([Text("I am done.")]))) as it:
        assert (await it.draft()).proposal
        assert "without submitting" in json.dumps(it.standin.messages[1].body["messages"][-1])
    async with desk(sequence(Turn([Text("I am done.")]))) as it:
        assert (await it.draft()).nothing.outcome == "gave up"
        assert len(it.standin.messages) == 2


async def test_requests_have_an_end_and_the_model_is_told_before_it_comes() -> None:
    look = Turn([ToolUse(faults.EDITOR, {"command": "view", "path": "train.py"})])
    async with desk(sequence(look), requests=4) as it:
        assert (await it.draft()).nothing.outcome == "gave up"
        assert len(it.standin.messages) == 4
        assert "Requests left for this proposal: 1" in json.dumps(it.standin.messages[-1].body)


async def test_tools_never_run_on_an_answer_that_was_cut_off() -> None:
    whole = Turn(EDITING.blocks, stop_reason="max_tokens")
    async with desk(first(whole)) as it:
        draft = await it.draft()
        told = it.standin.messages[1].body["messages"][-1]["content"]
        assert told[0]["is_error"] and "cut off" in told[0]["content"]
        assert [change.content for change in draft.proposal.changes] == [WANTED]
    async with desk(sequence(whole)) as it:
        assert (await it.draft()).nothing.outcome == "cut off"
        assert len(it.standin.messages) == 2


async def test_thinking_that_was_cut_off_does_not_spoil_what_is_sent_next() -> None:
    """The stand-in cuts where max_tokens are spent, in the middle of the thinking."""
    long = Turn([Thinking("on and on " * 3000), Text("x")])
    async with desk(first(long), max_tokens=1024) as it:
        assert (await it.draft()).proposal
        assert all(one.status == 200 for one in it.standin.messages)


async def test_an_edit_that_is_refused_again_and_again_is_an_invalid_edit() -> None:
    miss = ToolUse(
        faults.EDITOR, {"command": "str_replace", "path": "train.py", "old_str": "LR = 7", "new_str": "x"}
    )
    async with desk(sequence(Turn([miss]), Turn([miss]), Turn([Text("I cannot.")]))) as it:
        nothing = (await it.draft()).nothing
        assert nothing.outcome == "invalid edit" and "refused" in nothing.message


async def test_submitting_what_changes_nothing_is_no_change() -> None:
    def script(body: Body, n: int) -> Answer:
        return submitting(body) if n == 0 else Turn([Text("Then not.")])

    async with desk(script) as it:
        assert (await it.draft()).nothing.outcome == "no change"


async def test_a_proposal_that_was_made_before_is_a_duplicate() -> None:
    from engine.proposers.duplicates import fingerprint
    from engine.types import Author, PastExperiment

    made = PastExperiment(
        3, "the same", Author.CLAUDE, None, None, None, {}, True, fingerprint=fingerprint({"train.py": WANTED})
    )

    def script(body: Body, n: int) -> Answer:
        failed = any(call.name == "submit" and call.failed for call in read(body).calls)
        return Turn([Text("Then not.")]) if failed else worker(body, n)

    async with desk(script) as it:
        assert (await it.draft(brief(4, history=(made,)))).nothing.outcome == "duplicate"


# --- refusals, overload, money ---------------------------------------------------------------------------

REFUSED = Turn([Thinking("Hm. ")], stop_reason="refusal", category="frontier_llm")


async def test_a_refusal_goes_to_another_model_once_in_a_fresh_conversation() -> None:
    async with desk(first(REFUSED), fallback_models=("claude-opus-5",)) as it:
        draft = await it.draft()
        assert draft.proposal.author_detail == "claude-opus-5"
        assert models(it.standin.messages) == ["claude-opus-5-5", "claude-opus-5", "claude-opus-5"]
        assert len(it.standin.messages[1].body["messages"]) == 1
        assert [note["what"] for note in draft.notes] == ["fell back"]
        assert "frontier_llm" in draft.notes[0]["why"]


async def test_refusals_never_loop_whatever_is_configured() -> None:
    others = ("claude-opus-5", "claude-sonnet-5-5", "claude-opus-5-5")
    async with desk(sequence(REFUSED), fallback_models=others) as it:
        nothing = (await it.draft()).nothing
        assert nothing.outcome == "refused" and "frontier_llm" in nothing.message and nothing.mend
        assert models(it.standin.messages) == ["claude-opus-5-5", "claude-opus-5"]
        assert it.purse.states == ["settled", "settled"]


async def test_edits_made_before_a_refusal_are_gone_with_the_conversation() -> None:
    def script(body: Body, n: int) -> Answer:
        if body["model"] == "claude-opus-5-5":
            return EDITING if n == 0 else REFUSED
        return worker(body, n)

    async with desk(script, fallback_models=("claude-opus-5",)) as it:
        assert [change.content for change in (await it.draft()).proposal.changes] == [WANTED]


async def test_overload_that_stays_goes_to_the_next_model() -> None:
    def script(body: Body, n: int) -> Answer:
        return (
            HttpError(529, "overloaded_error", "Overloaded")
            if body["model"] == "claude-opus-5-5"
            else worker(body, n)
        )

    async with desk(script, fallback_models=("claude-opus-5",)) as it:
        assert (await it.draft()).proposal.author_detail == "claude-opus-5"


async def test_retries_and_what_they_cost_are_noted_in_the_transcript() -> None:
    script = faults.faulty(worker, faults.DROP, "during")
    async with desk(script) as it:
        notes = (await it.draft()).notes
        assert [(note["what"], note["charged"], note["reservation"]) for note in notes] == [
            ("asked again", "worst case", 1)
        ]


async def test_a_draft_that_does_not_fit_the_budget_sends_nothing() -> None:
    async with desk(cap=0) as it:
        assert (await it.draft()).nothing.outcome == "over budget"
        assert it.standin.requests == []


async def test_the_budget_may_end_a_conversation_in_the_middle() -> None:
    async with desk(cap=400_000_000) as it:
        draft = await it.draft()
        assert draft.nothing.outcome == "over budget"
        assert it.purse.states == ["settled"] and it.purse.charged <= 400_000_000


async def test_cancelling_a_draft_closes_its_stream_and_books_its_money() -> None:
    async with desk(sequence(Turn(EDITING.blocks, delay=30.0))) as it:
        drafting = asyncio.create_task(it.draft())
        await it.standin.until(
            lambda: bool(it.standin.messages) and "message_start" in it.standin.messages[0].sent
        )
        drafting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drafting
        assert it.purse.states == ["forfeited"]
        await it.standin.until(lambda: it.standin.messages[0].ended == "cut by client")


async def test_a_draft_that_nobody_reads_any_more_books_its_money() -> None:
    async with desk() as it:
        events = it.proposer.propose(brief())
        async for event in events:
            if isinstance(event, StreamText):
                break
        await events.aclose()
        assert "open" not in it.purse.states and it.purse.bookings


async def test_parallel_drafts_let_the_first_one_write_the_cache() -> None:
    async with desk() as it:
        drafts = await asyncio.gather(*(it.draft(brief(number)) for number in range(1, 5)))
        assert all(draft.proposal for draft in drafts)
        written = [usage.cache_write_1h_tokens for _, usage in it.standin.bills]
        assert sum(tokens > 0 for tokens in written) == 1


# --- servers, settings, keys -----------------------------------------------------------------------------


async def test_settings_reach_the_wire() -> None:
    async with desk(
        effort="low", max_tokens=5000, headers={"X-Team": "a", "anthropic-version": "2023-06-01"}
    ) as it:
        await it.draft()
        sent = it.standin.messages[0]
        assert sent.body["output_config"] == {"effort": "low"} and sent.body["max_tokens"] == 5000
        assert sent.body["thinking"] == {"type": "adaptive", "display": "summarized"}
        assert sent.headers["x-team"] == "a" and sent.headers["anthropic-version"] == "2023-06-01"
        assert sent.headers["authorization"] == f"Bearer {KEY}"


async def test_a_server_that_speaks_only_part_of_the_api_is_sent_only_that() -> None:
    parts = ("effort", "thinking", "cache", "strict", "eager", "editor")

    def script(body: Body, n: int) -> Answer:
        talk = read(body)
        edit = next(
            name for name in talk.tools if name not in ("submit",) and "new_str" in json.dumps(talk.tools[name])
        )
        done = any(call.name == edit and call.result and not call.failed for call in talk.calls)
        given = {
            "command": "str_replace",
            "path": "train.py",
            "old_str": "LR = 0.02",
            "new_str": "LR = 0.03  # higher",
        }
        return submitting(body) if done else Turn([ToolUse(edit, given)])

    async with desk(script, without=parts) as it:
        draft = await it.draft()
        assert [change.content for change in draft.proposal.changes] == [WANTED]
        assert draft.text("edit").startswith("LR = 0.03")
        sent = json.dumps(it.standin.messages[-1].body)
        for word in ("output_config", '"thinking"', "cache_control", '"strict"', "eager_input", "text_editor"):
            assert word not in sent


async def test_a_key_is_nowhere_but_in_the_header() -> None:
    log = f"Traceback: request with {KEY} and sk-ant-other-9999 failed"
    ask = Turn([Text(f"I saw {KEY}."), ToolUse("trial_log", {"number": 1, "show": "tail", "lines": 0})])

    class Leaky(NoRecords):
        async def history(self) -> tuple[Any, ...]:
            from engine.types import Author, PastExperiment

            return (PastExperiment(1, "t", Author.SEARCH, None, None, None, {}, True),)

    files = {"train.py": TRAIN, "program.md": f"the key is {KEY}".encode()}
    script = first(ask, first(HttpError(500, "api_error", f"no {KEY}"), worker))

    def twice(body: Body, n: int) -> Answer:
        return HttpError(500, "api_error", f"no {KEY}") if n == 1 else script(body, n)

    async with desk(twice, records=Leaky(log)) as it:
        draft = await it.draft(brief(2, files=files))
        assert draft.proposal
        said = repr(draft.events) + repr(it.proposer) + repr(it.purse.bookings)
        # The model's own words go back as they were; everything else is ours.
        asked = [m for one in it.standin.messages for m in one.body["messages"] if m["role"] == "user"]
        sent = json.dumps([asked, it.standin.messages[0].body["system"]])
        assert "[key removed]" in said
        assert "canary" not in said and "other-9999" not in said
        assert "canary" not in sent and "other-9999" not in sent


async def test_a_key_that_was_refused_is_asked_for_anew() -> None:
    keys = iter(["wrong-key-0", KEY])
    async with desk(key=lambda: next(keys), accepts=KEY) as it:
        refused = (await it.draft()).nothing
        assert refused.outcome == "failed" and "key" in refused.mend and "wrong-key" not in repr(refused)
        assert (await it.draft()).proposal


async def test_without_a_key_the_draft_says_what_to_do() -> None:
    def none() -> str:
        raise UsageError("there is none in ANTHROPIC_API_KEY", "set it")

    async with desk(key=none, base_url="") as it:
        nothing = (await it.draft()).nothing
        assert nothing.outcome == "failed" and nothing.mend == "set it"
    async with desk(key=none) as it:
        assert (await it.draft()).proposal  # a server of one's own needs none


async def test_a_model_without_a_price_names_its_mend() -> None:
    async with desk(model="claude-unheard-of") as it:
        nothing = (await it.draft()).nothing
        assert nothing.outcome == "failed" and nothing.mend


def test_importing_the_proposer_does_not_import_the_package() -> None:
    code = "import sys, engine.proposers.claude; print([m for m in ('anthropic', 'httpx2', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
