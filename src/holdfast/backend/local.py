"""Local disk: every name appears whole, once, and stays.

fsspec's own local file system shows half-written files and lets two racing creators both win, so this
backend is our own: temporary file in the target's directory, fsync, `link` to the final name (which
fails if it is taken), fsync of the directory. See docs/decisions/0003-local-backend.md.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from holdfast.backend.base import CHUNK_BYTES, Appender, Capabilities, Stat
from holdfast.backend.disk import sync_directories, told
from holdfast.backend.spoolfile import open_spool
from holdfast.backend.token import directory_token
from holdfast.errors import BackendError, NameExists

_TEMPORARY = ".tmp-"


class LocalBackend:
    """The directory `root`, which is created with the first name."""

    capabilities = Capabilities(atomic_put=True, exclusive_create=True, durable_put=True)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self.url = self.root
        self._made: set[str] = set()  # directories that are there
        self._durable: set[str] = set()  # those of them that survive a power cut

    def get(self, name: str) -> bytes:
        with told(name), open(self._path(name), "rb", buffering=0) as file:
            return file.read()

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        return [self.get(name) for name in names]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        with told(name):
            fd = os.open(self._path(name), os.O_RDONLY)
            try:
                return _pread(fd, length, offset)
            finally:
                os.close(fd)

    def chunks(self, name: str) -> Iterator[bytes]:
        with told(name), open(self._path(name), "rb", buffering=0) as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    def stat(self, name: str) -> Stat:
        with told(name):
            found = os.stat(self._path(name))
        return Stat(name, found.st_size, found.st_mtime_ns)

    def create(self, name: str, data: bytes) -> None:
        staged = self._stage(os.path.dirname(self._path(name)))
        try:
            staged.write(data)
            if not staged.commit(name):
                raise NameExists(f"{name} is taken already", name=name)
        finally:
            staged.abort()

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        staged = self._stage(os.path.dirname(path))
        try:
            staged.write(data)
            staged.rename(path)
        finally:
            staged.abort()

    def stage(self) -> LocalStaged:
        return self._stage(os.path.join(self.root, "blobs"))

    def walk(self, prefix: str) -> Iterator[Stat]:
        top = self._path(prefix.rstrip("/"))
        yield from self._walk(top, prefix if prefix.endswith("/") or not prefix else prefix + "/")

    def temporaries(self) -> Iterator[str]:
        """The names of files on their way in, which no listing shows: those of writers, living and dead."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.startswith(_TEMPORARY):
                    path = os.path.relpath(os.path.join(folder, name), self.root)
                    yield path.replace(os.sep, "/")

    def remove_temporaries(self, seconds: float) -> None:
        """Remove files on their way in that nobody has touched for so long."""
        for name in list(self.temporaries()):
            path = self._path(name)
            with told(name), suppress(FileNotFoundError):
                if time.time() - os.stat(path).st_mtime > seconds:
                    os.unlink(path)

    def folders(self, prefix: str) -> list[str]:
        with told(prefix):
            try:
                with os.scandir(self._path(prefix.rstrip("/"))) as found:
                    return sorted(item.name for item in found if item.is_dir(follow_symlinks=False))
            except FileNotFoundError:
                return []

    def names(self, prefix: str) -> list[str]:
        with told(prefix):
            try:
                found = os.listdir(self._path(prefix.rstrip("/")))
            except FileNotFoundError:
                return []
        return [name for name in found if not name.startswith(_TEMPORARY)]

    def token(self, prefix: str) -> str | None:
        return directory_token(self._path(prefix.rstrip("/")))

    def delete(self, name: str) -> None:
        with told(name), suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def append(self, name: str, header: bytes) -> Appender:
        """The header appears with the name, in one step, and is durable with the first `sync`."""
        staged = self._stage(os.path.dirname(self._path(name)))
        try:
            staged.write(header)
            return staged.open(name)
        finally:
            staged.abort()

    def _path(self, name: str) -> str:
        if ".." in name and ".." in name.split(
            "/"
        ):  # checked at the door; no other store's list is
            raise BackendError(f"{name!r} leads out of the store: it was not touched", name=name)
        return os.path.join(self.root, *name.split("/")) if name else self.root

    def _stage(self, directory: str) -> LocalStaged:
        self.ensure(directory)
        return LocalStaged(self, directory)

    def ensure(self, directory: str) -> None:
        """Make `directory` and its parents; they survive a power cut with the first `sync_names`."""
        if directory in self._made:
            return
        with told(directory):
            if not os.path.isdir(directory):
                self.ensure(os.path.dirname(directory))
                with suppress(FileExistsError):
                    os.mkdir(directory)
            elif len(directory) <= len(self.root):
                self._durable.add(directory)  # it was there before the store
        self._made.add(directory)

    def sync_names(self, directory: str) -> None:
        """Make the names in `directory`, and those of the directories above it, survive a power cut.

        One that another process made is synced by us once: that process may not have come to it yet.
        """
        wanted = [directory]
        while self._is_new(wanted[-1]):
            wanted.append(os.path.dirname(wanted[-1]))
        sync_directories(wanted)
        self._durable.update(wanted[:-1])

    def _is_new(self, directory: str) -> bool:
        inside = len(directory) > len(self.root)
        return directory not in self._durable and (inside or directory in self._made)

    def forget(self) -> None:
        """Directories went away behind our back: nothing is known of any."""
        self._made.clear()
        self._durable.clear()

    def _walk(self, directory: str, prefix: str) -> Iterator[Stat]:
        with told(prefix):
            try:
                with os.scandir(directory) as found:
                    items = sorted(found, key=lambda item: item.name)
            except (FileNotFoundError, NotADirectoryError):
                return
        for item in items:
            if item.is_dir(follow_symlinks=False):
                yield from self._walk(item.path, f"{prefix}{item.name}/")
            elif not item.name.startswith(_TEMPORARY):
                with suppress(FileNotFoundError):
                    about = item.stat(follow_symlinks=False)
                    yield Stat(prefix + item.name, about.st_size, about.st_mtime_ns)


