"""One entry of a chain: immutable, numbered, linked to the one before it by sha256.

Body: one canonical msgpack map `{n, prev, nonce, at, full, body}`; kind letter 'C'. In version 1 an
entry is full if and only if its number is divisible by 16; version 2 allows a full one anywhere. The
random nonce tells a writer whose create was answered "exists" whether the entry is its own.
See docs/format/chain.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.errors import Corrupt
from holdfast.format import frame, layout, packing

KIND = b"C"
VERSION = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """`prev` is the sha256 (32 bytes) of the whole file before it, None for number 0; `at` in ns."""

    number: int
    prev: bytes | None
    nonce: bytes
    at: int
    full: bool
    body: dict[str, Any]


def encode(entry: Entry) -> bytes:
    """The file of an entry, in the lowest version that can say it: old readers read on where they can."""
    fields = {
        "n": entry.number,
        "prev": entry.prev,
        "nonce": entry.nonce,
        "at": entry.at,
        "full": entry.full,
        "body": entry.body,
    }
    version = 1 if entry.full == must_be_full(entry.number) else 2
    return frame.wrap(KIND, version, packing.pack(fields))


def must_be_full(number: int) -> bool:
    """Does entry `number` hold the state in every version, so that a reader need go back no further?"""
    return number % layout.FULL_EVERY == 0


def decode(data: bytes, *, place: str) -> Entry:
    """Read an entry. Raises Corrupt or UnsupportedFormat, naming `place`."""
    version, body = frame.unwrap(KIND, data, place=place, max_version=VERSION)
    fields = packing.unpack(body, place=place)
    if not isinstance(fields, dict):
        raise Corrupt(f"{place} is damaged: a chain entry must be a map", place=place)
    entry = Entry(
        fields.get("n", -1),
        fields.get("prev"),
        fields.get("nonce", b""),
        fields.get("at", -1),
        fields.get("full", False),
        fields.get("body", {}),
    )
    if not _well_formed(entry, version):
        raise Corrupt(
            f"{place} is damaged: a field of the chain entry is not as defined", place=place
        )
    return entry


def _well_formed(entry: Entry, version: int) -> bool:
    linked = entry.prev is None if entry.number == 0 else _is_bytes(entry.prev, 32)
    return (
        type(entry.number) is int
        and entry.number >= 0
        and linked
        and _is_bytes(entry.nonce, 16)
        and type(entry.at) is int
        and type(entry.full) is bool
        and (entry.full == must_be_full(entry.number) or (version > 1 and entry.full))
        and isinstance(entry.body, dict)
    )


def _is_bytes(value: object, size: int) -> bool:
    return isinstance(value, bytes) and len(value) == size
