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


MOVE, PANES, DIFF, CHART = "Moving", "Panes", "The diff", "The chart"
DECIDE, ENGINE, CONSOLE = "Deciding", "The engine", "The console"

KEYS: tuple[Key, ...] = (
    Key("down", ("j", "down"), "down", MOVE, "j ↓"),
    Key("up", ("k", "up"), "up", MOVE, "k ↑"),
    Key("page_down", ("pagedown",), "a page down", MOVE, "PgDn"),
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
    Key("next_hunk", ("n",), "to the next hunk (in pane 3)", DIFF, footer="hunk"),
    Key("previous_hunk", ("N",), "to the previous hunk", DIFF),
    Key("split", ("s",), "side by side, or one below the other", DIFF, footer="split"),
    Key("less_context", ("left_curly_bracket",), "fewer lines around each change", DIFF, "{"),
    Key("more_context", ("right_curly_bracket",), "more lines around each change", DIFF, "}"),
    Key("mark", ("space",), "lay the selected experiment's curve over the chart, or take it away", CHART),
    Key("pin", ("p",), "pin it there", CHART),
    Key("left", ("left",), "the chart's cursor to the left (in pane 4); it reads every curve", CHART, "←", "read"),
    Key("right", ("right",), "the chart's cursor to the right", CHART, "→"),
    Key("zoom_in", ("equals_sign",), "zoom in, about the cursor", CHART, "=", "zoom"),
    Key("zoom_out", ("minus",), "zoom out", CHART, "-"),
    Key("pan_left", ("H",), "along to the left", CHART),
    Key("pan_right", ("L",), "along to the right", CHART),
    Key("axis", ("t",), "x by step, tokens, seconds or part of the budget", CHART, footer="x axis"),
    Key("log_y", ("v",), "linear or logarithmic values", CHART, footer="log"),
    Key("log_x", ("V",), "linear or logarithmic x", CHART),
    Key("smoothing", ("w",), "smooth: none, 0.9, 0.97, 0.99", CHART, footer="smooth"),
    Key("reset_chart", ("0",), "everything in sight; no cursor; only pinned curves", CHART, footer="reset"),
    Key("accept", ("a",), "accept the proposal or keep (in panes 2 and 3)", DECIDE, footer="accept"),
    Key("reject", ("r",), "reject it, with a reason (in panes 2 and 3)", DECIDE, footer="reject"),
    Key("confirm_asleep", ("c",), "still do what was asked while no engine ran", DECIDE, footer="still do it"),
    Key("withdraw", ("u",), "withdraw a request that waits", DECIDE, footer="withdraw"),
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
