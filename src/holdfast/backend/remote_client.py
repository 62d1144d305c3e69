"""What an object store's client must do for us: single requests, with no retry and no cache of its own.

A path is a name below the store's prefix, `bucket/prefix/` excluded. Every call makes one attempt
and raises what its library raises; `remote.py` retries, and `remote_errors.py` explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from holdfast.backend.base import Stat


class Client(Protocol):
    """One process's connection to one bucket."""

    def get(self, name: str, start: int = 0, length: int | None = None) -> tuple[bytes, int | None]:
        """Bytes from `start` on, and the size of the whole object where the answer says it."""

    def head(self, name: str) -> Stat:
        """Size and time."""

    def create(self, name: str, data: bytes) -> None:
        """One conditional request: it fails if the name is taken."""

    def put(self, name: str, data: bytes) -> None:
        """One request that replaces what is there."""

    def upload(self, name: str, path: str) -> None:
        """Store a large file of this machine in parts; it replaces what is there once all have arrived."""

    def delete(self, name: str) -> None:
        """Remove; an error for a name that is not there is allowed."""

    def walk(self, prefix: str) -> Iterator[Stat]:
        """Everything under a folder, in any order, by as few listing requests as there are pages."""

    def under(self, prefix: str) -> tuple[list[str], list[str]]:
        """The last parts of the names directly under a folder, and of those that have names below."""
