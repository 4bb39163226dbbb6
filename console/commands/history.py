"""Reading commands: status, history, show. None needs a living engine."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

import click

from console.formats import dollars, one_or_more
from console.host_words import PATIENCE_SECONDS, why_idle
from console.place import campaign_option, find_project, json_option, project_option, reader_of
from console.plain_text import clean
from console.shapes import campaign_shape, dumps, experiment_shape, money_shape, trial_shape, used_shape
from engine import lock
from engine.clock import RealClock
from engine.errors import NothingToDo
from engine.store import reading, reading_hosts, reading_money
from engine.store.reading import Reader
from engine.store.reading_money import Money, Used
from engine.store.rows import CampaignRow, ExperimentRow


def _when(at: float | None) -> str:
    return f"{datetime.fromtimestamp(at):%m-%d %H:%M}" if at else ""


@click.command(epilog="Example: ratchet status --json | jq .counts")
@click.argument("path", required=False)
@campaign_option
@json_option
def status(path: str | None, campaign: str | None, as_json: bool) -> None:
    """Where the campaign stands."""
    from engine.state_folder import state_directory

    project = find_project(path)
    reader = reader_of(project)
    row = reader.campaign(campaign)
    shape = campaign_shape(reader, row, state_directory(project))
    if as_json:
        click.echo(dumps(shape))
        return
    engine = shape["engine"]
    where = f"engine pid {engine['pid']} on {engine['host']}" if engine else "no engine runs (`ratchet start`)"
    click.echo(f"{row.name}: {row.state}, {where}")
    alive = lock.living(state_directory(project))
    if alive is not None and alive.error:
        click.echo(f"  trouble: {clean(alive.error)}\n  mend: {clean(alive.mend)}; it goes on by itself then")
    if row.state == "paused":
        click.echo(
            f"  paused: {clean(row.pause_reason)}"
            + (f"\n  mend: {clean(row.pause_mend)}" if row.pause_mend else "")
        )
    score = shape["incumbent_score"]
    calibration = shape["calibration"]
    if calibration is None:
        noise = ", being calibrated"
    elif calibration["sigma"] is None:
        noise = ", noise not known (one run)"
    else:
        noise = f", sigma {calibration['sigma']:.3g} over {calibration['n']} runs"
    click.echo(f"  {row.metric} ({row.goal}): incumbent {f'{score:.6g}' if score is not None else '?'}{noise}")
    counts = shape["counts"]
    click.echo(
        "  " + ", ".join(f"{n} {k}" for k, n in counts.items() if n)
        if any(counts.values())
        else "  nothing tried yet"
    )
    if shape["outcomes"]:
        click.echo("  drafts without a score: " + ", ".join(f"{n} {k}" for k, n in shape["outcomes"].items()))
    if money := _money(reading_money.money(reader.conn, row.id), row):
        click.echo(f"  {money}")
    if used := _used(reading_money.used(reader.conn, row.id)):
        click.echo(f"  {used}")
    for note in shape["notes"]:
        if note["used_by"] is None:
            click.echo(f"  to the proposer, not yet read: {clean(note['text'])} ({clean(note['by'])})")
    for keep in shape["keeps"][-5:]:
        effect = f" {keep['effect']:+.4g}" if keep["effect"] is not None else ""
        click.echo(f"  kept #{keep['number']}{effect}  {clean(keep['title'])}  {keep['commit'][:12]}")
    for trial in shape["running"]:
        where = trial["slot"] if trial["host"] == "local" else f"{trial['host']} {trial['slot']}"
        click.echo(
            f"  running: trial {trial['id']} ({trial['purpose']}, #{trial['experiment'] or '-'}) on {where}"
        )
    busy, oldest = False, math.inf
    for queued in reading.trials(reader.conn, row.id, open_only=True):
        busy, oldest = busy or queued.state != "queued", min(oldest, queued.created_at)
        if queued.state == "launching" and queued.said:
            click.echo(
                f"  waiting: trial {queued.id} ({queued.purpose}, #{queued.number or '-'})"
                f" on {queued.host}: {clean(queued.said)}"
            )
    now = RealClock().now()
    if engine and row.state == "running" and not busy and oldest < now - PATIENCE_SECONDS:
        why = why_idle(reading_hosts.hosts(reader.conn), now)
        click.echo(f"  nothing runs, {one_or_more(shape['queued'], 'trial')} queued: {why}")
    if shape["waiting_for_you"]:
        ids = ", ".join(f"#{n}" for n in shape["waiting_for_you"])
        click.echo(
            f"  waits for your decision: {ids} (`ratchet show ID`, `ratchet accept ID`, `ratchet reject ID`)"
        )
    for request in shape["requests_waiting"]:
        click.echo(f"  request {request['id']} ({request['kind']}) is {request['state']}")
    click.echo(f"  branch ratchet/{row.name} at {row.head[:12]}")


def _money(money: Money, row: CampaignRow) -> str:
    """Spent and set aside, of what; nothing where nothing costs money."""
    limit = row.limits.get("dollars")
    if not money.shares and limit is None:
        return ""
    of = f" of {dollars(round(limit * 1e9))}" if limit is not None else ""
    text = f"money: {dollars(money.spent)} spent{of}"
    if money.reserved:
        text += f", {dollars(money.reserved)} set aside"
    if money.per_proposal is not None:
        text += f"; {dollars(money.per_proposal)} a proposal"
    if money.per_keep is not None:
        text += f", {dollars(money.per_keep)} a keep"
    if money.tokens.cached is not None:
        text += f"; {money.tokens.cached:.0%} of the input read from cache"
    return text


def _used(used: Used) -> str:
    """``devices: 3.20 device hours in 12 runs, 1.05 kWh in 10 of them``; nothing before a run has ended."""
    if not used.trials:
        return ""
    runs = "1 run" if used.trials == 1 else f"{used.trials} runs"
    text = f"devices: {used.device_seconds / 3600:.3g} device hours in {runs}"
    if used.joules is not None:
        of = "" if used.metered == used.trials else f" in {used.metered} of them"
        text += f", {_energy(used.joules)}{of}"
    return text


def _energy(joules: float) -> str:
    return f"{joules / 3.6e6:.3g} kWh" if joules >= 36_000 else f"{joules:.3g} J"


@click.command(epilog="Examples: ratchet history --verdict keep   |   ratchet history --json | jq '.[].title'")
@click.argument("path", required=False)
@campaign_option
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="Only the newest N.")
@click.option("--verdict", type=click.Choice(["keep", "discard", "crash", "invalid", "cancelled", "open"]))
@json_option
def history(path: str | None, campaign: str | None, last: int | None, verdict: str | None, as_json: bool) -> None:
    """Every experiment, its verdict and its effect (positive is better, with its 90 % interval)."""
    reader = reader_of(find_project(path))
    rows = reading.experiments(reader.conn, reader.campaign(campaign).id, last=None if verdict else last)
    if verdict:
        rows = [r for r in rows if (r.verdict if r.state == "settled" else "open") == verdict]
        rows = rows[-last:] if last else rows
    if as_json:
        click.echo(dumps([experiment_shape(r) for r in rows]))
        return
    if not rows:
        raise NothingToDo("no experiments yet", "`ratchet` or `ratchet run` starts the engine")
    for row in rows:
        word = row.verdict if row.state == "settled" else row.state
        effect = ""
        if row.effect is not None and row.effect_low is not None and row.effect_high is not None:
            effect = f"{row.effect:+.4g} [{row.effect_low:+.4g}, {row.effect_high:+.4g}]"
        score = f"{row.score:.6g}" if row.score is not None else "-"
        click.echo(
            f"{row.number:>5}  {_when(row.created_at)}  {word or '':<11} {score:>10}  {effect:<32} "
            f"{row.author:<7} {clean(row.title)}"
        )


def experiment_of(reader: Reader, campaign: str | None, number: int) -> tuple[CampaignRow, ExperimentRow]:
    found = reader.campaign(campaign)
    row = reading.experiment(reader.conn, found.id, number)
    if row is None:
        raise NothingToDo(f"there is no experiment {number}", "`ratchet history` lists them")
    return found, row


@click.command(epilog="Examples: ratchet show 12   |   ratchet show 12 --transcript")
@click.argument("number", type=int, metavar="ID")
@project_option
@campaign_option
@click.option("--transcript", is_flag=True, help="The conversation in which it was drafted.")
@json_option
def show(number: int, project: str | None, campaign: str | None, transcript: bool, as_json: bool) -> None:
    """One experiment: hypothesis, the verdict with its arithmetic, every trial."""
    reader = reader_of(find_project(project))
    found, row = experiment_of(reader, campaign, number)
    if transcript:
        from console.transcript import lines

        messages = reading.transcript(reader.conn, row.id)
        if as_json:
            click.echo(dumps([{"role": m.role, "content": m.content, "at": m.at} for m in messages]))
        elif not messages:
            raise NothingToDo(f"experiment {number} has no transcript", "only Claude's drafts have one")
        else:
            click.echo("\n".join(lines(messages)))
        return
    trials = reading.trials(reader.conn, found.id, experiment=row.id)
    if as_json:
        shape = experiment_shape(row) | {
            "arithmetic": list(row.arithmetic),
            "parameters": row.parameters,
            "diff": reading.diff(reader.conn, found.id, number),
            "trials": [trial_shape(t, reading_money.used_by(reader.conn, t.id)) for t in trials],
            "expected_effect": row.expected_effect,
            "refuted_by": row.refuted_by,
            "money": money_shape(reading_money.money_of(reader.conn, row.id)),
            "used": used_shape(reading_money.used_of(reader.conn, row.id)),
        }
        click.echo(dumps(shape))
        return
    click.echo(f"#{row.number} {clean(row.title)}")
    click.echo(f"  {row.state}" + (f", {row.verdict}: {clean(row.reason)}" if row.verdict else ""))
    click.echo(f"  by {row.author} {clean(row.author_detail)}".rstrip())
    if row.hypothesis:
        click.echo(f"  hypothesis: {clean(row.hypothesis)}")
    if row.expected_effect:
        click.echo(f"  expected: {clean(row.expected_effect)}")
    if row.refuted_by:
        click.echo(f"  refuted by: {clean(row.refuted_by)}")
    if row.repairs is not None:
        click.echo(f"  repairs #{row.repairs}")
    if cost := _money(reading_money.money_of(reader.conn, row.id), replace(found, limits={})):
        click.echo(f"  {cost}")
    if used := _used(reading_money.used_of(reader.conn, row.id)):
        click.echo(f"  {used}")
    for text in row.arithmetic:
        click.echo(f"  | {clean(text)}")
    for t in trials:
        result = f"{t.score:.6g}" if t.score is not None else (t.outcome or t.state)
        drawn = reading_money.used_by(reader.conn, t.id).joules
        click.echo(
            f"  trial {t.id:>4}  {t.purpose:<9} seed {t.seed:<11} {result:>10}  {t.seconds:5.0f} s"
            f"  {f'{_energy(drawn)}  ' if drawn is not None else ''}{clean(t.detail)}"
        )
    if row.commit:
        click.echo(f"  commit {row.commit}")
    click.echo(
        f"  {row.added} lines added, {row.removed} removed: `ratchet diff {number}`;"
        f" output: `ratchet log {number}`"
    )
