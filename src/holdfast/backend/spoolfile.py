"""Open spools on local disk: a shared memory map where that is safe, `write(2)` everywhere else.

A store into a shared map is in the kernel's hands at once, as a `write` is: it survives `kill -9`, and
whoever reads the file sees it. It costs a copy instead of a system call, and keeps the interpreter's
lock, so that a busy thread of ours cannot take it away in every call of `run.log`.

The file's blocks are allocated before they are mapped. So a full disk is an error of the allocation, in
words, and never the signal that the kernel sends for a page without a block. What is allocated and not
used yet reads as zeros: docs/format/spool.md. Decision: docs/decisions/0009-mapped-spools.md.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial

from holdfast.backend.base import NEVER, Appender
from holdfast.backend.disk import datasync, told

FIRST_BYTES = 64 << 10  # what a new spool is given
STEP_BYTES = 1 << 20  # what it is given when it needs room that nobody prepared
_PAGE = mmap.ALLOCATIONGRANULARITY
# File systems that keep allocated blocks where they are, so that a store into them cannot run out of
# space. Those that write elsewhere (btrfs, zfs) or over a network are not of this kind.
_IN_PLACE = {"ext2", "ext3", "ext4", "xfs", "tmpfs"}


def open_spool(
    name: str, path: str, fd: int, size_bytes: int, sync_name: Callable[[], None]
) -> Appender:
    """An appender for the file `fd` of `size_bytes` bytes, which takes it over.

    `sync_name` makes the name survive a power cut. Raises OSError (ENOSPC).
    """
    if _is_mappable(path):
        return MappedAppender(name, fd, size_bytes, sync_name)
    return WriteAppender(name, fd, sync_name)


class WriteAppender:
    """`write` is `os.write` on the descriptor and nothing else."""

    def __init__(self, name: str, fd: int, sync_name: Callable[[], None]) -> None:
        self.name = name
        self._fd = fd
        self._sync_name: Callable[[], None] | None = sync_name  # None once that is done
        self.write: Callable[[bytes], int] = partial(os.write, fd)

    def prepare(self, ahead_bytes: int) -> int:
        return NEVER

    def sync(self) -> None:
        with told(self.name):
            datasync(self._fd)
            if self._sync_name:
                self._sync_name()
                self._sync_name = None

    def cut(self, size_bytes: int) -> None:
        with told(self.name):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - size_bytes)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class MappedAppender(WriteAppender):
    """`write` copies into a window of the file; `prepare`, in the background, makes room ahead of it."""

    def __init__(self, name: str, fd: int, size_bytes: int, sync_name: Callable[[], None]) -> None:
        super().__init__(name, fd, sync_name)
        import fcntl  # late: where there is none, nothing is mapped either

        fcntl.fcntl(fd, fcntl.F_SETFL, 0)  # O_APPEND would move `pwrite` to the end
        self._growing = threading.Lock()  # held while room is made, by either thread
        self._allocated = _PAGE * -(-size_bytes // _PAGE)
        _allocate(fd, 0, [FIRST_BYTES, self._allocated])
        self._allocated = os.fstat(fd).st_size
        self._map(size_bytes)
        self.write = self._write

    def _map(self, position: int) -> None:
        """Move the window: from the page of `position` to the end of what is allocated."""
        self._start = position // _PAGE * _PAGE
        self._window = mmap.mmap(self._fd, self._allocated - self._start, offset=self._start)
        self._at, self._end = position - self._start, len(self._window)

    def _write(self, data: bytes) -> int:
        end = self._at + len(data)
        if end > self._end:
            self._move(len(data))
            end = self._at + len(data)
        self._window[self._at : end] = data
        self._at = end
        return len(data)

    def _move(self, size_bytes: int) -> None:
        """Map what lies ahead; allocate it here if the background did not. Raises OSError (ENOSPC)."""
        with self._growing:
            position = self._start + self._at
            if position + size_bytes > self._allocated:
                self._grow(position, [max(STEP_BYTES, size_bytes), size_bytes])
            old = self._window
            self._map(position)
            old.close()

    def _grow(self, position: int, sizes: list[int]) -> None:
        ends = [_PAGE * -(-(position + size) // _PAGE) for size in sizes]
        _allocate(self._fd, self._allocated, [end - self._allocated for end in ends])
        self._allocated = os.fstat(self._fd).st_size

    def prepare(self, ahead_bytes: int) -> int:
        with self._growing:
            position = self._start + self._at
            before = self._allocated
            if self._fd >= 0 and before - position < ahead_bytes:
                with suppress(OSError):  # whoever needs the room is told that there is none
                    self._grow(position, [ahead_bytes])
                    # Bring the pages into memory here: the caller's thread would fault on each.
                    os.pwrite(self._fd, bytes(self._allocated - before), before)
            return self._allocated - position

    def cut(self, size_bytes: int) -> None:
        end = self._at
        self._at -= size_bytes
        self._window[self._at : end] = bytes(size_bytes)

    def close(self) -> None:
        """The room that is left stays: most often the file is sealed and goes at once."""
        with self._growing:
            if self._fd < 0:
                return
            self._window.close()
            super().close()


def _allocate(fd: int, offset: int, sizes: list[int]) -> None:
    """Blocks for the first of `sizes` that the disk has room for. Raises OSError (ENOSPC)."""
    for size in sizes:
        try:
            os.posix_fallocate(fd, offset, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or size == sizes[-1]:
                raise
        else:
            return


def _is_mappable(path: str) -> bool:
    if not hasattr(os, "posix_fallocate"):
        return False
    return _kind_of(os.stat(os.path.dirname(path)).st_dev) in _IN_PLACE


@lru_cache(maxsize=64)
def _kind_of(device: int) -> str:
    """The file system of a device as Linux names it; '' where that cannot be known."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                mount, _, rest = line.partition(" - ")
                if mount.split()[2] == wanted:
                    return rest.split()[0]
    except (OSError, IndexError):
        pass
    return ""
