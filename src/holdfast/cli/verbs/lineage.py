"""`holdfast lineage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import options

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("address")
@click.option("--up", type=click.IntRange(0), metavar="N", help="At most N runs before it.")
@click.option("--down", type=click.IntRange(0), metavar="N", help="At most N runs after it.")
@click.option("--dot", is_flag=True, help="Write DOT, for Graphviz.")
@options.with_store()
def command(
    store: ExperimentStore,
    address: str,
    up: int | None,
    down: int | None,
    dot: bool,
    as_json: bool,
) -> None:
    """Show what made a run or an artifact and what that had read, and what came of it.

    It knows what runs noted with use_artifact.
    """
    found = store.lineage(address, up=up, down=down)
    if as_json:
        options.say_json(found.to_dict())
    else:
        click.echo(found.to_dot() if dot else str(found), nl=not dot)
