"""An artifact whose pack or recipe is damaged, stored again as a plain file from any form that is whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from blake3 import blake3

from holdfast import verified, verified_artifact
from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError
from holdfast.format import kinds, layout, recipe
from holdfast.format.recipe import CHUNK_BYTES, Recipe
from holdfast.ids import new_nonce
from holdfast.ops.artifacts import directory_entries
from holdfast.ops.fsck_data import load
from holdfast.ops.setting_aside import put_right, set_aside
from holdfast.repository import Repository


def put_blob(backend: Backend, source: Backend, digest: Digest) -> None:
    """Store the blob of an artifact, from whatever form of it is whole in `source`, in place of what is
    there. Raises Corrupt when none is."""

    def take(pieces: Iterator[Any]) -> None:
        put_right(backend, layout.blob(digest), pieces, digest)

    verified_artifact.receive(source, digest, None, take)


def is_whole(backend: Backend, name: str, digest: Digest) -> bool:
    """Is the file there, and has it the digest?"""
    try:
        verified.check_file(backend, name, digest)
    except Corrupt:
        return False
    return True


def make_plain(repository: Repository, source: Repository | None, digest: Digest) -> None:
    """See that the artifact's own blob is there and whole, with its chunk list. Raises Corrupt."""
    backend = repository.backend
    if not is_whole(backend, layout.blob(digest), digest):
        try:
            put_blob(backend, backend, digest)
        except Corrupt:
            if source is None:
                raise
            put_blob(backend, source.backend, digest)
    if not any(map(verified_artifact.is_own, verified_artifact.recipes(backend, digest)[0])):
        _cut(backend, digest)


def _cut(backend: Backend, digest: Digest) -> None:
    """Write the chunk list of a blob that has none, so that ranges of it can be verified."""
    size = backend.stat(layout.blob(digest)).size_bytes
    if size <= CHUNK_BYTES:
        return
    ids = [
        blake3(backend.get_range(layout.blob(digest), at, CHUNK_BYTES)).digest()
        for at in range(0, size, CHUNK_BYTES)
    ]
    data = recipe.encode(recipe.plain(digest, size, ids))
    backend.create(layout.recipe(digest, new_nonce()), data)


def without_recipe(repository: Repository, source: Repository | None, name: str) -> None:
    """Store what a damaged recipe makes as plain files, and set it aside. Raises Corrupt if nothing else
    makes them; those before are plain files then."""
    artifact = kinds.artifact_of(name)
    made = [artifact]
    if kinds.is_bundle(name):
        entries = directory_entries(repository, artifact)
        made = [Digest.from_raw(entry.digest) for entry in entries if entry.digest is not None]
    _all_plain(repository, source, made, name)
    set_aside(repository.backend, name)


def without_pack(repository: Repository, source: Repository | None, pack: Digest) -> None:
    """Store every artifact that needs the pack as a plain file, then set its recipes and the pack aside.

    Raises Corrupt if one of them cannot be had any more; the others are plain files then."""
    backend = repository.backend
    needing = dict(_needing(backend, pack))
    made = (digest for made_of in needing.values() for digest in _makes(made_of))
    _all_plain(repository, source, made, layout.pack(pack))
    for name in needing:
        set_aside(backend, name)
    set_aside(backend, layout.pack(pack))


def _needing(backend: Backend, pack: Digest) -> Iterator[tuple[str, Recipe]]:
    for stat in backend.walk(layout.RECIPES):
        try:
            made_of = load(backend, stat.name)
        except HoldfastError:
            continue
        if (pack, True) in made_of.homes:
            yield stat.name, made_of


def _makes(made_of: Recipe) -> Iterable[Digest]:
    return [made_of.artifact] if made_of.files is None else made_of.files.digests()


def _all_plain(
    repository: Repository, source: Repository | None, digests: Iterable[Digest], place: str
) -> None:
    lost = []
    for digest in dict.fromkeys(digests):
        try:
            make_plain(repository, source, digest)
        except Corrupt:
            lost.append(str(digest))
    if lost:
        raise Corrupt(f"nothing else makes {', '.join(lost[:3])}", place=place)
