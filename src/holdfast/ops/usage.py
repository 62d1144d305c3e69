"""Where the bytes of a store are, and what removing something would free: exact, and it adds up.

An *item* is what lies on disk and goes as a whole: a file; of a pack, each chunk (its head, its payload and
its row in the index) and the frame around all of them. An item belongs to every artifact that needs
it. What a group of artifacts would free are the items that belong to no other group. So

    what the groups would free + what they share + garbage + the store's own files = all bytes on disk
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from holdfast.digest import Digest
from holdfast.errors import Corrupt, InvalidValue, UnsupportedFormat
from holdfast.format import layout, pack, recipe
from holdfast.format.recipe import Recipe
from holdfast.ops import artifacts
from holdfast.repository import Repository

BY = ("experiment", "run", "artifact")
_ROW_BYTES = 50  # of a chunk in the index of its pack, and 32 for each base

Items = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One experiment, run or artifact, in bytes.

    `logical`: its artifacts as they were logged, each counted as often as it is named, and its metrics.
    `stored`: all items that it needs. `shared`: those among them that others need too. `freed`: the rest."""

    experiment: str
    run_id: str | None
    key: str | None
    logical_bytes: int
    stored_bytes: int
    shared_bytes: int
    freed_bytes: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """`rows`, the most that would be freed first. The freed bytes of all rows, `shared_bytes` (needed by
    several), `hidden_bytes` (needed by one that was not asked for), `garbage_bytes` (needed by none) and
    `own_bytes` (the store's own files) add up to `total_bytes`, all that lies on disk.

    If there are `unreadable` runs, what they alone need is counted as garbage."""

    rows: list[UsageRow]
    total_bytes: int
    shared_bytes: int
    hidden_bytes: int
    garbage_bytes: int
    own_bytes: int
    logical_bytes: int
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunState:
    """What is asked of a run: its experiment, its manifest, whether it is deleted, and if it is shown."""

    run_id: str
    experiment_id: str
    experiment: str  # its name
    state: Mapping[str, Any]
    deleted: bool = False
    shown: bool = True


def usage(repository: Repository, runs: Iterable[RunState], by: str = "run") -> Usage:
    """Who needs what. `runs` are all runs of the store, deleted ones too. Raises InvalidValue, Corrupt."""
    if by not in BY:
        raise InvalidValue(f"usage is by {', '.join(BY)}, not {by!r}")
    return _Count(repository, by).count(list(runs))


@dataclass(slots=True)
class _Group:
    """A row before it is counted."""

    experiment: str
    run_id: str | None
    key: str | None
    deleted: bool
    shown: bool
    logical: int = 0
    parts: list[Items] = field(default_factory=list)


class _Items:
    """All items of the store: their sizes, and which of them an artifact needs."""

    def __init__(self, repository: Repository) -> None:
        self._backend = repository.backend
        self.number: dict[str, int] = {}  # of each file
        self.sizes: list[int] = []
        for stat in self._backend.walk(""):
            self.number[stat.name] = len(self.sizes)
            self.sizes.append(stat.size_bytes)
        self._recipes: dict[str, list[str]] = defaultdict(list)
        self._packs: dict[Digest, tuple[int, Items]] = {}
        self._known: dict[Digest, Items] = {}
        for name in self.number:
            if name.startswith("recipes/"):
                self._recipes[name.rpartition("/")[2].partition(".")[0]].append(name)

    def of_artifact(self, digest: Digest) -> Items:
        """The items that an artifact needs, in no order, some perhaps twice. Raises Corrupt."""
        if digest not in self._known:
            names = self._recipes.get(digest.hex, [])
            parts = [self.of_files([layout.blob(digest), *names])]
            for name in names:
                parts += self._of_recipe(recipe.decode(self._backend.get(name), place=name))
            self._known[digest] = np.unique(np.concatenate(parts))
        return self._known[digest]

    def of_files(self, names: Iterable[str]) -> Items:
        """Those of the files that are there."""
        return np.array([self.number[n] for n in names if n in self.number], np.int64)

    def _of_recipe(self, made_of: Recipe) -> Iterator[Items]:
        yield self.of_files(layout.blob(home) for home, packed in made_of.homes if not packed)
        for place, (home, packed) in enumerate(made_of.homes):
            if packed and layout.pack(home) in self.number:
                first, offsets = self._pack(home)
                wanted = made_of.columns["offsets"][made_of.columns["homes"] == place]
                yield self.of_files([layout.pack(home)])
                if len(offsets):
                    found = np.minimum(np.searchsorted(offsets, wanted), len(offsets) - 1)
                    yield first + found[offsets[found] == wanted]

    def _pack(self, home: Digest) -> tuple[int, Items]:
        """(the number of its first chunk, where the payloads of all begin). The file's own item is
        what is left: the frame. A pack whose index is damaged goes as a whole."""
        if home not in self._packs:
            name = layout.pack(home)
            number, first = self.number[name], len(self.sizes)
            offsets = np.empty(0, np.int64)
            try:
                index = self._index(name, self.sizes[number])
                bases = index.columns["counts"].astype(np.int64) * pack.ID_BYTES
                heads = pack.head_bytes(0) + _ROW_BYTES + 2 * bases
                sizes = (heads + index.columns["lengths"]).tolist()
                self.sizes += sizes
                self.sizes[number] -= sum(sizes)
                offsets = index.columns["offsets"].astype(np.int64)
            except (Corrupt, UnsupportedFormat):
                pass
            self._packs[home] = first, offsets
        return self._packs[home]

    def _index(self, name: str, size: int) -> pack.Index:
        tail = min(size, pack.TAIL_BYTES)
        return pack.index(
            self._backend.get_range(name, size - tail, tail),
            size,
            lambda offset, length: self._backend.get_range(name, offset, length),
            place=name,
        )


