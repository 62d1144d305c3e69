"""fsck by names: what one listing of the store shows, without a look into any file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import HoldfastError, NameNotFound
from holdfast.format import gc, kinds, layout
from holdfast.ops.findings import Found, User
from holdfast.repository import Repository

_LISTED = {  # kinds whose every file is told
    kinds.FOREIGN: ("foreign", "is no name that a store has"),
    kinds.PROBE: ("leftover", "is left of a try of the storage"),
    kinds.QUARANTINE: ("quarantined", "is a damaged file that was moved out of the way"),
}


# Kinds of chains that have heads.
_WITH_HEADS = (layout.RUNS, layout.EXPERIMENTS, layout.ALIASES, layout.SNAPSHOTS)
Chains = tuple[tuple[str, tuple[int, ...]], ...]  # (prefix, the numbers of its entries)


@dataclass(slots=True)
class Listing:
    """Every name in the store with its size; chains by their prefix, with the numbers of their entries."""

    sizes: dict[str, int] = field(default_factory=dict)
    chains: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    heads: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    of_kind: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    left: list[str] = field(default_factory=list)  # temporary files, which no listing shows
    collected: set[str] = field(
        default_factory=set
    )  # chains of which a collector left the last entry

    @classmethod
    def of(cls, repository: Repository) -> Listing:
        found = cls()
        for stat in repository.backend.walk(""):
            found.sizes[stat.name] = stat.size_bytes
            kind = kinds.kind_of(stat.name)
            found.of_kind[kind].append(stat.name)
            number = layout.entry_number(stat.name)
            if kind == kinds.ENTRY and number is not None:
                found.chains[stat.name.rpartition("/")[0] + "/"].append(number)
            elif kind == kinds.HEAD:
                prefix, _, last = stat.name.rpartition("@")
                found.heads[prefix].append(int(last))
        for chain, numbers in found.chains.items():
            if len(numbers) <= max(numbers) and _is_collected(repository, chain, numbers):
                found.collected.add(chain)
        found.left = list(getattr(repository.backend, "temporaries", list)())
        return found

    def runs(self) -> list[str]:
        """The ids of all runs of which there is any file."""
        names = (name.split("/", 2)[1] for name in self.sizes if name.startswith(layout.RUNS))
        return list(dict.fromkeys(names))

    def chains_of(self, run_id: str) -> Chains:
        """The chains of a run, that is its manifest and those of its ranks, with their entries."""
        if not self._by_run:
            for chain in self.chains:
                if chain.startswith(layout.RUNS):
                    self._by_run[chain.split("/", 2)[1]].append(chain)
        return tuple((c, tuple(self.chains[c])) for c in sorted(self._by_run.get(run_id, ())))

    def size(self, name: str) -> int | None:
        return self.sizes.get(name)

    def recipes_of(self, digest: str) -> list[str]:
        """The names of the recipes of an artifact."""
        if not self._by_artifact:
            for name in self.of_kind[kinds.RECIPE]:
                self._by_artifact[kinds.artifact_of(name).hex].append(name)
        return self._by_artifact.get(digest, [])

    def segment_bytes(self) -> dict[str, int]:
        """How many bytes of segments each run has."""
        found: dict[str, int] = defaultdict(int)
        for name in self.of_kind[kinds.SEGMENT]:
            found[name.split("/", 2)[1]] += self.sizes[name]
        return found

    _by_run: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _by_artifact: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class Fresh:
    """The same questions, each asked of the store now."""

    def __init__(self, repository: Repository) -> None:
        self._backend = repository.backend

    def chains_of(self, run_id: str) -> Chains:
        found: dict[str, list[int]] = defaultdict(list)
        for stat in self._backend.walk(layout.run(run_id)):
            number = layout.entry_number(stat.name)
            if kinds.kind_of(stat.name) == kinds.ENTRY and number is not None:
                found[stat.name.rpartition("/")[0] + "/"].append(number)
        return tuple((chain, tuple(numbers)) for chain, numbers in sorted(found.items()))

    def size(self, name: str) -> int | None:
        try:
            return self._backend.stat(name).size_bytes
        except NameNotFound:
            return None

    def recipes_of(self, digest: str) -> list[str]:
        prefix = layout.recipes(Digest(digest))
        found = self._backend.walk(prefix.rpartition("/")[0] + "/")
        return [stat.name for stat in found if stat.name.startswith(prefix)]


def check(listing: Listing) -> Iterator[Found]:
    """What the names alone say."""
    for kind, (code, words) in _LISTED.items():
        for name in listing.of_kind[kind]:
            yield Found(code, name, f"{name} {words}")
    for name in listing.left:
        yield Found("leftover", name, f"{name} is a temporary file that was left behind")
    for kind, least in kinds.LEAST_BYTES.items():
        for name in listing.of_kind[kind]:
            if listing.sizes[name] < least:
                size = f"{listing.sizes[name]} bytes, and no {kind} has less than {least}"
                yield Found("size", name, f"{name} is damaged: it has {size}", (), owner(name))
    for chain, numbers in listing.chains.items():
        if chain not in listing.collected:
            yield from _gaps(chain, numbers)
        yield from _head(listing, chain, max(numbers))
    yield from _runs(listing)


def _is_collected(repository: Repository, chain: str, numbers: list[int]) -> bool:
    try:
        return gc.is_collected(Chain(repository.backend, chain).load(numbers).state)
    except HoldfastError:
        return False


def owner(name: str) -> tuple[User, ...]:
    """The run under which a file lies."""
    return (User(name.split("/", 2)[1]),) if name.startswith(layout.RUNS) else ()


def of_chain(chain: str) -> str:
    """What a chain that is no run's belongs to, for people: `experiment 7f…`."""
    kind, _, rest = chain.rstrip("/").partition("/")
    words = {"aliases": "alias", "gc": "the collector's log"}
    return f"{words.get(kind, kind.removesuffix('s'))} {rest}".rstrip()


