"""What is in the store, as frozen rows. Standard library only: `ratchet status` starts in milliseconds.

Every function takes a connection, so the engine asks the same questions on its own. ``Reader`` opens the file
read-only for consoles: short reads, no transaction left open, so that it never holds up a checkpoint.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import NothingToDo
from engine.events import from_row
from engine.store.faults import unreadable
from engine.store.migrations import LATEST, migrate
from engine.store.rows import (
    AttemptRow,
    CampaignRow,
    EngineRow,
    EventRow,
    ExperimentRow,
    KeepRow,
    MessageRow,
    NoteRow,
    ReadingRow,
    Remembered,
    StreamRow,
    TrialRow,
)


def engine(conn: sqlite3.Connection) -> EngineRow | None:
    row = conn.execute("SELECT epoch, host, boot_id, pid, started_at, beat_at, ended_at FROM fence").fetchone()
    return EngineRow(*row) if row else None


_CAMPAIGN = """
SELECT c.id, c.name, c.metric, c.goal, c.seed, c.state, c.pause_reason, c.pause_mend,
       COALESCE(c.protocol, 0), c.active_seconds, c.limits, c.created_at, p.calibration,
       l.id, l.baseline, b.sha, l.head, l.incumbent, i.sha, c.autopilot
FROM campaign c JOIN line l ON l.campaign = c.id JOIN version b ON b.id = l.baseline
JOIN version i ON i.id = l.incumbent LEFT JOIN protocol p ON p.id = c.protocol
"""


def campaigns(conn: sqlite3.Connection) -> list[CampaignRow]:
    """All campaigns, the newest last."""
    return [_campaign(r) for r in conn.execute(_CAMPAIGN + " ORDER BY c.id")]


def campaign(conn: sqlite3.Connection, name: str | None = None) -> CampaignRow | None:
    """The campaign called ``name``, or the newest."""
    if name is None:
        row = conn.execute(_CAMPAIGN + " ORDER BY c.id DESC LIMIT 1").fetchone()
    else:
        row = conn.execute(_CAMPAIGN + " WHERE c.name = ?", (name,)).fetchone()
    return _campaign(row) if row else None


def _campaign(r: Any) -> CampaignRow:
    calibration = json.loads(r[12]) if r[12] else None
    values: list[Any] = [*r[:10], json.loads(r[10]), r[11], calibration, *r[13:]]
    return CampaignRow(*values)


_EXPERIMENT = """
SELECT e.id, e.number, e.state, e.author, COALESCE(p.author_detail, ''), COALESCE(p.title, ''),
       COALESCE(p.hypothesis, ''), COALESCE(p.expected_effect, ''), COALESCE(p.parameters, '{}'),
       e.verdict, e.reason, e.arithmetic, e.effect, e.effect_low, e.effect_high, e.score, e.stage, e.revision,
       e.base, b.sha, e.candidate, c.sha, e.merged, e.intent, COALESCE(p.added, 0), COALESCE(p.removed, 0),
       k.sha, e.created_at, e.updated_at, e.settled_at,
       COALESCE(p.refuted_by, ''), COALESCE(p.kind, ''), COALESCE(p.fingerprint, ''), e.outcome, r.number,
       e.asked, e.asked_at
