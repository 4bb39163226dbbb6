"""The keys of this moment, from the key table; a key that cannot be used now says why."""

from __future__ import annotations

from console.formats import width_of
from console.keymap import BY_ID
from console.layout import DECIDING
from console.state import SENT
from console.steering import RECENT_SECONDS, autopilot
from console.widgets.lines import Line, Scene, Span

DECISIONS = ("accept", "reject", "edit")


def inputs(scene: Scene) -> tuple[object, ...]:
    state = scene.state
    return (
        scene.view,
        scene.why_not,
        scene.number,
        state.awaiting,
        state.requests,
        state.alive,
        state.running,
        state.campaign and state.campaign.state,
        state.campaign and state.campaign.autopilot,
        state.steering.reversible,
    )


def keys(scene: Scene) -> list[tuple[str, str, str]]:
    """(id, word, why it is off) in the order of the footer."""
    state, view = scene.state, scene.view
    found: list[tuple[str, str, str]] = []
    if state.asleep:
        found += [("confirm_asleep", "still do it", ""), ("undo", "withdraw", "")]
    elif state.requests:
        found.append(("undo", "withdraw", ""))
    if state.awaiting:
        off = scene.why_not if view.focus in DECIDING else ""
        asked = any(r.kind in DECISIONS and r.args.get("number") == scene.number for r in state.requests)
        if asked or scene.why_not == SENT:
            pass  # the bar over it says so; what is sent is not offered once more
        elif view.focus in DECIDING:
            found += [("accept", "accept", off), ("reject", "reject", off)]
            row = state.listed.get(scene.number) if scene.number is not None else None
            if row is not None and row.state == "review":
                found.append(("edit", "edit", off))
        else:
            found.append(("open", "look and decide", ""))
    elif view.focus == "experiments":
        found.append(("open", "diff", ""))
    mine = state.steering.newest_of(scene.actor)
    if mine is not None and not state.requests and scene.now - mine.at < RECENT_SECONDS:
        found.append(("undo", f"undo {mine.action} #{mine.number}", ""))
    if autopilot(state.campaign):
        found.append(("accept_next", "ask again", ""))
    if view.focus != "experiments":
        found.append(("back", "back", ""))
    if view.cursor is not None:
        found.append(("first", "follow", ""))
    if view.focus == "diff":
        found += [("next_hunk", "hunk", ""), ("split", "split", "")]
    if view.focus == "chart":
        found += [
            (key, BY_ID[key].footer, "")
            for key in ("left", "zoom_in", "axis", "log_y", "smoothing", "reset_chart")
        ]
    found.append(("next_pane", "pane", ""))
    found.append(("enlarge", "alone", "") if not view.enlarged else ("restore", "all panes", ""))
    if view.focus == "proposal":
        found.append(("message", "message", ""))
    if state.campaign is not None:
        found.append(("pause", "resume" if state.campaign.state == "paused" else "pause", ""))
    if state.running:
        found.append(("stop_trial", "stop trial", ""))
    if state.alive is False and scene.can_start:
        found.append(("start_engine", "start engine", ""))
    elif state.alive:
        found.append(("stop_engine", "stop engine", ""))
    if state.newest:
        found += [("history", "history", ""), ("ratchet", "ratchet", "")]
    return found


# never pushed out by what comes before
LAST = (("detach", "detach", ""), ("palette", "actions", ""), ("help", "help", ""))


def painter(scene: Scene, width: int, height: int) -> list[Line]:
    last = [_hint(*key) for key in LAST]
    room = width - 1 - sum(map(_length, last))
    spans: list[Span] = [(" ", "")]
    for hint in (_hint(*key) for key in keys(scene)):
        room -= _length(hint)
        if room < 0:
            break
        spans += hint
    for hint in last:
        spans += hint
    return [Line(tuple(spans), "bar")]


def _hint(key: str, word: str, off: str) -> list[Span]:
    shown = BY_ID[key].shown.split()[0]
    hint: list[Span] = [(shown, "faint" if off else "key"), (f" {word}", "faint" if off else "dim")]
    if off and key == "accept":
        hint.append((f" ({off})", "warn"))
    return [*hint, ("   ", "")]


def _length(hint: list[Span]) -> int:
    return sum(width_of(text) for text, _ in hint)
