"""The command `ratchet`. Commands load when they are called: `ratchet status` imports no Textual, no Optuna."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from engine import __version__
from engine.errors import RatchetError

# name -> (module, function, one-line help); the order is that of --help.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("console.commands.demo", "Watch the ratchet turn on a small real training project."),
    "init": (
        "console.commands.project",
        "Look at a project, prove that edits take effect, write ratchet.toml.",
    ),
    "doctor": ("console.commands.project", "Check git, Python, devices, disk, containment and effect."),
    "console": ("console.commands.live", "The live console; starts the engine when none runs."),
    "run": (
        "console.commands.engine",
        "Run the engine here, with plain progress lines; Ctrl-C stops cleanly.",
    ),
    "start": ("console.commands.engine", "Start the engine in the background."),
    "stop": ("console.commands.engine", "Stop the engine; running trials queue again."),
    "pause": ("console.commands.engine", "Start nothing new; running trials go on."),
    "resume": ("console.commands.engine", "Go on after a pause."),
    "status": ("console.commands.history", "Where the campaign stands."),
    "history": ("console.commands.history", "Every experiment, its verdict and its effect."),
    "show": ("console.commands.history", "One experiment: hypothesis, arithmetic of the verdict, trials."),
    "diff": ("console.commands.output", "What an experiment changed."),
    "log": ("console.commands.output", "What a trial printed."),
    "accept": ("console.commands.decide", "Accept a proposal or a keep that waits for you."),
    "reject": ("console.commands.decide", "Reject one, with a reason that the proposer gets to read."),
    "undo": ("console.commands.decide", "Take a decision back that was not carried out yet."),
    "steer": ("console.commands.decide", "Tell the proposer something; the next brief carries it."),
    "rerun": ("console.commands.decide", "Run an experiment and its base on further seeds."),
    "back": ("console.commands.decide", "Put an earlier keep in force again."),
    "hosts": ("console.commands.hosts", "The machines that run trials; drain, resume or lend one."),
    "simulate": ("console.commands.simulate", "How busy devices would be: the real engine on a virtual clock."),
    "replay": ("console.commands.replay", "A campaign once more in the console, at speed; or record one."),
    "export": ("console.commands.output", "The history as results.tsv, CSV or JSON."),
    "restore": ("console.commands.engine", "Put back the newest good backup of a damaged store."),
    "completion": ("console.commands.shell", "Print the shell completion script."),
}


class Ratchet(click.Group):
    """`ratchet PATH` is the console on PATH; everything else is a command, loaded on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[name][0])
        command: click.Command = getattr(module, name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # From the table: `ratchet --help` must not import every command to print one line of each.
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Completion asks with the words before the one being typed: there, nothing is not yet the console.
        if (not args and not ctx.resilient_parsing) or (
            args and not args[0].startswith("-") and args[0] not in COMMANDS and _looks_like_path(args[0])
        ):
            args = ["console", *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else " `ratchet --help` lists them."
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx) from error


def _looks_like_path(word: str) -> bool:
    from pathlib import Path

    return "/" in word or word in (".", "..") or Path(word).is_dir()


@click.group(
    cls=Ratchet,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done or limit reached, 1 failed, 2 bad usage or configuration, 3 nothing to do,"
    " 130 interrupted.",
)
@click.version_option(__version__, prog_name="ratchet")
def ratchet() -> None:
    """A terminal research console: changes to a training project are proposed, measured as budgeted
    experiments, and kept only when they are truly better.

    \b
    ratchet demo                    see it work, no key and no GPU needed
    ratchet init && ratchet         on your own project
    ratchet run --experiments 20    without a screen
    """


def main() -> None:
    """Entry point: errors of ours become one message with its mend, and the documented exit code."""
    try:
        code = ratchet(prog_name="ratchet", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RatchetError as error:
        click.echo(f"ratchet: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # `ratchet history | head`: the reader has enough; keep Python from complaining at exit
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        click.echo(f"ratchet: {error}\n  mend: see `ratchet doctor` for disk and permissions", err=True)
        sys.exit(1)
    except Exception as error:
        if type(error).__module__ != "sqlite3":
            raise
        from engine.store import faults

        what, mend = faults.meaning(error)
        click.echo(f"ratchet: cannot read the store: {what} ({error})\n  mend: {mend}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
