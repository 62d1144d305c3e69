"""How to rebuild an artifact from chunks, each with its own id, so that a range can be verified.

Kind letter 'R'. Version 1 is the recipe of an artifact that lies plain in one blob (recipe_plain.py).
Version 2 lists chunks in columns: where each lies, in a pack or in a plain blob, how it is encoded, and
the bases that decoding it needs, which are listed before it. So a recipe needs no other recipe, and
cannot hold a cycle. Version 3 is a bundle: it rebuilds many small files, those of a directory, from chunks
that they share (recipe_files.py). See docs/format/recipe.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.digest import Digest
from holdfast.errors import Corrupt, InvalidValue
from holdfast.format import frame, packing, recipe_check, recipe_files, recipe_plain
from holdfast.format.recipe_check import COLUMNS, MAX_DEPTH, NONE, RAW
from holdfast.format.recipe_files import Bundled
from holdfast.format.recipe_plain import CHUNK_BYTES
from holdfast.format.tensors import Tensor, pack_tensors, unpack_tensors

__all__ = [
    "CHUNK_BYTES",
    "MAX_DEPTH",
    "NONE",
    "RAW",
    "Builder",
    "Chunk",
    "Recipe",
    "decode",
    "encode",
    "plain",
]

KIND = b"R"
VERSION = 2
NEWEST = recipe_files.VERSION


@dataclass(frozen=True, slots=True)
class Chunk:
    """`size_bytes` plain bytes with the blake3 `id`, stored as `length` bytes of `home` at `offset`.

    `home` is the digest of a pack if `packed`, else of a blob. `bases` are the numbers of the chunks
    that its codec needs: at most two, each less than the number of this chunk."""

    id: bytes
    size_bytes: int
    home: Digest
    packed: bool
    offset: int
    length: int
    codec: int = RAW
    bases: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """`order` says which chunks, one behind the other, are the artifact: piece k is chunk `order[k]`
    and begins at byte `starts[k]`; `starts` has the size of the artifact as its last number.

    That of a bundle has `files`: `artifact` is the directory they belong to then, and `size_bytes` the
    length of all pieces."""

    artifact: Digest
    size_bytes: int
    homes: tuple[tuple[Digest, bool], ...]  # (digest, whether it is a pack)
    ids: bytes
    columns: dict[str, NDArray[Any]]
    order: NDArray[np.uint32]
    tensors: tuple[Tensor, ...] = ()
    files: Bundled | None = None
    starts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        starts = np.zeros(len(self.order) + 1, np.int64)
        np.cumsum(self.columns["sizes"][self.order], dtype=np.int64, out=starts[1:])
        object.__setattr__(self, "starts", starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and _body(self) == _body(other)

    def __hash__(self) -> int:
        return hash(self.artifact)

    def __len__(self) -> int:
        """How many chunks it lists, bases that are no part of the artifact among them."""
        return len(self.columns["sizes"])

    def chunk(self, number: int) -> Chunk:
        size, home, offset, length, codec, *pair = (int(c[number]) for c in self.columns.values())
        bases = tuple(base for base in pair if base != NONE)
        id_ = self.ids[32 * number : 32 * number + 32]
        return Chunk(id_, size, *self.homes[home], offset, length, codec, bases)

    def piece(self, index: int) -> Chunk:
        """The chunk that is piece `index` of the artifact."""
        return self.chunk(int(self.order[index]))

    def pieces(self) -> int:
        return len(self.order)

    def piece_at(self, offset: int) -> int:
        """Which piece holds byte `offset` of the artifact, which must not lie behind its end."""
        return int(np.searchsorted(self.starts, offset, side="right")) - 1

    def depths(self) -> NDArray[np.int64]:
        """For each chunk, how many bases lie behind each other below it; 0 if it needs none."""
        return recipe_check.depths(self.columns["first"], self.columns["second"])


def plain(artifact: Digest, size_bytes: int, ids: Sequence[bytes]) -> Recipe:
    """The recipe of an artifact that lies whole in its own blob, cut every CHUNK_BYTES."""
    sizes = [min(CHUNK_BYTES, size_bytes - at) for at in range(0, size_bytes, CHUNK_BYTES)]
    if len(sizes) != len(ids):
        raise InvalidValue(f"{size_bytes} bytes have {len(sizes)} pieces, not {len(ids)}")
    spans = [(artifact, 0, sizes, b"".join(ids))] if sizes else []
    return _plain(recipe_plain.Plain(artifact, size_bytes, spans))


def _plain(read: recipe_plain.Plain) -> Recipe:
    """What a recipe of version 1 says, in columns."""
    homes = {blob: number for number, blob in enumerate(dict.fromkeys(s[0] for s in read.spans))}
    sizes = np.array([size for span in read.spans for size in span[2]], "<u4")
    where, offsets = [], []
    for blob, offset, lengths, _ in read.spans:
        where += [homes[blob]] * len(lengths)
        offsets += [offset + sum_ for sum_ in _sums(lengths)]
    none = np.full(len(sizes), NONE, "<u4")
    columns = {
        "sizes": sizes, "homes": np.array(where, "<u4"), "offsets": np.array(offsets, "<u8"),
        "lengths": sizes, "codecs": np.zeros(len(sizes), "u1"), "first": none, "second": none,
    }  # fmt: skip
    ids = b"".join(span[3] for span in read.spans)
    order = np.arange(len(sizes), dtype="<u4")
    return Recipe(
        read.artifact, read.size_bytes, tuple((b, False) for b in homes), ids, columns, order
    )


def _sums(lengths: list[int]) -> list[int]:
    """The sum of all lengths before each."""
    total, sums = 0, []
    for length in lengths:
        sums.append(total)
        total += length
    return sums


class Builder:
    """Puts a recipe together. A chunk that is there already is not listed again."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self._numbers: dict[bytes, int] = {}
        self._order: list[int] = []

    def number(self, id: bytes) -> int | None:
        """The number of the chunk with this id, if it is listed."""
        return self._numbers.get(id)

    def add(self, chunk: Chunk) -> int:
        """List `chunk`, whose bases are numbers that this builder gave. Returns its number."""
        if chunk.id not in self._numbers:
            self._numbers[chunk.id] = len(self._chunks)
            self._chunks.append(chunk)
        return self._numbers[chunk.id]

    def take(self, other: Recipe, number: int) -> int:
        """List chunk `number` of another recipe, and before it the bases it needs."""
        chunk = other.chunk(number)
        if chunk.id in self._numbers:
            return self._numbers[chunk.id]
        bases = tuple(self.take(other, base) for base in chunk.bases)
        return self.add(
            Chunk(
                chunk.id, chunk.size_bytes, chunk.home, chunk.packed, chunk.offset, chunk.length,
                chunk.codec, bases,
            )
        )  # fmt: skip

    def append(self, number: int) -> None:
        """The next piece of the artifact is chunk `number`."""
        self._order.append(number)

    def build(
        self, artifact: Digest, tensors: Sequence[Tensor] = (), files: Bundled | None = None
    ) -> Recipe:
        """The recipe. Raises InvalidValue if a reader would refuse it."""
        homes = list(dict.fromkeys((chunk.home, chunk.packed) for chunk in self._chunks))
        where = {home: number for number, home in enumerate(homes)}
        rows = [
            (
                c.size_bytes, where[c.home, c.packed], c.offset, c.length, c.codec,
                *(*c.bases, NONE, NONE)[:2],
            )
            for c in self._chunks
        ]  # fmt: skip
        found = zip(*rows, strict=True) if rows else [[]] * len(COLUMNS)
        columns = {
            name: np.array(column, dtype)
            for (name, dtype), column in zip(COLUMNS.items(), found, strict=True)
        }
        order = np.array(self._order, "<u4")
        size = int(columns["sizes"][order].sum(dtype=np.int64))
        ids = b"".join(chunk.id for chunk in self._chunks)
        recipe = Recipe(artifact, size, tuple(homes), ids, columns, order, tuple(tensors), files)
        try:
            recipe_check.check(recipe)
        except ValueError as error:
            raise InvalidValue(f"this recipe cannot be written: {error}") from error
        return recipe


