"""`holdfast pull`."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import options, transfer


@click.command()
@click.argument("places", nargs=-1, metavar="[SOURCE [TARGET]]")
@transfer.selecting
@options.store_option
@transfer.working
def command(url: str, places: tuple[str, ...], **given: Any) -> int:
    """Bring runs from the store SOURCE into TARGET (this store, if not given): what it does not have.

    Without SOURCE, from the store that this one was pushed to last. Everything else is as in `push`.
    """
    if len(places) > 2:
        raise click.UsageError("give at most SOURCE and TARGET")
    target_url = places[1] if len(places) == 2 else url
    with transfer.opened(target_url, write=True) as target:
        source_url = places[0] if places else target.peer
        if source_url is None:
            raise click.UsageError("this store was not pushed anywhere before: give SOURCE")
        with transfer.opened(source_url, write=False) as source:
            return transfer.carry_out([(source, target)], given)
