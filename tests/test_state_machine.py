"""Log, seal, crash, resume, read in any order: the store agrees with a plain dict."""

from __future__ import annotations

import math
import shutil
import tempfile
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import holdfast
from holdfast.backend.local import LocalBackend
from holdfast.backend.memory import MemoryBackend
from holdfast.repository import connected

KEYS = ["loss", "train/acc", "lr"]
steps = st.integers(0, 20) | st.integers(0, 2**64 - 1)
values = st.floats(width=64)
records = st.dictionaries(st.sampled_from(KEYS), values, min_size=1)


class Machine(RuleBasedStateMachine):
    """The model: per key the list of (step, value) in the order they count."""

    def backend(self) -> Any:
        return MemoryBackend()

    @initialize()
    def begin(self) -> None:
        self.disk = self.backend()
        self.store = self._open()
        self.run = self.store.start_run("model", run_id="run", capture=False)
        self.model: dict[str, list[tuple[int, float]]] = {key: [] for key in KEYS}
        self.pending_cut = False

    def _open(self) -> holdfast.ExperimentStore:
        store = holdfast.ExperimentStore()
        store.repository = connected(self.disk)
        return store

    @rule(record=records, step=steps)
    def log(self, record: dict[str, float], step: int) -> None:
        self.run.log(record, step=step)
        if self.pending_cut:
            self._cut(step)
        for key, value in record.items():
            self.model[key].append((step, value))

    def _cut(self, step: int) -> None:
        self.model = {k: [p for p in points if p[0] < step] for k, points in self.model.items()}
        self.pending_cut = False

    @rule()
    def flush(self) -> None:
        self.run.flush()

    @rule()
    def seal(self) -> None:
        self.run._writer.seal(go_on=True)

    @rule(step=steps | st.none())
    def finish_and_resume(self, step: int | None) -> None:
        self.run.finish()
        self.run = self.store.resume("run", step=step)
        self._resumed(step)

    @rule(step=steps | st.none())
    def crash_and_resume(self, step: int | None) -> None:
        """The process goes away without a word; another one takes over."""
        writer = self.run._writer
        self.store.keeper.close()
        if writer._appender is not None:
            writer._appender.close()
        self._bury()
        self.store = self._open()
        self.run = self.store.resume("run", step=step)
        self._resumed(step)

    def _bury(self) -> None:
        """Make every writer so far look dead: its process is a child that has ended."""
        from unittest.mock import patch  # the process table is the one thing we cannot crash

        self._dead = patch("holdfast.liveness.is_dead", lambda identity, beat: True)
        self._dead.start()

    def _resumed(self, step: int | None) -> None:
        if getattr(self, "_dead", None):
            self._dead.stop()
            self._dead = None
        self.pending_cut = step is None
        if step is not None:
            self._cut(step)

    @precondition(lambda self: hasattr(self, "store"))
    @invariant()
    def series_agree(self) -> None:
        for key, points in self.model.items():
            expected = sorted(points, key=lambda point: point[0])
            series = self.store.get_metrics_for_run("run", key)
            assert [m.step for m in series] == [step for step, _ in expected]
            assert all(
                a.value == b or (math.isnan(a.value) and math.isnan(b))
                for a, (_, b) in zip(series, expected, strict=True)
            )

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        self.run.finish()
        stats = self.store.run("run").metrics
        assert stats.keys() == {key for key, points in self.model.items() if points}
        for key, about in stats.items():
            real = [value for _, value in self.model[key] if not math.isnan(value)]
            assert about.count == len(self.model[key])
            assert about.nan == len(self.model[key]) - len(real)
            assert (about.min, about.max) == ((min(real), max(real)) if real else (None, None))
        assert self.store.verify() == []
        self.store.close()


class LocalMachine(Machine):
    def backend(self) -> Any:
        self.place = tempfile.mkdtemp()
        return LocalBackend(self.place)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "place"):
            shutil.rmtree(self.place)


TestMemory = Machine.TestCase
TestMemory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLocal = LocalMachine.TestCase
TestLocal.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
