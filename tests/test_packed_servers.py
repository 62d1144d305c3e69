"""Checkpoints and directories in a real bucket: logged, packed, read in few requests, counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import holdfast
from holdfast.backend.wrap import WatchedBackend
from holdfast.digest import Digest
from servers import buckets
from servers.base import Server
from test_artifact_layouts import MIB, moved, safetensors, weights
from test_bundles import read, sources, write

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("s3fs", reason="these tests need s3fs: pip install 'holdfast[s3]'")


@pytest.fixture
def lab(ceph: Server) -> Iterator[holdfast.ExperimentStore]:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url)) as store:
        yield store


def test_checkpoints_are_logged_packed_and_read(
    lab: holdfast.ExperimentStore, tmp_path: Path
) -> None:
    numbers, states = weights(1, 3 * MIB), []
    with lab.start_run("s", run_id="s", capture=False) as run:
        for step in range(4):
            states.append(safetensors(a=numbers))
            (tmp_path / "model").write_bytes(states[-1])
            run.log_checkpoint(tmp_path / "model", step=step, keep_last=3)
            numbers = moved(numbers, step)
    whole = sum(map(len, states[1:]))
    assert [about.key for about in lab.artifacts("s")] == [f"checkpoints/{n}" for n in (1, 2, 3)]
    packed = lab.pack("s")
    assert sum(row.new_bytes for row in packed) < 0.75 * whole
    usage = lab.du()
    assert usage.logical_bytes >= whole
    assert usage.total_bytes == sum(s.size_bytes for s in lab.repository.backend.walk(""))
    backend = lab.repository.backend
    for data in states[1:]:  # as if they had been collected
        digest = Digest.of(data)
        backend.delete(f"blobs/sha256/{digest.hex[:2]}/{digest.hex}")
    calls: list[str] = []
    watched = WatchedBackend(backend, lambda operation, name: calls.append(operation))
    lab.repository = dataclasses.replace(lab.repository, backend=watched)
    assert lab.read_artifact("s", "checkpoints/3") == states[3]
    assert calls.count("get_range") <= 4
    found = lab.load_checkpoint("s", 2)
    assert_array_equal(found["a"].view("u2"), np.frombuffer(states[2][-6 * MIB :], "<u2"))
    assert lab.verify() == []


def test_a_directory_of_small_files(lab: holdfast.ExperimentStore, tmp_path: Path) -> None:
    files = sources(120)
    with lab.start_run("s", run_id="s", capture=False):
        pass
    lab.add_artifact_file("s", write(tmp_path / "in", files), "code")
    kinds = [stat.name.partition("/")[0] for stat in lab.repository.backend.walk("")]
    assert [kinds.count(kind) for kind in ("blobs", "packs", "recipes")] == [1, 1, 1]
    assert read(lab.get_artifact("s", "code", to=tmp_path / "out")) == files
    one = files["pkg/0007.py"]
    assert lab.read_artifact(str(Digest.of(one))) == one
    assert lab.verify() == []
