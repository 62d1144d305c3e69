"""`holdfast gc`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import options
from holdfast.cli.progress import Progress
from holdfast.cli.table import size, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, GcPlan, Policy


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be freed, and do nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--keep", metavar="WHERE", help='Keep the runs that match, such as "tags.keep".')
@click.option(
    "--keep-last", type=int, metavar="N", help="Keep the newest N runs of each experiment."
)
@click.option("--keep-best", metavar="METRIC:min:N", help="Keep the N best of each experiment.")
@click.option(
    "--policy", type=click.Choice(["show", "set", "clear"]),
    help="Show the rules that the store has, set them to the rules given here, or take them away.",
)  # fmt: skip
@click.option("--end-sync", metavar="ID", help="Say that a sync which was interrupted is over.")
@options.with_store(write=True)
def command(
    store: ExperimentStore,
    dry_run: bool,
    yes: bool,
    keep: str | None,
    keep_last: int | None,
    keep_best: str | None,
    policy: str | None,
    end_sync: str | None,
    as_json: bool,
) -> None:
    """Free what nothing needs: deleted runs, runs that no rule keeps, and what is left of old writes.

    It shows what would go, and asks. Other processes may write, read and collect meanwhile. A run that has
    not ended is never removed by a rule, and what an alias or a snapshot names stays.
    """
    rules = _rules(keep, keep_last, keep_best)
    if end_sync:
        store.end_sync(end_sync)
    if policy is not None:
        _policy(store, policy, rules, as_json)
        return
    with Progress("reading") as bar:
        plan = store.gc_plan(rules or None, bar)
    if as_json and dry_run:
        options.say_json(_described(plan))
        return
    if not as_json:
        _show(plan)
    if dry_run:
        click.echo("nothing was changed: this was --dry-run")
        return
    if not yes and plan.removals and sys.stdin.isatty():
        click.confirm("Remove these for good?", abort=True)
    elif not yes and plan.removals:
        raise click.UsageError("runs would be removed for good: say --yes, or --dry-run")
    with Progress("removing") as bar:
        done = store.gc(plan, bar)
    if as_json:
        options.say_json(asdict(done))
        return
    click.echo(f"{size(done.size_bytes)} in {done.files:,} files were freed")


def _rules(keep: str | None, keep_last: int | None, keep_best: str | None) -> Policy:
    from holdfast import Policy

    return Policy.parse(keep, keep_last, keep_best)


def _policy(store: ExperimentStore, what: str, rules: Policy, as_json: bool) -> None:
    from holdfast import Policy

    if what != "show":
        store.set_gc_policy(rules if what == "set" else Policy())
    found = store.gc_policy()
    if as_json:
        options.say_json(asdict(found))
    else:
        click.echo(str(found))


def _show(plan: GcPlan) -> None:
    rows = []
    for one in plan.removals:
        rows.append([one.run_id, one.experiment_id, size(one.freed_bytes), one.reason])
        rows += [[f"  {key}", "", size(freed), ""] for key, freed in one.artifacts.items()]
    if rows:
        click.echo(table(["run", "experiment", "frees", ""], rows, whole=["run"]))
    if plan.other_bytes:
        click.echo(f"{size(plan.other_bytes)} that no run needs")
    click.echo(f"{size(plan.size_bytes)} in {len(plan.names):,} files in all")
    for run_id, name in plan.kept.items():
        click.echo(f"{run_id} stays: {name.rstrip('/')} needs it")
    for sync_id in plan.open_syncs:
        click.echo(f"sync {sync_id} has not ended: what it brought stays (--end-sync ends it)")
    if plan.unfinished:
        click.echo("another collection was left unfinished: it is finished first")


def _described(plan: GcPlan) -> dict[str, Any]:
    return {
        "runs": [{**asdict(one), "freed_bytes": one.freed_bytes} for one in plan.removals],
        "files": len(plan.names),
        "size_bytes": plan.size_bytes,
        "other_bytes": plan.other_bytes,
        "kept": dict(plan.kept),
        "open_syncs": plan.open_syncs,
        "unfinished": plan.unfinished,
    }
