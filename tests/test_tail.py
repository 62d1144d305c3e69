"""The tail of a run against what was logged: no record twice, none missed, whenever it is sealed."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

import holdfast
from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend, refuse_writes
from holdfast.errors import Corrupt, InvalidValue, RunNotFound
from holdfast.format.follow import Follower
from holdfast.ops.seal import seal as seal_spools
from holdfast.ops.tail import Tail
from holdfast.repository import Repository, connected

Plain = tuple[int, int, dict[str, float]]


def plain(records: list[holdfast.TailRecord]) -> list[Plain]:
    return [(item.step, item.timestamp, item.metrics) for item in records]


def opened(backend: Any) -> holdfast.ExperimentStore:
    store = holdfast.ExperimentStore()
    store.repository = connected(backend)
    return store


def seal(run: holdfast.Run) -> None:
    run._writer.seal(go_on=True)


@pytest.fixture(autouse=True, scope="module")
def _compacts_early() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("holdfast.ops.compact.FAN_OUT", 2)
        yield


class Writer:
    """Logs and seals one run, and keeps what it logged."""

    def __init__(self, backend: Any) -> None:
        self.store = opened(backend)
        self.run = self.store.start_run("e", run_id="run", capture=False)
        self.logged: list[Plain] = []
        self.made: Any = None

    def log(self, keys: tuple[str, ...] = ("loss",), step: int | None = None) -> None:
        at = len(self.logged)
        record = dict.fromkeys(keys, at + 0.5)
        step = at if step is None else step
        self.run.log(record, step, timestamp=1000 + at)
        self.logged.append((step, 1000 + at, record))

    def act(self, act: Any) -> None:
        """Log a record, or do a part of sealing or all of it, as the background thread does."""
        parts = {
            "seal": self.seal,
            "make": self.make,
            "switch": self.switch,
            "oldest": self.oldest,
            "compact": lambda: self.store.compact("run"),
        }
        if act in parts:
            parts[act]()
        else:
            self.log(*act)

    def seal(self) -> None:
        self.made = None
        seal(self.run)

    def make(self) -> None:
        """The next spool is there before the last record of this one."""
        self.made = self.made or self.run._writer._successor()

    def switch(self) -> None:
        writer, made = self.run._writer, self.made
        self.made, before = None, writer._appender
        if made:
            writer._hand_over(made)
            before.close()

    def oldest(self) -> None:
        """Seal the first spool, while later ones are logged to."""
        writer = self.run._writer
        if len(writer._unsealed) > 1:
            name = writer._unsealed.pop(0)
            base = writer.snapshot
            writer.snapshot = seal_spools(writer.repository, "run", [name], base=base)


key_sets = st.sampled_from([("loss",), ("loss", "acc"), ("acc",), ("b", "a", "loss")])
logs = st.tuples(key_sets, st.integers(0, 3) | st.just(2**64 - 1))
parts = st.sampled_from(["seal", "seal", "make", "switch", "oldest", "compact"])
acts = st.lists(logs | parts, max_size=5)


@given(st.lists(acts, max_size=12), st.booleans())
@settings(max_examples=80)
def test_whatever_happens_between_two_looks_every_record_comes_once_and_in_order(
    rounds: list[Any], from_start: bool
) -> None:
    writer = Writer(MemoryBackend())
    first: list[Any] = rounds[0] if rounds else []
    for act in first:
        writer.act(act)
    skipped = 0 if from_start else len(writer.logged)
    tail, found = writer.store.tail("run", from_start=from_start), []
    for acts_of_round in rounds[1:]:
        for act in acts_of_round:
            writer.act(act)
        found += plain(tail.poll())
    writer.run.finish()
    found += plain(tail.poll())
    assert found == writer.logged[skipped:]
    assert tail.ended
    assert tail.poll() == []


class Interrupted:
    """Runs one act of a plan before each call to a backend that is not part of an act itself."""

    def __init__(self, act: Callable[[Any], None], plan: list[Any]) -> None:
        self.act = act
        self.plan = plan
        self.busy = False

    def __call__(self, operation: str, name: str) -> None:
        if self.plan and not self.busy:
            self.busy = True
            try:
                for act in self.plan.pop(0):
                    self.act(act)
            finally:
                self.busy = False


@given(st.lists(acts, max_size=30), st.integers(1, 6), st.booleans())
@settings(max_examples=100)
def test_whatever_happens_between_two_calls_of_a_look(
    plan: list[Any], before: int, away: bool
) -> None:
    """The writer logs and seals in the middle of a look, at every call that it makes."""
    disk = MemoryBackend()
    writer = Writer(disk)
    for _ in range(before):
        writer.log()
    watch = Interrupted(writer.act, plan)
    backend = WatchedBackend(disk, watch)
    store_id = writer.store.repository.store_id
    # `away` is another machine: the spools are not to be seen there.
    spools = MemoryBackend() if away else backend
    watch.busy = True
    tail = Tail(Repository(backend, spools, store_id, True), "run", from_start=True)
    watch.busy = False
    found = []
    while watch.plan:
        found += plain(tail.poll())
        if away and not watch.plan:
            seal(writer.run)
    writer.run.finish()
    found += plain(tail.poll())
    assert found == writer.logged  # from a segment they come by time, as they were logged here


def looked(writer: Writer, seen: bool, spool: str, nth: int, *then: Any) -> list[Plain]:
    """What a tail gives that is interrupted before its `nth` read of a spool, and then not again."""
    reads = itertools.count(1)

    def watch(operation: str, name: str) -> None:
        if operation == "get_range" and name.endswith(spool) and next(reads) == nth:
            for act in then:
                writer.act(act)

    disk = writer.store.repository.backend
    backend = WatchedBackend(disk, watch)
    tail = Tail(Repository(backend, backend, "x", True), "run", from_start=True)
    found = plain(tail.poll()) if seen else []
    found += plain(tail.poll())
    writer.run.finish()
    return found + plain(tail.poll())


def test_a_spool_that_is_logged_to_before_its_successor_is_read() -> None:
    log = (("loss",),)
    writer = Writer(MemoryBackend())
    for act in (log, "make"):
        writer.act(act)
    # The successor has its header read, the first spool is read, then the successor again.
    assert looked(writer, False, "-000001.spool", 2, log, "switch", log) == writer.logged


def test_a_spool_that_is_sealed_before_it_is_read_while_its_successor_is_there() -> None:
    log = (("loss",),)
    for seen in (False, True):
        writer = Writer(MemoryBackend())
        for act in (log, "make", log, "switch", log):
            writer.act(act)
        assert looked(writer, seen, "-000000.spool", 1, log, "oldest", log) == writer.logged


@given(st.lists(acts, max_size=6), st.integers(0, 20))
@settings(max_examples=80)
def test_a_look_at_every_call_of_sealing(rounds: list[Any], pass_by: int) -> None:
    """The tail looks in the middle of the writer's work, at every call that it makes."""
    disk = MemoryBackend()
    reading = Repository(WatchedBackend(disk, refuse_writes), disk, "x", True)
    found: list[Plain] = []
    tails: list[Tail] = []
    calls = iter(range(10_000))

    def look(operation: str, name: str) -> None:
        if tails and next(calls) >= pass_by:
            found.extend(plain(tails[0].poll()))

    writer = Writer(WatchedBackend(disk, look))
    tails.append(Tail(reading, "run", from_start=True))
    for act in [act for acts_of_round in rounds for act in acts_of_round]:
        writer.act(act)
    writer.run.finish()
    found += plain(tails[0].poll())
    assert found == writer.logged


