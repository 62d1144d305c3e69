"""`holdfast alias set|ls|show|rm|undo`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import describe, options
from holdfast.cli.table import size, table

if TYPE_CHECKING:
    from holdfast import Alias, ExperimentStore


@click.group()
def command() -> None:
    """Names for runs and artifacts that can be moved: `prod/resnet` is an address like RUN:KEY.

    Every move is kept. An alias of an artifact stays with its bytes; one of a run means the run as it
    goes on.
    """


@command.command("set")
@click.argument("name")
@click.argument("address")
@click.option("--expect", metavar="ADDRESS", help="Move it only if it names this now.")
@click.option("--expect-generation", type=int, metavar="N", help="Move it only if it is there.")
@click.option("--new", is_flag=True, help="Only if it names nothing now.")
@options.with_store(write=True)
def set_(
    store: ExperimentStore,
    name: str,
    address: str,
    expect: str | None,
    expect_generation: int | None,
    new: bool,
    as_json: bool,
) -> None:
    """Have the alias NAME name a run or an artifact.

    Of two that move it with --expect at once, one is told that it was too late (exit code 6).
    """
    wanted = [value for value in (expect, expect_generation) if value is not None]
    if len(wanted) + new > 1:
        raise click.UsageError("give one of --expect, --expect-generation and --new")
    condition: dict[str, Any] = {"expect": None} if new else {}
    condition |= {"expect": wanted[0]} if wanted else {}
    _say(store.alias(name, address, **condition), as_json)


@command.command("ls")
@click.argument("under", default="", metavar="[PREFIX]")
@options.with_store()
def ls(store: ExperimentStore, under: str, as_json: bool) -> None:
    """List the aliases that name something, or those below PREFIX: `holdfast alias ls prod`."""
    found = store.aliases(under.rstrip("/"))
    if as_json:
        options.say_json([alias_json(alias) for alias in found])
    elif not found:
        click.echo("there are no aliases" + (f" below {under}" if under else ""))
    else:
        click.echo(table(["alias", *_HEAD[1:]], [[one.name, *_row(one)[1:]] for one in found]))


@command.command("show")
@click.argument("name")
@click.option("--then", metavar="TIME|N", help="Only what it named then, or at that generation.")
@options.with_store()
def show(store: ExperimentStore, name: str, then: str | None, as_json: bool) -> None:
    """Show everything that the alias NAME ever named, the newest last."""
    if then is not None:
        address = store.resolve(f"aliases/{name}", at=int(then) if then.isdecimal() else then)
        options.say_json({"alias": name, "address": address}) if as_json else click.echo(address)
        return
    found = store.alias_history(name)
    if as_json:
        options.say_json([alias_json(alias) for alias in found])
    else:
        click.echo(table(_HEAD, [_row(alias) for alias in found]))


@command.command("rm")
@click.argument("name")
@click.option("--expect", metavar="ADDRESS", help="Only if it names this now.")
@options.with_store(write=True)
def rm(store: ExperimentStore, name: str, expect: str | None, as_json: bool) -> None:
    """Have the alias NAME name nothing; its history stays, and `undo` brings it back."""
    _say(store.delete_alias(name, **({} if expect is None else {"expect": expect})), as_json)


@command.command("undo")
@click.argument("name")
@options.with_store(write=True)
def undo(store: ExperimentStore, name: str, as_json: bool) -> None:
    """Have the alias NAME name what it named before its newest move; a second undo takes that back."""
    _say(store.undo_alias(name), as_json)


_HEAD = ["generation", "names", "digest", "size", "moved"]


def _row(alias: Alias) -> list[str]:
    target = alias.target
    what = ["nothing", "-", "-"]
    if target is not None:
        length = "-" if target.size_bytes is None else size(target.size_bytes)
        what = [target.address, target.digest or "-", length]
    return [str(alias.generation), *what, describe.ago(alias.moved_at)]


def _say(alias: Alias, as_json: bool) -> None:
    if as_json:
        options.say_json(alias_json(alias))
    else:
        click.echo(
            f"{alias.name} names {alias.address or 'nothing'} (generation {alias.generation})"
        )


def alias_json(alias: Alias) -> dict[str, Any]:
    target = {} if alias.target is None else asdict(alias.target)
    about = {"generation": alias.generation, "moved_at": str(alias.moved_at)}
    return {"alias": alias.name, "address": alias.address, **target, **about}
