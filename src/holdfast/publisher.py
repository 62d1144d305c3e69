"""One background thread a remote store: sends what its writers have put on this machine, and beats for them.

No failure of the network reaches a caller. It is told once when the store stops answering, and once when it
answers again; meanwhile everything stays on this machine and is tried again.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from holdfast import process
from holdfast.errors import HoldfastError, InvalidState, InvalidValue, Unavailable
from holdfast.keeper import logger
from holdfast.liveness import BEAT_SECONDS
from holdfast.ops.publish import send_left
from holdfast.repository import Repository

VARIABLE = "HOLDFAST_PUBLISH_SECONDS"
PUBLISH_SECONDS = 5.0
LEFT_SECONDS = 30.0  # how often to look for what processes that are gone have left
_LAST_SECONDS = 5.0  # how long `close` waits for the last try to end


class Sender(Protocol):
    """A writer whose store is not on this machine."""

    run_id: str
    closed: bool
    problem: HoldfastError | None
    sent: threading.Event

    def publish(self, *, roll: bool) -> None:
        """Send what there is."""

    def beat_remote(self) -> None:
        """Renew the heartbeat."""

    @property
    def has_changes(self) -> bool:
        """True if artifacts, tags or the like wait."""


class Publisher:
    """Sends for every open writer of one remote store."""

    def __init__(self, repository: Repository, seconds: float | None = None) -> None:
        self.repository = repository.hasty()
        self._seconds = interval(seconds)
        self.reachable = True
        self._begin()
        if not repository.answered:
            self._silent(Unavailable("it was opened as this machine remembers it"))
        process.tell_of_forks(self)

    def _begin(self) -> None:
        self._writers: list[Sender] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._turn = threading.Condition()
        self._turns = 0  # how often all writers were gone through
        self._is_busy = False
        self._thread: threading.Thread | None = None
        self._closed = False
        self._told: dict[str, str] = {}

    def add(self, writer: Sender) -> None:
        """Send for `writer` from now on, until it is closed and all of it is sent."""
        with self._lock:
            if writer not in self._writers:
                self._writers.append(writer)
        self.start()

    def remove(self, writer: Sender) -> None:
        with self._lock:
            if writer in self._writers:
                self._writers.remove(writer)

    def start(self) -> None:
        """Begin to send, also what processes that are gone have left."""
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._run, name="holdfast-publisher", daemon=True
                )
                self._thread.start()

    def hurry(self) -> None:
        """Send now."""
        self._wake.set()

    def wait(
        self,
        writer: Sender,
        done: threading.Event,
        timeout_seconds: float | None,
        *,
        patient: bool = True,
    ) -> bool:
        """Have `writer` sent and wait until it is `done`, or cannot be sent, or time is up; unless
        `patient`, also no longer than the store answers."""
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while not done.is_set() and not self._closed:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            if not self._next_turn(left) or writer.problem is not None:
                break
            if not self.reachable and not patient:
                break
            if not self.reachable:
                done.wait(0.2 if left is None else min(0.2, left))
        return done.is_set()

    def _next_turn(self, timeout_seconds: float | None) -> bool:
        """Wait for a turn that begins after this call; False when time is up."""
        with self._turn:
            # One that is under way may have passed the writer already.
            wanted = self._turns + (2 if self._is_busy else 1)
            self._wake.set()
            return self._turn.wait_for(
                lambda: self._turns >= wanted or self._closed, timeout_seconds
            )

    def catch_up(self, timeout_seconds: float) -> bool:
        """Have artifacts, tags and the like of every writer here sent, if the store answers."""
        if not self.reachable or not any(writer.has_changes for writer in self._now()):
            return True
        return self._next_turn(timeout_seconds)

    def writers(self, run_id: str) -> list[Sender]:
        """Those of a run that are not wholly sent."""
        return [writer for writer in self._now() if writer.run_id == run_id]

    def close(self) -> None:
        """Stop; what is not sent stays on this machine."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread and thread is not threading.current_thread():
            thread.join(_LAST_SECONDS)

    def after_fork(self) -> None:
        """In a child process: no thread runs here, and what the parent wrote is the parent's to send."""
        closed = self._closed
        self._begin()
        self._closed = closed

    def _now(self) -> list[Sender]:
        with self._lock:
            return list(self._writers)

    def _run(self) -> None:
        now = time.monotonic()
        next_beat, next_left = now + BEAT_SECONDS, now
        while not self._closed:
            beat, left = now >= next_beat, now >= next_left
            next_beat = now + BEAT_SECONDS if beat else next_beat
            next_left = now + LEFT_SECONDS if left else next_left
            self._take_turn(beat, left)
            self._wake.wait(self._seconds)
            self._wake.clear()
            now = time.monotonic()

    def _take_turn(self, beat: bool, left: bool) -> None:
        with self._turn:
            self._is_busy = True
        try:
            self._knock()
            for writer in self._now():
                self._publish(writer, beat)
            if left:
                self._send_left()
        except Unavailable as error:
            self._silent(error)
        except HoldfastError as error:  # of the knock: access refused, or no store there any more
            self._tell("what waits", error.message)
        except Exception:  # noqa: BLE001 - nothing here may stop the sending for good
            logger().exception(
                "%s: unexpected failure in the background", self.repository.backend.url
            )
        finally:
            with self._turn:
                self._is_busy = False
                self._turns += 1
                self._turn.notify_all()

    def _knock(self) -> None:
        """If the store did not answer, see whether it does now, before anything is prepared for it."""
        if not self.reachable:
            if not self.repository.is_there():
                raise Unavailable(f"{self.repository.backend.url} is another store than before")
            self.reachable = True
            logger().warning("%s answers again: sending what waits", self.repository.backend.url)

    def _publish(self, writer: Sender, beat: bool) -> None:
        try:
            writer.publish(roll=self.reachable)
            if beat:
                writer.beat_remote()
            writer.problem = None
        except Unavailable:
            raise
        except HoldfastError as error:
            writer.problem = error
            self._tell(f"run {writer.run_id}", error.message)
        except Exception:  # noqa: BLE001 - nothing here may stop a training
            logger().exception("run %s: unexpected failure in the background", writer.run_id)
        if writer.sent.is_set() or isinstance(writer.problem, InvalidState):
            self.remove(writer)

    def _send_left(self) -> None:
        try:
            for item in send_left(self.repository, wait=False):
                self._tell(f"run {item.run_id}", str(item.problem))
        except Unavailable:
            raise
        except HoldfastError as error:
            self._tell("what was left", error.message)

    def _tell(self, what: str, message: str) -> None:
        if self._told.get(what) != message:
            self._told[what] = message
            logger().warning(
                "%s is not sent: %s (it stays on this machine; training goes on)",
                what, message,
            )  # fmt: skip

    def _silent(self, error: HoldfastError) -> None:
        if self.reachable:
            self.reachable = False
            logger().warning(
                "%s does not answer: %s (training goes on; what it writes stays on this machine "
                "until then)",
                self.repository.backend.url, error.message,
            )  # fmt: skip


def interval(seconds: float | None) -> float:
    """Seconds between two publishings: given, else $HOLDFAST_PUBLISH_SECONDS, else 5. Raises InvalidValue."""
    text = os.environ.get(VARIABLE, "") if seconds is None else str(seconds)
    try:
        found = float(text) if text else PUBLISH_SECONDS
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise InvalidValue(
            f"publish_seconds is {text!r}: give the seconds between two publishings", value=text
        )
    return found
