"""`holdfast artifacts`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, options
from holdfast.cli.table import size, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("run")
@options.with_store()
def command(store: ExperimentStore, run: str, as_json: bool) -> None:
    """List the artifacts of RUN."""
    found = store.artifacts(run)
    if as_json:
        options.say_json([describe.artifact_json(about) for about in found])
    elif not found:
        click.echo("this run has no artifacts")
    else:
        rows = [
            [
                about.key,
                size(about.size_bytes),
                about.kind,
                describe.ago(about.created_at),
                str(about.digest),
            ]
            for about in found
        ]
        click.echo(table(["artifact", "size", "kind", "added", "digest"], rows))
