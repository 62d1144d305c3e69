"""Collectors and writers that fail, lose answers, are killed, or meet: nothing that counts is ever lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

import holdfast
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import BackendError, HoldfastError, InvalidState
from holdfast.ops import gc
from holdfast.repository import connected
from holdfast.store import ExperimentStore
from test_faults import Faults, LosingBackend
from test_gc import begin, fill, names, opened

BIG = random.Random(7).randbytes(1_100_000)
SMALL = b"some bytes"


def prepared() -> MemoryBackend:
    """A copy of `template`."""
    backend, made = MemoryBackend(), template()
    for stat in made.walk(""):
        backend.create(stat.name, made.get(stat.name))
    return backend


@cache
def template() -> MemoryBackend:
    """A store with a run that stays, one that goes, what both need, and a run that has ended."""
    backend = MemoryBackend()
    with opened(backend) as store:
        fill(store, "stays", model=BIG, shared=SMALL)
        fill(store, "goes", own=BIG[:-1], shared=SMALL)
        with begin(store, "open") as run:
            run.log_artifact(b"mine", key="mine")
        store.pack("stays", "model")
        store.delete_run("goes")
    return backend


def check(backend: MemoryBackend) -> None:
    """Everything that is not deleted is there and exact."""
    with opened(backend) as store:
        assert store.read_artifact("stays", "model") == BIG
        assert store.read_artifact("stays", "shared") == SMALL
        assert store.read_artifact("open", "mine") == b"mine"
        assert store.metrics("stays", "loss").values.tolist() == [5.0]
        assert [one for one in store.verify() if one.code not in ("orphan", "head")] == []


@pytest.mark.parametrize("wrapper", [WatchedBackend, LosingBackend])
def test_any_one_call_of_a_collector_may_fail(wrapper: type[WatchedBackend]) -> None:
    number, failed = 0, 0
    while True:
        number += 1
        backend, faults = prepared(), Faults()
        store = opened(wrapper(backend, faults))
        faults.left, faults.calls = number, 0
        try:
            store.gc()
        except HoldfastError:
            failed += 1
        reached, faults.left = faults.calls, -1
        check(backend)
        with opened(backend) as later:
            later.gc()
            later.gc()
            assert later.gc_plan().names == {}, number
            assert len(names(later, "runs/goes/")) == 1
        check(backend)
        if reached < number:
            break
    assert failed >= 20
    assert number >= 40


class Stop(BaseException):
    """A process that is killed: nothing of it runs any more."""


@pytest.mark.parametrize("step", range(1, 120, 3))
def test_a_collector_that_is_killed_is_finished_by_another_while_somebody_writes(step: int) -> None:
    backend, left = prepared(), [step]

    def watch(operation: str, name: str) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise Stop

    with opened(backend) as writer:
        run = begin(writer, "late")
        run.log_artifact(b"first", key="first")
        with suppress(Stop):
            opened(WatchedBackend(backend, watch)).gc()
        run.log_artifact(BIG[:-1], key="own")  # what the dead run had
        run.log_artifact(SMALL, key="small")
        with opened(backend) as other:
            other.gc()
        run.log_artifact(BIG, key="model")
        run.finish()
        assert writer.read_artifact("late", "own") == BIG[:-1]
        assert writer.read_artifact("late", "small") == SMALL
        assert writer.read_artifact("late", "model") == BIG
    check(backend)


def test_an_undelete_wins_or_is_refused_wherever_it_comes() -> None:
    won = 0
    for step in range(1, 200):
        backend, left = prepared(), [step]

        def watch(operation: str, name: str) -> None:
            left[0] -= 1  # noqa: B023 - called within the same round
            if left[0] == 0:  # noqa: B023
                with opened(backend) as other:  # noqa: B023
                    try:
                        other.undelete_run("goes")
                        said.append("back")  # noqa: B023
                    except InvalidState:
                        said.append("refused")  # noqa: B023

        said: list[str] = []
        opened(WatchedBackend(backend, watch)).gc()
        if not said:
            break
        with opened(backend) as store:
            if said == ["back"]:
                won += 1
                assert store.read_artifact("goes", "own") == BIG[:-1]
                assert store.metrics("goes", "loss").values.tolist() == [4.0]
            else:
                store.gc()
                assert len(names(store, "runs/goes/")) == 1
        check(backend)
    assert 10 < won < step - 10


def at_once(jobs: list[tuple[Callable[[int], None], int]]) -> None:
    problems: list[BaseException] = []

    def guarded(work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - told below
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_many_writers_and_collectors_at_once(tmp_path: Path) -> None:
    """Threads of one process, each with a store of its own, as processes would be."""
    url, chance = tmp_path / "lab", random.Random(3)
    pieces = [chance.randbytes(1_200_000) for _ in range(3)] + [b"a", b"b", b"c"]
    holdfast.open(url).close()
    said: dict[str, bytes] = {}

    def write(number: int) -> None:
        mine = random.Random(number)
        with holdfast.open(url) as store:
            for round_ in range(6):
                name = f"w{number}-{round_}"
                data = mine.choice(pieces)
                fill(store, name, model=data)
                if mine.random() < 0.6:
                    store.delete_run(name)
                else:
                    said[name] = data

    def collect(number: int) -> None:
        with holdfast.open(url) as store:
            for _ in range(6):
                store.gc()

    at_once([(write, 1), (write, 2), (write, 3), (collect, 1), (collect, 2)])
    with holdfast.open(url) as store:
        for name, data in said.items():
            assert store.read_artifact(name, "model") == data
        store.gc()
        store.gc()
        assert store.gc_plan().names == {}
        assert [one for one in store.verify() if one.code != "head"] == []
        assert {run.run_id for run in store.runs()} == set(said)


_COLLECT = """
import sys, holdfast
with holdfast.open(sys.argv[1]) as store:
    print("begun", flush=True)
    while True:
        store.gc()
