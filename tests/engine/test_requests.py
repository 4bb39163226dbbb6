"""What a person asks beyond yes and no: undo, edit, acceptances in advance, reruns, steps back, steering."""

from __future__ import annotations

import json
import random
from pathlib import Path

from engine import events
from engine.store import reading
from engine.types import Author, NoProposal
from tests.engine.simulated_host import Ending, Execution
from tests.engine.soundness import assert_sound, text_at
from tests.engine.virtual_campaign import Turn, VirtualCampaign, knobs_of, measured

WORTH = dict.fromkeys((1, 2, 3), 6.0)
GOOD = [Turn(1), Turn(2), Turn(3)]
END = NoProposal("exhausted", "enough")


def campaign(folder: Path, **settings: object) -> VirtualCampaign:
    given = {"script": GOOD, "after": END, "program": measured(WORTH)} | settings
    return VirtualCampaign(folder, **given)  # type: ignore[arg-type]


def state_of(c: VirtualCampaign, number: int) -> str:
    row = reading.experiment(c.conn, c.campaign.id, number)
    assert row is not None
    return row.state


def decisions(c: VirtualCampaign) -> list[tuple[str, str]]:
    return [tuple(r) for r in c.conn.execute("SELECT action, actor FROM decision ORDER BY id")]


async def test_an_accept_can_be_taken_back_until_its_first_run_is_queued(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="proposals", drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: state_of(c, 1) == "review" if c.experiments() else False, "a proposal")
        assert (await c.ask("pause"))[0] == "done"
        assert (await c.ask("undo", number=1))[0] == "refused", "nothing was decided yet"
        assert (await c.ask("accept", number=1))[0] == "done"
        assert state_of(c, 1) == "ready"
        assert (await c.ask("undo", number=1))[0] == "done"
        assert state_of(c, 1) == "review"
        again = await c.ask("undo", number=1)
        assert again[0] == "refused" and "could be undone" in again[1]
        await c.ask("accept", number=1)
        await c.ask("resume")
        await c.until(lambda: state_of(c, 1) == "measuring", "its first run")
        late = await c.ask("undo", number=1)
        assert late[0] == "refused" and "carried out already" in late[1]

    await c.run(work)
    assert [d[0] for d in decisions(c)] == ["accept", "undo", "accept"]


async def test_a_reject_can_be_taken_back_and_the_proposal_then_runs(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="proposals", script=GOOD[:1], drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(c.experiments()) and state_of(c, 1) == "review", "a proposal")
        await c.ask("reject", number=1, reason="a slip of the finger")
        assert state_of(c, 1) == "settled"
        assert (await c.ask("undo", number=1))[0] == "done"
        row = c.experiments()[0]
        assert (row.state, row.verdict, row.reason, row.outcome) == ("review", None, "", "")
        await c.ask("accept", number=1)
        await c.until(lambda: state_of(c, 1) == "settled", "its verdict")
        await c.ended()

    await c.run(work)
    assert c.kept() == [1]
    assert_sound(c)


async def test_a_rejected_keep_can_be_taken_back_with_its_verdict(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="keeps", script=GOOD[:1])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(c.experiments()) and state_of(c, 1) == "keep_review", "a keep")
        await c.ask("reject", number=1, reason="hm")
        assert c.experiments()[0].verdict == "discard"
        assert (await c.ask("undo", number=1))[0] == "done"
        assert (c.experiments()[0].state, c.experiments()[0].verdict) == ("keep_review", "keep")
        await c.ask("accept", number=1)
        await c.ended()

    await c.run(work)
    assert c.kept() == [1]


