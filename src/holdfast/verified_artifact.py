"""An artifact by its digest, wherever its bytes lie: in its own blob, in packs as a recipe says, or in the
bundle of a directory.

    size_of   how long it is                      find      its recipe, by choice the shortest
    receive   all bytes, piece by piece, checked   read      all bytes, checked
    open_file a seekable file, ranges checked      check     read everything, hold the recipes against it

The blob comes first, and where one form is damaged another serves. Nothing leaves here that was not held
against the sha256 or the id of a chunk.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from blake3 import blake3

from holdfast import absent, bundles
from holdfast.ahead import read_ahead
from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch, HoldfastError, NameNotFound
from holdfast.format import layout, recipe
from holdfast.format.recipe import CHUNK_BYTES, Recipe
from holdfast.verified import LONG_BYTES, VerifiedFile, again, read_blob, stream_blob
from holdfast.verified_chunks import Chunks
from holdfast.verified_ranges import Ranges

T = TypeVar("T")


def recipes(backend: Backend, digest: Digest) -> tuple[list[Recipe], HoldfastError | None]:
    """(the recipes of an artifact that can be read, what is wrong with the first that cannot)."""
    found, problem = [], None
    for stat in backend.walk(layout.recipes(digest).rpartition("/")[0] + "/"):
        bundle = stat.name.endswith(layout.BUNDLE)
        if stat.name.startswith(layout.recipes(digest)) and not bundle:
            try:
                found.append(again(lambda name=stat.name: _load(backend, name, digest)))  # type: ignore[misc]
            except NameNotFound:  # a collector was quicker
                continue
            except HoldfastError as error:
                problem = problem or error
    return found, problem


def _load(backend: Backend, name: str, digest: Digest) -> Recipe:
    made_of = recipe.decode(backend.get(name), place=name)
    if made_of.artifact != digest:
        raise Corrupt(f"{name} is the recipe of another artifact", place=name)
    return made_of


def find(backend: Backend, digest: Digest) -> Recipe | None:
    """The recipe that stores the artifact in the fewest bytes, None if there is none. Raises Corrupt if
    all there are are damaged."""
    found, problem = recipes(backend, digest)
    if not found and problem:
        raise problem
    if len(found) > 1:  # one that a collector has made void is none
        found = [made_of for made_of in found if whole(backend, made_of)] or found
    return best(found) if found else None


def best(found: Sequence[Recipe]) -> Recipe:
    """That one which stores the artifact in the fewest bytes."""
    return min(found, key=lambda made_of: (stored_bytes(made_of), is_own(made_of)))


def is_own(made_of: Recipe) -> bool:
    """Whether it is the recipe of a plain artifact: the pieces of its own blob."""
    return made_of.homes == ((made_of.artifact, False),)


def layouts(backend: Backend, digest: Digest, size_bytes: int | None = None) -> set[str]:
    """`plain` if the artifact has its blob (of that size), with the recipe it needs; `packed` if it has
    another recipe and all files that one names are there."""
    size, found = has_blob(backend, digest), recipes(backend, digest)[0]
    own = any(is_own(made_of) for made_of in found)
    plain = size is not None and size_bytes in (None, size)
    packed = any(
        made_of.homes != ((digest, False),) and whole(backend, made_of) for made_of in found
    )
    intact = plain and (own or (size or 0) <= CHUNK_BYTES)
    return ({"plain"} if intact else set()) | ({"packed"} if packed else set())


def is_whole(backend: Backend, digest: Digest, size_bytes: int | None = None) -> bool:
    """Whether the artifact can be read: all files of one way to do so are in the store."""
    size = has_blob(backend, digest)
    if size is not None and size_bytes in (None, size):
        return True
    return any(whole(backend, made_of) for made_of in recipes(backend, digest)[0])


def whole(backend: Backend, made_of: Recipe) -> bool:
    """Whether every file that the recipe names is in the store."""
    try:
        for home, packed in made_of.homes:
            backend.stat((layout.pack if packed else layout.blob)(home))
    except NameNotFound:
        return False
    return True


def stored_bytes(made_of: Recipe) -> int:
    """The bytes that its chunks take, bases included."""
    return int(made_of.columns["lengths"].sum(dtype="int64"))


def has_blob(backend: Backend, digest: Digest) -> int | None:
    """The size of the artifact's own blob, None if it has none."""
    try:
        return backend.stat(layout.blob(digest)).size_bytes
    except NameNotFound:
        return None


def size_of(backend: Backend, digest: Digest) -> int | None:
    """The length of the artifact, None if the store has nothing of it. Raises Corrupt."""
    size = has_blob(backend, digest)
    if size is None:
        made_of = find(backend, digest)
        size = made_of.size_bytes if made_of else None
    if size is None:
        bundle = bundles.find(backend, digest)
        size = bundle.size_of(digest) if bundle else None
    return size


def receive(
    backend: Backend,
    digest: Digest,
    size_bytes: int | None,
    take: Callable[[Iterator[Any]], T],
) -> T:
    """What `take` makes of all bytes in pieces. It is called again, with all of them, where some were
    damaged: read once more, or from another form that the store has of the artifact. So it must begin anew
    each time, and trust nothing before the pieces have ended.

    Raises Corrupt or DigestMismatch, naming what is damaged, when no form is whole; NotSynced when that is
    why there is none."""

    def blob() -> Iterator[Any]:
        pieces = stream_blob(backend, digest, size_bytes)
        return read_ahead(pieces) if (size_bytes or LONG_BYTES) >= LONG_BYTES else pieces

    try:
        return again(lambda: take(blob()))
    except Corrupt as error:
        return _otherwise(backend, digest, size_bytes, take, error)


