"""Zip files with tensors in stored members: torch.save (.pt), .npz, and what holds such files.

Only the central directory is believed, and each local header is held against it. A torch distributed
checkpoint (.distcp) is several zip files one behind the other: they are found from the last to the first,
since each ends with the place of its own start.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from holdfast.chunking import npy, torch_file
from holdfast.chunking.contents import Contents, Doubt, Getter, Span, contents, of_tensor
from holdfast.format.tensors import Tensor

MAX_DIRECTORY_BYTES = 16 << 20
MAX_ARCHIVES = 100_000
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_TAIL = 65_535 + _END.size  # a comment may follow the end


class Member(NamedTuple):
    """A stored member of an archive: where its bytes lie in the file."""

    name: str
    start: int
    stop: int


def parse(get: Getter, size_bytes: int) -> Contents:
    archives = list(_archives(get, size_bytes))[::-1]
    tensors: list[Tensor] = []
    spans: list[Span] = []
    for number, members in enumerate(archives):
        found, cut = _tensors(get, members)
        if len(archives) > 1:
            found = [replace(tensor, name=f"{number}.{tensor.name}") for tensor in found]
            cut = [replace(span, name=f"{number}.{span.name}") for span in cut]
        tensors += found
        spans += cut
    return contents("zip", tensors, spans, size_bytes)


def _tensors(get: Getter, members: list[Member]) -> tuple[list[Tensor], list[Span]]:
    if any(member.name.endswith("/data.pkl") for member in members):
        return torch_file.tensors(get, {member.name: member[1:] for member in members})
    arrays = []
    for member in members:
        if member.name.endswith(".npy"):
            try:
                name = member.name.removesuffix(".npy")
                arrays.append(npy.tensor(get, member.start, member.stop, name))
            except Doubt:
                continue  # an array of objects; the others are cut out all the same
    return arrays, [of_tensor(array) for array in arrays]


def _archives(get: Getter, size_bytes: int) -> Iterator[list[Member]]:
    """The stored members of each archive, from the last archive to the first."""
    stop = size_bytes
    for _ in range(MAX_ARCHIVES):
        start, members = _archive(get, stop, comment=stop == size_bytes)
        yield members
        stop = start
        if stop == 0:
            return
    raise Doubt("it holds too many archives")


def _archive(get: Getter, stop: int, *, comment: bool) -> tuple[int, list[Member]]:
    """(where it starts, its stored members) of the archive that ends at `stop`."""
    end, count, length, offset = _directory(get, stop, comment)
    directory_at = end - length
    start = directory_at - offset
    if start < 0 or length > MAX_DIRECTORY_BYTES:
        raise Doubt("its directory lies outside the file")
    raw = bytes(get(directory_at, length))
    members, at = [], 0
    for _ in range(count):
        member, at = _member(get, raw, at, start, directory_at)
        if member:
            members.append(member)
    return start, members


def _directory(get: Getter, stop: int, comment: bool) -> tuple[int, int, int, int]:
    """(where the directory ends, number of members, its length, its offset in the archive)."""
    reach = min(_TAIL if comment else _END.size, stop)
    tail = bytes(get(stop - reach, reach))
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < _END.size:
        raise Doubt("it has no end of an archive")
    _, disk, _, _, count, length, offset, note = _END.unpack_from(tail, place)
    if place + _END.size + note != len(tail) or disk:
        raise Doubt("it does not end with its archive")
    end = stop - len(tail) + place
    if 0xFFFF_FFFF in (length, offset) or count == 0xFFFF or _has_64(get, end):
        return _directory_64(get, end)
    return end, count, length, offset


def _has_64(get: Getter, end: int) -> bool:
    return end >= 20 and bytes(get(end - 20, 4)) == b"PK\x06\x07"


def _directory_64(get: Getter, end: int) -> tuple[int, int, int, int]:
    place = end - 20 - _END64.size  # without the extensible data that nobody writes
    if place < 0:
        raise Doubt("its 64-bit end is cut off")
    mark, *_, count, length, offset = _END64.unpack(bytes(get(place, _END64.size)))
    if mark != b"PK\x06\x06":
        raise Doubt("its 64-bit end is not where it should be")
    return place, count, length, offset


def _member(get: Getter, raw: bytes, at: int, start: int, stop: int) -> tuple[Member | None, int]:
    """(the member, or None if it is packed, is encrypted or is empty; where the next entry begins)."""
    fields = _ENTRY.unpack_from(raw, at)
    mark, flags, method = fields[0], fields[3], fields[4]
    packed, size, names, extras, note = fields[8:13]
    offset = fields[16]
    if mark != b"PK\x01\x02":
        raise Doubt("its directory is not as defined")
    at += _ENTRY.size
    name, extra = raw[at : at + names], raw[at + names : at + names + extras]
    after = at + names + extras + note
    if method or flags & 1 or not size:
        return None, after
    size, packed, offset = _large(extra, size, packed, offset)
    local = bytes(get(start + offset, _LOCAL.size))
    mark, *_, local_names, local_extras = _LOCAL.unpack(local)
    begin = start + offset + _LOCAL.size + local_names + local_extras
    if mark != b"PK\x03\x04" or size != packed or not begin <= begin + size <= stop:
        raise Doubt("a member does not lie where its directory says")
    return Member(name.decode(), begin, begin + size), after


def _large(extra: bytes, *values: int) -> list[int]:
    """Each value, from the 64-bit field (id 1) where it is 2**32 - 1."""
    fields, at = b"", 0
    while at + 4 <= len(extra):
        id_, length = struct.unpack_from("<2H", extra, at)
        fields = extra[at + 4 : at + 4 + length] if id_ == 1 else fields
        at += 4 + length
    found, at = [], 0
    for value in values:
        if value == 0xFFFF_FFFF:
            (value,) = struct.unpack_from("<Q", fields, at)
            at += 8
        found.append(value)
    return found