async def test_an_edited_proposal_is_a_persons_and_runs_as_edited(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="proposals", script=[Turn(9)], drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(c.experiments()) and state_of(c, 1) == "review", "a proposal")
        row = c.experiments()[0]
        text = text_at(c, row.base_sha).replace("K1 = 0", "K1 = 1")
        ask = {"number": 1, "revision": row.revision}
        bad = await c.ask("edit", changes=[{"path": "evaluate.py", "text": "x"}], **ask)
        assert bad[0] == "refused" and "evaluate.py" in bad[1], "the scope holds for people too"
        assert state_of(c, 1) == "review"
        assert (await c.ask("edit", changes=[{"path": "train.py", "text": text}], **ask))[0] == "done"
        stale = await c.ask("edit", changes=[{"path": "train.py", "text": text}], **ask)
        assert stale[0] == "refused" and "changed since" in stale[1]
        edited = c.experiments()[0]
        assert edited.state == "review" and "K1 = 1" in reading.diff(c.conn, c.campaign.id, 1)
        assert edited.author_detail.startswith("tester, from search")
        await c.ask("accept", number=1, revision=edited.revision)
        await c.ended()

    await c.run(work)
    assert c.kept() == [1] and knobs_of(text_at(c, c.campaign.head))[1] == 1
    parents = c.conn.execute("SELECT parent FROM proposal ORDER BY id").fetchall()
    assert parents == [(None,), (1,)]
    assert_sound(c)


async def test_acceptances_in_advance_are_counted_down_and_booked_on_who_gave_them(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="all", drafts=1)

    async def work() -> None:
        await c.engine()
        assert (await c.ask("autopilot", count=3))[0] == "done"
        await c.until(lambda: not c.campaign.autopilot, "all three to be used")
        await c.clock.sleep(24 * 3600)

    await c.run(work)
    assert decisions(c) == [("accept", "tester (in advance)")] * 3
    waiting = [e.number for e in c.experiments() if e.state in ("review", "keep_review")]
    assert waiting, "the fourth question asks again"
    assert (await c.ask("autopilot", count=-1))[0] == "refused"


async def test_silence_decides_what_the_file_says_and_books_it_on_the_time_out(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="proposals", unanswered_after="30m: accept", script=GOOD[:1])

    async def work() -> str:
        await c.engine()
        await c.until(lambda: bool(c.experiments()) and state_of(c, 1) == "review", "a proposal")
        await c.clock.sleep(1700)
        assert state_of(c, 1) == "review"
        return await c.ended()

    await c.run(work)
    assert decisions(c) == [("accept", "time-out")] and c.kept() == [1]


async def test_a_rule_asks_in_auto_mode_and_says_which(tmp_path: Path) -> None:
    c = campaign(tmp_path, ask_if=["lines > 80", "lines > 1"], script=GOOD[:1])

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(c.experiments()) and state_of(c, 1) == "review", "the question")

    await c.run(work)
    assert c.experiments()[0].asked == "lines > 1"


async def test_a_rerun_adds_paired_runs_and_changes_no_verdict(tmp_path: Path) -> None:
    c = campaign(tmp_path, script=[Turn(9)], review="keeps")

    async def work() -> None:
        await c.engine()
        await c.ended()
        before = c.experiments()[0]
        assert (await c.ask("rerun", number=1, seeds=4))[0] == "done"
        assert (await c.ask("rerun", number=7))[0] == "refused"
        await c.kill()
        await c.engine()
        await c.ended()
        assert c.experiments()[0].verdict == before.verdict
        runs = [t for t in c.trials() if t.purpose == "compare"]
        by_seed: dict[int, set[int]] = {}
        for t in runs:
            assert t.outcome == "ok"
            by_seed.setdefault(t.seed, set()).add(t.version)
        assert len(by_seed) == 4 and all(len(v) == 2 for v in by_seed.values()), "both sides on the same seeds"

    await c.run(work)


async def test_a_step_back_is_a_new_commit_and_the_next_gain_builds_on_it(tmp_path: Path) -> None:
    c = campaign(tmp_path, script=[Turn(1), Turn(2), Turn(3)], drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: c.kept() == [1, 2], "two keeps")
        head = c.campaign.head
        assert (await c.ask("step_back", number=9))[0] == "refused"
        state, said = await c.ask("step_back", number=1, reason="it does not transfer")
        assert state == "done", said
        assert c.git("rev-parse", f"{c.campaign.head}^") == head, "the branch only moves forward"
        knobs = knobs_of(text_at(c, c.campaign.head))
        assert (knobs[1], knobs[2]) == (1, 0)
        assert c.git("rev-parse", "ratchet/virtual") == c.campaign.head
        again = await c.ask("step_back", number=1)
        assert again[0] == "refused" and "in force already" in again[1]
        await c.until(lambda: c.kept() == [1, 2, 3], "a gain on what was put back")

    await c.run(work)
    knobs = knobs_of(text_at(c, c.campaign.head))
    assert (knobs[1], knobs[2], knobs[3]) == (1, 0, 1)
    assert any(isinstance(e.event, events.SteppedBack) for e in reading.events(c.conn))


