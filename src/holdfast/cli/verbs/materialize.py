"""`holdfast materialize`."""

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
@options.executor_option
@options.with_store(write=True)
def command(
    store: ExperimentStore, run: str, keys: tuple[str, ...], executor: str | None, as_json: bool
) -> None:
    """Store artifacts of RUN (all, without KEYS) plain: each a file that sha256sum can check. Instead of
    a run the sha256 of one artifact may be given.

    The bytes stay the same, and are verified on the way. The old files stay until they are collected.
    """
    with Progress("writing out") as bar:
        found = store.materialize(run, *keys, executor=executor, progress=bar)
    describe.say_repacked(found, as_json)
