"""Ten thousand hostile texts through everything that shows what others wrote (TRUST.md row 32): no crash, no leak.

The seed is printed; RATCHET_FUZZ_SEED chooses another one.
"""

from __future__ import annotations

import json
import os
import random
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from console import event_words, plain, transcript
from console.formats import fit, wrap
from console.layout import PANES
from console.page_sources import Whole
from console.plain_text import clean, clean_lines
from console.screens.live import _parts
from console.sources import LogFile
from console.state import Curve, LogTail, Noted, State, StreamRead, View, selected
from console.widgets import story
from console.widgets.lines import Line, LinesView, Scene, strip_of
from engine import events
from engine.store.reading_screens import DecisionRow
from engine.store.rows import EventRow, MessageRow, ReadingRow
from tests.console.hostile import MARK, leaks, raw, text
from tests.console.pilots import console
from tests.console.scenes import CAMPAIGN, NOW, TRIAL, detail, request, row, state
from tests.console.terminal import TerminalConsole
from tests.seeded import DIFF, seeded_store

SEED = int(os.environ.get("RATCHET_FUZZ_SEED", "20251121"))
INPUTS = 10_000
SIZES = ((160, 50), (80, 24), (61, 17), (40, 10), (20, 4), (200, 60), (12, 3), (1, 1))


def checked(lines: list[Line], width: int, *, painted: bool = True) -> int:
    """Assert that ``lines`` are safe and fit; returns how many. ``painted``: their painter cleaned them itself."""
    for content in lines:
        shown = strip_of(content, width)
        told = "".join(part for part, _ in content.spans)
        assert not (painted and leaks(told)), leaks(told)
        assert not leaks(shown.text), leaks(shown.text)
        assert shown.cell_length == width, (shown.cell_length, width, shown.text)
    return len(lines)


def test_cleaning_leaves_nothing_that_a_terminal_would_obey() -> None:
    chance = random.Random(SEED)
    for i in range(INPUTS):
        given, width = text(chance), chance.choice((1, 2, 7, 40, 80))
        whole = [clean(given), *clean_lines(given), *wrap(given, width), fit(clean(given), width)]
        found = [leak for part in whole for leak in leaks(part)]
        assert not found, (SEED, i, given, found)
        assert not any("\x1b" in part for part in whole)
        # A painter that forgot to clean: the last net holds as well.
        checked([Line(((given, ""), (given, "dim")))], width, painted=False)
    print(f"seed {SEED}: {INPUTS:,} texts cleaned, wrapped and fitted: 0 crashes, 0 escapes leaked")