@pytest.mark.parametrize("read_only", [False, True])
def test_a_writer_that_seals_all_the_time_while_the_tail_reads(
    tmp_path: Path, read_only: bool
) -> None:
    url = str(tmp_path / "lab")
    with holdfast.open(url) as store:
        run = store.start_run("e", run_id="run", capture=False)
        logged: list[Plain] = []

        def write() -> None:
            for step in range(1500):
                record = {"a": step / 3} if step % 3 else {"a": 1.0, "b": float(step)}
                run.log(record, step, timestamp=step)
                logged.append((step, step, record))
                if not step % 50:
                    seal(run)
            run.finish()

        thread = threading.Thread(target=write)
        with holdfast.open(url, read_only=read_only) as reader:
            tail = reader.tail("run", from_start=True, poll_seconds=0)
            thread.start()
            found = plain(list(tail))
            thread.join()
        assert found == logged


def test_another_process_is_read_while_it_logs_and_crashes(tmp_path: Path) -> None:
    """It ends by itself when the writer is killed, with everything that it had acknowledged."""
    url, (out, into) = tmp_path / "lab", os.pipe()
    script = str(Path(__file__).with_name("crash_writer.py"))
    words = [sys.executable, script, str(url), "run", str(into)]
    child = subprocess.Popen(words, pass_fds=[into])
    os.close(into)
    os.read(out, 8)
    tail = holdfast.open(url, read_only=True).tail("run", from_start=True, poll_seconds=0.01)
    first = [next(tail) for _ in range(200)]
    child.kill()
    child.wait()
    rest = list(tail)
    steps = [item.step for item in first + rest]
    assert steps == list(range(len(steps)))
    with os.fdopen(out, "rb") as acknowledged:
        last = acknowledged.read()[-8:]
    assert steps[-1] >= int.from_bytes(last, "little")
    assert [item.metrics["loss"] for item in first] == [step / 7 for step in range(200)]


