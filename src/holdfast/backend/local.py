"""Local disk: every name appears whole, once, and stays.

fsspec's own local file system shows half-written files and lets two racing creators both win, so this
backend is our own: temporary file in the target's directory, fsync, `link` to the final name (which
fails if it is taken), fsync of the directory. See docs/decisions/0003-local-backend.md.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from holdfast.backend.base import CHUNK_BYTES, Capabilities, Stat
from holdfast.errors import (
    AccessDenied,
    BackendError,
    HoldfastError,
    NameExists,
    NameNotFound,
    StorageFull,
)

_TEMPORARY = ".tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class LocalBackend:
    """The directory `root`, which is created with the first name."""

    capabilities = Capabilities(atomic_put=True, exclusive_create=True, durable_put=True)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)
        self.url = self.root
        self._known: set[str] = set()

    def get(self, name: str) -> bytes:
        with _mapped(name), open(self._path(name), "rb", buffering=0) as file:
            return file.read()

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        return [self.get(name) for name in names]

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        with _mapped(name):
            fd = os.open(self._path(name), os.O_RDONLY)
            try:
                return _pread(fd, length, offset)
            finally:
                os.close(fd)

    def chunks(self, name: str) -> Iterator[bytes]:
        with _mapped(name), open(self._path(name), "rb", buffering=0) as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece

    def stat(self, name: str) -> Stat:
        with _mapped(name):
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

    def folders(self, prefix: str) -> list[str]:
        with _mapped(prefix):
            try:
                with os.scandir(self._path(prefix.rstrip("/"))) as found:
                    return sorted(item.name for item in found if item.is_dir(follow_symlinks=False))
            except FileNotFoundError:
                return []

    def delete(self, name: str) -> None:
        with _mapped(name), suppress(FileNotFoundError):
            os.unlink(self._path(name))

    def append(self, name: str, header: bytes) -> LocalAppender:
        """The header appears with the name, in one step, and is durable with the first `sync`."""
        path = self._path(name)
        staged = self._stage(os.path.dirname(path))
        try:
            staged.write(header)
            if not staged.link(path):
                raise NameExists(f"{name} is taken already", name=name)
            return LocalAppender(name, path, staged.take())
        finally:
            staged.abort()

    def _path(self, name: str) -> str:
        return os.path.join(self.root, *name.split("/")) if name else self.root

    def _stage(self, directory: str) -> LocalStaged:
        self.ensure(directory)
        return LocalStaged(self, directory)

    def ensure(self, directory: str) -> None:
        """Make `directory` and its parents, each durable in the one above it."""
        if directory in self._known:
            return
        with _mapped(directory):
            if not os.path.isdir(directory):
                parent = os.path.dirname(directory)
                if parent != directory:
                    self.ensure(parent)
                with suppress(FileExistsError):
                    os.mkdir(directory)
                sync_directory(parent)
        self._known.add(directory)

    def _walk(self, directory: str, prefix: str) -> Iterator[Stat]:
        with _mapped(prefix):
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
        with _mapped(self._temporary):
            self._fd = self._open(directory)

    def _open(self, directory: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND
        try:
            return os.open(self._temporary, flags, 0o666)
        except FileNotFoundError:  # the directory went away behind our back
            self._backend._known.clear()
            self._backend.ensure(directory)
            return os.open(self._temporary, flags, 0o666)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        with _mapped(self._temporary):
            while view:
                view = view[os.write(self._fd, view) :]

    def commit(self, name: str) -> bool:
        path = self._backend._path(name)
        self._backend.ensure(os.path.dirname(path))
        with _mapped(name):
            os.fsync(self._fd)
            if not self.link(path):
                return False
            sync_directory(os.path.dirname(path))
        return True

    def link(self, path: str) -> bool:
        """Give the bytes their name, without waiting for the disk; False if it is taken."""
        with _mapped(path):
            try:
                os.link(self._temporary, path)
            except FileExistsError:
                return False
            os.unlink(self._temporary)  # before the directory's fsync, which then covers both
        return True

    def take(self) -> int:
        """The descriptor, which is the caller's from now on."""
        fd, self._fd = self._fd, -1
        return fd

    def replace(self, name: str) -> None:
        path = self._backend._path(name)
        with _mapped(name):
            os.fsync(self._fd)
        self.rename(path)
        with _mapped(name):
            sync_directory(os.path.dirname(path))

    def rename(self, path: str) -> None:
        """`replace` without waiting for the disk."""
        with _mapped(path):
            os.replace(self._temporary, path)

    def abort(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with suppress(OSError):
                os.unlink(self._temporary)


class LocalAppender:
    """An open spool; `write` is `os.write` on its descriptor and nothing else."""

    def __init__(self, name: str, path: str, fd: int) -> None:
        self.name = name
        self._path = path
        self._fd = fd
        self._named = False  # does its name survive a power cut?
        self.write: Callable[[bytes], int] = partial(os.write, fd)

    def sync(self) -> None:
        with _mapped(self.name):
            _datasync(self._fd)
            if not self._named:
                sync_directory(os.path.dirname(self._path))
                self._named = True

    def cut(self, size_bytes: int) -> None:
        with _mapped(self.name):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - size_bytes)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


_datasync = getattr(os, "fdatasync", os.fsync)


def sync_directory(directory: str | Path) -> None:
    """Make the names in `directory` survive a power cut."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open a directory, and needs no fsync
        return
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _pread(fd: int, length: int, offset: int) -> bytes:
    data = os.pread(fd, length, offset)
    while len(data) < length:  # one call gives at most 2 GiB, and may give less
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


@contextmanager
def _mapped(name: str) -> Iterator[None]:
    """Turn OSError into our errors: the one place that does."""
    try:
        yield
    except HoldfastError:
        raise
    except FileNotFoundError as error:
        raise NameNotFound(f"there is no {name}", name=name) from error
    except OSError as error:
        raise _error_of(error, name) from error


def _error_of(error: OSError, name: str) -> HoldfastError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFull(
            f"the disk is full: {name} was not written; free space, then go on", name=name
        )
    if error.errno in _DENIED:
        return AccessDenied(f"no access to {name}: {reason}; check its permissions", name=name)
    return BackendError(f"{name}: {reason}", name=name, errno=error.errno)
