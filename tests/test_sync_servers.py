"""Sync with a real object store: there and back, through a bad network, and killed in the middle."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import holdfast
from servers import buckets
from servers.base import Server
from servers.faults import Cut, FaultProxy, Reset, Status

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
LISTING = r"[?&](list-type|prefix|delimiter)="


@pytest.fixture
def source(tmp_path: Path) -> Iterator[holdfast.ExperimentStore]:
    """A local store with runs, points, a large plain artifact and checkpoints that share chunks."""
    with holdfast.open(tmp_path / "source") as store:
        rng = np.random.default_rng(1)
        values = rng.normal(size=1 << 20).astype(np.float32)
        for number in range(4):
            with store.start_run("e", run_id=f"run-{number}", capture=False) as run:
                for step in range(20):
                    run.log({"x": step * number}, step=step)
                values[: 1 << 14] += 1
                run.log_checkpoint({"w": values}, step=number)
                run.log_artifact(random.Random(number).randbytes(100_000), key="small")
        with store.start_run("e", run_id="large", capture=False) as run:
            run.log_artifact(random.Random(9).randbytes(20 << 20), key="large")
        yield store


def check(one: holdfast.ExperimentStore, other: holdfast.ExperimentStore) -> None:
    assert other.verify() == []
    assert {run.run_id for run in other.runs()} == {run.run_id for run in one.runs()}
    assert other.snapshot().digest == one.snapshot().digest
    for run in one.runs():
        assert other.read_artifacts(run.run_id) == one.read_artifacts(run.run_id)


def test_to_a_bucket_and_to_a_second_disk(
    source: holdfast.ExperimentStore, ceph: Server, tmp_path: Path
) -> None:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with FaultProxy(ceph.url) as proxy:
        options = buckets.s3_options(proxy.url)
        with holdfast.open(url, storage_options=options) as bucket:
            assert source.sync_to(bucket).ok
            proxy.clear()
            assert source.sync_to(bucket).equal == 5
            assert proxy.count() == proxy.count(LISTING) > 0
            with holdfast.open(tmp_path / "second") as second:
                assert bucket.sync_to(second).ok
                check(source, second)
                proxy.clear()
                assert bucket.sync_to(second).equal == 5
                assert proxy.count() == proxy.count(LISTING) > 0


def test_through_a_bad_network(
    source: holdfast.ExperimentStore, ceph: Server, tmp_path: Path
) -> None:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with (
        FaultProxy(ceph.url, seed=5) as proxy,
        holdfast.open(url, storage_options=buckets.s3_options(proxy.url)) as bucket,
        holdfast.open(tmp_path / "second") as second,
    ):
        proxy.rule("PUT", Status(), chance=0.1)
        proxy.rule("PUT", Reset(after=True), chance=0.1)
        proxy.rule("GET", Cut(100), chance=0.05)
        proxy.rule("GET", Reset(), chance=0.05)
        assert source.sync_to(bucket).ok
        assert bucket.sync_to(second).ok
        assert proxy.faults > 10
        check(source, second)


_PUSH = """
import holdfast, json, os, sys
options = json.loads(sys.argv[3])
with holdfast.open(sys.argv[1], read_only=True) as source:
    with holdfast.open(sys.argv[2], storage_options=options) as target:
        left = int(sys.argv[4])
        def progress(done, total):
            global left
            left -= 1
            if not left:
                os.kill(os.getpid(), 9)
        report = source.sync_to(target, progress=progress)
        print(report.ok)
"""


def test_killed_again_and_again_it_ends(
    source: holdfast.ExperimentStore, ceph: Server, tmp_path: Path
) -> None:
    """Each time a bit later; each time the bucket is a valid, smaller store."""
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    options = buckets.s3_options(ceph.url)
    holdfast.open(url, storage_options=options).close()
    environment = {**os.environ, "HOLDFAST_CACHE": "off"}
    for calls in (5, 15, 30, 50, 1_000_000):
        command = [sys.executable, "-c", _PUSH, source.url, url, json.dumps(options), str(calls)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        with holdfast.open(url, storage_options=options, cache=False) as bucket:
            assert bucket.verify() == []
    assert done.stdout.strip() == "True"
    with holdfast.open(url, storage_options=options) as bucket:
        check(source, bucket)
