"""Bringing the catalog up to date: nothing is missed, and nothing is asked that is known already."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

import holdfast
from far import FarBackend
from holdfast.backend import token
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.token import directory_token
from holdfast.backend.wrap import WatchedBackend
from holdfast.catalog import Catalog
from holdfast.chain import EMPTY, Chain
from holdfast.format import layout
from holdfast.ops.refresh import Heads, refresh
from holdfast.repository import Repository, connected

RUN = {"experiment_id": "e", "status": "Success", "created_at": 1}
LARGE = {"text": "x" * 5000}


class Lab:
    """A store in memory whose calls are counted, and a catalog of it."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.store = MemoryBackend()
        self.backend = WatchedBackend(
            self.store, lambda operation, name: self.asked.update([operation])
        )
        self.repository = connected(self.backend)
        self.catalog = Catalog.open("lab", memory=True)

    def add(self, run_id: str, config: Any = None) -> Any:
        chain = Chain(self.store, layout.manifest(run_id))
        return chain.commit(EMPTY, lambda state: {"run": RUN, "config": config or {"n": 0}})

    def tag(self, run_id: str, value: int) -> None:
        chain = Chain(self.store, layout.manifest(run_id))
        chain.commit(chain.load(), lambda state: {"tags": {"value": value}})

    def refreshed(self) -> Counter[str]:
        """Bring the catalog up to date; returns what was asked of the backend for it."""
        self.asked.clear()
        assert refresh(self.repository, self.catalog) == []
        return Counter(self.asked)

    def values(self) -> dict[str, Any]:
        found = self.catalog.select(order_by="run_id")
        return {run.run_id: run.state.get("tags", {}).get("value") for run in found}


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    for n in range(5):
        lab.add(f"r{n}")
    yield lab
    lab.catalog.close()


def test_a_new_catalog_takes_one_get_a_run(lab: Lab) -> None:
    asked = lab.refreshed()
    assert (asked["get"], asked["names"], asked["stat"], asked["walk"]) == (5, 3, 0, 0)
    assert set(lab.values()) == {"r0", "r1", "r2", "r3", "r4"}


def test_what_has_not_changed_is_not_even_listed(lab: Lab) -> None:
    lab.refreshed()
    assert set(lab.refreshed()) == {"token"}
    lab.tag("r3", 7)
    assert lab.refreshed()["get"] == 1
    assert lab.values()["r3"] == 7
    assert set(lab.refreshed()) == {"token"}


def test_a_run_of_large_state_costs_the_entries_since_the_last_full_one(lab: Lab) -> None:
    lab.add("large", LARGE)
    lab.tag("large", 1)
    lab.tag("large", 2)
    lab.refreshed()
    lab.tag("large", 3)
    assert lab.refreshed()["get"] == 4
    assert lab.values()["large"] == 3


def test_the_head_that_a_crashed_writer_left_hides_nothing(lab: Lab) -> None:
    chain = Chain(lab.store, layout.manifest("r1"))
    base = chain.load()
    chain.beat(base.number + 1)  # and then the writer died
    for _ in range(2):
        assert lab.refreshed()["names"] > 0  # it is looked at each time
        assert lab.values()["r1"] is None
    number = base.number + 1
    written = Chain(lab.store, layout.manifest("r1"))
    written.commit(base, lambda state: {"tags": {"value": 9}})  # the same head again
    assert layout.head(layout.manifest("r1"), number) in {s.name for s in lab.store.walk("heads/")}
    lab.refreshed()
    assert lab.values()["r1"] == 9
    assert set(lab.refreshed()) == {"token"}


def test_a_head_before_the_first_entry_is_waited_for(lab: Lab) -> None:
    Chain(lab.store, layout.manifest("new")).beat(0)
    lab.refreshed()
    lab.add("new")
    lab.refreshed()
    assert "new" in lab.values()


def test_runs_without_heads_are_found_and_read_once(lab: Lab) -> None:
    for stat in list(lab.store.walk("heads/")):
        lab.store.delete(stat.name)
    lab.refreshed()
    assert len(lab.values()) == 5
    assert set(lab.refreshed()) == {"token"}
    lab.add("r5")
    assert lab.refreshed()["get"] == 1
    assert len(lab.values()) == 6


def test_heads_that_vanish_lead_back_to_the_chains(lab: Lab) -> None:
    lab.refreshed()
    lab.tag("r2", 1)
    for stat in list(lab.store.walk("heads/")):
        lab.store.delete(stat.name)
    lab.refreshed()
    assert lab.values()["r2"] == 1


