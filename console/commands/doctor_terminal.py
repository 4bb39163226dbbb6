"""`ratchet doctor --terminal`: what the console gets from this terminal, each finding with its mend.

``facts`` looks, ``findings`` judges (a pure function of what was seen).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from console import ascii_signs, preferences, themes
from console.appearance import looks, remote
from console.commands import tmux
from console.commands.terminal_query import Answered, query
from console.preferences import Preferences
from engine.clock import Clock
from engine.doctor import Check

# Measured at 160x50 on a terminal that answers: bytes for each cell of a whole screen (27 to 33 KB), and bytes a
# second with one trial running and with 8 that write 10 points a second each.
WHOLE_SCREEN, IDLE, BUSY = 4.0, 500, 5000
SLOW_ANSWER, SLOW_ESCAPE_MS = 0.15, 100
TRUE_TERMS = ("kitty", "alacritty", "foot", "ghostty", "wezterm", "contour", "direct")
TRUE_PROGRAMS = ("iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "rio")
TMUX_OPTIONS = {  # name -> how it is asked for
    "default-terminal": "-s", "escape-time": "-s", "set-clipboard": "-s", "focus-events": "-s", "mouse": "-g",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """``size`` None: there is no terminal. ``tmux``: its version, '' outside; ``options`` those of TMUX_OPTIONS;
    ``features``: what tmux thinks of the terminal that it runs in."""

    environ: Mapping[str, str]
    size: tuple[int, int] | None = None
    answered: Answered = field(default_factory=Answered)
    tmux: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    features: str = ""
    chosen: Preferences = field(default_factory=Preferences)
    file: str = ""


def facts(clock: Clock, environ: Mapping[str, str] = os.environ) -> Facts:
    inside = bool(environ.get("TMUX"))
    options = {}
    for name, scope in TMUX_OPTIONS.items() if inside else ():
        if (value := tmux.ask("show-options", f"{scope}v", name)) is not None:
            options[name] = value
    version = (tmux.ask("-V") or "tmux does not answer") if inside else ""
    features = (tmux.ask("display-message", "-p", "#{client_termfeatures}") or "") if inside else ""
    file = preferences.place()
    chosen = preferences.read(file)
    return Facts(environ, _size(), query(clock), version, options, features, chosen, str(file))


def _size() -> tuple[int, int] | None:
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return None
    try:
        found = os.get_terminal_size(fd)
        return found.columns, found.lines
    except OSError:
        return None
    finally:
        os.close(fd)


def findings(seen: Facts) -> list[Check]:
    found = [_terminal(seen), _colour(seen), _characters(seen)]
    if seen.size is not None:
        found += [_answer(seen), _bytes(seen)]
    found += [_mouse(seen), _clipboard(seen)]
    if seen.tmux:
        found += _tmux(seen)
    if seen.environ.get("STY"):
        mend = "tmux instead of screen: colours, clipboard and focus all pass through it"
        found.append(Check("screen", "warn", "inside of GNU screen", mend))
    return [*found, *_settings(seen)]


def _terminal(seen: Facts) -> Check:
    term = seen.environ.get("TERM", "")
    named = f"TERM={term}" if term else "TERM is not set"
    if seen.size is None:
        mend = "call it in a terminal (`ssh -t`, `docker run -it`); `ratchet run` and `status` need none"
        return Check("terminal", "fail", f"there is no terminal here; {named}", mend)
    width, height = seen.size
    detail = f"{named}, {width}x{height}"
    if themes.depth(seen.environ) == "none":
        mend = "export TERM=xterm-256color, unless the terminal is really that old"
        return Check("terminal", "warn", f"{detail}: only bold, underlined and reversed text", mend)
    if width < 60 or height < 16:
        return Check("terminal", "warn", f"{detail}: status and best metric only", "make it at least 80x24")
    if width < 100 or height < 28:
        return Check("terminal", "ok", f"{detail}: one pane at a time; all at once from 100x28 on")
    return Check("terminal", "ok", detail)


def _colour(seen: Facts) -> Check:
    environ = seen.environ
    depth = themes.depth(environ)
    begin = looks(seen.chosen, environ)
    words = {"truecolor": "true colour", "256": "256 colours", "16": "16 colours", "none": "no colour"}[depth]
    why = " (NO_COLOR is set)" if environ.get("NO_COLOR") and not seen.chosen.theme else ""
    chosen = " as console.toml says" if seen.chosen.theme else why
    colorterm = environ.get("COLORTERM", "")
    detail = f"{words} (COLORTERM={colorterm or 'not set'}); theme {begin.theme}{chosen}"
    if depth in ("truecolor", "none") or (begin.theme in ("ansi", "mono") and (why or seen.chosen.theme)):
        return Check("colour", "ok", detail)
    able = environ.get("TERM_PROGRAM") in TRUE_PROGRAMS or any(t in environ.get("TERM", "") for t in TRUE_TERMS)
    if able or "RGB" in seen.features.split(","):
        lost = "; ssh drops it: SetEnv COLORTERM=truecolor in ~/.ssh/config" if remote(environ) else ""
        return Check("colour", "warn", f"{detail}, but this terminal has true colour",
                     f"export COLORTERM=truecolor{lost}")  # fmt: skip
    if depth == "16":
        mend = "export TERM=xterm-256color, if the terminal knows it, and COLORTERM=truecolor for every colour"
        return Check("colour", "warn", detail, mend)
    return Check("colour", "ok", f"{detail}; `export COLORTERM=truecolor`, if it has them, shows finer ones")


def _characters(seen: Facts) -> Check:
    environ = seen.environ
    name = next((n for n in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(n)), "")
    locale = f"{name}={environ[name]}" if name else "LANG is not set"
    begin = looks(seen.chosen, environ)
    signs = "signs in ASCII" if begin.ascii else "box, block and braille signs"
    utf8 = re.search(r"utf-?8", environ.get(name, ""), re.IGNORECASE) is not None
    if utf8 or (begin.ascii and seen.chosen.ascii):
        return Check("characters", "ok", f"{locale}; {signs}")
    if ascii_signs.wanted(environ) and environ.get("TERM") == "linux":
        return Check("characters", "ok", f"{locale}; {signs}: Linux's own console has no others")
    mend = "export LANG=C.UTF-8 (or another UTF-8 locale); `ascii = true` in console.toml for a font without signs"
    return Check("characters", "warn", f"{locale}: not known to be UTF-8; {signs}", mend)


def _answer(seen: Facts) -> Check:
    answered = seen.answered
    if answered.why:
        return Check("answer", "warn", f"not asked: {answered.why}", "call it in the foreground of a terminal")
    if answered.seconds is None:
        mend = "a serial line, or a recorder between? Frames may flicker; nothing else is lost"
        return Check("answer", "warn", "the terminal did not answer within a second", mend)
    detail = f"a question takes {_ms(answered.seconds)} there and back"
    if answered.seconds > SLOW_ANSWER:
        mend = "the way there is slow, so keys feel slow: mosh, or a nearer host"
        return Check("answer", "warn", detail, mend)
    return Check("answer", "ok", detail)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def _bytes(seen: Facts) -> Check:
    """What the console sends, against what the way to the terminal carries."""
    assert seen.size is not None
    whole = seen.size[0] * seen.size[1] * WHOLE_SCREEN
    needs = (
        f"the console sends about {whole / 1000:.0f} KB for a whole screen, {IDLE / 1000:.1f} KB/s at rest and"
        f" {BUSY / 1000:.1f} KB/s under load"
    )
    rate = seen.answered.rate
    if rate is None:
        return Check("bytes", "ok", needs)
    carried = f"{rate / 1e6:.1f} MB/s" if rate >= 1e6 else f"{rate / 1000:.0f} KB/s"
    if rate < 3 * BUSY:
        mend = "ssh -C packs it; a smaller window; `ratchet status` needs almost nothing"
        return Check("bytes", "warn", f"the way carries {carried}; {needs}", mend)
    return Check("bytes", "ok", f"the way carries {carried}; {needs}")


def _mouse(seen: Facts) -> Check:
    begin = looks(seen.chosen, seen.environ)
    over = "over SSH" if remote(seen.environ) else "not over SSH"
    if seen.chosen.mouse is not None:
        why = "console.toml says so"
    elif remote(seen.environ):
        why = "every move of it would cost bytes"
    else:
        why = "shift selects text in most terminals"
    return Check(
        "mouse", "ok", f"{over}: mouse {'on' if begin.mouse else 'off'} ({why}); % in the console changes it"
    )


def _clipboard(seen: Facts) -> Check:
    if seen.tmux:
        return Check("clipboard", "ok", "y copies through `tmux load-buffer -w`, whatever set-clipboard is")
    if seen.environ.get("STY"):
        return Check("clipboard", "warn", "y copies by OSC 52, which screen does not pass on", "use tmux")
    if seen.environ.get("TERM_PROGRAM") == "Apple_Terminal" or seen.environ.get("TERM") == "linux":
        mend = "use tmux (its own buffer works anywhere), or a terminal that knows OSC 52"
        return Check("clipboard", "warn", "y copies by OSC 52, which this terminal does not know", mend)
    told = "y copies by OSC 52, at most 74 KB; some terminals (xterm, iTerm2) want it allowed in their settings"
    return Check("clipboard", "ok", told)


def _tmux(seen: Facts) -> Iterator[Check]:
    number = re.search(r"(\d+)\.(\d+)", seen.tmux)
    if number is None:
        yield Check("tmux", "warn", seen.tmux, "TMUX is set, but `tmux` is not found: is it on PATH?")
        return
    if (int(number[1]), int(number[2])) < (3, 2):
        yield Check("tmux", "warn", seen.tmux, "3.2 or newer also reaches the terminal's own clipboard")
    else:
        yield Check("tmux", "ok", seen.tmux)
    for name in TMUX_OPTIONS:
        value = seen.options.get(name)
        if value is not None:
            yield _option(name, value)


def _option(name: str, value: str) -> Check:
    """One of tmux's options, and how to set it."""
    mend = ""
    if name == "escape-time" and value.isdigit() and int(value) > SLOW_ESCAPE_MS:
        mend = f"`set -s escape-time 10` in ~/.tmux.conf: esc waits {value} ms until tmux lets it through"
    if name == "default-terminal" and "256color" not in value and "direct" not in value:
        mend = "`set -s default-terminal tmux-256color` in ~/.tmux.conf: else programs see 8 or 16 colours"
    if name == "set-clipboard" and value == "off":
        mend = "`set -s set-clipboard external` in ~/.tmux.conf: else a copy stays in tmux's buffer"
    if name == "focus-events" and value in ("off", "0"):
        mend = "`set -s focus-events on` in ~/.tmux.conf: else programs do not know when you look at them"
    shown = f"{name} {value} ms" if name == "escape-time" else f"{name} {value}"
    return Check("tmux", "warn" if mend else "ok", shown, mend)


def _settings(seen: Facts) -> Iterator[Check]:
    for problem in seen.chosen.problems:
        yield Check("settings", "warn", problem, "mend that entry; until then the default counts")
    if not seen.chosen.problems:
        remapped = len(seen.chosen.keys)
        told = (
            f"{seen.file}: {remapped} actions have keys of yours" if remapped else f"{seen.file} (may be absent)"
        )
        yield Check("settings", "ok", told)
