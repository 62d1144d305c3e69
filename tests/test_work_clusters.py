"""Work on a real Dask cluster, on a real bucket, with a worker that is killed in the middle of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdfast
import work_jobs
from holdfast.work import spread, workers
from servers import buckets
from servers.base import Server
from servers.dask_cluster import WORKERS, DaskCluster

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
RUNS = 24


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    if reason := DaskCluster.missing():
        pytest.skip(reason)
    server = DaskCluster(tmp_path / "dask")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def lab(ceph: Server) -> Iterator[holdfast.ExperimentStore]:
    """A bucket with runs of several segments, of plain and of packed artifacts."""
    pytest.importorskip("fsspec", reason="object stores need fsspec: pip install 'holdfast[s3]'")
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url)) as store:
        weights = np.random.default_rng(0).standard_normal(300_000).astype("f4")
        for number in range(RUNS):
            with store.start_run("exp", run_id=f"run-{number}", capture=False) as run:
                for step in range(50):
                    run.log({"loss": 1 / (step + 1)}, step=step)
                run.log_artifact(np.random.default_rng(number).bytes(50_000), key="plain")
                if number < 3:
                    weights[::9] += 1e-3
                    run.log_artifact(weights.tobytes(), key="weights.bin", layout="packed")
        yield store


def told(report: holdfast.Report) -> list[Any]:
    return [(one.code, one.place, one.artifacts) for one in [*report.findings, *report.notes]]


def damage(store: holdfast.ExperimentStore) -> dict[str, bytes]:
    """One bit of a blob, of a pack and of a segment; what they were."""
    backend, whole = store.repository.backend, {}
    for prefix in ("blobs/", "packs/", "runs/run-7/segments/"):
        name = next(iter(backend.walk(prefix))).name
        data = whole[name] = b"".join(backend.chunks(name))
        middle = len(data) // 2
        backend.put(name, data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
    return whole


def test_a_cluster_finds_and_mends_what_threads_find(
    lab: holdfast.ExperimentStore, cluster: DaskCluster, tmp_path: Path
) -> None:
    backend = lab.repository.backend
    copy = tmp_path / "copy"
    for stat in backend.walk(""):
        (copy / stat.name).parent.mkdir(parents=True, exist_ok=True)
        (copy / stat.name).write_bytes(b"".join(backend.chunks(stat.name)))
    assert lab.fsck(executor=cluster.url).findings == []
    whole = damage(lab)
    report = lab.fsck(executor=cluster.url)
    assert {one.place for one in report.findings} == set(whole)
    assert told(report) == told(lab.fsck())
    done = lab.repair(copy, executor=cluster.url)
    assert sorted(one.place for one in done.mended if not one.finding.harmless) == sorted(whole)
    assert lab.fsck(executor=cluster.url).findings == []
    assert {name: b"".join(backend.chunks(name)) for name in whole} == whole


def test_what_a_killed_worker_had_is_done_by_the_others(
    lab: holdfast.ExperimentStore, cluster: DaskCluster
) -> None:
    whole = damage(lab)
    killed = []

    def kill(done: int, total: int) -> None:
        if not killed:  # others have pieces in hand by now
            cluster.kill_worker()
            killed.append((done, total))

    report = lab.fsck(executor=cluster.url, progress=kill)
    assert killed
    assert killed[0][0] < killed[0][1]
    assert {one.place for one in report.findings} == set(whole)
    assert told(report) == told(lab.fsck())


def test_a_job_that_kills_its_worker_is_done_by_another(
    lab: holdfast.ExperimentStore, cluster: DaskCluster
) -> None:
    """The process of the worker itself is taken down while it works on a piece."""
    names = [f"piece-{number}" for number in range(40)]
    with workers(lab.repository, cluster.url) as crew:
        assert crew.count == WORKERS
        done = [
            piece for piece, _ in spread(lab.repository, work_jobs.die_once, [*names, "last"], crew)
        ]
    assert sorted(done) == sorted([*names, "last"])
    assert len(lab.repository.backend.get("died")) == 16


def test_a_cluster_compacts_and_packs(lab: holdfast.ExperimentStore, cluster: DaskCluster) -> None:
    before = {f"run-{n}": lab.metrics(f"run-{n}", "loss").values.tolist() for n in range(RUNS)}
    planned = lab.compact(dry_run=True, executor=cluster.url)
    assert lab.compact(executor=cluster.url) is not None
    assert lab.compact(dry_run=True) == []
    assert {one.run_id for one in planned} <= set(before)
    lab.materialize("run-1", executor=cluster.url)
    lab.pack("run-2", executor=cluster.url)
    after = {run_id: lab.metrics(run_id, "loss").values.tolist() for run_id in before}
    assert after == before
    assert lab.fsck(executor=cluster.url).findings == []


@pytest.mark.slow
def test_ray_finds_what_threads_find(tmp_path: Path) -> None:
    if not importlib.util.find_spec("ray"):
        pytest.skip("Ray needs ray: pip install 'holdfast[ray]'")
    with holdfast.open(tmp_path / "lab") as store:
        with store.start_run("exp") as run:
            run.log({"loss": 1.0})
            run.log_artifact(b"weights", key="model")
        assert told(store.fsck(executor="ray://")) == told(store.fsck())
