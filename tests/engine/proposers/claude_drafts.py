"""A draft by Claude against the stand-in: the project, the script that works on it, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from engine.config_sections import ProposerSection
from engine.prompting import PromptSet
from engine.proposers.claude import ClaudeProposer
from engine.scope import Scope
from engine.types import Brief, Goal, Message, NoProposal, PastExperiment, Proposal, StreamText
from tests.engine.proposers.claude_setting import KEY, BillingStandin, CountingPurse, HandClock, expiring
from tests.standin.conversation import read
from tests.standin.faults import EDITOR
from tests.standin.schema import filled
from tests.standin.script import Answer, Body, Script, Text, Thinking, ToolUse, Turn

TRAIN = b"""import math

LR = 0.02
STEPS = 100


def main():
    loss = math.exp(-LR * STEPS)
    print(f"val_loss: {loss:.6f}")


if __name__ == "__main__":
    main()
"""
EDIT = ToolUse(
    EDITOR,
    {"command": "str_replace", "path": "train.py", "old_str": "LR = 0.02", "new_str": "LR = 0.03  # higher"},
)
WANTED = TRAIN.replace(b"LR = 0.02", b"LR = 0.03  # higher")
TITLE = "Raise the learning rate"
HYPOTHESIS = "The loss still falls at the end, so larger steps get further."
EDITING = Turn([Thinking("Consider the rate. "), Text("I raise it."), EDIT])


def submitting(body: Body) -> Turn:
    """As the tools of this request want it."""
    schema = next(tool for tool in body["tools"] if tool["name"] == "submit")["input_schema"]
    given = filled(
        schema,
        {
            "title": [TITLE],
            "hypothesis": [HYPOTHESIS],
            "expected_change": [-0.01],
            "expected_effect": [-0.01, "a few hundredths"],
            "expected_size": ["a few hundredths"],
            "refuted_by": ["no lower val_loss in the mean of fresh seeds"],
            "kind": ["optimizer"],
            "despite": [""],
        },
    )
    return Turn([Text("I hand it in."), ToolUse("submit", given)])


def worker(body: Body, n: int) -> Answer:
    """Edits until an edit was taken, then submits. All it knows, it reads from the request."""
    talk = read(body)
    taken = [c for c in talk.calls if c.command == "str_replace" and c.result is not None and not c.failed]
    return submitting(body) if taken else EDITING


class NoRecords:
    """``types.Records`` of a campaign that has only begun."""

    def __init__(self, log: str = "") -> None:
        self.log = log

    async def history(self) -> tuple[PastExperiment, ...]:
        return ()

    async def diff(self, number: int) -> str:
        return ""

    async def logs(self, number: int, lines: int) -> tuple[tuple[str, str], ...]:
        return (("trial 1", self.log),)

    async def curve(self, number: int) -> tuple[tuple[str, tuple[tuple[float, float], ...]], ...]:
        return ()


def brief(number: int = 1, **more: Any) -> Brief:
    known: dict[str, Any] = {
        "campaign": "c",
        "number": number,
        "seed": 1,
        "base": "0" * 40,
        "goal": Goal.MINIMIZE,
        "metric": "val_loss",
        "files": {"train.py": TRAIN, "program.md": b"Lower the loss.\n"},
        "editable": ("train.py",),
        "frozen": ("prepare.py",),
        "history": (),
        "experiment": number,
        "trial_seconds": 300.0,
    }
    return Brief(**known | more)


@dataclass
class Draft:
    """All that one draft said."""

    events: list[Any] = field(default_factory=list)

    @property
    def end(self) -> Proposal | NoProposal:
        assert isinstance(self.events[-1], Proposal | NoProposal), self.events[-1:]
        return self.events[-1]

    @property
    def proposal(self) -> Proposal:
        assert isinstance(self.end, Proposal), self.end
        return self.end

    @property
    def nothing(self) -> NoProposal:
        assert isinstance(self.end, NoProposal), self.end
        return self.end

    def text(self, channel: str) -> str:
        return "".join(e.text for e in self.events if isinstance(e, StreamText) and e.channel == channel)

    @property
    def transcript(self) -> list[Message]:
        return [event for event in self.events if isinstance(event, Message)]

    @property
    def notes(self) -> list[Any]:
        return [message.content for message in self.transcript if message.role == "note"]


@dataclass
class Desk:
    standin: BillingStandin
    proposer: ClaudeProposer
    purse: CountingPurse
    clock: HandClock

    async def draft(self, brief_: Brief | None = None) -> Draft:
        done = Draft()
        async with contextlib.aclosing(self.proposer.propose(brief_ or brief())) as events:
            async for event in events:
                done.events.append(event)
        return done


@contextlib.asynccontextmanager
async def desk(
    script: Script = worker,
    *,
    key: Callable[[], str] = lambda: KEY,
    accepts: str | None = None,
    cap: int | None = None,
    records: NoRecords | None = None,
    **settings: Any,
) -> AsyncIterator[Desk]:
    """A proposer with a stand-in; silence is cut as if time had passed. ``settings``: of [proposer]."""
    clock, purse = HandClock(), CountingPurse(cap)
    async with BillingStandin(script, key=accepts, clock=clock) as standin:
        proposer = ClaudeProposer(
            ProposerSection(**{"kind": "claude", "base_url": standin.url, "requests": 8} | settings),
            key,
            purse,
            records or NoRecords(),
            Scope(("train.py",), ("prepare.py",)),
            PromptSet.load(),
            clock,
            random.Random(5),
        )
        passing = asyncio.create_task(expiring(clock, standin, purse))
        try:
            yield Desk(standin, proposer, purse, clock)
        finally:
            passing.cancel()
            await asyncio.wait({passing})
            await proposer.aclose()
