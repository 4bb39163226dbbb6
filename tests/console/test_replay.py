"""The player: its clock and keys, its scratch folder, going back, and the commands without a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from console.commands.replay import private_names, seconds_of, shipped
from console.feed import Feed
from console.keymap import DECIDE, ENGINE, KEYS
from console.outbox import coalesce
from console.replay.deck import Deck, DeckClock, clock_words
from console.replay.keys import LIVE, REPLAY, off
from console.replay.scratch import PREFIX, Scratch, sweep
from console.replay.screen import ReplayScreen
from console.screens.help import help_text
from console.state import AliveSeen, CampaignRead, State, StoreReplaced, Update, reduce
from engine.clock import VirtualClock
from engine.errors import UsageError
from engine.store.playback import Playback
from engine.store.recording import Recording, of_store, save
from tests.console.ratchet_command import ratchet
from tests.histories import make_histories


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A campaign of 6 experiments, an event or more every second."""
    path = tmp_path_factory.mktemp("store") / "store.db"
    make_histories(path).close()
    return of_store(path, "c4")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def deck(taken: Recording, clock: VirtualClock, tmp_path: Path) -> Deck:
    (tmp_path / "s").mkdir()
    return Deck(Playback(taken, tmp_path / "s"), clock, 10.0, "c4", "2026-11-21")


def store_of(deck: Deck) -> Path:
    return deck._playback.folder / "store.db"


def verdicts(deck: Deck) -> int:
    conn = sqlite3.connect(f"file:{store_of(deck)}?mode=ro", uri=True)
    (found,) = conn.execute("SELECT COUNT(*) FROM experiment WHERE verdict IS NOT NULL").fetchone()
    conn.close()
    return int(found)


# --- the clock -------------------------------------------------------------------------------------------


def test_time_runs_at_the_speed_and_stands_when_paused(deck: Deck, clock: VirtualClock) -> None:
    start = deck.timeline.start
    clock.advance(2.0)
    assert deck.now() == pytest.approx(start + 20)
    deck.toggle()
    clock.advance(100.0)
    assert deck.now() == pytest.approx(start + 20) and "paused" in deck.banner()
    deck.toggle()
    clock.advance(1.0)
    assert deck.now() == pytest.approx(start + 30)
    deck.faster(True)
    clock.advance(0.1)
    assert deck.now() == pytest.approx(start + 36), "another speed moves nothing by itself"
    for _ in range(9):
        deck.faster(False)
    assert deck.speed == 1.0
    for _ in range(9):
        deck.faster(True)
    assert deck.speed == 600.0


def test_it_stands_at_the_end_and_begins_again(deck: Deck, clock: VirtualClock) -> None:
    clock.advance(1e6)
    assert deck.now() == deck.timeline.end and deck.over and "ended" in deck.banner()
    deck.toggle()
    assert deck.now() == deck.timeline.start and not deck.paused


def test_the_banner_says_what_when_and_how_fast(deck: Deck, clock: VirtualClock) -> None:
    clock.advance(1.0)
    whole = clock_words(deck.timeline.end - deck.timeline.start)
    assert deck.banner() == f"REPLAY of c4, recorded 2026-11-21, x10, 0:00:10 of {whole}"
    assert clock_words(100 * 3600 + 61) == "100:01:01"


def test_steps_stand_at_each_moment_in_turn_and_go_back_the_same_way(deck: Deck) -> None:
    for moments in (deck.timeline.events, deck.timeline.verdicts, deck.timeline.keeps):
        assert moments
        deck.seek(deck.timeline.start - 5)
        seen = [deck.now()] if deck.now() in moments else []
        while deck.step(moments, True):
            assert deck.paused
            seen.append(deck.now())
        assert tuple(seen) == moments
        back = [deck.now()]
        while deck.step(moments, False):
            back.append(deck.now())
        assert tuple(reversed(back)) == moments


