"""What was read from a bucket is kept on this machine: bounded, shared, and never trusted."""

from __future__ import annotations

import dataclasses
import errno
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import holdfast
from far import FarBackend, opened
from holdfast import blobs, verified
from holdfast.backend.cached import CachedBackend
from holdfast.backend.cachefiles import CacheFiles, user_cache
from holdfast.backend.local import LocalBackend
from holdfast.digest import Digest
from holdfast.errors import DigestMismatch, InvalidValue
from holdfast.format import layout
from holdfast.testing import BackendContract

DATA = random.Random(1).randbytes(3_000_000)
NAME = layout.blob(Digest.of(DATA))


@pytest.fixture
def far() -> FarBackend:
    return FarBackend()


@pytest.fixture
def files(tmp_path: Path) -> CacheFiles:
    return CacheFiles(str(tmp_path / "files"), 100 << 20)


@pytest.fixture
def cached(far: FarBackend, files: CacheFiles) -> CachedBackend:
    far.inner.create(NAME, DATA)
    return CachedBackend(far, files, "store")


class TestContract(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> CachedBackend:
        files = CacheFiles(str(tmp_path / "files"), 100 << 20)
        return CachedBackend(LocalBackend(tmp_path / "lab"), files, "store")


READS: dict[str, Any] = {
    "get": lambda backend: backend.get(NAME) == DATA,
    "get_many": lambda backend: backend.get_many([NAME, NAME]) == [DATA, DATA],
    "get_range": lambda backend: backend.get_range(NAME, 7, 1000) == DATA[7:1007],
    "chunks": lambda backend: b"".join(backend.chunks(NAME)) == DATA,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_what_was_read_is_not_asked_for_again(
    cached: CachedBackend, far: FarBackend, read: Any
) -> None:
    assert read(cached)
    asked = len(far.calls)
    assert asked > 0
    assert read(cached)
    assert len(far.calls) == asked


def test_what_changes_or_may_come_is_always_asked_for(
    cached: CachedBackend, far: FarBackend
) -> None:
    names = ["runs/r/manifest/00000000", "heads/runs/r@00000000", layout.STORE]
    for name in names:
        far.inner.create(name, b"1")
        assert cached.get(name) == b"1"
        far.inner.put(name, b"2")
        assert cached.get(name) == b"2"


def _kept(files: CacheFiles) -> list[Path]:
    return [path for path in Path(files.root).rglob("*") if path.is_file()]


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.parametrize("cut", [False, True])
def test_a_damaged_file_is_dropped_and_the_store_asked(
    cached: CachedBackend, files: CacheFiles, far: FarBackend, read: Any, cut: bool
) -> None:
    assert read(cached)
    for path in _kept(files):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data[:20] if cut else data)
    asked = len(far.calls)
    assert read(cached)
    assert len(far.calls) > asked
    asked = len(far.calls)
    assert read(cached)
    assert len(far.calls) == asked


def test_wrong_bytes_that_are_kept_in_order_are_read_past_by_the_door(
    cached: CachedBackend, files: CacheFiles, far: FarBackend
) -> None:
    """Kept with a right checksum, but not what the digest says: the second read asks the store."""
    files.put(f"store/{NAME}", b"x" + DATA[1:])
    assert verified.read_blob(cached, Digest.of(DATA)) == DATA
    asked = len(far.calls)
    assert verified.read_blob(cached, Digest.of(DATA)) == DATA
    assert len(far.calls) == asked  # what was wrong is replaced


def test_bytes_that_came_wrong_are_not_kept(far: FarBackend, files: CacheFiles) -> None:
    far.inner.create(NAME, b"x" + DATA[1:])
    cached = CachedBackend(far, files, "store")
    with pytest.raises(DigestMismatch):
        verified.read_blob(cached, Digest.of(DATA))
    assert _kept(files) == []


def test_two_stores_do_not_mix(cached: CachedBackend, files: CacheFiles) -> None:
    assert cached.get(NAME) == DATA
    other = FarBackend()
    name = f"runs/r/segments/{'0' * 64}.seg"
    other.inner.create(name, b"other")
    cached.inner.inner.create(name, b"ours")  # type: ignore[attr-defined]
    assert cached.get_range(name, 0, 9) == b"ours"
    assert CachedBackend(other, files, "other").get_range(name, 0, 9) == b"other"


def test_the_size_is_kept_and_the_files_used_longest_ago_go_first(
    far: FarBackend, tmp_path: Path
) -> None:
    files = CacheFiles(str(tmp_path / "files"), 4 << 20)
    cached = CachedBackend(far, files, "store")
    digests = [blobs.put_bytes(far.inner, bytes([n]) * 100_000)[0] for n in range(100)]
    for digest in digests:
        cached.get(layout.blob(digest))
        assert files.held().size_bytes <= files.limit_bytes
    files.shrink(0)
    names = [layout.blob(digest) for digest in digests[:10]]
    for at, name in enumerate(names):
        cached.get(name)
        os.utime(files._path(f"store/{name}"), (at + 1, at + 1))
    cached.get(names[0])  # read again: its time is renewed
    assert files.shrink(250_000) == 8
    asked = len(far.calls)
    cached.get(names[0])
    cached.get(names[9])
    assert len(far.calls) == asked


def test_a_full_disk_fails_no_read(
    cached: CachedBackend, files: CacheFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def full(fd: int, data: Any) -> int:
        if len(data) > 1000:
            raise OSError(errno.ENOSPC, "no space left on device")
        return real(fd, data)

    monkeypatch.setattr("holdfast.backend.cachefiles.os.write", full)
    for read in READS.values():
        assert read(cached)
    assert all(path.stat().st_size < 2000 for path in _kept(files))


SHARING = """
import random, sys
from holdfast.backend.cached import CachedBackend
from holdfast.backend.cachefiles import CacheFiles
from holdfast.backend.local import LocalBackend
from holdfast.digest import Digest
from holdfast import verified
root, place, seed = sys.argv[1:]
store = LocalBackend(root)
files = CacheFiles(place, 1 << 21)
cached = CachedBackend(store, files, "store")
names = [stat.name for stat in store.walk("blobs/")]
chance = random.Random(seed)
for _ in range(150):
    name = chance.choice(names)
    digest = Digest(name.rpartition("/")[2])
    assert len(verified.read_blob(cached, digest)) == 40_000
    assert len(cached.get_range(name, 0, 10)) == 10
    if chance.random() < 0.02:
        files.shrink(100_000)
"""


def test_eight_processes_share_it_while_files_go(tmp_path: Path) -> None:
    store = LocalBackend(tmp_path / "lab")
    for number in range(100):
        blobs.put_bytes(store, number.to_bytes(4, "big") * 10_000)
    place = str(tmp_path / "files")
    command = [sys.executable, "-c", SHARING, store.root, place]
    started = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE) for seed in range(8)]
    for process in started:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    held = CacheFiles(place, 1 << 21).held()
    assert 0 < held.size_bytes <= 1 << 21
    assert not list(Path(place).rglob("*.tmp"))


