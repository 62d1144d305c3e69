"""A store that is far away, in memory: spools cannot lie there, and the network can go down."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import holdfast
from holdfast.backend.base import Capabilities, Staged
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.backlog import Backlog
from holdfast.errors import BackendError, Unavailable
from holdfast.publisher import Publisher
from holdfast.repository import connected

WRITES = {"create", "put", "stage.commit", "stage.replace"}
Fault = Callable[[str, str], None]


class FarBackend(WatchedBackend):
    """Counts `calls`; while `down`, or when `fault` raises, a call fails before it acts, and with `lost` a
    create fails after it."""

    def __init__(self, inner: MemoryBackend | None = None) -> None:
        super().__init__(inner or MemoryBackend("far://lab"), self._watch)
        self.calls: list[tuple[str, str]] = []
        self.down = False
        self.fault: Fault = lambda operation, name: None
        self.lost: Fault = lambda operation, name: None
        self.threads: set[int] = set()

    @property
    def capabilities(self) -> Capabilities:
        return dataclasses.replace(self.inner.capabilities, append=False)

    def append(self, name: str, header: bytes) -> NoReturn:
        raise BackendError(f"{name}: nothing can be appended to far away", name=name)

    def token(self, prefix: str) -> None:
        return None  # only a listing tells

    def create(self, name: str, data: bytes) -> None:
        super().create(name, data)
        self.lost("create", name)

    def stage(self) -> Staged:
        return _LostStaged(super().stage(), self)

    def _watch(self, operation: str, name: str) -> None:
        self.calls.append((operation, name))
        self.threads.add(threading.get_ident())
        if self.down:
            raise Unavailable(f"{name}: no answer came", name=name)
        self.fault(operation, name)

    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] in WRITES]


class _LostStaged:
    def __init__(self, inner: Staged, far: FarBackend) -> None:
        self.write, self.replace, self.abort = inner.write, inner.replace, inner.abort
        self._inner, self._far = inner, far

    def commit(self, name: str) -> bool:
        is_new = self._inner.commit(name)
        self._far.lost("create", name)
        return is_new


class ByHand(Publisher):
    """Sends when somebody waits for it, on his thread, and never by itself: each call comes in one order."""

    def start(self) -> None:
        return

    def hurry(self) -> None:
        return

    def _next_turn(self, timeout_seconds: float | None) -> bool:
        self._take_turn(beat=False, left=False)
        return True


def by_hand(store: holdfast.ExperimentStore) -> holdfast.ExperimentStore:
    """The same store, in which no run has begun yet, without a thread that sends."""
    if store._publisher is not None:
        store._publisher.close()
    store._publisher, store._backlog = ByHand(store.repository), Backlog(store.repository, None)
    return store


def opened(
    backend: FarBackend, *, sends_by_hand: bool = False, **options: Any
) -> holdfast.ExperimentStore:
    """The store on `backend`, as `holdfast.open` would give it."""
    store = holdfast.ExperimentStore()
    store.repository = dataclasses.replace(connected(backend), answered=not backend.down)
    store.store_id, store.url = store.repository.store_id, backend.url
    if sends_by_hand:
        return by_hand(store)
    options.setdefault("publish_seconds", 0.02)
    store._begin_publishing(options["publish_seconds"], options.get("backlog_bytes"))
    return store


def everything(backend: FarBackend) -> Iterator[str]:
    return (stat.name for stat in backend.inner.walk(""))
