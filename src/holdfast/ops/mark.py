"""What of a store nothing needs, given its roots: each file with its size.

Only files that are listed here may be condemned, and only those that are listed again once writers know of it
may go. Everything that no page of the format defines is left alone. See docs/format/gc.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from holdfast.ahead import in_order
from holdfast.digest import Digest
from holdfast.format import layout, recipe
from holdfast.ops.reach import homes_of
from holdfast.ops.roots import ANY, PACKED, PLAIN, Needs, Roots
from holdfast.repository import Repository

Counts = Callable[[str, Needs], bool]  # is this run a root?
Intact = Callable[[Digest], bool]  # can the artifact be read in the form that is to stay?
_EMPTY = layout.blob(Digest.of(b""))  # nothing to free, and it could not be packed


@dataclass(frozen=True, slots=True)
class _Recipe:
    """A recipe of a live artifact."""

    name: str
    size_bytes: int
    homes: frozenset[str]

    @property
    def artifact(self) -> bytes:
        return _raw(self.name)


@dataclass(slots=True)
class _Files:
    """What lies under blobs/, packs/ and recipes/."""

    unneeded: dict[str, int] = field(default_factory=dict)  # as far as is known
    sizes: dict[str, int] = field(
        default_factory=dict
    )  # of packs, and of blobs that somebody asks for
    recipes: dict[bytes, list[_Recipe]] = field(default_factory=lambda: defaultdict(list))


def unneeded(
    repository: Repository,
    roots: Roots,
    counts: Counts = lambda run_id, needs: True,
    intact: Intact = lambda digest: True,
) -> dict[str, int]:
    """The names that nothing needs, with their sizes. Raises Corrupt."""
    return _Mark(repository, roots, counts, intact).unneeded()


class _Mark:
    def __init__(
        self, repository: Repository, roots: Roots, counts: Counts, intact: Intact
    ) -> None:
        self._backend, self._retired = repository.backend, repository.condemned.is_retired
        self._roots, self._counts, self._intact = roots, counts, intact
        self._live = dict(roots.artifacts)
        for run_id, needs in roots.runs.items():
            if counts(run_id, needs):
                self._add(needs)

    def _add(self, needs: Needs) -> None:
        for number, wish in enumerate(needs.layouts):
            raw = needs.artifacts[32 * number : 32 * number + 32]
            self._live[raw] = self._live.get(raw, 0) | wish

    def unneeded(self) -> dict[str, int]:
        files = self._listed()
        found = files.unneeded
        kept = list(self._kept(files))
        names = {row.name for row in kept}
        rows = (row for rows in files.recipes.values() for row in rows)
        found |= {row.name: row.size_bytes for row in rows if row.name not in names}
        for home in (home for row in kept for home in row.homes):
            found.pop(home, None)
        found |= dict(self._of_runs())
        found |= dict(self._of_others())
        found.pop(_EMPTY, None)
        return {name: size for name, size in found.items() if name not in self._roots.held}

    # Blobs, packs and recipes.

    def _listed(self) -> _Files:
        files = _Files()
        rows = []
        for stat in self._backend.walk(layout.RECIPES):
            if self._live.get(_raw(stat.name)) is None or self._retired(stat.name):
                files.unneeded[stat.name] = stat.size_bytes
            else:
                rows.append((stat.name, stat.size_bytes))
        parallel = self._backend.capabilities.parallel
        for row in in_order(self._decoded, rows, workers=parallel):
            files.recipes[row.artifact].append(row)
        homes = {home for rows in files.recipes.values() for row in rows for home in row.homes}
        for stat in self._backend.walk(layout.PACKS):
            files.unneeded[stat.name] = stat.size_bytes
            if not self._retired(stat.name):
                files.sizes[stat.name] = stat.size_bytes
        for stat in self._backend.walk(layout.BLOBS):
            wish, retired = self._live.get(_raw(stat.name), 0), self._retired(stat.name)
            if not wish or retired:
                files.unneeded[stat.name] = stat.size_bytes
            if not retired and (stat.name in homes or not wish & ANY):
                files.sizes[stat.name] = stat.size_bytes
        return files

    def _decoded(self, item: tuple[str, int]) -> _Recipe:
        name, size = item
        made_of = recipe.decode(self._backend.get(name), place=name)
        return _Recipe(name, size, frozenset(homes_of(made_of)))

    def _kept(self, files: _Files) -> Iterator[_Recipe]:
        """The recipes that are not void, but for those of a layout that nobody wants any more."""
        for raw, rows in files.recipes.items():
            blob = layout.blob(Digest.from_raw(raw))
            sound = [row for row in rows if row.homes <= files.sizes.keys()]
            packed = [row for row in sound if row.homes != {blob}]
            wish = self._live[raw]
            if wish == PACKED and packed and blob in files.sizes and self._may_drop(raw):
                files.unneeded[blob] = files.sizes[blob]
                yield from packed
            elif wish == PLAIN and packed and blob in files.sizes and self._may_drop(raw):
                yield from (row for row in sound if row.homes == {blob} or _is_bundle(row))
            else:
                yield from sound

    def _may_drop(self, raw: bytes) -> bool:
        return self._intact(Digest.from_raw(raw))

    # Everything else.

    def _of_runs(self) -> Iterator[tuple[str, int]]:
        for run_id, needs in self._roots.runs.items():
            pinned = {raw.hex() for raw in self._roots.segments.get(run_id, ())}
            rows = needs.unneeded if self._counts(run_id, needs) else needs.every
            for name, size in rows or needs.unneeded:
                if name.rpartition("/")[2].removesuffix(".seg") not in pinned:
                    yield name, size

    def _of_others(self) -> Iterator[tuple[str, int]]:
        """Syncs that have ended, what was noted of runs that are gone, and tries of the storage."""
        for sync_id in self._roots.ended_syncs:
            for stat in self._backend.walk(layout.sync(sync_id)):
                yield stat.name, stat.size_bytes
        gone = {run_id for run_id, needs in self._roots.runs.items() if needs.is_collected}
        for stat in self._backend.walk(layout.ABSENT) if gone else ():
            if stat.name.split("/", 2)[1] in gone:
                yield stat.name, stat.size_bytes
        for stat in self._backend.walk(layout.PROBES):
            yield stat.name, stat.size_bytes


def _raw(name: str) -> bytes:
    """The digest in the name of a blob, a pack or a recipe, 32 bytes."""
    return bytes.fromhex(name.rpartition("/")[2][:64])


def _is_bundle(row: _Recipe) -> bool:
    return row.name.endswith(layout.BUNDLE)
