"""What Claude's proposals read from cache and cost, from requests really sent to the stand-in; and how soon its
words are in the proposer's hands. No figure here is the live service's: prices and cache rules are the published ones.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.clock import RealClock
from engine.config_sections import ProposerSection
from engine.prices import NANO
from engine.prompting import PromptSet
from engine.proposers.claude import ClaudeProposer
from engine.scope import Scope
from engine.types import Author, Brief, Effect, Goal, PastExperiment, Proposal, StreamText, Usage, Verdict
from tests.benchmarks.figures import Figure
from tests.engine.proposers.claude_drafts import NoRecords
from tests.engine.proposers.claude_setting import KEY, BillingStandin, CountingPurse, HandClock
from tests.standin.researcher import Researcher
from tests.standin.script import Answer, Body, Script, Text, Turn

PROPOSALS = 20
SETTLED_BEFORE = 30  # experiments in the history of the first one
TRIAL_SECONDS = 300.0
KEPT = (6, 13)  # proposals that become the incumbent: the files change, and with them their cache entry
OUTPUT_TOKENS = 1000  # of each response: some 4,000 a proposal, as the published estimate has it
PROJECT = Path(__file__).parents[2] / "sample_project"
FILES = ("program.md", "train.py", "README.md")
# Model -> dollars: the published estimate of one cold proposal of about this size (16K of input, 4K of output).
MODELS = {"claude-opus-5-5": 0.16, "claude-sonnet-5-5": 0.08, "claude-haiku-5-5": 0.004}
WORDS = 400
WIRE_GOAL = 50.0  # ms of the 300 from the service to a console; the rest is the store's and the console's


def run() -> list[Figure]:
    figures = []
    for model, most in MODELS.items():
        done = asyncio.run(campaign(model))
        share = 100 * done.read / done.input
        if model == "claude-opus-5-5":
            name = f"input read from cache, {PROPOSALS} proposals, {TRIAL_SECONDS:g} s trials"
            figures.append(Figure(name, ">= 80 %", share, "%", share >= 80))
        print(
            f"  {model}: {share:.0f} % read from cache, {done.input / PROPOSALS:,.0f} tokens of input and "
            f"{done.output / PROPOSALS:,.0f} of output a proposal, {done.requests / PROPOSALS:.1f} requests; dollars: "
            f"first {done.dollars[0]:.4f}, median {statistics.median(done.dollars):.4f}, reserved at most "
            f"{done.most_reserved:.2f}"
        )
        mean = statistics.fmean(done.dollars)
        figures.append(Figure(f"a proposal by {model}", f"<= {most:g} $", mean, "$", mean <= most))
    late = 1000 * asyncio.run(wire_to_stream())
    figures.append(Figure(f"text, from the wire to the proposer's stream, p95 of {WORDS}", f"<= {WIRE_GOAL:g} ms", late,
                          "ms", late <= WIRE_GOAL))  # fmt: skip
    return figures


@dataclass
class Campaign:
    read: int
    input: int
    output: int
    requests: int
    dollars: list[float]  # by proposal
    most_reserved: float


class History(NoRecords):
    def __init__(self, past: list[PastExperiment]) -> None:
        super().__init__()
        self.past = past

    async def history(self) -> tuple[PastExperiment, ...]:
        return tuple(self.past)


async def campaign(model: str) -> Campaign:
    """Twenty proposals for sample_project, one after the other, with a trial's time between them."""
    clock, purse = HandClock(), CountingPurse()
    past = [settled(number, f"Change number {number}") for number in range(1, SETTLED_BEFORE + 1)]
    files = {name: (PROJECT / name).read_bytes() for name in FILES}
    dollars, before = [], 0
    async with BillingStandin(as_long_as_real(Researcher()), clock=clock) as standin:
        proposer = claude(standin.url, model, purse, clock, History(past))
        for step in range(PROPOSALS):
            number = len(past) + 1
            proposal = await proposed(proposer, brief(number, files, past))
            kept = step in KEPT
            past.append(replace(settled(number, proposal.title, kept), fingerprint=proposal.fingerprint))
            if kept:
                files |= {change.path: change.content for change in proposal.changes if change.content}
            dollars.append((purse.charged - before) / NANO)
            before = purse.charged
            await clock.sleep(TRIAL_SECONDS + 30)
        await proposer.aclose()
        used = [usage for _, usage in standin.bills]
    return Campaign(
        read=sum(usage.cache_read_tokens for usage in used),
        input=sum(map(prompt, used)),
        output=sum(usage.output_tokens for usage in used),
        requests=len(used),
        dollars=dollars,
        most_reserved=max(booking.amount for booking in purse.bookings) / NANO,
    )


