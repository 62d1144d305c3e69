"""A machine that was away while others collected: it comes back, and all it has said is there."""

from __future__ import annotations

import random

import pytest

import far
from far import FarBackend
from holdfast.backend.memory import MemoryBackend
from test_gc import begin, fill, names, opened

BIG = random.Random(5).randbytes(1_100_000)
SMALL = b"what both have"


def check(backend: MemoryBackend, *run_ids: str) -> None:
    with opened(backend) as store:
        for run_id in run_ids:
            assert store.read_artifact(run_id, "model") == BIG
            assert store.read_artifact(run_id, "note") == SMALL
            assert store.metrics(run_id, "loss").values.tolist() == [1.0, 2.0]
        store.gc()
        store.gc()
        assert store.gc_plan().names == {}
        for run_id in run_ids:
            assert store.read_artifact(run_id, "model") == BIG
            assert store.read_artifact(run_id, "note") == SMALL
        assert [one for one in store.verify() if one.code not in ("head", "orphan")] == []


def collect_what_they_share(backend: MemoryBackend, *run_ids: str) -> None:
    with opened(backend) as other:
        for run_id in run_ids:
            other.delete_run(run_id)
            assert other.gc().runs == [run_id]


@pytest.mark.parametrize("begun", [True, False], ids=["begun before", "begun while away"])
@pytest.mark.parametrize("collections", [1, 3])
def test_an_outbox_that_was_away_during_collections(begun: bool, collections: int) -> None:
    backend = MemoryBackend("far://lab")
    with opened(backend) as other:
        for number in range(collections):
            fill(other, f"old-{number}", model=BIG, note=SMALL)
    lab = FarBackend(backend)
    with far.opened(lab, sends_by_hand=True) as store:
        lab.down = not begun
        run = begin(store, "away")
        run.log({"loss": 1.0}, step=0)
        if begun:
            run.log_artifact(BIG, key="model")
        lab.down = True
        run.log_artifact(BIG, key="model")
        run.log_artifact(SMALL, key="note")
        run.log({"loss": 2.0}, step=1)
        collect_what_they_share(backend, *(f"old-{number}" for number in range(collections)))
        lab.down = False
        run.finish()
    check(backend, "away")


def test_a_collection_between_any_two_calls_of_a_sender_that_came_back() -> None:
    """All of a collection, at each call in turn."""
    number, fenced = 0, 0
    while True:
        number += 1
        backend, left = MemoryBackend("far://lab"), [number]
        with opened(backend) as other:
            fill(other, "old", model=BIG, note=SMALL)
        lab = FarBackend(backend)
        with far.opened(lab, sends_by_hand=True) as store:
            run = begin(store, "away")
            lab.down = True
            run.log_artifact(BIG, key="model")
            run.log_artifact(SMALL, key="note")
            run.log({"loss": 1.0}, step=0)
            run.log({"loss": 2.0}, step=1)
            lab.down = False

            def fault(operation: str, name: str) -> None:
                left[0] -= 1  # noqa: B023 - called within the same round
                if left[0] == 0:  # noqa: B023
                    collect_what_they_share(backend, "old")  # noqa: B023

            lab.fault = fault
            run.finish()
            state = store.repository.manifest("away").load().state
            fenced += "fence" in state.get("gc", {}) if left[0] <= 0 else 0
        check(backend, "away")
        if left[0] > 0:
            break
    assert number > 10 and fenced > 3
    with opened(backend) as store:
        assert names(store, "blobs/")
