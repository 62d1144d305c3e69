"""S3: the same storage options for s3fs and for obstore, and credentials from where AWS tools find them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from holdfast.backend import remote_obstore
from holdfast.backend.remote_obstore import ObstoreClient

_TRANSLATED = {
    "key",
    "secret",
    "token",
    "profile",
    "anon",
    "endpoint_url",
    "client_kwargs",
    "use_ssl",
}
_TRANSLATED_CLIENT = {"endpoint_url", "region_name"}
_CONNECT_SECONDS = 10
_PART_BYTES = 8 << 20
_PART_RETRIES = 6
_FRESH_FOR = timedelta(minutes=5)  # how long credentials are used before they are asked for again


def fsspec_options(options: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What s3fs is given: no retries of its own, and checksums only where a server wants them."""
    settings = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": seconds,
        "retries": {"max_attempts": 0},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    return {**options, "config_kwargs": {**settings, **options.get("config_kwargs", {})}}


def fast_client(root: str, options: dict[str, Any], seconds: float) -> ObstoreClient | None:
    """obstore for a bucket, or None where it cannot be used or not be told the same as s3fs."""
    client = options.get("client_kwargs", {})
    if not options.keys() <= _TRANSLATED or not client.keys() <= _TRANSLATED_CLIENT:
        return None
    if not remote_obstore.usable() or os.environ.get("HOLDFAST_OBSTORE") == "0":
        return None
    found = _place_and_keys(options, client)
    if found is None:
        return None
    from obstore.store import S3Store

    bucket, _, prefix = root.partition("/")
    settings = {
        "client_options": {
            "allow_http": str(found.get("endpoint", "")).startswith("http://"),
            "connect_timeout": f"{_CONNECT_SECONDS}s",
            "timeout": f"{int(1000 * seconds)}ms",
        },
        **found,
    }
    once = S3Store(bucket, prefix=prefix or None, retry_config={"max_retries": 0}, **settings)
    retry: Any = {"max_retries": _PART_RETRIES, "retry_timeout": timedelta(seconds=6 * seconds)}
    patient = S3Store(bucket, prefix=prefix or None, retry_config=retry, **settings)
    return ObstoreClient(once, patient, _PART_BYTES)


def _place_and_keys(options: dict[str, Any], client: dict[str, Any]) -> dict[str, Any] | None:
    """Endpoint, region and credentials as S3Store takes them; None if the region is not known."""
    endpoint = options.get("endpoint_url") or client.get("endpoint_url")
    region = client.get("region_name")
    found: dict[str, Any] = {}
    if options.get("anon"):
        found["skip_signature"] = True
    elif options.get("key"):
        found["access_key_id"] = options["key"]
        found["secret_access_key"] = options.get("secret")
        if options.get("token"):
            found["session_token"] = options["token"]
    if not found or not endpoint:
        session = _session(options)
        made = session.create_client("s3", region_name=region, endpoint_url=endpoint)
        endpoint, region = made.meta.endpoint_url, made.meta.region_name
        if not found:
            found["credential_provider"] = _Provider(session)
    return _placed(found, endpoint, region)


def _placed(found: dict[str, Any], endpoint: str, region: str | None) -> dict[str, Any] | None:
    if (urlsplit(endpoint).hostname or "").endswith(".amazonaws.com"):
        # s3fs finds out where a bucket lies; obstore has to be told.
        return {**found, "region": region} if region and region != "aws-global" else None
    return {**found, "endpoint": endpoint, "region": region or "us-east-1"}


def endpoint_of(options: dict[str, Any]) -> str:
    """The address that S3 is asked at."""
    client = options.get("client_kwargs", {})
    endpoint = options.get("endpoint_url") or client.get("endpoint_url")
    if not endpoint:
        session, region = _session(options), client.get("region_name")
        endpoint = session.create_client("s3", region_name=region).meta.endpoint_url
    return str(endpoint)


def _session(options: dict[str, Any]) -> Any:
    from botocore.session import Session

    return Session(profile=options.get("profile"))


class _Provider:
    """Credentials as botocore finds them: environment, profile, sign-on, the machine's role."""

    def __init__(self, session: Any) -> None:
        self._found = session.get_credentials()
        if self._found is None:
            from botocore.exceptions import NoCredentialsError

            raise NoCredentialsError

    def __call__(self) -> Any:
        now = self._found.get_frozen_credentials()  # renewed by botocore when they are about to end
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _FRESH_FOR,
        }
