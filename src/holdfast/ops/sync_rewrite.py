"""An artifact of which the target lacks some chunks only: those go into a new pack, as they are encoded.

Each is decoded and held against its id on the way. The target gets a recipe of its own, which says where
the chunks lie there. See docs/format/sync.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, InvalidValue, NameNotFound
from holdfast.format import layout, pack, recipe
from holdfast.format.recipe import Builder, Chunk, Recipe
from holdfast.ids import new_nonce
from holdfast.ops.ingest import Wanted, put
from holdfast.ops.reach import homes_of
from holdfast.ops.repack import Rebuilt
from holdfast.ops.sync_send import Meter
from holdfast.ops.window import Window
from holdfast.packs import PackWriter, target_bytes
from holdfast.repository import Repository
from holdfast.verified_chunks import Bytes, Chunks, decoded, home_of

_SPAN_BYTES = 4 << 20  # read at once
_GAP_BYTES = 64 << 10  # between two chunks, that are read rather than asked around


@dataclass(frozen=True, slots=True)
class Place:
    """A chunk as a recipe of the target has it."""

    made_of: Recipe
    number: int


class Rewriter:
    """Writes artifacts into new packs of the target. Not for several threads at once."""

    def __init__(self, source: Repository, target: Backend, meter: Meter) -> None:
        self._source = source
        self._target = target
        self._meter = meter
        self._known: dict[bytes, Place] = {}
        self._read: set[str] = set()

    def learn(self, names: Iterable[str]) -> None:
        """Take note of what these recipes of the target list. Damaged ones are left out."""
        for name in names:
            if name in self._read:
                continue
            self._read.add(name)
            try:
                self._enter(recipe.decode(self._target.get(name), place=name))
            except (HoldfastError, NameNotFound):
                continue

    def _enter(self, made_of: Recipe) -> None:
        for number in range(len(made_of)):
            id_ = made_of.ids[32 * number : 32 * number + 32]
            self._known.setdefault(id_, Place(made_of, number))

    def rewrite(self, digest: Digest, name: str, is_kept: Callable[[str], bool]) -> list[str]:
        """Bring an artifact by the source's recipe `name`, or as the blob of that name; `is_kept` says which
        packs and blobs the target has. Returns the names that the artifact rests on then. Raises Corrupt.
        """
        if name == layout.blob(digest):
            return self._whole(digest)
        try:
            made_of = recipe.decode(self._source.backend.get(name), place=name)
        except NameNotFound as error:
            raise Corrupt(f"{name} is missing", place=name) from error
        try:
            return self._rewritten(made_of, is_kept, self._known)
        except InvalidValue:  # what is known has too many bases one below the other
            return self._rewritten(made_of, is_kept, {})

    def _whole(self, digest: Digest) -> list[str]:
        """A plain artifact whose own name must not be used: it is packed."""
        rebuilt = Rebuilt(self._source, digest)
        self._meter.add(rebuilt.size_bytes)
        wanted, before = Wanted("packed", again=True, expect=digest), self._names(digest)
        stored = put(self._target, rebuilt, Window(self._target), wanted)
        found = [name for name in self._names(digest) if name not in before]
        return [*found, *(homes_of(stored.recipe) if stored.recipe else ())]

    def _names(self, digest: Digest) -> set[str]:
        folder = layout.recipes(digest).rpartition("/")[0] + "/"
        names = (stat.name for stat in self._target.walk(folder))
        return {name for name in names if name.startswith(layout.recipes(digest))}

    def _rewritten(
        self, made_of: Recipe, is_kept: Callable[[str], bool], known: dict[bytes, Place]
    ) -> list[str]:
        chunks = [made_of.chunk(number) for number in range(len(made_of))]
        new = [
            number
            for number, chunk in enumerate(chunks)
            if not is_kept(home_of(chunk)) and chunk.id not in known
        ]
        writer = PackWriter(self._target, target_bytes(made_of.size_bytes))
        try:
            placed = {}
            for number, stored in self._stored(made_of, new):
                chunk = chunks[number]
                bases = [chunks[base].id for base in chunk.bases]
                placed[number] = writer.add(chunk.id, chunk.size_bytes, chunk.codec, bases, stored)
            packs = writer.publish()
        finally:
            writer.abort()
        rebuilt = _rebuilt(made_of, chunks, placed, packs, is_kept, known)
        name = (layout.bundle if made_of.files else layout.recipe)(made_of.artifact, new_nonce())
        self._target.create(name, recipe.encode(rebuilt))
        self._enter(rebuilt)
        return [*homes_of(rebuilt), name]

    def _stored(self, made_of: Recipe, numbers: list[int]) -> Iterator[tuple[int, bytes]]:
        """(number, stored bytes) of these chunks, each decoded and held against its id."""
        source = self._source.backend
        plain: Callable[[int], Bytes] = lru_cache(16)(Chunks(source, made_of).chunk)
        for span in _spans([(number, made_of.chunk(number)) for number in numbers]):
            first = span[0][1]
            length = span[-1][1].offset + span[-1][1].length - first.offset
            data = _range(source, home_of(first), first.offset, length, made_of.artifact)
            for number, chunk in span:
                stored = data[chunk.offset - first.offset :][: chunk.length]
                bases = [plain(base) for base in chunk.bases]
                decoded(chunk, stored, bases, made_of.artifact)
                self._meter.add(len(stored))
                yield number, stored


def _range(source: Backend, name: str, offset: int, length: int, artifact: Digest) -> bytes:
    try:
        return source.get_range(name, offset, length)
    except NameNotFound as error:
        raise Corrupt(
            f"{name} is missing from the store: {artifact} needs it", place=name
        ) from error


def _spans(chunks: list[tuple[int, Chunk]]) -> Iterator[list[tuple[int, Chunk]]]:
    """The chunks in rows that lie close together in one file, each to be read at once."""
    row: list[tuple[int, Chunk]] = []
    for number, chunk in sorted(chunks, key=lambda c: (c[1].packed, c[1].home, c[1].offset)):
        if row:
            first, last = row[0][1], row[-1][1]
            gap = chunk.offset - last.offset - last.length
            whole = chunk.offset + chunk.length - first.offset
            far = gap > _GAP_BYTES or whole > _SPAN_BYTES
            if (chunk.home, chunk.packed) != (first.home, first.packed) or far:
                yield row
                row = []
        row.append((number, chunk))
    if row:
        yield row


def _rebuilt(
    made_of: Recipe,
    chunks: list[Chunk],
    placed: dict[int, tuple[int, pack.Packed]],
    packs: list[Digest],
    is_kept: Callable[[str], bool],
    known: dict[bytes, Place],
) -> Recipe:
    """The recipe of the same artifact over the files of the target."""
    builder, numbers = Builder(), dict[int, int]()
    for number, chunk in enumerate(chunks):
        bases = tuple(numbers[base] for base in chunk.bases)
        if number in placed:
            which, packed = placed[number]
            there: dict[str, Any] = {"home": packs[which], "packed": True, "offset": packed.offset}
            numbers[number] = builder.add(replace(chunk, bases=bases, **there))
        elif is_kept(home_of(chunk)):
            numbers[number] = builder.add(replace(chunk, bases=bases))
        else:
            place = known[chunk.id]
            numbers[number] = builder.take(place.made_of, place.number)
    for number in made_of.order.tolist():
        builder.append(numbers[number])
    return builder.build(made_of.artifact, made_of.tensors, made_of.files)
