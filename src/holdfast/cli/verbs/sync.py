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
    with transfer.sides(url, places, both=True) as (source, target):
        return transfer.carry_out([(source, target), (target, source)], given)
