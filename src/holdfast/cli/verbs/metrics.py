"""`holdfast metrics`."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, options
from holdfast.cli.plot import line_plot, sparkline
from holdfast.cli.table import number, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, Series, Timestamp

LIMIT = 20


@click.command()
@click.argument("run")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--plot", is_flag=True, help="Draw the curves.")
@click.option("--log", "logarithmic", is_flag=True, help="A logarithmic value axis for --plot.")
@click.option("--csv", "as_csv", is_flag=True, help="Every point: key,step,timestamp,value.")
@click.option("--limit", "-n", type=click.IntRange(0), default=LIMIT, show_default=True,
              help="The last N points in the table; 0 is all.")  # fmt: skip
@options.with_store()
def command(
    store: ExperimentStore,
    run: str,
    keys: tuple[str, ...],
    plot: bool,
    logarithmic: bool,
    as_csv: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Show the metrics of RUN at a glance, or the points of each KEY."""
    wanted = list(keys) or store.metric_keys(run)
    series = [store.metrics(run, key) for key in wanted]
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
    for one in series:
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
