"""What is to be done for one run: the entries that the target lacks, and the files that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from holdfast.absent import Absent
from holdfast.backend.base import Backend
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import Corrupt, UnsupportedFormat
from holdfast.format import gc, layout
from holdfast.format.entry import Entry
from holdfast.format.manifest import State
from holdfast.ops import reach, sync_chains, sync_fork
from holdfast.ops.sync_chains import ChainPlan, Divergence
from holdfast.ops.sync_fork import Fork
from holdfast.ops.sync_listing import NOTHING, Tip
from holdfast.ops.sync_memory import Memory
from holdfast.repository import Repository

_MOST_RELATED = 64

New = Sequence[tuple[Entry, bytes]]


@dataclass(frozen=True, slots=True)
class What:
    """Which files go over: artifacts whose key matches one of the patterns (`*` matches `/` too), and
    segments if `metrics`."""

    artifacts: tuple[str, ...] = ("*",)
    metrics: bool = True

    def wants(self, key: str) -> bool:
        return any(fnmatchcase(key, pattern) for pattern in self.artifacts)


@dataclass(slots=True)
class RunPlan:
    """What one run comes to; or another chain, by its prefix, which may name a run. `artifacts` and
    `segments` are the files that its newest state needs and that are not known to be in the target;
    `missing` is what its entries name and the target will not have."""

    run_id: str
    chains: list[ChainPlan] = field(default_factory=list)
    tips: dict[str, Tip] = field(default_factory=dict)
    artifacts: dict[Digest, int | None] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)
    missing: Absent = field(default_factory=Absent)
    is_open: bool = False
    is_partial: bool = False
    related: list[Digest] = field(default_factory=list)
    entry_bytes: int = 0
    waits: set[str] = field(default_factory=set)
    fork: Fork | None = None
    fork_entries: int = 0
    splits: list[Divergence] = field(default_factory=list)
    names_run: str | None = None

    @property
    def entries(self) -> int:
        return sum(plan.count for plan in self.chains)


@dataclass(frozen=True, slots=True)
class Collected:
    """A run that was removed for good on one side: it is neither brought back nor removed on the other."""

    run_id: str


@dataclass(frozen=True, slots=True)
class Sides:
    """The two stores, and what is remembered of them."""

    source: Repository
    target: Repository
    what: What
    memory: Memory
    fork: bool = False


def examine(
    sides: Sides, run_id: str, ours: Mapping[str, Tip], theirs: Mapping[str, Tip]
) -> RunPlan | list[Divergence] | Collected | None:
    """What to do for a run; how its chains diverged; that it is collected; None if there is nothing to do. A
    plan of a run that diverged has a `fork`. Raises Corrupt."""
    manifest = layout.manifest(run_id)
    if _was_collected(sides, manifest, ours.get(manifest), theirs.get(manifest)):
        return Collected(run_id)
    plan, diverged = RunPlan(run_id), []
    found = _Found(sides.what)
    for prefix in sorted(ours, key=lambda name: (name != manifest, name)):
        other = theirs.get(prefix)
        split = _compare(sides, prefix, ours[prefix], other)
        if split is not None:
            diverged.append(split)
            continue
        plan.tips[prefix] = ours[prefix]
        have = -1 if other is None else other.number
        if have < ours[prefix].number or not sides.memory.is_complete(prefix, have):
            _look(sides, plan, found, prefix, have)
    if found.is_collected:
        return Collected(run_id)
    if diverged and _is_collected(sides.target.backend, theirs.get(manifest), manifest):
        return Collected(run_id)
    if diverged:
        return _diverged(sides, run_id, diverged)
    found.settle(sides.source, plan)
    idle = not (plan.entries or plan.artifacts or plan.segments or plan.missing)
    return None if idle and all(_is_known(sides, p, plan) for p in plan.tips) else plan


def _diverged(sides: Sides, run_id: str, splits: list[Divergence]) -> RunPlan | list[Divergence]:
    fork = sync_fork.forked(sides.source.backend, run_id, splits)
    splits = [replace(split, fork=fork.run_id) for split in splits]
    if sync_fork.is_there(sides.target.backend, fork):
        return splits
    if not sides.fork:
        return [replace(split, fork=None) for split in splits]
    plan, found = RunPlan(fork.run_id, fork=fork, splits=splits), _Found(sides.what)
    for prefix, state in fork.states.items():
        if prefix == layout.manifest(fork.run_id):
            found.is_deleted = _is_deleted(state)
            found.add_artifacts({}, state, ())
            plan.related = _related(state)
        found.add_segments({}, state, ())
    found.settle(sides.source, plan)
    return plan


def _was_collected(sides: Sides, manifest: str, ours: Tip | None, theirs: Tip | None) -> bool:
    """Was the run removed for good on one side? It is not brought back, nor removed on the other. That is
    remembered, as the listing alone does not tell it from damage."""
    either = [(sides.source.backend, ours), (sides.target.backend, theirs)]
    if all(tip is None or tip.gap is None for _, tip in either):
        return False
    stand = (ours or NOTHING, theirs or NOTHING)
    if sides.memory.is_settled(manifest, *stand):
        return True
    if any(tip and _is_collected(backend, tip, manifest) for backend, tip in either):
        sides.memory.settle(manifest, *stand)
        return True
    return False


def _is_collected(backend: Backend, tip: Tip | None, manifest: str) -> bool:
    if tip is None:
        return False
    entry, _ = Chain(backend, manifest).read(tip.number)
    return gc.is_collected(entry.body)


def is_gone(sides: Sides, run_id: str) -> bool:
    """Is the run collected by now on one side? Then what is missing of it is no damage."""
    for side in (sides.source, sides.target):
        try:
            if gc.is_collected(Chain(side.backend, layout.manifest(run_id)).load().state):
                return True
        except (Corrupt, UnsupportedFormat):
            continue
    return False


def _is_known(sides: Sides, prefix: str, plan: RunPlan) -> bool:
    return sides.memory.is_complete(prefix, plan.tips[prefix].number)


def _compare(sides: Sides, prefix: str, ours: Tip, theirs: Tip | None) -> Divergence | None:
    ours.check(prefix)
    if theirs is None:
        return None
    theirs.check(prefix)
    number = parted(sides, prefix, ours, theirs)
    if number is None:
        return None
    source, target = sides.source.backend, sides.target.backend
    return sync_chains.diverged(source, target, prefix, number, ours, theirs)


def parted(sides: Sides, prefix: str, ours: Tip, theirs: Tip) -> int | None:
    """The last entry that both sides have, if the chain goes on differently behind it; else None."""
    least = min(ours.number, theirs.number)
    if sides.memory.equal_up_to(prefix, ours, theirs) == least:
        return None
    number = sync_chains.common(sides.source.backend, sides.target.backend, prefix, ours, theirs)
    return None if number == least else number


def _look(sides: Sides, plan: RunPlan, found: _Found, prefix: str, have: int) -> None:
    """Read what is new in one chain, and enter what its newest state needs."""
    backend, newest = sides.source.backend, plan.tips[prefix].number
    if have > newest:
        return  # the target is ahead, and whoever wrote there has seen to it
    new = sync_chains.read(backend, prefix, have + 1, newest)
    plan.chains.append(ChainPlan(prefix, have, newest))
    plan.entry_bytes += sum(len(data) for _, data in new)
    after = sync_chains.folded(backend, prefix, new) if new else _state(backend, prefix, newest)
    before = _state(backend, prefix, have) if sides.memory.is_complete(prefix, have) else {}
    if _is_deleted(before):
        before = {}  # its files were left out
    if prefix == layout.manifest(plan.run_id):
        run = after.get("run", {})
        plan.is_open = run.get("status") == "Running" and not after.get("writer", {}).get("closed")
        found.is_deleted = _is_deleted(after)
        found.is_collected = gc.is_collected(after)
        found.add_artifacts(before, after, new)
        plan.related = _related(after)
    found.add_segments(before, after, new)


def _state(backend: Backend, prefix: str, number: int) -> State:
    return Chain(backend, prefix).load_hinted(number).state if number >= 0 else {}


def _is_deleted(state: State) -> bool:
    return "deleted_at" in state.get("run", {})


class _Found:
    """What the chains of one run name: what is wanted of it, and what is not."""

    def __init__(self, what: What) -> None:
        self._what = what
        self.is_deleted = False
        self.is_collected = False
        self._wanted: dict[str, Mapping[str, Any]] = {}  # rows of artifacts by digest
        self._artifacts: dict[str, int] = {}  # all that are named, by hex
        self._known: set[str] = set()  # hex of what the target has for sure
        self._segments: dict[str, int] = {}  # wanted, by hex
        self._all_segments: dict[str, int] = {}

    def add_artifacts(self, before: State, after: State, new: New) -> None:
        wants = self._what.wants
        old = before.get("artifacts", {})
        self._known |= {_hex(row) for key, row in old.items() if wants(key)}
        for key, row in after.get("artifacts", {}).items():
            if wants(key) and not self.is_deleted and _hex(row) not in self._known:
                self._wanted[row["digest"]] = row
        for row in _named("artifacts", after, new):
            self._artifacts[_hex(row[1])] = row[1]["size_bytes"]

    def add_segments(self, before: State, after: State, new: New) -> None:
        old = before.get("segments", {}) if self._what.metrics else {}
        self._known |= set(old)
        if self._what.metrics and not self.is_deleted:
            for hex_, about in after.get("segments", {}).items():
                if hex_ not in self._known:
                    self._segments[hex_] = about["size_bytes"]
        for hex_, about in _named("segments", after, new):
            self._all_segments[hex_] = about["size_bytes"]

    def settle(self, source: Repository, plan: RunPlan) -> None:
        """Enter it all into the plan. Raises Corrupt for a directory whose listing is damaged."""
        for row in self._wanted.values():
            plan.artifacts.update(reach.of_artifact(source, row))
        plan.segments = {
            layout.segment(plan.run_id, Digest(hex_)): size for hex_, size in self._segments.items()
        }
        wanted = {_hex(row) for row in self._wanted.values()} | self._known
        plan.missing = Absent(
            source.backend.url,
            {hex_: size for hex_, size in self._artifacts.items() if hex_ and hex_ not in wanted},
            {
                hex_: size
                for hex_, size in self._all_segments.items()
                if hex_ not in self._segments and hex_ not in self._known
            },
        )


def _related(state: State) -> list[Digest]:
    """The newest artifacts of a run: those that others of it may share chunks with."""
    rows = [row for row in state.get("artifacts", {}).values() if row["kind"] != "record"]
    newest = sorted(rows, key=lambda row: -int(row["created_at"]))[:_MOST_RELATED]
    return [Digest.parse(row["digest"]) for row in newest]


def _named(section: str, after: State, new: New) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(key, what is said of it) of everything that the entries or the state name in a section."""
    for state in (*(entry.body for entry, _ in new), after):
        for key, about in state.get(section, {}).items():
            if about is not None:
                yield key, about


def _hex(row: Mapping[str, Any]) -> str:
    """The hex digest of an artifact; '' for a mere record of the seed."""
    return "" if row["kind"] == "record" else str(row["digest"]).removeprefix("sha256:")
