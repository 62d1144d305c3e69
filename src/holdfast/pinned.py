"""A backend as it was when a snapshot was made: later entries of chains are not there, nor is anything that
is in no chain, such as open spools.

Every entry that a snapshot names is held against its sha256 when it is read; the entries before it by
their links. What lies under its own sha256 is let through. Heads are made up from the snapshot.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from holdfast.backend.base import Appender, Backend, Capabilities, Staged, Stat
from holdfast.backend.wrap import refuse_writes
from holdfast.digest import Digest
from holdfast.errors import DigestMismatch, NameNotFound
from holdfast.format import layout
from holdfast.format.snapshot import Row

_AS_THEY_ARE = (layout.BLOBS, layout.PACKS, layout.RECIPES)
_SEGMENT = re.compile(r"(runs/[^/]+/)segments/[^/]+\Z")
_HEAD = b"holdfast head\n"


class PinnedBackend:
    """`inner` as the rows of the snapshot `digest` say. Every write raises ReadOnly."""

    def __init__(self, inner: Backend, digest: Digest, rows: Sequence[Row]) -> None:
        self.inner = inner
        self.digest = digest
        self.rows = rows
        self._newest = {row.prefix: row for row in rows}
        self._runs = {row.prefix[: row.prefix.index("/", 5) + 1] for row in rows if _of_run(row)}
        self._heads = {layout.head(row.prefix, row.number) for row in rows}
        self._folders: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            parts = row.prefix.rstrip("/").split("/")
            for depth in range(1, len(parts)):
                self._folders["/".join(parts[:depth]) + "/"].add(parts[depth])

    @property
    def url(self) -> str:
        return f"{self.inner.url}#{self.digest}"

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def get(self, name: str) -> bytes:
        if name in self._heads:
            return _HEAD
        data = self.inner.get(self._seen(name))
        self._check(name, data)
        return data

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        found = self.inner.get_many([self._seen(name) for name in names])
        for name, data in zip(names, found, strict=True):
            self._check(name, data)
        return found

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self.inner.get_range(self._seen(name), offset, length)

    def chunks(self, name: str) -> Iterator[bytes]:
        return self.inner.chunks(self._seen(name))

    def stat(self, name: str) -> Stat:
        if name in self._heads:
            return Stat(name, len(_HEAD), 0)
        return self.inner.stat(self._seen(name))

    def walk(self, prefix: str) -> Iterator[Stat]:
        if prefix.startswith(layout.HEADS):
            names = sorted(name for name in self._heads if name.startswith(prefix))
            return (Stat(name, len(_HEAD), 0) for name in names)
        return (stat for stat in self.inner.walk(prefix) if self._is_seen(stat.name))

    def folders(self, prefix: str) -> list[str]:
        if prefix.startswith(_AS_THEY_ARE):
            return self.inner.folders(prefix)
        return sorted(self._folders.get(prefix, ()))

    def names(self, prefix: str) -> list[str]:
        if prefix.startswith(layout.HEADS):
            return [stat.name[len(prefix) :] for stat in self.walk(prefix)]
        inner = self.inner.names(prefix)
        found = {name for name in inner if self._is_seen(f"{prefix}{name}")}
        return list(found.union(self.folders(prefix)))

    def token(self, prefix: str) -> str | None:
        return str(self.digest)  # nothing here ever changes

    def create(self, name: str, data: bytes) -> None:
        self._refuse("create", name)

    def put(self, name: str, data: bytes) -> None:
        self._refuse("put", name)

    def stage(self) -> Staged:
        self._refuse("stage", "")
        raise AssertionError

    def delete(self, name: str) -> None:
        self._refuse("delete", name)

    def append(self, name: str, header: bytes) -> Appender:
        self._refuse("append", name)
        raise AssertionError

    def _refuse(self, operation: str, name: str) -> None:
        refuse_writes(operation, name, f"{self.url} is a snapshot")

    def _is_seen(self, name: str) -> bool:
        prefix, _, last = name.rpartition("/")
        row, number = self._newest.get(f"{prefix}/"), layout.entry_number(last)
        if row is not None and number is not None:
            return number <= row.number
        if name == layout.STORE or name.startswith(_AS_THEY_ARE):
            return True
        segment = _SEGMENT.match(name)
        return segment is not None and segment[1] in self._runs

    def _seen(self, name: str) -> str:
        if not self._is_seen(name):
            raise NameNotFound(f"{self.url}: there was no {name}", name=name)
        return name

    def _check(self, name: str, data: bytes) -> None:
        """Hold an entry that the snapshot names against its sha256. Raises DigestMismatch."""
        prefix, _, last = name.rpartition("/")
        row = self._newest.get(f"{prefix}/")
        if row is None or layout.entry_number(last) != row.number:
            return
        found = hashlib.sha256(data).digest()
        if found != row.tip:
            expected, other = Digest.from_raw(row.tip), Digest.from_raw(found)
            raise DigestMismatch(
                f"{name} is another entry than the snapshot has: its digest is {other} and should "
                f"be {expected}",
                place=name,
                expected=str(expected),
                found=str(other),
            )


def _of_run(row: Row) -> bool:
    return row.prefix.startswith(layout.RUNS)
