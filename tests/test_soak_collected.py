"""Writers, readers, a syncer and collectors on one bucket through a bad network: nothing that was
acknowledged is lost, and hardly anything is left that nobody needs."""

from __future__ import annotations

import hashlib
import json
import os
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

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.filterwarnings("default")]
pytest.importorskip("fsspec", reason="object stores need fsspec: pip install 'holdfast[s3]'")
pytest.importorskip("holdfast.ops.gc", reason="this version does not collect")
PEOPLE = ["writer"] * 4 + ["reader"] * 2 + ["syncer"] + ["collector"] * 2
SECONDS = float(os.environ.get("HOLDFAST_SOAK_SECONDS", "600"))
MOST_GARBAGE = 0.02  # of the bytes that are needed


def test_ten_minutes_of_everybody(ceph: Ceph, tmp_path: Path) -> None:
    url, mirror = f"s3://{buckets.s3_bucket(ceph.url)}/lab", tmp_path / "mirror"
    options = buckets.s3_options(ceph.url)
    holdfast.open(url, storage_options=options).close()
    holdfast.open(mirror).close()
    with ExitStack() as stack:
        proxies = [stack.enter_context(_bad_network(gateway)) for gateway in ceph.urls]
        said = _played(url, mirror, [proxy.url for proxy in proxies])
        assert sum(proxy.faults for proxy in proxies) > SECONDS
    deleted = {run_id for person in said for run_id in person["deleted"]}
    kept = {r: about for person in said for r, about in person["runs"].items() if r not in deleted}
    problems = [one for person in said for one in person["problems"] if one[0] not in deleted]
    assert problems == []
    assert all(person["turns"] > person["failed"] for person in said)
    with holdfast.open(url, storage_options=options) as store:
        store.recover()
        collected = store.gc()
        garbage, live = _weighed(store)
        print(f"{len(kept)} runs, {len(deleted)} deleted; {live:,} bytes needed, {garbage:,} not")
        print(collected)
        print(
            *({k: v for k, v in one.items() if k in ("turns", "failed", "last")} for one in said),
            sep="\n",
        )
        assert garbage < MOST_GARBAGE * live
        assert [one for one in store.verify() if not one.harmless] == []
        _check(store, kept)
        report = store.sync_to(mirror)
    with holdfast.open(mirror) as copy:
        _check(copy, kept)
        assert [one for one in copy.verify() if not one.harmless] == []
    assert report.ok, report.findings
    assert set(report.collected) <= deleted


def _bad_network(gateway: str) -> FaultProxy:
    proxy = FaultProxy(gateway, seed=11)
    proxy.rule("", Reset(), chance=0.03)
    proxy.rule("", Status(503), chance=0.03)
    proxy.rule("", Reset(after=True), chance=0.02)
    return proxy


def _played(url: str, mirror: Path, endpoints: list[str]) -> list[dict[str, Any]]:
    """What everybody says when time is up."""
    script = str(Path(__file__).with_name("soak_people.py"))
    started = []
    for number, role in enumerate(PEOPLE):
        options = json.dumps(buckets.s3_options(endpoints[number % len(endpoints)]))
        words = [role, url, f"{role}{number}", str(SECONDS), options, str(mirror)]
        started.append(
            subprocess.Popen([sys.executable, script, *words], stdout=subprocess.PIPE, text=True)
        )
    try:
        return [json.loads(process.communicate()[0]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def _weighed(store: holdfast.ExperimentStore) -> tuple[int, int]:
    """(bytes that a collection would free now, all others)."""
    sizes = {stat.name: stat.size_bytes for stat in store.repository.backend.walk("")}
    garbage = sum(sizes.get(name, 0) for name in store.gc_plan().names)
    return garbage, sum(sizes.values()) - garbage


def _check(store: holdfast.ExperimentStore, kept: dict[str, Any]) -> None:
    for run_id, about in kept.items():
        assert store.metrics(run_id, "loss").values.tolist() == [
            step / 7 for step in range(about["steps"])
        ]
        found = store.run(run_id)
        held = {
            key: hashlib.sha256(store.read_artifact(run_id, key)).hexdigest()
            for key in found.artifacts
        }
        assert held == about["artifacts"], run_id
        assert found.status.value == "Success"
