"""From a store's URL to its backend."""

from __future__ import annotations

import os
import threading

from holdfast.backend.base import Backend
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.errors import NotAStore

_memory: dict[str, MemoryBackend] = {}
_lock = threading.Lock()


def connect(url: str | os.PathLike[str] | None) -> Backend:
    """The backend of `url`: a path, `file://…`, or `memory://name`, which this process shares.

    None gives a memory backend of its own. Raises NotAStore for any other protocol.
    """
    if url is None:
        return MemoryBackend()
    text = os.fspath(url)
    protocol, found, rest = text.partition("://")
    if not found:
        return LocalBackend(os.path.expanduser(text))
    if protocol == "file":
        return LocalBackend(rest)
    if protocol == "memory":
        with _lock:
            return _memory.setdefault(rest, MemoryBackend(text))
    raise NotAStore(
        f"{text}: this version of Holdfast opens directories and memory:// only, not {protocol}://",
        url=text,
    )
