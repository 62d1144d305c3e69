"""`holdfast sql`."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import describe, options
from holdfast.cli.table import table

if TYPE_CHECKING:
    from holdfast import ExperimentStore

LIMIT = 100_000


@click.command()
@click.argument("query")
@click.option(
    "--csv", "as_csv", is_flag=True, help="Write CSV, with the names of the columns first."
)
@click.option("--max-rows", type=click.IntRange(1), default=LIMIT, show_default=True,
              help="A longer answer is a mistake.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=60.0,
              show_default=True, metavar="SECONDS", help="A slower answer is one too.")  # fmt: skip
@options.with_store()
def command(
    store: ExperimentStore, query: str, as_csv: bool, max_rows: int, timeout: float, as_json: bool
) -> None:
    """Give the answer to one SELECT over these views; deleted runs are in none of them:

    \b
      runs         run_id experiment name status state started_at duration note …
      config       run_id key value
      tags         run_id key value
      metrics      run_id key last min max mean first count nan first_step last_step
      artifacts    run_id key size_bytes digest
      inputs       run_id key size_bytes digest
      experiments  experiment_id name created_at

    It is SQLite's SQL, and it only reads. With --json the answer is a list of objects.
    """
    found = store.sql(query, max_rows=max_rows, timeout_seconds=timeout)
    if as_json:
        options.say_json([{k: _plain(v) for k, v in row.items()} for row in found.to_dicts()])
    elif as_csv:
        out = csv.writer(sys.stdout, lineterminator="\n")
        out.writerow(found.columns)
        out.writerows([_plain(value) for value in row] for row in found)
    elif not found:
        click.echo("no rows")
    else:
        rows = [[describe.cell(_plain(value)) for value in row] for row in found]
        click.echo(table(found.columns, rows, whole=["run_id", "digest"]))


def _plain(value: Any) -> Any:
    """Bytes in hexadecimal; everything else as it is."""
    return value.hex() if isinstance(value, bytes) else value
