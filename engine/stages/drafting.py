"""drafting -> review or ready: a brief in, a proposal with its candidate commit out."""

from __future__ import annotations

import asyncio
import shutil

from engine import context
from engine.errors import EditRejected
from engine.failpoints import hit
from engine.scope import Scope
from engine.stages import Setting, Situation
from engine.store import writes
from engine.store.reading import ExperimentRow
from engine.types import Author, Brief, NoProposal, Proposal, StreamText, Verdict
from engine.types import ExperimentState as S

STREAM_SECONDS = 0.25
FAILED_DRAFTS = 3  # in a row: then the proposer needs a person
KEEPS_WAITING = 8  # unanswered: then more of them would only wait too


class Drafting:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.exhausted = ""  # why the proposer has nothing more
        self._failed_drafts = 0

    async def ahead(self, now: Situation, limit: str) -> None:
        """Keep ``drafts`` proposals ahead of the devices, within the limits."""
        ahead = sum(e.state in (S.DRAFTING, S.REVIEW, S.READY) for e in now.experiments)
        waiting = sum(e.state == S.KEEP_REVIEW for e in now.experiments)
        if self.exhausted or limit or ahead >= self.setting.config.proposer.drafts or waiting >= KEEPS_WAITING:
            return
        if not now.campaign.calibration and not now.trials:
            return  # let the calibration queue first
        if self.setting.proposer.name == Author.SEARCH and any(e.state == S.DRAFTING for e in now.experiments):
            return  # it takes milliseconds: each draft sees the one before it, so that no two propose the same
        await self.setting.store.write(writes.new_experiment, now.campaign.id, Author(self.setting.proposer.name))
        hit("experiment.created")
        self.setting.wake()

    async def draft(self, now: Situation, experiment: ExperimentRow) -> None:
        campaign = now.campaign
        files = await self.setting.workspace.files(
            campaign.incumbent_sha, (*self.setting.config.project.edit, *self.setting.config.project.context)
        )
        checkout = self.setting.state / "drafts" / str(experiment.number)
        if self.setting.proposer.name == Author.COMMAND:
            # An engine that died while drafting left its copy half edited: a draft starts from the base.
            await asyncio.to_thread(shutil.rmtree, checkout, ignore_errors=True)
            await self.setting.workspace.checkout(campaign.incumbent_sha, checkout)
        brief = await self.setting.store.read(
            context.build, campaign, experiment, self.setting.config, files, checkout=str(checkout)
        )
        proposal = await self._propose(experiment, brief)
        hit("draft.proposed")
        if isinstance(proposal, NoProposal):
            await self._no_proposal(experiment, proposal)
            return
        try:
            candidate = await self.setting.workspace.candidate(
                campaign.incumbent_sha,
                proposal.changes,
                self._scope(),
                message=f"{proposal.title}\n\n{proposal.hypothesis}",
                at=experiment.created_at,
            )
        except EditRejected as error:
            await self.setting.store.write(
                writes.ruled, experiment.id, S.DRAFTING, S.SETTLED, Verdict.INVALID, error.message
            )
            await self._count_failed(error.message)
            return
        self._failed_drafts = 0
        await self.setting.workspace.hold(campaign.name, str(experiment.number), candidate.sha)
        hit("draft.candidate")
        await self.setting.store.write(
            writes.proposal_stored,
            experiment.id,
            campaign.incumbent,
            proposal,
            candidate.sha,
            await self.setting.workspace.diff(campaign.incumbent_sha, candidate.sha),
            sum(f.added or 0 for f in candidate.files),
            sum(f.deleted or 0 for f in candidate.files),
            S.REVIEW if self.setting.config.review.mode in ("proposals", "all") else S.READY,
        )
        hit("draft.stored")
        await asyncio.to_thread(shutil.rmtree, checkout, ignore_errors=True)

    async def _propose(self, experiment: ExperimentRow, brief: Brief) -> Proposal | NoProposal:
        """Follow the proposer's stream to its end, batching what it shows."""
        shown: list[tuple[str, str]] = []
        flushed = self.setting.clock.monotonic()
        answer: Proposal | NoProposal = NoProposal("failed", "the proposer ended without a proposal")
        async for item in self.setting.proposer.propose(brief):
            if isinstance(item, StreamText):
                shown.append((item.channel, item.text))
                if self.setting.clock.monotonic() - flushed >= STREAM_SECONDS:
                    flushed = self.setting.clock.monotonic()
                    await self.setting.store.write(writes.add_stream, experiment.id, shown)
                    shown = []
            else:
                answer = item
        if shown:
            await self.setting.store.write(writes.add_stream, experiment.id, shown)
        return answer

    async def _no_proposal(self, experiment: ExperimentRow, answer: NoProposal) -> None:
        await self.setting.store.write(
            writes.ruled,
            experiment.id,
            S.DRAFTING,
            S.SETTLED,
            Verdict.CANCELLED,
            f"no proposal ({answer.outcome}): {answer.message}",
        )
        if answer.outcome == "exhausted":
            self.exhausted = f"the proposer has nothing more to propose: {answer.message}"
        else:
            await self._count_failed(answer.message)

    async def _count_failed(self, message: str) -> None:
        """Nothing usable came: no limit counts such drafts, so something else must stop them."""
        self._failed_drafts += 1
        if self._failed_drafts >= FAILED_DRAFTS:
            self._failed_drafts = 0
            await self.setting.pause(
                f"{FAILED_DRAFTS} drafts in a row brought nothing; the last: {message}",
                "mend [proposer] in ratchet.toml, then `ratchet resume`",
            )

    def _scope(self) -> Scope:
        return Scope(tuple(self.setting.config.project.edit), tuple(self.setting.config.project.frozen))
