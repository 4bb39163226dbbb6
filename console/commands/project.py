"""Making a project ready: `init` and `doctor`."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console.place import json_option
from console.plain_text import clean
from engine.config import FILENAME, Config
from engine.effect import FileEffect
from engine.errors import RatchetError, UsageError

if TYPE_CHECKING:
    from engine.doctor import Check

MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}
LEAST_TEXT = 40  # columns


def _findings(checks: Sequence[Check], width: int) -> Iterator[str]:
    """A line each, its mend below it. ``width`` in columns, 0: nothing is folded."""
    names = max(12, *(len(check.name) for check in checks))
    for check in checks:
        told = [clean(check.detail)] + [f"mend: {clean(check.mend)}"] * (bool(check.mend) and check.status != "ok")
        first = f"{MARKS[check.status]}  {check.name:<{names}} "
        for text in told:
            # At spaces only: a command that is cut in two cannot be copied.
            folded = textwrap.wrap(
                text, max(width - len(first), LEAST_TEXT), break_long_words=False, break_on_hyphens=False
            )
            for line in folded if width and text else [text]:
                yield first + line
                first = " " * len(first)


@click.command(
    epilog="Examples: ratchet init   |   ratchet init --command 'python -m pkg.train' --metric val_loss ../project"
)
@click.argument("path", default=".")
@click.option("--command", default="", help="The command that trains, when it is not to be guessed.")
@click.option("--metric", default="", help="The number to improve.")
@click.option("--goal", type=click.Choice(["minimize", "maximize"]), help="Which way is better.")
@click.option("--force", is_flag=True, help="Overwrite ratchet.toml; write it although the proof failed.")
def init(path: str, command: str, metric: str, goal: str | None, force: bool) -> int:
    """Look at a project, prove that edits reach its run, and write ratchet.toml.

    Nothing else is changed: no file of yours, no branch, no index.
    """
    from engine.adoption import inspect, propose_config

    project = Path(path).resolve()
    if not project.is_dir():
        raise UsageError(f"{project} is not a directory", "give the path of a training project")
    file = project / FILENAME
    if file.exists() and not force:
        raise UsageError(
            f"{file} is there already", "edit it, or write it anew with --force; `ratchet doctor` checks it"
        )
    _require_repository(project)
    choice = propose_config(inspect(project, command), metric, goal or "")
    for text in choice.explanations:
        click.echo(f"- {clean(text)}")
    click.echo("proving that edits reach the run ...")
    text, effects = asyncio.run(_prove(choice.text, choice.config, project))
    for one in effects:
        click.echo(_effect_line(one))
    refused = _refusal(effects)
    if refused and not force:
        raise RatchetError(
            refused, f"mend it and run `ratchet init` again, or `ratchet init --force` to write {FILENAME} anyway"
        )
    file.write_text(text)
    click.echo(f"wrote {file}: every key with a comment and its default")
    click.echo("next: `ratchet` opens the console and starts; `ratchet run --experiments 3` prints plain lines")
    return 1 if refused else 0


async def _prove(text: str, config: Config, project: Path) -> tuple[str, list[FileEffect]]:
    """Prove; where a directory on PYTHONPATH mends what is not reached, put it into the file and prove again."""
    from engine.clock import RealClock
    from engine.config import parse
    from engine.config_template import render
    from engine.effect_run import prove_checkout

    effects = await prove_checkout(config, project, RealClock())
    missing = sorted({e.python_path for e in effects if not e.reached and e.python_path})
    if not missing:
        return text, effects
    chosen = {**config.environment.set, "PYTHONPATH": ":".join(missing)}
    environment = config.environment.model_copy(update={"set": chosen})
    mended = parse(render(config.model_copy(update={"environment": environment})))
    again = await prove_checkout(mended, project, RealClock())
    if sum(e.reached for e in again) > sum(e.reached for e in effects):
        click.echo(
            f"- PYTHONPATH = {':'.join(missing)} makes the candidate's own files win over the installed ones"
        )
        return mended.text, again
    return text, effects


def _refusal(effects: list[FileEffect]) -> str | None:
    from engine.effect import refusal

    return refusal(effects)


def _effect_line(one: FileEffect) -> str:
    state = "reached" if one.reached else ("not proven" if one.unproven else "NOT REACHED")
    where = f"; imported from {one.imported_from}" if one.imported_from and not one.reached else ""
    mend = f"\n    mend: {clean(one.mend)}" if one.mend and not one.reached else ""
    return f"  {one.path}: {state} ({clean(one.evidence)}{where}){mend}"


def _require_repository(project: Path) -> None:
    from engine.clock import RealClock
    from engine.state_folder import state_directory
    from engine.workspace import Workspace

    Workspace(project, state_directory(project), RealClock())


@click.command(
    epilog="Examples: ratchet doctor --json | jq '.[] | select(.status != \"ok\")'   |   ratchet doctor --terminal"
)
@click.argument("path", default=".")
@click.option("--terminal", is_flag=True, help="Check this terminal instead: colours, tmux, speed, clipboard.")
@json_option
def doctor(path: str, terminal: bool, as_json: bool) -> int:
    """Check git, ratchet.toml, Python, disk, devices, containment, that edits take effect, and each host."""
    if terminal:
        from console.commands.doctor_terminal import facts, findings
        from engine.clock import RealClock

        checks = findings(facts(RealClock()))
    else:
        from engine.doctor import diagnose

        checks = asyncio.run(diagnose(Path(path).resolve()))
    if as_json:
        click.echo(json.dumps([asdict(c) for c in checks]))
    else:
        for line in _findings(checks, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0):
            click.echo(line)
    return 1 if any(c.status == "fail" for c in checks) else 0
