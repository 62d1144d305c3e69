"""Records and marks: where the records of a spool begin and end, and which of them are intact.

A mark is the crc32 of all bytes of the file before it. So a record is known to be intact by the mark in
front of it and the one behind it, wherever it lies. A *synced* record says how many bytes of the file
were on the disk before it was written. See docs/format/spool.md.
"""

from __future__ import annotations

import zlib

from holdfast.format import packing

MARK = b"\xc4\x04"
MARK_BYTES = 6
ROW = 0x94
SCHEMA = 0x92
SYNCED = b"\x91\xcf"
SYNCED_BYTES = 10
_SEARCH_BYTES = 65_536  # how far the search behind damage follows a schema


def mark(state: int) -> bytes:
    """The mark for a stream whose crc32 so far is `state`."""
    return MARK + state.to_bytes(4, "little")


def after_mark(state: int) -> int:
    """The crc32 of the stream once its mark is written."""
    return zlib.crc32(mark(state), state)


def stored(data: bytes, end: int) -> int:
    """What the mark that ends at `end` says."""
    return int.from_bytes(data[end - 4 : end], "little")


def encode_synced(size_bytes: int) -> bytes:
    """The record that says that the first `size_bytes` of the file survive a power cut."""
    return SYNCED + size_bytes.to_bytes(8, "big")


def record_bytes(data: bytes, at: int) -> int:
    """The length of the record at `at`, whose structure is known to be whole."""
    if data[at] == ROW:
        return row_bytes(data, at)
    return SYNCED_BYTES if data[at] == SYNCED[0] else schema_bytes(data, at)


def synced_at(data: bytes, at: int) -> int:
    """What the synced record at `at` says; more than any file holds if there is none."""
    found = data[at : at + 2] == SYNCED
    return int.from_bytes(data[at + 2 : at + SYNCED_BYTES], "big") if found else 1 << 64


def row_bytes(data: bytes, at: int) -> int:
    """The length that the row at `at` claims; 0 if there is none."""
    head = data[at : at + 27]
    shape = head[:2] + head[4:5] + head[13:14]
    if len(head) < 27 or shape != b"\x94\xcd\xcf\xd3" or head[22] not in (0xC4, 0xC5, 0xC6):
        return 0
    middle = 1 + (1 << (head[22] - 0xC4))
    return 22 + middle + int.from_bytes(head[23 : 22 + middle], "big")


def schema_bytes(data: bytes, at: int, most: int | None = None) -> int:
    """The length of the msgpack object at `at`; 0 if there is no whole one."""
    stop, reach = len(data) if most is None else min(at + most, len(data)), 1 << 12
    while not (size := packing.measure(memoryview(data)[at : min(at + reach, stop)])):
        if at + reach >= stop:
            return 0
        reach *= 8
    return size


def is_damage(version: int, data: bytes, at: int, start: int = 0) -> bool:
    """True if neither a crash nor a power cut leaves the record at `at`, which is not intact, so.

    `data` begins at byte `start` of a spool of this version, at least one mark before `at`. In version
    1 nobody knows what was synced: what has an intact record behind it counts as damage.
    """
    if version == 1:
        return find_intact(data, at, version) is not None
    return was_synced(data, at, start)


def was_synced(data: bytes, damage: int, start: int = 0) -> bool:
    """True if an intact record behind `damage` says that the byte there was on the disk."""
    at = data.find(SYNCED, damage)
    while at >= 0:
        if damage + start < synced_at(data, at) <= at + start and intact_end(data, at, 2):
            return True
        at = data.find(SYNCED, at + 1)
    return False


def find_intact(data: bytes, damage: int, version: int) -> int | None:
    """Where the first intact record at `damage` or behind it begins.

    Bytes full of what looks like records but is none are given up after a while: the answer is the
    end of the file then. So the search takes time in proportion to it.
    """
    left = 4 * len(data) + _SEARCH_BYTES
    at = data.find(MARK, damage - MARK_BYTES)
    while 0 <= at < len(data) - MARK_BYTES:
        begin = at + MARK_BYTES
        size, cost = _looks_like(data, begin, version)
        if _fits(data, begin, size):
            return begin
        left -= cost + size
        if left < 0:
            return len(data)
        at = data.find(MARK, at + 1)
    return None


def intact_end(data: bytes, begin: int, version: int) -> int:
    """Where the record at `begin` ends, its mark included, if it fits the mark in front; else 0."""
    if begin >= len(data):
        return 0
    return _fits(data, begin, _looks_like(data, begin, version)[0])


def _fits(data: bytes, begin: int, size: int) -> int:
    """`intact_end` of a record of `size` bytes; trusts the mark in front of it."""
    end = begin + size + MARK_BYTES
    if not size or data[end - MARK_BYTES : end - 4] != MARK:
        return 0
    state = zlib.crc32(memoryview(data)[begin : end - MARK_BYTES], after_mark(stored(data, begin)))
    return end if data[end - MARK_BYTES : end] == mark(state) else 0


def _looks_like(data: bytes, at: int, version: int) -> tuple[int, int]:
    """(length of the record that may begin at `at`, how much work it was to say so)."""
    if data[at] == ROW:
        return row_bytes(data, at), 64
    if data[at] == SCHEMA:
        return schema_bytes(data, at, _SEARCH_BYTES), _SEARCH_BYTES
    has_shape = version > 1 and data[at : at + 2] == SYNCED
    return (SYNCED_BYTES if has_shape else 0), 16