def test_the_store_follows_the_clock_forward_and_back(deck: Deck) -> None:
    for place, at in enumerate(deck.timeline.verdicts, 1):
        deck.seek(at)
        deck.cycle()
        assert verdicts(deck) == place
    inode = store_of(deck).stat().st_ino
    rewound: list[bool] = []
    deck.rewound = lambda: rewound.append(True)
    deck.seek(deck.timeline.verdicts[0])
    deck.cycle()
    assert verdicts(deck) == 1 and rewound == [True]
    assert store_of(deck).stat().st_ino != inode, "another file, so that whoever follows it notices"


def test_a_night_without_an_engine_is_passed_over(taken: Recording, clock: VirtualClock, tmp_path: Path) -> None:
    """All that happened after the first verdict happened ten hours later."""
    (tmp_path / "s").mkdir()
    first = sorted(float(r["at"]) for r in taken.rows["event"] if r["kind"] == "VerdictGiven")[0]
    late = {
        table: [
            {k: v + 36_000 if k in ("at", "created_at", "started_at", "ended_at", "settled_at", "updated_at")
             and isinstance(v, float) and v > first else v for k, v in row.items()}
            for row in rows
        ]
        for table, rows in taken.rows.items()
    }  # fmt: skip
    deck = Deck(Playback(Recording(late), tmp_path / "s"), clock, 60.0, "c4", "")
    assert deck.timeline.end - deck.timeline.start > 36_000
    for _ in range(200):
        deck.cycle()
        clock.advance(0.1)
    assert deck.over, "20 seconds at x60 are 20 minutes of it"
    assert verdicts(deck) == len(deck.timeline.verdicts)


def test_ages_on_the_screen_are_those_of_the_recording_and_guards_are_in_real_time(
    deck: Deck, clock: VirtualClock
) -> None:
    theirs = DeckClock(deck)
    before = theirs.monotonic()
    clock.advance(3.0)
    assert theirs.now() == deck.timeline.start + 30
    assert theirs.monotonic() == before + 3.0


# --- what the console sees of going back -----------------------------------------------------------------


def test_after_going_back_nothing_of_the_later_time_is_left(deck: Deck, clock: VirtualClock) -> None:
    feed = Feed(store_of(deck).parent, lambda: True, clock)
    deck.rewound = feed.reopen
    deck.seek(deck.timeline.end)
    deck.cycle()
    feed.cycle()
    state = State(replay="banner")
    for update in feed.take():
        state = reduce(state, update)
    assert state.newest == 6 and state.counts.get("open", 0) == 0
    deck.seek(deck.timeline.verdicts[1])
    deck.cycle()
    clock.advance(2.0)  # everything is due
    feed.cycle()
    for update in feed.take():
        state = reduce(state, update)
    fresh = Feed(store_of(deck).parent, lambda: True, VirtualClock())
    fresh.cycle()
    expected = State(replay="banner")
    for update in fresh.take():
        expected = reduce(expected, update)
    assert state.newest == 2
    for name in (
        "campaign",
        "counts",
        "counted",
        "newest",
        "running",
        "events",
        "settles",
        "incumbent",
        "steering",
        "replay",
    ):
        assert getattr(state, name) == getattr(expected, name), name
    assert {n: row for n, row in state.listed.items() if row} == {
        n: row for n, row in expected.listed.items() if row
    }
    feed.stop()
    fresh.stop()


def test_what_is_read_after_a_replacement_does_not_take_the_place_of_what_came_before_it() -> None:
    pending: list[Update] = [CampaignRead(None, None, {"open": 1}), AliveSeen(True)]
    coalesce(pending, StoreReplaced())
    coalesce(pending, CampaignRead(None, None, {"open": 2}))
    assert pending == [AliveSeen(True), StoreReplaced(), CampaignRead(None, None, {"open": 2})]


# --- keys ------------------------------------------------------------------------------------------------


def test_no_key_means_two_things_in_a_replay_and_each_does_something() -> None:
    table = (*REPLAY.own, *LIVE)
    assert [key for key, n in Counter(k for one in table for k in one.keys).items() if n > 1] == []
    assert [key.id for key in table if not callable(getattr(ReplayScreen, f"do_{key.id}", None))] == []


