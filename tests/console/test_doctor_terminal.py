"""`ratchet doctor --terminal`: each finding has its mend, a silent terminal is left as it was, no terminal is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from console.commands.doctor_terminal import Facts, findings
from console.commands.terminal_query import Answered, query
from console.preferences import Preferences, parse
from engine.clock import RealClock
from engine.doctor import Check
from tests.console.ratchet_command import COMMAND
from tests.console.terminal import ROOT, Terminal
from tests.console.test_tmux_copy import Server, server  # noqa: F401 - a fixture

GOOD = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "en_GB.UTF-8"}
FACTS = Facts(GOOD, (160, 50), Answered(0.002, 5e6), file="/c/console.toml")
TMUX = {**GOOD, "TERM": "tmux-256color", "TMUX": "/tmp/x,1,0"}


def check(seen: Facts, name: str, about: str = "") -> Check:
    (found,) = [one for one in findings(seen) if one.name == name and about in one.detail]
    return found


def at(environ: Mapping[str, str], **more: object) -> Facts:
    return replace(FACTS, environ=environ, **more)  # type: ignore[arg-type]


def test_a_good_terminal_has_nothing_to_mend() -> None:
    found = findings(FACTS)
    assert {one.status for one in found} == {"ok"} and not any(one.mend for one in found)
    assert [one.name for one in found] == [
        "terminal", "colour", "characters", "answer", "bytes", "mouse", "clipboard", "settings",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "name", "status", "told", "mend"),
    [
        (at(GOOD, size=None), "terminal", "fail", "there is no terminal here", "ssh -t"),
        (at({}), "terminal", "warn", "TERM is not set", "export TERM"),
        (at(GOOD, size=(50, 10)), "terminal", "warn", "50x10", "80x24"),
        (at(GOOD, size=(80, 24)), "terminal", "ok", "one pane at a time", ""),
        (at({**GOOD, "TERM": "xterm", "COLORTERM": ""}), "colour", "warn", "16 colours", "xterm-256color"),
        (
            at({**GOOD, "TERM": "xterm-kitty", "COLORTERM": ""}),
            "colour",
            "warn",
            "true colour",
            "COLORTERM=truecolor",
        ),
        (
            at({**GOOD, "COLORTERM": "", "TERM_PROGRAM": "WezTerm", "SSH_TTY": "x"}),
            "colour",
            "warn",
            "256",
            "SetEnv",
        ),
        (
            at({**TMUX, "COLORTERM": ""}, tmux="tmux 3.3a", features="256,RGB,title"),
            "colour",
            "warn",
            "256",
            "export",
        ),
        (at({**GOOD, "COLORTERM": ""}), "colour", "ok", "256 colours", ""),
        (at({**GOOD, "NO_COLOR": "1"}), "colour", "ok", "theme mono (NO_COLOR is set)", ""),
        (at(GOOD, chosen=Preferences(theme="light")), "colour", "ok", "theme light as console.toml says", ""),
        (at({**GOOD, "LANG": ""}), "characters", "warn", "LANG is not set", "C.UTF-8"),
        (at({**GOOD, "LC_ALL": "de_DE.ISO-8859-1"}), "characters", "warn", "signs in ASCII", "UTF-8 locale"),
        (at({**GOOD, "TERM": "linux"}), "characters", "ok", "signs in ASCII", ""),
        (at(GOOD, answered=Answered(0.4, 1e6)), "answer", "warn", "400 ms", "nearer host"),
        (at(GOOD, answered=Answered()), "answer", "warn", "did not answer", "serial line"),
        (at(GOOD, answered=Answered(why="in the background")), "answer", "warn", "not asked", "foreground"),
        (at(GOOD, answered=Answered(0.01, 9000.0)), "bytes", "warn", "carries 9 KB/s", "ssh -C"),
        (FACTS, "bytes", "ok", "carries 5.0 MB/s; the console sends about 32 KB for a whole screen", ""),
        (at({**GOOD, "SSH_CONNECTION": "a b"}), "mouse", "ok", "over SSH: mouse off", ""),
        (
            at({**GOOD, "SSH_TTY": "a"}, chosen=Preferences(mouse=True)),
            "mouse",
            "ok",
            "mouse on (console.toml",
            "",
        ),
        (FACTS, "clipboard", "ok", "OSC 52, at most 74 KB", ""),
        (at(TMUX, tmux="tmux 3.3a"), "clipboard", "ok", "load-buffer", ""),
        (at({**GOOD, "TERM_PROGRAM": "Apple_Terminal"}), "clipboard", "warn", "does not know", "use tmux"),
        (at({**GOOD, "STY": "1.x"}), "clipboard", "warn", "screen does not pass on", "use tmux"),
        (at({**GOOD, "STY": "1.x"}), "screen", "warn", "GNU screen", "tmux instead"),
        (at(TMUX, tmux="tmux 3.3a"), "tmux", "ok", "tmux 3.3a", ""),
        (at(TMUX, tmux="tmux 2.9"), "tmux", "warn", "tmux 2.9", "3.2 or newer"),
        (at(TMUX, tmux="tmux does not answer"), "tmux", "warn", "does not answer", "on PATH"),
        (at(GOOD, chosen=parse("themes = 3")), "settings", "warn", 'unknown key "themes"', "mend that entry"),
    ],
)
def test_what_is_found_is_judged_and_has_its_mend(
    seen: Facts, name: str, status: str, told: str, mend: str
) -> None:
    found = check(seen, name)
    assert found.status == status and told in found.detail, found
    assert mend in found.mend if mend else not found.mend, found


@pytest.mark.parametrize(
    ("option", "value", "mend"),
    [
        ("escape-time", "500", "set -s escape-time 10"), ("escape-time", "10", ""),
        ("default-terminal", "screen", "tmux-256color"), ("default-terminal", "tmux-256color", ""),
        ("set-clipboard", "off", "set-clipboard external"), ("set-clipboard", "external", ""),
        ("focus-events", "off", "set -s focus-events on"), ("focus-events", "on", ""), ("mouse", "off", ""),
    ],
)  # fmt: skip
def test_each_option_of_tmux_that_hurts_is_named_with_its_line(option: str, value: str, mend: str) -> None:
    found = check(at(TMUX, tmux="tmux 3.3a", options={option: value}), "tmux", option)
    assert value in found.detail and (found.status == "warn") is bool(mend) and mend in found.mend


# --- asking a real terminal ---------------------------------------------------------------------------

ASK = """
import sys, termios
from engine.clock import RealClock
from console.commands.terminal_query import query
before = termios.tcgetattr(0)
found = query(RealClock())
after = termios.tcgetattr(0)
print("found", found.seconds is not None, found.rate is not None, "[%s]" % found.why, "as before", before == after)
"""


class Silent(Terminal):
    """It shows what it is sent and answers nothing."""

    def _show(self, data: bytes) -> None:
        self._stream.feed(data)


@pytest.mark.parametrize(("kind", "told"), [(Terminal, "found True True []"), (Silent, "found False False []")])
def test_a_terminal_is_asked_and_left_as_it_was(kind: type[Terminal], told: str) -> None:
    with kind([sys.executable, "-c", ASK], 100, 24) as terminal:
        terminal.until(lambda text: f"{told} as before True" in text)
        assert terminal.wait() == 0
        assert terminal.screen.display[0].startswith("found")  # asking left nothing on the screen


def test_what_was_typed_ahead_does_not_become_an_answer() -> None:
    with Silent([sys.executable, "-c", ASK], 100, 24) as terminal:
        terminal.type("\x1b[A\x1b[1;2cx")
        terminal.until(lambda text: "found False False [] as before True" in text)


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    assert query(RealClock(), str(tmp_path / "tty")).why and query(RealClock(), os.devnull).why


# --- the command --------------------------------------------------------------------------------------


def test_the_command_says_all_of_it(tmp_path: Path) -> None:
    environment = {**GOOD, "TMUX": "", "STY": "", "SSH_TTY": "", "SSH_CONNECTION": "", "NO_COLOR": "", "LC_ALL": "",
                   "XDG_CONFIG_HOME": str(tmp_path)}  # fmt: skip
    with Terminal([*COMMAND, "doctor", "--terminal"], 160, 40, environment=environment, at=tmp_path) as terminal:
        assert terminal.wait(30) == 0
        shown = terminal.text
    for word in ("TERM=xterm-256color, 160x40", "true colour", "box, block and braille", "there and back", "carries",
                 "mouse on", "OSC 52", "console.toml"):  # fmt: skip
        assert word in shown, shown


def test_without_a_terminal_the_command_says_so_and_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "doctor", "--terminal", "--json"],
        cwd=tmp_path, env={**os.environ, **GOOD, "XDG_CONFIG_HOME": str(tmp_path)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert all(set(one) == {"name", "status", "detail", "mend"} for one in found)
    assert [one["name"] for one in found if one["status"] == "fail"] == ["terminal"]
    assert "there is no terminal here" in found[0]["detail"] and found[0]["mend"]


def test_a_pipe_takes_the_findings_of_the_terminal_that_it_is_called_in(tmp_path: Path) -> None:
    line = f"exec {sys.executable} -P -m console.cli doctor --terminal --json > {tmp_path}/found < /dev/null"
    environment = {**GOOD, "XDG_CONFIG_HOME": str(tmp_path)}
    with Terminal(["/bin/sh", "-c", line], 90, 30, environment=environment, at=tmp_path) as terminal:
        assert terminal.wait(30) == 0
    found = {one["name"]: one["detail"] for one in json.loads((tmp_path / "found").read_text())}
    assert "90x30" in found["terminal"] and "there and back" in found["answer"]


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_inside_of_tmux_its_options_are_found(server: Server, tmp_path: Path) -> None:  # noqa: F811
    for option, value in (("escape-time", "500"), ("set-clipboard", "off"), ("focus-events", "on")):
        server.tmux("set-option", "-s", option, value)
    target = tmp_path / "found"
    command = (
        f"{sys.executable} -P -m console.cli doctor --terminal --json > {target}.part; mv {target}.part {target}"
    )
    server.tmux("respawn-pane", "-k", "-t", "t", "-e", f"PYTHONPATH={ROOT}", "-e", f"XDG_CONFIG_HOME={tmp_path}",
                "/bin/sh", "-c", command)  # fmt: skip
    server.until(target.exists)
    found = [one for one in json.loads(target.read_text()) if one["name"] in ("tmux", "answer")]
    told = {one["detail"].split()[0]: one for one in found}
    assert told["escape-time"]["status"] == told["set-clipboard"]["status"] == "warn"
    assert told["focus-events"]["status"] == "ok" and told["default-terminal"]["detail"]
    assert any("there and back" in one["detail"] for one in found)  # tmux answers in the terminal's place


def test_the_terminals_settings_come_back_when_asking_is_interrupted() -> None:
    script = ASK.replace("found = query(RealClock())", "print('asking', flush=True)\ntry:\n    found = query(RealClock())\n"
                         "except KeyboardInterrupt:\n    print('as before', termios.tcgetattr(0) == before); raise SystemExit(0)")  # fmt: skip
    with Silent([sys.executable, "-c", script], 100, 24) as terminal:
        terminal.until(lambda text: "asking" in text)
        terminal.pump(0.3)
        terminal.type("\x03")
        terminal.until(lambda text: "as before True" in text)
