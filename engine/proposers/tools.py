"""The tools that a model works with on one proposal: view, search, edit, history, logs, check, submit.

None of them runs anything or touches a disk: edits change a working copy in memory, within the scope; a proposal
leaves through ``submit`` alone. Whatever a model sends is answered in words, refusals too (TRUST.md rows 25, 31).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import EditRejected, RatchetError
from engine.fencing import one_line
from engine.proposers import lookups, submission, text_search
from engine.proposers.draft import Draft
from engine.proposers.static_check import Problem, check_apart, fingerprints_apart
from engine.proposers.submission import Refused, Submission
from engine.proposers.tool_definitions import COMMANDS, EDITOR, KINDS, OWN_EDITOR, VERDICTS, definitions
from engine.proposers.tool_input import ToolInput
from engine.scope import Scope
from engine.types import Author, Brief, PastExperiment, Proposal, Records

LISTED = 20  # experiments, when no number is asked for
MOST_LISTED = 200
LOG_LINES, MOST_LOG_LINES = 60, 400
_STALE = ("conflict", "stale")  # failures whose change does not fit the base version any more


@dataclass(frozen=True, slots=True)
class ToolResult:
    """``label``: a short line for a person who watches. ``outcome``: a refusal's name for ``types.NoProposal``."""

    text: str
    is_error: bool
    label: str
    outcome: str = ""


Reply = tuple[str, str]
"""What the model reads, and the label."""