def test_whatever_decides_or_steers_is_off_in_a_replay() -> None:
    assert [key.id for key in KEYS if key.group in (DECIDE, ENGINE) and not off(key.id)] == []
    assert not off("history") and not off("detach") and not off("replay_pause")


def test_the_help_page_of_a_replay_begins_with_its_keys_and_others_do_not_have_them() -> None:
    shown = help_text(REPLAY).plain
    assert shown.startswith("Replay\n") and all(key.what in shown for key in REPLAY.own)
    assert "Replay" not in help_text().plain


# --- the scratch folder ----------------------------------------------------------------------------------


def test_a_scratch_folder_goes_with_its_replay_and_a_killed_one_s_is_swept(tmp_path: Path) -> None:
    mine = Scratch(tmp_path)
    (mine.state / "store.db").write_text("x")
    dead = tmp_path / f"{PREFIX}dead"
    dead.mkdir()
    (dead / "owner").touch()
    made = tmp_path / f"{PREFIX}being-made"
    made.mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    assert sweep(tmp_path) == [dead], "not mine, which lives, and not one that is just being made"
    assert mine.state.is_dir() and made.is_dir()
    assert mine.folder.stat().st_mode & 0o077 == 0
    mine.remove()
    assert not mine.folder.exists()


def test_another_s_lock_keeps_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    with (folder / "owner").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep(tmp_path) == [] and folder.is_dir()


# --- the commands, without a terminal --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1:20:00", 4800), ("20:00", 1200), ("90s", 90), ("20m", 1200), ("1.5h", 5400), ("0:05", 5)],
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "-5m", "5", "1e9h", "nan"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(UsageError):
        seconds_of(text)


def test_a_newcomer_without_a_terminal_reads_the_recorded_history(tmp_path: Path) -> None:
    """Also in an empty folder, and with no git and no torch to be found."""
    done = ratchet("demo", "--replay", at=tmp_path, env={"PATH": os.devnull})
    assert done.returncode == 0, done.stderr
    assert "REPLAY of" in done.stdout and "recorded 20" in done.stdout
    assert "stand-in for Claude" in done.stdout and "training" in done.stdout
    assert "KEEP +" in done.stdout and "DISCARD" in done.stdout and "the ratchet advanced to" in done.stdout
    assert list(tmp_path.iterdir()) == [], "and nothing is made"


