"""A run whose machine is gone is shown as crashed, whatever the clocks of readers and servers say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from far import FarBackend, opened
from holdfast import liveness
from holdfast.backend.base import Stat
from holdfast.backend.remote_clock import Clock, server_time
from holdfast.repository import connected
from servers import buckets
from servers.base import Server

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


class SkewedBackend(FarBackend):
    """Its clock is `skew` ns ahead of this machine's."""

    skew = 0

    def stat(self, name: str) -> Stat:
        found = super().stat(name)
        return dataclasses.replace(found, modified=found.modified + self.skew)

    def walk(self, prefix: str) -> Iterator[Stat]:
        for found in super().walk(prefix):
            yield dataclasses.replace(found, modified=found.modified + self.skew)

    def clock_ahead(self) -> int:
        return self.skew


def states(store: holdfast.ExperimentStore, run_id: str = "run") -> set[str]:
    """What every door says of a run."""
    listed = [run.state for run in store.runs() if run.run_id == run_id]
    store.tail(run_id, timeout_seconds=0).poll()
    return {store.run(run_id).state, *listed}


@pytest.mark.parametrize("skew", [-10 * MINUTE, 0, 10 * MINUTE])
def test_a_heartbeat_is_as_old_as_the_server_says(
    skew: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = SkewedBackend()
    far.skew = skew
    connected(far)
    with opened(far, sends_by_hand=True) as store:
        with monkeypatch.context() as patch:
            there = {"host": "node2", "pid": 1, "started": "1", "space": "s"}
            patch.setattr("holdfast.process.identity", lambda: there)
            run = store.start_run("exp", run_id="run", capture=False, system=False)
            run.log({"loss": 1.0}, step=0)
        assert states(store) == {"Running"}
        later = time.time_ns() + 5 * MINUTE
        monkeypatch.setattr(liveness, "now", lambda: later)
        assert states(store) == {"Crashed"}


def test_a_server_that_does_not_tell_the_time_is_taken_at_our_own() -> None:
    assert server_time("http://127.0.0.1:1") is None
    assert server_time("no address") is None
    assert Clock(lambda: None).ahead() == 0
    assert Clock(lambda: "http://127.0.0.1:1").ahead() == 0

    def unknown() -> str:
        raise KeyError("no region")

    assert Clock(unknown).ahead() == 0


# On real servers.

ELSEWHERE = """
import json, sys, holdfast
from holdfast import process
process._host = lambda: "node2"  # another machine, as everybody sees it
store = holdfast.open(sys.argv[1], storage_options=json.loads(sys.argv[2]), publish_seconds=0.05)
run = store.start_run("exp", run_id="run", capture=False, system=False)
run.log({"loss": 1.0}, step=0)
print("open", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def elsewhere(url: str, options: dict[str, Any], state: Path) -> Iterator[None]:
    """A writer on another machine, which goes without a word in the end."""
    command = [sys.executable, "-c", ELSEWHERE, url, json.dumps(options)]
    environment = {**os.environ, "HOLDFAST_STATE_DIR": str(state)}
    writer = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert writer.stdout
    assert writer.stdin
    assert writer.stdout.readline() == b"open\n"
    try:
        yield
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
        writer.stdin.close()


@pytest.mark.server
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("wrong", [-10 * MINUTE, 0, 10 * MINUTE], ids=["late", "right", "early"])
def test_a_machine_that_is_gone_is_seen_from_one_whose_clock_is_wrong(
    ceph: Server, wrong: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    url, options = f"s3://{buckets.s3_bucket(ceph.url)}/lab", buckets.s3_options(ceph.url)
    holdfast.open(url, storage_options=options).close()
    clock = time.time_ns
    monkeypatch.setattr(liveness, "now", lambda: clock() + wrong)
    monkeypatch.setattr("holdfast.backend.remote_clock.now", lambda: clock() + wrong)
    with holdfast.open(url, storage_options=options, read_only=True) as store:
        with elsewhere(url, options, tmp_path / "node2"):
            monkeypatch.setattr(liveness, "STALE_SECONDS", 3600)
            while not store.metric_keys("run"):
                time.sleep(0.05)
            assert states(store) == {"Running"}
            if wrong:
                monkeypatch.setattr(liveness, "STALE_SECONDS", 300)
                assert states(store) == {"Running"}
        monkeypatch.setattr(liveness, "STALE_SECONDS", 2)
        while states(store) != {"Crashed"}:
            time.sleep(0.1)


@pytest.mark.server
@pytest.mark.parametrize("name", ["ceph", "moto", "azurite", "google"])
def test_every_server_tells_the_time(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    found = server_time(server.url)
    assert found is not None
    assert abs(found - time.time_ns()) < 120 * SECOND
