"""Fail the n-th backend call of each operation, for every n: the store stays valid, nothing that was
acknowledged is missing, and doing it again works."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import holdfast
from holdfast.backend import spoolfile
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import (
    AccessDenied,
    BackendError,
    Corrupt,
    HoldfastError,
    NotAStore,
    StorageFull,
    UnsupportedFormat,
)
from holdfast.format import storefile
from holdfast.repository import connected
from holdfast.store import ExperimentStore


class Faults:
    """Counts calls and makes one of them fail, before it acts or after it has acted."""

    def __init__(self) -> None:
        self.left = -1
        self.calls = 0

    def __call__(self, operation: str, name: str) -> None:
        self.calls += 1
        self.left -= 1
        if self.left == 0:
            raise BackendError(f"injected: {operation} {name}", name=name)


class LosingBackend(WatchedBackend):
    """Does what `create` and `put` ask and then loses the answer, when `faults` says so."""

    def create(self, name: str, data: bytes) -> None:
        self.inner.create(name, data)
        self.watch("create", name)

    def put(self, name: str, data: bytes) -> None:
        self.inner.put(name, data)
        self.watch("put", name)


def _store(backend: object) -> ExperimentStore:
    store = ExperimentStore()
    store.repository = connected(backend)  # type: ignore[arg-type]
    return store


def _whole_run(store: ExperimentStore, said: list[str]) -> None:
    """One run of every kind of write; `said` gets what was acknowledged."""
    run = store.start_run("faulty", run_id="run", capture=False)
    said.append("begun")
    try:
        run.log({"x": 1.0}, step=0)
        said.append("point 0")
        run.log_artifact(b"bytes" * 500_000, key="model")
        said.append("artifact")
        run.log({"x": 2.0, "y": 3.0}, step=1)
        said.append("point 1")
        run.flush()
        run.set_tags({"a": 1})
        said.append("tag")
    finally:
        run.finish()
        said.append("finished")


def _resume(store: ExperimentStore, said: list[str]) -> None:
    run = store.resume("run", step=1)
    said.append("resumed")
    run.log({"x": 5.0})
    said.append("point 1b")
    run.finish()


def _check(store: ExperimentStore, said: list[str]) -> None:
    """Everything in `said` is there, and nothing is half there."""
    assert store.verify() == []
    if "begun" not in said:
        return
    summary = store.run("run")
    if "point 0" in said:
        _check_points(store.metrics("run", "x").values.tolist(), said)
    if "artifact" in said:
        assert store.read_artifact("run", "model") == b"bytes" * 500_000
    if "tag" in said:
        assert summary.tags == {"a": 1}
    if "finished" in said and "resumed" not in said:
        assert summary.status.value == "Success"
    store.runs()


def _check_points(values: list[float], said: list[str]) -> None:
    if "point 1b" in said:
        assert values == [1.0, 5.0]
    elif "resumed" in said:  # nothing logged yet that takes the place of what was superseded
        assert values in ([1.0], [1.0, 5.0])
    elif "point 1" in said:
        assert values == [1.0, 2.0]
    else:
        assert values[0] == 1.0


Operation = Callable[[ExperimentStore, list[str]], None]


def _prepared(operation: Operation) -> tuple[MemoryBackend, list[str]]:
    """A backend as it must be before `operation`."""
    backend, said = MemoryBackend(), []
    with _store(backend) as store:
        if operation is _resume:
            _whole_run(store, said)
    return backend, said


@pytest.mark.parametrize("wrapper", [WatchedBackend, LosingBackend])
@pytest.mark.parametrize("operation", [_whole_run, _resume])
def test_any_one_call_may_fail(operation: Operation, wrapper: type[WatchedBackend]) -> None:
    number, failed = 0, 0
    while True:
        number += 1
        backend, said = _prepared(operation)
        faults = Faults()
        store = _store(wrapper(backend, faults))
        faults.left, faults.calls = number, 0
        try:
            operation(store, said)
        except HoldfastError:
            failed += 1
        reached = faults.calls
        faults.left = -1
        store.close()
        with _store(backend) as reopened:
            _check(reopened, said)
        if reached < number:
            break
    assert failed >= 5  # the loop really met failures
    assert number >= 15


def test_a_run_that_could_not_finish_can_finish_later() -> None:
    faults = Faults()
    backend = MemoryBackend()
    store = _store(WatchedBackend(backend, faults))
    run = store.start_run("later", run_id="run", capture=False)
    run.log({"x": 1.0}, step=0)
    faults.left = 1
    with pytest.raises(BackendError, match="injected"):
        run.finish()
    assert store.metrics("run", "x").values.tolist() == [1.0]
    run.finish()
    assert store.run("run").status.value == "Success"
    assert store.metrics("run", "x").values.tolist() == [1.0]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
@pytest.mark.parametrize("mapped", [True, False])
def test_a_full_disk_is_said_plainly_and_loses_nothing(
    tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not mapped:
        monkeypatch.setattr(spoolfile, "_IN_PLACE", set())
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", disk]).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        store = holdfast.open(disk / "lab")
        run = store.start_run("full", run_id="full", capture=False)
        run.log({"x": 0.0}, step=0)
        assert isinstance(run._writer._appender, spoolfile.MappedAppender) is mapped
        with pytest.raises(StorageFull, match="disk is full"):
            run.log_artifact(random.Random(1).randbytes(8_000_000), key="big")
        (disk / "filler").write_bytes(b"")
        with open(disk / "filler", "ab", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(bytes(4096))
        written = 0
        with pytest.raises(StorageFull, match="free space"):
            while True:
                run.log({"x": float(written)}, step=written + 1)
                written += 1
        (disk / "filler").unlink()
        run.log({"x": -1.0}, step=written + 1)
        run.finish()
        assert store.metrics("full", "x").steps.tolist() == list(range(written + 2))
        assert store.verify() == []
        store.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_directory_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holdfast.open(tmp_path / "lab") as store, store.start_run("r") as run:
        run.log({"x": 1.0})

    def denied(path: object, flags: int, mode: int = 0o777, **rest: object) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, mode, **rest)  # type: ignore[arg-type]

    real = os.open
    monkeypatch.setattr(os, "open", denied)
    with holdfast.open(tmp_path / "lab") as store:
        assert len(store.metrics(run.id, "x")) == 1
        with pytest.raises(AccessDenied, match="no access"):
            store.start_run("r")
        monkeypatch.undo()


def test_a_read_only_store_reads_everything(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store, store.start_run("r") as run:
        run.log({"x": 1.0})
    with holdfast.open(tmp_path / "lab", read_only=True) as store:
        assert len(store.metrics(run.id, "x")) == 1
        assert len(store.runs()) == 1
        with pytest.raises(BackendError, match="read-only"):
            store.start_run("r")


def test_places_that_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(NotAStore, match="is a file"):
        holdfast.open(tmp_path / "file")
    with pytest.raises(NotAStore, match="not empty"):
        holdfast.open(tmp_path / "full")
    with pytest.raises(NotAStore, match="holdfast init"):
        holdfast.open(tmp_path / "nowhere", create=False)
    assert not (tmp_path / "nowhere").exists()
    holdfast.open(tmp_path / "lab").close()
    for inside in ("lab/inner", "lab/runs/deep/inner"):
        with pytest.raises(NotAStore, match="lies inside the store"):
            holdfast.open(tmp_path / inside)


def test_newer_formats_and_features_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "lab"
    holdfast.open(root).close()
    about = (root / "store.json").read_text()
    (root / "store.json").write_text(about.replace('"format": 1', '"format": 2'))
    with pytest.raises(UnsupportedFormat, match="format 2"):
        holdfast.open(root)
    fields = storefile.decode(about.encode(), place="store.json")
    fields["features"]["read"] = ["teleport"]
    (root / "store.json").write_bytes(storefile.encode(fields))
    with pytest.raises(UnsupportedFormat, match="teleport"):
        holdfast.open(root)
    (root / "store.json").write_text(about[:40])
    with pytest.raises(Corrupt, match="store.json"):
        holdfast.open(root)


_TOUCH = "import holdfast, sys; holdfast.open(sys.argv[1]).close()"


def test_two_processes_may_found_the_same_store(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _TOUCH, str(tmp_path / "lab")]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0, 0, 0, 0]


def test_any_flipped_byte_of_any_stored_file_is_noticed(tmp_path: Path) -> None:
    root = tmp_path / "lab"
    with holdfast.open(root) as store:
        with store.start_run("flip", run_id="flip", capture=False) as run:
            for step in range(50):
                run.log({"x": step, "y": step * 0.3}, step=step)
            run.log_artifact(os.urandom(1_200_000), key="big")
            run.log_artifact(b"small", key="small")
        files = [p for p in root.rglob("*") if p.is_file() and "heads" not in p.parts]
        for path in files:
            whole = path.read_bytes()
            if path.name == "store.json":  # read when a store is opened: tests/test_hostile.py
                continue
            for place in sorted({0, len(whole) // 3, len(whole) // 2, len(whole) - 1}):
                broken = bytearray(whole)
                broken[place] ^= 0x10
                path.write_bytes(bytes(broken))
                findings = store.verify()
                assert findings, f"a flip at {place} of {path} went unnoticed"
                assert any(path.name in f.place or path.name in f.message for f in findings)
            path.write_bytes(whole)
        assert store.verify() == []
