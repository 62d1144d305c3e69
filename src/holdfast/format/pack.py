"""A pack: many encoded chunks in one immutable file, named by the sha256 of the whole file.

    header   the 11 bytes of a file of kind 'P'
    nonce    C4 10 and 16 random bytes: equal chunks make a pack of another name each time
    chunks   C4 n head, C6 length(4) payload       ... of each chunk
    index    one map of columns
    trailer  34 bytes, see trailer.py

A head says all that its chunk needs, so a pack without its index can be indexed again. Its checksum
covers the nonce and the place in the file: what looks like a head inside a payload is none.
See docs/format/pack.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import Corrupt, InvalidValue
from holdfast.format import frame, packing, trailer
from holdfast.format.trailer import Getter

KIND = b"P"
VERSION = 1
MAX_CHUNK_BYTES = 16 << 20  # plain; what is stored is never longer
MAX_CHUNKS = 1 << 18
MAX_BASES = 2
ID_BYTES = 32
NONCE_BYTES = 16
TAIL_BYTES = 65_536  # a reader's first request
FRONT_BYTES = frame.HEADER_BYTES + 2 + NONCE_BYTES

_MARK = b"HFc\n"
_HEAD = struct.Struct(">4s32sIIBB")
_SUMS = 2 * frame.CHECKSUM_BYTES
_COLUMNS = {"sizes": "<u4", "offsets": "<u8", "lengths": "<u4", "codecs": "u1", "counts": "u1"}
_WINDOW = 1 << 20  # bytes looked through at once for the next head


@dataclass(frozen=True, slots=True)
class Packed:
    """A chunk in a pack: `length` encoded bytes at `offset`, `size_bytes` when decoded.

    `bases` are the ids of the chunks that its codec needs, at most two."""

    id: bytes
    size_bytes: int
    codec: int
    bases: tuple[bytes, ...]
    offset: int
    length: int


def _head(nonce: bytes, at: int, chunk: Packed, payload_sum: bytes) -> bytes:
    """The head of `chunk`, which begins at byte `at` of its file, with the marks around it."""
    front = _HEAD.pack(
        _MARK, chunk.id, chunk.size_bytes, chunk.length, chunk.codec, len(chunk.bases)
    )
    front += b"".join(chunk.bases) + payload_sum
    size = len(front) + frame.CHECKSUM_BYTES
    head = bytes([0xC4, size]) + front + _head_sum(nonce, at, front)
    return head + b"\xc6" + chunk.length.to_bytes(4, "big")


def _head_sum(nonce: bytes, at: int, front: bytes) -> bytes:
    return frame.checksum(nonce + at.to_bytes(8, "big") + front)


def head_bytes(bases: int) -> int:
    """How many bytes lie in front of the payload of a chunk with that many bases."""
    return 2 + _HEAD.size + ID_BYTES * bases + _SUMS + 5


class Builder:
    """What to write, in this order: `begin()`, for each chunk `add()` and its payload, `end()`."""

    def __init__(self, nonce: bytes) -> None:
        if len(nonce) != NONCE_BYTES:
            raise InvalidValue(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
        self._nonce = nonce
        self.chunks: list[Packed] = []
        self.size_bytes = FRONT_BYTES  # so far, `end()` not counted

    def begin(self) -> bytes:
        return frame.header(KIND, VERSION) + b"\xc4\x10" + self._nonce

    def add(
        self, id: bytes, size_bytes: int, codec: int, bases: Sequence[bytes], payload: Any
    ) -> tuple[Packed, bytes]:
        """(the chunk with its place, the bytes that come before its payload)."""
        length = memoryview(payload).nbytes
        offset = self.size_bytes + head_bytes(len(bases))
        chunk = Packed(id, size_bytes, codec, tuple(bases), offset, length)
        problem = _problem(chunk)
        if problem or len(self.chunks) >= MAX_CHUNKS:
            raise InvalidValue(f"a pack cannot hold this chunk: {problem or 'it is full'}")
        head = _head(self._nonce, self.size_bytes, chunk, frame.checksum(payload))
        self.chunks.append(chunk)
        self.size_bytes = offset + length
        return chunk, head

    def end(self) -> bytes:
        index = packing.pack(_columns(self.chunks))
        return trailer.wrap(KIND, VERSION, index, self.size_bytes)


def _problem(chunk: Packed) -> str:
    """What is wrong with a chunk, or ''."""
    if not 1 <= chunk.size_bytes <= MAX_CHUNK_BYTES:
        return f"its size of {chunk.size_bytes} bytes is outside 1 to {MAX_CHUNK_BYTES}"
    if not 1 <= chunk.length <= chunk.size_bytes:
        return f"it takes {chunk.length} bytes and holds {chunk.size_bytes}"
    if len(chunk.bases) > MAX_BASES or any(len(id_) != ID_BYTES for id_ in chunk.bases):
        return f"its bases are not at most {MAX_BASES} ids of {ID_BYTES} bytes"
    return "" if len(chunk.id) == ID_BYTES else f"its id has {len(chunk.id)} bytes"


def _columns(chunks: Sequence[Packed]) -> dict[str, bytes]:
    rows = [(c.size_bytes, c.offset, c.length, c.codec, len(c.bases)) for c in chunks]
    columns = zip(*rows, strict=True) if rows else [[]] * len(_COLUMNS)
    body = {
        name: np.array(column, dtype).tobytes()
        for (name, dtype), column in zip(_COLUMNS.items(), columns, strict=True)
    }
    body["ids"] = b"".join(chunk.id for chunk in chunks)
    body["bases"] = b"".join(id_ for chunk in chunks for id_ in chunk.bases)
    return body


@dataclass(frozen=True, slots=True)
class Index:
    """The index of a pack. `chunks()` builds its rows; `find(id)` looks one up."""

    place: str
    ids: bytes
    bases: bytes
    columns: dict[str, NDArray[Any]]
    _firsts: NDArray[np.int64]  # the number of each chunk's first base in `bases`
    _numbers: dict[bytes, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids) // ID_BYTES

    def chunks(self) -> Iterator[Packed]:
        return (self.chunk(number) for number in range(len(self)))

    def chunk(self, number: int) -> Packed:
        size, offset, length, codec, count = (int(self.columns[c][number]) for c in _COLUMNS)
        first = int(self._firsts[number])
        bases = tuple(_id(self.bases, first + k) for k in range(count))
        return Packed(_id(self.ids, number), size, codec, bases, offset, length)

    def find(self, id: bytes) -> Packed | None:
        if not self._numbers:
            self._numbers.update({_id(self.ids, n): n for n in range(len(self))})
        number = self._numbers.get(id)
        return None if number is None else self.chunk(number)


def _id(ids: bytes, number: int) -> bytes:
    return ids[ID_BYTES * number : ID_BYTES * (number + 1)]


def index(tail: bytes, size: int, get: Getter, *, place: str) -> Index:
    """The index, from the last bytes of a pack of `size` bytes. Raises Corrupt, naming `place`."""
    end, raw = trailer.unwrap(KIND, tail, size, get, place=place, max_version=VERSION)
    body = packing.unpack(raw, place=place)
    try:
        columns = _arrays(body)
        counts = columns["counts"].astype(np.int64)
        found = Index(place, body["ids"], body["bases"], columns, counts.cumsum() - counts)
        _check(found, end)
    except KeyError as error:
        raise Corrupt(f"{place} is damaged: its index lacks {error}", place=place) from error
    except (TypeError, ValueError) as error:
        raise Corrupt(f"{place} is damaged: its index is wrong: {error}", place=place) from error
    return found


def _arrays(body: dict[str, Any]) -> dict[str, NDArray[Any]]:
    if not isinstance(body, dict) or not all(
        isinstance(body[name], bytes) for name in ("ids", "bases", *_COLUMNS)
    ):
        raise TypeError("a column is no bytes")
    count = len(body["ids"]) // ID_BYTES
    arrays = {name: np.frombuffer(body[name], dtype) for name, dtype in _COLUMNS.items()}
    if len(body["ids"]) % ID_BYTES or any(len(array) != count for array in arrays.values()):
        raise ValueError("its columns differ in length")
    return arrays


def _check(found: Index, end: int) -> None:
    """ValueError unless the chunks lie one behind the other and fill the file up to `end`."""
    if len(found) > MAX_CHUNKS:
        raise ValueError(f"it lists more than {MAX_CHUNKS} chunks")
    sizes, offsets, lengths, _, counts = (found.columns[name] for name in _COLUMNS)
    if (counts > MAX_BASES).any() or len(found.bases) != ID_BYTES * int(counts.sum()):
        raise ValueError("its bases are not as defined")
    if (lengths < 1).any() or (lengths > sizes).any() or (sizes > MAX_CHUNK_BYTES).any():
        raise ValueError("a chunk is longer than it may be")
    heads = head_bytes(0) + ID_BYTES * counts.astype(np.int64)
    ends = FRONT_BYTES + np.cumsum(heads + lengths)
    if (offsets.astype(np.int64) != ends - lengths).any():
        raise ValueError("its chunks are not one behind the other")
    if (int(ends[-1]) if len(ends) else FRONT_BYTES) != end:
        raise ValueError("its chunks do not fill the file")


def scan(get: Getter, size: int, *, place: str) -> Iterator[Packed]:
    """The intact chunks of a pack of `size` bytes that lacks its index, found by their heads.

    A payload that fails its checksum is left out, and a damaged head is stepped over. Raises Corrupt
    when the nonce is gone: nothing can be told from a chance likeness then."""
    front = get(0, min(FRONT_BYTES, size))
    frame.check_header(KIND, front, place=place, max_version=VERSION)
    if len(front) < FRONT_BYTES or front[frame.HEADER_BYTES :][:2] != b"\xc4\x10":
        raise Corrupt(f"{place} is damaged: it has no nonce", place=place)
    nonce, at = front[-NONCE_BYTES:], FRONT_BYTES
    while at < size:
        chunk = _chunk_at(get, size, at, nonce)
        if chunk is None:
            at = _next_mark(get, size, at + 1)
            continue
        at = chunk[0].offset + chunk[0].length
        if frame.checksum(get(chunk[0].offset, chunk[0].length)) == chunk[1]:
            yield chunk[0]


def _chunk_at(get: Getter, size: int, at: int, nonce: bytes) -> tuple[Packed, bytes] | None:
    """(chunk, checksum of its payload) if a sound head begins at byte `at`."""
    raw = get(at, min(head_bytes(MAX_BASES), size - at))
    if len(raw) < head_bytes(0) or raw[0] != 0xC4 or raw[2:6] != _MARK:
        return None
    _, id_, size_bytes, length, codec, count = _HEAD.unpack_from(raw, 2)
    whole = head_bytes(count)
    if count > MAX_BASES or len(raw) < whole:
        return None
    ids = raw[2 + _HEAD.size : whole - 5 - _SUMS]
    bases = tuple(_id(ids, number) for number in range(count))
    chunk = Packed(id_, size_bytes, codec, bases, at + whole, length)
    payload_sum = raw[whole - 5 - _SUMS :][: frame.CHECKSUM_BYTES]
    sound = raw[:whole] == _head(nonce, at, chunk, payload_sum) and not _problem(chunk)
    return (chunk, payload_sum) if sound and chunk.offset + length <= size else None


def _next_mark(get: Getter, size: int, at: int) -> int:
    """Where the next head may begin at or after `at`; `size` if nowhere."""
    while at < size:
        part = get(at, min(_WINDOW, size - at))
        found = part.find(_MARK, 2)
        if found >= 0:
            return at + found - 2
        at += max(1, len(part) - 5)  # a head may lie across the edge
        if len(part) < _WINDOW:
            return size
    return size
