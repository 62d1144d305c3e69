"""Syncs into a store in which garbage is collected at the same time: nothing that arrives is taken away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import holdfast
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.chain import Chain
from holdfast.format import gc as formats
from holdfast.format import layout
from holdfast.ops import gc
from holdfast.ops.sync import sync
from holdfast.ops.sync_memory import Memory
from holdfast.ops.sync_needs import Sides, What
from holdfast.repository import connected
from test_sync import Watched, write
from test_sync_faults import attempt, check, prepared

Step = Callable[[MemoryBackend], Any]


def collect(backend: MemoryBackend) -> None:
    """A whole collection, by another process."""
    repository = connected(backend)
    gc.execute(repository, gc.plan(repository))


def condemn(backend: MemoryBackend) -> None:
    """The first half of one: its collector stops when it has condemned and fenced."""
    repository = connected(backend)

    class Stopped(BaseException):
        pass

    def stop(operation: str, name: str) -> None:
        if operation == "create" and name.startswith(f"{layout.LOG}0") and _is_second(backend):
            raise Stopped

    watched = connected(WatchedBackend(backend, stop))
    with suppress(Stopped):
        gc.execute(watched, gc.plan(repository))


def _is_second(backend: MemoryBackend) -> bool:
    """Is what is there of the log an entry that condemns and was not decided?"""
    rows = connected(backend)
    rows.condemned.refresh(backend)
    return any(one.spared is None for one in rows.condemned.collections)


def leftover(source: MemoryBackend) -> MemoryBackend:
    """A target with all files of the source that a sync was to refer to, and no more."""
    target = MemoryBackend()
    connected(target)
    for prefix in ("blobs/", "packs/", "recipes/"):
        for stat in source.walk(prefix):
            target.create(stat.name, source.get(stat.name))
    return target


@pytest.mark.parametrize("step", [collect, condemn])
def test_a_collection_at_any_moment_takes_nothing_away(step: Step) -> None:
    number = 0
    while True:
        number += 3
        source = prepared()
        target = leftover(source)
        calls = 0

        def watch(operation: str, name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == number:  # noqa: B023
                step(target)  # noqa: B023

        report = attempt(source, WatchedBackend(target, watch))
        assert report.ok, report.findings
        check(source, target, whole=True)
        collect(target)
        collect(target)
        check(source, target, whole=True)
        if calls < number:
            break
    assert number > 30


def test_what_was_collected_in_the_target_is_stored_anew() -> None:
    """The names are never used again, so plain artifacts are packed, and packs get new names."""
    source = prepared()
    target = leftover(source)
    gone = {stat.name for stat in target.walk("") if stat.name.startswith(("blobs/", "packs/"))}
    collect(target)
    assert not any(target.walk("blobs/"))
    assert attempt(source, target).ok
    check(source, target, whole=True)
    assert not gone & {stat.name for stat in target.walk("")}


def test_a_closed_sync_holds_nothing() -> None:
    source, target = prepared(), MemoryBackend()
    connected(target)
    assert attempt(source, target).ok
    assert gc.plan(connected(target)).open_syncs == []


def test_a_run_that_was_removed_for_good_does_not_come_back() -> None:
    source, target = Watched(), Watched()
    write(source.store, "gone")
    write(source.store, "kept")
    source.store.sync_to(target.store)
    target.store.delete_run("gone")
    collect(target.memory)
    assert len(target.names("runs/gone/")) == 1
    report = source.store.sync_to(target.store)
    assert report.ok and report.runs == []
    assert len(target.names("runs/gone/")) == 1
    back = target.store.sync_to(source.store)
    assert back.ok and back.runs == []
    assert source.store.read_artifact("gone", "notes/small.txt") == b"small"
    for side in (source, target):
        side.calls.clear()
    source.store.sync_to(target.store)
    assert {op for op, _ in source.calls + target.calls} <= {"walk", "names", "folders", "token"}


def remove(backend: MemoryBackend, run_id: str) -> None:
    """Remove a run for good."""
    store = holdfast.ExperimentStore()
    store.repository = connected(backend)
    store.delete_run(run_id)
    collect(backend)


def test_a_run_that_was_removed_for_good_is_said_to_be() -> None:
    """On either side; it does not count as equal."""
    source, target = Watched(), Watched()
    for run_id in ("kept", "gone here", "gone there"):
        write(source.store, run_id)
    source.store.sync_to(target.store)
    remove(source.memory, "gone here")
    remove(target.memory, "gone there")
    for _ in range(2):  # the second one remembers it
        report = source.store.sync_to(target.store)
        assert report.ok and report.runs == []
        assert (report.collected, report.equal) == (["gone here", "gone there"], 1)
    assert not target.store.run("gone here").deleted


def test_an_entry_that_collects_is_not_brought_over() -> None:
    """Its collector has yet to remove the others: whether it has come so far makes no difference."""
    source, target = Watched(), Watched()
    write(source.store, "gone")
    source.store.sync_to(target.store)
    there = target.names("runs/gone/")
    source.store.delete_run("gone")
    chain = Chain(source.memory, layout.manifest("gone"))
    chain.commit(chain.load(), lambda state: formats.collected(state, 1), anew=True)
    report = source.store.sync_to(target.store)
    assert report.ok and report.collected == ["gone"]
    assert target.names("runs/gone/") == there


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_run_that_is_removed_meanwhile_is_no_damage(side: str) -> None:
    """At any moment of a sync: the others arrive, and of this one nothing is called corrupt."""
    number = 0
    while True:
        number += 1
        source, target = Watched(), Watched()
        write(source.store, "gone")
        source.store.sync_to(target.store)
        source.store.add_artifact_file("gone", b"more of it", "more")
        write(source.store, "kept")
        calls = 0

        def watch(operation: str, name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == number:  # noqa: B023
                remove(source.memory if side == "source" else target.memory, "gone")  # noqa: B023

        from_, to = (connected(WatchedBackend(one.memory, watch)) for one in (source, target))
        report = sync(Sides(from_, to, What(), Memory(None)), threads=1)
        assert report.ok, (number, report.findings, report.diverged)
        assert target.store.read_artifact("kept", "notes/small.txt") == b"small"
        if calls < number:
            break
        assert report.collected == ["gone"] or "gone" in report.runs, number
    assert number > 30


def test_segments_of_a_run_that_is_still_to_come_stay() -> None:
    """Its entries bear the same bytes in both stores, so they could not come under another name."""
    source = prepared()
    target = leftover(source)
    segments = [stat.name for stat in source.walk(layout.RUNS) if stat.name.endswith(".seg")]
    assert segments
    for name in segments:
        target.create(name, source.get(name))
    collect(target)
    assert all(target.get(name) == source.get(name) for name in segments)
    assert attempt(source, target).ok
    check(source, target, whole=True)
