"""Answers that get lost, connections that break, servers that hang: nothing is lost or done twice."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import holdfast
from holdfast.backend.remote import Patience, RemoteBackend
from holdfast.backend.remote_connect import connect_remote
from holdfast.chain import Chain
from holdfast.errors import BackendError, NameExists, Unavailable
from holdfast.format import layout
from holdfast.repository import connected
from servers import buckets
from servers.base import Server
from servers.faults import Cut, Fault, FaultProxy, Hang, Reset, Status

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("s3fs", reason="these tests need s3fs: pip install 'holdfast[s3]'")

QUICK = Patience(attempt_seconds=1.0, overall_seconds=60.0, first_pause_seconds=0.01)
# One attempt; longer than a busy machine needs to do what is asked and to read it back.
SHORT = Patience(attempt_seconds=3.0, overall_seconds=3.0, first_pause_seconds=0.01)
ONCE = [Reset(after=True), Reset(), Hang(after=True), Hang(), Status(503), Status(429, "TooMany")]


@pytest.fixture(params=["obstore", "s3fs"])
def _client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "s3fs":
        monkeypatch.setenv("HOLDFAST_OBSTORE", "0")


@pytest.fixture
def proxy(ceph: Server) -> Iterator[FaultProxy]:
    with FaultProxy(ceph.url) as started:
        yield started


def _backend(proxy: FaultProxy, ceph: Server, patience: Patience = QUICK) -> RemoteBackend:
    options = buckets.s3_options(proxy.url)
    return connect_remote(f"s3://{buckets.s3_bucket(ceph.url)}/lab", options, patience)


@pytest.mark.usefixtures("_client")
@pytest.mark.parametrize("fault", ONCE, ids=repr)
def test_a_create_whose_answer_is_lost_is_done_once(
    proxy: FaultProxy, ceph: Server, fault: Fault
) -> None:
    backend = _backend(proxy, ceph)
    proxy.rule("PUT .*/entry", fault, times=1)
    backend.create("entry", b"mine")
    assert proxy.faults == 1
    assert backend.get("entry") == b"mine"
    with pytest.raises(NameExists):
        backend.create("entry", b"theirs")
    assert backend.get("entry") == b"mine"


@pytest.mark.usefixtures("_client")
def test_another_writer_who_was_quicker_is_not_taken_for_us(
    proxy: FaultProxy, ceph: Server
) -> None:
    backend = _backend(proxy, ceph)
    backend.create("entry", b"theirs")
    proxy.rule("PUT .*/entry", Reset(after=True), times=1)
    with pytest.raises(NameExists):
        backend.create("entry", b"mine")


@pytest.mark.usefixtures("_client")
def test_an_answer_that_never_comes_ends_in_our_time_and_is_read_back(
    proxy: FaultProxy, ceph: Server
) -> None:
    """Every answer to the create is lost until our patience ends; what is stored then decides."""
    backend = _backend(proxy, ceph, SHORT)
    proxy.rule("PUT .*/landed", Hang(after=True))
    backend.create("landed", b"mine")
    proxy.rule("PUT .*/lost", Hang())
    with pytest.raises(Unavailable, match="no answer came"):
        backend.create("lost", b"mine")


@pytest.mark.usefixtures("_client")
@pytest.mark.parametrize(
    "fault", [Reset(), Cut(10), Status(500, "InternalError"), Hang()], ids=repr
)
def test_reads_are_asked_again(proxy: FaultProxy, ceph: Server, fault: Fault) -> None:
    backend = _backend(proxy, ceph)
    data = bytes(range(256)) * 100
    backend.create("a/data", data)
    reads: list[Any] = [
        lambda: backend.get("a/data") == data,
        lambda: backend.get_range("a/data", 7, 100) == data[7:107],
        lambda: b"".join(backend.chunks("a/data")) == data,
        lambda: [stat.name for stat in backend.walk("a/")] == ["a/data"],
        lambda: backend.folders("") == ["a"],
    ]
    for read in reads:
        proxy.rule("GET", fault, times=1)
        assert read()
    assert proxy.faults == len(reads)


@pytest.mark.usefixtures("_client")
def test_a_large_file_arrives_although_parts_of_it_fail(proxy: FaultProxy, ceph: Server) -> None:
    backend = _backend(proxy, ceph, Patience(20, 60, 0.01))
    block = hashlib.sha256(b"block").digest() * 32768
    proxy.rule("partNumber=2", Reset(after=True), times=1)
    proxy.rule("partNumber=3", Status(503), times=1)
    proxy.rule("GET .*/blobs/large", Cut(1000), times=1)
    staged = backend.stage()
    for _ in range(30):
        staged.write(block)
    assert staged.commit("blobs/large")
    staged.abort()
    assert b"".join(backend.chunks("blobs/large")) == block * 30


def _commit_often(backend: RemoteBackend, writer: int, count: int) -> list[str]:
    """Append to one chain until `count` commits are acknowledged; what was reported as failed."""
    chain, failed = Chain(backend, layout.manifest("busy")), []
    for number in range(count):
        key = f"{writer}-{number}"
        try:
            chain.commit(chain.load(), lambda state, key=key: {"done": {key: 1}})  # type: ignore[misc]
        except BackendError as error:
            failed.append(f"{key}: {error}")
    return failed


def test_sixteen_writers_are_never_told_the_wrong_thing(proxy: FaultProxy, ceph: Server) -> None:
    """15 % lost answers and 15 % resets: what was acknowledged is there once, the rest is not."""
    writers, commits = 16, 12
    backend = _backend(proxy, ceph, Patience(5, 120, 0.01, 0.5))
    proxy.rule("PUT", Reset(after=True), chance=0.15)
    proxy.rule("PUT|GET|DELETE", Reset(), chance=0.15)
    with ThreadPoolExecutor(writers) as pool:
        failed = list(pool.map(lambda w: _commit_often(backend, w, commits), range(writers)))
    assert proxy.faults > 100
    proxy.clear()
    chain = Chain(backend, layout.manifest("busy"))
    chain.check()
    assert failed == [[] for _ in range(writers)]
    added: list[str] = []
    for number in range(len(list(backend.walk(layout.manifest("busy"))))):
        entry, _ = chain.read(number)
        added += [k for k in entry.body["done"] if not entry.full or number == 0 or k not in added]
    wanted = {f"{w}-{n}" for w in range(writers) for n in range(commits)}
    assert sorted(added) == sorted(wanted)


def test_a_run_through_a_bad_network_is_whole(proxy: FaultProxy, ceph: Server) -> None:
    backend = _backend(proxy, ceph, Patience(5, 120, 0.01, 0.5))
    proxy.rule("PUT", Reset(after=True), chance=0.1)
    proxy.rule("", Status(503), chance=0.1)
    proxy.rule("", Reset(), chance=0.1)
    store = holdfast.ExperimentStore()
    store.repository = connected(backend)
    with store, store.start_run("rough", run_id="rough", capture=False) as run:
        for step in range(100):
            run.log({"loss": 1 / (step + 1)}, step=step)
            if step % 20 == 0:
                run._writer.seal(go_on=True)
        run.log_artifact(bytes(3_000_000), key="model")
    proxy.clear()
    assert store.metrics("rough", "loss").steps.tolist() == list(range(100))
    assert store.read_artifact("rough", "model") == bytes(3_000_000)
    assert store.verify() == []
    store.repository.manifest("rough").check()


def test_one_hanging_request_does_not_hold_up_the_others(proxy: FaultProxy, ceph: Server) -> None:
    backend = _backend(proxy, ceph)
    backend.create("a", b"1")
    proxy.rule("PUT .*/stuck", Hang(after=True), times=1)
    stuck = threading.Thread(target=lambda: backend.create("stuck", b"x"))
    stuck.start()
    assert backend.get("a") == b"1"
    stuck.join()
    assert backend.get("stuck") == b"x"
