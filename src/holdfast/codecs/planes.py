"""Numbers as planes: the lowest bytes of all numbers, then the second lowest of all, and so on.

A plane of exponents packs well and a plane of noise not at all, so each is stored by itself:

    kind    0 the bytes, 1 a zstd frame, 2 one byte that all are equal to
    layout  a kind for each plane (1 byte each), a length for each (u32 little-endian), the planes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.codecs import zstd
from holdfast.codecs.zstd import Bytes

PLAIN, FRAME, CONSTANT = range(3)
WIDTHS: dict[int, np.dtype[Any]] = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
_SAMPLE = 4096  # bytes of a plane that are counted before it is packed

Numbers = NDArray[Any]  # unsigned integers of 1, 2, 4 or 8 bytes


def split(numbers: Numbers) -> list[Bytes]:
    """The planes of `numbers`, the lowest first. Narrowing casts run at the speed of memory, where
    taking every second byte does not."""
    width = numbers.dtype.itemsize
    if width == 1:
        return [numbers]
    planes = [np.empty(numbers.size, np.uint8) for _ in range(width)]
    np.copyto(planes[0], numbers, casting="unsafe")
    shifted = np.empty_like(numbers)
    for place in range(1, width):
        np.right_shift(numbers, numbers.dtype.type(8 * place), out=shifted)
        np.copyto(planes[place], shifted, casting="unsafe")
    return planes


def merge(planes: Sequence[Bytes], width: int) -> Numbers:
    """The numbers that `split` took apart."""
    if width == 1:
        return planes[0]
    half = width // 2
    low, high = merge(planes[:half], half), merge(planes[half:], half)
    numbers: Numbers = high.astype(WIDTHS[width])
    numbers <<= WIDTHS[width].type(4 * width)
    numbers |= low
    return numbers


def entropy_bits(counts: NDArray[np.int64]) -> float:
    """Bits a symbol that a perfect coder of single symbols needs."""
    seen = counts[counts > 0]
    total = float(seen.sum())
    return float(np.log2(total) - (seen * np.log2(seen)).sum() / total) if total else 0.0


def estimate_bits(numbers: Numbers) -> float:
    """Bits a number that its planes would take, from a sample of them."""
    return sum(
        entropy_bits(np.bincount(plane, minlength=256))
        for plane in split(np.ascontiguousarray(numbers))
    )


def _is_noise(plane: Bytes) -> bool:
    """True if a sample says that packing this plane would not pay."""
    if plane.size < 1024:
        return False
    sample = plane[:: max(1, plane.size // _SAMPLE)][:_SAMPLE]
    # A sample of n bytes shows fewer bits than are there, by about 255 / (2 n ln 2).
    limit = 7.9 - 255 / (2 * np.log(2) * sample.size)
    return bool(entropy_bits(np.bincount(sample, minlength=256)) > limit)


def _pack(plane: Bytes, edges: Sequence[int]) -> tuple[int, Any]:
    if plane[0] == plane[-1] and (plane == plane[0]).all():
        return CONSTANT, plane[:1]
    if _is_noise(plane):
        return PLAIN, plane
    frame = zstd.compress_groups(plane, edges) if edges else zstd.compress_digits(plane)
    return (FRAME, frame) if len(frame) < plane.size else (PLAIN, plane)


def encode(numbers: Numbers, edges: Sequence[int] = ()) -> bytes:
    """`numbers` (at least one) in planes. A zstd block ends at each of `edges`."""
    packed = [_pack(plane, edges) for plane in split(numbers)]
    kinds = bytes(kind for kind, _ in packed)
    lengths = np.array([len(data) for _, data in packed], "<u4").tobytes()
    return b"".join([kinds, lengths, *(data for _, data in packed)])


def decode(payload: memoryview, width: int, count: int) -> Numbers:
    """`count` numbers of `width` bytes. Raises ValueError unless `payload` holds exactly that."""
    front = 5 * width
    if len(payload) < front:
        raise ValueError("its planes are cut off")
    lengths = np.frombuffer(payload[width:front], "<u4").tolist()
    if front + sum(lengths) != len(payload):
        raise ValueError("its planes have other lengths than they say")
    planes, at = [], front
    for kind, length in zip(payload[:width], lengths, strict=True):
        planes.append(_unpack(kind, payload[at : at + length], count))
        at += length
    return merge(planes, width)


def _unpack(kind: int, data: memoryview, count: int) -> Bytes:
    if kind == FRAME:
        return zstd.decompress(data, count)
    plane = np.frombuffer(data, np.uint8)
    if kind == CONSTANT and plane.size == 1:
        return np.full(count, plane[0], np.uint8)
    if kind != PLAIN or plane.size != count:
        raise ValueError("a plane is not as defined")
    return plane
