"""Putting runs into the tables of the catalog and taking them out. All of it within one transaction."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from holdfast.catalog_rows import (
    Flat,
    State,
    about_columns,
    checksum,
    pack_state,
    run_columns,
    unpack_state,
)
from holdfast.errors import Corrupt
from holdfast.query_fields import ABOUT, STATISTICS

_PARAMETERS = 999  # of one statement, in every SQLite
_COLUMNS = (
    *("run_id", "generation", "head", "experiment_id", "name", "status"),
    *("created_at", "started_at", "ended_at", "duration", "deleted"),
)
_INSERT = f"INSERT INTO run (id, {', '.join(_COLUMNS)}, crashed) VALUES ({'?, ' * 12}0)"
_UPDATE = (
    f"UPDATE run SET {', '.join(f'{column} = ?' for column in _COLUMNS)},"
    " crashed = crashed AND status = 'Running' WHERE id = ?"
)
_STORED = (
    "SELECT run_id, generation, r.head, packed, checksum, e.name, crashed"
    " FROM run r JOIN state s USING (id) LEFT JOIN experiment e USING (experiment_id)"
    " WHERE r.id = ?"
)
_Values = Mapping[str, tuple[Any, ...]]  # by path


class CatalogRow(NamedTuple):
    """One run as its manifest has it; `head` is whatever tells that the manifest has changed."""

    run_id: str
    generation: int
    head: str
    state: State


class Selected(NamedTuple):
    """A run as it was put in, with what is known of it besides."""

    run_id: str
    generation: int
    state: State
    experiment_name: str | None
    crashed: bool


class Prepared(NamedTuple):
    """A row with the work done that needs no database, so that the lock is held briefly."""

    run_id: str
    generation: int
    run: tuple[Any, ...]
    about: tuple[Any, ...]
    packed: bytes
    checksum: int
    flat: Flat


def prepare(row: CatalogRow) -> Prepared:
    run_id, generation, head, state = row
    packed = pack_state(state)
    return Prepared(
        run_id,
        generation,
        (run_id, generation, head, *run_columns(state)),
        about_columns(state),
        packed,
        checksum(run_id, generation, head, packed),
        Flat.of(state),
    )


def put(db: sqlite3.Connection, rows: Sequence[Prepared], *, undisturbed: bool) -> None:
    """Insert or replace. Unless `undisturbed`, a newer generation that is in already stays."""
    present = _present(db, [row.run_id for row in rows])
    (newest,) = db.execute("SELECT coalesce(max(id), 0) FROM run").fetchone()
    fresh = [row for row in rows if row.run_id not in present]
    kept = list(enumerate(fresh, newest + 1))
    db.executemany(_INSERT, [(run, *row.run) for run, row in kept])
    for row in rows:
        run, generation = present.get(row.run_id, (0, 0))
        if run and (undisturbed or generation <= row.generation):
            _delete_values(db, run, keep=row.flat)
            db.execute(_UPDATE, (*row.run, run))
            kept.append((run, row))
    states = [(run, row.packed, row.checksum) for run, row in kept]
    db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", states)
    abouts = [(run, *row.about) for run, row in kept]
    db.executemany(f"INSERT OR REPLACE INTO about VALUES ({_marks(1 + len(ABOUT))})", abouts)
    _put_values(db, "field", ((run, row.flat.fields) for run, row in kept))
    _put_values(db, "metric", ((run, row.flat.metrics) for run, row in kept))


def take_out(db: sqlite3.Connection, run_id: str) -> None:
    """Remove the run, if it is in."""
    for run, _ in _present(db, [run_id]).values():
        _delete_values(db, run, keep=None)
        for table, key in (("run", "id"), ("state", "id"), ("about", "run")):
            db.execute(f"DELETE FROM {table} WHERE {key} = ?", (run,))


def stored(db: sqlite3.Connection, run: int) -> Selected:
    """The run in row `run`. Raises Corrupt if it is not what was put in."""
    found = db.execute(_STORED, (run,)).fetchone()
    if found is None or type(found[3]) is not bytes or checksum(*found[:4]) != found[4]:
        raise Corrupt("the catalog is damaged: a state fails its checksum")
    run_id, generation, _, packed, _, name, crashed = found
    return Selected(run_id, generation, unpack_state(packed), name, bool(crashed))


def _present(db: sqlite3.Connection, run_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The row and the generation of each of the runs that is in."""
    found: dict[str, tuple[int, int]] = {}
    for start in range(0, len(run_ids), _PARAMETERS):
        some = run_ids[start : start + _PARAMETERS]
        query = f"SELECT run_id, id, generation FROM run WHERE run_id IN ({_marks(len(some))})"
        found |= {run_id: (run, number) for run_id, run, number in db.execute(query, some)}
    return found


def _delete_values(db: sqlite3.Connection, run: int, *, keep: Flat | None) -> None:
    # The old state tells which rows there are, so no index by run is needed.
    old = Flat.of(stored(db, run).state)
    fields = old.fields.keys() - (keep.fields.keys() if keep else ())
    metrics = old.metrics.keys() - (keep.metrics.keys() if keep else ())
    for table, names in (("field", fields), ("metric", metrics)):
        db.executemany(
            f"DELETE FROM {table} WHERE path = (SELECT id FROM path WHERE name = ?) AND run = ?",
            [(name, run) for name in names],
        )


def _put_values(db: sqlite3.Connection, table: str, runs: Iterable[tuple[int, _Values]]) -> None:
    """Name by name, as the table is ordered, and many rows a statement: thrice as quick."""
    by_name: defaultdict[str, list[Any]] = defaultdict(list)  # run, its value, run, its value, …
    for run, values in runs:
        for name, value in values.items():
            by_name[name] += (run, *value)
    width = 1 + {"field": 2, "metric": len(STATISTICS)}[table]
    size = (_PARAMETERS - 1) // width * width
    for path, flat in sorted((_path(db, name), flat) for name, flat in by_name.items()):
        for start in range(0, len(flat), size):
            some = flat[start : start + size]
            rows = ", ".join([f"(?1, {_marks(width)})"] * (len(some) // width))
            db.execute(f"INSERT OR REPLACE INTO {table} VALUES {rows}", (path, *some))


def _path(db: sqlite3.Connection, name: str) -> int:
    """The number of a name, given out when it is first asked for."""
    db.execute("INSERT OR IGNORE INTO path (name) VALUES (?)", (name,))
    return int(db.execute("SELECT id FROM path WHERE name = ?", (name,)).fetchone()[0])


def _marks(count: int) -> str:
    return ", ".join("?" * count)
