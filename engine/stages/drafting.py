"""drafting -> review or ready: a brief in, a proposal with its candidate commit out.

A failed proposal of an author who can mend (Claude) goes back to it, with what went wrong, before anything
new is asked of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from dataclasses import replace

from engine import context
from engine.errors import EditRejected, RatchetError
from engine.failpoints import hit
from engine.ledger import Room
from engine.line_merge import merge_files
from engine.scope import Scope
from engine.stages import Setting, Situation
from engine.stages.reviewing import Reviewing
from engine.store import reading, writes
from engine.store.rows import CampaignRow, ExperimentRow
from engine.types import (
    Author,
    Brief,
    Failure,
    FileChange,
    Message,
    NoProposal,
    Proposal,
    Proposer,
    Remaining,
    StreamText,
    Verdict,
)
from engine.types import ExperimentState as S

log = logging.getLogger("ratchet.drafting")

STREAM_SECONDS = 0.2  # text reaches a console within 300 ms: this, a commit, and the console's look
FAILED_DRAFTS = 3  # in a row: then the proposer needs a person
DRAFTS_AT_ONCE = 64  # begun by one turn
KEEPS_WAITING = 8  # unanswered: then more of them would only wait too


MENDS = (Author.CLAUDE,)  # authors to whom a failed proposal goes back
EVIDENCE_LINES = 50


class Drafting:
    def __init__(self, setting: Setting, reviewing: Reviewing) -> None:
        self.setting = setting
        self.exhausted = ""  # why the proposer has nothing more
        self.over_budget = ""  # why no request may be sent any more, whatever is settled meanwhile
        self._short = ""  # what the last refusal for want of money said
        self._reviewing = reviewing
        self._failed_drafts = 0
        self._plateau_told = 0  # proposals when it was told
        self._told = context.Told()

    async def ahead(self, now: Situation, limit: str, left: int | None = None) -> None:
        """Keep ``drafts`` proposals ahead of the devices, within the limits (``left`` more, None: any number)."""
        ahead = sum(e.state in (S.DRAFTING, S.REVIEW, S.READY) for e in now.experiments)
        waiting = sum(e.state == S.KEEP_REVIEW for e in now.experiments)
        if self.exhausted or limit or not await self._can_pay():
            return
        missing = self._wanted(now) - ahead
        if missing <= 0 or waiting >= KEEPS_WAITING:
            return
        if not now.campaign.calibration and not now.trials:
            return  # let the calibration queue first
        if self.setting.proposer.name == Author.SEARCH and any(e.state == S.DRAFTING for e in now.experiments):
            return  # it takes milliseconds: each draft sees the one before it, so that no two propose the same
        author = Author(self.setting.proposer.name)
        if author == Author.SEARCH or left is not None:
            missing = min(missing, 1 if author == Author.SEARCH else max(left or 0, 0))
        for _ in range(min(missing, DRAFTS_AT_ONCE)):
            await self.setting.store.write(
                writes.new_experiment, now.campaign.id, author, await self._next_repair(now.campaign, author)
            )
            hit("experiment.created")
        self.setting.wake()

    def _wanted(self, now: Situation) -> int:
        """Proposals ahead of the devices: what the file says, or what the times need."""
        config, pace, at = self.setting.config, self.setting.pace, self.setting.clock.now()
        if config.proposer.drafts:
            return config.proposer.drafts
        run = config.trial.train_seconds
        ending = sum(t.started_at is not None and pace.ends_soon(at - t.started_at, run) for t in now.trials)
        return pace.drafts(self.setting.fleet.capacity, run, len(now.trials), ending)

    async def _can_pay(self) -> bool:
        """Whether what was last refused would fit now. What is only set aside may become free again: it waits."""
        if not self._short or self.setting.ledger is None:
            return True
        room = await self.setting.ledger.room()
        if room is Room.FREE:
            self.forget_refusal()
            return True
        self.over_budget = f"limit reached: {self._short}" if room is Room.REACHED else ""
        return False

    def forget_refusal(self) -> None:
        """A person changed something: ask for money again."""
        self._short = self.over_budget = ""

    async def _next_repair(self, campaign: CampaignRow, author: Author) -> int | None:
        """Row id of the failed experiment that is to be mended next."""
        if author not in MENDS or not self.setting.config.proposer.repairs:
            return None
        numbers = await self.setting.store.read(
            reading.to_repair, campaign.id, author, self.setting.config.proposer.repairs
        )
        if not numbers:
            return None
        row = await self.setting.store.read(reading.experiment, campaign.id, numbers[-1])
        return row.id if row is not None else None

    async def draft(self, campaign: CampaignRow, drafted: int, experiment: ExperimentRow) -> None:
        """One draft from its brief to its candidate. It lasts: of what the turn saw (``drafted`` proposals so far)
        it keeps no more than it needs, for a thousand drafts would keep a thousand looks at all rows."""
        proposer = self.setting.proposer  # the same from here to the end, whatever ratchet.toml says meanwhile
        if experiment.author != proposer.name:
            # The row was made for another one, before ratchet.toml changed: what that was to mend still waits.
            await self.setting.store.write(writes.redrafted_by, experiment.id, Author(proposer.name))
            experiment = replace(experiment, author=proposer.name, repairs=None)
        files = await self.setting.workspace.files(campaign.incumbent_sha, self._shown(proposer))
        checkout = self.setting.state / "drafts" / str(experiment.number)
        if proposer.name == Author.COMMAND:
            # An engine that died while drafting left its copy half edited: a draft starts from the base.
            await asyncio.to_thread(shutil.rmtree, checkout, ignore_errors=True)
            await self.setting.workspace.checkout(campaign.incumbent_sha, checkout)
        brief = await self.setting.store.read(
            context.build,
            campaign,
            experiment,
            self.setting.config,
            files,
            checkout=str(checkout),
            remaining=await self._remaining(campaign, drafted),
            failure=await self._failure(campaign, experiment),
            told=self._told,
        )
        await self._tell_plateau(campaign, brief)
        begun = self.setting.clock.monotonic()
        proposal = await self._propose(proposer, experiment, brief)
        if isinstance(proposal, Proposal):
            self.setting.pace.proposed(self.setting.clock.monotonic() - begun)
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
                writes.ruled,
                experiment.id,
                S.DRAFTING,
                S.SETTLED,
                Verdict.INVALID,
                error.message,
                outcome="invalid edit",
            )
            await self._count_failed(error.message)
            return
        self._failed_drafts = 0
        diff = await self.setting.workspace.diff(campaign.incumbent_sha, candidate.sha)
        target, asked = self._reviewing.asked(diff)
        await self.setting.workspace.hold(campaign.name, str(experiment.number), candidate.sha)
        hit("draft.candidate")
        twin = await self.setting.store.write(
            writes.proposal_stored,
            experiment.id,
            campaign.incumbent,
            proposal,
            candidate.sha,
            diff,
            sum(f.added or 0 for f in candidate.files),
            sum(f.deleted or 0 for f in candidate.files),
            target,
            asked,
        )
        hit("draft.stored")
        if twin is not None:
            log.info("experiment %d is the same program as %d, handed in at once", experiment.number, twin)
        told = [note.id for note in brief.notes if note.id]
        if told:
            await self.setting.store.write(writes.notes_used, experiment.id, told)
        await asyncio.to_thread(shutil.rmtree, checkout, ignore_errors=True)

    async def _propose(self, proposer: Proposer, experiment: ExperimentRow, brief: Brief) -> Proposal | NoProposal:
        """Follow the proposer's stream to its end, batching what it shows. What it raises is a failed draft."""
        shown = _Shown(self.setting, experiment.id)
        flushing = asyncio.create_task(shown.flush_on_time())
        answer: Proposal | NoProposal = NoProposal("failed", "the proposer ended without a proposal")
        try:
            # Closed here and now when this draft is cancelled: an open stream is an open booking.
            async with contextlib.aclosing(proposer.propose(brief)) as items:
                async for item in items:
                    if isinstance(item, StreamText):
                        shown.add(item)
                    elif isinstance(item, Message):
                        await shown.flush()
                        await self.setting.store.write(writes.add_transcript, experiment.id, [item])
                    else:
                        answer = item
        except RatchetError:
            raise  # of the store, and the like: no fault of the proposer's
        except Exception as error:
            # A night's campaign must not end with one draft; three of them in a row ask for a person.
            log.exception("the draft of experiment %d failed", experiment.number)
            answer = NoProposal("failed", f"the proposer failed: {error!r}"[:500], "see engine.log")
        finally:
            flushing.cancel()
        await shown.flush()
        return answer

    async def _no_proposal(self, experiment: ExperimentRow, answer: NoProposal) -> None:
        await self.setting.store.write(
            writes.ruled,
            experiment.id,
            S.DRAFTING,
            S.SETTLED,
            Verdict.CANCELLED,
            f"no proposal ({answer.outcome}): {answer.message}",
            outcome=answer.outcome,
        )
        if answer.outcome == "exhausted":
            self.exhausted = f"the proposer has nothing more to propose: {answer.message}"
        elif answer.outcome == "over budget":
            self._short = answer.message
        elif answer.outcome == "gave up" and experiment.repairs is not None:
            pass  # as it was told to, where the idea cannot work: a failure goes back once, so this has an end
        else:
            await self._count_failed(answer.message, answer.mend)

    async def _count_failed(self, message: str, mend: str = "") -> None:
        """Nothing usable came: no limit counts such drafts, so something else must stop them."""
        self._failed_drafts += 1
        if self._failed_drafts >= FAILED_DRAFTS:
            self._failed_drafts = 0
            await self.setting.pause(
                f"{FAILED_DRAFTS} drafts in a row brought nothing; the last: {message}",
                mend or "mend [proposer] in ratchet.toml, then `ratchet resume`",
            )

    # --- what a brief needs beyond the store's history ------------------------------------------

    async def _failure(self, campaign: CampaignRow, experiment: ExperimentRow) -> Failure | None:
        """What is to be mended: the failed proposal's change against its base, and what went wrong."""
        if experiment.repairs is None:
            return None
        failed = await self.setting.store.read(reading.experiment, campaign.id, experiment.repairs)
        assert failed is not None
        crashed = failed.verdict == Verdict.CRASH
        kind = "crash" if crashed else failed.outcome
        changes, fits = await self._change_of(failed, campaign)
        if not fits:
            kind = "stale"  # shown, and not put into the working copy: it does not apply any more
        tail = await self.setting.store.read(reading.failure_tail, failed.id) if crashed else ""
        evidence = "\n".join(tail.splitlines()[-EVIDENCE_LINES:])
        return Failure(
            number=failed.number,
            title=failed.title,
            hypothesis=failed.hypothesis,
            changes=changes,
            kind=kind,
            evidence=f"{failed.reason}\n{evidence}".strip(),
            attempt=await self.setting.store.read(reading.repair_depth, experiment.id),
        )

    async def _change_of(
        self, failed: ExperimentRow, campaign: CampaignRow
    ) -> tuple[tuple[FileChange, ...], bool]:
        """A failed proposal's change against the incumbent, merged where that moved on; else as it was, False."""
        if failed.candidate_sha is None:
            return (), True
        edit, workspace = self.setting.config.project.edit, self.setting.workspace
        base, after = [await workspace.files(sha, edit) for sha in (failed.base_sha, failed.candidate_sha)]
        if failed.base_sha != campaign.incumbent_sha:
            ours = await workspace.files(campaign.incumbent_sha, edit)
            merged, conflicts = merge_files(base, ours, after)
            if not conflicts:
                return tuple(FileChange(path, content) for path, content in sorted(merged.items())), True
        changed = [path for path in sorted(base.keys() | after.keys()) if base.get(path) != after.get(path)]
        fits = failed.base_sha == campaign.incumbent_sha
        return tuple(FileChange(path, after.get(path)) for path in changed), fits

    async def _remaining(self, campaign: CampaignRow, drafted: int) -> Remaining:
        limits = self.setting.config.limits
        left = await self.setting.ledger.left() if self.setting.ledger is not None else None
        return Remaining(
            experiments=None if limits.experiments is None else max(0, limits.experiments - drafted),
            hours=None if limits.hours is None else max(0.0, limits.hours - campaign.active_seconds / 3600),
            dollars=None if left is None else left / 1e9,
        )

    async def _tell_plateau(self, campaign: CampaignRow, brief: Brief) -> None:
        """Once a plateau, the person is told as well."""
        if brief.plateau < self._plateau_told:
            self._plateau_told = 0  # something was kept since
        if not brief.plateau_after or brief.plateau < brief.plateau_after or self._plateau_told:
            return
        self._plateau_told = brief.plateau
        await self.setting.store.write(writes.plateau, campaign.id, brief.plateau)

    def _shown(self, proposer: Proposer) -> tuple[str, ...]:
        """Globs of the files that the brief carries."""
        project = self.setting.config.project
        # What measures is worth reading for whoever reads; a search would take its constants for its own.
        frozen = project.frozen if proposer.name in MENDS else ()
        return (*project.edit, *project.context, *frozen)

    def _scope(self) -> Scope:
        return Scope(tuple(self.setting.config.project.edit), tuple(self.setting.config.project.frozen))


class _Shown:
    """What a draft streams, in batches: a few writes a second, and none that waits for the next word."""

    def __init__(self, setting: Setting, experiment: int) -> None:
        self._setting, self._experiment = setting, experiment
        self._waiting: list[tuple[str, str]] = []
        self._came = asyncio.Event()

    def add(self, item: StreamText) -> None:
        if self._waiting and self._waiting[-1][0] == item.channel:
            self._waiting[-1] = (item.channel, self._waiting[-1][1] + item.text)
        else:
            self._waiting.append((item.channel, item.text))
        self._came.set()

    async def flush(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            await self._setting.store.write(writes.add_stream, self._experiment, batch)

    async def flush_on_time(self) -> None:
        while True:
            await self._came.wait()  # a silent draft costs nothing
            self._came.clear()
            await self._setting.clock.sleep(STREAM_SECONDS)
            await self.flush()
