"""`holdfast rm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import options

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@options.with_store(write=True)
def command(store: ExperimentStore, runs: tuple[str, ...], as_json: bool) -> None:
    """Put a tombstone on each RUN: lists leave it out, nothing is removed, `undelete` undoes it."""
    names = [store.run(run).run_id for run in runs]  # all of them are there, or nothing happens
    for name in names:
        store.delete_run(name)
    if as_json:
        options.say_json({"deleted": names})
    else:
        for name in names:
            click.echo(f"{name} is deleted; holdfast undelete {name} brings it back")
