"""Bringing the catalog up to date: what the backend proves unchanged is skipped, the heads are listed,
and only what they say has changed is read, mostly by one GET each.

Heads are hints: a store that another tool copied may lack some. The folders say which runs exist. On a disk
they are listed each time; in a bucket, where that is one request more for every thousand runs, when the
catalog is new, when a head is gone, and every ten minutes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from holdfast import liveness
from holdfast.ahead import in_order
from holdfast.backend.base import Backend
from holdfast.catalog import Catalog, CatalogRow, ExperimentRow
from holdfast.chain import Chain, Snapshot
from holdfast.errors import Corrupt, NameNotFound, UnsupportedFormat
from holdfast.format import layout, stats
from holdfast.ops.listing import Listing
from holdfast.ops.orphans import newest_beat
from holdfast.repository import Repository

Problem = Corrupt | UnsupportedFormat
_RANK = re.compile(r"[0-9]+")
_OF_RUNS = (layout.RUN_HEADS, layout.RANK_HEADS, layout.RUNS)
_AT_ONCE = 16  # runs of a bucket that are read together
_LOOK_SECONDS = 600.0  # how long heads alone are believed where folders cost requests
_OF_EXPERIMENTS = (layout.EXPERIMENT_HEADS, layout.EXPERIMENTS)


@dataclass(frozen=True, slots=True)
class Heads:
    """The numbers that the heads of one run name as the newest: of its manifest, and of its ranks."""

    manifest: int | None = None
    ranks: Mapping[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """`00000003`, `00000003+0:7,1:9` with ranks, and nothing at all without heads."""
        ranks = ",".join(f"{rank}:{number}" for rank, number in sorted(self.ranks.items()))
        main = "" if self.manifest is None else f"{self.manifest:08d}"
        return f"{main}+{ranks}" if ranks else main


def refresh(repository: Repository, catalog: Catalog) -> list[Problem]:
    """Bring `catalog` up to date; returns what could not be read, so that the rest still can."""
    problems: list[Problem] = []
    listing, now = Listing(repository.backend), time.time()
    trusted = not listing.by_folder and abs(now - catalog.looked()) < _LOOK_SECONDS
    for prefixes, bring in ((_OF_RUNS, _refresh_runs), (_OF_EXPERIMENTS, _refresh_experiments)):
        before = _tokens(repository.backend, prefixes)
        if not catalog.is_unchanged(before):
            settled = bring(repository, catalog, listing, problems, trusted)
            after = _tokens(repository.backend, prefixes)
            catalog.settle(before if settled and after == before else dict.fromkeys(prefixes))
    if not trusted and not listing.by_folder:
        catalog.note_looked(now)
    catalog.set_crashed(_crashed(repository, catalog, listing))
    return problems


def _tokens(backend: Backend, prefixes: Iterable[str]) -> dict[str, str | None]:
    return {prefix: backend.token(prefix) for prefix in prefixes}


def _refresh_runs(
    repository: Repository,
    catalog: Catalog,
    listing: Listing,
    problems: list[Problem],
    trusted: bool,
) -> bool:
    """True if the catalog says what the heads say, so that it need not look again until they change.

    A head may be ahead of its chain, and the writer of the missing entry writes the same head again:
    such a run is looked at each time.
    """
    # Before listing: what others put in from now on is not ours to take out.
    known = catalog.heads()
    mains, ranks = listing.runs(), listing.ranks()
    trusted = trusted and all(run_id in mains for run_id, head in known.items() if head)
    heads = {*known, *mains, *ranks}
    there = heads if trusted else set(repository.backend.folders(layout.RUNS))
    texts = {run_id: mains.get(run_id, "") for run_id in there}
    for run_id in texts.keys() & ranks.keys():
        texts[run_id] = str(_hint(texts[run_id], ranks[run_id]))
    stale = [run_id for run_id, text in texts.items() if known.get(run_id) != text]
    hints = {run_id: _hint(mains.get(run_id, ""), ranks.get(run_id, {})) for run_id in stale}
    found = _Found(repository, problems, 1 if listing.by_folder else _AT_ONCE)
    catalog.update(found.rows(hints))
    gone = known.keys() - texts.keys() | known.keys() & found.no_runs
    if gone:
        catalog.remove(gone)
    return not found.unsettled


def _hint(main: str, ranks: Mapping[int, int]) -> Heads:
    return Heads(int(main) if main else None, ranks)


class _Found:
    """Reads what changed, so many runs at once; notes what is damaged, and whether all heads said what
    the chains say."""

    def __init__(self, repository: Repository, problems: list[Problem], at_once: int) -> None:
        self._repository = repository
        self._problems = problems
        self._at_once = at_once
        self.unsettled = False
        self.no_runs: set[str] = set()  # folders without a run: that is not begun yet, or removed

    def rows(self, hints: dict[str, Heads]) -> Iterator[CatalogRow]:
        items = list(hints.items())
        if self._at_once == 1 or len(items) < 2:
            found: Iterator[CatalogRow | Problem] = map(self._try, items)
        else:
            found = in_order(self._try, items, workers=min(self._at_once, len(items)))
        for (_, hint), row in zip(items, found, strict=True):
            if not isinstance(row, CatalogRow):
                self._problems.append(row)
                self.unsettled = True
                continue
            self.unsettled |= row.head != str(hint)
            if "experiment_id" in row.state.get("run", {}):
                yield row
            else:
                self.no_runs.add(row.run_id)

    def _try(self, item: tuple[str, Heads]) -> CatalogRow | Problem:
        try:
            return self._row(*item)
        except (Corrupt, UnsupportedFormat) as error:
            return error

    def _row(self, run_id: str, hint: Heads) -> CatalogRow:
        main = _load(self._repository.manifest(run_id), hint.manifest)
        numbers: Mapping[int, int | None] = hint.ranks
        if hint.manifest is None and not hint.ranks:
            folders = self._repository.backend.folders(layout.ranks(run_id))
            numbers = {int(name): None for name in folders if _RANK.fullmatch(name)}
        chain = partial(Chain, self._repository.backend)
        ranks = {k: _load(chain(layout.rank(run_id, k)), n) for k, n in numbers.items()}
        actual = Heads(
            None if hint.manifest is None else main.number,
            {rank: ranks[rank].number for rank in hint.ranks},
        )
        state = stats.with_ranks(main.state, {k: found.state for k, found in ranks.items()})
        return CatalogRow(run_id, main.number, str(actual), state)


def _load(chain: Chain, hint: int | None) -> Snapshot:
    return chain.load() if hint is None else chain.load_hinted(hint)


def _refresh_experiments(
    repository: Repository,
    catalog: Catalog,
    listing: Listing,
    problems: list[Problem],
    trusted: bool,
) -> bool:
    """The same for experiments, which are few."""
    known = catalog.experiment_heads()
    heads = listing.experiments()
    settled, rows = True, []
    for experiment_id in heads if trusted else repository.backend.folders(layout.EXPERIMENTS):
        hint = heads.get(experiment_id, "")
        if known.get(experiment_id) == hint:
            continue
        try:
            found = _load(repository.experiment(experiment_id), int(hint) if hint else None)
        except (Corrupt, UnsupportedFormat) as error:
            problems.append(error)
            settled = False
            continue
        head = f"{found.number:08d}" if hint else ""
        settled &= head == hint
        if about := found.state.get("experiment"):
            rows.append(ExperimentRow(experiment_id, about["name"], about["created_at"], head))
    catalog.update_experiments(rows)
    return settled


def _crashed(repository: Repository, catalog: Catalog, listing: Listing) -> list[str]:
    """The runs that say they are running although their writer is gone; as they were, they were running."""
    if repository.as_of is not None:
        return []
    last_beat = partial(_last_beat, repository, listing)
    return [
        run.run_id
        for run in catalog.open_runs()
        if liveness.is_dead(run.state.get("writer"), partial(last_beat, run.run_id, run.generation))
    ]


def _last_beat(
    repository: Repository, listing: Listing, run_id: str, generation: int
) -> int | None:
    place = layout.head(layout.manifest(run_id), generation)
    try:
        beat = listing.beat(place) or repository.backend.stat(place)
        return liveness.heard(repository.backend, beat)
    except NameNotFound:  # another head by now, or none
        return newest_beat(repository, run_id)
