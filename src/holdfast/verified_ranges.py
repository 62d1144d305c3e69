"""Ranges of an artifact in few requests: what lies together is asked for together, decoded, and checked
against the ids of its recipe before a byte of it is handed out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, NameNotFound
from holdfast.format.recipe import NONE, Chunk, Recipe
from holdfast.verified import read_blob
from holdfast.verified_chunks import decoded, home_of

Bytes = NDArray[np.uint8]

WINDOW_BYTES = 8 << 20  # plain bytes made at a time; their bases come on top
GAP_BYTES = 32 << 10  # as many bytes that nobody asked for cost less than one more request


class Ranges:
    """The bytes of one artifact, by its recipe; of one that has none, which is short, by its blob."""

    def __init__(self, backend: Backend, artifact: Digest, made_of: Recipe | None) -> None:
        self._backend = backend
        self.artifact = artifact
        self.recipe = made_of
        self._whole: Bytes | None = None
        if made_of is None:
            self._whole = np.frombuffer(read_blob(backend, artifact), np.uint8)
        self.size_bytes = made_of.size_bytes if made_of else len(self._all())

    def _all(self) -> Bytes:
        return np.empty(0, np.uint8) if self._whole is None else self._whole

    def read(self, start: int, stop: int) -> Bytes:
        """Bytes `start` to `stop`, in memory of their own. Raises Corrupt, DigestMismatch."""
        if self.recipe is None:
            return self._all()[start:stop].copy()
        out = np.empty(max(0, min(stop, self.size_bytes) - start), np.uint8)
        at = start
        for part in self.parts(start, stop):
            out[at - start : at - start + part.size] = part
            at += part.size
        return out

    def parts(self, start: int, stop: int) -> Iterator[Bytes]:
        """Bytes `start` to `stop`, one behind the other, a piece at a time."""
        if self.recipe is None:
            yield self._all()[start:stop]
            return
        stop = min(stop, self.recipe.size_bytes)
        if start >= stop:
            return
        first, last = self.recipe.piece_at(start), self.recipe.piece_at(stop - 1)
        for begin, end in self._windows(first, last + 1):
            plain = self._decoded(self.recipe, begin, end)
            for index in range(begin, end):
                at = int(self.recipe.starts[index])
                part = plain[int(self.recipe.order[index])]
                yield part[max(0, start - at) : max(0, stop - at)]

    def _windows(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The pieces in groups of about WINDOW_BYTES."""
        while first < end and self.recipe is not None:
            limit = int(self.recipe.starts[first]) + WINDOW_BYTES
            behind = int(np.searchsorted(self.recipe.starts, limit, side="right")) - 1
            yield first, min(end, max(first + 1, behind))
            first = min(end, max(first + 1, behind))

    def _decoded(self, made_of: Recipe, begin: int, end: int) -> dict[int, Bytes]:
        """The plain bytes of the chunks of pieces `begin` to `end`, by their numbers."""
        numbers = _with_bases(made_of, set(made_of.order[begin:end].tolist()))
        stored = self._stored(made_of, numbers)
        plain: dict[int, Bytes] = {}
        for number in numbers:  # a base has a smaller number than what needs it
            chunk = made_of.chunk(number)
            bases = [plain[base] for base in chunk.bases]
            try:
                plain[number] = decoded(chunk, stored.pop(number), bases, self.artifact)
            except Corrupt:
                plain[number] = decoded(
                    chunk, self._get(chunk, chunk.offset, chunk.length), bases, self.artifact
                )
        return plain

    def _stored(self, made_of: Recipe, numbers: list[int]) -> dict[int, bytes]:
        """What is stored of each chunk; neighbours come in one request."""
        chunks = {number: made_of.chunk(number) for number in numbers}
        in_place = sorted(numbers, key=lambda n: (chunks[n].home.hex, chunks[n].offset))
        found: dict[int, bytes] = {}
        for group in _together(in_place, chunks):
            first = chunks[group[0]]
            end = max(chunks[n].offset + chunks[n].length for n in group)
            data = memoryview(self._get(first, first.offset, end - first.offset))
            for number in group:
                at = chunks[number].offset - first.offset
                found[number] = data[at : at + chunks[number].length]  # type: ignore[assignment]
        return found

    def _get(self, chunk: Chunk, offset: int, length: int) -> bytes:
        name = home_of(chunk)
        try:
            return self._backend.get_range(name, offset, length)
        except NameNotFound as error:
            raise Corrupt(
                f"{name} is missing from the store: {self.artifact} needs it", place=name
            ) from error


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


def same_bytes(one: Ranges, start: int, other: Ranges, begin: int, length: int) -> bool:
    """True if the recipes alone show that `length` bytes are equal in both; False says nothing."""
    if one.artifact == other.artifact and start == begin:
        return True
    if one.recipe is None or other.recipe is None:
        return False
    return length == 0 or _pieces(one.recipe, start, length) == _pieces(other.recipe, begin, length)


def _pieces(made_of: Recipe, start: int, length: int) -> list[tuple[int, bytes]]:
    """(where it begins, seen from `start`, and its id) of each piece in a range."""
    first, last = made_of.piece_at(start), made_of.piece_at(start + length - 1)
    numbers = made_of.order[first : last + 1].tolist()
    starts = (made_of.starts[first : last + 1] - start).tolist()
    return [(at, made_of.ids[32 * n : 32 * n + 32]) for at, n in zip(starts, numbers, strict=True)]
