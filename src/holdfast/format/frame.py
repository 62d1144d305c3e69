"""The envelope of every binary file: header, body, checksum.

    offset  size  what
    0       3     C7 08 48          a msgpack ext of 8 bytes, type 'H'
    3       2     48 46             "HF"
    5       1     kind              one ASCII letter
    6       4     0D 0A 1A 0A       broken by any text-mode copy
    10      1     version           of this kind's body
    11      n     body              one or more msgpack objects
    11+n    2     C4 08             a msgpack bin of 8 bytes
    13+n    8     checksum          the first 8 bytes of blake3(all bytes before offset 11+n)

So each file is a stream of msgpack objects that any msgpack library walks. The checksum guards
against accidents; identity is always a sha256. See docs/format/envelope.md.
"""

from __future__ import annotations

from blake3 import blake3

from holdfast.errors import Corrupt, UnsupportedFormat

HEADER_BYTES = 11
TRAILER_BYTES = 10
CHECKSUM_BYTES = 8


def header(kind: bytes, version: int) -> bytes:
    """The first 11 bytes of a file of `kind`."""
    return b"\xc7\x08HHF" + kind + b"\r\n\x1a\n" + bytes([version])


def checksum(data: bytes | bytearray | memoryview) -> bytes:
    """8 bytes against accidents; never an identity."""
    return blake3(data).digest(length=CHECKSUM_BYTES)


def check_header(kind: bytes, data: bytes | memoryview, *, place: str, max_version: int) -> int:
    """The version in the header. Raises Corrupt or UnsupportedFormat."""
    head = bytes(data[:HEADER_BYTES])
    if len(head) < HEADER_BYTES or head[:10] != header(kind, 0)[:10]:
        raise Corrupt(
            f"{place} is damaged: it does not begin as a file of kind {kind.decode()!r}",
            place=place,
        )
    version = head[10]
    if not 1 <= version <= max_version:
        raise UnsupportedFormat(
            f"{place} has version {version} of its format and this Holdfast reads up to "
            f"{max_version}: upgrade holdfast",
            place=place,
            version=version,
        )
    return version


def wrap(kind: bytes, version: int, body: bytes) -> bytes:
    """A whole file around `body`."""
    front = header(kind, version) + body
    return front + b"\xc4\x08" + checksum(front)


def unwrap(kind: bytes, data: bytes, *, place: str, max_version: int) -> tuple[int, bytes]:
    """(version, body) of a whole file. Raises Corrupt or UnsupportedFormat, naming `place`."""
    version = check_header(kind, data, place=place, max_version=max_version)
    front, mark, found = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:-8], data[-8:]
    if len(data) < HEADER_BYTES + TRAILER_BYTES or mark != b"\xc4\x08" or found != checksum(front):
        raise Corrupt(f"{place} is damaged: its checksum does not match", place=place)
    return version, front[HEADER_BYTES:]
