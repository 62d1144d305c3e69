"""How many requests it takes to read what lies in packs: what lies together is asked for together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import holdfast
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.digest import Digest
from holdfast.verified_chunks import WINDOW_BYTES
from test_artifact_layouts import MIB, moved, safetensors, weights
from test_bundles import sources, write
from test_faults import _store


class Counted:
    """A store in memory whose calls are counted."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.store = _store(WatchedBackend(MemoryBackend(), self._watch))

    def _watch(self, operation: str, name: str) -> None:
        self.calls.append((operation, name))

    def of(self, work: Callable[[], object]) -> list[tuple[str, str]]:
        """The calls that `work` makes."""
        self.calls.clear()
        work()
        return list(self.calls)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def data(calls: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that ask for a part of a file."""
    return [call for call in calls if call[0] == "get_range"]


def test_a_packed_artifact_takes_a_request_for_each_stretch(
    counted: Counted, tmp_path: Path
) -> None:
    store, size = counted.store, 20 * MIB
    whole = safetensors(a=weights(1, size // 2))
    with store.start_run("s", run_id="s") as run:
        run.log_artifact(whole, key="c/1", layout="packed")
    digest = str(Digest.of(whole))
    windows = -(-len(whole) // WINDOW_BYTES)
    for work in (
        lambda: store.read_artifact(digest),
        lambda: store.get_artifact(digest, to=tmp_path / "out", overwrite=True),
    ):
        calls = counted.of(work)
        assert len(data(calls)) <= windows
        before = [call for call in calls if call[0] != "get_range"]
        assert len(before) <= 6, before  # by its digest: how long it is, and then as below
    about = store.repository.manifest("s").load().state["artifacts"]["c/1"]
    calls = counted.of(lambda: holdfast.ops.artifacts.read(store.repository, about))
    assert len(calls) <= 3 + windows


def test_differences_take_a_request_for_each_file_and_stretch(counted: Counted) -> None:
    store, size = counted.store, 6 * MIB
    numbers = weights(1, size // 2)
    with store.start_run("s", run_id="s") as run:
        for step in range(3):
            whole = safetensors(a=numbers)
            run.log_artifact(whole, key=f"c/{step}", layout="packed")
            numbers = moved(numbers, step)
    about = store.repository.manifest("s").load().state["artifacts"]["c/2"]
    calls = counted.of(lambda: holdfast.ops.artifacts.read(store.repository, about))
    assert len(calls) <= 3 + 3  # of three packs one stretch each
    assert np.array_equal(
        np.frombuffer(store.read_artifact("s", "c/2"), "u1"), np.frombuffer(whole, "u1")
    )


def test_a_directory_of_small_files(counted: Counted, tmp_path: Path) -> None:
    files = sources(500)
    with counted.store.start_run("s", run_id="s") as run:
        run.log_artifact(write(tmp_path / "in", files), key="code")
    calls = counted.of(lambda: counted.store.get_artifact("s", "code", to=tmp_path / "out"))
    assert len(data(calls)) == 1
    assert len([call for call in calls if "/sha256/" in call[1]]) <= 4
