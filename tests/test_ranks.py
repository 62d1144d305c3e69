"""Several writers of one run: each has files of its own, and all of them make one series."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import holdfast
from holdfast import MetricRecord, RunStatus, process
from holdfast.chain import Chain
from holdfast.errors import Corrupt, InvalidState, InvalidValue, NameExists, RunBusy, RunNotFound
from holdfast.format import layout
from holdfast.ops.seal import recount_ranks, seal

Store = holdfast.ExperimentStore


# The process table is the one thing a test cannot crash.
ELSEWHERE = {"host": "node2", "pid": 4711, "started": "1", "space": "x"}


@contextmanager
def dead_processes(but: dict[str, Any] | None = None) -> Iterator[None]:
    """Whoever wrote until now is gone, except for one."""
    with patch(
        "holdfast.liveness.is_dead",
        lambda who, beat: not but or any(who.get(k) != v for k, v in but.items()),
    ):
        yield


@contextmanager
def another_process() -> Iterator[None]:
    """What is begun in here is begun by another process, which is alive elsewhere."""
    with patch("holdfast.process.identity", lambda: dict(ELSEWHERE)):
        yield


def left_behind(store: Store, run: holdfast.Run) -> None:
    """The process of `run` goes away without a word; its spool stays."""
    run.flush()
    store.keeper.remove(run._writer)
    store._closed_run(run)


def points(store: Store, key: str = "x") -> list[tuple[int, float, int]]:
    """(step, value, rank) of the run `r`."""
    series = store.metrics("r", key)
    ranks = [0] * len(series) if series.ranks is None else series.ranks.tolist()
    return list(zip(series.steps.tolist(), series.values.tolist(), ranks, strict=True))


def begin(store: Store, **more: Any) -> holdfast.Run:
    return store.start_run("e", run_id="r", capture=False, **more)


# Writing and reading.


def test_all_ranks_make_one_series_before_and_after_sealing(store: Store) -> None:
    run = begin(store)
    ranks = [store.join_run("r", rank=rank) for rank in (2, 1)]
    for step in (3, 1, 2):
        for one in (run, *ranks):
            one.log({"x": step * 10 + (one.rank or 0)}, step=step)
    expected = [(step, step * 10 + rank, rank) for step in (1, 2, 3) for rank in (0, 1, 2)]
    assert points(store) == expected
    for one in (*ranks, run):
        one.finish()
        assert points(store) == expected
    stats = store.run("r").metrics["x"]
    assert (stats.count, stats.first, stats.last, stats.min, stats.max) == (9, 10, 32, 10, 32)
    assert stats.mean == pytest.approx(21)
    assert store.run("r").ranks == (1, 2)
    assert store.metric_keys("r") == ["x"]
    assert store.verify() == []


def test_a_run_that_nobody_joined_has_no_ranks(store: Store) -> None:
    with begin(store) as run:
        run.log({"x": 1.0})
    assert store.metrics("r", "x").ranks is None
    assert store.run("r").ranks == ()


def test_a_rank_never_writes_to_the_manifest_because_of_points(store: Store) -> None:
    run = begin(store)
    before = [s.name for s in store.repository.backend.walk(layout.manifest("r"))]
    with store.join_run("r", rank=1) as joined:
        for step in range(100):
            joined.log({"x": 1.0}, step=step)
            if step % 20 == 0:
                joined._writer.seal(go_on=True)
        joined.flush()
    assert [s.name for s in store.repository.backend.walk(layout.manifest("r"))] == before
    assert store.repository.rank("r", 1).load().state["segments"]
    run.finish()


def test_joining_as_0_counts_as_rank_0_beside_the_main_writer(store: Store) -> None:
    with begin(store) as run, store.join_run("r", rank=0) as joined:
        joined.log({"x": 2.0}, step=0)
        run.log({"x": 1.0}, step=0)
        assert points(store) == [(0, 1.0, 0), (0, 2.0, 0)]
    assert points(store) == [(0, 1.0, 0), (0, 2.0, 0)]
    assert store.run("r").ranks == (0,)


def test_steps_without_a_number_go_on_from_what_the_rank_has(store: Store) -> None:
    run = begin(store)
    with store.join_run("r", rank=1) as joined:
        joined.log({"x": 0.0})
        joined.log({"x": 1.0})
    with store.join_run("r", rank=1) as joined:
        joined.log({"x": 2.0})
    assert [step for step, _, _ in points(store)] == [0, 1, 2]
    run.finish()


def test_the_seeds_methods_see_the_points_of_ranks(store: Store) -> None:
    with begin(store) as run, store.join_run("r", rank=1) as joined:
        run.log({"x": 1.0}, step=0)
        joined.log({"x": 2.0, "y": 1.0}, step=0)
        store.add_metric(MetricRecord("r", "x", 1, 3.0))
        assert store.metric_count() == 4
    assert store.metric_count() == 4
    assert [m.value for m in store.get_metrics_for_run("r", "x")] == [1.0, 2.0, 3.0]
    assert store.repository.rank("r", 1).load().state["metrics"].keys() == {"x", "y"}


def test_what_is_not_points_belongs_to_the_run(store: Store) -> None:
    with begin(store, tags={"stage": "dev"}) as run:
        with store.join_run("r", rank=1) as joined:
            info = joined.log_artifact(b"shard", key="shards/1")
            joined.set_tags({"node": "gpu1"})
            joined.set_note("from a rank")
        run.log_artifact(b"whole", key="model")
    summary = store.run("r")
    assert store.read_artifact("r", "shards/1") == b"shard"
    assert summary.artifacts.keys() == {"shards/1", "model"}
    assert summary.artifacts["shards/1"].digest == info.digest
    assert summary.tags == {"stage": "dev", "node": "gpu1"}
    assert summary.note == "from a rank"


def test_a_rank_ends_alone(store: Store) -> None:
    run = begin(store)
    with pytest.raises(ZeroDivisionError), store.join_run("r", rank=1) as joined:
        joined.log({"x": 1.0})
        1 / 0  # noqa: B018
    writer = store.repository.rank("r", 1).load().state["writer"]
    assert (writer["closed"], writer["status"]) == (True, "Failed")
    assert writer["error"] == {"type": "ZeroDivisionError", "message": "division by zero"}
    assert store.run("r").status is RunStatus.RUNNING
    for call in (lambda: joined.log({"x": 2.0}), lambda: joined.set_note("n")):
        with pytest.raises(InvalidState, match=r"join_run\('r', rank=1\) opens it again"):
            call()
    again = store.join_run("r", rank=1)
    writer = store.repository.rank("r", 1).load().state["writer"]
    assert not {"closed", "status", "error", "ended_at"} & writer.keys()
    again.finish(RunStatus.CANCELLED)
    run.finish()
    assert store.run("r").status is RunStatus.SUCCESS
    assert store.repository.rank("r", 1).load().state["writer"]["status"] == "Cancelled"


def test_points_that_come_after_the_run_has_finished_are_kept(store: Store) -> None:
    run = begin(store)
    joined = store.join_run("r", rank=1)
    joined.log({"x": 1.0}, step=0)
    run.finish()
    joined.log({"x": 2.0}, step=1)
    joined.log_artifact(b"late", key="late")
    assert len(points(store)) == 2
    joined.finish()
    assert len(points(store)) == 2
    summary = store.run("r")
    assert (summary.status, summary.metrics["x"].count) == (RunStatus.SUCCESS, 2)
    assert store.read_artifact("r", "late") == b"late"


# Who may join, and when.


@pytest.mark.parametrize("rank", [-1, 2**31, 1.0, "1", None, True])
def test_what_is_no_rank_is_refused(store: Store, rank: object) -> None:
    run = begin(store)
    with pytest.raises(InvalidValue, match=r"whole number from 0 to 2\*\*31-1"):
        store.join_run("r", rank=rank)  # type: ignore[arg-type]
    run.finish()
    assert list(store.repository.backend.walk("runs/r/ranks/")) == []


def test_numpy_ranks_and_the_greatest_one(store: Store) -> None:
    with begin(store):
        for rank in (np.int64(3), 2**31 - 1):
            with store.join_run("r", rank=rank) as joined:  # type: ignore[arg-type]
                assert type(joined.rank) is int
                joined.log({"x": 1.0})
    assert store.run("r").ranks == (3, 2**31 - 1)


def test_a_run_that_is_not_open_is_not_joined(store: Store) -> None:
    with pytest.raises(RunNotFound, match="'r'"):
        store.join_run("r", rank=1)
    run = begin(store)
    with pytest.raises(RunNotFound):
        store.join_run("rr", rank=1)
    run.finish()
    with pytest.raises(InvalidState, match=r"not open \(Success\): store.resume\('r'\)"):
        store.join_run("r", rank=1)
    with store.resume("r") as run, store.join_run("r", rank=1) as joined:
        joined.log({"x": 1.0}, step=0)
        left_behind(store, run)
        with dead_processes(), pytest.raises(InvalidState, match="has crashed"):
            store.join_run("r", rank=2)


def test_the_attempt_can_be_asked_for(store: Store) -> None:
    begin(store).finish()
    with store.resume("r"):
        with pytest.raises(InvalidState, match="at attempt 2, not yet at 3"):
            store.join_run("r", rank=1, attempt=3)
        store.join_run("r", rank=1, attempt=2).finish()
    assert store.repository.rank("r", 1).load().state["writer"]["attempt"] == 2


def test_a_rank_may_be_quicker_than_the_one_that_begins(store: Store) -> None:
    waits = threading.Semaphore(0)
    nap = threading.Event.wait

    def wait(self: threading.Event, timeout: float | None = None) -> bool:
        waits.release()
        return nap(self, timeout)

    with ThreadPoolExecutor(1) as pool, patch("holdfast.ops.ranks.threading.Event.wait", wait):
        joining = pool.submit(store.join_run, "r", rank=1, wait_seconds=60)
        waits.acquire()
        run = begin(store)
        joined = joining.result()
    joined.log({"x": 1.0})
    joined.finish()
    run.finish()
    assert points(store) == [(0, 1.0, 1)]


def test_waiting_has_an_end_and_says_what_it_waited_for(store: Store) -> None:
    with pytest.raises(RunNotFound):
        store.join_run("r", rank=1, wait_seconds=0.05)


def test_one_rank_has_one_writer(store: Store) -> None:
    run = begin(store)
    joined = store.join_run("r", rank=1)
    with pytest.raises(RunBusy, match=f"rank 1 of run r .* process {os.getpid()}") as busy:
        store.join_run("r", rank=1)
    assert busy.value.rank == 1
    joined.finish()
    run.finish()


def test_a_rank_whose_process_died_is_taken_over(store: Store) -> None:
    run = begin(store)
    with another_process():
        first = store.join_run("r", rank=1)
        first.log({"x": 1.0}, step=0)
        left_behind(store, first)
    with pytest.raises(RunBusy, match="process 4711 on host node2"):
        store.join_run("r", rank=1)
    with dead_processes(but=process.identity()):
        second = store.join_run("r", rank=1)
    state = store.repository.rank("r", 1).load().state
    assert (state["metrics"]["x"]["count"], state["writer"]["pid"]) == (1, os.getpid())
    second.log({"x": 2.0})
    with another_process():  # it was only asleep, and ends now: the rank is not its own any more
        first.finish()
    assert "closed" not in store.repository.rank("r", 1).load().state["writer"]
    second.finish()
    run.finish()
    assert points(store) == [(0, 1.0, 1), (1, 2.0, 1)]


def test_each_rank_has_a_heartbeat(store: Store) -> None:
    run, joined = begin(store), store.join_run("r", rank=1)
    backend = store.repository.backend
    [head] = backend.walk("heads/ranks/")
    backend.delete(head.name)
    joined._writer.beat()
    assert [stat.name for stat in backend.walk("heads/ranks/")] == [head.name]
    joined.finish()
    run.finish()


# Resumption.


def log_all(ranks: list[holdfast.Run], steps: range, value: float) -> None:
    for step in steps:
        for one in ranks:
            one.log({"x": value}, step=step)


def whole(store: Store, **how: Any) -> list[holdfast.Run]:
    run = store.resume("r", **how) if how else begin(store)
    return [run, *(store.join_run("r", rank=rank) for rank in (1, 2))]


def end(ranks: list[holdfast.Run]) -> None:
    for one in reversed(ranks):
        one.finish()


def test_resuming_supersedes_the_points_of_every_rank(store: Store) -> None:
    ranks = whole(store)
    log_all(ranks, range(10), 1.0)
    end(ranks)
    again = whole(store, step=6)
    assert [store.run("r").metrics["x"].count, len(points(store))] == [18, 18]
    log_all(again, range(6, 8), 2.0)
    end(again)
    expected = [(step, 1.0 if step < 6 else 2.0, k) for step in range(8) for k in range(3)]
    assert points(store) == expected
    assert store.run("r").metrics["x"].count == 24
    for rank in (1, 2):
        state = store.repository.rank("r", rank).load().state
        assert (state["metrics"]["x"]["count"], state["cuts"]) == (8, {"1": 6})


def test_resuming_without_a_step_supersedes_once_the_main_writer_has_logged(store: Store) -> None:
    ranks = whole(store)
    log_all(ranks, range(10), 1.0)
    end(ranks)
    run = store.resume("r")
    joined = store.join_run("r", rank=1)
    joined.log({"x": 3.0}, step=4)  # a rank does not say where the attempt begins
    assert store.run("r").metrics["x"].count == 30
    run.log({"x": 2.0}, step=5)
    expected = [(s, 1.0, k) for s in range(5) for k in range(3)] + [(4, 3.0, 1), (5, 2.0, 0)]
    assert points(store) == sorted(expected, key=lambda p: (p[0], p[2]))
    run._writer.seal(go_on=True)
    assert store.run("r").metrics["x"].count == 16
    assert store.repository.rank("r", 2).load().state["cuts"] == {"1": 5}
    end([run, joined])
    assert store.run("r").metrics["x"].count == 17


def test_resuming_without_a_step_goes_on_after_the_last_point_of_any_rank(store: Store) -> None:
    with begin(store) as run, store.join_run("r", rank=1) as joined:
        run.log({"x": 0.0}, step=3)
        joined.log({"x": 0.0}, step=8)
    with store.resume("r") as run:
        run.log({"x": 1.0})
    assert points(store) == [(3, 0.0, 0), (8, 0.0, 1), (9, 1.0, 0)]


def test_a_rank_of_the_old_attempt_that_lives_on_is_superseded(store: Store) -> None:
    run = begin(store)
    with another_process():
        old = store.join_run("r", rank=1)
        log_all([old], range(4), 1.0)
    log_all([run], range(4), 1.0)
    left_behind(store, run)
    with dead_processes(but=ELSEWHERE):
        run = store.resume("r", step=2)
    old.log({"x": 9.0}, step=3)
    old.log({"x": 8.0}, step=1)
    assert points(store) == [(0, 1, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1), (1, 8, 1)]
    old.finish()
    run.finish()
    assert len(points(store)) == store.run("r").metrics["x"].count == 5


def test_statistics_of_a_rank_are_right_while_its_chain_is_behind(store: Store) -> None:
    """As if the process that resumed the run died before it came to the ranks."""
    ranks = whole(store)
    log_all(ranks, range(10), 1.0)
    end(ranks)
    with patch("holdfast.ops.runs.recount_ranks"):
        run = store.resume("r", step=5)
    assert store.repository.rank("r", 1).load().state["metrics"]["x"]["count"] == 10
    assert store.run("r").metrics["x"].count == 15
    recount_ranks(store.repository, "r")
    assert store.repository.rank("r", 1).load().state["metrics"]["x"]["count"] == 5
    number = store.repository.rank("r", 1).load().number
    recount_ranks(store.repository, "r")
    assert store.repository.rank("r", 1).load().number == number
    run.finish()


def test_a_rank_that_seals_while_the_run_is_resumed_counts_under_the_new_attempt(
    store: Store,
) -> None:
    """Whichever of the two commits first to the chain of the rank."""
    run = begin(store)
    joined = store.join_run("r", rank=1)
    log_all([run, joined], range(10), 1.0)
    run.finish()
    repository, commit = store.repository, Chain._append
    resumed: list[holdfast.Run] = []

    def slow(self: Any, base: Any, change: Any, *rest: Any) -> Any:
        if self.prefix == layout.rank("r", 1) and not resumed:
            resumed.append(None)  # type: ignore[arg-type]
            resumed[0] = store.resume("r", step=3)
        return commit(self, base, change, *rest)

    with patch("holdfast.chain.Chain._append", slow):
        joined.finish()
    state = repository.rank("r", 1).load().state
    assert (state["cuts"], state["metrics"]["x"]["count"]) == ({"1": 3}, 3)
    assert store.run("r").metrics["x"].count == len(points(store)) == 6
    resumed[0].finish()


# Crashes.


def test_recover_seals_the_spools_of_dead_ranks_to_their_chains(store: Store) -> None:
    ranks = whole(store)
    log_all(ranks, range(5), 1.0)
    ranks[1].finish()
    before = points(store)
    for one in (ranks[0], ranks[2]):
        left_behind(store, one)
    with dead_processes():
        [found] = store.recover()
        assert store.recover() == []
    assert (found.points, found.marked_crashed, found.ranks) == (10, True, (2,))
    assert points(store) == before
    assert list(store.repository.backend.walk(layout.spools("r"))) == []
    writer = store.repository.rank("r", 2).load().state["writer"]
    assert (writer["status"], writer["error"]["type"]) == ("Failed", "Crashed")
    assert "ended without finishing" in writer["error"]["message"]
    assert store.repository.rank("r", 1).load().state["writer"]["status"] == "Success"
    assert store.run("r").metrics["x"].count == 15
    assert store.verify() == []


def test_recover_sees_a_dead_rank_of_a_run_that_ended_well(store: Store) -> None:
    run, joined = begin(store), store.join_run("r", rank=1)
    joined.log({"x": 1.0})
    run.finish()
    left_behind(store, joined)
    with dead_processes():
        [found] = store.recover()
    assert (found.points, found.marked_crashed, found.ranks) == (1, False, (1,))
    assert store.run("r").status is RunStatus.SUCCESS


def test_resuming_seals_what_dead_ranks_left(store: Store) -> None:
    ranks = whole(store)
    log_all(ranks, range(5), 1.0)
    for one in ranks:
        left_behind(store, one)
    with dead_processes():
        run = store.resume("r", step=3)
    assert list(store.repository.backend.walk(layout.spools("r"))) == []
    assert store.run("r").metrics["x"].count == len(points(store)) == 9
    run.finish()


def test_sealing_the_spool_of_a_rank_again_counts_nothing_twice(store: Store) -> None:
    """As if the process died between the chain and the removal of the spool."""
    backend = store.repository.backend
    with begin(store), store.join_run("r", rank=1) as joined:
        log_all([joined], range(5), 1.0)
        [name] = joined._writer.names
        kept = backend.get(name)
        joined.finish()
        backend.put(name, kept)
        assert len(points(store)) == 5
        after = seal(store.repository, "r", [name], rank=1)
    assert after.state["metrics"]["x"]["count"] == 5
    assert list(backend.walk(layout.spools("r"))) == []


def test_a_damaged_chain_of_a_rank_is_told_and_never_left_out(store: Store) -> None:
    with begin(store) as run, store.join_run("r", rank=1) as joined:
        log_all([run, joined], range(5), 1.0)
    # The newest entry: it holds the whole state, so none before it is needed.
    place = max(stat.name for stat in store.repository.backend.walk("runs/r/ranks/1/"))
    whole_file = store.repository.backend.get(place)
    store.repository.backend.put(place, whole_file[:-1] + bytes([whole_file[-1] ^ 1]))
    for read in (lambda: store.metrics("r", "x"), lambda: store.run("r")):
        with pytest.raises(Corrupt, match=place):
            read()
    assert place in {finding.place for finding in store.verify()}
    store.repository.backend.put(place, whole_file)
    store.repository.backend.delete("runs/r/ranks/1/00000001")
    with pytest.raises(Corrupt, match="00000001 is missing"):
        store.metrics("r", "x")


def test_names_that_are_no_ranks_are_ignored(store: Store) -> None:
    with begin(store) as run:
        run.log({"x": 1.0})
    for name in ("01", "-1", "x", "2147483648", "1e3", "¹"):
        store.repository.backend.put(f"runs/r/ranks/{name}/00000000", b"junk")
    assert store.run("r").ranks == ()
    assert points(store) == [(0, 1.0, 0)]
    assert store.verify() == []


# Threads, forks and processes.


def test_sixty_four_ranks_at_once_do_not_meet(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflicts: list[str] = []
    create = type(store.repository.backend).create

    def counted(self: Any, name: str, data: bytes) -> None:
        try:
            create(self, name, data)
        except NameExists:
            conflicts.append(name)
            raise

    monkeypatch.setattr(type(store.repository.backend), "create", counted)
    monkeypatch.setattr("holdfast.writer.SPOOL_BYTES", 2_000)
    run = begin(store)
    start = threading.Barrier(16)

    def work(first: int) -> None:
        start.wait()
        for rank in range(first, 64, 16):
            with store.join_run("r", rank=rank) as joined:
                for step in range(30):
                    joined.log({"x": step * 64 + rank, f"own/{rank}": step}, step=step)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    run.finish()
    assert conflicts == []
    assert points(store) == [(s, s * 64 + k, k) for s in range(30) for k in range(64)]
    assert store.metrics("r", "own/63").values.tolist() == list(range(30))
    assert store.run("r").ranks == tuple(range(64))
    assert store.run("r").metrics["x"].count == 30 * 64
    assert store.verify() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_logs_as_the_rank_of_its_parent(tmp_path: Path) -> None:
    with holdfast.open(tmp_path / "lab") as store, begin(store):
        with store.join_run("r", rank=1) as joined:
            joined.log({"x": 0.0}, step=0)
            child = os.fork()
            if not child:
                joined.log({"x": 1.0}, step=1)
                os._exit(0)
            os.waitpid(child, 0)
            joined.log({"x": 2.0}, step=2)
        assert points(store) == [(0, 0, 1), (1, 1, 1), (2, 2, 1)]
        assert store.repository.rank("r", 1).load().state["metrics"]["x"]["count"] == 3


def run_ranks(
    url: Path, groups: list[range], steps: int, out: int | None = None
) -> list[subprocess.Popen[bytes]]:
    script = Path(__file__).with_name("rank_writer.py")
    return [
        subprocess.Popen(
            [sys.executable, str(script), str(url), str(g.start), str(g.stop), str(steps)],
            stdout=out,
        )
        for g in groups
    ]


def check_all(url: Path, ranks: int, steps: int) -> None:
    with holdfast.open(url) as store:
        assert points(store) == [(s, s * ranks + k, k) for s in range(steps) for k in range(ranks)]
        assert store.run("r").metrics["x"].count == ranks * steps
        assert store.verify() == []
        assert len(list(store.repository.backend.walk(layout.manifest("r")))) == 2  # begun, ended


@pytest.mark.parametrize(
    ("processes", "threads"),
    [(8, 8), pytest.param(64, 1, marks=pytest.mark.slow)],
    ids=["8 processes with 8 ranks each", "64 processes"],
)
def test_sixty_four_ranks_of_many_processes(tmp_path: Path, processes: int, threads: int) -> None:
    url, steps = tmp_path / "lab", 50
    groups = [range(n * threads, (n + 1) * threads) for n in range(processes)]
    workers = run_ranks(url, groups, steps)  # they wait for the run to be begun
    with holdfast.open(url) as store, begin(store):
        assert [worker.wait() for worker in workers] == [0] * processes
    check_all(url, 64, steps)


def test_every_acknowledged_point_of_a_killed_rank_is_there(tmp_path: Path) -> None:
    url = tmp_path / "lab"
    with holdfast.open(url) as store, begin(store) as run:
        groups = [range(n * 2, n * 2 + 2) for n in range(4)]
        workers = run_ranks(url, groups, 0, subprocess.PIPE)  # 0: until it is killed
        said = []
        for worker in workers:
            assert worker.stdout
            lines: list[bytes] = []
            while len(lines) < 400 or len({line.split()[0] for line in lines}) < 2:
                lines.append(worker.stdout.readline())  # until both of its ranks were heard
                assert lines[-1], "the writer ended by itself"
            worker.kill()
            said.append(b"".join(lines) + worker.communicate()[0])
        run.log({"x": -1.0}, step=0)
        [found] = store.recover()
        assert (found.ranks, found.marked_crashed) == (tuple(range(8)), False)
        with store.join_run("r", rank=3) as joined:  # a new process takes the rank
            joined.log({"y": 1.0})
    taken = {
        tuple(map(int, line.split()))
        for text in said
        for line in text.rpartition(b"\n")[0].splitlines()
    }
    with holdfast.open(url) as store:
        have = {(rank, step) for step, value, rank in points(store) if value >= 0}
        assert taken <= have
        assert len(have - taken) <= 8 * 2  # in flight when the kill came
        assert list(store.repository.backend.walk(layout.spools("r"))) == []
        assert store.verify() == []
