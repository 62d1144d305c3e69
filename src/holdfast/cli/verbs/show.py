"""`holdfast show`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from holdfast.cli import describe, options
from holdfast.cli.table import duration, size, table

if TYPE_CHECKING:
    from holdfast import ExperimentStore, RunSummary


@click.command()
@click.argument("run")
@options.with_store()
def command(store: ExperimentStore, run: str, as_json: bool) -> None:
    """Show everything about RUN: an id, or the begin or end of one."""
    about = store.run(run)
    if as_json:
        options.say_json(describe.run_json(about))
    else:
        click.echo("\n".join(_lines(about)))


def _lines(run: RunSummary) -> Iterator[str]:
    yield f"run         {run.run_id}{'   (deleted: holdfast undelete)' if run.deleted else ''}"
    yield f"experiment  {run.experiment}"
    if run.name:
        yield f"name        {run.name}"
    yield f"state       {run.state}{_error(run)}"
    yield f"started     {describe.cell(run.started_at)}  ({describe.ago(run.started_at)})"
    yield f"duration    {duration(run.duration_seconds)}"
    if run.attempts > 1:
        yield f"attempts    {run.attempts}"
    if run.ranks:
        yield f"ranks       {describe.spans(run.ranks)}  ({len(run.ranks)} joined)"
    if run.note:
        yield f"note        {run.note}"
    yield from _pairs("tags", list(run.tags.items()))
    yield from _pairs("config", list(describe.leaves(run.config)))
    yield from _metrics(run)
    yield from _artifacts(run)
    yield from _inputs(run)
    yield from _source(run)


def _error(run: RunSummary) -> str:
    if not run.error:
        return ""
    parts = [run.error.get("type"), run.error.get("message")]
    return "".join(f": {part}" for part in parts if part and part != run.state)


def _pairs(title: str, pairs: list[tuple[str, object]]) -> Iterator[str]:
    if pairs:
        width = max(len(key) for key, _ in pairs)
        yield f"\n{title}"
        yield from (f"  {key:<{width}}  {describe.cell(value)}" for key, value in pairs)


def _metrics(run: RunSummary) -> Iterator[str]:
    if run.metrics:
        cell = describe.cell
        rows = [
            [key, *map(cell, (of.last, of.min, of.max, of.mean)), str(of.count), str(of.last_step)]
            for key, of in sorted(run.metrics.items())
        ]
        yield "\n" + table(["metric", "last", "min", "max", "mean", "points", "last step"], rows)
    if run.status.value == "Running":
        yield "  (points of a running run are counted when they are sealed: see holdfast metrics)"


def _artifacts(run: RunSummary) -> Iterator[str]:
    if run.artifacts:
        rows = [
            [about.key, size(about.size_bytes), about.kind, str(about.digest)]
            for about in sorted(run.artifacts.values(), key=lambda about: about.key)
        ]
        yield "\n" + table(["artifact", "size", "kind", "digest"], rows)


def _inputs(run: RunSummary) -> Iterator[str]:
    if run.inputs:
        rows = [
            [about.address, f"run {about.run_id}" if about.run_id else "-", str(about.digest)]
            for about in run.inputs
        ]
        yield "\n" + table(["read", "made by", "digest"], rows)


def _source(run: RunSummary) -> Iterator[str]:
    source = run.source
    git, python, system = (source.get(part, {}) for part in ("git", "python", "platform"))
    pairs: list[tuple[str, object]] = []
    if argv := source.get("command", {}).get("argv"):
        pairs.append(("command", " ".join(map(str, argv))))
    if git:
        dirty = f", {git.get('changed_files')} files changed" if git.get("dirty") else ", clean"
        pairs.append(("git", f"{git.get('commit')} ({git.get('branch')}{dirty})"))
    if python:
        pairs.append(("python", f"{python.get('implementation')} {python.get('version')}"))
    if system:
        words = (system.get("system"), system.get("release"), system.get("machine"))
        pairs.append(("platform", f"{' '.join(map(str, words))}, {system.get('cpus')} cpus"))
    if packages := source.get("packages"):
        pairs.append(("packages", f"{len(packages)} (--json lists them)"))
    yield from _pairs("source", pairs)
