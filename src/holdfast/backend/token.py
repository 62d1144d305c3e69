"""When has a directory surely not changed? Its inode and times say so, on the file systems that keep them.

A change within the same tick of the file system's clock leaves the times as they are, so they count
only once they are old. Network file systems answer from caches, and some that are made of other things
invent the times of directories: there is no token for them.
"""

from __future__ import annotations

import os
import time
from functools import lru_cache

_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system that is in use ticks that often
_TRUSTED = frozenset(
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "tmpfs", "overlay"]
)


def directory_token(path: str) -> str | None:
    """The token of a directory, as `Backend.token` promises it; "absent" when there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "absent"
    except OSError:
        return None
    age = time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns)
    if age < _SETTLED_NS or not _keeps_times(found.st_dev):
        return None
    return f"{found.st_dev}.{found.st_ino}.{found.st_mtime_ns}.{found.st_ctime_ns}"


@lru_cache(maxsize=64)
def _keeps_times(device: int) -> bool:
    """Is the file system of `device` known to give a directory a new time with each change in it?"""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = [line.split(" - ") for line in file]
    except OSError:
        return False  # not Linux: nobody tells which file system it is
    wanted = f"{os.major(device)}:{os.minor(device)}"
    kinds = {after.split()[0] for before, after in mounts if before.split()[2] == wanted}
    return bool(kinds) and kinds <= _TRUSTED
