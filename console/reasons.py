"""Why a key of the live screen can do nothing now, for the palette. Pure; '' when it can."""

from __future__ import annotations

from collections.abc import Callable

from console.keymap import BY_ID, CHART, DIFF
from console.layout import Pane
from console.state import State, View, selected

Reason = Callable[[State, View, bool], str]


def why_off(action: str, state: State, view: View, why_not_decide: str, can_start: bool) -> str:
    """``why_not_decide``: the guards' word about a decision on what is selected now."""
    if action in ("accept", "reject", "edit"):
        return why_not_decide
    if action in _REASONS:
        return _REASONS[action](state, view, can_start)
    group = BY_ID[action].group if action in BY_ID else ""
    if group == DIFF and view.focus is not Pane.DIFF:
        return f"{BY_ID['pane_3'].shown} goes to the diff first"
    if action in ("left", "right") and view.focus is not Pane.CHART:
        return f"{BY_ID['pane_4'].shown} goes to the chart first"
    if group == CHART and selected(state, view) is None:
        return "no experiment yet"
    return ""


def _pause(state: State, view: View, can_start: bool) -> str:
    if state.campaign is None or state.campaign.state == "finished":
        return "nothing runs that could be paused"
    return ""


def _trial(state: State, view: View, can_start: bool) -> str:
    return "" if any(t.state in ("running", "launching") for t in state.running) else "no trial is running"


def _start(state: State, view: View, can_start: bool) -> str:
    return "the engine runs already" if state.alive else "" if can_start else "this console only looks"


def _selected(state: State, view: View, can_start: bool) -> str:
    return "" if selected(state, view) is not None else "no experiment yet"


def _undo(state: State, view: View, can_start: bool) -> str:
    return "" if state.requests or state.steering.reversible else "nothing to take back"


def _campaign(state: State, view: View, can_start: bool) -> str:
    return "" if state.campaign is not None else "no campaign yet"


def _rerun(state: State, view: View, can_start: bool) -> str:
    row = state.listed.get(selected(state, view) or 0)
    if row is None:
        return "no experiment yet"
    return "its first runs come first" if row.state in ("drafting", "review", "ready") else ""


def _step_back(state: State, view: View, can_start: bool) -> str:
    number = selected(state, view)
    behind = state.steering.left_behind(number) if number is not None else None
    if behind is None:
        return "select a keep that is in force"
    return "" if behind else "it is the incumbent"


_REASONS: dict[str, Reason] = {
    "pause": _pause,
    "stop_trial": _trial,
    "start_engine": _start,
    "stop_engine": lambda state, view, can: "no engine is running" if state.alive is False else "",
    "confirm_asleep": lambda state, view, can: "" if state.asleep else "no request is asleep",
    "undo": _undo,
    "accept_next": _campaign,
    "message": _campaign,
    "pin": _selected,
    "rerun": _rerun,
    "step_back": _step_back,
    "open": _selected,
    "experiment": _selected,
    "back": lambda state, view, can: "you are there" if view.focus is Pane.EXPERIMENTS else "",
    "enlarge": lambda state, view, can: "it is alone already" if view.enlarged else "",
    "restore": lambda state, view, can: "" if view.enlarged else "no pane is enlarged",
}
