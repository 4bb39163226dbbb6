"""The store: one fenced writer, readers that never lock, a full disk, damage, old versions.

TRUST.md rows 26, 27, 29, 35, 37, 38.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from engine.clock import RealClock, VirtualClock
from engine.errors import Fenced, RatchetError, StoreCorrupt
from engine.store import reading, writes
from engine.store.core import Store, StoreThread, backups, restore
from engine.store.migrations import LATEST
from engine.store.reading import Reader
from engine.store.rows import Remembered
from engine.types import Author, ExperimentState, Verdict
from tests.histories import dump, make_histories

FIXTURES = Path(__file__).parents[1] / "fixtures"


def open_store(path: Path) -> Store:
    store = Store(path, RealClock())
    store.take_over("host", "boot", os.getpid())
    return store


def test_a_write_and_its_event_commit_or_vanish_together(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.db")

    def broken(tx: object) -> None:
        writes.create_campaign(tx, "c", "loss", "minimize", 1, "a" * 40)  # type: ignore[arg-type]
        raise RuntimeError("power")

    with pytest.raises(RuntimeError):
        store.write(broken)
    assert reading.campaign(store.conn) is None
    assert reading.last_event(store.conn) == 0


def test_a_fenced_engine_cannot_write(tmp_path: Path) -> None:
    old = open_store(tmp_path / "store.db")
    new = open_store(tmp_path / "store.db")
    refused = 0
    for _ in range(20):
        with pytest.raises(Fenced, match="took over"):
            old.write(writes.warn, None, "stale")
        refused += 1
    new.write(writes.warn, None, "mine")
    assert [r.event.message for r in reading.events(new.conn)] == ["mine"]  # type: ignore[union-attr]
    print(f"stale writes rejected: {refused}/20")


READER = """
import sys, time
from pathlib import Path
from engine.store import reading
from engine.store.reading import Reader
from engine.types import Author, ExperimentState, Verdict
reader, end, reads = Reader(Path(sys.argv[1])), time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    campaign = reader.campaign()
    reading.experiments(reader.conn, campaign.id, last=50)
    reading.events(reader.conn, max(0, reading.last_event(reader.conn) - 50))
    reads += 1
    time.sleep(0.01)
print(reads)
"""


@pytest.mark.slow
def test_old_streams_are_dropped_and_those_of_open_and_recent_experiments_stay(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.db")
    store.write(writes.create_campaign, "c", "loss", "minimize", 1, "a" * 40)
    rows = [store.write(writes.new_experiment, 1, Author.CLAUDE) for _ in range(6)]
    for row in rows:
        store.write(writes.add_stream, row, [("text", f"of {row}")])
    for row in (rows[0], *rows[2:5]):
        store.write(
            writes.ruled, row, ExperimentState.DRAFTING, ExperimentState.SETTLED, Verdict.CANCELLED, "no proposal"
        )
    store.write(writes.forget_streams, 1, 2)
    left = [row for row in rows if reading.stream(store.conn, row)]
    assert left == [rows[1], rows[3], rows[4], rows[5]]


def test_four_readers_never_lock_the_writer_nor_it_them(tmp_path: Path) -> None:
    seconds = float(os.environ.get("RATCHET_READERS_SECONDS", "4"))
    path = tmp_path / "store.db"
    store = open_store(path)
    store.write(writes.create_campaign, "c", "loss", "minimize", 1, "a" * 40)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(path), str(seconds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    written = 0
    while any(r.poll() is None for r in readers):
        store.write(writes.warn, 1, f"row {written}")
        written += 1
        if written % 500 == 0:
            store.backup()
        time.sleep(0.002)
    for reader in readers:
        out, err = reader.communicate(timeout=60)
        assert reader.returncode == 0, err
        assert int(out) > 0
    assert len(reading.events(store.conn, limit=10**9)) == written + 1
    print(f"{seconds:g} s, 4 readers, {written} writes: 0 errors")


FULL_DISK = """
import asyncio, os, sys
from pathlib import Path
from engine.clock import RealClock
from engine.store import writes, reading
from engine.store.core import Store, StoreThread

