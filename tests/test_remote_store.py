"""A store in a bucket does what a store on disk does: runs, forks, requests it may make, secrets it keeps."""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import holdfast
from far import by_hand
from holdfast.backend.remote import Patience
from holdfast.backend.remote_connect import connect_remote
from holdfast.chain import EMPTY, Chain
from holdfast.errors import AccessDenied, BackendError, HoldfastError, InvalidValue, NotAStore
from holdfast.format import layout
from holdfast.repository import connected
from servers import buckets
from servers.base import Server
from servers.faults import FaultProxy, Status
from test_state_machine import Machine

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("s3fs", reason="these tests need s3fs: pip install 'holdfast[s3]'")

SECRET = "s3cr3t-of-the-user"


@pytest.fixture
def lab(ceph: Server) -> Iterator[holdfast.ExperimentStore]:
    url = f"s3://{buckets.s3_bucket(ceph.url)}/lab"
    with holdfast.open(url, storage_options=buckets.s3_options(ceph.url)) as store:
        yield store


def _run(store: holdfast.ExperimentStore, **about: Any) -> str:
    with store.start_run("resnet", capture=False, **about) as run:
        for step in range(50):
            run.log({"loss": 1 / (step + 1)}, step=step)
        run.log_artifact(b"weights" * 1000, key="model.pt")
    return run.id


def test_a_run_from_one_machine_is_read_on_another(
    ceph: Server, lab: holdfast.ExperimentStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_id = _run(lab, config={"lr": 0.1})
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "other machine"))
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "other cache"))
    with holdfast.open(lab.url, storage_options=buckets.s3_options(ceph.url)) as other:
        assert [found.run_id for found in other.runs("config.lr == 0.1")] == [run_id]
        assert len(other.metrics(run_id, "loss")) == 50
        assert other.read_artifact(run_id, "model.pt") == b"weights" * 1000
        assert other.verify() == []
        with other.open_artifact(run_id, "model.pt") as file:
            file.seek(7)
            assert file.read(7) == b"weights"


def test_an_open_spool_lies_on_this_machine_and_is_recovered_from_there(
    ceph: Server, lab: holdfast.ExperimentStore
) -> None:
    code = (
        "import holdfast, os, sys\n"
        "store = holdfast.open(sys.argv[1], storage_options=eval(sys.argv[2]))\n"
        "run = store.start_run('crash', run_id='crash', capture=False)\n"
        "run.log({'loss': 1.0}, step=0)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    options = repr(buckets.s3_options(ceph.url))
    done = subprocess.run([sys.executable, "-c", code, lab.url, options], check=False)
    assert done.returncode == -9
    names = [stat.name for stat in lab.repository.backend.walk("")]
    assert not [name for name in names if "spool" in name]
    assert [found.points for found in lab.recover()] == [1]
    assert lab.metrics("crash", "loss").values.tolist() == [1.0]
    assert list(lab.repository.spools.walk("")) == []


def test_a_forked_child_has_a_client_of_its_own(
    ceph: Server, lab: holdfast.ExperimentStore
) -> None:
    """A DataLoader's worker may log: obstore, which the parent used, would hang here."""
    _run(lab, run_id="parent")
    pid = os.fork()
    if not pid:
        code = 1
        try:
            _run(lab, run_id="child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(lab.metrics("child", "loss")) == 50
    assert len(lab.metrics("parent", "loss")) == 50


class CephMachine(Machine):
    endpoint = ""

    def _open(self) -> holdfast.ExperimentStore:
        """Moto is no server for several writers: it lets two of sixteen win now and then."""
        store = holdfast.ExperimentStore()
        store.repository = connected(self.disk, single_writer=True)
        return store

    def backend(self) -> Any:
        url = f"s3://{buckets.s3_bucket(self.endpoint)}/lab"
        return connect_remote(url, buckets.s3_options(self.endpoint))


class AzureMachine(Machine):
    endpoint = ""

    def backend(self) -> Any:
        url = f"az://{buckets.azure_bucket(self.endpoint)}/lab"
        return connect_remote(url, buckets.azure_options(self.endpoint))


class GoogleMachine(Machine):
    endpoint = ""

    def backend(self) -> Any:
        url = f"gs://{buckets.google_bucket(self.endpoint)}/lab"
        return connect_remote(url, buckets.google_options(self.endpoint))


MACHINES = {
    "ceph": ("s3fs", CephMachine),
    "moto": ("s3fs", CephMachine),
    "azurite": ("adlfs", AzureMachine),
    "google": ("gcsfs", GoogleMachine),
}


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(4, 10), pytest.param(40, 40, marks=pytest.mark.slow)],
    ids=["a few", "many"],
)
@pytest.mark.parametrize("name", MACHINES)
def test_any_order_of_operations(
    name: str, examples: int, steps: int, request: pytest.FixtureRequest
) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    package, machine = MACHINES[name]
    pytest.importorskip(package)
    machine.endpoint = request.getfixturevalue(name).url
    some = settings(max_examples=examples, stateful_step_count=steps, deadline=None, database=None)
    run_state_machine_as_test(machine, settings=some)


