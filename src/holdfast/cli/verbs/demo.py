"""`holdfast demo`."""

from __future__ import annotations

from pathlib import Path

import click

from holdfast.cli import exits, options
from holdfast.cli.plot import line_plot
from holdfast.cli.table import table

DEFAULT = "holdfast-demo"  # $HOLDFAST_STORE may be somebody's real work


@click.command()
@click.option("--store", "-s", "url", default=DEFAULT, show_default=True, metavar="URL",
              help="Where to keep the runs.")  # fmt: skip
@options.json_option
def command(url: str, as_json: bool) -> int:
    """Train small models on 1,797 handwritten digits, log them, find the best one by a query, read
    its checkpoint back by its sha256, and evaluate it again.

    The exit code is 1 when the accuracy is not the one that was logged.
    """
    from holdfast.demo.main import run_demo

    lines: list[str] = []
    same = run_demo(url, lines.append if as_json else click.echo, line_plot, table)
    if as_json:
        options.say_json({"store": url, "same_accuracy": same})
    elif same:
        shown = url if "://" in url else _short(Path(url))
        click.echo(f"\nLook around:\n  holdfast runs --store {shown}")
        order = "'-metrics[\"val/accuracy\"].last'"
        click.echo(f"  holdfast runs --store {shown} --where 'config.lr < 0.1' --sort {order}")
        click.echo(f"  holdfast verify --store {shown}")
    return exits.OK if same else exits.FINDINGS


def _short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
