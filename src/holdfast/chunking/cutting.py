"""The artifact in pieces, read once from front to back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holdfast.chunking import gear
from holdfast.chunking.contents import Contents, Getter, Span

PIECE_BYTES = 1 << 20  # of a tensor
_WINDOW = 4 << 20  # bytes read at once where the contents decide


class Ended(ValueError):
    """The artifact is shorter than it was."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the artifact from `start` on. In a tensor: `name` and `dtype` of its span, and `at`, how far
    behind the start of the span it lies. The piece with the same name and `at` of an earlier version is
    what it may be encoded against."""

    start: int
    size_bytes: int
    name: str | None = None
    dtype: str | None = None
    at: int = 0


def pieces(
    get: Getter, size_bytes: int, found: Contents
) -> Iterator[tuple[Piece, NDArray[np.uint8]]]:
    """Each piece with its bytes, in order; together they are the artifact.

    `get` is asked for each byte once, in order, for at most 4 MiB at a time. What it returns is kept
    until its pieces are given out, and pieces are views of it: it must not use a buffer twice."""
    end = 0
    for span in found.spans:
        yield from _by_contents(get, end, span.start)
        yield from _of_tensor(get, span)
        end = span.stop
    yield from _by_contents(get, end, size_bytes)


def take(get: Getter, offset: int, length: int) -> NDArray[np.uint8]:
    """Exactly those bytes. Raises Ended."""
    data: NDArray[np.uint8] = np.frombuffer(get(offset, length), np.uint8)
    if data.size != length:
        raise Ended(f"the artifact ended at byte {offset + data.size}: it was changed meanwhile")
    return data


def cuts(size_bytes: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of the pieces of a tensor: PIECE_BYTES each, the last up to a quarter longer."""
    at = 0
    while size_bytes - at > PIECE_BYTES + PIECE_BYTES // 4:
        yield at, PIECE_BYTES
        at += PIECE_BYTES
    if size_bytes > at:
        yield at, size_bytes - at


def _of_tensor(get: Getter, span: Span) -> Iterator[tuple[Piece, NDArray[np.uint8]]]:
    for at, length in cuts(span.stop - span.start):
        data = take(get, span.start + at, length)
        yield Piece(span.start + at, length, span.name, span.dtype, at), data


def _by_contents(get: Getter, start: int, stop: int) -> Iterator[tuple[Piece, NDArray[np.uint8]]]:
    held: NDArray[np.uint8] = np.empty(0, np.uint8)
    read = start
    while start < stop:
        length = gear.cut(held, last=read == stop)
        if not length:
            more = take(get, read, min(_WINDOW, stop - read))
            held = np.concatenate([held, more]) if held.size else more
            read += more.size
            continue
        yield Piece(start, length), held[:length]
        held = held[length:]
        start += length


def companions(found: Contents) -> dict[str, str]:
    """For the names of spans, the earlier span that it may follow as an average follows its weights: of the
    same size and type, under the same name but for its first part. `ema.layer.weight` follows
    `model.layer.weight`."""
    last: dict[tuple[str, str, int], str] = {}
    follows = {}
    for span in found.spans:
        tail = span.name.partition(".")[2]
        alike = (tail, span.dtype, span.stop - span.start)
        if tail and alike in last:
            follows[span.name] = last[alike]
        last.setdefault(alike, span.name)
    return follows
