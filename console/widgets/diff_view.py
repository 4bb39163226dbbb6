"""Pane 3: the selected experiment's diff as it was read, coloured by line; formatted only in sight."""

from __future__ import annotations

from console.formats import fit
from console.plain_text import clean
from console.widgets.decision import decision_lines
from console.widgets.lines import Line, Scene, Span


def inputs(scene: Scene) -> tuple[object, ...]:
    detail = scene.state.detail
    return (scene.number, detail and detail.diff, detail and detail.row.revision, scene.offset("diff"),
            scene.why_not, scene.view.focus)  # fmt: skip


def title(scene: Scene) -> tuple[Span, ...]:
    detail = scene.state.detail
    if detail is None or detail.row.number != scene.number or not detail.diff:
        return ()
    row = detail.row
    return ((f"#{row.number} ", "dim"), (f"+{row.added}", "good"), (" ", ""), (f"-{row.removed}", "bad"))


def body(scene: Scene, width: int, height: int) -> list[Line]:
    detail = scene.state.detail
    if scene.number is None:
        return [Line((("the changed lines of the selected experiment", "faint"),))]
    if detail is None or detail.row.number != scene.number:
        return [Line((("reading ...", "faint"),))]
    lines = decision_lines(scene, width)
    rows = height - len(lines)
    diff = detail.diff
    if not any(diff):
        told = "not written yet" if detail.row.state == "drafting" else "this experiment changed no line"
        return [*lines, Line(((told, "faint"),))]
    top = min(scene.offset("diff"), max(0, len(diff) - rows))
    return [*lines, *(_line(text, width) for text in diff[top : top + rows])]


def _line(text: str, width: int) -> Line:
    if text.startswith("diff --git"):
        name = clean(text).rpartition(" b/")[2]
        return Line(((fit(f"▍{name}", width), "strong"),), "bar")
    if text.startswith(("index ", "--- ", "+++ ", "new file", "deleted file", "similarity", "rename ")):
        return Line(((fit(text, width), "faint"),))
    if text.startswith("@@"):
        return Line(((fit(text, width), "hunk"),))
    if text.startswith("+"):
        return Line((("+", "good"), (fit(text[1:], width - 1), "added")), "added")
    if text.startswith("-"):
        return Line((("-", "bad"), (fit(text[1:], width - 1), "removed")), "removed")
    return Line(((fit(text, width), "dim"),))