def test_it_begins_where_it_is_told(store: holdfast.ExperimentStore) -> None:
    run = store.start_run("e", run_id="run", capture=False)
    for step in range(10):
        run.log({"loss": step}, step)
        if step in (3, 6):
            seal(run)

    def steps(**how: Any) -> list[int]:
        return [item.step for item in store.tail("run", follow=False, **how)]

    assert steps() == []
    assert steps(from_start=True) == list(range(10))
    assert steps(last=2) == [8, 9]
    assert steps(last=5) == [5, 6, 7, 8, 9]
    assert steps(last=100) == list(range(10))
    tail = run.tail()
    run.log({"loss": 10.0}, 10)
    seal(run)
    run.log({"loss": 11.0}, 11)
    assert [item.step for item in tail.poll()] == [10, 11]
    run.finish()
    assert steps(last=3) == [9, 10, 11]
    assert list(store.tail("run", from_start=True)) == list(
        store.tail("run", from_start=True, follow=False)
    )


def test_keys_are_names_or_patterns(store: holdfast.ExperimentStore) -> None:
    run = store.start_run("e", run_id="run", capture=False)
    run.log({"train/loss": 1.0, "train/acc": 2.0, "val/loss": 3.0, "odd[1]": 4.0}, 0)
    run.log({"val/loss": 5.0}, 1)

    def found(keys: Any) -> list[dict[str, float]]:
        return [item.metrics for item in store.tail("run", keys, from_start=True, follow=False)]

    wanted = {
        "train/*": [{"train/loss": 1.0, "train/acc": 2.0}],
        "*loss": [{"train/loss": 1.0, "val/loss": 3.0}, {"val/loss": 5.0}],
        "odd[1]": [{"odd[1]": 4.0}],
        "none": [],
    }
    assert {key: found(key) for key in wanted} == wanted
    assert found(["odd[1]", "val/loss"]) == [{"val/loss": 3.0, "odd[1]": 4.0}, {"val/loss": 5.0}]
    seal(run)
    assert {key: found(key) for key in wanted} == wanted


