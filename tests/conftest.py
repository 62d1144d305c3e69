"""What several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import holdfast
from servers.base import Server
from servers.ceph import Ceph, CephOnDisk
from servers.others import Azurite, GoogleEmulator, Moto, Rclone
from servers.swift import Swift

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("holdfast", deadline=None)
settings.load_profile("holdfast")


@pytest.fixture(autouse=True)
def _private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test touches the user's own cache or state, or another test's."""
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HOLDFAST_STATE_DIR", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True, scope="session")
def _no_clock_in_the_background(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What background threads do because time has passed, a test does by hand: how long it takes says
    how busy the machine is, and none has more metrics because it took long. What the threads are called
    for, they do. All this holds for fixtures that several tests share as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_SYSTEM", "off")
        patch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HOLDFAST_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        for module, names in _BY_TIME.items():
            for name in names:
                patch.setattr(f"holdfast.{module}.{name}", 86_400.0)
        yield


_BY_TIME = {
    "keeper": ("SYNC_SECONDS", "BEAT_SECONDS"),
    "publisher": ("BEAT_SECONDS", "LEFT_SECONDS"),
}


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[holdfast.ExperimentStore]:
    """An empty store on each backend."""
    url = tmp_path / "lab" if request.param == "local" else None
    with holdfast.ExperimentStore(url) as opened:
        yield opened


def _server(kind: type[Server], place: Path) -> Iterator[Server]:
    """A server for the whole session; the test is skipped, and says why, where it is not installed."""
    reason = kind.missing()
    if reason:
        pytest.skip(reason)
    server = kind(place)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(Ceph, tmp_path_factory.mktemp("servers") / "ceph")


@pytest.fixture(scope="session")
def ceph_on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(CephOnDisk, tmp_path_factory.mktemp("servers") / "disk")


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(Moto, tmp_path_factory.mktemp("servers") / "moto")


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(Azurite, tmp_path_factory.mktemp("servers") / "azurite")


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(GoogleEmulator, tmp_path_factory.mktemp("servers") / "google")


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(Rclone, tmp_path_factory.mktemp("servers") / "rclone")


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _server(Swift, tmp_path_factory.mktemp("servers") / "swift")
