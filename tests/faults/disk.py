"""What a disk may hold after a power cut, by a recorded trace of what was asked of it.

`Recorder` notes every call that changes the directory of a store. After any of them the power may go: then
of a file's bytes those are there that were fsynced, and of every sector that was written since, any state
it was in; of its length, anything from the fsynced one on. Of a directory's names those are there that its
fsync came after, and of the changes since, any. `states` gives such disks, `mounted` makes one real.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any

SECTOR = 512
Names = dict[str, int]  # of a directory: name to inode


@dataclass(frozen=True)
class Op:
    """One call: what, of which inode, where."""

    what: str
    inode: int = 0
    path: str = ""
    other: str = ""
    offset: int = 0
    data: bytes = b""
    about: tuple[Any, ...] = ()


class Recorder:
    """Notes what changes below `root`, while it is entered. For one thread at a time."""

    def __init__(self, root: Path, put: Callable[[Any, str, Any], None]) -> None:
        self.root = str(root)
        self.ops: list[Op] = []
        self.inodes = itertools.count(1)
        self.by_path: dict[str, int] = {}
        self.by_fd: dict[int, tuple[str, int, str]] = {}  # kind, inode, path
        self.ends: dict[int, int] = {}
        self._real = {name: getattr(os, name) for name in self._WATCHED}
        for name in self._WATCHED:
            put(os, name, getattr(self, f"_{name}"))

    _WATCHED = (
        "open", "close", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate",
        "link", "replace", "unlink", "mkdir",
    )  # fmt: skip

    def say(self, *about: Any) -> None:
        """Something was acknowledged: it is a part of the trace."""
        self.ops.append(Op("said", about=about))

    def _inside(self, path: Any) -> bool:
        return os.fspath(path).startswith(self.root)

    def _open(self, path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        fd = self._real["open"](path, flags, mode, **more)
        if self._inside(path):
            path = os.fspath(path)
            if flags & os.O_CREAT:
                self.by_path[path] = inode = next(self.inodes)
                self.ends[inode] = 0
                self.ops.append(Op("create", inode, path))
            kind = "dir" if os.path.isdir(path) else "file"
            self.by_fd[fd] = (kind, self.by_path.get(path, 0), path)
        return fd  # type: ignore[no-any-return]

    def _close(self, fd: int) -> None:
        self.by_fd.pop(fd, None)
        self._real["close"](fd)

    def _write(self, fd: int, data: Any) -> int:
        count = self._real["write"](fd, data)
        if fd in self.by_fd:
            self._wrote(self.by_fd[fd][1], self.ends[self.by_fd[fd][1]], bytes(data)[:count])
        return count  # type: ignore[no-any-return]

    def _pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if fd in self.by_fd:
            self._wrote(self.by_fd[fd][1], offset, bytes(data))
        return self._real["pwrite"](fd, data, offset)  # type: ignore[no-any-return]

    def _wrote(self, inode: int, offset: int, data: bytes) -> None:
        self.ends[inode] = max(self.ends[inode], offset + len(data))
        self.ops.append(Op("write", inode, offset=offset, data=data))

    def _fsync(self, fd: int) -> None:
        self._real["fsync"](fd)
        if fd in self.by_fd:
            kind, inode, path = self.by_fd[fd]
            self.ops.append(Op(f"sync {kind}", inode, path))

    _fdatasync = _fsync

    def _ftruncate(self, fd: int, size: int) -> None:
        self._real["ftruncate"](fd, size)
        if fd in self.by_fd:
            self.ends[self.by_fd[fd][1]] = size
            self.ops.append(Op("size", self.by_fd[fd][1], offset=size))

    def _posix_fallocate(self, fd: int, offset: int, size: int) -> None:
        self._real["posix_fallocate"](fd, offset, size)
        if fd in self.by_fd:
            inode = self.by_fd[fd][1]
            self.ends[inode] = max(self.ends[inode], offset + size)
            self.ops.append(Op("size", inode, offset=self.ends[inode]))

    def _link(self, old: Any, new: Any, **more: Any) -> None:
        self._real["link"](old, new, **more)
        if self._inside(new):
            inode = self.by_path[os.fspath(new)] = self.by_path[os.fspath(old)]
            self.ops.append(Op("create", inode, os.fspath(new)))

    def _replace(self, old: Any, new: Any) -> None:
        self._real["replace"](old, new)
        if self._inside(new):
            inode = self.by_path[os.fspath(new)] = self.by_path.pop(os.fspath(old))
            self.ops.append(Op("rename", inode, os.fspath(old), os.fspath(new)))

    def _unlink(self, path: Any, **more: Any) -> None:
        self._real["unlink"](path, **more)
        if self._inside(path):
            self.ops.append(Op("unlink", self.by_path.pop(os.fspath(path)), os.fspath(path)))

    def _mkdir(self, path: Any, mode: int = 0o777, **more: Any) -> None:
        self._real["mkdir"](path, mode, **more)
        if self._inside(path):
            self.ops.append(Op("mkdir", 0, os.fspath(path)))

    def window(self, fd: int, length: int, offset: int = 0) -> Any:
        """In place of `mmap.mmap`: what is stored into the map is noted as well."""
        return _Window(self, fd, length, offset)


class _Window:
    def __init__(self, recorder: Recorder, fd: int, length: int, offset: int) -> None:
        self._map = mmap(fd, length, offset=offset)
        self._recorder, self._inode, self._offset = recorder, recorder.by_fd[fd][1], offset

    def __len__(self) -> int:
        return len(self._map)

    def __setitem__(self, where: slice, data: bytes) -> None:
        self._map[where] = data
        self._recorder._wrote(self._inode, self._offset + where.start, bytes(data))

    def close(self) -> None:
        self._map.close()


@dataclass
class _File:
    synced: bytes = b""
    since: list[tuple[int, bytes]] = field(
        default_factory=list
    )  # (offset, bytes) since the last fsync
    size: int = 0

    def whole(self) -> bytes:
        data = bytearray(self.synced[: self.size].ljust(self.size, b"\0"))
        for offset, piece in self.since:
            data[offset : offset + len(piece)] = piece
        return bytes(data[: self.size])

    def sync(self) -> None:
        self.synced, self.since = self.whole(), []

    def is_dirty(self) -> bool:
        return bool(self.since) or self.size != len(self.synced)

    def left(self, how: str, chance: random.Random) -> bytes:
        """The bytes after a power cut."""
        if how == "none":
            return self.synced
        if how == "all":
            return self.whole()
        if how == "zeros":
            return self.synced[: self.size].ljust(self.size, b"\0")
        low, high = sorted((len(self.synced), self.size))
        counts = range(len(self.since) + 1)
        states = [_File(self.synced, self.since[:count], self.size).whole() for count in counts]
        sectors = range(0, max(self.size, len(self.synced)), SECTOR)
        kept = b"".join(
            chance.choice(states)[at : at + SECTOR].ljust(SECTOR, b"\0") for at in sectors
        )
        return kept[: chance.randint(low, high)]


HOW = ("none", "all", "zeros", "mixed")


class Disk:
    """What the trace up to some call has done, and which of it is sure."""

    def __init__(self) -> None:
        self.files: dict[int, _File] = {}
        self.synced: dict[str, int | None] = {}  # names that are sure; None is a directory
        self.since: list[
            tuple[str, list[tuple[str, int | str | None]]]
        ] = []  # (directory, changes)
        self.made: set[str] = set()  # directories that were not there before
        self.said: list[Any] = []

    def apply(self, op: Op) -> None:
        match op.what:
            case "create":
                self.files.setdefault(op.inode, _File())
                self._change(op.path, [(op.path, op.inode)])
            case "mkdir":
                self.made.add(op.path)
                self._change(op.path, [(op.path, None)])
            case "unlink":
                self._change(op.path, [(op.path, "gone")])
            case "rename":
                self._change(op.other, [(op.path, "gone"), (op.other, op.inode)])
            case "write":
                file = self.files[op.inode]
                file.since.append((op.offset, op.data))
                file.size = max(file.size, op.offset + len(op.data))
            case "size":
                self.files[op.inode].size = op.offset
            case "sync file":
                self.files[op.inode].sync()
            case "sync dir":
                self._sync_directory(op.path)
            case "said":
                self.said.append(op.about)

    def _change(self, path: str, changes: list[tuple[str, int | str | None]]) -> None:
        self.since.append((os.path.dirname(path), changes))

    def _sync_directory(self, path: str) -> None:
        for directory, changes in self.since:
            if directory == path:
                _rename(self.synced, changes)
        self.since = [item for item in self.since if item[0] != path]

    def states(self, chance: random.Random, most: int) -> Iterator[dict[str, bytes | None]]:
        """Disks that this one may be after a power cut: all, where they are few, else a sample."""
        seen: set[int] = set()
        for kept, how in self._choices(chance, most):
            names = dict(self.synced)
            for keep, (_, changes) in zip(kept, self.since, strict=True):
                if keep:
                    _rename(names, changes)
            tree = self._tree(names, how, chance)
            mark = hash(frozenset(tree.items()))
            if mark not in seen:
                seen.add(mark)
                yield tree

    def _choices(
        self, chance: random.Random, most: int
    ) -> Iterator[tuple[tuple[bool, ...], dict[int, str]]]:
        dirty = [inode for inode, file in self.files.items() if file.is_dirty()]
        count = 2 ** len(self.since) * len(HOW) ** len(dirty)
        if count <= most:
            for kept in itertools.product((False, True), repeat=len(self.since)):
                for hows in itertools.product(HOW, repeat=len(dirty)):
                    yield kept, dict(zip(dirty, hows, strict=True))
            return
        for turn in range(most):
            likely = chance.random() if turn > 2 else turn / 2
            kept = tuple(chance.random() < likely for _ in self.since)
            yield kept, {inode: chance.choice(HOW) for inode in dirty}

    def _tree(
        self, names: dict[str, int | None], how: dict[int, str], chance: random.Random
    ) -> dict[str, bytes | None]:
        """What can be reached: a name whose directory is not there is not there either."""
        found: dict[str, bytes | None] = {}
        for path, inode in sorted(names.items()):
            if all(above in names for above in self._made_above(path)):
                file = None if inode is None else self.files[inode]
                found[path] = (
                    None if file is None else file.left(how.get(inode or 0, "all"), chance)
                )
        return found

    def _made_above(self, path: str) -> Iterator[str]:
        while (path := os.path.dirname(path)) != "/":
            if path in self.made:
                yield path


def _rename(names: dict[str, Any], changes: list[tuple[str, Any]]) -> None:
    for path, inode in changes:
        if inode == "gone":
            names.pop(path, None)
        else:
            names[path] = inode


def mounted(tree: dict[str, bytes | None], old: str, new: Path) -> None:
    """Make the disk real, at `new` instead of `old`."""
    new.mkdir(parents=True)
    for path, data in tree.items():
        place = Path(str(new) + path.removeprefix(old))
        if data is None:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
