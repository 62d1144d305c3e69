"""Sealing: the points of spools become segments, and one new generation of the manifest says so.

Order is the protocol: segments first, then the manifest, then the spools go. A crash in between
leaves spools whose points the manifest has already (readers skip them) or has not (readers read
them); sealing again finishes the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from holdfast.chain import Chain, Snapshot
from holdfast.digest import Digest
from holdfast.errors import BackendError, Corrupt, NameExists, NameNotFound, NameRetired
from holdfast.format import layout, manifest, segment, spool, stats
from holdfast.format.manifest import State
from holdfast.format.segment import Axis
from holdfast.ids import new_nonce
from holdfast.ops import references
from holdfast.ops.references import writable
from holdfast.repository import Repository
from holdfast.series import RunPoints, cut, cuts, is_sealed

_BLOCK_ROWS = 16_384  # pcodec keeps the interpreter's lock for a block, 1 ms for so many numbers
_BREATH_SECONDS = 0.0015
_PAUSE_SECONDS = 0.00002
NO_CHANGE: Callable[[State], State] = lambda state: {}  # noqa: E731


@dataclass(frozen=True, slots=True)
class Sealed:
    """One spool on its way into the manifest; `axes` is empty when it held no row."""

    name: str
    digest: Digest | None
    about: dict[str, Any]
    axes: list[Axis]


def seal(
    repository: Repository,
    run_id: str,
    names: Iterable[str],
    *,
    base: Snapshot | None = None,
    also: Callable[[State], State] = NO_CHANGE,
    scan: Callable[..., spool.Scan] = spool.scan,
    rank: int | None = None,
    full: bool = False,
) -> Snapshot:
    """Publish the spools `names` of one writer of a run, together with the change that `also` decides
    on, in the chain of that writer: the manifest, or the chain of `rank`.

    `full` is for the last entry of a run: see `Chain.commit`.
    """
    names, prefix = list(names), layout.chain(run_id, rank)
    first: State = {"run": {"run_id": run_id} | ({} if rank is None else {"rank": rank})}
    if not names and also is NO_CHANGE:
        chain = Chain(repository.backend, prefix)
        return chain.commit(base or chain.load(), lambda state: {} if state else first)
    changed = _change if rank is None else _rank_change
    parts: list[Sealed] = []

    def publish(salt: bytes | None = None) -> Snapshot:
        found = (_segment(repository, run_id, name, scan, salt) for name in names)
        parts[:] = [part for part in found if part]

        def decide(state: State) -> State:
            change = changed(repository, run_id, state, parts)
            return _joined(change, also(manifest.apply(state, change)))

        return references.commit(repository, prefix, decide, base=base, first=first, full=full)

    try:
        after = publish()
    except NameRetired as error:
        if not error.name.startswith(layout.RUNS):
            raise  # an artifact that `also` names
        # An earlier try left the same segment, and that was collected.
        after = references.again(lambda: publish(new_nonce()))
    if rank is None and any(part.about["from_step"] is not None for part in parts):
        recount_ranks(repository, run_id)  # of every attempt before the one that began there
    for part in parts:
        with suppress(BackendError):  # it stays, is recognised as sealed, and goes next time
            repository.spools.delete(part.name)
    return after


def _joined(a: State, b: State) -> State:
    return {
        section: {**a.get(section, {}), **b.get(section, {})} for section in a.keys() | b.keys()
    }


def _segment(
    repository: Repository,
    run_id: str,
    name: str,
    scan: Callable[..., spool.Scan],
    salt: bytes | None = None,
) -> Sealed | None:
    """Write the segment of one spool; None if the spool is gone, or was never synced."""
    try:
        data = repository.spools.get(name)
    except NameNotFound:
        return None
    if spool.is_blank(data):
        return None
    breathe = _breather()
    held = scan(data, place=name, breathe=breathe)
    axes = segment.axes(held.tables, breathe)
    _, writer, sequence = layout.spool_parts(name)
    spool.check_owner(held.about, run_id, writer, sequence, place=name)
    about = {
        "writer": writer,
        "sequence": sequence,
        "last_sequence": sequence,
        "attempt": held.about["attempt"],
        "opened_at": held.about["opened_at"],
        "from_step": held.about.get("from_step"),
    }
    if not axes:
        return Sealed(name, None, about, [])
    rank = {"rank": held.about["rank"]} if held.about.get("rank") is not None else {}
    file, sizes = segment.encode(
        {"run_id": run_id, **about, **rank, **({"nonce": salt} if salt else {})},
        axes,
        breathe=breathe,
        rows=_BLOCK_ROWS,
    )
    digest = Digest.of(file)
    with suppress(NameExists):  # an earlier try got this far: the same bytes are there
        writable(repository).backend.create(layout.segment(run_id, digest), file)
    about |= {
        **sizes,
        "first_step": min(int(axis.steps[0]) for axis in axes),
        "last_step": max(int(axis.steps[-1]) for axis in axes),
        "rows": held.row_count,
        "points": sum(len(axis.steps) * len(axis.columns) for axis in axes),
    }
    return Sealed(name, digest, about, axes)


def _breather() -> Callable[[], None]:
    """Lets others run when 1.5 ms have passed since it last did.

    A thread that only computes gives the interpreter's lock away after 5 ms, and only to who waits for
    it already: a caller of `log` would wait that long. Sleeping for no time gives it to nobody.
    """
    last = time.perf_counter()

    def breathe() -> None:
        nonlocal last
        if time.perf_counter() - last > _BREATH_SECONDS:
            time.sleep(_PAUSE_SECONDS)
            last = time.perf_counter()

    return breathe


def _change(repository: Repository, run_id: str, state: State, parts: list[Sealed]) -> State:
    """The change that adds the segments, their statistics and where their attempts began."""
    new = _new(state, parts)
    if not new:
        return {}
    attempts = _begun(state, new)
    segments = _records(new)
    after = manifest.apply(state, {"attempts": attempts, "segments": segments})
    limits = cuts(after, [])
    rewound = attempts and cuts(state, []) != limits
    known = state.get("metrics", {})
    if rewound:
        known = recount(repository, run_id, after, without=segments)
    metrics = _counted(known, new, limits)
    return {
        "attempts": attempts,
        "segments": segments,
        "metrics": difference(state.get("metrics", {}), metrics),
    }


def _new(state: State, parts: list[Sealed]) -> list[Sealed]:
    """The parts that have points which `state` does not know yet."""
    return [
        part
        for part in parts
        if part.digest and not is_sealed(state, part.about["writer"], part.about["sequence"])
    ]


def _records(parts: list[Sealed]) -> dict[str, Any]:
    return {part.digest.hex: _record(part) for part in parts if part.digest}


def _counted(
    known: dict[str, stats.Stats], parts: list[Sealed], limits: dict[int, int]
) -> dict[str, stats.Stats]:
    """The statistics `known` with the points of `parts` that nothing supersedes."""
    cut_axes = (
        cut(axis, limits.get(part.about["attempt"])) for part in parts for axis in part.axes
    )
    return stats.merge_all(known, [stats.of(axis) for axis in cut_axes if axis])


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The change that turns the section `old` into `new`."""
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return {**changed, **{key: None for key in old if key not in new}}


