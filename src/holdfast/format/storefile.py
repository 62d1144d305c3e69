"""`store.json`: what makes a directory a store. JSON, so that people can read it; with a checksum.

    {"format": 1, "store_id": uuid, "features": {"read": [], "write": [], "gc": []},
     "created_at": RFC 3339, "checksum": 16 hex digits}

The checksum is the beginning of the sha256 of the other fields as compact ASCII JSON with sorted
keys, so the file may be indented anew but not altered. See docs/format/store-json.md.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from holdfast.errors import Corrupt, UnsupportedFormat

FORMAT = 1


def encode(about: dict[str, Any]) -> bytes:
    """The file; `about` holds all fields but the checksum."""
    return (json.dumps({**about, "checksum": _checksum(about)}, indent=1) + "\n").encode("ascii")


def decode(data: bytes, *, place: str) -> dict[str, Any]:
    """The fields but the checksum. Raises Corrupt or UnsupportedFormat, naming `place`."""
    try:
        about = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{place} is damaged: it is not JSON ({error})", place=place) from error
    if not isinstance(about, dict) or not isinstance(about.get("store_id"), str):
        raise Corrupt(f"{place} is damaged: it names no store id", place=place)
    if about.get("format") != FORMAT:
        raise UnsupportedFormat(
            f"{place} has store format {about.get('format')!r} and this Holdfast knows format "
            f"{FORMAT}: upgrade holdfast",
            place=place,
            version=about.get("format"),
        )
    if about.pop("checksum", None) != _checksum(about):
        raise Corrupt(f"{place} is damaged: its checksum does not match", place=place)
    if not _are_features(about.get("features")):
        raise Corrupt(f"{place} is damaged: its features are not as defined", place=place)
    return about


def _checksum(about: dict[str, Any]) -> str:
    plain = json.dumps(about, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(plain.encode("ascii")).hexdigest()[:16]


def _are_features(features: Any) -> bool:
    return isinstance(features, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in features.values()
    )
