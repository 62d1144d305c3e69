"""Putting a good file in place of a damaged one, which goes to quarantine/ first and stays there.

The good bytes are staged and checked before anything is touched, and take the name in one step. So a crash
at any moment leaves the damaged file or the good one, and at most a copy in quarantine/ besides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from holdfast.backend.base import Backend, Staged
from holdfast.digest import Digest
from holdfast.errors import Corrupt, NameNotFound
from holdfast.format import layout

KEPT, GONE, WHOLE = "kept", "gone", "whole"


def put_right(
    backend: Backend, name: str, pieces: Iterable[Any], expected: Digest | None = None
) -> None:
    """Store `pieces` under `name`, in place of what is there. Raises Corrupt, and changes nothing, if they
    have not the digest `expected`."""
    staged, sha = backend.stage(), hashlib.sha256()
    try:
        for piece in pieces:
            sha.update(piece)
            staged.write(piece)
        if expected is not None and sha.hexdigest() != expected.hex:
            raise Corrupt(f"the bytes found for {name} have not its digest", place=name)
        _replace(backend, staged, name, expected)
    finally:
        staged.abort()


def _replace(backend: Backend, staged: Staged, name: str, expected: Digest | None) -> None:
    was = keep(backend, name, expected)
    if was == WHOLE:
        return
    if was == KEPT:
        staged.replace(name)
    elif not staged.commit(name) and keep(backend, name, expected) != WHOLE:
        raise Corrupt(f"{name} appeared while it was mended: check again", place=name)


def set_aside(backend: Backend, name: str) -> None:
    """Move a damaged file to quarantine/."""
    if keep(backend, name) == KEPT:
        backend.delete(name)


def keep(backend: Backend, name: str, expected: Digest | None = None) -> str:
    """Copy a file to quarantine/, under a name of its own if other bytes are there: KEPT. It may be GONE,
    or WHOLE, if it has the digest `expected`: another process was quicker."""
    staged, sha = backend.stage(), hashlib.sha256()
    try:
        for piece in backend.chunks(name):
            sha.update(piece)
            staged.write(piece)
        if expected is not None and sha.hexdigest() == expected.hex:
            return WHOLE
        first = layout.quarantined(name)
        if not staged.commit(first) and _digest(backend, first) != sha.hexdigest():
            staged.commit(f"{first}.{sha.hexdigest()[:8]}")
        return KEPT
    except NameNotFound:
        return GONE
    finally:
        staged.abort()


def _digest(backend: Backend, name: str) -> str:
    sha = hashlib.sha256()
    for piece in backend.chunks(name):
        sha.update(piece)
    return sha.hexdigest()


def resembles(ours: bytes | None, theirs: bytes) -> bool:
    """Could `ours` be a damaged copy of `theirs`? For files whose names do not tell: nothing of it is
    left, or it is cut off, or most of its bytes are the same."""
    if ours is None or not ours.strip(b"\0"):
        return True
    if len(ours) != len(theirs):
        return theirs.startswith(ours)
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return same * 8 >= len(theirs) * 7


def read(backend: Backend, name: str) -> bytes | None:
    """All bytes, None if the file is not there."""
    try:
        return backend.get(name)
    except NameNotFound:
        return None
