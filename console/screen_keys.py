"""The keys of the further screens, beside the live screen's (``keymap``): bindings, footers and help. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from console.keymap import BY_ID, Key

_HERE = "On every further screen"
_MOVES = tuple(BY_ID[id_] for id_ in ("down", "up", "page_down", "page_up", "last"))
_TOP = Key("first", BY_ID["first"].keys, "to the top", _HERE, BY_ID["first"].label)
OPENING = tuple(BY_ID[id_] for id_ in ("history", "hosts", "ratchet", "events"))
COMMON: tuple[Key, ...] = (
    Key("back", ("escape",), "back to where you came from", _HERE, "esc", "back"),
    Key("leave", ("q",), "back to the live screen", _HERE, footer="live"),
    Key("detach", ("ctrl+c",), "leave the console; the engine goes on", _HERE, "ctrl+c"),
    BY_ID["help"],
    *(BY_ID[id_] for id_ in ("palette", "copy", "copy_what", "mouse", "screenshot")),
    BY_ID["repaint"],
)
_LOOKING = tuple(
    BY_ID[id_]
    for id_ in (
        "left", "right", "zoom_in", "zoom_out", "pan_left", "pan_right", "axis", "log_y", "log_x", "smoothing",
        "reset_chart",
    )
)  # fmt: skip
_DIFF = tuple(BY_ID[id_] for id_ in ("next_hunk", "previous_hunk", "split", "less_context", "more_context"))
_NEXT_PANE = (BY_ID["next_pane"], BY_ID["previous_pane"])


@dataclass(frozen=True, slots=True)
class ScreenKeys:
    """``own``: what this screen alone can do; ``shared``: keys that mean what they mean on the live screen."""

    name: str
    heading: str
    own: tuple[Key, ...]
    shared: tuple[Key, ...] = ()

    @property
    def all(self) -> tuple[Key, ...]:
        taken = {key for one in self.own for key in one.keys}
        shared = [one for one in (*_MOVES, _TOP, *self.shared, *COMMON, *OPENING) if not taken & set(one.keys)]
        return (*self.own, *(one for one in shared if one.id != self.name))

    def by_id(self, id_: str) -> Key:
        return next(key for key in self.all if key.id == id_)

    def press(self, id_: str) -> str:
        """The key that does it, in words."""
        return self.by_id(id_).shown.split()[0]


def _panes(group: str, names: tuple[str, ...]) -> tuple[Key, ...]:
    return tuple(Key(f"pane_{n}", (str(n),), what, group) for n, what in enumerate(names, 1))


HISTORY = ScreenKeys(
    "history",
    "The history",
    (
        Key("open", ("enter", "i"), "open the experiment", "The history", "enter", "open"),
        Key("filter", ("slash",), "filter: words, verdict:keep, author:claude, effect>0.01, -word", "The history",
            "/", "filter"),
        Key("next_hit", ("n",), "to the next row that matches", "The history", footer="next"),
        Key("previous_hit", ("N",), "to the previous one", "The history"),
        Key("only", ("f",), "hide the rows that do not match, or show them too", "The history",
            footer="show all"),
        Key("sort", ("o",), "sort by the next column", "The history", footer="sort"),
        Key("reverse", ("O",), "the other way round", "The history", footer="reverse"),
        Key("mark", ("space",), "mark it: for comparing, and on the live chart", "The history", footer="mark"),
        Key("compare", ("c",), "compare two marked, or one marked and this one", "The history",
            footer="compare"),
    ),
)  # fmt: skip
EXPERIMENT = ScreenKeys(
    "experiment",
    "One experiment",
    (
        *_panes("One experiment", ("why, verdict, money", "its trials", "its diff", "a trial's curve",
                                   "the conversation in which it was drafted")),
        Key("open", ("enter",), "a trial's curve", "One experiment", footer="curve"),
        Key("older", ("less_than_sign",), "the experiment before", "One experiment", "<", "before"),
        Key("newer", ("greater_than_sign",), "the experiment after", "One experiment", ">", "after"),
    ),
    (*_NEXT_PANE, *_DIFF, *_LOOKING),
)  # fmt: skip
COMPARISON = ScreenKeys(
    "comparison",
    "Two experiments",
    (
        *_panes("Two experiments", ("numbers and parameters", "how their diffs differ", "both curves")),
        Key("open", ("enter",), "open the first one", "Two experiments", footer="open first"),
        Key("open_second", ("i",), "open the second one", "Two experiments", footer="open second"),
    ),
    (*_NEXT_PANE, *_LOOKING),
)
HOSTS = ScreenKeys(
    "hosts",
    "Hosts and devices",
    (
        Key("open", ("enter", "i"), "open what runs on the device; on a host: show or hide its devices",
            "Hosts and devices", "enter", "open"),
        Key("fold", ("f",), "every host in one line, or with its devices", "Hosts and devices", footer="fold all"),
        Key("drain", ("D",), "drain the host: no more trials there (asks first)", "Hosts and devices",
            footer="drain"),
        Key("lend", ("l",), "lend the device, or the host, to others for some hours (asks)", "Hosts and devices",
            footer="lend"),
        Key("undrain", ("u",), "use a drained or lent host again (asks first)", "Hosts and devices",
            footer="use again"),
    ),
)  # fmt: skip
RATCHET = ScreenKeys(
    "ratchet",
    "The ratchet",
    (
        Key("left", ("left",), "to the step before", "The ratchet", "←", "steps"),
        Key("right", ("right",), "to the step after", "The ratchet", "→"),
        Key("older", ("less_than_sign", "H"), "to the try before", "The ratchet", "<", "tries"),
        Key("newer", ("greater_than_sign", "L"), "to the try after", "The ratchet", ">"),
        Key("by", ("t",), "over time, or over experiments", "The ratchet", footer="time"),
        Key("open", ("enter", "i"), "open the experiment under the cursor", "The ratchet", "enter", "open"),
        Key("reset_chart", ("0",), "no cursor", "The ratchet"),
    ),
    (*_NEXT_PANE, *_DIFF),
)
EVENTS = ScreenKeys(
    "events",
    "The event log",
    (
        Key("open", ("enter", "i"), "open the experiment that it tells of", "The event log", "enter", "open"),
        Key("filter", ("slash",), "filter: words, #41, is:trouble, is:decision, -word", "The event log", "/",
            "filter"),
        Key("next_hit", ("n",), "to the next trouble", "The event log", footer="next trouble"),
        Key("previous_hit", ("N",), "to the previous one", "The event log"),
        Key("detail", ("v",), "trials too, or only what matters", "The event log", footer="trials too"),
    ),
)  # fmt: skip
SCREENS = (HISTORY, EXPERIMENT, COMPARISON, HOSTS, RATCHET, EVENTS)


def groups() -> list[tuple[str, list[Key]]]:
    """For the help page: what each screen adds to the live screen's keys."""
    every = [key for key in (_TOP, *COMMON) if key.group == _HERE and key.id != "first"]
    return [(_HERE, every), *((screen.heading, list(screen.own)) for screen in SCREENS)]
