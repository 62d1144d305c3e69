"""`holdfast cat`."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from holdfast.cli import options

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.command()
@click.argument("address", metavar="ADDRESS")
@click.argument("key", required=False)
@options.with_store()
def command(store: ExperimentStore, address: str, key: str | None, as_json: bool) -> None:
    """Write an artifact to standard output, each piece verified before it is written: that of an ADDRESS, or
    KEY of a RUN.

    With --json its bytes come as base64.
    """
    with store.open_artifact(address, key) as file:
        if as_json:
            import base64

            data = file.read()
            options.say_json({"size_bytes": len(data), "base64": base64.b64encode(data).decode()})
        else:
            shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