def encode(recipe: Recipe) -> bytes:
    """The file of a recipe: version 1 if that can say it, so that older readers read it too."""
    spans = _spans(recipe)
    if spans is not None:
        body = recipe_plain.encode(recipe_plain.Plain(recipe.artifact, recipe.size_bytes, spans))
        return frame.wrap(KIND, recipe_plain.VERSION, body)
    version = VERSION if recipe.files is None else NEWEST
    return frame.wrap(KIND, version, packing.pack(_body(recipe)))


def _spans(recipe: Recipe) -> list[recipe_plain.Span] | None:
    """The spans of version 1, or None if it takes version 2 to say what `recipe` says."""
    columns, plain = recipe.columns, not any(packed for _, packed in recipe.homes)
    in_order = np.array_equal(recipe.order, np.arange(len(recipe)))
    if columns["codecs"].any() or not (plain and in_order) or recipe.tensors or recipe.files:
        return None
    own = recipe.homes == ((recipe.artifact, False),)
    if own and (columns["sizes"][:-1] != CHUNK_BYTES).any():
        return None  # of an artifact's own blob, older readers expect pieces of that size
    ends = columns["offsets"] + columns["lengths"]
    follows = (columns["offsets"][1:] == ends[:-1]) & (np.diff(columns["homes"]) == 0)
    edges = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(recipe)]
    return [
        (
            recipe.chunk(a).home,
            recipe.chunk(a).offset,
            columns["sizes"][a:b].tolist(),
            recipe.ids[32 * a : 32 * b],
        )
        for a, b in pairwise(edges)
        if b > a
    ]


