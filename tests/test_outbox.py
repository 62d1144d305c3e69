"""A remote store: training never waits for the network, nothing is lost, and nothing is sent twice."""

from __future__ import annotations

import gc
import logging
import os
from pathlib import Path
from typing import Any

import pytest

import holdfast
from far import FarBackend, opened
from holdfast.errors import AccessDenied, InvalidState, StorageFull, Unavailable
from holdfast.format import layout
from holdfast.repository import connected

CONFIG = {"lr": 0.1, "seed": None}


@pytest.fixture
def far() -> FarBackend:
    backend = FarBackend()
    connected(backend)
    return backend


def begin(store: holdfast.ExperimentStore, run_id: str = "run", **more: Any) -> holdfast.Run:
    return store.start_run("exp", run_id=run_id, capture=False, config=CONFIG, **more)


def check(far: FarBackend, run_id: str = "run", steps: int = 50, **artifacts: bytes) -> None:
    """The run is whole, for somebody on another machine."""
    far.down = False
    with opened(far) as store:
        series = store.metrics(run_id, "loss")
        assert series.steps.tolist() == list(range(steps))
        assert series.values.tolist() == [step / 7 for step in range(steps)]
        found = store.run(run_id)
        assert set(found.artifacts) == set(artifacts)
        for key, data in artifacts.items():
            assert store.read_artifact(run_id, key) == data
        assert store.verify() == []
        store.repository.manifest(run_id).check()
        counted = found.metrics["loss"]
        assert counted.count == steps


def unsent_files(store: holdfast.ExperimentStore) -> list[str]:
    return [stat.name for stat in store.repository.state.walk("")]


def log(run: holdfast.Run, first: int = 0, stop: int = 50) -> None:
    for step in range(first, stop):
        run.log({"loss": step / 7}, step=step)


def test_a_run_is_in_the_store_when_it_is_finished(far: FarBackend) -> None:
    with opened(far) as store:
        with begin(store) as run:
            log(run)
            run.log_artifact(b"weights", key="model")
            run.set_tags({"stage": "dev"})
            run.set_note("hello")
        assert store.unsent() == []
        assert unsent_files(store) == []
        found = store.run("run")
        assert (found.status.value, found.tags, found.note) == (
            "Success",
            {"stage": "dev"},
            "hello",
        )
        assert found.config == CONFIG
    check(far, model=b"weights")


def test_a_log_call_asks_nothing_of_the_store_and_a_publishing_is_three_writes(
    far: FarBackend,
) -> None:
    with opened(far, sends_by_hand=True) as store:
        run = begin(store)
        writer: Any = run._writer
        far.calls.clear()
        log(run, 0, 30)
        assert far.calls == []
        run.flush()
        run.log_artifact(b"weights", key="model")
        run.set_tags({"a": 1})
        assert far.calls == []
        writer.publish(roll=True)
        assert len(far.writes()) == 4  # one of them the artifact
        far.calls.clear()
        log(run, 30, 50)
        writer.publish(roll=True)
        assert [name.split("/")[-2] for _, name in far.writes()] == ["segments", "runs", "manifest"]
        reads = [call for call in far.calls if call not in far.writes()]
        assert [operation for operation, _ in reads] == ["delete"]
        far.calls.clear()
        writer.publish(roll=True)
        assert far.calls == []
        run.finish()
    check(far, model=b"weights")


def test_points_come_to_the_store_while_the_run_goes_on(far: FarBackend) -> None:
    with opened(far) as store:
        run = begin(store)
        log(run)
        assert store._publisher is not None
        assert store._publisher._next_turn(60)
        there = store.repository.manifest("run").load().state
        assert sum(about["points"] for about in there["segments"].values()) == 50
        run.finish()


def test_an_outage_stops_nothing_and_is_told_once(
    far: FarBackend, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "holdfast"), opened(far) as store:
        run = begin(store)
        log(run, 0, 10)
        far.down = True
        for step in range(10, 40):
            run.log({"loss": step / 7}, step=step)
            run.set_tags({"step": step})
        run.log_artifact(b"weights", key="model")
        run.flush()
        assert store._publisher is not None
        while store._publisher.reachable:
            store._publisher._next_turn(1)
        for _ in range(3):
            store._publisher._next_turn(1)
        far.down = False
        log(run, 40, 50)
        assert run.finish() is None
    told = [record.message for record in caplog.records]
    assert [("does not answer" in line, "answers again" in line) for line in told] == [
        (True, False), (False, True),
    ]  # fmt: skip
    check(far, model=b"weights")


@pytest.mark.parametrize("problem", [AccessDenied("no", name="store.json"), OSError("odd")])
def test_a_store_that_refuses_when_it_answers_again_is_asked_again(
    far: FarBackend, problem: Exception
) -> None:
    def refuse(operation: str, name: str) -> None:
        if name == layout.STORE:
            raise problem

    with opened(far) as store:
        publisher = store._publisher
        assert publisher is not None
        run = begin(store)
        far.down = True
        log(run)
        assert publisher._next_turn(60) and not publisher.reachable
        far.down, far.fault = False, refuse
        assert publisher._next_turn(60) and publisher._next_turn(60)
        far.fault = lambda operation, name: None
        assert run.finish() is None
    check(far)


