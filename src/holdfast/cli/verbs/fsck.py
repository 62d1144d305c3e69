"""`holdfast fsck`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from holdfast.cli import exits, options
from holdfast.cli.progress import Progress
from holdfast.cli.table import size

if TYPE_CHECKING:
    from holdfast import Finding, Report


@click.command()
@click.argument("run", required=False)
@click.option(
    "--depth", "-d", type=click.Choice(["names", "structure", "bytes"]), default="bytes",
    show_default=True, help="Is everything there; does it fit together; is every byte right?",
)  # fmt: skip
@click.option("--sample", metavar="1/N", help="Check one part of N: each day another one.")
@click.option("--part", type=int, help="With --sample: this part, from 0 on, not that of the day.")
@options.executor_option
@click.option("--restart", is_flag=True, help="Begin anew, not where a check was stopped.")
@options.store_option
@options.json_option
def command(
    url: str,
    run: str | None,
    depth: str,
    sample: str | None,
    part: int | None,
    executor: str | None,
    restart: bool,
    as_json: bool,
) -> int:
    """Check the store, or what RUN needs. Nothing is changed.

    What was stopped by Ctrl-C goes on where it was. The exit code is 1 when something is damaged. Notes
    tell what is harmless: what nothing refers to, spools of processes that are gone, files of others.
    """
    import holdfast

    with Progress("checking", sizes=depth == "bytes") as bar:
        found = holdfast.fsck(
            url, depth, run_id=run, sample=sample, part=part, executor=executor,
            resume=not restart, progress=bar,
        )  # fmt: skip
    if as_json:
        options.say_json(as_values(found))
    else:
        say(found, run or url)
    return exits.FINDINGS if found.findings else exits.OK


def as_values(found: Report) -> dict[str, object]:
    """The report for programs."""
    values = asdict(found)
    values["sample"] = f"{found.sample.part}/{found.sample.parts}"
    return values


def say(found: Report, what: str) -> None:
    """The report for people."""
    for one in found.findings:
        click.echo(described(one))
    for one in found.notes:
        click.echo(f"note: {one.code}: {one.message}")
    click.echo(f"{what}: {_scope(found)}: {_count(found)}")


def described(one: Finding) -> str:
    return f"{one.code}: {one.message}\n  affects {one.affects}\n  mend: {one.mend}"


def _scope(found: Report) -> str:
    scope = {"names": "the names", "structure": "the structure", "bytes": "every byte"}[found.depth]
    if found.sample.parts > 1:
        scope += f" of part {found.sample.part} of {found.sample.parts}"
    sizes = f", {size(found.checked_bytes)} read" if found.depth == "bytes" else ""
    before = f" ({size(found.resumed_bytes)} of it before)" if found.resumed_bytes else ""
    return f"{scope} of {found.files:,} files{sizes}{before}"


def _count(found: Report) -> str:
    many = len(found.findings)
    return "no damage" if not many else f"{many:,} {'findings' if many > 1 else 'finding'}"
