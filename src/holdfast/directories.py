"""Directories on this machine's disk: read as a tree, and written from one without ever leaving it."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from holdfast.ahead import in_order
from holdfast.errors import Exists, InvalidValue
from holdfast.format.tree import TreeEntry, stays_inside

_WRITERS = 8  # files written at once: each waits for the disk, and the disk serves them together

Take = Callable[[Iterator[Any]], None]
Receive = Callable[[bytes, int, Take], None]  # hands the bytes of a digest to a Take, perhaps again


@dataclass(frozen=True, slots=True)
class Found:
    """One thing under the root. A file's entry has no digest yet: its bytes are still at `path`."""

    path: Path
    entry: TreeEntry
    size_bytes: int = 0  # of a file, when it was looked at


def scan_tree(root: Path) -> Iterator[Found]:
    """Everything under `root`, sorted. Links that stay inside are kept as links.

    Raises InvalidValue for a link that leaves the tree and for what is no file (device, socket, pipe).
    """
    yield from _scan(root, "")


def _scan(directory: Path, prefix: str) -> Iterator[Found]:
    with os.scandir(directory) as listing:
        items = sorted(listing, key=lambda item: os.fsencode(item.name))
    for item in items:
        path = prefix + item.name
        about = item.stat(follow_symlinks=False)
        mode = about.st_mode
        bits = stat.S_IMODE(mode) & 0o777
        if stat.S_ISLNK(mode):
            yield Found(Path(item.path), _link(item.path, path))
        elif stat.S_ISDIR(mode):
            yield Found(Path(item.path), TreeEntry(path, "directory", bits))
            yield from _scan(Path(item.path), path + "/")
        elif stat.S_ISREG(mode):
            yield Found(Path(item.path), TreeEntry(path, "file", bits), about.st_size)
        else:
            raise InvalidValue(
                f"{item.path} is neither file, directory nor link: leave it out", path=item.path
            )


def _link(place: str, path: str) -> TreeEntry:
    target = os.readlink(place)
    if not stays_inside(path, target):
        raise InvalidValue(
            f"the link {place} leads out of the directory, to {target}: copy what it points to",
            path=place,
            target=target,
        )
    return TreeEntry(path, "link", 0o777, target=target)


def extract_tree(
    entries: Iterable[TreeEntry], target: Path, receive: Receive, overwrite: bool
) -> Path:
    """Write a tree under `target`; returns `target`.

    Everything that is in the way is found before the first write. No link that lies in `target`
    already is ever followed. Raises Exists, and Corrupt when bytes are damaged.
    """
    kept = list(entries)
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise Exists(f"{target} is there and no directory: choose another place", path=str(target))
    todo = [entry for entry in kept if not _in_place(target, entry, overwrite)]
    target.mkdir(parents=True, exist_ok=True)
    for entry in todo:
        if entry.kind == "directory":
            _make_directory(target, entry.path)
    files = [entry for entry in todo if entry.kind == "file"]
    for _ in in_order(lambda entry: _write_file(target, entry, receive), files, workers=_WRITERS):
        pass
    for entry in todo:  # links last: nothing is ever written through one
        if entry.kind == "link":
            _make_link(target, entry)
    for entry in reversed(
        kept
    ):  # a directory that may not be written gets its mode after its files
        if entry.kind == "directory":
            os.chmod(target / entry.path, entry.mode | stat.S_IRWXU)
    return target


def _in_place(target: Path, entry: TreeEntry, overwrite: bool) -> bool:
    """True if exactly this is there already. Raises Exists if something else is."""
    path = target / entry.path
    _check_way(target, entry.path)
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if entry.kind == "directory" and stat.S_ISDIR(mode):
        return True
    if entry.kind == "file" and stat.S_ISREG(mode):
        if _sha256(path) == entry.digest:
            os.chmod(path, entry.mode)
            return True
        if overwrite:
            return False
    if entry.kind == "link" and stat.S_ISLNK(mode):
        if os.readlink(path) == entry.target:
            return True
        if overwrite:
            return False
    if overwrite and not stat.S_ISDIR(mode) and entry.kind != "directory":
        return False
    raise Exists(
        f"{path} is there and different: pass overwrite=True (--overwrite) to replace it",
        path=str(path),
    )


def _check_way(target: Path, path: str) -> None:
    """No directory on the way to `path` may be a link, or anything else but a directory."""
    way = target
    for part in path.split("/")[:-1]:
        way = way / part
        try:
            mode = way.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            raise Exists(f"{way} is in the way: it is no directory", path=str(way))


def _make_directory(target: Path, path: str) -> None:
    _check_way(target, path + "/x")
    (target / path).mkdir(parents=True, exist_ok=True)


def _write_file(target: Path, entry: TreeEntry, receive: Receive) -> None:
    path = target / entry.path
    _check_way(target, entry.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        receive(entry.digest or b"", entry.size_bytes or 0, partial(_copy, temporary))
        os.chmod(temporary, entry.mode)
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _copy(path: Path, pieces: Iterator[Any]) -> None:
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _make_link(target: Path, entry: TreeEntry) -> None:
    path = target / entry.path
    _check_way(target, entry.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{secrets.token_hex(8)}.part"
    os.symlink(entry.target or "", temporary)
    os.replace(temporary, path)


def _sha256(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
