"""The small files of a directory that lie in packs together: found by the directory, or by their digests.

    Bundle.of(backend, tree)        the files of that directory artifact that are bundled, perhaps none
    digest in bundle                whether a file is among them
    bundle.read(digest)             its bytes, checked against its sha256
    find(backend, digest)           a bundle that holds a file, of whatever directory

A file may lie in the bundles of several directories, and in a blob of its own as well.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache

from holdfast.ahead import in_order
from holdfast.backend.base import Backend
from holdfast.digest import Digest
from holdfast.errors import Corrupt, DigestMismatch, HoldfastError, NameNotFound
from holdfast.format import layout, recipe
from holdfast.format.recipe import Recipe
from holdfast.verified import again
from holdfast.verified_chunks import WINDOW_BYTES, Bytes
from holdfast.verified_ranges import Ranges

_WINDOWS = 4  # that are kept while one file after the other is read


class Bundle:
    """The bundled files of one directory. Any number of threads may read at once.

    `together` says that many files will be read, about in the order they were stored in: then their
    neighbours are read with them."""

    def __init__(
        self, backend: Backend, recipes: Sequence[Recipe], *, together: bool = False
    ) -> None:
        self.recipes = tuple(recipes)
        self._ranges = [Ranges(backend, made_of.artifact, made_of) for made_of in recipes]
        self._together = together
        self._window = lru_cache(_WINDOWS)(self._read_window)
        self._lock = threading.Lock()  # so that of several threads one reads a window

    @classmethod
    def of(cls, backend: Backend, tree: Digest, *, together: bool = False) -> Bundle:
        """Raises Corrupt if it has some, and none can be read."""
        found, problem = load(backend, tree)
        if problem and not found:
            raise problem
        return cls(backend, found, together=together)

    def __contains__(self, digest: Digest) -> bool:
        return any(True for _ in self._places(digest))

    def __iter__(self) -> Iterator[Digest]:
        for made_of in self.recipes:
            if made_of.files:
                yield from made_of.files.digests()

    def size_of(self, digest: Digest) -> int | None:
        """The length of a file, None if it is not among them."""
        place = next(self._places(digest), None)
        return place and place[2] - place[1]

    def read(self, digest: Digest) -> bytes:
        """All bytes of a file. Raises NameNotFound if it is not among them, Corrupt, DigestMismatch."""
        problem: HoldfastError = NameNotFound(f"{digest} is not in the bundle", name=str(digest))
        for number, start, stop in self._places(digest):
            try:
                return again(lambda n=number, a=start, b=stop: self._checked(digest, n, a, b))  # type: ignore[misc]
            except Corrupt as error:
                problem = error
        raise problem

    def _places(self, digest: Digest) -> Iterator[tuple[int, int, int]]:
        """(number of the recipe, start, stop) of a file."""
        for number, made_of in enumerate(self.recipes):
            found = made_of.files.find(digest) if made_of.files else None
            if found:
                yield number, *found

    def _checked(self, digest: Digest, number: int, start: int, stop: int) -> bytes:
        data = self._bytes(number, start, stop).tobytes()
        found = Digest.of(data)
        if found != digest:
            place = layout.recipes(self.recipes[number].artifact)
            raise DigestMismatch(
                f"{place}*{layout.BUNDLE} is damaged: the file {digest} has the digest {found} there",
                place=place,
                expected=str(digest),
                found=str(found),
            )
        return data

    def _bytes(self, number: int, start: int, stop: int) -> Bytes:
        if self._together:
            at = start // WINDOW_BYTES
            with self._lock:
                begin, data = self._window(number, at)
            if begin <= start and stop <= begin + len(data):
                return data[start - begin : stop - begin]
        return self._ranges[number].read(start, stop)

    def _read_window(self, number: int, at: int) -> tuple[int, Bytes]:
        """(where it begins, the bytes) of the pieces that begin in a stretch of WINDOW_BYTES, and of the
        one before them."""
        starts = self.recipes[number].starts
        first = max(0, int(starts.searchsorted(at * WINDOW_BYTES, side="right")) - 1)
        behind = int(starts.searchsorted((at + 1) * WINDOW_BYTES))
        begin, end = int(starts[first]), int(starts[min(behind, len(starts) - 1)])
        return begin, self._ranges[number].read(begin, end)


def load(backend: Backend, tree: Digest) -> tuple[list[Recipe], HoldfastError | None]:
    """(the bundles of a directory that can be read, what is wrong with the first that cannot)."""
    found, problem = [], None
    for stat in backend.walk(layout.recipes(tree).rpartition("/")[0] + "/"):
        if stat.name.startswith(layout.recipes(tree)) and stat.name.endswith(layout.BUNDLE):
            try:
                found.append(again(lambda name=stat.name: _load(backend, name, tree)))  # type: ignore[misc]
            except NameNotFound:  # a collector was quicker
                continue
            except HoldfastError as error:
                problem = problem or error
    return found, problem


def _load(backend: Backend, name: str, tree: Digest | None = None) -> Recipe:
    made_of = recipe.decode(backend.get(name), place=name)
    if made_of.files is None or tree not in (None, made_of.artifact):
        raise Corrupt(f"{name} is no bundle of that directory", place=name)
    return made_of


def find(backend: Backend, digest: Digest) -> Bundle | None:
    """A bundle that holds the file, None if there is none: the last resort, since it lists all recipes
    and reads the bundles, one after the other. Those that are damaged are left aside."""
    names = [s.name for s in backend.walk(layout.RECIPES) if s.name.endswith(layout.BUNDLE)]

    def of(name: str) -> Recipe | None:
        try:
            return _load(backend, name)
        except HoldfastError:
            return None

    for made_of in in_order(of, names, workers=backend.capabilities.parallel):
        if made_of is not None and made_of.files and made_of.files.find(digest):
            return Bundle(backend, [made_of])
    return None


def check(backend: Backend, made_of: Recipe) -> None:
    """Read every file of a bundle by this recipe. Raises Corrupt, DigestMismatch."""
    bundle = Bundle(backend, [made_of], together=True)
    for digest in made_of.files.in_order() if made_of.files else ():
        bundle.read(digest)
