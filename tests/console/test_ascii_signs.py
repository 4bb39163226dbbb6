"""In ASCII every sign of the console's stays one column wide, and nobody's letters are touched."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from console import ascii_signs
from console.ascii_signs import plain
from console.formats import width_of

CONSOLE = Path(ascii_signs.__file__).parent


def drawn() -> set[str]:
    """Every sign beyond ASCII in the console's own text."""
    found: set[str] = set()
    for path in CONSOLE.rglob("*.py"):
        if path.name == "ascii_signs.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= {
                    sign for sign in node.value if sign.isprintable() and not sign.isascii() and width_of(sign)
                }
    return found


def test_every_sign_that_the_console_draws_has_one_in_ascii() -> None:
    assert len(drawn()) > 30
    assert [sign for sign in sorted(drawn()) if not plain(sign).isascii()] == []


def test_a_sign_is_as_wide_as_what_it_replaces() -> None:
    assert [sign for sign in sorted(drawn()) if width_of(sign) != len(plain(sign))] == []
    assert {len(text) for text in ascii_signs.TABLE.values()} == {1}


def test_letters_stay() -> None:
    assert plain("Größe 学習率 ångström — x² → y") == "Größe 学習率 ångström - x2 > y"


def test_boxes_and_curves_keep_their_shape() -> None:
    assert plain("├─ 1 ━┓│└┼") == "+- 1 -+|++"
    assert plain("\u2800⠁⠄⡀⠒⠢⣿⠃") == " '..'-|'"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"TERM": "xterm", "LANG": "en_GB.UTF-8"}, False),
        ({"TERM": "xterm", "LANG": "C.utf8"}, False),
        ({"TERM": "xterm"}, False),
        ({"TERM": "xterm", "LANG": "en_GB.UTF-8", "LC_ALL": "de_DE.ISO-8859-1@euro"}, True),
        ({"TERM": "linux", "LANG": "en_GB.UTF-8"}, True),
    ],
)
def test_a_terminal_known_to_lack_the_signs_gets_ascii(environ: dict[str, str], wanted: bool) -> None:
    assert ascii_signs.wanted(environ) is wanted
