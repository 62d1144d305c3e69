"""Work is spread over threads and processes, never far ahead, and what a lost worker had is done again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import holdfast
import work_jobs
from holdfast import verified_artifact
from holdfast.errors import Corrupt, InvalidValue, MissingDependency
from holdfast.repository import Repository
from holdfast.work import spread, workers

NAMES = [f"file-{number}" for number in range(40)]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with holdfast.open(tmp_path / "lab") as store:
        for number, name in enumerate(NAMES):
            store.repository.backend.create(name, bytes(number))
        yield store.repository


@pytest.mark.parametrize("executor", [None, "threads", "threads:1", "processes:2"])
def test_each_piece_is_done_once_wherever_it_is_done(
    repository: Repository, executor: str | None
) -> None:
    with workers(repository, executor) as crew:
        found = dict(spread(repository, work_jobs.size, NAMES, crew))
    assert {name: size for name, (size, _) in found.items()} == {
        name: number for number, name in enumerate(NAMES)
    }
    here = {process == os.getpid() for _, process in found.values()}
    assert here == {executor != "processes:2"}


def test_an_executor_of_the_caller_is_used_and_stays_open(repository: Repository) -> None:
    with ThreadPoolExecutor(2) as own:
        with workers(repository, own) as crew:
            assert len(list(spread(repository, work_jobs.size, NAMES, crew))) == len(NAMES)
        assert own.submit(len, NAMES).result() == len(NAMES)


def test_no_more_pieces_are_taken_than_there_is_use_for(repository: Repository) -> None:
    taken, gate = [], threading.Event()

    def pieces() -> Iterator[str]:
        for name in NAMES:
            taken.append(name)
            yield name

    def job(repository: Repository, name: str) -> str:
        gate.wait()
        return name

    with workers(repository, "threads:2") as crew:
        found = spread(repository, job, pieces(), crew)
        gate.set()
        next(found)
        assert len(taken) <= 8
        assert len(list(found)) == len(NAMES) - 1


@pytest.mark.parametrize("executor", ["threads:2", "processes:2"])
def test_the_error_of_a_job_is_the_error(repository: Repository, executor: str) -> None:
    with workers(repository, executor) as crew, pytest.raises(Corrupt, match="by order") as told:
        list(spread(repository, work_jobs.fail, NAMES, crew))
    assert told.value.place in NAMES


def test_what_a_killed_process_had_is_done_again(repository: Repository) -> None:
    with workers(repository, "processes:2") as crew:
        found = [one for one, _ in spread(repository, work_jobs.die_once, [*NAMES, "last"], crew)]
    assert sorted(found) == sorted([*NAMES, "last"])
    assert len(repository.backend.get("died")) == 16


def test_a_piece_that_kills_every_worker_is_given_up(repository: Repository) -> None:
    with workers(repository, "processes:1") as crew, pytest.raises(BrokenExecutor):
        list(spread(repository, work_jobs.die, NAMES[:1], crew))


def test_what_cannot_run_work_is_refused(repository: Repository) -> None:
    for wrong in ("cluster", "threads:many", "dask:8786"):
        with (
            pytest.raises(InvalidValue, match="give threads, processes"),
            workers(repository, wrong),
        ):
            pass
    with (
        holdfast.ExperimentStore() as store,
        workers(store.repository, "processes:1") as crew,
        pytest.raises(InvalidValue, match="use threads"),
    ):
        next(spread(store.repository, work_jobs.size, NAMES, crew))


@pytest.mark.parametrize("cluster", ["dask", "ray"])
def test_a_cluster_that_is_not_installed_is_said(
    repository: Repository, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "distributed" if cluster == "dask" else "ray", None
    )
    with (
        pytest.raises(MissingDependency, match=f"holdfast\\[{cluster}\\]"),
        workers(repository, f"{cluster}://127.0.0.1:1"),
    ):
        pass


@pytest.mark.parametrize("executor", ["threads:3", "processes:2"])
def test_compacting_and_packing_come_to_the_same_wherever_they_run(
    tmp_path: Path, executor: str
) -> None:
    weights = np.random.default_rng(0).standard_normal(300_000).astype("f4")
    for name, where in (("here", None), ("there", executor)):
        with holdfast.open(tmp_path / name) as store:
            for run_id in ("a", "b"):
                with store.start_run("exp", run_id=run_id, capture=False) as run:
                    for turn in range(3):
                        run.log({"x": turn}, step=turn)
                        run.log_artifact((weights + turn * 1e-3).tobytes(), key=f"{turn}.bin")
            store.compact(executor=where)
            store.materialize("a", executor=where)
            packed = store.pack("b", executor=where)
            assert [one.key for one in packed] == ["0.bin", "1.bin", "2.bin"]
            assert store.fsck().findings == []
            assert {"plain"} <= layouts(store, "a")
            assert store.compact(dry_run=True) == []


def layouts(store: holdfast.ExperimentStore, run_id: str) -> set[str]:
    found = store.run(run_id).artifacts.values()
    return set.intersection(
        *(verified_artifact.layouts(store.repository.backend, one.digest) for one in found)
    )
