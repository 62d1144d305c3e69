"""What a sync would do, before it does anything: by listing both stores and reading what is new.

Plan, show, execute: a plan is made by `plan`, holds names, sizes and numbers, and is carried out by
ops/sync.py. See docs/format/sync.md.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial

from holdfast import absent
from holdfast.absent import Absent
from holdfast.chain import Chain
from holdfast.digest import Digest
from holdfast.errors import Corrupt, HoldfastError, NotSynced, UnsupportedFormat
from holdfast.format import layout
from holdfast.ops import sync_chains
from holdfast.ops.sync_chains import ChainPlan, Divergence
from holdfast.ops.sync_listing import Chains, Files, Tip
from holdfast.ops.sync_needs import RunPlan, Sides, examine
from holdfast.ops.sync_pieces import Chooser, Pieces
from holdfast.ops.verify import Finding

Damage = (Corrupt, UnsupportedFormat, NotSynced)


@dataclass(slots=True)
class Plan:
    """`named` are the chains of experiments and the like, `runs` those with something to do; `pieces` the
    files to send, `segments` likewise, by name. `findings` and `diverged` are left alone."""

    sides: Sides
    ours: Chains
    theirs: Chains
    runs: list[RunPlan] = field(default_factory=list)
    named: list[ChainPlan] = field(default_factory=list)
    pieces: Pieces = field(default_factory=Pieces)
    segments: dict[str, int] = field(default_factory=dict)
    files_there: Files | None = None
    equal: int = 0
    diverged: list[Divergence] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def source(self) -> str:
        return self.sides.source.backend.url

    @property
    def target(self) -> str:
        return self.sides.target.backend.url

    @property
    def ok(self) -> bool:
        """Is there nothing that somebody must look at?"""
        return not (self.findings or self.diverged)

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
        return sum(run.entries for run in self.runs) + sum(plan.count for plan in self.named)

    @property
    def requests(self) -> int:
        """About how many requests that takes in the target: large files take one for each part more."""
        chains = sum(1 for run in self.runs for plan in run.chains if plan.count)
        heads = 2 * (chains + sum(1 for plan in self.named if plan.count))
        return self.files + self.entries + heads

    @property
    def is_idle(self) -> bool:
        """Is there nothing to send?"""
        return not (self.files or self.entries or any(run.missing for run in self.runs))


def plan(
    sides: Sides,
    pool: Executor,
    runs: Collection[str] | None = None,
    condemned: Container[str] = (),
) -> Plan:
    """What to do so that the target has these runs (all, and what else has a name, without `runs`)."""
    found = Plan(
        sides,
        Chains.listed(sides.source.backend, runs),
        Chains.listed(sides.target.backend, runs),
    )
    wanted = found.ours.runs.keys() if runs is None else found.ours.runs.keys() & set(runs)
    _examine_runs(found, sorted(wanted), pool)
    _choose(found, pool, condemned)
    _examine_named(found, None if runs is None else _experiments(found, wanted, pool))
    return found


def _examine_runs(found: Plan, wanted: list[str], pool: Executor) -> None:
    for run_id, answer in zip(wanted, pool.map(partial(_try, found), wanted), strict=True):
        if isinstance(answer, RunPlan):
            found.runs.append(answer)
        elif answer is None:
            found.equal += 1
        elif isinstance(answer, HoldfastError):
            found.findings.append(finding(answer, f"run {run_id}, which was left out"))
        else:
            found.diverged += answer


def _try(found: Plan, run_id: str) -> RunPlan | list[Divergence] | HoldfastError | None:
    theirs = found.theirs.runs.get(run_id, {})
    try:
        return examine(found.sides, run_id, found.ours.runs[run_id], theirs)
    except Damage as error:
        return error


def finding(error: HoldfastError, affects: str) -> Finding:
    return Finding(error.code, error.details.get("place", ""), error.message, affects)


def _choose(found: Plan, pool: Executor, condemned: Container[str]) -> None:
    source, target = found.sides.source.backend, found.sides.target.backend
    artifacts: dict[Digest, int | None] = {}
    for run in found.runs:
        artifacts.update(run.artifacts)
    if artifacts:
        found.files_there = Files(target, condemned)
        chooser = Chooser(source, Files(source), found.files_there, pool)
        found.pieces = chooser.choose(artifacts)
    for run in list(found.runs):
        _settle(found, run)


def _settle(found: Plan, run: RunPlan) -> None:
    """What a run waits for; it is left out if that is lost."""
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
        found.runs.remove(run)
        for error in lost.values():
            found.findings.append(finding(error, f"run {run.run_id}, which was left out"))
        return
    for digest in run.artifacts:
        run.waits |= found.pieces.waits[digest]
    for name, size in run.segments.items():
        run.waits.add(name)
        if found.theirs.segments.get(name) != size:
            found.segments[name] = size


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


def _examine_named(found: Plan, wanted: set[str] | None) -> None:
    for prefix, ours in found.ours.named.items():
        if wanted is None or prefix in wanted:
            try:
                _examine_one(found, prefix, ours, found.theirs.named.get(prefix))
            except Damage as error:
                found.findings.append(finding(error, f"{prefix}, which was left out"))


def _examine_one(found: Plan, prefix: str, ours: Tip, theirs: Tip | None) -> None:
    ours.check(prefix)
    if theirs is None:
        found.named.append(ChainPlan(prefix, -1, ours.number))
        return
    theirs.check(prefix)
    memory, least = found.sides.memory, min(ours.number, theirs.number)
    if memory.is_settled(prefix, ours, theirs):
        return
    if memory.equal_up_to(prefix, ours, theirs) != least:
        _compare(found, prefix, ours, theirs)
    elif theirs.number < ours.number:
        found.named.append(ChainPlan(prefix, theirs.number, ours.number))


def _compare(found: Plan, prefix: str, ours: Tip, theirs: Tip) -> None:
    source, target = found.sides.source.backend, found.sides.target.backend
    common = sync_chains.common(source, target, prefix, ours, theirs)
    if common < min(ours.number, theirs.number):
        states = [Chain(backend, prefix).load().state for backend in (source, target)]
        if not sync_chains.means_the_same(*states):
            found.diverged.append(
                sync_chains.diverged(source, target, prefix, common, ours, theirs)
            )
            return
    elif common < ours.number:
        found.named.append(ChainPlan(prefix, common, ours.number))
        return
    found.sides.memory.settle(prefix, ours, theirs)
