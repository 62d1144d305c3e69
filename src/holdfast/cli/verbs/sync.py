"""`holdfast sync`."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import options, transfer


@click.command()
@click.argument("places", nargs=-1, metavar="[[SOURCE] TARGET]")
@transfer.selecting
@options.store_option
@transfer.working
def command(url: str, places: tuple[str, ...], **given: Any) -> int:
    """Push from SOURCE (this store, if not given) to TARGET, and then pull from there.

    Afterwards both have the runs of both. Everything else is as in `push`.
    """
    if len(places) > 2:
        raise click.UsageError("give at most SOURCE and TARGET")
    source_url = places[0] if len(places) == 2 else url
    with transfer.opened(source_url, write=True) as source:
        target_url = places[-1] if places else source.peer
        if target_url is None:
            raise click.UsageError("this store was not pushed anywhere before: give TARGET")
        with transfer.opened(target_url, write=True) as target:
            source.peer = target_url
            return transfer.carry_out([(source, target), (target, source)], given)
