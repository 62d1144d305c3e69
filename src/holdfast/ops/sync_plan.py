"""What a sync would do, before it does anything: by listing both stores and reading what is new.

Plan, show, execute: a plan is made by `plan`, holds names, sizes and numbers, and is carried out by
ops/sync.py. See docs/format/sync.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from holdfast import absent
from holdfast.absent import Absent
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import (
    Corrupt,
    HoldfastError,
    NameRetired,
    NotSynced,
    UnsupportedFormat,
)
from holdfast.format import layout
from holdfast.ops import sync_named
from holdfast.ops.sync_chains import Divergence
from holdfast.ops.sync_listing import Chains, Files
from holdfast.ops.sync_needs import Collected, RunPlan, Sides, examine, is_gone
from holdfast.ops.sync_pieces import Chooser, Pieces
from holdfast.ops.verify import Finding

Damage = (Corrupt, UnsupportedFormat, NotSynced)


@dataclass(slots=True)
class Plan:
    """`runs` are those with something to do, `first` the chains of experiments, `last` those of aliases and
    snapshots; `pieces` the files to send, `segments` likewise, by name. `findings` and `diverged` are left
    alone, and so are runs that were `collected` on one side."""

    sides: Sides
    ours: Chains
    theirs: Chains
    runs: list[RunPlan] = field(default_factory=list)
    first: list[RunPlan] = field(default_factory=list)
    last: list[RunPlan] = field(default_factory=list)
    pieces: Pieces = field(default_factory=Pieces)
    segments: dict[str, int] = field(default_factory=dict)
    files_there: Files | None = None
    equal: int = 0
    diverged: list[Divergence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    collected: list[str] = field(default_factory=list)
    chosen: Collection[str] | None = None

    @property
    def source(self) -> str:
        return self.sides.source.backend.url

    @property
    def target(self) -> str:
        return self.sides.target.backend.url

    @property
    def ok(self) -> bool:
        """Is there nothing that somebody must look at?"""
        return not (self.findings or any(one.fork is None for one in self.diverged))

    @property
    def size_bytes(self) -> int:
        """How many bytes go over the line."""
        entries = sum(run.entry_bytes for run in self.runs)
        return self.pieces.size_bytes + sum(self.segments.values()) + entries

    @property
    def files(self) -> int:
        """How many blobs, packs, recipes and segments are written."""
        return len(self.pieces.copies) + 2 * len(self.pieces.rewrites) + len(self.segments)

    @property
    def entries(self) -> int:
        """How many entries of chains are created."""
        return sum(one.entries for one in self.everything)

    @property
    def requests(self) -> int:
        """About how many requests that takes in the target: large files take one for each part more."""
        chains = sum(1 for one in self.everything for plan in one.chains if plan.count)
        return self.files + self.entries + 2 * chains

    @property
    def everything(self) -> list[RunPlan]:
        """In the order in which it has to come."""
        return [*self.first, *self.runs, *self.last]

    def is_overtaken(self) -> bool:
        """Was something condemned since, that the target was seen to have or should get?"""
        has = self.sides.target.condemned.has
        return any(has(name) for run in self.everything for name in run.waits)

    def leave_out(self, run_id: str, findings: list[Finding]) -> None:
        """Of a run that was collected meanwhile nothing is damaged."""
        self.left_out.add(run_id)
        if run_id not in self.ours.named and is_gone(self.sides, run_id):
            self.collected.append(run_id)
        else:
            self.findings += findings

    @property
    def is_idle(self) -> bool:
        """Is there nothing to send?"""
        return not (self.files or self.entries or any(run.missing or run.fork for run in self.runs))


def plan(
    sides: Sides,
    pool: Executor,
    runs: Collection[str] | None = None,
) -> Plan:
    """What to do so that the target has these runs (all, and what else has a name, without `runs`). What
    its collectors have condemned counts as not there."""
    sides.target.condemned.refresh(sides.target.backend)
    found = Plan(
        sides,
        Chains.listed(sides.source.backend, runs),
        Chains.listed(sides.target.backend, runs),
    )
    found.chosen = runs
    wanted = found.ours.runs.keys() if runs is None else found.ours.runs.keys() & set(runs)
    _examine_runs(found, sorted(wanted), pool)
    _examine_named(found, None if runs is None else _experiments(found, wanted, pool), pool)
    _choose(found, pool)
    return found


def _examine_runs(found: Plan, wanted: list[str], pool: Executor) -> None:
    for run_id, answer in zip(wanted, pool.map(partial(_try, found), wanted), strict=True):
        if isinstance(answer, RunPlan):
            found.runs.append(answer)
            found.diverged += answer.splits
        elif answer is None:
            found.equal += 1
        elif isinstance(answer, Collected):
            found.collected.append(run_id)
        elif isinstance(answer, HoldfastError):
            found.leave_out(run_id, [finding(answer, f"run {run_id}, which was left out")])
        else:
            found.diverged += answer


def _try(found: Plan, run_id: str) -> RunPlan | list[Divergence] | Collected | HoldfastError | None:
    theirs = found.theirs.runs.get(run_id, {})
    try:
        return examine(found.sides, run_id, found.ours.runs[run_id], theirs)
    except Damage as error:
        return error


def finding(error: HoldfastError, affects: str) -> Finding:
    return Finding(error.code, error.details.get("place", ""), error.message, affects)


def _choose(found: Plan, pool: Executor) -> None:
    source, target = found.sides.source.backend, found.sides.target.backend
    artifacts: dict[Digest, int | None] = {}
    for run in (*found.runs, *found.last):
        artifacts.update(run.artifacts)
    if artifacts:
        found.files_there = Files(target, found.sides.target.condemned)
        chooser = Chooser(source, Files(source), found.files_there, pool)
        found.pieces = chooser.choose(artifacts)
    found.runs = [run for run in found.runs if _settle(found, run)]
    found.last = [run for run in found.last if _settle(found, run)]


def _settle(found: Plan, run: RunPlan) -> bool:
    """Enter what a run waits for; False if that is lost, and it is left out."""
    lost = {d: e for d in run.artifacts if (e := found.pieces.lost.get(d)) is not None}
    if lost and run.run_id in found.ours.noted:
        known = absent.load(found.sides.source.backend, run.run_id)
        gone = {d.hex: known.artifacts[d.hex] for d in lost if d.hex in known.artifacts}
        run.missing = Absent(
            run.missing.source, {**run.missing.artifacts, **gone}, run.missing.segments
        )
        lost = {digest: error for digest, error in lost.items() if digest.hex not in gone}
        for hex_ in gone:
            del run.artifacts[Digest(hex_)]
    if lost:
        affects = f"run {run.run_id}, which was left out"
        found.leave_out(run.run_id, [finding(error, affects) for error in lost.values()])
        return False
    retired = next((n for n in run.segments if found.sides.target.condemned.has(n)), None)
    if retired is not None:
        text = f"{retired} was collected in {found.target}, and its name is not used again"
        affects = f"run {run.run_id}, which was left out"
        found.leave_out(run.run_id, [Finding(NameRetired.code, retired, text, affects)])
        return False
    for digest in run.artifacts:
        run.waits |= found.pieces.waits[digest]
    for name, size in run.segments.items():
        run.waits.add(name)
        if found.theirs.segments.get(name) != size:
            found.segments[name] = size
    return True


def _experiments(found: Plan, runs: Iterable[str], pool: Executor) -> set[str]:
    """The chains of the experiments that these runs belong to: their entry 0 says it, which never changes."""

    def one(run_id: str) -> str:
        if layout.manifest(run_id) in found.theirs.runs.get(run_id, {}):
            return ""  # it came with the run
        try:
            entry, _ = Chain(found.sides.source.backend, layout.manifest(run_id)).read(0)
        except Damage:
            return ""
        name = entry.body.get("run", {}).get("experiment_id", "")
        return layout.experiment(name) if name else ""

    return set(pool.map(one, sorted(runs))) - {""}


def _examine_named(found: Plan, wanted: set[str] | None, pool: Executor) -> None:
    """Those of these prefixes; without, all there are."""
    prefixes = [p for p in found.ours.named if wanted is None or p in wanted]
    for prefix, answer in zip(
        prefixes, pool.map(partial(_try_named, found), prefixes), strict=True
    ):
        if isinstance(answer, HoldfastError):
            found.findings.append(finding(answer, f"{prefix}, which was left out"))
        elif isinstance(answer, Divergence):
            found.diverged.append(answer)
        elif answer is not None:
            is_first = prefix.startswith(layout.EXPERIMENTS)
            (found.first if is_first else found.last).append(answer)


def _try_named(found: Plan, prefix: str) -> RunPlan | Divergence | HoldfastError | None:
    ours, theirs = found.ours.named[prefix], found.theirs.named.get(prefix)
    try:
        return sync_named.examine(found.sides, prefix, ours, theirs)
    except Damage as error:
        return error
