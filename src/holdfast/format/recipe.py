"""How to rebuild an artifact from pieces, each with its own id, so that a range can be verified.

Body: one canonical msgpack map `{artifact, size, spans}`; kind letter 'R', version 1. A span is a run
of chunks that lie one behind the other: `{blob, offset, sizes, ids}`, with `blob` the sha256 (32 bytes)
of the plain blob that holds them, `sizes` the chunk lengths in bytes and `ids` the 32-byte blake3
digests of their plain bytes, joined. See docs/format/recipe.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import frame, packing

KIND = b"R"
VERSION = 1
CHUNK_BYTES = 1 << 20  # pieces of a plain artifact
MAX_CHUNK_BYTES = 64 << 20
MAX_OFFSET = 1 << 62  # no file is that long, and every language can seek to it


@dataclass(frozen=True, slots=True)
class Piece:
    """`size_bytes` bytes of the artifact from `start` on, stored in `blob` at `offset`."""

    start: int
    size_bytes: int
    id: bytes
    blob: Digest
    offset: int


@dataclass(frozen=True, slots=True)
class Recipe:
    artifact: Digest
    size_bytes: int
    pieces: tuple[Piece, ...]


def plain(artifact: Digest, size_bytes: int, ids: list[bytes]) -> Recipe:
    """The recipe of an artifact that lies whole in its own blob, cut every CHUNK_BYTES."""
    pieces = tuple(
        Piece(start, min(CHUNK_BYTES, size_bytes - start), id_, artifact, start)
        for start, id_ in zip(range(0, size_bytes, CHUNK_BYTES), ids, strict=True)
    )
    return Recipe(artifact, size_bytes, pieces)


def encode(recipe: Recipe) -> bytes:
    """The file of a recipe."""
    spans = [
        {
            "blob": span[0].blob.raw,
            "offset": span[0].offset,
            "sizes": [piece.size_bytes for piece in span],
            "ids": b"".join(piece.id for piece in span),
        }
        for span in _spans(recipe.pieces)
    ]
    body = {"artifact": recipe.artifact.raw, "size": recipe.size_bytes, "spans": spans}
    return frame.wrap(KIND, VERSION, packing.pack(body))


def _spans(pieces: tuple[Piece, ...]) -> Iterator[list[Piece]]:
    span: list[Piece] = []
    for piece in pieces:
        last = span[-1] if span else None
        if last and (piece.blob, piece.offset) != (last.blob, last.offset + last.size_bytes):
            yield span
            span = []
        span.append(piece)
    if span:
        yield span


def decode(data: bytes, *, place: str) -> Recipe:
    """Read a recipe and check that its pieces cover the artifact exactly. Raises Corrupt."""
    _, raw = frame.unwrap(KIND, data, place=place, max_version=VERSION)
    body = packing.unpack(raw, place=place)
    try:
        pieces: list[Piece] = []
        start = 0
        for span in body["spans"]:
            for piece in _pieces_of(span, start):
                pieces.append(piece)
                start += piece.size_bytes
        if type(body["size"]) is not int or start != body["size"]:
            raise ValueError("its pieces do not add up to its size")
        return Recipe(Digest.from_raw(body["artifact"]), body["size"], tuple(pieces))
    except KeyError as error:
        raise Corrupt(f"{place} is damaged: it lacks the field {error}", place=place) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise Corrupt(f"{place} is damaged: {error}", place=place) from error


def _pieces_of(span: dict[str, object], start: int) -> Iterator[Piece]:
    blob, offset, sizes, ids = span["blob"], span["offset"], span["sizes"], span["ids"]
    if not (isinstance(blob, bytes) and isinstance(ids, bytes) and isinstance(sizes, list)):
        raise ValueError("a span is not as defined")
    if len(ids) != 32 * len(sizes):
        raise ValueError("a span has not one id for each size")
    if type(offset) is not int or not 0 <= offset <= MAX_OFFSET:
        raise ValueError(f"a span begins at {offset!r}, outside 0 to 2**62")
    digest = Digest.from_raw(blob)
    for index, size in enumerate(sizes):
        if type(size) is not int or not 1 <= size <= MAX_CHUNK_BYTES:
            raise ValueError(f"a piece of {size!r} bytes is outside 1 to {MAX_CHUNK_BYTES}")
        yield Piece(start, size, ids[32 * index : 32 * index + 32], digest, offset)
        start += size
        offset += size
