"""The one door through which stored bytes leave: nothing passes it unchecked.

Whole files are held against the sha256 that names them, ranges against the chunk ids of a recipe. A
mismatch is read once more, since the fault may lie between the disk and us, and then raised.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import TypeVar

from blake3 import blake3

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch, NameNotFound
from holdfast.format import layout, recipe
from holdfast.format.recipe import Chunk, Recipe

T = TypeVar("T")


def again(read: Callable[[], T]) -> T:
    """`read()`, once more if the first answer was damaged."""
    try:
        return read()
    except Corrupt:
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
    name = layout.blob(digest)
    sha, size = hashlib.sha256(), 0
    try:
        for piece in backend.chunks(name):
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


def load_recipe(backend: Backend, digest: Digest) -> Recipe | None:
    """A recipe of the artifact, or None if it has none."""
    for stat in backend.walk(f"recipes/sha256/{digest.hex[:2]}/"):
        if stat.name.startswith(layout.recipes(digest)):
            found = recipe.decode(backend.get(stat.name), place=stat.name)
            if found.artifact != digest:
                raise Corrupt(f"{stat.name} is the recipe of another artifact", place=stat.name)
            return found
    return None


def check_blob(backend: Backend, digest: Digest, size_bytes: int | None = None) -> None:
    """Read a whole blob against its sha256, and against the piece ids of its recipe if it has one."""
    made_of = load_recipe(backend, digest)
    chunks = [made_of.chunk(number) for number in range(len(made_of))] if made_of else []
    pieces = [chunk for chunk in chunks if chunk.home == digest and not chunk.packed]
    found = {}
    start = 0
    for data in stream_blob(backend, digest, size_bytes):
        found[start] = blake3(data).digest()
        start += len(data)
    wrong = next((p for p in pieces if found.get(p.offset) != p.id), None)
    if wrong is not None and made_of is not None:
        raise Corrupt(
            f"the recipe of {digest} is damaged: its piece at byte {wrong.offset} has another id than "
            "the bytes that are stored; remove the recipe, it is written again with the artifact",
            place=layout.recipes(digest),
        )


class VerifiedFile(io.RawIOBase):
    """A seekable, read-only artifact; each piece is checked before a byte of it is handed out."""

    def __init__(self, backend: Backend, made_of: Recipe) -> None:
        super().__init__()
        self._backend = backend
        self._recipe = made_of
        self._at = 0
        self._held: tuple[int, bytes] = (-1, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

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

    def _data(self, index: int) -> bytes:
        if self._held[0] != index:
            piece = self._recipe.piece(index)
            self._held = (index, again(lambda: self._read(piece)))
        return self._held[1]

    def _read(self, piece: Chunk) -> bytes:
        name = layout.blob(piece.home)
        try:
            data = self._backend.get_range(name, piece.offset, piece.size_bytes)
        except NameNotFound as error:
            raise Corrupt(f"{name} is missing from the store", place=name) from error
        if blake3(data).digest() != piece.id:
            raise DigestMismatch(
                f"{name} is damaged between byte {piece.offset} and {piece.offset + piece.size_bytes}",
                place=name,
                expected=piece.id.hex(),
                found=blake3(data).hexdigest(),
            )
        return data
