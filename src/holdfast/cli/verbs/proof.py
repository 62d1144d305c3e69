"""`holdfast proof make|check`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from holdfast.cli import exits, options
from holdfast.cli.table import size

if TYPE_CHECKING:
    from holdfast import ExperimentStore


@click.group()
def command() -> None:
    """Prove that a snapshot holds an artifact, and check that without the store."""


@command.command("make")
@click.argument("address")
@options.with_store()
def make(store: ExperimentStore, address: str, as_json: bool) -> None:
    """Print the proof, as JSON, that the snapshot of --at holds the artifact at ADDRESS."""
    click.echo(store.proof(address), nl=False)


@command.command("check")
@click.argument("file", type=click.Path(dir_okay=False))
@click.argument("artifact", type=click.Path(dir_okay=False), required=False)
@click.option("--snapshot", metavar="ID", help="The id that it must be a proof from.")
@options.json_option
def check(file: str, artifact: str | None, snapshot: str | None, as_json: bool) -> int:
    """Check the proof in FILE, and that it is one for the bytes in ARTIFACT. No store is needed.

    It says that whoever made the snapshot with that id had that artifact: compare the id with the one
    that was printed, or give it with --snapshot.
    """
    from holdfast.format import proof

    found = proof.check(Path(file).read_bytes(), place=file)
    problems = []
    if snapshot is not None and str(found.snapshot) != snapshot:
        problems.append(f"{file} is a proof from {found.snapshot} and not from {snapshot}")
    if artifact is not None and (held := _digest(artifact)) != str(found.digest):
        problems.append(f"{artifact} has the digest {held} and should have {found.digest}")
    if as_json:
        about = {k: v if isinstance(v, int) else str(v) for k, v in asdict(found).items()}
        about |= {"snapshot": str(found.snapshot), "digest": str(found.digest)}
        options.say_json({**about, "holds": not problems, "problems": problems})
    elif not problems:
        click.echo(
            f"{found.key} of run {found.run_id}, {found.digest} ({size(found.size_bytes)}), is in "
            f"snapshot {found.snapshot}"
        )
    for problem in problems:
        exits.complain(problem)
    return exits.DAMAGED if problems else exits.OK


def _digest(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
