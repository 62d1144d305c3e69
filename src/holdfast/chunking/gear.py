"""Cut points from the contents: a gear hash over the last 32 bytes, exact and for ever the same.

With G the table below, the hash at byte i is the sum of G[byte i-k] * 2**k for k = 0 … 31, modulo 2**32.
A chunk ends behind byte i if it has at least MIN_BYTES and the upper MASK_BITS bits of the hash are zero,
or if it has MAX_BYTES. The hash needs no byte before the chunk, so that equal contents are cut equally
wherever they lie.

All hashes of a block are made at once: from sums over 1 byte those over 2, 4, 8, 16 and 32.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW = 32
MIN_BYTES = 64 << 10
MAX_BYTES = 1 << 20
MASK_BITS = 18  # so a chunk has about 64 KiB + 256 KiB
_BLOCK = 64 << 10  # hashes made at once: they stay in the cache
_LIMIT = np.uint32(1 << (32 - MASK_BITS))

# Entry b: the first 4 bytes, little-endian, of the sha256 of b"holdfast gear " and the byte b.
TABLE = np.frombuffer(
    b"".join(hashlib.sha256(b"holdfast gear " + bytes([b])).digest()[:4] for b in range(256)), "<u4"
)


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.hashes = np.empty(_BLOCK + WINDOW, np.uint32)
        self.shifted = np.empty(_BLOCK + WINDOW, np.uint32)


_scratch = _Scratch()


def cut(data: NDArray[np.uint8], *, last: bool) -> int:
    """How long the chunk is that `data` begins with; 0 if more bytes are needed to tell.

    `last` says that nothing follows `data`."""
    most = min(data.size, MAX_BYTES)
    at = MIN_BYTES
    while at <= most:
        stop = min(at + _BLOCK, most + 1)
        found = _first(data[at - WINDOW : stop - 1], stop - at)
        if found >= 0:
            return at + found
        at = stop
    return most if last or most == MAX_BYTES else 0


def _first(data: NDArray[np.uint8], count: int) -> int:
    """Which of the `count` windows that end at the last bytes of `data` first has a hash to cut at; -1."""
    size = data.size
    hashes: NDArray[Any] = _scratch.hashes[:size]
    np.take(TABLE, data, out=hashes, mode="clip")
    reach = 1
    while reach < WINDOW:
        shifted = _scratch.shifted[: size - reach]
        np.left_shift(hashes[:-reach], np.uint32(reach), out=shifted)
        hashes[reach:] += shifted
        reach *= 2
    below = hashes[size - count :] < _LIMIT
    place = int(below.argmax())
    return place if below[place] else -1
