"""What a name in a store stands for, by its shape alone. See docs/format/layout.md."""

from __future__ import annotations

import re

from holdfast.digest import Digest
from holdfast.format import frame, layout, pack, trailer

STORE = "store"
BLOB = "blob"
PACK = "pack"
RECIPE = "recipe"
SEGMENT = "segment"
SPOOL = "spool"
ENTRY = "entry"
HEAD = "head"
NAMES = "names"
SIGNATURE = "signature"
PROBE = "probe"
QUARANTINE = "quarantine"
FOREIGN = "foreign"

_HASHED = r"([0-9a-f]{2})/\1[0-9a-f]{62}"
_RUN = r"runs/[^/]+"
_RANK = r"(?:0|[1-9][0-9]{0,9})"
_SHAPES = [
    (STORE, r"store\.json"),
    (BLOB, rf"blobs/sha256/{_HASHED}"),
    (PACK, rf"packs/sha256/{_HASHED}"),
    (RECIPE, rf"recipes/sha256/{_HASHED}\.[0-9a-f]{{32}}(?:\.files)?"),
    (SEGMENT, rf"{_RUN}/segments/[0-9a-f]{{64}}\.seg"),
    (SPOOL, rf"{_RUN}/spool/[0-9a-f]{{8}}-[0-9]{{6,}}\.spool"),
    (ENTRY, rf"{_RUN}/(?:manifest|ranks/(?P<rank>{_RANK}))/[0-9]{{8}}"),
    (ENTRY, r"(?:experiments|syncs|absent)/[^/]+/[0-9]{8}"),
    (ENTRY, r"(?:aliases|snapshots)/.+/[0-9]{8}"),
    (ENTRY, r"gc/[0-9]{8}"),
    (NAMES, r"gc/names/[0-9]{8}\.[0-9a-f]{64}"),
    (NAMES, r"syncs/[^/]+/names/[0-9a-f]{64}"),
    (HEAD, r"heads/[a-z]+/.+@[0-9]{8}"),
    (SIGNATURE, r"signatures/[0-9a-f]{64}/[0-9a-f]{64}"),
    (PROBE, r"probe/.+"),
    (QUARANTINE, r"quarantine/.+"),
]
_PATTERNS = [(kind, re.compile(pattern)) for kind, pattern in _SHAPES]

HEAD_BYTES = b"holdfast head\n"  # what every head holds
# The fewest bytes that a whole file of a kind has.
LEAST_BYTES = {
    STORE: 2,
    PACK: pack.FRONT_BYTES + trailer.TRAILER_BYTES,
    RECIPE: frame.HEADER_BYTES + frame.TRAILER_BYTES,
    SEGMENT: frame.HEADER_BYTES + trailer.TRAILER_BYTES,
    ENTRY: frame.HEADER_BYTES + frame.TRAILER_BYTES,
    SIGNATURE: frame.HEADER_BYTES + frame.TRAILER_BYTES,
}


def kind_of(name: str) -> str:
    """The kind of file that lies under `name`; FOREIGN for what no page of the format defines."""
    for kind, shape in _PATTERNS:
        if found := shape.fullmatch(name):
            rank = found.groupdict().get("rank")
            return FOREIGN if rank and layout.rank_number(rank) is None else kind
    return FOREIGN


def digest_of(name: str) -> Digest | None:
    """The digest that the bytes of a blob, a pack or a segment must have; None for any other name."""
    if kind_of(name) not in (BLOB, PACK, SEGMENT):
        return None
    return Digest(name.rpartition("/")[2].removesuffix(".seg"))


def artifact_of(name: str) -> Digest:
    """The artifact that a recipe makes, or the directory of a bundle, by the name of the recipe."""
    return Digest(name.rpartition("/")[2].partition(".")[0])


def is_bundle(name: str) -> bool:
    """Is a recipe that of the small files of a directory, and not of the artifact in its name?"""
    return name.endswith(layout.BUNDLE)
