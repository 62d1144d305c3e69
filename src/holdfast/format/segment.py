"""A sealed segment: columns of points, immutable, named by the sha256 of the whole file.

    header     the 11 bytes of a file of kind 'S'
    blocks     C6 length(4) payload ...            each axis' steps and times, then its columns
    overviews  blocks likewise                     few points of each long column: its shape
    footer     one map: about, axes, columns, overviews, and the block index of each
    trailer    C4 20 offset(8) length(8) checksum(8) 48 46 53 0D 0A 1A 0A version(1)

Metrics that were always logged together share one axis (steps and times). Inside a segment rows are
in step order, equal steps in the order they were logged. A reader that wants one metric reads the
tail, then only the blocks of that metric; one that wants to draw every metric reads the tail with
the overviews. See docs/format/segment.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import Corrupt
from holdfast.format import blocks, frame, overview, packing
from holdfast.format.blocks import Column, Getter, Pieces
from holdfast.format.spool import Table

KIND = b"S"
VERSION = 1
_TRAILER = struct.Struct(">2sQQ8s8s")
TRAILER_BYTES = _TRAILER.size
_MAGIC = b"HFS\r\n\x1a\n" + bytes([VERSION])


@dataclass(slots=True)
class Axis:
    """Rows that share their steps (u64) and times (i64, ns since 1970), and their columns (f64)."""

    steps: NDArray[np.uint64]
    times: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def rows(self, which: Any, key: str) -> Axis:
        """Some rows, an index or a slice, of one column."""
        return Axis(self.steps[which], self.times[which], {key: self.columns[key][which]})


Breathe = Callable[[], None]  # called now and then, so that a background thread can let others run
NO_BREATH: Breathe = lambda: None  # noqa: E731


def axes(tables: Iterable[Table], breathe: Breathe = NO_BREATH) -> list[Axis]:
    """Group the rows of a spool so that each metric lies on exactly one axis."""
    kept = list(tables)
    where: dict[str, list[int]] = {}
    for index, table in enumerate(kept):
        for key in table.keys:
            where.setdefault(key, []).append(index)
    groups: dict[tuple[int, ...], list[str]] = {}
    for key, indices in where.items():
        groups.setdefault(tuple(indices), []).append(key)
    return [_axis([kept[i] for i in indices], keys, breathe) for indices, keys in groups.items()]


def _axis(tables: Sequence[Table], keys: Sequence[str], breathe: Breathe) -> Axis:
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
        breathe()
        parts = [
            table.rows["values"][:, place[key]].astype(np.float64)
            for table, place in zip(tables, places, strict=True)
        ]
        values = parts[0] if len(parts) == 1 else np.concatenate(parts)
        axis.columns[key] = values if sort is None else values[sort]
    return axis


class Writer:
    """Writes a segment in order: the columns of each axis, their overviews, then `finish`.

    `write` takes the next bytes of the file; `breathe` is called before each block, which has at most
    `rows` numbers.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        breathe: Breathe = NO_BREATH,
        rows: int = blocks.MOST,
    ) -> None:
        self._write = write
        self._rows = rows
        self._breathe = breathe
        self._axes: list[Any] = []
        self._columns: dict[str, Any] = {}
        self._overviews: dict[str, Any] = {}
        self._overviews_at = 0
        self.size_bytes = 0
        self._put(frame.header(KIND, VERSION))

    def axis(self, steps: NDArray[np.uint64]) -> None:
        """Begin an axis, whose rows are in step order; its times follow, then its columns."""
        self._axes.append([len(steps), self._column(steps)])

    def times(self, times: NDArray[np.int64]) -> None:
        """The times of the axis that was begun last."""
        self._axes[-1].append(self._column(times))

    def column(self, key: str, values: NDArray[np.float64]) -> None:
        """One metric of the axis that was begun last."""
        self._columns[key] = [len(self._axes) - 1, self._column(values)]

    def overview(self, key: str, points: Axis) -> None:
        """The points that show the shape of a metric; no column may follow."""
        self._overviews_at = self._overviews_at or self.size_bytes
        columns = (points.steps, points.times, points.columns[key])
        self._overviews[key] = [len(points.steps), *map(self._column, columns)]

    def finish(self, about: dict[str, Any]) -> dict[str, int]:
        """The index and the trailer; `about` says whose points these are. Returns what a manifest
        says of the file: size_bytes, index_bytes and, if there are overviews, overview_bytes."""
        index = {"about": about, "axes": self._axes, "columns": self._columns}
        found = {}
        if self._overviews:
            index["overviews"] = self._overviews
            found["overview_bytes"] = self.size_bytes - self._overviews_at
        offset, footer = self.size_bytes, packing.pack(index)
        seal = _seal(offset, footer)
        self._put(footer + _TRAILER.pack(b"\xc4\x20", offset, len(footer), seal, _MAGIC))
        return {"size_bytes": self.size_bytes, "index_bytes": len(footer), **found}

    def _column(self, values: NDArray[Any]) -> list[Any]:
        index = []
        for start in range(0, len(values), self._rows):
            self._breathe()
            data, entry = blocks.encode(values[start : start + self._rows], self.size_bytes)
            index.append(entry)
            self._put(data)
        return index

    def _put(self, data: bytes) -> None:
        self._write(data)
        self.size_bytes += len(data)


