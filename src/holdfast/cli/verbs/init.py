"""`holdfast init`."""

from __future__ import annotations

import click

from holdfast.cli import options


@click.command()
@click.argument("url", required=False, default=options.DEFAULT)
@click.option(
    "--single-writer",
    is_flag=True,
    help="Go on where the storage cannot keep several writers apart: only one will ever write.",
)
@options.json_option
def command(url: str, single_writer: bool, as_json: bool) -> None:
    """Make a new store at URL (default: ./holdfast). An existing store is left as it is."""
    import holdfast

    with holdfast.open(url, single_writer=single_writer) as store:
        if as_json:
            options.say_json({"url": store.url, "store_id": store.store_id})
        else:
            click.echo(f"store {store.url} is ready (id {store.store_id})")
            if url != options.DEFAULT:
                click.echo(
                    f"use it with --store {url}, or once and for all: export HOLDFAST_STORE={url}"
                )
