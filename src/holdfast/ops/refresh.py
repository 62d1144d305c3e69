"""Bringing the catalog up to date: one listing of the heads, then only what changed is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from holdfast import liveness
from holdfast.catalog import Catalog, CatalogRow
from holdfast.chain import Chain
from holdfast.errors import Corrupt, UnsupportedFormat
from holdfast.format import layout
from holdfast.repository import Repository

NO_HEAD = "-1"


@dataclass(frozen=True, slots=True)
class Heads:
    """The newest head of every run: generation (as text) and heartbeat (ns since 1970)."""

    generations: dict[str, str]
    beats: dict[str, int]


def heads(repository: Repository) -> Heads:
    generations: dict[str, int] = {}
    beats: dict[str, int] = {}
    for stat in repository.backend.walk(f"{layout.HEADS}runs/"):
        parts = layout.head_parts(stat.name)
        if parts:
            _, owner, number = parts
            generations[owner] = max(number, generations.get(owner, -1))
            beats[owner] = max(stat.modified, beats.get(owner, 0))
    # A store copied by another tool may lack heads: every run's folder counts as well.
    for run_id in repository.backend.folders(layout.RUNS):
        generations.setdefault(run_id, int(NO_HEAD))
    return Heads({owner: str(number) for owner, number in generations.items()}, beats)


def refresh(repository: Repository, catalog: Catalog) -> list[Corrupt | UnsupportedFormat]:
    """Bring `catalog` up to date; returns what could not be read, so that the rest still can."""
    now = heads(repository)
    known = catalog.heads()
    problems: list[Corrupt | UnsupportedFormat] = []
    stale = [
        owner
        for owner, head in now.generations.items()
        if known.get(owner) != head and not (head == NO_HEAD and owner in known)
    ]
    catalog.update(_rows(repository, stale, problems))
    gone = known.keys() - now.generations.keys()
    if gone:
        catalog.remove(sorted(gone))
    _refresh_experiments(repository, catalog, problems)
    catalog.set_crashed(_crashed(catalog, now))
    return problems


def _rows(
    repository: Repository, run_ids: list[str], problems: list[Corrupt | UnsupportedFormat]
) -> Iterator[CatalogRow]:
    for run_id in run_ids:
        try:
            snapshot = repository.manifest(run_id).load()
        except (Corrupt, UnsupportedFormat) as error:
            problems.append(error)
            continue
        if "experiment_id" in snapshot.state.get("run", {}):
            yield CatalogRow(run_id, snapshot.number, str(snapshot.number), snapshot.state)


def _refresh_experiments(
    repository: Repository, catalog: Catalog, problems: list[Corrupt | UnsupportedFormat]
) -> None:
    found = []
    for experiment_id in repository.backend.folders(layout.EXPERIMENTS):
        try:
            state = Chain(repository.backend, layout.experiment(experiment_id)).load().state
        except (Corrupt, UnsupportedFormat) as error:
            problems.append(error)
            continue
        if about := state.get("experiment"):
            found.append((experiment_id, about["name"], about["created_at"]))
    catalog.update_experiments(found)


def _crashed(catalog: Catalog, now: Heads) -> list[str]:
    """The runs that say they are running although their writer is gone."""
    return [
        run_id
        for run_id, _, state, _, _ in catalog.select("status == 'Running'", None, None)
        if liveness.is_dead(state.get("writer"), partial(now.beats.get, run_id))
    ]
