"""`holdfast repair`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from holdfast.cli import exits, options
from holdfast.cli.progress import Progress

if TYPE_CHECKING:
    from holdfast import Repaired


@click.command()
@click.option(
    "--from",
    "source",
    metavar="URL",
    help="Another store that may have it: a copy, a mirror.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--no-spools", is_flag=True, help="Leave alone what processes that are gone left behind."
)
@options.executor_option
@options.store_option
@options.json_option
def command(
    url: str,
    source: str | None,
    dry_run: bool,
    no_spools: bool,
    executor: str | None,
    as_json: bool,
) -> int:
    """Mend what fsck finds: from another store, from another form of the same artifact, from what is whole
    of the file itself.

    A damaged file goes to quarantine/ and a good one takes its place. Nothing is deleted, and an older
    state is never passed off as the newest. What cannot be mended is left as it is and told: exit code 1.
    """
    import holdfast

    with Progress("checking", sizes=True) as bar:
        done = holdfast.repair(
            url, source, dry_run=dry_run, spools=not no_spools, executor=executor,
            progress=bar,
        )  # fmt: skip
    if as_json:
        options.say_json(asdict(done))
    else:
        say(done, dry_run)
    return exits.FINDINGS if done.refused else exits.OK


def say(done: Repaired, dry_run: bool) -> None:
    """What was done, or would be, for people."""
    for one in done.mended:
        click.echo(f"{one.place}: {one.how}")
    for one in done.refused:
        click.echo(one.problem)
    words = "would be mended" if dry_run else "mended"
    refused = f", {len(done.refused):,} cannot be" if done.refused else ""
    click.echo(
        f"{len(done.mended):,} {words}{refused}" if done.mended or refused else "nothing to mend"
    )
    if dry_run and done.mended:
        click.echo("nothing was changed: this was --dry-run")