def read(backend: Backend, digest: Digest, size_bytes: int | None = None) -> bytes:
    """All bytes, of whatever form is whole. Raises Corrupt or DigestMismatch."""
    try:
        if (size_bytes or 0) < LONG_BYTES:
            return read_blob(backend, digest, size_bytes)
        return again(lambda: _joined(stream_blob(backend, digest, size_bytes)))
    except Corrupt as error:
        return _otherwise(backend, digest, size_bytes, _joined, error)


def _joined(pieces: Iterator[Any]) -> bytes:
    """The pieces, each copied once and let go of, as they come: a list of them would take as much again."""
    whole = io.BytesIO()
    for piece in pieces:
        whole.write(piece)
    return whole.getvalue()


def _otherwise(
    backend: Backend,
    digest: Digest,
    size_bytes: int | None,
    take: Callable[[Iterator[Any]], T],
    problem: Corrupt,
) -> T:
    """As `receive`, of an artifact whose blob is missing, which is no fault, or damaged. Raises NotSynced if
    it was left out on purpose."""
    missing = isinstance(problem.__cause__, NameNotFound)
    for form in _packed(backend, digest, size_bytes):
        try:
            return again(lambda form=form: take(form()))  # type: ignore[misc]
        except Corrupt as error:
            problem, missing = (error, False) if missing else (problem, False)
    if missing:
        absent.refuse(backend, digest)
    raise problem


def _packed(
    backend: Backend, digest: Digest, size_bytes: int | None
) -> Iterator[Callable[[], Iterator[Any]]]:
    """Every way to make the artifact of chunks, the shortest first. Raises Corrupt if a recipe is damaged
    and there is no other."""
    found, problem = recipes(backend, digest)
    for made_of in sorted(found, key=stored_bytes):
        if not is_own(made_of):
            yield partial(_unpacked, backend, made_of, size_bytes, found)
    bundle = bundles.find(backend, digest) if not found else None
    if bundle:
        yield lambda: iter([bundle.read(digest)])
    elif problem and not found:
        raise problem


def _unpacked(
    backend: Backend,
    made_of: Recipe,
    size_bytes: int | None,
    twins: Sequence[Recipe] | None = None,
) -> Iterator[Any]:
    place = layout.recipes(made_of.artifact)
    if size_bytes is not None and size_bytes != made_of.size_bytes:
        raise DigestMismatch(
            f"{place}* is damaged: it makes {made_of.size_bytes} bytes of {made_of.artifact} and "
            f"should make {size_bytes}",
            place=place,
            expected=str(made_of.artifact),
            found="",
        )
    sha = hashlib.sha256()
    for piece in Chunks(backend, made_of, twins).pieces():
        sha.update(piece.data)
        yield piece.data
    found = Digest(sha.hexdigest())
    if found != made_of.artifact:
        raise DigestMismatch(
            f"{place}* is damaged: what it makes has the digest {found} and should have "
            f"{made_of.artifact}",
            place=place,
            expected=str(made_of.artifact),
            found=str(found),
        )


def open_file(backend: Backend, digest: Digest, size_bytes: int) -> io.BufferedReader | io.BytesIO:
    """A seekable binary file, each piece verified before it is handed out. Raises Corrupt."""
    found, problem = recipes(backend, digest) if size_bytes > CHUNK_BYTES else ([], None)
    if problem and not found:
        raise problem
    if not found:
        return io.BytesIO(read(backend, digest, size_bytes))
    return io.BufferedReader(VerifiedFile(Chunks(backend, best(found), found)))


def ranges(backend: Backend, digest: Digest) -> Ranges:
    """The artifact, to be read in ranges. Raises Corrupt."""
    found, problem = recipes(backend, digest)
    if problem and not found:
        raise problem
    made_of = best(found) if found else None
    return Ranges(backend, digest, made_of, twins=found, whole=lambda: read(backend, digest))


def check(backend: Backend, digest: Digest, size_bytes: int | None = None) -> None:
    """Read all of an artifact, in each form it is stored in; of a directory also the files that are bundled.
    Raises Corrupt."""
    found, problem = recipes(backend, digest)
    bundled, other = bundles.load(backend, digest)
    if problem or other:
        raise problem or other  # type: ignore[misc]
    own = [made_of for made_of in found if is_own(made_of)]
    if has_blob(backend, digest) is not None or (own and len(own) == len(found)):
        _check_blob(backend, digest, size_bytes, own)
    elif not found and not bundled:  # else a directory whose document is not there yet
        read(backend, digest, size_bytes)
    for made_of in found:
        if made_of not in own:
            for _ in _unpacked(backend, made_of, size_bytes):
                pass
    for made_of in bundled:
        bundles.check(backend, made_of)


def _check_blob(
    backend: Backend, digest: Digest, size_bytes: int | None, own: list[Recipe]
) -> None:
    """Read a blob against its sha256, and the ids of its recipes against the same bytes."""
    for _ in read_ahead(stream_blob(backend, digest, size_bytes)):
        pass
    name = layout.blob(digest)
    for made_of in own:
        for number in range(len(made_of)):
            chunk = made_of.chunk(number)
            if blake3(backend.get_range(name, chunk.offset, chunk.length)).digest() != chunk.id:
                raise Corrupt(
                    f"the recipe of {digest} is damaged: its piece at byte {chunk.offset} has another "
                    "id than the bytes that are stored; remove the recipe, it is written again with "
                    "the artifact",
                    place=layout.recipes(digest),
                )
