"""Packed artifacts under faults: whatever fails, what is named in a manifest is whole or is told damaged."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.digest import Digest
from holdfast.errors import BackendError, Corrupt, HoldfastError, InvalidValue
from holdfast.ops import ingest
from holdfast.ops.sources import Memory
from holdfast.ops.window import Window
from holdfast.verified_artifact import find
from test_artifact_layouts import MIB, versions
from test_faults import Faults, LosingBackend, _store

Store = holdfast.ExperimentStore


def test_any_flipped_byte_is_told_with_its_place(tmp_path: Path) -> None:
    series = [*versions(2, 40_000), random.Random(2).randbytes(70_000)]
    root = tmp_path / "lab"
    with holdfast.open(root) as store, store.start_run("s", run_id="s") as run:
        for step, data in enumerate(series[:2]):
            run.log_artifact(data, key=f"c/{step}", layout="packed")
        run.log_artifact(series[2], key="other", layout="packed")
    paths = [
        path for name in ("packs", "recipes") for path in (root / name).rglob("*") if path.is_file()
    ]
    assert len(paths) == 6
    told = 0
    for path in paths:
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 40)):
            broken = bytearray(whole)
            broken[at] ^= 0x40
            path.write_bytes(broken)
            told += _read_all(root, series, path)
        path.write_bytes(whole)
        path.rename(tmp_path / "gone")
        assert _read_all(root, series, path) == 1
        (tmp_path / "gone").rename(path)
    assert told > 150
    with holdfast.open(root) as store:
        assert store.verify() == []


def _read_all(root: Path, series: list[bytes], path: Path) -> int:
    """1 if an artifact cannot be read, and then the error names it and the place; those that do not use
    `path` are as they were. 0 if no artifact needs the byte, and then `verify` finds it."""
    with holdfast.open(root, cache=False) as store:
        told = {
            key: _problem(store, key, data)
            for key, data in zip(("c/0", "c/1", "other"), series, strict=True)
        }
        wrong = {key: text for key, text in told.items() if text}
        for key, text in wrong.items():
            assert Digest.of(series[list(told).index(key)]).hex in text  # which artifact
            piece = path.name in text and "between byte" in text
            assert piece or path.parts[-4] == "recipes" or not path.exists()
        assert "other" not in wrong or len(wrong) == 1
        if not wrong:
            assert [one.place for one in store.verify()] == [str(path.relative_to(root))]
    return int(bool(wrong))


def _problem(store: Store, key: str, data: bytes) -> str:
    try:
        found = store.read_artifact("s", key)
    except HoldfastError as error:
        return str(error)
    assert found == data
    return ""


def _ingest(store: Store, said: list[int]) -> None:
    with store.start_run("s", run_id="s", capture=False) as run:
        for step, data in enumerate(versions(2, 20_000)):
            run.log_artifact(data, key=f"c/{step}", layout="packed")
            said.append(step)


@pytest.mark.parametrize("wrapper", [WatchedBackend, LosingBackend])
def test_any_one_call_may_fail_while_storing(wrapper: type[WatchedBackend]) -> None:
    number, failed = 0, 0
    while True:
        number += 1
        backend, said = MemoryBackend(), []  # type: ignore[var-annotated]
        faults = Faults()
        store = _store(wrapper(backend, faults))
        faults.left, faults.calls = number, 0
        try:
            _ingest(store, said)
        except HoldfastError:
            failed += 1
        reached, faults.left = faults.calls, -1
        store.close()
        with _store(backend) as again:
            assert again.verify() == []
            state = again.repository.manifest("s").load().state.get("artifacts", {})
            assert {f"c/{step}" for step in said} <= set(state)
            for step, data in enumerate(versions(2, 20_000)):
                if f"c/{step}" in state:
                    assert again.read_artifact("s", f"c/{step}") == data
                if again.repository.manifest("s").load().number >= 0:
                    again.add_artifact_file("s", data, f"again/{step}", layout="packed")
                    assert again.read_artifact("s", f"again/{step}") == data
        if reached < number:
            break
    assert failed >= 10
    assert number >= 40


@pytest.mark.parametrize("wrapper", [WatchedBackend, LosingBackend])
@pytest.mark.parametrize("kept", [1, 4])
def test_any_one_call_may_fail_while_checkpoints_are_logged(
    wrapper: type[WatchedBackend], kept: int
) -> None:
    """What a call that returned has logged is there, and what a name stands for is whole."""
    draw = np.random.default_rng(1)
    states = [{"w": draw.normal(0, 0.02, 20_000).astype("f4")} for _ in range(kept + 2)]
    number = failed = 0
    while True:
        number += 1
        backend, said = MemoryBackend(), []  # type: ignore[var-annotated]
        faults = Faults()
        store = _store(wrapper(backend, faults))
        faults.left, faults.calls = number, 0
        try:
            with store.start_run("s", run_id="s", capture=False) as run:
                for step, state in enumerate(states):
                    run.log_checkpoint(state, step=step, keep_last=kept, layout="packed")
                    said.append(step)
        except HoldfastError:
            failed += 1
        reached, faults.left = faults.calls, -1
        store.close()
        with _store(backend) as again:
            assert again.verify() == []
            state = again.repository.manifest("s").load().state
            steps = {about["step"]: key for key, about in state.get("checkpoints", {}).items()}
            assert len(steps) <= kept
            assert set(said[-kept + 1 :] if kept > 1 else []) <= set(steps)
            assert not said or max(steps) >= said[-1]
            for step in steps:
                found = again.load_checkpoint("s", step)
                assert np.array_equal(found["w"], states[step]["w"])
        if reached < number:
            break
    assert failed >= 10


def test_two_writers_of_the_same_artifact(store: Store) -> None:
    data = versions(1)[0]
    with store.start_run("s", run_id="s"):
        pass
    ready = threading.Barrier(2)

    def write(key: str) -> None:
        ready.wait()
        store.add_artifact_file("s", data, key)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ["k0", "k1"]))
    assert store.read_artifact("s", "k0") == store.read_artifact("s", "k1") == data
    assert store.verify() == []


class Changing(Memory):
    """A file that another program changes while it is read."""

    def __init__(self, before: bytes, after: bytes, calls: int) -> None:
        super().__init__(before)
        self._after, self._left = after, calls

    def get(self, offset: int, length: int) -> memoryview:
        self._left -= 1
        if self._left < 0:
            self._view = memoryview(self._after)
        return super().get(offset, length)


@pytest.mark.parametrize("layout", ["auto", "plain", "packed"])
def test_a_file_that_changes_while_it_is_read(layout: str) -> None:
    before, after = versions(2)
    backend = MemoryBackend()
    wanted, told = ingest.Wanted(layout), []
    for calls in range(12):
        for end in (after, after[: 2 * MIB]):
            try:
                stored = ingest.put(backend, Changing(before, end, calls), Window(backend), wanted)
            except InvalidValue as error:
                told.append(str(error))
                continue
            found = find(backend, stored.digest)
            assert found is not None
            assert found.size_bytes == stored.size_bytes == len(before)
    assert told
    assert all("changed" in text for text in told)
    assert _store(backend).verify() == []


def test_a_base_that_is_damaged_is_not_used(tmp_path: Path) -> None:
    first, second = versions(2)
    root = tmp_path / "lab"
    with holdfast.open(root) as store, store.start_run("s", run_id="s") as run:
        run.log_artifact(first, key="c/0")
        pack = next(path for path in (root / "packs").rglob("*") if path.is_file())
        broken = bytearray(pack.read_bytes())
        broken[len(broken) // 3] ^= 1
        pack.write_bytes(broken)
        run.log_artifact(second, key="c/1")
    with holdfast.open(root) as store:
        with pytest.raises(Corrupt, match="damaged between byte"):
            store.read_artifact("s", "c/0")
        assert store.read_artifact("s", "c/1") == second


def test_a_backend_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    faults = Faults()
    store = _store(WatchedBackend(LocalBackend(tmp_path), faults))
    with store.start_run("s", run_id="s", capture=False) as run:
        faults.left = 9
        with pytest.raises(BackendError, match="injected"):
            run.log_artifact(versions(1)[0], key="a", layout="packed")
        faults.left = -1
        for name in ("blobs", "packs", "recipes"):
            assert not [path for path in (tmp_path / name).rglob("*") if path.is_file()]


_KILLED = """
import os, sys
sys.path[:0] = [sys.argv[2]]
import holdfast
from holdfast.backend.local import LocalBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.repository import connected
from holdfast.store import ExperimentStore
from test_artifact_layouts import versions

