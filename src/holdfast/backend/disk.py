"""What everything on local disk needs: our errors for the kernel's, and names that survive a power cut."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import (
    AccessDenied,
    BackendError,
    HoldfastError,
    NameNotFound,
    StorageFull,
)

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}

datasync = getattr(os, "fdatasync", os.fsync)


def sync_directory(directory: str | Path) -> None:
    """Make the names in `directory` survive a power cut."""
    if os.name == "nt":  # pragma: no cover - Windows cannot open a directory, and needs no fsync
        return
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directories(directories: Collection[str]) -> None:
    """`sync_directory` of each, at once: a disk takes as long for several flushes as for one."""
    first, *others = directories
    failed: list[OSError] = []

    def sync(directory: str) -> None:
        try:
            sync_directory(directory)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=sync, args=(each,), daemon=True) for each in others]
    for thread in threads:
        thread.start()
    sync(first)
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


@contextmanager
def told(name: str) -> Iterator[None]:
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
