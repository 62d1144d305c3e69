"""From a store's URL to its backend."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from holdfast.backend.base import Backend
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend

_memory: dict[str, MemoryBackend] = {}
_lock = threading.Lock()


def connect(
    url: str | os.PathLike[str] | None, storage_options: Mapping[str, Any] | None = None
) -> Backend:
    """The backend of `url`: a path, `file://…`, `memory://name`, which this process shares, or
    `s3://bucket/folder`, `gs://…`, `az://…` and whatever else fsspec reaches.

    None gives a memory backend of its own. Raises NotAStore, and InvalidValue for credentials in a URL.
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
    from holdfast.backend.remote_connect import connect_remote  # late: most stores are local

    return connect_remote(text, storage_options)
