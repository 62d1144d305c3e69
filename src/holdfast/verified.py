"""The one door through which stored bytes leave: nothing passes it unchecked.

Whole files are held against the sha256 that names them, ranges against the chunk ids of a recipe. A
mismatch is read once more, since the fault may lie between the disk and us, and then raised.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.ahead import read_ahead
from holdfast.backend.base import Backend
from holdfast.backend.cached import afresh
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch, NameNotFound
from holdfast.format import layout

if TYPE_CHECKING:
    from holdfast.verified_chunks import Chunks

T = TypeVar("T")

LONG_BYTES = 4 << 20  # from here on another thread reads ahead


def again(read: Callable[[], T]) -> T:
    """`read()`, once more if the first answer was damaged."""
    try:
        return read()
    except Corrupt as error:
        if isinstance(error.__cause__, NameNotFound):
            raise  # what is not there is not there the second time
        with afresh():  # the fault may lie in what is kept on this machine
            return read()


def read_file(backend: Backend, name: str, digest: Digest, size_bytes: int | None = None) -> bytes:
    """All bytes of `name`, which must hash to `digest`. Raises Corrupt or DigestMismatch."""

    def read() -> bytes:
        try:
            data = backend.get(name)
        except NameNotFound as error:
            raise Corrupt(f"{name} is missing from the store", place=name) from error
        _check(name, Digest.of(data), digest, len(data), size_bytes)
        return data

    return again(read)


def read_blob(backend: Backend, digest: Digest, size_bytes: int | None = None) -> bytes:
    """All bytes of a blob."""
    return read_file(backend, layout.blob(digest), digest, size_bytes)


def stream_blob(backend: Backend, digest: Digest, size_bytes: int | None = None) -> Iterator[bytes]:
    """A blob in pieces. Trust none of them before the iterator has ended without an error."""
    return _stream(backend, layout.blob(digest), digest, size_bytes)


def check_file(backend: Backend, name: str, digest: Digest) -> None:
    """Read all of `name`, which must hash to `digest`. Raises Corrupt or DigestMismatch."""

    def read() -> None:
        for _ in _stream(backend, name, digest, None):
            pass

    again(read)


def _stream(backend: Backend, name: str, digest: Digest, size_bytes: int | None) -> Iterator[bytes]:
    sha, size = hashlib.sha256(), 0
    pieces = backend.chunks(name)
    try:
        for piece in read_ahead(pieces) if (size_bytes or LONG_BYTES) >= LONG_BYTES else pieces:
            sha.update(piece)
            size += len(piece)
            yield piece
    except NameNotFound as error:
        raise Corrupt(f"{name} is missing from the store", place=name) from error
    _check(name, Digest(sha.hexdigest()), digest, size, size_bytes)


def _check(name: str, found: Digest, wanted: Digest, size: int, size_bytes: int | None) -> None:
    if size_bytes is not None and size != size_bytes:
        raise DigestMismatch(
            f"{name} is damaged: it is {size} bytes long and should be {size_bytes}",
            place=name,
            expected=str(wanted),
            found=str(found),
        )
    if found != wanted:
        raise DigestMismatch(
            f"{name} is damaged: its bytes have the digest {found} and should have {wanted}",
            place=name,
            expected=str(wanted),
            found=str(found),
        )


class VerifiedFile(io.RawIOBase):
    """A seekable, read-only artifact; each piece is checked before a byte of it is handed out. While it is
    read front to back, the next pieces are decoded meanwhile."""

    def __init__(self, chunks: Chunks) -> None:
        super().__init__()
        self._chunks = chunks
        self._recipe = chunks.recipe
        self._at = 0
        self._held: tuple[int, memoryview] = (-1, memoryview(b""))
        self._next: tuple[int, Iterator[Any]] | None = None  # (the piece it gives next, the pieces)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._stop()
        super().close()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._recipe.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the start of the artifact")
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if self._at >= self._recipe.size_bytes or not view:
            return 0
        index = self._recipe.piece_at(self._at)
        part = self._data(index)[self._at - int(self._recipe.starts[index]) :][: len(view)]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def _data(self, index: int) -> memoryview:
        before = self._held[0]
        if before != index:
            if self._next and self._next[0] == index:
                piece = next(self._next[1])
                self._next = (index + 1, self._next[1])
            else:
                self._stop()
                piece = self._chunks.piece(index)
                if index == before + 1 > 1:  # twice in a row: so it will go on
                    self._next = (index + 1, self._chunks.pieces(index + 1))
            self._held = (index, piece.data)
        return self._held[1]

    def _stop(self) -> None:
        if self._next:
            self._next[1].close()  # type: ignore[attr-defined]
            self._next = None
