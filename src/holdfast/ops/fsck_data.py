"""fsck of blobs, packs and recipes: what each recipe points to, and every byte against its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import zip_longest
from typing import Any

import numpy as np
from blake3 import blake3

from holdfast import bundles as whole
from holdfast.backend.base import Backend
from holdfast.condemned import Condemned, read_names
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch
from holdfast.format import kinds, layout, pack, recipe, signature, storefile
from holdfast.format.recipe import Recipe
from holdfast.ops.findings import Found, telling, twice
from holdfast.repository import Repository


@dataclass(frozen=True, slots=True)
class Made:
    """What a recipe says, in short: the artifact, its size, and the files it points into."""

    name: str
    artifact: str
    size_bytes: int
    homes: tuple[str, ...]
    chunks: int
    stored_bytes: int


def recipes(
    repository: Repository, names: tuple[str, ...]
) -> list[tuple[Made | None, list[Found]]]:
    """Each recipe decoded and held against the packs and blobs that it points into."""
    done: list[tuple[Made | None, list[Found]]] = []
    index = lru_cache(64)(
        partial(index_of, repository.backend)
    )  # recipes of one family share packs
    for name in names:
        found = twice(partial(_recipe, repository.backend, name, index))
        made = None if found else _made(name, load(repository.backend, name))
        done.append((made, found))
    return done


def shallow_recipes(
    repository: Repository, names: tuple[str, ...]
) -> list[tuple[Made | None, list[Found]]]:
    """Each recipe decoded, without a look at what it points into."""
    done: list[tuple[Made | None, list[Found]]] = []
    for name in names:
        found: list[Found] = []
        made = None
        with telling(found, place=name):
            made = _made(name, load(repository.backend, name))
        digests = (kinds.artifact_of(name).hex,)
        done.append((made, [replace(one, digests=digests) for one in found]))
    return done


def load(backend: Backend, name: str) -> Recipe:
    """A recipe by its name. Raises Corrupt, NameNotFound."""
    made_of = recipe.decode(backend.get(name), place=name)
    if made_of.artifact != kinds.artifact_of(name) or (
        (made_of.files is not None) != kinds.is_bundle(name)
    ):
        raise Corrupt(f"{name} is the recipe of another artifact", place=name)
    return made_of


def _made(name: str, made_of: Recipe) -> Made:
    homes = tuple(home_name(home, packed) for home, packed in made_of.homes)
    stored = int(made_of.columns["lengths"].sum(dtype=np.int64))
    return Made(name, made_of.artifact.hex, made_of.size_bytes, homes, len(made_of), stored)


def home_name(home: Digest, packed: bool) -> str:
    return layout.pack(home) if packed else layout.blob(home)


def _recipe(backend: Backend, name: str, index: Callable[[str], pack.Index]) -> list[Found]:
    found: list[Found] = []
    artifact = kinds.artifact_of(name).hex
    with telling(found, place=name):
        made_of = load(backend, name)
        for number, (home, packed) in enumerate(made_of.homes):
            if problem := _beside(backend, made_of, number, home, packed, index):
                found.append(Found("mismatch", name, f"recipe {name}: {problem}"))
    return [replace(one, digests=(artifact,)) for one in found if one.code != "missing"]


def _beside(
    backend: Backend,
    made_of: Recipe,
    number: int,
    home: Digest,
    packed: bool,
    index: Callable[[str], pack.Index],
) -> str:
    """What is wrong with where a recipe points to in one of its files; '' if that is sound, or the file
    is gone or damaged, which is told of that file."""
    mine = made_of.columns["homes"] == number
    offsets, lengths = (made_of.columns[c][mine].astype(np.int64) for c in ("offsets", "lengths"))
    name, quiet = home_name(home, packed), list[Found]()
    with telling(quiet, place=name):
        size = backend.stat(name).size_bytes
        if len(offsets) and int((offsets + lengths).max()) > size:
            return f"it points behind the end of {name}"
        if packed and len(offsets):
            columns, rows = index(name).columns, made_of.columns
            known = columns["offsets"].astype(np.int64)
            at = np.minimum(np.searchsorted(known, offsets), max(0, len(known) - 1))
            same = len(known) > 0 and (known[at] == offsets).all()
            if not same or any(
                (columns[c][at] != rows[c][mine]).any() for c in ("sizes", "lengths", "codecs")
            ):
                return f"it points beside the chunks of {name}"
    return ""


def index_of(backend: Backend, name: str) -> pack.Index:
    """The index of a pack. Raises Corrupt, NameNotFound."""
    size = backend.stat(name).size_bytes
    tail = min(size, pack.TAIL_BYTES)
    get = partial(backend.get_range, name)
    return pack.index(get(size - tail, tail), size, get, place=name)


def indices(repository: Repository, names: tuple[str, ...]) -> list[Found]:
    """The index of each pack."""

    def check(name: str) -> list[Found]:
        found: list[Found] = []
        with telling(found, place=name):
            index_of(repository.backend, name)
        return found

    return [one for name in names for one in twice(partial(check, name))]


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Blobs or packs to read through; blobs each with the recipes that point into them."""

    names: tuple[str, ...]
    recipes: tuple[tuple[str, ...], ...]


