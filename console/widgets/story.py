"""One experiment in words: what was expected and what was measured, the arithmetic, who decided, what it cost,
and its trials as rows. Pure painters."""

from __future__ import annotations

import json
from collections.abc import Sequence

from console.formats import count, dollars, duration, fit, interval, number, one_or_more, width_of, wrap
from console.keymap import press
from console.page_sources import Whole
from console.plain_text import clean
from console.screen_keys import EXPERIMENT
from console.transcript import CUT
from console.widgets.experiment_list import LOOKS
from console.widgets.history_table import when
from console.widgets.lines import Line, Span
from console.widgets.proposal_stream import OUTCOMES
from engine.store.reading_money import DEVICE, MODEL, Money
from engine.store.reading_screens import DecisionRow
from engine.store.rows import ExperimentRow, TrialRow


def verdict_spans(row: ExperimentRow) -> list[Span]:
    """``▲ keep  +0.0123 [+0.0080, +0.0166]``."""
    sign, word, style = LOOKS.get(
        row.verdict if row.verdict and row.state == "settled" else row.state, ("?", clean(row.state), "dim")
    )
    spans: list[Span] = [(f"{sign} {word}", style)]
    if row.effect is not None:
        spans.append((f"  {interval(row.effect, row.effect_low, row.effect_high)}", "bold"))
    return spans


def lines(whole: Whole, width: int) -> list[Line]:
    """All of it, one section under the other; sections without anything to say are left out."""
    assert whole.detail is not None
    row = whole.detail.row
    found = [Line(((part, "bold"),)) for part in wrap(row.title or _untitled(row), width - 1)]
    who = clean(f"{row.author} {row.author_detail}".strip())
    made = f"{who}, {when(row.created_at)}" + (f" · {clean(row.kind)}" if row.kind else "")
    found.append(Line(((made, "faint"),)))
    if row.outcome:
        found += _section("This draft came to no proposal", [(f"{row.outcome}: {row.reason}", "warn")], width)
    found += _section("Hypothesis", [(row.hypothesis, "")], width)
    found += _section("What would refute it", [(row.refuted_by, "")], width)
    found += _expected(row, whole.metric, width)
    if not row.outcome:
        found += _verdict(row, width)
    found += _decided(whole.decisions, row, width)
    found += _repairs(whole, width)
    if row.parameters:
        told = [(f"{name} = {_value(value)}", "") for name, value in sorted(row.parameters.items())]
        found += _section("Parameters", told, width)
    found += _cost(whole.money, whole.detail.trials, width)
    found += _section("Versions", _versions(row), width)
    return found


def _untitled(row: ExperimentRow) -> str:
    return "a proposal is being written" if row.state == "drafting" else clean(row.outcome) or "untitled"


def _section(heading: str, texts: Sequence[tuple[str, str]], width: int) -> list[Line]:
    told = [(part, style) for text, style in texts if text for part in wrap(text, max(10, width - 1))]
    if not told:
        return []
    return [Line(()), Line(((heading, "accent"),)), *(Line((one,)) for one in told)]


def _expected(row: ExperimentRow, metric: str, width: int) -> list[Line]:
    """What was expected beside what came of it: the two numbers that teach something."""
    if not row.expected_effect and row.effect is None:
        return []
    expected = clean(row.expected_effect) or "nothing was said"
    measured = "not measured yet" if row.state != "settled" else "no score"
    if row.effect is not None:
        measured = f"{interval(row.effect, row.effect_low, row.effect_high)} {clean(metric)[:30]}"
    return [
        Line(()),
        *_labelled("expected", expected, "dim", width),
        *_labelled("measured", measured, "bold" if row.effect is not None else "dim", width),
        *([Line((("          + is better, with its 90 % interval", "faint"),))] if row.effect is not None else []),
    ]


def _labelled(label: str, text: str, style: str, width: int) -> list[Line]:
    return [
        Line(((f"{label if i == 0 else '':<10}", "accent"), (part, style)))
        for i, part in enumerate(wrap(text, max(10, width - 11)))
    ]


def _verdict(row: ExperimentRow, width: int) -> list[Line]:
    found = [Line(()), Line((("Verdict", "accent"),)), Line(tuple(verdict_spans(row)[:1]))]
    if row.verdict is None:
        stage = f"it is in {clean(row.stage)}" if row.stage else "no run has ended yet"
        found.append(Line(((stage, "dim"),)))
    if row.asked:
        found += [Line(((part, "warn"),)) for part in wrap(f"asked because: {row.asked}", width - 1)]
    found += [Line(((part, ""),)) for part in wrap(row.reason, width - 1) if part]
    for step in row.arithmetic:
        for i, part in enumerate(wrap(step, max(10, width - 3))):
            found.append(Line((("· " if i == 0 else "  ", "faint"), (part, "dim"))))
    return found


def _decided(decisions: Sequence[DecisionRow], row: ExperimentRow, width: int) -> list[Line]:
    if not decisions:
        if row.state not in ("review", "keep_review"):
            return []
        live, look = EXPERIMENT.press("leave"), press("open")
        told = f"it waits for yours: {live} takes it to the live screen, {look} looks at it there"
        return _section("Decisions", [(told, "warn")], width)
    said = [
        (f"{when(one.at)}  {one.action} by {one.actor}" + (f": {one.reason}" if one.reason else ""), "")
        for one in decisions
    ]
    return _section("Decisions", said, width)