def test_names_that_are_no_heads_are_passed_over(lab: Lab) -> None:
    for name in ("r1@0000000x", "r1", "@00000001", "r1@000000001", "r1@٠٠٠٠٠٠٠٧"):
        lab.store.put(f"heads/runs/{name}", b"x")
        lab.store.put(f"heads/ranks/{name}", b"x")
    lab.refreshed()
    assert len(lab.values()) == 5
    assert set(lab.refreshed()) == {"token"}


def test_an_experiment_is_read_when_its_head_moves(lab: Lab) -> None:
    chain = Chain(lab.store, layout.experiment("e"))
    about = {"experiment_id": "e", "name": "First", "created_at": 1}
    base = chain.commit(EMPTY, lambda state: {"experiment": about})
    assert lab.refreshed()["get"] == 6
    chain.commit(base, lambda state: {"experiment": {"name": "Second"}})
    assert lab.refreshed()["get"] == 1
    assert {run.experiment_name for run in lab.catalog.select()} == {"Second"}


# Further writers of a run.


def statistics(count: int, last: float, step: int) -> dict[str, Any]:
    ends = {"first": last, "last": last, "first_step": step, "last_step": step}
    return {"count": count, "nan": 0, "min": last, "max": last, "mean": last, **ends}


def test_the_statistics_cover_every_rank(lab: Lab) -> None:
    def log(rank: int, base: Any, count: int) -> Any:
        chain = Chain(lab.store, layout.rank("r1", rank))
        change = {"metrics": {"loss": statistics(count, float(rank), rank)}}
        return chain.commit(base, lambda state: change)

    first = log(1, EMPTY, 2)
    log(2, EMPTY, 3)
    assert lab.refreshed()["get"] == 7
    assert lab.catalog.heads()["r1"] == "00000000+1:0,2:0"
    assert [run.run_id for run in lab.catalog.select("metrics.loss.count == 5")] == ["r1"]
    assert set(lab.refreshed()) == {"token"}
    log(1, first, 10)
    assert lab.refreshed()["get"] == 3
    assert lab.catalog.heads()["r1"] == "00000000+1:1,2:0"
    [run] = lab.catalog.select("metrics.loss.max == 2 and metrics.loss.min == 1")
    assert run.state["metrics"]["loss"]["count"] == 13
    for stat in list(lab.store.walk("heads/")):
        lab.store.delete(stat.name)
    other = Catalog.open("other", memory=True)
    refresh(lab.repository, other)
    assert [run.run_id for run in other.select("metrics.loss.count == 13")] == ["r1"]


def test_heads_as_text() -> None:
    assert [str(Heads()), str(Heads(3)), str(Heads(3, {2: 1, 0: 7}))] == [
        "", "00000003", "00000003+0:7,2:1",
    ]  # fmt: skip


# Several processes, each with a listing of its own.


def test_what_another_put_in_meanwhile_is_not_taken_out(lab: Lab) -> None:
    slow, quick = Catalog.open("two"), Catalog.open("two")
    refresh(lab.repository, slow)
    slow.heads()  # begins to refresh, and lists the store as it is now
    lab.add("new")
    refresh(lab.repository, quick)
    slow.remove({"new"})  # which it did not see
    slow.settle({layout.RUNS: "old", layout.RUN_HEADS: "old", layout.RANK_HEADS: "old"})
    assert "new" in quick.heads()
    assert not quick.is_unchanged({layout.RUNS: "old"})
    refresh(lab.repository, quick)
    assert len(quick.select()) == 6
    slow.close()
    quick.close()


def test_two_copies_of_one_store_do_not_share_a_catalog(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "one") as one:
        one.start_run("e", run_id="r", capture=False).finish()
        assert len(one.runs()) == 1
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with holdfast.open(tmp_path / "one") as one, holdfast.open(tmp_path / "two") as two:
        assert one.store_id == two.store_id
        for store, name in ((one, "first"), (two, "second")):  # as many generations in both
            with store.resume("r") as run:
                run.set_note(name)
        for _ in range(2):
            assert [run.note for run in one.runs()] == ["first"]
            assert [run.note for run in two.runs()] == ["second"]


