"""S3 through obstore, which is faster than s3fs: docs/decisions/0014-object-stores.md.

Its threads do not survive a fork, and a child that uses it hangs: `usable` says no there, and s3fs, which
can be made anew, does the work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from holdfast.backend.base import Stat

_home: list[int] = []  # the process in which obstore was used first


def usable() -> bool:
    """True if obstore is installed and this process, not one that it was forked from, began to use it."""
    if _home and _home[0] != os.getpid():
        return False
    try:
        import obstore.store  # noqa: F401
    except ImportError:
        return False
    return True


class ObstoreClient:
    """`store` makes single attempts, `patient` retries the parts of a large file by itself."""

    def __init__(self, store: Any, patient: Any, part_bytes: int) -> None:
        self._store = store
        self._patient = patient
        self._part_bytes = part_bytes
        _home[:] = _home or [os.getpid()]

    def get(self, name: str, start: int = 0, length: int | None = None) -> tuple[bytes, int | None]:
        options = None if length is None and not start else _range(start, length)
        answer = self._store.get(name, options=options)
        return bytes(answer.bytes()), answer.meta["size"]

    def head(self, name: str) -> Stat:
        return _stat(self._store.head(name))

    def create(self, name: str, data: bytes) -> None:
        self._store.put(name, data, mode="create", use_multipart=False)

    def put(self, name: str, data: bytes) -> None:
        self._store.put(name, data, use_multipart=False)

    def upload(self, name: str, path: str) -> None:
        self._patient.put(name, Path(path), chunk_size=self._part_bytes, max_concurrency=4)

    def delete(self, name: str) -> None:
        self._store.delete(name)

    def walk(self, prefix: str) -> Iterator[Stat]:
        for page in self._store.list(prefix.rstrip("/") or None, chunk_size=1000):
            yield from map(_stat, page)

    def under(self, prefix: str) -> tuple[list[str], list[str]]:
        found = self._store.list_with_delimiter(prefix.rstrip("/") or None)
        names = [about["path"] for about in found["objects"]]
        return _last(names), _last(found["common_prefixes"])


def _last(paths: list[str]) -> list[str]:
    return [path.rstrip("/").rpartition("/")[2] for path in paths]


def _range(start: int, length: int | None) -> dict[str, Any]:
    return {"range": {"offset": start} if length is None else (start, start + length)}


def _stat(about: Any) -> Stat:
    when: datetime = about["last_modified"]
    return Stat(about["path"], about["size"], int(when.timestamp() * 1e6) * 1000)
