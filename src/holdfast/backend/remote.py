"""A store in a bucket: every operation under a deadline, retried, and read back when its answer is lost.

A request can act and its answer be lost. So a create that was not answered is asked again, and a name
that is taken is read: our own bytes mean that an earlier request had done it. Whoever needs to tell two
writers of equal bytes apart puts a nonce into them, as chain entries do.
"""

from __future__ import annotations

import copy
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NoReturn, TypeVar

from holdfast.backend.base import CHUNK_BYTES, Capabilities, Staged, Stat
from holdfast.backend.remote_client import Client
from holdfast.backend.remote_clock import Clock
from holdfast.backend.remote_errors import PastEnd, explain, spool_error
from holdfast.errors import BackendError, NameExists, NameNotFound, Unavailable

T = TypeVar("T")
PART_BYTES = 8 * CHUNK_BYTES  # larger files go up in parts, and come down in ranges, of this size
PARALLEL = 16  # requests of one backend that are under way at once
_AHEAD = 4  # ranges of one file that are fetched before they are asked for


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take, how long all tries together, and the pauses in between."""

    attempt_seconds: float = 20.0
    overall_seconds: float = 120.0
    first_pause_seconds: float = 0.05
    longest_pause_seconds: float = 5.0


class RemoteBackend:
    """The names under a prefix of a bucket; `connect` makes the client, anew in a forked child."""

    def __init__(
        self,
        url: str,
        connect: Callable[[], Client],
        capabilities: Capabilities,
        patience: Patience = Patience(),
        clock: Clock | None = None,
        server: str = "",
    ) -> None:
        self.url = url
        self.server = server  # where that leads to, if it was said
        self._clock = clock
        self.capabilities = capabilities
        self._connect = connect
        self._patience = patience
        self._own: _Own | None = None

    def within(self, seconds: float) -> RemoteBackend:
        """The same, but it gives up when no answer has come for so long."""
        twin = copy.copy(self)
        twin._patience = replace(self._patience, overall_seconds=seconds)
        return twin

    def clock_ahead(self) -> int:
        """By how many ns the server's clock, that of `Stat.modified`, is ahead of this machine's."""
        return self._clock.ahead() if self._clock else 0

    def get(self, name: str) -> bytes:
        try:
            return self._ask(name, lambda client: client.get(name))[0]
        except PastEnd:
            return b""

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        if len(names) < 2:
            return [self.get(name) for name in names]
        return list(self._here().pool.map(self.get, names))

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self._range(name, offset, length)[0] if length > 0 else b""

    def chunks(self, name: str) -> Iterator[bytes]:
        first, size = self._range(name, 0, PART_BYTES)
        yield from _cut(first)
        if len(first) < PART_BYTES:
            return
        size = self.stat(name).size_bytes if size is None else size
        yield from self._rest(name, size)

    def _rest(self, name: str, size: int) -> Iterator[bytes]:
        """The ranges behind the first one, some of them fetched ahead."""
        pool = self._here().pool
        starts = iter(range(PART_BYTES, size, PART_BYTES))
        ahead = [
            pool.submit(self._range, name, start, PART_BYTES) for start in islice(starts, _AHEAD)
        ]
        while ahead:
            part, _ = ahead.pop(0).result()
            ahead += [
                pool.submit(self._range, name, start, PART_BYTES) for start in islice(starts, 1)
            ]
            yield from _cut(part)

    def _range(self, name: str, offset: int, length: int) -> tuple[bytes, int | None]:
        try:
            return self._ask(name, lambda client: client.get(name, offset, length))
        except PastEnd:
            return b"", None

    def stat(self, name: str) -> Stat:
        return self._ask(name, lambda client: client.head(name))

    def create(self, name: str, data: bytes) -> None:
        body = bytes(data)
        try:
            self.create_once(name, body)
        except NameExists:
            # Not even this says that nothing was written: clients ask again unseen when a connection
            # that they keep open breaks.
            if not self._holds(name, body):
                raise

    def create_once(self, name: str, data: bytes) -> None:
        """`create`, but an earlier request of ours may be the reason for NameExists."""
        try:
            self._ask(name, lambda client: client.create(name, data))
        except Unavailable:
            if not self._holds(name, data):
                raise

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.get(name) == data
        except BackendError:
            return False

    def put(self, name: str, data: bytes) -> None:
        body = bytes(data)
        self._ask(name, lambda client: client.put(name, body))

    def stage(self) -> RemoteStaged:
        return RemoteStaged(self)

    def stage_file(self, path: str, size_bytes: int) -> Staged:
        """As `stage`, for the bytes of a file of this machine that nobody changes: a large one is sent
        from where it lies, and what is written into the answer only says that it was read."""
        return RemoteFile(self, path) if size_bytes > PART_BYTES else self.stage()

    def walk(self, prefix: str) -> Iterator[Stat]:
        found = self._ask(prefix, lambda client: list(client.walk(prefix)))
        yield from sorted(found, key=lambda stat: stat.name)

    def folders(self, prefix: str) -> list[str]:
        return sorted(self._ask(prefix, lambda client: client.under(prefix))[1])

    def names(self, prefix: str) -> list[str]:
        plain, folders = self._ask(prefix, lambda client: client.under(prefix))
        return plain + folders

    def token(self, prefix: str) -> None:
        return None  # only a listing tells

    def delete(self, name: str) -> None:
        with suppress(NameNotFound):
            self._ask(name, lambda client: client.delete(name))

    def append(self, name: str, header: bytes) -> NoReturn:
        raise BackendError(
            f"{name}: an object store cannot append; open spools lie on this machine", name=name
        )

    def upload(self, name: str, path: str) -> None:
        """Store a large file of this machine under `name`, in place of what is there."""
        self._ask(name, lambda client: client.upload(name, path))

    def _ask(self, name: str, request: Callable[[Client], T]) -> T:
        """Make a request until it is answered or the deadline has come."""
        patience = self._patience
        until = time.monotonic() + patience.overall_seconds
        pause = patience.first_pause_seconds
        while True:
            try:
                return self._once(name, request)
            except Unavailable:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - to part racing writers
            pause = min(2 * pause, patience.longest_pause_seconds)

    def _once(self, name: str, request: Callable[[Client], T]) -> T:
        own, outer = self._here(), sys.exception()
        with own.slots:
            try:
                return request(own.client)
            except Exception as error:  # noqa: BLE001 - whatever a client raises
                # The client's own error may quote addresses or headers: it goes no further.
                raise explain(error, name, self.url, outer) from None

    def _here(self) -> _Own:
        """This process's client: a forked child never uses its parent's."""
        own = self._own
        if own is None or own.pid != os.getpid():
            if own is not None:
                _abandoned.append(own)
            outer = sys.exception()
            try:
                own = self._own = _Own(self._connect())
            except Exception as error:  # noqa: BLE001 - whatever a client raises
                raise explain(error, "", self.url, outer) from None
        return own


class _Own:
    """What belongs to one process."""

    def __init__(self, client: Client) -> None:
        self.pid = os.getpid()
        self.client = client
        self.slots = threading.BoundedSemaphore(PARALLEL)
        self.pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="holdfast-remote")


_abandoned: list[_Own] = []  # a parent's clients are not even closed in the child


class RemoteStaged:
    """Bytes that wait on this machine for their name: an object store cannot rename.

    They are kept in memory up to one part, then in a temporary file; so the bytes that are sent are the
    bytes that were hashed, whatever happens to their source meanwhile.
    """

    def __init__(self, backend: RemoteBackend) -> None:
        self._backend = backend
        self._memory = bytearray()
        self._file: Any = None
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._size += len(data)
        if self._size <= PART_BYTES:
            self._memory += data
            return
        try:
            if self._file is None:
                self._file = tempfile.NamedTemporaryFile(prefix="holdfast-", buffering=0)
                self._write(self._memory)
                self._memory = bytearray()
            self._write(data)
        except OSError as error:
            raise spool_error(error) from error

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def commit(self, name: str) -> bool:
        if self._file is not None:
            return RemoteFile(self._backend, self._file.name).commit(name)
        try:
            self._backend.create_once(name, bytes(self._memory))
        except NameExists:
            return False
        return True

    def replace(self, name: str) -> None:
        if self._file is None:
            self._backend.put(name, bytes(self._memory))
        else:
            self._backend.upload(name, self._file.name)

    def abort(self) -> None:
        self._memory = bytearray()
        if self._file is not None:
            self._file.close()


class RemoteFile:
    """A large file of this machine on its way in, sent from where it lies."""

    def __init__(self, backend: RemoteBackend, path: str) -> None:
        self._backend = backend
        self._path = path

    def write(self, data: bytes | memoryview) -> None:
        return

    def commit(self, name: str) -> bool:
        # Servers ignore conditions on uploads in parts. The name says what the bytes are, so two who
        # store it at once store the same.
        try:
            self._backend.stat(name)
        except NameNotFound:
            self._backend.upload(name, self._path)
            return True
        return False

    def replace(self, name: str) -> None:
        self._backend.upload(name, self._path)

    def abort(self) -> None:
        return


def _cut(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), CHUNK_BYTES):
        yield data[at : at + CHUNK_BYTES]