def _repairs(whole: Whole, width: int) -> list[Line]:
    told = []
    if whole.mends:
        told.append((f"mends {_chain(whole.mends)}", ""))
    if whole.mended_by:
        told.append((f"mended by {_chain(whole.mended_by)}", ""))
    return _section("Repairs", told, width)


def _chain(numbers: Sequence[int]) -> str:
    return " → ".join(f"#{n}" for n in numbers)


def _value(value: object) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(value)


def _cost(money: Money | None, trials: Sequence[TrialRow], width: int) -> list[Line]:
    told: list[tuple[str, str]] = []
    seconds = sum(t.seconds for t in trials)
    if money is not None and money.shares:
        for share in money.shares:
            of = {MODEL: "request", DEVICE: "attempt"}.get(share.kind, share.kind)
            aside = f", {dollars(share.reserved)} set aside" if share.reserved else ""
            told.append((f"{dollars(share.spent)}{aside}  {share.what}, {one_or_more(share.count, of)}", ""))
        tokens = money.tokens
        if tokens.input or tokens.output or tokens.cache_read:
            cached = f", {100 * tokens.cached:.0f} % of the input from the cache" if tokens.cached else ""
            written = tokens.cache_write_5m + tokens.cache_write_1h
            total = tokens.input + tokens.cache_read + written
            told.append((f"{count(total)} tokens in, {count(tokens.output)} out{cached}", "dim"))
        if len(money.shares) > 1:
            told.append((f"{dollars(money.spent)} in all", "bold"))
    if seconds:
        told.append((f"{duration(seconds)} of trials ({one_or_more(len(trials), 'trial')})", "dim"))
    return _section("Cost", told, width)


def _versions(row: ExperimentRow) -> list[tuple[str, str]]:
    told = [f"base {row.base_sha[:12]}"]
    if row.candidate_sha:
        told.append(f"candidate {row.candidate_sha[:12]}")
    if row.commit:
        told.append(f"kept as {row.commit[:12]}")
    return [(", ".join(told), "dim"), (f"+{row.added} -{row.removed} lines", "dim")]


# --- trials ------------------------------------------------------------------------------------------


def trial_rows(
    trials: Sequence[TrialRow], chosen: TrialRow | None, focused: bool, width: int, height: int
) -> list[Line]:
    """Headings and as many trials as fit, the chosen one among them."""
    if not trials:
        return [Line((("no trial yet: they run when it is ready", "faint"),))]
    wide, hosts = width >= 64, width >= 52
    text = f"  {'purpose':<10}{'seed':<12}{'score':<10}{'took':<8}"
    text += f"{'host':<10}" * hosts + f"{'outcome':<12}" * wide
    lines = [Line(((fit(text, width), "faint"),))]
    rows = max(1, height - 1)
    at = next((i for i, one in enumerate(trials) if chosen is not None and one.id == chosen.id), 0)
    top = max(0, min(at - rows // 2, len(trials) - rows))
    for i, trial in enumerate(trials[top : top + rows], top):
        word = clean(trial.outcome or trial.state)
        style = OUTCOMES.get(word, "live" if trial.state == "running" else "dim")
        spans: list[Span] = [
            ("● " if i == at else "  ", "live"),
            (fit(trial.purpose, 10), ""),
            (fit(str(trial.seed), 11) + " ", "dim"),
            (fit(number(trial.score) if trial.score is not None else "" if wide else word, 9) + " ",
             "" if trial.score is not None else style),
            (fit(duration(trial.seconds) if trial.seconds else "", 8), "dim"),
        ]  # fmt: skip
        if hosts:
            spans.append((fit(clean(trial.host or trial.slot), 9) + " ", "dim"))
        if wide:
            spans.append((fit(word, 10), style))
            if trial.attempts > 1:
                spans.append((f"attempt {trial.attempts} ", "warn"))
        if trial.detail:
            room = width - sum(width_of(t) for t, _ in spans)
            spans.append((fit(clean(trial.detail), max(0, room)), "faint"))
        lines.append(Line(tuple(spans), ("cursor" if focused else "quiet") if i == at else ""))
    return lines


def talk_lines(talk: Sequence[str], width: int) -> list[Line]:
    """The conversation, wrapped; who speaks, and what is a tool's, is told by colour too."""
    found: list[Line] = []
    tone = ""
    for text in talk:
        if text.startswith("=== ") and text.endswith(" ==="):
            tone = "" if "assistant" in text else "dim"
            found.append(Line(((clean(text.strip("= ")), "strong"),)))
            continue
        if text == CUT:
            found.append(Line(((text, "warn"),)))
            continue
        if text.startswith("--- ") and text.endswith(" ---"):
            tone = "italic" if "thinking" in text else "dim"
            found.append(Line(((clean(text.strip("- ")), "accent"),)))
            continue
        found += [Line(((part, tone),)) for part in wrap(text, max(10, width - 1))]
    return found
