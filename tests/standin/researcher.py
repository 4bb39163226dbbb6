"""A scripted researcher: a script that works on sample_project as a model would, tool call by tool call.

Looks at history and file, chooses what was not tried, edits, checks, submits; mends an edit that did not apply
and a run that crashed. All but the ideas it has given away it reads from the request.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.standin.conversation import EDITS, Call, Conversation, read
from tests.standin.ideas import CAP_MISSPELT, IDEAS, Edit, Idea, swaps, tuning
from tests.standin.repairs import error, mend, names_one
from tests.standin.schema import Known, filled
from tests.standin.script import Answer, Block, Body, Text, Thinking, ToolUse, Turn

# The history whole, under the names that a tool may have for it.
ALL_OF_IT: Known = {"number": [0], "last": [50], "limit": [50], "text": [""], "verdict": ["any"], "kind": ["any"]}
# Kinds that a submission may offer, and what else they may be called there.
ALSO = {
    "initialisation": ["initialization"],
    "regularisation": ["regularization"],
    "batch": ["batch size", "data"],
    "repair": ["other"],
}
TRIES = 3  # of what does not work, before it leaves off
_BROKEN_RUN = re.compile(
    r"^(?:\w+\| ?)?(?:Traceback \(most recent call last\)|\w*(?:Error|Exception): |FAIL\s*$)", re.MULTILINE
)
_TO_MEND = re.compile(r"\b(repair|mend|fix)\b", re.IGNORECASE)
_HEAD = 300  # characters of a task that say what kind of task it is; further down it may speak of old crashes


@dataclass(frozen=True, slots=True)
class Work:
    """What a conversation is about, the edits that make it, and what it is called there."""

    called: str
    idea: Idea
    edits: Sequence[Edit]


class Researcher:
    """A ``Script``. ``mistakes``: begins with a slip that only running shows, so that there is a crash to mend."""

    def __init__(self, *, mistakes: bool = False) -> None:
        self.mistakes = mistakes
        self._given: dict[str, Work] = {}  # by title: drafts that run beside each other get one each

    def __call__(self, body: Body, n: int) -> Answer:
        talk = read(body)
        start = begun(talk)
        calls = talk.since(start)
        if not talk.editor:
            return leave("I have no editor here, so there is nothing that I could change.")
        if any(call.name == "submit" and not call.failed and call.result is not None for call in calls):
            return leave("It is submitted; the trial will tell.")
        path = talk.path()
        # A proposal to mend is in the working copy, and the prompt shows what it was made from: look.
        mending = start >= 0 and _is_repair(talk.task(start))
        text = talk.file(path, prompt=not mending)
        if text is None or self._unread_history(talk):
            return self._look(talk, calls, path, text)
        edits = [call for call in calls if call.name == talk.editor and call.command in EDITS]
        work = self._work(talk, start)
        if work is None:
            return self._begin(
                talk, path, self._repair(talk.task(start), text) if mending else self._new(talk, text)
            )
        if missing := self._missing(work, path, edits):
            return self._retry(talk, work, path, text, edits, missing)
        return self._finish(talk, work, path, text, calls, edits)

    # --- one turn each ---------------------------------------------------------------------------------------

    def _look(self, talk: Conversation, calls: Sequence[Call], path: str, text: str | None) -> Turn:
        wanted: list[Block] = []
        if self._unread_history(talk):
            schema = talk.tools["history"].get("input_schema") or {}
            wanted.append(ToolUse("history", filled(schema, ALL_OF_IT)))
        if text is None:
            if sum(call.command == "view" and call.failed for call in calls) >= TRIES:
                return leave(f"I cannot see {path}, so I leave it.")
            wanted.append(view(talk, path))
        return Turn(
            [Thinking("First what was tried, and the file as it is now. "), Text("I read first."), *wanted]
        )

    def _begin(self, talk: Conversation, path: str, work: Work | None) -> Turn:
        if work is None:
            return leave("The idea itself is broken: I leave it.")
        self._given[work.called] = work
        return Turn(
            [
                Thinking(work.idea.thought),
                Text(f"{work.called}\n\n{work.idea.hypothesis}"),
                *replacements(talk, path, work.edits),
            ]
        )

    def _retry(
        self,
        talk: Conversation,
        work: Work,
        path: str,
        text: str,
        edits: Sequence[Call],
        missing: Sequence[Edit],
    ) -> Turn:
        """Something did not apply: look again, then make what is missing of what is there."""
        if edits and not any(c.command == "view" and not c.failed for c in talk.since(edits[-1].at, talk.editor)):
            return Turn(
                [Thinking("That text is not there as I had it. "), Text("I look again."), view(talk, path)]
            )
        if len({call.at for call in edits}) >= TRIES:
            return leave("This will not apply, so I leave it.")
        fitting = [edit for edit in missing if text.count(edit[0]) == 1]
        if len(fitting) < len(missing):
            again = work.idea.found(text) if len(missing) == len(work.edits) else None
            if again is None:
                return self._begin(talk, path, self._new(talk, text))
            fitting = list(again)
            self._given[work.called] = replace(work, edits=fitting)
        return Turn([Text(f"{work.called}\n\nOnce more."), *replacements(talk, path, fitting)])

    def _finish(
        self, talk: Conversation, work: Work, path: str, text: str, calls: Sequence[Call], edits: Sequence[Call]
    ) -> Turn:
        """Edited: check, then submit."""
        checks = [call for call in calls if call.name == "check"]
        checked = [call for call in checks if call.at > edits[-1].at]
        if "check" in talk.tools and not checked:
            schema = talk.tools["check"].get("input_schema") or {}
            return Turn([Text("Does it hold?"), ToolUse("check", filled(schema, {"path": [path]}))])
        # What a check or a refused submission finds is mended first.
        complaints = [call for call in calls if call.name in ("check", "submit") and _complains(call)]
        if complaints and complaints[-1].at > edits[-1].at and len(complaints) < TRIES:
            mended = mend(complaints[-1].result or "", text)
            if mended:
                return Turn([Thinking("It is right. "), Text("A slip."), *replacements(talk, path, mended[1])])
        if "submit" not in talk.tools:
            return leave("Done: the change is in the file.")
        if sum(call.name == "submit" and call.failed for call in calls) >= TRIES:
            return leave("It will not be taken, so I leave it.")
        schema = talk.tools["submit"].get("input_schema") or {}
        return Turn([Text("I submit it."), ToolUse("submit", filled(schema, fields(work.idea)))])

    # --- choosing --------------------------------------------------------------------------------------------

    def _work(self, talk: Conversation, start: int) -> Work | None:
        """What this conversation is about already: the last title that was said in it."""
        for at, said in reversed(talk.said):
            title = said.partition("\n")[0]
            if at <= start:
                return None
            if work := self._given.get(title):
                return work
            if idea := next(
                (one for one in IDEAS if one.title == title), None
            ):  # said by a server since restarted
                return Work(title, idea, [(str(c.input.get("old_str")), str(c.input.get("new_str"))) for c in talk.calls
                                   if c.at == at and c.command == "str_replace"])  # fmt: skip
        return None

    def _new(self, talk: Conversation, text: str) -> Work | None:
        """The first idea that nobody has tried, that no other conversation has, and that fits the file."""
        known = talk.everything_read().casefold()
        for idea in self._walk(text):
            if (
                idea.title.casefold() not in known
                and idea.title not in self._given
                and (found := idea.found(text))
            ):
                return Work(idea.title, idea, found)
        return None

    def _walk(self, text: str) -> Iterator[Idea]:
        slip = [replace(IDEAS[-1], edits=CAP_MISSPELT)] if self.mistakes else []
        return itertools.chain(slip, IDEAS, tuning(text))

    def _repair(self, task: str, text: str) -> Work | None:
        """The same idea, mended: it keeps its title where the task tells it."""
        if (mended := mend(task, text)) is None:
            return None
        called, edits = mended
        thought = f"It ended with: {error(task) or 'FAIL'}. "
        hypothesis = "The run crashed for a slip, not for the idea: mended, the idea gets its trial."
        named = (idea for idea in IDEAS if idea.title in task)
        failed = min(named, key=lambda idea: task.find(idea.title), default=None)  # the one to mend is named first
        failed = failed or Idea(called, "repair", "", hypothesis, 0.01, swaps(*edits))
        return Work(called, replace(failed, thought=thought), edits)

    def _missing(self, work: Work, path: str, edits: Sequence[Call]) -> list[Edit]:
        done = {
            (call.input.get("old_str"), call.input.get("new_str"))
            for call in edits
            if call.path == path and not call.failed
        }
        return [edit for edit in work.edits if edit not in done]

    def _unread_history(self, talk: Conversation) -> bool:
        return "history" in talk.tools and not talk.since(-1, "history")


def leave(why: str) -> Turn:
    return Turn([Text(why)])


def view(talk: Conversation, path: str) -> ToolUse:
    return act(talk, {"command": "view", "path": path})


def replacements(talk: Conversation, path: str, edits: Sequence[Edit]) -> list[ToolUse]:
    return [
        act(talk, {"command": "str_replace", "path": path, "old_str": old, "new_str": new}) for old, new in edits
    ]


def act(talk: Conversation, given: dict[str, Any]) -> ToolUse:
    """A call of the editor; one with a schema of its own may want what a command does not use, as null."""
    schema = talk.tools[talk.editor].get("input_schema") or {}
    return ToolUse(
        talk.editor, {**given, **{name: None for name in schema.get("required", []) if name not in given}}
    )


def fields(idea: Idea) -> dict[str, list[object]]:
    """What there is to say of an idea, under the names that a submission may have, the best form first."""
    return {
        "title": [idea.title],
        "hypothesis": [idea.hypothesis],
        "expected_effect": ["val_bpb falls", "decrease", "lower", "better", "improve", -idea.gain],
        "expected_size": [f"{idea.gain:.3f} bits per byte", idea.gain, "small"],
        "refuted_by": [idea.refuted_by],
        "kind": [idea.kind, *ALSO.get(idea.kind, []), "other"],
        "effect_reason": [f"about {idea.gain:.3f} bits per byte, from what this did in similar models"],
        "rationale": [idea.thought.strip() or idea.hypothesis],
    }


def begun(talk: Conversation) -> int:
    """The message with which the present task begins: a later crash to mend, or a word after a submission; or -1."""
    submitted = [
        call.at for call in talk.calls if call.name == "submit" and call.result is not None and not call.failed
    ]
    later = [at for at, _ in talk.asked if submitted and at > submitted[-1] + 1]
    crashes = [at for at, _ in talk.asked if at >= 0 and _is_repair(talk.task(at))]
    return max([-1, *later[:1], *crashes])


def _is_repair(task: str) -> bool:
    return bool(_TO_MEND.search(task[:_HEAD]) and (_BROKEN_RUN.search(task) or "failed" in task))


def _complains(call: Call) -> bool:
    return call.failed or bool(_BROKEN_RUN.search(call.result or "")) or names_one(call.result or "")
