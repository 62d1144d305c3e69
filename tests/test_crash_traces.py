"""Every prefix of a recorded trace of file operations, with every legal loss of what was not fsynced, is
mounted and opened: what was acknowledged as durable is there, nothing is there in part, and work goes on."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from faults.disk import Disk, Op, Recorder, mounted
from holdfast import process
from holdfast.backend import disk as disks
from holdfast.backend import local, spoolfile
from holdfast.errors import ArtifactNotFound, HoldfastError, MetricNotFound, RunNotFound
from holdfast.keeper import Keeper

GONE = {"host": "h", "pid": 1, "started": "", "space": ""}
HERE = {"host": "h", "pid": 2, "started": "", "space": ""}
RUN = "run"
Say = Callable[..., None]


def train(place: Path, say: Say) -> None:
    """One run of every kind of write; what is durable is said."""
    store = holdfast.open(place)
    say("founded")
    run = store.start_run("e", run_id=RUN, capture=False, system=False)
    say("begun")
    for step in range(3):
        say("logging", float(step))
        run.log({"x": float(step)}, step)
    run.flush()
    say("flushed", 3)
    run.log_artifact(b"first" * 300, "model")
    say("artifact", "model", b"first" * 300)
    say("logging", 3.0)
    run.log({"x": 3.0}, 3)
    say("storing", "model", b"second" * 300)
    run.log_artifact(b"second" * 300, "model")
    say("artifact", "model", b"second" * 300)
    run._writer.seal(go_on=True)
    say("flushed", 4)
    say("logging", 4.0)
    run.log({"x": 4.0}, 4)
    run.set_tags({"a": 1})
    say("tagged")
    run.finish()
    say("flushed", 5)
    say("finished")
    store.close()


def resume_and_pack(place: Path, say: Say) -> None:
    """A run that goes on, whose segments are put together, and large artifacts in packs."""
    train(place, say)
    store = holdfast.open(place, layout="packed")
    say("resuming")
    run = store.resume(RUN, step=5, system=False)
    say("resumed")
    block = random.Random(1).randbytes(700_000)
    say("storing", "big", block * 2)
    run.log_artifact(block * 2, "big")
    say("artifact", "big", block * 2)
    say("logging", 5.0)
    run.log({"x": 5.0}, 5)
    run.finish(compact=True)
    say("flushed", 6)
    say("finished")
    store.close()


WORK = {"train": train, "resume and pack": resume_and_pack}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where disks are mounted: in memory, where the system has that, for a thousand of them come."""
    root = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path))
    yield root
    shutil.rmtree(root, ignore_errors=True)


def recorded(
    work: Callable[[Path, Say], None], place: Path, patch: pytest.MonkeyPatch, mapped: bool
) -> list[Op]:
    place.mkdir()
    with patch.context() as inside:
        inside.setattr(process, "identity", lambda: dict(GONE))
        inside.setattr(Keeper, "_start", lambda self: None)  # one thread alone is recorded
        inside.setattr(disks, "sync_directories", _one_by_one)
        inside.setattr(local, "sync_directories", _one_by_one)
        if not mapped:
            inside.setattr(spoolfile, "_IN_PLACE", set())
        recorder = Recorder(place, inside.setattr)
        inside.setattr(spoolfile, "datasync", recorder._fsync)
        inside.setattr(spoolfile.mmap, "mmap", recorder.window)
        work(place / "lab", recorder.say)
    return recorder.ops


def _one_by_one(directories: Any) -> None:
    for each in directories:
        disks.sync_directory(each)


def disks_after(ops: list[Op], chance: random.Random, most: int) -> Iterator[tuple[Any, list[Any]]]:
    """(names and bytes, what had been said) of every disk that a power cut may leave."""
    disk = Disk()
    seen: set[int] = set()
    for op in ops:
        disk.apply(op)
        if op.what == "said" or op.what.startswith("sync"):
            continue  # nothing is possible that was not so before
        for tree in disk.states(chance, most):
            mark = hash((frozenset(tree.items()), len(disk.said)))
            if mark not in seen:
                seen.add(mark)
                yield tree, list(disk.said)


