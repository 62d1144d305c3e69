"""`StoredArtifact`: an artifact that was found, to be read in whichever way one likes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from holdfast.digest import Digest
from holdfast.format.alias import Target
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

    def get(
        self,
        to: str | os.PathLike[str] = ".",
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Write it out as `store.get_artifact` does; returns the path written. Raises Exists, Corrupt."""
        return fetch(self._repository, self._known(), to, overwrite, progress)

    def _known(self) -> Target:
        """With its size, which was not asked for while the store did not answer."""
        if self.size_bytes is not None:
            return self.target
        about = artifacts.by_digest(self._repository, self.digest)
        return Target(digest=about["digest"], size_bytes=about["size_bytes"], kind=self.kind)


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
