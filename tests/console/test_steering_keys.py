"""The keys that steer, through the real screen: what is filed, what is asked first, what is refused and why."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from console.editing import ChangedFile
from console.layout import Pane
from console.screens.confirm import ConfirmScreen
from console.screens.edited import EditedScreen
from console.screens.live import Doors
from console.screens.typing import CountScreen, MessageScreen
from console.widgets import footer
from console.widgets.decision import decision_lines
from console.widgets.lines import Scene
from engine.inbox import Inbox
from tests.console.pilots import Console, console
from tests.seeded import seeded_store

BASE = "RATE = 1\nDEPTH = 4\n"
FILE = ChangedFile("train.py", BASE.encode(), b"RATE = 2\nDEPTH = 4\n")


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """Experiment 9 waits in review, revision 3."""
    seeded_store(tmp_path, 7, awaiting=True)
    return tmp_path


def change(folder: Path, sql: str, *args: object) -> None:
    with sqlite3.connect(folder / "store.db") as conn:
        conn.execute(sql, args)
    conn.close()


def notice(c: Console) -> str:
    return c.app.live.state.notice.text if c.app.live.state.notice else ""


def asks(c: Console) -> list[tuple[str, dict[str, object]]]:
    return [(r.kind, r.args) for r in c.filed()]


async def feed(c: Console) -> None:
    """What changed in the store reaches the screen now."""
    c.clock.added += 2.0
    for _ in range(100):
        c.app.live.feed.nudge()
        await c.settle()
        if not c.app.live.feed._outbox._pending:
            break
    c.app.live.on_live_screen_arrived()
    await c.settle()


# --- two presses, one decision ------------------------------------------------------------------------


async def test_two_presses_are_one_accept(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        for _ in range(2):  # without a pause: the second comes before the first is on disk
            c.app.live.do_accept()
        await c.settle()
        assert asks(c) == [("accept", {"number": 9, "revision": 3})]


async def test_what_is_sent_is_not_offered_once_more(waiting: Path) -> None:
    def offered() -> set[str]:
        live = c.app.live
        scene = Scene(live.state, live.view, 0.0, 9, why_not=live._guards())
        return {key for key, _, _ in footer.keys(scene)}

    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        assert {"accept", "reject", "edit"} <= offered()
        c.app.live.do_accept()  # not on disk yet, and the feed knows nothing of it
        assert not {"accept", "reject", "edit"} & offered()
        await c.settle()
        assert not {"accept", "reject", "edit"} & offered()
        bar = decision_lines(Scene(c.app.live.state, c.app.live.view, 0.0, 9, why_not=c.app.live._guards()), 80)
        assert "sent" in bar[0].spans[0][0]


async def test_a_refused_decision_is_told_where_the_person_looks_and_may_be_tried_again(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        await c.press("a")
        inbox = Inbox(waiting / "inbox.db")
        inbox.answer(c.filed()[0].id, "refused", "the proposer took it back", 1.0)
        inbox.close()
        await feed(c)
        assert notice(c) == "accept #9: the proposer took it back"
        bar = "\n".join(strip.text for strip in c.app.live.query_one("#diff")._strips[:4])  # type: ignore[attr-defined]
        assert "the proposer took it back" in bar
        await c.look_at_it()
        await c.press("a")
        assert len([r for r in c.filed() if r.state == "waiting"]) == 1


async def test_on_a_small_terminal_a_decision_needs_the_diff_in_sight(waiting: Path) -> None:
    async with console(waiting, size=(80, 24)) as c:
        await c.press("2")
        await c.look_at_it()
        await c.press("a", "r", "e")
        assert c.filed() == [] and "3 shows the diff" in notice(c)
        await c.press("3")
        await c.look_at_it()
        await c.press("a")
        assert asks(c) == [("accept", {"number": 9, "revision": 3})]


async def test_what_stood_behind_a_question_was_not_looked_at(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        await c.press("m")
        change(waiting, "UPDATE experiment SET revision = 4 WHERE number = 9")
        await feed(c)
        await c.look_at_it()
        await c.press("escape", "a")  # another revision, never seen without the question over it
        assert c.filed() == []


# --- a message -----------------------------------------------------------------------------------------


async def test_a_message_is_sent_whole_and_an_empty_one_is_not(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("m", "enter")
        assert isinstance(c.app.screen, MessageScreen) and c.filed() == []
        await c.press(*"no ", *"schedules", "enter")
        assert asks(c) == [("steer", {"text": "no schedules"})]
        await c.press("m", *"never", "escape")
        assert len(c.filed()) == 1


async def test_pasted_lines_are_joined_and_none_is_lost(waiting: Path) -> None:
    from textual import events

    async with console(waiting) as c:
        await c.press("m")
        c.app.screen.query_one("OneLine").post_message(events.Paste("leave it\nalone,\x1b[31m please\r\n"))
        await c.press("enter")
        assert asks(c) == [("steer", {"text": "leave it alone, please"})]


async def test_a_decision_never_pops_over_text_that_is_being_typed(
    waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(waiting, "UPDATE experiment SET state = 'ready' WHERE number = 9")
    rung: list[bool] = []
    async with console(waiting) as c:
        monkeypatch.setattr(c.app, "bell", lambda: rung.append(True))
        await c.press("m", "y", "e")
        change(waiting, "UPDATE experiment SET state = 'review', revision = 4 WHERE number = 9")
        await feed(c)
        assert isinstance(c.app.screen, MessageScreen) and rung == [True]
        assert c.app.live.state.awaiting == (9,)
        await c.press("a", "h", "enter")
        assert asks(c) == [("steer", {"text": "yeah"})]


# --- taking back ---------------------------------------------------------------------------------------


def decided(folder: Path, action: str, state: str, actor: str = "ada", at: float | None = None) -> None:
    change(folder, "UPDATE experiment SET state = ? WHERE number = 9", state)
    change(
        folder,
        "INSERT INTO decision (experiment, action, actor, reason, revision, created_at)"
        " VALUES (9, ?, ?, '', 3, COALESCE(?, (SELECT beat_at FROM fence)))",
        action,
        actor,
        at,
    )


async def test_u_takes_back_my_newest_decision_that_is_not_carried_out(waiting: Path) -> None:
    decided(waiting, "accept", "ready")
    async with console(waiting) as c:
        assert c.app.live.state.steering.reversible
        await c.press("u")
        assert asks(c) == [("undo", {"number": 9})]


@pytest.mark.parametrize(("state", "actor"), [("measuring", "ada"), ("ready", "bob")])
async def test_u_leaves_what_is_carried_out_or_anothers(waiting: Path, state: str, actor: str) -> None:
    decided(waiting, "accept", state, actor)
    async with console(waiting) as c:
        await c.press("u")
        assert c.filed() == [] and "nothing to take back" in notice(c)


async def test_u_asks_before_it_takes_an_old_decision_back(waiting: Path) -> None:
    decided(waiting, "reject", "settled", at=1.0)
    async with console(waiting) as c:
        await c.press("u", "y")
        assert isinstance(c.app.screen, ConfirmScreen) and c.filed() == []
        await c.look_at_it()
        await c.press("y")
        assert asks(c) == [("undo", {"number": 9})]


async def test_u_withdraws_a_request_that_waits_before_anything_else(waiting: Path) -> None:
    decided(waiting, "accept", "ready")
    async with console(waiting, alive=False) as c:
        await c.press("P")
        await feed(c)
        await c.press("u")
        assert [(r.kind, r.state) for r in c.filed()] == [("pause", "withdrawn")]


# --- in advance ----------------------------------------------------------------------------------------


async def test_accepting_in_advance_asks_how_many_and_then_once_more(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("A", "5", "enter")
        assert isinstance(c.app.screen, CountScreen), "enter came before the question could be read"
        await c.look_at_it()
        await c.press("enter", "y")
        assert isinstance(c.app.screen, ConfirmScreen) and c.filed() == []
        await c.look_at_it()
        await c.press("y")
        assert asks(c) == [("autopilot", {"count": 5})]


@pytest.mark.parametrize("typed", ["0", "1001", "-3", "x", "", "٣"])
async def test_only_a_sensible_number_is_accepted(waiting: Path, typed: str) -> None:
    async with console(waiting) as c:
        await c.press("A", *typed)
        await c.look_at_it()
        await c.press("enter")
        assert isinstance(c.app.screen, CountScreen) and c.filed() == []
        await c.press("escape")
        assert c.filed() == []


async def test_acceptances_in_advance_are_seen_and_can_be_ended(waiting: Path) -> None:
    change(waiting, 'UPDATE campaign SET autopilot = \'{"left": 3, "actor": "ada"}\'')
    async with console(waiting) as c:
        status = "\n".join(strip.text for strip in c.app.live.query_one("#status")._strips)  # type: ignore[attr-defined]
        assert "3 accepted in advance: A ends it" in status
        await c.press("A")
        await c.look_at_it()
        await c.press("y")
        assert asks(c) == [("autopilot", {"count": 0})]


# --- about one experiment ------------------------------------------------------------------------------


async def test_a_pin_goes_to_the_store_and_to_the_chart_and_is_taken_away_again(waiting: Path) -> None:
    async with console(waiting) as c:
        c.app.live.look(cursor=4)
        await c.press("p")
        assert asks(c) == [("pin", {"number": 4})]
        assert [(m.number, m.pinned) for m in c.app.live.view.marks] == [(4, True)]
        change(waiting, "INSERT INTO mark VALUES (1, 4, 'ada', 1.0)")
        await feed(c)
        assert c.app.live.state.steering.pins == (4,) and len(c.app.live.view.marks) == 1
        await c.press("p")
        assert asks(c)[1:] == [("unpin", {"number": 4})] and c.app.live.view.marks == ()


async def test_what_others_pin_is_on_this_chart_and_leaves_it_with_their_pin(waiting: Path) -> None:
    change(waiting, "INSERT INTO mark VALUES (1, 3, 'bob', 1.0)")
    async with console(waiting) as c:
        assert [(m.number, m.pinned) for m in c.app.live.view.marks] == [(3, True)]
        listed = "\n".join(s.text for s in c.app.live.query_one("#experiments")._strips)  # type: ignore[attr-defined]
        assert listed.count("⚑") == 1
        change(waiting, "DELETE FROM mark")
        await feed(c)
        assert c.app.live.view.marks == ()


async def test_further_seeds_are_asked_for_by_number(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("f")  # follows 9, which waits
        assert "first runs come first" in notice(c)
        c.app.live.look(cursor=4)
        await c.press("f", "backspace", "7")
        await c.look_at_it()
        await c.press("enter")
        assert asks(c) == [("rerun", {"number": 4, "seeds": 7})]


async def test_stepping_back_names_what_is_left_behind_and_asks(tmp_path: Path) -> None:
    seeded_store(tmp_path, 40)
    with sqlite3.connect(tmp_path / "store.db") as conn:
        keeps = conn.execute("SELECT e.number, p.title FROM keep k JOIN experiment e ON e.id = k.experiment"
                             " JOIN proposal p ON p.id = e.proposal ORDER BY k.id").fetchall()  # fmt: skip
    conn.close()
    assert len(keeps) >= 2
    async with console(tmp_path) as c:
        c.app.live.look(cursor=keeps[-1][0])
        await c.press("B")
        assert "is the incumbent" in notice(c)
        other = next(n for n in range(1, 40) if n not in dict(keeps))
        c.app.live.look(cursor=other)
        await c.press("B")
        assert "it is no keep" in notice(c)
        c.app.live.look(cursor=keeps[0][0])
        await c.press("B", "y")
        assert isinstance(c.app.screen, ConfirmScreen) and c.filed() == []
        for number, title in keeps[1:]:
            assert f"#{number} {title}" in c.app.screen._consequence
        await c.look_at_it()
        await c.press("y")
        assert asks(c) == [("step_back", {"number": keeps[0][0]})]


# --- edit ----------------------------------------------------------------------------------------------


class Editor:
    """In the place of a person's editor: writes, or does what else it is told."""

    def __init__(self, *texts: str | None, ends: str = "") -> None:
        self.texts, self.ends = list(texts), ends
        self.seen: list[str] = []
        self.folder = Path()

    def __call__(self, paths: Sequence[Path], folder: Path) -> str:
        self.folder = folder
        self.seen.append(paths[0].read_text())
        text = self.texts.pop(0) if self.texts else None
        if text is not None:
            paths[0].write_text(text)
        return self.ends


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot's terminal cannot be lent; that it is, a test in a real one shows."""

    @contextlib.contextmanager
    def suspend(_: object) -> Iterator[None]:
        yield

    monkeypatch.setattr("textual.app.App.suspend", suspend)


