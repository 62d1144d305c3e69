"""The section `inputs` of a manifest: which artifacts a run has read. See docs/format/manifest.md."""

from __future__ import annotations

from typing import Any

from holdfast.format.alias import Target
from holdfast.format.manifest import State

SECTION = "inputs"


def used(state: State, found: Target, asked: str | None, at: int) -> State:
    """The change by which a run has read `found`, asked for as the address `asked`; {} if it says so."""
    known = state.get(SECTION, {})
    digest, name = str(found.digest), found.address
    if known.get(name, {}).get("digest", digest) != digest:
        name = digest  # the run that made it has stored something else under that key meanwhile
    if name in known:
        return {}
    about: dict[str, Any] = {
        "digest": digest,
        "size_bytes": found.size_bytes,
        "kind": found.kind,
        "address": None if asked == name else asked,
        "used_at": at,
    }
    return {SECTION: {name: {key: value for key, value in about.items() if value is not None}}}


def origin(name: str) -> tuple[str, str] | None:
    """(run, key) that made an input, by its name in the section; None if only its digest is known."""
    run_id, colon, key = name.partition(":")
    return (run_id, key) if colon and run_id != "sha256" else None
