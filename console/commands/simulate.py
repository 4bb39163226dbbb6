"""How busy devices would be, before they are rented: the real engine on a virtual clock."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from console.place import json_option
from console.shapes import dumps


@click.command(
    epilog="Examples: ratchet simulate --devices 8 --propose-seconds 180   |   ratchet simulate --hours 8 --json"
)
@click.option("--devices", type=click.IntRange(1, 1024), default=8, show_default=True, help="Runs at once.")
@click.option("--trial-seconds", type=click.FloatRange(1), default=300.0, show_default=True, help="Of one run.")
@click.option(
    "--propose-seconds",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    help="Until a proposal comes.",
)
@click.option(
    "--drafts", type=click.IntRange(0), default=0, show_default=True, help="Proposals ahead; 0 = by need."
)
@click.option("--keep-rate", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Truly good ones.")
@click.option("--hours", type=click.FloatRange(0.1, 1000), default=2.0, show_default=True, help="Virtual hours.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same campaign.")
@json_option
def simulate(as_json: bool, **plan: Any) -> None:
    """Run the real engine over imagined devices and proposals, on a virtual clock, and tell where time is lost."""
    from engine.simulation import Plan
    from engine.simulation import simulate as run

    found = run(Plan(**plan))
    if as_json:
        click.echo(dumps({**plan, **asdict(found), "drafts": plan["drafts"], "drafts_needed": found.drafts}))
        return
    click.echo(
        f"{plan['devices']} devices, {plan['hours']:g} h, seed {plan['seed']}: {found.experiments} experiments "
        f"({found.experiments_an_hour:.1f} an hour), {found.keeps} keeps, {found.trials} runs"
    )
    click.echo(f"idle {found.idle:.2%} of all device time, {found.idle_steady:.2%} once all had been busy:")
    for cause, share in found.causes.items():
        click.echo(f"  {cause:<24} {share:.2%}")
    click.echo(f"from a run's end to the next start: p50 {found.gap_p50:.2f} s, p90 {found.gap_p90:.2f} s")
    click.echo(
        f"proposals ahead: {found.drafts}; engine: {found.engine_seconds_an_hour:.1f} s of processor time a "
        "simulated hour, without git, hosts and the proposer's own"
    )
