"""`holdfast verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import exits, options
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("run", required=False)
@options.with_store()
def command(store: ExperimentStore, run: str | None, as_json: bool) -> int:
    """Read and check every byte of the store, or of RUN. Nothing is changed.

    The exit code is 1 when something is damaged.
    """
    with Progress("verifying runs") as bar:
        found = store.verify(run, bar)
    if as_json:
        names = ("code", "place", "message", "affects")
        options.say_json([{name: getattr(one, name) for name in names} for one in found])
    elif not found:
        click.echo(f"{run or store.url}: every byte is as it was written")
    else:
        for one in found:
            click.echo(f"{one.code}: {one.message}\n  affects {one.affects}")
        click.echo(f"{len(found)} {'findings' if len(found) > 1 else 'finding'}", err=True)
    return exits.FINDINGS if found else exits.OK
