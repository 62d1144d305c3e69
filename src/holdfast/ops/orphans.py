"""Spools whose writing process is gone: which they are, and when it was last heard of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cache, lru_cache

from holdfast import liveness
from holdfast.format import layout, spool
from holdfast.repository import Repository
from holdfast.series import LiveSpool, live_spools

Beat = Callable[[], int | None]  # when a writer was last heard of, in ns since 1970


def newest_beat(repository: Repository, run_id: str, rank: int | None = None) -> int | None:
    """When the main writer of a run, or one of its ranks, was last heard of, in ns since 1970."""
    prefix = layout.head(layout.chain(run_id, rank), 0).rpartition("@")[0] + "@"
    folder = prefix.rpartition("/")[0] + "/"
    beats = [stat for stat in repository.backend.walk(folder) if stat.name.startswith(prefix)]
    return max((liveness.heard(repository.backend, beat) for beat in beats), default=None)


def beat_of(repository: Repository, run_id: str, rank: int | None = None) -> Beat:
    """`newest_beat` of a writer, listed when it is first needed."""
    return lru_cache(maxsize=1)(lambda: newest_beat(repository, run_id, rank))


def orphan_spools(
    repository: Repository,
    run_id: str,
    scan: Callable[..., spool.Scan] = spool.scan,
    *,
    without: Collection[str] = (),
) -> list[LiveSpool]:
    """The spools of a run whose writing process is gone, as `scan` reads them, all but those named."""
    beat = cache(lambda rank: beat_of(repository, run_id, rank))
    found = live_spools(repository.spools, run_id, scan, without=without)
    return [live for live in found if liveness.is_dead(live.about.get("identity"), beat(live.rank))]


def orphans(
    repository: Repository, run_id: str, rank: int | None = None, *, without: Collection[str] = ()
) -> list[str]:
    """The names of the spools that dead processes left as the main writer, or as a rank, of a run;
    those in `without` are known to be somebody's."""
    return by_writer(orphan_spools(repository, run_id, without=without)).get(rank, [])


def by_writer(spools: Iterable[LiveSpool]) -> dict[int | None, list[str]]:
    """The names of spools by the rank they were written as; None is the main writer."""
    names: dict[int | None, list[str]] = {}
    for live in spools:
        names.setdefault(live.rank, []).append(live.name)
    return names
