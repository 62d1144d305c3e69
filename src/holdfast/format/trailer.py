"""The end of a file that is written front to back and read from its end: an index, and where it lies.

    index    one msgpack object
    trailer  C4 20 offset(8) length(8) checksum(8) 48 46 <kind> 0D 0A 1A 0A version(1)

A reader takes the last bytes of the file and has the index with one request. Numbers are big-endian.
See docs/format/pack.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from holdfast.errors import Corrupt
from holdfast.format import frame

_TRAILER = struct.Struct(">2sQQ8s8s")
TRAILER_BYTES = _TRAILER.size

Getter = Callable[[int, int], bytes]  # (offset, length) -> exactly those bytes


def _magic(kind: bytes, version: int) -> bytes:
    return b"HF" + kind + b"\r\n\x1a\n" + bytes([version])


def _seal(index: bytes, offset: int, magic: bytes) -> bytes:
    return frame.checksum(b"".join([index, struct.pack(">QQ", offset, len(index)), magic]))


def wrap(kind: bytes, version: int, index: bytes, offset: int) -> bytes:
    """The index, which begins at `offset` of its file, and the trailer behind it."""
    magic = _magic(kind, version)
    seal = _seal(index, offset, magic)
    return index + _TRAILER.pack(b"\xc4\x20", offset, len(index), seal, magic)


def unwrap(
    kind: bytes, tail: bytes, size: int, get: Getter, *, place: str, max_version: int
) -> tuple[int, bytes]:
    """(offset of the index, index) from the last bytes of a file of `size` bytes.

    Raises Corrupt or UnsupportedFormat, naming `place`."""
    if len(tail) < TRAILER_BYTES:
        raise Corrupt(f"{place} is damaged: it is only {size} bytes long", place=place)
    mark, offset, length, seal, magic = _TRAILER.unpack(tail[-TRAILER_BYTES:])
    if mark != b"\xc4\x20" or magic[:7] != _magic(kind, 0)[:7]:
        raise Corrupt(
            f"{place} is damaged: it does not end as a file of kind {kind.decode()!r}", place=place
        )
    frame.check_header(kind, frame.header(kind, magic[7]), place=place, max_version=max_version)
    if offset + length + TRAILER_BYTES != size or offset < frame.HEADER_BYTES:
        raise Corrupt(f"{place} is damaged: its index lies outside the file", place=place)
    start = size - len(tail)
    index = (
        tail[offset - start : offset - start + length] if offset >= start else get(offset, length)
    )
    if _seal(index, offset, magic) != seal:
        raise Corrupt(f"{place} is damaged: its index fails its checksum", place=place)
    return offset, index
