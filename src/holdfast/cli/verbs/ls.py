"""`holdfast ls`."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, options
from holdfast.cli.table import table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, RunSummary


@click.command()
@options.with_store()
def command(store: ExperimentStore, as_json: bool) -> None:
    """List the experiments: how many runs each has, in which states, and when the last one began."""
    runs = defaultdict(list)
    for run in store.runs():  # newest first
        runs[run.experiment_id].append(run)
    experiments = store.experiments()
    if as_json:
        options.say_json(
            [
                {
                    "experiment_id": about.experiment_id,
                    "name": about.name,
                    "created_at": str(about.created_at),
                    "runs": len(runs[about.experiment_id]),
                    "states": Counter(run.state for run in runs[about.experiment_id]),
                }
                for about in experiments
            ]
        )
    elif not experiments:
        click.echo(
            "no experiments yet: `holdfast demo`, `holdfast log` or a script makes the first"
        )
    else:
        rows = [_row(about.name, runs[about.experiment_id]) for about in experiments]
        click.echo(table(["experiment", "runs", "states", "last begun"], rows))


def _row(name: str, runs: list[RunSummary]) -> list[str]:
    states = Counter(run.state for run in runs)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return [name, str(len(runs)), told, describe.ago(runs[0].started_at if runs else None)]