def test_records_say_their_attempt_and_superseded_ones_come_as_they_were_logged(
    store: holdfast.ExperimentStore,
) -> None:
    run = store.start_run("e", run_id="run", capture=False)
    tail = store.tail("run", poll_seconds=0)
    for step in range(4):
        run.log({"loss": step}, step)
    run.finish()
    assert [(item.attempt, item.step) for item in tail.poll()] == [(1, s) for s in range(4)]
    run = store.resume("run", step=2)
    run.log({"loss": 9.0}, 2)
    assert [(item.attempt, item.step) for item in tail.poll()] == [(2, 2)]
    assert not tail.ended
    run.finish()
    assert list(tail) == []
    again = store.tail("run", from_start=True)
    assert [(item.attempt, item.step) for item in again] == [*((1, s) for s in range(4)), (2, 2)]


def test_it_ends_after_a_while_without_records_and_can_go_on(
    store: holdfast.ExperimentStore,
) -> None:
    run = store.start_run("e", capture=False)
    tail = store.tail(run.id, timeout_seconds=0)
    assert list(tail) == []
    run.log({"loss": 1.0})
    assert [item.metrics for item in tail] == [{"loss": 1.0}]


def test_of_much_at_once_a_look_gives_a_part(store: holdfast.ExperimentStore) -> None:
    with store.start_run("e", run_id="run", capture=False) as run:
        tail = store.tail("run")
        for step in range(5000):
            run.log({"loss": step}, step)
            if step == 2000:
                seal(run)
        found = []
        while part := tail.poll(most=1):
            assert len(part) < 5000
            found += [item.step for item in part]
    assert found == list(range(5000))


def test_a_run_without_points_ends_without_records(store: holdfast.ExperimentStore) -> None:
    with store.start_run("e", run_id="none", capture=False):
        pass
    assert list(store.tail("none", from_start=True)) == []


def test_points_with_one_step_and_time_are_all_there(store: holdfast.ExperimentStore) -> None:
    run = store.start_run("e", run_id="run", capture=False)
    tail = store.tail("run")
    run.log({"a": 1.0, "b": 2.0}, 5, timestamp=7)
    run.log({"a": 3.0}, 5, timestamp=7)
    assert [item.metrics for item in tail.poll()] == [{"a": 1.0, "b": 2.0}, {"a": 3.0}]
    run.log({"a": 4.0, "b": 5.0}, 5, timestamp=7)
    run.log({"b": 6.0, "c": 7.0}, 1, timestamp=7)
    seal(run)
    assert [item.metrics for item in tail.poll()] == [{"b": 6.0, "c": 7.0}, {"a": 4.0, "b": 5.0}]


