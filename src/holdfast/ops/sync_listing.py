"""What a store has, by listing: its chains with their newest entries, and the files that hold bytes.

Chains   the chains of a store, or of some runs of it, by one listing of each folder
Files    blobs, packs and recipes, listed when they are asked for: never one request for each
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

from holdfast.backend.base import Backend, Stat
from holdfast.condemned import Condemned
from holdfast.digest import Digest
from holdfast.errors import Corrupt
from holdfast.format import layout

_ONE_BY_ONE = 64  # runs that are listed each for itself; of more, everything is
_FEW_FOLDERS = 24  # of the 256 below blobs/ and the like: of more, everything is listed
_CHAIN_OF_RUN = re.compile(r"runs/[^/]+/(manifest|ranks/[0-9]+)/\Z")
NAMED = (layout.EXPERIMENTS, layout.ALIASES, layout.SNAPSHOTS)  # chains that belong to no run


@dataclass(slots=True)
class Tip:
    """The newest entry of a chain as it was listed; `gap` is the first number that is missing below it."""

    number: int
    size_bytes: int
    modified: int
    gap: int | None = None

    def check(self, prefix: str) -> None:
        """Raises Corrupt if an entry is missing."""
        if self.gap is not None:
            place = layout.entry(prefix, self.gap)
            raise Corrupt(f"{place} is missing, although later entries are there", place=place)


NOTHING = Tip(-1, 0, 0)  # of a chain that does not exist


@dataclass(slots=True)
class Chains:
    """`runs`: by run id the tips of its chains by prefix; `named`: those of experiments and the like.
    `segments`: their sizes by name. `noted`: the runs with a note of what is absent."""

    runs: dict[str, dict[str, Tip]] = field(default_factory=dict)
    named: dict[str, Tip] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    @classmethod
    def listed(cls, backend: Backend, runs: Collection[str] | None = None) -> Chains:
        """Of the whole store, or of `runs` alone (and maybe of others)."""
        found = cls()
        for folder in NAMED:
            for stat in backend.walk(folder):
                _enter(found.named, stat)
        for stat in _of_runs(backend, runs):
            run_id = stat.name.split("/", 2)[1]
            if stat.name.endswith(".seg"):
                found.segments[stat.name] = stat.size_bytes
            elif _CHAIN_OF_RUN.match(stat.name.rpartition("/")[0] + "/"):
                _enter(found.runs.setdefault(run_id, {}), stat)
        found.noted = set(backend.folders(layout.ABSENT))
        return found


def _of_runs(backend: Backend, runs: Collection[str] | None) -> Iterator[Stat]:
    if runs is None or len(runs) > _ONE_BY_ONE:
        yield from backend.walk(layout.RUNS)
        return
    for run_id in sorted(runs):
        yield from backend.walk(layout.run(run_id))


def _enter(tips: dict[str, Tip], stat: Stat) -> None:
    """An entry of a chain, after those with lesser numbers."""
    number = layout.entry_number(stat.name)
    if number is None:
        return
    prefix = stat.name.rpartition("/")[0] + "/"
    known = tips.get(prefix)
    expected = 0 if known is None else known.number + 1
    gap = known.gap if known and known.gap is not None else None
    if gap is None and number != expected:
        gap = expected
    tips[prefix] = Tip(number, stat.size_bytes, stat.modified, gap)


class Files:
    """The blobs, packs and recipes of one store; those that are `condemned` there count as not there. Not
    for several threads at once."""

    def __init__(self, backend: Backend, condemned: Condemned | None = None) -> None:
        self._backend = backend
        self.condemned = condemned or Condemned()
        self._seen: dict[str, set[str]] = defaultdict(set)
        self._recipes: dict[str, list[str]] = defaultdict(list)
        self.sizes: dict[str, int] = {}

    def look(self, kind: str, digests: Iterable[Digest], pool: Executor) -> None:
        """List the folders of `kind` (blobs, packs or recipes) that these digests lie in."""
        folders = {digest.hex[:2] for digest in digests} - self._seen[kind]
        if not folders or "" in self._seen[kind]:
            return
        if len(folders) > _FEW_FOLDERS:
            folders = {""}
        prefixes = [f"{kind}{folder}/" if folder else kind for folder in sorted(folders)]
        for stats in pool.map(lambda prefix: list(self._backend.walk(prefix)), prefixes):
            for stat in stats:
                self._add(kind, stat)
        self._seen[kind] |= folders

    def _add(self, kind: str, stat: Stat) -> None:
        if kind == layout.RECIPES and stat.name not in self.sizes:
            self._recipes[stat.name.rpartition("/")[2].partition(".")[0]].append(stat.name)
        self.sizes[stat.name] = stat.size_bytes

    def size(self, name: str) -> int | None:
        """Of a blob, pack or recipe whose folder was looked at; None if it is not there."""
        return None if self.condemned.has(name) else self.sizes.get(name)

    def recipes(self, digest: Digest) -> list[str]:
        """The names of the recipes of an artifact."""
        return [name for name in self._named(digest) if not name.endswith(layout.BUNDLE)]

    def bundles(self, digest: Digest) -> list[str]:
        """The names of the recipes of the small files of a directory, by the digest of its listing."""
        return [name for name in self._named(digest) if name.endswith(layout.BUNDLE)]

    def _named(self, digest: Digest) -> list[str]:
        return [n for n in self._recipes.get(digest.hex, []) if not self.condemned.has(n)]
