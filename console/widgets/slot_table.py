"""Pane 5: the trials that run, with slot, purpose, seed and time, and what the devices say."""

from __future__ import annotations

from statistics import median
from typing import Any

from console.formats import bar, duration, fit, one_or_more, width_of
from console.plain_text import clean
from console.state import State
from console.widgets.lines import Line, Scene, Span
from engine.store.reading import ReadingRow, TrialRow

STALE_SECONDS = 15.0


def inputs(scene: Scene) -> tuple[object, ...]:
    state = scene.state
    clock = scene.now if any(t.started_at for t in state.running) else None
    stale = tuple(scene.now - r.at > STALE_SECONDS for r in state.readings)
    return state.running, state.readings, state.incumbent, state.baseline, state.alive, clock, stale


def title(scene: Scene) -> tuple[Span, ...]:
    waiting = [t for t in scene.state.running if t.state == "queued"]
    return ((f"{one_or_more(len(waiting), 'trial')} queued", "dim"),) if waiting else ()


def usual_seconds(state: State) -> float | None:
    """How long a trial takes, measured: the median of the incumbent's and the baseline's finished ones."""
    took = [t.seconds for t in (*state.incumbent, *state.baseline) if t.outcome == "ok" and t.seconds > 0]
    return median(took) if took else None


def body(scene: Scene, width: int, height: int) -> list[Line]:
    state = scene.state
    busy = [t for t in state.running if t.state != "queued"]
    usual = usual_seconds(state)
    devices = [_device(r, width, scene.now) for r in state.readings]
    room = max(1, height - min(len(devices), max(1, height - 1)))
    trials = [_trial(t, usual, scene.now, width) for t in busy]
    if len(trials) > room:
        hidden = len(trials) - room + 1
        trials = [*trials[: room - 1], Line(((f"and {one_or_more(hidden, 'more trial')}", "faint"),))]
    if not trials:
        idle = "no trial is running" + (": no engine" if state.alive is False else "")
        trials = [Line(((idle, "faint"),))]
    return [*trials, *(devices or [Line((("no device readings yet", "faint"),))])]


def _trial(trial: TrialRow, usual: float | None, now: float, width: int) -> Line:
    who = f"#{trial.number}" if trial.number is not None else "base"
    spans: list[Span] = [
        ("► " if trial.state == "running" else "› ", "live"),
        (fit(who, 7), "bold"),
        (fit(trial.purpose, 10), ""),
        (fit(f"seed {trial.seed}", 12), "dim"),
        (fit(clean(trial.slot) or "-", 7), "dim"),
    ]
    if trial.attempts > 1:
        spans.append((f"attempt {trial.attempts} ", "warn"))
    if trial.started_at is None:
        return Line((*spans, (trial.state, "faint")))
    elapsed = max(0.0, now - trial.started_at)
    spans.append((f"{duration(elapsed):>7}", ""))
    if usual:
        spans.append((f" of ~{duration(usual)} ", "dim"))
        room = width - sum(width_of(t) for t, _ in spans) - 1
        if room >= 6:
            spans.append(
                (bar(elapsed / usual, min(room, 20)), "live_bar" if elapsed < 1.5 * usual else "warn_bar")
            )
    return Line(tuple(spans))


def _device(row: ReadingRow, width: int, now: float) -> Line:
    data: dict[str, Any] = row.data
    age = now - row.at
    stale = age > STALE_SECONDS
    plain = "faint" if stale else ""
    used, total = _float(data.get("memory_used_mb")), _float(data.get("memory_total_mb"))
    busy = _float(data.get("utilisation"))
    spans: list[Span] = [
        (
            fit(clean(str(data.get("name") or row.device)), max(8, min(24, width - 44))) + " ",
            "faint" if stale else "dim",
        )
    ]
    if busy is not None:
        spans += [(bar(busy / 100, 8), "faint" if stale else "good_bar"), (f" {busy:3.0f} %", plain)]
    if used is not None and total:
        spans.append((f"  {used / 1024:5.1f}/{total / 1024:.0f} GB", plain))
    if (watts := _float(data.get("power_w"))) is not None:
        spans.append((f"  {watts:.0f} W", plain))
    if (heat := _float(data.get("temperature_c"))) is not None:
        spans.append((f"  {heat:.0f} °C", plain if heat < 85 or stale else "bad"))
    if data.get("foreign"):
        spans.append(("  used by others too", "warn"))
    if stale:
        spans.append((f"  {duration(age // 60 * 60)} old" if age >= 60 else "  old", "faint"))
    return Line(tuple(spans))


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
