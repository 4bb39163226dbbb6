"""The themes: what each name of a style and of a background is in it, and which one suits a terminal. Pure.

``dark`` and ``light`` are for terminals of 256 colours or more, ``ansi`` uses the terminal's own 16, ``mono`` none
at all: there, bold, underlined and reversed text and the signs carry every meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

NAMES = ("dark", "light", "ansi", "mono")
ORNAMENTS = ("rule",)  # drawn, never read
READABLE = 4.5  # contrast of text, WCAG 2.2 level AA


@dataclass(frozen=True, slots=True)
class Theme:
    """``styles`` and ``fills``: a name -> a definition in Rich's words; ``css``: the variables of console.tcss.

    A fill in ``over`` takes the place of the text's own colour. ``coloured`` False: no colour is ever sent;
    ``native``: colours are the terminal's own, sent by their number.
    """

    name: str
    styles: Mapping[str, str]
    fills: Mapping[str, str]
    css: Mapping[str, str]
    dark: bool = True
    native: bool = False
    coloured: bool = True
    over: frozenset[str] = field(default_factory=frozenset)


def _on(colours: Mapping[str, str]) -> dict[str, str]:
    return {name: f"on {colour}" for name, colour in colours.items()}


DARK = Theme(
    "dark",
    {
        "": "#c9d1d9", "bold": "bold #f0f6fc", "dim": "#a6b0bb", "faint": "#8c96a3", "rule": "#30363d",
        "accent": "#58a6ff", "strong": "bold #58a6ff", "good": "#3fb950", "kept": "bold #3fb950", "bad": "#ff7b72",
        "warn": "#d8a52e", "alarm": "bold #0d1117 on #d29922", "live": "#56d4dd", "reference": "#b392f5",
        "mark_0": "#e3b341", "mark_1": "#f778ba", "mark_2": "#7ee787", "mark_3": "#79c0ff", "mark_4": "#ffa198",
        "mark_5": "#d2a8ff", "key": "bold #c9d1d9", "added": "#aff5b4", "removed": "#ffdcd7", "hunk": "#79c0ff",
        "keyword": "#d2a8ff", "string": "#a5d6ff", "comment": "#a6b0bb", "number": "#79c0ff",
        "defined": "#ffa657", "tag": "#7ee787", "italic": "italic #a6b0bb",
        "accent_bar": "#58a6ff on #21262d", "good_bar": "#3fb950 on #21262d", "live_bar": "#56d4dd on #21262d",
        "warn_bar": "#d29922 on #21262d",
    },
    _on({
        "": "#0d1117", "cursor": "#1f2d3d", "quiet": "#161b22", "added": "#12261e", "removed": "#25171c",
        "added_word": "#16472b", "removed_word": "#5a242a", "bar": "#161b22",
    }),
    {
        "paper": "#0d1117", "veil": "#0d1117 60%", "sheet": "#161b22", "ink": "#c9d1d9", "soft": "#a6b0bb",
        "edge": "#30363d", "bright": "#58a6ff",
    },
)  # fmt: skip

LIGHT = Theme(
    "light",
    {
        "": "#1f2328", "bold": "bold #0b0e12", "dim": "#4c5560", "faint": "#5b646f", "rule": "#c4ccd4",
        "accent": "#0757ba", "strong": "bold #0757ba", "good": "#0f6a2a", "kept": "bold #0f6a2a", "bad": "#b5121c",
        "warn": "#7d4e00", "alarm": "bold #1f2328 on #f2b134", "live": "#03626e", "reference": "#6b35c4",
        "mark_0": "#7a5200", "mark_1": "#a3246f", "mark_2": "#116329", "mark_3": "#0757ba", "mark_4": "#b0261d",
        "mark_5": "#6f3fc0", "key": "bold #1f2328", "added": "#0f4f22", "removed": "#7d1218", "hunk": "#0757ba",
        "keyword": "#6f2fb8", "string": "#0a3f75", "comment": "#4c5560", "number": "#0553ae",
        "defined": "#7d3b00", "tag": "#116329", "italic": "italic #4c5560",
        "accent_bar": "#0757ba on #d5dbe1", "good_bar": "#0f6a2a on #d5dbe1", "live_bar": "#03626e on #d5dbe1",
        "warn_bar": "#7d4e00 on #d5dbe1",
    },
    _on({
        "": "#ffffff", "cursor": "#ddebfb", "quiet": "#f3f5f8", "added": "#e6f9ea", "removed": "#ffeceb",
        "added_word": "#abefb8", "removed_word": "#ffc9c6", "bar": "#eef1f4",
    }),
    {
        "paper": "#ffffff", "veil": "#ffffff 60%", "sheet": "#f3f5f8", "ink": "#1f2328", "soft": "#4c5560",
        "edge": "#8b949e", "bright": "#0757ba",
    },
    dark=False,
)  # fmt: skip

# The terminal's own background, dark or light, shows through: so no black, white or grey text, and no fill under
# coloured text. A fill may give the text its colour where its style has none (code in a diff).
ANSI = Theme(
    "ansi",
    {
        "": "", "bold": "bold", "dim": "", "faint": "dim", "rule": "bright_black", "accent": "cyan",
        "strong": "bold cyan", "good": "green", "kept": "bold green", "bad": "red", "warn": "yellow",
        "alarm": "black on yellow", "live": "cyan", "reference": "magenta", "mark_0": "yellow",
        "mark_1": "magenta", "mark_2": "green", "mark_3": "cyan", "mark_4": "red", "mark_5": "blue",
        "key": "bold", "added": "green", "removed": "red", "hunk": "cyan", "keyword": "bold", "string": "",
        "comment": "dim", "number": "", "defined": "bold", "tag": "bold", "italic": "italic",
        "accent_bar": "cyan", "good_bar": "green", "live_bar": "cyan", "warn_bar": "yellow",
    },
    {
        "": "", "cursor": "not dim black on cyan", "quiet": "bold", "added": "green", "removed": "red",
        "added_word": "not dim black on green",
        "removed_word": "not dim black on red", "bar": "",
    },
    {
        "paper": "ansi_default", "veil": "transparent", "sheet": "ansi_default", "ink": "ansi_default",
        "soft": "ansi_default", "edge": "ansi_default", "bright": "ansi_cyan",
    },
    native=True,
    over=frozenset({"cursor", "added_word", "removed_word"}),
)  # fmt: skip

MONO = Theme(
    "mono",
    {
        **dict.fromkeys(DARK.styles, ""),
        "bold": "bold", "strong": "bold underline", "kept": "bold", "bad": "bold", "warn": "bold",
        "alarm": "bold reverse", "key": "bold", "keyword": "bold", "defined": "bold", "hunk": "bold",
        **dict.fromkeys(("accent_bar", "good_bar", "live_bar", "warn_bar"), "underline"),
    },
    {
        "": "", "cursor": "reverse", "quiet": "bold", "added": "", "removed": "", "added_word": "reverse",
        "removed_word": "reverse", "bar": "",
    },
    ANSI.css,
    native=True,
    coloured=False,
)  # fmt: skip

THEMES: Mapping[str, Theme] = {theme.name: theme for theme in (DARK, LIGHT, ANSI, MONO)}


# --- what a terminal can show -------------------------------------------------------------------------


def depth(environ: Mapping[str, str]) -> str:
    """``truecolor``, ``256``, ``16`` or ``none``, by what the terminal says of itself."""
    term = environ.get("TERM", "").strip().lower()
    if term in ("", "dumb", "unknown"):
        return "none"
    if environ.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "truecolor"
    if term.startswith("vt"):  # vt100, vt220: terminals from before colour
        return "none"
    return "256" if term.rpartition("-")[2] in ("256color", "kitty") else "16"


def suiting(environ: Mapping[str, str]) -> str:
    """The name of the theme for this terminal, where nobody chose one."""
    found = depth(environ)
    if environ.get("NO_COLOR") or found == "none":
        return "mono"
    return "ansi" if found == "16" else "dark"


def theme(name: str, environ: Mapping[str, str]) -> Theme:
    """The theme in the colours that this terminal has."""
    found = THEMES[name]
    return in_256_colours(found) if depth(environ) == "256" and not found.native else found


# --- 256 colours --------------------------------------------------------------------------------------

_STEPS = (0, 95, 135, 175, 215, 255)
_FIXED: tuple[tuple[int, int, int], ...] = (
    *((red, green, blue) for red in _STEPS for green in _STEPS for blue in _STEPS),
    *((8 + 10 * grey,) * 3 for grey in range(24)),
)  # the colours 16 to 255, which no terminal's settings change
# Of these none is dark and coloured: lines of a diff keep the background, words get the darkest.
_FILLS_256 = {
    "dark": {
        "": "#121212", "cursor": "#303030", "quiet": "#1c1c1c", "added": "#121212", "removed": "#121212",
        "added_word": "#005f00", "removed_word": "#5f0000", "bar": "#1c1c1c",
    },
    "light": {
        "": "#ffffff", "cursor": "#d7ffff", "quiet": "#eeeeee", "added": "#ffffff", "removed": "#ffffff",
        "added_word": "#d7ffd7", "removed_word": "#ffd7d7", "bar": "#eeeeee",
    },
}  # fmt: skip
_ON_WORDS = ("added", "removed", "warn", "keyword", "string", "comment", "number", "defined", "tag")


@lru_cache(maxsize=4)
def _in_256(name: str) -> Theme:
    whole, fills = THEMES[name], _FILLS_256[name]
    words = {fills["added_word"], fills["removed_word"]}
    every = set(fills.values())
    styles = {}
    for style, spec in whole.styles.items():
        ink, *ground = re.findall(r"#[0-9a-f]{6}", spec)
        on = [hex_of(nearest_256(one)) for one in ground]
        if style not in ORNAMENTS and not on:
            on = list(every if style in _ON_WORDS else every - words)
        elif style in ORNAMENTS:
            on = []
        bold = "".join(word + " " for word in ("bold", "italic") if word in spec)
        behind = f" on color({nearest_256(ground[0])})" if ground else ""
        styles[style] = f"{bold}color({nearest_256(ink, on)}){behind}"
    return replace(
        whole,
        styles=styles,
        fills={fill: f"on color({nearest_256(colour)})" for fill, colour in fills.items()},
        css={word: " ".join(map(_in_css, value.split())) for word, value in whole.css.items()},
    )


def in_256_colours(theme: Theme) -> Theme:
    """``theme`` with every colour moved to the nearest of xterm's 240 fixed ones: what the terminal would do to
    it makes the dark backgrounds all alike."""
    return _in_256(theme.name)


def _in_css(word: str) -> str:
    return hex_of(nearest_256(word)) if word.startswith("#") else word


def hex_of(number: int) -> str:
    """One of the fixed 256 colours (16 to 255) as ``#rrggbb``."""
    return "#" + "".join(f"{part:02x}" for part in _FIXED[number - 16])


def nearest_256(colour: str, grounds: Sequence[str] = ()) -> int:
    """``#rrggbb`` -> the number of the nearest fixed colour that can be read on all of ``grounds``."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))

    def far(at: int) -> float:
        r, g, b = _FIXED[at]
        return 0.3 * (r - red) ** 2 + 0.59 * (g - green) ** 2 + 0.11 * (b - blue) ** 2

    order = sorted(range(len(_FIXED)), key=far)
    readable = (at for at in order if all(contrast(hex_of(at + 16), one) >= READABLE for one in grounds))
    return 16 + next(readable, order[0])


# --- contrast -----------------------------------------------------------------------------------------


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio of two colours ``#rrggbb``: 1 to 21; 4.5 is what text needs (level AA)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
