"""``make bench``: every claim about speed, goal and figure side by side. Exit 1 when one is missed."""

from __future__ import annotations

import importlib
import os
import sys

from tests.benchmarks.figures import Figure, print_table
from tests.engine.engine_process import end_leftovers

PARTS = (
    "bench_engine", "bench_history", "bench_brief", "bench_claude", "bench_console", "bench_diff", "bench_chart",
    "bench_remote", "bench_simulate",
)  # fmt: skip


def main(names: list[str]) -> int:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before the start")
    figures: list[Figure] = []
    for name in names or PARTS:
        print(f"{name} ...", flush=True)
        try:
            figures += importlib.import_module(f"tests.benchmarks.{name}").run()
        finally:
            end_leftovers()
    print_table(figures)
    return 0 if all(f.ok for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
