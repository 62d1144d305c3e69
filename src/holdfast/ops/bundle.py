"""Many small files in: hashed, grouped, encoded together, and published as one bundle.

    with bundling(backend, known, compact) as writer:
        digests = writer.store(files)      {path: (digest, size)}, of (path, what opens it)
        …                                  the directory's document is made of them
        writer.publish(tree)               packs, then the recipe under the digest of the directory

A file of an earlier version is known by its sha256 and stays in the chunk it lies in. New ones are joined, in
the order they come, to chunks of some GROUP_BYTES: source text packs better together, and a thousand files
are one pack. To read one of them is to read and decode its chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from blake3 import blake3

from holdfast import codecs
from holdfast.ahead import in_order
from holdfast.backend.base import Backend
from holdfast.codecs import Encoded
from holdfast.digest import Digest
from holdfast.format import layout, pack, recipe
from holdfast.format.recipe import Builder, Chunk, Recipe
from holdfast.format.recipe_files import bundled
from holdfast.ids import new_nonce
from holdfast.ops.ingest import MIN_PACKED_BYTES, Wanted, put
from holdfast.ops.sources import Source
from holdfast.ops.window import Window
from holdfast.packs import PackWriter

MIN_FILES = 16  # a directory with fewer small files keeps them plain
GROUP_BYTES = 512 << 10

Progress = Callable[[int], None]  # how many files are done
Digests = dict[str, tuple[Digest, int]]
Files = Iterable[tuple[str, Callable[[], AbstractContextManager[Source]]]]


def is_small(size_bytes: int) -> bool:
    """Whether a file of that size may go into a bundle; an empty one needs none."""
    return 0 < size_bytes <= MIN_PACKED_BYTES


@dataclass(slots=True)
class Known:
    """What earlier versions of a directory hold: bundles whose files are there, and plain blobs."""

    bundles: Sequence[Recipe] = ()
    is_plain: Callable[[Digest], bool] = lambda digest: False

    def find(self, digest: Digest) -> tuple[Recipe, int, int] | None:
        """(a bundle, the number of the piece it lies in, where in that) of a file, None if it is new."""
        for made_of in self.bundles:
            place = made_of.files.find(digest) if made_of.files else None
            if place and place[0] < place[1]:
                piece = made_of.piece_at(place[0])
                if place[1] <= int(made_of.starts[piece + 1]):
                    return made_of, piece, place[0] - int(made_of.starts[piece])
        return None


@dataclass(slots=True)
class _Group:
    """Files that go into one chunk."""

    data: bytearray = field(default_factory=bytearray)
    files: list[tuple[Digest, int, int]] = field(default_factory=list)  # digest, start, size


class BundleWriter:
    """One directory's small files on their way into a bundle."""

    def __init__(self, backend: Backend, known: Known, compact: bool) -> None:
        self._backend, self._known, self._compact = backend, known, compact
        self._packs = PackWriter(backend)
        self._seen: set[Digest] = set()
        self._old: list[tuple[Digest, int, Recipe, int, int]] = []
        self._new: list[tuple[_Group, int, pack.Packed]] = []

    def store(self, files: Files, progress: Progress | None = None) -> Digests:
        """Take the files in; returns what each is. Nothing has a name before `publish`."""
        digests: Digests = {}
        for group, id_, made in in_order(self._encode, self._groups(files, digests)):
            place, packed = self._packs.add(id_, len(group.data), made.codec, (), made.payload)
            group.data = bytearray()
            self._new.append((group, place, packed))
            if progress:
                progress(len(digests))
        return digests

    def publish(self, tree: Digest) -> int:
        """Give packs and recipe their names, or nothing if all of it is in the store already. Returns how
        many bytes that added to packs."""
        if self._new or not self._is_there(tree):
            made_of = self._recipe(tree, self._packs.publish())
            if made_of.files:
                self._backend.create(layout.bundle(tree, new_nonce()), recipe.encode(made_of))
        return self._packs.stored_bytes

    def abort(self) -> None:
        """Forget what was not published; harmless after `publish`."""
        self._packs.abort()

    def _groups(self, files: Files, digests: Digests) -> Iterator[_Group]:
        group = _Group()
        for path, opened in files:
            with opened() as source:
                if not is_small(source.size_bytes):  # it was, when the directory was listed
                    stored = put(self._backend, source, Window(self._backend), Wanted("plain"))
                    digests[path] = stored.digest, stored.size_bytes
                    continue
                data = source.get(0, source.size_bytes)
            digest = Digest.of(data)
            digests[path] = digest, len(data)
            if digest in self._seen or self._known.is_plain(digest):
                continue
            self._seen.add(digest)
            known = self._known.find(digest)
            if known:
                self._old.append((digest, len(data), *known))
                continue
            group.files.append((digest, len(group.data), len(data)))
            group.data += data
            if len(group.data) >= GROUP_BYTES:
                yield group
                group = _Group()
        if group.files:
            yield group

    def _encode(self, group: _Group) -> tuple[_Group, bytes, Encoded]:
        """On several threads."""
        return group, blake3(group.data).digest(), codecs.encode(group.data, compact=self._compact)

    def _is_there(self, tree: Digest) -> bool:
        own = next((made_of for made_of in self._known.bundles if made_of.artifact == tree), None)
        return own is not None and all(own.files and own.files.find(row[0]) for row in self._old)

    def _recipe(self, tree: Digest, packs: Sequence[Digest]) -> Recipe:
        """The pieces of earlier bundles that are still needed, then the new ones."""
        builder, files, row = Builder(), [], _Row()
        for digest, size, made_of, piece, at in self._old:
            number = builder.take(made_of, int(made_of.order[piece]))
            start = row.start(number, made_of.piece(piece).size_bytes)
            files.append((digest, start + at, size))
        for group, place, packed in self._new:
            home = packs[place]
            number = builder.add(
                Chunk(
                    packed.id, packed.size_bytes, home, True, packed.offset, packed.length,
                    packed.codec,
                )
            )  # fmt: skip
            start = row.start(number, packed.size_bytes)
            files += [(digest, start + at, size) for digest, at, size in group.files]
        for number in row.starts:
            builder.append(number)
        return builder.build(tree, files=bundled(files))


class _Row:
    """Where the chunks of a bundle begin: each is there once, in the order they are first needed."""

    def __init__(self) -> None:
        self.starts: dict[int, int] = {}
        self._end = 0

    def start(self, number: int, size_bytes: int) -> int:
        if number not in self.starts:
            self.starts[number] = self._end
            self._end += size_bytes
        return self.starts[number]


@contextmanager
def bundling(backend: Backend, known: Known, compact: bool) -> Iterator[BundleWriter]:
    """A writer whose packs are forgotten unless they were published."""
    writer = BundleWriter(backend, known, compact)
    try:
        yield writer
    finally:
        writer.abort()