def test_a_failing_store_loses_nothing_and_gives_nothing_twice() -> None:
    disk = MemoryBackend()
    writer = Writer(disk)
    for act in [(("loss",),), "seal", (("loss", "acc"),), (("acc",),)]:
        writer.act(act)
    for failing in range(200):
        left = [failing]

        def fail(operation: str, name: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise holdfast.errors.BackendError("the network is away")

        backend = WatchedBackend(disk, fail)
        try:
            tail = Tail(Repository(backend, backend, "x", True), "run", from_start=True)
        except holdfast.errors.BackendError:
            continue
        found: list[Plain] = []
        for _ in range(3):
            try:
                found += plain(tail.poll())
            except holdfast.errors.BackendError:
                continue
        assert found == writer.logged
        if left[0] >= 0:
            return
    raise AssertionError("a look makes fewer calls than that")


def test_zeros_behind_the_rows_are_waited_for_and_damage_is_an_error(tmp_path: Path) -> None:
    with (
        holdfast.open(tmp_path / "lab") as store,
        store.start_run("e", run_id="run", capture=False) as run,
    ):
        for step in range(5):
            run.log({"loss": step}, step)
        run.flush()
        run.log({"loss": 5}, 5)
        shutil.copytree(tmp_path / "lab", tmp_path / "copy")
    (file,) = (tmp_path / "copy").glob("runs/run/spool/*")
    follower = Follower("w")
    follower.feed(file.read_bytes())
    data = file.read_bytes()[: follower.position]
    with holdfast.open(tmp_path / "copy", read_only=True) as reader:
        tail = reader.tail("run", from_start=True)
        file.write_bytes(data[:-20] + bytes(200_000))
        assert [item.step for item in tail.poll()] == [0, 1, 2, 3, 4]
        file.write_bytes(data + bytes(200_000))
        assert [item.step for item in tail.poll()] == [5]
        broken = bytearray(data)
        broken[len(data) - 60] ^= 1
        file.write_bytes(broken)
        other = reader.tail("run", from_start=True)
        with pytest.raises(Corrupt, match=r"runs/run/spool/.*damaged at byte"):
            list(other)


def test_ranks_are_followed_beside_the_run_until_the_last_has_ended(
    store: holdfast.ExperimentStore,
) -> None:
    run = store.start_run("e", run_id="run", capture=False)
    tail = store.tail("run", poll_seconds=0)
    run.log({"loss": 0.0}, 0)
    ranks = [store.join_run("run", rank=rank) for rank in (1, 2)]
    for rank in ranks:
        rank.log({"loss": 1.0}, 0)
    found = tail.poll()
    assert sorted((item.rank, item.metrics["loss"]) for item in found) == [(0, 0), (1, 1), (2, 1)]
    seal(ranks[0])
    ranks[0].log({"loss": 2.0}, 1)
    ranks[1].log({"loss": 3.0}, 1)
    seal(ranks[1])
    run.finish()
    found = tail.poll()
    assert sorted((item.rank, item.metrics["loss"]) for item in found) == [(1, 2), (2, 3)]
    assert not tail.ended
    for rank in ranks:
        rank.log({"loss": 4.0}, 2)
        rank.finish()
    assert sorted((item.rank, item.step) for item in tail) == [(1, 2), (2, 2)]
    everything = list(store.tail("run", from_start=True))
    assert sorted((item.rank, item.step) for item in everything) == [
        (0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2),
    ]  # fmt: skip


def test_a_record_wider_than_a_window(store: holdfast.ExperimentStore) -> None:
    run = store.start_run("e", run_id="run", capture=False)
    wide = {f"layer/{number}": float(number) for number in range(10_000)}
    tail = store.tail("run")
    for _ in range(3):
        run.log(wide)
    run.log({"once": 1.0})
    assert [item.metrics for item in tail.poll()] == [wide, wide, wide, {"once": 1.0}]
    seal(run)
    again = store.tail("run", from_start=True, follow=False)
    assert sorted(len(item.metrics) for item in again) == [1, 10_000, 10_000, 10_000]


def test_clocks_that_go_backwards_and_steps_that_jump(store: holdfast.ExperimentStore) -> None:
    week = 7 * 86_400 * 10**9
    steps = [5, 0, 0, 2**64 - 1, 3, 10**12]
    times = [week, 0, -week, 2**63 - 1, -(2**63), 1]
    run = store.start_run("e", run_id="run", capture=False)
    tail = store.tail("run")
    for step, at in zip(steps, times, strict=True):
        run.log({"loss": 1.0}, step, timestamp=at)
    logged = list(zip(steps, times, strict=True))
    assert [(item.step, item.timestamp) for item in tail.poll()] == logged
    seal(run)
    assert tail.poll() == []
    again = store.tail("run", from_start=True, follow=False)
    assert [(item.step, item.timestamp) for item in again] == sorted(logged, key=lambda at: at[1])


@pytest.mark.parametrize("how", [{"last": -1}, {"last": 1.5}, {"poll_seconds": -1}, {"keys": [1]}])
def test_a_wrong_wish_is_told(store: holdfast.ExperimentStore, how: dict[str, Any]) -> None:
    run = store.start_run("e", capture=False)
    with pytest.raises(InvalidValue):
        store.tail(run.id, **how)
    with pytest.raises(RunNotFound):
        store.tail("no-such-run")


def test_a_record_is_a_value() -> None:
    record = holdfast.TailRecord(1, 2, {"a": 3.0}, 0, 1)
    assert dataclasses.asdict(record) == {
        "step": 1, "timestamp": 2, "metrics": {"a": 3.0}, "rank": 0, "attempt": 1
    }  # fmt: skip
