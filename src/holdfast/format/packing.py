"""Canonical msgpack, pinned in one place.

Canonical means: map keys are text, sorted by their UTF-8 bytes at every level; the bin type for bytes;
the shortest integer form; float64; no extension types. Equal values give equal bytes.
Unpacking is bounded by the input: no length field can make it allocate more than a small multiple of
the bytes that are really there. See docs/format/packing.md.
"""

from __future__ import annotations

from typing import Any

import msgpack

from holdfast.errors import Corrupt, InvalidValue


def _sorted(value: Any, depth: int = 0) -> Any:
    if depth > 64:
        raise InvalidValue("a value is nested more than 64 levels deep: flatten it", depth=depth)
    if isinstance(value, dict):
        # Code point order of text is the byte order of its UTF-8 form.
        return {key: _sorted(value[key], depth + 1) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item, depth + 1) for item in value]
    return value


def pack(value: Any) -> bytes:
    """`value` as canonical msgpack. Raises InvalidValue for what msgpack cannot hold exactly."""
    try:
        return bytes(msgpack.packb(_sorted(value), use_bin_type=True, strict_types=True))
    except (TypeError, OverflowError, ValueError, UnicodeEncodeError) as error:
        raise InvalidValue(f"a value cannot be stored: {error}") from error


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not part of the format")


def unpack(data: bytes | memoryview, *, place: str) -> Any:
    """The one value in `data`. Raises Corrupt, naming `place`, when the bytes are anything else."""
    try:
        return msgpack.unpackb(
            data, raw=False, strict_map_key=True, use_list=True, ext_hook=_no_extension
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        detail = str(error) or type(error).__name__
        raise Corrupt(f"{place} is damaged: not the msgpack expected ({detail})", place=place) from error
