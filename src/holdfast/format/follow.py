"""Following a spool while it grows: fed with bytes, it gives the rows that have become whole.

It does no I/O. It knows how far it has come and the checksum of everything before, so each round
costs what is new in it and no more. See docs/format/spool.md.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from holdfast.format import frame, marks, packing, spool


class Row(NamedTuple):
    """What one call logged; `time` is in ns since 1970."""

    step: int
    time: int
    keys: tuple[str, ...]
    values: tuple[float, ...]


class Follower:
    """The intact rows of one spool, in the order they were logged.

    `position` is where the next record begins; `about` is the map of the header, None until it has
    been read; `points` counts the values of all rows so far.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.position = 0
        self.points = 0
        self.about: dict[str, Any] | None = None
        self._schemas: dict[int, tuple[tuple[str, ...], struct.Struct]] = {}
        self._version = 0
        self._state = 0  # the crc32 of everything before `position`
        self._last = b""  # the mark in front of it

    def feed(self, data: bytes) -> list[Row]:
        """The new rows in `data`, the bytes of the spool from `position` on, as far as they go.

        A part of a record at its end, or zeros, is what a writer has not come to yet: feed it again
        with more behind. Raises Corrupt, naming the byte, when the next record is damaged and no
        crash leaves it so; the rows before it have been given then.
        """
        at = self._header(data) if self.about is None else 0
        rows: list[Row] = []
        begin = at
        while at < len(data) and (end := self._record(data, at, rows)):
            at = end
        self.position += at
        if at == begin and self._last and self._is_damage(data[at:]):
            raise spool.damaged(self.place, self.position)
        return rows

    def _header(self, data: bytes) -> int:
        """Where the records begin; 0 while the header is not whole."""
        front = frame.HEADER_BYTES
        if len(data) < front:
            return 0
        self._version = frame.check_header(
            spool.KIND, data, place=self.place, max_version=spool.VERSION
        )
        size = packing.measure(memoryview(data)[front : front + spool.MAX_ABOUT_BYTES])
        if len(data) < front + spool.MAX_ABOUT_BYTES and (
            not size or len(data) < front + size + marks.MARK_BYTES
        ):
            return 0
        self.about, begin = spool.read_header(data, self.place)
        self._pass(data[:begin])
        return begin

    def _record(self, data: bytes, at: int, rows: list[Row]) -> int:
        """Take up the intact record at `at`; returns its end, 0 if there is none."""
        if data[at] == marks.ROW:
            return self._row(data, at, rows)
        if data[at] == marks.SCHEMA:
            return self._schema(data, at)
        return self._synced(data, at) if self._version > 1 else 0

    def _row(self, data: bytes, at: int, rows: list[Row]) -> int:
        sid = int.from_bytes(data[at + 2 : at + 4], "big")
        if sid not in self._schemas:
            return 0
        keys, shape = self._schemas[sid]
        end = at + shape.size + marks.MARK_BYTES
        if end > len(data) or not self._is_intact(data[at:end]):
            return 0
        prefix, step, middle, time, size, *values = shape.unpack_from(data, at)
        if (prefix, middle, size) != (spool.row_prefix(sid), 0xD3, spool.bin_prefix(len(keys))):
            return 0
        self._pass(data[at:end])
        rows.append(Row(step, time, keys, tuple(values)))
        self.points += len(keys)
        return end

    def _schema(self, data: bytes, at: int) -> int:
        size = marks.schema_bytes(data, at)
        end = at + size + marks.MARK_BYTES
        if not size or end > len(data) or not self._is_intact(data[at:end]):
            return 0
        keys = spool._keys(data[at + 4 : at + size])
        sid = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xCD or not keys or sid in self._schemas:
            return 0
        self._schemas[sid] = tuple(keys), spool.row_struct(len(keys))
        self._pass(data[at:end])
        return end

    def _synced(self, data: bytes, at: int) -> int:
        end = at + marks.SYNCED_BYTES + marks.MARK_BYTES
        good = end <= len(data) and marks.synced_at(data, at) <= self.position + at
        if not good or not self._is_intact(data[at:end]):
            return 0
        self._pass(data[at:end])
        return end

    def _is_intact(self, record: bytes) -> bool:
        """True if the mark at the end of the record continues the checksum so far."""
        body, found = record[: -marks.MARK_BYTES], record[-marks.MARK_BYTES :]
        return found == marks.mark(zlib.crc32(body, self._state))

    def _pass(self, record: bytes) -> None:
        self._state = zlib.crc32(record, self._state)
        self._last = record[-marks.MARK_BYTES :]

    def _is_damage(self, rest: bytes) -> bool:
        if rest == bytes(len(rest)):  # mostly there are only zeros, and comparing them is quick
            return False
        front = marks.MARK_BYTES
        return marks.is_damage(self._version, self._last + rest, front, self.position - front)
