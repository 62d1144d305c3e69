"""A backend that looks at every call to another one: to count, to trace, to fail on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from holdfast.backend.base import Appender, Backend, Capabilities, Staged, Stat
from holdfast.errors import ReadOnly

Watch = Callable[[str, str], None]  # (operation, name); may raise to make the call fail


class WatchedBackend:
    """Calls `watch(operation, name)` before each call that reaches `inner`."""

    def __init__(self, inner: Backend, watch: Watch) -> None:
        self.inner = inner
        self.watch = watch

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def capabilities(self) -> Capabilities:
        return self.inner.capabilities

    def get(self, name: str) -> bytes:
        self.watch("get", name)
        return self.inner.get(name)

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        for name in names:
            self.watch("get", name)
        return self.inner.get_many(names)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        self.watch("get_range", name)
        return self.inner.get_range(name, offset, length)

    def chunks(self, name: str) -> Iterator[bytes]:
        self.watch("chunks", name)
        return self.inner.chunks(name)

    def stat(self, name: str) -> Stat:
        self.watch("stat", name)
        return self.inner.stat(name)

    def create(self, name: str, data: bytes) -> None:
        self.watch("create", name)
        self.inner.create(name, data)

    def put(self, name: str, data: bytes) -> None:
        self.watch("put", name)
        self.inner.put(name, data)

    def stage(self) -> Staged:
        self.watch("stage", "")
        return _WatchedStaged(self.inner.stage(), self.watch)

    def walk(self, prefix: str) -> Iterator[Stat]:
        self.watch("walk", prefix)
        return self.inner.walk(prefix)

    def folders(self, prefix: str) -> list[str]:
        self.watch("folders", prefix)
        return self.inner.folders(prefix)

    def names(self, prefix: str) -> list[str]:
        self.watch("names", prefix)
        return self.inner.names(prefix)

    def token(self, prefix: str) -> str | None:
        self.watch("token", prefix)
        return self.inner.token(prefix)

    def temporaries(self) -> Iterator[str]:
        """Files on their way in, where the inner backend has such."""
        self.watch("walk", "")
        return iter(getattr(self.inner, "temporaries", list)())

    def delete(self, name: str) -> None:
        self.watch("delete", name)
        self.inner.delete(name)

    def append(self, name: str, header: bytes) -> Appender:
        self.watch("append", name)
        return _WatchedAppender(self.inner.append(name, header), name, self.watch)


class _WatchedStaged:
    def __init__(self, inner: Staged, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def write(self, data: bytes | memoryview) -> None:
        self._watch("stage.write", "")
        self._inner.write(data)

    def commit(self, name: str) -> bool:
        self._watch("stage.commit", name)
        return self._inner.commit(name)

    def replace(self, name: str) -> None:
        self._watch("stage.replace", name)
        self._inner.replace(name)

    def abort(self) -> None:
        self._inner.abort()


class _WatchedAppender:
    def __init__(self, inner: Appender, name: str, watch: Watch) -> None:
        self._inner = inner
        self._name = name
        self._watch = watch

    def write(self, data: bytes) -> int:
        self._watch("append.write", self._name)
        return self._inner.write(data)

    def prepare(self, ahead_bytes: int) -> int:
        return self._inner.prepare(ahead_bytes)

    def sync(self) -> None:
        self._watch("append.sync", self._name)
        self._inner.sync()

    def cut(self, size_bytes: int) -> None:
        self._inner.cut(size_bytes)

    def close(self) -> None:
        self._inner.close()


_READS = {"get", "get_range", "chunks", "stat", "walk", "folders", "names", "token"}


def refuse_writes(operation: str, name: str, why: str = "the store was opened read-only") -> None:
    """A watch that makes a backend read-only."""
    if operation not in _READS:
        raise ReadOnly(f"{why}: {name or 'new data'} was not written")
