"""A campaign's rows as a list of changes in the order of time: what the store held at any moment. Pure.

A store keeps what is, and events tell how it came to be. Each row is born at its own time as the engine makes such
a row, changes where an event or one of its own times says so, and is in the end exactly as it was found. What left
no trace (a diff before it was rebased, a pin that was taken away) is not made up.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import NamedTuple

from engine.store.happening import Happening, Told, made, measured_as
from engine.store.host_life import host_lives
from engine.store.row_life import BORN, Change, Life, Row, Value, key_of

Rows = Mapping[str, Sequence[Row]]  # table -> its rows

_TIMES = ("created_at", "at", "started_at")  # the first of these that a table has says when its rows came


class PointAt(NamedTuple):
    """A point of a curve at the moment it was printed; ``seconds`` counts from its trial's start."""

    at: float
    trial: int
    series: str
    seq: int
    step: float
    value: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """``changes`` and ``points`` ascend in time. Moments are distinct and ascend; seconds since 1970."""

    changes: tuple[Change, ...]
    points: tuple[PointAt, ...]
    start: float
    end: float
    events: tuple[float, ...] = ()
    verdicts: tuple[float, ...] = ()
    keeps: tuple[float, ...] = ()
    proposed: Mapping[int, float] = field(default_factory=dict)  # number -> when its draft began
    runs: Mapping[int, tuple[float, float]] = field(default_factory=dict)  # trial -> of its last attempt


def timeline(rows: Rows) -> Timeline:
    """Of one campaign's rows, each a mapping of its columns. Tables that are not known come as they are.

    Raises KeyError, ValueError or TypeError where the rows are none that an engine wrote.
    """
    events = told(rows)
    (campaign,) = rows["campaign"]
    start = min([float(campaign["created_at"]), *(at for at, _, _ in events[:1])])
    lives = _lives(rows, start)
    candidates = _drafts(rows, lives, events)
    _trials(rows, lives)
    for table, at, name in (("spend", "settled_at", "state"), ("note", "used_at", "used_by")):
        for life in lives[table].values():
            if life.final[at] is not None:
                life.tell(float(life.final[at]), **{name: life.final[name]})
    Happening(lives, rows, events, candidates).tell()
    every = [*(table.values() for table in lives.values()), host_lives(rows, events, start).values()]
    changes = [change for table in every for life in table for change in life.changes()]
    changes = sorted((*changes, *_constant(rows, start)), key=attrgetter("at"))
    runs = _runs(rows)
    points = sorted(_points(rows, runs, start), key=itemgetter(0))
    ends = [change.at for change in changes[-1:]] + [point.at for point in points[-1:]]

    def moments(*kinds: str) -> tuple[float, ...]:
        return tuple(sorted({at for at, kind, _ in events if not kinds or kind in kinds}))

    return Timeline(
        tuple(changes), tuple(points), start, max([start, *ends]), moments(), moments("VerdictGiven"),
        moments("RatchetAdvanced"),
        {int(row["number"]): max(start, float(row["created_at"])) for row in rows.get("experiment", ())}, runs,
    )  # fmt: skip


def told(rows: Rows) -> list[Told]:
    """The events by id; a clock that was set back must not put an effect before its cause."""
    found: list[Told] = []
    last = float("-inf")
    for row in sorted(rows.get("event", ()), key=lambda row: int(row["id"])):
        last = max(last, float(row["at"]))
        data = json.loads(row["data"])
        found.append((last, str(row["kind"]), data))
    return found


def _lives(rows: Rows, start: float) -> dict[str, dict[int, Life]]:
    """Of every row that may change."""
    found: dict[str, dict[int, Life]] = defaultdict(dict)
    (campaign,) = rows["campaign"]
    shas = {row["id"]: row["sha"] for row in rows.get("version", ())}
    for row in rows.get("line", ()):
        first = {"head": shas[row["baseline"]], "incumbent": row["baseline"]}
        found["line"][int(row["id"])] = Life("line", row, float(campaign["created_at"]), first)
    for table in {*BORN} - {"host"}:
        for row in rows.get(table, ()):
            born = start if table == "fence" else max(start, float(row["created_at"]))
            found[table][int(row[key_of(table)])] = Life(table, row, born)
    return found