class _Count:
    def __init__(self, repository: Repository, by: str) -> None:
        self._repository, self._by = repository, by
        self._items = _Items(repository)
        self._total = sum(self._items.sizes)
        self._files: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name in self._items.number:
            self._files[_owner(name)].append(name)
        self._groups: dict[tuple[str | None, ...], _Group] = {}

    def count(self, runs: list[RunState]) -> Usage:
        for run in runs:
            self._add(run)
        groups = list(self._groups.values())
        needed = [np.unique(np.concatenate([_NOTHING, *group.parts])) for group in groups]
        sizes = np.array(self._items.sizes, np.int64)
        times = np.zeros(len(sizes), np.int64)
        for items in needed:
            times[items] += 1
        rows, hidden = [], 0
        for group, items in zip(groups, needed, strict=True):
            freed = int(sizes[items][times[items] == 1].sum())
            rows += [_row(group, int(sizes[items].sum()), freed)] if group.shown else []
            hidden += 0 if group.shown else freed
        rows.sort(key=lambda row: (-row.freed_bytes, row.run_id or "", row.key or ""))
        own, unreadable = self._own(runs)
        once, shared = int(sizes[times == 1].sum()), int(sizes[times > 1].sum())
        garbage = self._total - once - shared - own
        logical = sum(group.logical for group in groups)
        return Usage(rows, self._total, shared, hidden, garbage, own, logical, unreadable)

    def _add(self, run: RunState) -> None:
        own = self._group(run, None)
        mine = self._items.of_files(self._files[("runs", run.run_id)])
        own.parts.append(mine)
        own.logical += sum(self._items.sizes[number] for number in mine.tolist())
        if self._by == "experiment":  # its own chain goes with it
            own.parts.append(self._items.of_files(self._files[("experiments", run.experiment_id)]))
        for key, about in run.state.get("artifacts", {}).items():
            if about["kind"] != "record":  # the seed's affair: a name without bytes
                group = self._group(run, key)
                group.logical += about["size_bytes"]
                group.parts += map(self._items.of_artifact, self._members(about))

    def _group(self, run: RunState, key: str | None) -> _Group:
        run_id = None if self._by == "experiment" else run.run_id
        key = key if self._by == "artifact" else None
        name = (run.experiment_id if run_id is None else run_id, key)
        if name not in self._groups:
            self._groups[name] = _Group(run.experiment, run_id, key, True, False)
        group = self._groups[name]
        group.deleted &= run.deleted
        group.shown |= run.shown
        return group

    def _members(self, about: Mapping[str, Any]) -> list[Digest]:
        digest = Digest.parse(about["digest"])
        if about["kind"] != "directory":
            return [digest]
        entries = artifacts.directory_entries(self._repository, digest)
        return [digest, *(Digest.from_raw(entry.digest) for entry in entries if entry.digest)]

    def _own(self, runs: list[RunState]) -> tuple[int, list[str]]:
        """(bytes that belong to no run and are no garbage, the runs that nobody knows)."""
        known = {run.run_id for run in runs}
        experiments = {run.experiment_id for run in runs} if self._by == "experiment" else set()
        names, unreadable = [], []
        for (kind, owner), files in self._files.items():
            if kind == "runs" and owner not in known:
                unreadable.append(owner)
                names += files
            elif kind == "" or (kind == "experiments" and owner not in experiments):
                names += files
        return sum(self._items.sizes[self._items.number[name]] for name in names), unreadable


_NOTHING: Items = np.empty(0, np.int64)


def _owner(name: str) -> tuple[str, str]:
    """What a file belongs to: ("runs" or "experiments", its id), ("data", "") or ("", "")."""
    kind, _, rest = name.partition("/")
    if kind in ("blobs", "packs", "recipes"):
        return "data", ""
    if kind in ("runs", "experiments"):
        return kind, rest.partition("/")[0]
    head = layout.head_parts(name)
    if head is None or head[0] not in ("runs", "ranks", "experiments"):
        return "", ""
    return ("experiments" if head[0] == "experiments" else "runs"), head[1].partition("@")[0]


def _row(group: _Group, stored: int, freed: int) -> UsageRow:
    return UsageRow(
        group.experiment,
        group.run_id,
        group.key,
        group.logical,
        stored,
        stored - freed,
        freed,
        group.deleted,
    )
