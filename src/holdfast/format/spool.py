"""The spool: an append-only stream of what `run.log` wrote, readable after any crash.

    header   the 11 bytes of a file of kind 'W', then one map about the writer, then a mark
    schema   92 CD sid(2) [key, ...]                          before the first row that uses it
    row      94 CD sid(2) CF step(8) D3 time_ns(8) C4|C5|C6 length  float64(8) * keys, big-endian
    synced   91 CF bytes(8)                                   so much of the file is on the disk
    mark     C4 04 crc(4)                                     after the map and after every record
    zeros    any number of 00 bytes: allocated ahead of need, and nothing was written there yet

A mark is the crc32 of every byte of the file before it, little-endian, so one pass over the file
checks all of it, and an intact record can be found again behind a damaged one. Rows of one schema
have one width, which is what makes both writing (one struct) and reading (one numpy view) quick. A power
cut may leave holes in what was not synced, and in nothing else: so damage is a torn tail behind the
last byte that a synced record speaks of, and damage in front of it. Version 1 has no such records.
See docs/format/spool.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from holdfast.errors import Corrupt
from holdfast.format import frame, marks, packing

KIND = b"W"
VERSION = 2
MAX_SCHEMAS = 65_536
MAX_KEYS = 65_536
MAX_ABOUT_BYTES = 65_536  # the map in the header
_ROOM_BYTES = 4096  # the piece in which room is passed over


def encode_header(about: dict[str, Any]) -> bytes:
    """Header, map and first mark. `about`: run_id, writer, sequence, attempt, opened_at, identity."""
    front = frame.header(KIND, VERSION) + packing.pack(about)
    return front + marks.mark(zlib.crc32(front))


def encode_schema(sid: int, keys: Sequence[str]) -> bytes:
    """The record that gives schema `sid` its metric keys; the caller adds the mark."""
    return b"\x92\xcd" + sid.to_bytes(2, "big") + bytes(msgpack.packb(list(keys)))


def row_prefix(sid: int) -> bytes:
    """The bytes of a row in front of its step."""
    return b"\x94\xcd" + sid.to_bytes(2, "big") + b"\xcf"


def bin_prefix(keys: int) -> bytes:
    size = 8 * keys
    if size < 1 << 8:
        return b"\xc4" + size.to_bytes(1, "big")
    if size < 1 << 16:
        return b"\xc5" + size.to_bytes(2, "big")
    return b"\xc6" + size.to_bytes(4, "big")


def row_struct(keys: int) -> struct.Struct:
    """Packs (prefix, step, 0xD3, time_ns, bin prefix, *values) as one row without its mark."""
    return struct.Struct(f">5sQBq{len(bin_prefix(keys))}s{keys}d")


@dataclass(slots=True)
class Table:
    """The rows of one schema, in the order they were logged.

    `rows` is a numpy structured array with fields step (u64), time (i64, ns) and values (f64, one a
    key), all big-endian; `order` gives each row's place among all rows of the spool.
    """

    keys: list[str]
    pieces: list[tuple[int, int, int]] = field(default_factory=list)  # offset, count, first place
    rows: Any = None
    order: Any = None


@dataclass(frozen=True, slots=True)
class Scan:
    """What a spool holds. `good_bytes` is where the intact part ends; `torn_bytes` follow it, then
    nothing but zeros; `lost_bytes` were damaged before it (only salvage.scan leaves those out)."""

    about: dict[str, Any]
    tables: list[Table]
    row_count: int
    good_bytes: int
    torn_bytes: int
    lost_bytes: int = 0


def scan(data: bytes, *, place: str, breathe: Callable[[], None] = lambda: None) -> Scan:
    """Read a spool up to its last intact record.

    Bytes after it are a torn tail, as a crash in the middle of a write or a power cut leaves it. What
    had been synced is no torn tail: damage there raises Corrupt, naming `place`. `breathe` is called
    now and then, so that a background thread can let others run.
    """
    about, start = read_header(data, place)
    walk = Walk(data, place, start, breathe)
    end = walk.run()
    if zlib.crc32(memoryview(data)[: end - marks.MARK_BYTES]) != marks.stored(data, end):
        end = _first_damage(data, start, end)
        walk = Walk(data, place, start, breathe)
        end = walk.run(stop=end)
    torn = torn_bytes(data, end)
    if torn and marks.is_damage(data[10], without_room(data, end + torn), end):
        raise damaged(place, end)
    return Scan(about, walk.gather(), walk.places, end, torn)


def damaged(place: str, offset: int) -> Corrupt:
    """The error for a spool with damage at byte `offset` that no crash leaves."""
    return Corrupt(
        f"{place} is damaged at byte {offset}, with intact records behind it: "
        "run `holdfast recover --salvage` to keep what is whole",
        place=place,
        offset=offset,
    )


def is_blank(data: bytes) -> bool:
    """True for a spool of which a power cut before its first sync left the name, and at most a part of
    its header."""
    if data[: frame.HEADER_BYTES].strip(b"\0"):
        return _is_torn_header(data)
    return not marks.was_synced(data, 0)


def _is_torn_header(data: bytes) -> bool:
    """Does the file begin as a spool, and end, or go on in zeros, before its header does?"""
    begun = data[: frame.HEADER_BYTES + MAX_ABOUT_BYTES + marks.MARK_BYTES].rstrip(b"\0")
    if not frame.header(KIND, VERSION)[:10].startswith(begun[:10]):
        return False
    end = begun.find(marks.MARK, frame.HEADER_BYTES)
    if end >= 0:
        is_last = end + marks.MARK_BYTES >= len(begun)
        if not is_last or data[end:].startswith(marks.mark(zlib.crc32(data[:end]))):
            return False
    return not data[len(begun) :].strip(b"\0")


def torn_bytes(data: bytes, end: int) -> int:
    """How much of a record follows byte `end`; the zeros that a writer allocated ahead are nothing."""
    stop, room = len(data), bytes(_ROOM_BYTES)
    while stop - end >= len(room) and data[stop - len(room) : stop] == room:
        stop -= len(room)  # quicker by far than to look at each byte
    return len(data[end:stop].rstrip(b"\0"))


def without_room(data: bytes, end: int) -> bytes:
    """The file without its room, which begins at `end` or, in zeros of a mark, a little later."""
    return data[: end + marks.MARK_BYTES]


def read_header(data: bytes, place: str) -> tuple[dict[str, Any], int]:
    frame.check_header(KIND, data, place=place, max_version=VERSION)
    window = memoryview(data)[frame.HEADER_BYTES : frame.HEADER_BYTES + MAX_ABOUT_BYTES]
    end = frame.HEADER_BYTES + packing.measure(window)
    if data[end : end + marks.MARK_BYTES] != marks.mark(zlib.crc32(data[:end])):
        raise Corrupt(
            f"{place} is damaged: the checksum of its header does not match, so its points cannot be "
            "told apart; move the file out of the store to go on without them",
            place=place,
        )
    about = packing.unpack(data[frame.HEADER_BYTES : end], place=place)
    if not _is_about(about):
        raise Corrupt(f"{place} is damaged: a field of its header is not as defined", place=place)
    return about, end + marks.MARK_BYTES


def check_owner(
    about: dict[str, Any], run_id: str, writer: str, sequence: int, *, place: str
) -> None:
    """Corrupt if a spool lies under another name than its own."""
    if (about["run_id"], about["writer"], about["sequence"]) != (run_id, writer, sequence):
        raise Corrupt(f"{place} is a spool of run {about['run_id']}: it was moved", place=place)


def _is_about(about: Any) -> bool:
    if not isinstance(about, dict):
        return False
    whole = [about.get("sequence"), about.get("attempt"), about.get("opened_at")]
    if about.get("from_step") is not None:
        whole.append(about["from_step"])
    if about.get("rank") is not None:
        whole.append(about["rank"])
    return all(type(number) is int and number >= 0 for number in whole) and all(
        isinstance(about.get(name), str) for name in ("run_id", "writer")
    )


class Walk:
    """Finds the records by their structure alone; checksums are the caller's."""

    def __init__(self, data: bytes, place: str, start: int, breathe: Callable[[], None]) -> None:
        self.data = data
        self.place = place
        self.start = start
        self.breathe = breathe
        self.tables: dict[int, Table] = {}
        self.widths: dict[int, int] = {}
        self.places = 0
        self.has_synced = data[10] > 1  # the version

    def run(self, stop: int | None = None) -> int:
        """Walk to the last structurally whole record; returns its end."""
        stop = len(self.data) if stop is None else stop
        at, turns = self.start, 0
        while at < stop:
            step = self._rows(at, stop) or self._schema(at, stop) or self._synced(at, stop)
            if not step:
                break
            at += step
            turns += 1
            if not turns % 256:
                self.breathe()
        return at

    def _rows(self, at: int, stop: int) -> int:
        """The bytes of the run of rows of one schema that begins at `at`; 0 if none does."""
        head = self.data[at : at + 4]
        if len(head) < 4 or head[0] != marks.ROW or head[1] != 0xCD:
            return 0
        sid = int.from_bytes(head[2:], "big")
        width = self.widths.get(sid)
        if width is None or at + width > stop:
            return 0
        count = self._same_shape(at, width, len(self.tables[sid].keys), (stop - at) // width)
        if count:
            self.tables[sid].pieces.append((at, count, self.places))
            self.places += count
        return count * width

    def _same_shape(self, at: int, width: int, keys: int, most: int) -> int:
        """How many rows in sequence have the constant bytes of this row's schema."""
        head, middle, tail = self.data[at : at + 4], bin_prefix(keys), width - marks.MARK_BYTES
        count = 0
        if most > 8 and self.data[at + 3 * width : at + 3 * width + 4] == head:
            return self._same_shape_many(at, width, keys, most)
        while count < most:
            row = self.data[at : at + width]
            if (
                row[:4] != head
                or row[4] != 0xCF
                or row[13] != 0xD3
                or row[22 : 22 + len(middle)] != middle
                or row[tail : tail + 2] != marks.MARK
            ):
                break
            count += 1
            at += width
        return count

    def _same_shape_many(self, at: int, width: int, keys: int, most: int) -> int:
        import numpy as np

        middle = bin_prefix(keys)
        places = [*range(5), 13, *range(22, 22 + len(middle)), width - 6, width - 5]
        wanted = self.data[at : at + 4] + b"\xcf\xd3" + middle + marks.MARK
        count, reach = 0, 32
        while count < most:  # in growing windows, so that a short run in a long file stays cheap
            window = min(most - count, reach)
            reach = min(4 * reach, 1 << 15)
            rows = np.frombuffer(self.data, np.uint8, window * width, at + count * width)
            good = np.ones(window, bool)
            for place, value in zip(places, wanted, strict=True):
                good &= rows[place::width] == value
            first_bad = window if good.all() else int(np.argmin(good))
            count += first_bad
            if first_bad < window:
                break
        return count

    def _schema(self, at: int, stop: int) -> int:
        """The bytes of the schema record at `at`, which is taken up; 0 if there is none."""
        data = self.data
        if data[at : at + 2] != b"\x92\xcd" or at + 5 > stop:
            return 0
        end = at + marks.schema_bytes(data, at) + marks.MARK_BYTES
        keys = _keys(data[at + 4 : end - marks.MARK_BYTES])
        sid = int.from_bytes(data[at + 2 : at + 4], "big")
        if not keys or end > stop or data[end - 6 : end - 4] != marks.MARK or sid in self.tables:
            return 0
        self.tables[sid] = Table(keys)
        self.widths[sid] = row_struct(len(keys)).size + marks.MARK_BYTES
        return end - at

    def _synced(self, at: int, stop: int) -> int:
        """The bytes of the synced record at `at`; 0 if there is none."""
        end = at + marks.SYNCED_BYTES + marks.MARK_BYTES
        good = self.has_synced and end <= stop and self.data[end - 6 : end - 4] == marks.MARK
        return end - at if good and marks.synced_at(self.data, at) <= at else 0

    def gather(self) -> list[Table]:
        used = {sid: table for sid, table in self.tables.items() if table.pieces}
        for sid, table in used.items():
            width = self.widths[sid]
            table.rows = self._rows_of(table.pieces, _row_dtype(len(table.keys), width), width)
            table.order = _places(table.pieces)
        return list(used.values())

    def _rows_of(self, pieces: list[tuple[int, int, int]], shape: Any, width: int) -> Any:
        import numpy as np

        if len(pieces) == 1:  # not copied
            at, count, _ = pieces[0]
            return np.frombuffer(self.data, shape, count, at)
        # By numpy, which lets other threads run while it copies; joining bytes does not.
        whole = np.frombuffer(self.data, np.uint8)
        rows, end = np.empty(sum(count for _, count, _ in pieces) * width, np.uint8), 0
        for at, count, _ in pieces:
            rows[end : end + count * width] = whole[at : at + count * width]
            end += count * width
        return rows.view(shape)


def _keys(raw: bytes) -> list[str] | None:
    """The metric keys of a schema record, or None if these bytes are no such list."""
    try:
        keys = msgpack.unpackb(raw, raw=False)
    except (ValueError, msgpack.exceptions.UnpackException):
        return None
    good = isinstance(keys, list) and 1 <= len(keys) <= MAX_KEYS
    if not good or not all(isinstance(key, str) for key in keys):
        return None
    return keys if len(set(keys)) == len(keys) else None


def _places(pieces: list[tuple[int, int, int]]) -> Any:
    """The place of each row of the pieces among all rows of the spool."""
    import numpy as np

    _, counts, firsts = np.array(pieces).T
    ends = np.cumsum(counts)
    return np.repeat(firsts - (ends - counts), counts) + np.arange(ends[-1])


def _row_dtype(keys: int, width: int) -> Any:
    import numpy as np

    offset = 22 + len(bin_prefix(keys))
    return np.dtype(
        {
            "names": ["step", "time", "values"],
            "formats": [">u8", ">i8", (">f8", (keys,))],
            "offsets": [5, 14, offset],
            "itemsize": width,
        }
    )


def _records(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of every record between two record edges, one msgpack object and its mark each."""
    while at < stop:
        size = marks.record_bytes(data, at)
        yield at, at + size + marks.MARK_BYTES
        at += size + marks.MARK_BYTES


def _first_damage(data: bytes, start: int, stop: int) -> int:
    """Where the first record begins whose mark does not match."""
    state = zlib.crc32(memoryview(data)[:start])
    for begin, end in _records(data, start, stop):
        state = zlib.crc32(memoryview(data)[begin : end - marks.MARK_BYTES], state)
        if state != marks.stored(data, end):
            return begin
        state = marks.after_mark(state)
    return stop
