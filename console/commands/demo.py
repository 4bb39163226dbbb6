"""`ratchet demo`: the whole idea on real training, with no key and no GPU."""

from __future__ import annotations

import asyncio
import importlib.resources
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click

from engine.errors import RatchetError

DEMO_EXPERIMENTS = 3  # without a terminal: bounded, then exit 0


@click.command(epilog="Example: ratchet demo /tmp/ratchet-demo --experiments 12")
@click.argument("directory", default="ratchet-demo")
@click.option("--experiments", type=click.IntRange(min=1), metavar="N", help="Stop after N proposals.")
@click.option("--proposer", type=click.Choice(["search", "command"]), help="Instead of search.")
@click.option("--seed", type=int, metavar="S", help="All trial seeds derive from it.")
@click.option("--plain", is_flag=True, help="Plain lines even on a terminal.")
@click.option(
    "--replay", is_flag=True, help="A recorded campaign in the console: no torch, no git, nothing is run."
)
def demo(
    directory: str, experiments: int | None, proposer: str | None, seed: int | None, plain: bool, replay: bool
) -> int:
    """Copy the sample project to DIRECTORY and let the ratchet turn on it.

    On a terminal the live console opens; without one, plain lines are printed, a few experiments are
    run, and the exit code is 0. Run again, it goes on where it stopped. --replay shows a recorded one at once.
    """
    if replay:
        from console.commands.replay import DEMO_SPEED, print_history, shipped, show

        if plain:
            print_history(shipped())
            return 0
        return show(shipped(), DEMO_SPEED)
    from console.commands.engine import run_here
    from console.commands.live import open_console
    from engine.clock import RealClock

    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("safetensors") is None:
        raise RatchetError(
            "the sample project trains with torch, which is not installed here",
            "pip install 'ratchet-console[sample]' (or `make demo` in a clone)",
        )
    project = Path(directory).resolve()
    prepare(project)
    if not plain and sys.stdin.isatty() and sys.stdout.isatty():
        return open_console(project, experiments=experiments, proposer=proposer, seed=seed)
    count = experiments or DEMO_EXPERIMENTS
    click.echo(f"no terminal: plain lines, {count} experiments; `ratchet {project}` opens the console on them")
    return asyncio.run(run_here(project, RealClock(), experiments=count, proposer=proposer, seed=seed))


def prepare(project: Path) -> None:
    """The sample project as a git repository of its own at ``project``; one that is there is used."""
    if (project / "ratchet.toml").is_file():
        click.echo(f"going on in {project}", err=True)
        return
    if project.exists() and any(project.iterdir()):
        raise RatchetError(f"{project} is not empty and holds no ratchet.toml", "name another directory")
    if shutil.which("git") is None:  # before anything is made: a half-made project would be gone on with
        raise RatchetError("git is not installed", "install git; Ratchet keeps every version in it")
    project.mkdir(parents=True, exist_ok=True)
    for file in importlib.resources.files("sample_project").iterdir():
        if file.is_file():  # a working copy's data/ and artifact/ are no part of the project
            (project / file.name).write_bytes(file.read_bytes())
    name_interpreter(project / "ratchet.toml")
    _git(project, "init", "--quiet", "--initial-branch=main")
    _git(project, "add", "--all")
    _git(
        project,
        "-c",
        "user.name=Ratchet",
        "-c",
        "user.email=ratchet@localhost",
        "-c",
        "commit.gpgSign=false",
        "-c",
        "core.hooksPath=/dev/null",
        "commit",
        "--quiet",
        "-m",
        "sample project",
    )
    click.echo(f"the sample project is in {project}", err=True)
    made = subprocess.run([sys.executable, "prepare.py"], cwd=project, env={**os.environ, "PYTHONPATH": ""})
    if made.returncode:
        raise RatchetError(
            f"prepare.py ended with {made.returncode}: its words are above",
            f"mend that, then remove {project} and try again",
        )


def name_interpreter(file: Path) -> None:
    """Trials use the Python that runs this command: it is the one that is known to have torch."""
    text = file.read_text()
    path = f'path = ["{Path(sys.executable).parent}"]'
    changed, count = re.subn(r"(?m)^path = \[[^\]]*\]", lambda _: path, text, count=1)
    if not count:
        changed, count = re.subn(r"(?m)^\[environment\][^\n]*\n", lambda m: m[0] + path + "\n", text, count=1)
    if not count:
        changed = f"[environment]\n{path}\n\n" + text
    file.write_text(changed)


def _git(project: Path, *arguments: str) -> None:
    try:
        subprocess.run(["git", *arguments], cwd=project, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RatchetError("git is not installed", "install git; Ratchet keeps every version in it") from None
    except subprocess.CalledProcessError as error:
        raise RatchetError(f"git {arguments[0]} failed: {error.stderr.strip()}", "see `ratchet doctor`") from error
