"""A whole store as five Parquet files, for any engine that reads Parquet.

The tables are described in docs/reference/parquet.md. All are sorted by run and key, and points by
step as well, so that an engine which is asked for one run skips the row groups of all others.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

from holdfast.arrow import pyarrow_batches
from holdfast.columnar import Batch, Column, Label
from holdfast.errors import Exists, MissingDependency
from holdfast.format import layout
from holdfast.ops.runs import points
from holdfast.repository import Repository
from holdfast.series import EMPTY, RunPoints
from holdfast.summary import RunSummary
from holdfast.timestamp import Timestamp

TABLES = ("runs", "config", "tags", "metrics", "artifacts")
_SORTED = ("run_id", "key", "step")
_GROUP_ROWS = 262_144
_WINDOW_POINTS = 1_048_576  # a longer series is read in parts of about that many
Row = tuple[Any, ...]


def export(
    repository: Repository,
    runs: Iterable[RunSummary],
    further: Iterable[str],
    directory: Path,
    progress: Callable[[int, int], None],
) -> list[Path]:
    """Write the five files; `further` are runs of which points alone are known. Returns their paths.

    Raises Exists, Corrupt, MissingDependency.
    """
    pa, pq = _pyarrow()
    ordered = sorted(runs, key=lambda run: run.run_id)
    ids = sorted({*further, *(run.run_id for run in ordered)})
    with _appearing([directory / f"{name}.parquet" for name in TABLES]) as partial:
        for name, place in zip(TABLES, partial, strict=True):
            if name == "metrics":
                _write_metrics(pa, pq, place, repository, ids, progress)
            else:
                _write_rows(pa, pq, place, *_SMALL[name], ordered)
    return [directory / f"{name}.parquet" for name in TABLES]


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingDependency(
            "to write Parquet, pyarrow must be installed: pip install 'holdfast[parquet]'",
            missing="pyarrow",
        ) from error


@contextmanager
def _appearing(places: list[Path]) -> Iterator[list[Path]]:
    """Other names to write to; all files get their own when the block ends well, none otherwise."""
    for place in places:
        if place.exists():
            raise Exists(f"{place} is there already: name another directory", place=str(place))
    places[0].parent.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    partial = [place.with_name(f".{place.name}.{mark}.part") for place in places]
    try:
        yield partial
        for name, place in zip(partial, places, strict=True):
            os.rename(name, place)
    finally:
        for name in partial:
            name.unlink(missing_ok=True)


def _write_metrics(
    pa: Any,
    pq: Any,
    place: Path,
    repository: Repository,
    ids: list[str],
    progress: Callable[[int, int], None],
) -> None:
    schema, _ = pyarrow_batches(pa, [_batch("", EMPTY.columns(ranked=True), "")])
    with _writer(pq, place, schema, _METRICS) as write:
        for group in _groups(repository, ids, progress):
            write(pa.Table.from_batches(pyarrow_batches(pa, group)[1], schema))


def _groups(
    repository: Repository, ids: list[str], progress: Callable[[int, int], None]
) -> Iterator[list[Batch]]:
    """The points of all runs, in lists of at least as many rows as a row group has."""
    waiting: list[Batch] = []
    rows = 0
    for number, run_id in enumerate(ids):
        progress(number, len(ids))
        for batch in _batches(points(repository, run_id)):
            waiting.append(batch)
            rows += len(batch[0].data)
            if rows >= _GROUP_ROWS:
                yield waiting
                waiting, rows = [], 0
    if waiting:
        yield waiting


def _batches(found: RunPoints) -> Iterator[Batch]:
    for key in found.keys():
        for window in _windows(found, key):
            series = found.series(key, steps=window)
            if len(series):
                yield _batch(found.run_id, series.columns(ranked=True), key)


def _batch(run_id: str, columns: Batch, key: str) -> Batch:
    count = len(columns[0].data)
    labels = [("run_id", run_id), ("key", key)]
    told = [Column(name, "text", Label((word,), 0, count)) for name, word in labels]
    return [*told, *columns]


def _windows(found: RunPoints, key: str) -> Iterator[tuple[int | None, int | None]]:
    """Ranges of steps that cover a series, with about as many points each as memory should hold."""
    about = found.snapshot.state.get("metrics", {}).get(key, {})
    parts = about.get("count", 0) // _WINDOW_POINTS + 1
    first, last = about.get("first_step", 0), about.get("last_step", 0)
    inner = sorted({first + (last - first) * part // parts for part in range(1, parts)})
    yield from pairwise([None, *inner, None])


_METRICS = {
    "use_dictionary": ["run_id", "key", "rank"],
    "column_encoding": {
        "step": "DELTA_BINARY_PACKED",
        "time": "DELTA_BINARY_PACKED",
        "value": "BYTE_STREAM_SPLIT",
    },
}


@contextmanager
def _writer(pq: Any, place: Path, schema: Any, options: dict[str, Any]) -> Iterator[Any]:
    """A function that appends a table; the bytes are on the disk when the block ends."""
    order = [(name, "ascending") for name in _SORTED if name in schema.names]
    options = {**options, "sorting_columns": pq.SortingColumn.from_ordering(schema, order)}
    with open(place, "xb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd", **options) as writer:
            yield lambda table: writer.write_table(table, row_group_size=_GROUP_ROWS)
        file.flush()
        os.fsync(file.fileno())


def _write_rows(
    pa: Any,
    pq: Any,
    place: Path,
    fields: dict[str, str],
    rows_of: Callable[[RunSummary], Iterator[Row]],
    runs: list[RunSummary],
) -> None:
    kinds = {
        "text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(),
        "time": pa.timestamp("ns", tz="UTC"),
    }  # fmt: skip
    schema = pa.schema([(name, kinds[kind]) for name, kind in fields.items()])
    with _writer(pq, place, schema, {}) as write:
        for begin in range(0, len(runs), _RUNS_AT_ONCE):
            some = runs[begin : begin + _RUNS_AT_ONCE]
            rows = [row for run in some for row in rows_of(run)]
            columns = list(zip(*rows, strict=True)) or [()] * len(fields)
            arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
            write(pa.Table.from_arrays(arrays, schema=schema))


_RUNS_AT_ONCE = 4096


def _run_rows(run: RunSummary) -> Iterator[Row]:
    error = run.error or {}
    times = (_ns(run.created_at), _ns(run.started_at), _ns(run.ended_at))
    ends = (run.duration_seconds, run.attempts, error.get("type"), error.get("message"), run.note)
    named = (run.run_id, run.experiment_id, run.experiment, run.name)
    yield (*named, run.status.value, run.crashed, *times, *ends)


def _ns(at: Timestamp | None) -> int | None:
    """Arrow's times in ns reach from 1677 to 2262; what lies outside is left empty."""
    return at.ns if at is not None and -(2**63) <= at.ns < 2**63 else None


