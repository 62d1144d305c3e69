"""One column of a segment: blocks of numbers one behind the other, each with its checksum.

A block of the index is `[codec, count, offset, length, checksum, low, high]`. Rows are read into arrays
that the caller has made, and only the blocks that hold wanted rows. See docs/format/segment.md.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import Corrupt
from holdfast.format import column, frame

MARK_BYTES = 5  # C6 and the length, in front of each payload
MOST = column.MAX_COUNT
_GAP_BYTES = 65_536  # spans that lie this near to each other are read in one piece

Getter = Callable[[int, int], bytes]  # (offset, length) -> exactly those bytes
Span = tuple[int, int]  # the first byte, and the one behind the last


def encode(values: NDArray[Any], offset: int) -> tuple[bytes, list[Any]]:
    """(bytes, entry of the index) of one block that will lie at `offset` of the file."""
    part = np.ascontiguousarray(values)
    codec, payload = column.encode(part)
    low, high = _range(part)
    entry = [
        codec,
        len(part),
        offset + MARK_BYTES,
        len(payload),
        frame.checksum(payload),
        low,
        high,
    ]
    return b"\xc6" + len(payload).to_bytes(4, "big") + payload, entry


def _range(part: NDArray[Any]) -> tuple[Any, Any]:
    """Least and greatest number, NaN aside; (None, None) when all are NaN."""
    if part.dtype.kind == "f":
        part = part[~np.isnan(part)]
        if not part.size:
            return None, None
    return part.min().item(), part.max().item()


def check(blocks: Any, rows: Any, end: int) -> None:
    """The blocks of a column lie one behind the other before byte `end` and hold `rows` numbers:
    ValueError otherwise."""
    if type(rows) is not int or rows < 1 or not isinstance(blocks, list):
        raise ValueError("a column is not as defined")
    at, left = None, rows
    for codec, count, offset, length, _, *_ in blocks:
        if any(type(item) is not int for item in (codec, count, offset, length)):
            raise ValueError("a block is not as defined")
        if not (0 < count <= MOST and length > 0 and at in (None, offset - MARK_BYTES)):
            raise ValueError("a block is not as defined")
        at, left = offset + length, left - count
        if offset < frame.HEADER_BYTES + MARK_BYTES or at > end:
            raise ValueError("a block lies outside the file")
    if left:
        raise ValueError("a column lacks rows")


def check_order(blocks: list[Any]) -> None:
    """The numbers of an ordered column do not fall from block to block: ValueError otherwise."""
    before = None
    for block in blocks:
        low, high = block[5:7]
        if type(low) is not int or type(high) is not int or low > high:
            raise ValueError("the range of a block is not as defined")
        if before is not None and low < before:
            raise ValueError("steps are not in order")
        before = high


@dataclass(slots=True)
class Column:
    """The numbers of one column in the file `place`; `ordered` says that they never fall."""

    place: str
    blocks: list[list[Any]]
    dtype: Any
    ordered: bool = False
    ends: list[int] = field(init=False)  # for each block, the row behind its last one

    def __post_init__(self) -> None:
        self.ends = list(accumulate(block[1] for block in self.blocks))

    def read(self, first: int, stop: int, pieces: Pieces, out: NDArray[Any]) -> None:
        """Decode the rows from `first` to before `stop` into `out`. Raises Corrupt."""
        for number in self._range(first, stop):
            block, end = self.blocks[number], self.ends[number]
            start = end - block[1]
            if first <= start and end <= stop:
                self._decode(block, pieces, out[start - first : end - first])
                continue
            whole = np.empty(block[1], self.dtype)
            self._decode(block, pieces, whole)
            wanted = slice(max(start, first), min(end, stop))
            out[wanted.start - first : wanted.stop - first] = whole[
                wanted.start - start : wanted.stop - start
            ]

    def span(self, first: int, stop: int) -> Span:
        """Where the blocks that hold these rows lie in the file."""
        held = self._range(first, stop)
        last = self.blocks[held[-1]]
        return self.blocks[held[0]][2], last[2] + last[3]

    def parts(self, get: Getter) -> Iterator[NDArray[Any]]:
        """The numbers of each block in turn."""
        for block in self.blocks:
            values = np.empty(block[1], self.dtype)
            self._decode(block, Pieces([(block[2], block[2] + block[3])], get), values)
            yield values

    def row_of(self, number: int, get: Getter) -> int:
        """How many rows lie below `number`, in a column that is ordered; reads one block at most."""
        at = bisect_left(self.blocks, number, key=lambda block: block[6])
        if at == len(self.blocks):
            return self.ends[-1]
        block = self.blocks[at]
        start: int = self.ends[at] - block[1]
        if block[5] >= number:
            return start
        values = np.empty(block[1], self.dtype)
        self._decode(block, Pieces([(block[2], block[2] + block[3])], get), values)
        return start + int(np.searchsorted(values, np.array(number, self.dtype)))

    def floor(self, row: int) -> int:
        """A number that no row from `row` on lies below, in a column that is ordered."""
        return int(self.blocks[self._range(row, row + 1)[0]][5])

    def _range(self, first: int, stop: int) -> range:
        return range(bisect_left(self.ends, first + 1), bisect_left(self.ends, stop) + 1)

    def _decode(self, block: list[Any], pieces: Pieces, out: NDArray[Any]) -> None:
        codec, _, offset, length, seal = block[:5]
        payload = pieces.at(offset, length)
        if len(payload) != length or frame.checksum(payload) != seal:
            raise Corrupt(
                f"{self.place} is damaged: the block at byte {offset} fails its checksum",
                place=self.place,
                offset=offset,
            )
        column.decode_into(codec, payload, out, place=self.place)
        if self.ordered and codec != column.CONSTANT and (out[1:] < out[:-1]).any():
            raise Corrupt(
                f"{self.place} is damaged: the steps at byte {offset} are not in order",
                place=self.place,
                offset=offset,
            )


class Pieces:
    """The bytes of some spans of a file, read in as few pieces as is sensible."""

    def __init__(self, spans: list[Span], get: Getter) -> None:
        self._held: list[tuple[int, memoryview]] = []
        for first, stop in _joined(spans):
            self._held.append((first, memoryview(get(first, stop - first))))

    def at(self, offset: int, length: int) -> bytes:
        """The bytes of one payload; fewer when the file is too short."""
        for first, data in self._held:
            if first <= offset <= first + len(data):
                return bytes(data[offset - first : offset - first + length])
        return b""


def _joined(spans: list[Span]) -> list[Span]:
    """The spans in order, those with a small gap between them as one."""
    joined: list[Span] = []
    for first, stop in sorted(spans):
        if joined and first - joined[-1][1] <= _GAP_BYTES:
            first, stop = joined[-1][0], max(stop, joined.pop()[1])
        joined.append((first, stop))
    return joined
