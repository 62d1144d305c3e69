"""What a run needs: the files without which not all of it can be read.

To sync a run is to bring these; to collect garbage is to keep these of every run. See docs/format/layout.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from holdfast.backend.base import Backend
from holdfast.bundles import Bundle
from holdfast.chain import Snapshot
from holdfast.digest import Digest
from holdfast.errors import NotSynced
from holdfast.format import layout, recipe
from holdfast.format.recipe import Recipe
from holdfast.ops.artifacts import directory_entries
from holdfast.repository import Repository
from holdfast.verified_artifact import whole


@dataclass(frozen=True, slots=True)
class Reach:
    """`chains`: the run's manifest and those of its ranks, as they stood. `segments`: the names of the
    files, with their sizes. `artifacts`: each file of each artifact, and each listing of a directory,
    with its size, or None where only its bytes tell."""

    run_id: str
    experiment_id: str
    chains: Mapping[str, Snapshot]
    segments: Mapping[str, int]
    artifacts: Mapping[Digest, int | None]


def of_run(repository: Repository, run_id: str) -> Reach:
    """What the run needs as it stands now. Raises Corrupt: a root that cannot be read hides what it needs."""
    found = [repository.manifest(run_id)]
    found += [repository.rank(run_id, rank) for rank in repository.ranks(run_id)]
    return of_chains(repository, run_id, {chain.prefix: chain.load() for chain in found})


def of_chains(repository: Repository, run_id: str, chains: Mapping[str, Snapshot]) -> Reach:
    """What the run needs in the given states of its chains. Raises Corrupt, NameNotFound."""
    segments: dict[str, int] = {}
    for snapshot in chains.values():
        for name, about in snapshot.state.get("segments", {}).items():
            segments[layout.segment(run_id, Digest(name))] = about["size_bytes"]
    main = chains[layout.manifest(run_id)].state
    artifacts: dict[Digest, int | None] = {}
    for about in main.get("artifacts", {}).values():
        artifacts.update(of_artifact(repository, about))
    experiment_id = main.get("run", {}).get("experiment_id", "")
    return Reach(run_id, experiment_id, chains, segments, artifacts)


def of_artifact(repository: Repository, about: Mapping[str, Any]) -> dict[Digest, int | None]:
    """Every file of one artifact, as a manifest describes it; none for a mere record of the seed. The files
    of a directory that its bundle rebuilds are left out: what is needed of the directory holds them."""
    if about["kind"] == "record":
        return {}
    digest = Digest.parse(about["digest"])
    if about["kind"] != "directory":
        return {digest: about["size_bytes"]}
    try:
        held, entries = bundled(repository, digest), directory_entries(repository, digest)
    except NotSynced:  # left out with all that is in it
        return {digest: None}
    members = {Digest.from_raw(e.digest): e.size_bytes for e in entries if e.digest is not None}
    return {digest: None} | {of: size for of, size in members.items() if of not in held}


def bundled(repository: Repository, tree: Digest) -> set[Digest]:
    """The files of a directory that a bundle of it rebuilds, whose packs are there. Raises Corrupt."""
    backend, found = repository.backend, Bundle.of(repository.backend, tree).recipes
    return set(Bundle(backend, [made_of for made_of in found if whole(backend, made_of)]))


class Homes:
    """Where the bytes of artifacts lie: the blobs and recipes of a store, listed once."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.sizes: dict[str, int] = {}  # of every blob, pack and recipe
        for prefix in (layout.BLOBS, layout.PACKS, layout.RECIPES):
            for stat in backend.walk(prefix):
                self.sizes[stat.name] = stat.size_bytes
        self._recipes: dict[str, list[str]] = defaultdict(list)
        for name in self.sizes:
            if name.startswith(layout.RECIPES):
                self._recipes[name.rpartition("/")[2].partition(".")[0]].append(name)

    def recipes(self, digest: Digest) -> list[str]:
        """The names of all recipes of an artifact."""
        return self._recipes.get(digest.hex, [])

    def recipe(self, name: str) -> Recipe:
        """Raises Corrupt, NameNotFound."""
        return recipe.decode(self._backend.get(name), place=name)

    def files(self, digest: Digest) -> set[str]:
        """All files that some way of reading the artifact needs: blob, recipes, and what those point into.

        Empty if there is none. Names that a recipe points to are in it whether they are there or not."""
        plain = layout.blob(digest)
        names = {plain} if plain in self.sizes else set()
        for name in self.recipes(digest):
            names.add(name)
            names.update(homes_of(self.recipe(name)))
        return names


def homes_of(made_of: Recipe) -> set[str]:
    """The packs and blobs that a recipe points into."""
    return {layout.pack(home) if packed else layout.blob(home) for home, packed in made_of.homes}
