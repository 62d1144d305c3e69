"""A server that cannot keep writers apart is refused when a store is made there, whatever it claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import golden
import holdfast
from holdfast.backend.remote_connect import connect_remote
from holdfast.cli import main
from holdfast.errors import NotAStore, ReadOnly
from holdfast.format import storefile
from servers import buckets, swift
from servers.base import Server
from servers.faults import FaultProxy

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip("s3fs", reason="these tests need s3fs: pip install 'holdfast[s3]'")


def _versioned(ceph: Server) -> str:
    bucket = buckets.s3_bucket(ceph.url)
    on = {"Status": "Enabled"}
    buckets.s3_client(ceph.url).put_bucket_versioning(Bucket=bucket, VersioningConfiguration=on)
    return bucket


def _refused(bucket: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotAStore, match=reason) as caught:
        holdfast.open(f"s3://{bucket}/lab", storage_options=options)
    assert "single_writer=True" in caught.value.message
    with pytest.raises(NotAStore, match="is not a Holdfast store"):
        holdfast.open(f"s3://{bucket}/lab", storage_options=options, create=False)


def test_a_server_that_ignores_the_condition(rclone: Server) -> None:
    bucket = buckets.s3_bucket(rclone.url)
    _refused(bucket, buckets.s3_options(rclone.url), "ignores the condition")


def test_a_server_that_lets_several_racing_writers_win(swift: Server) -> None:
    keys = {"key": swift_keys[0], "secret": swift_keys[1]}
    bucket = buckets.s3_bucket(swift.url, **keys)
    _refused(bucket, buckets.s3_options(swift.url, **keys), "raced to create one name")


swift_keys = (swift.KEY, swift.SECRET)


def test_a_versioned_bucket_in_which_every_writer_wins(ceph: Server) -> None:
    _refused(
        _versioned(ceph), buckets.s3_options(ceph.url), "ignores the condition|raced to create"
    )


def test_the_probe_leaves_nothing_behind(ceph: Server) -> None:
    bucket = buckets.s3_bucket(ceph.url)
    options = buckets.s3_options(ceph.url)
    with holdfast.open(f"s3://{bucket}/lab", storage_options=options) as store:
        assert [stat.name for stat in store.repository.backend.walk("")] == ["store.json"]


def test_a_single_writer_says_so_in_words(rclone: Server) -> None:
    bucket = buckets.s3_bucket(rclone.url)
    url, options = f"s3://{bucket}/lab", buckets.s3_options(rclone.url)
    with holdfast.open(url, storage_options=options, single_writer=True) as store:
        with store.start_run("alone", run_id="alone", capture=False) as run:
            run.log({"loss": 1.0}, step=0)
        about = storefile.decode(store.repository.backend.get("store.json"), place="store.json")
    assert about["features"]["write"] == ["gc", "single-writer"]
    with holdfast.open(url, storage_options=options) as store:
        assert store.metrics("alone", "loss").values.tolist() == [1.0]
        with pytest.raises(ReadOnly, match="single_writer=True"):
            store.start_run("another")
    with holdfast.open(url, storage_options=options, single_writer=True) as store:
        store.resume("alone").finish()


def test_init_says_what_to_do(
    rclone: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket = buckets.s3_bucket(rclone.url)
    environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "testtest"}
    environment |= {"AWS_ENDPOINT_URL": rclone.url, "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["init", f"s3://{bucket}/lab"]) == 5
    assert "--single-writer" in capsys.readouterr().err
    assert main(["init", f"s3://{bucket}/lab", "--single-writer"]) == 0


def _copied(bucket: str, options: dict[str, Any]) -> str:
    """A store that was made elsewhere, and copied here with all its files, which are one."""
    url = f"s3://{bucket}/lab"
    connect_remote(url, options).put("store.json", golden.read("store.json"))
    return url


def test_a_store_that_was_copied_to_a_weak_server_is_not_written(
    rclone: Server, caplog: pytest.LogCaptureFixture
) -> None:
    options = buckets.s3_options(rclone.url)
    url = _copied(buckets.s3_bucket(rclone.url), options)
    with holdfast.open(url, storage_options=options) as store:
        run = store.start_run("copied", run_id="run", capture=False)
        run.log({"loss": 1.0}, step=0)
        left = run.finish()
        assert left is not None
        assert left.problem
        assert "ignores the condition" in left.problem
        assert "single_writer=True" in caplog.text
        assert [stat.name for stat in store.repository.backend.walk("runs/")] == []
    with holdfast.open(url, storage_options=options, single_writer=True) as store:
        with store.start_run("copied", run_id="alone", capture=False) as run:
            run.log({"loss": 1.0}, step=0)
        assert store.metrics("alone", "loss").values.tolist() == [1.0]


def test_a_machine_tries_a_server_once(
    ceph: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with FaultProxy(ceph.url) as proxy:
        options = buckets.s3_options(proxy.url)
        url = _copied(buckets.s3_bucket(ceph.url), options)
        for number in range(3):
            monkeypatch.setattr("holdfast.proven._tried", {})  # as another process would
            monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path / f"machine {number // 2}"))
            proxy.clear()
            with holdfast.open(url, storage_options=options) as store:
                assert proxy.count() == 1
                store.start_run("copied", run_id=f"run-{number}", capture=False).finish()
            assert bool(proxy.count("probe/")) == (number != 1)