def doors(editor: Editor) -> Doors:
    return Doors(candidate=lambda base, candidate: (FILE,), editor=editor)


async def start_editing(c: Console) -> None:
    await c.press("3")
    await c.look_at_it()
    await c.pilot.press("e")
    for _ in range(200):
        await c.pilot.pause(0.01)
        if isinstance(c.app.screen, EditedScreen) or "nothing is sent" in notice(c):
            break
    c.clock.added += 1.0


async def answer(c: Console, *keys: str) -> None:
    for key in keys:
        await c.pilot.press(key)
        await c.pilot.pause(0.02)
        c.clock.added += 1.0
    await c.settle()


async def test_an_edited_proposal_is_shown_as_it_would_run_and_sent_with_the_revision_seen(
    waiting: Path, lent: None
) -> None:
    editor = Editor("RATE = 3\nDEPTH = 4\n")
    async with console(waiting, doors=doors(editor)) as c:
        await start_editing(c)
        assert isinstance(c.app.screen, EditedScreen) and editor.seen == ["RATE = 2\nDEPTH = 4\n"]
        shown = "\n".join(strip.text for strip in c.app.screen._page._strips)
        assert "-RATE = 1" in shown and "+RATE = 3" in shown and "accept" not in shown
        change(waiting, "UPDATE experiment SET revision = 9 WHERE number = 9")  # what was seen stays what was seen
        await feed_without_workers(c)
        await answer(c, "y")
        changes = [{"path": "train.py", "text": "RATE = 3\nDEPTH = 4\n"}]
        assert asks(c) == [("edit", {"number": 9, "revision": 3, "changes": changes})]
    assert not editor.folder.exists(), "nothing of it stays behind"