def _record(part: Sealed) -> dict[str, Any]:
    return {key: value for key, value in part.about.items() if key != "from_step"}


def _begun(state: State, parts: list[Sealed]) -> dict[str, Any]:
    """The attempts whose first step becomes known with these parts."""
    begun = {}
    for part in parts:
        number, step = str(part.about["attempt"]), part.about["from_step"]
        known = state.get("attempts", {}).get(number, {})
        if step is not None and known.get("from_step") is None:
            begun[number] = {**known, "from_step": step}
    return begun


def recount(
    repository: Repository, run_id: str, state: State, *, without: Collection[str] = ()
) -> dict[str, stats.Stats]:
    """The statistics of the segments of `state`, read anew: some of their points are superseded."""
    points = RunPoints.of_state(repository.backend, run_id, state, without=without)
    found = {}
    for key in state.get("metrics", {}):
        series = points.series(key)
        if len(series):
            axis = Axis(series.steps, series.timestamps, {key: series.values})
            found.update(stats.of(axis))
    return found


# The ranks of a run. Attempts are in its manifest alone, so the statistics in the chain of a rank say
# with which cuts they were counted (section `cuts`), and are counted anew when others hold.


def rank_states(repository: Repository, run_id: str, state: State) -> dict[int, State]:
    """The states of the ranks that joined a run, by number; `state` is that of its manifest.

    Their statistics leave out what the attempts in `state` supersede, also while the chains still say
    otherwise. Raises Corrupt.
    """
    return {
        rank: _with_cuts(repository, run_id, repository.rank(run_id, rank).load().state, state)
        for rank in repository.ranks(run_id)
    }


def recount_ranks(repository: Repository, run_id: str) -> None:
    """Bring the statistics in the chain of every rank up to the attempts in the manifest.

    Another process may commit to such a chain at any time: whoever comes second finds the section
    `cuts` changed, and decides again. What fails is left for later: readers see by `cuts` that the
    statistics of a rank are old, and `recover` and the next seal of that rank try again.
    """
    with suppress(BackendError):
        for rank in repository.ranks(run_id):
            chain = repository.rank(run_id, rank)
            with suppress(BackendError, Corrupt):
                chain.commit(
                    chain.load(), lambda state: _rank_change(repository, run_id, state, [])
                )


def _rank_change(repository: Repository, run_id: str, state: State, parts: list[Sealed]) -> State:
    """What `_change` is for the manifest. The manifest is read after the state of the rank, so the
    cuts in a chain never go back to older ones."""
    main = repository.manifest(run_id).load().state
    now = _with_cuts(repository, run_id, state, main)
    new = _new(state, parts)
    metrics = _counted(now.get("metrics", {}), new, cuts(main, []))
    change = {
        "cuts": difference(state.get("cuts", {}), now.get("cuts", {})),
        "segments": _records(new),
        "metrics": difference(state.get("metrics", {}), metrics),
    }
    return {section: keys for section, keys in change.items() if keys}


def _with_cuts(repository: Repository, run_id: str, state: State, main: State) -> State:
    """The state of a rank with statistics counted under the attempts in `main`."""
    limits = {str(attempt): first for attempt, first in cuts(main, []).items()}
    if state.get("cuts", {}) == limits:
        return state
    whole = {**state, "attempts": main.get("attempts", {})}
    return {**state, "cuts": limits, "metrics": recount(repository, run_id, whole)}