class Tools:
    """The tools of one conversation. Calls are to be made one after the other.

    ``without``: of "editor", "strict" and "eager", what the server does not speak. A brief with a failure starts
    from the change that failed, where that still fits the base version.
    """

    def __init__(
        self, brief: Brief, records: Records, scope: Scope, without: Collection[str] = frozenset()
    ) -> None:
        self._brief, self._records, self._without = brief, records, frozenset(without)
        self._scope = scope
        failure = brief.failure
        start = failure.changes if failure is not None and failure.kind not in _STALE else ()
        self._draft = Draft(brief.files, scope, start=start)
        self._doubts = submission.Doubts()
        self._checked: tuple[str, list[Problem]] = ("", [])
        self._fingerprints = ("", "", "")  # state, of the base version, of the candidate
        self.submission: Submission | None = None
        editor = OWN_EDITOR if "editor" in self._without else EDITOR
        self._tools: dict[str, Callable[[ToolInput], Awaitable[Reply]]] = {
            editor: self._edit,
            "delete": self._delete,
            "search": self._search,
            "history": self._history,
            "trial_log": self._trial_log,
            "check": self._check,
            "submit": self._submit,
        }

    def definitions(self) -> list[dict[str, Any]]:
        """The tools in the API's shape: the same bytes for the same ``without``."""
        return definitions(self._without)

    @property
    def submitted(self) -> bool:
        return self.submission is not None

    async def run(self, name: str, input: object) -> ToolResult:
        """Carry out one call. Never raises for what a model sent; RatchetError when the store itself fails."""
        try:
            text, label = await self._answer(name, input)
        except EditRejected as refusal:
            outcome = refusal.outcome if isinstance(refusal, Refused) else self._outcome(name)
            text = refusal.message + (f"\n{refusal.mend}" if refusal.mend else "")
            first = refusal.message.partition("\n")[0]
            return ToolResult(_sendable(text), True, one_line(f"refused: {first}", 160), outcome)
        return ToolResult(_sendable(text), False, one_line(label, 160))

    def proposal(self, model: str) -> Proposal:
        """What was submitted, as ``model``'s. Raises RatchetError when nothing was."""
        done = self.submission
        if done is None:
            raise RatchetError("nothing was submitted yet")
        hypothesis = done.hypothesis
        if done.despite:
            hypothesis += f"\n\nSubmitted in spite of doubts: {done.despite}"
        return Proposal(
            title=done.title,
            hypothesis=hypothesis,
            changes=done.changes,
            author=Author.CLAUDE,
            author_detail=model,
            expected_effect=f"{done.expected_effect:+g} {one_line(self._brief.metric, 80)}: {done.effect_reason}",
            refuted_by=done.refuted_by,
            kind=done.kind,
            fingerprint=done.fingerprint,
        )

    async def _answer(self, name: str, input: object) -> Reply:
        tool = self._tools.get(name)
        if tool is None:
            raise EditRejected(
                f"there is no tool {name[:60]!r}",
                f"there are: {', '.join(self._tools)}; no shell, nothing runs code",
            )
        if self.submitted:
            raise EditRejected("the proposal was submitted: nothing of it changes any more", "end your turn")
        return await tool(ToolInput(name, input))

    def _outcome(self, name: str) -> str:
        return "invalid edit" if name in (EDITOR, OWN_EDITOR, "delete") else ""

    # --- the working copy ------------------------------------------------------------------------

    async def _edit(self, given: ToolInput) -> Reply:
        command = given.text("command")
        if command == "undo_edit":
            raise EditRejected("there is no undo_edit", "replace the text back with str_replace")
        if command not in COMMANDS:
            raise EditRejected(f"there is no command {command[:60]!r}", f"there are: {', '.join(COMMANDS)}")
        path = given.text("path", "" if command == "view" else None)
        if command == "view":
            span = given.pair("view_range")
            text = self._draft.view(path, span)
            return text, f"view {path or 'the files'}" + (f" {span[0]}-{span[1]}" if span else "")
        if command == "create":
            content = given.text("file_text")
            return _told(await asyncio.to_thread(self._draft.create, path, content))
        if command == "str_replace":
            old, new = given.text("old_str"), given.text("new_str", "")
            return _told(await asyncio.to_thread(self._draft.str_replace, path, old, new))
        line, content = given.integer("insert_line"), given.text("insert_text")
        return _told(await asyncio.to_thread(self._draft.insert, path, line, content))

    async def _delete(self, given: ToolInput) -> Reply:
        return _told(self._draft.delete(given.text("path")))

    async def _search(self, given: ToolInput) -> Reply:
        pattern, regex = given.text("pattern"), given.flag("regex", False)
        path = given.text("path", "")
        hits = await text_search.search(self._draft.texts(path), pattern, regex=regex)
        label = f"search {pattern!r}: {hits.total} line{'' if hits.total == 1 else 's'}"
        if not hits.total:
            return f"No line holds it, in {len(self._draft.texts(path))} files.", label
        rows = [f"{hit.path}:{hit.line}: {hit.text}" for hit in hits.shown]
        more = hits.total - len(rows)
        return "\n".join([*rows, *([f"... and {more} more lines"] if more else [])]), label

    # --- the past --------------------------------------------------------------------------------

    async def _history(self, given: ToolInput) -> Reply:
        number = given.integer("number", 0)
        verdict = given.choice("verdict", VERDICTS, "any")
        kind = given.choice("kind", ("any", *KINDS), "any")
        text = given.text("text", "").casefold()
        last = given.integer("last", 0)
        known = await self._records.history()
        brief = self._brief
        if number:
            one = _numbered(number, known)
            diff = await self._records.diff(number)
            return lookups.experiment(one, diff, brief.metric, brief.goal), f"history #{number}"
        found = [
            past
            for past in known
            if verdict in ("any", past.verdict.value if past.verdict else "open")
            and kind in ("any", past.kind)
            and (not text or text in f"{past.title}\n{past.hypothesis}\n{past.reason}".casefold())
        ]
        newest = found[-min(last if last > 0 else LISTED, MOST_LISTED) :]
        shown = lookups.experiments(newest, len(found), len(known), brief.metric, brief.goal)
        return shown, f"history: {len(newest)} of {len(known)} experiments"

    async def _trial_log(self, given: ToolInput) -> Reply:
        number = given.integer("number")
        show = given.choice("show", ("tail", "curve"), "tail")
        asked = given.integer("lines", 0)
        _numbered(number, await self._records.history())
        if show == "curve":
            return lookups.curves(number, await self._records.curve(number)), f"curves of #{number}"
        lines = min(asked if asked > 0 else LOG_LINES, MOST_LOG_LINES)
        return lookups.logs(number, await self._records.logs(number, lines)), f"log of #{number}"

    # --- the proposal ----------------------------------------------------------------------------

    async def _check(self, given: ToolInput) -> Reply:
        changes = self._draft.changes()
        if not changes:
            return "Nothing is changed yet: your working copy equals the base version.", "check: no change"
        problems = await self._problems()
        told = [f"Changed: {', '.join(change.path for change in changes)}."]
        told += [str(problem) for problem in problems] or ["No problems found. Nothing was run."]
        try:
            await self._refuse_known()
        except Refused as refusal:
            told.append(f"submit would refuse it: {refusal.message}\n{refusal.mend}")
        return "\n".join(told), f"check: {len(problems)} problem{'' if len(problems) == 1 else 's'}"

    async def _submit(self, given: ToolInput) -> Reply:
        changes = self._draft.changes()
        submission.refuse_unchanged(self._brief, changes, same_program=False)
        problems = await self._problems()
        submission.refuse_errors(problems)
        fingerprint = await self._refuse_known()
        done = submission.read(given, changes, fingerprint, self._brief)
        self._doubts.refuse(problems, submission.unlikely(done, self._brief), done)
        self.submission = done
        warned = "".join(f"\nNote: {warning}." for warning in done.warnings)
        return f"Submitted as experiment #{self._brief.number}. End your turn.{warned}", f"submit: {done.title}"

    async def _problems(self) -> list[Problem]:
        """Of the changed files; checked once for each state of them."""
        changes = self._draft.changes()
        state = submission.digest(changes)
        if self._checked[0] != state:
            files = {change.path: change.content for change in changes if change.content is not None}
            base = {path: self._brief.files[path] for path in files if path in self._brief.files}
            self._checked = state, await check_apart(files, base)
        return self._checked[1]

    async def _refuse_known(self) -> str:
        """The candidate's fingerprint. Raises Refused when that program is the base version, or was tried."""
        changes = self._draft.changes()
        state = submission.digest(changes)
        if self._fingerprints[0] != state:
            both = await fingerprints_apart(self._editable(self._brief.files), self._editable(self._draft.files))
            self._fingerprints = state, both[0], both[1]
        _, base, found = self._fingerprints
        submission.refuse_unchanged(self._brief, changes, same_program=found == base != "")
        submission.refuse_duplicate(found, await self._past(), self._brief.number)
        return found

    def _editable(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        return {path: content for path, content in files.items() if self._scope.check(path) is None}

    async def _past(self) -> list[PastExperiment]:
        """The brief's history, and what other drafts have proposed since."""
        known = {past.number: past for past in self._brief.history}
        known.update((past.number, past) for past in await self._records.history())
        return list(known.values())


def _numbered(number: int, known: Collection[PastExperiment]) -> PastExperiment:
    for past in known:
        if past.number == number:
            return past
    numbers = sorted(past.number for past in known)
    there = f"the earlier experiments are #{numbers[0]} to #{numbers[-1]}" if numbers else "there is none yet"
    raise EditRejected(f"there is no experiment #{number}", f"{there}; history lists them")


def _told(reply: str) -> Reply:
    return reply, reply.partition("\n")[0].removesuffix("; it reads now")


def _sendable(text: str) -> str:
    """A path or pattern that a model sent may hold half a surrogate pair, which no request can carry."""
    return text.encode("utf-8", "replace").decode("utf-8")
