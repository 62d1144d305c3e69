"""Changing inputs at random: bytes, and values inside of msgpack and JSON."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import msgpack

from holdfast.format import frame

HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 255, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, -(2**63), 0.5, float("nan"),
    float("inf"), "", "x", "..", "/", "\0", "sha256:" + "0" * 64, "é" * 100, b"", b"\0", bytes(32), bytes(64),
    b"\xff" * 16, [], [[]], [None] * 20, {}, {"": {}}, {"a": 1}, bytes(4096), "runs/../x",
]  # fmt: skip
WORDS = [
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 80,
    b"\xff" * 8,
    bytes(8),
    b"\xc7\x08",
]


def flipped(chance: random.Random, data: bytes) -> bytes:
    """A few bytes changed, cut out, put in or doubled."""
    changed = bytearray(data)
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16])):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0 | 1 if changed:
                changed[at % len(changed)] ^= 1 << chance.randrange(8)
            case 2 if changed:
                changed[at % len(changed)] = chance.choice([0, 1, 127, 128, 255])
            case 3:
                del changed[at : at + chance.choice([1, 2, 8, 1000])]
            case 4:
                changed[at:at] = chance.choice(WORDS)
            case _:
                changed[at:at] = changed[at : at + chance.randrange(40)]
    return bytes(changed)


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to all values inside of one."""
    found = [path]
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else []
    )
    for key, inner in items:
        found += nodes(inner, (*path, key))
    return found


def replaced(chance: random.Random, value: Any) -> Any:
    """The value with one or two values inside of it made hostile, left out or moved."""
    value = (
        json.loads(json.dumps(value)) if _is_json(value) else msgpack.unpackb(msgpack.packb(value))
    )
    for _ in range(chance.choice([1, 1, 2])):
        path = chance.choice(nodes(value))
        if not path:
            return copy.deepcopy(chance.choice(HOSTILE))
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        new = copy.deepcopy(chance.choice(HOSTILE))
        if isinstance(holder[path[-1]], bytes) and chance.random() < 0.5:
            new = flipped(chance, holder[path[-1]])
        if chance.random() < 0.2:
            del holder[path[-1]]
        else:
            holder[path[-1]] = new
    return value


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


Change = Callable[[random.Random, bytes], bytes]


def framed(kind: bytes) -> Change:
    """Changes the body of a file in the envelope, or its version, behind a right checksum; or any byte."""

    def change(chance: random.Random, data: bytes) -> bytes:
        if chance.random() < 0.2:
            return flipped(chance, data)
        body = data[frame.HEADER_BYTES : -frame.TRAILER_BYTES]
        if chance.random() < 0.7:
            body = msgpack.packb(replaced(chance, msgpack.unpackb(body, strict_map_key=False)))
        else:
            body = flipped(chance, body)
        version = data[10] if chance.random() < 0.9 else chance.choice([0, 1, 2, 3, 127])
        return frame.wrap(kind, version, body)

    return change


def in_json(chance: random.Random, data: bytes) -> bytes:
    """Changes values of a JSON text, or any byte of it."""
    if chance.random() < 0.4:
        return flipped(chance, data)
    value = replaced(chance, json.loads(data))
    return json.dumps(value, default=lambda one: one.hex()).encode()


def in_words(words: list[str]) -> Change:
    """Texts put together of words."""

    def change(chance: random.Random, data: bytes) -> bytes:
        if chance.random() < 0.3:
            return flipped(chance, data)
        count = chance.choice([1, 3, 6, 12, 40])
        return (
            chance.choice([" ", ""]).join(chance.choices(words, k=count)).encode("utf-8", "replace")
        )

    return change