def _drafts(
    rows: Rows, lives: Mapping[str, Mapping[int, Life]], events: Sequence[Told]
) -> dict[int, list[tuple[float, int | None]]]:
    """On what an experiment began, and the proposals that it held one after another; its candidates by time."""
    versions = measured_as(rows)
    steps = [
        (at, versions.get(data["commit"]))
        for at, kind, data in events
        if kind in ("RatchetAdvanced", "SteppedBack")
    ]
    versions_made, proposals_made = made(rows, "version", "candidate"), made(rows, "proposal")
    proposals = {row["id"]: row for row in rows.get("proposal", ())}
    baselines = {row["id"]: row["baseline"] for row in rows.get("line", ())}
    found: dict[int, list[tuple[float, int | None]]] = defaultdict(list)
    for id_, life in lives["experiment"].items():
        row = life.final
        before = bisect_right([at for at, _ in steps], life.born)
        base: Value = steps[before - 1][1] if before else None
        life.first |= {"base": base or baselines[row["line"]], "updated_at": row["created_at"]}
        for proposal in _held(row, proposals):
            at = float(proposal["created_at"])
            place, at_once = proposals_made[at].index(proposal), versions_made.get(at, [])
            last = proposal["id"] == row["proposal"] and row["merged"] is None
            # Where an older commit was proposed again, no version came with it.
            candidate = row["candidate"] if last else at_once[place]["id"] if place < len(at_once) else None
            life.tell(at, proposal=proposal["id"], base=proposal["base"], candidate=candidate)
            found[id_].append((at, candidate))
    return found


def _held(experiment: Row, proposals: Mapping[int, Row]) -> list[Row]:
    """An experiment's own proposals, the first one first: an edit's parent may be its own, a repair's is not."""
    found: list[Row] = []
    proposal = proposals.get(experiment["proposal"])
    while proposal is not None and proposal not in found and proposal["created_at"] >= experiment["created_at"]:
        found.insert(0, proposal)
        proposal = proposals.get(proposal["parent"])
    return found


def _trials(rows: Rows, lives: Mapping[str, Mapping[int, Life]]) -> None:
    for row in sorted(rows.get("attempt", ()), key=lambda row: int(row["number"])):
        attempt, trial = lives["attempt"][int(row["id"])], lives["trial"][int(row["trial"])]
        trial.tell(float(row["created_at"]), state="launching", host=row["host"])
        if row["started_at"] is not None:
            at = float(row["started_at"])
            attempt.tell(at, state="running", identity=row["identity"], started_at=at)
            trial.tell(at, state="running", started_at=trial.final["started_at"])
        if row["ended_at"] is not None:
            attempt.tell(float(row["ended_at"]), state=row["state"])
            trial.tell(float(row["ended_at"]), state="queued")
        if row.get("cleared") is not None:
            attempt.tell(float(row["cleared"]), cleared=row["cleared"])
    for trial in lives["trial"].values():
        if trial.final["ended_at"] is not None:
            trial.tell(float(trial.final["ended_at"]), state="done")


def _constant(rows: Rows, start: float) -> Iterable[Change]:
    """Rows that come and never change; those of tables that a newer version brought are taken for such."""
    ended = {row["id"]: row["ended_at"] or row["created_at"] for row in rows.get("trial", ())}
    for table, found in rows.items():
        if table in BORN or table in ("line", "point"):
            continue
        for row in found:
            at = next((row[name] for name in _TIMES if row.get(name) is not None), start)
            if table == "score":
                at = ended.get(row["trial"], start)
            yield Change(max(start, float(at)), table, tuple(row), tuple(row.values()))


def _runs(rows: Rows) -> dict[int, tuple[float, float]]:
    """(start, end) of the last attempt of each trial that ran; no end: infinite."""
    found: dict[int, tuple[float, float]] = {}
    for row in sorted(rows.get("attempt", ()), key=lambda row: int(row["number"])):
        if row["started_at"] is not None:
            until = float("inf") if row["ended_at"] is None else float(row["ended_at"])
            found[int(row["trial"])] = (float(row["started_at"]), until)
    return found


def _points(rows: Rows, runs: Mapping[int, tuple[float, float]], start: float) -> Iterable[PointAt]:
    for row in rows.get("point", ()):
        begun, until = runs.get(int(row["trial"]), (start, float("inf")))
        at = max(begun, min(begun + float(row["at"]), until))
        yield PointAt(at, row["trial"], row["series"], row["seq"], row["step"], row["value"], row["at"])
