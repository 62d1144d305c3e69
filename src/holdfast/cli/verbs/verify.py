"""`holdfast verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import exits, options
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast import ExperimentStore, Finding


@click.command()
@click.argument("run", required=False)
@click.option(
    "--key", metavar="FILE", help="Public keys; with --snapshot: one of them must have signed it."
)
@click.option(
    "--snapshot", metavar="NAME", help="With --key: the store must hold what this snapshot names."
)
@options.with_store()
def command(
    store: ExperimentStore, run: str | None, key: str | None, snapshot: str | None, as_json: bool
) -> int:
    """Read and check every byte of the store, or of RUN. Nothing is changed.

    With --key and --snapshot, who signed that snapshot is said first. The exit code is 1 when something is
    damaged, or not what was signed.
    """
    signed = _signed(store, key, snapshot)
    with Progress("verifying runs") as bar:
        found = [*signed, *store.verify(run, bar)]
    if as_json:
        names = ("code", "place", "message", "affects")
        options.say_json([{name: getattr(one, name) for name in names} for one in found])
    elif not found:
        click.echo(f"{run or store.url}: every byte is as it was written")
    else:
        for one in found:
            click.echo(f"{one.code}: {one.message}\n  affects {one.affects}")
        click.echo(f"{len(found)} {'findings' if len(found) > 1 else 'finding'}", err=True)
    return exits.FINDINGS if found else exits.OK


def _signed(store: ExperimentStore, key: str | None, snapshot: str | None) -> list[Finding]:
    """Say who signed the snapshot; where the store is not what it says."""
    if key is None and snapshot is None:
        return []
    if key is None or snapshot is None:
        raise click.UsageError("--key and --snapshot go together: whose key, and what it signed")
    signed = store.check_signature(snapshot, key)
    click.echo(f"{signed.snapshot} was signed by {signed.key} at {signed.at}", err=True)
    return store.compare_snapshot(snapshot)
