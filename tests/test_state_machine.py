"""Log, flush, seal, crash, recover, resume, join, compact, finish and read in any order: the store and
its tail agree with a plain model."""

from __future__ import annotations

import itertools
import math
import shutil
import struct
import tempfile
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import holdfast
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.repository import connected
from holdfast.series import RunPoints

KEYS = ["loss", "train/acc", "lr"]
RANKS = [1, 2]
steps = st.integers(0, 20) | st.integers(0, 2**64 - 1)
values = st.floats(width=64)
records = st.dictionaries(st.sampled_from(KEYS), values, min_size=1)
bounds = st.none() | steps
ranks = st.sampled_from(RANKS)


class Point(NamedTuple):
    """A point of one metric; sorted, points of one step come in the order of the series."""

    step: int
    rank: int
    attempt: int
    time: int
    bits: bytes


class Actor:
    """A process that writes: a store and a run of its own, and what the process table says of it."""

    def __init__(self, pid: int, store: holdfast.ExperimentStore) -> None:
        self.pid = pid
        self.store = store
        self.run: Any = None

    def stop(self) -> None:
        """It goes away without a word."""
        self.store.keeper.close()
        if self.run._writer._appender is not None:
            self.run._writer._appender.close()
        self.store._open_runs.clear()


class Machine(RuleBasedStateMachine):
    """The model: every point ever logged by key, and the step where each attempt began."""

    def backend(self) -> Any:
        return MemoryBackend()

    @initialize()
    def begin(self) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("holdfast.ops.compact.FAN_OUT", 2)
        # The process table is the one thing that we cannot crash.
        self.patch.setattr("holdfast.process.identity", lambda: self._identity())
        self.patch.setattr("holdfast.process.is_alive", lambda who: who["pid"] in self.alive)
        self.disk = self.backend()
        self.pids, self.clock = itertools.count(1), itertools.count()
        self.alive: set[int] = set()
        self.logged: dict[str, list[Point]] = {key: [] for key in KEYS}
        self.begun: dict[int, int | None] = {1: None}
        self.told: dict[int, list[Any]] = {}  # by rank, what its calls of log said
        self.heard: dict[int, list[Any]] = {}  # by rank, what the tail gave
        self.joined: dict[int, tuple[Actor, int]] = {}
        self.reader = self._open()
        self.main = self._actor()
        self.main.run = self.main.store.start_run("model", run_id="run", capture=False)
        self.tail = self.reader.tail("run")

    def _open(self) -> holdfast.ExperimentStore:
        store = holdfast.ExperimentStore()
        store.repository = connected(self.disk)
        return store

    def _actor(self) -> Actor:
        actor = Actor(next(self.pids), self._open())
        self.alive.add(actor.pid)
        self.pid = actor.pid
        return actor

    def _identity(self) -> dict[str, Any]:
        return {"host": "h", "pid": self.pid, "started": "", "space": ""}

    def _as(self, rank: int) -> Any:
        """The run as that writer holds it, whose process is the one that acts now."""
        actor = self.joined[rank][0] if rank in self.joined else self.main
        self.pid = actor.pid
        return actor.run

    # What writers do. A rank that has not joined stands for the main writer.

    @rule(record=records, step=steps, rank=st.sampled_from([0, *RANKS]), look=st.booleans())
    def log(self, record: dict[str, float], step: int, rank: int, look: bool) -> None:
        run, at = self._as(rank), next(self.clock)
        rank, attempt = self._whose(rank)
        run.log(record, step, timestamp=at)
        if not rank and self.begun[attempt] is None:
            self.begun[attempt] = step
        for key, value in record.items():
            self.logged[key].append(Point(step, rank, attempt, at, _bits(value)))
        said = (step, at, attempt, {key: _bits(value) for key, value in record.items()})
        self.told.setdefault(rank, []).append(said)
        if look:
            self.look()

    def _whose(self, rank: int) -> tuple[int, int]:
        """(rank, attempt) of what `log` writes."""
        return (rank, self.joined[rank][1]) if rank in self.joined else (0, max(self.begun))

    @rule(rank=st.sampled_from([0, *RANKS]))
    def flush(self, rank: int) -> None:
        self._as(rank).flush()

    @rule(rank=st.sampled_from([0, *RANKS]))
    def seal(self, rank: int) -> None:
        self._as(rank)._writer.seal(go_on=True)

    @rule(rank=ranks)
    def join(self, rank: int) -> None:
        if rank not in self.joined:
            actor = self._actor()
            self.joined[rank] = actor, max(self.begun)
            actor.run = actor.store.join_run("run", rank=rank)

    @rule(rank=ranks)
    def leave(self, rank: int) -> None:
        if rank in self.joined:
            self._as(rank).finish()
            self.joined.pop(rank)[0].store.close()

    @rule(rank=ranks)
    def crash_as_a_rank(self, rank: int) -> None:
        if rank in self.joined:
            actor, _ = self.joined.pop(rank)
            actor.stop()
            self.alive.discard(actor.pid)

    @rule(step=steps | st.none())
    def finish_and_resume(self, step: int | None) -> None:
        self._as(0).finish()
        assert self.reader.run("run").state == "Success"
        self.main.store.close()
        self._resume(step)

    @rule(step=steps | st.none(), recover=st.booleans())
    def crash_and_resume(self, step: int | None, recover: bool) -> None:
        """The process goes away without a word; another one takes over."""
        self.main.stop()
        self.alive.discard(self.main.pid)
        assert self.reader.run("run").state == "Crashed"
        if recover:
            assert all(found.problem is None for found in self.reader.recover())
        self._resume(step)

    def _resume(self, step: int | None) -> None:
        self.alive.discard(self.main.pid)
        self.main = self._actor()
        self.main.run = self.main.store.resume("run", step=step)
        self.begun[max(self.begun) + 1] = step

    @rule()
    def compact(self) -> None:
        self.reader.compact("run")

    # What readers see.

    def _series(
        self, key: str, attempt: int | None = None, rank: int | None = None
    ) -> list[tuple[int, bytes]]:
        """The series as the model has it, as it stood at the end of `attempt`."""
        upto = max(self.begun) if attempt is None else attempt
        kept = []
        for point in sorted(self.logged[key], key=lambda point: point[:4]):
            later = [
                s for a, s in self.begun.items() if point.attempt < a <= upto and s is not None
            ]
            counts = point.attempt <= upto and point.step < min([*later, 1 << 64])
            if counts and rank in (None, point.rank):
                kept.append((point.step, point.bits))
        return kept

    @precondition(lambda self: hasattr(self, "tail"))
    @invariant()
    def series_agree(self) -> None:
        for key in KEYS:
            series = self.reader.get_metrics_for_run("run", key)
            assert [(m.step, _bits(m.value)) for m in series] == self._series(key)

    @rule(
        key=st.sampled_from(KEYS),
        first=bounds,
        stop=bounds,
        last=st.none() | st.integers(0, 5),
        attempt=st.none() | st.integers(1, 4),
        rank=st.none() | st.sampled_from([0, *RANKS]),
    )
    def read(
        self,
        key: str,
        first: int | None,
        stop: int | None,
        last: int | None,
        attempt: int | None,
        rank: int | None,
    ) -> None:
        points = RunPoints.load(self.disk, "run", self.disk)
        found = points.series(key, steps=(first, stop), last=last, attempt=attempt, rank=rank)
        wanted = [
            (step, bits)
            for step, bits in self._series(key, attempt, rank)
            if (first or 0) <= step < (1 << 64 if stop is None else stop)
        ]
        if last is not None:
            wanted = wanted[max(0, len(wanted) - last) :]
        assert [(step, _bits(value)) for step, value in found] == wanted

    @rule()
    def look(self) -> None:
        """The tail gives what was logged since it looked last, of each writer in its order."""
        for item in self.tail.poll():
            metrics = {key: _bits(value) for key, value in item.metrics.items()}
            said = (item.step, item.timestamp, item.attempt, metrics)
            self.heard.setdefault(item.rank, []).append(said)
        assert self.heard == self.told

    def teardown(self) -> None:
        try:
            if hasattr(self, "tail"):
                self._end()
        finally:
            if hasattr(self, "patch"):
                self.patch.undo()

    def _end(self) -> None:
        for rank in list(self.joined):
            self.leave(rank)
        self.reader.recover()
        self._as(0).finish()
        self.main.store.close()
        self.look()
        assert self.tail.ended
        stats = self.reader.run("run").metrics
        wanted = {key: points for key in KEYS if (points := self._series(key))}
        assert stats.keys() == wanted.keys()
        for key, about in stats.items():
            found = [struct.unpack("d", bits)[0] for _, bits in wanted[key]]
            real = [value for value in found if not math.isnan(value)]
            assert (about.count, about.nan) == (len(found), len(found) - len(real))
            assert (about.min, about.max) == ((min(real), max(real)) if real else (None, None))
        assert self.reader.verify() == []
        self.reader.close()


def _bits(value: float) -> bytes:
    return struct.pack("d", value)


class LocalMachine(Machine):
    def backend(self) -> Any:
        self.place = tempfile.mkdtemp()
        return LocalBackend(self.place)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "place"):
            shutil.rmtree(self.place)


TestMemory = Machine.TestCase
TestMemory.settings = settings(max_examples=45, stateful_step_count=25)
TestLocal = LocalMachine.TestCase
TestLocal.settings = settings(max_examples=15, stateful_step_count=20)
