"""Real processes and a real server: kill -9 and a network that goes away, in the middle of everything."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import holdfast
from servers import buckets
from servers.base import Server
from servers.faults import FaultProxy, Reset

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("fsspec", reason="object stores need fsspec: pip install 'holdfast[s3]'")
ROUNDS = 12


@pytest.fixture
def lab(ceph: Server) -> Iterator[holdfast.ExperimentStore]:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url)) as store:
        yield store


def _killed(url: str, run_id: str, options: dict[str, Any], acknowledged: int) -> list[str]:
    """Start a writer and kill -9 it after about that many steps; what it was told is safe."""
    reading, writing = os.pipe()
    script = str(Path(__file__).with_name("outbox_writer.py"))
    command = [sys.executable, script, url, run_id, str(writing), json.dumps(options)]
    process = subprocess.Popen(command, pass_fds=[writing])
    os.close(writing)
    taken = b""
    while taken.count(b"\n") < acknowledged:
        piece = os.read(reading, 65536)
        assert piece, "the writer ended by itself"
        taken += piece
    process.send_signal(signal.SIGKILL)
    process.wait()
    while piece := os.read(reading, 65536):
        taken += piece
    os.close(reading)
    return taken.decode().splitlines()


def _check(store: holdfast.ExperimentStore, run_id: str, acknowledged: list[str]) -> None:
    steps = sum(line.startswith("step") for line in acknowledged)
    series = store.metrics(run_id, "loss")
    assert len(series) in (steps, steps + 1)
    assert series.steps.tolist() == list(range(len(series)))
    assert store.run(run_id).metrics["loss"].count == len(series)
    keys = {line.split()[1] for line in acknowledged if line.startswith("artifact")}
    found = store.run(run_id).artifacts
    assert keys <= set(found)
    for key in found:
        assert store.read_artifact(run_id, key) == key.encode() * 1000
    store.repository.manifest(run_id).check()


def test_kill_9_while_it_publishes_loses_nothing(
    ceph: Server, lab: holdfast.ExperimentStore
) -> None:
    chance = random.Random(3)
    with FaultProxy(ceph.url, seed=3) as proxy:
        proxy.rule("", Reset(after=True), chance=0.05)
        proxy.rule("", Reset(), chance=0.05)
        said = {
            f"killed-{turn}": _killed(
                lab.url, f"killed-{turn}", buckets.s3_options(proxy.url), chance.randrange(50, 1500)
            )
            for turn in range(ROUNDS)
        }
        with holdfast.open(lab.url, storage_options=buckets.s3_options(proxy.url)) as store:
            recovered = {one.run_id: one.problem for one in store.recover()}
            assert set(recovered.values()) <= {None}
            assert store.unsent() == []
    for run_id, acknowledged in said.items():
        _check(lab, run_id, acknowledged)
        assert lab.run(run_id).state == "Crashed"
    assert lab.verify() == []


def test_a_run_begun_and_ended_without_a_network_is_sent_by_the_next_process(
    ceph: Server, lab: holdfast.ExperimentStore
) -> None:
    with FaultProxy(ceph.url) as proxy:
        options = buckets.s3_options(proxy.url)
        with holdfast.open(lab.url, storage_options=options):
            pass
        proxy.rule("", Reset())
        script = (
            "import holdfast, json, sys\n"
            "url, options = sys.argv[1], json.loads(sys.argv[2])\n"
            "with holdfast.open(url, storage_options=options) as store:\n"
            "    run = store.start_run('dark', run_id='dark', capture=False)\n"
            "    for step in range(1000): run.log({'loss': step / 7}, step=step)\n"
            "    run.log_artifact(b'weights', key='model')\n"
            "    left = run.finish(timeout=0.5)\n"
            "    print(left.points, left.artifact_bytes)\n"
        )
        command = [sys.executable, "-c", script, lab.url, json.dumps(options)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.split() == ["1000", "7"], done.stderr
        assert done.stderr.count("does not answer") == 1
        assert [one.run_id for one in lab.unsent()] == ["dark"]
    lab.recover()
    assert lab.run("dark").status.value == "Success"
    assert lab.metrics("dark", "loss").steps.tolist() == list(range(1000))
    assert lab.read_artifact("dark", "model") == b"weights"
