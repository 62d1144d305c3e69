"""Stop a rank at every backend call it makes: what was acknowledged is there, and the run is sound."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest

from holdfast.backend.memory import MemoryBackend
from holdfast.backend.wrap import WatchedBackend
from holdfast.errors import BackendError, HoldfastError
from holdfast.format import layout
from holdfast.store import ExperimentStore
from test_faults import Faults, LosingBackend, _store

Said = dict[str, int]  # how many steps of each kind were acknowledged


class Death(Faults):
    """From one call on, every call fails: nothing that the process does after that reaches the store."""

    def __call__(self, operation: str, name: str) -> None:
        self.calls += 1
        self.left -= 1
        if self.left <= 0:
            raise BackendError(f"dead: {operation} {name}", name=name)


def _log(store: ExperimentStore, said: Said) -> None:
    """Join, log, seal, log and finish as rank 1 of the open run."""
    run = store.join_run("run", rank=1)
    for step in range(6):
        run.log({"x": 10.0 + step}, step=step)
        said["x"] = step + 1
        if step == 2:
            run._writer.seal(go_on=True)
    run.log_artifact(b"shard", key="shard")
    said["shard"] = 1
    run.finish()
    said["finished"] = 1


def _rewind(store: ExperimentStore, said: Said) -> None:
    """Resume the run behind what rank 1 has logged; the step is known with the first seal."""
    said["rewind"] = 1
    run = store.resume("run")
    run.log({"x": 5.0}, step=4)
    said["main"] = 1
    run.finish()


def _prepared(operation: Callable[..., None]) -> MemoryBackend:
    backend = MemoryBackend()
    with _store(backend) as store:
        run = store.start_run("faulty", run_id="run", capture=False)
        run.log({"x": 0.0}, step=0)
        if operation is _rewind:
            _log(store, {})
            run.finish()
    return backend


def _check_log(series: list[tuple[int, float]], said: Said) -> None:
    mine = [(step, value) for step, value in series if value >= 10]
    assert mine == [(step, 10.0 + step) for step in range(len(mine))]
    assert said.get("x", 0) <= len(mine) <= said.get("x", 0) + 1  # one may have been in flight


def _check_rewind(series: list[tuple[int, float]], said: Said) -> None:
    before = [(0, 0.0), (0, 10.0), *((step, 10.0 + step) for step in range(1, 6))]
    rewound = [*before[:5], (4, 5.0)]
    begun = rewound[:5]  # its spool says where the attempt began, and holds nothing yet
    assert series in ([rewound] if "main" in said else [before, begun, rewound])


def _check(store: ExperimentStore, said: Said) -> None:
    assert store.verify() == []
    series = store.metrics("run", "x")
    check = _check_log if "rewind" not in said else _check_rewind
    check(list(series), said)
    if "shard" in said:
        assert store.read_artifact("run", "shard") == b"shard"
    if "finished" in said:
        assert store.repository.rank("run", 1).load().state["writer"]["status"] == "Success"
    if not list(store.repository.backend.walk(layout.spools("run"))):
        assert store.run("run").metrics["x"].count == len(series)


@pytest.mark.parametrize("wrapper", [WatchedBackend, LosingBackend])
@pytest.mark.parametrize("kind", [Faults, Death])
@pytest.mark.parametrize("operation", [_log, _rewind])
def test_a_rank_may_be_stopped_at_any_call(
    operation: Callable[..., None], kind: type[Faults], wrapper: type[WatchedBackend]
) -> None:
    number, failed = 0, 0
    while True:
        number += 1
        backend = _prepared(operation)
        faults, said = kind(), Said()
        faults.left = 10**9
        store = _store(wrapper(backend, faults))
        faults.left, faults.calls = number, 0
        try:
            operation(store, said)
        except HoldfastError:
            failed += 1
        reached = faults.calls
        _leave(store, faults, dies=kind is Death)
        with _store(backend) as after:
            _check(after, said)
            with patch("holdfast.liveness.is_dead", lambda who, beat: True):
                after.recover()
            _check(after, said)
            assert list(backend.walk(layout.spools("run"))) == []
            state = after.run("run")
            assert state.metrics["x"].count == len(after.metrics("run", "x"))
            with after.resume("run", step=100), after.join_run("run", rank=1) as again:
                again.log({"x": 1.0}, step=100)
            assert len(after.metrics("run", "x")) == state.metrics["x"].count + 1
            assert after.verify() == []
        if reached < number:
            break
    assert failed >= 5  # the loop really met failures
    assert number >= 15


def _leave(store: ExperimentStore, faults: Faults, dies: bool) -> None:
    """The process ends in order, or goes away with what it has open."""
    if not dies:
        faults.left = -1
        store.close()
        return
    store.keeper.close()
    for run in [*store._open_runs.values(), *store._joined.values()]:
        run._writer.closed = True
    store._open_runs.clear()
    store._joined.clear()
