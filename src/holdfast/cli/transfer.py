"""What `push`, `pull`, `sync` and `clone` share: their options, what they say, and their exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import exits, options
from holdfast.cli.progress import Progress
from holdfast.cli.table import size

if TYPE_CHECKING:
    from holdfast import ExperimentStore

_SELECTING = [
    click.option("--where", metavar="QUERY", help="Only the runs that match."),
    click.option(
        "--artifacts",
        metavar="GLOB",
        multiple=True,
        help="Only artifacts whose key matches, or `none`; may be given several times.",
    ),
    click.option("--no-metrics", is_flag=True, help="Leave the points out."),
]
_WORKING = [
    click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing."),
    click.option("--fork", is_flag=True, help="Bring runs that both sides changed in as new runs."),
    click.option("--limit", metavar="SIZE", help="The most that is sent in a second, as 20MB."),
    click.option("--recheck", is_flag=True, help="Look again at what was found equal before."),
    click.option(
        "--follow", is_flag=True, help="Go on until the runs that are being written have ended."
    ),
    click.option(
        "--every",
        metavar="SECONDS",
        type=click.FloatRange(min=0.1),
        default=10.0,
        help="How often, with --follow (10).",
    ),
    options.json_option,
]
Function = Callable[..., Any]


def selecting(function: Function) -> Function:
    """The options that say what goes over."""
    for option in reversed(_SELECTING):
        function = option(function)
    return function


def working(function: Function) -> Function:
    """The options that say how."""
    for option in reversed(_WORKING):
        function = option(function)
    return function


def opened(url: str, *, write: bool, create: bool = False) -> ExperimentStore:
    """A store that is one side. Raises NotAStore: a place that is no store is rather a slip than a wish."""
    import holdfast

    try:
        return holdfast.open(url, create=create, read_only=not write)
    except holdfast.errors.NotAStore as error:
        if "holdfast init" not in error.message:
            raise
        raise holdfast.errors.NotAStore(
            f"{url} is not a Holdfast store: `holdfast clone SOURCE {url}` or `holdfast init {url}` "
            "makes one",
            url=url,
        ) from error


@contextmanager
def sides(
    url: str, places: tuple[str, ...], *, both: bool
) -> Iterator[tuple[ExperimentStore, ExperimentStore]]:
    """SOURCE and TARGET of `push`; with `both`, which are then written, of `sync`. By default they are the
    store at `url`, and the one that it was pushed to last."""
    if len(places) > 2:
        raise click.UsageError("give at most SOURCE and TARGET")
    with opened(places[0] if len(places) == 2 else url, write=both) as source:
        target_url = places[-1] if places else source.peer
        if target_url is None:
            raise click.UsageError("this store was not pushed anywhere before: give TARGET")
        with opened(target_url, write=True) as target:
            source.peer = target_url
            yield source, target


def arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the command line as those of `sync_to`. Raises InvalidValue."""
    from holdfast.names import size_of

    keys = tuple(given["artifacts"])
    limit = given["limit"]
    return {
        "where": given["where"],
        "artifacts": None if keys == ("none",) else keys or "*",
        "metrics": not given["no_metrics"],
        "fork": given["fork"],
        "recheck": given["recheck"],
        "limit_bytes": None if limit is None else max(1, size_of(limit, "--limit")),
    }


def carry_out(ways: list[tuple[ExperimentStore, ExperimentStore]], given: Mapping[str, Any]) -> int:
    """Bring each first store's runs to the second; returns the exit code."""
    wanted = arguments(given)
    if given["dry_run"]:
        plans = [one.sync_to(other, dry_run=True, **wanted) for one, other in ways]
        _say_plans(plans, given["as_json"])
        return _code(plans)
    code = exits.OK
    for reports in _rounds(ways, given, wanted):
        _say_reports(reports, given["as_json"])
        code = _code(reports)
    return code


def _rounds(
    ways: list[tuple[ExperimentStore, ExperimentStore]],
    given: Mapping[str, Any],
    wanted: dict[str, Any],
) -> Iterator[list[Any]]:
    """The reports of one round, or with --follow of round after round."""
    if not given["follow"]:
        reports = []
        for one, other in ways:
            with Progress("sending", sizes=True) as bar:
                reports.append(one.sync_to(other, progress=bar, **wanted))
        yield reports
        return
    one, other = ways[0]
    for report in one.follow_to(other, every_seconds=given["every"], **wanted):
        back = [there.sync_to(here, **wanted) for there, here in ways[1:]]
        yield [report, *back]


def _code(found: list[Any]) -> int:
    if any(one.findings for one in found):
        return exits.FINDINGS
    return exits.OK if all(one.ok for one in found) else exits.CONFLICT


def _say_plans(plans: list[Any], as_json: bool) -> None:
    rows = [
        {
            "source": plan.source,
            "target": plan.target,
            "runs": [run.run_id for run in plan.runs],
            "equal": plan.equal,
            "collected": plan.collected,
            "bytes": plan.size_bytes,
            "files": plan.files,
            "entries": plan.entries,
            "requests": plan.requests,
            "diverged": [asdict(one) for one in plan.diverged],
            "findings": [asdict(one) for one in plan.findings],
        }
        for plan in plans
    ]
    if as_json:
        options.say_json(rows)
        return
    for row, plan in zip(rows, plans, strict=True):
        click.echo(
            f"{row['source']} → {row['target']}: {_counted(len(row['runs']), 'run')} to send, "
            f"{size(row['bytes'])} in {_counted(row['files'], 'file')}, about "
            f"{_counted(row['requests'], 'request')}; {row['equal']:,} equal already"
        )
        _say_problems(plan)
    click.echo("nothing was sent: this was --dry-run")


def _say_reports(reports: list[Any], as_json: bool) -> None:
    if as_json:
        options.say_json([{**asdict(one), "ok": one.ok} for one in reports])
        return
    for one in reports:
        click.echo(
            f"{one.source} → {one.target}: {_counted(len(one.runs), 'run')} sent, "
            f"{size(one.sent_bytes)} in {_counted(one.files, 'file')}; {one.equal:,} equal already"
        )
        for text, names in _notes(one):
            click.echo(f"  {text}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}")
        _say_problems(one)


def _notes(one: Any) -> Iterator[tuple[str, list[str]]]:
    if one.open_runs:
        yield "still being written, so only up to the last sealing", one.open_runs
    if one.partial:
        yield "without some of their files", one.partial
    if one.forks:
        yield "brought in as new runs", one.forks
    if one.collected:
        yield "removed for good on one side, and left as they are on the other", one.collected


def _say_problems(one: Any) -> None:
    for found in one.findings:
        exits.complain(f"{found.message} (it affects {found.affects})")
    for split in one.diverged:
        if split.fork is None:
            exits.complain(
                f"{split.message}; nothing of it was sent: --fork brings it in as a new run"
            )
            _say_history("source", split.ours)
            _say_history("target", split.theirs)


def _say_history(side: str, events: Any) -> None:
    from holdfast import Timestamp

    for event in events:
        who = f", {event.writer}" if event.writer else ""
        click.echo(
            f"  {side} {event.number:>4} {Timestamp(event.at)} {', '.join(event.changed)}{who}",
            err=True,
        )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
