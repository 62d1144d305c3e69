"""Versions: the artifacts of one key over the runs of an experiment, in the order in which they were made."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.catalog import Catalog
from holdfast.digest import Digest
from holdfast.format.alias import Target
from holdfast.timestamp import Timestamp


@dataclass(frozen=True, slots=True)
class Version:
    """`number` counts from 0; `is_deleted` says that the run has a tombstone, and keeps its number."""

    number: int
    experiment_id: str
    run_id: str
    key: str
    digest: Digest
    size_bytes: int
    kind: str
    created_at: Timestamp
    is_deleted: bool

    @property
    def address(self) -> str:
        """`EXPERIMENT:KEY@v3`"""
        return f"{self.experiment_id}:{self.key}@v{self.number}"

    @property
    def target(self) -> Target:
        return Target(self.run_id, self.key, str(self.digest), self.size_bytes, self.kind)


def experiments_called(catalog: Catalog, text: str) -> list[str]:
    """The ids of the experiments that have this id, or else this name."""
    known = catalog.experiments_called(text)
    return [text] if text in known else known


def versions(catalog: Catalog, experiment_id: str, key: str) -> list[Version]:
    """Every run of the experiment that has the key, by when the artifact was stored, then by run."""
    found = []
    for run in catalog.having(experiment_id, f"artifacts.{key}"):
        about = run.state.get("artifacts", {})[key]
        if about["kind"] != "record":  # the seed's, which may have any hash and no bytes
            found.append((about["created_at"], run.run_id, about, "deleted_at" in run.state["run"]))
    found.sort(key=lambda one: one[:2])
    return [
        Version(
            number,
            experiment_id,
            run_id,
            key,
            Digest.parse(about["digest"]),
            about["size_bytes"],
            about["kind"],
            Timestamp(at),
            is_deleted,
        )
        for number, (at, run_id, about, is_deleted) in enumerate(found)
    ]
