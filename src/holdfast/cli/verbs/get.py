"""`holdfast get`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import options
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("address", metavar="ADDRESS")
@click.argument("key", required=False)
@click.option("--to", "-o", default=".", show_default=True, help="The directory or name to write.")
@click.option("--overwrite", is_flag=True, help="Replace different files that are in the way.")
@options.with_store()
def command(
    store: ExperimentStore, address: str, key: str | None, to: str, overwrite: bool, as_json: bool
) -> None:
    """Write an artifact to disk: that of an ADDRESS, or KEY of a RUN.

    Its bytes are verified before the file gets its name.
    """
    with Progress("reading") as bar:
        path = store.get_artifact(address, key, to=to, overwrite=overwrite, progress=bar)
    if as_json:
        options.say_json({"path": str(path)})
    else:
        click.echo(path)
