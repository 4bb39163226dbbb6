"""A proposal in a person's editor: the files from real git, a real editor in a real terminal, and what is in doubt."""

from __future__ import annotations

import signal
import sqlite3
import stat
import sys
from pathlib import Path

import pytest

from console import editing
from console.commands.editing import candidate_reader, editor_command, open_editor
from console.diffs import parse
from console.editing import ChangedFile, NotSent, Sheet
from engine.clock import RealClock
from engine.errors import RatchetError
from engine.inbox import Inbox
from tests.console.terminal import Terminal
from tests.project_factory import git, make_project
from tests.seeded import seeded_store

A = ChangedFile("src/a.py", b"one\ntwo\nthree\n", b"one\n2\nthree\n")
NEW = ChangedFile("new.py", None, b"fresh")
GONE = ChangedFile("old.py", b"old\n", None)


# --- the sheet -----------------------------------------------------------------------------------------


def test_the_files_are_lent_privately_and_taken_back() -> None:
    with Sheet([A, NEW, GONE]) as sheet:
        assert [p.relative_to(sheet.folder).as_posix() for p in sheet.paths] == ["files/src/a.py", "files/new.py"]
        assert stat.S_IMODE(sheet.folder.stat().st_mode) == 0o700
        assert sheet.paths[0].read_bytes() == A.candidate
    assert not sheet.folder.exists()
    other = Sheet([A])
    editing.close_all()
    assert not other.folder.exists(), "also when the process ends at once"
    other.close()


def test_the_change_is_whole_and_against_the_base() -> None:
    with Sheet([A, NEW, GONE]) as sheet:
        sheet.paths[1].write_text("fresher\n")
        texts = sheet.read()
        assert sheet.changes(texts) == [
            {"path": "src/a.py", "text": "one\n2\nthree\n"},
            {"path": "new.py", "text": "fresher\n"},
            {"path": "old.py", "text": None},
        ]
        sheet.paths[0].write_bytes(A.base or b"")
        assert [c["path"] for c in sheet.changes(sheet.read())] == ["new.py", "old.py"]
        found = parse(sheet.diff(texts))
        assert [(f.path, f.change, f.added, f.removed) for f in found] == [
            ("src/a.py", "changed", 1, 1), ("new.py", "new", 1, 0), ("old.py", "deleted", 0, 1),
        ]  # fmt: skip


def test_a_missing_last_newline_is_told_and_kept() -> None:
    with Sheet([NEW]) as sheet:
        sheet.paths[0].write_text("a\nb")
        lines = sheet.diff(sheet.read())
        assert lines[-2:] == ["+b", "\\ No newline at end of file"]
        assert sheet.changes(sheet.read()) == [{"path": "new.py", "text": "a\nb"}]
        row = parse(lines)[0].hunks[0].rows[-1]
        assert (row.text, row.newline) == ("b", False)


def test_line_endings_and_odd_characters_come_back_as_they_were() -> None:
    odd = ChangedFile("a.py", None, "x = 'ä\u2028'\r\n\tend\x0c\r\n".encode())
    with Sheet([odd]) as sheet:
        with pytest.raises(NotSent, match="nothing was changed"):
            sheet.read()
        sheet.paths[0].write_bytes((odd.candidate or b"") + b"# more\r\n")
        assert sheet.changes(sheet.read())[0]["text"] == "x = 'ä\u2028'\r\n\tend\x0c\r\n# more\r\n"


@pytest.mark.parametrize(
    ("text", "why"), [(b"", "emptied"), (b" \n\n", "emptied"), (None, "is gone"), (b"\xff\xfe", "no UTF-8")]
)
def test_what_is_in_doubt_is_not_sent(text: bytes | None, why: str) -> None:
    with Sheet([A]) as sheet:
        if text is None:
            sheet.paths[0].unlink()
        else:
            sheet.paths[0].write_bytes(text)
        with pytest.raises(NotSent, match=why):
            sheet.read()


@pytest.mark.parametrize(
    "files",
    [[GONE], [ChangedFile("a.bin", None, b"\x00\xff\xfe")], [ChangedFile("../../owned", None, b"x")], []],
)
def test_what_no_editor_can_take_is_refused_and_leaves_nothing_behind(files: list[ChangedFile]) -> None:
    before = set(editing._lent)
    with pytest.raises(NotSent):
        Sheet(files)
    assert editing._lent == before


# --- git and the editor --------------------------------------------------------------------------------


def test_the_files_of_a_proposal_are_read_from_git_and_the_checkout_is_left_alone(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / "ratchet.toml").write_text(
        (project / "ratchet.toml").read_text().replace('["train.py"]', '["*.py"]')
    )
    (project / "b.py").write_text("b\n")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "base")
    base = git(project, "rev-parse", "HEAD")
    (project / "train.py").write_text("changed\n")
    (project / "new.py").write_text("new\n")
    (project / "b.py").unlink()
    git(project, "add", "-A")
    candidate = git(project, "commit-tree", git(project, "write-tree"), "-p", base, "-m", "candidate")
    git(project, "reset", "-q", "--hard")
    (project / "train.py").write_text("the user's own work\n")
    read = candidate_reader(project, project / ".ratchet", RealClock())
    found = {file.path: (file.base is not None, file.candidate) for file in read(base, candidate)}
    assert found == {"train.py": (True, b"changed\n"), "new.py": (False, b"new\n"), "b.py": (True, None)}
    assert (project / "train.py").read_text() == "the user's own work\n"
    with pytest.raises(RatchetError, match="cannot be read"):
        read(base, base)
    with pytest.raises(RatchetError):
        read(base, "0" * 40)


