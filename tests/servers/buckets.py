"""New buckets on the test servers, and the storage options that reach them."""

from __future__ import annotations

import json
import secrets
import urllib.request
from functools import lru_cache
from typing import Any

import pytest

from servers.others import AZURE_ACCOUNT, AZURE_KEY


def s3_options(endpoint: str, key: str = "test", secret: str = "testtest") -> dict[str, Any]:
    place = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    return {"key": key, "secret": secret, "client_kwargs": place}


@lru_cache
def s3_client(endpoint: str, key: str = "test", secret: str = "testtest") -> Any:
    """botocore's own client, to look from outside."""
    session = pytest.importorskip("botocore.session").Session()
    return session.create_client(
        "s3", endpoint_url=endpoint, aws_access_key_id=key, aws_secret_access_key=secret,
        region_name="us-east-1",
    )  # fmt: skip


def new_name() -> str:
    return f"lab-{secrets.token_hex(4)}"


def s3_bucket(endpoint: str, key: str = "test", secret: str = "testtest") -> str:
    name = new_name()
    s3_client(endpoint, key, secret).create_bucket(Bucket=name)
    return name


def google_options(endpoint: str) -> dict[str, Any]:
    return {"endpoint_url": endpoint, "token": "anon", "project": "tests"}


def google_bucket(endpoint: str) -> str:
    name = new_name()
    body = json.dumps({"name": name}).encode()
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/storage/v1/b", body)).close()
    return name


def azure_options(endpoint: str) -> dict[str, Any]:
    text = f"AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};BlobEndpoint={endpoint};"
    return {"connection_string": f"DefaultEndpointsProtocol=http;{text}"}


def azure_bucket(endpoint: str) -> str:
    blob = pytest.importorskip("azure.storage.blob")
    name = new_name()
    text = azure_options(endpoint)["connection_string"]
    with blob.BlobServiceClient.from_connection_string(text) as client:
        client.create_container(name)
    return name
