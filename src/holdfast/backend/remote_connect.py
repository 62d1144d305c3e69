"""From a URL and storage options to a remote backend: which client, and what it can be relied on for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from holdfast.backend import remote_fsspec, remote_s3
from holdfast.backend.base import Capabilities
from holdfast.backend.remote import PARALLEL, Patience, RemoteBackend
from holdfast.backend.remote_client import Client
from holdfast.backend.remote_clock import Clock
from holdfast.backend.remote_fsspec import FsspecClient
from holdfast.backend.remote_web import WebClient
from holdfast.errors import InvalidValue, NotAStore

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Protocol:
    """One kind of storage: the extra that brings its package, does `create` exclude others, and can it be
    written to at all?

    What is said here of a kind is still tried on the server itself when a store is made there.
    """

    scheme: str
    extra: str | None
    exclusive: bool
    writable: bool = True


_S3 = Protocol("s3", "s3", exclusive=True)
_GOOGLE = Protocol("gs", "gcs", exclusive=True)
_AZURE = Protocol("abfs", "azure", exclusive=True)
_WEB = Protocol("http", None, exclusive=False, writable=False)
_SECURE_WEB = Protocol("https", None, exclusive=False, writable=False)
PROTOCOLS = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "http": _WEB,
    "https": _SECURE_WEB,
}
# All others that fsspec reaches: for one writer at a time, since none of them is known to exclude others.


def _google_endpoint(options: dict[str, Any]) -> str:
    emulated = options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")
    return str(emulated or "https://storage.googleapis.com")


def _azure_endpoint(options: dict[str, Any]) -> str | None:
    text = options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    parts = dict(part.split("=", 1) for part in str(text).split(";") if "=" in part)
    account = options.get("account_name") or parts.get("AccountName")
    account = account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if "BlobEndpoint" in parts:
        return parts["BlobEndpoint"]
    return f"https://{account}.blob.core.windows.net" if account else None


def _server(protocol: Protocol, options: dict[str, Any]) -> str:
    """What tells two servers apart that have a bucket of one name; nothing is asked for it."""
    if protocol is not _S3:
        ask = _ENDPOINTS.get(protocol)
        return str(ask(options) if ask else "")
    said = options.get("endpoint_url") or options.get("client_kwargs", {}).get("endpoint_url")
    said = said or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return str(said or "")


# Where to ask for the time.
_ENDPOINTS: dict[Protocol, Callable[[dict[str, Any]], str | None]] = {
    _S3: remote_s3.endpoint_of,
    _GOOGLE: _google_endpoint,
    _AZURE: _azure_endpoint,
}


def connect_remote(
    url: str,
    options: Options | None = None,
    patience: Patience = Patience(),  # noqa: B008
) -> RemoteBackend:
    """The backend of `s3://bucket/prefix` and the like. Nothing is asked of the server yet.

    Raises InvalidValue for a URL that holds credentials, NotAStore for an unknown protocol or a
    package that is not installed.
    """
    scheme, root = _parts(url)
    protocol = PROTOCOLS.get(scheme, Protocol(scheme, None, exclusive=False))
    remote_fsspec.require(protocol.scheme, protocol.extra)
    given = dict(options or {})
    capabilities = Capabilities(
        atomic_put=protocol.exclusive,
        exclusive_create=protocol.exclusive,
        durable_put=protocol.exclusive,
        append=False,
        parallel=PARALLEL,
        writable=protocol.writable,
    )
    clock = Clock(partial(_ENDPOINTS[protocol], given)) if protocol in _ENDPOINTS else None
    connect = _client_of(protocol, root, given, patience)
    server = _server(protocol, given)
    return RemoteBackend(f"{scheme}://{root}", connect, capabilities, patience, clock, server)


def _parts(url: str) -> tuple[str, str]:
    """(scheme, bucket/prefix). The message of an error never repeats what may be a secret."""
    scheme, _, rest = url.partition("://")
    place = re.sub(r"^[^/]*@|\?.*$", "", rest)
    before = rest.partition("/")[0].rpartition("@")[0]
    if ":" in before or "?" in rest:
        raise InvalidValue(
            f"{scheme}://{place}: credentials do not belong into a URL: pass storage_options, or use "
            "the environment or a profile",
            url=f"{scheme}://{place}",
        )
    root = rest.strip("/")
    if not root or not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme):
        raise NotAStore(f"{url} names no bucket: write {scheme}://bucket/folder", url=url)
    return scheme, root


def _client_of(
    protocol: Protocol, root: str, options: dict[str, Any], patience: Patience
) -> Callable[[], Client]:
    def connect() -> Client:
        if protocol is _S3:
            fast = remote_s3.fast_client(root, options, patience.attempt_seconds)
            if fast is not None:
                return fast
        fs = remote_fsspec.file_system(protocol.scheme, _settings(protocol, options, patience))
        if not protocol.writable:  # a web page has no path that its address could be left out of
            return WebClient(fs, f"{protocol.scheme}://{root}", False, patience.attempt_seconds)
        return FsspecClient(fs, root, protocol.exclusive, patience.attempt_seconds)

    return connect


def _settings(protocol: Protocol, options: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """The user's options over ours."""
    if protocol is _S3:
        return remote_s3.fsspec_options(options, patience.attempt_seconds)
    return options
