"""ready -> measuring <-> judging: the trials that the judge asks for, and its verdict."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from statistics import fmean

from engine import judge
from engine.case import DECIDING
from engine.failpoints import hit
from engine.line_merge import merge_files
from engine.scope import Scope
from engine.stages import Setting, Situation
from engine.stages.finished import Finished, run_of
from engine.stages.reviewing import Reviewing
from engine.store import attempting, deciding, reading, writes
from engine.store.rows import CampaignRow, ExperimentRow
from engine.types import ExperimentState as S
from engine.types import FileChange, Goal, Purpose, Run, TrialOutcome, TrialState, Verdict

FILL_SEEDS = 20  # runs of one incumbent, after which its mean is known well enough
FILL_FROM = 0.5  # of a run's time: a proposal that is nearer than this is waited for
ANCHORED = "anchor"  # the judge's stage in which the decision is made
HELD_ALREADY = "the incumbent holds this change already"


class Measuring:
    def __init__(self, setting: Setting, reviewing: Reviewing) -> None:
        self.setting = setting
        self._reviewing = reviewing
        self._finished = Finished(setting.campaign.id, setting.campaign.seed)
        self._seeds = asyncio.Lock()
        self._judged: dict[int, tuple[int, int]] = {}  # experiment -> ended runs when it was last judged

    def _rules(self) -> judge.Rules:
        j = self.setting.config.judge
        return judge.Rules(
            goal=Goal(self.setting.campaign.goal),
            mode=j.mode,
            calibrate_seeds=j.calibrate_seeds,
            screen_sigma=j.screen_sigma,
            confirm_seeds=j.confirm_seeds,
            confirm_alpha=j.confirm_alpha,
            anchor_seeds=j.anchor_seeds,
        )

    async def calibrate(self, now: Situation) -> None:
        """Measure the incumbent's noise under the protocol in force, before any verdict."""
        campaign = now.campaign
        if campaign.calibration or any(t.purpose == Purpose.CALIBRATE for t in now.trials):
            return
        trials = await self.setting.store.read(reading.trials, campaign.id, version=campaign.incumbent)
        given_up = await self.setting.store.read(reading.ended_before_resume, campaign.id)
        runs = tuple(
            run_of(t)
            for t in trials
            if t.protocol == campaign.protocol
            and t.purpose == Purpose.CALIBRATE
            # Somebody resumed after a failure was told: what failed is mended, they say, so it runs again.
            and (t.outcome == TrialOutcome.OK or t.id not in given_up)
        )
        async with self._seeds:
            answer = judge.calibrate(self._rules(), runs, await self._fresh_seeds())
            if isinstance(answer, judge.Ask):
                kind = self._main_kind(runs)
                wanted = [(campaign.incumbent, r.purpose, r.seed, kind) for r in answer.requests]
                await self.setting.store.write(writes.queue_trials, campaign.id, campaign.protocol, wanted)
        if isinstance(answer, judge.Ask):
            hit("trials.queued")
        elif isinstance(answer, judge.Calibration):
            await self.setting.store.write(writes.calibrated, campaign.id, campaign.protocol, asdict(answer))
        else:
            await self.setting.pause(
                f"the baseline itself fails: {answer.reason}" + (f" ({answer.detail})" if answer.detail else ""),
                "`ratchet log calibration` shows its output; mend the project or ratchet.toml and start again:"
                " the next start begins from the files as they are then",
            )
            return
        self.setting.wake()

    async def fill(self, now: Situation) -> float | None:
        """An idle device has useful work while the next proposal is far: a further seed of the incumbent.

        Also beside the calibration, whose runs are then those of a busy machine, and while a person is asked. Not
        on rented devices, nor beyond FILL_SEEDS: more teach little. Returns the seconds until it may be time.
        """
        setting, campaign = self.setting, now.campaign
        idle = setting.fleet.free
        run = setting.pace.running or float(setting.config.trial.train_seconds)
        awaited = [e.created_at for e in now.experiments if e.state == S.DRAFTING]
        awaited += [e.asked_at or e.updated_at for e in now.experiments if e.state in (S.REVIEW, S.KEEP_REVIEW)]
        begun = campaign.calibration or any(t.purpose == Purpose.CALIBRATE for t in now.trials)
        if not begun or not awaited or idle <= 0 or run <= 0:
            return None
        if any(e.state in (S.READY, S.JUDGING, S.MERGING) for e in now.experiments):
            return None
        if any(post.usd_per_hour for post in setting.fleet.posts):
            return None
        # A proposal that has taken long already may take as long again.
        wait = max(setting.pace.proposing, setting.clock.now() - min(awaited))
        if wait < FILL_FROM * run:
            return max(1.0, FILL_FROM * run - wait)
        await setting.store.read(self._finished.refresh)
        known = len(self._finished.runs(campaign.protocol, campaign.incumbent))
        known += len(now.by_version.get(campaign.incumbent, ()))
        count = min(idle, FILL_SEEDS - known)
        if count > 0:
            async with self._seeds:
                seeds = (await self._fresh_seeds())[:count]
                wanted = [(campaign.incumbent, Purpose.ANCHOR, seed) for seed in seeds]
                await setting.store.write(writes.queue_trials, campaign.id, campaign.protocol, wanted)
            setting.wake()
        return None

    def _main_kind(self, runs: tuple[Run, ...]) -> str:
        """Where the baseline is measured: on the kind it has run on already, else on the most common one."""
        kinds = self.setting.fleet.kinds
        if len(kinds) < 2:
            return ""
        begun = [run.hardware for run in runs if run.hardware in kinds]
        return begun[0] if begun else min(kinds, key=lambda kind: (-kinds[kind], kind))

    def _kind(self, wanted: str) -> str:
        """What the judge wants to compare with, where there is a choice: also a kind that is away for a moment."""
        known = {kind for post in self.setting.fleet.posts for kind in post.kinds}
        return "" if known == {wanted} else wanted

    async def rerun(self, experiment: ExperimentRow, seeds: int, actor: str) -> tuple[int, str]:
        """Further runs of an experiment and its base on seeds that nobody used, for comparison only."""
        async with self._seeds:
            queued: tuple[int, str] = await self.setting.store.write(
                deciding.seeds_added,
                experiment.id,
                self.setting.campaign.protocol,
                (await self._fresh_seeds())[:seeds],
                actor,
                self._kind(await self.setting.store.read(reading.hardware_of, experiment)),
            )
            return queued

    async def _fresh_seeds(self, count: int = 64) -> tuple[int, ...]:
        await self.setting.store.read(self._finished.refresh)
        return self._finished.fresh_seeds(count)

    async def begin(self, now: Situation, experiment: ExperimentRow) -> None:
        """From ready to the first trial; a proposal whose base was overtaken is merged onto the head."""
        if experiment.base != now.campaign.incumbent:
            await self.rebase(now, experiment)
            return
        await self.judge(now, experiment)

    async def rebase(self, now: Situation, experiment: ExperimentRow) -> None:
        """Onto the incumbent: a clean merge is measured from the start, as merged; a conflict is stale."""
        merged, why = await self._merged(now, experiment)
        if merged is None:
            await self.setting.store.write(
                writes.ruled,
                experiment.id,
                S(experiment.state),
                S.SETTLED,
                Verdict.CANCELLED,
                f"stale: {why}",
                outcome="no change" if why == HELD_ALREADY else "stale",
            )
            return
        workspace = self.setting.workspace
        await workspace.hold(now.campaign.name, f"{experiment.number}-merged-{merged[:12]}", merged)
        await self.setting.store.write(
            writes.rebased,
            experiment.id,
            S(experiment.state),
            now.campaign.incumbent,
            merged,
            await workspace.diff(now.campaign.incumbent_sha, merged),
            "merged onto the new incumbent; measured as merged",
        )

    async def _merged(self, now: Situation, experiment: ExperimentRow) -> tuple[str | None, str]:
        """The commit of the proposal on the present incumbent, or why there is none."""
        assert experiment.candidate_sha is not None
        workspace, project = self.setting.workspace, self.setting.config.project
        head = now.campaign.incumbent_sha
        versions = (experiment.base_sha, head, experiment.candidate_sha)
        base, ours, theirs = [await workspace.files(sha, project.edit) for sha in versions]
        changes, conflicts = merge_files(base, ours, theirs)
        if conflicts:
            return None, f"the incumbent moved and the changes conflict in {', '.join(conflicts)}"
        if not changes:
            return None, HELD_ALREADY
        candidate = await workspace.candidate(
            head,
            [FileChange(path, content) for path, content in changes.items()],
            Scope(tuple(project.edit), tuple(project.frozen)),
            message=f"{experiment.title}\n\nmerged onto {head[:12]}",
            at=experiment.created_at,
        )
        return candidate.sha, ""

    def has_news(self, now: Situation, experiment: ExperimentRow) -> bool:
        """Whether there is something to do for an experiment that is measured.

        Asked before a task is started: a task's end is a reason to look again, so that one which found
        nothing would start itself again for ever. While runs of its own are under way, those of the incumbent,
        which concern everybody, change nothing.
        """
        if self._overtaken(now, experiment):
            return True
        seen, ended = self._judged.get(experiment.id), now.finished[experiment.id]
        if seen is None or seen[0] != ended[0]:
            return True
        own = now.by_version.get(experiment.candidate or -1, ())
        return seen[1] != ended[1] and not any(t.purpose in DECIDING for t in own)

    def _overtaken(self, now: Situation, experiment: ExperimentRow) -> bool:
        """The incumbent moved while nothing of this runs: what is queued would measure against the past."""
        if experiment.base == now.campaign.incumbent:
            return False
        if experiment.stage == ANCHORED:
            return True  # it has passed; what still runs would only say by how much it beat the past
        own = now.by_version.get(experiment.candidate or -1, ())
        # With none open at all, what it brought is judged first: most such proposals are not better anyway.
        return bool(own) and all(t.state == TrialState.QUEUED for t in own)

    async def measure(self, now: Situation, experiment: ExperimentRow) -> None:
        """Back to the judge whenever a run that concerns it has finished."""
        if self._overtaken(now, experiment):
            await self._drop_trials(experiment, "the incumbent moved")
            for trial in now.by_version.get(experiment.base, ()):
                if trial.experiment == experiment.id and trial.state == TrialState.QUEUED:
                    await self.setting.store.write(
                        attempting.trial_dropped, now.campaign.id, trial.id, "no longer the incumbent"
                    )
            await self.rebase(now, experiment)
            return
        await self.setting.store.write(writes.move, experiment.id, S.MEASURING, S.JUDGING)

    async def _evidence(self, campaign: CampaignRow, experiment: ExperimentRow) -> judge.Evidence:
        store, finished, protocol = self.setting.store, self._finished, campaign.protocol
        await store.read(finished.refresh)
        sides = {experiment.base: "incumbent", experiment.candidate: "candidate"}
        pending = []
        for version, side in sides.items():
            for t in await store.read(reading.trials, campaign.id, version=version, open_only=True):
                if t.protocol == protocol:
                    pending.append(judge.TrialRequest(side, Purpose(t.purpose), t.seed))
        return judge.Evidence(
            rules=self._rules(),
            incumbent=finished.runs(protocol, experiment.base),
            candidate=finished.runs(protocol, experiment.candidate),
            replicates=tuple(finished.groups(protocol)),
            fresh_seeds=finished.fresh_seeds(),
            pending=tuple(pending),
        )

    async def judge(self, now: Situation, experiment: ExperimentRow) -> None:
        """Ask the judge: more trials, or a verdict."""
        assert experiment.candidate is not None
        async with self._seeds:  # fresh for one until its trials are queued
            await self._judge(now, experiment, experiment.candidate)

    async def _judge(self, now: Situation, experiment: ExperimentRow, candidate: int) -> None:
        self._judged |= await self.setting.store.read(reading.finished_runs, [experiment])
        evidence = await self._evidence(now.campaign, experiment)
        answer = judge.decide(evidence)
        overtaken = experiment.base != now.campaign.incumbent
        if overtaken and (isinstance(answer, judge.Ask) and answer.requests):
            # No more device time against a base that is not the incumbent any more: what runs has finished,
            # and the merged program has to be measured anyway.
            await self.rebase(now, experiment)
            return
        if isinstance(answer, judge.Ask):
            side = {"incumbent": experiment.base, "candidate": candidate}
            await self.setting.store.write(
                writes.queue_trials,
                now.campaign.id,
                now.campaign.protocol,
                [(side[r.side], r.purpose, r.seed, self._kind(r.hardware)) for r in answer.requests],
                experiment=experiment.id,
                source=S(experiment.state),
                stage=answer.stage,
            )
            hit("judge.asked")
            return
        if answer.verdict is Verdict.KEEP and overtaken:
            await self.rebase(now, experiment)
            return
        target = S.SETTLED
        if answer.verdict is Verdict.KEEP:
            target = self._reviewing.keep_target()
        own = [r.score for r in evidence.candidate if r.score is not None]
        await self.setting.store.write(
            writes.ruled,
            experiment.id,
            S(experiment.state),
            target,
            answer.verdict,
            answer.reason,
            answer.effect,
            answer.arithmetic,
            fmean(own) if own else None,
        )
        hit("judge.ruled")
        if target is S.SETTLED:
            await self._drop_trials(experiment, "the verdict is given")
            hit("settled")

    async def _drop_trials(self, experiment: ExperimentRow, why: str) -> None:
        """Runs of a settled candidate that nobody else needs any more."""
        rows = await self.setting.store.read(
            reading.trials, self.setting.campaign.id, version=experiment.candidate, open_only=True
        )
        for trial in rows:
            if trial.state == TrialState.QUEUED:
                await self.setting.store.write(attempting.trial_dropped, self.setting.campaign.id, trial.id, why)
            else:
                await self.setting.desk.cancel(trial.id, why)
