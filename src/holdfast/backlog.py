"""How much may wait on this machine for a remote store. Points always may; artifacts up to a limit."""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from holdfast import process
from holdfast.errors import BackendError, StorageFull
from holdfast.names import size_of
from holdfast.outbox import outboxes
from holdfast.repository import Repository

VARIABLE = "HOLDFAST_BACKLOG"
DEFAULT_BYTES = 8 << 30
_COUNT_SECONDS = (
    1.0  # how long a count of what lies on the disk is good, for other processes add to it
)


class Sends(Protocol):
    """Who makes the backlog smaller."""

    reachable: bool

    def hurry(self) -> None:
        """Send now."""


class Backlog:
    """The artifacts of all processes of this machine that wait for one store.

    An artifact is admitted while less than `limit_bytes` wait, so one of any size is when none does.
    While the store answers, one that is too many waits until enough is sent; while it does not, it is
    refused, since waiting would stop the training.
    """

    def __init__(self, repository: Repository, limit_bytes: int | None) -> None:
        self._repository = repository
        self.limit_bytes = limit(limit_bytes)
        self.after_fork()
        process.tell_of_forks(self)

    def after_fork(self) -> None:
        """In a child process: what others do is not known, and nobody here holds a lock."""
        self._lock = threading.Lock()
        self._counted = (0.0, 0)  # (when, bytes)
        self._less = threading.Condition()

    def admit(self, sends: Sends) -> None:
        """Return when one more artifact may come. Raises StorageFull."""
        while self.size_bytes() >= self.limit_bytes:
            if not sends.reachable:
                raise StorageFull(
                    f"{self._repository.backend.url} does not answer, and {self.size_bytes():,} bytes of "
                    f"artifacts wait on this machine for it: the artifact was not taken. "
                    f"{VARIABLE} or backlog_bytes raises the limit of {self.limit_bytes:,}",
                    size_bytes=self.size_bytes(),
                    limit_bytes=self.limit_bytes,
                )
            sends.hurry()
            with self._less:
                self._less.wait(_COUNT_SECONDS)

    def size_bytes(self) -> int:
        """What waits now."""
        with self._lock:
            at, size = self._counted
            if not at or time.monotonic() - at > _COUNT_SECONDS:
                size = self._count()
                self._counted = (time.monotonic(), size)
            return size

    def add(self, size_bytes: int) -> None:
        with self._lock:
            self._counted = (self._counted[0], self._counted[1] + size_bytes)

    def look_again(self) -> None:
        """Something was sent."""
        with self._lock:
            self._counted = (0.0, 0)
        with self._less:
            self._less.notify_all()

    def _count(self) -> int:
        try:
            return sum(outbox.size_bytes() for outbox in outboxes(self._repository.state))
        except BackendError:  # files go away while they are counted
            return self._counted[1]


def limit(given: int | None) -> int:
    """The limit in bytes: what is given, else $HOLDFAST_BACKLOG, else 8 GiB. Raises InvalidValue."""
    text = str(given) if given is not None else os.environ.get(VARIABLE, "")
    return size_of(text, VARIABLE) if text else DEFAULT_BYTES
