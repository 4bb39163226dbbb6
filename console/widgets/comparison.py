"""Two experiments side by side: numbers, parameters, effects on one scale, the diffs' difference. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from console.diff_difference import Part, counts
from console.diffs import shown
from console.formats import dollars, duration, fit, forest, interval, number, plus_minus, width_of, wrap
from console.page_sources import Two, Whole
from console.plain_text import clean
from console.widgets.experiment_list import LOOKS
from console.widgets.history_table import when
from console.widgets.lines import Line, Span
from engine.store.rows import ExperimentRow

STYLES = ("live", "reference")
SIGNS = ("●", "○")


def names(two: Two) -> tuple[str, str]:
    found = [f"#{side.detail.row.number}" if side.detail else "none" for side in (two.first, two.second)]
    return found[0], found[1]


def numbers(two: Two, width: int) -> list[Line]:
    """Facts in two columns; where they differ they are bright."""
    rows = [side.detail.row if side.detail else None for side in (two.first, two.second)]
    parameters = [clean(name) for row in rows if row is not None for name in row.parameters]
    longest = max(map(width_of, parameters), default=0)
    label = max(11, min(longest + 1, width // 4))
    half = max(8, (width - label) // 2)
    first, second = names(two)
    lines = [
        Line(((" " * label, ""), (fit(f"{SIGNS[0]} {first}", half), STYLES[0]),
              (fit(f"{SIGNS[1]} {second}", width - label - half), STYLES[1])))
    ]  # fmt: skip
    titles = [clean(row.title) if row else "there is no such experiment" for row in rows]
    lines += _wrapped("title", titles, label, half)
    lines += _effects(two, rows, width, label, half)
    lines += _wrapped("reason", [clean(row.reason) if row else "" for row in rows], label, half)
    for name, values in _facts(two, rows):
        lines += _pair(name, values, width, label, half)
    lines += [*_parameters(rows, width, label, half), Line(())]
    lines += _wrapped("hypothesis", [clean(row.hypothesis) if row else "" for row in rows], label, half)
    return lines


def _pair(
    name: str, values: Sequence[str], width: int, label: int, half: int, style: str | None = None
) -> list[Line]:
    if not any(values):
        return []
    tone = style if style is not None else "bold" if values[0] != values[1] else "dim"
    return [
        Line(((fit(name, label - 1) + " ", "faint"), (fit(values[0], half - 1) + " ", tone),
              (fit(values[1], width - label - half), tone)))
    ]  # fmt: skip


def _wrapped(name: str, values: Sequence[str], label: int, half: int) -> list[Line]:
    """Two texts beside each other, broken into lines of their own columns."""
    if not any(values):
        return []
    columns = [list(wrap(value, half - 2)) for value in values]
    found = []
    for i in range(max(map(len, columns))):
        left, right = (column[i] if i < len(column) else "" for column in columns)
        found.append(
            Line(((fit(name if i == 0 else "", label - 1) + " ", "faint"), (fit(left, half), ""), (right, "")))
        )
    return found


def _effects(two: Two, rows: Sequence[ExperimentRow | None], width: int, label: int, half: int) -> list[Line]:
    """Each effect in words, then both intervals under each other on one scale."""
    found = [Line(())]
    for name, values in (
        ("verdict", [_word(row) for row in rows]),
        ("effect", [_effect(row, half) for row in rows]),
    ):
        found += _pair(name, values, width, label, half, "bold")
    drawn = [row for row in rows if row is not None and _measured(row)]
    if drawn and width - label >= 20:
        reach = max(
            abs(value) for row in drawn for value in (row.effect_low, row.effect_high) if value is not None
        )
        scale = max(reach, 4.0 * (two.sigma or 0.0)) or 1.0
        room = width - label - 1
        for i, row in enumerate(rows):
            if row is not None and _measured(row):
                assert row.effect is not None and row.effect_low is not None and row.effect_high is not None
                mark = forest(row.effect, row.effect_low, row.effect_high, scale, room)
                found.append(Line(((fit(f"{SIGNS[i]} #{row.number}", label), STYLES[i]), (mark, STYLES[i]))))
        ends = f"{-scale:+.2g}"
        middle = "worse ┊ better"
        gap = max(1, room // 2 - len(ends) - middle.index("┊"))
        axis = fit(ends + " " * gap + middle, room - len(ends)) + f"{scale:+.2g}"
        found.append(Line(((" " * label, ""), (axis, "faint"))))
    return [*found, Line(())]


def _measured(row: ExperimentRow) -> bool:
    values = (row.effect, row.effect_low, row.effect_high)
    return all(value is not None and math.isfinite(value) for value in values)


def _word(row: ExperimentRow | None) -> str:
    if row is None:
        return ""
    sign, word, _ = LOOKS.get(
        row.verdict if row.verdict and row.state == "settled" else row.state, ("?", row.state, "")
    )
    return f"{sign} {clean(word)}"


def _effect(row: ExperimentRow | None, half: int) -> str:
    if row is None:
        return ""
    told = interval(row.effect, row.effect_low, row.effect_high)
    if width_of(told) < half or row.effect is None:
        return told
    return plus_minus(row.effect, row.effect_low, row.effect_high)


def _facts(two: Two, rows: Sequence[ExperimentRow | None]) -> list[tuple[str, list[str]]]:
    sides = (two.first, two.second)

    def of(tell: object) -> list[str]:
        return [clean(str(tell(row))) if row is not None else "" for row in rows]  # type: ignore[operator]

    return [
        ("score", of(lambda row: number(row.score) if row.score is not None else "")),
        ("stage", of(lambda row: row.stage)),
        ("trials", [_trials(side) for side in sides]),
        ("took", [_took(side) for side in sides]),
        ("cost", [dollars(side.money.spent) if side.money and side.money.shares else "" for side in sides]),
        ("author", of(lambda row: f"{row.author} {row.author_detail}".strip())),
        ("kind", of(lambda row: row.kind)),
        ("expected", of(lambda row: row.expected_effect)),
        ("lines", of(lambda row: f"+{row.added} -{row.removed}")),
        ("base", of(lambda row: row.base_sha[:12])),
        ("proposed", of(lambda row: when(row.created_at))),
    ]


def _trials(side: Whole) -> str:
    if side.detail is None:
        return ""
    ok = sum(t.outcome == "ok" for t in side.detail.trials)
    return f"{ok} of {len(side.detail.trials)} came to a score"


def _took(side: Whole) -> str:
    seconds = sum(t.seconds for t in side.detail.trials) if side.detail else 0.0
    return duration(seconds) if seconds else ""


def _parameters(rows: Sequence[ExperimentRow | None], width: int, label: int, half: int) -> list[Line]:
    both = [row.parameters if row is not None else {} for row in rows]
    found: list[Line] = []
    for name in sorted({*both[0], *both[1]}):
        values = [_value(one[name]) if name in one else "-" for one in both]
        found += _pair(clean(name), values, width, label, half)
    return [Line(()), Line((("Parameters", "accent"),)), *found] if found else []


def _value(value: object) -> str:
    if isinstance(value, str):
        return clean(value)
    try:
        return clean(json.dumps(value, ensure_ascii=False))
    except (TypeError, ValueError):
        return clean(str(value))


# --- the diffs' difference ---------------------------------------------------------------------------


def difference_title(parts: Sequence[Part], first: str, second: str) -> tuple[Span, ...]:
    both, left, right = counts(parts)
    return (
        (f"{both} alike ", "dim"),
        (f" {left} only {first} ", STYLES[0]),
        (f" {right} only {second}", STYLES[1]),
    )


def difference(parts: Sequence[Part], first: str, second: str, width: int) -> list[Line]:
    """Each changed line after the name of the experiment that alone has it; what both have is dim."""
    if not any(part.changes or part.note for part in parts):
        return [Line((("neither of them changed a line", "faint"),))]
    room = max(len(first), len(second), 4) + 1
    heads = {"=": ("both", "faint"), "1": (first, STYLES[0]), "2": (second, STYLES[1])}
    found: list[Line] = []
    for part in parts:
        found.append(Line((("▍", "accent"), (fit(shown(part.path), width - 1), "strong")), "bar"))
        if part.note:
            found.append(Line(((fit(clean(part.note), width), "italic"),)))
        for side, sign, text in part.changes:
            name, style = heads[side]
            ground = "" if side == "=" else {"+": "added", "-": "removed"}[sign]
            tone = "dim" if side == "=" else ground
            code = fit(shown(text.rstrip("\r")), max(1, width - room - 1))
            mark = {"+": "good", "-": "bad"}[sign]
            found.append(Line(((fit(name, room), style), (sign, mark), (code, tone)), ground))
    return found