FROM experiment e JOIN version b ON b.id = e.base LEFT JOIN version c ON c.id = e.candidate
LEFT JOIN proposal p ON p.id = e.proposal LEFT JOIN keep k ON k.experiment = e.id
LEFT JOIN experiment r ON r.id = e.repairs
"""


def experiments(
    conn: sqlite3.Connection,
    campaign: int,
    *,
    open_only: bool = False,
    last: int | None = None,
    before: int | None = None,
    known: Remembered[ExperimentRow] | None = None,
) -> list[ExperimentRow]:
    """Experiments by number; with ``last`` only that many newest, ``before`` a number only older ones.

    ``known``: of whoever asks again and again, as they were before.
    """
    where = "e.campaign = ?" + (" AND e.state <> 'settled'" if open_only else "")
    where += f" AND e.number < {int(before)}" if before is not None else ""
    if last is None:
        rows: Iterable[Any] = conn.execute(f"{_EXPERIMENT} WHERE {where} ORDER BY e.number", (campaign,))
    else:
        rows = reversed(
            conn.execute(
                f"{_EXPERIMENT} WHERE {where} ORDER BY e.number DESC LIMIT ?", (campaign, last)
            ).fetchall()
        )
    return (known or Remembered()).rows(rows, _experiment)


def experiment(conn: sqlite3.Connection, campaign: int, number: int) -> ExperimentRow | None:
    row = conn.execute(f"{_EXPERIMENT} WHERE e.campaign = ? AND e.number = ?", (campaign, number)).fetchone()
    return _experiment(row) if row else None


def _experiment(r: Any) -> ExperimentRow:
    arithmetic = tuple(json.loads(r[11])) if r[11] != "[]" else ()
    intent = json.loads(r[23]) if r[23] else None
    parameters = json.loads(r[8]) if r[8] != "{}" else {}
    values: list[Any] = [*r[:8], parameters, *r[9:11], arithmetic, *r[12:23], intent, *r[24:]]
    return ExperimentRow(*values)


def newest_number(conn: sqlite3.Connection, campaign: int) -> int:
    """Of its experiments; 0 when there is none."""
    row = conn.execute("SELECT MAX(number) FROM experiment WHERE campaign = ?", (campaign,)).fetchone()
    return int(row[0] or 0)


def counts(conn: sqlite3.Connection, campaign: int) -> dict[str, int]:
    """Settled experiments by verdict, and ``open``."""
    rows = conn.execute(
        "SELECT CASE WHEN state = 'settled' THEN verdict ELSE 'open' END, COUNT(*)"
        " FROM experiment WHERE campaign = ? GROUP BY 1",
        (campaign,),
    ).fetchall()
    return {str(k): int(n) for k, n in rows}


def proposed(conn: sqlite3.Connection, campaign: int, *, settled_only: bool = False) -> int:
    """How many proposals count towards ``limits.experiments``: those that were measured or still may be.

    One that was rejected, or went stale, before it ever ran has cost nothing.
    """
    where = " AND e.state = 'settled'" if settled_only else ""
    sql = (
        "SELECT COUNT(*) FROM experiment e WHERE e.campaign = ? AND e.candidate IS NOT NULL"
        " AND NOT (e.state = 'settled' AND e.verdict = 'cancelled' AND NOT EXISTS"
        f" (SELECT 1 FROM trial t WHERE t.experiment = e.id AND t.seconds > 0)){where}"
    )
    return int(conn.execute(sql, (campaign,)).fetchone()[0])


def held_up(conn: sqlite3.Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Trials that wait for a device, by the kind that they need ('' = any); open experiments by state."""
    queued = conn.execute("SELECT kind, COUNT(*) FROM trial WHERE state = 'queued' GROUP BY kind").fetchall()
    states = conn.execute(
        "SELECT state, COUNT(*) FROM experiment WHERE state <> 'settled' GROUP BY state"
    ).fetchall()
    return dict(queued), dict(states)


def finished_runs(conn: sqlite3.Connection, rows: Iterable[ExperimentRow]) -> dict[int, tuple[int, int]]:
    """Experiment's row id -> how many runs of its candidate, and of its base, have come to an end."""
    rows = list(rows)
    versions = json.dumps([version for row in rows for version in (row.base, row.candidate)])
    sql = (
        "SELECT version, COUNT(*) FROM trial WHERE version IN (SELECT value FROM json_each(?))"
        " AND state = 'done' GROUP BY version"
    )
    done = dict(conn.execute(sql, (versions,)).fetchall()) if rows else {}
    return {row.id: (done.get(row.candidate, 0), done.get(row.base, 0)) for row in rows}


def hardware_of(conn: sqlite3.Connection, row: ExperimentRow) -> str:
    """The kind of hardware on which an experiment is measured; "" before its first run has ended."""
    found = conn.execute(
        "SELECT hardware FROM trial WHERE version = ? AND outcome = 'ok' ORDER BY id LIMIT 1", (row.candidate,)
    ).fetchone()
    return str(found[0]) if found else ""


