"""The outbox of one process that writes one run of a remote store: files of this machine's state directory.

What is in it survives a power cut and waits to be sent; `ops/publish.py` sends it. See
docs/format/outbox.md.
"""

from __future__ import annotations

import math
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from holdfast import process
from holdfast.backend.base import Backend
from holdfast.backend.local import LocalBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import Corrupt, InvalidState, NameNotFound
from holdfast.format import layout
from holdfast.format import outbox as files
from holdfast.format.outbox import FOLDER, Owner, Pending, Wish

_OWNER, _CHANGES, _LOCK = "owner", "changes/", "lock"
STAGED = ("blobs/", "recipes/")


@dataclass(slots=True)
class _Hold:
    """Artifacts (their digests in hex) whose files no sender removes before change `until` is sent; inf
    while they are being stored."""

    artifacts: set[str] = field(default_factory=set)
    until: float = math.inf


class Outbox:
    """Changes in order, and the artifacts that they need. Thread-safe.

    In `place` are blobs and recipes that are sent as they are; `originals` are sent as what is made of
    them, which is in `ready` (ops/forward.py).
    """

    def __init__(self, state: LocalBackend, owner: Owner) -> None:
        self.owner = owner
        self.name = f"{FOLDER}{owner.run_id}@{owner.writer}/"
        self.place = LocalBackend(os.path.join(state.root, *self.name.rstrip("/").split("/")))
        self.originals = LocalBackend(os.path.join(self.place.root, "originals"))
        self.ready = LocalBackend(os.path.join(self.place.root, "ready"))
        self.wishes: dict[str, Wish] = {}  # of what is being stored just now, by key
        self._holds: list[_Hold] = []
        self._lock = threading.Lock()
        self._next: int | None = None

    @classmethod
    def begin(cls, state: LocalBackend, run_id: str, writer: str, rank: int | None) -> Outbox:
        """A new one, which this process owns."""
        outbox = cls(state, Owner(run_id, writer, rank, process.identity()))
        outbox.place.create(_OWNER, files.encode_owner(outbox.owner))
        return outbox

    @property
    def spool_prefix(self) -> str:
        """What the names of its writer's spools begin with."""
        return f"{layout.spools(self.owner.run_id)}{self.owner.writer}-"

    def add(self, *pending: Pending) -> None:
        """Return when the changes survive a power cut. Raises BackendError."""
        with self._lock:
            for one in pending:
                if self._next is None:
                    self._next = max(self._numbers(), default=-1) + 1
                self.place.create(_change(self._next), files.encode_pending(one))
                self._next += 1

    def pending(self) -> tuple[list[tuple[int, Pending]], Corrupt | None]:
        """(number, change) of all that is not sent yet, in order, up to a damaged one; and that damage."""
        found = []
        for number in sorted(self._numbers()):
            try:
                found.append((number, self._read(number)))
            except Corrupt as error:
                return found, error
        return found, None

    def has_changes(self) -> bool:
        return bool(self._numbers())

    def wish(self, key: str, wish: Wish) -> None:
        """An original for the artifact `key` is going to be stored: none that is there goes until
        `take_wishes`, when the change that names it is added or never will be."""
        with self._lock:
            self.wishes[key] = wish

    def take_wishes(self, keys: Iterable[str]) -> None:
        with self._lock:
            for key in keys:
                self.wishes.pop(key, None)

    @contextmanager
    def storing(self) -> Iterator[Backend]:
        """`place`, to store artifacts in and then add the change that names them, all within: what was stored
        or found there stays until that change is sent, whatever else is sent meanwhile."""
        hold = _Hold()
        with self._lock:
            self._holds.append(hold)

        def look(operation: str, name: str) -> None:
            with self._lock:  # before it is looked whether the file is there
                hold.artifacts.add(_artifact(name))

        try:
            yield WatchedBackend(self.place, look)
        finally:
            with self._lock:
                hold.until = (self._next or 0) - 1

    def forget(self, numbers: Iterable[int], names: Iterable[str]) -> None:
        """Remove what is in the store: changes first, since they need the files."""
        for number in sorted(numbers):
            self.place.delete(_change(number))
        with self._lock:
            left = min(self._numbers(), default=math.inf)
            self._holds = [hold for hold in self._holds if hold.until >= left]
        for name in names:
            with self._lock:
                if not any(_artifact(name) in hold.artifacts for hold in self._holds):
                    self.place.delete(name)
        self.forget_ready()
        self._sweep()

    def forget_ready(self) -> None:
        """Remove what was made of the originals; it can be made again as long as those are there."""
        for stat in list(self.ready.walk("")):
            self.ready.delete(stat.name)

    def _sweep(self) -> None:
        """Remove the originals if no change waits for any."""
        with self._lock:
            waits = self.wishes or any(self._is_wishing(number) for number in self._numbers())
            for stat in [] if waits else list(self.originals.walk("")):
                self.originals.delete(stat.name)

    def _is_wishing(self, number: int) -> bool:
        try:
            return bool(self._read(number).wishes)
        except Corrupt:
            return True  # nobody can tell

    def staged(self) -> list[str]:
        """The names of the files that wait, blobs first."""
        return [stat.name for folder in STAGED for stat in self.place.walk(folder)]

    def size_bytes(self) -> int:
        """What the files that wait take, as they were given."""
        waits = sum(stat.size_bytes for folder in STAGED for stat in self.place.walk(folder))
        return waits + sum(stat.size_bytes for stat in self.originals.walk("blobs/"))

    def is_orphan(self) -> bool:
        """True if the process that owns it is gone, as this machine's process table says."""
        return process.is_alive(self.owner.identity) is False

    def remove(self) -> None:
        """Take away what is left once everything is sent."""
        shutil.rmtree(self.place.root, ignore_errors=True)

    @contextmanager
    def locked(self, *, wait: bool) -> Iterator[bool]:
        """True while nobody else sends it; given up by the kernel when we die."""
        path = os.path.join(self.place.root, _LOCK)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:  # somebody has sent and removed it
            yield False
            return
        try:
            yield _lock(fd, wait)
        finally:
            os.close(fd)

    def _numbers(self) -> list[int]:
        found = (layout.entry_number(name) for name in self.place.names(_CHANGES))
        return [number for number in found if number is not None]

    def _read(self, number: int) -> Pending:
        place = f"{self.place.root}/{_change(number)}"
        return files.decode_pending(self.place.get(_change(number)), place=place)


def outboxes(state: LocalBackend, run_id: str | None = None) -> Iterator[Outbox]:
    """Every outbox in the state directory, or those of one run."""
    for folder in state.folders(FOLDER):
        if run_id is None or folder.rpartition("@")[0] == run_id:
            with suppress(NameNotFound):  # not begun to the end, or removed meanwhile
                place = f"{FOLDER}{folder}/{_OWNER}"
                owner = files.decode_owner(state.get(place), place=f"{state.root}/{place}")
                if f"{owner.run_id}@{owner.writer}" != folder:
                    raise Corrupt(f"{state.root}/{place} belongs elsewhere", place=place)
                yield Outbox(state, owner)


def _lock(fd: int, wait: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _artifact(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def _change(number: int) -> str:
    return f"{_CHANGES}{number:08d}"


def taken(run_id: str) -> InvalidState:
    """The error for a run whose id somebody else took before it could be begun in the store."""
    return InvalidState(
        f"run {run_id} exists already: store.resume({run_id!r}) continues it", run_id=run_id
    )
