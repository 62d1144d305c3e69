"""`holdfast snapshot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, exits, options
from holdfast.cli.table import table

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("name", required=False)
@click.option("--list", "-l", "show", is_flag=True, help="List the snapshots that were kept.")
@options.with_store(write=True)
def command(store: ExperimentStore, name: str | None, show: bool, as_json: bool) -> None:
    """Print one sha256 over everything in the store: the same in every store that holds the same.

    With NAME it is kept, and with it all that it names. --at NAME (or --at sha256:…) shows the store as
    it was, with every verb that reads.
    """
    if show:
        _list(store, as_json)
        return
    taken = store.snapshot(name)
    if as_json:
        about = {"chains": taken.chains, "is_exact": taken.is_exact}
        options.say_json({"snapshot": str(taken.digest), "name": name, **about})
        return
    click.echo(taken.digest)
    if not taken.is_exact:
        exits.complain("others wrote all the while: each run is as it was at some moment meanwhile")


def _list(store: ExperimentStore, as_json: bool) -> None:
    found = [(one.name, one.target, one.moved_at) for one in store.snapshots()]
    if as_json:
        options.say_json(
            [{"name": n, "snapshot": t and t.digest, "taken_at": str(at)} for n, t, at in found]
        )
    elif not found:
        click.echo("there are no snapshots: holdfast snapshot NAME makes one")
    else:
        rows = [[name, str(t and t.digest), describe.ago(at)] for name, t, at in found]
        click.echo(table(["snapshot", "id", "taken"], rows))
