"""Readings on their way into the store and to the fleet."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.clock import VirtualClock
from engine.fleet import Fleet
from engine.post import Post
from engine.store import hosting, reading
from engine.store.core import Store, StoreThread
from engine.types import Reading
from engine.watching import KEPT_SECONDS, Watching


def a_post(name: str, sort: str) -> Post:
    host: Any = SimpleNamespace(name=name)
    return Post(host, None, sort=sort)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path):
    clock = VirtualClock()
    store = Store(tmp_path / "store.db", clock)
    store.take_over("machine", "boot", 1)
    yield store
    store.close()


def at(store: Store, host: str, device: str, age: float = 0.0, **more: Any) -> Reading:
    return Reading(host, device, "H", store.clock.now() - age, **more)


def shown(store: Store) -> list[tuple[str, str]]:
    return [(row.host, row.device) for row in reading.readings(store.conn)]


async def test_a_slurm_hosts_login_node_is_not_read_and_what_an_older_engine_read_of_it_goes(store: Store) -> None:
    clock: Any = store.clock
    fleet = Fleet([a_post("cluster", "slurm")], clock)
    store.write(hosting.add_readings, [at(store, "cluster", "cpu"), at(store, "box", "GPU-1")])
    watching = Watching(fleet, StoreThread(store, inline=True), clock)
    await clock.run(watching.run())  # nothing to watch: it ends
    assert shown(store) == [("box", "GPU-1")]


async def test_a_device_that_was_not_read_for_a_day_is_forgotten_when_an_engine_starts(store: Store) -> None:
    clock: Any = store.clock
    old, young = at(store, "box", "GPU-1", KEPT_SECONDS + 1), at(store, "box", "GPU-2", KEPT_SECONDS - 60)
    store.write(hosting.add_readings, [old, young])
    await clock.run(Watching(Fleet([], clock), StoreThread(store, inline=True), clock).run())
    assert shown(store) == [("box", "GPU-2")]


def test_hours_of_readings_take_no_more_room_than_one_round(store: Store) -> None:
    devices = [f"GPU-{n}" for n in range(8)]
    for _ in range(200):
        for host in ("one", "two", "three", "four"):
            store.write(hosting.add_readings, [at(store, host, device) for device in devices])
    assert store.conn.execute("SELECT COUNT(*) FROM reading").fetchone() == (32,)
    pages = store.conn.execute("PRAGMA page_count").fetchone()[0]
    for host in ("one", "two", "three", "four"):
        store.write(hosting.add_readings, [at(store, host, device) for device in devices])
    assert store.conn.execute("PRAGMA page_count").fetchone()[0] <= pages + 1


def test_the_processor_stands_in_only_while_the_devices_do_not_answer(store: Store) -> None:
    store.write(hosting.add_readings, [at(store, "a", "GPU-1"), at(store, "b", "GPU-1")])
    store.write(hosting.add_readings, [at(store, "a", "cpu", trouble="it hangs")])
    store.write(hosting.add_readings, [at(store, "b", "cpu", trouble="it hangs")])
    store.write(hosting.add_readings, [at(store, "a", "GPU-1")])
    assert shown(store) == [("a", "GPU-1"), ("b", "GPU-1"), ("b", "cpu")]
    assert reading.readings(store.conn)[-1].data["trouble"] == "it hangs"


def test_a_round_in_two_batches_blames_and_clears_each_device_by_itself(store: Store) -> None:
    clock: Any = store.clock
    post = a_post("box", "local")
    fleet = Fleet([post], clock)
    watching = Watching(fleet, StoreThread(store, inline=True), clock)
    watching.take("box", [at(store, "box", "GPU-1", foreign=1)])
    watching.take("box", [at(store, "box", "GPU-2")])
    watching.take("box", [at(store, "box", "cpu")])
    assert post.foreign == {"GPU-1"}
    assert len([news for news in fleet.news() if news.warning]) == 1
    watching.take("box", [at(store, "box", "GPU-1")])
    assert post.foreign == frozenset()


def test_what_a_reading_holds_comes_back_from_the_store(store: Store) -> None:
    full = at(store, "a", "GPU-1", clock_mhz=1755.0, throttle=("thermal", "power cap"))
    store.write(hosting.add_readings, [full])
    (row,) = reading.readings(store.conn)
    assert row.data["clock_mhz"] == 1755.0 and row.data["throttle"] == ["thermal", "power cap"]