def test_the_persons_own_editor_is_taken_by_its_usual_names(tmp_path: Path) -> None:
    assert editor_command({"VISUAL": "code --wait", "EDITOR": "vi"}) == ["code", "--wait"]
    assert editor_command({"VISUAL": " ", "EDITOR": "'/my editor' -n"}) == ["/my editor", "-n"]
    (tmp_path / "vi").write_text("#!/bin/sh\n")
    (tmp_path / "vi").chmod(0o755)
    assert editor_command({"PATH": str(tmp_path)}) == [str(tmp_path / "vi")]
    with pytest.raises(RatchetError, match="no editor"):
        editor_command({"PATH": str(tmp_path / "none")})
    with pytest.raises(RatchetError, match="EDITOR"):
        editor_command({"EDITOR": "'unfinished"})


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("true", ""),
        ("sh -c 'exit 3' x", "ended with 3"),
        ("sh -c 'kill -9 $$' x", "by signal 9"),
        ("/no/such", "cannot be started"),
    ],
)
def test_how_an_editor_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, told: str
) -> None:
    monkeypatch.setenv("EDITOR", command)
    monkeypatch.delenv("VISUAL", raising=False)
    found = open_editor([tmp_path / "-rf"], tmp_path)
    assert told in found and bool(told) == bool(found)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# --- in a real terminal --------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from console.app import run
from console.commands.editing import open_editor
from console.editing import ChangedFile
file = ChangedFile("train.py", b"RATE = 1\\n", b"RATE = 2\\n")
sys.exit(run(Path(sys.argv[1]), lambda: True, candidate=lambda base, candidate: (file,), editor=open_editor))
"""
EDITOR = """#!/bin/sh
echo "THE EDITOR HAS THE TERMINAL"
read answer
case "$answer" in
write) echo "RATE = 3" > "$1" ;;
die) kill -9 $$ ;;
esac
"""


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    seeded_store(tmp_path, 5, awaiting=True)  # 7 waits
    (tmp_path / "edit").write_text(EDITOR)
    (tmp_path / "edit").chmod(0o755)
    (tmp_path / "tmp").mkdir()
    return tmp_path


def editing_terminal(folder: Path) -> Terminal:
    environment = {
        "VISUAL": str(folder / "edit"), "TMPDIR": str(folder / "tmp"), "XDG_CONFIG_HOME": str(folder),
    }  # fmt: skip
    return Terminal([sys.executable, "-c", PROGRAM, str(folder)], 120, 40, environment=environment)


def open_the_editor(terminal: Terminal) -> None:
    terminal.until(lambda text: "waits for you" in text)
    terminal.type("3")
    terminal.until(lambda text: "run it?  a accept" in text)
    terminal.type("e")
    terminal.until(lambda text: "THE EDITOR HAS THE TERMINAL" in text)


def test_the_terminal_is_lent_whole_and_comes_back(workplace: Path) -> None:
    with editing_terminal(workplace) as terminal:
        open_the_editor(terminal)
        with sqlite3.connect(workplace / "store.db") as conn:  # the feed reads on meanwhile
            conn.execute("UPDATE campaign SET name = 'december'")
        conn.close()
        terminal.pump(1.5)
        assert "december" not in terminal.text and "ratchet" not in terminal.text, "nothing paints over the editor"
        terminal.type("write\n")
        terminal.until(lambda text: "#7 as you edited it: send it?" in text and "+RATE = 3" in text)
        terminal.pump(0.6)
        terminal.type("y")
        terminal.until(lambda text: "edit #7" in text and "december" in text)
        inbox = Inbox(workplace / "inbox.db")
        try:
            (sent,) = inbox.waiting()
        finally:
            inbox.close()
        assert (sent.kind, sent.args) == (
            "edit", {"number": 7, "revision": 3, "changes": [{"path": "train.py", "text": "RATE = 3\n"}]},
        )  # fmt: skip
        terminal.type("q")
        assert terminal.wait() == 0
    assert list((workplace / "tmp").iterdir()) == []


def test_an_editor_that_is_killed_sends_nothing_and_the_screen_is_back(workplace: Path) -> None:
    with editing_terminal(workplace) as terminal:
        open_the_editor(terminal)
        terminal.type("die\n")
        terminal.until(lambda text: "ended by signal 9: nothing is sent" in text and "1 Experiments" in text)
        terminal.type("q")
        assert terminal.wait() == 0
    assert not (workplace / "inbox.db").exists()


def test_a_terminal_that_closes_under_the_editor_sends_nothing(workplace: Path) -> None:
    with editing_terminal(workplace) as terminal:
        open_the_editor(terminal)
        terminal.hang_up()
        assert terminal.wait() in (0, -signal.SIGHUP)
    assert not (workplace / "inbox.db").exists()
    assert list((workplace / "tmp").iterdir()) == []
