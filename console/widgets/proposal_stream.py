"""Pane 2: what is proposed and why, what the proposer streams, in the end the verdict's arithmetic."""

from __future__ import annotations

from console.formats import duration, fit, interval, number, one_or_more, wrap
from console.plain_text import clean, clean_lines
from console.state import Detail, State
from console.steering import note_words
from console.widgets import decision
from console.widgets.decision import decision_lines
from console.widgets.experiment_list import LOOKS
from console.widgets.lines import Line, Scene, Span
from engine.store.rows import TrialRow

CHANNELS = {"thinking": "italic", "text": ""}
EDIT_LINES = 8  # of an edit that is complete; the one that grows is shown whole
OUTCOMES = {
    "ok": "good",
    "crash": "bad",
    "timeout": "bad",
    "memory": "bad",
    "cancelled": "faint",
    "lost": "warn",
}


def inputs(scene: Scene) -> tuple[object, ...]:
    state = scene.state
    return (
        scene.number,
        state.detail,
        state.stream,
        scene.offset("proposal"),
        scene.view.focus,
        state.steering.notes,
        state.campaign and state.campaign.metric,
        *decision.inputs(scene),
    )


def title(scene: Scene) -> tuple[Span, ...]:
    detail = scene.state.detail
    if detail is None or detail.row.number != scene.number:
        return ()
    row = detail.row
    who = clean(row.author + (f" {row.author_detail}" if row.author_detail else ""))
    return ((f"#{row.number} ", "dim"), (fit(who, min(28, len(who))), "dim"))


def body(scene: Scene, width: int, height: int) -> list[Line]:
    detail = scene.state.detail
    if scene.number is None:
        return [Line((("hypothesis, reasoning and verdict of the selected experiment", "faint"),))]
    if detail is None or detail.row.number != scene.number:
        return [Line((("reading ...", "faint"),))]
    bar = decision_lines(scene, width)
    rows = height - len(bar)
    if detail.row.state == "drafting":
        lines = stream_lines(scene.state, detail, width)
        top = max(0, len(lines) - rows)  # the newest text stays in sight
    else:
        lines = told(scene.state, detail, width)
        top = min(scene.offset("proposal"), max(0, len(lines) - rows))
    return [*bar, *lines[top : top + rows]]


def stream_lines(state: State, detail: Detail, width: int) -> list[Line]:
    """What is said as it is said: thinking dimmed, each tool call on one line, edits as the lines they add."""
    stream = state.stream
    lines = [Line((("a proposal is being written", "accent"),)), *_messages(state, detail, width), Line(())]
    if stream is None or stream.experiment != detail.row.id or not stream.parts:
        return [*lines, Line((("nothing said yet", "faint"),))]
    for i, (channel, text) in enumerate(stream.parts):
        if channel == "tool":
            calls = (call for call in text.split("\n") if call.strip())
            lines += [Line((("› ", "faint"), (fit(clean(call), max(1, width - 3)), "accent"))) for call in calls]
        elif channel == "edit":
            lines += _edit(text, width, whole=i == len(stream.parts) - 1)
        else:
            lines += [Line(((part, CHANNELS.get(channel, "dim")),)) for part in wrap(text, width - 1)]
    return lines


def _edit(text: str, width: int, *, whole: bool) -> list[Line]:
    """The new text as a diff shows it; it alone is streamed, what it replaces is seen in the diff."""
    found = clean_lines(text.removesuffix("\n"))
    shown = found if whole else found[:EDIT_LINES]
    lines = [Line((("+", "good@added"), (fit(line, max(1, width - 2)), "added@added")), "added") for line in shown]
    if len(found) > len(shown):
        lines.append(Line(((f"  … {one_or_more(len(found) - len(shown), 'more line')}", "faint"),)))
    return lines


def _messages(state: State, detail: Detail, width: int) -> list[Line]:
    """What people told the proposer, as long as it is not read, and beside what was written with it."""
    lines: list[Line] = []
    for what, note in note_words(state.steering.notes, detail.row.number):
        waits = note.used_by is None
        lines.append(Line(((f"✉ {clean(note.actor)}: ", "accent"), (what, "warn" if waits else "dim"))))
        lines += [Line((("  ", ""), (part, ""))) for part in wrap(note.text, width - 3)]
    return lines


def told(state: State, detail: Detail, width: int) -> list[Line]:
    row = detail.row
    lines = [Line(((part, "bold"),)) for part in wrap(row.title or "untitled", width - 1)]
    if row.hypothesis:
        lines += [Line(()), *(Line(((part, ""),)) for part in wrap(row.hypothesis, width - 1))]
    if row.expected_effect:
        lines += _labelled("expected", row.expected_effect, width)
    lines.append(Line(()))
    lines += verdict_lines(state, detail, width)
    if detail.trials:
        lines += [Line(()), *(_trial(t, width) for t in detail.trials)]
    if said := _messages(state, detail, width):
        lines += [Line(()), *said]
    return lines


def verdict_lines(state: State, detail: Detail, width: int) -> list[Line]:
    row = detail.row
    sign, word, style = LOOKS.get(row.verdict or row.state, ("?", row.verdict or row.state, "dim"))
    if row.verdict is None:
        stage = f" ({clean(row.stage)})" if row.stage else ""
        return [Line(((f"{sign} {word}{stage}", style), ("  no verdict yet", "faint")))]
    head: list[Span] = [(f"{sign} {word}", style)]
    if row.effect is not None:
        metric = clean(state.campaign.metric) if state.campaign else ""
        head += [
            ("  " + interval(row.effect, row.effect_low, row.effect_high), "bold"),
            (f" {metric}", "dim"),
        ]
    lines = [Line(tuple(head))]
    lines += [Line(((part, "dim"),)) for part in wrap(row.reason, width - 1) if part]
    for step in row.arithmetic:
        for i, part in enumerate(wrap(step, width - 3)):
            lines.append(Line((("· " if i == 0 else "  ", "faint"), (part, "dim"))))
    return lines


def _labelled(label: str, text: str, width: int) -> list[Line]:
    indent = len(label) + 1
    return [
        Line(((f"{label} " if i == 0 else " " * indent, "faint"), (part, "dim")))
        for i, part in enumerate(wrap(text, max(10, width - indent - 1)))
    ]


def _trial(trial: TrialRow, width: int) -> Line:
    word = trial.outcome or trial.state
    left = f"{trial.purpose:<9} seed {trial.seed:<6} "
    spans: list[Span] = [(left, "dim"), (fit(word, 10), OUTCOMES.get(word, "dim"))]
    spans.append((f" {number(trial.score):>9}" if trial.score is not None else " " * 10, ""))
    if trial.seconds:
        spans.append((f"  {duration(trial.seconds)}", "faint"))
    if trial.detail:
        spans.append((f"  {clean(trial.detail)}", "bad" if word == "crash" else "faint"))
    return Line(tuple(spans))