# Requests, counted where they pass: at the server's door.


@contextmanager
def _counted(proxy: FaultProxy) -> Iterator[Callable[[str], int]]:
    proxy.clear()
    yield proxy.count


@pytest.fixture
def proxied(ceph: Server) -> Iterator[tuple[FaultProxy, str, dict[str, Any]]]:
    with FaultProxy(ceph.url) as proxy:
        yield proxy, f"s3://{buckets.s3_bucket(ceph.url)}/lab", buckets.s3_options(proxy.url)


@pytest.fixture(params=["obstore", "s3fs"])
def _client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "s3fs":
        monkeypatch.setenv("HOLDFAST_OBSTORE", "0")


@pytest.mark.usefixtures("_client")
def test_what_operations_cost(proxied: tuple[FaultProxy, str, dict[str, Any]]) -> None:
    """docs/reference/cost.md holds these numbers."""
    proxy, url, options = proxied
    with by_hand(holdfast.open(url, storage_options=options)) as store:
        with store.start_run("cost", run_id="cost", capture=False) as run:
            with _counted(proxy) as count:
                for step in range(1000):
                    run.log({"loss": 1.0}, step=step)
                assert count("") == 0
            with _counted(proxy) as count:
                run._writer.publish(roll=True)
                assert count("^PUT") == 3
                assert count("^DELETE|^POST .*delete") == 1
                looks = count("") - 4  # what collectors have said, once a run; s3fs asks twice
                assert looks == (2 if os.environ.get("HOLDFAST_OBSTORE") == "0" else 1)
            with _counted(proxy) as count:
                run.log_artifact(b"x" * 1000, key="model")
                assert count("") == 0
                run._writer.publish(roll=True)
                assert count("^PUT") == 3
        with _counted(proxy) as count:
            assert store.repository.backend.get("store.json")
            assert count("") == 1
        blob = "^GET .*blobs/sha256/"
        with _counted(proxy) as count:
            assert store.read_artifact("cost", "model") == b"x" * 1000
            assert count(blob) == 1
            assert count("") == 3
    with _counted(proxy) as count:
        holdfast.open(url, storage_options=options).close()
        assert count("") == 1


@pytest.mark.usefixtures("_client")
def test_a_listing_takes_one_request_for_a_thousand_names(
    proxied: tuple[FaultProxy, str, dict[str, Any]],
) -> None:
    proxy, url, options = proxied
    backend = connect_remote(url, options)
    backend.create("heads/runs/a@00000000", b"x")
    with _counted(proxy) as count:
        assert len(list(backend.walk("heads/runs/"))) == 1
        assert count("") == 1
    with _counted(proxy) as count:
        assert backend.folders("heads/") == ["runs"]
        assert count("") == 1


@pytest.mark.usefixtures("_client")
def test_a_metric_of_a_compacted_run_takes_three_requests(
    proxied: tuple[FaultProxy, str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url, options = proxied
    monkeypatch.setenv("HOLDFAST_CACHE", "off")
    with by_hand(holdfast.open(url, storage_options=options)) as store:
        with store.start_run("cost", run_id="cost", capture=False) as run:
            for part in range(9):
                for step in range(100 * part, 100 * part + 100):
                    run.log({"loss": step / 7, "acc": step / 3}, step=step)
                run._writer.publish(roll=True)
        with store.start_run("cost", run_id="plain", capture=False) as run:
            run.log({"loss": 0.5}, step=0)
    with holdfast.open(url, storage_options=options, read_only=True) as store:
        for ask in ({}, {"last": 5}, {"steps": (100, 200)}, {"max_points": 50}):
            with _counted(proxy) as count:
                assert len(store.metrics("cost", "loss", **ask))
                assert count("") == 3
        with _counted(proxy) as count:
            assert len(store.metrics("co", "loss")) == 900  # a part of the id is looked up
            assert count("") > 3
        with _counted(proxy) as count:
            assert len(store.metrics("cost", "*")["acc"]) == 900
            assert count("") == 3


@pytest.mark.usefixtures("_client")
def test_listing_runs_is_one_page_for_a_thousand_heads(
    proxied: tuple[FaultProxy, str, dict[str, Any]],
) -> None:
    proxy, url, options = proxied
    holdfast.open(url, storage_options=options).close()
    backend = connect_remote(url, options)

    def add(number: int) -> None:
        about = {"run_id": f"r{number}", "experiment_id": "e", "status": "Success"}
        chain = Chain(backend, layout.manifest(f"r{number}"))
        chain.commit(EMPTY, lambda state: {"run": {**about, "created_at": number}})

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(add, range(1100)))
    with holdfast.open(url, storage_options=options, read_only=True) as store:
        with _counted(proxy) as count:
            assert len(store.runs()) == 1100
            assert count("GET .*manifest/0") == 1100
        with _counted(proxy) as count:
            assert len(store.runs()) == 1100
            assert count("") == count("list-type=2") == 2  # pages
        add(1100)
        with _counted(proxy) as count:
            assert len(store.runs()) == 1101
            assert (count("list-type=2"), count("")) == (2, 3)
    with (
        holdfast.open(url, storage_options=options, read_only=True) as store,
        _counted(proxy) as count,
    ):
        assert len(store.runs()) == 1101  # another process: the catalog is on this machine
        assert count("") == 2


# Credentials.


def _seen(error: BaseException) -> str:
    """Everything that a person or a program may get to see of an error."""
    text = io.StringIO()
    traceback.print_exception(error, file=text)
    details = getattr(error, "details", {})
    return f"{text.getvalue()} {error!r} {details} {pickle.dumps(error)!r}"


def test_a_secret_is_nowhere_afterwards(
    ceph: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path / "cache"))
    bucket = buckets.s3_bucket(ceph.url)
    options = buckets.s3_options(ceph.url)
    with caplog.at_level(logging.DEBUG, "holdfast"):
        with holdfast.open(f"s3://{bucket}/lab", storage_options=options) as store:
            _run(store)
            store.runs()
            with pytest.raises(holdfast.errors.RunNotFound) as caught:
                store.run("nothing")
        wrong = {**options, "secret": SECRET}
        with pytest.raises(AccessDenied, match="credentials were refused") as denied:
            holdfast.open(f"s3://{bucket}/lab", storage_options=wrong)
    client = buckets.s3_client(ceph.url)
    stored = client.list_objects_v2(Bucket=bucket)["Contents"]
    everything = [
        client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in stored
    ]
    everything += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    everything += [_seen(caught.value).encode(), caplog.text.encode(), repr(store).encode()]
    assert len(everything) > 10
    assert not [data for data in everything if b"testtest" in data]
    assert SECRET not in _seen(denied.value)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/lab",
        f"az://container/lab?sv=2024&sig={SECRET}",
        f"sftp://me:{SECRET}@host/lab",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidValue, match="storage_options") as caught:
        holdfast.open(url)
    assert SECRET not in str(caught.value)
    assert SECRET not in str(caught.value.details)


