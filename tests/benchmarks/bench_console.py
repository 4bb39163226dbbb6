"""The console in a real terminal that answers, on a long history and under a busy campaign, beside other programs.

Every console is the real command; what it watches is written by another process (``live_load``) that holds the
engine's lock. Figures of a machine that does something else meanwhile are figures of that machine.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.console_probe import Probed, cpu_seconds, p50, p95, pressed, resident, watched
from tests.benchmarks.figures import Figure
from tests.console.terminal import Terminal
from tests.seeded import seeded_store

EXPERIMENTS = 10_000
SIZES = ((160, 50), (80, 24))
STARTS = 7
IDLE_SECONDS = 20.0
LIVE_SECONDS = 20.0
KEYS = 100
HOURS = 10
FLAT_MB = 5.0
PAINT, IDLE_BYTES, IDLE_CPU, LIVE_BYTES, LIVE_CPU, KEY_MS, MEMORY_MB = 0.5, 1024, 1.0, 15 * 1024, 5.0, 50.0, 80.0


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        project = Path(name)
        (project / "ratchet.toml").write_text("")
        seeded_store(project / ".ratchet", EXPERIMENTS)
        ours = [Probed("ratchet", *size) for size in SIZES]
        with load(project, "still"):
            for one in ours:
                _idle(one, project)
        with load(project, "live"):
            for one in ours:
                _first_paints(one, project)
                _live(one, project)
        _memory(ours, project)
    others = [*_htop(), _textual_demo()]
    print_matrix([*ours, *others])
    return [figure for one in ours for figure in _figures(one)]


# --- the console -------------------------------------------------------------------------------------


def console(project: Path, one: Probed) -> Terminal:
    command = [sys.executable, "-P", "-m", "console.cli", "console", str(project), "--attach-only"]
    # A person's own settings would be measured as well.
    return Terminal(command, one.width, one.height, environment={"XDG_CONFIG_HOME": str(project)})


@contextmanager
def load(project: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.benchmarks.live_load", str(project / ".ratchet"), how]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n", "the load did not start"
        yield process
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def _there(text: str) -> bool:
    """The newest rows are on the screen."""
    return "1 Experiments" in text and re.search(r"\b100\d\d .*(drafting|running)", text) is not None


def _first_paints(one: Probed, project: Path) -> None:
    cpu = []
    for _ in range(STARTS):
        with console(project, one) as terminal:
            one.paints.append(terminal.until(_there))
            cpu.append(cpu_seconds(terminal.pid))
    one.paints.sort()
    one.paint, one.paint_cpu = statistics.median(one.paints), statistics.median(cpu)
    print(f"  {one.title}: first paint (s) " + " ".join(f"{s:.2f}" for s in one.paints), flush=True)


def _idle(one: Probed, project: Path) -> None:
    with console(project, one) as terminal:
        terminal.until(_there)
        terminal.pump(5.0)
        one.idle_bytes, one.idle_cpu = watched(terminal, IDLE_SECONDS)
        one.memory = resident(terminal.pid)


def _live(one: Probed, project: Path) -> None:
    """With the proposal that is being written in sight, and the curves and the log where there is room."""
    with console(project, one) as terminal:
        terminal.until(_there)
        terminal.type("b")  # up to the newest: the draft
        if one.width < 100:
            terminal.type("2")
        terminal.until(lambda text: re.search(r"\[\d+\]", text) is not None)
        terminal.pump(5.0)
        one.live_bytes, one.live_cpu = watched(terminal, LIVE_SECONDS)
        assert re.search(r"\[\d+\]", terminal.text), f"no stream in sight\n{terminal.text}"
        if one.width < 100:
            terminal.type("1")
            terminal.pump(0.5)
        one.first_bytes, one.effects = pressed(terminal, "jk" * (KEYS // 2), lambda: _cursor(terminal))
        _say_keys(one)


def _cursor(terminal: Terminal) -> tuple[str, ...]:
    """The grounds of the list's rows: they change when the cursor moves, and only then."""
    return tuple(terminal.screen.buffer[y][3].bg for y in range(terminal.screen.lines))


def _say_keys(one: Probed) -> None:
    for what, found in (("first byte", one.first_bytes), ("effect", one.effects)):
        if found:
            print(f"  {one.title}: key to {what} (ms): n {len(found)}, p50 {p50(found):.0f}, p95 {p95(found):.0f},"
                  f" max {found[-1]:.0f}", flush=True)  # fmt: skip


def _memory(ours: Sequence[Probed], project: Path) -> None:
    """All sizes at once, while ten hours of the load pass in minutes."""
    with load(project, f"{HOURS}") as process:
        terminals = [console(project, one) for one in ours]
        try:
            for terminal, one in zip(terminals, ours, strict=True):
                terminal.until(_there, 60)
                terminal.pump(2.0)
                one.memory = resident(terminal.pid)
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            said = b""
            print("  resident MB (" + ", ".join(f"{one.width}x{one.height}" for one in ours) + "):", end="")
            while b"done" not in said:
                for terminal in terminals:
                    terminal.pump(0.25)
                if fresh := process.stdout.read(1000):  # None: nothing new
                    said += fresh
                    print(" " + "/".join(f"{resident(t.pid):.1f}" for t in terminals), end="", flush=True)
                assert process.poll() is None, "the load ended early"
            print()
            for terminal, one in zip(terminals, ours, strict=True):
                terminal.pump(3.0)
                one.memory_later = resident(terminal.pid)
                assert re.search(r"\b1[01]\d{3} ", terminal.text), terminal.text  # it followed all the while
        finally:
            for terminal in terminals:
                terminal.__exit__()


