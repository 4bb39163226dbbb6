"""Pane 1: the history, newest on top. Windowed: only the rows in sight are formatted, or even loaded."""

from __future__ import annotations

from console.formats import count, fit, forest, one_or_more, plus_minus
from console.keymap import press
from console.plain_text import clean
from console.state import Listed, State
from console.widgets.lines import Line, Scene, Span

# verdict or state: sign, word, style
LOOKS: dict[str, tuple[str, str, str]] = {
    "keep": ("▲", "keep", "kept"),
    "discard": ("·", "discard", "dim"),
    "crash": ("✗", "crash", "bad"),
    "invalid": ("!", "invalid", "warn"),
    "cancelled": ("○", "cancel", "faint"),
    "drafting": ("✎", "drafting", "accent"),
    "review": ("◆", "review?", "warn"),
    "ready": ("›", "ready", "accent"),
    "measuring": ("►", "running", "live"),
    "judging": ("►", "judging", "live"),
    "keep_review": ("◆", "keep?", "warn"),
    "merging": ("▲", "merging", "good"),
}
SCALE_SIGMAS = 4.0


def inputs(scene: Scene) -> tuple[object, ...]:
    state = scene.state
    waiting = bool(state.requests)
    return (
        state.listed,
        state.campaign and state.campaign.calibration,
        scene.number,
        scene.view.cursor is None,
        scene.view.focus,
        state.problem,
        state.counts,
        state.steering.pins,
        waiting,
    )


def title(scene: Scene) -> tuple[Span, ...]:
    counts = scene.state.counts
    if not scene.state.newest:
        return ()
    spans: list[Span] = [(f"{count(scene.state.newest)}", "dim")]
    if kept := counts.get("keep"):
        spans += [(" · ", "faint"), (f"{count(kept)} kept", "good")]
    if scene.view.cursor is None:
        spans += [(" · following", "faint")]
    return tuple(spans)


def top_row(scene: Scene, rows: int) -> int:
    """The newest number in sight: the selection moves the window only when it must leave it.

    Pure in the selection, so that two consoles and a restart show the same place.
    """
    newest = scene.state.newest
    index = newest - (scene.number or newest)
    if index < rows - 2:
        return newest
    page = max(1, rows // 2)
    return newest - min(((index - rows + 2) // page + 1) * page, max(0, newest - rows))


def rows_in_sight(scene: Scene, height: int) -> tuple[int, int]:
    """(lowest, highest) number on the screen, for the feed to load; ``height`` is the pane's."""
    rows = max(1, height - 2)
    top = top_row(scene, rows)
    return max(1, top - rows + 1), top


def body(scene: Scene, width: int, height: int) -> list[Line]:
    state = scene.state
    if not state.newest:
        return empty(state, width)
    lines = [_headings(width)]
    rows = height - 1
    top = top_row(scene, rows)
    sigma = (state.campaign.calibration or {}).get("sigma") if state.campaign else None
    scale = SCALE_SIGMAS * sigma if isinstance(sigma, float) else 0.0
    for number in range(top, max(0, top - rows), -1):
        fill = ""
        if number == scene.number:
            fill = "cursor" if scene.view.focus == "experiments" else "quiet"
        row = state.listed.get(number)
        if row is None:
            known = number in state.listed
            lines.append(
                Line(((f"{number:>5} ", "faint"), ("no such experiment" if known else "…", "faint")), fill)
            )
        else:
            lines.append(Line(_cells(row, width, scale, number in state.steering.pins), fill))
    return lines


def _widths(width: int) -> tuple[bool, bool, bool]:
    """Whether stage, author and the drawn interval have room."""
    return width >= 80, width >= 48, width >= 104


def _headings(width: int) -> Line:
    stage, author, drawn = _widths(width)
    text = f"{'#':>5}   {'verdict':<9}"
    if stage:
        text += f"{'stage':<8}"
    text += f"{'effect, better is +':<20}" if drawn else f"{'effect':<16}"
    if drawn:
        text += f"{'worse ┊ better':<16}"
    if author:
        text += f"{'author':<8}"
    return Line(((fit(text + "title", width), "faint"),))


def _cells(row: Listed, width: int, scale: float, pinned: bool = False) -> tuple[Span, ...]:
    stage, author, drawn = _widths(width)
    sign, word, style = LOOKS.get(
        row.verdict if row.verdict and row.state == "settled" else row.state, ("?", row.state, "dim")
    )
    settled = row.state == "settled"
    spans: list[Span] = [(f"{row.number:>5} ", "dim"), (f"{sign} ", style), (fit(word, 9), style)]
    if stage:
        spans.append((fit(clean(row.stage), 8), "faint" if settled else "accent"))
    effect_style = "dim"
    if row.effect is not None and row.low is not None and row.high is not None:
        effect_style = "good" if row.low > 0 else "bad" if row.high < 0 else ""
        if settled and row.verdict != "keep" and effect_style != "good":
            effect_style = "dim"
    spans.append((fit(plus_minus(row.effect, row.low, row.high), 20 if drawn else 16), effect_style))
    if drawn:
        mark = " " * 15
        if row.effect is not None and row.low is not None and row.high is not None:
            mark = forest(row.effect, row.low, row.high, scale, 15)
        spans.append((mark + " ", effect_style if settled else "faint"))
    if author:
        spans.append((fit(clean(row.author), 8), "dim"))
    if pinned:
        spans.append(("⚑ ", "accent"))
    used = sum(len(t) for t, _ in spans)
    named = clean(row.title) or ("a proposal is being written" if row.state == "drafting" else "untitled")
    tone = "bold" if row.verdict == "keep" else "" if settled or row.title else "italic"
    return (*spans, (fit(named, max(1, width - used)), tone))


def empty(state: State, width: int) -> list[Line]:
    """Nothing to list: say what happens next, or what to do."""
    from console.formats import wrap

    if state.problem:
        texts = [(state.problem, "warn"), (state.mend, "")]
    elif state.campaign is None:
        texts = [
            ("No campaign yet.", "bold"),
            ("`ratchet run` starts one here; this page follows it by itself.", ""),
        ]
    elif state.campaign.calibration is None:
        done = len([t for t in state.baseline if t.purpose == "calibrate" and t.state == "done"])
        asked = len([t for t in state.baseline if t.purpose == "calibrate"])
        told = f"{done} of {one_or_more(asked, 'run')} done" if asked else "the first run is being prepared"
        texts = [
            ("Calibrating", "bold"),
            (
                "The untouched baseline runs on several seeds, to learn how much luck is in one score: "
                f"{told}. Proposals are measured after that.",
                "",
            ),
        ]
    elif state.alive is False:
        texts = [
            ("No experiments yet, and no engine is running.", "bold"),
            (f"{press('start_engine')} starts the engine.", ""),
        ]
    else:
        texts = [("No experiments yet.", "bold"), ("The proposer is about to write the first one.", "")]
    return [Line(()), *(Line(((text, style),)) for told, style in texts for text in wrap(told, width - 2))]
