"""Two stores with writers on both sides, synced this way and that in any order: both stay whole, and what
the source said is in the target, byte for byte, unless the report says why not."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.errors import HoldfastError, NotSynced
from holdfast.format import layout
from test_sync import Watched

SIDES = st.sampled_from([0, 1])
RUNS = st.sampled_from(["a", "b"])
KEYS = st.sampled_from(["model", "data/x"])


class TwoStores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.sides = [Watched(), Watched()]
        self.open: dict[tuple[int, str], Any] = {}
        self.steps = 0

    def teardown(self) -> None:
        for side in self.sides:
            side.store.close()

    def _runs(self, side: int) -> set[str]:
        return set(self.sides[side].memory.folders("runs/"))

    @rule(side=SIDES, run_id=RUNS)
    def begin(self, side: int, run_id: str) -> None:
        store = self.sides[side].store
        if run_id not in self._runs(side):
            self.open[side, run_id] = store.start_run("e", run_id=run_id, capture=False)
            self._log(side, run_id, "model", b"begun")

    @rule(side=SIDES, run_id=RUNS)
    def resume(self, side: int, run_id: str) -> None:
        """On the side where it is not written already."""
        if run_id in self._runs(side) and (side, run_id) not in self.open:
            try:
                self.open[side, run_id] = self.sides[side].store.resume(run_id)
            except HoldfastError:
                return  # it has a tombstone, or its writer seems alive

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 3), key=KEYS, size=st.integers(0, 3), data=st.binary(max_size=4))
    def log(self, which: int, key: str, size: int, data: bytes) -> None:
        """In one of the runs that are open."""
        side, run_id = sorted(self.open)[which % len(self.open)]
        self._log(side, run_id, key, data * 200_000 * size)

    def _log(self, side: int, run_id: str, key: str, data: bytes) -> None:
        run = self.open[side, run_id]
        self.steps += 1
        run.log({"x": self.steps}, step=self.steps)
        run.log_artifact(data, key=key)
        run._writer.seal(go_on=True)

    @rule(side=SIDES, run_id=RUNS)
    def finish(self, side: int, run_id: str) -> None:
        run = self.open.pop((side, run_id), None)
        if run is not None:
            run.finish()

    @rule(side=SIDES, run_id=RUNS)
    def tag(self, side: int, run_id: str) -> None:
        if run_id in self._runs(side) and (side, run_id) not in self.open:
            self.steps += 1
            chain = self.sides[side].store.repository.manifest(run_id)
            chain.commit(chain.load(), lambda _: {"tags": {"n": self.steps}})

    @rule(side=SIDES, run_id=RUNS, back=st.booleans())
    def remove(self, side: int, run_id: str, back: bool) -> None:
        if run_id in self._runs(side) and (side, run_id) not in self.open:
            store = self.sides[side].store
            try:
                (store.undelete_run if back else store.delete_run)(run_id)
            except HoldfastError:
                return

    @rule(side=SIDES, fork=st.booleans(), some=st.booleans())
    def sync(self, side: int, fork: bool, some: bool) -> None:
        source, target = self.sides[side], self.sides[1 - side]
        before = {name: source.memory.get(name) for name in source.names()}
        kept = {
            name: target.memory.get(name)
            for name in target.names()
            if layout.entry_number(name) is not None
        }
        artifacts = "data/*" if some else "*"
        report = source.store.sync_to(target.store, artifacts=artifacts, fork=fork)
        assert report.findings == []
        assert {name: source.memory.get(name) for name in source.names()} == before
        assert all(target.memory.get(name) == data for name, data in kept.items())
        diverged = {split.chain.split("/")[1] for split in report.diverged}
        assert not fork or report.ok
        for run_id in self._runs(side) - diverged:
            self._compare(source, target, run_id, whole=not some)

    def _compare(self, source: Watched, target: Watched, run_id: str, *, whole: bool) -> None:
        prefix = layout.manifest(run_id)
        for name in source.names(prefix):
            assert target.memory.get(name) == source.memory.get(name)
        one, other = (side.store.repository.manifest(run_id).load() for side in (source, target))
        if one.number != other.number or "deleted_at" in one.state["run"]:
            return  # the target is ahead, or only the tombstone went over
        for key in one.state.get("artifacts", {}):
            try:
                wanted = source.store.read_artifact(run_id, key)
            except NotSynced:
                continue  # it never came to the source either
            if whole or key.startswith("data/"):
                assert target.store.read_artifact(run_id, key) == wanted
        if one.state.get("metrics"):
            values = [side.store.metrics(run_id, "x").values.tolist() for side in (source, target)]
            sealed = one.state["metrics"]["x"]["count"]
            assert values[0][:sealed] == values[1][:sealed]

    @invariant()
    def both_are_whole(self) -> None:
        for side in self.sides:
            assert side.store.verify() == []


TestTwoStores = TwoStores.TestCase
TestTwoStores.settings = settings(max_examples=40, stateful_step_count=16, deadline=None)
