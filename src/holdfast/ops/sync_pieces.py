"""Which files bring what the runs need: the fewest bytes, by what both sides are listed to have.

An artifact that the target has in any form needs nothing. Otherwise a recipe of the source says in which
packs and blobs its chunks lie; those the target lacks are copied whole, or, if little of one is wanted, in
part into a new pack. See docs/format/sync.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, NameNotFound
from holdfast.format import layout, pack, recipe
from holdfast.format.recipe import CHUNK_BYTES, Recipe
from holdfast.ops.reach import homes_of
from holdfast.ops.sync_listing import Files
from holdfast.verified_artifact import is_own

_SMALL_BYTES = 1 << 20  # a file that is sent whole, whatever of it is wanted
_MOSTLY = 0.8  # the part of a file that must be wanted so that it is sent whole


@dataclass(slots=True)
class Pieces:
    """`copies`: the sizes of blobs, packs and recipes that go over as they are, by name. `rewrites`: the
    artifacts whose chunks go into new packs, by the recipe (or blob) to follow, and how many bytes that are.
    `waits`: by artifact, the names without which it is not in the target. `lost`: those of which the source
    has nothing, and what to say of them."""

    copies: dict[str, int] = field(default_factory=dict)
    rewrites: dict[str, tuple[Digest, int]] = field(default_factory=dict)
    waits: dict[Digest, set[str]] = field(default_factory=dict)
    lost: dict[Digest, HoldfastError] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(self.copies.values()) + sum(size for _, size in self.rewrites.values())


def rewritten(name: str) -> str:
    """What a run waits for that needs what the recipe `name` makes, over new packs."""
    return f"rewritten:{name}"


@dataclass(slots=True)
class _Packed:
    """An artifact that comes by a recipe of the source, which is not held any longer than needed."""

    digest: Digest
    name: str
    homes: set[str]


@dataclass(frozen=True, slots=True)
class _Read:
    """The recipes of an artifact that can be read, by name, and what is wrong with the others."""

    found: list[tuple[str, Recipe]]
    problem: HoldfastError | None


class Chooser:
    """Chooses for many artifacts at once."""

    def __init__(
        self,
        source: Backend,
        ours: Files,
        theirs: Files,
        pool: Executor,
    ) -> None:
        self._source = source
        self._ours = ours
        self._theirs = theirs
        self._pool = pool
        self._wanted: dict[str, list[NDArray[np.uint64]]] = defaultdict(list)  # offset, length
        self._packed: list[_Packed] = []
        self.pieces = Pieces()

    def choose(self, artifacts: dict[Digest, int | None]) -> Pieces:
        """How these artifacts get into the target."""
        for kind in (layout.BLOBS, layout.RECIPES):
            self._ours.look(kind, artifacts, self._pool)
            self._theirs.look(kind, artifacts, self._pool)
        missing = [digest for digest, size in artifacts.items() if not self._is_there(digest, size)]
        read = [digest for digest in missing if self._ours.recipes(digest)]
        for digest, found in zip(read, self._pool.map(self._recipes, read), strict=True):
            self._enter(digest, found)
        lone = [d for d in artifacts if self._ours.bundles(d) and not self._theirs.bundles(d)]
        for digest, found in zip(lone, self._pool.map(self._bundles, lone), strict=True):
            self._enter_bundles(digest, found)
        for digest in missing:
            if not self._ours.recipes(digest):
                self._plain(digest)
        self._settle()
        return self.pieces

    def _is_there(self, digest: Digest, size: int | None) -> bool:
        """Does the target have the artifact? If so, what it has is noted as what its runs wait for."""
        blob = layout.blob(digest)
        expected = self._ours.size(blob) if size is None else size
        kept = self._theirs.size(blob)
        names = set(self._theirs.recipes(digest))
        if kept is not None and expected in (None, kept):
            self._wait(digest, blob)
            if kept > CHUNK_BYTES and not names:
                self._add_recipe(digest)
            return True
        if kept is None and names:
            self._wait(digest, *names)
            return True
        return False

    def _add_recipe(self, digest: Digest) -> None:
        """A blob that is there lacks the recipe by which ranges are verified."""
        for name, made_of in self._recipes(digest).found:
            if is_own(made_of):
                self.pieces.copies[name] = self._ours.size(name) or 0
                self._wait(digest, name)
                return

    def _recipes(self, digest: Digest) -> _Read:
        return self._read(digest, self._ours.recipes(digest))

    def _bundles(self, digest: Digest) -> _Read:
        return self._read(digest, self._ours.bundles(digest))

    def _read(self, digest: Digest, names: list[str]) -> _Read:
        found: list[tuple[str, Recipe]] = []
        problem: HoldfastError | None = None
        for name in names:
            try:
                made_of = recipe.decode(self._source.get(name), place=name)
                if made_of.artifact != digest:
                    raise Corrupt(f"{name} is the recipe of another artifact", place=name)
                found.append((name, made_of))
            except (Corrupt, NameNotFound) as error:
                problem = problem or error
        return _Read(found, problem)

    def _enter(self, digest: Digest, read: _Read) -> None:
        blob, own = self._ours.size(layout.blob(digest)), None
        if blob is None and not read.found and read.problem:
            self.pieces.lost[digest] = read.problem
            return
        packed = []
        for name, made_of in read.found:
            if is_own(made_of):
                own = name
            elif blob is None or _stored(made_of) < blob:
                packed.append((name, made_of))
        if not packed:
            self._plain(digest, own)
            return
        self._enter_packed(digest, *min(packed, key=lambda item: _stored(item[1])))

    def _enter_bundles(self, digest: Digest, read: _Read) -> None:
        """The small files of a directory: they come with what their bundles name."""
        if read.problem:
            self.pieces.lost[digest] = read.problem
        for name, made_of in read.found:
            self._enter_packed(digest, name, made_of)

    def _enter_packed(self, digest: Digest, name: str, made_of: Recipe) -> None:
        self._packed.append(_Packed(digest, name, homes_of(made_of)))
        for number, (home, in_pack) in enumerate(made_of.homes):
            self._wanted[(layout.pack if in_pack else layout.blob)(home)].append(
                _ranges(made_of, number)
            )

    def _plain(self, digest: Digest, own: str | None = None) -> None:
        """The artifact comes as the blob it is."""
        blob = layout.blob(digest)
        size = self._ours.size(blob)
        if size is None:
            self.pieces.lost[digest] = Corrupt(f"{blob} is missing from the store", place=blob)
        elif self._is_condemned(blob):
            self.pieces.rewrites[blob] = (digest, size)
            self._wait(digest, rewritten(blob))
        else:
            self.pieces.copies[blob] = size
            self._wait(digest, blob)
            if own and self._is_condemned(own):
                self.pieces.rewrites[own] = (digest, 0)
                self._wait(digest, rewritten(own))
            elif own:
                self._wait(digest, own)
                self.pieces.copies[own] = self._ours.size(own) or 0

    def _is_condemned(self, name: str) -> bool:
        """Must the target not have a file of that name any more?"""
        return self._theirs.condemned.has(name)

    def _settle(self) -> None:
        """Decide for each pack and blob whether it goes over whole, and so for each recipe."""
        for kind in (layout.PACKS, layout.BLOBS):
            homes = [Digest(h.rpartition("/")[2]) for h in self._wanted if h.startswith(kind)]
            self._ours.look(kind, homes, self._pool)
            self._theirs.look(kind, homes, self._pool)
        wanted = {home: _joined(ranges) for home, ranges in self._wanted.items()}
        whole = {home for home in wanted if self._goes_whole(home, wanted[home])}
        for home in whole:
            self.pieces.copies.setdefault(home, self._ours.size(home) or 0)
        for one in self._packed:
            self._settle_one(one, whole, wanted)

    def _goes_whole(self, home: str, ranges: NDArray[np.uint64]) -> bool:
        size = self._ours.size(home)
        if size is None or self._is_kept(home) or self._is_condemned(home):
            return False
        mostly = ranges[:, 1].sum() >= _MOSTLY * size or home in self.pieces.copies
        too_long = bool((ranges[:, 1] > pack.MAX_CHUNK_BYTES).any())
        return bool(mostly) or size < _SMALL_BYTES or too_long

    def _is_kept(self, home: str) -> bool:
        """Is the file in the target as it is in the source?"""
        have = self._theirs.size(home)
        return have is not None and self._ours.size(home) in (None, have)

    def _settle_one(
        self, one: _Packed, whole: set[str], wanted: dict[str, NDArray[np.uint64]]
    ) -> None:
        parts = {home for home in one.homes if home not in whole and not self._is_kept(home)}
        gone = sorted(home for home in parts if self._ours.size(home) is None)
        is_bundle = one.name.endswith(layout.BUNDLE)
        if gone and not is_bundle and self._ours.size(layout.blob(one.digest)) is not None:
            self._plain(one.digest)
            return
        if gone:
            text = f"{gone[0]} is missing from the store: {one.digest} needs it"
            self.pieces.lost[one.digest] = Corrupt(text, place=gone[0])
            return
        if parts or self._is_condemned(one.name):
            size = sum(int(wanted[home][:, 1].sum()) for home in parts)
            self.pieces.rewrites[one.name] = (one.digest, size)
            self._wait(one.digest, rewritten(one.name), *(one.homes & whole))
            for home in parts:  # the next artifact finds them in the target
                wanted[home] = wanted[home][:0]
            return
        self.pieces.copies[one.name] = self._ours.size(one.name) or 0
        self._wait(one.digest, one.name, *one.homes)

    def _wait(self, digest: Digest, *names: str) -> None:
        self.pieces.waits.setdefault(digest, set()).update(names)


def _stored(made_of: Recipe) -> int:
    return int(made_of.columns["lengths"].sum(dtype="int64"))


def _ranges(made_of: Recipe, home: int) -> NDArray[np.uint64]:
    """(offset, length) of each chunk that the recipe takes from that home."""
    here = made_of.columns["homes"] == home
    offsets, lengths = made_of.columns["offsets"][here], made_of.columns["lengths"][here]
    return np.stack([offsets.astype(np.uint64), lengths.astype(np.uint64)], axis=1)


def _joined(ranges: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Each range once."""
    return np.unique(np.concatenate(list(ranges)), axis=0)
