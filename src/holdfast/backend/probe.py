"""Does a server keep the one promise that everything rests on, exclusive create? It is tried, in a race.

Some servers ignore the condition of a create. Others look whether the name is free before they write,
not while they do: asked one after the other they seem right, and of racing writers several win. In a
versioned bucket of some servers every writer wins.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from holdfast.backend.base import Backend
from holdfast.errors import BackendError, NameExists, Unavailable
from holdfast.ids import new_nonce

RACERS = 16
ROUNDS = 6
_PREFIX = "probe/"


def weakness(backend: Backend) -> str | None:
    """What is wrong with `create` on this backend, as a clause; None if nothing was found.

    Writes a few hundred bytes under `probe/` and removes them. Raises BackendError when the server
    cannot be written to at all.
    """
    if not backend.capabilities.exclusive_create:
        return "this kind of storage has no create that excludes others"
    folder = f"{_PREFIX}{new_nonce().hex()}/"
    names = [f"{folder}{turn:08d}" for turn in range(1 + ROUNDS)]
    try:
        return _in_sequence(backend, names[0]) or _in_a_race(backend, names[1:])
    finally:
        with suppress(BackendError):
            for name in names:
                backend.delete(name)


def _in_sequence(backend: Backend, name: str) -> str | None:
    backend.create(name, new_nonce())
    try:
        backend.create(name, new_nonce())
    except NameExists:
        return None
    return "it ignores the condition that a new name must be free, so that writers would overwrite each other"


def _in_a_race(backend: Backend, names: list[str]) -> str | None:
    with ThreadPoolExecutor(RACERS) as pool:
        for name in names:
            won = _winners(backend, name, pool)
            if won > 1:
                return (
                    f"of {RACERS} writers that raced to create one name {won} were told that they had "
                    "won, so that writers would overwrite each other"
                )
    return None


def _winners(backend: Backend, name: str, pool: ThreadPoolExecutor) -> int:
    start = threading.Barrier(RACERS)

    def race(number: int) -> bool:
        start.wait()
        try:
            backend.create(name, new_nonce())
        except (NameExists, Unavailable):
            return False
        return True

    return sum(pool.map(race, range(RACERS)))
