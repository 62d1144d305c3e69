"""Version 1 of a recipe: an artifact that lies plain, in spans of blobs. See docs/format/recipe.md.

A span is a run of pieces that lie one behind the other in one blob: its sha256, where the first piece
begins, the length of each, and the ids of all, joined.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.digest import Digest
from holdfast.format import packing

VERSION = 1
CHUNK_BYTES = 1 << 20  # pieces of a plain artifact
MAX_CHUNK_BYTES = 64 << 20
MAX_OFFSET = 1 << 62  # no file is that long, and every language can seek to it

Span = tuple[Digest, int, list[int], bytes]  # blob, offset, sizes, ids


class Plain(NamedTuple):
    artifact: Digest
    size_bytes: int
    spans: list[Span]


def encode(plain: Plain) -> bytes:
    """The body of the file."""
    spans = [
        {"blob": blob.raw, "offset": offset, "sizes": sizes, "ids": ids}
        for blob, offset, sizes, ids in plain.spans
    ]
    body = {"artifact": plain.artifact.raw, "size": plain.size_bytes, "spans": spans}
    return packing.pack(body)


def read(body: dict[str, Any]) -> Plain:
    """What an unpacked body says. Raises KeyError, TypeError or ValueError if it is not as defined."""
    spans = [_span(span) for span in body["spans"]]
    size = body["size"]
    if type(size) is not int or sum(sum(sizes) for _, _, sizes, _ in spans) != size:
        raise ValueError("its pieces do not add up to its size")
    return Plain(Digest.from_raw(body["artifact"]), size, spans)


def _span(span: dict[str, Any]) -> Span:
    blob, offset, sizes, ids = span["blob"], span["offset"], span["sizes"], span["ids"]
    if not (isinstance(blob, bytes) and isinstance(ids, bytes) and isinstance(sizes, list)):
        raise ValueError("a span is not as defined")
    if len(ids) != 32 * len(sizes):
        raise ValueError("a span has not one id for each size")
    if type(offset) is not int or not 0 <= offset <= MAX_OFFSET:
        raise ValueError(f"a span begins at {offset!r}, outside 0 to 2**62")
    for size in sizes:
        if type(size) is not int or not 1 <= size <= MAX_CHUNK_BYTES:
            raise ValueError(f"a piece of {size!r} bytes is outside 1 to {MAX_CHUNK_BYTES}")
    return Digest.from_raw(blob), offset, sizes, ids
