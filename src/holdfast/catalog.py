"""The catalog: an index over the manifests of every run, in a SQLite file that can be lost any time.

It is never the truth. Whoever asks refreshes it first from the heads of the chains, by the difference
only; `ops/refresh.py` does. Several processes may refresh one file at once. When the file turns out
to be damaged or cannot be used, the catalog starts anew, at last in memory, and says so by
CatalogReset: it is empty then, so refresh it and ask again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from holdfast import catalog_file as file
from holdfast import catalog_views as views
from holdfast.catalog_write import CatalogRow, Selected, prepare, put, stored, take_out
from holdfast.errors import Corrupt, InvalidValue
from holdfast.query import Compiled, compile_order, compile_where
from holdfast.query_fields import ANY_NAME
from holdfast.query_value import Scalar

__all__ = ["Catalog", "CatalogReset", "CatalogRow", "ExperimentRow", "Selected"]

_BATCH = 2000  # runs in one transaction: bounds the memory, and how long others wait
_STARTS = 2  # in the file; after that the catalog stays in memory
_LOOKED = "looked"  # in place of a prefix: when all folders were listed
_abandoned: list[sqlite3.Connection] = []  # of the parent process: to close one here would harm it


class ExperimentRow(NamedTuple):
    """An experiment; `head` is whatever tells that its chain has changed."""

    experiment_id: str
    name: str
    created_at_ns: int
    head: str = ""


class CatalogReset(Exception):
    """The catalog could not be used and is empty now: refresh it and ask again."""


class Catalog:
    """One open catalog; safe to use from several threads, and in a child after a fork."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._starts = 0
        self._start()

    @classmethod
    def open(cls, store_id: str, url: str = "", *, memory: bool = False) -> Catalog:
        """The catalog of the store at `url`; in memory if asked to, or if there is no place for a file.

        A copy of a store has the same id and goes its own way, so it has a catalog of its own.
        """
        return cls(file.MEMORY if memory else file.place(store_id, url))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # Bringing it up to date

    def is_unchanged(self, tokens: Mapping[str, str | None]) -> bool:
        """True if these are the tokens given to `settle` last: the catalog is up to date then.

        Raises CatalogReset.
        """
        if None in tokens.values():
            return False
        with self._reading() as db:
            return tokens.items() <= dict(db.execute("SELECT prefix, token FROM listing")).items()

    def settle(self, tokens: Mapping[str, str | None]) -> None:
        """Keep the tokens of the listings that the catalog agrees with since `heads()`; None for those
        that it does not. Raises CatalogReset.

        If another process wrote meanwhile, from a listing of its own, nobody knows: none is kept.
        """
        with self._reading() as db:
            kept = dict(db.execute("SELECT prefix, token FROM listing"))
        wanted = {prefix: token for prefix, token in tokens.items() if token}
        if wanted.items() <= kept.items() and not kept.keys() & (tokens.keys() - wanted.keys()):
            return
        with self._writing() as db:
            if _data_version(db) != self._seen:
                wanted = {}
            db.executemany("DELETE FROM listing WHERE prefix = ?", [(key,) for key in tokens])
            db.executemany("INSERT INTO listing VALUES (?, ?)", wanted.items())

    def looked(self) -> float:
        """When the folders of the store were listed last, in s since 1970; 0 for never."""
        with contextlib.suppress(CatalogReset), self._reading() as db:
            found = db.execute("SELECT token FROM listing WHERE prefix = ?", (_LOOKED,)).fetchone()
            with contextlib.suppress(TypeError, ValueError):
                return float(found[0])
        return 0.0

    def note_looked(self, at: float) -> None:
        """They were listed at that time. Raises CatalogReset."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO listing VALUES (?, ?)", (_LOOKED, str(at)))

    def heads(self) -> dict[str, str]:
        """The head that each run had when it was put in."""
        while True:
            with contextlib.suppress(CatalogReset), self._reading() as db:
                self._seen = _data_version(db)
                found = dict(db.execute("SELECT run_id, head FROM run"))
                if not set(map(type, found)) <= {str}:
                    raise Corrupt("the catalog is damaged: a run id is no text")
                return found

    def update(self, rows: Iterable[CatalogRow]) -> None:
        """Put runs in, or replace them, up to 2000 in one transaction. Raises CatalogReset.

        If another process wrote since `heads()`, its newer generations stay.
        """
        prepared = map(prepare, rows)
        while batch := {row.run_id: row for row in itertools.islice(prepared, _BATCH)}:
            with self._writing() as db:
                put(db, list(batch.values()), undisturbed=_data_version(db) == self._seen)

    def update_experiments(self, rows: Iterable[ExperimentRow | tuple[Any, ...]]) -> None:
        """Put experiments in, or replace them. Raises CatalogReset."""
        wanted = {tuple(ExperimentRow(*row)) for row in rows}
        with self._reading() as db:
            wanted -= set(db.execute("SELECT * FROM experiment"))
        if wanted:
            with self._writing() as db:
                db.executemany("INSERT OR REPLACE INTO experiment VALUES (?, ?, ?, ?)", wanted)

    def experiment_heads(self) -> dict[str, str]:
        """The head that each experiment had when it was put in. Raises CatalogReset."""
        with self._reading() as db:
            return dict(db.execute("SELECT experiment_id, head FROM experiment"))

    def remove(self, run_ids: Iterable[str]) -> None:
        """Take runs out; those that are not in are passed over. Raises CatalogReset.

        If another process wrote since `heads()`, all stay: it may have put them in just now.
        """
        with self._writing() as db:
            if _data_version(db) == self._seen:
                for run_id in run_ids:
                    take_out(db, run_id)

    def set_crashed(self, run_ids: Iterable[str]) -> None:
        """These runs, and no others, count as crashed now. Raises CatalogReset."""
        wanted = set(run_ids)
        with self._reading() as db:
            now = {run_id for (run_id,) in db.execute("SELECT run_id FROM run WHERE crashed")}
        if now != wanted:
            change = "UPDATE run SET crashed = ? WHERE run_id = ?"
            with self._writing() as db:
                db.executemany(change, [(0, run_id) for run_id in now - wanted])
                db.executemany(change, [(1, run_id) for run_id in wanted - now])

    # Asking

    def select(
        self,
        where: str | None = None,
        order_by: str | Sequence[str] | None = None,
        limit: int | None = None,
        deleted: bool = False,
    ) -> list[Selected]:
        """The runs that match, newest first unless `order_by` says otherwise.

        Deleted ones are left out unless `deleted`. Raises QueryError, InvalidValue, CatalogReset.
        """
        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise InvalidValue(f"limit is {limit!r}: give a whole number from 0 up", value=limit)
        with self._reading() as db:
            asked = where is not None or order_by
            names: Collection[str] = (_field_names(db) or ANY_NAME) if asked else ()
            query, params = _statement(
                compile_where(where, names) if where is not None else Compiled("1", {}),
                compile_order(order_by, names) if order_by else None,
                deleted,
            )
            top = -1 if limit is None else min(limit, (1 << 63) - 1)
            matches = db.execute(query, {**params, "limit": top}).fetchall()
            return [stored(db, run) for (run,) in matches]

    def sql(
        self, query: str, params: views.Params, limits: views.Limits
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """What a SELECT over the views gives: columns and rows. Raises QueryError, CatalogReset."""
        with self._reading() as db:
            return views.ask(db, query, params, limits)

    def having(self, experiment_id: str, name: str) -> list[Selected]:
        """The runs of an experiment, deleted ones too, that have a field such as `artifacts.model.pt`.
        Raises CatalogReset."""
        query = (
            "SELECT r.id FROM path p JOIN field v ON v.path = p.id JOIN run r ON r.id = v.run"
            " WHERE p.name = ? AND r.experiment_id = ?"
        )
        with self._reading() as db:
            found = db.execute(query, (name, experiment_id)).fetchall()
            return [stored(db, run) for (run,) in found]

    def named(self, run_ids: Collection[str]) -> list[Selected]:
        """Those of the runs that are in, deleted ones too. Raises CatalogReset."""
        query = "SELECT id FROM run WHERE run_id = ?"
        with self._reading() as db:
            found = [db.execute(query, (run_id,)).fetchone() for run_id in run_ids]
            return [stored(db, row[0]) for row in found if row]

    def with_digests(self, section: str, digests: Collection[str]) -> list[tuple[str, str, str]]:
        """(run, key, digest) of what runs, deleted ones too, have in `artifacts` or `inputs` of these.
        Raises CatalogReset."""
        query = (
            "SELECT r.run_id, substr(p.name, length(?1) + 1), v.text"
            " FROM field v JOIN path p ON p.id = v.path JOIN run r ON r.id = v.run"
            " WHERE v.text GLOB 'sha256:*' AND v.text = ?2 AND substr(p.name, 1, length(?1)) = ?1"
        )
        with self._reading() as db:
            rows = (db.execute(query, (f"{section}.", digest)) for digest in sorted(digests))
            return [row for found in rows for row in found]

    def inputs_below(self, prefix: str) -> list[tuple[str, str, str]]:
        """(run, name, digest) of the inputs whose names begin with `prefix`. Raises CatalogReset."""
        query = (
            "SELECT r.run_id, substr(p.name, 8), v.text"
            " FROM path p JOIN field v ON v.path = p.id JOIN run r ON r.id = v.run"
            " WHERE p.name >= ? AND p.name < ?"
        )
        low = f"inputs.{prefix}"
        with self._reading() as db:
            return db.execute(query, (low, low[:-1] + chr(ord(low[-1]) + 1))).fetchall()

    def experiments_called(self, text: str) -> list[str]:
        """The ids of the experiments whose id or name it is. Raises CatalogReset."""
        query = "SELECT experiment_id FROM experiment WHERE experiment_id = ?1 OR name = ?1"
        with self._reading() as db:
            return [found for (found,) in db.execute(query, (text,))]

    def open_runs(self) -> list[Selected]:
        """The runs whose status is Running, crashed or not. Raises CatalogReset."""
        query = "SELECT id FROM run WHERE status = 'Running' ORDER BY run_id"
        with self._reading() as db:
            return [stored(db, run) for (run,) in db.execute(query).fetchall()]

    def field_names(self) -> list[str]:
        """The names that some run has: `config.lr`, `metrics.loss`, `tags.stage`. Raises CatalogReset."""
        with self._reading() as db:
            return sorted(_field_names(db))

    # The file behind it

    def _reading(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return self._transaction("DEFERRED")

    def _writing(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        return self._transaction("IMMEDIATE")

    @contextlib.contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        self._notice_fork()
        with self._lock:
            try:
                self._db.execute(f"BEGIN {kind}")
                yield self._db
                self._db.execute("COMMIT")
            except (*file.ERRORS, Corrupt) as error:
                if not file.can_start_anew(error):
                    raise
                self._restart(error)
                raise CatalogReset(f"{self._path}: {error}") from error
            finally:
                self._end()

    def _end(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _restart(self, error: Exception) -> None:
        self._db.close()
        if file.is_damage(error):
            # Another process may have been quicker: then a good file lies there already.
            if file.identity(self._path) == self._identity:
                file.discard(self._path)
        elif not file.is_moved(error):
            self._path = file.MEMORY
        self._start()

    def _start(self) -> None:
        self._starts += 1
        if self._starts > _STARTS:
            self._path = file.MEMORY
        try:
            self._db = file.connect(self._path)
        except (*file.ERRORS, OSError):
            self._path = file.MEMORY
            self._db = file.connect(self._path)
        self._identity = file.identity(self._path)
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._seen = _data_version(self._db)

    def _notice_fork(self) -> None:
        """SQLite forbids to use a connection of the parent, and its lock may be held for ever."""
        if self._pid != os.getpid():
            _abandoned.append(self._db)
            self._starts = 0
            self._start()


def _data_version(db: sqlite3.Connection) -> int:
    """A number that changes when another connection has written."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def _field_names(db: sqlite3.Connection) -> set[str]:
    used = (f"EXISTS (SELECT 1 FROM {table} WHERE path = path.id)" for table in ("field", "metric"))
    names = db.execute(f"SELECT name FROM path WHERE {' OR '.join(used)}")
    return {name for (name,) in names if not name.startswith("inputs.")}  # which are for SQL alone


def _statement(
    where: Compiled, order: Compiled | None, deleted: bool
) -> tuple[str, dict[str, Scalar]]:
    """SQL for the rows of the runs that match, in order, up to :limit."""
    # Without an order, walking the index that has the default one is quickest, hits rare or not.
    source = "run r" if order or deleted else "run r INDEXED BY run_newest"
    kept = where.sql if deleted else f"r.deleted = 0 AND {where.sql}"
    terms = f"{order.sql}, " if order else ""
    return (
        f"SELECT r.id FROM {source} WHERE {kept}"
        f" ORDER BY {terms}r.created_at DESC, r.run_id LIMIT :limit",
        {**where.params, **(order.params if order else {})},
    )