def test_a_store_reads_a_run_again_without_its_bytes(far: FarBackend, files: CacheFiles) -> None:
    with opened(far) as store, store.start_run("exp", run_id="run", capture=False) as run:
        run.log({"loss": 1.0}, step=0)
        run.log_artifact(DATA, key="model")
    with opened(FarBackend(far.inner)) as store:  # type: ignore[arg-type]
        watched: Any = store.repository.backend
        cached = CachedBackend(watched, files, "store")
        store.repository = dataclasses.replace(store.repository, backend=cached)
        for turn in range(2):
            watched.calls.clear()
            assert store.read_artifact("run", "model") == DATA
            with store.open_artifact("run", "model") as file:
                file.seek(2_000_000)
                assert file.read(5) == DATA[2_000_000:2_000_005]
            assert store.metrics("run", "loss").values.tolist() == [1.0]
            bytes_asked = [name for op, name in watched.calls if op.startswith(("get", "chunks"))]
            kept = [
                name for name in bytes_asked if not name.startswith(("runs/run/manifest", "heads"))
            ]
            assert bool(kept) == (turn == 0)


def test_it_is_switched_off_and_sized_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CACHE", "off")
    assert user_cache() is None
    monkeypatch.setenv("HOLDFAST_CACHE", "3GiB")
    found = user_cache()
    assert found is not None
    assert found.limit_bytes == 3 << 30
    monkeypatch.setenv("HOLDFAST_CACHE", "plenty")
    with pytest.raises(InvalidValue, match="HOLDFAST_CACHE"):
        user_cache()
    monkeypatch.delenv("HOLDFAST_CACHE")
    assert holdfast.ExperimentStore().repository.backend.capabilities.append
