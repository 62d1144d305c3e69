"""Files of a remote store kept on this machine for reading again: bounded, shared, and checked.

One directory serves every process and every store of a user. A file appears whole at its name, is read
with its checksum, and may be taken away at any time, also while another process reads it: whatever
goes wrong here means only that the store is asked. The files used longest ago go first.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from blake3 import blake3

from holdfast.errors import InvalidValue
from holdfast.names import size_of

VARIABLE = "HOLDFAST_CACHE"
DEFAULT_BYTES = 10 << 30
_OFF = {"0", "off", "false", "no"}
_SUM_BYTES = 32
_TOUCH_SECONDS = 60.0  # a file's time is renewed no more often
_STALE_SECONDS = 3600.0  # a temporary file of that age is nobody's
_SWEEPS = 64  # a process looks for what to take away each time it has added this part of the limit


@dataclass(frozen=True, slots=True)
class Held:
    """What the cache has."""

    place: str
    files: int
    size_bytes: int
    limit_bytes: int


class CacheFiles:
    """The directory `root`; never more than about `limit_bytes` in it."""

    def __init__(self, root: str, limit_bytes: int) -> None:
        self.root = root
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._added = limit_bytes  # so that the first file is a reason to look

    def get(self, name: str) -> bytes | None:
        """The bytes kept under `name`; None if they are not, or not as they were. Then they are dropped."""
        path = self._path(name)
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.read()
                about = os.fstat(file.fileno())
        except OSError:
            return None
        body = memoryview(data)[_SUM_BYTES:]
        if len(data) < _SUM_BYTES or blake3(body).digest() != data[:_SUM_BYTES]:
            self.drop(name)
            return None
        if time.time() - about.st_mtime > _TOUCH_SECONDS:
            with suppress(OSError):
                os.utime(path)
        return bytes(body)

    def put(self, name: str, data: bytes) -> None:
        """Keep the bytes; a disk that is full, or may not be written, is no error."""
        if len(data) > self.limit_bytes // 4:
            return
        path = self._path(name)
        temporary = f"{path}.{secrets.token_hex(4)}.tmp"
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            with open(temporary, "xb", buffering=0) as file:
                _write(file.fileno(), blake3(data).digest(), data)
            os.replace(temporary, path)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary)
            return
        self._count(len(data) + _SUM_BYTES)

    def drop(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(self._path(name))

    def held(self) -> Held:
        """What is there now."""
        files = list(self._files())
        return Held(self.root, len(files), sum(size for _, size, _ in files), self.limit_bytes)

    def shrink(self, size_bytes: int) -> int:
        """Take away what was used longest ago until no more than `size_bytes` are left; how many went."""
        files = sorted(self._files())
        total, gone = sum(size for _, size, _ in files), 0
        for at, size, path in files:
            is_stale = path.endswith(".tmp") and time.time() - at > _STALE_SECONDS
            if total <= size_bytes and not is_stale:
                continue
            with suppress(FileNotFoundError, PermissionError):
                os.unlink(path)
            total, gone = total - size, gone + 1
        return gone

    def _count(self, size: int) -> None:
        with self._lock:
            self._added += size
            if self._added < self.limit_bytes // _SWEEPS:
                return
            self._added = 0
        # Others add meanwhile; so that all of them stay within the limit, more than is needed goes.
        if sum(size for _, size, _ in self._files()) > self.limit_bytes * 3 // 4:
            self.shrink(self.limit_bytes * 5 // 8)

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """(last use, bytes, path) of every file."""
        for folder in _listed(self.root):
            for item in _listed(folder.path):
                with suppress(OSError):
                    about = item.stat(follow_symlinks=False)
                    yield about.st_mtime, about.st_size, item.path

    def _path(self, name: str) -> str:
        key = hashlib.sha256(name.encode()).hexdigest()[:40]
        return os.path.join(self.root, key[:2], key)


def _listed(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _write(fd: int, *parts: bytes) -> None:
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]


def user_cache() -> CacheFiles | None:
    """The cache of this user: in $HOLDFAST_CACHE_DIR, else in the user's cache directory, as large as
    $HOLDFAST_CACHE says (10 GiB without it); None where that says `off`. Raises InvalidValue."""
    text = os.environ.get(VARIABLE, "").strip()
    if text.lower() in _OFF:
        return None
    folder = os.environ.get("HOLDFAST_CACHE_DIR")
    if not folder:
        from platformdirs import user_cache_dir

        folder = user_cache_dir("holdfast", appauthor=False)
    limit = size_of(text, VARIABLE) if text else DEFAULT_BYTES
    if limit < 1 << 20:
        raise InvalidValue(f"{VARIABLE} is {text!r}: give at least 1MiB, or off", value=text)
    return CacheFiles(os.path.join(folder, "files"), limit)
