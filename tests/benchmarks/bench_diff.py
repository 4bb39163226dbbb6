"""A large diff in its pane: the first paint with nothing cached, a scroll step, and when the colours are there.

Run by itself: ``python -m tests.benchmarks.bench_diff``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from console import diff_moves, word_changes
from console.highlight import coloured
from console.state import State, View
from console.widgets import diff_view
from console.widgets.frame import framed
from console.widgets.lines import Scene, strip_of
from tests.benchmarks.figures import Figure, print_table

LINES, HUNKS = 3000, 120
PASSES = 15
WIDTH, HEIGHT = 160, 50


def large_diff(lines: int = LINES, hunks: int = HUNKS) -> str:
    """``lines`` rows of Python in ``hunks`` hunks of six files, a third of them changed, in blocks of several."""
    found: list[str] = []
    each = lines // hunks
    changed = each // 3
    for h in range(hunks):
        if h % (hunks // 6) == 0:
            name = f"model/part_{h}.py"
            found += [
                f"diff --git a/{name} b/{name}",
                "index 3f1c2ab..9d0e77f 100644",
                f"--- a/{name}",
                f"+++ b/{name}",
            ]
        removed, added = changed // 2, changed - changed // 2
        context = each - removed - added
        start = 1 + h * 100
        found.append(f"@@ -{start},{context + removed} +{start},{context + added} @@ class Block_{h}(nn.Module):")
        found += [f"     hidden_{i} = self.norm_{i}(x) + {i}  # of width {h}" for i in range(context // 2)]
        found += [f"-    rate = schedule(step, {i}, warmup=100) * 0.1" for i in range(removed)]
        found += [f"+    rate = schedule(step, {i}, warmup={h}) * 0.2  # 漢字" for i in range(added)]
        found += [f'     text_{i} = """of {h}""" if x else "none"' for i in range(context - context // 2)]
    return "\n".join(found) + "\n"


def run() -> list[Figure]:
    lines = tuple(large_diff().split("\n"))
    rows = sum(line[:1] in "+- " and line[:3] not in ("---", "+++") for line in lines if line)
    assert rows >= LINES - HUNKS and sum(line.startswith("@@") for line in lines) == HUNKS
    return [
        *(_first_paint(lines, split) for split in (False, True)),
        _scroll(lines),
        _colours(lines),
    ]


def scene_of(lines: tuple[str, ...], view: diff_moves.DiffView) -> Scene:
    from tests.console.scenes import NOW, detail, row, state

    shown: State = state(row(1), detail=replace(detail(1), diff=lines))
    return Scene(shown, View(cursor=1, diff=view), NOW, 1)


def _paint(scene: Scene) -> None:
    """All that the message path does for one paint of the pane."""
    from console.layout import Pane

    painted = framed(Pane.DIFF, diff_view.body, diff_view.title)(scene, WIDTH, HEIGHT)
    strips = [strip_of(line, WIDTH) for line in painted]
    assert len(strips) == HEIGHT and sum("│" in strip.text for strip in strips) >= HEIGHT - 1


def _forget() -> None:
    for cached in (diff_view.files_of, diff_view._index, word_changes.word_changes, word_changes.paired):
        cached.cache_clear()


def _median(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Milliseconds, the median of PASSES."""
    times = []
    for _ in range(PASSES):
        before()
        started = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def _first_paint(lines: tuple[str, ...], split: bool) -> Figure:
    scene = scene_of(lines, diff_moves.DiffView(split=split))
    value = _median(lambda: _paint(scene), _forget)
    how = "side by side" if split else "unified"
    return Figure(
        f"diff of {LINES:,} lines, {HUNKS} hunks: first paint, {how}", "<= 50 ms", value, "ms", value <= 50
    )


def _scroll(lines: tuple[str, ...]) -> Figure:
    """Down by one row, in colour, among rows that were never in sight before: the dearest step."""
    view = diff_moves.DiffView(split=True)
    scene = scene_of(lines, view)
    everything = list(coloured(diff_view.files_of(lines)))[-1]
    index = diff_view.index_of(lines, view, WIDTH)

    def step() -> None:
        nonlocal view
        view = diff_moves.move(view, HEIGHT, index, HEIGHT - 1)
        _paint(replace(scene, view=replace(scene.view, diff=view), coloured=everything))

    step()
    value = _median(step)
    return Figure("diff: a page further, in colour, side by side", "<= 16 ms", value, "ms", value <= 16)


def _colours(lines: tuple[str, ...]) -> Figure:
    """Off the message path: how long what is in sight stays plain, once Pygments is imported."""
    files = diff_view.files_of(lines)
    next(coloured(files))
    value = _median(lambda: next(coloured(files)))
    whole = _median(lambda: list(coloured(files)))
    print(f"  all colours of the diff, in the thread: {whole:.0f} ms")
    return Figure("diff: colours of what is in sight, in a thread", "<= 100 ms", value, "ms", value <= 100)


if __name__ == "__main__":
    print_table(run())
