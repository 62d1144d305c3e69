"""fsck of chains and of runs: what a run says it needs, its entries, its segments, spools and statistics."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from holdfast import bundles, process, verified_artifact
from holdfast.backend.base import Backend
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import Corrupt, UnsupportedFormat
from holdfast.format import entry as entries
from holdfast.format import gc, kinds, layout, snapshot, stats
from holdfast.format.manifest import State
from holdfast.format.segment import Axis, Footer
from holdfast.ops.artifacts import directory_entries
from holdfast.ops.findings import Found, User, telling, twice
from holdfast.ops.fsck_data import hashed
from holdfast.ops.fsck_names import Chains, of_chain, owner
from holdfast.repository import Repository
from holdfast.series import LiveSpool, RunPoints, cuts, live_spools
from holdfast.series_parts import SegmentFile

_NEAR = 1e-9  # two ways to a mean differ by rounding


@dataclass(frozen=True, slots=True)
class RunPiece:
    """A run to look at, with the numbers of the entries of its chains as they were listed."""

    run_id: str
    chains: Chains


@dataclass(slots=True)
class Needs:
    """What the newest state of a run needs: sizes of segments by name; of artifacts by hex digest, with
    who needs them. The size is None where only the bytes tell."""

    run_id: str
    segments: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int | None] = field(default_factory=dict)
    users: dict[str, list[User]] = field(default_factory=dict)
    found: list[Found] = field(default_factory=list)


def needs(repository: Repository, piece: RunPiece) -> Needs:
    """What a run needs, by the newest states of its chains."""
    found = Needs(piece.run_id)
    states: dict[str, State] = {}
    for prefix, numbers in piece.chains:
        with telling(found.found, place=prefix, users=[User(piece.run_id)]):
            states[prefix] = Chain(repository.backend, prefix).load(numbers).state
    for state in states.values():
        for name, about in state.get("segments", {}).items():
            with telling(found.found, users=[User(piece.run_id)]):
                place = layout.segment(piece.run_id, Digest(name))
                found.segments[place] = about["size_bytes"]
    main = states.get(layout.manifest(piece.run_id), {})
    for key, about in main.get("artifacts", {}).items():
        _need(repository, found, key, about)
    return found


def _need(repository: Repository, found: Needs, key: str, about: Mapping[str, Any]) -> None:
    user = User(found.run_id, key)
    if about["kind"] == "record":
        return
    digest = Digest.parse(about["digest"])
    is_tree = about["kind"] == "directory"
    _add(found, digest.hex, None if is_tree else about["size_bytes"], user)
    if not is_tree:
        return
    tree: list[Found] = []
    with telling(tree, place=layout.blob(digest), users=[user]):
        held = set(bundles.Bundle.of(repository.backend, digest))
        for entry in directory_entries(repository, digest):
            if entry.digest is not None and (member := Digest.from_raw(entry.digest)) not in held:
                _add(found, member.hex, entry.size_bytes, User(found.run_id, key, entry.path))
    found.found += [one for one in tree if one.code != "missing"]  # told with what is missing


def _add(found: Needs, digest: str, size: int | None, user: User) -> None:
    found.sizes[digest] = found.sizes.get(digest) or size
    found.users.setdefault(digest, []).append(user)


def chain(repository: Repository, prefix: str, users: tuple[User, ...] = ()) -> list[Found]:
    """Every entry of a chain that is damaged, or does not continue the one before it."""
    what = of_chain(prefix)
    listed = (layout.own_number(prefix, stat.name) for stat in repository.backend.walk(prefix))
    numbers = sorted(number for number in listed if number is not None)
    found: list[Found] = []
    before: bytes | None = None
    if _is_collected(repository, prefix, numbers):
        numbers = numbers[-1:]
    present = set(numbers)
    for number in numbers:
        place = layout.entry(prefix, number)
        data, known = b"", len(found)
        with telling(found, place=place, users=users, what=what):
            data = repository.backend.get(place)
            entry = entries.decode(data, place=place)
            if entry.number != number:
                raise Corrupt(
                    f"{place} is damaged: it says it is entry {entry.number}", place=place
                )
            if before and entry.prev != before:
                message = f"{place} does not continue the entry before it"
                found.append(Found("unlinked", place, message, (), users, what))
        before = hashlib.sha256(data).digest() if len(found) == known else None
        before = before if number + 1 in present else None  # gaps are told by the names
    return found


def _is_collected(repository: Repository, prefix: str, numbers: list[int]) -> bool:
    """Is what lies before the newest entry only left over from a run that was collected?"""
    try:
        entry, _ = Chain(repository.backend, prefix).read(numbers[-1])
    except (Corrupt, UnsupportedFormat, IndexError):
        return False
    return entry.full and gc.is_collected(entry.body)


def other_chain(repository: Repository, prefix: str) -> list[Found]:
    """A chain that is no run's: of an experiment, an alias, the collector."""
    return twice(lambda: chain(repository, prefix))


