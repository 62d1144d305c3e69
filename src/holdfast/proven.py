"""Which servers this machine has seen keep exclusive create, on which everything that is written rests.

Making a store tries the server. But a store may be copied, with its store.json, to a server that lets several
writers win. So each machine tries once itself, before the first run that it sends there, and remembers it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from holdfast.backend.base import Backend
from holdfast.backend.local import LocalBackend
from holdfast.backend.probe import weakness
from holdfast.digest import Digest
from holdfast.errors import BackendError, ReadOnly

_tried: dict[
    str, str | None
] = {}  # by place, what is wrong there, as far as this process has tried


def ensure(backend: Backend, folder: str) -> None:
    """Try the server of `backend`, unless that was done; `folder` is where this machine remembers.

    Raises ReadOnly if it lets several writers win, BackendError.
    """
    place = _place(backend)
    if place not in _tried and not _is_noted(place, folder):
        _tried[place] = weakness(backend)
        if _tried[place] is None:
            note(backend, folder)
    problem = _tried.get(place)
    if problem:
        raise ReadOnly(
            f"nothing is written to {backend.url}: {problem}. This store was made somewhere else: move it "
            "to a server that keeps writers apart, or open it with single_writer=True if you are its only "
            "writer",
            url=backend.url,
        )


def note(backend: Backend, folder: str) -> None:
    """The server has kept its promise. A disk that is full is no reason to stop."""
    with suppress(BackendError):
        LocalBackend(folder).put(_place(backend), backend.url.encode())


def _is_noted(place: str, folder: str) -> bool:
    try:
        LocalBackend(folder).stat(place)
    except BackendError:
        return False
    return True


def _place(backend: Backend) -> str:
    """The name of a file for the store's address and the server that it leads to."""
    inner: Any = backend
    server: str | None = None
    while server is None and inner is not None:
        server = getattr(inner, "server", None)
        inner = getattr(inner, "inner", None)
    return f"{Digest.of(os.fsencode(f'{backend.url} {server}')).hex[:32]}.proven"
