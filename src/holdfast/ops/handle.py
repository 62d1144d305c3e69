"""`StoredArtifact`: an artifact that was found, to be read in whichever way one likes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from holdfast import verified_artifact
from holdfast.backend.cached import afresh
from holdfast.digest import Digest
from holdfast.errors import InvalidValue
from holdfast.format.alias import Target
from holdfast.format.tree import TreeEntry
from holdfast.names import check_key
from holdfast.ops import artifacts
from holdfast.repository import Repository

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """One artifact of a store. `run_id` and `key` are None where only its digest was named; `size_bytes` is
    None where the store could not be asked. Everything it gives was verified."""

    run_id: str | None
    key: str | None
    digest: Digest
    size_bytes: int | None
    kind: str
    _repository: Repository = field(repr=False, compare=False)

    @classmethod
    def of(cls, repository: Repository, target: Target) -> StoredArtifact:
        digest, kind = Digest.parse(str(target.digest)), target.kind or "bytes"
        return cls(target.run_id, target.key, digest, target.size_bytes, kind, repository)

    @property
    def address(self) -> str:
        """`RUN:KEY`, or `sha256:…`."""
        return self.target.address

    @property
    def target(self) -> Target:
        """The same as a name would have it."""
        return Target(self.run_id, self.key, str(self.digest), self.size_bytes, self.kind)

    def read(self) -> bytes:
        """All bytes. Raises DigestMismatch, Corrupt, InvalidValue for a directory."""
        return artifacts.read(self._repository, self._known().about)

    def open(self) -> BinaryIO:
        """A seekable, read-only file; every piece is verified before it is handed out."""
        return artifacts.open_file(self._repository, self._known().about)

    def entries(self) -> tuple[TreeEntry, ...]:
        """What lies in a directory. Raises InvalidValue for any other artifact, Corrupt."""
        if self.kind != "directory":
            raise InvalidValue(f"{self.address} is no directory", value=self.address)
        return artifacts.directory_entries(self._repository, self.digest)

    def get(
        self,
        to: str | os.PathLike[str] = ".",
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write it out as `store.get_artifact` does; returns the path written. Raises Exists, Corrupt."""
        return fetch(self._repository, self._known(), to, overwrite, progress)

    def write(
        self,
        target: Path,
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write it out under exactly that name. Raises Exists, Corrupt."""
        about = self._known().about
        return artifacts.fetch(self._repository, about, target, overwrite, progress)

    def require(self) -> None:
        """Raises ArtifactNotFound when the store has nothing of it."""
        artifacts.by_digest(self._repository, self.digest)

    def check(self) -> None:
        """Read every byte as the store has it now. Raises DigestMismatch, Corrupt, ArtifactNotFound."""
        backend = self._repository.backend
        files = {self.digest: self.size_bytes}
        with afresh():
            self.require()
            if self.kind == "directory":
                entries = artifacts.directory_entries(self._repository, self.digest)
                files = {Digest.from_raw(e.digest): e.size_bytes for e in entries if e.digest}
            for digest, size_bytes in files.items():
                verified_artifact.receive(backend, digest, size_bytes, _pass_by)

    def _known(self) -> Target:
        """With its size, which was not asked for while the store did not answer."""
        if self.size_bytes is not None:
            return self.target
        about = artifacts.by_digest(self._repository, self.digest)
        return Target(digest=about["digest"], size_bytes=about["size_bytes"], kind=self.kind)


def _pass_by(pieces: Iterator[Any]) -> None:
    for _ in pieces:
        pass


def fetch(
    repository: Repository,
    found: Target,
    to: str | os.PathLike[str],
    overwrite: bool,
    progress: Progress | None,
) -> Path:
    """Write an artifact out, under the last part of its key if `to` is a directory. Raises Exists."""
    target = Path(to)
    if (target.is_dir() and found.kind != "directory") or str(to).endswith(("/", os.sep)):
        key = found.key and check_key("artifact", found.key)  # who wrote the manifest may mean harm
        name = key or str(found.digest).removeprefix("sha256:")
        target = target / name.rpartition("/")[2]
    return artifacts.fetch(repository, found.about, target, overwrite, progress)
