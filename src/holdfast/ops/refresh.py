"""Bringing the catalog up to date: what the backend proves unchanged is skipped, the heads are listed,
and only what they say has changed is read, mostly by one GET each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from holdfast import liveness
from holdfast.backend.base import Backend
from holdfast.catalog import Catalog, CatalogRow, ExperimentRow
from holdfast.chain import Chain, Snapshot
from holdfast.errors import Corrupt, NameNotFound, UnsupportedFormat
from holdfast.format import layout, stats
from holdfast.ops.orphans import newest_beat
from holdfast.repository import Repository

Problem = Corrupt | UnsupportedFormat
_HEAD = re.compile(r"^(.+)@([0-9]{8})$", re.MULTILINE)  # the last part of a head's name
_RANK = re.compile(r"[0-9]+")
_OF_RUNS = (layout.RUN_HEADS, layout.RANK_HEADS, layout.RUNS)
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
    for prefixes, bring in ((_OF_RUNS, _refresh_runs), (_OF_EXPERIMENTS, _refresh_experiments)):
        before = _tokens(repository.backend, prefixes)
        if not catalog.is_unchanged(before):
            settled = bring(repository, catalog, problems)
            after = _tokens(repository.backend, prefixes)
            catalog.settle(before if settled and after == before else dict.fromkeys(prefixes))
    catalog.set_crashed(_crashed(repository, catalog))
    return problems


def _tokens(backend: Backend, prefixes: Iterable[str]) -> dict[str, str | None]:
    return {prefix: backend.token(prefix) for prefix in prefixes}


def _refresh_runs(repository: Repository, catalog: Catalog, problems: list[Problem]) -> bool:
    """True if the catalog says what the heads say, so that it need not look again until they change.

    A head may be ahead of its chain, and the writer of the missing entry writes the same head again:
    such a run is looked at each time.
    """
    # Before listing: what others put in from now on is not ours to take out.
    known = catalog.heads()
    mains, ranks = _listed_heads(repository.backend)
    # A store copied by another tool may lack heads, so it is the folders that say which runs exist.
    texts = {run_id: mains.get(run_id, "") for run_id in repository.backend.folders(layout.RUNS)}
    for run_id in texts.keys() & ranks.keys():
        texts[run_id] = str(_hint(texts[run_id], ranks[run_id]))
    stale = [run_id for run_id, text in texts.items() if known.get(run_id) != text]
    hints = {run_id: _hint(mains.get(run_id, ""), ranks.get(run_id, {})) for run_id in stale}
    found = _Found(repository, problems)
    catalog.update(found.rows(hints))
    gone = known.keys() - texts.keys()
    if gone:
        catalog.remove(gone)
    return not found.unsettled


def _listed_heads(backend: Backend) -> tuple[dict[str, str], dict[str, dict[int, int]]]:
    """By run: the number in its newest head, 8 digits, and the newest numbers of its ranks."""
    ranks: dict[str, dict[int, int]] = {}
    for owner, number in _newest(backend.names(layout.RANK_HEADS)).items():
        run_id, _, rank = owner.rpartition("@")
        if run_id and _RANK.fullmatch(rank):
            ranks.setdefault(run_id, {})[int(rank)] = int(number)
    return _newest(backend.names(layout.RUN_HEADS)), ranks


def _hint(main: str, ranks: Mapping[int, int]) -> Heads:
    return Heads(int(main) if main else None, ranks)


def _newest(names: Iterable[str]) -> dict[str, str]:
    """The greatest number, 8 digits, of each owner among the last parts of heads."""
    # In order, so that the last one of an owner counts; in one search, for there may be very many.
    return dict(_HEAD.findall("\n".join(sorted(names))))


class _Found:
    """Reads what changed; notes what is damaged, and whether all heads said what the chains say."""

    def __init__(self, repository: Repository, problems: list[Problem]) -> None:
        self._repository = repository
        self._problems = problems
        self.unsettled = False

    def rows(self, hints: dict[str, Heads]) -> Iterator[CatalogRow]:
        for run_id, hint in hints.items():
            try:
                row = self._row(run_id, hint)
            except (Corrupt, UnsupportedFormat) as error:
                self._problems.append(error)
                self.unsettled = True
                continue
            self.unsettled |= row.head != str(hint)
            if "experiment_id" in row.state.get("run", {}):
                yield row

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


def _refresh_experiments(repository: Repository, catalog: Catalog, problems: list[Problem]) -> bool:
    """The same for experiments, which are few."""
    known = catalog.experiment_heads()
    heads = _newest(repository.backend.names(layout.EXPERIMENT_HEADS))
    settled, rows = True, []
    for experiment_id in repository.backend.folders(layout.EXPERIMENTS):
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


def _crashed(repository: Repository, catalog: Catalog) -> list[str]:
    """The runs that say they are running although their writer is gone."""
    return [
        run.run_id
        for run in catalog.open_runs()
        if liveness.is_dead(
            run.state.get("writer"), partial(_last_beat, repository, run.run_id, run.generation)
        )
    ]


def _last_beat(repository: Repository, run_id: str, generation: int) -> int | None:
    try:
        place = layout.head(layout.manifest(run_id), generation)
        return liveness.heard(repository.backend, repository.backend.stat(place))
    except NameNotFound:  # another head by now, or none
        return newest_beat(repository, run_id)
