"""A directory artifact: what lies where, with which permission bits, under which digests.

Body: one canonical msgpack list of entries `[path, kind, mode, digest, size, target]`, sorted by the
bytes of the path; kind letter 'T', version 1. Paths and link targets are relative and never leave the
tree, and no path leads through a link. See docs/format/tree.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.errors import Corrupt, InvalidValue
from holdfast.format import frame, packing

KIND = b"T"
VERSION = 1
MAX_ENTRIES = 1_000_000
MAX_PATH_BYTES = 4096
MAX_DEPTH = 128
KINDS = ("directory", "file", "link")


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """`digest` (32 bytes) and `size_bytes` for a file, `target` for a link; else None. `mode` holds
    the permission bits only."""

    path: str
    kind: str
    mode: int
    digest: bytes | None = None
    size_bytes: int | None = None
    target: str | None = None


def encode_tree(entries: Iterable[TreeEntry]) -> bytes:
    """The document of a directory. Raises InvalidValue, naming the path, for what it cannot hold."""
    ordered = sorted(entries, key=lambda entry: entry.path.encode("utf-8", "surrogateescape"))
    try:
        check(ordered)
    except ValueError as error:
        raise InvalidValue(f"this directory cannot be an artifact: {error}") from error
    rows = [[e.path, e.kind, e.mode, e.digest, e.size_bytes, e.target] for e in ordered]
    return frame.wrap(KIND, VERSION, packing.pack(rows))


def decode_tree(data: bytes, *, place: str) -> tuple[TreeEntry, ...]:
    """Read the document of a directory. Raises Corrupt or UnsupportedFormat."""
    _, body = frame.unwrap(KIND, data, place=place, max_version=VERSION)
    rows = packing.unpack(body, place=place)
    try:
        if not isinstance(rows, list):
            raise TypeError("it is no list")
        entries = tuple(_entry(row) for row in rows)
        check(entries)
    except (TypeError, ValueError) as error:
        raise Corrupt(f"{place} is no directory of an artifact: {error}", place=place) from error
    return entries


def _entry(row: Any) -> TreeEntry:
    if not isinstance(row, list) or len(row) != 6:
        raise ValueError("an entry has not six fields")
    return TreeEntry(*row)


def check(entries: Sequence[TreeEntry]) -> None:
    """ValueError, naming the path, unless the entries are a tree that stays inside itself."""
    kinds: dict[str, str] = {}
    last = b""
    for entry in entries:
        raw = check_path(entry.path)
        if raw <= last:
            raise ValueError(f"{entry.path!r} is there twice or out of order")
        last = raw
        _check_fields(entry)
        kinds[entry.path] = entry.kind
        if len(kinds) > MAX_ENTRIES:
            raise ValueError(f"it has more than {MAX_ENTRIES} entries")
    for path in kinds:
        above = posixpath.dirname(path)
        while above:
            if kinds.get(above, "directory") != "directory":
                raise ValueError(f"{path!r} leads through {above!r}, which is a {kinds[above]}")
            above = posixpath.dirname(above)
    for entry in entries:
        if entry.target is not None and _climbs_behind_a_link(entry.path, entry.target, kinds):
            raise ValueError(
                f"the link {entry.path!r} may lead out of the tree, to {entry.target!r}"
            )


def _climbs_behind_a_link(path: str, target: str, kinds: dict[str, str]) -> bool:
    """True if `..` in a target starts from where another link leads, which need not be its parent."""
    at, behind = path.split("/")[:-1], False
    for part in target.split("/"):
        if part == "..":
            if behind:
                return True
            at.pop()
        elif part not in ("", "."):
            at.append(part)
            behind = behind or kinds.get("/".join(at)) == "link"
    return False


def check_path(path: str) -> bytes:
    """The bytes of a relative path that stays where it is put. Raises ValueError."""
    if not isinstance(path, str):
        raise ValueError(f"{path!r} is no path")
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the name {path!r} is not UTF-8: rename it") from None
    if not raw or len(raw) > MAX_PATH_BYTES:
        raise ValueError(f"the path {path[:60]!r}… has {len(raw)} bytes, not 1 to {MAX_PATH_BYTES}")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path or len(parts) > MAX_DEPTH:
        raise ValueError(f"the path {path!r} is not relative and plain")
    if "\\" in path or parts[0][1:2] == ":":
        raise ValueError(f"the path {path!r} means another place on Windows: rename it")
    return raw


def _check_fields(entry: TreeEntry) -> None:
    file, link = entry.kind == "file", entry.kind == "link"
    if entry.kind not in KINDS or type(entry.mode) is not int or not 0 <= entry.mode <= 0o777:
        raise ValueError(f"{entry.path!r} has an unknown kind or mode")
    if file != (isinstance(entry.digest, bytes) and len(entry.digest) == 32):
        raise ValueError(f"{entry.path!r} has no digest where there must be one, or one too many")
    if file != (type(entry.size_bytes) is int and entry.size_bytes >= 0):
        raise ValueError(f"{entry.path!r} has no size where there must be one, or one too many")
    if not file and (entry.digest is not None or entry.size_bytes is not None):
        raise ValueError(f"{entry.path!r} has a digest or a size and is no file")
    if link != isinstance(entry.target, str) or (not link and entry.target is not None):
        raise ValueError(f"{entry.path!r} has no target where there must be one, or one too many")
    if entry.target is not None and not stays_inside(entry.path, entry.target):
        raise ValueError(f"the link {entry.path!r} leads out of the tree, to {entry.target!r}")


def stays_inside(path: str, target: str) -> bool:
    """True if a link at `path` to `target` stays in the tree, whatever else the tree holds."""
    if (
        not target
        or target.startswith("/")
        or "\0" in target
        or "\\" in target
        or target[1:2] == ":"
    ):
        return False
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True
