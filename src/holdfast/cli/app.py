"""The command `holdfast` and its verbs; each verb is imported when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from holdfast import __version__
from holdfast.cli import exits
from holdfast.cli.plain import plain
from holdfast.errors import HoldfastError

VERBS = {  # in the order of `holdfast --help`: one module of holdfast.cli.verbs each
    "demo": "Train small models, log them, find the best one, read it back.",
    "init": "Make a new store.",
    "log": "Log metrics from JSON lines on standard input.",
    "put": "Add a file or directory to a run.",
    "ls": "List the experiments.",
    "runs": "List, filter and sort runs.",
    "sql": "Ask the runs in SQL.",
    "show": "Show everything about one run.",
    "metrics": "Show the metrics of a run: table, curve or CSV.",
    "watch": "Watch a run while it goes on.",
    "artifacts": "List the artifacts of a run.",
    "alias": "Name runs and artifacts, and move the names.",
    "get": "Write an artifact to disk, verified.",
    "cat": "Write an artifact to standard output, verified.",
    "diff": "Show which tensors of a checkpoint changed.",
    "lock": "Keep which bytes a project needs, and bring exactly those.",
    "lineage": "Show what made what.",
    "du": "Show what takes the space, and what removing it would free.",
    "export": "Write the store in the seed schema's JSON lines.",
    "snapshot": "Print one digest of everything in the store, and keep it.",
    "proof": "Prove that a snapshot holds an artifact.",
    "fsck": "Check the store: its names, its structure, or every byte.",
    "repair": "Mend what fsck finds, from another store or from what is whole.",
    "push": "Send runs from this store to another.",
    "pull": "Bring runs from another store into this one.",
    "sync": "Bring two stores up to each other, both ways.",
    "clone": "Make a new store with all that another one has.",
    "verify": "Read and check every byte.",
    "sign": "Sign a snapshot, so that others can tell that it is yours.",
    "compact": "Put the small metric segments of runs together.",
    "pack": "Store artifacts as chunks shared with other versions.",
    "materialize": "Store artifacts as plain files.",
    "cache": "Show, shrink or clear what is kept of buckets here.",
    "recover": "Seal what crashed processes left behind.",
    "rm": "Put a tombstone on runs.",
    "undelete": "Take the tombstone off runs.",
    "gc": "Free what nothing needs.",
    "completion": "Print the completion script for a shell.",
}
WIDTH = 100


class _PastClick(Exception):
    def __init__(self, reason: BaseException) -> None:
        super().__init__(reason)
        self.reason = reason


class Verbs(click.Group):
    """A group that knows its verbs' names without importing them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return load(name) if name in VERBS else None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, 1)
            hint = f": did you mean {near[0]}?" if near else ": see holdfast --help"
            raise click.UsageError(f"there is no verb {args[0]!r}{hint}", context)
        return super().resolve_command(context, args)

    def invoke(self, context: click.Context) -> Any:
        """click has its own idea of Ctrl-C and of a closed pipe; ours go past it."""
        try:
            code = super().invoke(context)
            sys.stdout.flush()
            return code
        except (KeyboardInterrupt, BrokenPipeError) as error:
            raise _PastClick(error) from error

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


def load(verb: str) -> click.Command:
    """The command of a verb."""
    command: click.Command = import_module(f"holdfast.cli.verbs.{verb}").command
    command.name = verb
    command.short_help = VERBS[verb]
    return command


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    epilog="The store is --store, else $HOLDFAST_STORE, else the nearest directory upwards that is"
    " one, else ./holdfast. Every verb explains itself with --help.",
)
@click.version_option(__version__, "--version", message="holdfast %(version)s")
def holdfast() -> None:
    """A content-addressed repository for machine-learning experiments."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run one command and turn whatever happens into an exit code."""
    with plain():
        return _told(argv)


def _told(argv: Sequence[str] | None) -> int:
    try:
        return _run(argv)
    except _PastClick as error:
        if isinstance(error.reason, BrokenPipeError):  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return exits.OK
        exits.complain("stopped")
        return exits.INTERRUPTED
    except (HoldfastError, OSError) as error:
        exits.complain(exits.sentence(error))
        return exits.code_of(error)


def _run(argv: Sequence[str] | None) -> int:
    arguments = None if argv is None else list(argv)
    try:
        code: Any = holdfast.main(arguments, prog_name="holdfast", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return exits.USAGE
    except click.UsageError as error:
        exits.complain(_usage(error))
        return exits.USAGE
    except click.ClickException as error:  # a file that a parameter names cannot be opened
        exits.complain(error.format_message())
        return exits.NOT_FOUND
    return code if isinstance(code, int) else exits.OK


def _usage(error: click.UsageError) -> str:
    message = error.format_message().rstrip(".")
    message = message[:1].lower() + message[1:]
    where = error.ctx.command_path if error.ctx else "holdfast"
    if where == "holdfast" and isinstance(error, click.NoSuchOption):
        message += "; options come behind the verb"
    return message if "--help" in message else f"{message} (see {where} --help)"
