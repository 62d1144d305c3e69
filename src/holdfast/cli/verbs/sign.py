"""`holdfast sign`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from holdfast.cli import options

if TYPE_CHECKING:
    from holdfast import ExperimentStore

PASSPHRASE = "HOLDFAST_KEY_PASSPHRASE"  # noqa: S105 - the name of a variable


@click.command()
@click.argument("snapshot")
@click.option(
    "--key", required=True, metavar="FILE", help="Your private Ed25519 key: PEM, or ssh's."
)
@options.with_store(write=True)
def command(store: ExperimentStore, snapshot: str, key: str, as_json: bool) -> None:
    """Sign SNAPSHOT, a name or sha256:…, so that others can tell that it is yours.

    A passphrase is asked for, or taken from HOLDFAST_KEY_PASSPHRASE. `holdfast verify --key` checks.
    """
    signed = store.sign(snapshot, key, _passphrase)
    if as_json:
        about = {"key": signed.key.raw.hex(), "signed_at": str(signed.at)}
        options.say_json({"snapshot": str(signed.snapshot), **about})
    else:
        click.echo(f"{signed.snapshot} is signed with {signed.key} since {signed.at}")


def _passphrase() -> str:
    given = os.environ.get(PASSPHRASE)
    return given if given is not None else click.prompt("passphrase", hide_input=True, err=True)
