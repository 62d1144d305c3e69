"""Some pieces of an artifact, from which to tell what packing it would save."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from holdfast.chunking.contents import Contents, Getter
from holdfast.chunking.cutting import Piece, cuts, pieces, take

_TENSOR_PIECES = 12  # at most, and of a short artifact one in _ONE_IN
_ONE_IN = 4
_STRETCH_BYTES = 4 << 20  # of what is cut by its contents, at the start and in the middle
_LEAST_GAP = 1 << 16


def sample(
    get: Getter, size_bytes: int, found: Contents
) -> Iterator[tuple[Piece, NDArray[np.uint8]]]:
    """Up to a dozen pieces spread over the tensors, and up to 8 MiB of what lies outside them, in no order.
    They are cut as `pieces` cuts them, but for the first of a stretch in the middle."""
    places = [
        Piece(span.start + at, length, span.name, span.dtype, at)
        for span in found.spans
        for at, length in cuts(span.stop - span.start)
    ]
    step = max(min(_ONE_IN, len(places)), len(places) // _TENSOR_PIECES)
    for piece in places[step // 2 :: step or 1]:
        yield piece, take(get, piece.start, piece.size_bytes)
    edges = [0, *(edge for span in found.spans for edge in (span.start, span.stop)), size_bytes]
    gaps = [(stop - start, start) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
    length, start = max(gaps)
    if length >= _LEAST_GAP:
        yield from _stretch(get, start, min(length, _STRETCH_BYTES))
        if length > 4 * _STRETCH_BYTES:
            yield from _stretch(get, start + length // 2, _STRETCH_BYTES)


def _stretch(get: Getter, start: int, length: int) -> Iterator[tuple[Piece, NDArray[np.uint8]]]:
    inner = pieces(lambda offset, count: get(start + offset, count), length, Contents())
    for piece, data in inner:
        yield Piece(start + piece.start, piece.size_bytes), data
