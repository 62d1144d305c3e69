"""Every object store keeps the contract of every other backend, on real servers."""

from __future__ import annotations

import pytest

from holdfast.backend.remote import RemoteBackend
from holdfast.backend.remote_connect import connect_remote
from holdfast.testing import BackendContract
from servers import buckets
from servers.base import Server

# What the clients of others warn of is theirs to mend.
pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("default")]
pytest.importorskip(
    "fsspec", reason="object stores need fsspec: pip install 'holdfast[s3,gcs,azure]'"
)


@pytest.fixture(params=["obstore", "s3fs"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip(request.param)
    if request.param == "s3fs":
        monkeypatch.setenv("HOLDFAST_OBSTORE", "0")
    return str(request.param)


class TestCeph(BackendContract):
    @pytest.fixture
    def backend(self, ceph: Server, client: str) -> RemoteBackend:
        bucket = buckets.s3_bucket(ceph.url)
        return connect_remote(f"s3://{bucket}/lab", buckets.s3_options(ceph.url))


class TestMoto(BackendContract):
    @pytest.fixture
    def backend(self, moto: Server, client: str) -> RemoteBackend:
        bucket = buckets.s3_bucket(moto.url)
        return connect_remote(f"s3://{bucket}/lab/deep", buckets.s3_options(moto.url))


class TestAzurite(BackendContract):
    @pytest.fixture
    def backend(self, azurite: Server) -> RemoteBackend:
        pytest.importorskip("adlfs")
        bucket = buckets.azure_bucket(azurite.url)
        return connect_remote(f"az://{bucket}/lab", buckets.azure_options(azurite.url))


class TestGoogle(BackendContract):
    @pytest.fixture
    def backend(self, google: Server) -> RemoteBackend:
        pytest.importorskip("gcsfs")
        bucket = buckets.google_bucket(google.url)
        return connect_remote(f"gs://{bucket}/lab", buckets.google_options(google.url))
