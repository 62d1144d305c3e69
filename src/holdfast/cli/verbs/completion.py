"""`holdfast completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL: for bash, eval "$(holdfast completion bash)"."""
    from click.shell_completion import get_completion_class

    from holdfast.cli.app import holdfast

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(holdfast, {}, "holdfast", "_HOLDFAST_COMPLETE").source())
