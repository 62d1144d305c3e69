"""Many processes write one bucket through a bad network: what was acknowledged is there, once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import holdfast
from servers import buckets
from servers.ceph import Ceph
from servers.faults import FaultProxy, Reset, Status

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("fsspec", reason="object stores need fsspec: pip install 'holdfast[s3]'")


def _soak(ceph: Ceph, processes: int, seconds: float) -> None:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url)):
        pass
    with ExitStack() as stack:
        proxies = [stack.enter_context(_bad_network(gateway)) for gateway in ceph.urls]
        said = _written(url, processes, seconds, [proxy.url for proxy in proxies])
        for proxy in proxies:
            assert proxy.faults > 10 * processes / len(proxies)
    assert [process["unsent"] for process in said] == [[] for _ in said]
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url), read_only=True) as store:
        runs = {run_id: about for process in said for run_id, about in process["runs"].items()}
        assert len(runs) == 4 * processes
        for run_id, about in runs.items():
            _check(store, run_id, about)
        assert store.verify() == []
        assert {run.status.value for run in store.runs()} == {"Success"}


def _bad_network(gateway: str) -> FaultProxy:
    proxy = FaultProxy(gateway, seed=7)
    proxy.rule("", Reset(), chance=0.10)
    proxy.rule("", Status(503), chance=0.05)
    proxy.rule("", Reset(after=True), chance=0.02)
    return proxy


def _written(
    url: str, processes: int, seconds: float, endpoints: list[str]
) -> list[dict[str, Any]]:
    """Processes that write until time is up, each through one of the endpoints; what they say."""
    script = str(Path(__file__).with_name("soak_writer.py"))
    started = [
        subprocess.Popen(
            [sys.executable, script, url, f"p{number}", str(seconds), _options(endpoints, number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    try:
        return [json.loads(process.communicate()[0]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def _options(endpoints: list[str], number: int) -> str:
    return json.dumps(buckets.s3_options(endpoints[number % len(endpoints)]))


def _check(store: holdfast.ExperimentStore, run_id: str, about: dict[str, Any]) -> None:
    """Every point once, every artifact, a chain without a gap or a fork."""
    steps = list(range(about["steps"]))
    for key, factor in (("loss", 1 / 7), ("acc", 1.0)):
        series = store.metrics(run_id, key)
        assert series.steps.tolist() == steps
        assert series.values == pytest.approx([step * factor for step in steps])
    found = store.run(run_id)
    assert found.metrics["loss"].count == len(steps)
    held = {
        key: hashlib.sha256(store.read_artifact(run_id, key)).hexdigest() for key in found.artifacts
    }
    assert held == about["artifacts"]
    chain = store.repository.manifest(run_id)
    chain.check()
    state = chain.load().state
    spools = [
        (one["writer"], number)
        for one in state["segments"].values()
        for number in range(one["sequence"], one["last_sequence"] + 1)
    ]
    assert len(spools) == len(set(spools))


def test_a_short_soak(ceph: Ceph) -> None:
    _soak(ceph, 4, 10)


@pytest.mark.slow
def test_sixteen_processes_for_a_minute(ceph: Ceph) -> None:
    _soak(ceph, 16, 60)


@pytest.mark.slow
def test_sixteen_processes_for_a_minute_through_two_gateways(ceph_on_disk: Ceph) -> None:
    _soak(ceph_on_disk, 16, 60)