def _body(recipe: Recipe) -> dict[str, Any]:
    body: dict[str, Any] = {name: recipe.columns[name].tobytes() for name in COLUMNS}
    if all((recipe.columns[name] == NONE).all() for name in ("first", "second")):
        body["first"] = body["second"] = b""
    if recipe.files is not None:
        body |= recipe_files.pack_files(recipe.files)
    return body | {
        "artifact": recipe.artifact.raw,
        "size": recipe.size_bytes,
        "home_ids": b"".join(digest.raw for digest, _ in recipe.homes),
        "home_kinds": bytes(packed for _, packed in recipe.homes),
        "ids": recipe.ids,
        "order": recipe.order.tobytes(),
        "tensors": pack_tensors(recipe.tensors),
    }


def decode(data: bytes, *, place: str) -> Recipe:
    """Read a recipe and check that it rebuilds exactly as many bytes as the artifact has.

    Raises Corrupt or UnsupportedFormat, naming `place`."""
    version, raw = frame.unwrap(KIND, data, place=place, max_version=NEWEST)
    body = packing.unpack(raw, place=place)
    read: Callable[[Any], Recipe] = _read
    if version == recipe_files.VERSION:
        read = lambda body: _read(body, recipe_files.unpack_files(body))  # noqa: E731
    if version == recipe_plain.VERSION:
        read = lambda body: _plain(recipe_plain.read(body))  # noqa: E731
    try:
        return read(body)
    except KeyError as error:
        raise Corrupt(f"{place} is damaged: it lacks the field {error}", place=place) from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Corrupt(f"{place} is damaged: {error}", place=place) from error


def _read(body: dict[str, Any], files: Bundled | None = None) -> Recipe:
    count = len(body["sizes"]) // 4
    nothing = np.full(count, NONE, "<u4").tobytes()
    columns = {
        name: np.frombuffer(body[name] or (nothing if dtype == "<u4" else b""), dtype)
        for name, dtype in COLUMNS.items()
    }
    recipe = Recipe(
        Digest.from_raw(body["artifact"]),
        body["size"],
        _homes(body["home_ids"], body["home_kinds"]),
        body["ids"],
        columns,
        _order(np.frombuffer(body["order"], "<u4"), count),
        unpack_tensors(body["tensors"]),
        files,
    )
    recipe_check.check(recipe)
    return recipe


def _order(order: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
    if (order >= count).any():
        raise ValueError("a piece is a chunk that is not listed")
    return order


def _homes(ids: bytes, kinds: bytes) -> tuple[tuple[Digest, bool], ...]:
    if len(ids) != 32 * len(kinds) or not set(kinds) <= {0, 1}:
        raise ValueError("the files it names are not as defined")
    raws = [ids[at : at + 32] for at in range(0, len(ids), 32)]
    return tuple((Digest.from_raw(raw), kind == 1) for raw, kind in zip(raws, kinds, strict=True))
