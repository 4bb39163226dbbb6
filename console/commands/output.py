"""What a campaign left to read elsewhere: diff, log, export. None needs a living engine."""

from __future__ import annotations

import asyncio
import codecs
import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from console.commands.history import experiment_of
from console.place import campaign_option, find_project, project_option, reader_of
from console.plain_text import clean, clean_lines
from console.shapes import EXPERIMENT, dumps, experiment_shape
from engine.errors import NothingToDo
from engine.store import reading
from engine.store.reading import Reader
from engine.store.rows import CampaignRow, ExperimentRow, TrialRow

if TYPE_CHECKING:
    from engine.clock import Clock


@click.command(epilog="Example: ratchet diff 12 | less -R")
@click.argument("number", type=int, metavar="ID")
@project_option
@campaign_option
def diff(number: int, project: str | None, campaign: str | None) -> None:
    """What an experiment changed, as a unified diff (coloured on a terminal)."""
    reader = reader_of(find_project(project))
    found, _ = experiment_of(reader, campaign, number)
    text = reading.diff(reader.conn, found.id, number)
    if not text:
        raise NothingToDo(f"experiment {number} has no proposal yet")
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for one in text.removesuffix("\n").split("\n"):
        head = one.startswith(("+++", "---", "diff ", "index "))
        click.secho("".join(clean_lines(one)), fg=None if head else colours.get(one[:1]), bold=head)


@click.command(epilog="Examples: ratchet log 12   |   ratchet log t31 -f   |   ratchet log calibration")
@click.argument("which", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the trial ends.")
@project_option
@campaign_option
def log(which: str, follow: bool, project: str | None, campaign: str | None) -> None:
    """What a trial printed. ID is an experiment (its newest trial), tN a trial, or `calibration`."""
    from engine.clock import RealClock
    from engine.state_folder import state_directory

    folder = find_project(project)
    reader = reader_of(folder)
    trial = _trial(reader, reader.campaign(campaign), which)
    if not trial.directory and not follow:
        raise NothingToDo(f"trial {trial.id} has not started yet", f"`ratchet log t{trial.id} -f` waits for it")
    asyncio.run(_print_log(reader, trial.id, state_directory(folder), follow, RealClock()))


def _trial(reader: Reader, campaign: CampaignRow, which: str) -> TrialRow:
    rows = reading.trials(reader.conn, campaign.id)
    if which == "calibration":
        chosen = [t for t in rows if t.purpose == "calibrate"]
    elif which.startswith("t") and which[1:].isdigit():
        chosen = [t for t in rows if t.id == int(which[1:])]
    elif which.isdigit():
        chosen = [t for t in rows if t.number == int(which)]
    else:
        raise click.UsageError(f"{which!r} is neither an experiment's number, nor tN, nor calibration")
    started = sorted((t for t in chosen if t.directory), key=lambda t: t.started_at or 0.0)
    if not chosen:
        raise NothingToDo(f"nothing was run for {which}", "`ratchet history` lists experiments")
    return started[-1] if started else chosen[-1]


async def _print_log(reader: Reader, trial: int, state: Path, follow: bool, clock: Clock) -> None:
    directory, printer = "", LogPrinter()
    while True:
        # Asked before the log is read: what is printed after the end is asked for is read in the next round.
        row = reading.trial(reader.conn, trial)
        ended = row is None or row.state == "done"
        if row is not None and row.directory != directory:
            if directory:
                click.echo(f"{printer.finish()}--- attempt {row.attempts} of trial {trial} ---")
            directory, printer = row.directory, LogPrinter()
        try:
            with (state / directory / "control" / "log").open("rb") as handle:
                handle.seek(printer.read)
                while data := handle.read(1 << 20):
                    click.echo(printer.feed(data), nl=False)
        except FileNotFoundError:
            if not follow or ended:
                raise NothingToDo(f"the log of trial {trial} is not on disk (any more)") from None
        if not follow or ended:
            click.echo(printer.finish(), nl=False)
            return
        await clock.sleep(0.2)


class LogPrinter:
    """Bytes of a log -> text for a terminal, whole lines at a time: what a candidate printed is not trusted,
    and half a character, half an escape sequence or half a ``\\r\\n`` cannot be judged."""

    def __init__(self) -> None:
        self.read = 0  # bytes taken so far
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes) -> str:
        self.read += len(data)
        # A capped log has a hole of zeros between its head and its tail. \r lines become lines of their own.
        text = self._rest + self._decode(data.replace(b"\0", b""))
        text = text.replace("\r\n", "\n")
        held = text[-1:] == "\r"
        *lines, self._rest = text[: -1 if held else None].replace("\r", "\n").split("\n")
        self._rest += "\r" if held else ""
        return "".join(f"{clean(line)}\n" for line in lines)

    def finish(self) -> str:
        """The last line, when it has no end."""
        rest, self._rest = self._rest, ""
        return f"{clean(rest)}\n" if rest else ""


@click.command(epilog="Example: ratchet export --tsv -o results.tsv")
@click.argument("path", required=False)
@click.option("--tsv", "form", flag_value="tsv", default="tsv", help="autoresearch's results.tsv (default).")
@click.option("--csv", "form", flag_value="csv", help="Every column.")
@click.option("--json", "form", flag_value="json", help="As `history --json`.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), help="Instead of standard output.")
@campaign_option
def export(path: str | None, form: str, output: str | None, campaign: str | None) -> None:
    """The history as a file."""
    reader = reader_of(find_project(path))
    found = reader.campaign(campaign)
    rows = reading.experiments(reader.conn, found.id)
    if form == "json":
        text = dumps([experiment_shape(r) for r in rows], indent=1) + "\n"
    elif form == "csv":
        text = _csv([experiment_shape(r) for r in rows])
    else:
        text = _results_tsv(reader, found, rows)
    if output:
        Path(output).write_text(text, encoding="utf-8")
        click.echo(f"{len(rows)} experiments written to {output}", err=True)
    else:
        click.echo(text, nl=False)


def _csv(rows: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(EXPERIMENT), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _results_tsv(reader: Reader, campaign: CampaignRow, rows: list[ExperimentRow]) -> str:
    """autoresearch's columns: commit, metric, memory_gb, status, description; the baseline first."""
    memory = {
        e: float(m or 0)
        for e, m in reader.conn.execute(
            "SELECT t.experiment, MAX(a.peak_memory) FROM trial t JOIN attempt a ON a.trial = t.id"
            " WHERE t.campaign = ? GROUP BY t.experiment",  # NULL: the calibration
            (campaign.id,),
        )
    }
    status = {"keep": "keep", "discard": "discard", "crash": "crash", "invalid": "crash"}
    lines = [f"commit\t{campaign.metric}\tmemory_gb\tstatus\tdescription"]
    if campaign.calibration:
        peak = memory.get(None, 0.0) / 1e9
        lines.append(
            f"{campaign.baseline_sha[:7]}\t{campaign.calibration['mean']:.6f}\t{peak:.1f}\tkeep\tbaseline"
        )
    for row in rows:
        if row.state != "settled" or row.verdict not in status:
            continue
        crashed = status[row.verdict] == "crash"
        value = 0.0 if crashed or row.score is None else row.score
        peak = 0.0 if crashed else memory.get(row.id, 0.0) / 1e9
        sha = (row.commit or row.candidate_sha or "0" * 7)[:7]
        title = clean(row.title).replace("\t", " ")
        lines.append(f"{sha}\t{value:.6f}\t{peak:.1f}\t{status[row.verdict]}\t{title}")
    return "\n".join(lines) + "\n"
