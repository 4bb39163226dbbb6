"""How busy devices would be, before they are rented: the real engine on a virtual clock."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from console.formats import roughly
from console.place import find_project, json_option, reader_of
from console.shapes import dumps
from engine.clock import Clock, RealClock
from engine.errors import NothingToDo, RatchetError, UsageError

if TYPE_CHECKING:
    from engine.simulated_plan import Findings, Plan

MOST_DEVICES = 1024
LEAST_PROPOSE = 0.1  # seconds; a search takes less, which changes nothing
QUIET_SECONDS, EVERY_SECONDS = 2.0, 0.5  # before the first word about how far it is, and between two
RATE_SECONDS = 30.0  # of the machine's time, over which the pace of the simulation is taken
WORK = {
    "calibrate": "calibration",
    "screen": "first runs of candidates",
    "confirm": "confirmations",
    "anchor": "incumbent and keeps on fresh seeds",
    "fill": "gaps filled with the incumbent",
}
FALLBACK: Mapping[str, Any] = {"devices": 8, "trial_seconds": 300.0, "propose_seconds": 60.0, "drafts": 0}


def devices_and_seconds(text: str) -> tuple[int, float]:
    """``8x300``: devices of one kind, and the seconds that a run takes on it; click.BadParameter otherwise."""
    count, cross, seconds = text.partition("x")
    try:
        room = int(count), float(seconds)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number of devices and seconds of a run, like 8x300") from None
    if not cross or not 1 <= room[0] <= MOST_DEVICES or not 1 <= room[1] <= 1e6:
        raise click.BadParameter(f"{text!r}: expected 1 to {MOST_DEVICES} devices, and runs of 1 second or more")
    return room


@click.command(
    epilog="Examples: ratchet simulate --devices 64 --hours 8   |   ratchet simulate --host 8x300 --host 4x700   |"
    "   ratchet simulate --propose-seconds 600 --review-minutes 20 --json"
)
@click.option("--devices", type=click.IntRange(1, MOST_DEVICES), help="Runs at once.  [default: 8]")
@click.option("--trial-seconds", type=click.FloatRange(1, 1e6), help="Of one run.  [default: 300]")
@click.option(
    "--host",
    "hosts",
    type=devices_and_seconds,
    metavar="NxSECONDS",
    multiple=True,
    help="Devices of one kind and the seconds of a run on it, like 8x300; may be given again.",
)
@click.option(
    "--propose-seconds", type=click.FloatRange(LEAST_PROPOSE, 1e6), help="Until a proposal comes.  [default: 60]"
)
@click.option("--drafts", type=click.IntRange(0, 4096), help="Proposals ahead; 0 = by need.  [default: 0]")
@click.option(
    "--review-minutes",
    type=click.FloatRange(0, 1e5),
    default=0.0,
    show_default=True,
    help="Until a person accepts a proposal; 0 = nobody is asked.",
)
@click.option("--keep-rate", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Truly good ones.")
@click.option("--hours", type=click.FloatRange(0.1, 1000), default=2.0, show_default=True, help="Virtual hours.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same campaign.")
@click.option(
    "--engine-time", is_flag=True, help="Its own processor time passes, too: no two runs are quite the same then."
)
@click.option("--no-project", is_flag=True, help="Take nothing from the project here.")
@json_option
def simulate(as_json: bool, no_project: bool, **asked: Any) -> int:
    """Run the real engine over imagined devices and proposals, on a virtual clock, and tell where time is lost.

    In a project, what is not given comes from its ratchet.toml and from what its newest campaign took.
    """
    from engine.simulated_plan import Plan
    from engine.simulation import simulate as run

    if asked["hosts"] and (asked["devices"] is not None or asked["trial_seconds"] is not None):
        raise UsageError(
            "--host says how many devices there are, and how long a run takes", "give one or the other"
        )
    if sum(count for count, _ in asked["hosts"]) > MOST_DEVICES:
        raise UsageError(f"more than {MOST_DEVICES} devices", f"--host: {MOST_DEVICES} in all at most")
    known = Known() if no_project else of_project()
    values = {**FALLBACK, **known.values, **{k: v for k, v in asked.items() if v is not None}}
    sources = {k: v for k, v in known.sources.items() if asked[k] is None}
    if asked["hosts"]:
        values["devices"] = sum(count for count, _ in asked["hosts"])
        values["trial_seconds"] = asked["hosts"][0][1]
        sources = {k: v for k, v in sources.items() if k not in ("devices", "trial_seconds")}
    plan = Plan(**values, judge=known.judge)
    found = run(plan, Progress(plan.hours, RealClock()) if sys.stderr.isatty() else lambda hours: None)
    if as_json:
        shown = {k: v for k, v in asdict(plan).items() if k != "judge"}
        result = {**shown, **asdict(found), "hours": plan.hours, "simulated_hours": found.hours}
        result |= {"hosts": plan.rooms, "drafts": plan.drafts, "drafts_needed": found.drafts, "sources": sources}
        click.echo(dumps(result))
    else:
        click.echo("\n".join(lines(plan, found, sources)))
    return 0 if found.hours >= plan.hours else 130


# --- what the project says ----------------------------------------------------------------------------


@dataclass
class Known:
    """Values of a plan, and where each is from."""

    values: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    judge: str = ""

    def take(self, key: str, value: Any, source: str) -> None:
        self.values[key], self.sources[key] = value, source


def of_project() -> Known:
    """From the project here, if there is one; a ratchet.toml that cannot be read is told and left alone."""
    known = Known()
    try:
        project = find_project(None)
    except UsageError:
        return known
    from engine import config as configuration

    try:
        config = configuration.load(project)
    except RatchetError as error:
        click.echo(f"ratchet.toml is left aside: {error.message}", err=True)
        return known
    if not config.trial.steps:
        known.take("trial_seconds", float(config.trial.train_seconds), "ratchet.toml")
    if config.proposer.drafts:
        known.take("drafts", config.proposer.drafts, "ratchet.toml")
    keys = ("mode", "calibrate_seeds", "confirm_seeds", "confirm_alpha", "screen_sigma", "anchor_seeds")
    known.judge = "\n".join(f"{key} = {dumps(getattr(config.judge, key))}" for key in keys)
    from engine.store import reading, reading_hosts, reading_pace

    try:
        conn = reader_of(project).conn
    except NothingToDo:
        return known
    campaign = reading.campaign(conn)
    if campaign is not None:
        proposing, running = reading_pace.pace_of(conn, campaign.id, config.proposer.kind)
        if proposing:
            known.take("propose_seconds", max(LEAST_PROPOSE, proposing), "measured here")
        if running:
            known.take("trial_seconds", max(1.0, running), "measured here")
    if slots := sum(row.capacity for row in reading_hosts.hosts(conn) if not row.drained):
        known.take("devices", min(slots, MOST_DEVICES), "its hosts")
    return known


# --- what is told -------------------------------------------------------------------------------------


class Progress:
    """One line that says how far it is, rewritten in its place."""

    def __init__(self, hours: float, clock: Clock) -> None:
        self.hours, self._clock = hours, clock
        self._began = self._said = clock.monotonic()
        self._pace: deque[tuple[float, float]] = deque([(self._began, 0.0)])
        self._shown = False

    def __call__(self, hours: float) -> None:
        now = self._clock.monotonic()
        if hours >= self.hours - 0.001 and self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            return
        if now - self._began < QUIET_SECONDS or now - self._said < EVERY_SECONDS:
            return
        self._said, self._shown = now, True
        self._pace.append((now, hours))
        while now - self._pace[0][0] > RATE_SECONDS:
            self._pace.popleft()
        # The newest pace, since a campaign grows slower as it grows: the mean from the start would flatter.
        at, then = self._pace[0]
        left = (self.hours - hours) * (now - at) / max(hours - then, 1e-9)
        said = f"simulated {hours:.2f} of {self.hours:g} h, {roughly(left)} left (Ctrl-C: what is known)"
        click.echo(f"\r{said[:79]}\x1b[K", err=True, nl=False)


def lines(plan: Plan, found: Findings, sources: Mapping[str, str]) -> list[str]:
    """For people, within 80 columns."""
    rooms = " + ".join(f"{count} devices with runs of {seconds:g} s" for count, seconds in plan.rooms)
    rooms = rooms.replace("1 devices", "1 device") if plan.capacity == 1 else rooms
    said = [f"{rooms}, a proposal takes {plan.propose_seconds:.3g} s"]
    if sources:
        names = {"trial_seconds": "runs", "propose_seconds": "proposals"}
        said.append("taken from here: " + ", ".join(f"{names.get(k, k)} ({v})" for k, v in sources.items()))
    if found.hours < plan.hours:
        said.append(f"interrupted: what follows is of {found.hours:.2f} of {plan.hours:g} h")
    said += [
        "",
        f"experiments  {found.experiments} in {found.hours:.3g} h, {found.experiments_an_hour:.1f} an hour; "
        f"{found.keeps} kept",
        f"runs         {found.trials}",
    ]
    said += [f"  {share:6.1%}  {WORK.get(name, name)}" for name, share in _largest(found.work)]
    said.append(
        f"idle         {found.idle:.2%} of all device time; {found.idle_steady:.2%} once all had been busy"
    )
    said += [f"  {share:6.2%}  {cause}" for cause, share in _largest(found.causes)]
    said += [
        f"next start   p50 {found.gap_p50:.2f} s, p90 {found.gap_p90:.2f} s, p99 {found.gap_p99:.2f} s "
        "after a run's end",
        f"proposals    {found.drafts} ahead" + ("" if plan.drafts else ", as many as the times need"),
        f"engine       {found.engine_seconds_an_hour:.1f} s of processor time an hour "
        f"({found.engine_seconds_an_hour / 3600:.2%} of a core),",
        "             without git, hosts and proposers"
        + ("; it passed on the clock, too" if plan.engine_time else ""),
    ]
    return said


def _largest(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(((k, v) for k, v in shares.items() if v >= 0.00005), key=lambda item: -item[1])