async def feed_without_workers(c: Console) -> None:
    c.clock.added += 2.0
    for _ in range(20):
        await c.pilot.pause(0.01)


async def test_an_edit_can_be_edited_again_or_dropped(waiting: Path, lent: None) -> None:
    editor = Editor("RATE = 3\n", "RATE = 4\n")
    async with console(waiting, doors=doors(editor)) as c:
        await start_editing(c)
        await c.pilot.press("e")
        for _ in range(100):
            await c.pilot.pause(0.01)
            if len(editor.seen) == 2 and isinstance(c.app.screen, EditedScreen):
                break
        assert editor.seen == ["RATE = 2\nDEPTH = 4\n", "RATE = 3\n"]
        await answer(c, "n")
        assert c.filed() == [] and "dropped" in notice(c)


@pytest.mark.parametrize(
    ("editor", "told"),
    [
        (Editor(None), "nothing was changed"),
        (Editor("  \n"), "was emptied"),
        (Editor("RATE = 3\n", ends="the editor was ended by signal 9"), "ended by signal 9"),
        (Editor("RATE = 3\n", ends="the editor ended with 1"), "ended with 1"),
        (Editor(BASE), "the base's own files"),
    ],
)
async def test_in_doubt_nothing_is_sent(waiting: Path, lent: None, editor: Editor, told: str) -> None:
    async with console(waiting, doors=doors(editor)) as c:
        await start_editing(c)
        await c.settle()
        assert c.filed() == [] and told in notice(c) and "nothing is sent" in notice(c)
        assert c.app.screen is c.app.live and not editor.folder.exists()