series = versions(2, 20_000)
for last in range(1, 10**6, 3):
    child = os.fork()
    if not child:
        calls = [0]
        def watch(operation, name):
            calls[0] += 1
            if calls[0] == last:
                os.kill(os.getpid(), 9)
        store = ExperimentStore()
        store.repository = connected(WatchedBackend(LocalBackend(f"{sys.argv[1]}/{last}"), watch))
        store.start_run("s", run_id="s", capture=False)
        for step, data in enumerate(series):
            store.add_artifact_file("s", data, f"c/{step}", layout="packed")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        print(last)
        break
"""


def test_a_process_may_be_killed_at_any_call_while_it_stores(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path), str(Path(__file__).parent)],
        check=True,
        capture_output=True,
        text=True,
    )
    series = versions(2, 20_000)
    assert int(done.stdout) > 40
    begun = 0
    for number in range(1, int(done.stdout) + 1, 3):
        if not (tmp_path / str(number) / "store.json").exists():
            continue
        with holdfast.open(tmp_path / str(number), cache=False) as store:
            assert store.verify() == []
            state = store.repository.manifest("s").load().state
            for key in state.get("artifacts", {}):
                assert store.read_artifact("s", key) == series[int(key[2:])]
            if "run" in state:
                begun += 1
                store.add_artifact_file("s", series[1], "again", layout="packed")
                assert store.read_artifact("s", "again") == series[1]
                assert store.verify() == []
    assert begun > 8
