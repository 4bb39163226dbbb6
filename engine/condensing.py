"""A long history under a token budget, so that what a model has read once stays byte for byte the same. Pure.

Settled experiments come in blocks of twenty, in the order of their verdicts: a complete block never gains or
loses one. Each block has a level of detail. Levels are found by going through the blocks from the first one on:
when they outgrow the budget, the oldest are condensed, well below it, so that many blocks fit before the next
time. So the same history always gives the same text, and a longer one repeats it until the budget is reached:
only then must a prompt's cached prefix be written anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from engine.fencing import fence, head, one_line, quote, tokens
from engine.types import Author, PastExperiment, Verdict

BLOCK = 20  # experiments
LOW_WATER = 0.6  # of the budget: condensing goes down to here
FULL, LINE, KINDS = range(3)  # levels of a block; below them it is absorbed into one summary
SUMMARY_KEEPS, SUMMARY_CRASHES, SUMMARY_KINDS = 60, 15, 30  # lines at most
# What is condensed, in this order, sparing so many of the newest blocks.
_STEPS = ((FULL, 2), (LINE, 5), (KINDS, 5), (FULL, 0), (LINE, 0), (KINDS, 0))
_FAILED = (Verdict.CRASH, Verdict.INVALID)
_NAMED = (Verdict.KEEP, *_FAILED)  # have a line of their own as long as can be

UNNAMED = "unnamed"  # the kind of a change whose author named none

Block = tuple[PastExperiment, ...]


def blocks(history: Iterable[PastExperiment]) -> tuple[tuple[Block, ...], Block]:
    """(complete blocks of settled experiments, the settled ones after them); open ones are in neither."""
    settled = tuple(past for past in history if past.verdict is not None)
    whole = len(settled) // BLOCK * BLOCK
    return tuple(settled[i : i + BLOCK] for i in range(0, whole, BLOCK)), settled[whole:]


def condense(complete: Sequence[Block], budget: int) -> tuple[str, ...]:
    """The blocks as text, oldest first, together at most ``budget`` tokens."""
    state = _Condensed(complete)
    for _ in complete:
        state.grow()
        if state.total > budget:
            state.shrink(int(budget * LOW_WATER))
    texts = state.texts()
    if state.total <= budget:
        return texts
    # A budget that not even the summary fits: cut inside its fence.
    return (_summary(state.tally, state.absorbed, budget),) if budget >= 100 else ()


class _Condensed:
    """The blocks so far: the first ``absorbed`` are one summary, each other one has a level."""

    def __init__(self, complete: Sequence[Block]) -> None:
        self._blocks = complete
        self._levels: list[int] = []
        self._written: dict[tuple[int, int], tuple[str, int]] = {}
        self._summary = ("", 0)
        self.tally = Tally()
        self.absorbed = 0
        self.total = 0

    def grow(self) -> None:
        self._levels.append(FULL)
        self.total += self._text(len(self._levels) - 1)[1]

    def shrink(self, target: int) -> None:
        for level, spared in _STEPS:
            for index in range(self.absorbed, len(self._levels) - spared):
                if self.total <= target:
                    return
                if self._levels[index] != level:
                    continue
                self.total -= self._text(index)[1]
                if level == KINDS:
                    self._absorb(index)
                else:
                    self._levels[index] += 1
                    self.total += self._text(index)[1]

    def texts(self) -> tuple[str, ...]:
        left = tuple(self._text(i)[0] for i in range(self.absorbed, len(self._levels)))
        return (self._summary[0], *left) if self.absorbed else left

    def _absorb(self, index: int) -> None:
        self.tally.add(self._blocks[index])
        self.absorbed = index + 1
        text = _summary(self.tally, self.absorbed)
        self.total += tokens(text) - self._summary[1]
        self._summary = (text, tokens(text))

    def _text(self, index: int) -> tuple[str, int]:
        key = (index, self._levels[index])
        if key not in self._written:
            text = _block(self._blocks[index], *key)
            self._written[key] = (text, tokens(text))
        return self._written[key]


# --- one experiment in words -------------------------------------------------------------------------


def effect(past: PastExperiment) -> str:
    """``+0.0123 [+0.0010, +0.0236]``, or what came instead of an effect."""
    if past.effect is None:
        return "no effect measured"
    return f"{past.effect.estimate:+.4g} [{past.effect.low:+.4g}, {past.effect.high:+.4g}]"


def full(past: PastExperiment, *, score: bool = False) -> str:
    """Three lines. Nothing in them changes after the verdict, but for the ``score`` (its runs' mean)."""
    runs = past.effect.n_candidate if past.effect else 0
    facts = [f"#{past.number} {past.verdict or past.state}: {effect(past)}"]
    facts[0] += f" from {runs} runs" if runs > 1 else ""
    if score and past.score is not None:
        facts.append(f"scored {past.score:.6g}")
    facts += [kind(past), f"by {past.author}", quote(past.title, 200)]
    lines = [" | ".join(facts)]
    if past.hypothesis.strip():
        lines.append(f"    hypothesis: {quote(past.hypothesis, 500)}")
    if past.reason.strip():
        lines.append(f"    verdict: {quote(past.reason, 400)}")
    return "\n".join(lines)


def line(past: PastExperiment) -> str:
    """One line: verdict, effect, kind, title; and why, where there was no effect."""
    facts = [f"#{past.number} {past.verdict or past.state}"]
    facts += [effect(past)] if past.effect else []
    facts += [kind(past), quote(past.title, 120)]
    if past.effect is None and past.reason.strip():
        facts.append(quote(past.reason, 160))
    return " | ".join(facts)


def kind(past: PastExperiment) -> str:
    """Of change, in the author's own word, in lower case; search proposals are all of one kind."""
    word = one_line(past.kind, 40).lower().replace("|", "/")
    return word or ("constants" if past.author is Author.SEARCH else UNNAMED)


# --- many --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Kind:
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    best: float | None = None
    number: int = 0  # the experiment with the best effect


class Tally:
    """Counts and best effects by kind of change; keeps and failures by name."""

    def __init__(self, experiments: Iterable[PastExperiment] = ()) -> None:
        self.kinds: dict[str, _Kind] = {}
        self.keeps: list[PastExperiment] = []
        self.failures: list[PastExperiment] = []
        self.count = 0
        self.add(experiments)

    def add(self, experiments: Iterable[PastExperiment]) -> None:
        for past in experiments:
            if past.verdict is None:
                continue
            self.count += 1
            found = self.kinds.setdefault(kind(past), _Kind())
            found.verdicts[past.verdict] += 1
            if past.effect is not None and (found.best is None or past.effect.estimate > found.best):
                found.best, found.number = past.effect.estimate, past.number
            if past.verdict is Verdict.KEEP:
                self.keeps.append(past)
            elif past.verdict in _FAILED:
                self.failures.append(past)

    def lines(self, most: int = SUMMARY_KINDS) -> list[str]:
        """A line a kind, the most tried first."""
        ranked = sorted(self.kinds.items(), key=lambda item: (-item[1].verdicts.total(), item[0]))
        found = [f"{name}: {_counts(of)}" for name, of in ranked[:most]]
        if len(ranked) > most:
            rest = sum(of.verdicts.total() for _, of in ranked[most:])
            found.append(f"{len(ranked) - most} further kinds: {rest} tried")
        return found


def _counts(of: _Kind) -> str:
    words = ", ".join(f"{of.verdicts[verdict]} {verdict}" for verdict in Verdict if of.verdicts[verdict])
    best = "" if of.best is None else f"; best effect {of.best:+.4g} (#{of.number})"
    return f"{of.verdicts.total()} tried: {words}{best}"


def _summary(tally: Tally, absorbed: int, budget: int | None = None) -> str:
    lines = _listed("keep", tally.keeps, SUMMARY_KEEPS)
    lines += _listed("crash or invalid run", tally.failures, SUMMARY_CRASHES)
    lines += ["By kind of change:", *tally.lines()]
    label = f"The first {tally.count} settled experiments, condensed"
    body = "\n".join(lines)
    if budget is not None:
        body = head(body, budget - tokens(fence("", label)) - 2)
    return fence(body, label)


def _listed(what: str, experiments: Sequence[PastExperiment], most: int) -> list[str]:
    """The newest ``most``, a line each."""
    if not experiments:
        return []
    left_out = len(experiments) - most
    more = f" ({left_out} older left out)" if left_out > 0 else ""
    return [f"Every {what}{more}:", *(line(past) for past in experiments[-most:])]


def _block(block: Block, index: int, level: int) -> str:
    writers: dict[int, Callable[[PastExperiment], str]] = {FULL: full, LINE: line}
    if level in writers:
        lines = [writers[level](past) for past in block]
    else:
        rest = Tally(past for past in block if past.verdict not in _NAMED)
        lines = [line(past) for past in block if past.verdict in _NAMED]
        lines += ["By kind of change:" if not lines else "Others, by kind of change:", *rest.lines()]
    first = index * BLOCK + 1
    label = f"Settled experiments {first} to {first + len(block) - 1}, in the order of their verdicts"
    return fence("\n".join(lines), label)
