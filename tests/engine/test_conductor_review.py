"""What waits for a person, and what does not wait meanwhile: the review modes on the virtual clock."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.store import reading
from tests.engine.soundness import assert_sound, text_at
from tests.engine.virtual_campaign import Turn, VirtualCampaign, knobs_of, measured

WORTH = {n: 6.0 if n in (1, 3) else -2.0 for n in range(24)}
SCRIPT = [Turn(n) for n in range(6)]


def waiting(c: VirtualCampaign, state: str) -> list[int]:
    return [e.number for e in c.experiments() if e.state == state]


async def watch_drafts(c: VirtualCampaign, most: list[int]) -> None:
    """How many proposals are ahead of the devices, every ten seconds."""
    while True:
        ahead = sum(e.state in ("drafting", "review", "ready") for e in c.experiments())
        most[0] = max(most[0], ahead)
        await c.clock.sleep(10.0)


@pytest.mark.parametrize("mode", ["auto", "proposals", "keeps", "all"])
async def test_only_what_the_mode_says_waits_and_never_more_than_drafts_proposals(
    tmp_path: Path, mode: str
) -> None:
    """A person looks once an hour, accepts all and is not asked for anything else."""
    c = VirtualCampaign(tmp_path, program=measured(WORTH), script=SCRIPT, drafts=3, review=mode, capacity=2)
    answered: list[str] = []
    most = [0]

    async def work() -> str:
        await c.engine()
        watcher = asyncio.create_task(watch_drafts(c, most))
        assert c._running is not None
        while not c._running.done():
            await c.clock.sleep(3600)
            for row in [e for e in c.experiments() if e.state in ("review", "keep_review")]:
                state, outcome = await c.ask("accept", number=row.number, revision=row.revision)
                assert state == "done", outcome
                answered.append(row.state)
            assert c.clock.monotonic() < 48 * 3600
        watcher.cancel()
        return await c.ended()

    await c.run(work)
    expected = {"auto": set(), "proposals": {"review"}, "keeps": {"keep_review"}, "all": {"review", "keep_review"}}
    assert set(answered) == expected[mode]
    assert answered.count("review") in (0, 6)
    assert most[0] <= 3, "drafting pauses while as many wait"
    assert sorted(c.kept()) == [2, 4]
    assert_sound(c)


async def test_unanswered_proposals_stop_the_drafting_and_nothing_else(tmp_path: Path) -> None:
    c = VirtualCampaign(tmp_path, program=measured(WORTH), script=SCRIPT, drafts=2, review="proposals")

    async def work() -> None:
        await c.engine()
        await c.clock.sleep(24 * 3600)
        assert waiting(c, "review") == [1, 2] and len(c.proposer.asked) == 2
        assert c.campaign.calibration is not None, "the baseline was measured meanwhile"
        row = reading.experiment(c.conn, c.campaign.id, 1)
        assert row is not None
        stale = await c.ask("accept", number=1, revision=row.revision - 1)
        assert stale[0] == "refused" and "changed since you saw it" in stale[1]
        assert (await c.ask("reject", number=1, revision=row.revision, reason="no"))[0] == "done"
        again = await c.ask("accept", number=1, revision=row.revision)
        assert again[0] == "refused", "two answers are one"
        await c.clock.sleep(3600)
        assert waiting(c, "review") == [2, 3], "one answer, one more draft"

    await c.run(work)
    rejected = c.experiments()[0]
    assert (rejected.verdict, rejected.reason) == ("cancelled", "rejected by tester: no")
    assert not [t for t in c.trials() if t.number == 1], "no device time before the answer"


async def test_a_keep_that_a_person_rejects_moves_nothing_and_holds_nobody_up(tmp_path: Path) -> None:
    c = VirtualCampaign(tmp_path, program=measured(WORTH), script=SCRIPT, review="keeps", capacity=2)

    async def work() -> None:
        await c.engine()
        await c.clock.sleep(24 * 3600)
        assert waiting(c, "keep_review") == [2, 4], "measured beside each other, while nobody answered"
        campaign = c.campaign
        assert campaign.head == campaign.baseline_sha and c.git("rev-parse", "ratchet/virtual") == campaign.head
        settled = {e.number for e in c.experiments() if e.state == "settled"}
        assert settled >= {1, 3, 5, 6}, "the others went on"
        assert (await c.ask("reject", number=2, reason="too clever"))[0] == "done"
        await c.clock.sleep(60)
        assert c.campaign.head == campaign.baseline_sha
        assert (await c.ask("accept", number=4))[0] == "done"
        await c.ended()

    await c.run(work)
    overruled = c.experiments()[1]
    assert overruled.verdict == "discard" and overruled.reason.startswith(
        "overruled by tester: too clever (judge: kept"
    )
    assert overruled.effect is not None, "the judge's arithmetic stays beside it"
    assert c.kept() == [4] and knobs_of(text_at(c, c.campaign.head))[1] == 0
    assert_sound(c)


async def test_two_waiting_keeps_advance_one_after_the_other_and_the_second_is_measured_anew(
    tmp_path: Path,
) -> None:
    c = VirtualCampaign(tmp_path, program=measured(WORTH), script=SCRIPT, review="keeps", capacity=2)

    async def work() -> None:
        await c.engine()
        await c.clock.sleep(24 * 3600)
        before = len(c.machine.starts)
        for number in (2, 4):
            assert (await c.ask("accept", number=number))[0] == "done"
        await c.until(lambda: waiting(c, "keep_review") == [4], "the merged one waits for its own answer")
        assert c.kept() == [2] and len(c.machine.starts) > before, "what was accepted is not what is now measured"
        assert (await c.ask("accept", number=4))[0] == "done"
        await c.ended()

    await c.run(work)
    assert c.kept() == [2, 4]
    assert knobs_of(text_at(c, c.campaign.head)) == {n: int(n in (1, 3)) for n in range(24)}
    assert_sound(c)
