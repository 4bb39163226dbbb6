"""What must hold of every campaign, however it went: refs, store and trials agree (STATISTICS.md, TRUST.md 30)."""

from __future__ import annotations

from collections import Counter

from engine.store.rows import TrialRow
from engine.types import Purpose, TrialOutcome
from tests.engine.virtual_campaign import VirtualCampaign

POOL = (Purpose.CALIBRATE, Purpose.ANCHOR)


def assert_sound(c: VirtualCampaign) -> None:
    assert_refs_agree(c)
    assert_trials_follow_the_rule(c)


def assert_refs_agree(c: VirtualCampaign) -> None:
    """Branch, our own ref, line, keeps and incumbent tell one story; every keep was measured where it stands."""
    campaign = c.campaign
    assert c.git("rev-parse", "refs/ratchet/virtual/head") == campaign.head
    assert c.git("rev-parse", "refs/heads/ratchet/virtual") == campaign.head
    rows = c.conn.execute(
        "SELECT k.previous, k.sha, e.candidate, v.parent, e.number FROM keep k"
        " JOIN experiment e ON e.id = k.experiment JOIN version v ON v.id = e.candidate ORDER BY k.id"
    ).fetchall()
    head, incumbent = campaign.baseline_sha, campaign.baseline
    for previous, sha, candidate, parent, number in rows:
        assert previous == head, f"keep of experiment {number} does not follow the keep before it"
        assert parent == incumbent, f"experiment {number} was measured against what was not the incumbent"
        assert tree(c, sha) == tree(c, version_sha(c, candidate)), "what was committed is what was measured"
        purposes = {t.purpose for t in c.trials() if t.version == candidate and t.outcome == TrialOutcome.OK}
        assert {Purpose.SCREEN, Purpose.CONFIRM} <= purposes, f"keep {number} stands on its own runs"
        head, incumbent = sha, candidate
    assert (campaign.head, campaign.incumbent) == (head, incumbent)
    log = c.git("rev-list", "--reverse", f"{campaign.baseline_sha}..{head}").split()
    assert log == [row[1] for row in rows], "one commit a keep, in order"
    assert c.git("status", "--porcelain") == "" and c.git("symbolic-ref", "HEAD") == "refs/heads/main"


def assert_trials_follow_the_rule(c: VirtualCampaign) -> None:
    """Screens run on a seed of the incumbent, confirmations on fresh ones, anchors apart from the decision."""
    trials = c.trials()
    twice = Counter((t.version, t.protocol, t.seed) for t in trials)
    assert set(twice.values()) <= {1}, [k for k, n in twice.items() if n > 1]
    ran = Counter((e.trial, e.attempt) for e in c.machine.starts)
    assert set(ran.values()) <= {1}, "an attempt ran twice"
    parents = dict(c.conn.execute("SELECT id, parent FROM version"))
    screened = {(t.experiment, t.version) for t in trials if t.purpose == Purpose.SCREEN}
    for trial in trials:
        before = [t for t in trials if t.id < trial.id]
        ours = (trial.experiment, trial.version) in screened
        if trial.purpose == Purpose.CALIBRATE:
            assert trial.seed not in {t.seed for t in before}
        elif trial.purpose == Purpose.SCREEN:
            theirs = [t for t in before if t.version == parents[trial.version] and t.protocol == trial.protocol]
            assert trial.seed in {t.seed for t in theirs if t.purpose in POOL}, "a seed that the incumbent has run"
        elif trial.purpose == Purpose.CONFIRM:
            assert ours and trial.seed not in {t.seed for t in before}, "a fresh seed"
        elif ours:
            _assert_anchor(trial, parents[trial.version], before)
        else:
            partners = [t for t in trials if t.seed == trial.seed and t.id != trial.id]
            assert all(t.experiment == trial.experiment or t.purpose == Purpose.SCREEN for t in partners)


def _assert_anchor(trial: TrialRow, base: int, before: list[TrialRow]) -> None:
    used = [t for t in before if t.seed == trial.seed]
    assert all((t.version, t.purpose) == (base, Purpose.ANCHOR) for t in used), "no part in the decision"
    decision = [t for t in before if t.version == trial.version and t.purpose != Purpose.ANCHOR]
    assert decision, "only what was confirmed is anchored"
    newest = max(t.id for t in decision)
    assert all(t.id > newest for t in used), "nor did its partner take part"


def version_sha(c: VirtualCampaign, version: int) -> str:
    return str(c.conn.execute("SELECT sha FROM version WHERE id = ?", (version,)).fetchone()[0])


def tree(c: VirtualCampaign, sha: str) -> str:
    return c.git("rev-parse", f"{sha}^{{tree}}")


def text_at(c: VirtualCampaign, sha: str) -> str:
    return c.git("show", f"{sha}:train.py")
