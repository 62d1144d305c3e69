"""`holdfast export`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from holdfast.cli import options
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.option("--to", "-o", type=click.Path(dir_okay=False, allow_dash=True), default="-",
              help="The file to write; without it, standard output.")  # fmt: skip
@options.with_store()
def command(store: ExperimentStore, to: str, as_json: bool) -> None:
    """Write every experiment, run, metric and artifact record as the seed schema's JSON, one a line.

    There is no other form than JSON; --json is allowed and changes nothing.
    """
    if to == "-":
        store.export_json(sys.stdout)
        return
    with open(to, "x", encoding="utf-8") as out, Progress("exporting runs") as bar:
        store.export_json(out, bar)