def check(store: holdfast.ExperimentStore, said: list[Any]) -> None:
    """Everything durable that was said is so, and nothing is half there."""
    last = {about[0]: about[1:] for about in said}
    try:
        summary = store.run(RUN)
    except RunNotFound:
        assert "begun" not in last
        return
    logged = [about[1] for about in said if about[0] == "logging"]
    try:
        values = store.metrics(RUN, "x").values.tolist()
    except MetricNotFound:
        values = []
    assert values == logged[: len(values)]
    assert len(values) >= last.get("flushed", [0])[0]
    for key in ("model", "big"):
        stored = [
            about for about in said if about[0] in ("artifact", "storing") and about[1] == key
        ]
        sure = [number for number, about in enumerate(stored) if about[0] == "artifact"]
        try:
            data = store.read_artifact(RUN, key)
        except ArtifactNotFound:
            assert not sure
            continue
        assert data in [about[2] for about in stored[sure[-1] if sure else 0 :]] or not sure
    if "tagged" in last:
        assert summary.tags == {"a": 1}
    if said and said[-1][0] == "finished":
        assert summary.status.value == "Success"


def hold(tree: Any, said: list[Any], old: str, new: Path) -> None:
    """Open the disk, read it as it is, recover it, and go on."""
    mounted(tree, old, new)
    with holdfast.open(new / "lab") as store:
        check(store, said)
        assert [found.problem for found in store.recover() if found.problem] == []
        assert store.verify() == []
        check(store, said)
        assert {run.run_id for run in store.runs()} >= ({RUN} if ("begun",) in said else set())
        if ("begun",) in said:
            run = store.resume(RUN, step=1000, system=False)
            run.log({"x": -1.0})
            run.finish()
            assert store.metrics(RUN, "x").values.tolist()[-1] == -1.0
        assert store.verify() == []
    shutil.rmtree(new)


def explore(
    work: str,
    mapped: bool,
    most: int,
    share: float,
    place: Path,
    patch: pytest.MonkeyPatch,
    without: Callable[[Op], bool] = lambda op: False,
) -> int:
    """Try a `share` of all disks, of each point of the trace at most `most`; how many it were. Calls
    `without` which the code should have done otherwise are left out."""
    chance = random.Random(f"{work} {mapped}")
    ops = recorded(WORK[work], place / "recorded", patch, mapped)
    ops = [op for op in ops if not without(op)]
    patch.setattr(process, "identity", lambda: dict(HERE))
    patch.setattr(process, "is_alive", lambda who: who.get("pid") == HERE["pid"])
    tried = 0
    for number, (tree, said) in enumerate(disks_after(ops, chance, most)):
        if chance.random() < share:
            try:
                hold(tree, said, str(place / "recorded"), place / f"disk{number}")
            except BaseException as error:
                error.add_note(f"disk {number} of {work}, mapped={mapped}, after {said[-3:]}")
                raise
            tried += 1
    return tried


@pytest.mark.parametrize("mapped", [False, True], ids=["written", "mapped"])
@pytest.mark.parametrize("work", WORK)
def test_a_sample_of_disks_holds_what_was_promised(
    work: str, mapped: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert explore(work, mapped, most=6, share=0.08, place=place, patch=monkeypatch) > 30


FORGOTTEN: dict[str, Callable[[Op], bool]] = {
    "files": lambda op: op.what == "sync file" and "/spool/" not in op.path,
    "directories": lambda op: op.what == "sync dir",
    "spools": lambda op: op.what == "sync file" and "/spool/" in op.path,
    "directories of runs": lambda op: op.what == "sync dir" and op.path.endswith("/runs"),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_an_fsync_that_is_forgotten_is_found(
    what: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((AssertionError, HoldfastError)):
        explore("train", False, 6, 1.0, place, monkeypatch, without=FORGOTTEN[what])


@pytest.mark.slow
@pytest.mark.parametrize("mapped", [False, True], ids=["written", "mapped"])
@pytest.mark.parametrize("work", WORK)
def test_every_disk_holds_what_was_promised(
    work: str, mapped: bool, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert explore(work, mapped, most=256, share=1.0, place=place, patch=monkeypatch) > 1000