async def main():
    disk = Path(sys.argv[1])
    store = StoreThread(Store(disk / "store.db", RealClock()))
    await store.call(lambda: store.store.take_over("h", "b", os.getpid()))
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(b"x" * 560_000)
    done = 0
    async def work():
        nonlocal done
        for i in range(60):
            await store.write(writes.warn, None, f"{i:04d}" + "y" * 3000)
            done += 1
    task = asyncio.create_task(work())
    while not store.full:
        await asyncio.sleep(0.05)
        assert not task.done(), "1 MB was not filled"
    print("full", flush=True)
    at_full = done
    await asyncio.sleep(0.3)
    assert done == at_full
    ballast.unlink()
    await task
    rows = reading.events(store.store.conn)
    numbers = [int(r.event.message[:4]) for r in rows]
    assert numbers == list(range(60)), numbers
    print(f"full after {at_full} of 60 rows, resumed: {len(rows)} rows, 0 lost")
    store.close()
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_full_disk_loses_no_row_and_writing_resumes(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare: a small disk cannot be mounted without touching this machine")
    script = textwrap.dedent(
        f"""
        mount -t tmpfs -o size=1m tmpfs {tmp_path} || exit 77
        exec {sys.executable} -c "$CODE" {tmp_path}
        """
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env={**os.environ, "CODE": FULL_DISK},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"this machine forbids mounting in a user namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "0 lost" in done.stdout
    print(done.stdout.strip())


def test_flipped_bytes_are_refused_and_the_backup_restored(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = open_store(path)
    store.write(writes.create_campaign, "c", "loss", "minimize", 1, "a" * 40)
    for i in range(400):
        store.write(writes.warn, 1, f"row {i} " + "z" * 200)
    store.backup()
    store.close()
    whole = path.read_bytes()
    page = 4096
    refused = 0
    for where in range(3 * page, len(whole), 7 * page):
        damaged = bytearray(whole)
        damaged[where : where + 64] = bytes(b ^ 0xFF for b in damaged[where : where + 64])
        path.write_bytes(bytes(damaged))
        try:
            Store(path, RealClock()).close()
        except StoreCorrupt as error:
            assert "ratchet restore" in error.mend
            refused += 1
    assert refused >= 3, "headers of pages were flipped: the check has to see it"
    path.write_bytes(b"not a database at all" * 300)
    with pytest.raises(StoreCorrupt):
        Store(path, RealClock())
    used, aside = restore(path)
    assert used == backups(path)[0] and aside is not None and aside.exists()
    store = open_store(path)
    assert len(reading.events(store.conn)) == 401
    print(f"{refused} kinds of damage refused, restored with 401 of 401 events")


def test_a_newer_programs_store_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(path).close()
    conn = sqlite3.connect(path)
    conn.execute(f"PRAGMA user_version = {LATEST + 1}")
    conn.commit()
    conn.close()
    with pytest.raises(RatchetError, match="newer"):
        try:
            Store(path, RealClock())
        except RatchetError as error:
            raise RatchetError(str(error)) from None


def as_then(found: Any, then: Any) -> Any:
    """What is found, without the fields that the older version did not have yet; those must be empty."""
    if isinstance(found, dict) and isinstance(then, dict):
        news = {key: value for key, value in found.items() if key not in then}
        assert not any(news.values()), f"an old history gained {news}"
        return {key: as_then(value, then[key]) for key, value in found.items() if key in then}
    if isinstance(found, list) and isinstance(then, list) and len(found) == len(then):
        return [as_then(a, b) for a, b in zip(found, then, strict=True)]
    return found


def test_histories_of_every_released_version_read_the_same_today(tmp_path: Path) -> None:
    stored = sorted(FIXTURES.glob("store-v*.db"))
    assert stored, "a store of every released schema version is kept"
    compared = 0
    for fixture in stored:
        path = tmp_path / fixture.name
        shutil.copyfile(fixture, path)
        Store(path, RealClock()).close()
        expected = json.loads(fixture.with_suffix(".json").read_text())
        found = dump(Reader(path))
        assert found.keys() == expected.keys()
        for name, history in expected.items():
            assert as_then(found[name], history) == history, name
            compared += 1
    assert compared >= 20
    print(f"{compared} histories identical")


def test_the_fixture_of_the_latest_schema_is_what_todays_program_writes(tmp_path: Path) -> None:
    made = make_histories(tmp_path / "store.db")
    assert dump(made) == json.loads((FIXTURES / f"store-v{LATEST}.json").read_text())


async def test_a_thread_keeps_writes_in_order(tmp_path: Path) -> None:
    import asyncio

    thread = StoreThread(open_store(tmp_path / "store.db"))
    await asyncio.gather(*(thread.write(writes.warn, None, str(i)) for i in range(50)))
    rows = await thread.read(reading.events)
    assert [r.event.message for r in rows] == [str(i) for i in range(50)]  # type: ignore[union-attr]
    thread.close()


async def test_an_inline_store_needs_no_thread_under_a_virtual_clock(tmp_path: Path) -> None:
    clock = VirtualClock()
    store = Store(tmp_path / "store.db", clock)
    store.take_over("h", "b", 1)
    thread = StoreThread(store, inline=True)

    async def work() -> float:
        await clock.sleep(3600)
        await thread.write(writes.warn, None, "an hour later")
        return clock.monotonic()

    assert await clock.run(work()) == 3600
    assert (await thread.read(reading.events))[0].at == clock.now()
    thread.close()


def test_rows_that_did_not_change_are_the_same_ones_and_what_is_gone_is_forgotten() -> None:
    made: list[tuple[object, ...]] = []

    def make(columns: tuple[object, ...]) -> str:
        made.append(columns)
        return f"{columns}"

    known: Remembered[str] = Remembered()
    first = known.rows([(1, "a"), (2, "b")], make)
    again = known.rows([(2, "c"), (1, "a")], make)
    assert again == ["(2, 'c')", "(1, 'a')"] and again[1] is first[0], "in the order in which they were found"
    assert made == [(1, "a"), (2, "b"), (2, "c")]
    assert known.rows([(2, "c")], make) == ["(2, 'c')"] and len(made) == 3
    assert known.rows([(1, "a")], make) == ["(1, 'a')"] and len(made) == 4, "forgotten, so made anew"
