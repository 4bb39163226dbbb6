"""Reading a long history: the command line's listing, from a shell's point of view."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.bench_engine import timed
from tests.benchmarks.figures import Figure
from tests.seeded import seeded_store

EXPERIMENTS = 10_000


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ratchet-bench-") as name:
        project = Path(name)
        (project / "ratchet.toml").write_text("")
        seeded_store(project / ".ratchet", EXPERIMENTS)
        command = [sys.executable, "-m", "console.cli", "history", "--json", name]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert out.count('"number":') >= EXPERIMENTS
        seconds = timed(lambda: subprocess.run(command, check=True, capture_output=True), 5)
    name_ = f"ratchet history --json, {EXPERIMENTS:,} experiments (median of 5)"
    return [Figure(name_, "<= 0.5 s", seconds, "s", seconds <= 0.5)]