def test_a_campaign_is_recorded_shown_and_recorded_again(tmp_path: Path) -> None:
    state = tmp_path / "project" / ".ratchet"
    state.mkdir(parents=True)
    (tmp_path / "project" / "ratchet.toml").write_text("")
    make_histories(state / "store.db").close()
    before = (state / "store.db").read_bytes()
    done = ratchet(
        "replay", "project", "--campaign", "c4", "--record", "one.ratchet", "--note", "of a test", at=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "6 experiments" in done.stdout
    again = ratchet("replay", "one.ratchet", "--record", "two.ratchet", at=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "one.ratchet").read_bytes() == (tmp_path / "two.ratchet").read_bytes()
    shown = ratchet("replay", "two.ratchet", at=tmp_path)
    assert shown.returncode == 0 and "REPLAY of c4" in shown.stdout and "of a test" in shown.stdout
    over = ratchet("replay", "two.ratchet", "--record", "one.ratchet", at=tmp_path)
    assert over.returncode == 2 and "exists already" in over.stderr
    assert (state / "store.db").read_bytes() == before
    assert sorted(path.name for path in state.iterdir() if not path.name.endswith(("-shm", "-wal"))) == [
        "store.db"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("replay", "nothing-here"), 2, "does not exist"),
        (("replay", "odd"), 1, "no recording"),
        (("replay", ".", "--speed", "0"), 2, "--speed"),
        (("replay", ".", "--campaign", "none"), 3, "no campaign"),
    ],
)
def test_what_cannot_be_shown_is_told_with_its_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "odd").write_bytes(b"\x00\x01")
    (tmp_path / "ratchet.toml").write_text("")
    done = ratchet(*arguments, at=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert told in done.stderr and "Traceback" not in done.stderr


def test_a_stranger_s_recording_prints_no_escape_and_odd_events_are_told(taken: Recording, tmp_path: Path) -> None:
    event = {"id": 10**6, "at": 1e10, "campaign": 5, "kind": "CampaignCreated"}
    evil = {**event, "data": json.dumps({"name": "c\x1b]0;owned\x07", "baseline": "\x1b[2J", "seed": 1})}
    odd = {**event, "data": json.dumps({"name": 1})}
    for name, row, code in (("evil", evil, 0), ("odd", odd, 1)):
        rows = {**taken.rows, "event": [*taken.rows["event"], row]}
        save(Recording(rows, manifest={"note": "\x1b[31mred"}), tmp_path / name)
        done = ratchet("replay", name, at=tmp_path)
        assert done.returncode == code, done.stderr
        assert "\x1b" not in done.stdout and "\x07" not in done.stdout
        assert "Traceback" not in done.stderr


# --- the recording that ships ----------------------------------------------------------------------------


def test_the_recording_that_ships_is_small_says_what_it_is_and_shows_every_kind_of_end() -> None:
    file = Path(__file__).parents[2] / "console" / "recorded" / "campaign.ratchet"
    assert file.stat().st_size < 1_000_000
    found = shipped()
    assert found.manifest["label"] == "recorded"
    assert "scripted stand-in for Claude" in found.manifest["note"]
    assert "real" in found.manifest["note"]
    ended = Counter(row["verdict"] for row in found.rows["experiment"])
    assert ended["keep"] >= 2 and ended["discard"] >= 2, ended
    assert found.rows["campaign"][0]["state"] == "finished"
    assert any(row["repairs"] for row in found.rows["experiment"]), "a crash that was mended"
    assert found.rows["stream"] and found.rows["transcript"] and found.rows["point"] and found.logs


def said(value: object) -> Iterator[str]:
    """Every text in it, also those inside of JSON: escapes would hide where a word begins."""
    if isinstance(value, str):
        try:
            inner = json.loads(value) if value[:1] in ("{", "[") else None
        except ValueError:
            inner = None
        yield from [value] if inner is None else said(inner)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield str(name)
            yield from said(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from said(one)


def test_the_recording_that_ships_tells_nothing_of_a_machine_or_a_person() -> None:
    taken = shipped()
    text = "\n".join(said([taken.rows, [log.text for log in taken.logs.values()], dict(taken.manifest)]))
    assert len(text) > 500_000
    patterns = {
        "a path": r"(?<![\w.…])/(?:home|tmp|root|Users|var|opt|mnt|usr|work|srv|scratch)\b",
        "an address": r"[\w.+-]+@[\w-]+\.[a-z]{2,}|\w+://|(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])",
        "a key": r"\bsk-[A-Za-z0-9]|ghp_|hf_[A-Za-z0-9]{8}|AKIA|PRIVATE KEY",
        "a machine's or a boot's id": r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b",
    }
    found = {what: re.findall(pattern, text)[:3] for what, pattern in patterns.items()}
    assert found == {what: [] for what in patterns}
    rows = taken.rows
    assert {row["host"] for row in rows["fence"]} == {"machine"}
    assert {row["host"] for table in ("attempt", "trial", "reading") for row in rows[table]} <= {"local", ""}
    assert {row["identity"] for row in rows["attempt"]} == {""}
    assert {row["text"] for row in rows["config"]} == {""}
    starts = [json.loads(row["data"]) for row in rows["event"] if row["kind"] == "EngineStarted"]
    assert {(one["host"], one["pid"]) for one in starts} == {("machine", 0)}
    mine = [name for name in private_names(os.environ.get) if len(name) > 4 and name not in ("local", "localhost")]
    assert [name for name in mine if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)] == []
