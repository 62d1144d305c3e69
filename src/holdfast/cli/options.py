"""What verbs share: the option that chooses the store, the one for JSON, and how to say things."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from holdfast import ExperimentStore

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT = "holdfast"


def find_store(named: str | None) -> str:
    """--store, else $HOLDFAST_STORE, else the nearest directory upwards that is one."""
    if named:
        return named
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "store.json").is_file():
            return str(folder)
        if (folder / DEFAULT / "store.json").is_file():
            return str(folder / DEFAULT)
    return DEFAULT


store_option = click.option(
    "--store",
    "-s",
    "url",
    envvar="HOLDFAST_STORE",
    show_envvar=True,
    metavar="URL",
    callback=lambda context, parameter, value: find_store(value),
    help="The store: a directory or a URL.",
)
at_option = click.option(
    "--at", metavar="SNAPSHOT", help="The store as it was: the name or id of a snapshot."
)
executor_option = click.option(
    "--executor", "-x", metavar="WHERE",
    help="Run it on threads[:N], processes[:N], dask://host:port or ray://host:port.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")


def with_store(*, write: bool = False, create: bool = False) -> Callable[[Command], Command]:
    """Give a verb its store, open while it runs, as the first argument; adds --store and --json, and --at
    to a verb that only reads."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def opened(url: str, at: str | None = None, **arguments: Any) -> Any:
            # A store that was named and is not there is more likely a slip than a wish.
            found = create and url == DEFAULT
            with _open(url, write=write, create=found, at=at) as store:
                return function(store, **arguments)

        whole = opened if write else at_option(opened)
        return json_option(store_option(whole))  # type: ignore[return-value]

    return decorate


def _open(url: str, *, write: bool, create: bool, at: str | None) -> ExperimentStore:
    import warnings

    import holdfast

    warnings.showwarning = warn  # type: ignore[assignment]
    try:
        return holdfast.open(url, create=create, read_only=not write, at=at)
    except holdfast.errors.NotAStore as error:
        hint = "" if "holdfast init" not in error.message else ", or name one with --store"
        raise holdfast.errors.NotAStore(f"{error.message}{hint}", **error.details) from error


def warn(message: Warning | str, *rest: Any) -> None:
    print(f"holdfast: warning: {message}", file=sys.stderr)


def say_json(value: Any) -> None:
    """One JSON document on standard output; NaN and infinities as text, so that any parser reads it."""
    click.echo(json.dumps(strict(value), ensure_ascii=False, indent=2, allow_nan=False))


def strict(value: Any) -> Any:
    """The value as JSON can say it: NaN and infinities as text."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    return value


def at_terminal() -> bool:
    """True when a person watches stderr."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
