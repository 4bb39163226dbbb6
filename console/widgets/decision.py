"""The fixed bar over a proposal or diff that waits for a person."""

from __future__ import annotations

from console.formats import fit, width_of
from console.keymap import press
from console.plain_text import clean
from console.state import SENT, Listed
from console.steering import unanswered
from console.widgets.lines import Line, Scene


def inputs(scene: Scene) -> tuple[object, ...]:
    """What the bar looks like decides whether it is painted again."""
    return tuple(decision_lines(scene, 300))


def decision_lines(scene: Scene, width: int) -> list[Line]:
    """The bar when the selected experiment waits for a decision, else none: what may be done; why it is asked and
    what becomes of it without an answer; what went wrong with the last try."""
    state = scene.state
    row = state.listed.get(scene.number) if scene.number is not None else None
    if row is None or not row.awaits:
        return []
    lines = [_keys(scene, row, width)]
    told = _circumstances(scene, row)
    together = " · ".join(told)
    for part in [together] if width_of(together) < width else told:
        if part:
            lines.append(Line(((fit(f" {part}", width), "warn"),), "quiet"))
    notice = state.notice
    if notice is not None and notice.number == row.number and notice.style in ("warn", "bad"):
        lines.append(Line(((fit(" " + clean(notice.text), width), notice.style),), "quiet"))
    return lines


def _keys(scene: Scene, row: Listed, width: int) -> Line:
    state = scene.state
    mine = ("accept", "reject", "edit")
    asked = [r for r in state.requests if r.kind in mine and r.args.get("number") == row.number]
    what = "keep it?" if row.state == "keep_review" else "run it?"
    if asked:
        told = f" no engine runs; it waits, {press('undo')} withdraws it" if state.alive is False else " sent"
        if asked[-1].state == "asleep":
            told = " asked before this engine started: "
            told += f"{press('confirm_asleep')} still do it, {press('undo')} withdraw"
        return Line(((fit(f" {asked[-1].kind} #{row.number}:{told}", width), "alarm"),))
    if scene.why_not == SENT:
        return Line(((fit(f" #{row.number}: {SENT}", width), "alarm"),))
    if scene.why_not:
        return Line(((fit(f" #{row.number} waits: {what}  {scene.why_not}", width), "warn"),))
    edit = f"   {press('edit')} edit" if row.state == "review" else ""
    keys = f"{press('accept')} accept   {press('reject')} reject{edit}"
    return Line(((fit(f" #{row.number} waits: {what}  {keys}", width), "alarm"),))


def _circumstances(scene: Scene, row: Listed) -> list[str]:
    state, detail = scene.state, scene.state.detail
    if detail is None or (detail.row.number, detail.row.revision) != (row.number, row.revision):
        return []
    parts = [f"asked because: {clean(detail.row.asked)}"] if detail.row.asked else []
    if told := unanswered(state.campaign, state.engine, state.alive, detail.row, scene.now):
        parts.append(told)
    return parts
