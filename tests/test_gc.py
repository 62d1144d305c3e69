"""Collecting garbage: what goes, what stays, and that any process may write, read and collect meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.backend.base import Backend
from holdfast.backend.memory import MemoryBackend
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import (
    ArtifactNotFound,
    Corrupt,
    InvalidState,
    InvalidValue,
    NotFound,
    QueryError,
)
from holdfast.format import gc, layout, storefile
from holdfast.ops.policy import Policy
from holdfast.repository import connected
from holdfast.store import ExperimentStore

BIG = random.Random(7).randbytes(3_000_000)


def opened(backend: Backend) -> ExperimentStore:
    store = ExperimentStore()
    store.repository = connected(backend)
    store.store_id = store.repository.store_id
    return store


def begin(store: ExperimentStore, name: str, experiment: str = "e") -> holdfast.Run:
    return store.start_run(experiment, run_id=name, capture=False, system=False)


def fill(store: ExperimentStore, name: str, **artifacts: bytes) -> None:
    with begin(store, name) as run:
        run.log({"loss": len(name)}, step=0)
        for key, data in artifacts.items():
            run.log_artifact(data, key=key)


def names(store: ExperimentStore, *kinds: str) -> list[str]:
    found = [stat.name for stat in store.repository.backend.walk("")]
    return [
        name
        for name in found
        if name.startswith(kinds or ("blobs/", "packs/", "recipes/", "runs/"))
    ]


def test_there_is_nothing_to_free(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG, note=b"small")
    before = names(store)
    plan = store.gc_plan()
    assert (plan.names, plan.removals) == ({}, [])
    assert store.gc(plan).files == 0
    assert names(store) == before


def test_a_deleted_run_goes_with_all_that_only_it_needs(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG, shared=b"shared")
    fill(store, "b", shared=b"shared", own=b"own")
    store.delete_run("a")
    plan = store.gc_plan()
    (removal,) = plan.removals
    assert (removal.run_id, removal.reason) == ("a", "deleted")
    assert removal.artifacts["model"] > len(BIG)
    assert removal.artifacts["shared"] == 0
    assert plan.other_bytes == 0
    done = store.gc(plan)
    assert done.runs == ["a"]
    assert done.size_bytes == plan.size_bytes
    assert (
        names(store, "runs/a/") == ["runs/a/manifest/00000002"] or len(names(store, "runs/a/")) == 1
    )
    assert layout.blob(Digest.of(BIG)) not in names(store)
    assert store.read_artifact("b", "shared") == b"shared"
    assert store.verify() == []
    assert [run.run_id for run in store.runs()] == ["b"]
    with pytest.raises(InvalidState, match="removed and collected"):
        store.undelete_run("a")
    with pytest.raises(InvalidState, match="removed and collected"):
        store.add_artifact_file("a", b"more", "more")
    assert store.gc().files == 1  # what that had stored
    assert store.gc_plan().names == {}


def test_a_deleted_run_comes_back_as_long_as_it_is_not_collected(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG)
    store.delete_run("a")
    plan = store.gc_plan()
    store.undelete_run("a")
    done = store.gc(plan)
    assert (done.runs, done.files) == ([], 0)
    assert store.read_artifact("a", "model") == BIG
    assert store.metrics("a", "loss").values.tolist() == [1.0]


def test_what_was_collected_is_stored_again_under_a_new_name(store: ExperimentStore) -> None:
    everything = {"small": b"some bytes", "big": BIG, "empty": b""}
    for round_ in range(3):
        fill(store, f"run{round_}", **everything)
        for key, data in everything.items():
            assert store.read_artifact(f"run{round_}", key) == data
            with store.open_artifact(f"run{round_}", key) as file:
                assert file.read() == data
        assert store.verify() == []
        store.delete_run(f"run{round_}")
        assert store.gc().runs == [f"run{round_}"]
    fill(store, "last", **everything)
    blobs = names(store, "blobs/")
    assert blobs == [layout.blob(Digest.of(b""))]
    assert store.read_artifact(str(Digest.of(b"some bytes"))) == b"some bytes"
    with pytest.raises(InvalidState, match="cannot be plain again"):
        store.materialize("last", "big")


def test_a_directory_whose_listing_was_collected_is_a_directory_again(
    store: ExperimentStore, tmp_path: Path
) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "in" / "sub" / f"{number}.bin").write_bytes(BIG[number * 9 : 100_000 + number])
    for name in ("a", "b"):
        with begin(store, name) as run:
            run.log_artifact(tmp_path / "in", key="code")
        target = store.get_artifact(name, "code", to=tmp_path / name)
        assert (target / "sub" / "2.bin").read_bytes() == BIG[18:100_002]
        if name == "a":
            store.delete_run("a")
            assert store.gc().runs == ["a"]
    assert store.verify() == []
    assert store.gc_plan().names == {}


def test_old_segments_go_after_a_compaction(store: ExperimentStore) -> None:
    with begin(store, "a") as run:
        for step in range(10):
            run.log({"x": step}, step=step)
            run._writer.seal(go_on=True)
    store.compact("a")
    before = names(store, "runs/a/segments/")
    assert store.gc().files == len(before) - 1
    assert store.metrics("a", "x").values.tolist() == list(range(10))
    assert store.verify() == []


def test_the_layout_that_nobody_asks_for_any_more_goes(store: ExperimentStore) -> None:
    fill(store, "a", model=bytes(2_000_000) + BIG)
    store.pack("a", "model")
    assert layout.blob(Digest.of(bytes(2_000_000) + BIG)) in names(store) or names(store, "packs/")
    store.gc()
    assert names(store, "blobs/") == []
    assert store.read_artifact("a", "model") == bytes(2_000_000) + BIG
    assert store.verify() == []


def test_a_layout_stays_while_the_other_is_damaged(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG)
    store.pack("a", "model")
    backend = store.repository.backend
    for name in names(store, "packs/"):
        backend.put(name, backend.get(name)[:-40])
    store.gc()
    assert store.read_artifact("a", "model") == BIG


def test_what_an_alias_names_stays(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG)
    fill(store, "b", model=b"other")
    store.alias("prod/model", "a:model")
    store.alias("best", "b")
    store.delete_run("a")
    store.delete_run("b")
    plan = store.gc_plan()
    assert plan.kept == {"b": "aliases/best/"}
    assert store.gc(plan).runs == ["a"]
    assert store.read_artifact("prod/model") == BIG
    store.undelete_run("b")
    assert store.read_artifact("b", "model") == b"other"


def test_what_a_snapshot_needs_stays(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG)
    with begin(store, "b") as run:
        run.log_artifact(b"old bytes", key="model")
        store.snapshot("paper")
        run.log_artifact(b"new bytes", key="model")
    store.delete_run("a")
    plan = store.gc_plan()
    assert plan.kept == {"a": "snapshots/paper/"}
    store.gc(plan)
    assert store.read_artifact(str(Digest.of(b"old bytes"))) == b"old bytes"
    assert store.verify() == []


def test_what_is_being_collected_gets_no_name(store: ExperimentStore) -> None:
    from holdfast.ops import collect

    fill(store, "a", model=BIG)
    store.alias("prod", "a:model")
    store.delete_alias("prod")
    store.delete_run("a")
    plan = store.gc_plan()
    assert collect.condemn(store.repository, plan.names, plan.size_bytes)
    with pytest.raises(ArtifactNotFound, match="being collected"):
        store.alias("prod", str(Digest.of(BIG)))
    with pytest.raises(InvalidState, match="a collection is under way"):
        store.snapshot("paper")
    store.gc()
    assert names(store, "blobs/", "packs/") == []


def test_rules_for_keeping(store: ExperimentStore) -> None:
    for number in range(6):
        with begin(store, f"run{number}", f"e{number % 2}") as run:
            run.log({"loss": 10 * abs(number - 2) + number}, step=0)
            run.set_tags({"keep": number == 0})
    begin(store, "open").log({"loss": 9}, step=0)
    store.set_gc_policy(Policy("tags.keep", keep_last=1, keep_best=("loss", "min", 1)))
    assert store.gc_policy() == Policy("tags.keep", 1, ("loss", "min", 1))
    plan = store.gc_plan()
    assert {one.run_id for one in plan.removals} == {"run3"}  # 0: tag, 4 and 5: last, 1 and 2: best
    assert len(store.runs()) == 7  # a plan changes nothing
    assert store.gc(store.gc_plan()).runs == ["run3"]
    assert {run.run_id for run in store.runs()} == {"run0", "run1", "run2", "run4", "run5", "open"}
    store.set_gc_policy(Policy())
    assert store.gc_plan().removals == []


def test_a_run_that_changed_after_the_plan_is_not_removed(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG)
    fill(store, "b", model=b"b")
    plan = store.gc_plan(Policy(keep_last=1))
    assert [one.run_id for one in plan.removals] == ["a"]
    store.add_artifact_file("a", b"new", "new")
    assert store.gc(plan).runs == []
    assert store.read_artifact("a", "model") == BIG


@pytest.mark.parametrize(
    "rules",
    [{"keep_last": 0}, {"keep_best": ("loss", "best", 1)}, {"keep_best": ("loss", "min", 0)}],
)
def test_rules_with_mistakes_are_refused(rules: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        Policy(**rules)  # type: ignore[arg-type]


def test_a_query_with_a_mistake_is_no_policy(store: ExperimentStore) -> None:
    with pytest.raises(QueryError):
        store.set_gc_policy(Policy("statsu == 1 and"))
    assert store.gc_policy() == Policy()


def test_a_root_that_cannot_be_read_stops_it(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store:
        fill(store, "a", model=BIG)
        fill(store, "b", model=b"b")
        store.delete_run("b")
        before = names(store)
        entry = tmp_path / "lab" / "runs" / "a" / "manifest" / "00000001"
        entry.write_bytes(b"\0" + entry.read_bytes()[1:])
        newest = max(entry.parent.iterdir())
        newest.write_bytes(b"\0" + newest.read_bytes()[1:])
        with pytest.raises(Corrupt, match="nothing is collected while"):
            store.gc()
        assert names(store) == before


def test_an_older_store_says_first_that_collections_take_place(tmp_path: Path) -> None:
    root = tmp_path / "lab"
    with holdfast.open(root) as store:
        fill(store, "a", model=BIG)
        store.delete_run("a")
    about = storefile.decode((root / "store.json").read_bytes(), place="store.json")
    assert about["features"]["write"] == [gc.FEATURE]
    about["features"]["write"] = []
    (root / "store.json").write_bytes(storefile.encode(about))
    with holdfast.open(root) as store:
        assert store.gc().runs == ["a"]
    found = storefile.decode((root / "store.json").read_bytes(), place="store.json")
    assert found["features"]["write"] == [gc.FEATURE]
    assert found["store_id"] == about["store_id"]


def test_what_a_sync_holds_stays_until_it_is_said_to_be_over(store: ExperimentStore) -> None:
    fill(store, "a", model=BIG)
    store.delete_run("a")
    backend = store.repository.backend
    chain, blob = Chain(backend, layout.sync("ab" * 16)), layout.blob(Digest.of(BIG))
    elsewhere = {"host": "elsewhere", "pid": 1, "started": "1", "space": "x"}
    base = chain.commit(chain.load(), lambda state: {"sync": {"identity": elsewhere}})
    chain.commit(base, lambda state: {"needs": {blob: True}})
    plan = store.gc_plan()
    assert plan.open_syncs == ["ab" * 16]
    store.gc(plan)
    assert blob in names(store)
    with pytest.raises(NotFound, match="no sync 'nothing'"):
        store.end_sync("nothing")
    store.end_sync("ab" * 16)
    store.gc()
    assert blob not in names(store)
    assert names(store, "syncs/") == []


def test_leftovers_go(tmp_path: Path) -> None:
    root = tmp_path / "lab"
    with holdfast.open(root) as store:
        fill(store, "a", model=BIG)
        probe, document = root / "probe" / ("0" * 32) / "00000000", root / "gc" / "names"
        probe.parent.mkdir(parents=True)
        probe.write_bytes(b"x")
        temporary = root / "blobs" / "sha256" / ".tmp-left"
        temporary.write_bytes(b"half")
        os.utime(temporary, (1, 1))
        store.gc()
        assert not probe.exists()
        assert not temporary.exists()
        stray = document / f"00000000.{'0' * 64}"
        stray.write_bytes(b"of a collector that was overtaken")
        store.gc()
        assert not stray.exists()
    assert len(list(document.iterdir())) == 1


def test_a_collection_that_was_left_is_finished_by_the_next(store: ExperimentStore) -> None:
    from holdfast.ops import collect

    fill(store, "a", model=BIG)
    store.delete_run("a")
    plan = store.gc_plan()
    assert collect.condemn(store.repository, plan.names, plan.size_bytes)
    assert not collect.condemn(store.repository, plan.names, plan.size_bytes)
    again = store.gc_plan()
    assert again.unfinished
    store.gc(again)
    assert names(store, "blobs/") == []
    assert store.gc_plan().names == {}


@pytest.fixture
def two() -> Iterator[tuple[MemoryBackend, ExperimentStore, ExperimentStore]]:
    """Two processes on one store, as far as the store can tell."""
    backend = MemoryBackend()
    with opened(backend) as one, opened(backend) as other:
        yield backend, one, other


def test_an_open_run_notices_what_was_collected_behind_its_back(
    two: tuple[MemoryBackend, ExperimentStore, ExperimentStore],
) -> None:
    _, one, other = two
    fill(other, "old", model=BIG)
    run = begin(one, "new")
    run.log_artifact(b"first", key="first")
    other.delete_run("old")
    assert other.gc().runs == ["old"]
    run.log_artifact(BIG, key="model")
    run.log({"x": 1.0}, step=0)
    run.finish()
    assert other.read_artifact("new", "model") == BIG
    assert other.verify() == []
    other.gc()
    assert other.read_artifact("new", "model") == BIG
