"""`holdfast recover`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, exits, options
from holdfast.cli.progress import Progress
from holdfast.cli.table import table

if TYPE_CHECKING:
    from holdfast import ExperimentStore
    from holdfast.ops.recover import Recovered


@click.command()
@click.option("--salvage", is_flag=True, help="Keep what is whole of damaged spools as well.")
@options.with_store(write=True)
def command(store: ExperimentStore, salvage: bool, as_json: bool) -> int:
    """Seal the points that crashed processes left behind, and mark their runs as crashed.

    For a store in a bucket it also sends what they left on this machine. What cannot be sent is named.

    Runs that are being written are left alone. With --salvage, a spool that is damaged in its middle
    moves to quarantine/ as it is, and its intact records are kept.
    """
    with Progress("recovering runs") as bar:
        found = store.recover(salvage=salvage, progress=bar)
    if as_json:
        names = ("run_id", "points", "marked_crashed", "ranks", "lost_bytes", "problem")
        options.say_json([{name: getattr(one, name) for name in names} for one in found])
    elif not found:
        click.echo("nothing to recover")
    else:
        rows = [[one.run_id, f"{one.points:,}", _notes(one)] for one in found if not one.problem]
        if rows:
            click.echo(table(["run", "points sealed", ""], rows))
    problems = [one.problem for one in found if one.problem]
    for problem in problems:
        exits.complain(problem)
    return exits.DAMAGED if problems else exits.OK


def _notes(one: Recovered) -> str:
    notes = [
        "marked as crashed" if one.marked_crashed else "",
        f"crashed: rank {describe.spans(one.ranks)}" if one.ranks else "",
        f"{one.lost_bytes:,} damaged bytes lost" if one.lost_bytes else "",
    ]
    return ", ".join(filter(None, notes))
