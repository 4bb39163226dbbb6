"""A page's thread: it reads what is looked at when that changed, nothing while nobody looks, and survives any store."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from console.page_reader import PageReader, Trouble
from engine.clock import RealClock, VirtualClock
from engine.store.rows import CampaignRow
from tests.seeded import seeded_store


class Counting:
    """A loader that counts; ``fail`` raises instead."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.fail: Exception | None = None

    def __call__(self, conn: sqlite3.Connection, campaign: CampaignRow, wanted: str) -> str:
        self.read.append(wanted)
        if self.fail is not None:
            raise self.fail
        return f"{wanted} {conn.execute('SELECT COUNT(*) FROM experiment').fetchone()[0]}"


class Page:
    def __init__(self, path: Path, clock: Any = None) -> None:
        self.loader = Counting()
        self.made = 0
        self.told: list[object] = []
        self.clock = clock or VirtualClock()
        self.reader: PageReader[str, str] = PageReader(
            path / "store.db", None, self.clock, self._make, lambda wanted, found: self.told.append(found)
        )

    def _make(self) -> Counting:
        self.made += 1
        return self.loader


def write(path: Path) -> None:
    with sqlite3.connect(path / "store.db") as conn:
        conn.execute("UPDATE fence SET beat_at = beat_at + 1")


def test_a_store_that_stays_the_same_is_read_once(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3, running=False)
    page = Page(tmp_path)
    for _ in range(5):
        page.reader.cycle("a")
        page.clock.advance(5.0)
    assert page.loader.read == ["a"] and page.told == ["a 3"]


def test_a_change_is_read_at_the_pages_pace_and_another_wish_at_once(tmp_path: Path) -> None:
    seeded_store(tmp_path, 3, running=False)
    page = Page(tmp_path)
    page.reader.cycle("a")
    write(tmp_path)
    page.reader.cycle("a")
    assert page.loader.read == ["a"]  # not within the same second
    page.clock.advance(1.0)
    page.reader.cycle("a")
    assert page.loader.read == ["a", "a"]
    page.reader.cycle("b")
    assert page.loader.read == ["a", "a", "b"] and page.told[-1] == "b 3"


def test_a_missing_store_is_trouble_with_its_mend_told_once_and_read_when_it_comes(tmp_path: Path) -> None:
    page = Page(tmp_path)
    page.reader.cycle("a")
    page.reader.cycle("a")
    assert [type(found) for found in page.told] == [Trouble] and "ratchet run" in page.told[0].mend  # type: ignore[attr-defined]
    seeded_store(tmp_path, 2, running=False)
    page.reader.cycle("a")
    page.reader.cycle("b")
    assert page.told[-1] == "b 2"


def test_a_store_that_another_file_replaced_is_read_by_a_new_loader(tmp_path: Path) -> None:
    seeded_store(tmp_path, 2, running=False)
    page = Page(tmp_path)
    page.reader.cycle("a")
    made = page.made
    (tmp_path / "new").mkdir()
    seeded_store(tmp_path / "new", 5, running=False)
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "new" / "store.db").replace(tmp_path / "store.db")
    page.reader.cycle("a")
    assert page.made == made + 1 and page.told[-1] == "a 5"


@pytest.mark.parametrize("error", [ValueError("odd"), sqlite3.DatabaseError("malformed"), OSError("gone")])
def test_whatever_a_loader_raises_is_told_and_tried_again(tmp_path: Path, error: Exception) -> None:
    seeded_store(tmp_path, 2, running=False)
    page = Page(tmp_path)
    page.loader.fail = error
    page.reader.cycle("a")
    assert isinstance(page.told[-1], Trouble) and str(error) in page.told[-1].message
    page.loader.fail = None
    page.clock.advance(1.0)
    page.reader.cycle("a")
    assert page.told[-1:] == ["a 2"]


def test_garbage_in_place_of_a_store_is_trouble(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"no database at all" * 100)
    page = Page(tmp_path)
    page.reader.cycle("a")
    assert isinstance(page.told[-1], Trouble) and page.told[-1].mend


def until(what: Callable[[], bool], event: threading.Event) -> None:
    for _ in range(100):
        if what():
            return
        event.wait(0.1)
        event.clear()
    raise AssertionError("it did not come")


def test_nothing_is_read_while_nobody_looks_and_the_file_is_let_go(tmp_path: Path) -> None:
    seeded_store(tmp_path, 2, running=False)
    page = Page(tmp_path, RealClock())
    came = threading.Event()
    page.reader._ready = lambda wanted, found: (page.told.append(found), came.set())  # type: ignore[func-returns-value]
    page.reader.want("a")
    until(lambda: page.told == ["a 2"], came)
    page.reader.want(None)
    until(lambda: page.reader._reader is None, threading.Event())
    write(tmp_path)
    threading.Event().wait(0.6)  # two polls' time
    assert page.loader.read == ["a"]
    page.reader.want("a")
    until(lambda: len(page.loader.read) == 2, came)
    thread = page.reader._thread
    page.reader.close()
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive() and page.reader._reader is None
