"""Which earlier artifacts a new one is likely to share bytes with, and which one it is encoded against.

Versions of an artifact are told by the key: `checkpoints/step=100.pt` and `checkpoints/step=200.pt` are
two of one, since their keys differ in numbers only. The version before is, in this order: what `base`
says; the newest of the same run; that of the newest runs of the same experiment. A manifest says of each
artifact its number among the versions and the versions below it. So the next one finds its base in the
tree that `codecs.base_of` grows, whatever became of those between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from holdfast import bundles, verified_artifact
from holdfast.codecs import base_of
from holdfast.digest import Digest
from holdfast.errors import ArtifactNotFound, HoldfastError
from holdfast.format import layout, tree
from holdfast.ops.bundle import Known
from holdfast.ops.ingest import MIN_PACKED_BYTES
from holdfast.ops.window import Window
from holdfast.repository import Repository
from holdfast.verified_artifact import has_blob

_MOST_RUNS = 6  # manifests read to find an earlier version in other runs
_MOST_OTHERS = 12  # artifacts of a run that are looked through for equal chunks
_MOST_RECIPES = 64
_MOST_TREES = 4  # directories whose small files are looked through

About = Mapping[str, Any]  # what a manifest says of an artifact


@dataclass(frozen=True, slots=True)
class Lineage:
    """`version` of the new artifact, the versions it rests on (nearest first), and other artifacts that
    may share chunks with it."""

    version: int = 0
    bases: tuple[tuple[int, Digest], ...] = ()
    others: tuple[About, ...] = ()

    @property
    def base(self) -> Digest | None:
        return self.bases[0][1] if self.bases else None

    def about(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {
            "version": self.version,
            "bases": [[number, str(digest)] for number, digest in self.bases],
        }


def find(
    repository: Repository,
    run_id: str,
    key: str,
    base: str | None = None,
    state: Mapping[str, Any] | None = None,
    kept: int | None = None,
) -> Lineage:
    """The lineage of what is about to be stored in a run under `key`; `base` is a digest, or the key of an
    artifact of this run, and without it `kept` says of how many versions the names will be kept; `state` is
    the run's manifest, if that is known.

    Raises ArtifactNotFound for a base that is not there."""
    state = repository.manifest(run_id).load().state if state is None else state
    own = _artifacts(state)
    before = _named(repository, own, base) if base else _newest(own, key)
    rows = own
    if before is None:
        rows, before = _elsewhere(repository, run_id, key, state)
    others = sorted((*rows.values(), *own.values()), key=_age)[:_MOST_OTHERS]
    return _after(before, tuple(others), None if base else kept)


def of(about: About) -> Lineage:
    """The lineage that an artifact was stored with."""
    bases = tuple(_bases(about))
    others = tuple(
        {"digest": str(d), "kind": about["kind"], "size_bytes": 1 << 62} for _, d in bases
    )
    return Lineage(about.get("version", 0), bases, others)


def _after(before: About | None, others: tuple[About, ...], kept: int | None) -> Lineage:
    """The next version after `before`."""
    if before is None:
        return Lineage(0, (), others)
    number = before.get("version", 0)
    path = ((number, Digest.parse(before["digest"])), *_bases(before))
    wanted, rest = base_of(number + 1, kept), [before, *others]
    bases = []
    while wanted is not None:
        found = next((digest for at, digest in path if at == wanted), None)
        if found is None:
            break
        bases.append((wanted, found))
        wanted = base_of(wanted, kept)
    return Lineage(number + 1, tuple(bases), tuple(rest))


def _bases(about: About) -> Iterator[tuple[int, Digest]]:
    for number, digest in about.get("bases", ()):
        yield number, Digest.parse(digest)


def _artifacts(state: Mapping[str, Any]) -> dict[str, About]:
    found = state.get("artifacts", {})
    return {key: about for key, about in found.items() if about["kind"] != "record"}


def _age(about: About) -> int:
    return -int(about["created_at"])


def family(key: str) -> str:
    """What the keys of all versions have in common."""
    return re.sub(r"[0-9]+", "#", key)


def _newest(artifacts: Mapping[str, About], key: str) -> About | None:
    """The newest version of `key`."""
    same = [about for other, about in artifacts.items() if family(other) == family(key)]
    return min(same, key=_age, default=None)


def _named(repository: Repository, artifacts: Mapping[str, About], base: str) -> About:
    if base in artifacts:
        return artifacts[base]
    digest = Digest.parse(base)
    size = verified_artifact.size_of(repository.backend, digest)
    if size is None:
        raise ArtifactNotFound(f"the base {digest} is not in the store", digest=str(digest))
    known = next((about for about in artifacts.values() if about["digest"] == base), None)
    return known or {"digest": base, "size_bytes": size, "kind": "bytes", "created_at": 0}


def _elsewhere(
    repository: Repository, run_id: str, key: str, state: Mapping[str, Any]
) -> tuple[dict[str, About], About | None]:
    """(the artifacts, the version before) of the newest run of the same experiment that has one."""
    experiment = state.get("run", {}).get("experiment_id")
    runs = sorted(set(repository.backend.folders(layout.RUNS)) - {run_id}, reverse=True)
    for other in runs[:_MOST_RUNS]:
        try:
            theirs = repository.manifest(other).load().state
        except HoldfastError:
            continue  # what is damaged is no base; reading that run says so
        if experiment and theirs.get("run", {}).get("experiment_id") == experiment:
            rows = _artifacts(theirs)
            before = rows.get(key) or _newest(rows, key)
            if before is not None:
                return rows, before
    return {}, None


class Stock:
    """What is at hand while an artifact of a lineage, or each file of a directory, is stored."""

    def __init__(self, repository: Repository, lineage: Lineage, *, is_directory: bool) -> None:
        self._repository = repository
        rows: list[About] = list(lineage.others)
        if lineage.base:
            kind = "directory" if is_directory else "file"
            rows.insert(0, {"digest": str(lineage.base), "kind": kind, "size_bytes": 1 << 62})
        directories = [row for row in (*lineage.others, *rows) if row["kind"] == "directory"]
        self._trees = list(dict.fromkeys(Digest.parse(row["digest"]) for row in directories))
        self._files: dict[str, Digest] = {}
        digests = list(dict.fromkeys(self._digests(rows)))
        if is_directory and lineage.base:
            self._files = dict(self._members(lineage.base))
        self._base = None if is_directory else lineage.base
        self.window = Window(repository.backend, digests[:_MOST_RECIPES])

    def file(self, path: str) -> Window:
        """For the file at `path` of the directory: with the file there of the base."""
        same = self._files.get(path)
        if same is None:
            alike = [d for other, d in self._files.items() if family(other) == family(path)]
            same = alike[0] if len(alike) == 1 else None
        return self.window.against(same)

    def whole(self) -> Window:
        """For an artifact that is one file."""
        return self.window.against(self._base)

    def known(self) -> Known:
        """What the directories at hand, the newest first, hold of small files."""
        backend, trees = self._repository.backend, self._trees[:_MOST_TREES]
        found = [recipe for tree in trees for recipe in bundles.load(backend, tree)[0]]
        there = [recipe for recipe in found if self.window.is_there(recipe)]
        small = {digest for tree in trees for _, digest in self._members(tree, large=False)}
        for recipe in there:
            small -= set(recipe.files.digests() if recipe.files else ())
        return Known(
            there, lambda digest: digest in small and has_blob(backend, digest) is not None
        )

    def _digests(self, rows: Iterable[About]) -> Iterator[Digest]:
        for about in rows:
            digest = Digest.parse(about["digest"])
            if about["kind"] == "directory":
                yield from (member for _, member in self._members(digest))
            elif about["size_bytes"] > MIN_PACKED_BYTES:
                yield digest

    def _members(self, digest: Digest, *, large: bool = True) -> list[tuple[str, Digest]]:
        """(path, digest) of the large, or small, files in a directory artifact; none if it cannot be read."""
        try:
            data = verified_artifact.read(self._repository.backend, digest)
            entries = tree.decode_tree(data, place=layout.blob(digest))
        except HoldfastError:
            return []
        return [
            (entry.path, Digest.from_raw(entry.digest))
            for entry in entries
            if entry.digest and ((entry.size_bytes or 0) > MIN_PACKED_BYTES) == large
        ]
