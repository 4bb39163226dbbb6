"""Every theme has every style, text can be read on its background, and each terminal gets the theme that it can show."""

from __future__ import annotations

import io

import pytest
from rich.color import ColorType
from rich.console import Console
from rich.style import Style

from console import highlight, themes
from console.themes import ANSI, DARK, LIGHT, MONO, THEMES, contrast
from console.widgets import lines
from console.widgets.lines import Line, strip_of, style_of

COLOURED = (DARK, LIGHT, themes.in_256_colours(DARK), themes.in_256_colours(LIGHT))
IDS = ("dark", "light", "dark in 256", "light in 256")
# What stands on a changed line of a diff, and on a changed word of it.
IN_DIFF = ("", "dim", "faint", "good", "bad", "warn", "added", "removed", *highlight.NAMES)
IN_WORD = ("added", "removed", "warn", *highlight.NAMES)


@pytest.fixture(autouse=True)
def dark_again() -> object:
    yield
    lines.wear(DARK)


@pytest.mark.parametrize("theme", THEMES.values(), ids=list(THEMES))
def test_every_theme_has_every_style_and_fill_and_rich_can_read_them(theme: themes.Theme) -> None:
    assert set(theme.styles) == set(DARK.styles) and set(theme.fills) == set(DARK.fills)
    assert set(theme.css) == set(DARK.css) and theme.over <= set(theme.fills)
    for spec in (*theme.styles.values(), *theme.fills.values()):
        Style.parse(spec)
    assert set(highlight.NAMES) <= set(theme.styles)


def test_the_names_of_the_themes_are_what_a_person_may_write() -> None:
    assert tuple(THEMES) == themes.NAMES == ("dark", "light", "ansi", "mono")


def hexes(spec: str) -> list[str]:
    """Text's colour and background's, as far as there are any."""
    style = Style.parse(spec)
    return [found.get_truecolor().hex for found in (style.color, style.bgcolor) if found is not None]


def test_contrast_is_what_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the known grey that just fails
    assert contrast("#ff0000", "#0000ff") == contrast("#0000ff", "#ff0000") == pytest.approx(2.15, abs=0.01)


@pytest.mark.parametrize("theme", COLOURED, ids=IDS)
def test_text_can_be_read_wherever_it_stands(theme: themes.Theme) -> None:
    """WCAG 2.2 AA: 4.5 to 1."""
    found = []
    for style, spec in theme.styles.items():
        if style in themes.ORNAMENTS:
            continue
        ink, *own = hexes(spec)
        places = ["", "quiet", "bar", "cursor"] if not own else []
        places += ["added", "removed"] if style in IN_DIFF else []
        places += ["added_word", "removed_word"] if style in IN_WORD else []
        grounds = {place: hexes(theme.fills[place])[0] for place in places}
        if own:
            grounds["its own"] = own[0]
        found += [
            (style, place, round(got, 2)) for place, on in grounds.items() if (got := contrast(ink, on)) < 4.5
        ]
    for ink in ("ink", "soft", "bright"):
        found += [(ink, on, 0.0) for on in ("paper", "sheet") if contrast(theme.css[ink], theme.css[on]) < 4.5]
    assert not found


@pytest.mark.parametrize("theme", COLOURED, ids=IDS)
def test_what_the_fills_tell_apart_can_be_seen(theme: themes.Theme) -> None:
    fills = {name: hexes(spec)[0] for name, spec in theme.fills.items()}
    assert len({fills[name] for name in ("", "cursor", "quiet")}) == 3
    assert len({fills[name] for name in ("added", "removed", "added_word", "removed_word")}) >= 3
    assert fills["added_word"] != fills["removed_word"] and fills["added_word"] != fills["added"]


@pytest.mark.parametrize("theme", COLOURED[2:], ids=IDS[2:])
def test_in_256_colours_nothing_is_left_for_the_terminal_to_guess(theme: themes.Theme) -> None:
    for spec in (*theme.styles.values(), *theme.fills.values()):
        style = Style.parse(spec)
        for colour in filter(None, (style.color, style.bgcolor)):
            assert colour.type is ColorType.EIGHT_BIT and 16 <= (colour.number or 0) <= 255, spec
            assert themes.hex_of(colour.number or 0) == colour.get_truecolor().hex, spec


