"""`gridplane completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from control_plane.cli.main import root


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    gridplane completion bash > ~/.local/share/bash-completion/completions/gridplane
    gridplane completion zsh  > ~/.zfunc/_gridplane
    gridplane completion fish > ~/.config/fish/completions/gridplane.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice above names only what click knows
    click.echo(kind(root, {}, "gridplane", "_GRIDPLANE_COMPLETE").source())
