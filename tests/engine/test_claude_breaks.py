"""What broke Claude's campaigns once, found by trying to: odd text, odd files, tight money, drafts at once."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from engine import api_key
from engine import config as configuration
from engine.authors import Authors
from engine.clock import RealClock, VirtualClock
from engine.config_sections import ProposerSection
from engine.errors import OverBudget, RatchetError
from engine.ledger import Ledger
from engine.prices import Prices
from engine.proposers.draft import LARGEST_FILE, Draft
from engine.review import asked
from engine.scope import Scope
from engine.store import reading, writes
from engine.store.core import Store, StoreThread
from engine.store.migrations import LATEST
from engine.store.reading import Reader
from engine.types import (
    Author,
    Brief,
    FileChange,
    Message,
    NoProposal,
    Proposal,
    ProposerEvent,
    StreamText,
    Verdict,
)
from engine.types import ExperimentState as S
from engine.workspace import Workspace
from tests.engine.claude_campaign import KEY, LevelResearcher, make, ratchet
from tests.engine.engine_process import query, until
from tests.engine.proposers.claude_drafts import EDITING, brief, desk, submitting
from tests.engine.simulated_host import Ending, Execution
from tests.engine.virtual_campaign import VirtualCampaign, knobs_of, measured, turn
from tests.project_factory import git, make_project
from tests.standin.conversation import read
from tests.standin.running import in_thread
from tests.standin.script import Answer, Body, ToolUse, Turn
from tests.standin.server import Standin

FIXTURES = Path(__file__).parent.parent / "fixtures"
HALF = "half \ud83d of it"


class Author0:
    """A proposer that says what ``say`` does, for a virtual campaign."""

    name = str(Author.CLAUDE)

    def __init__(self, clock: VirtualClock, say: Callable[[Brief], AsyncGenerator[ProposerEvent, None]]) -> None:
        self.clock, self.propose = clock, say
        self.briefs: list[Brief] = []
        self.asked: list[int] = []


def campaign(
    folder: Path, say: Callable[[Brief], AsyncGenerator[ProposerEvent, None]], **settings: Any
) -> VirtualCampaign:
    made = VirtualCampaign(folder, **{"script": (), "program": measured({1: 6.0, 2: 6.0}), **settings})
    made.proposer = Author0(made.clock, say)  # type: ignore[assignment]
    return made


def turning(brief_: Brief, knob: int, value: int = 1, **more: Any) -> Proposal:
    change = FileChange("train.py", turn(brief_.files["train.py"], knob, value))
    return Proposal(f"turn K{knob}", "it matters", (change,), Author.CLAUDE, **more)


# --- a store of an older version ---------------------------------------------------------------------------


def test_a_store_of_an_older_version_is_read_before_any_engine_has_migrated_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    shutil.copyfile(FIXTURES / "store-v1.db", path)
    before = path.read_bytes()
    reader = Reader(path)
    names = [c.name for c in reading.campaigns(reader.conn)]
    rows = reading.experiments(reader.conn, reader.campaign(names[0]).id)
    assert rows and rows[0].outcome == "" and rows[0].repairs is None
    version = reader.data_version()
    assert path.read_bytes() == before, "only engines write to it"
    store = Store(path, RealClock())
    store.take_over("here", "boot", 1)
    store.write(writes.warn, None, "an engine has started")
    assert reader.data_version() != version
    assert reader.conn.execute("PRAGMA user_version").fetchone()[0] == LATEST
    newest = reading.events(reader.conn, reading.last_event(reader.conn) - 1)[-1].event
    assert getattr(newest, "message", "") == "an engine has started", "it follows the file itself from here on"
    reader.close()
    store.close()


def test_a_store_of_a_newer_version_says_so_and_names_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = Store(path, RealClock())
    store.conn.execute(f"PRAGMA user_version = {LATEST + 1}")
    store.close()
    with pytest.raises(RatchetError, match="schema version") as caught:
        Reader(path)
    assert "install the newer" in caught.value.mend


# --- odd text ------------------------------------------------------------------------------------------------


async def test_half_a_character_in_all_that_a_draft_says_is_stored_and_ends_nothing(tmp_path: Path) -> None:
    async def say(brief_: Brief) -> AsyncGenerator[ProposerEvent, None]:
        yield StreamText("thinking", HALF)
        yield Message("assistant", [{"type": "text", "text": HALF, HALF: 1}])
        if brief_.number > 1:
            yield NoProposal("exhausted", HALF)
            return
        change = FileChange("train.py", turn(brief_.files["train.py"], 1, 1))
        yield Proposal(HALF, HALF, (change,), Author.CLAUDE, HALF, refuted_by=HALF, kind=HALF)

    c = campaign(tmp_path, say, drafts=1)
    reason = await c.whole()
    assert "nothing more to propose" in reason
    assert [e.title for e in c.experiments() if e.candidate is not None] == ["half \ufffd of it"]
    assert c.kept() == [1]
    assert "".join(r.text for r in reading.stream(c.conn, 1)) == "half \ufffd of it"
    said = reading.transcript(c.conn, 1)[0].content[0]
    assert said["text"] == "half \ufffd of it" and "half \ufffd of it" in said


async def test_a_proposer_that_raises_is_a_failed_draft_and_three_ask_for_a_person(tmp_path: Path) -> None:
    async def say(brief_: Brief) -> AsyncGenerator[ProposerEvent, None]:
        yield StreamText("thinking", "hm")
        raise ZeroDivisionError("the package has a bug")

    c = campaign(tmp_path, say, drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.campaign.state == "paused", "the pause")

    await c.run(work)
    assert [e.outcome for e in c.experiments()] == ["failed"] * 3
    assert "the package has a bug" in c.campaign.pause_reason and "engine.log" in c.campaign.pause_mend


ESCAPES = "red \x1b[31m \x1b]52;c;aGk=\x07 \x00 \x9b2J end"


async def test_no_escape_sequence_travels_in_what_a_model_hands_in() -> None:
    def script(body: Body, n: int) -> Answer:
        if not [c for c in read(body).calls if c.command == "str_replace"]:
            return EDITING
        call = submitting(body).blocks[-1]
        assert isinstance(call, ToolUse)
        words = dict.fromkeys(("title", "hypothesis", "effect_reason", "refuted_by"), ESCAPES)
        return Turn([ToolUse("submit", {**call.input, **words})])

    async with desk(script) as it:
        proposal = (await it.draft()).proposal
    for text in (proposal.title, proposal.hypothesis, proposal.expected_effect, proposal.refuted_by):
        assert "red" in text and "end" in text
        assert not [c for c in text if ord(c) < 32 or 127 <= ord(c) < 160], text


async def test_no_escape_sequence_reaches_a_commit_message(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    workspace = Workspace(project, project / ".ratchet", RealClock())
    base = await workspace.snapshot(committed=True)
    made = await workspace.candidate(
        base, [FileChange("train.py", b"x = 1\n")], Scope(("train.py",)), message=f"{ESCAPES}\n\nwhy", at=0.0
    )
    said = git(project, "log", "-1", "--format=%B", made.sha)
    assert said.startswith("red") and "why" in said
    assert not [c for c in said if ord(c) < 32 and c != "\n"] and "\x9b" not in said


@pytest.mark.parametrize("added", ["\x0cimport socket", "x = 1\rimport socket", "x = '\u2028'\n+import socket"])
def test_no_character_hides_a_new_import_from_the_rules_of_review(added: str) -> None:
    diff = f"diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n@@ -1 +1,2 @@\n import os\n+{added}\n"
    assert asked(["new import"], diff) == "new import"


def test_a_line_that_reads_like_a_header_does_not_end_the_counting_of_lines() -> None:
    hidden = "x\x0cdiff --git a/t b/t"
    diff = f"diff --git a/t.py b/t.py\n@@ -1 +1,9 @@\n+{hidden}\n" + "+y = 1\n" * 9
    assert asked(["added > 9"], diff) == "added > 9" and asked(["files > 1"], diff) == ""


# --- odd files -----------------------------------------------------------------------------------------------


def test_a_file_that_was_large_from_the_start_can_be_edited_and_not_be_blown_up() -> None:
    content = b"LEVEL = 10\n" + b"# filler, sixty characters of it, on each of very many lines ......\n" * 32_000
    assert len(content) > 2 * LARGEST_FILE
    draft = Draft({"train.py": content}, Scope(("train.py",)))
    draft.str_replace("train.py", "LEVEL = 10", "LEVEL = 9")
    assert draft.files["train.py"].startswith(b"LEVEL = 9\n") and len(draft.changes()) == 1
    with pytest.raises(RatchetError, match="at most"):
        draft.create("train.py", "x" * (2 * len(content)))


@pytest.mark.parametrize(
    "files", [{"train.py": b"# -*- coding: latin-1 -*-\n# caf\xe9\n"}, {"program.md": b"a link is no file"}]
)
async def test_where_there_is_nothing_to_edit_no_money_is_spent_on_it(files: Mapping[str, bytes]) -> None:
    async with desk() as it:
        nothing = (await it.draft(brief(files=files))).nothing
        assert nothing.outcome == "failed" and "nothing to edit" in nothing.message and "edit" in nothing.mend
        assert not it.standin.requests and not it.purse.bookings


# --- money ---------------------------------------------------------------------------------------------------


async def test_a_request_waits_while_only_what_others_set_aside_is_in_its_way() -> None:
    """Giving up would throw away what the conversation has cost so far."""
    async with desk() as it:
        reserve, refusals = it.purse.reserve, [0]

        async def crowded(*arguments: Any, **named: Any) -> int:
            if it.purse.bookings and refusals[0] < 5:
                refusals[0] += 1
                fault = OverBudget("another draft holds it", "wait")
                fault.waits = True
                raise fault
            return await reserve(*arguments, **named)

        it.purse.reserve = crowded  # type: ignore[method-assign]
        done = await it.draft()
        assert done.proposal.title and refusals == [5]
        assert len(it.standin.messages) == len(it.purse.bookings) == 2 and it.purse.open == 0
        assert done.text("tool").count("waits for money") == 1, "said once"


async def test_the_purse_knows_whether_waiting_helps(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", VirtualClock())
    store.take_over("here", "boot", 1)
    number = store.write(writes.create_campaign, "c", "loss", "minimize", 1, "a" * 40)
    experiment = store.write(writes.new_experiment, number, Author.CLAUDE)
    prices = Prices.load()
    worst = prices.worst("claude-opus-5-5", 1000, 1000)
    ledger = Ledger(StoreThread(store, inline=True), number, prices, lambda: worst + worst // 2)
    first = await ledger.reserve(experiment, "claude-opus-5-5", 1000, 1000)
    with pytest.raises(OverBudget) as caught:
        await ledger.reserve(experiment, "claude-opus-5-5", 1000, 1000)
    assert caught.value.waits, "the first one's worst case is in the way"
    await ledger.forfeit(first, "cut")
    with pytest.raises(OverBudget) as caught:
        await ledger.reserve(experiment, "claude-opus-5-5", 1000, 1000)
    assert not caught.value.waits, "now it is spent"
    store.close()


def test_a_repair_that_failed_for_want_of_money_is_asked_for_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", VirtualClock())
    store.take_over("here", "boot", 1)
    number = store.write(writes.create_campaign, "c", "loss", "minimize", 1, "a" * 40)
    row = reading.campaign(store.conn)
    assert row is not None
    crashed = store.write(writes.new_experiment, number, Author.CLAUDE)
    proposal = Proposal("t", "h", (), Author.CLAUDE)
    store.write(writes.proposal_stored, crashed, row.incumbent, proposal, "b" * 40, "", 1, 1, S.READY)
    store.write(writes.ruled, crashed, S.READY, S.SETTLED, Verdict.CRASH, "it crashed")

    def repaired(outcome: str) -> None:
        repair = store.write(writes.new_experiment, number, Author.CLAUDE, crashed)
        assert reading.to_repair(store.conn, number, Author.CLAUDE, 2) == [], "one at a time"
        args = (repair, S.DRAFTING, S.SETTLED, Verdict.CANCELLED, "no proposal")
        store.write(writes.ruled, *args, outcome=outcome)

    for outcome in ("over budget", "rate limited", "overloaded"):
        repaired(outcome)
        assert reading.to_repair(store.conn, number, Author.CLAUDE, 2) == [1], outcome
    repaired("gave up")
    assert reading.to_repair(store.conn, number, Author.CLAUDE, 2) == []
    store.close()


# --- drafts at once ------------------------------------------------------------------------------------------


async def test_of_two_drafts_that_hand_in_the_same_program_at_once_one_is_a_duplicate(tmp_path: Path) -> None:
    ready = asyncio.Event()
    waiting: list[int] = []

    async def say(brief_: Brief) -> AsyncGenerator[ProposerEvent, None]:
        yield StreamText("thinking", "hm")
        if brief_.number > 4:
            yield NoProposal("exhausted", "enough")
            return
        waiting.append(brief_.number)
        if len(waiting) == 4:
            ready.set()
        await ready.wait()
        yield turning(brief_, 1, fingerprint="the same")

    c = campaign(tmp_path, say, drafts=4)
    await c.whole()
    rows = c.experiments()[:4]
    assert [e.outcome for e in rows].count("duplicate") == 3, [(e.number, e.outcome) for e in rows]
    kept = next(e.number for e in rows if not e.outcome)
    assert c.kept() == [kept]
    assert all(f"#{kept}" in e.reason for e in rows if e.outcome)
    assert c.campaign.state == "running", "no failure of the proposer's: nobody is asked to mend it"


async def test_a_repair_that_is_given_up_as_told_does_not_pause_the_campaign(tmp_path: Path) -> None:
    """repair.md: "If the idea itself cannot work here, say why in one sentence and stop without submitting"."""

    def crashing(execution: Execution) -> Ending:
        if any(value for knob, value in knobs_of(execution.files["train.py"]).items() if knob > 4):
            return Ending("failed", 10.0, ((0.5, b"ValueError: no\n"),))
        return measured({1: 6.0})(execution)

    async def say(brief_: Brief) -> AsyncGenerator[ProposerEvent, None]:
        yield StreamText("thinking", "hm")
        if brief_.failure is not None:
            yield NoProposal("gave up", "the idea cannot work")
        elif brief_.number > 12:
            yield NoProposal("exhausted", "enough")
        else:
            yield turning(brief_, 4 + brief_.number)

    c = campaign(tmp_path, say, drafts=4, repairs=2, program=crashing, capacity=4)
    reason = await c.whole()
    assert "nothing more to propose" in reason
    given_up = [e.repairs for e in c.experiments() if e.outcome == "gave up"]
    assert len(given_up) > 3 and len(set(given_up)) == len(given_up), "each failure goes back once"


async def test_a_row_made_for_another_proposer_is_booked_on_who_drafts_it(tmp_path: Path) -> None:
    async def say(brief_: Brief) -> AsyncGenerator[ProposerEvent, None]:
        yield StreamText("thinking", "hm")
        assert brief_.failure is None, "what the other one was to mend is no concern of this draft"
        yield turning(brief_, 1) if brief_.number == 2 else NoProposal("exhausted", "enough")

    c = campaign(tmp_path, say, drafts=1, program=measured({1: 6.0}), judge="calibrate_seeds = 2")

    async def work() -> None:
        c.limits = c.limits.__class__(experiments=1)
        await c.engine()
        await c.kill()
        failed = c.store.store.write(writes.new_experiment, c.campaign.id, Author.SEARCH)
        args = (failed, S.DRAFTING, S.SETTLED, Verdict.INVALID, "refused")
        c.store.store.write(writes.ruled, *args, outcome="invalid edit")
        c.store.store.write(writes.new_experiment, c.campaign.id, Author.SEARCH, failed)
        c.store.close()
        await c.engine()
        await c.ended()

    await c.run(work)
    row = next(e for e in c.experiments() if e.candidate is not None)
    assert (row.number, row.author, row.repairs) == (2, "claude", None)


# --- what people ask, and what they edit meanwhile -------------------------------------------------------------


async def test_numbers_beyond_any_row_are_refused_and_the_engine_goes_on(tmp_path: Path) -> None:
    async def say(brief_: Brief) -> AsyncGenerator[ProposerEvent, None]:
        yield StreamText("thinking", "hm")
        yield NoProposal("exhausted", "enough")

    c = campaign(tmp_path, say)

    async def work() -> None:
        await c.engine()
        hostile: list[tuple[str, dict[str, Any]]] = [
            ("accept", {"number": 10**30}),
            ("pin", {"number": -(10**25)}),
            ("stop_trial", {"trial": 10**30}),
            ("rerun", {"number": 10**30}),
            ("edit", {"number": 10**30, "changes": [], "revision": 1}),
            ("step_back", {"number": 10**30}),
        ]
        for kind, args in hostile:
            state, said = await c.ask(kind, **args)
            assert state == "refused" and said, (kind, args)

    await c.run(work)


def test_a_command_that_never_brings_the_key_is_ended_with_the_engine(tmp_path: Path) -> None:
    settings = ProposerSection(kind="claude", key_command=f"echo $$ > {tmp_path}/pid; sleep 600; echo key")
    with contextlib.closing(asyncio.new_event_loop()) as loop:

        async def work() -> None:
            looking = asyncio.create_task(asyncio.to_thread(api_key.find, settings, tmp_path))
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
                await asyncio.sleep(0.01)
            api_key.give_up()
            with pytest.raises(RatchetError, match="key_command failed"):
                await asyncio.wait_for(looking, 30)

        loop.run_until_complete(asyncio.wait_for(work(), 60))
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


PROPOSER = '[metric]\nname = "l"\n[trial]\ncommand = "x"\n[limits]\ndollars = 1\n[proposer]\nkind = "{}"\n{}'


async def test_prompts_are_followed_in_whichever_directory_is_in_force(tmp_path: Path) -> None:
    """From search to Claude, from one directory to another: what people edit counts, and nothing else."""
    packaged = (Path(__file__).parents[2] / "prompts" / "propose.md").read_text()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "propose.md").write_text(packaged)
    store = Store(tmp_path / "store.db", RealClock())
    store.take_over("here", "boot", 1)
    store.write(writes.create_campaign, "c", "l", "minimize", 1, "a" * 40)
    row = reading.campaign(store.conn)
    assert row is not None
    thread = StoreThread(store, inline=True)
    authors = Authors(tmp_path, tmp_path, None, thread, row, None, RealClock())  # type: ignore[arg-type]

    class Awake:
        def wake(self) -> None: ...

    present = configuration.parse(PROPOSER.format("search", ""))
    authors.make(present)
    watching = asyncio.create_task(authors.watch_prompts(lambda: present, Awake()))  # type: ignore[arg-type]

    async def taken_up(proposer: Any, directory: str, word: str) -> bool:
        """Whether what is written now reaches the proposer. Written again: the watch may just be beginning."""
        for attempt in range(40):
            (tmp_path / directory / "propose.md").write_text(f"{packaged}\n{word} {attempt}\n")
            await asyncio.sleep(0.1)
            if word in proposer.prompts.propose.text:
                return True
        return False

    try:
        await asyncio.sleep(0)
        present = configuration.parse(PROPOSER.format("claude", 'prompts = "one"'))
        first: Any = authors.make(present)
        assert await taken_up(first, "one", "FIRST")
        present = configuration.parse(PROPOSER.format("claude", 'prompts = "two"'))
        second: Any = authors.make(present)
        assert await taken_up(second, "two", "SECOND")
        (tmp_path / "one" / "propose.md").write_text(f"{packaged}\nSTALE\n")
        assert await taken_up(second, "two", "THIRD")
        assert "STALE" not in second.prompts.propose.text
        (tmp_path / "two" / "propose.md").write_text("{{nonsense}}")
        async with asyncio.timeout(20):
            while not store.conn.execute("SELECT 1 FROM event WHERE kind = 'Warned'").fetchone():
                await asyncio.sleep(0.02)
        assert "THIRD" in second.prompts.propose.text, "the last good ones stay"
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await authors.close()
        store.close()


@pytest.mark.slow
def test_no_edit_of_ratchet_toml_and_no_key_command_ends_or_holds_up_the_engine(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    command = f"cat {tmp_path}/key; test ! -e {tmp_path}/slow || sleep 600"
    project = make(tmp_path, seconds=0.2, proposer=f'key_command = "{command}"')
    file = project / "ratchet.toml"
    good = file.read_text()
    warned = "SELECT data FROM event WHERE kind = 'Warned'"

    def told(what: str) -> None:
        until(lambda: any(what in str(row) for row in query(project, warned)), what, 30)

    with in_thread(Standin(LevelResearcher(), key=KEY)) as standin:
        started = ratchet("start", at=project, url=standin.url, key="")
        assert started.returncode == 0, started.stderr
        until(lambda: len(standin.messages) >= 2, "two requests")
        file.write_bytes(good.encode() + b"\n# caf\xe9\n")
        told("not UTF-8")
        file.unlink()
        file.mkdir()
        told("cannot be read")
        file.rmdir()
        (tmp_path / "key").rename(tmp_path / "gone")
        file.write_text(good + "\n# other settings\n")
        told("key_command failed")
        (tmp_path / "gone").rename(tmp_path / "key")
        asked_before = len(standin.messages)
        until(lambda: len(standin.messages) > asked_before + 2, "the campaign goes on")
        (tmp_path / "slow").touch()
        file.write_text(good + "\n# and others\n")
        until(lambda: b"sleep 600" in b"".join(_command_lines(str(tmp_path))), "the slow command")
        stopped = ratchet("stop", at=project, url="", key="", seconds=20)
    assert stopped.returncode == 0, stopped.stderr
    until(lambda: not _command_lines(f"{tmp_path}/slow"), "nothing is left behind", 10)


def _command_lines(needle: str) -> list[bytes]:
    """Arguments of the processes that name ``needle``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (process / "cmdline").read_bytes()
            if needle.encode() in line:
                found.append(line)
    return found