def test_a_log_of_any_bytes_is_read_as_plain_lines(tmp_path: Path) -> None:
    chance = random.Random(SEED + 1)
    log = tmp_path / TRIAL.directory / "control" / "log"
    log.parent.mkdir(parents=True)
    reader = LogFile(tmp_path)
    shown = 0
    for _ in range(INPUTS // 100):
        with log.open("ab") as file:  # cut anywhere, as a program's writes are
            batch = b"\n".join(raw(chance) for _ in range(100)) + b"\n"
            file.write(batch[: chance.choice((len(batch), len(batch), chance.randint(1, len(batch))))])
        found = reader.read(TRIAL, "label")
        assert found is not None
        for line in found.lines:
            assert not leaks(line), leaks(line)
        of = state(row(1), log=found)
        scene = Scene(of, View(), NOW, selected(of, View()))
        for name, painter, _ in _parts():
            if name == "log":
                shown += checked(list(painter(scene, 80, 100)), 80)
    print(
        f"seed {SEED + 1}: a log of {INPUTS:,} hostile lines, {log.stat().st_size:,} bytes, {shown:,} lines shown"
    )


class Everything:
    """A state in which each text that others wrote is hostile; counts the texts."""

    def __init__(self, chance: random.Random) -> None:
        self.chance, self.used = chance, 0
        self.odd = (
            False  # the engine's own words (states, verdicts, outcomes) are hostile as well: another version's
        )

    def any(self) -> str:
        self.used += 1
        return text(self.chance)

    def word(self, *known: str) -> str:
        return self.any() if self.odd else self.chance.choice(known)

    def number(self) -> Any:
        return self.chance.choice((float("nan"), float("inf"), -float("inf"), 0.0, 1e308, -1.5, None))

    def diff(self) -> tuple[str, ...]:
        whole = DIFF.format(number=1, rate=0.1, decay=0.1).split("\n") if self.chance.random() < 0.7 else []
        for _ in range(self.chance.randint(0, 6)):
            whole.insert(self.chance.randint(0, len(whole)), self.chance.choice(("+", "-", " ", "")) + self.any())
        return tuple(part for one in whole for part in one.split("\n"))

    def detail(self, **more: Any) -> Any:
        trial = replace(
            TRIAL, number=2, slot=self.any(), detail=self.any(), outcome=self.word("crash", "ok"),
            purpose=self.word("screen"), host=self.any(), score=self.number(),
        )  # fmt: skip
        found = detail(
            2, title=self.any(), hypothesis=self.any(), reason=self.any(), arithmetic=(self.any(), self.any()),
            author=self.any(), author_detail=self.any(), expected_effect=self.any(), refuted_by=self.any(),
            kind=self.any(), outcome=self.any(), asked=self.any(), parameters={self.any(): self.any()},
            effect=self.number(), effect_low=self.number(), effect_high=self.number(), stage=self.any(), **more,
        )  # fmt: skip
        return replace(found, diff=self.diff(), trials=(trial,))

    def state(self) -> State:
        chance = self.chance
        shown = self.detail(state=self.word("review", "drafting", "settled", "keep_review"))
        data = {"name": self.any(), "utilisation": self.number(), "memory_used_mb": self.any(), "power_w": 1e9}
        channel = self.word("text", "thinking", "tool", "edit")
        return state(
            row(1, title=self.any(), effect=self.number(), low=self.number(), high=self.number(), stage=self.any()),
            row(2, shown.row.state, author=self.any(), title=self.any(), stage=self.any()),
            row(3, self.word("settled"), verdict=self.word("keep", "discard"), title=self.any()),
            campaign=replace(CAMPAIGN, name=self.any(), metric=self.any(), pause_reason=self.any(),
                             pause_mend=self.any(), state=chance.choice(("paused", "running", "finished"))),
            running=shown.trials, detail=shown, readings=(ReadingRow(self.any(), self.any(), NOW, data),),
            log=LogTail(5, self.word("#2 screen"), tuple(clean_lines(self.any())), 5, self.word("", "gone")), notice=Noted(self.any()),
            live=Curve(5, self.any(), self.any(), "step", ((0.0, 1.0), (1.0, 2.0))),
            stream=StreamRead(12, ((channel, self.any()), ("text", self.any()))),
            events=(EventRow(1, NOW, self.event()),), requests=(request(number=2, text=self.any()),),
            problem=chance.choice(("", self.any())), mend=self.any(), trouble=chance.choice(("", self.any())),
            trouble_mend=self.any(), alive=chance.choice((True, False)),
        )  # fmt: skip

    def event(self) -> events.Event:
        any_ = self.any
        kinds: tuple[Callable[[], events.Event], ...] = (
            lambda: events.VerdictGiven(1, any_(), "keep", any_()), lambda: events.Warned(any_(), any_()),
            lambda: events.AttemptLost(1, 1, any_()), lambda: events.DecisionTaken(1, "reject", any_(), any_()),
            lambda: events.Steered(1, any_(), any_()), lambda: events.CampaignPaused(any_(), any_()),
            lambda: events.CampaignFinished(any_()), lambda: events.ConfigReloaded(any_()),
            lambda: events.ExperimentMoved(1, "drafting", "review", any_(), any_()),
            lambda: events.ExperimentMoved(1, "review", "settled", any_(), any_()),
            lambda: events.EngineStarted(1, any_(), 1), lambda: events.EngineStopped(1, any_()),
            lambda: events.TrialEnded(1, 1, "screen", "crash", None, 1.0, any_()),
            lambda: events.RatchetAdvanced(1, "a", "b", any_()), lambda: events.ProtocolOpened(1, any_()),
            lambda: events.SteppedBack(1, "a", "b", any_(), any_()),
            lambda: events.Calibrated(1, 0.0, 1.0, 2, (any_(),)),
        )  # fmt: skip
        return self.chance.choice(kinds)()


def test_no_text_breaks_a_painter_or_gets_through_one() -> None:
    chance = random.Random(SEED + 2)
    made = Everything(chance)
    lines = states = 0
    while made.used < INPUTS:
        made.odd = states % 4 == 3
        of = made.state()
        states += 1
        width, height = chance.choice(SIZES)
        view = View(focus=chance.choice(PANES), cursor=chance.choice((None, 1, 2, 3)))
        scene = Scene(of, view, NOW, selected(of, view), why_not=chance.choice(("", "look at it first")))
        for _, painter, inputs in _parts():
            inputs(scene)
            lines += checked(list(painter(scene, width, height)), width, painted=not made.odd)
        taken = (DecisionRow(made.any(), made.any(), made.any(), 1, NOW),)
        said = MessageRow(0, made.any(), [{"type": "text", "text": made.any()}, {"type": "tool_use", "name": made.any(),
                          "input": {made.any(): made.any()}}, made.any(), {"type": made.any()}], NOW)  # fmt: skip
        talk = transcript.lines([said, MessageRow(1, "user", made.any(), NOW)])
        assert not [leak for line in talk for leak in leaks(line)]
        whole = Whole(of.detail, 3, made.any(), "minimize", taken, (1,), (2,), None, talk=tuple(talk))
        lines += checked(story.lines(whole, max(20, width)), max(20, width), painted=not made.odd)
        lines += checked(story.talk_lines(talk, max(20, width)), max(20, width))
        for _ in range(3):
            event = made.event()
            spoken = event_words.say(EventRow(1, NOW, event))
            for one in (plain.line(event) or "", spoken.text, spoken.mend, spoken.kind):
                assert not leaks(one.replace("\n", "")), (event, one)
    print(f"seed {SEED + 2}: {made.used:,} texts in {states} states, {lines:,} painted lines: 0 crashes, 0 leaks")


# --- a whole store and a whole terminal --------------------------------------------------------------


def poison(state_dir: Path, chance: random.Random) -> int:
    """Every text that others wrote, in every row of a seeded store; returns how many texts that is."""
    used = 0

    def any_() -> str:
        nonlocal used
        used += 1
        return text(chance, storable=True)

    columns = {
        "campaign": ("metric", "pause_reason", "pause_mend"),
        "proposal": ("title", "hypothesis", "expected_effect", "refuted_by", "kind", "author_detail"),
        "experiment": ("reason", "stage", "asked"),
        "trial": ("detail", "tail", "host", "hardware"),
        "attempt": ("slot", "reason"),
        "stream": ("text", "channel"),
    }
    conn = sqlite3.connect(state_dir / "store.db")
    for table, names in columns.items():
        for (rowid,) in conn.execute(f"SELECT rowid FROM {table}").fetchall():
            sets = ", ".join(f"{name} = ?" for name in names)
            conn.execute(f"UPDATE {table} SET {sets} WHERE rowid = ?", (*(any_() for _ in names), rowid))
    for (rowid,) in conn.execute("SELECT rowid FROM experiment").fetchall():
        conn.execute("UPDATE experiment SET arithmetic = ? WHERE rowid = ?", (json.dumps([any_(), any_()]), rowid))
        words = json.dumps({any_(): any_()})
        diff = DIFF.format(number=rowid, rate=0.1, decay=0.1) + "".join(f"+{any_()}\n" for _ in range(4))
        conn.execute("UPDATE proposal SET parameters = ?, diff = ? WHERE id = ?", (words, diff, rowid))
        what = json.dumps(
            [{"type": "text", "text": any_()}, {"type": "tool_use", "name": any_(), "input": any_()}]
        )
        conn.execute(
            "INSERT INTO transcript (experiment, seq, role, content, at) VALUES (?, 0, ?, ?, 1)",
            (rowid, any_(), what),
        )
        conn.execute("INSERT INTO note (campaign, text, actor, created_at) VALUES (1, ?, ?, 1)", (any_(), any_()))
    for device, data in conn.execute("SELECT device, data FROM reading").fetchall():
        told = json.dumps({**json.loads(data), "name": any_()})
        conn.execute("UPDATE reading SET data = ?, device = ? WHERE device = ?", (told, any_() + device, device))
    for kind, data in map(events.to_row, (events.Warned(any_(), any_()), events.Steered(1, any_(), any_()))):
        conn.execute("INSERT INTO event (at, campaign, kind, data) VALUES (1, 1, ?, ?)", (kind, json.dumps(data)))
    conn.commit()
    conn.close()
    return used


@pytest.mark.parametrize("turn", range(2))
async def test_every_screen_shows_a_poisoned_store_as_plain_text(tmp_path: Path, turn: int) -> None:
    chance = random.Random(SEED + 10 + turn)
    seeded_store(tmp_path, 30, awaiting=bool(turn))
    used = poison(tmp_path, chance)
    for log in tmp_path.glob("trials/*/attempt-1/control/log"):
        log.write_bytes(b"\n".join(raw(chance) for _ in range(300)))
    visited, lines = [], 0
    async with console(tmp_path) as c:
        for keys in (
            "1",
            "k",
            "2",
            "jjj",
            "3",
            "s",
            "4",
            "5",
            "6",
            "h",
            "i",
            "2345",
            "d",
            "R",
            "E",
            "G",
            ":",
            "?",
        ):
            for key in keys:
                await c.press({":": "colon", "?": "question_mark"}.get(key, key))
            await c.settle()
            visited.append(type(c.app.screen).__name__)
            for view in c.app.screen.query(LinesView):
                for strip in view._strips:
                    assert not leaks(strip.text), (visited, view.id, leaks(strip.text))
                    lines += 1
            if keys in (":", "?"):
                await c.press("escape")
        assert c.app.is_running
    assert {
        "LiveScreen",
        "HistoryScreen",
        "ExperimentScreen",
        "HostsScreen",
        "RatchetScreen",
        "EventsScreen",
    } <= set(visited), visited
    print(
        f"seed {SEED + 10 + turn}: {used} hostile texts, {lines} lines on {len(set(visited))} kinds of screens: 0 leaks"
    )


def test_a_hostile_log_reaches_the_wire_as_text_alone(tmp_path: Path) -> None:
    """Bytes of a real log under a real console: nothing of it is a title, a clipboard, a bell or another command."""
    chance = random.Random(SEED + 20)
    seeded_store(tmp_path, 5)
    log = next(tmp_path.glob("trials/*/attempt-1/control/log"))
    log.write_bytes(b"")
    wanted = 400
    with TerminalConsole(tmp_path, 160, 50, keep=True) as terminal:
        terminal.until(lambda shown: "1 Experiments" in shown and "6 Log" in shown)
        terminal.type("6+")  # the log alone, so that most of it is painted
        terminal.pump(1.0)
        for batch in range(8):
            with log.open("ab") as file:
                file.write(b"".join(raw(chance).replace(b"\n", b"\r") + b"\n" for _ in range(wanted // 8 - 1)))
                file.write(f"batch {batch} is through\n".encode())
            terminal.until(lambda shown, n=batch: f"batch {n} is through" in shown)
        for _ in range(8):
            terminal.type("\x1b[5~")  # a page up, and another
            terminal.pump(0.2)
        lines = terminal.lines
        framed = [y for y, line in enumerate(lines) if line.startswith("│ ")]
        assert lines[0].startswith(" ratchet november") and "? help" in lines[-1], terminal.text
        assert "6 Log" in lines[framed[0] - 1] and len(framed) >= 40, (
            terminal.text
        )  # every row stands in its frame
        assert framed == list(range(framed[0], framed[-1] + 1)), terminal.text
        assert MARK not in terminal.screen.title + terminal.screen.icon_name
        terminal.type("q")
        assert terminal.wait() == 0
        wire = bytes(terminal.received)
    commands = strings(wire)
    assert not [one for one in commands if MARK.encode() in one], commands
    # The console's own: the title, and Textual's shape of the mouse's pointer.
    assert not [one for one in commands if not re.match(rb"\x1b\](?:[012]|22);", one)], commands
    bells = re.sub(rb"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)", b"", wire).count(b"\x07")
    odd = set(re.findall(rb"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]", wire)) - {b"\x07"}
    assert bells == 0 and not odd, (bells, odd)
    assert not [c for c in wire.decode("utf-8") if "\x80" <= c <= "\x9f"]
    print(
        f"seed {SEED + 20}: {wanted} hostile log lines, {len(wire):,} bytes on the wire: 0 of the log's commands"
    )


def strings(wire: bytes) -> list[bytes]:
    """OSC, DCS, APC, PM and SOS commands, in their seven-bit and eight-bit forms."""
    return re.findall(rb"\x1b[\]P_^X][^\x1b\x07]*|(?<![\x80-\xff])[\x90\x9d\x9e\x9f\x98][^\x9c]{0,20}", wire)