async def test_a_key_typed_ahead_sends_no_edit(waiting: Path, lent: None) -> None:
    editor = Editor("RATE = 3\n")
    async with console(waiting, doors=doors(editor)) as c:
        await c.press("3")
        await c.look_at_it()
        await c.pilot.press("e")
        for _ in range(100):
            await c.pilot.pause(0.01)
            if isinstance(c.app.screen, EditedScreen):
                break
        await c.pilot.press("y")
        assert isinstance(c.app.screen, EditedScreen) and c.filed() == []
        c.app.exit(0)
    assert c.filed() == []


async def test_without_an_editor_the_key_says_so(waiting: Path) -> None:
    async with console(waiting) as c:
        await c.press("3")
        await c.look_at_it()
        await c.press("e")
        assert "no editor" in notice(c) and c.filed() == []


async def test_a_keep_cannot_be_edited_and_the_bar_does_not_offer_it(waiting: Path) -> None:
    change(waiting, "UPDATE experiment SET state = 'keep_review' WHERE number = 9")
    async with console(waiting, doors=doors(Editor("x"))) as c:
        await c.press("3")
        await c.look_at_it()
        await c.press("e")
        assert "measured as it is" in notice(c) and c.filed() == []
        assert c.app.live.view.focus is Pane.DIFF
