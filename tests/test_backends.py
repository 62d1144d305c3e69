"""Every backend keeps the same contract; what only one of them promises is tested below."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from holdfast.backend import spoolfile
from holdfast.backend.connect import connect
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend, refuse_writes
from holdfast.errors import NameExists, NameNotFound, NotAStore, ReadOnly, StorageFull
from holdfast.testing import BackendContract


class TestMemory(BackendContract):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


class TestLocal(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "store")


class TestLocalWithoutMaps(BackendContract):
    """A file system whose blocks move: spools are written, not mapped."""

    @pytest.fixture
    def backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
        monkeypatch.setattr(spoolfile, "_IN_PLACE", set())
        return LocalBackend(tmp_path / "store")


class TestWatched(BackendContract):
    @pytest.fixture
    def backend(self) -> WatchedBackend:
        return WatchedBackend(MemoryBackend(), lambda operation, name: None)


def _race(root: str, rounds: int, start, won) -> None:  # type: ignore[no-untyped-def]
    backend = LocalBackend(root)
    for turn in range(rounds):
        start.wait()
        try:
            backend.create(f"chain/{turn:08d}", str(os.getpid()).encode())
        except NameExists:
            continue
        won.put(turn)


def test_sixteen_processes_race_for_each_entry_and_one_wins(tmp_path: Path) -> None:
    rounds, racers = 100, 16
    context = multiprocessing.get_context("fork")
    start, won = context.Barrier(racers), context.Queue()
    workers = [
        context.Process(target=_race, args=(str(tmp_path), rounds, start, won))
        for _ in range(racers)
    ]
    for worker in workers:
        worker.start()
    turns = sorted(won.get(timeout=120) for _ in range(rounds))
    for worker in workers:
        worker.join()
    assert turns == list(range(rounds))
    assert won.empty()
    assert [p for p in (tmp_path / "chain").iterdir() if p.name.startswith(".")] == []


def test_a_failed_write_leaves_no_name_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalBackend(tmp_path)

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFull, match="the disk is full"):
        backend.create("a/b", b"x")
    monkeypatch.undo()
    assert list((tmp_path / "a").iterdir()) == []


def test_a_directory_that_vanished_is_made_again(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    backend.create("a/b/c", b"x")
    os.unlink(tmp_path / "a/b/c")
    os.rmdir(tmp_path / "a/b")
    backend.create("a/b/c", b"y")
    assert backend.get("a/b/c") == b"y"


def test_read_only_reads_and_refuses_to_write() -> None:
    inner = MemoryBackend()
    inner.create("a", b"x")
    backend = WatchedBackend(inner, refuse_writes)
    assert backend.get("a") == b"x"
    with pytest.raises(ReadOnly, match="read-only"):
        backend.create("b", b"y")
    with pytest.raises(NameNotFound):
        inner.get("b")


def test_urls(tmp_path: Path) -> None:
    assert isinstance(connect(None), MemoryBackend)
    assert connect("memory://shared") is connect("memory://shared")
    assert connect("memory://one") is not connect("memory://two")
    assert connect(tmp_path).url == str(tmp_path)
    assert connect(f"file://{tmp_path}").url == str(tmp_path)
    with pytest.raises(NotAStore, match="gopher://"):
        connect("gopher://host/lab")