def seeds_since(conn: sqlite3.Connection, campaign: int, trial: int) -> list[tuple[int, int]]:
    """(id, seed) of the trials queued after ``trial``, in that order."""
    rows = conn.execute("SELECT id, seed FROM trial WHERE id > ? AND campaign = ? ORDER BY id", (trial, campaign))
    return [(int(number), int(seed)) for number, seed in rows]


def trials_ended(conn: sqlite3.Connection, campaign: int, after: int) -> tuple[list[TrialRow], int]:
    """The trials that ended since event ``after``, in the order of their ends, and the newest event."""
    newest = last_event(conn)
    rows = conn.execute(
        "SELECT json_extract(data, '$.trial') FROM event WHERE id > ? AND id <= ? AND campaign = ?"
        " AND kind = 'TrialEnded' ORDER BY id",
        (after, newest, campaign),
    ).fetchall()
    found = [trial(conn, int(r[0])) for r in rows]
    return [one for one in found if one is not None], newest


def baseline_failed(conn: sqlite3.Connection, campaign: int) -> bool:
    """Whether the baseline was tried, came to no score, and was never measured under any protocol."""
    failed, measured = conn.execute(
        "SELECT (SELECT COUNT(*) FROM trial WHERE campaign = :c AND purpose = 'calibrate' AND state = 'done'"
        " AND outcome <> 'ok'), (SELECT COUNT(*) FROM protocol WHERE campaign = :c AND calibration IS NOT NULL)",
        {"c": campaign},
    ).fetchone()
    return bool(failed) and not measured


def merge_under_way(conn: sqlite3.Connection, campaign: int) -> bool:
    """Whether the branch may be one step ahead of the store."""
    sql = "SELECT 1 FROM experiment WHERE campaign = ? AND state = 'merging' AND intent IS NOT NULL"
    return conn.execute(sql, (campaign,)).fetchone() is not None


def stepped_back_from(conn: sqlite3.Connection, campaign: CampaignRow) -> str | None:
    """Where the branch still is when an engine died between a step back and the branch's move."""
    row = conn.execute(
        "SELECT previous FROM step_back WHERE line = ? AND sha = ?", (campaign.line, campaign.head)
    ).fetchone()
    return str(row[0]) if row else None


def diff(conn: sqlite3.Connection, campaign: int, number: int) -> str:
    row = conn.execute(
        "SELECT p.diff FROM experiment e JOIN proposal p ON p.id = e.proposal"
        " WHERE e.campaign = ? AND e.number = ?",
        (campaign, number),
    ).fetchone()
    return str(row[0]) if row else ""


_TRIAL = """
SELECT t.id, e.number, t.experiment, t.version, v.sha, t.protocol, t.purpose, t.seed, t.priority, t.state,
       t.outcome, t.detail, t.score, t.hardware, t.host, t.seconds, t.created_at, t.started_at, t.ended_at,
       COALESCE(a.number, 0), COALESCE(a.slot, ''), COALESCE(a.directory, ''), t.kind,
       COALESCE(a.state, ''), COALESCE(a.reason, '')
FROM trial t JOIN version v ON v.id = t.version LEFT JOIN experiment e ON e.id = t.experiment
LEFT JOIN attempt a ON a.trial = t.id AND a.number = (SELECT MAX(number) FROM attempt WHERE trial = t.id)
"""


def trials(
    conn: sqlite3.Connection,
    campaign: int,
    *,
    experiment: int | None = None,
    version: int | None = None,
    open_only: bool = False,
    known: Remembered[TrialRow] | None = None,
) -> list[TrialRow]:
    """Trials in the order in which they are to run; ``experiment`` is a row id, not a number.

    Within a priority the older experiment goes first: one decision brought to its end frees the others from
    measuring against an incumbent that is about to change.
    """
    where, args = ["t.campaign = ?"], [campaign]
    if experiment is not None:
        where.append("t.experiment = ?")
        args.append(experiment)
    if version is not None:
        where.append("t.version = ?")
        args.append(version)
    if open_only:
        where.append("t.state <> 'done'")
    sql = f"{_TRIAL} WHERE {' AND '.join(where)} ORDER BY t.priority, e.number, t.id"
    return (known or Remembered()).rows(conn.execute(sql, args), lambda r: TrialRow(*r))


