"""Canonical msgpack, pinned in one place.

Canonical means: map keys are text, sorted by their UTF-8 bytes at every level; the bin type for bytes;
the shortest integer form; float64; no extension types. Equal values give equal bytes.
Unpacking is bounded by the input: the bytes are walked first without building anything, so no length
field can make it allocate more than a small multiple of what is really there. See docs/format/packing.md.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgpack

from holdfast.errors import Corrupt, InvalidValue

MAX_DEPTH = 64  # containers inside each other


_LEAVES = frozenset({int, float, str, bytes, bool, type(None)})  # most of what there is


def _sorted(value: Any, depth: int = 0) -> Any:
    if not isinstance(value, (dict, list, tuple)):
        return value
    if depth >= MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep: flatten it")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a map has a key that is no text")
        # Code point order of text is the byte order of its UTF-8 form.
        items = [(key, value[key]) for key in sorted(value)]
        return {k: v if type(v) in _LEAVES else _sorted(v, depth + 1) for k, v in items}
    return [item if type(item) in _LEAVES else _sorted(item, depth + 1) for item in value]


def pack(value: Any) -> bytes:
    """`value` as canonical msgpack. Raises InvalidValue for what msgpack cannot hold exactly."""
    try:
        return bytes(msgpack.packb(_sorted(value), use_bin_type=True, strict_types=True))
    except (TypeError, OverflowError, ValueError, UnicodeEncodeError) as error:
        raise InvalidValue(f"a value cannot be stored: {error}") from error


def measure(data: bytes | memoryview) -> int:
    """How many bytes the value takes that `data` begins with; 0 if no whole one is there."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
    unpacker.feed(data)
    try:
        unpacker.skip()
    except (ValueError, msgpack.exceptions.UnpackException):
        return 0
    return int(unpacker.tell())


_NESTED = frozenset({dict, list, msgpack.Timestamp})
_TEXT = frozenset({str})


def _check(value: Any) -> None:
    """ValueError for what msgpack can hold and the format cannot.

    It runs for every file, so it goes level by level: most of a level is leaves, passed over in C.
    """
    level = [value] if type(value) in _NESTED else []
    for _ in range(MAX_DEPTH):
        maps = [node for node in level if type(node) is dict]
        lists = [node for node in level if type(node) is list]
        if len(maps) + len(lists) < len(level):
            raise ValueError("a timestamp is not part of the format")
        if not _TEXT.issuperset(map(type, chain.from_iterable(maps))):
            raise ValueError("a map has a key that is no text")
        items = chain(chain.from_iterable(map(dict.values, maps)), chain.from_iterable(lists))
        level = [item for item in items if type(item) in _NESTED]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _no_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not part of the format")


def unpack(data: bytes | memoryview, *, place: str) -> Any:
    """The one value in `data`. Raises Corrupt, naming `place`, when the bytes are anything else."""
    try:
        if measure(data) != len(data):
            raise ValueError("it is not one whole value")
        value = msgpack.unpackb(
            data, raw=False, strict_map_key=True, use_list=True, ext_hook=_no_extension
        )
        _check(value)
        return value
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        detail = str(error) or type(error).__name__
        raise Corrupt(
            f"{place} is damaged: not the msgpack expected ({detail})", place=place
        ) from error
