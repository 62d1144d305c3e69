"""A remote backend whose immutable files are kept on this machine once they were read.

Only names whose bytes never change are kept: blobs, packs, recipes and segments. What is kept has a
checksum of its own, and whoever reads verifies it as if it came from the store. When that finds damage, it
reads once more within `afresh()`, which asks the store and replaces what was kept.
"""

from __future__ import annotations

import contextvars
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from holdfast.backend.base import CHUNK_BYTES, Appender, Backend, Capabilities, Staged, Stat
from holdfast.backend.cachefiles import CacheFiles
from holdfast.backend.wrap import WatchedBackend

_FOLDERS = ("blobs/", "packs/", "recipes/")
_MOST_BYTES = (
    256 << 20
)  # of one file: larger ones are not read again often, and would displace all others
_afresh: contextvars.ContextVar[bool] = contextvars.ContextVar("afresh", default=False)


@contextmanager
def afresh() -> Iterator[None]:
    """Within this, nothing that is kept on this machine is trusted."""
    token = _afresh.set(True)
    try:
        yield
    finally:
        _afresh.reset(token)


class CachedBackend:
    """`inner`, with `files` in front of it; `key` tells the stores apart that share them."""

    def __init__(self, inner: Backend, files: CacheFiles, key: str) -> None:
        self.inner = inner
        self.files = files
        self.key = key

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def within(self, seconds: float) -> Backend:
        """The same over a backend that gives up sooner."""
        within = getattr(self.inner, "within", None)
        return CachedBackend(within(seconds), self.files, self.key) if within else self

    def get(self, name: str) -> bytes:
        if not _is_kept(name):
            return self.inner.get(name)
        data = self._kept(name)
        if data is None:
            data = self.inner.get(name)
            self._keep(name, data)
        return data

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        kept = {name: data for name in names if _is_kept(name) and (data := self._kept(name))}
        missing = [name for name in names if name not in kept]
        for name, data in zip(missing, self.inner.get_many(missing), strict=True):
            kept[name] = data
            if _is_kept(name):
                self._keep(name, data)
        return [kept[name] for name in names]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        if not _is_kept(name):
            return self.inner.get_range(name, offset, length)
        part = f"{name}:{offset}+{length}"
        data = self._kept(part)
        if data is None:
            data = self.inner.get_range(name, offset, length)
            self.files.put(self._name(part), data)
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        data = self._kept(name) if _is_kept(name) else None
        if data is None:
            return self._streamed(name)
        return (data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))

    def _streamed(self, name: str) -> Iterator[bytes]:
        """From the store; kept when it has gone by whole and is not too large."""
        pieces: list[bytes] | None = [] if _is_kept(name) else None
        size = 0
        for piece in self.inner.chunks(name):
            size += len(piece)
            if pieces is not None:
                pieces.append(piece)
                pieces = pieces if size <= _MOST_BYTES else None
            yield piece
        if pieces is not None:
            self._keep(name, b"".join(pieces))

    def stat(self, name: str) -> Stat:
        return self.inner.stat(name)

    def create(self, name: str, data: bytes) -> None:
        self.inner.create(name, data)

    def put(self, name: str, data: bytes) -> None:
        self.inner.put(name, data)

    def stage(self) -> Staged:
        return self.inner.stage()

    def stage_file(self, path: str, size_bytes: int) -> Staged:
        """As `stage`, for an immutable file of this machine."""
        send = getattr(self.inner, "stage_file", None)
        staged: Staged = send(path, size_bytes) if send else self.inner.stage()
        return staged

    def walk(self, prefix: str) -> Iterator[Stat]:
        return self.inner.walk(prefix)

    def folders(self, prefix: str) -> list[str]:
        return self.inner.folders(prefix)

    def names(self, prefix: str) -> list[str]:
        return self.inner.names(prefix)

    def token(self, prefix: str) -> str | None:
        return self.inner.token(prefix)

    def delete(self, name: str) -> None:
        self.inner.delete(name)
        self.files.drop(self._name(name))

    def append(self, name: str, header: bytes) -> Appender:
        return self.inner.append(name, header)

    def _kept(self, name: str) -> bytes | None:
        return None if _afresh.get() else self.files.get(self._name(name))

    def _keep(self, name: str, data: bytes) -> None:
        """Keep a whole file, if its bytes are what its name says."""
        last = name.rpartition("/")[2].removesuffix(".seg")
        is_right = name.startswith("recipes/") or hashlib.sha256(data).hexdigest() == last
        if is_right and len(data) <= _MOST_BYTES:
            self.files.put(self._name(name), data)

    def _name(self, name: str) -> str:
        return f"{self.key}/{name}"


def without_cache(backend: Backend) -> Backend:
    """The same without what is kept on this machine: for who wants to know what lies in the store."""
    if isinstance(backend, WatchedBackend):
        return WatchedBackend(without_cache(backend.inner), backend.watch)
    return backend.inner if isinstance(backend, CachedBackend) else backend


def _is_kept(name: str) -> bool:
    return name.startswith(_FOLDERS) or name.endswith(".seg")
