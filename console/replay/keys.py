"""The keys of a replay, beside the live screen's: bindings, footer and help are made from them. Pure."""

from __future__ import annotations

from console.keymap import DECIDE, ENGINE, KEYS, Key
from console.screen_keys import ScreenKeys

GROUP = "Replay"
THIS = "this is a replay"
WHY = f"{THIS}: what it shows has happened; nothing is decided, steered or run here"

REPLAY = ScreenKeys(
    "replay",
    GROUP,
    (
        Key("replay_pause", ("space",), "pause, or go on; at the end: once more from the start", GROUP,
            footer="pause"),
        Key("replay_faster", ("greater_than_sign",), "faster: x1, x10, x60, x600", GROUP, ">", "faster"),
        Key("replay_slower", ("less_than_sign",), "slower", GROUP, "<"),
        Key("replay_keep", ("n",), "to the next keep (in pane 3: the next hunk)", GROUP, footer="next keep"),
        Key("replay_keep_back", ("N",), "to the keep before (in pane 3: the hunk before)", GROUP),
        Key("replay_step", ("full_stop",), "to the next event", GROUP, ".", "step"),
        Key("replay_step_back", ("comma",), "to the event before", GROUP, ",", "back"),
        Key("replay_verdict", ("right_parenthesis",), "to the next verdict", GROUP, ")", "verdict"),
        Key("replay_verdict_back", ("left_parenthesis",), "to the verdict before", GROUP, "("),
    ),
)  # fmt: skip

_TAKEN = frozenset(key for own in REPLAY.own for key in own.keys)
# The live screen's keys that keep their meaning; those whose keys a replay takes are left to the list of actions.
LIVE = tuple(key for key in KEYS if not _TAKEN & set(key.keys))
_OFF = frozenset(("pin", *(key.id for key in KEYS if key.group in (DECIDE, ENGINE))))


def off(key: str) -> bool:
    """Whether this key asks for something that a replay cannot do."""
    return key in _OFF
