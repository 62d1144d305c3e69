"""Collectors and writers on a real object store, each in a process of its own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import holdfast
from holdfast.digest import Digest
from holdfast.format import layout
from servers import buckets
from servers.base import Server
from test_gc import fill, names

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("s3fs", reason="these tests need s3fs: pip install 'holdfast[s3]'")

BIG = random.Random(11).randbytes(1_100_000)
_COLLECT = """
import json, sys, holdfast
with holdfast.open(sys.argv[1], storage_options=json.loads(sys.argv[2])) as store:
    for line in sys.stdin:
        store.gc()
        print("collected", flush=True)
"""


@pytest.fixture
def lab(ceph: Server) -> Iterator[holdfast.ExperimentStore]:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url)) as store:
        yield store


class Collector:
    """A process that collects each time it is told to."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        command = [sys.executable, "-c", _COLLECT, url, json.dumps(options)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self) -> None:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        assert self._process.stdout
        assert self._process.stdout.readline() == "collected\n"

    def end(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


def test_two_collectors_and_a_writer_meet_on_a_bucket(
    ceph: Server, lab: holdfast.ExperimentStore
) -> None:
    fill(lab, "kept", model=BIG, note=b"kept")
    alive = {("kept", "model"): BIG, ("kept", "note"): b"kept"}
    gone = [BIG[number:] for number in range(1, 4)]
    collectors = [Collector(lab.url, buckets.s3_options(ceph.url)) for _ in range(2)]
    for round_, data in enumerate(gone):
        fill(lab, f"gone-{round_}", model=data, shared=BIG, note=b"kept")
        lab.delete_run(f"gone-{round_}")
        for one in collectors:
            one.begin()
        fill(lab, f"late-{round_}", model=BIG, again=data, note=data[:50])
        lab.delete_run(f"late-{round_}")
        fill(lab, f"stays-{round_}", model=BIG, note=data[:50])
        alive |= {(f"stays-{round_}", "model"): BIG, (f"stays-{round_}", "note"): data[:50]}
        for one in collectors:
            one.wait()
    for one in collectors:
        one.end()
    lab.gc()
    lab.gc()
    for (run_id, key), data in alive.items():
        assert lab.read_artifact(run_id, key) == data
    assert lab.verify() == []
    assert lab.gc_plan().names == {}
    assert {run.run_id for run in lab.runs()} == {run_id for run_id, _ in alive}
    there = names(lab, "blobs/", "packs/", "recipes/")
    for data in gone:
        assert layout.blob(Digest.of(data)) not in there
        assert not [name for name in there if Digest.of(data).hex in name]
    sizes = (
        stat.size_bytes
        for kind in ("blobs/", "packs/")
        for stat in lab.repository.backend.walk(kind)
    )
    assert sum(sizes) < 1.1 * len(BIG)
