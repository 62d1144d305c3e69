"""Several runs side by side, as a plot, a table, CSV or JSON."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import describe, options
from holdfast.cli.plot import line_plot
from holdfast.cli.table import number, table

if TYPE_CHECKING:
    from holdfast import Aligned


def show(
    found: Aligned, plot: bool, logarithmic: bool, as_csv: bool, as_json: bool, limit: int
) -> None:
    """Print it in the form that was asked for; the last `limit` lines of a table, 0 for all."""
    if as_csv:
        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow([found.on, *found.columns])
        out.writerows([x, *map(_repr, values)] for x, values in _rows(found))
    elif as_json:
        options.say_json({"on": found.on, "x": _axis(found), "columns": _columns(found)})
    elif plot:
        curves = {
            name: (_seconds(found)[there], found[name][there])
            for name, there in found.present.items()
        }
        click.echo(line_plot(curves, log=logarithmic))
        if found.on == "time":
            click.echo(f"{'':>10} seconds since 1970, UTC")
    elif not len(found):
        click.echo("nothing was logged to these runs")
    else:
        click.echo(_table(found, limit))


def _seconds(found: Aligned) -> Any:
    return found.x / 1e9 if found.on == "time" else found.x


def _table(found: Aligned, limit: int) -> str:
    rows = list(_rows(found))
    kept = rows[-limit:] if limit else rows
    cells = [[describe.cell(x), *map(number, values)] for x, values in kept]
    lines = table([found.on, *found.columns], cells)
    left = len(rows) - len(kept)
    return f"{lines}\n({left:,} earlier rows: --limit 0 shows all)" if left else lines


def _repr(value: float | None) -> str:
    return "" if value is None else repr(value)


def _axis(found: Aligned) -> list[Any]:
    from holdfast import Timestamp

    plain: list[Any] = found.x.tolist()
    return [str(Timestamp(at)) for at in plain] if found.on == "time" else plain


def _columns(found: Aligned) -> dict[str, list[float | None]]:
    """None where a series has no point."""
    return {
        name: [value if there else None for value, there in zip(values, present, strict=True)]
        for (name, values), present in zip(
            ((name, column.tolist()) for name, column in found.columns.items()),
            (there.tolist() for there in found.present.values()),
            strict=True,
        )
    }


def _rows(found: Aligned) -> Any:
    return zip(_axis(found), zip(*_columns(found).values(), strict=True), strict=True)
