"""A backend in this process's memory: for tests, for `ExperimentStore()` and for trying things out."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence

from holdfast.backend.base import CHUNK_BYTES, NEVER, Capabilities, Stat
from holdfast.errors import NameExists, NameNotFound


class MemoryBackend:
    """A dict under a lock; capabilities as on the best of real stores, but nothing outlives us."""

    capabilities = Capabilities(atomic_put=True, exclusive_create=True, durable_put=False)

    def __init__(self, url: str = "memory://") -> None:
        self.url = url
        self._files: dict[str, tuple[bytes | bytearray, int]] = {}
        self._lock = threading.RLock()
        self._changes = 0
        self._id = secrets.token_hex(8)

    def get(self, name: str) -> bytes:
        with self._lock:
            return bytes(self._file(name))

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        return [self.get(name) for name in names]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        with self._lock:
            return bytes(memoryview(self._file(name))[offset : offset + length])

    def chunks(self, name: str) -> Iterator[bytes]:
        data = self.get(name)
        for at in range(0, len(data), CHUNK_BYTES):
            yield data[at : at + CHUNK_BYTES]

    def stat(self, name: str) -> Stat:
        with self._lock:
            return Stat(name, len(self._file(name)), self._files[name][1])

    def create(self, name: str, data: bytes) -> None:
        with self._lock:
            if name in self._files:
                raise NameExists(f"{self.url}: {name} is taken already", name=name)
            self._files[name] = (bytes(data), time.time_ns())
            self._changes += 1

    def put(self, name: str, data: bytes) -> None:
        with self._lock:
            self._files[name] = (bytes(data), time.time_ns())
            self._changes += 1

    def stage(self) -> _Staged:
        return _Staged(self)

    def walk(self, prefix: str) -> Iterator[Stat]:
        with self._lock:
            names = sorted(name for name in self._files if name.startswith(prefix))
            found = [Stat(name, len(self._files[name][0]), self._files[name][1]) for name in names]
        yield from found

    def folders(self, prefix: str) -> list[str]:
        with self._lock:
            below = (name[len(prefix) :] for name in self._files if name.startswith(prefix))
            return sorted({rest.split("/", 1)[0] for rest in below if "/" in rest})

    def names(self, prefix: str) -> list[str]:
        with self._lock:
            below = (name[len(prefix) :] for name in self._files if name.startswith(prefix))
            return list({rest.split("/", 1)[0] for rest in below})

    def token(self, prefix: str) -> str | None:
        return f"{self._id}.{self._changes}"  # of the whole backend: coarse, and never wrong

    def delete(self, name: str) -> None:
        with self._lock:
            self._files.pop(name, None)
            self._changes += 1

    def append(self, name: str, header: bytes) -> _Appender:
        self.create(name, header)
        buffer = bytearray(header)
        with self._lock:
            self._files[name] = (buffer, time.time_ns())
        return _Appender(buffer, self._lock)

    def _file(self, name: str) -> bytes | bytearray:
        try:
            return self._files[name][0]
        except KeyError:
            raise NameNotFound(f"{self.url}: there is no {name}", name=name) from None


class _Staged:
    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._data = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        self._data += data

    def commit(self, name: str) -> bool:
        try:
            self._backend.create(name, bytes(self._data))
        except NameExists:
            return False
        return True

    def replace(self, name: str) -> None:
        self._backend.put(name, bytes(self._data))

    def abort(self) -> None:
        self._data.clear()


class _Appender:
    def __init__(self, buffer: bytearray, lock: threading.RLock) -> None:
        self._buffer = buffer
        self._lock = lock

    def write(self, data: bytes) -> int:
        with self._lock:
            self._buffer += data
        return len(data)

    def prepare(self, ahead_bytes: int) -> int:
        return NEVER

    def sync(self) -> None:
        return None

    def cut(self, size_bytes: int) -> None:
        with self._lock:
            del self._buffer[len(self._buffer) - size_bytes :]

    def close(self) -> None:
        return None
