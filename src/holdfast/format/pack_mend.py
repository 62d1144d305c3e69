"""A damaged pack whose payloads are whole, put together again: its index from its heads, or its heads
from its index. Whoever calls this compares the digest of the result with the name of the pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from holdfast.errors import Corrupt, InvalidValue
from holdfast.format import frame, pack
from holdfast.format.pack import Packed
from holdfast.format.trailer import Getter


def attempts(get: Getter, size: int, *, place: str) -> Iterator[Iterator[bytes]]:
    """The pack in pieces, in each way in which it may be whole again."""
    front = frame.header(pack.KIND, pack.VERSION) + b"\xc4\x10"
    nonce = get(len(front), pack.NONCE_BYTES)
    if len(nonce) < pack.NONCE_BYTES:
        return

    def mended(offset: int, length: int) -> bytes:
        """The file with its first bytes, which are the same in every pack, as they must be."""
        data = get(offset, length)
        return front[offset : offset + len(data)] + data[max(0, len(front) - offset) :]

    yield _written(nonce, pack.scan(mended, size, place=place), mended)
    tail = min(size, pack.TAIL_BYTES)
    try:
        index = pack.index(mended(size - tail, tail), size, mended, place=place)
    except Corrupt:
        return
    yield _written(nonce, index.chunks(), mended)


def _written(nonce: bytes, chunks: Iterable[Packed], get: Getter) -> Iterator[bytes]:
    """A pack of these chunks, whose payloads `get` reads."""
    builder = pack.Builder(nonce)
    yield builder.begin()
    for chunk in chunks:
        payload = get(chunk.offset, chunk.length)
        try:
            _, head = builder.add(chunk.id, chunk.size_bytes, chunk.codec, chunk.bases, payload)
        except InvalidValue:
            return  # no pack has such a chunk: the digest will not be right either
        yield head
        yield payload
    yield builder.end()
