"""Storage that fsspec reaches and nobody vouches for: one writer at a time, or only to be read."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import golden
import holdfast
from holdfast.errors import InvalidValue, NotAStore, ReadOnly
from holdfast.format import storefile

fsspec: Any = pytest.importorskip("fsspec", reason="pip install 'holdfast[s3]'")
pytestmark = pytest.mark.filterwarnings("default")


def write(store: holdfast.ExperimentStore, run_id: str) -> None:
    with store.start_run("exp", run_id=run_id, capture=False, config={"lr": 0.1}) as run:
        for step in range(100):
            run.log({"train/loss": step / 7}, step=step)
        run.log_artifact(b"weights" * 300_000, key="checkpoints/model.pt")
        run.log_artifact(b"small", key="small")


def check(store: holdfast.ExperimentStore, run_id: str) -> None:
    assert [run.run_id for run in store.runs("config.lr == 0.1")] == [run_id]
    assert store.metrics(run_id, "train/loss").steps.tolist() == list(range(100))
    assert store.read_artifact(run_id, "checkpoints/model.pt") == b"weights" * 300_000
    with store.open_artifact(run_id, "checkpoints/model.pt") as file:
        file.seek(700_000)
        assert file.read(7) == b"weights"
    assert store.read_artifact(run_id, "small") == b"small"
    with pytest.raises(ReadOnly):
        store.start_run("exp")


@pytest.fixture
def weak() -> str:
    """A file system in this process that Holdfast has never heard of."""
    from fsspec.implementations.memory import MemoryFileSystem

    class Weak(MemoryFileSystem):  # type: ignore[misc]
        protocol = "weak"
        store: dict[str, Any] = {}  # noqa: RUF012 - as fsspec has it
        pseudo_dirs = [""]  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(MemoryFileSystem._strip_protocol(path.removeprefix("weak://")))

    fsspec.register_implementation("weak", Weak, clobber=True)
    return "weak://bucket/lab"


def test_a_kind_of_storage_that_nobody_vouches_for_has_one_writer(weak: str) -> None:
    with pytest.raises(NotAStore, match="no create that excludes others.*single_writer=True"):
        holdfast.open(weak)
    with holdfast.open(weak, single_writer=True) as store:
        write(store, "alone")
        assert store.verify() == []
    with holdfast.open(weak) as store:
        check(store, "alone")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        return


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(the address of a web server, the directory that it shows)."""
    place = tmp_path / "www"
    place.mkdir()
    handler = functools.partial(Quiet, directory=str(place))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", place
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_store_behind_a_web_server_is_read_and_never_written(web: tuple[str, Path]) -> None:
    pytest.importorskip("aiohttp")
    url, place = web
    with holdfast.open(place / "lab") as store:
        write(store, "shown")
    with holdfast.open(f"{url}/lab") as store:
        check(store, "shown")
    with pytest.raises(NotAStore, match="is not a Holdfast store"):
        holdfast.open(f"{url}/nothing")


def test_a_protocol_that_nobody_knows_is_refused() -> None:
    with pytest.raises(NotAStore, match="not a protocol"):
        holdfast.open("nonsense://bucket/lab")
    with pytest.raises((NotAStore, InvalidValue)):
        holdfast.open("http://")


# The feature `single-writer`, wherever the store lies.


def test_a_store_of_one_writer_opens_for_reading_unless_its_user_says_so(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    with holdfast.open(lab) as store:
        write(store, "one")
    (lab / "store.json").write_bytes(golden.read("store-single-writer.json"))
    with holdfast.open(lab) as store:
        check(store, "one")
        with pytest.raises(ReadOnly, match="single_writer=True"):
            store.delete_run("one")
    with holdfast.open(lab, single_writer=True) as store:
        store.resume("one").finish()
        assert store.verify() == []
    about = storefile.decode((lab / "store.json").read_bytes(), place="store.json")
    assert about["features"]["write"] == ["single-writer"]
