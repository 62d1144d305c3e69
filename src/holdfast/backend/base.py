"""The backend contract: names to bytes, and the one thing asked of storage, create if absent.

A name is a relative path with '/', checked before it gets here. What every backend MUST do:

* `create` is exclusive and all or nothing: of any number of creators that race with different bytes
  exactly one returns, the others get NameExists, and no reader ever sees a part. What it returned
  survives a power cut when `capabilities.durable_put` says so.
* `put` replaces as a whole or not at all; it is used for hints only and need not be durable.
* `get` returns all bytes of one version. `list` shows every name whose create has returned.
* A failed call has done all of its work or none of it that a reader could see.

`holdfast.testing.BackendContract` checks this on any backend.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 1 << 20  # the piece in which whole files are streamed
NEVER = 1 << 62  # the room, in bytes, of a spool that needs none made; more than ever comes


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can be relied on for."""

    atomic_put: bool
    exclusive_create: bool
    durable_put: bool
    append: bool = True  # can spools lie here?
    parallel: int = 4  # how many calls at once are worth while
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Stat:
    """One stored name: its size and when it was last written (ns since 1970)."""

    name: str
    size_bytes: int
    modified: int


class Staged(Protocol):
    """Bytes on their way in, whose name is not known yet."""

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes."""

    def commit(self, name: str) -> bool:
        """Publish under `name`, durable; False if the name was taken already (nothing changes)."""

    def replace(self, name: str) -> None:
        """Publish under `name`, durable, in place of what is there; only ever to heal a damaged file."""

    def abort(self) -> None:
        """Forget the bytes; harmless after commit."""


class Appender(Protocol):
    """An open spool."""

    def write(self, data: bytes) -> int:
        """Append; returns how many bytes were taken. The hot path; whoever reads sees them at once."""

    def prepare(self, ahead_bytes: int) -> int:
        """Make room for so many bytes ahead of need, in the background; returns how many there is
        room for. A hint: `write` makes room too, and says when there is none."""

    def sync(self) -> None:
        """Return when all that was written survives a power cut."""

    def cut(self, size_bytes: int) -> None:
        """Take the last `size_bytes` bytes, a half-written record, back off."""

    def close(self) -> None:
        """Release the file; harmless twice."""


class Backend(Protocol):
    """See the module text for what is promised. Errors are BackendError and its leaves."""

    @property
    def url(self) -> str:
        """Where it is, for people."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can be relied on for."""

    def get(self, name: str) -> bytes:
        """All bytes. Raises NameNotFound."""

    def get_many(self, names: Sequence[str]) -> list[bytes]:
        """All bytes of each, in the order asked for. Raises NameNotFound."""

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """The bytes from `offset` on, fewer at the end of the file. Raises NameNotFound."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """All bytes in pieces of at most CHUNK_BYTES. Raises NameNotFound."""

    def stat(self, name: str) -> Stat:
        """Size and time. Raises NameNotFound."""

    def create(self, name: str, data: bytes) -> None:
        """Store under a new name. Raises NameExists."""

    def put(self, name: str, data: bytes) -> None:
        """Store, replacing what was there."""

    def stage(self) -> Staged:
        """Begin to store bytes whose name comes at the end."""

    def walk(self, prefix: str) -> Iterator[Stat]:
        """Everything whose name begins with `prefix` (a folder, with its '/'), sorted by name."""

    def folders(self, prefix: str) -> list[str]:
        """The names directly under `prefix` that have names below them, sorted."""

    def names(self, prefix: str) -> list[str]:
        """The last parts of the names directly under `prefix`, in no order: the cheapest listing.

        Names that have names below them may be among them.
        """

    def token(self, prefix: str) -> str | None:
        """A text that, when it is the same as before, proves that nothing directly under `prefix` was
        created, replaced or deleted since; None where that cannot be known."""

    def delete(self, name: str) -> None:
        """Remove; a name that is not there is no error."""

    def append(self, name: str, header: bytes) -> Appender:
        """Create a spool whose first bytes are `header`. Raises NameExists, and BackendError where
        `capabilities.append` is False."""
