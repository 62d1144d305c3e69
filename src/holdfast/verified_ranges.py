"""Ranges of an artifact in few requests, each piece checked against its id before a byte is handed out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.format.recipe import Recipe
from holdfast.verified_chunks import Bytes, Chunks


class Ranges:
    """The bytes of one artifact, by its recipe, and where that is damaged by `twins`; of one that has none,
    which is short, by `whole`, which reads it."""

    def __init__(
        self,
        backend: Backend,
        artifact: Digest,
        made_of: Recipe | None,
        *,
        twins: Sequence[Recipe] | None = None,
        whole: Callable[[], bytes] = bytes,
    ) -> None:
        self._backend, self._twins = backend, twins
        self.artifact = artifact
        self.recipe = made_of
        self._whole: Bytes | None = None
        if made_of is None:
            self._whole = np.frombuffer(whole(), np.uint8)
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
        for at, plain in Chunks(self._backend, self.recipe, self._twins).between(start, stop):
            yield plain[max(0, start - at) : max(0, stop - at)]


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
