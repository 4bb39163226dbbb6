"""What people ask through the inbox, carried out: one method a kind, each with its answer in words.

The answer is ``(state, outcome)``: done or refused, and one sentence for the person who asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from engine.conductor import Conductor
from engine.errors import Fenced, RatchetError, StoreCorrupt
from engine.failpoints import hit
from engine.inbox import Request
from engine.opening import PAUSED_BY
from engine.scope import Scope
from engine.store import deciding, reading, writes
from engine.store.rows import ExperimentRow
from engine.types import Author, FileChange, Proposal

Answer = tuple[str, str]
MOST_AT_ONCE = 1000  # acceptances in advance
MOST_SEEDS = 50


class Requests:
    """Carries requests out on one conductor's campaign."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor
        self._store = conductor.store
        self._setting = conductor.setting
        self._kinds: dict[str, Callable[[Request], Awaitable[Answer]]] = {
            "accept": self._decide,
            "reject": self._decide,
            "undo": self._undo,
            "edit": self._edit,
            "autopilot": self._autopilot,
            "rerun": self._rerun,
            "pin": self._pin,
            "unpin": self._pin,
            "step_back": self._step_back,
            "steer": self._steer,
            "pause": self._pause,
            "resume": self._resume,
            "stop": self._stop,
            "stop_trial": self._stop_trial,
            "drain": self._drain,
            "undrain": self._undrain,
            "lend": self._lend,
        }

    async def carry_out(self, request: Request) -> Answer:
        """Never raises for what a person sent: whatever is wrong with it is the answer."""
        kind = self._kinds.get(request.kind)
        if kind is None:
            return "refused", f"this engine does not know {request.kind!r}"
        try:
            return await kind(request)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            return "refused", f"the request {request.kind!r} is malformed: {error!r}"
        except (Fenced, StoreCorrupt):
            raise
        except RatchetError as error:
            return "refused", f"{error.message}" + (f" ({error.mend})" if error.mend else "")

    async def _experiment(self, number: object) -> ExperimentRow | None:
        return await self._store.read(reading.experiment, self._conductor.campaign.id, int(str(number)))

    # --- decisions ------------------------------------------------------------------------------

    async def _decide(self, request: Request) -> Answer:
        args = request.args
        row = await self._experiment(args["number"])
        if row is None:
            return "refused", f"there is no experiment {args['number']}"
        refusal = await self._store.write(
            deciding.decided,
            row.id,
            request.kind,
            request.actor,
            str(args.get("reason", "")),
            args.get("revision"),
        )
        hit("review.decided")
        self._conductor.wake()
        return _answer(refusal, f"experiment {row.number} {request.kind}ed")

    async def _undo(self, request: Request) -> Answer:
        row = await self._experiment(request.args["number"])
        if row is None:
            return "refused", f"there is no experiment {request.args['number']}"
        refusal = await self._store.write(deciding.undone, row.id, request.actor)
        return _answer(refusal, f"the decision about experiment {row.number} is taken back: it waits again")

    async def _edit(self, request: Request) -> Answer:
        """``changes``: [{path, text}] against the base, the whole new text of each file (null deletes)."""
        args = request.args
        row = await self._experiment(args["number"])
        if row is None:
            return "refused", f"there is no experiment {args['number']}"
        changes = tuple(
            FileChange(str(c["path"]), None if c["text"] is None else str(c["text"]).encode())
            for c in args["changes"]
        )
        project = self._setting.config.project
        workspace = self._setting.workspace
        title = str(args.get("title") or row.title)
        candidate = await workspace.candidate(
            row.base_sha,
            changes,
            Scope(tuple(project.edit), tuple(project.frozen)),
            message=f"{title}\n\n{row.hypothesis}\n\nedited by {request.actor}",
            at=row.created_at,
        )
        campaign = self._conductor.campaign
        await workspace.hold(campaign.name, f"{row.number}-edited-{candidate.sha[:12]}", candidate.sha)
        refusal = await self._store.write(
            deciding.edited,
            row.id,
            Proposal(
                title,
                row.hypothesis,
                changes,
                Author.PERSON,
                f"{request.actor}, from {row.author} {row.author_detail}".rstrip(),
                row.expected_effect,
                refuted_by=row.refuted_by,
                kind=row.kind,
            ),
            candidate.sha,
            await workspace.diff(row.base_sha, candidate.sha),
            sum(f.added or 0 for f in candidate.files),
            sum(f.deleted or 0 for f in candidate.files),
            request.actor,
            int(args["revision"]),
        )
        return _answer(refusal, f"experiment {row.number} is edited; it still waits for your decision")

    async def _autopilot(self, request: Request) -> Answer:
        count = int(request.args["count"])
        if not 0 <= count <= MOST_AT_ONCE:
            return "refused", f"between 0 and {MOST_AT_ONCE} can be accepted in advance, not {count}"
        await self._store.write(deciding.autopilot_set, self._conductor.campaign.id, count, request.actor)
        self._conductor.wake()
        return "done", f"the next {count} are accepted without asking" if count else "everything asks again"

    async def _rerun(self, request: Request) -> Answer:
        row = await self._experiment(request.args["number"])
        seeds = int(request.args.get("seeds", 3))
        if row is None or not 1 <= seeds <= MOST_SEEDS:
            return "refused", f"there is no such experiment, or not 1 to {MOST_SEEDS} seeds"
        queued, refusal = await self._conductor.rerun(row, seeds, request.actor)
        return _answer(
            refusal,
            f"{queued} further runs of experiment {row.number} and its base are queued; they change no verdict",
        )

    async def _pin(self, request: Request) -> Answer:
        row = await self._experiment(request.args["number"])
        if row is None:
            return "refused", f"there is no experiment {request.args['number']}"
        on = request.kind == "pin"
        await self._store.write(deciding.pinned, self._conductor.campaign.id, row.id, request.actor, on)
        return "done", f"experiment {row.number} is {'' if on else 'no longer '}pinned"

    async def _step_back(self, request: Request) -> Answer:
        """To the keep of experiment ``number``, or to the baseline (0)."""
        number, reason = int(request.args["number"]), str(request.args.get("reason", ""))
        return _answer(*await self._conductor.step_back(number, request.actor, reason))

    async def _steer(self, request: Request) -> Answer:
        text = str(request.args["text"]).strip()
        if not text:
            return "refused", "there is no text"
        if len(text) > 4000:
            return "refused", f"a message has at most 4000 characters, this one {len(text)}"
        await self._store.write(writes.add_note, self._conductor.campaign.id, text, request.actor)
        proposer = self._setting.proposer.name
        heard = "" if proposer == "claude" else f"; note that the proposer {proposer!r} may not read it"
        return "done", f"the next brief carries it{heard}"

    # --- the campaign ---------------------------------------------------------------------------

    async def _pause(self, request: Request) -> Answer:
        await self._conductor.pause(f"{PAUSED_BY}{request.actor}", "`ratchet resume` goes on")
        return "done", "paused; running trials go on to their end"

    async def _resume(self, request: Request) -> Answer:
        await self._store.write(
            writes.set_campaign_state, self._conductor.campaign.id, "running", by=request.actor
        )
        self._conductor.resumed()
        return "done", "running"

    async def _stop(self, request: Request) -> Answer:
        self._conductor.stop(f"stopped by {request.actor}", withdraw=not request.args.get("leave_trials"))
        return "done", "stopping"

    async def _stop_trial(self, request: Request) -> Answer:
        trial = int(request.args["trial"])
        row = await self._store.read(reading.trial, trial)
        if row is None or row.state == "done":
            return "refused", f"trial {trial} is not running"
        asked = await self._conductor.desk.cancel(trial, f"stopped by {request.actor}")
        return "done", f"trial {trial} " + ("is being ended" if asked else f"ends when host {row.host} is back")

    # --- hosts ----------------------------------------------------------------------------------

    async def _drain(self, request: Request) -> Answer:
        return "done", self._conductor.fleet.drain(str(request.args["name"]), request.actor)

    async def _undrain(self, request: Request) -> Answer:
        return "done", self._conductor.fleet.undrain(str(request.args["name"]))

    async def _lend(self, request: Request) -> Answer:
        """``hours``; ``device``: the beginning of a UUID, absent: all of the host."""
        args = request.args
        hours, device = float(args["hours"]), str(args.get("device") or "")
        return "done", self._conductor.fleet.lend(str(args["name"]), hours, device)


def _answer(refusal: str, done: str) -> Answer:
    return ("refused", refusal) if refusal else ("done", done)
