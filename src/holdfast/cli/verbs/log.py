"""`holdfast log`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import exits, lines, options
from holdfast.records import RunStatus

if TYPE_CHECKING:
    from holdfast import ExperimentStore, Run

_TOLD = 10  # mistakes are told one by one up to here; then they are only counted


@click.command()
@click.option("--experiment", "-e", metavar="NAME", help="Begin a new run of this experiment.")
@click.option("--run", "-r", "run_id", metavar="RUN", help="Or go on with this run.")
@click.option("--name", help="A name for the new run.")
@click.option("--config", metavar="JSON", help="The new run's config, or @FILE to read it from.")
@click.option("--tag", "-t", "tags", multiple=True, metavar="KEY[=VALUE]", help="May be repeated.")
@options.with_store(write=True, create=True)
def command(
    store: ExperimentStore,
    experiment: str | None,
    run_id: str | None,
    name: str | None,
    config: str | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> int:
    """Log metrics from standard input, one JSON object a line, from any language:

    \b
      {"step": 1, "loss": 0.5, "eval": {"acc": 0.9}}

    "step" and "timestamp" (RFC 3339, or ns since 1970) may be left out; nested names are joined by
    "/". The run's id is the first line of the output. A bad line is reported with its number and
    left out, so that the program that logs is never stopped; the exit code is then 1.
    """
    if (experiment is None) == (run_id is None):
        raise click.UsageError("give either --experiment NAME for a new run or --run RUN")
    if run_id is not None and (name or config or tags):
        raise click.UsageError("--name, --config and --tag belong to a new run, not to --run")
    if run_id is not None:
        run = store.resume(run_id)
    else:
        run = store.start_run(
            experiment or "",
            name=name,
            config=lines.read_config(config),
            tags=lines.read_tags(tags),
            capture=False,  # what is running is not this process
        )
    try:
        with run:
            if not as_json:
                click.echo(run.id)
                sys.stdout.flush()
            counts = _log_all(run)
    except KeyboardInterrupt:
        run.finish(RunStatus.CANCELLED)  # also when it came while the run was about to end well
        raise
    if as_json:
        options.say_json({"run_id": run.id, **counts})
    elif counts["bad_lines"]:
        exits.complain(f"{counts['bad_lines']} of {counts['lines']} lines were left out")
    return exits.FINDINGS if counts["bad_lines"] else exits.OK


def _log_all(run: Run) -> dict[str, Any]:
    counts = {"lines": 0, "bad_lines": 0}
    for number, raw in enumerate(sys.stdin.buffer, 1):
        if not raw.strip():
            continue
        counts["lines"] += 1
        problem = lines.log_line(run, raw)
        if problem:
            counts["bad_lines"] += 1
            if counts["bad_lines"] <= _TOLD:
                exits.complain(f"line {number}: {problem}")
            elif counts["bad_lines"] == _TOLD + 1:
                exits.complain("more bad lines follow; they are counted")
    return counts
