"""`holdfast metrics`."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import compared, describe, options
from holdfast.cli.plot import line_plot, sparkline
from holdfast.cli.table import number, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, Series, Timestamp
    from holdfast.together import On

LIMIT = 20
CURVE_POINTS = 2000  # a terminal shows no more; of a long run they cost one small read


@click.command()
@click.argument("run")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--compare", "-c", "others", multiple=True, metavar="RUN",
              help="Put another run beside it; may be given again.")  # fmt: skip
@click.option("--on", type=click.Choice(["step", "time", "relative"]),
              help="With --compare, the axis they share.  [default: step]")  # fmt: skip
@click.option("--steps", metavar="A:B", callback=lambda c, p, value: _steps(value),
              help="From step A to before B; either may be left out.")  # fmt: skip
@click.option("--last", type=click.IntRange(1), metavar="N", help="The last N points.")
@click.option("--rank", type=click.IntRange(0), help="The points of one process of the run.")
@click.option("--reduce", type=click.Choice(["mean", "min", "max", "sum", "last"]),
              help="Merge the ranks at equal steps.")  # fmt: skip
@click.option("--max-points", type=click.IntRange(4), metavar="N",
              help="Thin each curve out to N points that look the same.  [with --plot: 2000]")  # fmt: skip
@click.option("--plot", is_flag=True, help="Draw the curves.")
@click.option("--log", "logarithmic", is_flag=True, help="A logarithmic value axis for --plot.")
@click.option("--csv", "as_csv", is_flag=True,
              help="Every point: key,step,timestamp,value; with --compare a column for each.")  # fmt: skip
@click.option("--limit", "-n", type=click.IntRange(0), default=LIMIT, show_default=True,
              help="The last N points in the table; 0 is all.")  # fmt: skip
@options.with_store()
def command(
    store: ExperimentStore,
    run: str,
    keys: tuple[str, ...],
    others: tuple[str, ...],
    on: On | None,
    plot: bool,
    logarithmic: bool,
    as_csv: bool,
    limit: int,
    as_json: bool,
    **selection: Any,
) -> None:
    """Show the metrics of RUN at a glance, or the points of each KEY.

    A KEY may be a glob, such as 'train/*', in quotes. With --compare, the metrics of several runs are
    shown side by side.
    """
    if plot and selection["max_points"] is None:
        selection["max_points"] = CURVE_POINTS
    if others or on:
        wanted = keys[0] if len(keys) == 1 else list(keys) or "*"
        found = store.metrics([run, *others], wanted, on=on or "step", **selection)
        compared.show(found, plot, logarithmic, as_csv, as_json, limit)
        return
    each: Any = store.metrics(run, list(keys) or "*", **selection)
    series: list[Series] = list(each.values())
    if as_csv:
        _csv(series)
    elif as_json:
        options.say_json({one.key: _json(one) for one in series})
    elif not series:
        click.echo("nothing was logged to this run")
    elif plot:
        curves = {one.key: (one.steps, one.values) for one in series}
        click.echo(line_plot(curves, log=logarithmic))
    elif keys:
        click.echo(_points(series, limit))
    else:
        click.echo(_glance(series))


def _steps(text: str | None) -> tuple[int | None, int | None] | None:
    """The range that `A:B` means."""
    if text is None:
        return None
    first, colon, stop = text.partition(":")
    if not colon or any(end and not end.isdecimal() for end in (first, stop)):
        raise click.BadParameter(f"{text!r} is not such as 100:200, 100: or :200")
    return int(first) if first else None, int(stop) if stop else None


def _csv(series: list[Series]) -> None:
    from holdfast import Timestamp

    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["key", "step", "timestamp", "value"])
    for one in series:
        times = (Timestamp(at) for at in one.timestamps.tolist())
        rows = zip(one.steps.tolist(), times, one.values.tolist(), strict=True)
        out.writerows((one.key, step, at, repr(value)) for step, at, value in rows)


def _json(series: Series) -> dict[str, list[object]]:
    from holdfast import Timestamp

    return {
        "steps": series.steps.tolist(),
        "timestamps": [str(Timestamp(at)) for at in series.timestamps.tolist()],
        "values": series.values.tolist(),
    }


def _glance(series: list[Series]) -> str:
    import numpy as np

    rows = []
    for one in filter(len, series):
        real = one.values[~np.isnan(one.values)]
        ends = (real.min(), real.max()) if len(real) else (None, None)
        cells = [number(None if value is None else float(value)) for value in ends]
        last = [str(len(one)), str(one.steps[-1]), sparkline(one.values.tolist())]
        rows.append([one.key, number(float(one.values[-1])), *cells, *last])
    return table(["metric", "last", "min", "max", "points", "last step", "curve"], rows)


def _points(series: list[Series], limit: int) -> str:
    """One line a step, one column a key; a step logged again shows its last value."""
    at: dict[int, Timestamp] = {}
    values: list[dict[int, float]] = []
    for one in series:
        at.update(zip(one.steps.tolist(), _moments(one), strict=True))
        values.append(dict(one))
    steps = sorted(at)
    kept = steps[-limit:] if limit else steps
    rows = [
        [str(step), *(number(of.get(step)) for of in values), describe.cell(at[step])]
        for step in kept
    ]
    lines = table(["step", *(one.key for one in series), "logged at"], rows)
    left = len(steps) - len(kept)
    return (
        f"{lines}\n({left:,} earlier steps: --limit 0 shows all, --csv writes them)"
        if left
        else lines
    )


def _moments(series: Series) -> list[Timestamp]:
    from holdfast import Timestamp

    return [Timestamp(at) for at in series.timestamps.tolist()]
