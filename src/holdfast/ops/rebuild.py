"""An artifact whose pack or recipe is damaged, stored again as a plain file from any form that is whole."""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3

from holdfast import verified_artifact
from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, NameNotFound
from holdfast.format import layout, recipe
from holdfast.format.recipe import CHUNK_BYTES, Recipe
from holdfast.ids import new_nonce
from holdfast.ops.fsck_data import load
from holdfast.ops.setting_aside import put_right, set_aside
from holdfast.repository import Repository
from holdfast.verified_chunks import Chunks


def recipes_of(backend: Backend, digest: Digest) -> list[tuple[str, Recipe]]:
    """The recipes of an artifact that can be read and do not only say where its own blob is cut."""
    prefix, found = layout.recipes(digest), []
    for stat in backend.walk(prefix.rpartition("/")[0] + "/"):
        if stat.name.startswith(prefix):
            try:
                made_of = load(backend, stat.name)
            except HoldfastError:
                continue
            if not verified_artifact.is_own(made_of):
                found.append((stat.name, made_of))
    return found


def from_recipes(backend: Backend, digest: Digest) -> Iterator[bytes]:
    """The bytes of an artifact by the first of its recipes that makes them. Raises Corrupt."""
    for _, made_of in recipes_of(backend, digest):
        if _makes(backend, made_of):
            for piece in Chunks(backend, made_of).pieces():
                yield piece.data
            return
    raise Corrupt(f"no recipe makes {digest}", place=layout.recipes(digest))


def _makes(backend: Backend, made_of: Recipe) -> bool:
    try:
        for number in range(made_of.pieces()):
            Chunks(backend, made_of).piece(number)
    except HoldfastError:
        return False
    return True


def make_plain(repository: Repository, source: Repository | None, digest: Digest) -> None:
    """See that the artifact's own blob is there and whole, with its chunk list. Raises Corrupt."""
    backend = repository.backend
    if not _is_whole(backend, digest):
        _first(repository, source, digest)
    if not any(
        verified_artifact.is_own(made_of)
        for made_of in verified_artifact.recipes(backend, digest)[0]
    ):
        _cut(backend, digest)


def _is_whole(backend: Backend, digest: Digest) -> bool:
    from holdfast.verified import check_file

    try:
        check_file(backend, layout.blob(digest), digest)
    except Corrupt:
        return False
    return True


def _first(repository: Repository, source: Repository | None, digest: Digest) -> None:
    """Store the blob from the first form that is whole: by a recipe here, or whatever there is there."""
    name, problem = layout.blob(digest), Corrupt(f"nothing else makes {digest}", place="")
    try:
        put_right(repository.backend, name, from_recipes(repository.backend, digest), digest)
        return
    except Corrupt as error:
        problem = error
    if source is not None:
        try:
            put_right(
                repository.backend, name, verified_artifact.stream(source.backend, digest), digest
            )
            return
        except (Corrupt, NameNotFound) as error:
            problem = Corrupt(error.message, place=name)
    raise problem


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


def without_recipe(
    repository: Repository, source: Repository | None, artifact: Digest, name: str
) -> None:
    """Do without a recipe that is damaged. Raises Corrupt if nothing else makes the artifact."""
    make_plain(repository, source, artifact)
    set_aside(repository.backend, name)


def without_pack(repository: Repository, source: Repository | None, pack: Digest) -> None:
    """Store every artifact that needs the pack as a plain file, then set its recipes and the pack aside.

    Raises Corrupt if one of them cannot be had any more; those before it are plain files then."""
    backend, needing = repository.backend, []
    for stat in backend.walk(layout.RECIPES):
        try:
            made_of = load(backend, stat.name)
        except HoldfastError:
            continue
        if (pack, True) in made_of.homes:
            needing.append((stat.name, made_of.artifact))
    lost = []
    for _, artifact in needing:
        try:
            make_plain(repository, source, artifact)
        except Corrupt:
            lost.append(str(artifact))
    if lost:
        raise Corrupt(f"nothing else makes {', '.join(lost)}", place=layout.pack(pack))
    for name, _ in needing:
        set_aside(backend, name)
    set_aside(backend, layout.pack(pack))