def every_byte(repository: Repository, piece: FilePiece) -> list[Found]:
    """Each file against the digest that names it, and the chunks that lie in a blob against their ids."""
    found: list[Found] = []
    for name, makers in zip_longest(piece.names, piece.recipes, fillvalue=()):
        found += twice(partial(hashed, repository.backend, str(name), tuple(makers)))
    return [one for one in found if one.code != "missing"]  # it went since it was listed


def bundles(repository: Repository, names: tuple[str, ...]) -> list[Found]:
    """Every file that a bundle holds, against its sha256."""

    def check(name: str) -> list[Found]:
        found: list[Found] = []
        with telling(found, place=name):
            whole.check(repository.backend, load(repository.backend, name))
        digests = (kinds.artifact_of(name).hex,)
        # A damaged chunk is told with its pack.
        return [replace(o, digests=digests) for o in found if o.place.startswith(layout.RECIPES)]

    return [one for name in names for one in twice(partial(check, name))]


def heads(repository: Repository, names: tuple[str, ...]) -> list[Found]:
    """The content of heads, which nobody reads: that it changed says something of the storage."""
    found: list[Found] = []
    for name in names:
        quiet: list[Found] = []
        with telling(quiet, place=name):
            if repository.backend.get(name) != kinds.HEAD_BYTES:
                message = f"{name} is damaged: it does not hold what a head holds"
                found.append(Found("head_damaged", name, message))
    return found


def signatures(repository: Repository, names: tuple[str, ...]) -> list[Found]:
    """Is each a whole file about what its name says? Whether it is good is for who has the key to say."""
    found: list[Found] = []
    for name in names:
        with telling(found, place=name):
            _, document, key = name.split("/")
            about = signature.decode(repository.backend.get(name), place=name)
            if (about.document.hex, about.key.hex()) != (document, key):
                raise Corrupt(f"{name} is a signature of something else: it was moved", place=name)
    return found


def documents(repository: Repository, names: tuple[str, ...]) -> list[Found]:
    """Documents of names against the sha256 in theirs."""
    found: list[Found] = []
    for name in names:
        digest = Digest(name[-64:])
        with telling(found, place=name, what=_of_names(name)):
            read_names(repository.backend, name, digest)
    return found


def _of_names(name: str) -> str:
    return "the collector's log" if name.startswith(layout.LOG) else f"sync {name.split('/')[1]}"


def log(repository: Repository) -> list[Found]:
    """What the collectors' log says, and the documents that it needs."""
    found: list[Found] = []
    with telling(found, place=layout.LOG, what="the collector's log"):
        Condemned.load(repository.backend)
    return found


def store(repository: Repository) -> list[Found]:
    """store.json, without which nothing opens."""
    found: list[Found] = []
    with telling(found, place=layout.STORE, what="the whole store"):
        storefile.decode(repository.backend.get(layout.STORE), place=layout.STORE)
    return found