# What goes wrong is said in one sentence.


@pytest.mark.usefixtures("_client")
def test_mistakes_are_told_plainly(ceph: Server) -> None:
    options = buckets.s3_options(ceph.url)
    with pytest.raises(NotAStore, match="there is no bucket at s3://no-such-bucket-here"):
        holdfast.open("s3://no-such-bucket-here/lab", storage_options=options)
    bucket = buckets.s3_bucket(ceph.url)
    unknown = {**options, "key": "nobody"}
    with pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
        holdfast.open(f"s3://{bucket}/lab", storage_options=unknown)
    with pytest.raises(NotAStore, match="holdfast init"):
        holdfast.open(f"s3://{bucket}/lab", storage_options=options, create=False)
    with pytest.raises(NotAStore, match="names no bucket"):
        holdfast.open("s3://", storage_options=options)


@pytest.mark.usefixtures("_client")
@pytest.mark.parametrize(
    ("fault", "wanted", "words"),
    [
        (Status(403, "AccessDenied"), AccessDenied, "access was refused"),
        (Status(403, "RequestTimeTooSkewed"), AccessDenied, "clock"),
        (Status(403, "ExpiredToken"), AccessDenied, "ExpiredToken"),
        (Status(400, "InvalidArgument"), BackendError, "it answered 400 InvalidArgument"),
        (Status(507, "QuotaExceeded"), holdfast.errors.StorageFull, "full"),
        (Status(503, "SlowDown"), holdfast.errors.Unavailable, "503 SlowDown"),
        (Status(429, "TooManyRequests"), holdfast.errors.Unavailable, "429"),
        (Status(409, "ConditionalRequestConflict"), holdfast.errors.Unavailable, "409"),
    ],
    ids=repr,
)
def test_what_a_server_refuses_is_told_apart(
    proxied: tuple[FaultProxy, str, dict[str, Any]],
    fault: Status,
    wanted: type[HoldfastError],
    words: str,
) -> None:
    proxy, url, options = proxied
    backend = connect_remote(url, options, Patience(5, 0.3, 0.01))
    proxy.rule("PUT", fault)
    with pytest.raises(wanted, match=re.escape(words)) as caught:
        backend.create("a/name", b"x")
    assert type(caught.value) is wanted


def test_many_artifacts_are_one_step_of_the_chain(
    proxied: tuple[FaultProxy, str, dict[str, Any]], tmp_path: Path
) -> None:
    proxy, url, options = proxied
    data = {f"layers/{number}.bin": os.urandom(100) for number in range(200)}
    with by_hand(holdfast.open(url, storage_options=options)) as store:
        with store.start_run("many", run_id="many", capture=False) as run:
            proxy.clear()
            run.log_artifacts(data)
            assert proxy.count() == 0
            run._writer.publish(roll=True)
            assert proxy.count("^PUT .*blobs/") == 200
            assert proxy.count("^PUT .*manifest/") == 1
        assert store.read_artifacts("many") == data
        written = store.get_artifacts("many", ["layers/7.bin"], to=tmp_path)
        assert written["layers/7.bin"].read_bytes() == data["layers/7.bin"]
