"""`holdfast push`."""

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
    """Send runs from SOURCE (this store, if not given) to the store TARGET: what it does not have.

    Without TARGET, the one that this store was pushed to last. Every byte is checked on the way. A run
    appears there when all that it needs has arrived. Whatever stops it, calling it again goes on.

    The exit code is 1 when something in SOURCE is damaged (the rest is sent), 6 when both sides changed one
    run (nothing of that is sent).
    """
    with transfer.sides(url, places, both=False) as (source, target):
        return transfer.carry_out([(source, target)], given)