def _gaps(chain: str, numbers: list[int]) -> Iterator[Found]:
    for number in sorted(set(range(max(numbers))) - set(numbers)):
        place = layout.entry(chain, number)
        message = f"{place} is missing, and entry {max(numbers)} is there"
        yield Found("gap", place, message, (), owner(place), of_chain(chain))


def _head(listing: Listing, chain: str, newest: int) -> Iterator[Found]:
    """A head may run ahead of its chain, and never falls behind."""
    if not chain.startswith(_WITH_HEADS):
        return
    prefix = layout.head(chain, newest).rpartition("@")[0]
    shown = listing.heads.get(prefix, [])
    if max(shown, default=-1) < newest:
        has = f"shows entry {max(shown)}" if shown else "is not there"
        place = layout.head(chain, newest)
        words = f"the head of {chain} {has}, and its newest entry is {newest}"
        yield Found("head", place, words, (), owner(chain), of_chain(chain))


def _runs(listing: Listing) -> Iterator[Found]:
    """Files of a run without a manifest. A writer creates its first entry before anything else; a sync brings
    segments first, and no head before that entry."""
    segments = {name.split("/", 2)[1] for name in listing.of_kind[kinds.SEGMENT]}
    others = {name.split("/", 2)[1] for name in listing.sizes if _is_of_run(name)}
    for run_id in listing.runs():
        if layout.manifest(run_id) in listing.chains:
            continue
        place = layout.entry(layout.manifest(run_id), 0)
        told = layout.head(layout.manifest(run_id), 0).rpartition("@")[0] in listing.heads
        if run_id in segments and run_id not in others and not told:
            message = f"run {run_id} has segments and no manifest: a sync of it did not end"
            yield Found("orphan", layout.run(run_id), message)
            continue
        message = f"{place} is missing, and other files of run {run_id} are there"
        yield Found("missing", place, message, (), (User(run_id),))


def _is_of_run(name: str) -> bool:
    return name.startswith(layout.RUNS) and kinds.kind_of(name) != kinds.SEGMENT
