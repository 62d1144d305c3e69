"""`holdfast put`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, options
from holdfast.cli.progress import Progress
from holdfast.cli.table import size

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("run")
@click.argument("source")
@click.argument("key", required=False)
@click.option(
    "--layout", type=click.Choice(["auto", "plain", "packed"]), help="How its bytes are stored."
)
@click.option("--base", help="Encode against this artifact: a key of the run, or sha256:<hex>.")
@click.option("--compact", is_flag=True, help="Take twice the time for some percent more.")
@options.with_store(write=True)
def command(
    store: ExperimentStore,
    run: str,
    source: str,
    key: str | None,
    layout: str | None,
    base: str | None,
    compact: bool,
    as_json: bool,
) -> None:
    """Add SOURCE (a file, a directory, or - for standard input) to RUN as KEY.

    Without KEY it goes by the name of the file or directory.
    """
    if source == "-" and key is None:
        raise click.UsageError("standard input has no name: give a KEY")
    name = key or Path(source).resolve().name
    bytes_or_path = sys.stdin.buffer if source == "-" else source
    with Progress("storing") as bar:
        about = store.add_artifact_file(
            run, bytes_or_path, name, bar, layout=layout, base=base, compact=compact
        )
    if as_json:
        options.say_json(describe.artifact_json(about))
    else:
        click.echo(f"{about.key}  {size(about.size_bytes)}  {about.digest}")