def trial(conn: sqlite3.Connection, trial: int) -> TrialRow | None:
    row = conn.execute(f"{_TRIAL} WHERE t.id = ?", (trial,)).fetchone()
    return TrialRow(*row) if row else None


def failure_tail(conn: sqlite3.Connection, experiment: int) -> str:
    """The last output of an experiment's (row id) newest run that failed; "" when there is none."""
    row = conn.execute(
        "SELECT tail FROM trial WHERE experiment = ? AND tail <> '' ORDER BY ended_at DESC LIMIT 1", (experiment,)
    ).fetchone()
    return str(row[0]) if row else ""


def attempts(conn: sqlite3.Connection, trial: int) -> list[AttemptRow]:
    rows = conn.execute(
        "SELECT id, trial, number, epoch, token, directory, host, allocation, containment, state, identity,"
        " reason, steps, peak_memory, created_at, started_at, ended_at FROM attempt WHERE trial = ?"
        " ORDER BY number",
        (trial,),
    )
    return [_attempt(r) for r in rows]


def _attempt(r: Any) -> AttemptRow:
    values: list[Any] = [*r[:7], json.loads(r[7]), *r[8:12], tuple(json.loads(r[12])), *r[13:]]
    return AttemptRow(*values)


def ended_before_resume(conn: sqlite3.Connection, campaign: int) -> set[int]:
    """Trials that had ended when somebody last resumed the campaign."""
    rows = conn.execute(
        "SELECT json_extract(data, '$.trial') FROM event WHERE campaign = ? AND kind = 'TrialEnded' AND id <"
        " (SELECT MAX(id) FROM event WHERE campaign = ? AND kind = 'CampaignResumed')",
        (campaign, campaign),
    )
    return {int(row[0]) for row in rows}


@dataclass(frozen=True, slots=True)
class Disposable:
    """An ended attempt whose files are still there and nobody needs."""

    attempt: int
    host: str
    directory: str  # relative to the host's root


def disposable(conn: sqlite3.Connection, campaign: int, *, kept_too: bool = False) -> list[Disposable]:
    """Ended attempts whose files nobody needs: of versions that are neither the baseline, nor kept, nor under
    measurement. ``kept_too`` spares only the last."""
    kept = (
        ""
        if kept_too
        else " UNION SELECT baseline FROM line WHERE campaign = :c UNION SELECT e.candidate FROM experiment e"
        " JOIN keep k ON k.experiment = e.id WHERE e.campaign = :c"
    )
    rows = conn.execute(
        "SELECT a.id, a.host, a.directory FROM attempt a JOIN trial t ON t.id = a.trial WHERE t.campaign = :c"
        " AND a.cleared IS NULL AND a.state IN ('ended', 'lost') AND (a.state = 'lost' OR t.state = 'done')"
        " AND t.version NOT IN"
        " (SELECT candidate FROM experiment WHERE campaign = :c AND state <> 'settled' AND candidate IS NOT NULL"
        f"{kept})",
        {"c": campaign},
    )
    return [Disposable(*r) for r in rows]


def scores(conn: sqlite3.Connection, trial: int) -> list[tuple[str, str, str, float]]:
    """(name, split, source, value) of one trial."""
    return conn.execute(
        "SELECT name, split, source, value FROM score WHERE trial = ? ORDER BY name, split, source", (trial,)
    ).fetchall()


def series(conn: sqlite3.Connection, trial: int) -> dict[str, int]:
    """Names of a trial's series and how many points each has."""
    rows = conn.execute("SELECT series, COUNT(*) FROM point WHERE trial = ? GROUP BY series", (trial,))
    return {str(name): int(n) for name, n in rows}


