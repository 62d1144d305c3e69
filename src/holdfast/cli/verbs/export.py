"""`holdfast export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli import options
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.option("--to", "-o", type=click.Path(dir_okay=False, allow_dash=True), default="-",
              help="The file to write; without it, standard output.")  # fmt: skip
@click.option("--parquet", "directory", type=click.Path(file_okay=False, path_type=Path),
              metavar="DIR", help="Write Parquet tables into this directory instead.")  # fmt: skip
@click.option("--where", "-w", metavar="EXPR", help="With --parquet, the runs that match alone.")
@options.with_store()
def command(
    store: ExperimentStore, to: str, directory: Path | None, where: str | None, as_json: bool
) -> None:
    """Write every experiment, run, metric and artifact record as the seed schema's JSON, one a line;
    or, with --parquet, five tables: runs, config, tags, metrics and artifacts.

    --json is allowed with either; with --parquet it lists the files written.
    """
    if directory is not None:
        _parquet(store, directory, where, to, as_json)
        return
    if where is not None:
        raise click.UsageError("--where goes with --parquet; the JSON holds every run")
    if to == "-":
        store.export_json(sys.stdout)
        return
    with open(to, "x", encoding="utf-8") as out, Progress("exporting runs") as bar:
        store.export_json(out, bar)


def _parquet(
    store: ExperimentStore, directory: Path, where: str | None, to: str, as_json: bool
) -> None:
    if to != "-":
        raise click.UsageError("--to names a file of JSON lines; --parquet names its directory")
    with Progress("exporting runs") as bar:
        written = store.export_parquet(directory, where=where, progress=bar)
    if as_json:
        options.say_json([str(path) for path in written])
    else:
        click.echo("\n".join(map(str, written)))
