"""A signature: who vouches for a document, such as a snapshot, by its sha256. See docs/format/signature.md.

Body: one canonical msgpack map; kind letter 'V', version 1. What is signed is `statement`: words that no
other program signs, the digest and the time.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import frame, packing

KIND = b"V"
VERSION = 1
KEY_BYTES = 32
SIGNATURE_BYTES = 64
_WORDS = b"holdfast signature 1\n"
_FIELDS = {"document", "at", "key", "signature"}


@dataclass(frozen=True, slots=True)
class Signature:
    """`key` is a raw Ed25519 public key, `at` when it was signed (ns since 1970), `signature` 64 bytes."""

    document: Digest
    at: int
    key: bytes
    signature: bytes

    @property
    def statement(self) -> bytes:
        """The bytes that were signed."""
        return statement(self.document, self.at)


def statement(document: Digest, at: int) -> bytes:
    """What is signed for a document at a time."""
    return _WORDS + document.raw + at.to_bytes(8, "big")


def encode(signature: Signature) -> bytes:
    """The file of a signature."""
    fields = {
        "document": signature.document.raw,
        "at": signature.at,
        "key": signature.key,
        "signature": signature.signature,
    }
    return frame.wrap(KIND, VERSION, packing.pack(fields))


def decode(data: bytes, *, place: str) -> Signature:
    """Read a file; whether the signature is right is another question. Raises Corrupt, UnsupportedFormat."""
    _, body = frame.unwrap(KIND, data, place=place, max_version=VERSION)
    fields = packing.unpack(body, place=place)
    if not isinstance(fields, dict) or not fields.keys() >= _FIELDS:
        raise Corrupt(f"{place} is no signature: fields are missing", place=place)
    lengths = [("document", 32), ("key", KEY_BYTES), ("signature", SIGNATURE_BYTES)]
    if any(type(fields[name]) is not bytes or len(fields[name]) != size for name, size in lengths):
        raise Corrupt(f"{place} is no signature: a field has the wrong length", place=place)
    if type(fields["at"]) is not int or not 0 <= fields["at"] < 1 << 63:
        raise Corrupt(f"{place} is no signature: its time is {fields['at']!r}"[:200], place=place)
    document = Digest.from_raw(fields["document"])
    return Signature(document, fields["at"], fields["key"], fields["signature"])
