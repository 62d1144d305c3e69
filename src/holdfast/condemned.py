"""What no writer may rely on: the names that collectors have condemned or removed, as the log `gc/` says.

    condemned = Condemned.load(backend)     one listing in a store where nothing was ever collected
    condemned.has(name)                     then store the bytes again under a name that is new
    condemned.refresh(backend)              after a chain is opened, and each time another writer was quicker
    condemned.view(backend)                 the backend without those names, for whoever stores something

See docs/format/gc.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from holdfast.backend.base import Backend, Stat
from holdfast.backend.wrap import WatchedBackend
from holdfast.chain import EMPTY, Chain, Snapshot
from holdfast.digest import Digest
from holdfast.errors import Corrupt, NameNotFound, NameRetired
from holdfast.format import gc, layout
from holdfast.format.gc import Names

_NOTHING = Names()


@dataclass(frozen=True, slots=True)
class Collection:
    """One collection as the log has it. `spared` is None until it is decided."""

    number: int
    names: Names
    spared: Names | None
    done: bool

    def has(self, name: str) -> bool:
        """Is the name condemned or retired by this collection?"""
        return self.names.has(name) and not (self.spared and self.spared.has(name))


class Condemned:
    """What the log said when it was last read. Thread-safe; what is known only ever gets newer."""

    def __init__(self) -> None:
        self.snapshot: Snapshot = EMPTY
        self.collections: tuple[Collection, ...] = ()
        self._documents: dict[str, Names] = {}
        self._read_at: dict[str, int] = {}

    @classmethod
    def load(cls, backend: Backend) -> Condemned:
        """Read the log. Raises Corrupt, BackendError."""
        condemned = cls()
        condemned.refresh(backend)
        return condemned

    def refresh(self, backend: Backend) -> None:
        """Read what is new in the log. Raises Corrupt, BackendError; then what was known stays."""
        found = (layout.entry_number(name) for name in backend.names(layout.LOG))
        numbers = [number for number in found if number is not None]
        if max(numbers, default=-1) == self.snapshot.number:
            return
        snapshot = Chain(backend, layout.LOG).load(numbers)
        rows = snapshot.state.get(gc.COLLECTIONS, {})
        self.collections = tuple(self._collection(backend, int(n), rows[n]) for n in rows)
        self.snapshot = snapshot

    def has(self, name: str) -> bool:
        """Is the name condemned or retired?"""
        return any(one.has(name) for one in self.collections)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def is_retired(self, name: str) -> bool:
        """Is it decided that the name goes?"""
        return any(one.spared is not None and one.has(name) for one in self.collections)

    def view(self, backend: Backend) -> Backend:
        """`backend` as a writer may see it: what is condemned or retired is not there nor can be created."""
        return _View(backend, self.has) if self.collections else backend

    def remains(self, backend: Backend) -> Backend:
        """`backend` as a collector sees it: what is retired is not there."""
        return _View(backend, self.is_retired) if self.collections else backend

    def documents(self) -> set[str]:
        """The names of the documents that the log names."""
        found = set()
        for number, row in self.snapshot.state.get(gc.COLLECTIONS, {}).items():
            found.add(gc.document(int(number), Digest(row["names"])))
            if row.get("spared"):
                found.add(gc.document(int(row["spared_by"]), Digest(row["spared"])))
        return found

    # For which chains what is known is good: see ops/references.py.

    def covers(self, chain: str, number: int) -> bool:
        """Was the log read after the chain was seen open, and are all later entries up to `number` ours?"""
        return self._read_at.get(chain) == number

    def cover(self, chain: str, number: int) -> None:
        self._read_at[chain] = number

    def _collection(self, backend: Backend, number: int, row: dict[str, object]) -> Collection:
        spared: Names | None = None
        if "spared" in row:
            spared = _NOTHING
            if row["spared"]:
                spared = self._names(backend, int(str(row["spared_by"])), str(row["spared"]))
        names = self._names(backend, number, str(row["names"]))
        return Collection(number, names, spared, bool(row.get("done")))

    def _names(self, backend: Backend, number: int, digits: str) -> Names:
        place = gc.document(number, Digest(digits))
        if place not in self._documents:
            self._documents[place] = read_names(backend, place, Digest(digits))
        return self._documents[place]


def read_names(backend: Backend, place: str, digest: Digest) -> Names:
    """A document of names. Raises Corrupt, naming it."""
    try:
        data = backend.get(place)
    except NameNotFound as error:
        raise Corrupt(f"{place} is missing", place=place) from error
    if Digest.of(data) != digest:
        raise Corrupt(f"{place} is damaged: its sha256 is not its name", place=place)
    return gc.decode_names(data, place=place)


_STORING = {"create", "put", "stage.commit", "stage.replace"}


class _View(WatchedBackend):
    """A backend without the names that are `hidden`."""

    def __init__(self, inner: Backend, hidden: Callable[[str], bool]) -> None:
        super().__init__(inner, self._look)
        self._hidden = hidden

    def _look(self, operation: str, name: str) -> None:
        if name and self._hidden(name):
            if operation in _STORING:
                raise NameRetired(
                    f"{name} was collected once, and its name is not used again", name=name
                )
            if operation not in ("walk", "names", "folders", "token"):
                raise NameNotFound(f"{self.url}: {name} is collected", name=name)

    def walk(self, prefix: str) -> Iterator[Stat]:
        return (stat for stat in self.inner.walk(prefix) if not self._hidden(stat.name))