def test_the_ansi_theme_uses_the_terminals_own_colours_only() -> None:
    for spec in (*ANSI.styles.values(), *ANSI.fills.values()):
        style = Style.parse(spec)
        for colour in (style.color, style.bgcolor):
            assert colour is None or (colour.number is not None and colour.number < 16), spec
        # white, black or grey text is invisible on somebody's background; black stands on a colour of its own
        assert style.color is None or style.color.number not in (7, 15) or style.bgcolor is not None, spec
        assert style.color is None or style.color.number != 0 or style.bgcolor is not None, spec


def test_the_mono_theme_names_no_colour_and_still_tells_things_apart() -> None:
    for spec in (*MONO.styles.values(), *MONO.fills.values()):
        assert set(spec.split()) <= {"bold", "underline", "reverse"}
    assert MONO.fills["cursor"] == MONO.fills["added_word"] == "reverse"
    assert len({MONO.styles[name] for name in ("", "bold", "strong", "alarm")}) == 4


@pytest.mark.parametrize("theme", THEMES.values(), ids=list(THEMES))
def test_a_fill_that_stands_over_the_text_takes_its_colour(theme: themes.Theme) -> None:
    lines.wear(theme)
    for fill in theme.fills:
        for name in theme.styles:
            style, ground = style_of(name, fill), Style.parse(theme.fills[fill])
            if fill in theme.over:
                assert style.color == ground.color and style.bgcolor == ground.bgcolor
            if theme.styles[name].startswith("bold"):
                assert style.bold


def test_a_new_theme_is_worn_by_the_next_line() -> None:
    before = strip_of(Line((("text", "good"),)), 10)
    lines.wear(LIGHT)
    after = strip_of(Line((("text", "good"),)), 10)
    assert before != after and before.text == after.text and lines.worn() is LIGHT


def test_spaces_keep_a_reversed_or_underlined_ground() -> None:
    lines.wear(MONO)
    strip = strip_of(Line((("plain", ""), ("  ", "alarm"), ("  ", "")), ""), 9)
    assert [segment.text for segment in strip][:2] == ["plain", "  "]
    assert list(strip)[1].style == style_of("alarm", "")


@pytest.mark.parametrize(
    ("environ", "depth", "theme"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor", "dark"),
        ({"TERM": "tmux-256color", "COLORTERM": "24bit"}, "truecolor", "dark"),
        ({"TERM": "tmux-256color"}, "256", "dark"),
        ({"TERM": "xterm-kitty"}, "256", "dark"),
        ({"TERM": "screen"}, "16", "ansi"),
        ({"TERM": "xterm"}, "16", "ansi"),
        ({"TERM": "linux"}, "16", "ansi"),
        ({"TERM": "vt220"}, "none", "mono"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none", "mono"),
        ({}, "none", "mono"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "truecolor", "mono"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": ""}, "truecolor", "dark"),
    ],
)
def test_a_terminal_gets_the_theme_that_it_can_show(environ: dict[str, str], depth: str, theme: str) -> None:
    assert (themes.depth(environ), themes.suiting(environ)) == (depth, theme)
    rich = Console(file=io.StringIO(), force_terminal=True, _environ=environ).color_system
    if depth != "none" and "TERM" in environ:  # the colours that are sent are those that Rich thinks possible
        assert rich == {"truecolor": "truecolor", "256": "256", "16": "standard"}[depth]


def test_only_a_terminal_of_256_colours_gets_the_snapped_theme() -> None:
    assert themes.theme("dark", {"TERM": "tmux-256color"}) == themes.in_256_colours(DARK) != DARK
    assert themes.theme("dark", {"TERM": "xterm", "COLORTERM": "truecolor"}) is DARK
    assert themes.theme("mono", {"TERM": "tmux-256color"}) is MONO