def points(conn: sqlite3.Connection, trial: int, series: str) -> list[tuple[float, float, float]]:
    """(step, value, seconds) in order; at most 2,000."""
    return conn.execute(
        "SELECT step, value, at FROM point WHERE trial = ? AND series = ? ORDER BY seq", (trial, series)
    ).fetchall()


def budget(conn: sqlite3.Connection, protocol: int) -> tuple[float, float]:
    """(steps, seconds) that a trial of this protocol may train for; 0 where there is no such limit."""
    row = conn.execute("SELECT spec FROM protocol WHERE id = ?", (protocol,)).fetchone()
    trial = json.loads(row[0]).get("measurement", {}).get("trial", {}) if row else {}
    return float(trial.get("steps") or 0), float(trial.get("train_seconds") or 0)


def keeps(conn: sqlite3.Connection, line: int) -> list[KeepRow]:
    rows = conn.execute(
        "SELECT e.number, p.title, k.previous, k.sha, e.effect, e.score, k.created_at FROM keep k"
        " JOIN experiment e ON e.id = k.experiment JOIN proposal p ON p.id = e.proposal"
        " WHERE k.line = ? ORDER BY k.id",
        (line,),
    )
    return [KeepRow(*r) for r in rows]


def events(conn: sqlite3.Connection, after: int = 0, limit: int = 1000) -> list[EventRow]:
    rows = conn.execute(
        "SELECT id, at, kind, data FROM event WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
    ).fetchall()
    found = []
    for id_, at, kind, data in rows:
        event = from_row(kind, json.loads(data))
        if event is not None:
            found.append(EventRow(id_, at, event))
    return found


