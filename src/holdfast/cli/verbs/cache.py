"""`holdfast cache`."""

from __future__ import annotations

from dataclasses import asdict

import click

from holdfast.cli import options
from holdfast.cli.table import size, table


@click.command()
@click.option("--clear", is_flag=True, help="Take everything away.")
@click.option("--shrink", metavar="SIZE", help="Take away what was used longest ago, down to SIZE.")
@options.json_option
def command(clear: bool, shrink: str | None, as_json: bool) -> None:
    """Show what is kept on this machine of stores in buckets, for reading it again.

    Nothing is lost when it goes. $HOLDFAST_CACHE is how large it may grow, such as 20GiB, or `off`;
    $HOLDFAST_CACHE_DIR where it lies. SIZE is in bytes, or such as 500MiB.
    """
    from holdfast.backend.cachefiles import VARIABLE, user_cache
    from holdfast.names import size_of

    files = user_cache()
    if files is None:
        options.say_json(None) if as_json else click.echo(f"the cache is off: ${VARIABLE} says so")
        return
    if clear or shrink is not None:
        files.shrink(0 if clear else size_of(shrink or "", "--shrink"))
    held = files.held()
    if as_json:
        options.say_json(asdict(held))
        return
    row = [held.place, f"{held.files:,}", size(held.size_bytes), size(held.limit_bytes)]
    click.echo(table(["place", "files", "size", "may grow to"], [row]))
