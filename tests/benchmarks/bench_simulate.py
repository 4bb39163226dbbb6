"""How busy the real engine keeps its devices, on the virtual clock; and what a thousand of them cost it."""

from __future__ import annotations

from engine.simulation import Findings, Plan, simulate
from tests.benchmarks.figures import Figure

HOURS = 4.0
PROPOSE_SECONDS = (60.0, 180.0, 600.0)
MANY_DEVICES, MANY_HOURS = 1024, 0.5


def run() -> list[Figure]:
    figures = []
    for seconds in PROPOSE_SECONDS:
        found = simulate(Plan(devices=8, trial_seconds=300.0, propose_seconds=seconds, hours=HOURS))
        print(f"  8 devices, proposals of {seconds:g} s: {_said(found)}")
        name = f"8 devices, 300 s trials, {seconds:g} s proposals: idle in {HOURS:g} h"
        figures.append(Figure(name, "<= 1 %", 100 * found.idle, "%", found.idle <= 0.01))
    # What keeps the engine busy makes it late: with so many devices its own time must pass on the clock.
    plan = Plan(
        devices=MANY_DEVICES, trial_seconds=300.0, propose_seconds=180.0, hours=MANY_HOURS, engine_time=True
    )
    found = simulate(plan)
    print(f"  {MANY_DEVICES} devices: {_said(found)}")
    cores = found.engine_seconds_an_hour / 3600
    return [
        *figures,
        Figure(f"{MANY_DEVICES:,} devices: engine", "<= 1 core", cores, "cores", cores <= 1),
        Figure(
            f"{MANY_DEVICES:,} devices: a run's end to the next start (p90)",
            "<= 1 s",
            found.gap_p90,
            "s",
            found.gap_p90 <= 1,
        ),
    ]


def _said(found: Findings) -> str:
    causes = ", ".join(f"{cause} {share:.2%}" for cause, share in found.causes.items() if share)
    return f"idle {found.idle:.2%} ({causes}); {found.experiments_an_hour:.0f} experiments an hour"