async def test_steering_reaches_the_next_brief_once_and_is_marked_with_who_used_it(tmp_path: Path) -> None:
    c = campaign(tmp_path, drafts=1)

    async def work() -> None:
        await c.engine()
        await c.ask("pause")
        assert (await c.ask("steer", text="  look at the data order "))[0] == "done"
        assert (await c.ask("steer", text=" "))[0] == "refused"
        assert (await c.ask("steer", text="x" * 5000))[0] == "refused"
        assert [n.used_by for n in reading.notes(c.conn, c.campaign.id)] == [None]
        await c.ask("resume")
        await c.ended()

    await c.run(work)
    notes = reading.notes(c.conn, c.campaign.id)
    carried = [b.number for b in c.proposer.briefs if any(n.text == "look at the data order" for n in b.notes)]
    assert carried and notes[0].used_by == carried[0]


async def test_a_rejections_reason_reaches_the_next_brief(tmp_path: Path) -> None:
    c = campaign(tmp_path, review="proposals", drafts=1)

    async def work() -> None:
        await c.engine()
        await c.until(lambda: bool(c.experiments()) and state_of(c, 1) == "review", "a proposal")
        await c.ask("reject", number=1, reason="too clever by half")
        await c.until(lambda: len(c.proposer.briefs) == 2, "the next brief")

    await c.run(work)
    assert any("too clever by half" in n.text for n in c.proposer.briefs[1].notes)


def crashing(execution: Execution) -> Ending:
    text = execution.files["train.py"]
    if knobs_of(text)[5]:
        trace = b"Traceback (most recent call last):\nValueError: the fifth knob must not be turned\n"
        return Ending("failed", 10.0, ((0.5, trace),))
    chance = random.Random(f"{execution.seed}")
    return Ending("finished", 300.0, ((1.0, b"---\nval_loss: %.6f\n" % (3 + chance.gauss(0, 0.01))),))


async def test_a_crash_goes_back_to_an_author_who_can_mend_so_many_times_and_no_more(tmp_path: Path) -> None:
    script = [Turn(5, value) for value in range(1, 13)]
    c = campaign(tmp_path, program=crashing, script=script, author=Author.CLAUDE, repairs=2, drafts=1)

    async def work() -> None:
        await c.engine()
        await c.ended()

    await c.run(work)
    rows = {e.number: e for e in c.experiments()[:12]}
    assert all(e.verdict == "crash" for e in rows.values())
    mended = [e.repairs for e in rows.values() if e.repairs is not None]
    assert 1 in mended and len(set(mended)) == len(mended), "each failure goes back once"

    def depth(number: int | None) -> int:
        return 0 if number is None else 1 + depth(rows[number].repairs)

    depths = [depth(e.repairs) for e in rows.values()]
    assert max(depths) == 2 and depths.count(0) >= 3, "two repairs in a row, then something new"
    briefs = {b.number: b.failure for b in c.proposer.briefs}
    for number, row in rows.items():
        failure = briefs[number]
        assert (failure is None) == (row.repairs is None)
        if failure is not None:
            assert (failure.number, failure.attempt) == (row.repairs, depth(row.repairs))
            assert "the fifth knob must not be turned" in failure.evidence
            assert b"K5 = " in (failure.changes[0].content or b"")
    parents = dict(c.conn.execute("SELECT id, parent FROM proposal").fetchall())
    assert [parents[n] for n in rows] == [rows[n].repairs for n in rows]


async def test_malformed_requests_are_answered_and_change_nothing(tmp_path: Path) -> None:
    c = campaign(tmp_path, script=GOOD[:1])

    async def work() -> None:
        await c.engine()
        for kind, args in [
            ("accept", {}),
            ("accept", {"number": "x"}),
            ("edit", {"number": 1}),
            ("autopilot", {"count": "many"}),
            ("step_back", {"number": None}),
            ("stop_trial", {"trial": 99}),
            ("dance", {}),
        ]:
            state, said = await c.ask(kind, **args)
            assert state == "refused" and said, (kind, args)
        await c.ended()

    await c.run(work)
    assert json.loads(json.dumps(c.kept())) == [1]
