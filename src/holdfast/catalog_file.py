"""The SQLite file behind a catalog: where it lies, how it is opened, and when it is thrown away."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import zlib

from holdfast.catalog_schema import STATEMENTS, VERSION
from holdfast.errors import InvalidValue

MEMORY = ":memory:"
_BUSY_SECONDS = 30  # longest wait for another process; each of its transactions is far shorter
_CACHE_KIB = 64 * 1024
_PAGE_BYTES = 8192
_CHECKPOINT_PAGES = 4096  # 32 MiB of log before it is moved into the file
# SQLite quotes the damaged text in its message, and that may be no UTF-8.
ERRORS = (sqlite3.Error, UnicodeDecodeError)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT)


def place(store_id: str, url: str) -> str:
    """The file for the store at `url`: in $HOLDFAST_CACHE_DIR, else in the user's cache directory.

    ":memory:" where that directory cannot be written. Raises InvalidValue.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", store_id):
        raise InvalidValue(f"{store_id!r} is not a store id: store.json is damaged", value=store_id)
    folder = os.environ.get("HOLDFAST_CACHE_DIR")
    if not folder:
        from platformdirs import user_cache_dir

        folder = user_cache_dir("holdfast", appauthor=False)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return MEMORY
    where = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    name = f"{store_id}-{where}.sqlite"
    return os.path.join(folder, name) if os.access(folder, os.W_OK) else MEMORY


def connect(path: str) -> sqlite3.Connection:
    """Open the file with our tables in it; what is damaged or of another version is thrown away.

    Raises sqlite3.Error when it cannot be used at all.
    """
    try:
        return _open(path)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
    discard(path)
    return _open(path)


def is_damage(error: Exception) -> bool:
    """True if the bytes of the file are at fault, not the disk, the rights or another process."""
    # The module itself raises errors without a code, for text that is not UTF-8.
    code = getattr(error, "sqlite_errorcode", None)
    return code is None or code & 0xFF in _DAMAGED


def is_moved(error: Exception) -> bool:
    """True if the file was removed or replaced while it was open."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_DBMOVED


def can_start_anew(error: Exception) -> bool:
    """False for a mistake of the program, which an empty catalog would not cure."""
    wrong_call = isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError))
    return not wrong_call and getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def discard(path: str) -> None:
    """Remove the file; a process that still has it open goes on with the removed one."""
    for end in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + end)


def identity(path: str) -> tuple[int, int] | None:
    """Which file lies at `path` now."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _tune(connection)
        _ensure_tables(connection, _mark(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _tune(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    # Not every file system can; and of two that switch at once one is told that it is locked.
    with contextlib.suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")


def _mark(path: str) -> int:
    """A number for the store, so that the catalog of another one under this name is noticed."""
    return zlib.crc32(os.path.basename(path).encode()) >> 1


def _ensure_tables(connection: sqlite3.Connection, mark: int) -> None:
    if _tables(connection, mark) == list(STATEMENTS):
        return
    connection.execute("BEGIN IMMEDIATE")
    found = _tables(connection, mark)  # another process may have been quicker
    if found != list(STATEMENTS):
        if found:
            connection.execute("ROLLBACK")
            raise _another_version()
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute(f"PRAGMA application_id = {mark}")
    connection.execute("COMMIT")


def _tables(connection: sqlite3.Connection, mark: int) -> list[str]:
    """The statements that made the tables; empty for a new file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
    found = [str(sql) for (sql,) in rows]
    return found if (version, owner) == (VERSION, mark) or not found else ["another version"]


def _another_version() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("tables of another version")
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error
