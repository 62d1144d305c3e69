"""One background thread a store: makes spools durable, seals full ones, and beats for open runs.

It never holds up a caller of `run.log`, and its failures never reach one: they are kept and
raised by `flush` and `finish`, which are asked to be certain.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Protocol

from holdfast import process
from holdfast.errors import HoldfastError
from holdfast.liveness import BEAT_SECONDS

SYNC_SECONDS = 1.0


class Kept(Protocol):
    """What the keeper looks after."""

    run_id: str

    def tend(self, *, sync: bool) -> None:
        """Make room ahead of what is logged, seal if full, and `sync` when it is time."""

    def beat(self) -> None:
        """Show that this writer lives."""

    def after_fork(self) -> None:
        """Forget what belongs to the parent process."""


class Keeper:
    """Looks after every open writer of one store."""

    def __init__(self) -> None:
        self._writers: list[Kept] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        process.tell_of_forks(self)

    def add(self, writer: Kept) -> None:
        """Look after `writer` from now on."""
        with self._lock:
            if writer not in self._writers:
                self._writers.append(writer)
            self._start()

    def remove(self, writer: Kept) -> None:
        with self._lock:
            if writer in self._writers:
                self._writers.remove(writer)

    def hurry(self) -> None:
        """A spool is full or will be soon: look after it now."""
        self._wake.set()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closed = True
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread and thread is not threading.current_thread():
            thread.join()

    def after_fork(self) -> None:
        """In a child process: no thread runs here, and locks may be held by nobody."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread = None
        for writer in self._writers:
            writer.after_fork()
        self._writers = []

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="holdfast-keeper", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        now = time.monotonic()
        next_sync, next_beat = now + SYNC_SECONDS, now + BEAT_SECONDS
        while not self._closed:
            self._wake.wait(max(0.0, next_sync - time.monotonic()))
            self._wake.clear()
            now = time.monotonic()
            sync, beat = now >= next_sync, now >= next_beat
            for writer in list(self._writers):
                self._tend(writer, sync, beat)
            next_sync = time.monotonic() + SYNC_SECONDS if sync else next_sync
            next_beat = now + BEAT_SECONDS if beat else next_beat

    def _tend(self, writer: Kept, sync: bool, beat: bool) -> None:
        try:
            writer.tend(sync=sync)
            if beat:
                writer.beat()
        except HoldfastError as error:
            logger().warning(
                "run %s: %s (training goes on; it will be tried again)", writer.run_id, error
            )
        except Exception:
            log = logger()
            log.exception("run %s: unexpected failure in the background", writer.run_id)


def logger() -> Any:
    """Where the background says what went wrong."""
    import logging  # late: most processes never have anything to say

    return logging.getLogger("holdfast")
