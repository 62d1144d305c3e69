"""Ids: of runs, experiments, writers, and the nonces of chain entries."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
import unicodedata

from holdfast.errors import InvalidValue
from holdfast.names import check_id

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u to misread


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_run_id() -> str:
    """`YYYYMMDD-HHMMSS-xxxxxx` (UTC): sorts by time, and its ending is easy to type."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + _random(6)


def experiment_id_for(name: str) -> str:
    """The id of the experiment called `name`, the same on every machine: two that create it at once
    create one. The name itself where it can be one, else a slug of it with part of its sha256."""
    if not isinstance(name, str) or not name.strip():
        raise InvalidValue(
            f"an experiment's name is text such as 'resnet', not {name!r}", value=name
        )
    try:
        return check_id("experiment id", name)
    except InvalidValue:
        return f"{_slug(name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def new_experiment_id(name: str) -> str:
    """An id of its own for one more experiment called `name`."""
    return f"{_slug(name)}-{_random(6)}"


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "experiment"


def new_nonce() -> bytes:
    """16 random bytes."""
    return secrets.token_bytes(16)


def new_writer_id() -> str:
    """8 hex characters: one process that writes one run."""
    return secrets.token_hex(4)
