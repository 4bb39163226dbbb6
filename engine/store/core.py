"""The one writing connection, in one thread, fenced by the engine's epoch.

Why so strict: SQLite takes one writer at a time, and a deferred transaction that upgrades to a write fails at
once with "database is locked" whatever the time-out (TRUST.md row 27). So one thread writes, every
transaction begins IMMEDIATE, and everybody else reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlite_utils import Database

from engine.clock import Clock
from engine.errors import Fenced, RatchetError, StorageFull, StoreCorrupt
from engine.events import Event, to_row
from engine.store.migrations import migrate, version_of
from engine.utf8 import whole

P = ParamSpec("P")
T = TypeVar("T")

BACKUPS_KEPT = 3


class Transaction:
    """What a write statement gets: the connection inside BEGIN IMMEDIATE, the time, and ``emit``."""

    def __init__(self, conn: sqlite3.Connection, now: float, epoch: int) -> None:
        self.conn = conn
        self.now = now
        self.epoch = epoch

    def execute(self, sql: str, args: tuple[object, ...] | dict[str, object] = ()) -> sqlite3.Cursor:
        """Text with half a surrogate pair, which no database can hold, is stored with U+FFFD in its place."""
        try:
            return self.conn.execute(sql, args)
        except UnicodeEncodeError:
            if isinstance(args, dict):
                return self.conn.execute(sql, {name: _storable(value) for name, value in args.items()})
            return self.conn.execute(sql, tuple(_storable(value) for value in args))

    def insert(self, table: str, **values: object) -> int:
        columns = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        cursor = self.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values()))
        return int(cursor.lastrowid or 0)

    def emit(self, campaign: int | None, event: Event) -> None:
        """Append an event; it commits or vanishes with the state it tells of."""
        kind, data = to_row(event)
        self.insert("event", at=self.now, campaign=campaign, kind=kind, data=json.dumps(data))


def _storable(value: object) -> object:
    return whole(value) if isinstance(value, str) else value


class Store:
    """store.db opened for writing. Not thread-safe: ``StoreThread`` gives it its one thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.epoch = 0  # 0: nobody fenced yet; take_over sets it
        fresh = not path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The connection is made in one thread and used in another, never in two at once.
            conn = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise RatchetError(
                f"cannot open the store {path}: {error}",
                "make the folder writable, or free space on its disk",
            ) from error
        self.conn = conn
        try:
            if not fresh:
                self._check(quick=True)
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("PRAGMA synchronous = FULL")
            conn.execute("PRAGMA foreign_keys = ON")
            self.db = Database(conn)
            if not fresh and version_of(self.db) > 0:
                self._backup_before_migration()
            migrate(self.db)
        except sqlite3.Error as error:
            conn.close()
            raise self._explain(error) from error
        except BaseException:
            conn.close()
            raise

    # --- opening -------------------------------------------------------------------------------

    def _check(self, quick: bool) -> None:
        try:
            rows = self.conn.execute(f"PRAGMA {'quick_check' if quick else 'integrity_check'}(5)").fetchall()
        except sqlite3.DatabaseError as error:
            raise self._corrupt(str(error)) from error
        found = [str(r[0]) for r in rows]
        if found != ["ok"]:
            raise self._corrupt("; ".join(found))
        broken = self.conn.execute("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise self._corrupt(f"{len(broken)} rows point to rows that do not exist")

    def _corrupt(self, what: str) -> StoreCorrupt:
        good = backups(self.path)
        newest = f"`ratchet restore` puts back {good[0].name}" if good else "no backup exists yet"
        return StoreCorrupt(f"the store {self.path} is damaged: {what[:300]}", newest)

    def _explain(self, error: sqlite3.Error) -> RatchetError:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            return StorageFull(f"no space to write {self.path}: {text}", "free space on that disk")
        if "malformed" in text or "not a database" in text or "corrupt" in text:
            return self._corrupt(text)
        if "readonly" in text or "unable to open" in text:
            return RatchetError(f"cannot write the store {self.path}: {text}", "make the folder writable")
        return RatchetError(f"the store {self.path} cannot be used: {text}", "run `ratchet doctor`")

    def _backup_before_migration(self) -> None:
        from engine.store.migrations import LATEST

        if version_of(self.db) < LATEST:
            self.backup(suffix=f"v{version_of(self.db)}")

    # --- fence ---------------------------------------------------------------------------------

    def take_over(self, host: str, boot_id: str, pid: int) -> int:
        """Become the engine that may write: every earlier epoch is refused from this commit on."""
        with self._begin():
            row = self.conn.execute("SELECT epoch FROM fence").fetchone()
            epoch = (row[0] if row else 0) + 1
            now = self.clock.now()
            self.conn.execute(
                "INSERT OR REPLACE INTO fence (one, epoch, host, boot_id, pid, started_at, beat_at, ended_at)"
                " VALUES (1, ?, ?, ?, ?, ?, ?, NULL)",
                (epoch, host, boot_id, pid, now, now),
            )
        self.epoch = epoch
        return epoch

    def write(self, statement: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``statement(tx, ...)`` in one fenced transaction.

        Raises Fenced when a newer engine took over, StorageFull when the disk is full (nothing was written).
        """
        with self._begin():
            row = self.conn.execute("SELECT epoch FROM fence").fetchone()
            found = row[0] if row else 0
            if found != self.epoch:
                raise Fenced(
                    f"another engine (epoch {found}) took over this project; this one (epoch {self.epoch}) "
                    "writes no more"
                )
            return statement(Transaction(self.conn, self.clock.now(), self.epoch), *args, **kwargs)

    @contextmanager
    def _begin(self) -> Iterator[None]:
        try:
            self.conn.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.conn.execute("COMMIT")
            except BaseException:
                if self.conn.in_transaction:
                    self.conn.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise self._explain(error) from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise self._explain(error) from error

    # --- care ----------------------------------------------------------------------------------

    def backup(self, suffix: str = "") -> Path:
        """An online backup beside the store, under a temporary name first; keeps the newest few."""
        folder = self.path.parent / "backups"
        folder.mkdir(exist_ok=True)
        stamp = f"{self.clock.now():.0f}{'-' + suffix if suffix else ''}"
        final = folder / f"store-{stamp}.db"
        partial = final.with_suffix(".part")
        target = sqlite3.connect(partial)
        try:
            self.conn.backup(target, pages=500)
        finally:
            target.close()
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.rename(final)
        for old in backups(self.path)[BACKUPS_KEPT:]:
            old.unlink(missing_ok=True)
        return final

    def relax(self) -> None:
        """Wait for no disk: for a store that nobody needs after a power cut."""
        self.conn.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        try:
            self.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # a reader is in the way, or the disk is full: the log is replayed at the next opening
        self.conn.close()


def backups(path: Path) -> list[Path]:
    """Backups of the store at ``path``, newest first."""
    folder = path.parent / "backups"
    return sorted(folder.glob("store-*.db"), key=lambda p: p.stat().st_mtime, reverse=True)


def restore(path: Path) -> tuple[Path, Path | None]:
    """Put the newest backup that passes its check in the place of the store at ``path``.

    The damaged files are kept beside it. Returns the backup used and where the damaged store went.
    Raises RatchetError when no backup is good. The caller holds the engine's lock.
    """
    for candidate in backups(path):
        conn = sqlite3.connect(f"file:{candidate}?mode=ro", uri=True)
        try:
            good = conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        except sqlite3.DatabaseError:
            good = False
        finally:
            conn.close()
        if not good:
            continue
        aside: Path | None = None
        if path.exists():
            aside = path.with_name(f"{path.name}.damaged-{int(path.stat().st_mtime)}")
            path.rename(aside)
            for tail in ("-wal", "-shm"):
                other = path.with_name(path.name + tail)
                if other.exists():
                    other.rename(aside.with_name(aside.name + tail))
        partial = path.with_name(path.name + ".part")
        shutil.copyfile(candidate, partial)
        partial.rename(path)
        return candidate, aside
    raise RatchetError(f"no good backup of {path}", "start a new campaign; the branch keeps every commit")


class StoreThread:
    """The store behind its own thread, so that an fsync never stops the engine's loop.

    ``inline=True`` calls on the caller's thread instead: for the virtual clock, which cannot see threads.
    """

    def __init__(self, store: Store, *, inline: bool = False) -> None:
        self.store = store
        self.full = False  # the last write found no space; it is tried again until it succeeds
        self.full_at = float("-inf")  # when it last was, on the clock's monotonic scale
        # Told once when the disk is full (with the fault) and once when there is space again (None): the store
        # itself cannot be told, since nothing can be written to it.
        self.on_full: Callable[[StorageFull | None], None] = lambda fault: None
        self._pool = None if inline else ThreadPoolExecutor(1, thread_name_prefix="store")

    async def write(
        self, statement: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """``Store.write`` on its thread. A full disk holds the caller until there is space: the fact it
        carries stays in memory and in the trial's files, so nothing is lost (TRUST.md row 29)."""
        while True:
            try:
                result = await self.call(lambda: self.store.write(statement, *args, **kwargs))
            except StorageFull as fault:
                self.full_at = self.store.clock.monotonic()
                if not self.full:
                    self.full = True
                    self.on_full(fault)
                await self.store.clock.sleep(1.0)
                continue
            if self.full:
                self.full = False
                self.on_full(None)
            return result

    async def read(
        self, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a query of ``reading`` on the writer's own connection: it sees every commit before it."""
        return await self.call(lambda: query(self.store.conn, *args, **kwargs))

    async def call(self, work: Callable[[], T]) -> T:
        if self._pool is None:
            return work()
        # shield: a cancelled task must not leave a half-known write; the thread finishes it either way.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._pool, work))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self.store.close()
