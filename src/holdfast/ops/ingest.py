"""One artifact in: cut, hashed, shared, encoded, and published in an order that no crash can hurt.

    stored = ingest.put(backend, source, window, Wanted(layout="auto"))
    stored.digest, stored.size_bytes, stored.packed, stored.new_bytes

The bytes are read once, front to back: that pass makes the sha256 of the whole, the pieces and their ids,
whatever happens to the file meanwhile. Other threads look up or encode the pieces. (What goes before, a look
at the container and a sample, only guides what the pass does.) Packs or the blob are published when the
digest is known, then the recipe; naming the artifact in a manifest is the caller's affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from blake3 import blake3

from holdfast import blobs, chunking, codecs
from holdfast.ahead import in_order
from holdfast.backend.base import Backend
from holdfast.chunking import Piece
from holdfast.digest import Digest
from holdfast.errors import DigestMismatch, InvalidValue, NameRetired
from holdfast.format import layout, pack, recipe
from holdfast.format.recipe import CHUNK_BYTES, Builder, Chunk, Recipe
from holdfast.ids import new_nonce
from holdfast.ops.sources import Source
from holdfast.ops.window import Window, leads
from holdfast.packs import PackWriter, target_bytes
from holdfast.verified_artifact import find, has_blob, is_own, layouts, recipes
from holdfast.verified_chunks import Bytes

Progress = Callable[[int, int], None]
LAYOUTS = ("auto", "plain", "packed")
MIN_PACKED_BYTES = CHUNK_BYTES  # up to here a blob is one file, and packed would be two
WORTH = 0.95  # packed when it takes at most this share


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to store: `layout` is auto, plain or packed; `compact` spends twice the time for some percent;
    `again` stores also what the store has in this layout already. With `expect`, nothing is published unless
    the bytes have that digest."""

    layout: str = "auto"
    compact: bool = False
    again: bool = False
    expect: Digest | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InvalidValue(f"a layout is {', '.join(LAYOUTS)}, not {self.layout!r}")


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored; `new_bytes` is what that added to blobs and packs, 0 if it was there; `recipe` says
    where its pieces are."""

    digest: Digest
    size_bytes: int
    packed: bool
    new_bytes: int
    recipe: Recipe | None = None


@dataclass(frozen=True, slots=True)
class _Made:
    """A piece after the work on it: known, or encoded against `bases` (ids)."""

    id: bytes
    size_bytes: int
    known: tuple[Recipe, int] | None = None
    codec: int = codecs.RAW
    payload: Any = b""
    base: int | None = None  # the number in the recipe of the base, if that was used
    companion: bytes | None = None  # the id of the other piece of this artifact, if that was


@dataclass(frozen=True, slots=True)
class _Row:
    """A chunk that was written, until its pack has a name."""

    made: _Made
    place: int
    packed: pack.Packed


def is_large(size_bytes: int, wanted: Wanted) -> bool:
    """Whether an artifact of that size may be packed, and is worth a look at what it may share."""
    return size_bytes > MIN_PACKED_BYTES or (wanted.layout == "packed" and size_bytes > 0)


def put(
    backend: Backend,
    source: Source,
    window: Window,
    wanted: Wanted,
    progress: Progress | None = None,
) -> Stored:
    """Store `source`; packed where the name of its blob was collected once, and is not used again.

    Raises InvalidValue if it ends early, BackendError."""
    try:
        return _put(backend, source, window, wanted, progress)
    except NameRetired:
        if wanted.layout == "packed":
            raise
        return _put(backend, source, window, replace(wanted, layout="packed"), progress)


def _put(
    backend: Backend,
    source: Source,
    window: Window,
    wanted: Wanted,
    progress: Progress | None,
) -> Stored:
    if not is_large(source.size_bytes, wanted):
        data = source.get(0, source.size_bytes)
        return Stored(*blobs.put_bytes(backend, data), False, len(data))
    one = _Ingest(backend, source, window, wanted, progress)
    try:
        return one.packed() if one.shall_be_packed() else one.plain()
    except chunking.Ended as error:
        raise InvalidValue(f"{error}; store it again when nothing writes to it") from error


class _Ingest:
    """The work on one artifact."""

    def __init__(
        self,
        backend: Backend,
        source: Source,
        window: Window,
        wanted: Wanted,
        progress: Progress | None,
    ) -> None:
        self._backend, self._source, self._window = backend, source, window
        self._wanted, self._progress = wanted, progress
        self._found = chunking.look(source.get, source.size_bytes)
        self._leads = leads(self._found)
        self._follows = chunking.companions(self._found)
        self._spans = {span.name: span.start for span in self._found.spans}
        self._sha = hashlib.sha256()

    def shall_be_packed(self) -> bool:
        size = self._source.size_bytes
        if self._wanted.layout != "auto":
            return self._wanted.layout == "packed"
        base = self._window.base
        if base is not None and any(packed for _, packed in base.recipe.homes):
            return True  # it paid the last time
        return self._estimate() <= WORTH * size

    # Packed.

    def packed(self) -> Stored:
        """Known chunks by reference, all others into packs, then the recipe."""
        packs = PackWriter(self._backend, target_bytes(self._source.size_bytes))
        try:
            rows, order = self._write(packs)
            digest = self._digest()
            if not self._wanted.again and self._is_stored(digest):
                return self._there(digest)
            made_of = self._recipe(digest, rows, order, packs.publish())
        finally:
            packs.abort()
        self._publish_recipe(made_of)
        return Stored(digest, made_of.size_bytes, True, packs.stored_bytes, made_of)

    def _write(self, packs: PackWriter) -> tuple[dict[bytes, _Made | _Row], list[bytes]]:
        """({id: known or written chunk}, the ids of all pieces in order)."""
        rows: dict[bytes, _Made | _Row] = {}
        order = []
        for made in in_order(self._make, self._pieces()):
            order.append(made.id)
            if made.id in rows:
                continue
            rows[made.id] = made if made.known else self._add(packs, made, rows)
        return rows, order

    def _add(self, packs: PackWriter, made: _Made, rows: dict[bytes, _Made | _Row]) -> _Row:
        bases = [] if made.base is None else [self._base_id(made.base)]
        if made.companion is not None:
            if made.companion not in rows:
                raise InvalidValue("the artifact was changed while it was read: store it again")
            bases.append(made.companion)
        place, packed = packs.add(made.id, made.size_bytes, made.codec, bases, made.payload)
        return _Row(_without_payload(made), place, packed)

    def _base_id(self, number: int) -> bytes:
        base = self._window.base
        return base.recipe.ids[32 * number : 32 * number + 32] if base else b""

    def _make(self, item: tuple[Piece, Bytes]) -> _Made:
        """Look a piece up, or encode it. On several threads."""
        piece, plain = item
        id_ = blake3(plain.data).digest()
        known = self._window.find(id_)
        if known:
            return _Made(id_, piece.size_bytes, known)
        base, companion = self._base(piece), self._companion(piece)
        offered = [plain for _, plain in (base, companion) if plain is not None]
        made = codecs.encode(plain, dtype=piece.dtype, bases=offered, compact=self._wanted.compact)
        used = [offered[place] for place in made.bases]
        return _Made(
            id_, piece.size_bytes, None, made.codec, made.payload,
            base[0] if any(plain is base[1] for plain in used) else None,
            companion[0] if any(plain is companion[1] for plain in used) else None,
        )  # fmt: skip

    def _base(self, piece: Piece) -> tuple[int | None, Bytes | None]:
        """The same piece of the earlier version."""
        base = self._window.base
        if base is None or piece.name is None:
            return None, None
        number = base.number(piece, self._leads[piece.name])
        return (None, None) if number is None else (number, base.plain(number))

    def _companion(self, piece: Piece) -> tuple[bytes | None, Any]:
        """What the piece may follow as an average follows its weights: it has gone by already."""
        name = self._follows.get(piece.name or "")
        if name is None:
            return None, None
        plain = self._source.get(self._spans[name] + piece.at, piece.size_bytes)
        if len(plain) != piece.size_bytes:
            return None, None
        return blake3(plain).digest(), plain

    def _recipe(
        self,
        digest: Digest,
        rows: dict[bytes, _Made | _Row],
        order: list[bytes],
        packs: list[Digest],
    ) -> Recipe:
        builder = Builder()
        base = self._window.base
        for id_, row in rows.items():
            if isinstance(row, _Made):
                if row.known:
                    builder.take(*row.known)
                continue
            made, where = row.made, row.packed
            bases = []
            if base is not None and made.base is not None:
                bases.append(builder.take(base.recipe, made.base))
            if made.companion is not None:
                bases.append(_listed(builder, made.companion))
            builder.add(
                Chunk(
                    id_, made.size_bytes, packs[row.place], True, where.offset, where.length,
                    made.codec, tuple(bases),
                )
            )  # fmt: skip
        for id_ in order:
            builder.append(_listed(builder, id_))
        return builder.build(digest, self._found.tensors)

    # Plain.

    def plain(self) -> Stored:
        """The bytes as they are, and a recipe with the pieces that later versions may share."""
        staged = self._backend.stage()
        builder, chunks = Builder(), []
        try:
            for piece, id_ in in_order(_identify, self._pieces(staged.write)):
                chunks.append((piece, id_))
            digest, size = self._digest(), self._source.size_bytes
            if self._is_stored(digest):
                return self._there(digest)
            name = layout.blob(digest)
            new = staged.commit(name)
            if not new and blobs.size_there(self._backend, name) != size:
                staged.replace(name)  # a damaged one, and these are its bytes
        finally:
            staged.abort()
        for piece, id_ in chunks:
            builder.append(
                builder.add(
                    Chunk(id_, piece.size_bytes, digest, False, piece.start, piece.size_bytes)
                )
            )
        made_of = builder.build(digest, self._found.tensors)
        if size > MIN_PACKED_BYTES and not self._has_own_recipe(digest):
            self._publish_recipe(made_of)
        return Stored(digest, size, False, size if new else 0, made_of)

    def _has_own_recipe(self, digest: Digest) -> bool:
        return any(is_own(made_of) for made_of in recipes(self._backend, digest)[0])

    # Both.

    def _pieces(self, write: Callable[[Any], None] | None = None) -> Iterator[tuple[Piece, Bytes]]:
        """The pieces, hashed as they go by, each byte read once."""
        size = self._source.size_bytes
        for piece, data in chunking.pieces(self._source.get, size, self._found):
            self._sha.update(data.data)
            if write:
                write(data.data)
            yield piece, data
            if self._progress:
                self._progress(piece.start + piece.size_bytes, size)

    def _digest(self) -> Digest:
        found, wanted = Digest(self._sha.hexdigest()), self._wanted.expect
        if wanted and found != wanted:
            raise DigestMismatch(
                f"{wanted} is damaged: its pieces make {found}",
                place=layout.recipes(wanted),
                expected=str(wanted),
                found=str(found),
            )
        return found

    def _there(self, digest: Digest) -> Stored:
        """What `put` says of what was stored before."""
        made_of = find(self._backend, digest)
        packed = has_blob(self._backend, digest) is None
        return Stored(digest, self._source.size_bytes, packed, 0, made_of)

    def _is_stored(self, digest: Digest) -> bool:
        """Whether the store has the artifact whole, in a layout that was asked for."""
        wanted = self._wanted.layout
        found = layouts(self._backend, digest, self._source.size_bytes)
        return bool(found if wanted == "auto" else found & {wanted})

    def _publish_recipe(self, made_of: Recipe) -> None:
        self._backend.create(layout.recipe(made_of.artifact, new_nonce()), recipe.encode(made_of))

    def _estimate(self) -> float:
        """About how many bytes the artifact would take packed, from some pieces of it."""
        taken, seen = 0, 0
        for piece, data in chunking.sample(self._source.get, self._source.size_bytes, self._found):
            made = self._make((piece, data))
            taken += 0 if made.known else len(memoryview(made.payload)) + pack.head_bytes(1)
            seen += piece.size_bytes
        return taken / max(seen, 1) * self._source.size_bytes


def _identify(item: tuple[Piece, Bytes]) -> tuple[Piece, bytes]:
    piece, data = item
    return piece, blake3(data.data).digest()


def _without_payload(made: _Made) -> _Made:
    return _Made(made.id, made.size_bytes, None, made.codec, b"", made.base, made.companion)


def _listed(builder: Builder, id_: bytes) -> int:
    number = builder.number(id_)
    if number is None:
        raise InvalidValue("the artifact was changed while it was read: store it again")
    return number
