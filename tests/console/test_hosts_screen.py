"""The hosts' screen and the live one under a pilot: folding, moving, and a person's word on a host."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from console.page_sources import HostsPage
from console.replay.keys import THIS
from console.screens.confirm import ConfirmScreen
from console.screens.hosts import HostsScreen
from console.screens.typing import CountScreen
from engine.store import reading, reading_hosts
from engine.store.reading import Reader
from tests.console.pilots import Console, console
from tests.seeded import seeded_store

HOSTS = (("box1", "ready", "", 8), ("box2", "away", "no route to host", 8), ("box3", "ready", "", 8))


def write(folder: Path, sql: str, *args: object) -> None:
    with sqlite3.connect(folder / "store.db") as conn:
        conn.execute(sql, args)
    conn.close()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Three hosts of eight devices, of which the second is set aside with an unknown trial."""
    seeded_store(tmp_path, 5)
    write(tmp_path, "DELETE FROM reading")
    for name, state, reason, gpus in HOSTS:
        devices = [{"uuid": f"GPU-{name}-{i}", "index": i} for i in range(gpus)]
        write(
            tmp_path,
            "INSERT INTO host (name, sort, state, reason, capacity, devices, updated_at) VALUES (?, 'ssh', ?, ?, ?, ?, 1)",
            name, state, reason, gpus, json.dumps(devices),
        )  # fmt: skip
        for device in devices:
            data = json.dumps({"name": "H100", "utilisation": 50.0})
            write(tmp_path, "INSERT INTO reading SELECT ?, ?, MAX(at), ? FROM event", name, device["uuid"], data)
    at = "INSERT INTO event (at, campaign, kind, data) SELECT MAX(at), 1, 'Warned', ? FROM event"
    write(tmp_path, at, json.dumps({"message": "host box2 is set aside: no route to host", "mend": ""}))
    allocation = json.dumps({"devices": ["GPU-box2-3"], "host": "box2", "slot": "gpu3"})
    open_ = "SELECT a.id FROM attempt a JOIN trial t ON t.id = a.trial WHERE t.state = 'running'"
    write(
        tmp_path,
        f"UPDATE attempt SET host = 'box2', slot = 'gpu3', state = 'unknown', allocation = ? WHERE id IN ({open_})",
        allocation,
    )
    write(tmp_path, "UPDATE trial SET host = 'box2' WHERE state = 'running'")
    return tmp_path


def page(c: Console) -> HostsScreen:
    assert isinstance(c.app.screen, HostsScreen)
    return c.app.screen


async def opened(c: Console) -> HostsScreen:
    await c.press("d")
    for _ in range(200):
        if page(c).data is not None:
            return page(c)
        await c.pilot.pause(0.02)
    raise AssertionError("the page was not read")


def shown(c: Console, part: str = "hosts") -> str:
    view = c.app.screen.query_one(f"#{part}")
    return "\n".join("".join(segment.text for segment in strip) for strip in view._strips)  # type: ignore[attr-defined]


def asks(c: Console) -> list[tuple[str, dict[str, object]]]:
    return [(r.kind, r.args) for r in c.filed()]


async def test_the_live_screen_says_what_is_wrong_and_where_each_trial_is(many: Path) -> None:
    async with console(many, size=(160, 50)) as c:
        await c.settle()
        told = shown(c, "devices")
        assert "box2  set aside" in told and "no route to host" in told
        assert "box2 gpu3" in told and "unknown" in told
        assert "1 host set aside" in shown(c, "status")
        assert "of 16 slots busy" in told, "slots of a host that is set aside do not count"


async def test_many_devices_come_folded_and_open_host_by_host(many: Path) -> None:
    async with console(many, size=(100, 24)) as c:
        screen = await opened(c)
        await c.settle()
        told = shown(c)
        assert told.split("\n")[0].startswith(" box2") and "1 unknown" in told and "gpu3" not in told
        await c.press("enter")
        assert "gpu3" in shown(c) and "no route to host" in shown(c), "its devices"
        await c.press("j", "j", "j", "j")
        assert screen.spot() is not None and screen.spot().place.device == "GPU-box2-3"  # type: ignore[union-attr]
        await c.press("f")
        await c.press("f")
        assert "gpu3" not in shown(c), "all are folded again"
        await c.press("enter", "G")
        assert screen.spot().place.host == "box3"  # type: ignore[union-attr]


