"""`holdfast lock add|get|check|ls|rm`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import exits, options
from holdfast.cli.progress import Progress
from holdfast.cli.table import size, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, Locked, LockFile

file_option = click.option(
    "--file", "-f", "path", default="holdfast.lock", show_default=True, help="The lock file."
)


def stores_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--store",
        "-s",
        "stores",
        multiple=True,
        metavar="URL",
        help="Where to look, instead of the store each artifact was locked from; several, in this order.",
    )(function)


@click.group()
def command() -> None:
    """Keep which bytes a project needs in a file beside its code, and bring exactly those.

    holdfast.lock is TOML, to be committed: for each name the sha256, the size, the run and the store.
    """


@command.command("add")
@click.argument("name")
@click.argument("address")
@file_option
@options.with_store()
def add(store: ExperimentStore, name: str, address: str, path: str, as_json: bool) -> None:
    """Lock the artifact at ADDRESS, as it is now, under NAME; what NAME locked before is replaced."""
    locked = _open(path).add(store, name, address)
    if as_json:
        options.say_json(locked.fields)
    else:
        click.echo(f"{name} is {locked.digest} ({size(locked.size_bytes)})")


@command.command("get")
@click.argument("names", nargs=-1)
@file_option
@stores_option
@click.option("--to", "-o", help="The directory to write to, instead of that of the lock file.")
@click.option("--overwrite", is_flag=True, help="Replace different files that are in the way.")
@options.json_option
def get(
    names: tuple[str, ...],
    path: str,
    stores: tuple[str, ...],
    to: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the artifacts NAMES (all, without) to disk, each under its name: exactly the locked bytes, or
    fail.

    What is there already and right is left alone, and needs no store.
    """
    from pathlib import Path

    lock, written = _open(path, stores), {}
    for name in _chosen(lock, names):
        target = None if to is None else Path(to) / name
        with Progress(f"reading {name}") as bar:
            written[name] = lock.get(name, target, overwrite=overwrite, progress=bar)
        if not as_json:
            click.echo(written[name])
    if as_json:
        options.say_json({name: str(target) for name, target in written.items()})


@command.command("check")
@click.argument("names", nargs=-1)
@file_option
@stores_option
@options.json_option
def check(names: tuple[str, ...], path: str, stores: tuple[str, ...], as_json: bool) -> int:
    """Read every byte of the artifacts NAMES (all, without) in the first store that has them.

    The exit code is 0 if the stores give all that is locked, else 1.
    """
    lock = _open(path, stores)
    with Progress("checking") as bar:
        found = lock.check(_chosen(lock, names), bar)
    bad = [one for one in found if one.problem is not None]
    if as_json:
        options.say_json(
            [
                {**one.locked.fields, "problem": one.problem.message if one.problem else None}
                for one in found
            ]
        )
    else:
        for one in bad:
            exits.complain(one.problem.message if one.problem else "")
        click.echo(f"{len(found) - len(bad)} of {len(found)} artifacts are there, every byte read")
    return exits.FINDINGS if bad else exits.OK


@command.command("ls")
@file_option
@options.json_option
def ls(path: str, as_json: bool) -> None:
    """List what is locked."""
    lock = _open(path)
    locked = [lock[name] for name in lock]
    if as_json:
        options.say_json([one.fields for one in locked])
    elif not locked:
        click.echo(f"{path} locks nothing: holdfast lock add NAME ADDRESS")
    else:
        click.echo(table(_HEAD, [_row(one) for one in locked]))


@command.command("rm")
@click.argument("name")
@file_option
@options.json_option
def rm(name: str, path: str, as_json: bool) -> None:
    """Take NAME out of the lock file."""
    _open(path).remove(name)
    if as_json:
        options.say_json({"removed": name})


def _open(path: str, stores: tuple[str, ...] = ()) -> LockFile:
    import warnings

    from holdfast import LockFile

    warnings.showwarning = options.warn  # type: ignore[assignment]
    return LockFile(path, stores=stores or None)


def _chosen(lock: LockFile, names: tuple[str, ...]) -> list[str]:
    """The names that were asked for, all if none were. Raises NotFound before anything is done."""
    for name in names:
        lock[name]
    if not names and not len(lock):
        raise click.UsageError(f"{lock.path} locks nothing: holdfast lock add NAME ADDRESS")
    return list(names or lock)


_HEAD = ["name", "address", "size", "sha256", "store"]


def _row(locked: Locked) -> list[str]:
    return [
        locked.name,
        locked.address,
        size(locked.size_bytes),
        locked.digest.hex[:16] + "…",
        locked.store,
    ]
