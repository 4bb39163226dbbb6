"""The proposer that needs no key: Optuna's TPE over the constants of the editable files.

It keeps nothing between calls: constants come from the brief's files, earlier suggestions and scores
from its history, so that an engine killed and started again goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from engine.errors import EditRejected
from engine.proposers.constants import Constant, edit, find_constants, outline
from engine.proposers.inference import choose_ranges, unknown_names
from engine.proposers.moves import Move, identity, read_moves
from engine.proposers.ranges import Range
from engine.proposers.sampling import Situation, Suggestion, suggest
from engine.proposers.spelling import Value
from engine.scope import matches
from engine.types import Author, Brief, FileChange, NoProposal, Proposal, ProposerEvent, StreamText

_MEND = (
    "put numbers as plain constants into an editable file (LEARNING_RATE = 3e-4), or give ranges: behind a "
    'constant "# search: 1e-4..1e-2 log", or in ratchet.toml under [proposer.search]'
)


@dataclass(frozen=True, slots=True)
class _Table:
    """What there is to search in one brief."""

    constants: tuple[Constant, ...]  # all, searched or not
    searched: Mapping[str, tuple[Constant, Range]]
    skeleton: str  # hash of the editable files without any constant's value
    unknown: tuple[str, ...]


class SearchProposer:
    """TPE over constants found by parsing.

    ``space`` maps ``path:NAME`` (or a bare name) to a range as ``parse_range`` reads it; ``subset`` is
    the largest number of constants one proposal moves. ``threaded`` False computes in the event loop
    (tens of milliseconds), which a virtual clock needs.
    """

    name = "search"

    def __init__(self, space: Mapping[str, str] | None = None, subset: int = 2, *, threaded: bool = True) -> None:
        self._space = dict(space or {})
        self._subset = max(1, subset)
        self._threaded = threaded

    async def propose(self, brief: Brief) -> AsyncGenerator[ProposerEvent, None]:
        """Stream a table of what is searched, then one Proposal, or NoProposal("exhausted").

        Raises ConfigError when ``space`` holds a range that cannot be read.
        """
        if self._threaded:
            events = await asyncio.to_thread(self._events, brief)
        else:
            events = self._events(brief)
        for event in events:
            yield event

    def _events(self, brief: Brief) -> list[ProposerEvent]:
        table = self._table(brief)
        for_eyes = [StreamText("text", f"ignored: {line}\n") for line in table.unknown]
        if not table.searched:
            return [*for_eyes, NoProposal("exhausted", f"found no constants to search; {_MEND}")]
        now, moves = self._situation(brief, table)
        refused: set[str] = set()
        while True:
            suggestion = suggest(now)
            if suggestion is None:
                message = f"every value within the ranges of {len(table.searched)} constants has been tried"
                return [*for_eyes, NoProposal("exhausted", f"{message}; widen them: {_MEND}")]
            try:
                changes = _changes(brief, table, suggestion)
                break
            except EditRejected as fault:
                # Cannot be written in place: leave those constants alone for this once.
                refused.update(suggestion.values)
                for_eyes.append(StreamText("text", f"left alone: {fault.message}\n"))
                ranges = {k: r for k, r in now.ranges.items() if k not in refused}
                now = Situation(now.base, ranges, now.moves, now.goal, now.incumbent_score, now.seed,
                                now.subset, now.taken)  # fmt: skip
        text = StreamText("text", _shown(table, suggestion))
        return [*for_eyes, text, _proposal(brief, table, suggestion, moves, changes)]

    def _table(self, brief: Brief) -> _Table:
        files = {p: c for p, c in sorted(brief.files.items()) if matches(brief.editable, p)}
        constants = tuple(c for path, content in files.items() for c in find_constants(path, content))
        chosen = choose_ranges(constants, self._space)
        digest = hashlib.sha256()
        for path, content in files.items():
            names = frozenset(c.name for c in constants if c.path == path)
            understood = outline(path, content, names).encode() or content
            digest.update(f"{path}\0{len(understood)}\0".encode() + understood)
        return _Table(
            constants=constants,
            searched={k: (c, r) for k, (c, r) in chosen.items() if isinstance(r, Range)},
            skeleton=digest.hexdigest()[:16],
            unknown=tuple(unknown_names(constants, self._space)),
        )

    def _situation(self, brief: Brief, table: _Table) -> tuple[Situation, tuple[Move, ...]]:
        unsearched = {c.key: c.value for c in table.constants if c.key not in table.searched}
        moves = read_moves(brief.history, brief.goal, table.skeleton, unsearched)
        base = {key: constant.value for key, (constant, _) in table.searched.items()}
        # A program that was proposed, or stood before one that was kept, has been measured.
        measured = [v for m in moves if m.same_code for v in (m.values, {**m.values, **m.before})]
        taken = {identity({key: v.get(key, base[key]) for key in base}) for v in measured}
        # A fixed seed repeats its first suggestion after every restart, and two drafts made at the same
        # time would be the same: the experiment's number tells them apart.
        text = f"{brief.seed}/{brief.number}/{len(brief.history)}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
        now = Situation(
            base=base,
            ranges={key: range_ for key, (_, range_) in table.searched.items()},
            moves=moves,
            goal=brief.goal,
            incumbent_score=brief.incumbent_score,
            seed=seed,
            subset=self._subset,
            taken=frozenset({identity(base), *taken}),
        )
        return now, moves


def _changes(brief: Brief, table: _Table, suggestion: Suggestion) -> tuple[FileChange, ...]:
    by_path: dict[str, dict[str, Value]] = {}
    for key, value in suggestion.values.items():
        constant = table.searched[key][0]
        by_path.setdefault(constant.path, {})[constant.name] = value
    return tuple(FileChange(path, edit(path, brief.files[path], new)) for path, new in sorted(by_path.items()))


def _proposal(
    brief: Brief,
    table: _Table,
    suggestion: Suggestion,
    moves: Sequence[Move],
    changes: tuple[FileChange, ...],
) -> Proposal:
    steps = [
        f"{table.searched[key][0].name} {_plain(table.searched[key][0].value)} -> {_plain(value)}"
        for key, value in suggestion.values.items()
    ]
    values = {constant.key: constant.value for constant in table.constants}
    return Proposal(
        title=", ".join(steps),
        hypothesis=_hypothesis(table, suggestion, moves),
        changes=changes,
        author=Author.SEARCH,
        author_detail=f"tpe ({suggestion.method})",
        parameters={
            "values": {**values, **suggestion.values},
            "before": {key: values[key] for key in suggestion.values},
            "changed": list(suggestion.values),
            "base_score": brief.incumbent_score,
            "skeleton": table.skeleton,
            "method": suggestion.method,
        },
    )


def _hypothesis(table: _Table, suggestion: Suggestion, moves: Sequence[Move]) -> str:
    parts = [f"{table.searched[key][0].name} ({table.searched[key][1].role})" for key in suggestion.values]
    settled = [move for move in moves if move.gain is not None]
    kept = sum(1 for move in settled if move.gain == 1.0)
    seen = f"{len(settled)} earlier search experiment{'' if len(settled) == 1 else 's'}, {kept} kept"
    names = " and ".join(parts)
    if suggestion.method == "tpe":
        return f"Optuna's TPE, from {seen}, places {names} here: {suggestion.reason}."
    if suggestion.method == "combination":
        return f"{names} together: {suggestion.reason} ({seen})."
    if suggestion.method == "sweep":
        return f"{names}: {suggestion.reason} ({seen})."
    return f"A probe before TPE can judge {names}: {suggestion.reason} ({seen}). It may well not help."


def _shown(table: _Table, suggestion: Suggestion) -> str:
    width = max(len(constant.name) for constant, _ in table.searched.values())
    lines = []
    for key, (constant, range_) in table.searched.items():
        new = f"-> {_plain(suggestion.values[key])}" if key in suggestion.values else ""
        lines.append(f"{constant.name:<{width}}  {_plain(constant.value):>10} {new:<14} {range_}".rstrip())
    return "\n".join(lines) + "\n"


def _plain(value: Value) -> str:
    """Short and positional where that is short: ``0.0011``, ``6e-06``, ``32768``."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
