"""Writing packs: chunks go in one by one, packs get their names when all of an artifact is known.

Until `publish`, what was written has no name: an artifact that turns out to be in the store already, or
that cannot be read to its end, leaves nothing behind.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from holdfast.backend.base import Backend, Staged
from holdfast.digest import Digest
from holdfast.format import layout, pack
from holdfast.ids import new_nonce

TARGET_BYTES = 64 << 20  # when the next pack is begun
_MOST_PACKS = 64  # of one artifact: they are open files until they get their names


def target_bytes(artifact_bytes: int) -> int:
    """How long a pack of an artifact of that size should grow."""
    return max(TARGET_BYTES, artifact_bytes // _MOST_PACKS)


class PackWriter:
    """Chunks on their way into packs. Not for several threads at once."""

    def __init__(self, backend: Backend, target: int = TARGET_BYTES) -> None:
        self._backend = backend
        self._target = target
        self._open: _OpenPack | None = None
        self._ended: list[tuple[Staged, Digest]] = []
        self.stored_bytes = 0

    def add(
        self, id: bytes, size_bytes: int, codec: int, bases: Sequence[bytes], payload: Any
    ) -> tuple[int, pack.Packed]:
        """Write one chunk; returns (the place of its pack in what `publish` returns, where it lies)."""
        if self._open is None:
            self._open = _OpenPack(self._backend.stage())
        place = len(self._ended)
        chunk = self._open.add(id, size_bytes, codec, bases, payload)
        if self._open.is_full(self._target):
            self._end()
        return place, chunk

    def publish(self) -> list[Digest]:
        """Give every pack its name, durable; returns their digests."""
        self._end()
        for staged, digest in self._ended:
            staged.commit(layout.pack(digest))
        return [digest for _, digest in self._ended]

    def abort(self) -> None:
        """Forget what was not published; harmless after `publish`."""
        if self._open:
            self._open.staged.abort()
        for staged, _ in self._ended:
            staged.abort()

    def _end(self) -> None:
        if self._open:
            self._ended.append((self._open.staged, self._open.end()))
            self.stored_bytes += self._open.size_bytes
            self._open = None


class _OpenPack:
    """One pack that is being written, and its sha256 so far."""

    def __init__(self, staged: Staged) -> None:
        self.staged = staged
        self.size_bytes = 0
        self._sha = hashlib.sha256()
        self._builder = pack.Builder(new_nonce())
        self._write(self._builder.begin())

    def add(
        self, id: bytes, size_bytes: int, codec: int, bases: Sequence[bytes], payload: Any
    ) -> pack.Packed:
        chunk, head = self._builder.add(id, size_bytes, codec, bases, payload)
        self._write(head)
        self._write(memoryview(payload).cast("B"))
        return chunk

    def is_full(self, target: int) -> bool:
        full = self._builder.size_bytes >= target
        return full or len(self._builder.chunks) >= pack.MAX_CHUNKS

    def end(self) -> Digest:
        self._write(self._builder.end())
        return Digest(self._sha.hexdigest())

    def _write(self, data: bytes | memoryview) -> None:
        self._sha.update(data)
        self.staged.write(data)
        self.size_bytes += len(data)
