"""A sealed segment: columns of points, immutable, named by the sha256 of the whole file.

    header   the 11 bytes of a file of kind 'S'
    blocks   C6 length(4) payload ...            each axis' steps and times, then its columns
    footer   one map: about, axes, columns, block index
    trailer  C4 20 offset(8) length(8) checksum(8) 48 46 53 0D 0A 1A 0A version(1)

Metrics that were always logged together share one axis (steps and times). Inside a segment rows are
in step order, equal steps in the order they were logged. A reader that wants one metric reads the
tail, then only the blocks of that metric. See docs/format/segment.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import Corrupt
from holdfast.format import column, frame, packing
from holdfast.format.spool import Table

KIND = b"S"
VERSION = 1
BLOCK = column.MAX_COUNT
TAIL_BYTES = 65_536  # a reader's first request
_BLOCK_MARK = 5  # C6 and the length, in front of each payload
_TRAILER = struct.Struct(">2sQQ8s8s")
TRAILER_BYTES = _TRAILER.size
_MAGIC = b"HFS\r\n\x1a\n" + bytes([VERSION])

Getter = Callable[[int, int], bytes]  # (offset, length) -> exactly those bytes


@dataclass(slots=True)
class Axis:
    """Rows that share their steps (u64) and times (i64, ns since 1970), and their columns (f64)."""

    steps: NDArray[np.uint64]
    times: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def axes(tables: Iterable[Table]) -> list[Axis]:
    """Group the rows of a spool so that each metric lies on exactly one axis."""
    kept = list(tables)
    where: dict[str, list[int]] = {}
    for index, table in enumerate(kept):
        for key in table.keys:
            where.setdefault(key, []).append(index)
    groups: dict[tuple[int, ...], list[str]] = {}
    for key, indices in where.items():
        groups.setdefault(tuple(indices), []).append(key)
    return [_axis([kept[i] for i in indices], keys) for indices, keys in groups.items()]


def _axis(tables: Sequence[Table], keys: Sequence[str]) -> Axis:
    steps = np.concatenate([table.rows["step"].astype(np.uint64) for table in tables])
    times = np.concatenate([table.rows["time"].astype(np.int64) for table in tables])
    sort = None
    if len(tables) > 1:  # back into the order of logging first: the sort below is stable
        sort = np.argsort(np.concatenate([table.order for table in tables]))
        steps, times = steps[sort], times[sort]
    if (steps[1:] < steps[:-1]).any():
        by_step = np.argsort(steps, kind="stable")
        steps, times = steps[by_step], times[by_step]
        sort = by_step if sort is None else sort[by_step]
    axis = Axis(steps, times)
    places = [{key: place for place, key in enumerate(table.keys)} for table in tables]
    for key in keys:
        parts = [
            table.rows["values"][:, place[key]].astype(np.float64)
            for table, place in zip(tables, places, strict=True)
        ]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        axis.columns[key] = values if sort is None else values[sort]
    return axis


def encode(about: dict[str, Any], parts: Sequence[Axis]) -> tuple[bytes, int]:
    """(file, footer length). `about` says whose points these are; it is carried in the footer."""
    out = bytearray(frame.header(KIND, VERSION))
    axis_index, columns = [], {}
    for number, axis in enumerate(parts):
        blocks = [_write(out, axis.steps), _write(out, axis.times)]
        axis_index.append([len(axis.steps), *blocks])
        for key, values in axis.columns.items():
            columns[key] = [number, _write(out, values)]
    footer = packing.pack({"about": about, "axes": axis_index, "columns": columns})
    offset = len(out)
    out += footer
    trailer = _TRAILER.pack(b"\xc4\x20", offset, len(footer), _seal(offset, footer), _MAGIC)
    return bytes(out + trailer), len(footer)


def _seal(offset: int, footer: bytes | memoryview) -> bytes:
    return frame.checksum(b"".join([footer, struct.pack(">QQ", offset, len(footer)), _MAGIC]))


def _write(out: bytearray, values: NDArray[Any]) -> list[list[Any]]:
    """Append the blocks of a column; returns [codec, count, offset, length, checksum, low, high]."""
    index = []
    for start in range(0, len(values), BLOCK):
        part = np.ascontiguousarray(values[start : start + BLOCK])
        codec, payload = column.encode(part)
        out += b"\xc6" + len(payload).to_bytes(4, "big")
        low, high = _range(part)
        seal = frame.checksum(payload)
        index.append([codec, len(part), len(out), len(payload), seal, low, high])
        out += payload
    return index


def _range(part: NDArray[Any]) -> tuple[Any, Any]:
    """Least and greatest number, NaN aside; (None, None) when all are NaN."""
    if part.dtype.kind == "f":
        part = part[~np.isnan(part)]
        if not part.size:
            return None, None
    return part.min().item(), part.max().item()


@dataclass(frozen=True, slots=True)
class Footer:
    """The index of a segment."""

    place: str
    about: dict[str, Any]
    axes: list[Any]
    columns: dict[str, Any]

    def read(self, key: str, get: Getter) -> Axis:
        """The one column `key` with its steps and times; KeyError when it is not here."""
        number, blocks = self.columns[key]
        _, steps, times = self.axes[number]
        axis = Axis(self._column(steps, np.uint64, get), self._column(times, np.int64, get))
        axis.columns[key] = self._column(blocks, np.float64, get)
        return axis

    def _column(self, blocks: list[Any], dtype: Any, get: Getter) -> NDArray[Any]:
        first = blocks[0][2]
        raw = memoryview(get(first, blocks[-1][2] + blocks[-1][3] - first))
        parts = [self._block(block, raw, first, dtype) for block in blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _block(self, block: list[Any], raw: memoryview, first: int, dtype: Any) -> NDArray[Any]:
        codec, count, offset, length, seal = block[:5]
        payload = raw[offset - first : offset - first + length]
        if len(payload) != length or frame.checksum(payload) != seal:
            raise Corrupt(
                f"{self.place} is damaged: the block at byte {offset} fails its checksum",
                place=self.place,
                offset=offset,
            )
        return column.decode(codec, bytes(payload), count, dtype, place=self.place)


def footer(tail: bytes, size: int, get: Getter, *, place: str) -> Footer:
    """The index, from the last bytes of a file of `size` bytes. Raises Corrupt, naming `place`."""
    offset, length, seal = _trailer(tail, size, place)
    start = size - len(tail)
    raw = tail[offset - start : offset - start + length] if offset >= start else get(offset, length)
    if _seal(offset, raw) != seal:
        raise Corrupt(f"{place} is damaged: its index fails its checksum", place=place)
    fields = packing.unpack(raw, place=place)
    try:
        index = Footer(place, fields["about"], fields["axes"], fields["columns"])
        _check(index, offset)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise Corrupt(f"{place} is damaged: its index is not as defined", place=place) from error
    return index


def _trailer(tail: bytes, size: int, place: str) -> tuple[int, int, bytes]:
    if len(tail) < TRAILER_BYTES:
        raise Corrupt(f"{place} is damaged: it is only {size} bytes long", place=place)
    mark, offset, length, seal, magic = _TRAILER.unpack(tail[-TRAILER_BYTES:])
    if mark != b"\xc4\x20" or magic[:7] != _MAGIC[:7]:
        raise Corrupt(f"{place} is damaged: it does not end as a segment", place=place)
    frame.check_header(KIND, frame.header(KIND, magic[7]), place=place, max_version=VERSION)
    if offset + length + TRAILER_BYTES != size or offset < frame.HEADER_BYTES:
        raise Corrupt(f"{place} is damaged: its index lies outside the file", place=place)
    return offset, length, seal


def _check(index: Footer, end: int) -> None:
    """Every block lies in the file and every column on an axis: ValueError otherwise."""
    if not isinstance(index.about, dict) or not isinstance(index.axes, list):
        raise TypeError("a part of the index is not as defined")
    for rows, steps, times in index.axes:
        _check_column(steps, rows, end)
        _check_column(times, rows, end)
    for number, blocks in index.columns.values():
        if type(number) is not int or not 0 <= number < len(index.axes):
            raise ValueError("a column has no axis")
        _check_column(blocks, index.axes[number][0], end)


def _check_column(blocks: Any, rows: Any, end: int) -> None:
    """The blocks of a column lie one behind the other and hold `rows` numbers."""
    if type(rows) is not int or rows < 1 or not isinstance(blocks, list):
        raise ValueError("a column is not as defined")
    at, left = None, rows
    for codec, count, offset, length, _, *_ in blocks:
        if any(type(item) is not int for item in (codec, count, offset, length)):
            raise ValueError("a block is not as defined")
        if not (0 < count <= BLOCK and length > 0 and at in (None, offset - _BLOCK_MARK)):
            raise ValueError("a block is not as defined")
        at, left = offset + length, left - count
        if offset < frame.HEADER_BYTES + _BLOCK_MARK or at > end:
            raise ValueError("a block lies outside the file")
    if left:
        raise ValueError("a column lacks rows")
