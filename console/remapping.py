"""A person's own keys: how a key is written, which ones no program gets to see, and which clash. Pure."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Mapping, Sequence

from console.keymap import DECIDE, Key

# Textual's own words where they are not the character's name in Unicode.
_RENAMED = {
    "solidus": "slash", "reverse_solidus": "backslash", "commercial_at": "at", "hyphen_minus": "minus",
    "plus_sign": "plus", "low_line": "underscore",
}  # fmt: skip
_ALIASES = {
    "esc": "escape", "return": "enter", "pgup": "pageup", "pgdn": "pagedown", "pgdown": "pagedown",
    "page_up": "pageup", "page_down": "pagedown", "del": "delete", "ins": "insert", "spacebar": "space",
}  # fmt: skip
NAMED = (
    "up", "down", "left", "right", "home", "end", "pageup", "pagedown", "insert", "delete", "backspace", "tab",
    "enter", "escape", "space", *(f"f{n}" for n in range(1, 25)),
)  # fmt: skip


def name_of(character: str) -> str:
    """One printed character as Textual calls its key: ``/`` -> ``slash``, ``G`` -> ``G``."""
    if character.isalnum():
        return character
    name = unicodedata.name(character, character).lower().replace("-", "_").replace(" ", "_")
    return _RENAMED.get(name, name)


_CHARACTERS = {name_of(chr(code)): chr(code) for code in range(33, 127)}
KNOWN = frozenset((*NAMED, *_CHARACTERS))

_MULTIPLEXERS = "tmux, screen and shells use it to move between panes and lines"
FORBIDDEN: Mapping[str, str] = {
    "ctrl+a": "it is screen's prefix, and tmux's for many", "ctrl+b": "it is tmux's prefix",
    "ctrl+h": "terminals send it for backspace", "ctrl+j": "terminals send it for enter",
    "ctrl+k": _MULTIPLEXERS, "ctrl+l": _MULTIPLEXERS,
    "ctrl+s": "terminals stop their output on it", "ctrl+q": "terminals go on with their output on it",
    "ctrl+enter": "most terminals send it as enter", "ctrl+i": "terminals send it for tab",
    "ctrl+m": "terminals send it for enter", "ctrl+left_square_bracket": "terminals send it for escape",
    "ctrl+z": "shells suspend a program on it", "ctrl+c": "it always leaves the console",
}  # fmt: skip


def read_key(text: str) -> str:
    """A key as a person writes it (``x``, ``G``, ``/``, ``ctrl+e``, ``pgup``) in Textual's words.

    Raises ValueError with what is wrong and the nearest name.
    """
    if text == " ":
        return "space"
    if len(text) == 1:
        if not text.isprintable():
            raise ValueError("expected a key, got a control character")
        return name_of(text)
    *modifiers, base = text.strip().split("+") if not text.endswith("++") else [*text[:-2].split("+"), "+"]
    held = {part.strip().lower() for part in modifiers}
    base = name_of(base) if len(base) == 1 else base.strip().lower()
    base = _ALIASES.get(base, base)
    if held & {"alt", "meta", "option", "super", "cmd"}:
        raise ValueError(f"{text} cannot be used: terminals and tmux take chords with alt, or send them as esc")
    if unknown := held - {"ctrl", "shift"}:
        raise ValueError(f'unknown key "{text}": {sorted(unknown)[0] or "nothing"} is neither ctrl nor shift')
    if base not in KNOWN and not (len(base) == 1 and base.isprintable()):
        close = difflib.get_close_matches(base, sorted(KNOWN), n=1)
        raise ValueError(f'unknown key "{text}"' + (f'; did you mean "{close[0]}"?' if close else ""))
    if "shift" in held and len(base) == 1 and base.isalpha():
        held, base = held - {"shift"}, base.upper()
    if "ctrl" in held and len(base) == 1:
        base = base.lower()
    key = "+".join((*sorted(held), base))
    if key in FORBIDDEN:
        raise ValueError(f"{key} cannot be used: {FORBIDDEN[key]}")
    return key


def read_keys(action: Key, texts: Sequence[str]) -> tuple[str, ...]:
    """All keys of one action. Raises ValueError."""
    if not texts:
        raise ValueError("expected a key, got none: an action without a key could never be found again")
    found = []
    for text in texts:
        # its own default may be what others are refused
        key = text.strip() if text.strip() in action.keys else read_key(text)
        if action.group == DECIDE and not (len(key) == 1 and key.isalpha()):
            raise ValueError(f"{text} cannot be used: what decides is a single letter, never struck by accident")
        if key not in found:
            found.append(key)
    if "ctrl+c" in action.keys and "ctrl+c" not in found:
        found.append("ctrl+c")  # the way out stays
    return tuple(found)


def clash(mine: Mapping[str, Sequence[str]], tables: Mapping[str, Sequence[Key]]) -> tuple[str, str] | None:
    """The newest of ``mine`` that takes a key which does something else in one of the tables, and why; or None."""
    order = list(mine)
    for place, table in tables.items():
        owners: dict[str, str] = {}
        for action in table:
            for key in mine.get(action.id, action.keys):
                other = owners.setdefault(key, action.id)
                if other == action.id:
                    continue
                newest = max((one for one in (other, action.id) if one in mine), key=order.index, default=None)
                if newest is None:  # the tables' own: a test holds that there is none
                    continue
                kept = action.id if newest == other else other
                return newest, f'"{spoken(key)}" is {kept} already {place}; give {kept} another key as well'
    return None


def spoken(key: str) -> str:
    """A key of Textual's as a person reads it: ``slash`` -> ``/``."""
    *held, base = key.split("+") if key != "+" else [key]
    shown = {"escape": "esc", "pageup": "PgUp", "pagedown": "PgDn", "up": "↑", "down": "↓", "left": "←",
             "right": "→"}.get(base, _CHARACTERS.get(base, base))  # fmt: skip
    return "+".join((*held, shown))
