"""A brief from a history of 1,000 experiments: how long it takes, how long it is, how much a cache can read."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from engine import context
from engine.condensing import BLOCK
from engine.config import load
from engine.prompting import BRIEF_TOKENS, PromptSet, render, tokens
from engine.store import reading
from engine.store.reading import Reader
from engine.types import Brief, Remaining
from tests.benchmarks.bench_engine import timed
from tests.benchmarks.figures import Figure
from tests.seeded import seeded_store

EXPERIMENTS = 1_000
PROJECT = Path(__file__).parents[2] / "sample_project"
FILES = ("program.md", "train.py", "README.md", "prepare.py", "evaluate.py")


def run() -> list[Figure]:
    config, prompts = load(PROJECT), PromptSet.load()
    files = {name: (PROJECT / name).read_bytes() for name in FILES}
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        seeded_store(Path(name), EXPERIMENTS)
        reader = Reader(Path(name) / "store.db")
        campaign = reader.campaign()
        drafting = reading.experiments(reader.conn, campaign.id, last=1)[0]

        def build() -> Brief:
            return context.build(
                reader.conn, campaign, drafting, config, files, remaining=Remaining(100, 5.0, 10.0)
            )

        built = 1000 * timed(build, 21)
        brief = build()
        reader.close()
    assert len(brief.history) == EXPERIMENTS + 2
    rendered = 1000 * timed(lambda: render(brief, prompts), 11)
    length = render(brief, prompts).tokens
    whole = render(brief, prompts, 10**7).tokens
    print(f"  uncondensed it would be {whole:,} tokens")
    read = _read_from_cache(brief, prompts)
    history = f"history of {EXPERIMENTS:,} experiments"
    return [
        Figure(f"brief built, {history} (median of 21)", "<= 50 ms", built, "ms", built <= 50),
        Figure(f"prompt rendered, {history} (median of 11)", "<= 100 ms", rendered, "ms", rendered <= 100),
        Figure(
            f"prompt's length, {history}", f"<= {BRIEF_TOKENS:,} tokens", length, "tokens", length <= BRIEF_TOKENS
        ),
        Figure("cacheable prefix repeated from the prompt before", ">= 90 %", read, "%", read >= 90),
    ]


def _read_from_cache(brief: Brief, prompts: PromptSet) -> float:
    """Share of system, history and files, over a campaign of 1,000 experiments, that begins as the prompt before.

    With each keep the edited file is another one.
    """
    settled = [one for one in brief.history if one.verdict is not None]
    before: tuple[str, ...] = ()
    read = sent = keeps = 0
    for count in range(EXPERIMENTS - 5):
        keeps += bool(count) and settled[count - 1].verdict == "keep"
        edited = brief.files["train.py"] + b"# keep\n" * keeps
        now = render(
            replace(brief, history=tuple(settled[:count]), files={**brief.files, "train.py": edited}), prompts
        )
        parts = (now.system, *now.history, now.files)
        same = next(
            (i for i, pair in enumerate(zip(parts, before, strict=False)) if pair[0] != pair[1]), len(before)
        )
        read += sum(tokens(part) for part in parts[:same])
        sent += sum(tokens(part) for part in parts)
        before = parts
    assert len(before) > 2 and count > BLOCK
    return 100 * read / sent
