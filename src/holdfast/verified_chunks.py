"""Chunks of a recipe, decoded: each is checked against its id, and so is each base it needs.

What lies together is asked for together, and other threads ask for the next stretch meanwhile. A chunk
that is damaged where the recipe says it lies is looked for in the artifact's other forms: an id tells the
right bytes wherever they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from holdfast import codecs
from holdfast.ahead import in_order
from holdfast.backend.base import Backend
from holdfast.backend.cached import afresh
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch, NameNotFound
from holdfast.format import layout
from holdfast.format.recipe import NONE, Chunk, Recipe

Bytes = NDArray[np.uint8]
Stored = Mapping[int, Any]  # what is stored of chunks, by their numbers

WINDOW_BYTES = 8 << 20  # plain bytes made at a time; their bases come on top
GAP_BYTES = 32 << 10  # as many bytes that nobody asked for cost less than one more request
_FETCHERS = 2  # stretches that are asked for at once


class Chunks:
    """The chunks of one recipe. With `twins`, all recipes of the same artifact that are known, what is
    damaged is looked for there and in its blob. Any number of threads may read at once.

    What is raised is Corrupt or DigestMismatch, naming the artifact, the file and the range."""

    def __init__(
        self, backend: Backend, made_of: Recipe, twins: Sequence[Recipe] | None = None
    ) -> None:
        self._backend = backend
        self.recipe = made_of
        self._twins = twins

    def chunk(self, number: int, stored: Stored | None = None) -> Bytes:
        """The plain bytes of chunk `number`. What is damaged, or not in `stored`, is read (once more)."""
        chunk = self.recipe.chunk(number)
        bases = [self.chunk(base, stored) for base in chunk.bases]
        artifact = self.recipe.artifact
        try:
            payload = self._payload(chunk) if stored is None else stored[number]
            return decoded(chunk, payload, bases, artifact)
        except Corrupt:
            with afresh():
                return decoded(chunk, self._payload(chunk), bases, artifact)

    def piece(self, index: int, stored: Stored | None = None) -> Bytes:
        """The plain bytes of piece `index` of the artifact, from a twin where they are damaged."""
        try:
            return self.chunk(int(self.recipe.order[index]), stored)
        except Corrupt:
            found = self._elsewhere(index)
            if found is None:
                raise
            return found

    def pieces(self, first: int = 0) -> Iterator[Bytes]:
        """All pieces from `first` on, in order; several are decoded at once."""
        return in_order(lambda item: self.piece(*item), self._fetched(first))

    def between(self, start: int, stop: int) -> Iterator[tuple[int, Bytes]]:
        """The pieces that bytes `start` to `stop` touch: (where it begins, its plain bytes)."""
        stop = min(stop, self.recipe.size_bytes)
        if start >= stop:
            return
        first, end = self.recipe.piece_at(start), self.recipe.piece_at(stop - 1) + 1
        for begin, behind in self._windows(first, end):
            stored = self._stored(begin, behind)
            for index in range(begin, behind):
                yield int(self.recipe.starts[index]), self.piece(index, stored)

    def _fetched(self, first: int) -> Iterator[tuple[int, Stored]]:
        """Each piece with what is stored of its window."""
        windows = list(self._windows(first, self.recipe.pieces()))
        fetched = in_order(
            lambda window: self._stored(*window), windows, workers=_FETCHERS, ahead=_FETCHERS
        )
        for (begin, end), stored in zip(windows, fetched, strict=True):
            for index in range(begin, end):
                yield index, stored

    def _windows(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The pieces in groups of about WINDOW_BYTES."""
        starts = self.recipe.starts
        while first < end:
            limit = int(starts[first]) + WINDOW_BYTES
            behind = max(first + 1, int(np.searchsorted(starts, limit, side="right")) - 1)
            yield first, min(end, behind)
            first = min(end, behind)

    def _stored(self, begin: int, end: int) -> Stored:
        """What is stored of the chunks of pieces, and of their bases; neighbours come in one request.

        What is missing is left out: who needs it says so."""
        numbers = _with_bases(self.recipe, set(self.recipe.order[begin:end].tolist()))
        chunks = {number: self.recipe.chunk(number) for number in numbers}
        in_place = sorted(numbers, key=lambda n: (chunks[n].home.hex, chunks[n].offset))
        groups = list(_together(in_place, chunks))
        workers = min(len(groups), self._backend.capabilities.parallel)
        several = workers > 1
        parts = in_order(self._stretch, groups, workers=workers) if several else None
        found: dict[int, Any] = {}
        for group, (at, data) in zip(groups, parts or map(self._stretch, groups), strict=True):
            for number in group:
                offset = chunks[number].offset - at
                found[number] = data[offset : offset + chunks[number].length]
        return found

    def _stretch(self, group: list[int]) -> tuple[int, memoryview]:
        """(where it begins, the bytes) of the stretch of a file in which chunks lie."""
        chunks = [self.recipe.chunk(number) for number in group]
        start = chunks[0].offset
        end = max(chunk.offset + chunk.length for chunk in chunks)
        try:
            data = self._backend.get_range(home_of(chunks[0]), start, end - start)
        except NameNotFound:
            data = b""
        return start, memoryview(data)

    def _payload(self, chunk: Chunk) -> bytes:
        name = home_of(chunk)
        try:
            return self._backend.get_range(name, chunk.offset, chunk.length)
        except NameNotFound as error:
            raise Corrupt(
                f"{name} is missing from the store: {self.recipe.artifact} needs it", place=name
            ) from error

    def _elsewhere(self, index: int) -> Bytes | None:
        """The bytes of a piece from the artifact's own blob, or by another of its recipes."""
        if self._twins is None:
            return None
        chunk, start = self.recipe.piece(index), int(self.recipe.starts[index])
        for data in self._twin_bytes(start, start + chunk.size_bytes):
            if blake3(data.data).digest() == chunk.id:
                return data
        return None

    def _twin_bytes(self, start: int, stop: int) -> Iterator[Bytes]:
        try:
            if self.recipe.files is None:
                name = layout.blob(self.recipe.artifact)
                yield np.frombuffer(self._backend.get_range(name, start, stop - start), np.uint8)
        except NameNotFound:
            pass
        for twin in self._twins or ():
            if twin is self.recipe:
                continue
            try:
                parts = list(Chunks(self._backend, twin).between(start, stop))
            except Corrupt:
                continue
            joined, skip = np.concatenate([piece for _, piece in parts]), start - parts[0][0]
            yield joined[skip : skip + stop - start].copy()


def decoded(chunk: Chunk, stored: Any, bases: Sequence[Bytes], artifact: Digest) -> Bytes:
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


def _with_bases(made_of: Recipe, numbers: set[int]) -> list[int]:
    """The numbers and those of all bases below them, ascending."""
    found, new = set(numbers), list(numbers)
    while new:
        number = new.pop()
        for name in ("first", "second"):
            base = int(made_of.columns[name][number])
            if base != NONE and base not in found:
                found.add(base)
                new.append(base)
    return sorted(found)


def _together(numbers: list[int], chunks: dict[int, Chunk]) -> Iterator[list[int]]:
    """Groups of chunks that lie in one file and close to each other, of at most WINDOW_BYTES."""
    group: list[int] = []
    for number in numbers:
        chunk = chunks[number]
        if group:
            first, last = chunks[group[0]], chunks[group[-1]]
            near = chunk.offset <= last.offset + last.length + GAP_BYTES
            short = chunk.offset + chunk.length - first.offset <= WINDOW_BYTES
            if chunk.home != first.home or not (near and short):
                yield group
                group = []
        group.append(number)
    if group:
        yield group
