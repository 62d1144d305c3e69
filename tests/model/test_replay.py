"""Schedules by which weakened protocols lose something, played against the real code: it loses nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.backend.base import Backend
from holdfast.backend.memory import MemoryBackend
from holdfast.digest import Digest
from holdfast.errors import InvalidState
from holdfast.format import layout
from model.explore import Step, explore
from model.protocol import Model, Rules, is_lost
from model.replay import Process, call_of
from model.worlds import WORLDS
from test_gc import begin, fill, opened

X = b"the artifact"


def run_begins(backend: Backend) -> None:
    with opened(backend) as store, begin(store, "new") as run:
        run.log_artifact(X, key="x")


def run_is_added_to(backend: Backend) -> None:
    with opened(backend) as store:
        store.add_artifact_file("ended", X, "x")


def run_comes_back(backend: Backend) -> None:
    with opened(backend) as store:
        store.undelete_run("deleted")


def collects(backend: Backend) -> None:
    with opened(backend) as store:
        store.gc()


WRITERS: dict[str, tuple[str, Callable[[Backend], None]]] = {
    "a run begins and finds the blob": ("new", run_begins),
    "an ended run gets an artifact": ("ended", run_is_added_to),
    "a run is undeleted": ("deleted", run_comes_back),
}
RULES = ["fence", "empty_first", "recheck", "retire", "collect_runs", "condemn"]


def prepared(world: str) -> MemoryBackend:
    """x is there, and nothing refers to it but what the world has."""
    backend = MemoryBackend()
    with opened(backend) as store:
        fill(store, "gone" if world != "a run is undeleted" else "deleted", x=X)
        fill(store, "ended", other=b"other")
        if world == "a run is undeleted":
            store.delete_run("deleted")
            return backend
        store.delete_run("gone")
        store.gc()
    clean = (
        MemoryBackend()
    )  # as if x had been left by a crash, and no collection had been there yet
    for stat in backend.walk(""):
        if not stat.name.startswith(("gc/", "runs/gone", "heads/runs/gone")):
            clean.create(stat.name, backend.get(stat.name))
    clean.create(layout.blob(Digest.of(X)), X)
    return clean


def losing(world: str, rule: str) -> list[tuple[Step, ...]]:
    found = []
    for collections in (1, 2):
        model = Model(Rules(**{rule: False}), collections=collections, lost=False)
        schedule = explore(WORLDS[world], model.successors, is_lost).schedule  # type: ignore[arg-type]
        found += [schedule] if schedule else []
    return found


def play(backend: Backend, schedule: tuple[Step, ...], work: Callable[[Backend], None]) -> Process:
    """The writer, when all are done."""
    processes = {"writer 0": Process(backend, work)}
    for number in (1, 2):
        processes[f"collector {number}"] = Process(backend, collects)
    for place, (who, what) in enumerate(schedule):
        wanted, after = call_of(what), [w for other, w in schedule[place + 1 :] if other == who]
        if wanted is not None:
            processes[who].advance(wanted)
        elif what == "joins" and after and after[0].startswith("deletes"):
            processes[who].advance_before(lambda made, name: made == "delete")
    for process in processes.values():
        process.finish()
        if process.error is not None and process is not processes["writer 0"]:
            raise process.error
    return processes["writer 0"]


CASES = [
    (world, rule)
    for world in WRITERS
    for rule in RULES
    if (world == "a run is undeleted") == (rule == "collect_runs") or rule == "condemn"
]


@pytest.mark.parametrize(("world", "rule"), CASES)
def test_the_real_code_loses_nothing(world: str, rule: str) -> None:
    run_id, work = WRITERS[world]
    schedules = losing(world, rule)
    assert schedules, "without the rule the model must lose something"
    for schedule in schedules:
        for cut in range(len(schedule) + 1):  # what comes after a cut goes on in another order
            backend = prepared(world)
            writer = play(backend, schedule[:cut], work)
            with opened(backend) as store:
                if writer.error is None:
                    assert store.read_artifact(run_id, "x") == X
                    store.gc()
                    assert store.read_artifact(run_id, "x") == X
                else:
                    assert isinstance(writer.error, InvalidState)
                    assert "cannot come back" in str(writer.error)
                assert [one for one in store.verify() if one.code not in ("orphan", "head")] == []
