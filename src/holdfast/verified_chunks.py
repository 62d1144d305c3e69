"""Chunks of a recipe, decoded: each is checked against its id, and so is each base it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from holdfast import codecs
from holdfast.ahead import WORKERS, in_order
from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch, NameNotFound
from holdfast.format import layout
from holdfast.format.recipe import Chunk, Recipe

Bytes = NDArray[np.uint8]


class Chunks:
    """The chunks of one recipe. Any number of threads may read at once."""

    def __init__(self, backend: Backend, made_of: Recipe) -> None:
        self._backend = backend
        self.recipe = made_of

    def chunk(self, number: int) -> Bytes:
        """The plain bytes of chunk `number`. What is damaged is read once more.

        Raises Corrupt or DigestMismatch, naming the artifact, the file and the range in it."""
        chunk = self.recipe.chunk(number)
        bases = [self.chunk(base) for base in chunk.bases]
        try:
            return self._read(chunk, bases)
        except Corrupt:
            return self._read(chunk, bases)

    def piece(self, index: int) -> Bytes:
        """The plain bytes of piece `index` of the artifact."""
        return self.chunk(int(self.recipe.order[index]))

    def pieces(self, first: int = 0) -> Iterator[Bytes]:
        """All pieces from `first` on, in order; several are decoded at once."""
        workers = max(WORKERS, self._backend.capabilities.parallel)
        return in_order(self.piece, range(first, self.recipe.pieces()), workers=workers)

    def _read(self, chunk: Chunk, bases: list[Bytes]) -> Bytes:
        name = home_of(chunk)
        try:
            stored = self._backend.get_range(name, chunk.offset, chunk.length)
        except NameNotFound as error:
            raise Corrupt(
                f"{name} is missing from the store: {self.recipe.artifact} needs it", place=name
            ) from error
        return decoded(chunk, stored, bases, self.recipe.artifact)


def decoded(chunk: Chunk, stored: bytes, bases: Sequence[Bytes], artifact: Digest) -> Bytes:
    """The plain bytes of a chunk of `artifact`. Raises Corrupt or DigestMismatch, naming the place."""
    name = home_of(chunk)
    where = (
        f"{name} is damaged between byte {chunk.offset} and {chunk.offset + chunk.length}, "
        f"which {artifact} needs"
    )
    if len(stored) != chunk.length:
        raise Corrupt(f"{where}: it ends before", place=name)
    try:
        plain = codecs.decode(chunk.codec, stored, chunk.size_bytes, bases, place=name)
    except Corrupt as error:
        raise Corrupt(f"{where}: {error.message}", place=name) from error
    found = blake3(plain.data).digest()
    if found != chunk.id:
        raise DigestMismatch(where, place=name, expected=chunk.id.hex(), found=found.hex())
    return plain


def home_of(chunk: Chunk) -> str:
    """The name of the pack or blob that holds a chunk."""
    return (layout.pack if chunk.packed else layout.blob)(chunk.home)
