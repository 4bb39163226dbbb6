"""The store's schema as numbered steps. A released step is never edited: a change is a new step.

Each step runs inside one transaction with the bump of ``user_version``. ``tests/fixtures`` keeps a stored
database of every released version, and a test replays all of them (TRUST.md row 38).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import RatchetError

if TYPE_CHECKING:  # the reading side asks for LATEST, and is to start in milliseconds
    from sqlite_utils import Database

_V1 = """
-- Who may write: one row. Every transaction of an engine compares its own epoch with this one.
CREATE TABLE fence (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL,
    host TEXT NOT NULL, boot_id TEXT NOT NULL, pid INTEGER NOT NULL,
    started_at REAL NOT NULL, beat_at REAL NOT NULL, ended_at REAL
) STRICT;

CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES campaign(id),          -- forked from
    fork_version INTEGER REFERENCES version(id),
    metric TEXT NOT NULL, goal TEXT NOT NULL,
    seed INTEGER NOT NULL,                           -- all trial seeds derive from it
    state TEXT NOT NULL,                             -- running | paused | finished
    pause_reason TEXT NOT NULL DEFAULT '', pause_mend TEXT NOT NULL DEFAULT '',
    protocol INTEGER REFERENCES protocol(id),        -- the one in force
    active_seconds REAL NOT NULL DEFAULT 0,          -- time with an engine at work: what hours are counted in
    limits TEXT NOT NULL DEFAULT '{}',               -- of the engine run now at work, for progress displays
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE config (                                -- every ratchet.toml that was in force
    id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, text TEXT NOT NULL, created_at REAL NOT NULL
) STRICT;

CREATE TABLE protocol (                              -- what makes scores comparable
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    key TEXT NOT NULL,                               -- hash of spec
    spec TEXT NOT NULL,
    config INTEGER REFERENCES config(id),
    calibration TEXT,                                -- mean, sigma, n, notes; NULL while it is measured
    created_at REAL NOT NULL,
    UNIQUE (campaign, key)
) STRICT;

CREATE TABLE version (                               -- a commit
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    sha TEXT NOT NULL,
    kind TEXT NOT NULL,                              -- baseline | candidate | merged | keep
    parent INTEGER REFERENCES version(id),
    same_as INTEGER REFERENCES version(id),          -- a keep commit holds the tree of what was measured
    created_at REAL NOT NULL,
    UNIQUE (campaign, sha)
) STRICT;

CREATE TABLE line (                                  -- a lineage of keeps; one, "main", for now
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    name TEXT NOT NULL,
    baseline INTEGER NOT NULL REFERENCES version(id),
    head TEXT NOT NULL,                              -- commit that the branch points to
    incumbent INTEGER NOT NULL REFERENCES version(id),   -- the version whose trials stand for it
    UNIQUE (campaign, name)
) STRICT;

CREATE TABLE proposal (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    base INTEGER NOT NULL REFERENCES version(id),
    parent INTEGER REFERENCES proposal(id),          -- repaired or edited from
    author TEXT NOT NULL, author_detail TEXT NOT NULL,
    title TEXT NOT NULL, hypothesis TEXT NOT NULL, expected_effect TEXT NOT NULL,
    parameters TEXT NOT NULL, diff TEXT NOT NULL,
    added INTEGER NOT NULL, removed INTEGER NOT NULL,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE experiment (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    line INTEGER NOT NULL REFERENCES line(id),
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    author TEXT NOT NULL,
    proposal INTEGER REFERENCES proposal(id),
    base INTEGER NOT NULL REFERENCES version(id),
    candidate INTEGER REFERENCES version(id),
    merged INTEGER REFERENCES version(id),
    verdict TEXT, reason TEXT NOT NULL DEFAULT '',
    arithmetic TEXT NOT NULL DEFAULT '[]',
    effect REAL, effect_low REAL, effect_high REAL, effect_detail TEXT,
    score REAL,                                      -- mean of its own runs so far
    stage TEXT NOT NULL DEFAULT '',                  -- screen, confirm, anchor: where the judge stands
    intent TEXT,                                     -- the effect under way (merging), for the restart
    revision INTEGER NOT NULL DEFAULT 1,             -- what a decision must have seen
    created_at REAL NOT NULL, updated_at REAL NOT NULL, settled_at REAL,
    UNIQUE (campaign, number)
) STRICT;
CREATE INDEX experiment_open ON experiment (campaign, state) WHERE state <> 'settled';

CREATE TABLE trial (                                 -- one execution of a version; not of an experiment
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    version INTEGER NOT NULL REFERENCES version(id),
    protocol INTEGER NOT NULL REFERENCES protocol(id),
    experiment INTEGER REFERENCES experiment(id),    -- who asked for it first
    purpose TEXT NOT NULL, seed INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL, outcome TEXT, detail TEXT NOT NULL DEFAULT '',
    score REAL, hardware TEXT NOT NULL DEFAULT '', host TEXT NOT NULL DEFAULT '',
    seconds REAL NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, started_at REAL, ended_at REAL,
    UNIQUE (version, protocol, purpose, seed)
) STRICT;
CREATE INDEX trial_open ON trial (campaign, state) WHERE state <> 'done';
CREATE INDEX trial_experiment ON trial (experiment);

CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    trial INTEGER NOT NULL REFERENCES trial(id),
    number INTEGER NOT NULL,
    epoch INTEGER NOT NULL,                          -- of the engine that decided to launch it
    token TEXT NOT NULL UNIQUE,
    directory TEXT NOT NULL,
    host TEXT NOT NULL, slot TEXT NOT NULL, allocation TEXT NOT NULL,
    containment TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL, identity TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '', steps TEXT NOT NULL DEFAULT '[]',
    peak_memory INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL, started_at REAL, ended_at REAL,
    UNIQUE (trial, number)
) STRICT;