def pinned(repository: Repository, prefix: str) -> Needs:
    """What an alias or a snapshot names now."""
    found = Needs("")
    with telling(found.found, place=prefix, what=of_chain(prefix)):
        user = User("", other=of_chain(prefix))
        for digest in _digests_in(Chain(repository.backend, prefix).load().state):
            _add(found, digest.hex, None, user)
            if prefix.startswith(layout.SNAPSHOTS):
                data, place = (
                    verified_artifact.read(repository.backend, digest),
                    layout.blob(digest),
                )
                listed = snapshot.decode(data, place=place).list
                _add(found, listed.hex, None, user)
    found.found = [one for one in found.found if one.code != "missing"]  # told with what is missing
    return found


def _digests_in(value: Any) -> Iterator[Digest]:
    """Every `sha256:…` in a state."""
    if isinstance(value, str) and value.startswith("sha256:"):
        yield Digest.parse(value)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _digests_in(item)


def structure(repository: Repository, piece: RunPiece) -> list[Found]:
    """The entries of a run's chains, the indices of its segments, its spools."""
    return twice(lambda: _run(repository, piece, every_byte=False))


def every_byte(repository: Repository, piece: RunPiece) -> list[Found]:
    """The same, and every byte of its segments, every series, and its statistics."""
    return twice(lambda: _run(repository, piece, every_byte=True))


def _run(repository: Repository, piece: RunPiece, *, every_byte: bool) -> list[Found]:
    run_id, user = piece.run_id, (User(piece.run_id),)
    found: list[Found] = []
    names = [stat.name for stat in repository.backend.walk(layout.run(run_id))]
    chains = {n.rpartition("/")[0] + "/" for n in names if kinds.kind_of(n) == kinds.ENTRY}
    for prefix in sorted(chains):
        found += chain(repository, prefix, user)
    found += _spools(repository, run_id)
    whole = not found
    points = None
    with telling(found, place=layout.manifest(run_id), users=user):
        points = RunPoints.load(repository.backend, run_id, repository.spools)
    records = points.snapshot.state.get("segments", {}) if points is not None else {}
    for name in names:
        if kinds.kind_of(name) == kinds.SEGMENT:
            about = records.get(name.rpartition("/")[2].removesuffix(".seg"))
            found += _segment(repository.backend, run_id, name, about, every_byte)
    if points is not None and whole and every_byte and not any(one.code != "torn" for one in found):
        found += _series(repository, run_id, points)
    return found


def _spools(repository: Repository, run_id: str) -> list[Found]:
    """Spools that are damaged, end in bytes that are no record, or were left by a process that is gone."""
    found: list[Found] = []
    user = (User(run_id),)
    for stat in repository.spools.walk(layout.spools(run_id)):
        others = {s.name for s in repository.spools.walk(layout.spools(run_id))} - {stat.name}
        with telling(found, place=stat.name, users=user):
            for live in live_spools(repository.spools, run_id, without=others):
                found += _left(live, user)
    return found


