"""Which container a file is, told from its first bytes and never from its name."""

from __future__ import annotations

import struct

from holdfast.chunking import archive, gguf, npy, safetensors
from holdfast.chunking.contents import Contents, Getter

# What a parser may meet in a file that is damaged or made up. Anything else is a fault of ours.
# (Old pickles may have odd escapes in texts, which is a warning, or an error for who wants it so.)
DOUBTS = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, EOFError,
    RecursionError, MemoryError, struct.error, Warning,
)  # fmt: skip


def look(get: Getter, size_bytes: int) -> Contents:
    """What the file holds. It reads headers only. Any doubt gives the empty Contents."""
    try:
        return _look(get, size_bytes)
    except DOUBTS:
        return Contents()


def _look(get: Getter, size_bytes: int) -> Contents:
    if size_bytes < 64:
        return Contents()
    first = bytes(get(0, 16))
    if first.startswith(b"PK\x03\x04"):
        return archive.parse(get, size_bytes)
    if first.startswith(b"GGUF"):
        return gguf.parse(get, size_bytes)
    if first.startswith(npy.MAGIC):
        return npy.parse(get, size_bytes)
    if first[8:9] == b"{":
        return safetensors.parse(get, size_bytes)
    return Contents()