def _value_rows(run: RunSummary, values: Any) -> Iterator[Row]:
    for key, value in sorted(_flat(values, ""), key=itemgetter(0)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield run.run_id, key, text, float(value) if is_number else None


def _flat(values: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _artifact_rows(run: RunSummary) -> Iterator[Row]:
    for key, about in sorted(run.artifacts.items()):
        kind = (about.size_bytes, about.kind, _ns(about.created_at))
        yield run.run_id, key, str(about.digest), *kind


_VALUES = {"run_id": "text", "key": "text", "value": "text", "number": "float"}
_SMALL: dict[str, tuple[dict[str, str], Callable[[RunSummary], Iterator[Row]]]] = {
    "runs": (
        {
            "run_id": "text", "experiment_id": "text", "experiment": "text", "name": "text",
            "status": "text", "crashed": "bool",
            "created_at": "time", "started_at": "time", "ended_at": "time",
            "duration_seconds": "float", "attempts": "int", "error_type": "text",
            "error_message": "text", "note": "text",
        },
        _run_rows,
    ),
    "config": (_VALUES, lambda run: _value_rows(run, run.config)),
    "tags": (_VALUES, lambda run: _value_rows(run, run.tags)),
    "artifacts": (
        {
            "run_id": "text", "key": "text", "digest": "text", "size_bytes": "int", "kind": "text",
            "created_at": "time",
        },
        _artifact_rows,
    ),
}  # fmt: skip


def without_record(repository: Repository, known: Iterable[str]) -> list[str]:
    """The runs that are not `known`: points were added to them, and no run of that id ever was."""
    return sorted({*repository.backend.folders(layout.RUNS)} - {*known})
