"""merging -> settled: one commit on the campaign's branch, by compare-and-swap."""

from __future__ import annotations

from engine.failpoints import hit
from engine.stages import Setting, Situation
from engine.stages.measuring import Measuring
from engine.store import deciding, reading, writes
from engine.store.rows import CampaignRow, ExperimentRow, TrialRow
from engine.types import ExperimentState as S


class Merging:
    def __init__(self, setting: Setting, measuring: Measuring) -> None:
        self.setting = setting
        self._measuring = measuring

    @staticmethod
    def first(now: Situation) -> ExperimentRow:
        """Keeps advance one at a time: the next one must see the new incumbent."""
        return next(e for e in now.experiments if e.state == S.MERGING)

    async def merge(self, now: Situation, experiment: ExperimentRow) -> None:
        """One commit on the campaign's branch, by compare-and-swap; then the store says so."""
        campaign = now.campaign
        if experiment.base != campaign.incumbent and experiment.intent is None:
            await self._measuring.rebase(now, experiment)
            return
        assert experiment.candidate_sha is not None
        intent = experiment.intent
        if intent is None:
            trials = await self.setting.store.read(reading.trials, campaign.id, experiment=experiment.id)
            intent = {
                "parent": campaign.head,
                "message": keep_message(campaign, experiment, trials),
                "at": self.setting.clock.now(),
            }
            await self.setting.store.write(writes.merge_intended, experiment.id, intent)
        hit("merge.intent")
        # The same intent makes the same commit, whoever carries it out, and however often.
        sha = await self.setting.workspace.keep_commit(
            intent["parent"], experiment.candidate_sha, message=intent["message"], at=intent["at"]
        )
        hit("merge.commit")
        moved = await self.setting.workspace.advance(campaign.name, intent["parent"], sha)
        hit("merge.advanced")
        await self.setting.store.write(writes.merged, experiment.id, intent["parent"], sha, moved.note, S.MERGING)
        hit("merge.confirmed")

    async def step_back(self, number: int, actor: str, reason: str) -> tuple[str, str]:
        """An earlier keep (0: the baseline) in force again, as a new commit: history only moves forward.

        The store says so first; a branch that is one step behind it is moved at the next start.
        Returns (refusal, what was done).
        """
        store, workspace = self.setting.store, self.setting.workspace
        campaign = await store.read(reading.campaign, self.setting.campaign.name)
        assert campaign is not None
        keeps = await store.read(reading.keeps, campaign.line)
        keep = next((k for k in keeps if k.number == number), None)
        if keep is None and number:
            return f"experiment {number} is no keep of this campaign", ""
        tree, incumbent, title = campaign.baseline_sha, campaign.baseline, "the baseline"
        if keep is not None:
            row = await store.read(reading.experiment, campaign.id, number)
            assert row is not None and row.candidate is not None
            tree, incumbent, title = keep.sha, row.candidate, f"#{number} {keep.title}"
        if incumbent == campaign.incumbent:
            return f"{title} is in force already", ""
        message = f"Step back to {title}\n\n{reason or 'no reason given'}\n\nRatchet-Actor: {actor}\n"
        sha = await workspace.keep_commit(campaign.head, tree, message=message, at=self.setting.clock.now())
        await workspace.hold(campaign.name, f"back-{sha[:12]}", sha)
        refusal = await store.write(
            deciding.stepped_back, campaign.line, campaign.head, sha, incumbent, number, actor, reason
        )
        if refusal:
            return refusal, ""
        hit("stepback.stored")
        moved = await workspace.advance(campaign.name, campaign.head, sha)
        return "", f"back at {title}; the later keeps stay in the history" + (
            f" ({moved.note})" if moved.note else ""
        )


def keep_message(campaign: CampaignRow, experiment: ExperimentRow, trials: list[TrialRow]) -> str:
    """The commit message of a keep: hypothesis, effect with interval, the trials that it rests on."""
    lines = [f"{experiment.title}", "", experiment.hypothesis or "(no hypothesis given)", ""]
    if experiment.effect is not None and experiment.effect_low is not None:
        lines.append(
            f"Effect: {campaign.metric} better by {experiment.effect:.6g}"
            f" (90 % interval {experiment.effect_low:.6g} to {experiment.effect_high:.6g})"
        )
    lines += list(experiment.arithmetic)
    lines += [
        "",
        f"Ratchet-Campaign: {campaign.name}",
        f"Ratchet-Experiment: {experiment.number}",
        f"Ratchet-Author: {experiment.author} {experiment.author_detail}".rstrip(),
        f"Ratchet-Trials: {' '.join(str(i) for i in sorted(t.id for t in trials))}",
    ]
    return "\n".join(lines) + "\n"
