"""The views of the catalog that `store.sql` may read, and how one statement is kept from doing more.

docs/reference/sql.md tells what they mean. Deleted runs are in none of them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from holdfast.errors import QueryError
from holdfast.query_fields import STATISTICS

Params = Mapping[str, Any] | Sequence[Any]


def _time(column: str) -> str:
    """A time in ns as text that sorts: 2025-01-31T12:00:00.000Z, cut to the millisecond.

    By whole numbers: SQLite's own fractions of a second go through a float that is some ms off.
    """
    seconds = f"strftime('%Y-%m-%dT%H:%M:%S', nullif({column}, 0) / 1000000000, 'unixepoch')"
    return f"{seconds} || printf('.%03dZ', {column} / 1000000 % 1000)"


def _keyed(section: str, table: str, columns: str) -> str:
    """The rows of one section of all runs: run_id, key, and what is kept under that name."""
    low, high = f"{section}.", f"{section}/"  # `/` is the character after `.`
    return (
        f"CREATE VIEW {section} AS SELECT r.run_id, substr(p.name, {len(low) + 1}) AS key, {columns}"
        f" FROM path p JOIN {table} v ON v.path = p.id JOIN run r ON r.id = v.run"
        f" WHERE p.name >= '{low}' AND p.name < '{high}' AND r.deleted = 0"
    )


VIEWS = {
    "runs": f"""CREATE VIEW runs AS SELECT r.run_id, coalesce(e.name, r.experiment_id) AS experiment,
    r.experiment_id, r.name, r.status,
    iif(r.crashed OR r.status = 'Failed' AND a.error_type IS 'Crashed', 'Crashed', r.status) AS state,
    {_time("r.created_at")} AS created_at, {_time("r.started_at")} AS started_at,
    {_time("r.ended_at")} AS ended_at, r.duration, a.note, a.error_type, a.error_message,
    a.argv AS command, a.directory, a.git_commit, a.git_branch, a.git_dirty, a.python, a.system,
    r.generation
    FROM run r LEFT JOIN experiment e USING (experiment_id) LEFT JOIN about a ON a.run = r.id
    WHERE r.deleted = 0""",
    "experiments": f"""CREATE VIEW experiments AS SELECT experiment_id, name,
    {_time("created_at")} AS created_at FROM experiment""",
    "config": _keyed("config", "field", "coalesce(v.num, v.text) AS value"),
    "tags": _keyed("tags", "field", "coalesce(v.num, v.text) AS value"),
    "metrics": _keyed("metrics", "metric", ", ".join(f'v."{name}"' for name in STATISTICS)),
    "artifacts": _keyed("artifacts", "field", "v.num AS size_bytes, v.text AS digest"),
    "inputs": _keyed("inputs", "field", "v.num AS size_bytes, v.text AS digest"),
}
_MAY = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE})
_LONGEST_BYTES = 64 << 20  # of one text or blob that a function may make
_STEPS = 20_000  # of SQLite's machine between two looks at the clock: well below a millisecond
# What a statement can be wrong in; any other code speaks of the file and not of the statement.
_OF_STATEMENT = frozenset(
    [
        *(sqlite3.SQLITE_ERROR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_RANGE, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_READONLY),
    ]
)
# Errors of the module itself: a second statement, parameters that do not fit, text that is no UTF-8.
_OF_CALL = (sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.Warning, ValueError)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one statement may take before it is stopped."""

    rows: int
    seconds: float


def ask(
    db: sqlite3.Connection, query: str, params: Params, limits: Limits
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The names of the columns, and the rows. Raises QueryError; sqlite3.Error when the file is bad."""
    guard = _Guard(str(query), limits)
    if not isinstance(query, str):
        raise guard.error(f"a statement is text, not {type(query).__name__}")
    try:
        with guard.watching(db):
            cursor = db.execute(query, params)
            rows = cursor.fetchmany(limits.rows + 1)
    except (*_OF_CALL, OverflowError) as error:
        raise guard.error(str(error)) from None
    except sqlite3.Error as error:
        raise guard.told(error) from None
    if cursor.description is None:
        raise guard.error("there is no statement in it")
    if len(rows) > limits.rows:
        raise guard.error(
            f"the answer has more than {limits.rows:,} rows: add LIMIT, or raise max_rows"
        )
    return [column[0] for column in cursor.description], rows


class _Guard:
    """Lets one statement read the views, for so long, and nothing else."""

    def __init__(self, query: str, limits: Limits) -> None:
        self._query = query
        self._limits = limits
        self._end = time.monotonic() + limits.seconds
        self._refused = ""

    @contextmanager
    def watching(self, db: sqlite3.Connection) -> Iterator[None]:
        longest = db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_BYTES)
        db.execute("PRAGMA query_only = ON")
        db.set_progress_handler(self._late, _STEPS)
        db.set_authorizer(self._may)
        try:
            yield
        finally:
            db.set_authorizer(None)
            db.set_progress_handler(None, 0)
            db.execute("PRAGMA query_only = OFF")
            db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)

    def _late(self) -> bool:
        return time.monotonic() > self._end

    def _may(
        self, action: int, one: str | None, two: str | None, base: str | None, view: str | None
    ) -> int:
        if action == sqlite3.SQLITE_READ:
            # Without a column only the number of rows is asked for, as behind a view that joins.
            allowed = one in VIEWS or view in VIEWS or not two
            self._refused = self._refused or ("" if allowed else f"{one} is not for reading")
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed = two != "load_extension"
        else:
            allowed = action in _MAY
        if not allowed:
            self._refused = self._refused or "only SELECT is allowed"
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    def told(self, error: sqlite3.Error) -> Exception:
        """What to raise for an error of SQLite's."""
        # The module's own errors carry no code: text in the answer that is not UTF-8, for example.
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_INTERRUPT:
            if not self._late():  # SQLite's module turns Ctrl-C into this
                return KeyboardInterrupt()  # type: ignore[return-value]
            return self.error(
                f"it took more than {self._limits.seconds:g} s: narrow it, or raise timeout_seconds"
            )
        if code == sqlite3.SQLITE_AUTH and self._refused:
            return self.error(f"{self._refused}: it may SELECT from {', '.join(VIEWS)}")
        if code not in _OF_STATEMENT:
            return error
        hint = f": the views are {', '.join(VIEWS)}" if "no such table" in str(error) else ""
        return self.error(f"{error}{hint}")

    def error(self, message: str) -> QueryError:
        text = " ".join(self._query.split())
        shown = text if len(text) <= 80 else text[:79] + "…"
        told = f"{message}\n  {shown}".encode(errors="backslashreplace").decode()
        return QueryError(told, expression=self._query)
