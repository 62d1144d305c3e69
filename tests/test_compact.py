"""Compaction: the same points in fewer segments, whatever happens meanwhile, and no spool sealed twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import Corrupt, HoldfastError
from holdfast.format import layout
from holdfast.format.overview import LEAST_ROWS
from holdfast.ops import compact as compacting
from holdfast.ops.runs import points
from holdfast.ops.seal import recount
from holdfast.repository import connected
from holdfast.run import Run
from holdfast.series import is_sealed
from holdfast.store import ExperimentStore
from test_faults import Faults, LosingBackend

RUN = "run"


def opened(backend: Any) -> ExperimentStore:
    store = ExperimentStore()
    store.repository = connected(backend)
    return store


def seal(run: Run) -> None:
    run._writer.seal(go_on=True)


def fill(store: ExperimentStore, spools: int = 10, rows: int = 5) -> Run:
    """A run that goes on, with a segment for each of `spools`; `late` comes in the middle, `b` now and
    then, and every other spool begins with a step that was there before."""
    run = store.start_run("exp", run_id=RUN, capture=False)
    for number in range(spools):
        for row in range(rows):
            step = max(0, number * rows + row - 3 * (number % 2))
            values = {"a": step / 7} | ({"b": -step} if row % 2 else {})
            run.log(values | ({"late": float("nan")} if number > 5 else {}), step=step)
        seal(run)
    return run


def segments(store: ExperimentStore) -> dict[str, Any]:
    found: dict[str, Any] = store.repository.manifest(RUN).load().state.get("segments", {})
    return found


def everything(store: ExperimentStore) -> dict[str, bytes]:
    """The bytes of every series, of the newest and of each earlier attempt."""
    read = points(store.repository, RUN)
    attempts = [None, *range(len(read.snapshot.state.get("attempts", {})) + 1)]
    return {
        f"{key} {attempt}": b"".join(
            part.tobytes() for part in (series.steps, series.values, series.timestamps)
        )
        for key in read.keys()
        for attempt in attempts
        for series in [read.series(key, attempt=attempt)]
    }


def test_a_finished_run_becomes_one_segment_with_the_same_points() -> None:
    with opened(MemoryBackend()) as store:
        fill(store).finish(compact=False)
        before, names, metrics = (
            everything(store),
            set(segments(store)),
            repr(store.run(RUN).metrics),
        )
        (found,) = store.compact(RUN)
        assert (found.segments_before, found.segments_after, found.given_up) == (10, 1, 0)
        assert everything(store) == before
        ((name, about),) = segments(store).items()
        assert (about["sequence"], about["last_sequence"], about["rows"]) == (0, 9, 50)
        assert (about["first_step"], about["last_step"]) == (0, 46)
        assert about["points"] == 50 + 20 + 20
        assert repr(store.run(RUN).metrics) == metrics
        assert store.verify() == []
        assert store.compact(RUN) == []
        # The old files are still there: an older generation refers to them.
        stored = {s.name for s in store.repository.backend.walk(layout.run(RUN))}
        assert {layout.run(RUN) + f"segments/{old}.seg" for old in {*names, name}} <= stored


def test_the_entry_that_compacts_is_read_with_one_get() -> None:
    with opened(MemoryBackend()) as store:
        fill(store).finish(compact=False)
        store.compact(RUN)
        chain = store.repository.manifest(RUN)
        assert chain.read(chain.load().number)[0].full


def test_dry_run_changes_nothing() -> None:
    with opened(MemoryBackend()) as store:
        fill(store).finish(compact=False)
        before = segments(store)
        (found,) = store.compact(RUN, dry_run=True)
        assert (found.segments_before, found.segments_after, found.bytes_after) == (10, 1, 0)
        assert segments(store) == before


def test_a_run_that_goes_on_is_compacted_in_tiers() -> None:
    with opened(MemoryBackend()) as store:
        run = fill(store, spools=7)
        assert store.compact(RUN) == []
        for step in range(100, 100 + 64 - 7):
            run.log({"a": step}, step=step)
            seal(run)
            store.compact(RUN)
            assert len(segments(store)) <= 2 * compacting.FAN_OUT
        store.compact(RUN)  # one level at a time
        ((_, about),) = segments(store).items()
        assert (about["sequence"], about["last_sequence"]) == (0, 63)
        assert len(store.metrics(RUN, "a")) == 35 + 57
        run.finish()
        assert store.verify() == []


def _state(store: ExperimentStore) -> dict[str, Any]:
    state: dict[str, Any] = store.repository.manifest(RUN).load().state
    return state


def test_each_point_is_written_about_three_times() -> None:
    """64 spools of one size: each is sealed, merged with 8, and merged with 64."""
    state: dict[str, Any] = {"segments": {}}
    written = 0
    for sequence in range(512):
        about = {"writer": "w", "attempt": 1, "opened_at": sequence, "rows": 1}
        state["segments"][f"{sequence}"] = about | {"sequence": sequence, "last_sequence": sequence}
        written += 1
        while groups := compacting.planned(state, final=False):
            for group in groups:
                first, last = group[0][1], group[-1][1]["last_sequence"]
                for name, _ in group:
                    del state["segments"][name]
                rows = sum(about["rows"] for _, about in group)
                state["segments"][f"{first['sequence']}-{last}"] = {
                    **first, "last_sequence": last, "rows": rows,
                }  # fmt: skip
                written += rows
        assert len(state["segments"]) <= 7 * 3 + 1
    assert written == 512 * 4  # 3 levels above the first


def test_a_resumed_run_keeps_both_views() -> None:
    with opened(MemoryBackend()) as store:
        fill(store, spools=9).finish(compact=False)
        run = store.resume(RUN, step=12)
        for step in range(12, 30):
            run.log({"a": -step}, step=step)
            seal(run)
        run.finish(compact=False)
        before, metrics = everything(store), recount(store.repository, RUN, _state(store))
        store.compact(RUN)
        assert len(segments(store)) == 2
        assert everything(store) == before
        assert recount(store.repository, RUN, _state(store)) == metrics
        assert sorted(about["attempt"] for about in segments(store).values()) == [1, 2]


def test_segments_are_never_put_together_across_a_spool_that_is_not_sealed() -> None:
    with opened(MemoryBackend()) as store:
        fill(store, spools=9).finish(compact=False)
        chain = store.repository.manifest(RUN)
        gone = next(name for name, about in segments(store).items() if about["sequence"] == 4)
        chain.commit(chain.load(), lambda state: {"segments": {gone: None}})
        store.compact(RUN)
        state = _state(store)
        ranges = sorted((a["sequence"], a["last_sequence"]) for a in state["segments"].values())
        assert ranges == [(0, 3), (5, 8)]
        writer = next(iter(state["segments"].values()))["writer"]
        assert [is_sealed(state, writer, n) for n in (3, 4, 5, 9)] == [True, False, True, False]


def test_an_orphan_spool_of_a_compacted_segment_is_not_sealed_again() -> None:
    backend = MemoryBackend()
    with opened(backend) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        for step in range(9):
            run.log({"a": step}, step=step)
            if step == 3:
                (left,) = run._writer.names
                data = backend.get(left)
            seal(run)
        run.finish(compact=True)
        assert len(segments(store)) == 1
        backend.create(left, data)  # as if deleting it had failed
        assert len(store.metrics(RUN, "a")) == 9
        store.resume(RUN).finish()
        assert len(store.metrics(RUN, "a")) == 9
        assert len(segments(store)) == 1


def test_runs_of_many_segments_are_compacted_when_they_finish() -> None:
    with opened(MemoryBackend()) as store:
        fill(store, spools=7).finish()
        assert len(segments(store)) == 7
        run = store.resume(RUN)
        run.log({"a": 1.0})
        run.finish()
        assert len(segments(store)) == 2


def test_a_failing_compaction_is_no_failure_of_the_run() -> None:
    faults = Faults()
    with opened(WatchedBackend(MemoryBackend(), faults)) as store:
        run = fill(store)

        def fail(operation: str, name: str) -> None:
            if operation == "stage":
                faults.left = 1
            faults(operation, name)

        store.repository.backend.watch = fail  # type: ignore[attr-defined]
        run.finish()
        assert faults.left <= 0
        store.repository.backend.watch = lambda operation, name: None  # type: ignore[attr-defined]
        assert store.run(RUN).status.value == "Success"
        assert len(segments(store)) == 10


@pytest.mark.parametrize("wrapper", [WatchedBackend, LosingBackend])
def test_any_one_call_of_a_compaction_may_fail(wrapper: type[WatchedBackend]) -> None:
    number, failed = 0, 0
    while True:
        number += 1
        backend, faults = MemoryBackend(), Faults()
        with opened(backend) as store:
            fill(store, spools=4).finish(compact=False)
            before = everything(store)
        store = opened(wrapper(backend, faults))
        faults.left, faults.calls = number, 0
        try:
            store.compact(RUN)
        except HoldfastError:
            failed += 1
        reached, faults.left = faults.calls, -1
        with opened(backend) as reopened:
            assert everything(reopened) == before
            assert reopened.verify() == []
            reopened.compact(RUN)
            assert len(segments(reopened)) == 1
            assert everything(reopened) == before
            assert reopened.verify() == []
        if reached < number:
            break
    assert failed >= 5
    assert number >= 10


class Meanwhile(WatchedBackend):
    """Does something else just before the n-th call."""

    def __init__(self, inner: Any, at: int, act: Callable[[], object]) -> None:
        super().__init__(inner, self._count)
        self.at, self.act, self.calls = at, act, 0

    def _count(self, operation: str, name: str) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.act()


def test_a_live_writer_may_seal_before_each_call_of_a_compaction() -> None:
    at = 0
    while True:
        at += 1
        backend = MemoryBackend()
        with opened(backend) as writing:
            run = fill(writing, spools=8)
            run.log({"a": 0.5, "new": 1.0}, step=99)
            wanted = len(writing.metrics(RUN, "a"))

            def act(run: Run = run) -> None:
                seal(run)

            meanwhile = Meanwhile(backend, at, act)
            opened(meanwhile).compact(RUN)
            act()
            assert len(writing.metrics(RUN, "a")) == wanted
            assert len(writing.metrics(RUN, "new")) == 1
            assert len(segments(writing)) == 2
            run.finish()
            assert writing.verify() == []
        if meanwhile.calls < at:
            break


def test_two_compactions_may_run_at_once_and_either_may_win() -> None:
    at, quicker = 0, 0
    while True:
        at += 1
        backend = MemoryBackend()
        with opened(backend) as store:
            fill(store, spools=9).finish(compact=False)
            before = everything(store)
            meanwhile = Meanwhile(backend, at, lambda store=store: store.compact(RUN))  # type: ignore[misc]
            found = opened(meanwhile).compact(RUN)
            quicker += any(one.given_up for one in found)
            assert len(segments(store)) == 1
            assert everything(store) == before
            assert store.verify() == []
        if meanwhile.calls < at:
            break
    assert quicker == 0  # both write the same bytes, so neither loses anything


def test_inputs_that_are_replaced_by_something_else_are_given_up() -> None:
    backend = MemoryBackend()
    with opened(backend) as store:
        fill(store, spools=9).finish(compact=False)
        chain = store.repository.manifest(RUN)

        def act() -> None:
            names = dict.fromkeys(segments(store))
            chain.commit(chain.load(), lambda state: {"segments": names})
            for name in names:
                backend.delete(f"{layout.run(RUN)}segments/{name}.seg")

        def watch(operation: str, name: str) -> None:  # the chain is read, and no segment yet
            if name.endswith(".seg") and acts:
                acts.pop()()

        acts = [act]
        (found,) = opened(WatchedBackend(backend, watch)).compact(RUN)
        assert (found.given_up, found.segments_after) == (9, 9)
        assert segments(store) == {}


def test_what_was_removed_meanwhile_is_not_brought_back() -> None:
    """Before each call another process takes the inputs out of the manifest, their files staying."""
    at = 0
    while True:
        at += 1
        backend = MemoryBackend()
        with opened(backend) as store:
            fill(store, spools=9).finish(compact=False)
            chain, inputs = store.repository.manifest(RUN), dict.fromkeys(segments(store))

            def act(chain: Any = chain, inputs: Any = inputs) -> None:
                chain.commit(chain.load(), lambda state: {"segments": inputs})

            meanwhile = Meanwhile(backend, at, act)
            found = opened(meanwhile).compact(RUN)
            if meanwhile.calls < at:
                break
            assert not inputs.keys() & segments(store).keys()
            assert len(segments(store)) == (0 if not found or found[0].given_up else 1)
    assert at > 10


def test_many_threads_compact_one_run() -> None:
    backend = MemoryBackend()
    with opened(backend) as store:
        fill(store, spools=20).finish(compact=False)
        before = everything(store)
        threads = [threading.Thread(target=opened(backend).compact, args=(RUN,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(segments(store)) == 1
        assert everything(store) == before


def test_a_damaged_segment_is_named_and_nothing_changes() -> None:
    backend = MemoryBackend()
    with opened(backend) as store:
        fill(store, spools=3).finish(compact=False)
        before = segments(store)
        name = f"{layout.run(RUN)}segments/{next(iter(before))}.seg"
        data = bytearray(backend.get(name))
        data[40] ^= 1
        backend.put(name, bytes(data))
        with pytest.raises(Corrupt, match=name):
            store.compact(RUN)
        assert segments(store) == before


def test_what_was_stored_is_held_against_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(MemoryBackend()) as store:
        fill(store, spools=3).finish(compact=False)
        before = segments(store)
        from holdfast.format.segment import Writer

        real = Writer.column

        def wrong(self: Writer, key: str, values: Any) -> None:
            real(self, key, values[::-1].copy())

        monkeypatch.setattr(Writer, "column", wrong)
        with pytest.raises(Corrupt, match="was not stored as it was written"):
            store.compact(RUN)
        assert segments(store) == before


def test_a_run_of_several_ranks() -> None:
    with opened(MemoryBackend()) as store:
        run = fill(store, spools=3)
        for rank in (1, 2):
            with store.join_run(RUN, rank=rank) as joined:
                for step in range(5):
                    joined.log({"a": step + rank}, step=step)
                    seal(joined)
        run.finish(compact=False)
        before, ranks = everything(store), store.metrics(RUN, "a").ranks
        assert {(one.rank, one.segments_before) for one in store.compact(RUN)} == {
            (None, 3), (1, 5), (2, 5),
        }  # fmt: skip
        assert everything(store) == before
        assert (store.metrics(RUN, "a").ranks == ranks).all()
        assert store.verify() == []


logged = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 12) | st.just(2**64 - 1),
            st.dictionaries(st.sampled_from("abc"), st.floats(), min_size=1),
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=2,
    max_size=6,
)


@settings(max_examples=40)
@given(logged)
def test_whatever_was_logged_is_the_same_afterwards(spools: Any) -> None:
    with opened(MemoryBackend()) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        for rows in spools:
            for step, values in rows:
                run.log(values, step=step)
            seal(run)
        run.finish(compact=False)
        before = everything(store)
        store.compact(RUN)
        assert len(segments(store)) == 1
        assert everything(store) == before


def test_long_runs_get_overviews() -> None:
    with opened(MemoryBackend()) as store:
        run = store.start_run("exp", run_id=RUN, capture=False)
        half = LEAST_ROWS // 2 + 1
        for number in range(2):
            for step in range(number * half, (number + 1) * half):
                run.log({"a": np.sin(step)}, step=step)
            seal(run)
        assert not any("overview_bytes" in about for about in segments(store).values())
        run.finish(compact=True)
        (about,) = segments(store).values()
        assert about["overview_bytes"] > 0
