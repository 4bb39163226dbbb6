"""What each event changed in the store, written onto the lives of its rows. Pure.

A method's name is the kind of event that it carries out; kinds that changed no row that is read have none.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from engine.store.row_life import Life, Row, Value

Data = Mapping[str, Any]
Told = tuple[float, str, Data]  # when, what kind, and its fields

_WORDS = " (in advance)"  # behind the name of who accepted before it was asked


class Happening:
    """``lives`` by table and key; ``candidates`` of an experiment (row id): (since when, version), ascending."""

    def __init__(
        self,
        lives: Mapping[str, Mapping[int, Life]],
        rows: Mapping[str, Sequence[Row]],
        events: Sequence[Told],
        candidates: dict[int, list[tuple[float, int | None]]],
    ) -> None:
        self._lives, self._events, self._candidates = lives, events, candidates
        self._measured_as = measured_as(rows)
        (self._campaign,) = lives["campaign"].values()
        self._by_number = {int(life.final["number"]): life for life in lives.get("experiment", {}).values()}
        self._revisions: dict[int, int] = defaultdict(lambda: 1)
        self._scores: dict[int, list[tuple[int, float]]] = defaultdict(list)  # of an experiment: (version, score)
        self._autopilot: tuple[int, str] = (0, "")
        self._spans = list(engine_spans(events))
        self._newest_start = max((at for at, kind, _ in events if kind == "EngineStarted"), default=None)
        self._last_verdict = {data["number"]: at for at, kind, data in events if kind == "VerdictGiven"}
        self._stages: dict[tuple[float, int | None], str] = {}  # the first run that is asked for names the stage
        for at, kind, data in events:
            if kind == "TrialQueued":
                self._stages.setdefault((at, data["number"]), str(data["purpose"]))
        self._merged = made(rows, "version", "merged")
        if self._newest_start is None:
            self._campaign.first["limits"] = self._campaign.final["limits"]

    def tell(self) -> None:
        """Everything, in its order."""
        for at, kind, data in self._events:
            carry_out: Callable[[float, Data], None] | None = getattr(self, f"_{kind}", None)
            if carry_out is not None:
                carry_out(at, data)
            self._campaign.tell(at, active_seconds=self._worked(at))

    def _worked(self, at: float) -> float:
        """The hours booked in the end, in proportion to the time that engines had run by then."""
        booked = float(self._campaign.final["active_seconds"])
        whole = sum(b - a for a, b in self._spans)
        return booked * sum(max(0.0, min(b, at) - a) for a, b in self._spans) / whole if whole else 0.0

    # --- engine and campaign ---

    def _fence(self, at: float, **values: Value) -> None:
        for life in self._lives.get("fence", {}).values():
            life.tell(at, **values)

    def _EngineStarted(self, at: float, data: Data) -> None:
        self._fence(at, epoch=data["epoch"], host=data["host"], pid=data["pid"], started_at=at, beat_at=at,
                    ended_at=None)  # fmt: skip
        if at == self._newest_start:  # the limits that are stored are this run's
            self._campaign.tell(at, limits=self._campaign.final["limits"])

    def _EngineStopped(self, at: float, data: Data) -> None:
        self._fence(at, ended_at=at)

    def _CampaignPaused(self, at: float, data: Data) -> None:
        self._campaign.tell(at, state="paused", pause_reason=data["reason"], pause_mend=data.get("mend", ""))

    def _CampaignResumed(self, at: float, data: Data) -> None:
        self._campaign.tell(at, state="running", pause_reason="", pause_mend="")

    def _CampaignFinished(self, at: float, data: Data) -> None:
        self._campaign.tell(at, state="finished", pause_reason=data["reason"], pause_mend="")

    def _ProtocolOpened(self, at: float, data: Data) -> None:
        self._campaign.tell(at, protocol=data["protocol"])

    def _Calibrated(self, at: float, data: Data) -> None:
        found = {"mean": data["mean"], "sigma": data["sigma"], "n": data["runs"], "notes": data.get("notes", [])}
        if (life := self._lives.get("protocol", {}).get(data["protocol"])) is not None:
            life.tell(at, calibration=json.dumps(found))

    def _AutopilotSet(self, at: float, data: Data) -> None:
        self._autopilot = (int(data["count"]), str(data["actor"]))
        text = json.dumps({"left": data["count"], "actor": data["actor"]}) if data["count"] > 0 else ""
        self._campaign.tell(at, autopilot=text)

    def _DecisionTaken(self, at: float, data: Data) -> None:
        if str(data["actor"]).endswith(_WORDS):
            left, actor = self._autopilot
            self._AutopilotSet(at, {"count": max(0, left - 1), "actor": actor})

    # --- experiments ---

    def _ExperimentMoved(self, at: float, data: Data) -> None:
        if (life := self._by_number.get(data["number"])) is None:
            return
        target = data["target"]
        self._revisions[data["number"]] += 1
        life.tell(at, state=target, revision=self._revisions[data["number"]], updated_at=at)
        if target in ("review", "keep_review"):
            life.tell(at, asked_at=at, asked=life.final.get("asked") if target == "review" else "")
            if data["source"] == "settled":  # a decision was taken back
                verdict = "keep" if target == "keep_review" else None
                life.tell(at, verdict=verdict, reason="", outcome="", settled_at=None)
        elif target == "measuring":
            if (stage := self._stages.get((at, data["number"]))) is not None:
                life.tell(at, stage=stage)
        elif target == "settled":
            life.tell(at, settled_at=at)
        elif target == "ready" and data["source"] not in ("drafting", "review") and self._merged.get(at):
            merged = self._merged[at].pop(0)
            life.tell(at, base=merged["parent"], candidate=merged["id"], merged=merged["id"], stage="", score=None,
                      verdict=None)  # fmt: skip
            self._candidates[int(life.final["id"])].append((at, int(merged["id"])))

    def _VerdictGiven(self, at: float, data: Data) -> None:
        if (life := self._by_number.get(data["number"])) is None:
            return
        life.tell(at, verdict=data["verdict"], reason=data["reason"], effect=data.get("effect"),
                  effect_low=data.get("low"), effect_high=data.get("high"), asked_at=None)  # fmt: skip
        if self._last_verdict[data["number"]] == at:  # the arithmetic that is stored is this one's
            known = ("arithmetic", "effect_detail", "outcome")
            life.tell(at, **{name: life.final.get(name) for name in known})

    def _TrialEnded(self, at: float, data: Data) -> None:
        trial = self._lives.get("trial", {}).get(data["trial"])
        life = self._lives.get("experiment", {}).get(trial.final["experiment"] or 0) if trial is not None else None
        if trial is None or life is None:
            return
        experiment = int(life.final["id"])
        if data.get("score") is not None:
            self._scores[experiment].append((trial.final["version"], float(data["score"])))
        now = [version for since, version in self._candidates[experiment] if since <= at][-1:]
        scores = [score for version, score in self._scores[experiment] if [version] == now]
        life.tell(at, updated_at=at, score=sum(scores) / len(scores) if scores else None)

    def _RatchetAdvanced(self, at: float, data: Data) -> None:
        for life in self._lives.get("line", {}).values():
            life.tell(at, head=data["commit"])
            if (version := self._measured_as.get(data["commit"])) is not None:
                life.tell(at, incumbent=version)

    _SteppedBack = _RatchetAdvanced


def made(rows: Mapping[str, Sequence[Row]], table: str, kind: str = "") -> dict[float, list[Row]]:
    """Rows (of a kind) by the moment at which they were made, in their order.

    A version and what it belongs to come in one transaction: they have one time, and one order within it.
    """
    found: dict[float, list[Row]] = defaultdict(list)
    for row in sorted(rows.get(table, ()), key=lambda row: int(row["id"])):
        if not kind or row["kind"] == kind:
            found[float(row["created_at"])].append(row)
    return found


def measured_as(rows: Mapping[str, Sequence[Row]]) -> dict[str, int]:
    """By commit of the campaign's branch: the measured version whose tree it holds."""
    return {row["sha"]: row["id"] if row["same_as"] is None else row["same_as"] for row in rows.get("version", ())}


def engine_spans(events: Sequence[Told]) -> Iterable[tuple[float, float]]:
    """From each start of an engine to its end: told, or the next start, or the last event."""
    start: float | None = None
    for at, kind, _ in events:
        if kind in ("EngineStarted", "EngineStopped"):
            if start is not None:
                yield start, at
            start = at if kind == "EngineStarted" else None
    if start is not None:
        yield start, events[-1][0]
