"""zstd frames in both directions, bounded: a frame says how long it is, and is refused if it lies.

Two settings. `TEXT` looks for repetition. `DIGITS` hardly does: in a plane of exponents or differences
there is none, and looking for it costs both time and ratio; what is left is zstd's Huffman coder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

TEXT = zstandard.ZstdCompressionParameters.from_level(3)
DIGITS = zstandard.ZstdCompressionParameters(
    window_log=17, hash_log=6, chain_log=6, search_log=1, min_match=7, target_length=0,
    strategy=zstandard.STRATEGY_FAST,
)  # fmt: skip


class _Contexts(threading.local):
    """zstd's working memory, one for each thread: it must not be shared and is dear to make."""

    def __init__(self) -> None:
        self.text = zstandard.ZstdCompressor(compression_params=TEXT)
        self.digits = zstandard.ZstdCompressor(compression_params=DIGITS)
        self.back = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def compress_text(data: Bytes) -> bytes:
    return bytes(_contexts.text.compress(data.data))


def compress_digits(data: Bytes) -> bytes:
    return bytes(_contexts.digits.compress(data.data))


def compress_groups(data: Bytes, edges: Iterable[int]) -> bytes:
    """One frame of `data` in which a block ends at each of `edges`, so that each group of bytes gets
    statistics of its own."""
    stream = _contexts.digits.compressobj(size=data.size)
    parts, at = [], 0
    for edge in edges:
        parts.append(stream.compress(data[at:edge].data))
        parts.append(stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
        at = edge
    parts.append(stream.compress(data[at:].data))
    parts.append(stream.flush())
    return b"".join(parts)


def decompress(frame: Any, size: int) -> Bytes:
    """The `size` bytes in `frame`. Raises ValueError, before it allocates, if it claims another size."""
    try:
        if zstandard.frame_content_size(frame) != size:
            raise ValueError("a zstd frame holds another number of bytes")
        data = _contexts.back.decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"a zstd frame does not decode: {error}") from error
    if len(data) != size:
        raise ValueError("a zstd frame holds another number of bytes")
    return np.frombuffer(data, np.uint8)
