"""Hosts in the devices pane and in their own table: what stands where at every size, with odd data, pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from console import host_spots, host_words
from console.host_spots import Folds, Place, Spot
from console.page_sources import Machines
from console.recent import SAMPLES, Recent
from console.state import HostsRead, State, View, reduce
from console.widgets import host_table, page_parts, slot_table, status_bar
from console.widgets.lines import Line, Scene
from engine.store.reading_hosts import HostRow, HostUse
from engine.store.reading_screens import BusyRow
from engine.store.rows import ReadingRow, TrialRow
from tests.console.scenes import NOW, TRIAL, state
from tests.console.test_screen_painters import EVIL, SIZES, check

REFUSED = "nothing listens there: ssh: connect to host 10.0.0.4 port 22: Connection refused"


def reading(host: str, device: str, age: float = 1.0, **data: object) -> ReadingRow:
    base = {"name": f"name of {device}", "utilisation": 50.0, "memory_used_mb": 1024.0, "memory_total_mb": 8192.0}
    return ReadingRow(host, device, NOW - age, {**base, **data})


def busy(number: int | None = 41, host: str = "box", devices: tuple[str, ...] = (), **more: Any) -> BusyRow:
    return replace(
        BusyRow(5, number, "screen", 7, "running", host, "slot", devices, "bubblewrap", NOW - 17, "running"),
        **more,
    )


def host(name: str, gpus: int = 0, **more: Any) -> HostRow:
    devices = [{"uuid": f"GPU-{name}-{i}", "index": i} for i in range(gpus)]
    return replace(HostRow(name, "ssh", "ready", capacity=gpus or 2, devices=devices), **more)


AWAY = host("box4", 8, state="away", reason=REFUSED)
HOSTS = (
    host("box1", 8), host("box2", 8), AWAY, host("box6", 8, drained="ada"), host("box8", 8, lent={"": NOW + 7200}),
    host("box9", 8, lent={"GPU-box9-2": NOW + 7200}),
)  # fmt: skip
READINGS = tuple(reading(row.name, f"GPU-{row.name}-{i}") for row in HOSTS if row is not AWAY for i in range(8))
ASIDE = {"box4": NOW - 200}


def trial(number: int, where: str, slot: str, **more: Any) -> TrialRow:
    return replace(TRIAL, id=number, number=number, host=where, slot=slot, attempt="running", **more)


def paint(of: State, width: int, height: int) -> str:
    return check(slot_table.body(Scene(of, View(), NOW, 1), width, height), width, height)


def table(of: Machines, at: Place | None, width: int, height: int, folds: Folds | None = None) -> list[Line]:
    return host_table.body(of, Recent(), at, folds or Folds(), NOW, width, height)


# --- the devices pane ----------------------------------------------------------------------------------


def test_each_trial_says_on_which_host_and_slot_it_is_where_there_are_several() -> None:
    running = (trial(41, "box1", "gpu0"), trial(42, "far away", "cpu1"))
    of = state(running=running, hosts=(host("box1", 2), host("far away")), readings=(reading("far away", "cpu"),))
    told = paint(of, 100, 10)
    assert "box1 gpu0" in told and "far away cpu1" in told
    alone = paint(replace(of, running=running[:1], hosts=(host("box1", 2),), readings=()), 100, 10)
    assert "gpu0" in alone and "box1" not in alone


def test_a_trial_on_a_host_that_does_not_answer_is_unknown_and_says_since_when_and_why() -> None:
    running = (trial(41, "box1", "gpu0"), replace(trial(42, "box4", "gpu1"), attempt="unknown"))
    told = paint(state(running=running, hosts=(host("box1"), AWAY), aside=ASIDE), 120, 10)
    lines = told.split("\n")
    assert lines[0].startswith("box4 set aside 3 min ago: nothing listens there"), "the trouble comes first"
    assert lines[1].startswith("? #42") and "unknown for 3 min: box4 is set aside" in lines[1]
    assert "set aside" not in paint(state(running=running[:1], hosts=(host("box1"),)), 120, 10)


def test_a_batch_system_s_own_words_are_shown_while_a_trial_waits_and_where_it_runs() -> None:
    waits = replace(trial(41, "cluster", "1"), state="launching", started_at=None, said="PENDING (Priority)")
    runs = replace(trial(42, "cluster", "2"), said="RUNNING on node7")
    told = paint(state(running=(waits, runs), hosts=(host("cluster"),)), 110, 10)
    assert "PENDING (Priority)" in told and "RUNNING on node7" in told


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_batch_system_is_told_by_what_its_queue_does(width: int) -> None:
    said = ["RUNNING on node7", "PENDING (Priority)", "PENDING (Priority)", "PENDING (Resources)"]
    rows = [
        busy(40 + i, "cluster", trial=i + 1, said=words, slot=f"slurm{9 + i}", state="running" if i == 0 else "launching",
             started_at=NOW - 9 if i == 0 else None)
        for i, words in enumerate(said)
    ]  # fmt: skip
    of = Machines((), tuple(reversed(rows)), 0, (host("cluster", sort="slurm", capacity=32),))
    words = "1 running · 2 PENDING (Priority) · 1 PENDING (Resources)"
    lines = check(table(of, None, width, 20), width, 20).split("\n")
    assert words in lines[1] and "no reading yet" not in "".join(lines)
    assert [line.split()[2] for line in lines if "slurm" in line.lower() and "#" in line] == [
        "#40",
        "#41",
        "#42",
        "#43",
    ]
    assert words in check(table(of, None, width + 20, 20, Folds(True)), width + 20, 20)
    running = [trial(one.number or 0, "cluster", one.slot, state=one.state, said=one.said) for one in rows]
    running = [one if one.state == "running" else replace(one, started_at=None) for one in running]
    assert words in paint(state(running=tuple(running), hosts=of.hosts), 100, 3)


@pytest.mark.parametrize(("width", "height"), [(86, 10), (64, 8), (78, 19), (46, 8)])
def test_eight_devices_and_eight_trials_are_all_in_sight_in_the_devices_pane(width: int, height: int) -> None:
    """160x50, 120x40, 80x24: each trial with its own device in one line where two would not fit."""
    readings = (*(reading("box", f"GPU-box-{i}", utilisation=10.0 * i) for i in range(8)), reading("box", "cpu"))
    running = tuple(trial(40 + i, "box", f"gpu{i}") for i in range(8))
    told = paint(state(running=running, hosts=(host("box", 8),), readings=readings), width, height)
    for i in range(8):
        line = next(one for one in told.split("\n") if f"#{40 + i}" in one)
        assert f"gpu{i}" in line and (f"{10 * i} %" in line or height > 12), line
    assert "more" not in told


@pytest.mark.parametrize("width", [86, 64, 78, 120])
@pytest.mark.parametrize("height", [5, 8, 10, 20])
def test_many_hosts_fit_troubled_ones_first_and_what_does_not_is_counted(width: int, height: int) -> None:
    running = tuple(trial(i, HOSTS[i % 6].name, f"gpu{i // 6}") for i in range(30))
    of = state(running=running, hosts=HOSTS, readings=READINGS, aside=ASIDE)
    told = paint(of, width, height)
    assert len(told.split("\n")) <= height
    assert "set aside" in told and "more trials: d shows all" in told
    if height >= 10:
        assert told.index("set aside") < told.index("drained by ada") < told.index("lent until")
        assert "box9 " in told or "more hosts: d shows all" in told


def test_the_title_counts_slots_of_hosts_in_service_only() -> None:
    running = (trial(1, "box1", "gpu0"), trial(2, "box4", "gpu0"), replace(trial(3, "", ""), state="queued"))
    shown = Scene(state(running=running, hosts=HOSTS, aside=ASIDE), View(), NOW, 1)
    assert "".join(text for text, _ in slot_table.title(shown)) == "1 of 24 slots busy · 1 trial queued"


def test_trials_that_wait_while_nothing_runs_are_told_why_once_it_is_no_moment_any_more() -> None:
    lent = host("box3", 2, lent={"GPU-box3-0": NOW + 7200, "GPU-box3-1": NOW + 7200})
    hosts = (host("box1", 2), host("box2", drained="ada"), lent)

    def shown(age: float) -> str:
        queued = replace(trial(1, "", ""), state="queued", created_at=NOW - age)
        return paint(state(running=(queued,), hosts=hosts), 140, 12)

    assert "no trial is running: box1 in use by others; box2 drained by ada; box3 lent until" in shown(60)
    assert "by others" not in shown(1)


def test_a_host_set_aside_is_told_on_every_screen_and_none_left_is_an_alarm() -> None:
    def top(of: State) -> str:
        return check(status_bar.painter(Scene(of, View(), NOW, None), 140, 3), 140)

    assert "1 host set aside" in top(state(hosts=HOSTS)) and "running" in top(state(hosts=HOSTS))
    assert "host" not in top(state(hosts=HOSTS[:2]))
    none = top(state(hosts=(AWAY, host("b", drained="ada"))))
    assert "no host" in none and "no trial can start" in none and "d shows why" in none


def test_the_strip_says_each_of_a_few_devices_and_the_mean_of_many() -> None:
    def strip(rows: Sequence[ReadingRow]) -> str:
        return check(status_bar.strip(Scene(state(readings=tuple(rows)), View(), NOW, None), 110, 1), 110)

    assert "50/50 % busy" in strip(READINGS[:2]) and "40 devices 50 % busy" in strip(READINGS)
    assert "busy" not in strip([reading("box", "cpu", age=60.0)]), "what is old is not said to be so now"


def test_reading_the_hosts_is_one_update() -> None:
    told = reduce(State(), HostsRead(HOSTS, ASIDE))
    assert told.hosts == HOSTS and told.aside == ASIDE


# --- the table of hosts --------------------------------------------------------------------------------

MACHINES = Machines(
    (
        reading("box", "GPU-1", power_w=300.0, temperature_c=91.0, foreign=2), reading("box", "cpu"),
        reading("far", "GPU-9", age=500.0), reading("small", "cpu"),
    ),
    (busy(devices=("GPU-1",)), busy(42, "small"), busy(43, "new", ("GPU-5",)), busy(None, "box", trial=6)), 3,
    (HostRow("box", "local", "ready", capacity=4, containment="bubblewrap: " + "a long proof " * 20, usd_per_hour=2.5),),
    {}, {"box": HostUse(2, 12, 7200.0, 4_200_000_000)},
)  # fmt: skip


@pytest.mark.parametrize("width", [200, 120, 80])
def test_each_device_tells_how_it_is_and_what_runs_on_it(width: int) -> None:
    told = check(table(MACHINES, None, width, 40), width, 40)
    for part in ("50 %", "300 W", "91 °C", "#41 screen, seed 7, 17s", "#42", "baseline ", "2/4 slots busy", "8 min old",
                 "silent for 8 min", "no reading yet", "#43", "not in ratchet.toml"):  # fmt: skip
        assert part in told, part
    assert "a long proof" not in told, "one word of it is enough"
    assert "12 trials ended · busy 2h00m · $4.20 · bubblewrap" in told or width < 100
    assert "2 processes not ours" in told or width < 100


def test_the_host_s_name_and_its_trouble_are_never_pushed_out() -> None:
    for width in (60, 80, 120, 200):
        lines = check(table(Machines((), (), 0, (AWAY,), ASIDE), None, width, 40), width).split("\n")
        assert lines[0].startswith(" box4  set aside 3 min ago"), lines[0]
        assert "nothing listens there" in lines[1] and "tried again by itself" in " ".join(
            " ".join(lines[1:]).split()
        )


def test_troubled_hosts_come_first_and_the_rest_as_in_the_file() -> None:
    names = [spot.place.host for spot in host_spots.spots(Machines((), (), 0, HOSTS, ASIDE), Folds(True), NOW)]
    assert names == ["box4", "box6", "box8", "box1", "box2", "box9"]


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 50), (200, 60)])
def test_twelve_hosts_of_eight_devices_fold_into_a_line_each(size: tuple[int, int]) -> None:
    width, height = size
    hosts = tuple(host(f"box{i}", 8) for i in range(12))
    of = Machines(
        tuple(reading(row.name, f"GPU-{row.name}-{i}") for row in hosts for i in range(8)),
        tuple(busy(i, f"box{i % 12}", (f"GPU-box{i % 12}-{i // 12}",), trial=i) for i in range(1, 30)), 4, hosts,
    )  # fmt: skip
    assert host_table.tall(of, NOW, width) > 1.5 * height
    lines = check(table(of, None, width, height, Folds(True)), width, height).split("\n")
    assert len(lines) == 12 and all("▅▅▅▅▅▅▅▅" in line and "/8 " in line for line in lines)
    opened = check(table(of, Place("box3"), width, 24, Folds(True, frozenset({"box3"}))), width, 24)
    assert "gpu7" in opened and "box11" in check(table(of, Place("box11"), width, 24, Folds(True)), width, 24)


def test_the_totals_name_what_is_out_of_service_and_count_the_slots_that_are_in_it() -> None:
    of = Machines(READINGS, (busy(1, "box1"), busy(2, "box4", attempt="unknown")), 4, HOSTS, ASIDE)
    told = "".join(text for text, _ in host_table.totals(of, NOW))
    assert told == (
        "6 hosts · 1 set aside · 1 drained · 1 lent · 1 of 24 slots busy · 1 trial unknown · 4 queued · 40 GPUs"
    )


def test_a_stale_device_is_dim_and_blames_nobody() -> None:
    lines = table(Machines((reading("far", "GPU-9", age=500.0, foreign=4),), ()), Place("far"), 200, 10)
    styles = {style for text, style in lines[1].spans if text.strip() and not text.strip().endswith("old")}
    assert styles == {"faint"} and "not ours" not in check(lines, 200)


@pytest.mark.parametrize("size", SIZES)
def test_odd_hosts_fit_and_let_nothing_out(size: tuple[int, int]) -> None:
    width, height = size
    row = HostRow(
        EVIL, EVIL, "away", EVIL, EVIL, 3, {EVIL: 1}, [{"uuid": EVIL, "index": EVIL}, {}], EVIL, 1.0, EVIL,
        {EVIL: 1e300, "": NOW + 9},
    )  # fmt: skip
    odd = Machines(
        (
            ReadingRow(EVIL, EVIL, 1e300, {"name": EVIL, "utilisation": 1e9, "foreign": 10**9}),
            ReadingRow("x", "y", NOW, {"utilisation": "?", "memory_used_mb": None, "temperature_c": float("nan")}),
        ),
        (busy(1, EVIL, (EVIL,)), *(busy(n, EVIL, (), trial=n, said=EVIL, slot=EVIL) for n in range(5)),
         busy(9, EVIL, attempt="unknown")),
        0, (row, replace(row, name="a state of a newer version", state=EVIL, drained="")),
        {EVIL: float("-inf")},
    )  # fmt: skip
    recent = Recent()
    recent.note(odd.readings)
    for folds in (Folds(), Folds(True)):
        for spot in host_spots.spots(odd, folds, NOW):
            check(host_table.body(odd, recent, spot.place, folds, NOW, width, height), width, height)
    running = (trial(1, EVIL, EVIL, said=EVIL), replace(trial(2, EVIL, EVIL), attempt="unknown"))
    paint(state(running=running, hosts=odd.hosts, readings=odd.readings, aside=odd.aside), width, height)
    check([Line(tuple(host_table.totals(odd, NOW)))], 300)


def test_what_the_cursor_stands_on_is_in_sight_among_many_and_stays_the_same_when_others_come() -> None:
    many = Machines(tuple(reading(f"host{i // 8}", f"GPU-{i:02d}") for i in range(64)), ())
    found = host_spots.spots(many, Folds(), NOW)
    for spot in found:
        lines = table(many, spot.place, 80, 12)
        assert sum(one.fill == "cursor" for one in lines) == (1 if spot.device is None else 2), spot
    place = found[20].place
    more = Machines((reading("a host", "cpu"), *many.readings), ())
    assert (
        host_spots.spots(more, Folds(), NOW)[host_spots.index(host_spots.spots(more, Folds(), NOW), place)].place
        == place
    )
    gone = [spot for spot in found if spot.place != place]
    assert gone[host_spots.index(gone, place)].place == Place(place.host), "else its host"


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_folded_the_lines_in_sight_are_a_part_of_all_lines(seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    of = Machines(READINGS, tuple(busy(i, f"box{i}", trial=i) for i in range(1, 5)), 1, HOSTS, ASIDE)
    folds = Folds(chance.random() < 0.5, frozenset(chance.sample([row.name for row in HOSTS], 3)))
    for width in (60, 100, 160):
        whole = [line.spans for line in table(of, None, width, 1000, folds)]
        spots: Sequence[Spot] = host_spots.spots(of, folds, NOW)
        part = [line.spans for line in table(of, chance.choice(spots).place, width, 9, folds)]
        assert any(whole[i : i + len(part)] == part for i in range(len(whole))), (width, folds)
        assert len(part) == min(9, len(whole))


def test_the_last_minutes_are_kept_where_they_were_seen_and_forgotten_after_that() -> None:
    recent = Recent()
    for age in (60.0, 55.0, 5.0):
        recent.note([reading("box", "cpu", age=age, utilisation=age)])
    line = recent.line(("box", "cpu"), NOW)
    assert [value for value in line if value is not None] == [60.0, 55.0, 5.0] and line[-2] == 5.0
    recent.note([reading("box", "cpu", age=-10_000.0, utilisation=1.0)])
    assert recent.line(("box", "cpu"), NOW) == [None] * SAMPLES
    assert len(recent.values["box", "cpu"]) == 1
    assert page_parts.sparkline([0.0, 50.0, None, 100.0], 6) == "  ▁▅·█"


@pytest.mark.parametrize(
    ("row", "rank", "word"),
    [
        (AWAY, host_words.AWAY, "set aside 3 min ago"),
        (replace(AWAY, name="new"), host_words.AWAY, "set aside"),
        (host("a", state="opening"), host_words.OPENING, "being opened"),
        (host("a", drained="ada", state="opening"), host_words.DRAINED, "drained by ada"),
        (host("a", lent={"": NOW - 1}), host_words.WORKING, ""),
        (host("a"), host_words.WORKING, ""),
        (None, host_words.WORKING, ""),
    ],
)
def test_how_a_host_stands_in_words(row: HostRow | None, rank: int, word: str) -> None:
    found = host_words.duty(row, ASIDE, NOW)
    assert (found.rank, found.word) == (rank, word)


def test_a_time_that_is_far_off_has_its_day() -> None:
    assert len(host_words.until(NOW + 3600, NOW)) == 5 and "-" in host_words.until(NOW + 3 * 86400, NOW)
    assert host_words.until(1e300, NOW) == "?"
