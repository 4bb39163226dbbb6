"""The single table of keys: bindings, footer and help screen are all made from it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_MINE: dict[str, str] = {}  # what a person has instead; a process has one person


def install(shown: Mapping[str, str]) -> None:
    """How remapped actions read from now on: id -> its keys in words. Whoever binds keys remaps those."""
    _MINE.clear()
    _MINE.update(shown)


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
        """How the keys read: a person's own where there are some."""
        return _MINE.get(self.id) or self.label or self.keys[0]


MOVE, PANES, DIFF, CHART = "Moving", "Panes", "The diff", "The chart"
SCREENS = "Screens"
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
    Key("history", ("h",), "the history: filter, sort, mark, compare", SCREENS, footer="history"),
    Key("experiment", ("i",), "the selected experiment whole", SCREENS, footer="whole"),
    Key("hosts", ("d",), "hosts and devices", SCREENS),
    Key("ratchet", ("R",), "the ratchet's staircase and what it cost", SCREENS),
    Key("events", ("E",), "the event log", SCREENS),
    Key("next_hunk", ("n",), "to the next hunk (in pane 3)", DIFF, footer="hunk"),
    Key("previous_hunk", ("N",), "to the previous hunk", DIFF),
    Key("split", ("s",), "side by side, or one below the other", DIFF, footer="split"),
    Key("less_context", ("left_curly_bracket",), "fewer lines around each change", DIFF, "{"),
    Key("more_context", ("right_curly_bracket",), "more lines around each change", DIFF, "}"),
    Key("mark", ("space",), "lay the selected experiment's curve over the chart, or take it away", CHART),
    Key("pin", ("p",), "pin it there, and in every console; again to take the pin away", CHART),
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
    Key("accept", ("a",), "accept the proposal or keep (with its diff in sight)", DECIDE, footer="accept"),
    Key("reject", ("r",), "reject it, with a reason (with its diff in sight)", DECIDE, footer="reject"),
    Key("edit", ("e",), "edit the proposal in $EDITOR before it runs", DECIDE, footer="edit"),
    Key("accept_next", ("A",), "accept the next N without asking (asks first), or end that", DECIDE),
    Key("confirm_asleep", ("c",), "still do what was asked while no engine ran", DECIDE, footer="still do it"),
    Key("undo", ("u",), "take back: a request that waits, else your newest decision", DECIDE, footer="take back"),
    Key("message", ("m",), "message to the proposer; the next brief carries it", DECIDE, footer="message"),
    Key("rerun", ("f",), "run it and its base on further seeds (asks how many)", DECIDE, footer="further seeds"),
    Key("step_back", ("B",), "step the ratchet back to the selected keep (asks first)", DECIDE),
    Key("pause", ("P",), "pause the ratchet, or resume it", ENGINE, footer="pause"),
    Key("stop_trial", ("x",), "stop a trial (asks first)", ENGINE, footer="stop trial"),
    Key("start_engine", ("S",), "start the engine when none runs", ENGINE, footer="start engine"),
    Key("stop_engine", ("Q",), "stop the engine (asks first)", ENGINE, footer="stop engine"),
    Key("detach", ("q", "ctrl+c"), "leave the console; the engine goes on", CONSOLE, "q", "detach"),
    Key("help", ("question_mark", "f1"), "this page", CONSOLE, "?", "help"),
    Key("palette", ("colon", "ctrl+p"), "every action by name; an experiment by its number", CONSOLE, ": ctrl+p",
        "actions"),
    Key("copy", ("y",), "copy: the diff, the hypothesis, the log in sight; else choose", CONSOLE),
    Key("copy_what", ("Y",), "choose what to copy: diff, id, command, commit ...", CONSOLE),
    Key("mouse", ("percent_sign",), "mouse on or off", CONSOLE, "%"),
    Key("screenshot", ("f12",), "keep this screen as an SVG picture", CONSOLE, "f12"),
    Key("repaint", ("ctrl+l",), "paint the screen anew", CONSOLE, "ctrl+l"),
)  # fmt: skip

BY_ID = {key.id: key for key in KEYS}


def press(action: str) -> str:
    """The key that does it, in words."""
    return BY_ID[action].shown.split()[0]


def groups() -> list[tuple[str, list[Key]]]:
    """Keys by group, in the table's order."""
    found: dict[str, list[Key]] = {}
    for key in KEYS:
        found.setdefault(key.group, []).append(key)
    return list(found.items())