def _left(live: LiveSpool, user: tuple[User, ...]) -> list[Found]:
    who = live.about.get("identity") or {}
    gone = process.is_alive(who) is False if who else True
    found = []
    if live.scan.torn_bytes and gone:
        message = (
            f"{live.name} ends in {live.scan.torn_bytes} bytes that are no whole record, from byte "
            f"{live.scan.good_bytes} on"
        )
        found.append(Found("torn", live.name, message, (), user))
    if gone:
        points = sum(len(table.keys) * len(table.rows) for table in live.scan.tables)
        message = f"{live.name} holds {points} points of a process that is gone"
        found.append(Found("spool", live.name, message, (), user))
    return found


def _segment(
    backend: Backend, run_id: str, name: str, about: dict[str, Any] | None, every_byte: bool
) -> list[Found]:
    """One segment against its name, its index, and what the manifest says of it (None: nothing)."""
    found: list[Found] = []
    digest = kinds.digest_of(name)
    users, what = owner(name) if about else (), f"an earlier state of run {run_id}"
    if every_byte:
        told = hashed(backend, name)
        found += [replace(one, users=users, what=what) for one in told if one.code != "missing"]
    with telling(found, place=name, users=users, what=what):
        if about and not found:
            index, _ = SegmentFile(backend, run_id, digest.hex if digest else "", about).open()
            found += _counted(index, name, about, users)
    return found


def _counted(
    index: Footer, name: str, about: dict[str, Any], users: tuple[User, ...]
) -> list[Found]:
    points = sum(index.rows_of(key) for key in index.columns)
    if points == about["points"]:
        return []
    message = f"{name} has {points} points, and its manifest says {about['points']}"
    return [Found("mismatch", name, message, (), users)]


def _series(repository: Repository, run_id: str, points: RunPoints) -> list[Found]:
    """Every series decoded; the statistics of each chain against the points that it counts."""
    found: list[Found] = []
    user = (User(run_id),)
    main = repository.manifest(run_id).load().state
    chains = {layout.manifest(run_id): main}
    for rank in repository.ranks(run_id):
        state = repository.rank(run_id, rank).load().state
        limits = {str(number): first for number, first in cuts(main, []).items()}
        if state.get("cuts", {}) == limits:  # others are brought up to date by their next seal
            attempts = {"attempts": main.get("attempts", {})}
            chains[layout.rank(run_id, rank)] = {**state, **attempts}
    if len(chains) > 1 or points.spools:  # else these are the points that are counted below
        for key in points.keys():
            with telling(found, place=layout.manifest(run_id), users=user):
                points.series(key)
    for prefix, state in chains.items():
        with telling(found, place=prefix, users=user):
            found += _statistics(repository.backend, run_id, prefix, state)
    return found


def _statistics(backend: Backend, run_id: str, prefix: str, state: State) -> list[Found]:
    held = RunPoints.of_state(backend, run_id, state, without=())
    found = []
    for key, said in state.get("metrics", {}).items():
        series = held.series(key)
        axis = Axis(series.steps, series.timestamps, {key: series.values})
        counted = stats.of(axis)[key] if len(series) else {}
        wrong = sorted(name for name in counted if not _same(said.get(name), counted[name]))
        if wrong or not counted:
            name = wrong[0] if wrong else "count"
            message = (
                f"{prefix} says that {name} of metric {key!r} is {said.get(name)!r}, and its points "
                f"say {counted.get(name, 0)!r}"
            )
            found.append(Found("statistics", prefix, message, (), (User(run_id),)))
    return found


def _same(said: Any, counted: Any) -> bool:
    if isinstance(said, float) and isinstance(counted, float):
        both_nan = said != said and counted != counted
        return (
            both_nan
            or said == counted
            or math.isclose(said, counted, rel_tol=_NEAR, abs_tol=1e-300)
        )
    return bool(said == counted)