def encode(
    about: dict[str, Any],
    parts: Sequence[Axis],
    points: Callable[[Sequence[int]], list[int]] = overview.sizes,
    breathe: Breathe = NO_BREATH,
    rows: int = blocks.MOST,
) -> tuple[bytes, dict[str, int]]:
    """(file, its sizes as in a manifest). `points` says for axes of so many rows how many points
    their overviews have; 0 for none."""
    out = bytearray()
    writer = Writer(out.extend, breathe, rows)
    for axis in parts:
        writer.axis(axis.steps)
        writer.times(axis.times)
        for key, values in axis.columns.items():
            writer.column(key, values)
    for axis, most in zip(parts, points([len(axis.steps) for axis in parts]), strict=True):
        for key, values in axis.columns.items() if most else ():
            writer.overview(key, axis.rows(overview.pick(values, most), key))
    sizes = writer.finish(about)
    return bytes(out), sizes


def _seal(offset: int, footer: bytes | memoryview) -> bytes:
    return frame.checksum(b"".join([footer, struct.pack(">QQ", offset, len(footer)), _MAGIC]))


@dataclass(frozen=True, slots=True)
class Footer:
    """The index of a segment."""

    place: str
    about: dict[str, Any]
    axes: list[Any]
    columns: dict[str, Any]
    overviews: Mapping[str, Any]

    def rows_of(self, key: str) -> int:
        """How many points of the metric there are; 0 when it is not here."""
        return int(self.axes[self.columns[key][0]][0]) if key in self.columns else 0

    def columns_of(self, key: str) -> tuple[Column, Column, Column]:
        """Steps, times and values of the metric; KeyError when it is not here."""
        number, values = self.columns[key]
        return self._columns(self.axes[number][1], self.axes[number][2], values)

    def read(self, key: str, get: Getter) -> Axis:
        """The one metric `key` with its steps and times; KeyError when it is not here."""
        return _read(self.columns_of(key), key, get)

    def read_together(self, keys: Iterable[str], get: Getter) -> Iterator[Axis]:
        """All these metrics, those of one axis together, so that its steps and times are read once."""
        held: dict[int, Axis] = {}
        for key in keys:
            number, blocks_ = self.columns[key]
            if number not in held:
                held[number] = self.read(key, get)
                continue
            axis = held[number]
            column = Column(self.place, blocks_, np.float64)
            values = axis.columns[key] = np.empty(len(axis.steps))
            column.read(0, len(values), Pieces([column.span(0, len(values))], get), values)
        yield from held.values()

    def read_overview(self, key: str, get: Getter) -> Axis:
        """The overview of the metric; KeyError when it has none."""
        return _read(self._columns(*self.overviews[key][1:]), key, get)

    def _columns(self, steps: Any, times: Any, values: Any) -> tuple[Column, Column, Column]:
        return (
            Column(self.place, steps, np.uint64, ordered=True),
            Column(self.place, times, np.int64),
            Column(self.place, values, np.float64),
        )


def _read(columns: tuple[Column, Column, Column], key: str, get: Getter) -> Axis:
    rows = columns[0].ends[-1]
    pieces = Pieces([column.span(0, rows) for column in columns], get)
    steps, times, values = [np.empty(rows, column.dtype) for column in columns]
    for column, out in zip(columns, (steps, times, values), strict=True):
        column.read(0, rows, pieces, out)
    return Axis(steps, times, {key: values})


def footer(tail: bytes, size: int, get: Getter, *, place: str) -> Footer:
    """The index, from the last bytes of a file of `size` bytes. Raises Corrupt, naming `place`."""
    offset, length, seal = _trailer(tail, size, place)
    start = size - len(tail)
    raw = tail[offset - start : offset - start + length] if offset >= start else get(offset, length)
    if _seal(offset, raw) != seal:
        raise Corrupt(f"{place} is damaged: its index fails its checksum", place=place)
    fields = packing.unpack(raw, place=place)
    try:
        overviews = fields.get("overviews", {})
        index = Footer(place, fields["about"], fields["axes"], fields["columns"], overviews)
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
    for rows, steps, times in [*index.axes, *(few[:3] for few in index.overviews.values())]:
        blocks.check(steps, rows, end)
        blocks.check_order(steps)
        blocks.check(times, rows, end)
    for number, values in index.columns.values():
        if type(number) is not int or not 0 <= number < len(index.axes):
            raise ValueError("a column has no axis")
        blocks.check(values, index.axes[number][0], end)
    for key, (rows, _, _, values) in index.overviews.items():
        if key not in index.columns:
            raise ValueError("an overview has no column")
        blocks.check(values, rows, end)
