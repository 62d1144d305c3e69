"""`holdfast compact`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from holdfast.cli import options
from holdfast.cli.progress import Progress
from holdfast.cli.table import size, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("run", required=False)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@options.executor_option
@options.with_store(write=True)
def command(
    store: ExperimentStore, run: str | None, dry_run: bool, executor: str | None, as_json: bool
) -> None:
    """Put the small metric segments of RUN, or of every run, together into few.

    The points stay the same, and reading them takes fewer requests. Runs that are being written may be
    compacted too. The old files stay until they are collected.
    """
    with Progress("compacting") as bar:
        found = store.compact(run, dry_run=dry_run, executor=executor, progress=bar)
    if as_json:
        options.say_json([asdict(one) for one in found])
    elif not found:
        click.echo("nothing to compact")
    else:
        rows = [
            [
                one.run_id if one.rank is None else f"{one.run_id} rank {one.rank}",
                f"{one.segments_before:,} → {one.segments_after:,}",
                size(one.bytes_before) + ("" if dry_run else f" → {size(one.bytes_after)}"),
                "another process was quicker" if one.given_up else "",
            ]
            for one in found
        ]
        click.echo(table(["run", "segments", "bytes put together", ""], rows))
        if dry_run:
            click.echo("nothing was changed: this was --dry-run")
