"""Names in a bucket: aliases, snapshots, lineage, lock files and `holdfast://` on a real object store, and
what of them works while it does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast import LockFile
from holdfast.errors import AliasMoved, Unavailable
from holdfast.format import proof
from holdfast.repository import Repository
from servers import buckets
from servers.base import Server
from servers.faults import FaultProxy, Reset

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("s3fs", reason="these tests need s3fs: pip install 'holdfast[s3]'")

MODEL = b"weights" * 1000


@pytest.fixture
def lab(ceph: Server) -> Iterator[holdfast.ExperimentStore]:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url)) as store:
        yield store


def _run(store: holdfast.ExperimentStore, run_id: str, *reads: Any) -> None:
    with store.start_run("resnet", run_id=run_id, capture=False) as run:
        for address in reads:
            run.use_artifact(address)
        run.log({"loss": 1.0}, step=0)
        run.log_artifact(MODEL + run_id.encode(), key="model.pt")


def test_an_alias_is_moved_by_one_of_many(ceph: Server, lab: holdfast.ExperimentStore) -> None:
    for number in range(5):
        _run(lab, f"run-{number}")
    lab.alias("prod/model", "run-0:model.pt")
    gate, told = threading.Barrier(4), []

    def race(number: int) -> None:
        with holdfast.open(lab.url, storage_options=buckets.s3_options(ceph.url)) as store:
            gate.wait()
            try:
                told.append(store.alias("prod/model", f"run-{number}:model.pt", expect=1))
            except AliasMoved as error:
                told.append(error)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [one.address for one in told if isinstance(one, holdfast.Alias)]
    assert len(winners) == 1 and len(told) == 4
    assert lab.resolve("prod/model") == winners[0]
    assert lab.resolve("prod/model", at=1) == "run-0:model.pt"
    assert lab.undo_alias("prod/model").address == "run-0:model.pt"
    assert [alias.name for alias in lab.aliases()] == ["prod/model"]


def test_a_bucket_has_the_snapshot_of_a_disk_and_is_read_as_it_was(
    ceph: Server, lab: holdfast.ExperimentStore, tmp_path: Path
) -> None:
    with holdfast.open(tmp_path / "lab") as local:
        _run(local, "run-0")
        _run(local, "run-1", "run-0:model.pt")
        local.alias("prod/model", "run-1:model.pt")
        local.sync_to(lab)
        wanted = local.snapshot("paper").digest
    assert lab.snapshot("paper").digest == wanted
    with holdfast.open(tmp_path / "copy") as copy:
        lab.sync_to(copy)
        assert copy.snapshot().digest == wanted
    lab.alias("prod/model", "run-0:model.pt")
    _run(lab, "run-2")
    options = buckets.s3_options(ceph.url)
    with holdfast.open(lab.url, storage_options=options, at="paper") as then:
        assert {run.run_id for run in then.runs()} == {"run-0", "run-1"}
        assert then.read_artifact("prod/model") == MODEL + b"run-1"
        assert then.metrics("run-1", "loss").values.tolist() == [1.0]
        assert then.lineage("run-1:model.pt").made >= {
            ("run-0", "model.pt", str(lab.artifact("run-0:model.pt").digest))
        }
        found = proof.check(then.proof("prod/model"))
        assert (found.snapshot, found.run_id) == (wanted, "run-1")


def test_a_lock_file_and_fsspec_read_from_the_bucket(
    ceph: Server, lab: holdfast.ExperimentStore, tmp_path: Path
) -> None:
    import fsspec

    _run(lab, "run-0")
    lock = LockFile(tmp_path / "holdfast.lock", stores=[lab])
    assert lock.add(lab, "model.pt", "resnet:model.pt@latest").store == lab.url
    assert lock.get("model.pt").read_bytes() == MODEL + b"run-0"
    assert [one.problem for one in lock.check()] == [None]
    options = buckets.s3_options(ceph.url)
    with fsspec.open(f"holdfast://run-0:model.pt::{lab.url}", s3=options) as file:
        assert file.read() == MODEL + b"run-0"
    fs = fsspec.filesystem("holdfast", store=lab.url, target_options=options)
    assert fs.ls("run-0:", detail=False) == ["run-0:model.pt"]


def test_while_the_bucket_does_not_answer_what_names_bytes_can_be_noted(
    ceph: Server,
    lab: holdfast.ExperimentStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hasty = Repository.hasty  # which gives up later, and as surely
    monkeypatch.setattr(Repository, "hasty", lambda self: hasty(self, 1.0))
    _run(lab, "run-0")
    lock = LockFile(tmp_path / "holdfast.lock")
    locked = lock.add(lab, "model", "run-0:model.pt")
    with FaultProxy(ceph.url) as proxy:
        options = buckets.s3_options(proxy.url)
        with holdfast.open(lab.url, storage_options=options, publish_seconds=0.2) as store:
            run = store.start_run("resnet", run_id="run-1", capture=False)
            proxy.rule(".", Reset())
            found = run.use_artifact(locked)
            assert (found.run_id, found.size_bytes) == ("run-0", len(MODEL) + 5)
            with pytest.raises(Unavailable):
                run.use_artifact("run-0:model.pt")
            by_digest = run.use_artifact(str(locked.digest))
            assert by_digest.digest == locked.digest
            proxy.clear()
            assert by_digest.read() == MODEL + b"run-0"
            assert run.finish() is None
    assert [one.address for one in lab.run("run-1").inputs] == [
        *("run-0:model.pt", str(locked.digest))
    ]
