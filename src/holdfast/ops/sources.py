"""What is about to be stored, as bytes that several threads may read at any place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from holdfast.errors import InvalidValue

_COPY_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20  # of a stream, before it goes to a temporary file


class Source(Protocol):
    """`size_bytes` are there to `get`; whoever takes another number of them was told of a change."""

    @property
    def size_bytes(self) -> int: ...

    def get(self, offset: int, length: int) -> Any:
        """Bytes from `offset` on; fewer where the source ends."""


class Memory:
    """Bytes that are there already."""

    def __init__(self, data: Any) -> None:
        self._view = memoryview(data).cast("B")
        self.size_bytes = len(self._view)

    def get(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]


class Opened:
    """An open file, as long as it was when it was opened; what is appended later is no part of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        self.size_bytes = os.fstat(self._fd).st_size

    def get(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        while len(data) < length and (
            more := os.pread(self._fd, length - len(data), offset + len(data))
        ):
            data += more
        return data


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """The file at `path`."""
    with open(path, "rb", buffering=0) as file:
        yield Opened(file)


@contextmanager
def copied(stream: BinaryIO) -> Iterator[Source]:
    """What is left of a stream: a container tells what it is at its end, so it is read first."""
    start = stream.read(_IN_MEMORY_BYTES)
    if not isinstance(start, bytes):
        raise InvalidValue("an artifact must be opened in binary mode: open(path, 'rb')")
    more = stream.read(_COPY_BYTES) if start else b""
    if not more:
        yield Memory(start)
        return
    with tempfile.TemporaryFile() as file:
        file.write(start)
        while more:
            file.write(more)
            more = stream.read(_COPY_BYTES)
        file.flush()
        yield Opened(file)
