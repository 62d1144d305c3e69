"""A sync that fails or is killed at its n-th call to either store, for every n: the target is valid and
smaller, and doing it again finishes."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from holdfast.backend.base import Backend, Staged
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import BackendError, HoldfastError, StorageFull
from holdfast.ops.sync import SyncReport, sides_of, sync
from holdfast.ops.sync_needs import What
from holdfast.repository import connected
from holdfast.store import ExperimentStore
from test_sync import chains


class Killed(BaseException):
    """The process is gone: nothing that it would have done comes after."""


class Fault:
    """Fails the n-th call; with `kill` that one and all after it."""

    def __init__(self, number: int, kill: bool) -> None:
        self.number, self.kill, self.calls = number, kill, 0
        self._lock = threading.Lock()

    def __call__(self, operation: str, name: str) -> None:
        with self._lock:
            self.calls += 1
            if self.kill and self.calls >= self.number:
                raise Killed(f"{operation} {name}")
            if self.calls == self.number:
                raise BackendError(f"injected: {operation} {name}", name=name)


class Losing(WatchedBackend):
    """Does what it is asked to and then loses the answer."""

    def create(self, name: str, data: bytes) -> None:
        self.inner.create(name, data)
        self.watch("create", name)

    def put(self, name: str, data: bytes) -> None:
        self.inner.put(name, data)
        self.watch("put", name)

    def stage(self) -> Staged:
        return _LosingStaged(self.inner.stage(), self)


class _LosingStaged:
    def __init__(self, inner: Staged, backend: Losing) -> None:
        self._inner, self._backend = inner, backend
        self.write, self.replace, self.abort = inner.write, inner.replace, inner.abort

    def commit(self, name: str) -> bool:
        is_new = self._inner.commit(name)
        self._backend.watch("stage.commit", name)
        return is_new


def store_on(backend: Backend) -> ExperimentStore:
    store = ExperimentStore()
    store.repository = connected(backend)
    store.store_id, store.url = store.repository.store_id, f"memory://{id(backend)}"
    return store


@cache
def prepared() -> MemoryBackend:
    """A source with every kind of file, and a run of which older states name more than the newest."""
    backend = MemoryBackend()
    rng = np.random.default_rng(1)
    weights = rng.normal(size=1 << 19).astype(np.float32)
    with store_on(backend) as store:
        with store.start_run("e", run_id="run", capture=False) as run:
            run.log({"x": 1.0}, step=0)
            run.log_artifact(b"first", key="first")
            for step in range(3):
                weights[:1000] += 1
                run.log_checkpoint({"w": weights}, step=step, layout="packed", keep_last=1)
            run.log_artifact(random.Random(1).randbytes(1_200_000), key="plain")
        with store.start_run("e", run_id="second", capture=False) as run:
            run.log({"x": 2.0}, step=0)
            run.log_artifact(b"first", key="shared")
    return backend


def attempt(source: Backend, target: Backend, threads: int = 1) -> SyncReport:
    what = What()
    sides = sides_of(connected(source), connected(target), what)
    return sync(sides, threads=threads)


def check(source: MemoryBackend, target: MemoryBackend, *, whole: bool) -> None:
    """What is in the target is right; with `whole`, it is everything."""
    with store_on(source) as one, store_on(target) as other:
        assert other.verify() == []
        found = {run.run_id for run in other.runs()}
        if whole:
            assert found == {"run", "second"}
            ours = chains({stat.name: 0 for stat in source.walk("")}, source)
            assert ours == chains({stat.name: 0 for stat in target.walk("")}, target)
        for run_id in found:
            if other.run(run_id).status == one.run(run_id).status:
                assert other.read_artifacts(run_id) == one.read_artifacts(run_id)
                assert (
                    other.metrics(run_id, "x").values.tolist()
                    == one.metrics(run_id, "x").values.tolist()
                )


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "failing"])
@pytest.mark.parametrize(
    ("side", "wrapper"),
    [("source", WatchedBackend), ("target", WatchedBackend), ("target", Losing)],
)
def test_any_call_may_be_the_last(side: str, wrapper: type[WatchedBackend], kill: bool) -> None:
    number, failed = 0, 0
    while True:
        number += 1
        source, target = prepared(), MemoryBackend()
        connected(target)
        fault = Fault(number + 1, kill)  # the first call is that which opens the store
        watched: dict[str, Any] = {"source": source, "target": target}
        watched[side] = wrapper(watched[side], fault)
        try:
            attempt(**watched)
        except (Killed, HoldfastError):
            failed += 1
        check(source, target, whole=False)
        assert attempt(source, target).ok
        check(source, target, whole=True)
        if fault.calls <= number:
            break
    assert failed >= 5
    assert number >= 20


def test_two_syncs_into_one_target_at_once() -> None:
    source, target = prepared(), MemoryBackend()
    connected(target)
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(attempt, source, target, 4) for _ in range(4)]
        reports = [job.result() for job in jobs]
    assert all(report.ok for report in reports)
    check(source, target, whole=True)


def test_two_sources_into_one_target_at_once() -> None:
    sources = []
    for number in range(4):
        backend = MemoryBackend()
        with (
            store_on(backend) as store,
            store.start_run("same", run_id=f"run-{number}", capture=False) as run,
        ):
            run.log({"x": number}, step=0)
            run.log_artifact(b"shared" * 300_000, key="shared")
        sources.append(backend)
    target = MemoryBackend()
    connected(target)
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda source: attempt(source, target, 4), sources))
    assert all(report.ok for report in reports)
    with store_on(target) as store:
        assert store.verify() == []
        assert len(store.runs()) == 4
        assert len(store.experiments()) == 1


class Small(WatchedBackend):
    """A store with room for so many bytes more."""

    def __init__(self, inner: MemoryBackend, room: int) -> None:
        super().__init__(inner, lambda operation, name: None)
        self.room = room

    def stage(self) -> Staged:
        return _SmallStaged(self.inner.stage(), self)


class _SmallStaged:
    def __init__(self, inner: Staged, backend: Small) -> None:
        self._inner, self._backend = inner, backend
        self.commit, self.replace, self.abort = inner.commit, inner.replace, inner.abort

    def write(self, data: bytes | memoryview) -> None:
        self._backend.room -= len(data)
        if self._backend.room < 0:
            raise StorageFull("the disk is full: no more can be written", name="")
        self._inner.write(data)


def test_a_target_that_fills_up(tmp_path: Path) -> None:
    source, target = prepared(), MemoryBackend()
    connected(target)
    with pytest.raises(StorageFull, match="full"):
        attempt(source, Small(target, 1_500_000))
    check(source, target, whole=False)
    assert attempt(source, target).ok
    check(source, target, whole=True)


def test_a_source_that_is_damaged_on_the_way_only_is_read_again() -> None:
    """The bytes are right in the store, and wrong the first time they are read."""

    class Noisy(WatchedBackend):
        def __init__(self, inner: MemoryBackend) -> None:
            super().__init__(inner, lambda operation, name: None)
            self.heard: set[str] = set()

        def chunks(self, name: str) -> Any:
            first = name not in self.heard
            self.heard.add(name)
            for piece in self.inner.chunks(name):
                yield piece[:-1] + bytes([piece[-1] ^ first])

    source, target = prepared(), MemoryBackend()
    connected(target)
    assert attempt(Noisy(source), target).ok
    check(source, target, whole=True)
