"""Runs and artifacts as JSON values and as cells of tables."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli import options
from holdfast.cli.table import duration, number, size, table

if TYPE_CHECKING:
    from holdfast import ArtifactInfo, InputInfo, MetricStats, Repacked, RunSummary, Timestamp

STATISTICS = ("count", "nan", "first", "last", "min", "max", "mean", "first_step", "last_step")


def run_json(run: RunSummary) -> dict[str, Any]:
    """Everything known of a run."""
    return {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "experiment": run.experiment,
        "name": run.name,
        "state": run.state,
        "status": run.status.value,
        "created_at": _time(run.created_at),
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "duration_seconds": run.duration_seconds,
        "config": run.config,
        "tags": run.tags,
        "note": run.note,
        "error": run.error,
        "attempts": run.attempts,
        "ranks": list(run.ranks),
        "deleted": run.deleted,
        "generation": run.generation,
        "metrics": {key: stats_json(stats) for key, stats in run.metrics.items()},
        "artifacts": [artifact_json(about) for about in run.artifacts.values()],
        "inputs": [input_json(about) for about in run.inputs],
        "source": run.source,
    }


def stats_json(stats: MetricStats) -> dict[str, Any]:
    return {name: getattr(stats, name) for name in STATISTICS}


def artifact_json(about: ArtifactInfo) -> dict[str, Any]:
    return {
        "key": about.key,
        "digest": str(about.digest),
        "size_bytes": about.size_bytes,
        "kind": about.kind,
        "created_at": str(about.created_at),
    }


def input_json(about: InputInfo) -> dict[str, Any]:
    return {
        "digest": str(about.digest),
        "run_id": about.run_id,
        "key": about.key,
        "address": about.address,
        "size_bytes": about.size_bytes,
        "kind": about.kind,
        "used_at": str(about.used_at),
    }


def _time(at: Timestamp | None) -> str | None:
    return None if at is None else str(at)


def leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in a nested config."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def cell(value: Any) -> str:
    """A value of a run as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    return str(value)


def spans(numbers: Collection[int]) -> str:
    """Ascending whole numbers in short: `0-2, 5`."""
    there = set(numbers)
    starts = [n for n in numbers if n - 1 not in there]
    ends = [n for n in numbers if n + 1 not in there]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in pairs)


def ago(at: Timestamp | None) -> str:
    """How long ago that was."""
    return "-" if at is None else f"{duration((time.time_ns() - at.ns) / 1e9)} ago"


def say_repacked(found: list[Repacked], as_json: bool) -> None:
    """What `pack` and `materialize` did."""
    if as_json:
        options.say_json([asdict(one) | {"digest": str(one.digest)} for one in found])
        return
    rows = [
        [one.key, size(one.size_bytes), size(one.new_bytes) if one.new_bytes else "was there"]
        for one in found
    ]
    click.echo(table(["artifact", "size", "written"], rows) if rows else "nothing is over 1 MiB")
