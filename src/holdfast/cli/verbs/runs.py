"""`holdfast runs`."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import describe, options
from holdfast.cli.table import duration, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, RunSummary

LIMIT = 50
_METRICS = 3  # of them are shown when no columns are asked for
_FIXED = ["run_id", "experiment", "name", "state", "started_at", "duration"]


@click.command()
@click.argument("experiment", required=False)
@click.option("--where", "-w", metavar="EXPR", help='For example "config.lr < 0.1 and tags.best".')
@click.option("--sort", metavar="FIELDS", help='For example "-metrics.loss.min, started_at".')
@click.option("--columns", "-c", metavar="FIELDS", help="What to show, with commas between.")
@click.option("--limit", "-n", type=click.IntRange(0), default=LIMIT, show_default=True)
@click.option("--all", "-a", "everything", is_flag=True, help="No limit, and deleted runs too.")
@options.with_store()
def command(
    store: ExperimentStore,
    experiment: str | None,
    where: str | None,
    sort: str | None,
    columns: str | None,
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List runs, newest first, of all experiments or of EXPERIMENT. The fields are:

    \b
      run_id experiment name state status started_at duration note …
      config.KEY  tags.KEY  metrics.KEY.last|min|max|mean|first|count
      metrics["train/loss"].last   for a key with other characters
    """
    if experiment is not None:
        _check_experiment(store, experiment)
        one = f"experiment == {experiment!r}"
        where = f"{one} and ({where})" if where and _checked(store, where) else one
    names = _names(columns) if columns else []
    if names:
        store.runs(order_by=names, limit=0)  # says so when there is no such field
    most = None if everything else limit + 1
    found = store.runs(where, sort, most, deleted=everything)
    more = not everything and len(found) > limit
    found = found if everything else found[:limit]
    if as_json:
        options.say_json([_json(run, names) for run in found])
        return
    if not found:
        click.echo("no runs match" if where else "no runs yet")
        return
    names = names or [*_FIXED, *_usual_metrics(found)]
    rows = [[_cell(run, name) for name in names] for run in found]
    click.echo(table([_head(name) for name in names], rows, whole=["run"]))
    if more:
        click.echo(f"… and more: --limit N or --all shows them (this is {limit})", err=True)


def _check_experiment(store: ExperimentStore, name: str) -> None:
    from difflib import get_close_matches

    from holdfast.errors import ExperimentNotFound

    names = [about.name for about in store.experiments()]
    if name not in names:
        near = get_close_matches(name, names, 1)
        hint = f": did you mean {near[0]}?" if near else "; holdfast ls lists them"
        raise ExperimentNotFound(f"there is no experiment {name!r}{hint}", name=name)


def _checked(store: ExperimentStore, where: str) -> bool:
    """Refuse a mistake where the user made it, not behind what we put in front of it."""
    store.runs(where, limit=0)
    return True


def _names(text: str) -> list[str]:
    """The fields between the commas; a comma in brackets or quotes is part of a name."""
    found = re.findall(r"""(?:[^,\["']|\[[^\]]*\]|"[^"]*"|'[^']*')+""", text)
    return [name.strip() for name in found if name.strip()]


def _usual_metrics(runs: list[RunSummary]) -> list[str]:
    """The metrics that most of the runs have."""
    seen = Counter(key for run in runs for key in run.metrics)
    return [f'metrics["{key}"].last' for key, _ in seen.most_common(_METRICS) if '"' not in key]


def _head(name: str) -> str:
    short = {"run_id": "run", "started_at": "started"}.get(name, name)
    quoted = re.fullmatch(r"""(?:metrics|config|tags)\[(["'])(.+)\1\](.*)""", short)
    bare = re.fullmatch(r"(?:metrics|config|tags)\.(.+)", short)
    inner = quoted[2] + quoted[3] if quoted else bare[1] if bare else short
    return inner.removesuffix(".last")


def _cell(run: RunSummary, name: str) -> str:
    value = run.value(name)
    if name == "duration":
        return duration(value)
    return describe.ago(value) if name.endswith("_at") else describe.cell(value)


def _json(run: RunSummary, names: list[str]) -> dict[str, Any]:
    if not names:
        return describe.run_json(run)
    values = {name: run.value(name) for name in names}
    return {name: str(v) if name.endswith("_at") and v else v for name, v in values.items()}
