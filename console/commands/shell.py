"""Shell completion."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="Examples: ratchet completion bash >> ~/.bashrc   |   ratchet completion fish > "
    "~/.config/fish/completions/ratchet.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell."""
    from console.cli import ratchet

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(ratchet, {}, "ratchet", "_RATCHET_COMPLETE").source())
