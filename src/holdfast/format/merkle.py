"""Merkle trees of sha256, as in RFC 6962: one hash over many things, and short proofs that one is among them.

A leaf is hashed with a byte 0 before it, two hashes with a byte 1, so that neither can pass for the other.
Of n leaves, the left part is the largest power of two below n. See docs/format/snapshot.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence


def leaf(data: bytes) -> bytes:
    """The hash (32 bytes) of one leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Iterable[bytes]) -> bytes:
    """The hash over the hashes of leaves, in their order; that of no bytes if there are none."""
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0] if level else hashlib.sha256().digest()


def _above(level: Sequence[bytes]) -> list[bytes]:
    """Two and two together; one that is left over goes up as it is."""
    pairs = [_node(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return pairs + list(level[len(pairs) * 2 :])


def path(leaves: Iterable[bytes], index: int) -> list[bytes]:
    """The hashes that, with that of leaf `index`, give the root; nearest to the leaf first."""
    level, found = list(leaves), []
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            found.append(level[beside])
        level, index = _above(level), index // 2
    return found


def climb(leaf: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root of a tree of `count` leaves in which leaf `index` has that hash and that path.

    Raises ValueError when no such tree has a path of that length.
    """
    if not 0 <= index < count:
        raise ValueError(f"there is no leaf {index} among {count}")
    found, steps, last = leaf, iter(path), count - 1
    while last:
        if index & 1:
            found = _node(_next(steps), found)
        elif index < last:
            found = _node(found, _next(steps))
        index, last = index >> 1, last >> 1
    if next(steps, None) is not None:
        raise ValueError("the path is too long")
    return found


def _next(steps: Iterable[bytes]) -> bytes:
    for step in steps:
        return step
    raise ValueError("the path is too short")
