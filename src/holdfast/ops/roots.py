"""The roots of a store, as a collector reads them: what syncs hold, what names name, and what runs need.

In this order, and each is listed only when the one before is read: a sync that ends meanwhile has put what it
held into a run that is listed later. See docs/format/gc.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

from holdfast import verified_artifact
from holdfast.ahead import in_order
from holdfast.backend.base import Stat
from holdfast.chain import EMPTY, Chain, Snapshot
from holdfast.condemned import read_names
from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import alias, gc, layout, snapshot
from holdfast.format.manifest import State
from holdfast.ops import reach
from holdfast.ops.artifacts import directory_entries
from holdfast.repository import Repository
from holdfast.series import is_sealed

Numbers = Mapping[str, tuple[int, ...]]  # of the entries of each chain, by its prefix
Act = Callable[
    ["Roots", Chain, Snapshot], Snapshot
]  # what a collector does to a chain it has loaded
Progress = Callable[[int, int], None]
ANY, PACKED, PLAIN = 1, 2, 4  # the layouts that those who need an artifact ask for
_WISHES = {"packed": PACKED, "plain": PLAIN}


@dataclass(frozen=True, slots=True)
class Needs:
    """What one run needs, small enough to be kept of a hundred thousand."""

    tips: tuple[tuple[str, int], ...]  # its chains, and their newest numbers
    artifacts: bytes  # 32 bytes each
    layouts: bytes  # one byte each
    segments: bytes  # 32 bytes each
    is_open: bool
    is_deleted: bool  # and not yet collected
    is_collected: bool
    about: State  # of the manifest, if the run is deleted, or open: what is said of it
    unneeded: tuple[tuple[str, int], ...]  # names of the run that no state needs, with their sizes
    every: tuple[tuple[str, int], ...]  # all its names, if it is deleted


@dataclass(slots=True)
class Roots:
    """What was found. `held` are names that open syncs hold, `pinned` the runs that names name."""

    runs: dict[str, Needs] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    ended_syncs: set[str] = field(default_factory=set)
    open_syncs: dict[str, State] = field(default_factory=dict)
    pinned: dict[str, str] = field(default_factory=dict)  # run id: the name that keeps it
    artifacts: dict[bytes, int] = field(default_factory=dict)  # of names, with ANY
    segments: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    entries: dict[str, int] = field(default_factory=dict)  # chains that snapshots name, and how far


class Reader:
    """Reads the roots. What it has read of a run is kept: entries never change."""

    def __init__(self, repository: Repository, progress: Progress | None = None) -> None:
        # A recipe that names a retired file is void: it rebuilds nothing.
        self._seen = replace(repository, backend=repository.condemned.remains(repository.backend))
        self._repository, self._backend = repository, repository.backend
        self._progress = progress or (lambda done, total: None)
        self._known: dict[str, Needs] = {}
        self._directories: dict[Digest, tuple[bytes, ...]] = {}

    def read(self, act: Act = lambda roots, chain, found: found) -> Roots:
        """All roots; `act` is what is done to each chain after it was loaded, and before it is read.

        Raises Corrupt for a root that cannot be read."""
        roots = Roots()
        self._syncs(roots, act)
        self._names(roots, act)
        self._runs(roots, act)
        return roots

    # Syncs.

    def _syncs(self, roots: Roots, act: Act) -> None:
        for sync_id in self._backend.folders(layout.SYNCS):
            chain = Chain(self._backend, layout.sync(sync_id))
            if self._repository.condemned.has(layout.entry(chain.prefix, 0)):
                roots.ended_syncs.add(sync_id)  # a collector has begun to remove it
                continue
            state = act(roots, chain, chain.load()).state
            if state.get(gc.SYNC, {}).get("closed"):
                roots.ended_syncs.add(sync_id)
                continue
            roots.open_syncs[sync_id] = state
            roots.held |= state.get(gc.NEEDS, {}).keys()
            for digits in state.get(gc.HOLDS, {}):
                digest = Digest(digits)
                roots.held.update(read_names(self._backend, gc.held(sync_id, digest), digest))

    # Aliases and snapshots.

    def _names(self, roots: Roots, act: Act) -> None:
        for prefix in (layout.SNAPSHOTS, layout.ALIASES):
            for name, numbers in _chains(self._backend.walk(prefix)).items():
                chain = Chain(self._backend, name)
                newest = act(roots, chain, chain.load(numbers))
                if prefix == layout.ALIASES:
                    self._named(roots, alias.target(newest.state), name)
                    continue
                for number in range(newest.number + 1):
                    target = alias.target(chain.load_hinted(number).state)
                    if target is not None and target.digest is not None:
                        self._snapshot(roots, Digest.parse(target.digest), name)

    def _named(self, roots: Roots, target: alias.Target | None, name: str) -> None:
        if target is None:
            return
        if target.is_run:
            roots.pinned.setdefault(str(target.run_id), name)
            return
        for raw in self._files(target.about):
            roots.artifacts[raw] = ANY

    def _snapshot(self, roots: Roots, digest: Digest, name: str) -> None:
        place, read = layout.blob(digest), partial(verified_artifact.read, self._backend)
        try:
            document = snapshot.decode(read(digest), place=place)
            listed = read(document.list)
        except Corrupt as error:
            raise Corrupt(f"{error.message}; the snapshot {name} needs it", place=place) from error
        rows = snapshot.decode_list(listed, document, place=layout.blob(document.list))
        roots.artifacts |= {digest.raw: ANY, document.list.raw: ANY}
        for row in rows:
            if row.prefix.startswith(layout.RUNS):
                run_id = row.prefix.split("/", 2)[1]
                roots.pinned.setdefault(run_id, name)
                roots.entries[row.prefix] = max(row.number, roots.entries.get(row.prefix, -1))
                self._older(roots, run_id, row)
            elif row.prefix.startswith(layout.ALIASES):
                state = Chain(self._backend, row.prefix).load_hinted(row.number).state
                self._named(roots, alias.target(state), name)

    def _older(self, roots: Roots, run_id: str, row: snapshot.Row) -> None:
        """What the state in a row needs, unless it is the one that the run has now."""
        known = self._known.get(run_id)
        if known and (row.prefix, row.number) in known.tips:
            return
        chain = Chain(self._backend, row.prefix)
        try:
            state = chain.load_hinted(row.number).state
        except Corrupt:  # a snapshot that was refused, since the run was collected meanwhile
            if gc.is_collected(Chain(self._backend, layout.manifest(run_id)).load().state):
                return
            raise
        roots.segments[run_id] |= {bytes.fromhex(digits) for digits in state.get("segments", {})}
        for about in state.get("artifacts", {}).values():
            for raw in self._files(about):
                roots.artifacts[raw] = ANY

    # Runs.

    def _runs(self, roots: Roots, act: Act) -> None:
        read = partial(self._run, act=partial(act, roots))
        workers = 1 if self._backend.capabilities.append else self._backend.capabilities.parallel
        found = (
            map(read, self._listed())
            if workers == 1
            else in_order(read, self._listed(), workers=workers)
        )
        for number, (run_id, needs) in enumerate(found):
            self._known[run_id] = roots.runs[run_id] = needs
            if number % 1024 == 0:
                self._progress(number, len(self._known))

    def _listed(self) -> Iterator[tuple[str, list[Stat]]]:
        """The names of each run: one listing of all."""
        found = groupby(
            self._backend.walk(layout.RUNS), key=lambda stat: stat.name.split("/", 2)[1]
        )
        for run_id, stats in found:
            yield run_id, list(stats)

    def _run(
        self, item: tuple[str, list[Stat]], act: Callable[[Chain, Snapshot], Snapshot]
    ) -> tuple[str, Needs]:
        run_id, stats = item
        numbers = _chains(stat for stat in stats if not stat.name.endswith((".seg", ".spool")))
        tips = tuple((prefix, max(found)) for prefix, found in numbers.items())
        known = self._known.get(run_id)
        if known and known.tips == tips and not known.is_open and not known.is_deleted:
            return run_id, known
        chains: dict[str, Snapshot] = {}
        for prefix in sorted(numbers):  # the manifest comes first
            if not any(gc.is_collected(one.state) for one in chains.values()):
                chain = Chain(self._backend, prefix)
                chains[prefix] = act(chain, chain.load(numbers[prefix]))
        return run_id, self._needs(run_id, chains, stats)

    def _needs(self, run_id: str, chains: Mapping[str, Snapshot], stats: list[Stat]) -> Needs:
        states = [one.state for one in chains.values()]
        main = chains.get(layout.manifest(run_id), EMPTY).state
        asked: dict[bytes, int] = defaultdict(int)
        for about in (about for state in states for about in state.get("artifacts", {}).values()):
            wish = _WISHES.get(about.get("layout", ""), ANY)
            for raw in self._files(about):
                asked[raw] |= wish
        segments = [row for state in states for row in state.get("segments", {}).items()]
        is_open = any(gc.is_open(state, self._repository.store_id) for state in states)
        is_collected = gc.is_collected(main)
        is_deleted = "deleted_at" in main.get("run", {}) and not is_collected
        unneeded = _unneeded(run_id, chains, segments, stats, self._repository.store_id)
        return Needs(
            tuple((name, one.number) for name, one in chains.items()),
            b"".join(asked),
            bytes(asked.values()),
            b"".join(bytes.fromhex(digits) for digits, _ in segments),
            is_open,
            is_deleted,
            is_collected,
            {k: main[k] for k in ("run", "writer") if k in main} if is_open or is_deleted else {},
            tuple((stat.name, stat.size_bytes) for stat in unneeded),
            tuple((stat.name, stat.size_bytes) for stat in stats) if is_deleted else (),
        )

    def _files(self, about: Mapping[str, Any]) -> Collection[bytes]:
        """The files of an artifact, each 32 bytes. Directories are read once."""
        if about["kind"] != "directory":
            return [] if about["kind"] == "record" else [bytes.fromhex(about["digest"][7:])]
        digest = Digest.parse(about["digest"])
        if digest not in self._directories:
            found = reach.of_artifact(self._seen, about)
            self._directories[digest] = tuple(one.raw for one in found)
        if about.get("layout") != "plain":
            return self._directories[digest]
        entries = directory_entries(
            self._seen, digest
        )  # those of its bundle as well, by themselves
        return {digest.raw, *(entry.digest for entry in entries if entry.digest)}


def _chains(stats: Iterable[Stat]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for stat in stats:
        number = layout.entry_number(stat.name)
        if number is not None:
            found[stat.name[:-8]].append(number)
    return found


def _unneeded(
    run_id: str,
    chains: Mapping[str, Snapshot],
    segments: list[tuple[str, Any]],
    stats: list[Stat],
    store_id: str,
) -> Iterator[Stat]:
    """Segments that no state names, and spools whose points are in segments; of a run that is collected all
    but the entry that says so. Segments of a run that comes from another store, and has yet to come whole,
    stay: their entries bear the same bytes there, so they could not come under another name."""
    main = chains.get(layout.manifest(run_id), EMPTY)
    if gc.is_collected(main.state):
        last = layout.entry(layout.manifest(run_id), main.number)
        yield from (stat for stat in stats if stat.name != last)
        return
    needed = {layout.segment(run_id, Digest(digits)) for digits, _ in segments}
    is_coming = gc.is_coming(main.state, store_id)
    for stat in stats:
        if stat.name.endswith(".seg"):
            if stat.name not in needed and not is_coming:
                yield stat
        elif stat.name.endswith(".spool"):
            _, writer, sequence = layout.spool_parts(stat.name)
            if any(is_sealed(one.state, writer, sequence) for one in chains.values()):
                yield stat
