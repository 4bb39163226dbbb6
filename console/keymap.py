"""The single table of keys: bindings, footer and help screen are all made from it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """``id`` is what a user's keymap names; ``keys`` in Textual's words, the first one is shown."""

    id: str
    keys: tuple[str, ...]
    what: str
    group: str
    label: str = ""  # how the keys read, where Textual's words do not
    footer: str = ""  # the word in the footer; '' leaves it to the help screen

    @property
    def shown(self) -> str:
        return self.label or self.keys[0]


MOVE, PANES, DECIDE, ENGINE, CONSOLE = "Moving", "Panes", "Deciding", "The engine", "The console"

KEYS: tuple[Key, ...] = (
    Key("down", ("j", "down"), "down", MOVE, "j ↓"),
    Key("up", ("k", "up"), "up", MOVE, "k ↑"),
    Key("page_down", ("pagedown", "space"), "a page down", MOVE, "PgDn space"),
    Key("page_up", ("pageup", "b"), "a page up", MOVE, "PgUp b"),
    Key("first", ("g", "home"), "to the top; in the experiments: follow what runs", MOVE, "g Home", "follow"),
    Key("last", ("G", "end"), "to the bottom", MOVE, "G End"),
    *(
        Key(f"pane_{n}", (str(n),), what, PANES)
        for n, what in enumerate(
            ("experiments", "proposal and verdict", "diff", "chart", "devices and trials", "log"), 1
        )
    ),
    Key("next_pane", ("tab", "right_square_bracket"), "next pane", PANES, "tab ]", "pane"),
    Key("previous_pane", ("shift+tab", "left_square_bracket"), "previous pane", PANES, "shift+tab ["),
    Key("open", ("enter",), "open the selected experiment's diff", PANES, "enter", "diff"),
    Key("back", ("escape",), "back to the experiments; dismiss", PANES, "esc"),
    Key("enlarge", ("+", "plus"), "show this pane alone", PANES, "+"),
    Key("restore", ("_", "underscore"), "show all panes again", PANES, "_"),
    Key("accept", ("a",), "accept the proposal or keep (in panes 2 and 3)", DECIDE, footer="accept"),
    Key("reject", ("r",), "reject it, with a reason (in panes 2 and 3)", DECIDE, footer="reject"),
    Key("confirm_asleep", ("c",), "still do what was asked while no engine ran", DECIDE, footer="still do it"),
    Key("withdraw", ("w",), "withdraw a request that waits", DECIDE, footer="withdraw"),
    Key("pause", ("P",), "pause the ratchet, or resume it", ENGINE, footer="pause"),
    Key("stop_trial", ("x",), "stop a trial (asks first)", ENGINE, footer="stop trial"),
    Key("start_engine", ("S",), "start the engine when none runs", ENGINE, footer="start engine"),
    Key("stop_engine", ("Q",), "stop the engine (asks first)", ENGINE, footer="stop engine"),
    Key("detach", ("q", "ctrl+c"), "leave the console; the engine goes on", CONSOLE, "q", "detach"),
    Key("help", ("question_mark", "f1"), "this page", CONSOLE, "?", "help"),
    Key("repaint", ("ctrl+l",), "paint the screen anew", CONSOLE, "ctrl+l"),
)

BY_ID = {key.id: key for key in KEYS}


def groups() -> list[tuple[str, list[Key]]]:
    """Keys by group, in the table's order."""
    found: dict[str, list[Key]] = {}
    for key in KEYS:
        found.setdefault(key.group, []).append(key)
    return list(found.items())
