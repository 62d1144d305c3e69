"""From a URL and storage options to a remote backend: which client, and what it can be relied on for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.backend import remote_fsspec, remote_s3
from holdfast.backend.base import Capabilities
from holdfast.backend.remote import PARALLEL, Patience, RemoteBackend
from holdfast.backend.remote_client import Client
from holdfast.backend.remote_fsspec import FsspecClient
from holdfast.errors import InvalidValue, NotAStore

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Protocol:
    """One kind of storage: the extra that brings its package, and does `create` exclude others?

    What is said here of a kind is still tried on the server itself when a store is made there.
    """

    scheme: str
    extra: str | None
    exclusive: bool


_S3 = Protocol("s3", "s3", exclusive=True)
_GOOGLE = Protocol("gs", "gcs", exclusive=True)
_AZURE = Protocol("abfs", "azure", exclusive=True)
PROTOCOLS = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
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
    )
    return RemoteBackend(
        f"{scheme}://{root}", _client_of(protocol, root, given, patience), capabilities, patience
    )


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
        return FsspecClient(fs, root, protocol.exclusive, patience.attempt_seconds)

    return connect


def _settings(protocol: Protocol, options: dict[str, Any], patience: Patience) -> dict[str, Any]:
    """The user's options over ours."""
    if protocol is _S3:
        return remote_s3.fsspec_options(options, patience.attempt_seconds)
    return options