# The token of a directory.


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that was written so far counts as old."""
    now = token.time.time_ns
    monkeypatch.setattr(token.time, "time_ns", lambda: now() + 10_000_000_000)


def ticked(folder: Path) -> None:
    """Return when the clock of the file system has gone on since the last change of `folder`."""
    probe = folder.with_name(folder.name + ".probe")
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_mtime_ns > folder.stat().st_mtime_ns:
            return
        probe.unlink()


def test_a_young_directory_has_no_token(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert directory_token(str(tmp_path / "new")) is None
    assert directory_token(str(tmp_path / "not there")) == "absent"


def test_a_directory_with_a_time_in_the_future_has_no_token(tmp_path: Path) -> None:
    os.utime(tmp_path, (4e9, 4e9))
    assert directory_token(str(tmp_path)) is None


def test_an_unknown_file_system_has_no_token(
    tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if directory_token(str(tmp_path)) is None:
        pytest.skip("the temporary directory lies on a file system without tokens")
    monkeypatch.setattr(token, "_TRUSTED", frozenset())
    token._keeps_times.cache_clear()
    assert directory_token(str(tmp_path)) is None
    token._keeps_times.cache_clear()


def test_every_change_changes_the_token(tmp_path: Path, later: None) -> None:
    backend = LocalBackend(tmp_path / "lab")
    backend.create("heads/runs/a@1", b"x")
    folder = tmp_path / "lab" / "heads" / "runs"
    if backend.token("heads/runs/") is None:
        pytest.skip("the temporary directory lies on a file system without tokens")
    seen = set()
    for change in (
        lambda: None,
        lambda: backend.create("heads/runs/b@1", b"x"),
        lambda: backend.put("heads/runs/b@1", b"y"),
        lambda: backend.delete("heads/runs/b@1"),
        lambda: (shutil.copytree(folder, tmp_path / "c"), shutil.rmtree(folder)),
        lambda: shutil.copytree(tmp_path / "c", folder),  # with its times
    ):
        change()
        assert backend.token("heads/runs/") == backend.token("heads/runs/")
        seen.add(backend.token("heads/runs/"))
        if folder.exists():
            ticked(folder)
    assert len(seen) == 6


def test_a_local_store_is_not_listed_twice_and_changes_show(tmp_path: Path, later: None) -> None:
    asked: Counter[str] = Counter()
    local = LocalBackend(tmp_path / "lab")
    with holdfast.open(tmp_path / "lab", cache=False) as store:
        store.start_run("e", run_id="a", capture=False).finish()
        if local.token("heads/runs/") is None:
            pytest.skip("the temporary directory lies on a file system without tokens")
        watched = WatchedBackend(local, lambda operation, name: asked.update([operation]))
        repository = Repository(watched, watched, store.store_id, False)
        catalog = Catalog.open(store.store_id, "here")
        refresh(repository, catalog)
        ticked(tmp_path / "lab" / "heads" / "runs")
        asked.clear()
        again = Catalog.open(store.store_id, "here")  # as another process would
        refresh(repository, again)
        assert set(asked) == {"token"}
        store.start_run("e", run_id="b", capture=False).finish()
        refresh(repository, again)
        assert [run.run_id for run in again.select()] == ["b", "a"]
        ticked(tmp_path / "lab" / "heads" / "runs")
        store.delete_run("b")
        refresh(repository, catalog)
        assert [run.run_id for run in catalog.select()] == ["a"]
        catalog.close()
        again.close()


# Whatever happens, two catalogs in one file say what a new one says.


class Refreshing(RuleBasedStateMachine):
    runs = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.backend = MemoryBackend()
        self.repository = connected(self.backend)
        self.name = f"machine-{os.urandom(6).hex()}"
        self.catalogs = [Catalog.open(self.name) for _ in range(2)]
        self.turn = 0

    @rule(run_id=runs, large=st.booleans(), full=st.booleans())
    def change(self, run_id: str, large: bool, full: bool) -> None:
        self.turn += 1
        config = LARGE if large else {"n": self.turn}
        chain = self.repository.manifest(run_id)
        change = {"run": RUN, "config": config, "tags": {"turn": self.turn}}
        chain.commit(chain.load(), lambda state: change, full=full)

    @rule(run_id=runs, rank=st.integers(0, 2))
    def log_of_a_rank(self, run_id: str, rank: int) -> None:
        self.turn += 1
        chain = Chain(self.backend, layout.rank(run_id, rank))
        change = {"metrics": {"loss": statistics(self.turn, 0.0, self.turn)}}
        chain.commit(chain.load(), lambda state: change)

    @rule(run_id=runs)
    def crash_before_the_entry(self, run_id: str) -> None:
        chain = self.repository.manifest(run_id)
        chain.beat(chain.load().number + 1)

    @rule(run_id=runs, rank=st.integers(0, 2))
    def crash_of_a_rank_before_the_entry(self, run_id: str, rank: int) -> None:
        chain = Chain(self.backend, layout.rank(run_id, rank))
        chain.beat(chain.load().number + 1)

    @rule(run_id=runs)
    def remove(self, run_id: str) -> None:
        for stat in [*self.backend.walk(layout.run(run_id)), *self.backend.walk(layout.HEADS)]:
            owner = stat.name.rpartition("/")[2].split("@")[0]
            if stat.name.startswith(layout.RUNS) or owner == run_id:
                self.backend.delete(stat.name)

    @rule()
    def lose_the_heads(self) -> None:
        # A change that nobody saw before its head was lost may be noticed late: heads.md says so.
        for catalog in self.catalogs:
            refresh(self.repository, catalog)
        for stat in list(self.backend.walk(layout.HEADS)):
            self.backend.delete(stat.name)

    @rule(which=st.integers(0, 1))
    def ask(self, which: int) -> None:
        refresh(self.repository, self.catalogs[which])
        fresh = Catalog.open("fresh", memory=True)
        refresh(self.repository, fresh)
        found, wanted = (
            self.catalogs[which].select(order_by="run_id"),
            fresh.select(order_by="run_id"),
        )
        assert found == wanted
        for query in ("'turn' in tags", "'loss' in metrics", f"config.n == {self.turn}"):
            names = fresh.field_names()
            if "config.n" in names or "config" not in query:
                assert self.catalogs[which].select(query) == fresh.select(query)
        fresh.close()

    def teardown(self) -> None:
        for catalog in self.catalogs:
            catalog.close()


TestRefreshing = Refreshing.TestCase
TestRefreshing.settings = settings(max_examples=30, stateful_step_count=25)


def test_a_run_that_was_removed_and_left_a_rank_behind_is_gone(lab: Lab) -> None:
    lab.refreshed()
    for prefix in ("runs/r1/", "heads/runs/r1@"):
        for stat in list(lab.store.walk(prefix.rpartition("/")[0] + "/")):
            if stat.name.startswith(prefix):
                lab.store.delete(stat.name)
    Chain(lab.store, layout.rank("r1", 0)).commit(EMPTY, lambda state: {"writer": {"pid": 1}})
    lab.refreshed()
    assert "r1" not in lab.values()


# A bucket: one listing, and no more.


@pytest.fixture
def bucket(lab: Lab) -> Lab:
    """The same store where every listing and every look at a file is a request."""
    far = FarBackend(lab.store)
    far.watch = lambda operation, name: lab.asked.update([operation])
    lab.backend = far
    lab.repository = replace(lab.repository, backend=far)
    return lab


def test_a_bucket_is_listed_once_and_only_what_changed_is_read(bucket: Lab) -> None:
    chain = Chain(bucket.store, layout.experiment("e"))
    about = {"experiment_id": "e", "name": "First", "created_at": 1}
    chain.commit(EMPTY, lambda state: {"experiment": about})
    assert bucket.refreshed() == {"walk": 1, "folders": 2, "get": 6}
    assert bucket.refreshed() == {"walk": 1}
    bucket.tag("r3", 7)
    bucket.add("new")
    assert bucket.refreshed() == {"walk": 1, "get": 2}
    assert bucket.values()["r3"] == 7
    assert "new" in bucket.values()
    chain.commit(chain.load(), lambda state: {"experiment": {"name": "Second"}})
    assert bucket.refreshed() == {"walk": 1, "get": 1}
    assert {run.experiment_name for run in bucket.catalog.select()} == {"Second"}


def test_running_runs_of_other_machines_cost_no_request(bucket: Lab) -> None:
    there = {"host": "node2", "pid": 1, "started": "1", "space": "s"}
    chain = Chain(bucket.store, layout.manifest("far"))
    run = {**RUN, "status": "Running"}
    chain.commit(EMPTY, lambda state: {"run": run, "writer": there})
    bucket.refreshed()
    assert bucket.refreshed() == {"walk": 1}
    assert not any(run.crashed for run in bucket.catalog.select(order_by="run_id"))


def test_runs_that_come_and_go_without_heads_are_noticed(
    bucket: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.refreshed()
    for stat in list(bucket.store.walk("heads/runs/r1")):
        bucket.store.delete(stat.name)
    assert bucket.refreshed()["folders"] == 2  # of all runs, and of the ranks of this one
    assert len(bucket.values()) == 5
    bucket.add("copied")  # by a tool that leaves heads out
    for stat in list(bucket.store.walk("heads/runs/copied")):
        bucket.store.delete(stat.name)
    assert "folders" not in bucket.refreshed()
    now = time.time()
    monkeypatch.setattr("holdfast.ops.refresh.time.time", lambda: now + 601)
    assert bucket.refreshed()["folders"] == 3
    assert "copied" in bucket.values()
    for stat in list(bucket.store.walk("runs/r2/")) + list(bucket.store.walk("heads/runs/r2")):
        bucket.store.delete(stat.name)
    bucket.refreshed()
    assert "r2" not in bucket.values()
