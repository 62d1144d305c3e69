"""`holdfast pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, options
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("run")
@click.argument("keys", nargs=-1)
@click.option("--base", help="Encode against this artifact: a key of the run, or sha256:<hex>.")
@click.option("--compact", is_flag=True, help="Take twice the time for some percent more.")
@options.executor_option
@options.with_store(write=True)
def command(
    store: ExperimentStore,
    run: str,
    keys: tuple[str, ...],
    base: str | None,
    compact: bool,
    executor: str | None,
    as_json: bool,
) -> None:
    """Store artifacts of RUN (all, without KEYS) in packs: chunks, shared with other versions. Instead of
    a run the sha256 of one artifact may be given.


    The bytes stay the same, and are verified on the way. The old files stay until they are collected.
    """
    with Progress("packing") as bar:
        found = store.pack(run, *keys, base=base, compact=compact, executor=executor, progress=bar)
    describe.say_repacked(found, as_json)