async def test_a_host_is_drained_lent_and_used_again_only_after_a_question(many: Path) -> None:
    async with console(many, size=(120, 40)) as c:
        screen = await opened(c)
        if not screen._folds.every:
            await c.press("f")
        await c.press("j", "D")
        assert isinstance(c.app.screen, ConfirmScreen) and asks(c) == []
        await c.press("n")
        assert asks(c) == []
        await c.press("D")
        await c.look_at_it()
        await c.press("y")
        assert asks(c) == [("drain", {"name": "box1"})]
        await c.press("u")
        assert asks(c)[1:] == [] and "neither drained nor lent" in c.app.live.state.notice.text  # type: ignore[union-attr]
        write(many, "UPDATE host SET drained = 'ada', updated_at = 2 WHERE name = 'box1'")
        c.clock.added += 5.0
        for _ in range(200):
            if any(row.drained for row in page(c).data.hosts):
                break
            c.clock.added += 1.0
            await c.pilot.pause(0.05)
        await c.press("u")
        await c.look_at_it()
        await c.press("y")
        assert asks(c)[1:] == [("undrain", {"name": "box1"})]


async def test_the_device_under_the_cursor_is_lent_else_its_host(many: Path) -> None:
    async with console(many, size=(120, 40)) as c:
        screen = await opened(c)
        await c.press("l")
        assert isinstance(c.app.screen, CountScreen)
        await c.press("escape")
        assert asks(c) == []
        if screen._folds.every:
            await c.press("f")
        await c.press("g", "j", "j", "l")
        await c.look_at_it()
        await c.press("3", "enter")
        assert asks(c) == [("lend", {"name": "box2", "hours": 3, "device": "GPU-box2-1"})]
        await c.press("g", "l")
        await c.look_at_it()
        await c.press("0", "enter")
        assert isinstance(c.app.screen, CountScreen), "none is no number of hours"
        await c.press("backspace", "2", "enter")
        assert asks(c)[1:] == [("lend", {"name": "box2", "hours": 2, "device": ""})]


async def test_no_device_goes_silent_behind_a_question_where_nothing_is_read(many: Path) -> None:
    async with console(many, size=(120, 40)) as c:
        await opened(c)
        before = shown(c)
        await c.press("y")
        assert c.app.screen.is_modal
        c.app.live._now += 60.0
        page_behind = c.app.screen_stack[-2]
        assert isinstance(page_behind, HostsScreen)
        page_behind.paint()
        await c.press("escape")
        assert shown(c).count("old") == before.count("old")


async def test_in_a_replay_nothing_is_said_about_a_host(many: Path) -> None:
    async with console(many) as c:
        screen = await opened(c)
        c.app.live.state = c.app.live.state.__class__(**{
            name: getattr(c.app.live.state, name) for name in c.app.live.state.__slots__
        } | {"replay": "REPLAY"})  # fmt: skip
        assert [screen.why_off(key) for key in ("drain", "lend", "undrain")] == [THIS] * 3
        await c.press("D")
        assert page(c) is screen and asks(c) == []


async def test_the_trial_under_the_cursor_is_opened(many: Path) -> None:
    async with console(many, size=(120, 40)) as c:
        screen = await opened(c)
        if screen._folds.every:
            await c.press("f")
        await c.press("g", "j", "j", "j", "j")
        number = screen.data.busy[0].number
        assert screen.why_off("open") == ""
        await c.press("enter")
        assert type(c.app.screen).__name__ == "ExperimentScreen" and c.app.screen.number == number  # type: ignore[attr-defined]


def test_sums_over_all_trials_are_made_anew_only_when_something_has_happened(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(many / "store.db")
    campaign = reading.campaign(reader.conn)
    assert campaign is not None
    asked: list[int] = []
    uses = reading_hosts.uses

    def counted(conn: sqlite3.Connection, id_: int) -> dict[str, reading_hosts.HostUse]:
        asked.append(id_)
        return uses(conn, id_)

    monkeypatch.setattr(reading_hosts, "uses", counted)
    load = HostsPage()
    first = load(reader.conn, campaign, "hosts")
    assert load(reader.conn, campaign, "hosts") is first, "the very same object: nothing is painted again"
    write(many, "UPDATE reading SET at = at + 1")
    second = load(reader.conn, campaign, "hosts")
    assert second is not first and len(asked) == 1 and set(second.aside) == {"box2"}
    write(many, "INSERT INTO event (at, campaign, kind, data) VALUES (1, 1, 'Warned', '{\"message\": \"x\"}')")
    load(reader.conn, campaign, "hosts")
    assert len(asked) == 2
    reader.close()
