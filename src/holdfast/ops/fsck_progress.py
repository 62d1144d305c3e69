"""What a check that was stopped has done, so that the next one goes on: a file in the user's cache.

Only pieces in which nothing was found are noted, so that what was found is looked at again. The file goes
when a check comes to its end. Losing it costs time and nothing else.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any, TextIO

from holdfast.digest import Digest

STALE_SECONDS = 7 * 24 * 3600  # what was right so long ago is checked again
_EVERY_SECONDS = 1.0  # what is noted is on disk by then, so that little is lost


def folder() -> str:
    """The user's cache directory, or $HOLDFAST_CACHE_DIR."""
    from platformdirs import user_cache_dir

    root = os.environ.get("HOLDFAST_CACHE_DIR") or user_cache_dir("holdfast", appauthor=False)
    return os.path.join(root, "fsck")


def key_of(job: str, piece: Any) -> str:
    """A short name of a piece: the same for the same work on the same files."""
    return Digest.of(f"{job} {piece!r}".encode()).hex[:24]


class Progress:
    """The pieces that are done, of one kind of check of one store; None of them without a file."""

    def __init__(self, path: str | None = None, done: set[str] | None = None) -> None:
        self.path = path
        self.done = done or set()
        self._file: TextIO | None = None
        self._flushed = time.monotonic()

    @classmethod
    def of(cls, kind: str) -> Progress:
        """What is left of an earlier check of this kind."""
        path = os.path.join(folder(), Digest.of(kind.encode()).hex[:32])
        with suppress(OSError):
            if time.time() - os.stat(path).st_mtime < STALE_SECONDS:
                with open(path, encoding="ascii", errors="replace") as file:
                    lines = file.read().splitlines()
                return cls(path, {line for line in lines if len(line) == 24})
            os.unlink(path)
        return cls(path)

    def add(self, key: str) -> None:
        """Note that a piece is done, and that nothing was found in it. A full disk is no reason to stop."""
        self.done.add(key)
        if self.path is None:
            return
        with suppress(OSError):
            if self._file is None:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
                self._file = open(self.path, "a", encoding="ascii")
            self._file.write(key + "\n")
            if time.monotonic() - self._flushed > _EVERY_SECONDS:
                self._file.flush()
                self._flushed = time.monotonic()

    def close(self, *, ended: bool) -> None:
        """With `ended` the next check begins anew."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
        if ended and self.path is not None:
            with suppress(OSError):
                os.unlink(self.path)