@pytest.mark.parametrize("asked", [False, True], ids=["the next who opens", "recover"])
def test_what_is_not_sent_is_said_and_sent_by(
    far: FarBackend, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    store = opened(far, sends_by_hand=True)
    run = begin(store)
    far.down = True
    log(run)
    run.log_artifact(b"weights", key="model")
    left = run.finish(timeout=0)
    assert left is not None
    assert (left.run_id, left.points, left.artifact_bytes) == ("run", 50, 7)
    assert store.unsent() == [left]
    assert "50 points" in str(left)
    store.close()
    far.down = False
    abandon(monkeypatch)
    with opened(far, sends_by_hand=asked) as store:
        if asked:
            assert store.unsent()[0].is_open is False
            store.recover()
        else:
            assert store._publisher is not None
            assert store._publisher._next_turn(None)
        assert store.unsent() == []
        assert unsent_files(store) == []
        assert store.run("run").status.value == "Success"
    check(far, model=b"weights")


def abandon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process wrote so far is somebody's who is gone."""
    gc.collect()
    monkeypatch.setattr("holdfast.process.is_alive", lambda who: False)


def test_a_run_begins_while_the_store_cannot_be_reached(far: FarBackend) -> None:
    far.down = True
    about = far.inner.get(layout.STORE)
    assert about
    far.down = False
    repository = connected(far)
    assert repository.store_id
    store = opened(far)
    far.down = True
    assert store._publisher is not None
    store._publisher.reachable = False
    run = begin(store)
    log(run)
    run.log_artifact(b"weights", key="model")
    far.down = False
    assert run.finish() is None
    store.close()
    check(far, model=b"weights")


def test_an_id_that_is_taken_is_told_at_the_start_or_when_it_is_known(
    far: FarBackend, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(far, sends_by_hand=True) as store:
        begin(store).finish()
        with pytest.raises(InvalidState, match="exists already"):
            begin(store)
        assert unsent_files(store) == []
        far.down = True
        assert store._publisher is not None
        store._publisher.reachable = False
        with begin(store) as run:
            log(run)
            far.down = False
            left = run.finish()
        assert left is not None
        assert left.points == 50
        assert "exists already" in str(left)
        assert "exists already" in caplog.text
        assert store.unsent()[0].points == 50
        assert store.run("run").metrics == {}


def test_an_artifact_over_the_limit_is_refused_while_the_store_is_away_and_points_are_not(
    far: FarBackend,
) -> None:
    with opened(far, backlog_bytes=100) as store:
        run = begin(store)
        run.log_artifact(bytes(1000), key="large")  # one is always taken
        run.log_artifact(bytes(1001), key="next")  # it waited for the first one
        assert store.run("run").artifacts.keys() == {"large", "next"}
        far.down = True
        assert store._publisher is not None
        while store._publisher.reachable:
            run.set_tags({"a": 1})
            store._publisher._next_turn(60)
        run.log_artifact(bytes(1002), key="third")
        with pytest.raises(StorageFull, match="HOLDFAST_BACKLOG"):
            run.log_artifact(b"weights", key="model")
        log(run)
        far.down = False
        assert run.finish() is None
    check(far, large=bytes(1000), next=bytes(1001), third=bytes(1002))


class Killed(BaseException):
    """The process ends here."""


def _work(far: FarBackend) -> None:
    """A short run, sent in three parts by hand, so that each call comes in the same order."""
    with opened(far, sends_by_hand=True) as store:
        run = begin(store)
        writer: Any = run._writer
        log(run, 0, 20)
        run.log_artifact(b"weights", key="model")
        run.set_tags({"a": 1})
        writer.publish(roll=True)
        log(run, 20, 50)
        run.log_artifact(bytes(3 << 20), key="large")
        writer.publish(roll=True)
        writer.end(holdfast.RunStatus.SUCCESS, None, None, 30)


def test_a_process_that_dies_at_any_call_of_publishing_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The store stops answering at call n, for ever as far as this process is concerned; then the next
    process sends what is left."""
    trial = FarBackend()
    _prepare(trial, tmp_path / "trial", monkeypatch)
    _work(trial)
    count = len(trial.calls)
    assert count > 20
    for number in range(count):
        far = FarBackend()
        _prepare(far, tmp_path / str(number), monkeypatch)
        acknowledged = _die_at(far, number)
        with monkeypatch.context() as patch:
            patch.setattr("holdfast.process.is_alive", lambda who: False)
            far.down, far.fault = False, lambda operation, name: None
            with opened(far) as store:
                store.recover()
                assert store.unsent() == []
                _check_all(store, acknowledged)


def _prepare(far: FarBackend, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(place))
    connected(far)
    far.calls.clear()


def _die_at(far: FarBackend, number: int) -> int:
    """Work with a network that breaks for good at call `number`; the points that were acknowledged."""

    def fault(operation: str, name: str) -> None:
        if len(far.calls) > number:
            raise Unavailable(f"{name}: no answer came", name=name)

    store = opened(far, sends_by_hand=True)
    far.calls.clear()
    far.fault = fault
    run = begin(store)
    writer: Any = run._writer
    log(run, 0, 20)
    run.log_artifact(b"weights", key="model")
    run.set_tags({"a": 1})
    _try(writer)
    log(run, 20, 50)
    run.log_artifact(bytes(3 << 20), key="large")
    _try(writer)
    writer.end(holdfast.RunStatus.SUCCESS, None, None, 0)
    store.close()
    return 50


def _try(writer: Any) -> None:
    try:
        writer.publish(roll=True)
    except Unavailable:
        return


def _check_all(store: holdfast.ExperimentStore, steps: int) -> None:
    found = store.run("run")
    assert store.metrics("run", "loss").steps.tolist() == list(range(steps))
    assert found.metrics["loss"].count == steps
    assert (found.status.value, found.tags) == ("Success", {"a": 1})
    assert store.read_artifact("run", "model") == b"weights"
    assert store.read_artifact("run", "large") == bytes(3 << 20)
    assert store.verify() == []
    store.repository.manifest("run").check()


@pytest.mark.parametrize("which", ["manifest", "segments", "experiments", "blobs"])
def test_a_lost_answer_is_not_sent_twice(far: FarBackend, which: str) -> None:
    """Each first create of a name acts and is not answered."""
    lost: set[str] = set()

    def lose(operation: str, name: str) -> None:
        if which in name and name not in lost:
            lost.add(name)
            raise Unavailable(f"{name}: no answer came", name=name)

    far.lost = lose
    with opened(far) as store, begin(store) as run:
        log(run)
        run.log_artifact(b"weights", key="model")
    assert lost
    check(far, model=b"weights")
    with opened(far) as store:
        state = store.repository.manifest("run").load().state
    spools = [(about["writer"], about["sequence"]) for about in state["segments"].values()]
    assert len(spools) == len(set(spools))
    assert list(state["outbox"].values()) == [3]  # found, begin, the artifact, the end


def test_a_change_is_not_applied_again_over_what_somebody_else_wrote(
    far: FarBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is there, its answer was lost, the process died; another one has changed the tag since."""
    store = opened(far, sends_by_hand=True)
    run = begin(store)
    writer: Any = run._writer
    run.set_tags({"stage": "dev"})
    before = writer.outbox.pending()
    monkeypatch.setattr(writer.outbox, "forget", lambda *sent: None)  # it died before
    writer.publish(roll=True)
    assert writer.outbox.pending() == before
    chain = store.repository.manifest("run")
    chain.commit(chain.load(), lambda state: {"tags": {"stage": "prod"}})
    number = chain.load().number
    store.close()
    abandon(monkeypatch)
    with opened(far) as store:
        store.recover()
        assert store.run("run").tags == {"stage": "prod"}
        crashed = store.repository.manifest("run").load()
        assert crashed.number == number + 1  # that it crashed


def test_a_damaged_change_is_named_and_points_go_on(
    far: FarBackend, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(far, sends_by_hand=True) as store:
        run = begin(store)
        writer: Any = run._writer
        run.set_tags({"a": 1})
        (path,) = Path(writer.outbox.place.root, "changes").iterdir()
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        log(run)
        left = run.finish(timeout=5)
        assert left is not None
        assert left.problem
        assert path.name in left.problem
        assert path.exists()
    check(far)


def test_a_child_never_uses_the_network_and_its_parent_sends_what_it_wrote(
    far: FarBackend, tmp_path: Path
) -> None:
    used = tmp_path / "used"
    with opened(far) as store, begin(store) as run:
        log(run, 0, 10)
        parent = os.getpid()

        def fault(operation: str, name: str) -> None:
            if os.getpid() != parent:
                used.write_text(f"{operation} {name}")

        far.fault = fault
        pid = os.fork()
        if pid == 0:
            try:
                log(run, 10, 50)
                run.log_artifact(b"weights", key="model")
                run.flush()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    assert not used.exists()
    check(far, model=b"weights")


def test_a_rank_writes_to_its_own_chain(far: FarBackend) -> None:
    with opened(far) as store, begin(store) as run:
        log(run)
        with store.join_run("run", rank=1, system=False) as rank:
            log(rank)
            rank.log_artifact(b"weights", key="model")
        assert store.unsent() == [] or store.unsent()[0].rank is None
    with opened(far) as store:
        assert sorted(store.metrics("run", "loss", rank=1).steps.tolist()) == list(range(50))
        assert store.read_artifact("run", "model") == b"weights"
        assert store.repository.rank("run", 1).load().state["writer"]["closed"] is True


def test_a_run_is_resumed_and_superseded_as_in_a_local_store(far: FarBackend) -> None:
    with opened(far) as store:
        with begin(store) as run:
            log(run, 0, 60)
        with store.resume("run", step=40, system=False) as run:
            log(run, 40, 50)
    check(far)
