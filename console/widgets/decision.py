"""The fixed bar over a proposal or diff that waits for a person."""

from __future__ import annotations

from console.formats import fit
from console.widgets.lines import Line, Scene


def decision_lines(scene: Scene, width: int) -> list[Line]:
    """One line when the selected experiment waits for a decision, else none."""
    state = scene.state
    row = state.listed.get(scene.number) if scene.number is not None else None
    if row is None or not row.awaits:
        return []
    asked = [r for r in state.requests if r.kind in ("accept", "reject") and r.args.get("number") == row.number]
    what = "keep it?" if row.state == "keep_review" else "run it?"
    if asked:
        told = " no engine runs; it waits" if state.alive is False else " sent"
        if asked[-1].state == "asleep":
            told = " asked before this engine started: c still do it, u withdraw"
        return [Line(((fit(f" {asked[-1].kind} #{row.number}:{told}", width), "alarm"),))]
    if scene.why_not:
        return [Line(((fit(f" #{row.number} waits: {what}  {scene.why_not}", width), "warn"),))]
    return [Line(((fit(f" #{row.number} waits: {what}  a accept   r reject", width), "alarm"),))]