class LocalStaged:
    """A temporary file that becomes a name by `link` or `rename`."""

    def __init__(self, backend: LocalBackend, directory: str) -> None:
        self._backend = backend
        self._temporary = os.path.join(directory, _TEMPORARY + secrets.token_hex(8))
        self._has_name = False
        with told(self._temporary):
            self._fd = self._open(directory)

    def _open(self, directory: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND
        try:
            return os.open(self._temporary, flags, 0o666)
        except FileNotFoundError:  # the directory went away behind our back
            self._backend.forget()
            self._backend.ensure(directory)
            return os.open(self._temporary, flags, 0o666)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        with told(self._temporary):
            while view:
                view = view[os.write(self._fd, view) :]

    def commit(self, name: str) -> bool:
        path = self._backend._path(name)
        self._backend.ensure(os.path.dirname(path))
        with told(name):
            os.fsync(self._fd)
            if not self._link(path):
                return False
            self._backend.sync_names(os.path.dirname(path))
        return True

    def _link(self, path: str) -> bool:
        """Give the bytes their name, without waiting for the disk; False if it is taken."""
        with told(path):
            try:
                os.link(self._temporary, path)
            except FileExistsError:
                return False
            os.unlink(self._temporary)  # before the directory's fsync, which then covers both
            self._has_name = True
        return True

    def open(self, name: str) -> Appender:
        """Publish under `name`, without waiting for the disk, and go on writing. Raises NameExists."""
        path = self._backend._path(name)
        with told(name):
            size = os.lseek(self._fd, 0, os.SEEK_END)
            named = partial(self._backend.sync_names, os.path.dirname(path))
            appender = open_spool(name, path, self._fd, size, named)
            if not self._link(path):
                raise NameExists(f"{name} is taken already", name=name)
        self._fd = -1
        return appender

    def replace(self, name: str) -> None:
        path = self._backend._path(name)
        with told(name):
            os.fsync(self._fd)
        self.rename(path)
        with told(name):
            self._backend.sync_names(os.path.dirname(path))

    def rename(self, path: str) -> None:
        """`replace` without waiting for the disk."""
        with told(path):
            os.replace(self._temporary, path)
            self._has_name = True

    def abort(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if not self._has_name:
                with suppress(OSError):
                    os.unlink(self._temporary)


def _pread(fd: int, length: int, offset: int) -> bytes:
    data = os.pread(fd, length, offset)
    while len(data) < length:  # one call gives at most 2 GiB, and may give less
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data
