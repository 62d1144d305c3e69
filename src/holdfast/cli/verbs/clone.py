"""`holdfast clone`."""

from __future__ import annotations

from typing import Any

import click

from holdfast.cli import transfer


@click.command()
@click.argument("source")
@click.argument("target")
@transfer.selecting
@transfer.working
def command(source: str, target: str, **given: Any) -> int:
    """Make a new store at TARGET, a new or empty place, with everything that the store SOURCE has.

    TARGET gets an id of its own: it is another store with the same runs. If it is stopped, `holdfast push
    SOURCE TARGET` goes on.
    """
    import holdfast

    with transfer.opened(source, write=False) as one:
        try:
            holdfast.open(target, create=False, read_only=True).close()
        except holdfast.errors.NotAStore:
            pass
        else:
            raise holdfast.errors.Exists(
                f"{target} is a store already: `holdfast push {source} {target}` brings it what it "
                "does not have",
                url=target,
            )
        new = None if given["dry_run"] else target  # a dry run compares with an empty store
        with holdfast.open(new) as other:
            return transfer.carry_out([(one, other)], given)
