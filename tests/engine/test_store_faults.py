"""What SQLite complains of is told by its kind, and only a damaged file asks for a backup: real files, real faults."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from engine.errors import RatchetError
from engine.store import faults
from engine.store.reading import Reader
from tests.seeded import seeded_store


def raised(path: Path) -> RatchetError:
    with pytest.raises(RatchetError) as caught:
        reader = Reader(path)
        reader.campaign()
    return caught.value


def test_a_file_that_is_no_database_and_one_that_is_damaged_ask_for_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    assert "ratchet restore" in raised(path).mend
    path.unlink()
    seeded_store(tmp_path, 3)
    size = path.stat().st_size
    with path.open("r+b") as handle:
        handle.seek(100)
        handle.write(b"\xff" * (size - 200))
    assert "ratchet restore" in raised(path).mend


def test_a_locked_file_is_somebody_s_and_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with sqlite3.connect(path) as conn:
        conn.execute("CREATE TABLE a (b)")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.Error) as caught:
        other.execute("SELECT * FROM a").fetchall()
    what, mend = faults.meaning(caught.value)
    assert "locked" in what and "restore" not in mend
    other.close()
    holder.close()
    conn.close()


def test_a_full_database_and_a_read_only_one_are_told_apart(tmp_path: Path) -> None:
    conn = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    conn.execute("CREATE TABLE a (b)")
    conn.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.Error) as full:
        for _ in range(100):
            conn.execute("INSERT INTO a VALUES (randomblob(4096))")
    conn.close()
    readonly = sqlite3.connect(f"file:{tmp_path / 'x.db'}?mode=ro", uri=True)
    with pytest.raises(sqlite3.Error) as refused:
        readonly.execute("INSERT INTO a VALUES (1)")
    readonly.close()
    assert "full" in faults.meaning(full.value)[0] and "read-only" in faults.meaning(refused.value)[0]
    assert not any("restore" in faults.meaning(one.value)[1] for one in (full, refused))


def test_a_folder_in_place_of_the_file_is_trouble_with_the_disk_and_no_damage(tmp_path: Path) -> None:
    (tmp_path / "store.db").mkdir()
    error = raised(tmp_path / "store.db")
    assert ("disk" in error.message or "opened" in error.message) and error.mend and "restore" not in error.mend


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("database is locked", "locked"), ("disk I/O error", "disk"), ("database or disk is full", "full"),
        ("database disk image is malformed", "damaged"), ("no such table: fence", "expects"), ("", "expects"),
    ],
)  # fmt: skip
def test_an_error_without_a_code_is_known_by_its_words(words: str, part: str) -> None:
    what, mend = faults.meaning(sqlite3.OperationalError(words))
    assert part in what and mend and ("restore" in mend) == (part == "damaged")