CREATE TABLE score (
    trial INTEGER NOT NULL REFERENCES trial(id),
    name TEXT NOT NULL, split TEXT NOT NULL, source TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (trial, name, split, source)
) STRICT, WITHOUT ROWID;

CREATE TABLE keep (                                  -- the ratchet's steps
    id INTEGER PRIMARY KEY,
    line INTEGER NOT NULL REFERENCES line(id),
    experiment INTEGER NOT NULL UNIQUE REFERENCES experiment(id),
    previous TEXT NOT NULL, sha TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE decision (
    id INTEGER PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiment(id),
    action TEXT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
    revision INTEGER NOT NULL, created_at REAL NOT NULL
) STRICT;

CREATE TABLE event (
    id INTEGER PRIMARY KEY, at REAL NOT NULL,
    campaign INTEGER REFERENCES campaign(id),
    kind TEXT NOT NULL, data TEXT NOT NULL
) STRICT;

-- Prunable: nothing below is needed to go on.
CREATE TABLE point (
    trial INTEGER NOT NULL, series TEXT NOT NULL, seq INTEGER NOT NULL,
    step REAL NOT NULL, value REAL NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (trial, series, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE stream (
    id INTEGER PRIMARY KEY, experiment INTEGER NOT NULL, at REAL NOT NULL,
    channel TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE INDEX stream_experiment ON stream (experiment);

CREATE TABLE reading (                               -- the newest reading of each device
    host TEXT NOT NULL, device TEXT NOT NULL, at REAL NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (host, device)
) STRICT, WITHOUT ROWID;
"""

_V2 = """
-- Proposals that say how they would be refuted, repairs, money, steering, transcripts, review by rule.
ALTER TABLE proposal ADD COLUMN refuted_by TEXT NOT NULL DEFAULT '';
ALTER TABLE proposal ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE proposal ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';   -- of the candidate's normalised syntax
ALTER TABLE experiment ADD COLUMN outcome TEXT NOT NULL DEFAULT '';     -- name of a draft's end without a proposal
ALTER TABLE experiment ADD COLUMN repairs INTEGER REFERENCES experiment(id);  -- the failed one that this one mends
ALTER TABLE experiment ADD COLUMN asked TEXT NOT NULL DEFAULT '';       -- why it waits for a person, if by rule
ALTER TABLE experiment ADD COLUMN asked_at REAL;                        -- since when
ALTER TABLE trial ADD COLUMN tail TEXT NOT NULL DEFAULT '';             -- last output of one that failed
ALTER TABLE campaign ADD COLUMN autopilot TEXT NOT NULL DEFAULT '';     -- a person's "accept the next N", as JSON
ALTER TABLE trial ADD COLUMN kind TEXT NOT NULL DEFAULT '';             -- hardware that it must run on; '' = any
ALTER TABLE attempt ADD COLUMN cleared REAL;                            -- when its files were deleted
CREATE INDEX proposal_fingerprint ON proposal (campaign, fingerprint) WHERE fingerprint <> '';

-- Money in billionths of a US dollar. A row is reserved before anything is sent or started, then settled once.
CREATE TABLE spend (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    experiment INTEGER REFERENCES experiment(id),
    trial INTEGER REFERENCES trial(id),
    kind TEXT NOT NULL,                              -- model | device
    what TEXT NOT NULL,                              -- model id, or host
    state TEXT NOT NULL,                             -- reserved | settled | forfeited | released
    reserved INTEGER NOT NULL, spent INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL,
    usage TEXT NOT NULL DEFAULT '{}',                -- tokens, or seconds and joules
    detail TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL, settled_at REAL
) STRICT;
CREATE INDEX spend_campaign ON spend (campaign, state, reserved, spent);
CREATE INDEX spend_experiment ON spend (experiment);
CREATE INDEX spend_trial ON spend (trial) WHERE trial IS NOT NULL;

CREATE TABLE note (                                  -- what a person tells the proposer
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    text TEXT NOT NULL, actor TEXT NOT NULL,
    used_by INTEGER REFERENCES experiment(id),       -- the draft whose brief carried it first
    created_at REAL NOT NULL, used_at REAL
) STRICT;

CREATE TABLE step_back (                             -- a person put an earlier keep in force again
    id INTEGER PRIMARY KEY,
    line INTEGER NOT NULL REFERENCES line(id),
    previous TEXT NOT NULL, sha TEXT NOT NULL,       -- heads of the branch before and after
    incumbent INTEGER NOT NULL REFERENCES version(id),
    actor TEXT NOT NULL, reason TEXT NOT NULL, created_at REAL NOT NULL
) STRICT;

CREATE TABLE mark (                                  -- experiments that a person pinned
    campaign INTEGER NOT NULL REFERENCES campaign(id),
    experiment INTEGER NOT NULL REFERENCES experiment(id),
    actor TEXT NOT NULL, created_at REAL NOT NULL,
    PRIMARY KEY (campaign, experiment)
) STRICT, WITHOUT ROWID;

CREATE TABLE host (                                  -- a machine that runs trials, as it was last seen
    name TEXT PRIMARY KEY,
    sort TEXT NOT NULL,                              -- local | ssh | slurm
    state TEXT NOT NULL,                             -- opening | ready | away
    reason TEXT NOT NULL DEFAULT '', mend TEXT NOT NULL DEFAULT '',
    capacity INTEGER NOT NULL DEFAULT 0,             -- trials at once
    kinds TEXT NOT NULL DEFAULT '{}',                -- hardware -> slots
    devices TEXT NOT NULL DEFAULT '[]',
    containment TEXT NOT NULL DEFAULT '',
    usd_per_hour REAL NOT NULL DEFAULT 0,
    drained TEXT NOT NULL DEFAULT '',                -- by whom
    lent TEXT NOT NULL DEFAULT '{}',                 -- device ('' = all of it) -> until
    updated_at REAL NOT NULL
) STRICT;

CREATE TABLE transcript (                            -- a proposer's conversation, message by message
    experiment INTEGER NOT NULL REFERENCES experiment(id),
    seq INTEGER NOT NULL, role TEXT NOT NULL, content TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (experiment, seq)
) STRICT, WITHOUT ROWID;
"""


def _create(db: Database) -> None:
    for statement in _statements(_V1):
        db.conn.execute(statement)


def _widen(db: Database) -> None:
    for statement in _statements(_V2):
        db.conn.execute(statement)


def _statements(script: str) -> list[str]:
    """Split DDL; ``executescript`` would commit the surrounding transaction."""
    lines = [line.split("--")[0].rstrip() for line in script.splitlines()]
    return [part.strip() for part in "\n".join(lines).split(";") if part.strip()]


MIGRATIONS: tuple[Callable[[Database], None], ...] = (_create, _widen)
LATEST = len(MIGRATIONS)


def version_of(db: Database) -> int:
    return int(db.conn.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: Database) -> list[int]:
    """Bring ``db`` to the latest schema; returns the numbers of the steps that ran.

    Raises RatchetError for a store that a newer version of the program wrote.
    """
    found = version_of(db)
    if found > LATEST:
        raise RatchetError(
            f"the store has schema version {found}, this program knows {LATEST}",
            "install the newer ratchet-console that wrote it",
        )
    done = []
    for number in range(found + 1, LATEST + 1):
        db.conn.execute("BEGIN IMMEDIATE")
        try:
            MIGRATIONS[number - 1](db)
            db.conn.execute(f"PRAGMA user_version = {number}")
            db.conn.execute("COMMIT")
        except BaseException:
            if db.conn.in_transaction:
                db.conn.execute("ROLLBACK")
            raise
        done.append(number)
    return done