"""


def test_collectors_are_killed_while_runs_come_and_go(tmp_path: Path) -> None:
    url = tmp_path / "lab"
    with holdfast.open(url) as store:
        fill(store, "kept", model=BIG)
        for round_ in range(4):
            command = [sys.executable, "-c", _COLLECT, str(url)]
            collector = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert collector.stdout is not None
            assert collector.stdout.readline() == b"begun\n"
            for number in range(4):
                fill(store, f"r{round_}-{number}", model=BIG[:-1], n=bytes([number]))
                store.delete_run(f"r{round_}-{number}")
            os.kill(collector.pid, signal.SIGKILL)
            collector.wait()
            collector.stdout.close()
        store.gc()
        store.gc()
        assert store.gc_plan().names == {}
        assert store.read_artifact("kept", "model") == BIG
        assert [one for one in store.verify() if one.code not in ("head", "leftover")] == []


def test_a_full_disk_or_a_dead_bucket_says_so() -> None:
    backend = prepared()

    def broken(operation: str, name: str) -> None:
        if operation == "create" and name.startswith("gc/"):
            raise BackendError("the bucket is gone", name=name)

    store: ExperimentStore = opened(WatchedBackend(backend, broken))
    with pytest.raises(BackendError, match="the bucket is gone"):
        store.gc()
    check(backend)


def test_another_collector_may_end_at_any_moment_of_a_plan() -> None:
    at = 0
    while True:
        at += 1
        backend = MemoryBackend()
        with opened(backend) as store:
            for name in ("stays", "goes"):
                with store.start_run("e", run_id=name, capture=False) as run:
                    run.log({"x": 1.0}, step=0)
                    run.log_artifact(name.encode() * 1000, key="k")
            store.delete_run("goes")
        calls = 0

        def watch(operation: str, name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == at:  # noqa: B023
                other = connected(backend)  # noqa: B023
                gc.execute(other, gc.plan(other))

        watched = connected(WatchedBackend(backend, watch))
        calls = 0
        plan = gc.plan(watched)
        assert [one.run_id for one in plan.removals] in ([], ["goes"])
        if calls < at:
            break
    assert at > 10