# --- others, to know what is usual -------------------------------------------------------------------


def _htop() -> list[Probed]:
    if shutil.which("htop") is None:
        print("  htop is not installed: no column of its own")
        return []
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        # Its own defaults: a person's settings would be measured, and rewritten at its end.
        return [_other("htop", ["htop"], lambda text: "F10" in text and "PID" in text, ["\x1b[B", "\x1b[A"], name)]


def _textual_demo() -> Probed:
    command = [sys.executable, "-m", "textual"]
    return _other(
        "textual demo", command, lambda text: "What is Textual?" in text, ["\t", "\x1b[Z"], "/nonexistent"
    )


def _other(name: str, command: list[str], there: Callable[[str], bool], keys: list[str], config: str) -> Probed:
    one = Probed(name, *SIZES[0])
    cpu = []
    own = {"XDG_CONFIG_HOME": config, "HTOPRC": f"{config}/htoprc"}
    for _ in range(STARTS):
        with Terminal(command, one.width, one.height, environment=own) as terminal:
            one.paints.append(terminal.until(there))
            cpu.append(cpu_seconds(terminal.pid))
    one.paint, one.paint_cpu = statistics.median(one.paints), statistics.median(cpu)
    with Terminal(command, one.width, one.height, environment=own) as terminal:
        terminal.until(there)
        terminal.pump(5.0)
        one.idle_bytes, one.idle_cpu = watched(terminal, IDLE_SECONDS)
        one.memory = resident(terminal.pid)
        one.first_bytes, _ = pressed(terminal, keys * (KEYS // 4))
    return one


# --- what is told ------------------------------------------------------------------------------------


def print_matrix(columns: Sequence[Probed]) -> None:
    rows: list[tuple[str, str, Callable[[Probed], float], str]] = [
        ("first paint, median (s)", f"<= {PAINT}", lambda p: p.paint, ".2f"),
        ("  of it computing (s)", "", lambda p: p.paint_cpu, ".2f"),
        ("idle, bytes/s", f"<= {IDLE_BYTES}", lambda p: p.idle_bytes, ",.0f"),
        ("idle, % of a core", f"<= {IDLE_CPU:g}", lambda p: p.idle_cpu, ".2f"),
        ("live, bytes/s", f"<= {LIVE_BYTES}", lambda p: p.live_bytes, ",.0f"),
        ("live, % of a core", f"<= {LIVE_CPU:g}", lambda p: p.live_cpu, ".2f"),
        ("key to first byte, p50 (ms)", "", lambda p: p50(p.first_bytes), ".1f"),
        ("key to first byte, p95 (ms)", f"<= {KEY_MS:g}", lambda p: p95(p.first_bytes), ".1f"),
        ("key to its effect, p50 (ms)", "", lambda p: p50(p.effects), ".1f"),
        ("key to its effect, p95 (ms)", f"<= {KEY_MS:g}", lambda p: p95(p.effects), ".1f"),
        ("memory after the start (MB)", f"<= {MEMORY_MB:g}", lambda p: p.memory, ".1f"),
        (f"memory {HOURS} simulated hours later (MB)", f"<= {MEMORY_MB:g}", lambda p: p.memory_later, ".1f"),
    ]
    table = [("", "goal", *(p.title for p in columns))]
    for name, goal, figure, form in rows:
        cells = ["-" if math.isnan(found := figure(p)) else format(found, form) for p in columns]
        table.append((name, goal, *cells))
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    for row in table:
        cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())


def _figures(one: Probed) -> list[Figure]:
    at = f"console {one.width}x{one.height}"
    grown = one.memory_later - one.memory
    key = p95(one.effects)
    return [
        Figure(f"{at}, {EXPERIMENTS:,} experiments, under load: first paint (median of {STARTS})", f"<= {PAINT} s",
               one.paint, "s", one.paint <= PAINT),
        Figure(f"{at}, idle, one silent trial", "<= 1 KB/s", one.idle_bytes, "B/s", one.idle_bytes <= IDLE_BYTES),
        Figure(f"{at}, idle", "<= 1 % of a core", one.idle_cpu, "%", one.idle_cpu <= IDLE_CPU),
        Figure(f"{at}, 8 trials and a stream", "<= 15 KB/s", one.live_bytes, "B/s", one.live_bytes <= LIVE_BYTES),
        Figure(f"{at}, 8 trials and a stream", "<= 5 % of a core", one.live_cpu, "%", one.live_cpu <= LIVE_CPU),
        Figure(f"{at}, key to its effect under load (p95)", "<= 50 ms", key, "ms", key <= KEY_MS),
        Figure(f"{at}, memory {HOURS} simulated hours later", "<= 80 MB", one.memory_later, "MB",
               one.memory_later <= MEMORY_MB),
        Figure(f"{at}, memory grown over them", f"<= {FLAT_MB:g} MB", grown, "MB", grown <= FLAT_MB),
    ]  # fmt: skip
