"""The methods of `ExperimentStore` for names: addresses, aliases, versions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from holdfast.errors import InvalidValue, Unavailable
from holdfast.format.address import parse
from holdfast.format.alias import Target
from holdfast.ops import alias_moves, aliases, resolve, snapshots
from holdfast.ops.alias_moves import ANYTHING
from holdfast.ops.aliases import Alias
from holdfast.ops.handle import StoredArtifact
from holdfast.ops.lookup import find_run
from holdfast.ops.resolve import At
from holdfast.ops.snapshots import Taken

if TYPE_CHECKING:
    from holdfast.catalog import Catalog
    from holdfast.ops.ancestry import Lineage
    from holdfast.ops.versions import Version
    from holdfast.repository import Repository


class NamingMethods:
    """Mixed into ExperimentStore."""

    repository: Repository
    _ask: Callable[[Callable[[Catalog], Any]], Any]
    _caught_up: Callable[[], None]

    def artifact(self, address: str, key: str | None = None, *, at: At = None) -> StoredArtifact:
        """The artifact at an address, to be read later; the alias in it as it was `at` a generation or
        a time.

        Raises InvalidValue, Ambiguous, ArtifactNotFound, RunNotFound, AliasNotFound.
        """
        return StoredArtifact.of(self.repository, self._artifact(address, key, at))

    def settled(self, address: str) -> StoredArtifact:
        """The artifact at an address, to be kept: one named by its digest alone is told from a directory.
        Raises what `artifact` raises."""
        self._artifact(address)  # which refuses a run
        return StoredArtifact.of(
            self.repository, resolve.settled(self.repository, self._ask, address)
        )

    def resolve(self, address: str, *, at: At = None) -> str:
        """The address without aliases and versions: a run's id, `RUN:KEY` or `sha256:…`. Raises what
        `artifact` raises."""
        self._caught_up()
        return resolve.target(self.repository, self._ask, address, at=at).address

    def alias(self, name: str, to: Any, *, expect: Any = ANYTHING) -> Alias:
        """Have the alias `name` name a run or an artifact: an address, (run, key), or what a method of the
        store gave. An alias of an artifact stays with its bytes; one of a run means the run as it goes on.

        With `expect` it is moved only if it names that now: an address, None for nothing, or the
        number of a generation; else AliasMoved. Raises InvalidValue, NotFound.
        """
        self._caught_up()
        return alias_moves.move(
            self.repository, self._alias(name), name, self._named(name, to), expect
        )

    def aliases(self, under: str = "") -> list[Alias]:
        """Every alias that names something; with `under`, that one and those below it (`prod`,
        `prod/resnet`). A damaged one never hides the others: it is reported as a warning."""
        found, problems = aliases.everything(self.repository, under)
        for problem in problems:
            warnings.warn(f"{problem.message} (left out of the list)", stacklevel=2)
        return found

    def alias_history(self, name: str) -> list[Alias]:
        """Everything an alias ever named, oldest first. Raises AliasNotFound, Corrupt."""
        found = aliases.history(self._alias(name), name)
        if not found:
            aliases.find(self.repository, name)  # which says that there is none
        return found

    def delete_alias(self, name: str, *, expect: Any = ANYTHING) -> Alias:
        """Have it name nothing; its history stays, and `undo_alias` undoes. `expect` as in `alias`."""
        return alias_moves.move(self.repository, self._alias(name), name, None, expect)

    def undo_alias(self, name: str) -> Alias:
        """Have it name what it named before its newest move (or undoing). Raises AliasNotFound,
        AliasMoved when somebody moves it meanwhile."""
        return alias_moves.undo(self.repository, self._alias(name), name)

    def versions(self, experiment: str, key: str) -> list[Version]:
        """The artifacts of one key over the runs of an experiment (its name or id), oldest first.

        `EXPERIMENT:KEY@v3` is the address of number 3. Of a run that has stored the key several times, the
        newest counts. A run that comes in later with an older artifact moves the numbers behind it: to
        hold on to bytes, use an alias, a lock file or the digest. Raises ExperimentNotFound, Ambiguous.
        """
        return resolve.versions_of(self._ask, experiment, key)

    def snapshot(self, name: str | None = None) -> Taken:
        """One sha256 over everything in the store now: the same in every store that holds the same.

        With a `name` it is kept, and with it all that it names; `holdfast.open(url, at=…)` reads it. Points
        that are not sealed yet are not in it. Raises Corrupt when something in the store cannot be read.
        """
        self._caught_up()
        return snapshots.take(self.repository, name)

    def snapshots(self) -> list[Alias]:
        """The snapshots that were kept, by name: the `digest` of their targets is the id. A damaged one
        never hides the others: it is reported as a warning."""
        found, problems = snapshots.everything(self.repository)
        for problem in problems:
            warnings.warn(f"{problem.message} (left out of the list)", stacklevel=2)
        return found

    def proof(self, address: str, key: str | None = None) -> str:
        """A proof, as JSON text, that the snapshot which this store shows (`at=`) holds an artifact;
        `holdfast proof check` needs no store. Raises InvalidValue, ArtifactNotFound."""
        return snapshots.prove(self.repository, self._artifact(address, key))

    def lineage(self, address: str, *, up: int | None = None, down: int | None = None) -> Lineage:
        """What made an artifact or a run and what that had read, and what came of it: runs that read it,
        and what those made. At most `up` and `down` runs away; `str()` is a tree of lines, `to_dot()`
        for Graphviz, `to_dict()` for JSON. Raises what `artifact` raises."""
        from holdfast.ops.ancestry import lineage

        self._caught_up()
        start = resolve.target(self.repository, self._ask, address)
        return lineage(self._ask, start, up, down)

    def _to_use(self, artifact: Any, key: str | None) -> tuple[StoredArtifact, str | None]:
        """(the artifact, the address that was asked for). A digest need not be looked up while a remote
        store does not answer."""
        if known := getattr(artifact, "target", None):
            return StoredArtifact.of(self.repository, known), None
        asked, near = parse(artifact, key), self.repository.hasty()
        self._caught_up()
        try:
            found = resolve.artifact(near, self._ask, str(asked))
        except Unavailable:
            if asked.digest is None:
                raise
            found = Target(digest=str(asked.digest), kind="bytes")
        return StoredArtifact.of(self.repository, found), str(asked)

    def _artifact(self, address: str, key: str | None = None, at: At = None) -> Target:
        """What is known of the artifact at an address."""
        self._caught_up()
        return resolve.artifact(self.repository, self._ask, address, key, at)

    def _chosen(self, address: str, keys: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """(run, keys) of a run with keys of its own, or of the address of an artifact of a run."""
        if keys or parse(address).key is None:
            return find_run(self.repository, address), keys
        found = self._artifact(address)
        return str(found.run_id), (str(found.key),)

    def _alias(self, name: str) -> Any:
        return aliases.chain_of(self.repository, name)

    def _named(self, name: str, to: Any) -> Target:
        """What an alias is to name. Raises InvalidValue when a run has that name."""
        aliases.refuse_run(self.repository, name)
        if isinstance(to, StoredArtifact):
            return to.target
        return resolve.settled(self.repository, self._ask, _address_of(to))


def _address_of(to: Any) -> str:
    """The address of a thing of the store: a Run, RunSummary, Version, ArtifactInfo, (run, key)."""
    if isinstance(to, str):
        return to
    if isinstance(to, tuple) and len(to) == 2:
        return f"runs/{to[0]}:{to[1]}"
    run_id, key = getattr(to, "run_id", getattr(to, "id", None)), getattr(to, "key", None)
    if run_id is not None:
        return f"runs/{run_id}" if key is None else f"runs/{run_id}:{key}"
    if hasattr(to, "digest"):
        return str(to.digest)
    raise InvalidValue(f"an alias names a run or an artifact, not {type(to).__name__}", value=to)
