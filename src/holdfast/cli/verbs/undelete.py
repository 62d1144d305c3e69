"""`holdfast undelete`."""

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
    """Take the tombstone off each RUN."""
    names = [store.run(run).run_id for run in runs]
    for name in names:
        store.undelete_run(name)
    if as_json:
        options.say_json({"undeleted": names})
    else:
        for name in names:
            click.echo(f"{name} is back")
