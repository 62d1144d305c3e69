"""A snapshot: one sha256 over everything that a store holds, the same wherever the same is held.

Two immutable documents. The list (kind 'L') has a row `[prefix, number, tip, items]` for each chain, sorted
by the prefix: how far it went, the sha256 of its newest entry, and the root over what its state holds. The
snapshot itself (kind 'N') is small: how many chains, the root over the rows, and the digest of the list. Its
sha256 is the id. See docs/format/snapshot.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import frame, layout, merkle, packing
from holdfast.format.manifest import State

KIND, LIST = b"N", b"L"
VERSION = 1
Item = list[Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One chain: the state after entry `number`, whose file has the sha256 `tip` (32 bytes)."""

    prefix: str
    number: int
    tip: bytes
    items: bytes  # the root over `items_of` the state

    def pack(self) -> bytes:
        return packing.pack([self.prefix, self.number, self.tip, self.items])


@dataclass(frozen=True, slots=True)
class Document:
    """What the id stands for."""

    chains: int
    root: bytes
    list: Digest


def row(prefix: str, number: int, tip: bytes, state: State) -> Row:
    """The row of a chain."""
    return Row(prefix, number, tip, merkle.root(leaves_of(items_of(state))))


def items_of(state: State) -> list[Item]:
    """What a state holds that lies in files: artifacts by key, then segments by name."""
    artifacts = sorted(state.get("artifacts", {}).items())
    segments = sorted(state.get("segments", {}).items())
    return [
        *(
            ["artifact", key, about.get("digest"), about.get("size_bytes"), about.get("kind")]
            for key, about in artifacts
        ),
        *(["segment", name, about.get("size_bytes")] for name, about in segments),
    ]


def leaves_of(items: Iterable[Item]) -> list[bytes]:
    return [merkle.leaf(packing.pack(item)) for item in items]


def encode(rows: Sequence[Row]) -> tuple[bytes, bytes]:
    """(the snapshot, its list); `rows` in any order."""
    ordered = sorted(rows, key=lambda row: row.prefix.encode())
    packed = [[row.prefix, row.number, row.tip, row.items] for row in ordered]
    listed = frame.wrap(LIST, VERSION, packing.pack(packed))
    fields = {"chains": len(ordered), "root": root_of(ordered), "list": Digest.of(listed).raw}
    return frame.wrap(KIND, VERSION, packing.pack(fields)), listed


def root_of(rows: Iterable[Row]) -> bytes:
    return merkle.root(merkle.leaf(row.pack()) for row in rows)


def decode(data: bytes, *, place: str) -> Document:
    """Raises Corrupt or UnsupportedFormat, naming `place`."""
    _, body = frame.unwrap(KIND, data, place=place, max_version=VERSION)
    fields = packing.unpack(body, place=place)
    if not isinstance(fields, dict) or type(fields.get("chains")) is not int:
        raise _damaged(place)
    root, listed = fields.get("root"), fields.get("list")
    if not _is_hash(root) or not _is_hash(listed):
        raise _damaged(place)
    return Document(fields["chains"], root, Digest.from_raw(listed))


def decode_list(data: bytes, document: Document, *, place: str) -> list[Row]:
    """The rows of a list, held against the root in the snapshot. Raises Corrupt, UnsupportedFormat."""
    _, body = frame.unwrap(LIST, data, place=place, max_version=VERSION)
    found = packing.unpack(body, place=place)
    if not isinstance(found, list) or not all(map(_is_row, found)):
        raise _damaged(place)
    rows = [Row(*fields) for fields in found]
    names = [row.prefix.encode() for row in rows]
    if names != sorted(set(names)) or len(rows) != document.chains:
        raise _damaged(place)
    if root_of(rows) != document.root:
        raise Corrupt(f"{place} is damaged: its rows do not give the root", place=place)
    return rows


def _is_row(fields: Any) -> bool:
    if not isinstance(fields, list) or len(fields) != 4:
        return False
    prefix, number, tip, items = fields
    is_name = isinstance(prefix, str) and prefix.endswith("/")
    is_number = type(number) is int and 0 <= number <= layout.MAX_GENERATION
    return is_name and is_number and _is_hash(tip) and _is_hash(items)


def _is_hash(value: object) -> TypeGuard[bytes]:
    return isinstance(value, bytes) and len(value) == 32


def _damaged(place: str) -> Corrupt:
    return Corrupt(f"{place} is damaged: a field is not as defined", place=place)