def hashed(backend: Backend, name: str, makers: tuple[str, ...] = ()) -> list[Found]:
    """One file against the digest in its name; with `makers`, the chunks of those recipes that lie in it."""
    wanted = kinds.digest_of(name)
    found: list[Found] = []
    lanes = _lanes(_chunks_in(backend, makers, name))
    sha = hashlib.sha256()
    with telling(found, place=name):
        at = 0
        for piece in backend.chunks(name):
            sha.update(piece)
            view = memoryview(piece)
            for lane in lanes:
                lane.take(at, view)
            at += len(view)
        is_right = wanted is not None and sha.hexdigest() == wanted.hex
        hurt = sorted({a for lane in lanes for a in lane.wrong})
        if is_right:
            return [_wrong_ids(maker) for maker in sorted({m for _, m in hurt})]
        raise DigestMismatch(
            f"{name} is damaged: its bytes have the digest sha256:{sha.hexdigest()} and should have "
            f"{wanted}",
            place=name,
        )
    own = [wanted.hex] if wanted and kinds.kind_of(name) == kinds.BLOB else []
    hurt = sorted({a for lane in lanes for a in lane.wrong})
    digests = tuple(sorted({*own, *(artifact for artifact, _ in hurt)}))
    return [Found(one.code, one.place, one.message, digests) for one in found]


def _wrong_ids(maker: str) -> Found:
    artifact = kinds.artifact_of(maker)
    message = (
        f"recipe {maker} is damaged: a piece has another id than the bytes that are stored, and those "
        "have the digest that names them"
    )
    return Found("mismatch", maker, message, (artifact.hex,))


User = tuple[str, str]  # (hex digest of the artifact, its recipe)
Span = tuple[int, int, bytes]  # (offset, length, id)


def _chunks_in(backend: Backend, makers: Iterable[str], name: str) -> dict[Span, set[User]]:
    """The chunks of these recipes that lie in blob `name`, and whose they are."""
    spans: dict[Span, set[User]] = {}
    for maker in makers:
        quiet: list[Found] = []
        with telling(quiet, place=maker):  # a damaged recipe was told already
            made_of = load(backend, maker)
            homes = [
                number for number, home in enumerate(made_of.homes) if home_name(*home) == name
            ]
            for row in np.flatnonzero(np.isin(made_of.columns["homes"], homes)).tolist():
                chunk = made_of.chunk(row)
                whose = spans.setdefault((chunk.offset, chunk.length, chunk.id), set())
                whose.add((made_of.artifact.hex, maker))
    return spans


def _lanes(spans: dict[Span, set[User]]) -> list[_Lane]:
    """The spans in rows in which none overlaps the next: nearly always one row."""
    lanes: list[_Lane] = []
    for span in sorted(spans):
        fits = next((lane for lane in lanes if lane.end <= span[0]), None)
        if fits is None:
            lanes.append(fits := _Lane())
        fits.add(span, spans[span])
    return lanes


class _Lane:
    """Hashes spans of a file, one behind the other, while its bytes go by."""

    def __init__(self) -> None:
        self.end = 0
        self.wrong: set[User] = set()
        self._spans: list[tuple[Span, set[User]]] = []
        self._next = 0
        self._hash: Any = None

    def add(self, span: Span, whose: set[User]) -> None:
        self._spans.append((span, whose))
        self.end = span[0] + span[1]

    def take(self, at: int, view: memoryview) -> None:
        """The bytes of the file from `at` on."""
        stop = at + len(view)
        while self._next < len(self._spans):
            (offset, length, id_), whose = self._spans[self._next]
            if offset >= stop:
                return
            self._hash = self._hash or blake3()
            self._hash.update(view[max(0, offset - at) : offset + length - at])
            if offset + length > stop:
                return
            if self._hash.digest() != id_:
                self.wrong |= whose
            self._hash = None
            self._next += 1


def grouped(
    names: Iterable[str], sizes: dict[str, int], most_bytes: int, most: int
) -> Iterator[tuple[str, ...]]:
    """The names, which are sorted, in groups of one folder and of about so many bytes: names that are added
    change the groups of their own folders only, so that a check can be resumed."""
    group: list[str] = []
    total = 0
    for name in names:
        other = bool(group) and name.rpartition("/")[0] != group[0].rpartition("/")[0]
        if group and (other or total + sizes[name] > most_bytes or len(group) >= most):
            yield tuple(group)
            group, total = [], 0
        group.append(name)
        total += sizes[name]
    if group:
        yield tuple(group)