def last_event(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT COALESCE(MAX(id), 0) FROM event").fetchone()[0])


def stream(conn: sqlite3.Connection, experiment: int, after: int = 0) -> list[StreamRow]:
    """What a proposer streamed for an experiment (row id)."""
    rows = conn.execute(
        "SELECT id, channel, text, at FROM stream WHERE experiment = ? AND id > ? ORDER BY id",
        (experiment, after),
    )
    return [StreamRow(*r) for r in rows]


def to_repair(conn: sqlite3.Connection, campaign: int, author: str, most: int) -> list[int]:
    """Numbers of an author's failed experiments that nobody mends yet, oldest first.

    Failed: a crash, an edit that was refused, a merge that conflicted. ``most``: repairs of repairs in a row. A
    repair that came to nothing for want of money or of the service does not count as one.
    """
    rows = conn.execute(
        "WITH RECURSIVE chain (id, depth) AS ("
        "  SELECT id, 0 FROM experiment WHERE campaign = :c AND repairs IS NULL"
        "  UNION ALL SELECT e.id, chain.depth + 1 FROM experiment e JOIN chain ON e.repairs = chain.id)"
        " SELECT e.number FROM experiment e JOIN chain ON chain.id = e.id"
        " WHERE e.campaign = :c AND e.author = :a AND e.state = 'settled' AND chain.depth < :m"
        " AND (e.verdict = 'crash' OR e.outcome IN ('invalid edit', 'stale')) AND e.proposal IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM experiment r WHERE r.repairs = e.id"
        "  AND r.outcome NOT IN ('over budget', 'rate limited', 'overloaded')) ORDER BY e.number",
        {"c": campaign, "a": author, "m": most},
    )
    return [int(r[0]) for r in rows]


def repair_depth(conn: sqlite3.Connection, experiment: int) -> int:
    """How many repairs led to an experiment (row id): 0 for a proposal of its own."""
    row = conn.execute(
        "WITH RECURSIVE chain (id, repairs, depth) AS ("
        "  SELECT id, repairs, 0 FROM experiment WHERE id = ?"
        "  UNION ALL SELECT e.id, e.repairs, chain.depth + 1 FROM experiment e JOIN chain ON e.id = chain.repairs)"
        " SELECT MAX(depth) FROM chain",
        (experiment,),
    ).fetchone()
    return int(row[0] or 0)


def outcomes(conn: sqlite3.Connection, campaign: int) -> dict[str, int]:
    """Drafts that ended without a score, by the name of their end."""
    rows = conn.execute(
        "SELECT outcome, COUNT(*) FROM experiment WHERE campaign = ? AND outcome <> '' GROUP BY 1", (campaign,)
    )
    return {str(name): int(n) for name, n in rows}


def pins(conn: sqlite3.Connection, campaign: int) -> list[int]:
    """Numbers of the experiments that people pinned, oldest pin first."""
    rows = conn.execute(
        "SELECT e.number FROM mark m JOIN experiment e ON e.id = m.experiment WHERE m.campaign = ?"
        " ORDER BY m.created_at",
        (campaign,),
    )
    return [int(r[0]) for r in rows]


def notes(conn: sqlite3.Connection, campaign: int, *, unused_only: bool = False) -> list[NoteRow]:
    """What people told the proposer, oldest first."""
    where = " AND n.used_by IS NULL" if unused_only else ""
    rows = conn.execute(
        "SELECT n.id, n.text, n.actor, e.number, n.created_at FROM note n LEFT JOIN experiment e"
        f" ON e.id = n.used_by WHERE n.campaign = ?{where} ORDER BY n.id",
        (campaign,),
    )
    return [NoteRow(*r) for r in rows]


def transcript(conn: sqlite3.Connection, experiment: int) -> list[MessageRow]:
    """The conversation in which an experiment (row id) was drafted."""
    rows = conn.execute(
        "SELECT seq, role, content, at FROM transcript WHERE experiment = ? ORDER BY seq", (experiment,)
    )
    return [MessageRow(r[0], r[1], json.loads(r[2]), r[3]) for r in rows]


def readings(conn: sqlite3.Connection) -> list[ReadingRow]:
    rows = conn.execute("SELECT host, device, at, data FROM reading ORDER BY host, device")
    return [ReadingRow(r[0], r[1], r[2], json.loads(r[3])) for r in rows]


class Reader:
    """store.db, read-only, for consoles and the command line.

    A store that an older version wrote is read from a migrated copy in memory until an engine has migrated it:
    only engines write to the file.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise NothingToDo(
                f"no campaign here: {path} does not exist", "start one with `ratchet run` or `ratchet`"
            )
        try:
            # autocommit: each query is its own short read, so a checkpoint never waits for a console
            self._file = sqlite3.connect(
                f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False
            )
            self._file.execute("SELECT 1 FROM fence").fetchone()
            self._copy: sqlite3.Connection | None = None
            self._copied = -1  # the file's data version then
            self._look()
        except sqlite3.Error as error:
            raise unreadable(path, error) from error

    @property
    def conn(self) -> sqlite3.Connection:
        return self._copy or self._file

    def data_version(self) -> int:
        """Changes whenever another connection committed: the cheap question to ask 20 times a second."""
        version = self._version()
        if self._copy is not None and version != self._copied:
            self._look()
        return version

    def _version(self) -> int:
        return int(self._file.execute("PRAGMA data_version").fetchone()[0])

    def _look(self) -> None:
        """Read from the file itself, or from a copy where its schema is an older one."""
        self._copied, old = self._version(), self._copy
        found = int(self._file.execute("PRAGMA user_version").fetchone()[0])
        self._copy = None if found == LATEST else _migrated(self._file)
        if old is not None:
            old.close()

    def campaign(self, name: str | None = None) -> CampaignRow:
        found = campaign(self.conn, name)
        if found is None:
            known = ", ".join(c.name for c in campaigns(self.conn))
            raise NothingToDo(
                f"no campaign {name!r}" if name else "no campaign yet",
                f"known: {known}" if known else "start one with `ratchet run` or `ratchet`",
            )
        return found

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()
        self._file.close()


def _migrated(file: sqlite3.Connection) -> sqlite3.Connection:
    """A copy in memory with the latest schema. Raises RatchetError for a store that a newer program wrote."""
    from sqlite_utils import Database

    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        file.backup(copy)
        migrate(Database(copy))
    except BaseException:
        copy.close()
        raise
    return copy