async def wire_to_stream() -> float:
    """Seconds (p95) from the moment the server wrote a piece of text to the moment the proposer gave it out."""
    pieces = [f"w{number:05d} " for number in range(WORDS)]
    script = Turn([Text("".join(pieces))], chunk=len(pieces[0]), delay=0.002)
    sent: dict[str, float] = {}

    class Timed(BillingStandin):
        async def _send(self, response: Any, record: Any, kind: str, data: bytes) -> None:
            at = data.find(b'"text": "w')
            if at >= 0:
                sent[data[at + 9 : at + 15].decode()] = time.perf_counter()
            await super()._send(response, record, kind, data)

    async with Timed(lambda body, n: script) as standin:
        purse = CountingPurse()
        proposer = claude(standin.url, "claude-haiku-5-5", purse, RealClock(), NoRecords(), requests=1)
        files = {name: (PROJECT / name).read_bytes() for name in FILES}
        delays = []
        async for event in proposer.propose(brief(1, files, [])):
            now = time.perf_counter()
            if isinstance(event, StreamText) and (word := event.text[:6]) in sent:
                delays.append(now - sent[word])
        await proposer.aclose()
    assert len(delays) == WORDS
    return statistics.quantiles(delays, n=20)[-1]


def as_long_as_real(script: Script) -> Script:
    def longer(body: Body, n: int) -> Answer:
        answer = script(body, n)
        return replace(answer, usage={"output_tokens": OUTPUT_TOKENS}) if isinstance(answer, Turn) else answer

    return longer


def claude(url: str, model: str, purse: Any, clock: Any, records: Any, requests: int = 20) -> ClaudeProposer:
    settings = ProposerSection(kind="claude", base_url=url, model=model, requests=requests)
    scope = Scope(("train.py",), ("prepare.py", "evaluate.py"))
    return ClaudeProposer(settings, lambda: KEY, purse, records, scope, PromptSet.load(), clock, random.Random(1))


async def proposed(proposer: ClaudeProposer, asked: Brief) -> Proposal:
    end: object = None
    async for event in proposer.propose(asked):
        end = event
    assert isinstance(end, Proposal), end
    return end


def brief(number: int, files: dict[str, bytes], past: Sequence[PastExperiment]) -> Brief:
    return Brief(
        campaign="bench",
        number=number,
        seed=1,
        base="0" * 40,
        goal=Goal.MINIMIZE,
        metric="val_bpb",
        files=dict(files),
        editable=("train.py",),
        frozen=("prepare.py", "evaluate.py"),
        context=("program.md", "README.md"),
        history=tuple(past),
        incumbent_score=2.1,
        noise=0.004,
        experiment=number,
        trial_seconds=TRIAL_SECONDS,
    )


def settled(number: int, title: str, kept: bool = False) -> PastExperiment:
    gain = 0.01 if kept else -0.002
    return PastExperiment(
        number,
        title,
        Author.CLAUDE,
        Verdict.KEEP if kept else Verdict.DISCARD,
        2.1 - gain,
        Effect(gain, gain - 0.003, gain + 0.003, 3, 3),
        {},
        True,
        hypothesis="Training is limited by the number of steps, so a step that learns more gets further in the budget.",
        reason="better on fresh seeds" if kept else "not better than the incumbent by the margin",
        kind="optimizer",
    )


def prompt(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
