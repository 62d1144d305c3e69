"""The reference page of the command line, from the commands themselves.

    python -m holdfast.cli.reference > docs/reference/cli.md

A test holds the page against this, so that it cannot say what is not so.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import click

from holdfast.cli import exits
from holdfast.cli.app import VERBS, load

INTRODUCTION = """# The command line

`holdfast VERB …`. Every verb takes `--help` and `--json` (but `completion`, which prints a script).

The store is `--store`, else `$HOLDFAST_STORE`, else the nearest directory upwards that is a store or holds
one as `holdfast`, else `./holdfast`. A RUN is the id of one, the begin or end of an id if only one run
has it, or an alias of one. An ADDRESS names an artifact: `RUN:KEY`, `ALIAS`, `ALIAS:KEY`,
`EXPERIMENT:KEY@v3`, `EXPERIMENT:KEY@latest` or `sha256:` and 64 digits ([addresses](addresses.md)).

What is asked for goes to standard output; complaints, warnings and progress go to standard error. A
mistake is told in one sentence; `HOLDFAST_TRACEBACK=1` adds where it came from. In JSON, times are RFC 3339
in UTC, and NaN and infinities are the texts `"NaN"`, `"Infinity"` and `"-Infinity"`.

## Exit codes

| code | meaning |
|---|---|
"""


def page() -> str:
    """The whole page, in Markdown."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in exits.MEANINGS.items())
    return INTRODUCTION + codes + "".join(_verb(name, load(name)) for name in VERBS)


def _verb(name: str, command: click.Command, level: str = "##") -> str:
    """A verb, and behind it the verbs below it, if it has any."""
    inner = click.Context(command, info_name=f"holdfast {name}")
    usage = " ".join([f"holdfast {name}", *command.collect_usage_pieces(inner)])
    about = inspect.cleandoc(command.help or "").replace("\b\n", "")
    lines = [f"\n{level} {name}\n", f"`{usage}`\n", *_paragraphs(about)]
    lines += _options(command, inner)
    below = command.commands if isinstance(command, click.Group) else {}
    parts = [_verb(f"{name} {part}", below[part], f"{level}#") for part in below]
    return "\n".join(lines) + "\n" + "".join(parts)


def _paragraphs(text: str) -> Iterator[str]:
    """The help; an indented part is an example."""
    for part in text.split("\n\n"):
        indented = [line.startswith("  ") for line in part.splitlines()]
        if any(indented):
            yield f"```\n{textwrap.dedent(part)}\n```\n"
        else:
            yield f"{part}\n"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and isinstance(parameter, click.Option) and parameter.name != "as_json":
            yield f"* `{record[0]}`: {' '.join(record[1].split())}"


if __name__ == "__main__":
    print(page(), end="")
